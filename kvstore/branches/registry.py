"""The registry of named stores: found by name, listed in the order in which they were made, counted.

Branches, snapshots and the main store share one set of names.  The main store is called `main`; it is the first of the
list, and has no row among the names that can be taken away.

    names       a chained table (connections/chained.py) at NAMES_ADDRESS: a row has the address of the named store
    list        NAMED_FIRST ... NAMED_LAST, linked by AFTER and BEFORE
    deadlines   NAMED_END_MS is a time before which no named store ends, so the timer usually compares one word

A name has 1 to NAME_MAX bytes: letters, digits and `-_.:/+#=,~`.  So it can stand behind the `@` of a user's name, in
CLIENT LIST and in a log.
"""

from kvstore.branches.lines import follow_anew
from kvstore.branches.named import copy_name, named, named_alloc, named_free
from kvstore.connections.chained import HEADER_WORDS, NEXT, USER, WIDTH, add_row, first_row, remove_row, row_at
from kvstore.lifetimes.connection import NEVER
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.named import AFTER, BEFORE, ENDS_MS, MADE_MS, MAIN, NAME, NAME_SIZE, NUMBER, ROW
from kvstore.lifetimes.pool import (
    NAMED_FIRST,
    NAMED_LAST,
    NAMED_NUMBER,
    NAMED_STORES,
    NAMES_ADDRESS,
)
from kvstore.lifetimes.shard import NOW_MS
from kvstore.lifetimes.sizes import NAMES_WORDS
from kvstore.lifetimes.store import NAMED_ADDRESS
from kvstore.structures.hash import hash_bytes
from kvstore.system.libc import bytes_at, free, words_at
from mmcore.jit import constant, equal_bytes, int64, kernel, linked, uint8, void

NAME_MAX = 128  # [bytes]
assert NAMES_WORDS == HEADER_WORDS
_ADDRESS, _WIDTH = USER, USER + 1  # words of a row
_OTHERS = b"-_.:/+#=,~"
_ALLOWED = constant([byte < 128 and (chr(byte).isalnum() or byte in _OTHERS) for byte in range(256)], uint8)


@kernel
def _hash(context, name, size):  # type: ignore[no-untyped-def]
    # The address of the table is the seed, which no client knows.
    return hash_bytes(bytes_at(name, size), 0, size, context.pool[NAMES_ADDRESS])


@linked(int64(CONTEXT, int64, int64))
def find_named(context, name, size):  # type: ignore[no-untyped-def]
    """Address of the store that is called by the `size` bytes at `name`, 0 for none."""
    table = context.pool[NAMES_ADDRESS]
    at = first_row(table, _hash(context, name, size))
    while at >= 0:
        row = row_at(table, at)
        known = named(row[_ADDRESS])
        if known[NAME_SIZE] == size:
            if equal_bytes(bytes_at(known[NAME], size), 0, bytes_at(name, size), 0, size):
                return row[_ADDRESS]
        at = row[NEXT]
    return 0


@linked(int64(int64, int64))
def is_name(name, size):  # type: ignore[no-untyped-def]
    """Whether the `size` bytes at `name` can be a store's name (0 or 1)."""
    if size < 1 or size > NAME_MAX:
        return 0
    text = bytes_at(name, size)
    for i in range(size):
        if _ALLOWED[text[i]] == 0:
            return 0
    return 1


@linked(int64(CONTEXT, int64))
def registry_add(context, address):  # type: ignore[no-untyped-def]
    """Enter a named store: 1, or 0 with nothing changed when memory ran out.  Its name must be free."""
    pool, own = context.pool, named(address)
    words_at(pool[NAMES_ADDRESS], WIDTH + 1)[WIDTH] = _WIDTH
    row = add_row(pool[NAMES_ADDRESS], _hash(context, own[NAME], own[NAME_SIZE]))
    if row < 0:
        return 0
    row_at(pool[NAMES_ADDRESS], row)[_ADDRESS] = address
    pool[NAMED_NUMBER] += 1
    own[ROW], own[NUMBER], own[MADE_MS] = row, pool[NAMED_NUMBER], context.shard[NOW_MS]
    own[BEFORE] = pool[NAMED_LAST]
    if pool[NAMED_LAST] != 0:
        named(pool[NAMED_LAST])[AFTER] = address
        pool[NAMED_STORES] += 1
    else:
        pool[NAMED_FIRST] = address
    pool[NAMED_LAST] = address
    return 1


@linked(void(CONTEXT, int64))
def registry_remove(context, address):  # type: ignore[no-untyped-def]
    """Strike out a named store other than the main one.  It counts until its roots are released."""
    pool, own = context.pool, named(address)
    remove_row(pool[NAMES_ADDRESS], own[ROW])
    named(own[BEFORE])[AFTER] = own[AFTER]
    if own[AFTER] != 0:
        named(own[AFTER])[BEFORE] = own[BEFORE]
    else:
        pool[NAMED_LAST] = own[BEFORE]


@linked(int64(CONTEXT, int64, int64, int64))
def registry_rename(context, address, name, size):  # type: ignore[no-untyped-def]
    """Give a named store another name, which must be free: 1, or 0 with nothing changed when memory ran out."""
    table, own = context.pool[NAMES_ADDRESS], named(address)
    kept = copy_name(name, size)
    row = add_row(table, _hash(context, name, size)) if kept != 0 else -1
    if row < 0:
        free(kept)
        return 0
    remove_row(table, own[ROW])
    free(own[NAME])
    row_at(table, row)[_ADDRESS] = address
    own[ROW], own[NAME], own[NAME_SIZE] = row, kept, size
    return 1


@linked(int64(CONTEXT, int64, int64))
def registry_begin(context, name, size):  # type: ignore[no-untyped-def]
    """Enter the main store, whose context this is, by this name: 1, or 0 when memory ran out."""
    address = named_alloc(context, name, size, MAIN)
    if address == 0:
        return 0
    context.store[NAMED_ADDRESS] = address
    named(address)[ENDS_MS] = NEVER
    if registry_add(context, address):
        follow_anew(context)
        return 1
    context.store[NAMED_ADDRESS] = 0
    named_free(address)
    return 0
