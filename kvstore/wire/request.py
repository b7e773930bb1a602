"""Requests: RESP arrays of bulk strings, or inline commands, out of the query buffer.

`parse_request` takes the next command at INPUT_POSITION.  For a whole command it stores the arguments in `args` (offset
and length in the query buffer, so nothing is copied) and moves INPUT_POSITION behind it.  For an incomplete command
it only keeps the scan position, in the connection's row.  So a command that arrives in n pieces costs O(its length +
n), and not their product.  When the rest has arrived, one pass from the beginning collects the arguments.

Limits and error texts are Redis's: at most 64 KiB for a line of a header or an inline command, whether or not its end
has been received; bulk strings of proto-max-bulk-len; before authentication 10 arguments of 16 KiB.  An inline command
of that length always has few enough words for `args`.

A long value may have been received into frames of its own (net/bodies.py).  Then only its first BODY_HEAD bytes are in
the query buffer, with the rest of the command behind them.  Its argument has the length that the value has.

An inline command is unquoted in place, so it cannot be parsed twice.  CLIENT PAUSE, and a command that takes several
turns, need a second parse.  So the line is also kept as received, and `restore_request` puts it back.
"""

from kvstore.lifetimes.call import ARGC, QUERY_ADDRESS, QUERY_SIZE, REPLY_LENGTH
from kvstore.lifetimes.connection import (
    AUTHENTICATED,
    BODY_AT,
    BODY_ROOT_PLUS_1,
    FLAGS,
    SCAN_ARGUMENTS,
    SCAN_POSITION,
)
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import INLINE_ADDRESS, INPUT_POSITION, PROTO_MAX_BULK_LEN, REQUIRE_AUTH
from kvstore.lifetimes.sizes import ARGUMENTS_MAX, LINE_MAX, LINE_ROOM
from kvstore.system.libc import bytes_at, memchr
from kvstore.wire.arguments import arg_offset, parse_integer, query
from kvstore.wire.errors import (
    PROTOCOL_BULK,
    PROTOCOL_BULK_AUTH,
    PROTOCOL_BULK_LINE,
    PROTOCOL_DOLLAR,
    PROTOCOL_INLINE,
    PROTOCOL_MULTIBULK,
    PROTOCOL_MULTIBULK_AUTH,
    PROTOCOL_MULTIBULK_LINE,
    PROTOCOL_QUOTES,
)
from kvstore.wire.resp import reply_error, reply_room
from mmcore.jit import bytes32, copy_bytes, int64, kernel, linked, void

COMPLETE, INCOMPLETE, EMPTY, MALFORMED = 1, 0, 2, -1  # answers of parse_request
assert LINE_MAX // 2 + 1 <= ARGUMENTS_MAX, "an inline command could have more words than there is room for"
BODY_HEAD = 128  # [bytes]; as many as anybody but the command itself reads of an argument (slow log, error replies)
UNAUTHENTICATED_ARGUMENTS_MAX, UNAUTHENTICATED_BULK_MAX = 10, 16384
_RETURN = 13 - 48  # the carriage return, read as a digit


@kernel
def _find(context, start, byte):  # type: ignore[no-untyped-def]
    # Offset of the first `byte` in the line that begins at `start` in the query buffer; -1 when it has not arrived yet,
    # -2 when the line is too long.
    base, left = context.call[QUERY_ADDRESS], context.call[QUERY_SIZE] - start
    found = memchr(base + start, byte, min(left, LINE_ROOM))
    if found != 0:
        return found - base
    return -2 if left >= LINE_ROOM else -1


@kernel
def _malformed(context, code):  # type: ignore[no-untyped-def]
    reply_error(context, code)
    return MALFORMED


@kernel
def short_number(text, start, end):  # type: ignore[no-untyped-def]
    """(number, offset of the carriage return) where up to 9 digits and CR LF follow; (-1, 0) for anything else."""
    if start + 4 <= end:  # nearly all numbers have one digit or two, and at least two bytes behind them
        word = bytes32(text, start)
        first, second = (word & 255) - 48, (word >> 8 & 255) - 48
        if 0 < first <= 9 and second == _RETURN:
            return first, start + 1
        if 0 < first <= 9 and 0 <= second <= 9 and (word >> 16 & 255) - 48 == _RETURN:
            return 10 * first + second, start + 2
    value, at = 0, start
    while at < end and at < start + 9:
        digit = int(text[at]) - 48
        if digit < 0 or digit > 9:
            break
        value = 10 * value + digit
        at += 1
    if at == start or at + 1 >= end or text[at] != 13 or (text[start] == 48 and at > start + 1):
        return -1, 0
    return value, at


@kernel
def _line_number(context, text, start, too_long, invalid):  # type: ignore[no-untyped-def]
    # Like short_number, for the cases that it leaves: (status, number, offset of the carriage return).
    end = _find(context, start, 13)
    if end == -2:
        return _malformed(context, too_long), 0, 0
    if end < 0 or end + 1 >= context.call[QUERY_SIZE]:
        return INCOMPLETE, 0, 0
    valid, value = parse_integer(text, start, end - start)
    if not valid:
        return _malformed(context, invalid), 0, 0
    return COMPLETE, value, end


@linked(int64(CONTEXT, int64, int64, int64, int64, int64))
def scan_arguments(context, position, index, count, trusted, body):  # type: ignore[no-untyped-def]
    """Take the arguments from number `index` on; the header of the first is at `position`.

    Of the argument at `body`, only the first BODY_HEAD bytes are there.
    Returns COMPLETE, with INPUT_POSITION behind the command; INCOMPLETE, with ARGC arguments taken and INPUT_POSITION
    at the header of the next; or MALFORMED, with the error appended to the reply.
    """
    call, shard, args = context.call, context.shard, context.args
    text, end = query(context), call[QUERY_SIZE]
    while index < count:
        call[ARGC] = index
        shard[INPUT_POSITION] = position
        if position >= end:
            return INCOMPLETE
        if text[position] != 36:
            reply_error(context, PROTOCOL_DOLLAR)
            line_end = text[position] == 13 or text[position] == 10
            reply_room(context, 0)[call[REPLY_LENGTH] - 4] = 32 if line_end else text[position]
            return MALFORMED
        length, line = short_number(text, position + 1, end)
        if length < 0:
            status, length, line = _line_number(context, text, position + 1, PROTOCOL_BULK_LINE, PROTOCOL_BULK)
            if status != COMPLETE:
                return status
        if length < 0 or length > shard[PROTO_MAX_BULK_LEN]:
            return _malformed(context, PROTOCOL_BULK)
        if length > UNAUTHENTICATED_BULK_MAX and not trusted:
            return _malformed(context, PROTOCOL_BULK_AUTH)
        present = BODY_HEAD if line + 2 == body else length
        if line + 2 + present + 2 > end:
            return INCOMPLETE
        args[2 * index] = line + 2
        args[2 * index + 1] = length
        position = line + 2 + present + 2
        index += 1
    call[ARGC] = count
    shard[INPUT_POSITION] = position
    return COMPLETE


@kernel
def _is_space(byte):  # type: ignore[no-untyped-def]
    return byte == 32 or (9 <= byte <= 13)


@kernel
def _hex(byte):  # type: ignore[no-untyped-def]
    # The value of a hexadecimal digit, or -1.
    if 48 <= byte <= 57:
        return byte - 48
    if 65 <= byte <= 70:
        return byte - 55
    if 97 <= byte <= 102:
        return byte - 87
    return -1


@kernel
def _hex_pair(text, at):  # type: ignore[no-untyped-def]
    # The byte that two hexadecimal digits spell, or -1.
    high, low = _hex(int(text[at])), _hex(int(text[at + 1]))
    return 16 * high + low if high >= 0 and low >= 0 else -1


@kernel
def _escape(byte):  # type: ignore[no-untyped-def]
    # The byte that a backslash and this letter denote within double quotes.
    if byte == 110:
        return 10
    if byte == 114:
        return 13
    if byte == 116:
        return 9
    if byte == 98:
        return 8
    if byte == 97:
        return 7
    return byte


@linked(int64(CONTEXT))
def parse_inline(context):  # type: ignore[no-untyped-def]
    """Take an inline command: words separated by spaces, with quotes as in a shell ("\\n \\x0a \\"" and '\\'').

    Arguments are unescaped in place; an unescaped word is never longer than its spelling.
    """
    call, shard, args = context.call, context.shard, context.args
    text, start = query(context), shard[INPUT_POSITION]
    newline = _find(context, start, 10)
    if newline == -2:
        return _malformed(context, PROTOCOL_INLINE)
    if newline < 0:
        return INCOMPLETE
    copy_bytes(bytes_at(shard[INLINE_ADDRESS], LINE_ROOM), 0, text, start, newline + 1 - start)
    end = newline
    if end > start and text[end - 1] == 13:
        end -= 1
    shard[INPUT_POSITION] = newline + 1
    at, count = start, 0
    while True:
        while at < end and _is_space(int(text[at])):
            at += 1
        if at >= end:
            break
        put, quote = at, 0
        args[2 * count] = at
        while at < end:
            byte = int(text[at])
            if quote == 0:
                if _is_space(byte) or byte == 0:
                    break
                if byte == 34 or byte == 39:
                    quote = byte
                    at += 1
                    continue
            elif byte == quote:
                if at + 1 < end and not _is_space(int(text[at + 1])):
                    return _malformed(context, PROTOCOL_QUOTES)
                quote = 0
                at += 1
                break
            elif byte == 92 and at + 1 < end:
                following = int(text[at + 1])
                if quote == 39:
                    if following == 39:
                        byte = 39
                        at += 1
                elif following == 120 and at + 3 < end and _hex_pair(text, at + 2) >= 0:
                    byte = _hex_pair(text, at + 2)
                    at += 3
                else:
                    byte = _escape(following)
                    at += 1
            text[put] = byte
            put += 1
            at += 1
        if quote != 0:
            return _malformed(context, PROTOCOL_QUOTES)
        args[2 * count + 1] = put - args[2 * count]
        count += 1
        if at < end and text[at] == 0:
            break
    call[ARGC] = count
    return COMPLETE if count > 0 else EMPTY


@linked(void(CONTEXT, int64))
def restore_request(context, start):  # type: ignore[no-untyped-def]
    """Undo the parsing of the command that began at `start`, so that it can be parsed again in another turn."""
    shard, text = context.shard, query(context)
    # It is an inline command if its first word lies at `start`, or the byte there is not an asterisk.
    if text[start] != 42 or arg_offset(context, 0) == start:
        line = bytes_at(shard[INLINE_ADDRESS], LINE_ROOM)
        copy_bytes(text, start, line, 0, shard[INPUT_POSITION] - start)
    shard[INPUT_POSITION] = start


@linked(int64(CONTEXT, int64[::1]))
def parse_request(context, row):  # type: ignore[no-untyped-def]
    """Take the next command of the connection with this row: COMPLETE, INCOMPLETE, EMPTY or MALFORMED.

    INCOMPLETE leaves INPUT_POSITION at the command's beginning; MALFORMED has appended the error.
    """
    call, shard = context.call, context.shard
    start, end = shard[INPUT_POSITION], call[QUERY_SIZE]
    if start >= end:
        return INCOMPLETE
    text = query(context)
    trusted = shard[REQUIRE_AUTH] == 0 or row[FLAGS] & AUTHENTICATED != 0
    if text[start] != 42:
        return parse_inline(context)
    body = start + row[BODY_AT] if row[BODY_ROOT_PLUS_1] != 0 else -1
    if row[SCAN_ARGUMENTS] >= 0:
        status = scan_arguments(context, start + row[SCAN_POSITION], 0, row[SCAN_ARGUMENTS], trusted, body)
        if status == INCOMPLETE:
            row[SCAN_ARGUMENTS] -= call[ARGC]
            row[SCAN_POSITION] = shard[INPUT_POSITION] - start
            shard[INPUT_POSITION] = start
        if status != COMPLETE:
            return status
        row[SCAN_ARGUMENTS] = -1
    count, line = short_number(text, start + 1, end)
    if count < 0:
        status, count, line = _line_number(context, text, start + 1, PROTOCOL_MULTIBULK_LINE, PROTOCOL_MULTIBULK)
        if status != COMPLETE:
            return status
    if count > ARGUMENTS_MAX:
        return _malformed(context, PROTOCOL_MULTIBULK)
    if count > UNAUTHENTICATED_ARGUMENTS_MAX and not trusted:
        return _malformed(context, PROTOCOL_MULTIBULK_AUTH)
    if count <= 0:
        shard[INPUT_POSITION] = line + 2
        return EMPTY
    status = scan_arguments(context, line + 2, 0, count, trusted, body)
    if status == INCOMPLETE:
        row[SCAN_ARGUMENTS] = count - call[ARGC]
        row[SCAN_POSITION] = shard[INPUT_POSITION] - start
        shard[INPUT_POSITION] = start
    return status
