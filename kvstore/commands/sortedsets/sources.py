"""The inputs of unions, intersections and differences: sorted sets, and sets, whose members have the score 1.

SOURCE words of an input

WORD     DESCRIPTION
ROOT     of the value; 0 for a key that does not exist
SCORED   1 for a sorted set
SIZE     members
WEIGHT   bits of the double by which scores are multiplied
ORDER    number of the input among the keys given

A MEMBER that a walk stands at: its score's bits (without the weight), its address in the process, its length
"""

from kvstore.commands.sortedsets.gathered import gather_bytes, gather_room
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import SCRATCH_ADDRESS
from kvstore.store.entries import SET, ZSET, entry_root, entry_type
from kvstore.store.lookup import lookup_read
from kvstore.store.scores import element_score
from kvstore.structures.chain import spot_element
from kvstore.structures.chain_find import chain_seek
from kvstore.structures.collection import root_count
from kvstore.structures.element import element_key, element_key_length
from kvstore.structures.ints import ints_at, ints_count, ints_find
from kvstore.structures.kinds import CHAIN, INTS, kind_of
from kvstore.structures.table import table_at, table_find
from kvstore.structures.walk import WALK_WORDS, walk_begin, walk_next
from kvstore.system.libc import bytes_at, words_at
from kvstore.wire.arguments import argument, parse_integer
from kvstore.wire.doubles import bits_of_double, double_of
from kvstore.wire.errors import WRONG_TYPE
from kvstore.wire.numerals import put_decimal
from kvstore.wire.resp import reply_error
from kvstore.wire.wanted import is_given_up
from mmcore.jit import int64, kernel, linked, view, void

ROOT, SCORED, SIZE, WEIGHT, ORDER = range(5)
SOURCE = 5
SCORE, ADDRESS, LENGTH, PLACE = range(4)
MEMBER = 4
MISSING, WITHOUT_ELEMENT = 0, 1  # what source_find answers, beside the address of an element
_STATE = 32  # place of the member and the walk among the words of the scratch memory
_DIGITS = 24  # [bytes] that the text of an integer may take


@view
def source_at(sources, i):  # type: ignore[no-untyped-def]
    """Input i of those at this address, int64[SOURCE]."""
    return words_at(sources + 8 * SOURCE * i, SOURCE)


@view
def member_at_hand(context):  # type: ignore[no-untyped-def]
    """The member that the walk stands at, int64[MEMBER]."""
    return words_at(context.shard[SCRATCH_ADDRESS] + 8 * _STATE, MEMBER)


@view
def _walk(context):  # type: ignore[no-untyped-def]
    return words_at(context.shard[SCRATCH_ADDRESS] + 8 * (_STATE + MEMBER), WALK_WORDS)


@linked(int64(CONTEXT, int64, int64, int64))
def find_sources(context, sources, first, count):  # type: ignore[no-untyped-def]
    """Look up the keys from argument `first` on: 1, or 0 with an error replied."""
    for i in range(count):
        key, key_size = argument(context, first + i)
        entry = lookup_read(context, key, key_size)
        source = source_at(sources, i)
        source[ROOT], source[SCORED], source[SIZE], source[ORDER] = 0, 1, 0, i
        source[WEIGHT] = bits_of_double(1.0)
        if entry != 0:
            type_ = entry_type(context, entry)
            if type_ != ZSET and type_ != SET:
                reply_error(context, WRONG_TYPE)
                return 0
            root = entry_root(context, entry)
            source[ROOT], source[SCORED], source[SIZE] = root, int64(type_ == ZSET), root_count(context.space, root)
    return 1


@linked(void(int64, int64))
def sort_sources(sources, count):  # type: ignore[no-untyped-def]
    """Order inputs by their sizes, as Redis does: so sums of doubles are made in its order."""
    for i in range(1, count):
        j = i
        while j > 0 and source_at(sources, j)[SIZE] < source_at(sources, j - 1)[SIZE]:
            one, other = source_at(sources, j), source_at(sources, j - 1)
            for word in range(SOURCE):
                kept = one[word]
                one[word] = other[word]
                other[word] = kept
            j -= 1


@linked(void(CONTEXT, int64))
def source_begin(context, root):  # type: ignore[no-untyped-def]
    """Stand before the first member of an input."""
    member_at_hand(context)[PLACE] = 0
    if kind_of(context.space, root) != INTS:
        walk_begin(context.space, root, _walk(context))


@linked(int64(CONTEXT, int64, int64))
def source_next(context, root, scored):  # type: ignore[no-untyped-def]
    """Go to the next member: 1, 0 behind the last or when nobody wants the reply any more, or -1 without memory."""
    space, member = context.space, member_at_hand(context)
    if is_given_up(context):
        return 0
    if kind_of(space, root) == INTS:
        if member[PLACE] == ints_count(space, root):
            return 0
        address = gather_room(context, _DIGITS)
        if address == 0:
            return -1
        member[LENGTH] = put_decimal(bytes_at(address, _DIGITS), 0, ints_at(space, root, member[PLACE]))
        member[ADDRESS], member[SCORE] = address, bits_of_double(1.0)
        member[PLACE] += 1
        return 1
    element = walk_next(space, _walk(context))
    if element == 0:
        return 0
    member[LENGTH] = element_key_length(space, element)
    member[ADDRESS] = gather_bytes(context, element_key(space, element), member[LENGTH])
    member[SCORE] = bits_of_double(double_of(element_score(space, element)) if scored else 1.0)
    return 1 if member[ADDRESS] != 0 else -1


@kernel
def source_find(context, root, hash_, key, k):  # type: ignore[no-untyped-def]
    """The element of an input with this key and hash; WITHOUT_ELEMENT for an integer, MISSING without one."""
    space, kind = context.space, kind_of(context.space, root)
    if kind == INTS:
        valid, value = parse_integer(bytes_at(key, k), 0, k)
        return WITHOUT_ELEMENT if valid and ints_find(space, root, value) >= 0 else MISSING
    if kind == CHAIN:
        spot = chain_seek(space, root, key, k)
        return spot_element(space, spot) if spot != 0 else MISSING
    slot = table_find(space, root, hash_, key, k)
    return table_at(space, slot) if slot != 0 else MISSING


@linked(int64(CONTEXT, int64, int64, int64, int64, int64))
def source_score(context, root, scored, hash_, key, k):  # type: ignore[no-untyped-def]
    """The bits of the score of a member; -1, the bits of a NaN, when the input does not have it."""
    element = MISSING if root == 0 else source_find(context, root, hash_, key, k)
    if element == MISSING:
        return -1
    return bits_of_double(double_of(element_score(context.space, element)) if scored else 1.0)
