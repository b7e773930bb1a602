"""XTRIM, and the options of XADD that trim.

The oldest entries go: all but the last so many (MAXLEN), or those before an identifier (MINID).  With ~ only whole
nodes go, and no more than LIMIT entries.  Whole nodes are cut off and freed between turns, so a command takes time only
for the nodes that it counts, from either end.  XTRIM counts so many a turn.  In a transaction all go at once, and so
they do with XADD, which usually has one to remove.
"""

from kvstore.commands.streams.identifiers import LEAST, WHOLE, WITHOUT_SEQ, identifier_argument, parse_identifier
from kvstore.commands.streams.value import options_of
from kvstore.commands.strings.getting import slot_entry
from kvstore.connections.table import connection
from kvstore.effects.door import changed
from kvstore.effects.events import XCHANGED, XTRIM
from kvstore.lifetimes.call import ARGC, CONNECTION, DB, DEPTH
from kvstore.lifetimes.connection import PART_DONE
from kvstore.lifetimes.context import AGAIN, CONTEXT, HANDLER, SERVED
from kvstore.lifetimes.shard import STREAM_NODE_MAX_ENTRIES
from kvstore.store.collections import collection_write
from kvstore.store.entries import STREAM, entry_root
from kvstore.store.layout import CONTROL_BASE, CONTROL_GRAVE
from kvstore.store.lookup import key_hash
from kvstore.store.reserve import reserve_removal_of
from kvstore.structures.stream_trim import NO_LIMIT, stream_trim
from kvstore.wire.arguments import arg_length, arg_offset, argument, integer_argument, is_word, pack, query, word
from kvstore.wire.errors import (
    NOT_INTEGER,
    STREAM_ID,
    SYNTAX,
    TRIM_LIMIT,
    TRIM_LIMIT_ALONE,
    TRIM_LIMIT_EXACT,
    TRIM_MAXLEN,
    TRIM_NOTHING,
    TRIM_TWICE,
)
from kvstore.wire.resp import reply_error, reply_integer
from mmcore.jit import constant, int64, kernel, linked

# The options, by their place in the words of `options_of`.
STRATEGY, MOST, MINID_MS, MINID_SEQ, APPROXIMATE, LIMIT, NO_STREAM, FORM, ID_MS, ID_SEQ = range(10)
NOTHING, MAXLEN, MINID = range(3)
AUTOMATIC = 3  # of FORM, beside those of parse_identifier: *
MOVED = 16  # entries whose pages are reserved for
_MAXLEN, _MINID, _LIMIT = pack(b"MAXLEN"), pack(b"MINID"), pack(b"LIMIT")
_NOMKSTREAM = constant(b"NOMKSTREAM")
_STAR, _TILDE, _EQUALS = b"*~="
_LIMIT_MAX, _LIMIT_UNLIMITED = 1_000_000, 10_000
_A_TURN = 2000  # nodes that XTRIM removes


@kernel
def is_sign(context, i, sign):  # type: ignore[no-untyped-def]
    """Whether argument i is this one byte."""
    return arg_length(context, i) == 1 and query(context)[arg_offset(context, i)] == sign


@linked(int64(CONTEXT, int64, int64[::1]))
def _strategy(context, i, options):  # type: ignore[no-untyped-def]
    """Read MAXLEN or MINID, which is argument i: the place of its number, or -1 with an error replied."""
    maxlen = word(context, i) == _MAXLEN
    if options[STRATEGY] != NOTHING:
        reply_error(context, TRIM_TWICE)
        return -1
    i += 1
    options[APPROXIMATE] = 0
    if i + 1 < context.call[ARGC] and (is_sign(context, i, _TILDE) or is_sign(context, i, _EQUALS)):
        options[APPROXIMATE] = int64(is_sign(context, i, _TILDE))
        i += 1
    if maxlen:
        valid, options[MOST] = integer_argument(context, i)
        if not valid or options[MOST] < 0:
            reply_error(context, TRIM_MAXLEN if valid else NOT_INTEGER)
            return -1
        options[STRATEGY] = MAXLEN
        return i
    options[STRATEGY] = MINID
    return i if identifier_argument(context, i, LEAST, options, MINID_MS) else -1


@linked(int64(CONTEXT, int64[::1], int64, int64))
def _check_options(context, options, limited, adding):  # type: ignore[no-untyped-def]
    """Whether the options go together; sets a limit where none is given.  0 with an error replied."""
    if options[LIMIT] > 0 and options[STRATEGY] == NOTHING:
        reply_error(context, TRIM_LIMIT_ALONE)
        return 0
    if not adding and options[STRATEGY] == NOTHING:
        reply_error(context, TRIM_NOTHING)
        return 0
    if limited and not options[APPROXIMATE]:
        reply_error(context, TRIM_LIMIT_EXACT)
        return 0
    if not limited and options[APPROXIMATE]:
        nodes = context.shard[STREAM_NODE_MAX_ENTRIES]
        options[LIMIT] = min(100 * min(nodes, _LIMIT_MAX), _LIMIT_MAX) if nodes > 0 else _LIMIT_UNLIMITED
    if options[LIMIT] == 0:
        options[LIMIT] = NO_LIMIT
    return 1


@linked(int64(CONTEXT, int64))
def trim_options(context, adding):  # type: ignore[no-untyped-def]
    """Read the options of XADD, up to the identifier, or of XTRIM: the argument behind them, or -1 with an error."""
    options, i, argc, limited = options_of(context), int64(2), context.call[ARGC], int64(0)
    for j in range(ID_SEQ + 1):
        options[j] = 0
    while i < argc:
        option, more = word(context, i), argc - 1 - i
        if adding and is_sign(context, i, _STAR):
            options[FORM] = AUTOMATIC
            break
        if (option == _MAXLEN or option == _MINID) and more > 0:
            i = _strategy(context, i, options)
            if i < 0:
                return -1
        elif option == _LIMIT and more > 0:
            valid, options[LIMIT] = integer_argument(context, i + 1)
            if not valid or options[LIMIT] < 0:
                reply_error(context, TRIM_LIMIT if valid else NOT_INTEGER)
                return -1
            limited = int64(1)
            i += 1
        elif adding and is_word(context, i, _NOMKSTREAM):
            options[NO_STREAM] = 1
        elif adding:
            options[FORM] = parse_identifier(context, i, 0, LEAST, 0, options, ID_MS)
            if options[FORM] != WHOLE and options[FORM] != WITHOUT_SEQ:
                reply_error(context, STREAM_ID)
                return -1
            break
        else:
            reply_error(context, SYNTAX)
            return -1
        i += 1
    return i if _check_options(context, options, limited, adding) else -1


@linked(int64(CONTEXT, int64, int64))
def trim(context, root, nodes):  # type: ignore[no-untyped-def]
    """Trim a stream as the options say: how many entries have gone.  Frames were reserved.

    After so many nodes it stops if there may be more to do, and returns ~n for n entries.
    """
    options = options_of(context)
    return stream_trim(
        context.space,
        CONTROL_BASE + CONTROL_GRAVE,
        root,
        options[MOST],
        int64(options[STRATEGY] == MINID),
        options[MINID_MS],
        options[MINID_SEQ],
        options[LIMIT],
        1 - options[APPROXIMATE],
        nodes,
    )


@linked(HANDLER)
def xtrim(context):  # type: ignore[no-untyped-def]
    """XTRIM key <MAXLEN | MINID> [= | ~] threshold [LIMIT count]"""
    if trim_options(context, 0) < 0:
        return SERVED
    key, key_size = argument(context, 1)
    hash_ = key_hash(context, key, key_size)
    slot, row = collection_write(context, key, key_size, hash_, STREAM), connection(context, context.call[CONNECTION])
    before, row[PART_DONE] = row[PART_DONE], 0
    if slot < 0:
        return SERVED
    gone, options = int64(0), options_of(context)
    if slot != 0:
        if not reserve_removal_of(context, MOVED):
            return SERVED
        if options[LIMIT] != NO_LIMIT:
            options[LIMIT] = max(options[LIMIT] - before, 0)
        nodes = int64(_A_TURN) if context.call[DEPTH] == 0 else int64(NO_LIMIT)
        gone = trim(context, entry_root(context, slot_entry(context, slot)), nodes)
        if gone < 0:
            row[PART_DONE] = before + ~gone
            changed(context, context.call[DB], key, key_size, hash_, XCHANGED, ~gone)
            return AGAIN
    if before + gone > 0:
        changed(context, context.call[DB], key, key_size, hash_, XTRIM, gone)
    reply_integer(context, before + gone)
    return SERVED
