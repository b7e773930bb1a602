"""The loop moves to another processor when its own is taken away too often, and rests where that is of no use."""

import os

from kvstore.lifetimes.sizes import SCRATCH_WORDS
from kvstore.net.placement import REST_MS, REST_MS_MAX, SWITCHES, judge_place, leave_processor
from mmcore.jit import address_of, int64, zeros
from tests.kvstore.bare import Bare

OFTEN = 1_000_000  # switches, which make any time noisy
MOVES = int(len(os.sched_getaffinity(0)) > 1)  # of one attempt
MS = 2_000_000  # cycles


class Placed(Bare):
    """A loop that looks when a test says so."""

    def __init__(self) -> None:
        super().__init__()
        r = self.registers
        r.CYCLES_PER_MS, r.TIMER_MS, self.now = MS, 1000, 1 << 40
        judge_place(self.context, self.now)
        r.PLACE_STAYS_MS = r.PLACE_REST_MS = r.PLACE_MOVES = 0

    def look(self, switches: int, ms: int = 1) -> int:
        """Look after some time, in which the processor was taken away so often; returns whether the loop moved."""
        before = self.registers.PLACE_MOVES
        self.registers.PLACE_SWITCHES -= switches
        self.now += ms * MS
        judge_place(self.context, self.now)
        return self.registers.PLACE_MOVES - before


def test_it_moves_only_if_the_processor_is_taken_away_too_often() -> None:
    with Placed() as store:
        assert store.look(0, ms=1000) == 0
        assert store.look(1000 * SWITCHES // 2, ms=1000) == 0
        assert store.look(OFTEN, ms=1000) == MOVES


def test_it_rests_for_twice_as_long_after_each_move_that_was_of_no_use() -> None:
    with Placed() as store:
        assert store.look(OFTEN) == MOVES
        assert store.look(OFTEN) == MOVES, "the first move may have been unlucky"
        rest = REST_MS
        for _ in range(14):
            store.registers.TIMER_MS += rest - 1
            assert store.look(OFTEN) == 0
            store.registers.TIMER_MS += 1
            assert store.look(OFTEN) == MOVES
            rest = min(2 * rest, REST_MS_MAX)
        assert rest == REST_MS_MAX
        store.registers.TIMER_MS += REST_MS_MAX
        while rest > 0:
            assert store.look(0, ms=1000) == 0
            rest >>= 1
            assert rest == store.registers.PLACE_REST_MS
        assert [store.look(OFTEN) for _ in range(3)] == [MOVES, MOVES, 0], "after quiet, as at first"


def test_a_move_leaves_the_choice_of_processors_as_it_was() -> None:
    room = zeros(int64, SCRATCH_WORDS)
    allowed = os.sched_getaffinity(0)
    for _ in range(20):
        assert leave_processor(address_of(room)) == (len(allowed) > 1)
        assert os.sched_getaffinity(0) == allowed


def test_it_stays_where_there_is_no_other_processor() -> None:
    allowed = sorted(os.sched_getaffinity(0))
    room = zeros(int64, SCRATCH_WORDS)
    try:
        for here in allowed:
            os.sched_setaffinity(0, {here})
            assert not leave_processor(address_of(room)), "there is no other"
            assert os.sched_getaffinity(0) == {here}
    finally:
        os.sched_setaffinity(0, allowed)
