"""Whether pieces of memory of two spaces, which share frames, are the same.

An element may be so long that it is compared in steps.  It is one piece of memory or several, which are compared in the
same order in each step.  The state of a comparison (comparing.py) has two words for that.

    begin_pieces(state)                                   at the element, in each step
    compare_piece(x, y, at, other, count, state)          SAME, DIFFERENT, or MORE: the budget is used up
    end_pieces(state)                                     behind it
"""

from kvstore.structures.element import element_key, element_key_length
from mmcore.jit import boolean, equal_bytes, int64, kernel, linked
from mmcore.mmu import read_address
from mmcore.paging import PAGE_MASK, PAGE_SIZE
from mmcore.state import SPACE

SAME, DIFFERENT, MORE = range(3)
# Of the state: what is left of the budget; bytes of the element at hand that are known to be the same, and how many of
# them this step has yet to pass over.
LEFT, _KNOWN, _TO_PASS = range(2, 5)
NEXT_WORD = 5
# The cost of a whole page is 8, or 2 if it is one frame; a short piece costs nothing beside its element.
_COPY_SHIFT, _FRAME_SHIFT = 9, 11


@linked(boolean(SPACE, SPACE, int64, int64, int64))
def same_bytes(x, y, at, other, count):  # type: ignore[no-untyped-def]
    """Whether the `count` bytes at `at` in x are those at `other` in y."""
    memory = x.mem.bytes
    while count > 0:
        piece = min(count, min(PAGE_SIZE - (at & PAGE_MASK), PAGE_SIZE - (other & PAGE_MASK)))
        here, there = read_address(x, at), read_address(y, other)
        if here != there and not equal_bytes(memory, here, memory, there, piece):
            return False
        at += piece
        other += piece
        count -= piece
    return True


@linked(boolean(SPACE, SPACE, int64, int64))
def same_key(x, y, element, other):  # type: ignore[no-untyped-def]
    """Whether two elements have the same key."""
    k = element_key_length(x, element)
    return k == element_key_length(y, other) and same_bytes(x, y, element_key(x, element), element_key(y, other), k)


@kernel
def begin_pieces(state):  # type: ignore[no-untyped-def]
    """Begin with an element, or go on with it."""
    state[_TO_PASS] = state[_KNOWN]


@kernel
def end_pieces(state):  # type: ignore[no-untyped-def]
    """The end of an element."""
    state[_KNOWN] = 0


@linked(int64(SPACE, SPACE, int64, int64, int64, int64[::1]))
def compare_piece(x, y, at, other, count, state):  # type: ignore[no-untyped-def]
    """Compare the next piece of an element, `count` bytes at `at` in x and at `other` in y, from where it ended."""
    memory, passed = x.mem.bytes, min(count, state[_TO_PASS])
    state[_TO_PASS] -= passed
    while passed < count:
        if state[LEFT] <= 0:
            return MORE
        va, its = at + passed, other + passed
        piece = min(count - passed, min(PAGE_SIZE - (va & PAGE_MASK), PAGE_SIZE - (its & PAGE_MASK)))
        here, there = read_address(x, va), read_address(y, its)
        if here == there:
            state[LEFT] -= piece >> _FRAME_SHIFT
        else:
            if not equal_bytes(memory, here, memory, there, piece):
                return DIFFERENT
            state[LEFT] -= piece >> _COPY_SHIFT
        state[_KNOWN] += piece
        passed += piece
    return SAME
