"""SINTER, SUNION and SDIFF, SINTERCARD, and the forms that store their result.

A reading form changes nothing in the store: a member goes to the reply when it is met.

    intersection   the members of the smallest set that all others have
    union          the members of each set that no set before it has
    difference     the members of the first set that no other has

Looking in all other sets would take a member of the last of a thousand sets a thousand lookups.  So the union of many
sets is told from a table of what has been met (seen.py), and the difference from many small sets from a table of their
members.  Without memory for the table, the other sets are looked into all the same.

A form that stores is built aside (building.py) and then published, so the destination may be one of the sets.
"""

from kvstore.commands.sets.building import (
    COUNT,
    FOUND,
    FROM_INTS,
    MODE,
    NO_FRAMES,
    REPLY,
    STORE,
    result_begin,
    result_drop,
    result_of,
    result_publish,
    result_take,
    tally,
)
from kvstore.commands.sets.members import member_in, members_begin, members_next
from kvstore.commands.sets.seen import seen_add, seen_has, seen_open
from kvstore.effects.events import SDIFFSTORE, SINTERSTORE, SUNIONSTORE
from kvstore.lifetimes.call import ARGC
from kvstore.lifetimes.context import BLOCKS, CONTEXT, HANDLER, SERVED
from kvstore.store.aside import goes_aside
from kvstore.store.collections import OTHER_TYPE, collection_read
from kvstore.store.entries import SET, entry_encoding, entry_root
from kvstore.store.types import INTSET
from kvstore.structures.collection import root_count
from kvstore.system.libc import free, malloc, words_at
from kvstore.wire.arguments import argument, integer_argument, pack, word
from kvstore.wire.deferred import begin_array, end_set
from kvstore.wire.errors import LIMIT_NEGATIVE, NUMKEYS, NUMKEYS_BEYOND, SYNTAX
from kvstore.wire.resp import reply_error, reply_integer
from mmcore.jit import int64, kernel, linked

INTERSECTION, UNION, DIFFERENCE = range(3)
_FEW = 3  # sets that are looked into rather than noted in a table
_LIMIT = pack(b"LIMIT")


# --- the sets --------------------------------------------------------------------------------------------------------


@linked(int64(CONTEXT, int64, int64))
def _sets_of_arguments(context, first, count):  # type: ignore[no-untyped-def]
    """The sets of `count` keys from argument `first` on, as words that the caller frees; 0 with an error replied.

    Each is a root, 0 for a key that does not exist, and an encoding.
    """
    address = malloc(16 * count)
    assert address != 0, "out of memory for the roots of sets"
    sets = words_at(address, 2 * count)
    for i in range(count):
        key, key_size = argument(context, first + i)
        entry = collection_read(context, key, key_size, SET)
        if entry == OTHER_TYPE:
            free(address)
            return 0
        sets[2 * i] = entry_root(context, entry) if entry != 0 else 0
        sets[2 * i + 1] = entry_encoding(context, entry) if entry != 0 else INTSET
    return address


@kernel
def _size(context, root):  # type: ignore[no-untyped-def]
    return root_count(context.space, root) if root != 0 else 0


@kernel
def _smallest(context, sets, count):  # type: ignore[no-untyped-def]
    smallest = 0
    for i in range(1, count):
        if _size(context, sets[2 * i]) < _size(context, sets[2 * smallest]):
            smallest = i
    return smallest


@linked(int64(CONTEXT, int64, int64, int64))
def _in_any(context, address, first, end):  # type: ignore[no-untyped-def]
    """Whether the member at hand is in one of the sets from `first` to before `end` (1 or 0)."""
    sets = words_at(address, 2 * end)
    for i in range(first, end):
        if sets[2 * i] != 0 and member_in(context, sets[2 * i]):
            return 1
    return 0


# --- the operations: 0, or NO_FRAMES with -OOM replied ---------------------------------------------------------------


@linked(int64(CONTEXT, int64, int64, int64))
def _intersect(context, address, count, limit):  # type: ignore[no-untyped-def]
    """Take the members that all sets have, at most `limit` of them; 0 for all."""
    sets, result = words_at(address, 2 * count), result_of(context)
    smallest = _smallest(context, sets, count)
    root = sets[2 * smallest]
    if root == 0:
        return 0
    result[FROM_INTS] = 1 if sets[2 * smallest + 1] == INTSET else 0
    members_begin(context, root)
    while members_next(context):
        i = 0
        while i < count and (sets[2 * i] == root or member_in(context, sets[2 * i])):
            i += 1
        if i < count:
            continue
        if result_take(context) < 0:
            return NO_FRAMES
        if result[MODE] == STORE:
            tally(context)
        if result[FOUND] == limit:
            break
    return 0


@linked(int64(CONTEXT, int64, int64, int64))
def _unite(context, address, count, seen):  # type: ignore[no-untyped-def]
    """Take the members that any set has; `seen` is a table to note them in, 0 for none."""
    sets, storing = words_at(address, 2 * count), result_of(context)[MODE] == STORE
    for i in range(count):
        if sets[2 * i] == 0:
            continue
        members_begin(context, sets[2 * i])
        while members_next(context):
            if not storing:
                met = _in_any(context, address, 0, i) if seen == 0 else 1 - seen_add(context, seen)
                if met:
                    continue
            new = result_take(context)
            if new < 0:
                return NO_FRAMES
            if storing and new:
                tally(context)
    return 0


@linked(int64(CONTEXT, int64, int64))
def _union(context, address, count):  # type: ignore[no-untyped-def]
    """Take the members that any set has."""
    sets, total, seen = words_at(address, 2 * count), 0, 0
    result_of(context)[FROM_INTS] = 1
    if count > _FEW and result_of(context)[MODE] == REPLY:
        for i in range(count):
            total += _size(context, sets[2 * i])
        seen = seen_open(total)
    code = _unite(context, address, count, seen)
    free(seen)
    return code


@linked(int64(CONTEXT, int64, int64))
def _members_to_subtract(context, address, count):  # type: ignore[no-untyped-def]
    """How many members the sets behind the first one have, if Redis would rather go through them; else -1."""
    sets, present, others = words_at(address, 2 * count), 0, 0
    first = root_count(context.space, sets[0])
    for i in range(count):
        if sets[2 * i] != 0:
            present += 1
            others += root_count(context.space, sets[2 * i]) if i > 0 else 0
    return others if first * present // 2 > first + others else -1


@linked(int64(CONTEXT, int64, int64, int64, int64))
def _subtract(context, address, count, seen, tallied):  # type: ignore[no-untyped-def]
    """Take the members of the first set that are in no other; these are in the table `seen`, unless that is 0."""
    storing = result_of(context)[MODE] == STORE
    members_begin(context, words_at(address, 1)[0])
    while members_next(context):
        met = _in_any(context, address, 1, count) if seen == 0 else seen_has(context, seen)
        if met:
            continue
        if result_take(context) < 0:
            return NO_FRAMES
        if storing and not tallied:
            tally(context)
    return 0


@linked(int64(CONTEXT, int64, int64))
def _difference(context, address, count):  # type: ignore[no-untyped-def]
    """Take the members of the first set that no other has.

    Redis goes through the others when they are many and small.  Then it adds all members of the first set to the
    result, whose encoding they decide, and removes some.
    """
    sets, seen = words_at(address, 2 * count), 0
    root = sets[0]
    result_of(context)[FROM_INTS] = 1
    for i in range(1, count):
        if sets[2 * i] == root:
            root = 0
    if root == 0:
        return 0
    others = _members_to_subtract(context, address, count)
    if others >= 0:
        seen = seen_open(others)
        members_begin(context, root)
        while result_of(context)[MODE] == STORE and members_next(context):
            tally(context)
    for i in range(1, count):
        if seen != 0 and sets[2 * i] != 0:
            members_begin(context, sets[2 * i])
            while members_next(context):
                seen_add(context, seen)
    code = _subtract(context, address, count, seen, 1 if others >= 0 else 0)
    free(seen)
    return code


@linked(int64(CONTEXT, int64, int64, int64))
def _combine(context, operation, address, count):  # type: ignore[no-untyped-def]
    if operation == INTERSECTION:
        return _intersect(context, address, count, 0)
    return _union(context, address, count) if operation == UNION else _difference(context, address, count)


@linked(int64(CONTEXT, int64, int64, int64))
def _work(context, operation, address, count):  # type: ignore[no-untyped-def]
    """Members that an operation may have to look at."""
    sets, work = words_at(address, 2 * count), 0
    if operation == INTERSECTION:
        return count * _size(context, sets[2 * _smallest(context, sets, count)])
    for i in range(count):
        work += _size(context, sets[2 * i])
    return work


# --- the commands ----------------------------------------------------------------------------------------------------


@linked(int64(CONTEXT, int64))
def _reply_result(context, operation):  # type: ignore[no-untyped-def]
    """Reply with the members that come of the sets in all arguments."""
    count = context.call[ARGC] - 1
    sets, aside = _sets_of_arguments(context, 1, count), False
    if sets != 0:
        aside = goes_aside(context, _work(context, operation, sets, count))
        if not aside:
            result_begin(context, REPLY)
            start = begin_array(context)
            _combine(context, operation, sets, count)
            end_set(context, start, result_of(context)[FOUND])
        free(sets)
    return BLOCKS if aside else SERVED


@linked(int64(CONTEXT, int64, int64))
def _store_result(context, operation, event):  # type: ignore[no-untyped-def]
    """Store what comes of the sets in all arguments but the first under the key in that one."""
    count = context.call[ARGC] - 2
    sets = _sets_of_arguments(context, 2, count)
    if sets != 0:
        result_begin(context, STORE)
        if _combine(context, operation, sets, count) < 0:
            result_drop(context)
        else:
            result_publish(context, event)
        free(sets)
    return 0


@linked(HANDLER)
def sinter(context):  # type: ignore[no-untyped-def]
    """SINTER key [key ...]"""
    return _reply_result(context, INTERSECTION)


@linked(HANDLER)
def sunion(context):  # type: ignore[no-untyped-def]
    """SUNION key [key ...]"""
    return _reply_result(context, UNION)


@linked(HANDLER)
def sdiff(context):  # type: ignore[no-untyped-def]
    """SDIFF key [key ...]"""
    return _reply_result(context, DIFFERENCE)


@linked(HANDLER)
def sinterstore(context):  # type: ignore[no-untyped-def]
    """SINTERSTORE destination key [key ...]"""
    return _store_result(context, INTERSECTION, SINTERSTORE)


@linked(HANDLER)
def sunionstore(context):  # type: ignore[no-untyped-def]
    """SUNIONSTORE destination key [key ...]"""
    return _store_result(context, UNION, SUNIONSTORE)


@linked(HANDLER)
def sdiffstore(context):  # type: ignore[no-untyped-def]
    """SDIFFSTORE destination key [key ...]"""
    return _store_result(context, DIFFERENCE, SDIFFSTORE)


@linked(HANDLER)
def sintercard(context):  # type: ignore[no-untyped-def]
    """SINTERCARD numkeys key [key ...] [LIMIT limit]"""
    argc, limit = context.call[ARGC], 0
    valid, count = integer_argument(context, 1)
    if not valid or count < 1:
        reply_error(context, NUMKEYS)
        return 0
    if count > argc - 2:
        reply_error(context, NUMKEYS_BEYOND)
        return 0
    for i in range(2 + count, argc, 2):
        if word(context, i) != _LIMIT or i + 1 == argc:
            reply_error(context, SYNTAX)
            return 0
        valid, limit = integer_argument(context, i + 1)
        if not valid or limit < 0:
            reply_error(context, LIMIT_NEGATIVE)
            return 0
    sets, aside = _sets_of_arguments(context, 2, count), False
    if sets != 0:
        aside = goes_aside(context, _work(context, INTERSECTION, sets, count))
        if not aside:
            result_begin(context, COUNT)
            _intersect(context, sets, count, limit)
            reply_integer(context, result_of(context)[FOUND])
        free(sets)
    return BLOCKS if aside else SERVED
