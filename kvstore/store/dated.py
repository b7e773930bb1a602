"""Dated hashes: those that have fields with a deadline.  Each database has an agenda of their names.

A hash has an agenda of its own, of the fields that have a deadline (structures/agenda.py, and DEADLINES in record.py);
fields.py uses it.  The time of a hash in the agenda of its database is no later than its least deadline.  So active
expiry looks at the first name only, and neither hashes nor fields are ever searched for those that are due.

    a field gets a deadline that is the least of its hash       the name gets that time
    the least deadline goes, or rises                           nothing: the name comes early, and gets another time
    the last deadline goes; the key goes, or is overwritten     the name goes
    the key is renamed, moved, copied                           add_entry notes the new name

A name says more than the address of an entry, which moves.  Removing a key must not fail, so where frames are short the
name stays.  DB_LEFT counts such names; leftnames.py drops them when there are frames again.

Hashes without deadlines, and other keys, pay for this with a look at the type where a key comes or goes.
"""

from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.store import HASH_SEED
from kvstore.store.databases import db_load, db_store
from kvstore.store.entries import HASH, entry_key, entry_key_length, entry_root, entry_type
from kvstore.store.layout import CONTROL_BASE, CONTROL_GRAVE, DB_DATED, DB_LEFT
from kvstore.structures.agenda import agenda_find, agenda_has_frames, agenda_least, agenda_remove, agenda_set
from kvstore.structures.element import pin
from kvstore.structures.kinds import RECORD, kind_of
from kvstore.structures.record import DEADLINES
from kvstore.system.libc import bytes_at, free, malloc
from mmcore.jit import int64, kernel, linked, void
from mmcore.mmu import copy_out, load64

BYTES_TO_NOTE = 2 << 20  # that a command must find free beside its own, if it gives a name to a dated hash


@kernel
def agenda_of(context, root):  # type: ignore[no-untyped-def]
    """The root of a hash's agenda; 0 without one.  `root` is a hash's."""
    return load64(context.space, root + DEADLINES) if kind_of(context.space, root) == RECORD else int64(0)


@kernel
def is_dated(context, entry):  # type: ignore[no-untyped-def]
    """Whether an entry is a hash that has fields with a deadline."""
    return entry_type(context, entry) == HASH and agenda_of(context, entry_root(context, entry)) != 0


@kernel
def bytes_to_note(context, db, k):  # type: ignore[no-untyped-def]
    """Bytes that a command reserves which may give a hash of `db` another name, of `k` bytes."""
    return BYTES_TO_NOTE + k if db_load(context, db, DB_DATED) != 0 else 0


@kernel
def _left(context, db, more):  # type: ignore[no-untyped-def]
    db_store(context, db, DB_LEFT, db_load(context, db, DB_LEFT) + more)


@linked(void(CONTEXT, int64, int64, int64))
def drop_name(context, db, name, k):  # type: ignore[no-untyped-def]
    """Remove a name that was left.  Frames were reserved."""
    root = db_load(context, db, DB_DATED)
    after = agenda_remove(context.space, CONTROL_BASE + CONTROL_GRAVE, root, context.store[HASH_SEED], name, k)
    if after != root:
        db_store(context, db, DB_DATED, after)
    _left(context, db, -1)


@linked(void(CONTEXT, int64, int64, int64, int64))
def _set_name(context, db, entry, time, comes):  # type: ignore[no-untyped-def]
    """Give the name of an entry a time in the agenda of its database, or remove it (-1).

    `comes`: the hash was not dated before, so its name is not there, unless it was left.
    """
    space, k, copied = context.space, entry_key_length(context, entry), 0
    root, seed = db_load(context, db, DB_DATED), context.store[HASH_SEED]
    name = pin(space, entry_key(context, entry), k)
    if name == 0:
        name = copied = malloc(k)
        assert name != 0, "out of memory for a long key"
        copy_out(space, entry_key(context, entry), bytes_at(name, k), 0, k)
    if comes and db_load(context, db, DB_LEFT) != 0 and agenda_find(space, root, seed, name, k) >= 0:
        _left(context, db, -1)
    if time >= 0:
        root = agenda_set(space, root, seed, name, k, time)
    else:
        root = agenda_remove(space, CONTROL_BASE + CONTROL_GRAVE, root, seed, name, k)
    free(copied)
    if root != db_load(context, db, DB_DATED):
        db_store(context, db, DB_DATED, root)


@kernel
def note_dated(context, db, entry, comes):  # type: ignore[no-untyped-def]
    """A hash is dated that was not, or not here (comes); or its least deadline has fallen.  Frames were reserved."""
    _set_name(context, db, entry, agenda_least(context.space, agenda_of(context, entry_root(context, entry))), comes)


@kernel
def forget_dated(context, db, entry):  # type: ignore[no-untyped-def]
    """A dated hash goes, or has lost its last deadline."""
    if agenda_has_frames(context.space, db_load(context, db, DB_DATED)):
        _set_name(context, db, entry, -1, 0)
    else:
        _left(context, db, 1)
