"""Refusals: the replies to a command that is not in the table, or has the wrong number of arguments.

Both look at a few arguments only, so a refusal costs the same however long the command is.  Names of commands and of
subcommands are a table of bytes, one row of NAME_WIDTH for each row of the command table, padded with zeros.
"""

from kvstore.arguments import arg_length, arg_offset, pack, query, word_at
from kvstore.errors import ABORTED, SHOWN_MAX
from kvstore.libc import bytes_at
from kvstore.resp import begin_error, end_error, put_argument, reply_raw
from kvstore.state import ARGC, COMMAND_NAMES_ADDRESS, REPLY_LENGTH, STORE
from mmcore.jit import constant, int64, kernel, linked, view, void

NAME_WIDTH = 32  # [bytes]

_UNKNOWN, _ARGUMENTS, _QUOTE, _QUOTE_BLANK, _ERR, _ARITY, _COMMAND = (
    constant(text)
    for text in (
        b"ERR unknown command '",
        b"', with args beginning with: ",
        b"'",
        b"' ",
        b"ERR ",
        b"wrong number of arguments for '",
        b"' command",
    )
)
_POST, _HOST = pack(b"POST"), pack(b"HOST:")


@view
def command_name(store, command):  # type: ignore[no-untyped-def]
    """The name in row `command` of the table, uint8[NAME_WIDTH], padded with zeros."""
    return bytes_at(store.server[COMMAND_NAMES_ADDRESS] + command * NAME_WIDTH, NAME_WIDTH)


@kernel
def name_length(name):  # type: ignore[no-untyped-def]
    """Length of a name of `command_name` [bytes]."""
    length = 0
    while length < NAME_WIDTH and name[length] != 0:
        length += 1
    return length


@kernel
def _put(store, text):  # type: ignore[no-untyped-def]
    reply_raw(store, text, 0, len(text))


@linked(void(STORE))
def reply_unknown(store):  # type: ignore[no-untyped-def]
    """The refusal of the command at hand, which is not in the table."""
    server = store.server
    start = begin_error(store)
    _put(store, _UNKNOWN)
    put_argument(store, 0, SHOWN_MAX)
    _put(store, _ARGUMENTS)
    beginning, i = server[REPLY_LENGTH], 1
    while i < server[ARGC] and server[REPLY_LENGTH] - beginning < SHOWN_MAX:
        left = SHOWN_MAX - (server[REPLY_LENGTH] - beginning)
        _put(store, _QUOTE)
        put_argument(store, i, left)
        _put(store, _QUOTE_BLANK)
        i += 1
    end_error(store, start)


@linked(void(STORE, int64, int64))
def reply_arity(store, command, aborts):  # type: ignore[no-untyped-def]
    """The refusal of the wrong number of arguments for the command in row `command`.

    `aborts`: it is EXEC, whose transaction is discarded for that.
    """
    start = begin_error(store)
    if aborts:
        reply_raw(store, ABORTED, 1, len(ABORTED) - 1)
    else:
        _put(store, _ERR)
    _put(store, _ARITY)
    name = command_name(store, command)
    reply_raw(store, name, 0, name_length(name))
    _put(store, _COMMAND)
    end_error(store, start)


@linked(int64(STORE))
def is_http(store):  # type: ignore[no-untyped-def]
    """Whether the command at hand is a line of an HTTP request, which a web page may have made a browser send."""
    text, start, length = query(store), arg_offset(store, 0), 0
    while length < min(arg_length(store, 0), 6) and text[start + length] != 0:
        length += 1
    name = word_at(text, start, length)
    return name == _POST or name == _HOST
