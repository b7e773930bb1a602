"""SRANDMEMBER."""

from kvstore.commands.drawing import DRAWS_MAX, draw, draw_distinct, draws_work
from kvstore.commands.sets.reading import reply_drawn
from kvstore.lifetimes.call import ARGC
from kvstore.lifetimes.context import BLOCKS, CONTEXT, HANDLER
from kvstore.store.aside import goes_aside
from kvstore.store.collections import OTHER_TYPE, collection_read
from kvstore.store.entries import SET, entry_root
from kvstore.store.leaving import reply_leaves
from kvstore.structures.collection import root_count
from kvstore.system.libc import free, words_at
from kvstore.wire.arguments import INT64_MIN, argument, integer_argument
from kvstore.wire.errors import LONG_RANGE, NOT_INTEGER, OUT_OF_DRAWS, SYNTAX, VALUE_RANGE
from kvstore.wire.resp import reply_array, reply_empty_array, reply_error, reply_null
from kvstore.wire.wanted import is_given_up
from mmcore.jit import int64, linked, void


@linked(void(CONTEXT, int64, int64))
def _reply_distinct(context, root, count):  # type: ignore[no-untyped-def]
    """`count` distinct members, or all if there are fewer."""
    count = min(count, root_count(context.space, root))
    address = draw_distinct(context, root, count)
    if address == 0:
        reply_error(context, OUT_OF_DRAWS)
        return
    drawn = words_at(address, count)
    reply_array(context, count)
    for i in range(count):
        if is_given_up(context):
            break
        reply_drawn(context, root, drawn[i])
        reply_leaves(context)
    free(address)


@linked(HANDLER)
def srandmember(context):  # type: ignore[no-untyped-def]
    """SRANDMEMBER key [count]"""
    argc, count = context.call[ARGC], 1
    if argc > 3:
        reply_error(context, SYNTAX)
        return 0
    if argc == 3:
        valid, count = integer_argument(context, 2)
        if not valid or count == INT64_MIN:
            reply_error(context, LONG_RANGE if valid else NOT_INTEGER)
            return 0
    key, key_size = argument(context, 1)
    entry = collection_read(context, key, key_size, SET)
    if entry == OTHER_TYPE:
        return 0
    if entry == 0 or count == 0:
        if argc == 3:
            reply_empty_array(context)
        else:
            reply_null(context)
        return 0
    root = entry_root(context, entry)
    if goes_aside(context, draws_work(count, root_count(context.space, root))):
        return BLOCKS
    if argc == 2:
        reply_drawn(context, root, draw(context, root))
    elif count > 0:
        _reply_distinct(context, root, count)
    elif count < -DRAWS_MAX:
        reply_error(context, VALUE_RANGE)
    else:
        reply_array(context, -count)
        for _ in range(-count):
            if is_given_up(context):
                break
            reply_drawn(context, root, draw(context, root))
            reply_leaves(context)
    return 0
