"""SWAPDB: two databases exchange their descriptors.  Nothing else moves."""

from kvstore.effects.door import swapped
from kvstore.effects.watch import next_watched, touch, watched_hash
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.store import COPY_STALE, UNDO_ROOT
from kvstore.store.databases import db_load, db_store
from kvstore.store.layout import DESCRIPTOR_SIZE
from kvstore.store.membership import has_hash
from mmcore.jit import int64, kernel, linked, void


@kernel
def _swap(context, first, second):  # type: ignore[no-untyped-def]
    for field in range(0, DESCRIPTOR_SIZE, 8):
        kept = db_load(context, first, field)
        db_store(context, first, field, db_load(context, second, field))
        db_store(context, second, field, kept)


@linked(void(CONTEXT, int64, int64))
def _touch_swapped(context, db, other):  # type: ignore[no-untyped-def]
    # A watched key changed, unless it is in neither database.
    topic = next_watched(context, db, -1)
    while topic >= 0:
        hash_ = watched_hash(context, topic)
        if has_hash(context, db, hash_) or has_hash(context, other, hash_):
            touch(context, topic, 1)
        topic = next_watched(context, db, topic)


@linked(void(CONTEXT, int64, int64))
def swap_databases(context, first, second):  # type: ignore[no-untyped-def]
    """Swap two databases, which may be the same."""
    if first != second:
        _swap(context, first, second)
        context.store[COPY_STALE] = 1
        if context.store[UNDO_ROOT] < 0:
            _touch_swapped(context, first, second)
            _touch_swapped(context, second, first)
    swapped(context, first, second)
