"""The machines that the paper's measurements are made on, and what is made of the times."""

import numpy as np
import pytest

from bench.paging.fork import Forks, fork_in_turn
from bench.paging.whole import crossings
from bench.rig import osfork
from bench.rig.machine import (
    ADDRESS,
    LAYOUTS,
    MIB,
    MODES,
    aliased,
    clock_note,
    describe_readings,
    first_writes,
    lay_out,
    new_clock,
    page_fault_ns,
    pages_of,
    timed_forks,
    timed_release,
    timed_whole,
    written,
)
from mmcore import ForkMode, check_memory
from mmcore.paging import PAGE_SIZE, PT_SPAN
from mmcore.release import CURSOR_SIZE, release

SIZE = 4 * MIB


def test_a_written_space_has_all_its_pages_and_room_beside_them() -> None:
    with written(SIZE, SIZE) as space:
        assert space.usage().rss == space.usage().private_dirty == SIZE
        assert space.memory.frames_free * PAGE_SIZE >= SIZE
        check_memory(space.memory, [space])


@pytest.mark.parametrize("size", [2 * SIZE, 64 * SIZE, 1025 * MIB & -PT_SPAN])
def test_aliased_page_tables_are_real_and_full_and_their_pages_shared(size: int) -> None:
    with aliased(size, SIZE) as space:
        usage = space.usage()
        assert usage.rss == size
        assert usage.private_dirty == 0
        assert usage.tables_private >= size // PT_SPAN
        assert usage.pss == pytest.approx(SIZE)
        check_memory(space.memory, [space])
        for address in (ADDRESS, ADDRESS + SIZE, ADDRESS + size - SIZE):
            assert space.read(address, 4) == b"M\0\0\0"


@pytest.mark.parametrize("mode", list(ForkMode))
def test_an_aliased_space_is_forked_and_released_like_any_other(mode: ForkMode) -> None:
    with aliased(16 * SIZE, SIZE) as space:
        before = space.memory.frames_free
        child = space.fork(mode)
        check_memory(space.memory, [space, child])
        child.exit()
        assert space.memory.frames_free == before
        space.exit()
        assert space.memory.frames_free == space.memory.frames_total


def test_huge_pages_are_aliased_by_page_directories() -> None:
    with aliased(4 << 30, 1 << 30, huge=True) as space:
        assert space.usage().anon_huge_pages == 4 << 30
        assert space.usage().pss == 1 << 30
        child = space.fork(ForkMode.CLASSIC)
        child.exit()
        space.exit()
        assert space.memory.frames_free == space.memory.frames_total


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pages_are_laid_out_anew_with_nothing_lost(layout: str) -> None:
    with written(SIZE, SIZE) as space:
        free = space.memory.frames_free
        lay_out(space, SIZE, layout, np.random.default_rng(1))
        assert space.memory.frames_free == free
        assert space.usage().private_dirty == SIZE
        assert space.read(ADDRESS + SIZE - PAGE_SIZE, 1) == b"M"
        check_memory(space.memory, [space])


def test_first_writes_are_timed_one_by_one_with_the_tables_they_copy() -> None:
    with written(SIZE, SIZE) as space:
        tables = {
            name: first_writes(space, mode, pages_of(SIZE, np.random.default_rng(1)))[1] for name, mode in MODES.items()
        }
        assert tables["classic"].sum() == 0
        assert sorted(tables["on-demand"])[-2:] == [1, 1] and tables["on-demand"].sum() == SIZE // PT_SPAN
        assert sorted(tables["constant"])[-2:] == [1, 3]
        check_memory(space.memory, [space])


def test_the_whole_is_timed_on_the_way() -> None:
    marks, buffer = np.zeros(5, np.int64), np.full(PAGE_SIZE, 9, np.uint8)
    with written(SIZE, SIZE) as space:
        root = int(
            timed_whole(space.state, ForkMode.ON_DEMAND, pages_of(SIZE), PAGE_SIZE, 2, buffer, marks, new_clock())
        )
        assert (np.diff(marks) > 0).all() and marks[0] > 0
        assert space.counters["pages_copied"] == SIZE // PAGE_SIZE // 2
        release(space.memory, root)
        check_memory(space.memory, [space])


def test_forks_go_on_until_their_time_is_up_or_there_is_no_room_for_more() -> None:
    times, cursor, clock = np.zeros(10, np.int64), np.zeros(CURSOR_SIZE, np.int64), new_clock()
    with written(SIZE) as space:
        free = space.memory.frames_free
        assert timed_forks(space.state, ForkMode.CLASSIC, 0, 1 << 62, times, cursor, clock) == 10
        assert (times > 0).all()
        assert timed_forks(space.state, ForkMode.CLASSIC, 0, 1, times, cursor, clock) == 0
        assert space.memory.frames_free == free


def test_a_release_is_timed_step_by_step() -> None:
    times = np.zeros(100, np.int64)
    with written(SIZE) as space:
        ending = space.exit_begin()
        steps = int(timed_release(space.memory.state, ending.cursor, 100, times, new_clock()))
        assert steps >= SIZE // PAGE_SIZE // 100
        assert (times[:steps] > 0).all()
        assert space.memory.frames_free == space.memory.frames_total


def test_modes_are_forked_in_turn_both_ways() -> None:
    found = Forks()
    with written(SIZE) as space:
        fork_in_turn(space, MODES, 1.0, 3, found)
    assert {len(times[1.0]) for times in found.times.values()} == {3}
    assert len(found.times) == 2 * len(MODES)


def test_the_yardstick_is_a_time() -> None:
    assert page_fault_ns(SIZE, 1) > 0


def test_the_clock_is_told_with_what_interrupted_it() -> None:
    quiet, stopped = np.full(99, 20), np.array([20] * 97 + [30_000, 50_000])
    assert describe_readings(quiet) == (
        "a reading of the clock takes 20 ns, part of every time in the kernel; in 0.0 s of nothing else the machine "
        "stopped it 0 times for more than 10 us"
    )
    assert describe_readings(stopped).endswith(
        "stopped it 2 times for more than 10 us, 40 us in the median and 50 us at worst"
    )
    assert "a reading of the clock takes" in clock_note()


@pytest.mark.parametrize("question", sorted(osfork.QUESTIONS))
def test_the_operating_system_answers_every_question_once_a_repetition(question: str) -> None:
    assert len(osfork.measure(question, SIZE, 2, "normal")) == 2
    assert len(osfork.measure(question, SIZE, 2, "huge", at_once=2)) == 4


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ([0.1, 0.5, 0.9, 0.95], []),
        ([0.1, 0.5, 1.5, 1.6], [15.0]),
        ([0.5, 1.5, 0.5], [5.0, 15.0]),
        ([0.9, 0.99, 1.01, 0.99, 0.9], []),  # within the noise
        ([0.9, 1.0, 1.1], [10.0]),
        ([0.9, 0.99, 1.01, 1.2], [15.0]),
        ([1.0, 1.0], []),
    ],
)
def test_a_curve_crosses_where_it_clearly_changes_sides(ratios: list[float], expected: list[float]) -> None:
    assert expected == pytest.approx(crossings(np.arange(len(ratios)) * 10.0, np.array(ratios), noise=0.02))
