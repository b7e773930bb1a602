"""A table of rows that are found by a hash, in malloc'd memory: what interests.py is made of.

The header, HEADER_WORDS words that begin as zeros, except the row's width:

    WIDTH       words of a row: NEXT, HASH, and the user's
    ROWS        how many rows are in use
    ...         the array of rows, its free rows, and the heads of the chains

Rows with the same hash lie in one chain, linked by NEXT.  The chains grow by linear hashing, as the index does, so the
time to add, find or remove a row does not depend on how many there are.  A row keeps its number until it is removed.
When the last row goes, all but a small table is freed.

A kernel names a table by the address of its header.
"""

from kvstore.structures.linear import bucket_number
from kvstore.system.libc import free, realloc, words_at
from mmcore.jit import int64, kernel, linked, view, void

(
    WIDTH,
    ROWS,
    _ADDRESS,
    _CAPACITY,
    _USED,  # rows that were ever taken
    _FREE,  # first free one among them, plus 1; linked by NEXT
    _HEADS,
    _HEADS_CAPACITY,
    _CHAINS,
    HEADER_WORDS,
) = range(10)
NEXT, HASH, USER = range(3)  # words of a row; the user's begin at USER
CAPACITY_MIN = 64  # rows, and chains
CAPACITY_KEPT = 256  # rows that stay when the table is empty


@view
def row_at(table, number):  # type: ignore[no-untyped-def]
    """Row `number`, int64[WIDTH]."""
    header = words_at(table, HEADER_WORDS)
    return words_at(header[_ADDRESS] + number * header[WIDTH] * 8, header[WIDTH])


@view
def _header(table):  # type: ignore[no-untyped-def]
    return words_at(table, HEADER_WORDS)


@view
def _heads(table):  # type: ignore[no-untyped-def]
    header = words_at(table, HEADER_WORDS)
    return words_at(header[_HEADS], header[_HEADS_CAPACITY])


@kernel
def row_count(table):  # type: ignore[no-untyped-def]
    """Rows in use."""
    return _header(table)[ROWS]


@kernel
def row_memory(table):  # type: ignore[no-untyped-def]
    """Memory of the table [bytes]."""
    header = _header(table)
    return 8 * (HEADER_WORDS + header[_CAPACITY] * header[WIDTH] + header[_HEADS_CAPACITY])


@kernel
def first_row(table, hash_):  # type: ignore[no-untyped-def]
    """The first row of the chain in which rows with this hash lie; -1 for none.  The next one is at NEXT."""
    header = _header(table)
    return _heads(table)[bucket_number(hash_, header[_CHAINS])] if header[_CHAINS] > 0 else -1


@linked(int64(int64))
def _add_chain(table):  # type: ignore[no-untyped-def]
    """Split one chain in two, or make the first ones: 1, or 0 when memory ran out, which only makes chains longer."""
    header = _header(table)
    chains = header[_CHAINS]
    if chains == header[_HEADS_CAPACITY]:
        capacity = max(CAPACITY_MIN, 2 * chains)
        address = realloc(header[_HEADS], capacity * 8)
        if address == 0:
            return 0
        header[_HEADS], header[_HEADS_CAPACITY] = address, capacity
    heads = _heads(table)
    if chains == 0:
        for i in range(CAPACITY_MIN):
            heads[i] = -1
        header[_CHAINS] = CAPACITY_MIN
        return 1
    half = 1
    while 2 * half <= chains:
        half *= 2
    at, stay, go = heads[chains - half], -1, -1  # this chain holds the rows that belong to the new one
    while at >= 0:
        row = row_at(table, at)
        following = row[NEXT]
        if bucket_number(row[HASH], chains + 1) == chains:
            row[NEXT], go = go, at
        else:
            row[NEXT], stay = stay, at
        at = following
    heads[chains - half], heads[chains] = stay, go
    header[_CHAINS] = chains + 1
    return 1


@linked(int64(int64))
def _make_room(table):  # type: ignore[no-untyped-def]
    """Make room for one more row: 1, or 0 when memory ran out."""
    header = _header(table)
    if header[ROWS] >= header[_CHAINS] and _add_chain(table) == 0 and header[_CHAINS] == 0:
        return 0
    if header[_FREE] == 0 and header[_USED] == header[_CAPACITY]:
        capacity = max(CAPACITY_MIN, 2 * header[_CAPACITY])
        address = realloc(header[_ADDRESS], capacity * header[WIDTH] * 8)
        if address == 0:
            return 0
        header[_ADDRESS], header[_CAPACITY] = address, capacity
    return 1


@kernel
def add_row(table, hash_):  # type: ignore[no-untyped-def]
    """Take a row with this hash; its other words are undefined.  Returns its number, or -1 when memory ran out."""
    header = _header(table)
    if header[ROWS] >= header[_CHAINS] or (header[_FREE] == 0 and header[_USED] == header[_CAPACITY]):
        if _make_room(table) == 0:
            return -1
    at = header[_FREE] - 1
    if at >= 0:
        header[_FREE] = row_at(table, at)[NEXT]
    else:
        at = header[_USED]
        header[_USED] += 1
    row, heads, chain = row_at(table, at), _heads(table), bucket_number(hash_, header[_CHAINS])
    row[NEXT], row[HASH] = heads[chain], hash_
    heads[chain] = at
    header[ROWS] += 1
    return at


@linked(void(int64))
def table_free(table):  # type: ignore[no-untyped-def]
    """Free the memory of an empty table, which can be used again."""
    header = _header(table)
    assert header[ROWS] == 0, "a table with rows is freed"
    free(header[_ADDRESS])
    free(header[_HEADS])
    header[_ADDRESS] = header[_CAPACITY] = header[_HEADS] = header[_HEADS_CAPACITY] = header[_CHAINS] = 0


@linked(void(int64))
def _emptied(table):  # type: ignore[no-untyped-def]
    """No row is in use: no number is taken, and a large table is freed."""
    header = _header(table)
    header[_FREE] = header[_USED] = 0
    if header[_CAPACITY] > CAPACITY_KEPT:
        table_free(table)


@kernel
def remove_row(table, number):  # type: ignore[no-untyped-def]
    """Give a row back."""
    header, row, heads = _header(table), row_at(table, number), _heads(table)
    chain = bucket_number(row[HASH], header[_CHAINS])
    here = heads[chain]
    if here == number:
        heads[chain] = row[NEXT]
    else:
        while row_at(table, here)[NEXT] != number:
            here = row_at(table, here)[NEXT]
        row_at(table, here)[NEXT] = row[NEXT]
    row[NEXT] = header[_FREE]
    header[_FREE] = number + 1
    header[ROWS] -= 1
    if header[ROWS] == 0:
        _emptied(table)


@linked(void(int64))
def remove_all_rows(table):  # type: ignore[no-untyped-def]
    """Give all rows back; the time depends on the number of chains, not of rows."""
    header, heads = _header(table), _heads(table)
    header[ROWS] = 0
    for chain in range(header[_CHAINS]):
        heads[chain] = -1
    _emptied(table)
