"""Active expiry of fields: the hashes that have due ones are found by the agenda of their database (dated.py).

A step takes the first name of an agenda, if its time has come, and removes due fields of that hash, the earliest first.
A hash of a million due fields is one name for many steps.  When no field of it is due any more, the name gets the time
of its least deadline, or goes.  When no field is left, the key is deleted.  A name without such a hash goes, too.

A field costs about as much as a member of a sorted set.  Frames are looked at before each field, for all that its end
may change: the hash, its agenda, that of the database, and the key.  Where they are short, the fields stay, hidden, and
the step ends; the name keeps its time.  Databases take turns, so that none waits for another one.
"""

from kvstore.effects.door import changed
from kvstore.effects.events import DEL
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import NOW_MS
from kvstore.store.collections import held
from kvstore.store.databases import FRAMES_TO_REMOVE, db_load
from kvstore.store.dated import agenda_of, drop_name, is_dated, note_dated
from kvstore.store.entries import entry_root
from kvstore.store.fields import drop_field, tell_fields_expired
from kvstore.store.index import entry_of
from kvstore.store.layout import DATABASES, DB_DATED
from kvstore.store.lookup import find_slot, key_hash
from kvstore.store.membership import delete_entry
from kvstore.structures.agenda import agenda_first, agenda_frames, agenda_least
from kvstore.structures.collection import root_count
from kvstore.structures.element import element_key, element_key_length
from kvstore.structures.table import TABLE_FRAMES
from kvstore.system.libc import bytes_at, free, malloc
from kvstore.system.random import next_random
from mmcore.frames import has_frames
from mmcore.jit import int64, kernel, linked
from mmcore.mmu import copy_out, load64


@kernel
def _has_frames(context, db, agenda):  # type: ignore[no-untyped-def]
    # Whether there are frames to remove one field, its deadline, its key, and to note another time for that.
    space = context.space
    of_names = agenda_frames(space, db_load(context, db, DB_DATED))
    return has_frames(space, TABLE_FRAMES + FRAMES_TO_REMOVE + agenda_frames(space, agenda) + of_names)


@kernel
def _rests(context, entry):  # type: ignore[no-untyped-def]
    # Whether no field of a dated hash is due.
    return agenda_least(context.space, agenda_of(context, entry_root(context, entry))) > context.shard[NOW_MS]


@linked(int64(CONTEXT))
def fields_wait(context):  # type: ignore[no-untyped-def]
    """Whether a name's time has come in some database (0 or 1)."""
    for db in range(DATABASES):
        root = db_load(context, db, DB_DATED)
        if root != 0 and agenda_least(context.space, root) <= context.shard[NOW_MS]:
            return 1
    return 0


@linked(int64(CONTEXT, int64, int64, int64))
def _expire_some(context, db, entry, budget):  # type: ignore[no-untyped-def]
    """Remove up to `budget` due fields of a dated hash; returns how many."""
    space, root, done = context.space, entry_root(context, entry), 0
    while done < budget:
        agenda = agenda_of(context, root)
        if agenda_least(space, agenda) > context.shard[NOW_MS] or not _has_frames(context, db, agenda):
            break
        first = agenda_first(space, agenda)
        k = element_key_length(space, first)
        drop_field(context, db, entry, held(context, element_key(space, first), k), k)
        done += 1
    return done


@linked(int64(CONTEXT, int64, int64, int64, int64))
def _expire_named(context, db, name, k, budget):  # type: ignore[no-untyped-def]
    """Go on with the hash of a name; returns the work done, 0 when frames are short."""
    if not _has_frames(context, db, 0):
        return 0
    hash_ = key_hash(context, name, k)
    slot = find_slot(context, db, name, k, hash_)
    entry = entry_of(load64(context.space, slot)) if slot != 0 else 0
    if entry == 0 or not is_dated(context, entry):
        drop_name(context, db, name, k)
        return 1
    done = _expire_some(context, db, entry, budget)
    tell_fields_expired(context, db, name, k, hash_, done)
    if root_count(context.space, entry_root(context, entry)) == 0:
        delete_entry(context, db, slot, hash_)
        changed(context, db, name, k, hash_, DEL, 0)
    elif is_dated(context, entry) and _rests(context, entry):
        note_dated(context, db, entry, 0)
        done += 1
    return done


@linked(int64(CONTEXT, int64))
def expire_fields(context, budget):  # type: ignore[no-untyped-def]
    """Remove about `budget` due fields; returns the work done, 0 when none is due or frames are short."""
    space, done = context.space, 0
    first_db = next_random(context) % DATABASES
    for turn in range(DATABASES):
        db = (first_db + turn) % DATABASES
        while done < budget:
            root = db_load(context, db, DB_DATED)
            if root == 0 or agenda_least(space, root) > context.shard[NOW_MS]:
                break
            first = agenda_first(space, root)
            k = element_key_length(space, first)
            name = malloc(max(k, 1))  # the agenda changes meanwhile
            assert name != 0, "out of memory for a key"
            copy_out(space, element_key(space, first), bytes_at(name, k), 0, k)
            work = _expire_named(context, db, name, k, budget - done)
            free(name)
            if work == 0:
                break
            done += work
    return done
