"""The entry format and the fields of an address, as paging.py draws them."""

import numpy as np
import pytest

from mmcore.paging import (
    ADDRESS,
    COW,
    MAPPING,
    PAGE_SIZE,
    PCD,
    PS,
    PWT,
    RW,
    US,
    WRITE_PROTECT,
    XD,
    A,
    D,
    G,
    P,
    entry_for,
    frame_of,
    slot_of,
    span,
    table_index,
    table_of,
)
from tests.mmcore.support import GIB, GIB512, MIB2

EXAMPLE = (5 << 39) | (6 << 30) | (7 << 21) | (8 << 12) | 9


def test_the_flags_stand_where_the_manual_has_them() -> None:
    assert [int(flag).bit_length() - 1 for flag in (P, RW, US, PWT, PCD, A, D, PS, G, COW, XD)] == [
        0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 63,
    ]  # fmt: skip
    assert int(ADDRESS) == ((1 << 52) - 1) & ~(PAGE_SIZE - 1)
    assert WRITE_PROTECT == ~RW and MAPPING & (P | RW | US | COW) == MAPPING


@pytest.mark.parametrize(("level", "index"), [(4, 5), (3, 6), (2, 7), (1, 8)])
def test_an_address_is_four_indices(level: int, index: int) -> None:
    assert table_index(EXAMPLE, level) == index
    assert slot_of(3, EXAMPLE, level) == 3 * 512 + index
    assert table_of(slot_of(3, EXAMPLE, level)) == 3


def test_spans_of_entries() -> None:
    assert [span(level) for level in (1, 2, 3, 4)] == [PAGE_SIZE, MIB2, GIB, GIB512]


@pytest.mark.parametrize("frame", [0, 1, 0x12345, (1 << 40) - 1])
def test_entry_for_and_frame_of_are_inverse(frame: int) -> None:
    entry = entry_for(frame, MAPPING | XD)
    assert int(entry) == frame << 12 | int(MAPPING) | 1 << 63
    assert isinstance(np.uint64(entry), np.uint64) and frame_of(np.uint64(entry)) == frame
