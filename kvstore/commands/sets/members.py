"""The members of a set, one after the other, as bytes of the process, whatever the form of the set.

    members_begin(context, root)
    while members_next(context):
        members = members_of(context)       int64[MEMBERS_WORDS], in the shard's scratch memory

    WORD       DESCRIPTION
    KEY, SIZE  the member: an address and a number of bytes, in the form in which the store's kernels take keys
    REFERENCE  the address of its element, or below zero a place in INTS (`member_is`)
    VALUE      the integer, of INTS
    PLACE      of the next integer, of INTS; -1 for the other forms

A member's bytes stay valid until the next member, or until the set changes.  INTS have no text, so the digits are
written into the words behind.  There is one walk at a time.
"""

from kvstore.commands.sets.value import DIGITS_MAX, set_has
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import SCRATCH_ADDRESS
from kvstore.store.collections import held
from kvstore.structures.element import element_is, element_key, element_key_length
from kvstore.structures.ints import INTS_MAX, ints_at, ints_count, ints_find
from kvstore.structures.kinds import INTS, kind_of
from kvstore.structures.walk import WALK_WORDS, walk_begin, walk_next
from kvstore.system.libc import bytes_at, words_at
from kvstore.wire.arguments import parse_integer
from kvstore.wire.numerals import put_decimal
from kvstore.wire.wanted import is_given_up
from mmcore.jit import int64, kernel, linked, view, void

KEY, SIZE, REFERENCE, VALUE, PLACE, _ROOT, _DIGITS = range(WALK_WORDS, WALK_WORDS + 7)  # behind those of walk.py
MEMBERS_WORDS = _DIGITS + 3
_MEMBERS = 32  # in the scratch memory [words]
_PLACE_BITS = 12
assert INTS_MAX <= 1 << _PLACE_BITS and 8 * (MEMBERS_WORDS - _DIGITS) >= DIGITS_MAX


@kernel
def _address(context):  # type: ignore[no-untyped-def]
    return context.shard[SCRATCH_ADDRESS] + 8 * _MEMBERS


@view
def members_of(context):  # type: ignore[no-untyped-def]
    """The walk at hand."""
    return words_at(_address(context), MEMBERS_WORDS)


@linked(void(CONTEXT, int64))
def members_begin(context, root):  # type: ignore[no-untyped-def]
    """Stand before the first member of a set."""
    members = members_of(context)
    members[_ROOT], members[PLACE] = root, 0
    if kind_of(context.space, root) != INTS:
        members[PLACE] = -1
        walk_begin(context.space, root, members)


@linked(int64(CONTEXT))
def members_next(context):  # type: ignore[no-untyped-def]
    """Go on to the next member: 1, or 0 behind the last, or when nobody wants the reply any more."""
    space, members = context.space, members_of(context)
    if is_given_up(context):
        return 0
    place, root = members[PLACE], members[_ROOT]
    if place >= 0:
        if place == ints_count(space, root):
            return 0
        digits, value = _address(context) + 8 * _DIGITS, ints_at(space, root, place)
        members[PLACE], members[VALUE] = place + 1, value
        members[KEY], members[SIZE] = digits, put_decimal(bytes_at(digits, DIGITS_MAX), 0, value)
        members[REFERENCE] = -(root << _PLACE_BITS | place)
        return 1
    element = walk_next(space, members)
    if element == 0:
        return 0
    k = element_key_length(space, element)
    members[KEY], members[SIZE], members[REFERENCE] = held(context, element_key(space, element), k), k, element
    return 1


@linked(int64(CONTEXT, int64))
def member_in(context, root):  # type: ignore[no-untyped-def]
    """Whether the member at hand is in another set, too (1 or 0)."""
    members = members_of(context)
    if members[PLACE] >= 0 and kind_of(context.space, root) == INTS:
        return 1 if ints_find(context.space, root, members[VALUE]) >= 0 else 0
    return set_has(context, root, members[KEY], members[SIZE])


@linked(int64(CONTEXT, int64))
def member_is(context, reference):  # type: ignore[no-untyped-def]
    """Whether the member at hand has the same bytes as one that was met before, by its REFERENCE (1 or 0)."""
    space, members = context.space, members_of(context)
    key, k = members[KEY], members[SIZE]
    if reference > 0:
        return 1 if element_is(space, reference, key, k) else 0
    valid, value = parse_integer(bytes_at(key, k), 0, k)
    root, place = -reference >> _PLACE_BITS, -reference & ((1 << _PLACE_BITS) - 1)
    return 1 if valid and ints_at(space, root, place) == value else 0
