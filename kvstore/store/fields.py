"""Fields of hashes that have a deadline: finding, giving and removing it, and which of them are due.

    chain or record, without deadlines     nothing is different: no byte, and a look at one word where a command reads
    record with an agenda                  the fields that have a deadline, in the order of their deadlines

A hash with deadlines is a record, even a small one: it needs a word for its agenda (dated.py).  A field keeps its
element and its place in the table, and the agenda has its name again, with the deadline.  So what reads or moves fields
need not know of deadlines, and a hash of a million fields gets its first one at once.  The price is the second name.

Reading commands delete nothing: they hide a field that is due.  The least deadline tells whether there is one; as long
as there is none, nothing more is looked at.  Writing commands delete those that they name and that are due
(`refresh_field`).  Active expiry deletes the others in bounded steps (expiring.py).

Kernels that change something assume that frames were reserved, for two changes a field: of the hash, and of the agenda.
"""

from kvstore.effects.door import changed
from kvstore.effects.events import HEXPIRED
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import EXPIRED_SUBKEYS, NOW_MS
from kvstore.lifetimes.store import HASH_SEED
from kvstore.store.dated import agenda_of, forget_dated, note_dated
from kvstore.store.entries import entry_root
from kvstore.store.layout import CONTROL_BASE, CONTROL_GRAVE
from kvstore.store.lookup import key_hash
from kvstore.structures.agenda import agenda_due, agenda_find, agenda_least, agenda_remove, agenda_set
from kvstore.structures.element import BARE, element_key, element_key_length, pin
from kvstore.structures.record import DEADLINES
from kvstore.structures.table import table_drop, table_find
from kvstore.system.libc import bytes_at, free, malloc
from mmcore.jit import boolean, int64, kernel, linked, void
from mmcore.mmu import copy_out, load64, store64

NO_TIME = -1  # the deadline of a field without one


@linked(int64(CONTEXT, int64))
def fields_hidden(context, root):  # type: ignore[no-untyped-def]
    """How many fields of a hash are due and still there."""
    return agenda_due(context.space, agenda_of(context, root), context.shard[NOW_MS])


@linked(int64(CONTEXT, int64, int64, int64))
def field_deadline(context, root, field, k):  # type: ignore[no-untyped-def]
    """The deadline of a field [Unix ms]; NO_TIME without one."""
    return agenda_find(context.space, agenda_of(context, root), context.store[HASH_SEED], field, k)


@linked(boolean(CONTEXT, int64, int64, int64))
def is_field_due(context, root, field, k):  # type: ignore[no-untyped-def]
    """Whether a field's deadline has passed; of a hash that is a record."""
    now, agenda = context.shard[NOW_MS], agenda_of(context, root)
    if agenda_least(context.space, agenda) > now:
        return False
    return 0 <= agenda_find(context.space, agenda, context.store[HASH_SEED], field, k) <= now


@linked(int64(CONTEXT, int64, int64))
def element_deadline(context, root, element):  # type: ignore[no-untyped-def]
    """The deadline of the field of an element [Unix ms]; NO_TIME without one."""
    space, k, copied = context.space, element_key_length(context.space, element), 0
    field = pin(space, element_key(space, element), k)
    if field == 0:
        field = copied = malloc(k)
        assert field != 0, "out of memory for a long field"
        copy_out(space, element_key(space, element), bytes_at(field, k), 0, k)
    deadline = field_deadline(context, root, field, k)
    free(copied)
    return deadline


@kernel
def is_element_due(context, root, element):  # type: ignore[no-untyped-def]
    """Whether the deadline of the field of an element has passed."""
    return 0 <= element_deadline(context, root, element) <= context.shard[NOW_MS]


@kernel
def live(context, root, element, field, k):  # type: ignore[no-untyped-def]
    """The element of a field, or 0 if it is due.  `element` may be 0."""
    if 0 < element < BARE and load64(context.space, root + DEADLINES) != 0 and is_field_due(context, root, field, k):
        return int64(0)
    return element


@linked(void(CONTEXT, int64, int64, int64, int64, int64))
def set_deadline(context, db, entry, field, k, deadline):  # type: ignore[no-untyped-def]
    """Give a field of a record a deadline."""
    space, root = context.space, entry_root(context, entry)
    before = agenda_of(context, root)
    least = agenda_least(space, before)
    agenda = agenda_set(space, before, context.store[HASH_SEED], field, k, deadline)
    if agenda != before:
        store64(space, root + DEADLINES, agenda)
    if deadline < least:
        note_dated(context, db, entry, int64(before == 0))


@linked(void(CONTEXT, int64, int64, int64, int64))
def drop_deadline(context, db, entry, field, k):  # type: ignore[no-untyped-def]
    """Remove the deadline of a field, which may have none and may be gone."""
    space, root = context.space, entry_root(context, entry)
    before = agenda_of(context, root)
    if before == 0:
        return
    agenda = agenda_remove(space, CONTROL_BASE + CONTROL_GRAVE, before, context.store[HASH_SEED], field, k)
    if agenda != before:
        store64(space, root + DEADLINES, agenda)
        if agenda == 0:
            forget_dated(context, db, entry)


@linked(void(CONTEXT, int64, int64, int64, int64))
def drop_field(context, db, entry, field, k):  # type: ignore[no-untyped-def]
    """Remove a field that has a deadline.  Its name may lie in the agenda, but not in the field."""
    root, hash_ = entry_root(context, entry), key_hash(context, field, k)
    slot = table_find(context.space, root, hash_, field, k)
    assert slot != 0, "a field of an agenda is not in its hash"
    table_drop(context.space, root, hash_, slot)
    drop_deadline(context, db, entry, field, k)


@linked(int64(CONTEXT, int64, int64, int64, int64, int64))
def _refresh(context, db, entry, field, k, keeps):  # type: ignore[no-untyped-def]
    """refresh_field of a dated hash."""
    deadline = field_deadline(context, entry_root(context, entry), field, k)
    if deadline == NO_TIME:
        return 0
    if deadline <= context.shard[NOW_MS]:
        drop_field(context, db, entry, field, k)
        return 1
    if not keeps:
        drop_deadline(context, db, entry, field, k)
    return 0


@kernel
def refresh_field(context, db, entry, field, k, keeps):  # type: ignore[no-untyped-def]
    """Before a field is written: remove it if it is due, and return 1; else 0, without its deadline unless `keeps`.

    The caller announces what has expired, by tell_fields_expired.
    """
    if agenda_of(context, entry_root(context, entry)) == 0:
        return int64(0)
    return _refresh(context, db, entry, field, k, keeps)


@kernel
def tell_fields_expired(context, db, key, size, hash_, expired):  # type: ignore[no-untyped-def]
    """Announce that fields of a key have expired, if some have.  Save points do not count that."""
    if expired > 0:
        context.shard[EXPIRED_SUBKEYS] += expired
        changed(context, db, key, size, hash_, HEXPIRED, 0)
