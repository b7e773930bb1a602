"""Bodies on their way: a long value is received into frames, so that setting a key to it copies nothing.

A value of more than ADOPT_MIN bytes that a command of `_body_argument` brings is not collected in the query buffer.
`begin_body` makes a sapling for it (mmcore/graft.py, kvstore/store/bodies.py), once the command's name, the header of
the value and BODY_HEAD bytes of it have arrived.  `receive_body` adds pages and receives into them, STEP bytes in a
turn at most.  When the value is complete, the connection receives as usual; the rest of the command follows in the
query buffer, behind the first BODY_HEAD bytes of the value.

A step waits until its pages are populated (store/fresh.py).  The socket keeps the bytes meanwhile, and the connection
rests until its next turn.

The sapling belongs to the connection.  After the command, or when the connection is closed, what has not been adopted
is released in steps.  Frames are checked before each step.  When the store may use no more, `give_up_body` puts what
has arrived into the query buffer, and the value is collected there as any other.  So a full store still serves what it
serves without bodies, such as overwriting in place.
"""

from kvstore.commands.rows import ROW_HANDLER, find_command, row_of
from kvstore.connections.table import give_turn, grow
from kvstore.lifetimes.call import BODY_ADDRESS, BODY_ROOT, QUERY_ADDRESS
from kvstore.lifetimes.connection import (
    ACTIVE_MS,
    BODY_AT,
    BODY_DONE,
    BODY_PAGES,
    BODY_ROOT_PLUS_1,
    BODY_SIZE,
    BODY_WAITS_MS,
    BYTES_IN,
    FD,
    FLAGS,
    INPUT_ADDRESS,
    INPUT_CAPACITY,
    INPUT_LENGTH,
    INPUT_START,
    KILLED,
    MULTI,
    SCAN_ARGUMENTS,
    SCAN_POSITION,
)
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.pool import FRAMES_ADDRESS
from kvstore.lifetimes.shard import (
    CLIENT_BUFFERS,
    INPUT_POSITION,
    NET_INPUT_BYTES,
    QUERY_BUFFER_LIMIT,
    TIMER_MS,
    TURNS_RESTING,
)
from kvstore.lifetimes.sizes import INPUT_MAX
from kvstore.net.epoll import CLOSED, socket_receive
from kvstore.store.flush import release_root
from kvstore.store.fresh import wait_for_fresh
from kvstore.store.reserve import may_add
from kvstore.system.libc import bytes_at
from kvstore.wire.arguments import pack, word_at
from kvstore.wire.request import BODY_HEAD, short_number
from mmcore.graft import sapling_address, sapling_grow, sapling_new, sapling_piece
from mmcore.heap import ADOPT_MIN, SIZE_MAX
from mmcore.jit import copy_bytes, int64, kernel, linked, void
from mmcore.paging import PAGE_SHIFT, PAGE_SIZE

STEP = INPUT_MAX  # [bytes] received into a sapling, and added to it, at once
STEP_PAGES = STEP >> PAGE_SHIFT
TABLES_OF_STEP = 3  # that may have to be made for its pages
_SET, _SETNX, _GETSET = pack(b"SET"), pack(b"SETNX"), pack(b"GETSET")
_SETEX, _PSETEX = pack(b"SETEX"), pack(b"PSETEX")


@kernel
def _body_argument(name):  # type: ignore[no-untyped-def]
    # The number of the argument that a command of this name may adopt, 0 for none.
    if name == _SET or name == _SETNX or name == _GETSET:
        return 2
    return 3 if name == _SETEX or name == _PSETEX else 0


@linked(int64(CONTEXT, int64[::1]))
def _is_adopted(context, row):  # type: ignore[no-untyped-def]
    """Whether the argument whose header is at SCAN_POSITION is one that its command may adopt (1 or 0)."""
    end = row[SCAN_POSITION]
    text = bytes_at(row[INPUT_ADDRESS] + row[INPUT_START], end)
    count, line = short_number(text, 1, end)
    wanted = index = 0
    while count > 0 and line + 2 < end and text[line + 2] == 36:
        size, line_end = short_number(text, line + 3, end)
        if size < 0 or line_end + 2 + size + 2 > end:
            return 0
        if index == 0:
            wanted = _body_argument(word_at(text, line_end + 2, size))
            # While the store is loaded, no kernel serves the command.
            context.args[0], context.args[1] = context.shard[INPUT_POSITION] + line_end + 2, size
            command = find_command(context) if wanted > 0 else -1
            if command < 0 or row_of(context, command)[ROW_HANDLER] == 0:
                return 0
        line = line_end + 2 + size
        index += 1
    return 1 if index == wanted and wanted > 0 and line + 2 == end else 0


@linked(int64(CONTEXT, int64[::1]))
def _add_pages(context, row):  # type: ignore[no-untyped-def]
    """Make sure of a page for the next byte: 1, or 0 when the store may use no more frames."""
    if row[BODY_DONE] < row[BODY_PAGES] << PAGE_SHIFT:
        return 1
    pages = min(STEP_PAGES, ((row[BODY_SIZE] + PAGE_SIZE - 1) >> PAGE_SHIFT) - row[BODY_PAGES])
    if not may_add(context, pages << PAGE_SHIFT):
        return 0
    if sapling_grow(context.space, row[BODY_ROOT_PLUS_1] - 1, row[BODY_PAGES], pages) != 0:
        return 0
    row[BODY_PAGES] += pages
    context.shard[CLIENT_BUFFERS] += pages << PAGE_SHIFT
    return 1


@linked(int64(CONTEXT, int64[::1]))
def _must_wait(context, row):  # type: ignore[no-untyped-def]
    """Whether the next step waits for the populator (1 or 0)."""
    if row[BODY_DONE] < row[BODY_PAGES] << PAGE_SHIFT:
        return 0
    row[BODY_WAITS_MS] = wait_for_fresh(context, STEP_PAGES + TABLES_OF_STEP, row[BODY_WAITS_MS])
    return 1 if row[BODY_WAITS_MS] != 0 else 0


@kernel
def _piece(context, row, at, limit):  # type: ignore[no-untyped-def]
    # (address of the body's byte `at` in the process, how many bytes from there on are neighbours)
    root = row[BODY_ROOT_PLUS_1] - 1
    limit = min(limit, (row[BODY_PAGES] << PAGE_SHIFT) - at)
    count = sapling_piece(context.space, root, at, limit)
    return context.pool[FRAMES_ADDRESS] + sapling_address(context.space, root, at), count


@kernel
def _forget(context, row):  # type: ignore[no-untyped-def]
    # The sapling is no longer the connection's.
    context.shard[CLIENT_BUFFERS] -= row[BODY_PAGES] << PAGE_SHIFT
    row[BODY_ROOT_PLUS_1] = row[BODY_PAGES] = 0


@linked(void(CONTEXT, int64[::1]))
def drop_body(context, row):  # type: ignore[no-untyped-def]
    """Release what the connection has received into frames, if anything."""
    if row[BODY_ROOT_PLUS_1] != 0:
        release_root(context, row[BODY_ROOT_PLUS_1] - 1)
        _forget(context, row)


@linked(int64(CONTEXT, int64[::1]))
def give_up_body(context, row):  # type: ignore[no-untyped-def]
    """Put what has been received into the query buffer: 1, or 0 when memory ran out."""
    start, done = row[INPUT_START] + row[BODY_AT], row[BODY_DONE]
    if not grow(context, row, INPUT_ADDRESS, INPUT_CAPACITY, start + done):
        return 0
    at = 0
    while at < done:
        address, count = _piece(context, row, at, done - at)
        copy_bytes(bytes_at(row[INPUT_ADDRESS] + start + at, count), 0, bytes_at(address, count), 0, count)
        at += count
    row[INPUT_LENGTH] = start + done
    drop_body(context, row)
    return 1


@linked(void(CONTEXT, int64[::1]))
def begin_body(context, row):  # type: ignore[no-untyped-def]
    """Receive the argument whose beginning ends the input into frames from now on, if that is of use."""
    left, at = row[INPUT_LENGTH] - row[INPUT_START], row[SCAN_POSITION]
    if row[SCAN_ARGUMENTS] < 1 or row[FLAGS] & (MULTI | KILLED) or at >= left or row[BODY_ROOT_PLUS_1] != 0:
        return
    text = bytes_at(row[INPUT_ADDRESS] + row[INPUT_START], left)
    size, line = short_number(text, at + 1, left)
    value, have = line + 2, left - line - 2
    if size <= ADOPT_MIN or size > SIZE_MAX or have < BODY_HEAD or have > min(size, 2 * INPUT_MAX):
        return
    if value + size > context.shard[QUERY_BUFFER_LIMIT] or not _is_adopted(context, row):
        return
    if not may_add(context, size):
        return
    root = sapling_new(context.space)
    if root < 0:
        return
    row[BODY_ROOT_PLUS_1], row[BODY_AT], row[BODY_SIZE] = root + 1, value, size
    row[BODY_DONE] = row[BODY_WAITS_MS] = 0
    while row[BODY_DONE] < have:
        if not _add_pages(context, row):
            drop_body(context, row)
            return
        address, count = _piece(context, row, row[BODY_DONE], have - row[BODY_DONE])
        copy_bytes(bytes_at(address, count), 0, text, value + row[BODY_DONE], count)
        row[BODY_DONE] += count
    row[INPUT_LENGTH] = row[INPUT_START] + value + BODY_HEAD


@kernel
def is_receiving_body(row):  # type: ignore[no-untyped-def]
    """Whether the next bytes from the socket belong to a body."""
    return row[BODY_ROOT_PLUS_1] != 0 and row[BODY_DONE] < row[BODY_SIZE]


@linked(int64(CONTEXT, int64, int64[::1]))
def receive_body(context, slot, row):  # type: ignore[no-untyped-def]
    """Receive the next part of a body: 1; or 0 after it has been given up, for the caller to receive as usual."""
    if _must_wait(context, row):
        give_turn(context, slot, row, 0)
        context.shard[TURNS_RESTING] += 1
        return 1
    if not _add_pages(context, row):
        if give_up_body(context, row):
            return 0
        give_turn(context, slot, row, KILLED)
        return 1
    address, room = _piece(context, row, row[BODY_DONE], min(STEP, row[BODY_SIZE] - row[BODY_DONE]))
    count = socket_receive(context, row[FD], address, room)
    if count > 0:
        shard = context.shard
        shard[NET_INPUT_BYTES] += count
        row[BYTES_IN] += count
        row[ACTIVE_MS] = shard[TIMER_MS]
        row[BODY_DONE] += count
    elif count == CLOSED:
        give_turn(context, slot, row, KILLED)
    return 1


@kernel
def offer_body(context, row, start):  # type: ignore[no-untyped-def]
    """The whole command that began at `start` of the query buffer may adopt the connection's body, if it has one."""
    call = context.call
    if row[BODY_ROOT_PLUS_1] != 0:
        call[BODY_ADDRESS], call[BODY_ROOT] = call[QUERY_ADDRESS] + start + row[BODY_AT], row[BODY_ROOT_PLUS_1] - 1


@kernel
def withdraw_body(context, row, done):  # type: ignore[no-untyped-def]
    """The command has run; if `done` is 0, it will be run again."""
    call = context.call
    if call[BODY_ADDRESS] != 0:
        call[BODY_ADDRESS] = 0
        if call[BODY_ROOT] < 0:
            _forget(context, row)
        elif done:
            drop_body(context, row)
