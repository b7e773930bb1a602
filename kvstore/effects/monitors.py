r"""MONITOR: connections that are shown every command.

A command is shown when it has been executed, as a status in both protocols:

    +1700000000.123456 [0 127.0.0.1:50000] "SET" "key" "a\x00value"

with Unix time, the connection's database and address, or unix: and the path of its socket, and its arguments as
redis-cli quotes them.  The commands of a transaction come when they are executed, before their EXEC.  A line is written
once for all monitors.

Monitors form a list from MONITOR_FIRST, linked by MONITOR_NEXT and MONITOR_BEFORE of their rows.  Nothing asks whether
there are any for each command: while there are, commands/accounts.py takes every command for a slow one.

A line is bounded, unlike Redis's, so that no command makes the server write several times its own length for others:
an argument of more than WHOLE_MAX bytes shows its first ones and how many more there are, and behind LINE_MAX bytes the
line says how many more arguments there are.  Of a value that was received into frames no more is at hand anyway.
"""

from kvstore.connections.addresses import ADDRESS_ROOM, write_address
from kvstore.connections.messages import message_begin, message_end, messages_bound, post
from kvstore.connections.table import connection
from kvstore.lifetimes.call import ARGC, CONNECTION, REPLY_LENGTH
from kvstore.lifetimes.connection import (
    AFTERWARDS,
    DATABASE,
    FLAGS,
    MONITOR_BEFORE,
    MONITOR_MODE,
    MONITOR_NEXT,
    PEER,
    REPLY_OFF,
    UNIX_SOCKET,
)
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import MONITOR_FIRST, MONITORS, UNIX_PATH_ADDRESS, UNIX_PATH_LENGTH
from kvstore.system.clock import wall_now
from kvstore.system.libc import bytes_at
from kvstore.wire.arguments import arg_length, arg_offset, query
from kvstore.wire.resp import reply_digits, reply_raw, reply_room
from mmcore.heap import ADOPT_MIN
from mmcore.jit import constant, int64, kernel, linked, void

WHOLE_MAX = ADOPT_MIN  # [bytes] of an argument that is shown as a whole; a longer one may have been adopted
BYTES_SHOWN = 128  # of a longer one, as in the slow log
LINE_MAX = 1 << 24  # [bytes] of arguments in a line
REDACTABLE = 62  # arguments that can be secret one by one; those behind them are so together:
REDACT_FURTHER = 1 << REDACTABLE

_SECRET, _MORE, _BYTES, _ARGUMENTS, _UNIX = (
    constant(text) for text in (b"(redacted)", b"... (", b" more bytes)", b" more arguments)", b"unix:")
)
# The letters of \a, \b, \t, \n and \r
_LETTERS = constant(bytes({7: 97, 8: 98, 9: 116, 10: 110, 13: 114}.get(byte, 0) for byte in range(32)))
_DIGITS = constant(b"0123456789abcdef")


# ------------------------------------------------------------------------------------------------------ who monitors


@linked(void(CONTEXT, int64))
def monitor_begin(context, slot):  # type: ignore[no-untyped-def]
    """Show all commands to this connection from now on."""
    shard, row = context.shard, connection(context, slot)
    if row[FLAGS] & MONITOR_MODE:
        return
    row[FLAGS] |= MONITOR_MODE
    row[MONITOR_NEXT], row[MONITOR_BEFORE] = shard[MONITOR_FIRST], 0
    if shard[MONITOR_FIRST] > 0:
        connection(context, shard[MONITOR_FIRST] - 1)[MONITOR_BEFORE] = slot + 1
    shard[MONITOR_FIRST] = slot + 1
    shard[MONITORS] += 1


@linked(void(CONTEXT, int64))
def monitor_end(context, slot):  # type: ignore[no-untyped-def]
    """Show no more commands to this connection."""
    shard, row = context.shard, connection(context, slot)
    if row[FLAGS] & MONITOR_MODE == 0:
        return
    row[FLAGS] &= ~MONITOR_MODE
    if row[MONITOR_BEFORE] > 0:
        connection(context, row[MONITOR_BEFORE] - 1)[MONITOR_NEXT] = row[MONITOR_NEXT]
    else:
        shard[MONITOR_FIRST] = row[MONITOR_NEXT]
    if row[MONITOR_NEXT] > 0:
        connection(context, row[MONITOR_NEXT] - 1)[MONITOR_BEFORE] = row[MONITOR_BEFORE]
    row[MONITOR_NEXT] = row[MONITOR_BEFORE] = 0
    shard[MONITORS] -= 1


# ------------------------------------------------------------------------------------------------------------ a line


@kernel
def _put_byte(context, byte):  # type: ignore[no-untyped-def]
    reply_room(context, 1)[context.call[REPLY_LENGTH]] = byte
    context.call[REPLY_LENGTH] += 1


@kernel
def _put(context, text):  # type: ignore[no-untyped-def]
    reply_raw(context, text, 0, len(text))


@linked(void(CONTEXT, int64, int64))
def _put_quoted(context, start, count):  # type: ignore[no-untyped-def]
    """Append `count` bytes of the command, those that do not print as escapes."""
    out, text, at = reply_room(context, 4 * count), query(context), context.call[REPLY_LENGTH]
    for i in range(start, start + count):
        byte = int64(text[i])
        if byte == 34 or byte == 92 or (byte < 32 and _LETTERS[byte] != 0):
            out[at] = 92
            out[at + 1] = _LETTERS[byte] if byte < 32 else byte
            at += 2
        elif 32 <= byte < 127:
            out[at] = byte
            at += 1
        else:
            out[at] = 92
            out[at + 1] = 120
            out[at + 2] = _DIGITS[byte >> 4]
            out[at + 3] = _DIGITS[byte & 15]
            at += 4
    context.call[REPLY_LENGTH] = at


@kernel
def _put_remark(context, number, what):  # type: ignore[no-untyped-def]
    _put(context, _MORE)
    reply_digits(context, number)
    _put(context, what)


@kernel
def _put_head(context, row):  # type: ignore[no-untyped-def]
    # The line up to the arguments.
    now_us = wall_now(context)
    _put_byte(context, 43)
    reply_digits(context, now_us // 1_000_000)
    reply_digits(context, 1_000_000 + now_us % 1_000_000)
    reply_room(context, 1)[context.call[REPLY_LENGTH] - 7] = 46  # the point takes the place of the leading 1
    _put_byte(context, 32)
    _put_byte(context, 91)
    reply_digits(context, row[DATABASE])
    _put_byte(context, 32)
    if row[FLAGS] & UNIX_SOCKET:
        _put(context, _UNIX)
        length = context.shard[UNIX_PATH_LENGTH]
        reply_raw(context, bytes_at(context.shard[UNIX_PATH_ADDRESS], length), 0, length)
    else:
        out = reply_room(context, ADDRESS_ROOM)
        context.call[REPLY_LENGTH] = write_address(context, row, PEER, out, context.call[REPLY_LENGTH])
    _put_byte(context, 93)


@linked(void(CONTEXT, int64[::1], int64))
def _put_line(context, row, redacted):  # type: ignore[no-untyped-def]
    """Append the line of the command at hand."""
    count, shown = context.call[ARGC], 0
    _put_head(context, row)
    for i in range(count):
        length = arg_length(context, i)
        _put_byte(context, 32)
        _put_byte(context, 34)
        if shown > LINE_MAX:
            _put_remark(context, count - i, _ARGUMENTS)
        elif redacted >> min(i, REDACTABLE) & 1:
            _put(context, _SECRET)
        elif length > WHOLE_MAX:
            _put_quoted(context, arg_offset(context, i), BYTES_SHOWN)
            _put_remark(context, length - BYTES_SHOWN, _BYTES)
        else:
            _put_quoted(context, arg_offset(context, i), length)
        _put_byte(context, 34)
        if shown > LINE_MAX:
            break
        shown += length + 3
    _put_byte(context, 13)
    _put_byte(context, 10)


@linked(void(CONTEXT, int64[::1], int64))
def tell_monitors(context, row, redacted):  # type: ignore[no-untyped-def]
    """Show the monitors the command at hand, of the connection with this row.  There must be a monitor.

    redacted: bit i for argument i, which is secret.
    """
    messages_bound(context)
    start = message_begin(context, 2)
    _put_line(context, row, redacted)
    size = message_end(context, start)
    slot = context.shard[MONITOR_FIRST] - 1
    while slot >= 0:
        monitor = connection(context, slot)
        if monitor[FLAGS] & REPLY_OFF == 0:
            post(context, slot, start, size)
        slot = monitor[MONITOR_NEXT] - 1
    connection(context, context.call[CONNECTION])[FLAGS] |= AFTERWARDS  # it sends what waits when that is much
