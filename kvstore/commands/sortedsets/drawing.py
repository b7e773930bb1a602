"""ZRANDMEMBER."""

from kvstore.commands.drawing import DRAWS_MAX, draw, draw_distinct, draws_work
from kvstore.commands.elements import reply_key
from kvstore.commands.sortedsets.order import reply_header, reply_scored
from kvstore.lifetimes.call import ARGC
from kvstore.lifetimes.context import BLOCKS, CONTEXT, HANDLER
from kvstore.store.aside import goes_aside
from kvstore.store.collections import OTHER_TYPE, collection_read
from kvstore.store.entries import ZSET, entry_root
from kvstore.store.leaving import reply_leaves
from kvstore.store.scores import element_score
from kvstore.structures.collection import root_count
from kvstore.system.libc import free, words_at
from kvstore.wire.arguments import INT64_MAX, INT64_MIN, argument, integer_argument, is_word
from kvstore.wire.errors import LONG_RANGE, NOT_INTEGER, OUT_OF_DRAWS, SYNTAX, VALUE_RANGE
from kvstore.wire.resp import reply_empty_array, reply_error, reply_null
from kvstore.wire.wanted import is_given_up
from mmcore.jit import constant, int64, kernel, linked, void

_WITHSCORES = constant(b"WITHSCORES")


@kernel
def _reply_drawn(context, element, scores):  # type: ignore[no-untyped-def]
    reply_scored(context, element, element_score(context.space, element), scores)


@linked(void(CONTEXT, int64, int64, int64))
def _reply_distinct(context, root, count, scores):  # type: ignore[no-untyped-def]
    """`count` distinct members, or all if there are fewer."""
    count = min(count, root_count(context.space, root))
    address = draw_distinct(context, root, count)
    if address == 0:
        reply_error(context, OUT_OF_DRAWS)
        return
    drawn = words_at(address, count)
    reply_header(context, count, scores)
    for i in range(count):
        if is_given_up(context):
            break
        _reply_drawn(context, drawn[i], scores)
        reply_leaves(context)
    free(address)


@linked(int64(CONTEXT, int64, int64))
def _check_count(context, count, valid):  # type: ignore[no-untyped-def]
    """Whether the count and the arguments behind it are allowed; else an error is replied."""
    argc = context.call[ARGC]
    if not valid or count == INT64_MIN:
        reply_error(context, LONG_RANGE if valid else NOT_INTEGER)
        return 0
    if argc > 4 or (argc == 4 and not is_word(context, 3, _WITHSCORES)):
        reply_error(context, SYNTAX)
        return 0
    if count < -DRAWS_MAX or (argc == 4 and count > INT64_MAX // 2):
        reply_error(context, VALUE_RANGE)
        return 0
    return 1


@linked(HANDLER)
def zrandmember(context):  # type: ignore[no-untyped-def]
    """ZRANDMEMBER key [count [WITHSCORES]]"""
    argc, count = context.call[ARGC], 1
    if argc > 2:
        valid, count = integer_argument(context, 2)
        if not _check_count(context, count, int64(valid)):
            return 0
    key, key_size = argument(context, 1)
    entry = collection_read(context, key, key_size, ZSET)
    if entry == OTHER_TYPE:
        return 0
    if entry == 0 or count == 0:
        if argc > 2:
            reply_empty_array(context)
        else:
            reply_null(context)
        return 0
    root, scores = entry_root(context, entry), int64(argc == 4)
    if goes_aside(context, draws_work(count, root_count(context.space, root))):
        return BLOCKS
    if argc == 2:
        reply_key(context, draw(context, root))
    elif count > 0:
        _reply_distinct(context, root, count, scores)
    else:
        reply_header(context, -count, scores)
        for _ in range(-count):
            if is_given_up(context):
                break
            _reply_drawn(context, draw(context, root), scores)
            reply_leaves(context)
    return 0
