"""Names that were left in the agenda of a database: their hashes went while frames were short (dated.py).

DB_LEFT says how many there are, and not which.  So once there are frames, `drop_left_names` looks at the names of that
database, some at a time and in the order of their times, and drops those without a dated hash, until DB_LEFT is 0.  It
costs a lookup for each name of the database; without names that were left, a look at one word of each database.

LEFT_NAME is the place in the agenda where it goes on.  Between two steps the agenda may change, so a name may be passed
by; then the next round finds it.  The count and the names are in the address space.  So forks and images have them, and
a server that restarts from an image goes on.
"""

from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.store import LEFT_NAME
from kvstore.store.collections import held
from kvstore.store.databases import db_load
from kvstore.store.dated import drop_name, is_dated
from kvstore.store.index import entry_of
from kvstore.store.layout import DATABASES, DB_DATED, DB_LEFT
from kvstore.store.lookup import find_slot, key_hash
from kvstore.structures.agenda import agenda_at, agenda_has_frames
from kvstore.structures.collection import root_count
from kvstore.structures.element import element_key, element_key_length
from mmcore.jit import int64, kernel, linked
from mmcore.mmu import load64


@linked(int64(CONTEXT, int64))
def _look(context, db):  # type: ignore[no-untyped-def]
    """Look at the next name of a database, and drop it if it was left: 1, or 0 when frames are short."""
    space, store, root = context.space, context.store, db_load(context, db, DB_DATED)
    if not agenda_has_frames(space, root):
        return 0
    if store[LEFT_NAME] >= root_count(space, root):
        store[LEFT_NAME] = 0
    element = agenda_at(space, root, store[LEFT_NAME])
    k = element_key_length(space, element)
    name = held(context, element_key(space, element), k)
    slot = find_slot(context, db, name, k, key_hash(context, name, k))
    if slot != 0 and is_dated(context, entry_of(load64(space, slot))):
        store[LEFT_NAME] += 1
    else:
        drop_name(context, db, name, k)
    return 1


@linked(int64(CONTEXT, int64, int64))
def _look_on(context, db, budget):  # type: ignore[no-untyped-def]
    """Look at up to `budget` names of a database, until none is left; returns at how many."""
    done = 0
    while done < budget and db_load(context, db, DB_LEFT) > 0 and db_load(context, db, DB_DATED) != 0:
        if _look(context, db) == 0:
            break
        done += 1
    return done


@kernel
def drop_left_names(context, budget):  # type: ignore[no-untyped-def]
    """Look at up to `budget` names of each database that has some left; returns the number, 0 when frames are short."""
    done = 0
    for db in range(DATABASES):
        if db_load(context, db, DB_LEFT) > 0:
            done += _look_on(context, db, budget)
    return done
