"""Output in pieces: what a connection is sent before its own output, and without being copied.

The reply to a long read comes from another thread, in pieces, while it is being made (store/aside.py).  They are linked
behind each other as they come, and the word PIECES of the connection's row leads to them:

    FIRST, LAST  nodes, 0 for none
    WAITING      bytes in them
    READ         number of the read that they come from while it is under way; 0 when they have all come
    BEGUN        whether a piece of it has come

A node holds the bytes START .. END of a piece of memory, ROOM bytes at ADDRESS.

1. The pieces go first, and the connection's own output waits for the last one: an error, an invalidation or a message
   must not end up in the middle of a reply.
2. The connection's own output of the time when the read began becomes a piece itself, the first one.
3. The record ends with the last piece, so nearly all connections have none, and pay one comparison.

A piece is mapped by itself.  So the reply goes back to the system as it is sent, a few pages a turn; one large buffer
would be unmapped at once, which takes the loop milliseconds.
"""

from kvstore.connections.table import give_turn
from kvstore.lifetimes.connection import OUTPUT_ADDRESS, OUTPUT_CAPACITY, OUTPUT_LENGTH, OUTPUT_START, PIECES
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import CLIENT_BUFFERS
from kvstore.system.libc import (
    MAP_ANONYMOUS,
    MAP_FAILED,
    MAP_POPULATE,
    MAP_PRIVATE,
    PROT_READ,
    PROT_WRITE,
    free,
    malloc,
    mmap,
    munmap,
    words_at,
)
from mmcore.jit import int32, int64, kernel, linked, view, void

NEXT, ADDRESS, ROOM, START, END, MAPPED = range(6)
NODE_WORDS = 6
FIRST, LAST, WAITING, READ, BEGUN = range(5)
PIECES_WORDS = 5
PIECE = 1 << 18  # [bytes]


# ------------------------------------------------------------------------------------------------------------- pieces


@view
def node_at(address):  # type: ignore[no-untyped-def]
    """The words of a node."""
    return words_at(address, NODE_WORDS)


@linked(int64())
def node_new():  # type: ignore[no-untyped-def]
    """The address of a node without a piece."""
    address = malloc(8 * NODE_WORDS)
    assert address != 0, "out of memory for a reply"
    node = node_at(address)
    for i in range(NODE_WORDS):
        node[i] = 0
    return address


@linked(int64(int64))
def piece_map(room):  # type: ignore[no-untyped-def]
    """The address of `room` bytes for a piece."""
    flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE
    address = mmap(0, room, int32(PROT_READ | PROT_WRITE), int32(flags), int32(-1), 0)
    assert address != MAP_FAILED, "out of memory for a reply"
    return address


@linked(void(int64))
def node_free(address):  # type: ignore[no-untyped-def]
    """Free a node with its piece."""
    node = node_at(address)
    if node[MAPPED]:
        munmap(node[ADDRESS], node[ROOM])
    else:
        free(node[ADDRESS])
    free(address)


# ------------------------------------------------------------------------------------------------------- a connection


@view
def pieces_of(row):  # type: ignore[no-untyped-def]
    """The record of a connection that has one."""
    return words_at(row[PIECES], PIECES_WORDS)


@kernel
def read_under_way(row):  # type: ignore[no-untyped-def]
    """The number of the read that another thread runs for a connection, 0 for none."""
    return pieces_of(row)[READ] if row[PIECES] != 0 else 0


@kernel
def output_waiting(row):  # type: ignore[no-untyped-def]
    """Bytes that wait to be sent to a connection beside this turn's: its pieces, and its own output."""
    own = row[OUTPUT_LENGTH] - row[OUTPUT_START]
    return own + pieces_of(row)[WAITING] if row[PIECES] != 0 else own


@kernel
def has_output(row):  # type: ignore[no-untyped-def]
    """Whether anything of that waits."""
    return row[OUTPUT_LENGTH] > row[OUTPUT_START] or row[PIECES] != 0


@kernel
def may_send_output(row):  # type: ignore[no-untyped-def]
    """Whether some of it may be sent now."""
    return pieces_of(row)[FIRST] != 0 if row[PIECES] != 0 else row[OUTPUT_LENGTH] > row[OUTPUT_START]


@linked(void(CONTEXT, int64[::1], int64))
def piece_put(context, row, address):  # type: ignore[no-untyped-def]
    """Let a node wait behind the others."""
    pieces, node = pieces_of(row), node_at(address)
    node[NEXT] = 0
    if pieces[FIRST] == 0:
        pieces[FIRST] = address
    else:
        node_at(pieces[LAST])[NEXT] = address
    pieces[LAST] = address
    pieces[WAITING] += node[END] - node[START]
    context.shard[CLIENT_BUFFERS] += node[ROOM]


@linked(void(CONTEXT, int64[::1]))
def piece_drop(context, row):  # type: ignore[no-untyped-def]
    """Free the first node of a connection, and the record with the last one."""
    pieces = pieces_of(row)
    address = pieces[FIRST]
    node = node_at(address)
    pieces[FIRST] = node[NEXT]
    pieces[WAITING] -= node[END] - node[START]
    context.shard[CLIENT_BUFFERS] -= node[ROOM]
    node_free(address)
    if pieces[FIRST] == 0 and pieces[READ] == 0:
        free(row[PIECES])
        row[PIECES] = 0


@linked(int64(CONTEXT, int64[::1], int64))
def pieces_begin(context, row, number):  # type: ignore[no-untyped-def]
    """The connection begins to wait for the read `number`: 1, or 0 when memory ran out."""
    if row[PIECES] == 0:
        row[PIECES] = malloc(8 * PIECES_WORDS)
        if row[PIECES] == 0:
            return 0
        pieces_of(row)[FIRST] = pieces_of(row)[WAITING] = 0
    pieces_of(row)[READ], pieces_of(row)[BEGUN] = number, 0
    return 1


@linked(void(CONTEXT, int64[::1]))
def own_output_first(context, row):  # type: ignore[no-untyped-def]
    """Put the connection's own output before the read that has just begun."""
    if row[OUTPUT_LENGTH] == row[OUTPUT_START]:
        return
    address = node_new()
    node = node_at(address)
    node[ADDRESS], node[ROOM] = row[OUTPUT_ADDRESS], row[OUTPUT_CAPACITY]
    node[START], node[END] = row[OUTPUT_START], row[OUTPUT_LENGTH]
    context.shard[CLIENT_BUFFERS] -= row[OUTPUT_CAPACITY]
    row[OUTPUT_ADDRESS] = row[OUTPUT_CAPACITY] = row[OUTPUT_START] = row[OUTPUT_LENGTH] = 0
    piece_put(context, row, address)


@linked(void(CONTEXT, int64, int64[::1]))
def pieces_end(context, slot, row):  # type: ignore[no-untyped-def]
    """The read of a connection is over: after its last piece, the own output is sent again."""
    pieces = pieces_of(row)
    pieces[READ] = 0
    if pieces[FIRST] == 0:
        free(row[PIECES])
        row[PIECES] = 0
    if row[OUTPUT_LENGTH] > row[OUTPUT_START]:
        give_turn(context, slot, row, 0)


@linked(void(CONTEXT, int64[::1]))
def pieces_drop(context, row):  # type: ignore[no-untyped-def]
    """Free all that a connection has; nobody wants its read, if it has one under way."""
    while row[PIECES] != 0 and pieces_of(row)[FIRST] != 0:
        piece_drop(context, row)
    if row[PIECES] != 0:
        free(row[PIECES])
        row[PIECES] = 0
