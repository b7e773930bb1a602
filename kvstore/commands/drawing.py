"""Drawing elements of a collection at random: what HRANDFIELD, SRANDMEMBER, SPOP and ZRANDMEMBER share.

A draw is the reference of an element (kvstore/structures/element.py); of INTS (kvstore/structures/ints.py) it is a
place.  Every element has the same chance, and so has every set of distinct elements.

Distinct draws.  Where they are more than a third of the elements, or the collection is small, a walk decides at each
element whether to take it: with the chance of draws left over elements left (Knuth's algorithm S).  Otherwise elements
are drawn one by one, and those that were drawn before are noted in a table of addresses and passed over.
"""

from kvstore.lifetimes.context import CONTEXT
from kvstore.structures.chain import chain_count, chain_element
from kvstore.structures.collection import root_count
from kvstore.structures.kinds import CHAIN, INTS, kind_of
from kvstore.structures.table import table_random
from kvstore.structures.walk import WALK_WORDS, walk_begin, walk_next
from kvstore.system.libc import free, malloc, words_at
from kvstore.system.random import next_random
from mmcore.jit import int64, kernel, linked

DRAWS_MAX = 1 << 26  # that may repeat, in one reply: more would fill the memory of the server


@kernel
def draws_work(count, elements):  # type: ignore[no-untyped-def]
    """The work of drawing `count` of so many elements, as `goes_aside` counts it; below zero they may repeat."""
    return 2 * min(count, elements) if count > 0 else 2 * min(-max(count, -DRAWS_MAX), DRAWS_MAX)


@linked(int64(CONTEXT, int64))
def draw(context, root):  # type: ignore[no-untyped-def]
    """A random element of a collection that is not empty."""
    space, kind = context.space, kind_of(context.space, root)
    if kind == INTS:
        return next_random(context) % root_count(space, root)
    if kind == CHAIN:
        return chain_element(space, root, next_random(context) % chain_count(space, root))
    while True:
        element = table_random(space, root, next_random(context))
        if element != 0:
            return element


@linked(int64(CONTEXT, int64, int64, int64))
def _draw_by_walk(context, root, count, out):  # type: ignore[no-untyped-def]
    """Write `count` distinct elements to the words at `out`, deciding at each element in turn."""
    space, left, drawn = context.space, root_count(context.space, root), words_at(out, count)
    walk, place, done = words_at(out + 8 * count, WALK_WORDS), 0, 0
    ints = kind_of(space, root) == INTS
    if not ints:
        walk_begin(space, root, walk)
    while done < count:
        element = place if ints else walk_next(space, walk)
        if next_random(context) % left < count - done:
            drawn[done] = element
            done += 1
        left -= 1
        place += 1
    return done


@linked(int64(CONTEXT, int64, int64, int64))
def _draw_apart(context, root, count, out):  # type: ignore[no-untyped-def]
    """Write `count` distinct elements to the words at `out`, drawn one by one: 1, or 0 when memory ran out."""
    slots = 16
    while slots < 2 * count:
        slots *= 2
    address = malloc(8 * slots)
    if address == 0:
        return 0
    seen, drawn, done = words_at(address, slots), words_at(out, count), 0
    for i in range(slots):
        seen[i] = 0
    while done < count:
        element = draw(context, root)
        at = (element >> 3) * 0x9E37_79B1 & (slots - 1)
        while seen[at] != 0 and seen[at] != element:
            at = (at + 1) & (slots - 1)
        if seen[at] == 0:
            seen[at] = element
            drawn[done] = element
            done += 1
    free(address)
    return 1


@linked(int64(CONTEXT, int64, int64))
def draw_distinct(context, root, count):  # type: ignore[no-untyped-def]
    """`count` distinct elements: the address of words, which the caller frees; 0 without memory.

    They come in no particular order.
    """
    out = malloc(8 * (count + WALK_WORDS))
    if out == 0:
        return 0
    if kind_of(context.space, root) in (INTS, CHAIN) or 3 * count > root_count(context.space, root):
        _draw_by_walk(context, root, count, out)
    elif _draw_apart(context, root, count, out) == 0:
        free(out)
        return 0
    return out
