"""XREAD: entries behind the last ones that the client knows, of several streams; it may wait for some.

A command that waits runs again when a stream has changed (kvstore/net/serving.py).  By then `$` would mean another
entry, so the command is kept with the identifiers in the place of `$` and `+`.
"""

from kvstore.commands.streams.identifiers import (
    GREATEST,
    LEAST,
    WHOLE,
    identifier_after,
    identifier_before,
    parse_identifier,
    put_identifier_text,
)
from kvstore.commands.streams.trimming import is_sign
from kvstore.commands.streams.value import ALL, entries_between, options_of, reply_forward
from kvstore.commands.timeouts import milliseconds_argument
from kvstore.connections.table import connection, grow
from kvstore.effects.waiting import may_wait, stop_waiting, wait_for_keys
from kvstore.lifetimes.call import ARGC, COMMAND, CONNECTION, DB, PROTOCOL
from kvstore.lifetimes.connection import BLOCKED, FLAGS, QUEUE_ADDRESS, QUEUE_CAPACITY, QUEUE_LENGTH
from kvstore.lifetimes.context import BLOCKS, CONTEXT, HANDLER, SERVED
from kvstore.store.aside import goes_aside
from kvstore.store.collections import OTHER_TYPE, collection_read
from kvstore.store.entries import STREAM, entry_root, entry_type
from kvstore.store.index import entry_of
from kvstore.store.lookup import key_hash, lookup
from kvstore.structures.stream import stream_count, stream_edge, stream_last
from kvstore.structures.stream_layout import is_before
from kvstore.system.libc import bytes_at, words_at
from kvstore.wire.arguments import arg_length, arg_offset, argument, integer_argument, pack, query, word
from kvstore.wire.deferred import begin_array, end_array, end_map
from kvstore.wire.errors import (
    NOT_INTEGER,
    OUT_OF_WAITING,
    STREAM_ID,
    SYNTAX,
    XREAD_GROUP,
    XREAD_NEW,
    XREAD_NOACK,
    XREAD_UNBALANCED,
    XREADGROUP_UNBALANCED,
)
from kvstore.wire.resp import reply_array, reply_bulk, reply_error, reply_null_array
from mmcore.jit import copy_bytes, int64, kernel, linked
from mmcore.mmu import load64

# The options, by their place in the words of `options_of`; behind them the identifier at hand.
MOST, TIMEOUT, STREAMS_AT, STREAMS, GROUP_AT, NOACK, MS, SEQ, RECORD, ROOT, GROUP = range(11)
NO_TIMEOUT = -1
_BLOCK, _COUNT, _STREAMS, _GROUP, _NOACK = (
    pack(b"BLOCK"),
    pack(b"COUNT"),
    pack(b"STREAMS"),
    pack(b"GROUP"),
    pack(b"NOACK"),
)
DOLLAR, PLUS, NEW = b"$+>"
_TEXT_MAX = 48  # [bytes] of an identifier


@linked(int64(CONTEXT, int64))
def read_options(context, grouped):  # type: ignore[no-untyped-def]
    """Read the arguments up to the keys, of XREAD or XREADGROUP: 1, or 0 with an error replied."""
    options, i, argc = options_of(context), int64(1), context.call[ARGC]
    options[MOST], options[TIMEOUT], options[STREAMS_AT], options[GROUP_AT], options[NOACK] = ALL, NO_TIMEOUT, 0, 0, 0
    while i < argc and options[STREAMS_AT] == 0:
        option, more = word(context, i), argc - 1 - i
        if option == _BLOCK and more > 0:
            i += 1
            options[TIMEOUT] = milliseconds_argument(context, i)
            if options[TIMEOUT] < 0:
                return 0
        elif option == _COUNT and more > 0:
            i += 1
            valid, most = integer_argument(context, i)
            if not valid:
                reply_error(context, NOT_INTEGER)
                return 0
            options[MOST] = most if most > 0 else ALL
        elif option == _STREAMS and more > 0:
            options[STREAMS_AT], options[STREAMS] = i + 1, more >> 1
            if more & 1:
                reply_error(context, XREADGROUP_UNBALANCED if grouped else XREAD_UNBALANCED)
                return 0
        elif option == _GROUP and more > 1:
            if not grouped:
                reply_error(context, XREAD_GROUP)
                return 0
            options[GROUP_AT] = i + 1
            i += 2
        elif option == _NOACK:
            if not grouped:
                reply_error(context, XREAD_NOACK)
                return 0
            options[NOACK] = 1
        else:
            reply_error(context, SYNTAX)
            return 0
        i += 1
    if options[STREAMS_AT] == 0:
        reply_error(context, SYNTAX)
        return 0
    return 1


@linked(int64(CONTEXT, int64))
def stream_of(context, i):  # type: ignore[no-untyped-def]
    """The root of the stream whose key is argument i; 0 without one, OTHER_TYPE with -WRONGTYPE replied."""
    key, key_size = argument(context, i)
    entry = collection_read(context, key, key_size, STREAM)
    return entry_root(context, entry) if entry > 0 else entry


@linked(int64(CONTEXT, int64))
def peek_stream(context, i):  # type: ignore[no-untyped-def]
    """The root of the stream whose key is argument i; 0 without one.  No hit, miss or use is noted."""
    key, size = argument(context, i)
    slot = lookup(context, context.call[DB], key, size, key_hash(context, key, size))
    entry = entry_of(load64(context.space, slot)) if slot != 0 else int64(0)
    return entry_root(context, entry) if entry != 0 and entry_type(context, entry) == STREAM else int64(0)


@linked(int64(CONTEXT, int64, int64))
def _last_known(context, root, i):  # type: ignore[no-untyped-def]
    """Read argument i, the last identifier that the client knows, to the options: 1, or 0 with an error replied."""
    options, space = options_of(context), context.space
    if is_sign(context, i, NEW):
        reply_error(context, XREAD_NEW)
        return 0
    if is_sign(context, i, DOLLAR) or is_sign(context, i, PLUS):
        options[MS], options[SEQ] = LEAST, LEAST
        if root != 0:
            options[MS], options[SEQ] = stream_last(space, root)
            if is_sign(context, i, PLUS) and stream_count(space, root) > 0:
                ms, seq = stream_edge(space, root, True)
                options[MS], options[SEQ] = identifier_before(ms, seq)
        return 1
    if parse_identifier(context, i, 0, LEAST, 0, options, MS) != WHOLE:
        reply_error(context, STREAM_ID)
        return 0
    return 1


@linked(int64(CONTEXT, int64))
def _has_more(context, root):  # type: ignore[no-untyped-def]
    """Whether a stream has an entry behind the identifier in the options (0 or 1)."""
    options = options_of(context)
    if root == 0 or stream_count(context.space, root) == 0:
        return 0
    ms, seq = stream_edge(context.space, root, True)
    return 1 if is_before(options[MS], options[SEQ], ms, seq) else 0


@kernel
def begin_stream(context, i):  # type: ignore[no-untyped-def]
    """Begin what is replied of the stream whose key is argument i."""
    if context.call[PROTOCOL] != 3:
        reply_array(context, 2)
    reply_bulk(context, query(context), arg_offset(context, i), arg_length(context, i))


@kernel
def end_streams(context, start, count):  # type: ignore[no-untyped-def]
    """End the reply, of `count` streams, that `begin_array` began."""
    if context.call[PROTOCOL] == 3:
        end_map(context, start, count)
    else:
        end_array(context, start, count)


@linked(int64(CONTEXT))
def _work(context):  # type: ignore[no-untyped-def]
    """How many entries will be replied, if nothing is wrong with the arguments; -1 with an error replied."""
    options, work = options_of(context), int64(0)
    for i in range(options[STREAMS]):
        root = stream_of(context, options[STREAMS_AT] + i)
        if root == OTHER_TYPE or not _last_known(context, root, options[STREAMS_AT] + options[STREAMS] + i):
            return -1
        if _has_more(context, root):
            ms, seq = identifier_after(options[MS], options[SEQ])
            work += max(entries_between(context, root, ms, seq, GREATEST, GREATEST, options[MOST]), 1)
    return work


@linked(int64(CONTEXT, int64[::1]))
def _keep(context, row):  # type: ignore[no-untyped-def]
    """Keep the command with identifiers in the place of $ and +: 1, or 0 when memory ran out.

    It has the form of keep_command (kvstore/commands/transactions.py), which is not called then.
    """
    call, options = context.call, options_of(context)
    count, size = call[ARGC], int64(0)
    for i in range(count):
        size += max(arg_length(context, i), _TEXT_MAX)
    if not grow(context, row, QUEUE_ADDRESS, QUEUE_CAPACITY, 16 + 8 * count + ((size + 7) & ~7)):
        return 0
    head = words_at(row[QUEUE_ADDRESS], 2 + count)
    head[0], head[1] = call[COMMAND], count
    out, at = bytes_at(row[QUEUE_ADDRESS], row[QUEUE_CAPACITY]), 16 + 8 * count
    identifiers = options[STREAMS_AT] + options[STREAMS]
    for i in range(count):
        if i >= identifiers and (is_sign(context, i, DOLLAR) or is_sign(context, i, PLUS)):
            _last_known(context, peek_stream(context, i - options[STREAMS]), i)
            length = put_identifier_text(out, at, options[MS], options[SEQ])
        else:
            length = arg_length(context, i)
            copy_bytes(out, at, query(context), arg_offset(context, i), length)
        head[2 + i] = length
        at += length
    row[QUEUE_LENGTH] = (at + 7) & ~7
    return 1


@linked(int64(CONTEXT))
def _wait(context):  # type: ignore[no-untyped-def]
    """Wait for one of the streams, or answer as if the time were over."""
    options, row = options_of(context), connection(context, context.call[CONNECTION])
    if row[FLAGS] & BLOCKED:
        return BLOCKS
    outcome = wait_for_keys(context, options[STREAMS_AT], options[STREAMS], STREAM, options[TIMEOUT])
    if outcome == BLOCKS and not _keep(context, row):
        stop_waiting(context, row)
        reply_error(context, OUT_OF_WAITING)
        return SERVED
    return outcome


@linked(HANDLER)
def xread(context):  # type: ignore[no-untyped-def]
    """XREAD [COUNT count] [BLOCK milliseconds] STREAMS key [key ...] id [id ...]"""
    if not read_options(context, 0):
        return SERVED
    options = options_of(context)
    work = _work(context)
    if work < 0:
        return SERVED
    for i in range(options[STREAMS]):
        stream_of(context, options[STREAMS_AT] + i)  # Redis looks up twice, and counts that
    if work == 0:
        if options[TIMEOUT] != NO_TIMEOUT and may_wait(context):
            return _wait(context)
        reply_null_array(context)
        return SERVED
    if goes_aside(context, work >> 1):
        return BLOCKS
    start, count = begin_array(context), int64(0)
    for i in range(options[STREAMS]):
        root = peek_stream(context, options[STREAMS_AT] + i)
        _last_known(context, root, options[STREAMS_AT] + options[STREAMS] + i)
        if _has_more(context, root):
            begin_stream(context, options[STREAMS_AT] + i)
            inner = begin_array(context)
            ms, seq = identifier_after(options[MS], options[SEQ])
            entries = reply_forward(context, root, ms, seq, GREATEST, GREATEST, options[MOST], start)
            if entries < 0:
                return BLOCKS
            end_array(context, inner, entries)
            count += 1
    end_streams(context, start, count)
    return SERVED
