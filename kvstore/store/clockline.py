"""A line of clocks: sixteen cells in one line of the cache, each a tag and a clock.  clocks.py gives them a meaning.

    OFFSET  SIZE   DESCRIPTION
    0       16     tags, one byte each; 0 for an empty cell
    16      16*3   clocks

The tags lie together, so all are compared at once, as the bytes of two words.  No tag is in a line twice.
"""

from mmcore.jit import bytes32, bytes64, int64, intrinsic, kernel, put32
from mmcore.jit.toolchain import ir

LINE_SIZE = 64  # [bytes]
CELLS = 16  # of a line; as the number of a cell: there is none
CLOCK_BITS = 24
CLOCK_MASK = (1 << CLOCK_BITS) - 1
_CLOCK_SIZE = 3
_BEFORE_CLOCKS = CELLS - 1  # a word whose upper bytes are the first clock
_ONES, _HIGHS = 0x0101_0101_0101_0101, -0x7F7F_7F7F_7F7F_7F80


@intrinsic
def _trailing_zeros(typingctx, word):  # type: ignore[no-untyped-def]
    """How many of the lowest bits are 0; 64 for 0."""

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        return builder.cttz(values[0], ir.Constant(ir.IntType(1), 0))

    return int64(int64), codegen


@kernel
def _equal_byte(word, pattern):  # type: ignore[no-untyped-def]
    # The number of the first byte in which the two are equal; 8 if there is none.
    different = word ^ pattern
    return _trailing_zeros((different - _ONES) & ~different & _HIGHS) >> 3


@kernel
def cell_with(lines, line, tag):  # type: ignore[no-untyped-def]
    """The cell with this tag in the line at offset `line`, CELLS without one; for tag 0 the first empty cell."""
    pattern = tag * _ONES
    first = _equal_byte(bytes64(lines, line), pattern)
    return first if first < 8 else 8 + _equal_byte(bytes64(lines, line + 8), pattern)


@kernel
def cell_tag(lines, line, cell):  # type: ignore[no-untyped-def]
    """The tag of a cell, 0 if it is empty."""
    return int64(lines[line + cell])


@kernel
def cell_clock(lines, line, cell):  # type: ignore[no-untyped-def]
    """The clock of a cell."""
    return bytes32(lines, line + _BEFORE_CLOCKS + _CLOCK_SIZE * cell) >> 8


@kernel
def cell_set_clock(lines, line, cell, clock):  # type: ignore[no-untyped-def]
    """Store a clock, unless it is there already."""
    at = line + _BEFORE_CLOCKS + _CLOCK_SIZE * cell
    word = bytes32(lines, at)
    if word >> 8 != clock:
        put32(lines, at, word & 255 | clock << 8)


@kernel
def cell_set(lines, line, cell, tag, clock):  # type: ignore[no-untyped-def]
    """Store a tag and a clock."""
    lines[line + cell] = tag
    cell_set_clock(lines, line, cell, clock)


@kernel
def cell_clear(lines, line, cell):  # type: ignore[no-untyped-def]
    """Make a cell empty."""
    lines[line + cell] = 0
