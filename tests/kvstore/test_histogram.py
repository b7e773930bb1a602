"""Histograms of cycles: every number has one cell, cells are narrow, and the counts read are those counted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.observe.histogram import CELLS, CYCLES_MAX, Histogram, Scale, cell_of, upper_end

UPPER_ENDS = np.array([upper_end(cell) for cell in range(CELLS)])
LOWER_ENDS = np.concatenate(([0], UPPER_ENDS[:-1] + 1))


@given(st.integers(0, CYCLES_MAX))
@settings(deadline=None)  # the first call compiles
def test_a_number_is_between_the_ends_of_its_cell(cycles: int) -> None:
    cell = cell_of(cycles)
    assert LOWER_ENDS[cell] <= cycles <= UPPER_ENDS[cell]


def test_cells_at_their_ends() -> None:
    for cell in range(CELLS):
        assert (cell_of(int(LOWER_ENDS[cell])), cell_of(int(UPPER_ENDS[cell]))) == (cell, cell)
    assert UPPER_ENDS[-1] == CYCLES_MAX
    assert [cell_of(cycles) for cycles in (0, 63, 64, 65, 66, 127, 128, 131)] == [0, 63, 64, 64, 65, 95, 96, 96]


def test_a_cell_is_at_most_a_thirtysecond_wide() -> None:
    widths = UPPER_ENDS - LOWER_ENDS + 1
    assert (widths[64:] * 32 <= LOWER_ENDS[64:]).all()
    assert (widths[:64] == 1).all()


@pytest.mark.parametrize("cycles", [CYCLES_MAX + 1, 1 << 62, (1 << 63) - 1])
def test_what_takes_for_ever_is_in_the_last_cell(cycles: int) -> None:
    assert cell_of(cycles) == CELLS - 1


def counted(*cycles: int) -> np.ndarray:
    counts = np.zeros(CELLS, np.int64)
    for one in cycles:
        counts[cell_of(one)] += 1
    return counts


def test_percentiles_are_the_upper_ends_of_cells() -> None:
    histogram = Histogram(counted(*range(1, 51), *[1000] * 49, 100_000), Scale(10.0))
    assert histogram.calls == 100
    assert histogram.percentile(0) == 0.1
    assert histogram.percentile(50) == 5.0
    assert histogram.percentile(51) == UPPER_ENDS[cell_of(1000)] / 10
    assert histogram.percentile(99) == UPPER_ENDS[cell_of(1000)] / 10
    assert histogram.percentile(99.9) == UPPER_ENDS[cell_of(100_000)] / 10
    assert histogram.percentile(100) == UPPER_ENDS[cell_of(100_000)] / 10


def test_times_are_those_of_redis_and_numbers_are_cumulated() -> None:
    us = 10  # cycles
    calls = [time * us for time in (0, 1, 1, 3, 15, 30, 60, 120, 250, 500, 1000, 2_000_000)]
    assert list(Histogram(counted(*calls), Scale(us)).cumulated()) == [
        (1, 3),
        (4, 4),
        (16, 5),
        (33, 6),
        (66, 7),
        (132, 8),
        (264, 9),
        (528, 10),
        (1056, 11),
        (2164260, 12),
    ]
    assert list(Histogram(counted(), Scale(us)).cumulated()) == []
