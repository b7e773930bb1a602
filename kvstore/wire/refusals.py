"""Refusals: the replies to a command that is not in the table, has a wrong number of arguments, or may not be used now.

They look at a few arguments only, so the cost of a refusal does not depend on the length of the command.  The names of
commands and subcommands form a table of bytes: one row of NAME_WIDTH bytes, padded with zeros, for each row of the
command table.
"""

from kvstore.lifetimes.call import ARGC, REPLY_LENGTH
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import COMMAND_NAMES_ADDRESS
from kvstore.system.libc import bytes_at
from kvstore.wire.arguments import arg_length, arg_offset, pack, query, word_at
from kvstore.wire.errors import ABORTED, SHOWN_MAX
from kvstore.wire.resp import begin_error, end_error, put_argument, reply_raw
from mmcore.jit import constant, int64, kernel, linked, view, void

NAME_WIDTH = 32  # [bytes]

_UNKNOWN, _ARGUMENTS, _QUOTE, _QUOTE_BLANK, _ERR, _ARITY, _COMMAND, _CANNOT, _ONLY = (
    constant(text)
    for text in (
        b"ERR unknown command '",
        b"', with args beginning with: ",
        b"'",
        b"' ",
        b"ERR ",
        b"wrong number of arguments for '",
        b"' command",
        b"Can't execute '",
        b"': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
    )
)
_POST, _HOST = pack(b"POST"), pack(b"HOST:")


@view
def command_name(context, command):  # type: ignore[no-untyped-def]
    """The name in row `command` of the table, uint8[NAME_WIDTH], padded with zeros."""
    return bytes_at(context.shard[COMMAND_NAMES_ADDRESS] + command * NAME_WIDTH, NAME_WIDTH)


@kernel
def name_length(name):  # type: ignore[no-untyped-def]
    """Length of a name that `command_name` returned [bytes]."""
    length = 0
    while length < NAME_WIDTH and name[length] != 0:
        length += 1
    return length


@kernel
def _put(context, text):  # type: ignore[no-untyped-def]
    reply_raw(context, text, 0, len(text))


@linked(void(CONTEXT))
def reply_unknown(context):  # type: ignore[no-untyped-def]
    """Refuse the command at hand, which is not in the table."""
    call = context.call
    start = begin_error(context)
    _put(context, _UNKNOWN)
    put_argument(context, 0, SHOWN_MAX)
    _put(context, _ARGUMENTS)
    beginning, i = call[REPLY_LENGTH], 1
    while i < call[ARGC] and call[REPLY_LENGTH] - beginning < SHOWN_MAX:
        left = SHOWN_MAX - (call[REPLY_LENGTH] - beginning)
        _put(context, _QUOTE)
        put_argument(context, i, left)
        _put(context, _QUOTE_BLANK)
        i += 1
    end_error(context, start)


@kernel
def _put_code(context, aborts):  # type: ignore[no-untyped-def]
    if aborts:
        reply_raw(context, ABORTED, 1, len(ABORTED) - 1)
    else:
        _put(context, _ERR)


@kernel
def _put_name(context, command):  # type: ignore[no-untyped-def]
    name = command_name(context, command)
    reply_raw(context, name, 0, name_length(name))


@linked(void(CONTEXT, int64, int64))
def reply_arity(context, command, aborts):  # type: ignore[no-untyped-def]
    """Refuse the command in row `command` for its wrong number of arguments.

    `aborts`: the command is EXEC, and its transaction is discarded.
    """
    start = begin_error(context)
    _put_code(context, aborts)
    _put(context, _ARITY)
    _put_name(context, command)
    _put(context, _COMMAND)
    end_error(context, start)


@linked(void(CONTEXT, int64, int64))
def reply_subscriber(context, command, aborts):  # type: ignore[no-untyped-def]
    """Refuse the command in row `command` to a connection that listens to channels in RESP2; `aborts` as above."""
    start = begin_error(context)
    _put_code(context, aborts)
    _put(context, _CANNOT)
    _put_name(context, command)
    _put(context, _ONLY)
    end_error(context, start)


@linked(int64(CONTEXT))
def is_http(context):  # type: ignore[no-untyped-def]
    """Whether the command at hand is a line of an HTTP request, which a browser may send on behalf of a web page."""
    text, start, length = query(context), arg_offset(context, 0), 0
    while length < min(arg_length(context, 0), 6) and text[start + length] != 0:
        length += 1
    name = word_at(text, start, length)
    return name == _POST or name == _HOST
