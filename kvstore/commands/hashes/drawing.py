"""HRANDFIELD."""

from kvstore.commands.drawing import DRAWS_MAX, draw, draw_distinct
from kvstore.commands.elements import reply_key
from kvstore.commands.hashes.reading import reply_field_value
from kvstore.lifetimes.call import ARGC, PROTOCOL
from kvstore.lifetimes.context import BLOCKS, CONTEXT, HANDLER
from kvstore.store.aside import goes_aside
from kvstore.store.collections import OTHER_TYPE, collection_read
from kvstore.store.entries import HASH, entry_root
from kvstore.store.leaving import reply_leaves
from kvstore.structures.collection import root_count
from kvstore.system.libc import free, words_at
from kvstore.wire.arguments import INT64_MAX, INT64_MIN, argument, integer_argument, is_word
from kvstore.wire.errors import LONG_RANGE, NOT_INTEGER, OUT_OF_DRAWS, SYNTAX, VALUE_RANGE
from kvstore.wire.resp import reply_array, reply_empty_array, reply_error, reply_null
from kvstore.wire.wanted import is_given_up
from mmcore.jit import constant, int64, linked, void

_WITHVALUES = constant(b"WITHVALUES")


@linked(void(CONTEXT, int64, int64))
def _reply_drawn(context, element, values):  # type: ignore[no-untyped-def]
    """An element that was drawn; in RESP3, one with its value is an array of two."""
    if values and context.call[PROTOCOL] == 3:
        reply_array(context, 2)
    reply_key(context, element)
    if values:
        reply_field_value(context, element)


@linked(void(CONTEXT, int64, int64, int64))
def _reply_distinct(context, root, count, values):  # type: ignore[no-untyped-def]
    """`count` distinct elements, or all if there are fewer."""
    count = min(count, root_count(context.space, root))
    address = draw_distinct(context, root, count)
    if address == 0:
        reply_error(context, OUT_OF_DRAWS)
        return
    drawn = words_at(address, count)
    reply_array(context, count if context.call[PROTOCOL] == 3 or not values else 2 * count)
    for i in range(count):
        if is_given_up(context):
            break
        _reply_drawn(context, drawn[i], values)
        reply_leaves(context)
    free(address)


@linked(HANDLER)
def hrandfield(context):  # type: ignore[no-untyped-def]
    """HRANDFIELD key [count [WITHVALUES]]"""
    argc, values, count = context.call[ARGC], 0, 1
    if argc > 2:
        valid, count = integer_argument(context, 2)
        if not valid or count == INT64_MIN:
            reply_error(context, LONG_RANGE if valid else NOT_INTEGER)
            return 0
        if argc > 4 or (argc == 4 and not is_word(context, 3, _WITHVALUES)):
            reply_error(context, SYNTAX)
            return 0
        values = 1 if argc == 4 else 0
        if count < -DRAWS_MAX or (values and count > INT64_MAX // 2):
            reply_error(context, VALUE_RANGE)
            return 0
    key, key_size = argument(context, 1)
    entry = collection_read(context, key, key_size, HASH)
    if entry == OTHER_TYPE:
        return 0
    if entry == 0 or count == 0:
        if argc > 2:
            reply_empty_array(context)
        else:
            reply_null(context)
        return 0
    root = entry_root(context, entry)
    if goes_aside(context, 2 * abs(count)):
        return BLOCKS
    if argc == 2:
        reply_key(context, draw(context, root))
    elif count > 0:
        _reply_distinct(context, root, count, values)
    else:
        reply_array(context, -count if context.call[PROTOCOL] == 3 or not values else -2 * count)
        for _ in range(-count):
            if is_given_up(context):
                break
            _reply_drawn(context, draw(context, root), values)
            reply_leaves(context)
    return 0
