"""Removing members that chance chooses from a draft (value.py), and replying with them: what SPOP does.

Frames were reserved for the removals.  Members of INTS and of a chain are decided on one by one, from the last to the
first, with the chance of pops left over members left.  So a removal leaves the places of those to come alone.  From a
record all members are drawn first; an element stays where it is when another is removed.

When few members are left, Redis 7.2 makes a new set of them, and the encoding is what a new set would have.
"""

from kvstore.commands.drawing import draw, draw_distinct
from kvstore.commands.sets.reading import reply_drawn
from kvstore.commands.sets.value import ENCODING, ROOT, draft_of, longest_member, reshape, take_out_at
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import SET_MAX_INTSET_ENTRIES, SET_MAX_LISTPACK_ENTRIES, SET_MAX_LISTPACK_VALUE
from kvstore.lifetimes.store import HASH_SEED
from kvstore.store.collections import held
from kvstore.store.types import COMPACT, INTSET, WIDE
from kvstore.structures.chain import chain_element
from kvstore.structures.collection import root_count
from kvstore.structures.element import element_hash, element_key, element_key_length
from kvstore.structures.kinds import INTS, RECORD, kind_of
from kvstore.structures.table import table_drop, table_find
from kvstore.system.libc import free, words_at
from kvstore.system.random import next_random
from kvstore.wire.resp import reply_set
from mmcore.jit import int64, linked, void

_FEW_LEFT = 5  # times as many were popped


@linked(void(CONTEXT, int64))
def _pop_element(context, element):  # type: ignore[no-untyped-def]
    """Reply with an element of a record, and remove it."""
    space, record = context.space, draft_of(context)[ROOT]
    reply_drawn(context, record, element)
    hash_, k = element_hash(space, element, context.store[HASH_SEED]), element_key_length(space, element)
    slot = table_find(space, record, hash_, held(context, element_key(space, element), k), k)
    assert slot != 0, "an element that was drawn is not in its table"
    table_drop(context.space, record, hash_, slot)


@linked(void(CONTEXT, int64))
def _pop_place(context, place):  # type: ignore[no-untyped-def]
    """Reply with the member at a place of INTS or of a chain, and remove it."""
    space, root = context.space, draft_of(context)[ROOT]
    reply_drawn(context, root, place if kind_of(space, root) == INTS else chain_element(space, root, place))
    take_out_at(context, place)


@linked(void(CONTEXT))
def pop_one(context):  # type: ignore[no-untyped-def]
    """Pop a member."""
    space, root = context.space, draft_of(context)[ROOT]
    if kind_of(space, root) == RECORD:
        _pop_element(context, draw(context, root))
    else:
        _pop_place(context, next_random(context) % root_count(space, root))


@linked(void(CONTEXT))
def _encode_anew(context):  # type: ignore[no-untyped-def]
    """Give the few members that are left the encoding that a new set of them would have."""
    shard, draft = context.shard, draft_of(context)
    left = root_count(context.space, draft[ROOT])
    if draft[ENCODING] == INTSET:
        small = left <= shard[SET_MAX_INTSET_ENTRIES]
    else:
        draft[ENCODING] = COMPACT
        small = left <= shard[SET_MAX_LISTPACK_ENTRIES]
        small = small and longest_member(context, draft[ROOT]) <= shard[SET_MAX_LISTPACK_VALUE]
    if not small:
        reshape(context, WIDE)


@linked(int64(CONTEXT, int64))
def pop_some(context, count):  # type: ignore[no-untyped-def]
    """Pop `count` members, fewer than there are: 1, or 0 with nothing replied when memory ran out."""
    space, root = context.space, draft_of(context)[ROOT]
    total, wanted = root_count(space, root), count
    if kind_of(space, root) == RECORD:
        address = draw_distinct(context, root, count)
        if address == 0:
            return 0
        drawn = words_at(address, count)
        reply_set(context, count)
        for i in range(count):
            _pop_element(context, drawn[i])
        free(address)
    else:
        reply_set(context, count)
        for place in range(total - 1, -1, -1):
            if next_random(context) % (place + 1) < wanted:
                _pop_place(context, place)
                wanted -= 1
    if _FEW_LEFT * (total - count) <= count:
        _encode_anew(context)
    return 1
