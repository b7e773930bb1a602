"""HRANDFIELD.

While fields are due and still there, draws from the table could miss without end.  Then the others are listed first,
and drawn from the list.
"""

from kvstore.commands.drawing import DRAWS_MAX, draw, draw_distinct, draws_work
from kvstore.commands.elements import reply_key
from kvstore.commands.hashes.reading import reply_field_value
from kvstore.lifetimes.call import ARGC, PROTOCOL
from kvstore.lifetimes.context import BLOCKS, CONTEXT, HANDLER
from kvstore.store.aside import goes_aside
from kvstore.store.collections import OTHER_TYPE, collection_read
from kvstore.store.entries import HASH, entry_root
from kvstore.store.fields import fields_hidden, is_element_due
from kvstore.store.leaving import reply_leaves
from kvstore.structures.collection import root_count
from kvstore.structures.walk import WALK_WORDS, walk_begin, walk_next
from kvstore.system.libc import free, malloc, words_at
from kvstore.system.random import next_random
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


@linked(void(CONTEXT, int64, int64, int64))
def _reply_repeated(context, root, draws, values):  # type: ignore[no-untyped-def]
    """So many elements, each drawn by itself."""
    reply_array(context, draws if context.call[PROTOCOL] == 3 or not values else 2 * draws)
    for _ in range(draws):
        if is_given_up(context):
            break
        _reply_drawn(context, draw(context, root), values)
        reply_leaves(context)


@linked(int64(CONTEXT, int64, int64))
def _list_live(context, root, live):  # type: ignore[no-untyped-def]
    """The address of words: the `live` elements that are not due, which the caller frees; 0 without memory."""
    out = malloc(8 * (live + WALK_WORDS))
    if out == 0:
        return 0
    listed, walk, done = words_at(out, live), words_at(out + 8 * live, WALK_WORDS), 0
    walk_begin(context.space, root, walk)
    while done < live:
        element = walk_next(context.space, walk)
        if not is_element_due(context, root, element):
            listed[done] = element
            done += 1
    return out


@linked(void(CONTEXT, int64, int64, int64, int64))
def _reply_of_live(context, root, live, count, values):  # type: ignore[no-untyped-def]
    """`count` distinct elements of those that are not due, or -count that may be the same; with 0 one, by itself."""
    out = _list_live(context, root, live)
    if out == 0:
        reply_error(context, OUT_OF_DRAWS)
        return
    listed, draws = words_at(out, live), min(count, live) if count > 0 else -count
    if count == 0:
        draws = 1
    else:
        reply_array(context, draws if context.call[PROTOCOL] == 3 or not values else 2 * draws)
    for i in range(draws):
        if is_given_up(context):
            break
        start = i if count > 0 else 0
        place = start + next_random(context) % (live - start)
        element = listed[place]
        listed[place] = listed[start]
        listed[start] = element
        _reply_drawn(context, element, values)
        reply_leaves(context)
    free(out)


@linked(int64(CONTEXT))
def _count_argument(context):  # type: ignore[no-untyped-def]
    """The count, 1 without one; INT64_MIN with an error replied for wrong arguments."""
    argc = context.call[ARGC]
    if argc == 2:
        return 1
    valid, count = integer_argument(context, 2)
    if not valid or count == INT64_MIN:
        reply_error(context, LONG_RANGE if valid else NOT_INTEGER)
        return INT64_MIN
    if argc > 4 or (argc == 4 and not is_word(context, 3, _WITHVALUES)):
        reply_error(context, SYNTAX)
        return INT64_MIN
    if count < -DRAWS_MAX or (argc == 4 and count > INT64_MAX // 2):
        reply_error(context, VALUE_RANGE)
        return INT64_MIN
    return count


@linked(HANDLER)
def hrandfield(context):  # type: ignore[no-untyped-def]
    """HRANDFIELD key [count [WITHVALUES]]"""
    argc, count = context.call[ARGC], _count_argument(context)
    if count == INT64_MIN:
        return 0
    values = 1 if argc == 4 else 0
    key, key_size = argument(context, 1)
    entry = collection_read(context, key, key_size, HASH)
    if entry == OTHER_TYPE:
        return 0
    root, live, hidden = 0, 0, 0
    if entry != 0:
        root = entry_root(context, entry)
        hidden = fields_hidden(context, root)
        live = root_count(context.space, root) - hidden
    if live == 0 or count == 0:
        if argc > 2:
            reply_empty_array(context)
        else:
            reply_null(context)
        return 0
    if goes_aside(context, draws_work(count, live) + (live if hidden > 0 else 0)):
        return BLOCKS
    if hidden > 0:
        _reply_of_live(context, root, live, count if argc > 2 else 0, values)
    elif argc == 2:
        reply_key(context, draw(context, root))
    elif count > 0:
        _reply_distinct(context, root, count, values)
    else:
        _reply_repeated(context, root, -count, values)
    return 0
