"""BRANCH DIFF first second [CURSOR cursor] [COUNT count]: the keys in which two stores differ.

The reply is a map:

    cursor      for the next call, 0 at the end
    scanned     the databases of which all keys had to be compared, because the record of changes does not reach back to
                the point where the stores parted, or because the database was flushed or swapped since.  Usually none
    changes     [database, key, "new" | "gone" | "changed"] for each key: in the second store as against the first

`scanned` tells what the answer has cost, never that something is missing: the changes are complete in any case.  It is
a list and not a flag, because FLUSHDB or SWAPDB concern one or two databases, and the others are still compared by
their changes.

A call may take several turns (branches/difference.py), so other clients do not wait for it.
"""

from kvstore.branches.candidates import END_PLACE, PLACE, SCANNED
from kvstore.branches.difference import (
    BEGAN,
    FIRST_BUDGET,
    FIRST_STORE,
    FOUND,
    OUT,
    OUT_LENGTH,
    SECOND_STORE,
    TURN_BUDGET,
    WANTED,
    WITHOUT_MEMORY,
    difference_at,
    difference_begin,
    difference_end,
    difference_freeze,
    difference_of,
    difference_step,
    leave_difference,
)
from kvstore.branches.named import named
from kvstore.branches.registry import find_named
from kvstore.lifetimes.call import ARGC, CONNECTION
from kvstore.lifetimes.context import AGAIN, CONTEXT, SERVED, context_at
from kvstore.lifetimes.named import CONTEXT_OF_NAMED, NUMBER
from kvstore.lifetimes.store import HASH_SEED
from kvstore.store.layout import DATABASES
from kvstore.system.libc import bytes_at
from kvstore.wire.arguments import argument, integer_argument, is_word
from kvstore.wire.errors import BRANCH_MEMORY, BRANCH_STRANGE, COUNT_NOT_POSITIVE, INVALID_CURSOR, NO_BRANCH, SYNTAX
from kvstore.wire.resp import reply_array, reply_bulk, reply_error, reply_integer, reply_map, reply_raw
from mmcore.jit import constant, int64, kernel, linked, void

COUNT_DEFAULT = 100
_CURSOR_WORD, _COUNT_WORD = constant(b"CURSOR"), constant(b"COUNT")
_CURSOR, _SCANNED, _CHANGES = constant(b"cursor"), constant(b"scanned"), constant(b"changes")


@linked(int64(CONTEXT, int64))
def _option(context, which):  # type: ignore[no-untyped-def]
    """The cursor (`which` 0) or the count (1); -1 with the error replied."""
    cursor, count, i = 0, COUNT_DEFAULT, 4
    while i < context.call[ARGC]:
        is_cursor = is_word(context, i, _CURSOR_WORD)
        if i + 1 == context.call[ARGC] or not (is_cursor or is_word(context, i, _COUNT_WORD)):
            reply_error(context, SYNTAX)
            return -1
        valid, number = integer_argument(context, i + 1)
        if is_cursor and (not valid or not 0 <= number < END_PLACE):
            reply_error(context, INVALID_CURSOR)
            return -1
        if not is_cursor and (not valid or number < 1):
            reply_error(context, COUNT_NOT_POSITIVE)
            return -1
        if is_cursor:
            cursor = number
        else:
            count = number
        i += 2
    return count if which else cursor


@linked(int64(CONTEXT, int64))
def _named_argument(context, i):  # type: ignore[no-untyped-def]
    name, size = argument(context, i)
    return find_named(context, name, size)


@linked(void(CONTEXT, int64, int64, int64, int64, int64))
def _reply(context, cursor, scanned, found, out, length):  # type: ignore[no-untyped-def]
    reply_map(context, 3)
    reply_bulk(context, _CURSOR, 0, len(_CURSOR))
    reply_integer(context, cursor)
    reply_bulk(context, _SCANNED, 0, len(_SCANNED))
    databases = 0
    for db in range(DATABASES):
        databases += scanned >> db & 1
    reply_array(context, databases)
    for db in range(DATABASES):
        if scanned >> db & 1:
            reply_integer(context, db)
    reply_bulk(context, _CHANGES, 0, len(_CHANGES))
    reply_array(context, found)
    if length > 0:
        reply_raw(context, bytes_at(out, length), 0, length)


@kernel
def _seed(address):  # type: ignore[no-untyped-def]
    # Of the hash of a named store's keys, by which they are ordered and found.
    return context_at(named(address)[CONTEXT_OF_NAMED]).store[HASH_SEED]


@kernel
def _goes_on(address, first, second, cursor, count):  # type: ignore[no-untyped-def]
    # Whether a comparison under way is of the stores of these numbers, from this cursor on.
    state = difference_at(address)
    same_stores = state[FIRST_STORE] == first and state[SECOND_STORE] == second
    return same_stores and state[BEGAN] == cursor and state[WANTED] == count


@linked(int64(CONTEXT, int64, int64, int64, int64))
def _begin(context, first, second, cursor, count):  # type: ignore[no-untyped-def]
    """Begin to compare the named stores at two addresses: the address of the comparison, 0 when memory ran out."""
    a, b = context_at(named(first)[CONTEXT_OF_NAMED]), context_at(named(second)[CONTEXT_OF_NAMED])
    address = difference_begin(a, b, context.call[CONNECTION], cursor, count)
    if address != 0:
        state = difference_at(address)
        state[FIRST_STORE], state[SECOND_STORE] = named(first)[NUMBER], named(second)[NUMBER]
    return address


@linked(int64(CONTEXT))
def differ(context):  # type: ignore[no-untyped-def]
    """BRANCH DIFF with four arguments or more: SERVED, or AGAIN."""
    slot, cursor, count = context.call[CONNECTION], _option(context, 0), 0
    if cursor >= 0:
        count = _option(context, 1)
        first, second = _named_argument(context, 2), _named_argument(context, 3)
        if first == 0 or second == 0:
            reply_error(context, NO_BRANCH)
            cursor = -1
    if cursor < 0:
        leave_difference(context, slot)
        return SERVED
    if first == second:
        _reply(context, 0, 0, 0, 0, 0)
        return SERVED
    if _seed(first) != _seed(second):
        leave_difference(context, slot)
        reply_error(context, BRANCH_STRANGE)
        return SERVED
    address, budget = difference_of(context, slot), TURN_BUDGET
    if address != 0 and not _goes_on(address, named(first)[NUMBER], named(second)[NUMBER], cursor, count):
        difference_end(context, address)
        address = 0
    if address == 0:
        address, budget = _begin(context, first, second, cursor, count), FIRST_BUDGET
        if address == 0:
            reply_error(context, BRANCH_MEMORY)
            return SERVED
    if difference_step(address, budget):
        state = difference_at(address)
        if state[WITHOUT_MEMORY]:
            reply_error(context, BRANCH_MEMORY)
        else:
            _reply(context, state[PLACE], state[SCANNED], state[FOUND], state[OUT], state[OUT_LENGTH])
        difference_end(context, address)
        return SERVED
    if difference_freeze(context, address):
        return AGAIN
    difference_end(context, address)
    reply_error(context, BRANCH_MEMORY)
    return SERVED
