"""Members that have been met: a hash table in the process, so that reading commands change nothing in the store.

It makes the union of many sets, and the difference from many, take as long as there are members, however many sets
there are.  A slot is the hash of a member and its REFERENCE (members.py), 0 in an empty slot.  The sets do not change
while the table is used.

    table = seen_open(room)         0 without memory
    seen_add(context, table)        1, or 0 if there is one like the member at hand
    seen_has(context, table)
    free(table)
"""

from kvstore.commands.sets.members import KEY, REFERENCE, SIZE, member_is, members_of
from kvstore.lifetimes.context import CONTEXT
from kvstore.store.lookup import key_hash
from kvstore.system.libc import bytes_at, malloc, words_at
from mmcore.jit import fill_bytes, int64, linked

_HEAD = 1  # words before the slots: the number of slots


@linked(int64(int64))
def seen_open(room):  # type: ignore[no-untyped-def]
    """A table with room for so many members."""
    slots = 16
    while 2 * slots < 3 * room:
        slots *= 2
    size = 8 * (_HEAD + 2 * slots)
    table = malloc(size)
    if table != 0:
        fill_bytes(bytes_at(table, size), 0, 0, size)
        words_at(table, _HEAD)[0] = slots
    return table


@linked(int64(CONTEXT, int64, int64))
def _find(context, table, hash_):  # type: ignore[no-untyped-def]
    """The place of the slot of the member at hand, which may be empty."""
    slots = words_at(table, _HEAD)[0]
    words, at = words_at(table, _HEAD + 2 * slots), hash_ & (slots - 1)
    while words[_HEAD + 2 * at + 1] != 0:
        if words[_HEAD + 2 * at] == hash_ and member_is(context, words[_HEAD + 2 * at + 1]):
            break
        at = (at + 1) & (slots - 1)
    return _HEAD + 2 * at


@linked(int64(CONTEXT, int64))
def seen_add(context, table):  # type: ignore[no-untyped-def]
    """Note the member at hand: 1, or 0 if there is one like it."""
    members = members_of(context)
    hash_ = key_hash(context, members[KEY], members[SIZE])
    place = _find(context, table, hash_)
    slot = words_at(table + 8 * place, 2)
    if slot[1] != 0:
        return 0
    slot[0], slot[1] = hash_, members[REFERENCE]
    return 1


@linked(int64(CONTEXT, int64))
def seen_has(context, table):  # type: ignore[no-untyped-def]
    """Whether there is one like the member at hand (1 or 0)."""
    members = members_of(context)
    place = _find(context, table, key_hash(context, members[KEY], members[SIZE]))
    return 1 if words_at(table + 8 * place, 2)[1] != 0 else 0
