"""COPY.

a string of SHARE_MIN bytes or more     the copy shares its pages, copy-on-write (mmcore/share.py); the heap counts
                                        them as borrowed for store/reserve.py
a great value                           is copied in steps, one a turn (store/copying.py); the client waits
any other                               is copied at once, and so is a great one within a transaction
"""

from kvstore.commands.connection.hot import database_argument
from kvstore.effects.door import changed, noticed
from kvstore.effects.events import COPY_TO, NEW
from kvstore.lifetimes.call import ARGC, DB, DEPTH
from kvstore.lifetimes.context import AGAIN, CONTEXT, HANDLER
from kvstore.lifetimes.store import COPY_DEADLINE, COPY_FORM, COPY_OWNER, COPY_STALE, HASH_SEED
from kvstore.store.copying import (
    BEGINS_MAX,
    STEP_BYTES,
    copy_begin,
    copy_begins,
    copy_end,
    copy_is_dated,
    copy_next,
    copy_step,
    copy_take,
    copy_waits,
    is_great,
)
from kvstore.store.dated import BYTES_TO_NOTE, is_dated
from kvstore.store.entries import (
    LARGE,
    ROOT_SIZE,
    TYPE_MASK,
    VALUE_FORM,
    entry_alloc,
    entry_alloc_around,
    entry_deadline,
    entry_flags,
    entry_length,
    entry_memory,
    entry_root,
    entry_set_flags,
    entry_set_root,
    entry_value,
    header_size,
)
from kvstore.store.index import entry_of
from kvstore.store.layout import CONTROL_BASE, CONTROL_GRAVE
from kvstore.store.lookup import key_hash, lookup, lookup_read
from kvstore.store.membership import add_entry, delete_entry
from kvstore.store.reserve import reserve
from kvstore.structures.collection import root_copy, root_free
from kvstore.structures.copying import COPIED, MORE
from kvstore.system.libc import bytes_at
from kvstore.wire.arguments import argument, pack, word
from kvstore.wire.errors import SAME_OBJECT, SYNTAX
from kvstore.wire.resp import reply_error, reply_integer, reply_out_of_frames
from mmcore.heap import heap_free, heap_share
from mmcore.jit import int64, kernel, linked
from mmcore.mmu import copy_in, copy_within, load64

SHARE_MIN = 1 << 18  # [bytes]; a smaller value is copied faster than the translations come back that sharing forgets
_DB, _REPLACE = pack(b"DB"), pack(b"REPLACE")
_REFUSED = -1


@kernel
def _finish(context, new, key, count, form):  # type: ignore[no-untyped-def]
    # Write an entry's key, and the form of the value that it is a copy of.
    copy_in(context.space, new + header_size(count), bytes_at(key, count), 0, count)
    entry_set_flags(context, new, entry_flags(context, new) | (form & VALUE_FORM))
    return new


@linked(int64(CONTEXT, int64, int64, int64, int64, int64))
def _around_root(context, root, key, count, form, deadline):  # type: ignore[no-untyped-def]
    """An entry with this key around a root, of the form of the entry that was copied; 0 with the root freed."""
    new = entry_alloc(context, count, ROOT_SIZE, deadline)
    if new == 0:
        root_free(context.space, CONTROL_BASE + CONTROL_GRAVE, root)
        return 0
    entry_set_root(context, new, root)
    return _finish(context, new, key, count, form)


@linked(int64(CONTEXT, int64, int64, int64))
def _shared(context, entry, key, count):  # type: ignore[no-untyped-def]
    """An entry with this key whose value shares the pages of another entry's; 0 when frames ran out."""
    space, length = context.space, entry_length(context, entry)
    value = heap_share(space, entry_value(context, entry), length)
    if value == 0:
        return 0
    new = entry_alloc_around(context, count, length, entry_deadline(context, entry), value)
    if new == 0:
        code = heap_free(space, value, length)
        assert code == 0, "no frame was reserved for a release"
        return 0
    return _finish(context, new, key, count, entry_flags(context, entry))


@linked(int64(CONTEXT, int64, int64, int64))
def _duplicate(context, entry, key, count):  # type: ignore[no-untyped-def]
    """An entry with this key and a copy of the value and deadline of `entry`; 0 when frames ran out."""
    form, length, deadline = entry_flags(context, entry), entry_length(context, entry), entry_deadline(context, entry)
    if form & TYPE_MASK:
        grave = CONTROL_BASE + CONTROL_GRAVE
        root = root_copy(context.space, grave, entry_root(context, entry), context.store[HASH_SEED])
        return _around_root(context, root, key, count, form, deadline) if root != 0 else 0
    if form & LARGE and length >= SHARE_MIN:
        return _shared(context, entry, key, count)
    new = entry_alloc(context, count, length, deadline)
    if new == 0:
        return 0
    copy_within(context.space, entry_value(context, new), entry_value(context, entry), length)
    return _finish(context, new, key, count, form)


@linked(int64(CONTEXT, int64, int64))
def _publish(context, db, new):  # type: ignore[no-untyped-def]
    """Let an entry take the place of the destination, and reply; without an entry frames ran out."""
    if new == 0:
        reply_out_of_frames(context)
        return 0
    key, count = argument(context, 2)
    hash_ = key_hash(context, key, count)
    slot = lookup(context, db, key, count, hash_)
    if slot != 0:
        delete_entry(context, db, slot, hash_)
    add_entry(context, db, hash_, new, entry_deadline(context, new))
    noticed(context, db, key, count, hash_, NEW)
    changed(context, db, key, count, hash_, COPY_TO, 1)
    reply_integer(context, 1)
    return 0


@kernel
def _is_taken(context, db, replace):  # type: ignore[no-untyped-def]
    # Whether the destination exists and is to stay.
    key, count = argument(context, 2)
    return lookup(context, db, key, count, key_hash(context, key, count)) != 0 and replace == 0


@linked(int64(CONTEXT, int64, int64))
def _continue(context, db, replace):  # type: ignore[no-untyped-def]
    """A step of the COPY under way, which is this connection's; in the end it publishes the copy and replies."""
    store = context.store
    if copy_waits(context):
        return AGAIN
    key, count = argument(context, 2)
    if not reserve(context, 2, count + copy_next(context) + (BYTES_TO_NOTE + count if copy_is_dated(context) else 0)):
        copy_end(context)
        return 0
    code, new = copy_step(context), 0
    if code == MORE:
        return AGAIN
    if code == COPIED:
        if _is_taken(context, db, replace):
            copy_end(context)
            reply_integer(context, 0)
            return 0
        root = copy_take(context)
        if root != 0:
            new = _around_root(context, root, key, count, store[COPY_FORM], store[COPY_DEADLINE])
    copy_end(context)
    return _publish(context, db, new)


@linked(int64(CONTEXT))
def _waits(context):  # type: ignore[no-untyped-def]
    """Whether another connection's COPY is under way, and this one's would have to be made in steps, too (0 or 1)."""
    if context.store[COPY_OWNER] == 0 or context.call[DEPTH] != 0:
        return 0
    key, count = argument(context, 1)
    slot = lookup(context, context.call[DB], key, count, key_hash(context, key, count))
    return is_great(context, entry_of(load64(context.space, slot))) if slot != 0 else 0


@linked(int64(CONTEXT))
def _options(context):  # type: ignore[no-untyped-def]
    """The database of the destination, plus REPLACE's bit above it; _REFUSED with an error replied."""
    call = context.call
    db, replace, i = call[DB], 0, 3
    while i < call[ARGC]:
        option = word(context, i)
        if option == _REPLACE:
            replace = 1
        elif option == _DB and i + 1 < call[ARGC]:
            db = database_argument(context, i + 1)
            if db < 0:
                return _REFUSED
            i += 1
        else:
            reply_error(context, SYNTAX)
            return _REFUSED
        i += 1
    return db << 1 | replace


@linked(HANDLER)
def copy(context):  # type: ignore[no-untyped-def]
    """COPY source destination [DB db] [REPLACE]"""
    call, store = context.call, context.store
    options = _options(context)
    if options == _REFUSED:
        return 0
    db, replace = options >> 1, options & 1
    key, size = argument(context, 1)
    new_key, new_size = argument(context, 2)
    if db == call[DB] and size == new_size and key_hash(context, key, size) == key_hash(context, new_key, new_size):
        reply_error(context, SAME_OBJECT)
        return 0
    begins = copy_begins(context)
    if begins > 0:
        if store[COPY_STALE] == 0:
            return _continue(context, db, replace)
        copy_end(context)
    if _waits(context):
        return AGAIN
    entry = lookup_read(context, key, size)
    if entry == 0:
        reply_integer(context, 0)
        return 0
    in_steps = call[DEPTH] == 0 and begins < BEGINS_MAX and is_great(context, entry) == 1
    size = STEP_BYTES if in_steps else entry_memory(context, entry, 0)
    if not reserve(context, 2, new_size + size + (BYTES_TO_NOTE + new_size if is_dated(context, entry) else 0)):
        return 0
    if _is_taken(context, db, replace):
        reply_integer(context, 0)
        return 0
    if not in_steps:
        return _publish(context, db, _duplicate(context, entry, new_key, new_size))
    if copy_begin(context, entry, begins + 1) == 0:
        reply_out_of_frames(context)
        return 0
    return _continue(context, db, replace)
