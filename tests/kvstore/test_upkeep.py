"""How much of the work left for later a turn does, by counts: a slice is said to last for ever, or for no time."""

from collections.abc import Iterator

import pytest

from kvstore.net.upkeep import BACKGROUND_PAGES, BACKGROUND_SLICES_MAX, release_memory
from kvstore.store.check_reader import read_words
from kvstore.store.layout import CONTROL_BASE, CONTROL_GRAVE
from kvstore.structures.collection import root_count
from tests.kvstore.bare import Bare

FIELDS = 5000
ENDLESS, NOTHING = 10**15, 0  # cycles a millisecond
HOURS = 10**14  # cycles


@pytest.fixture
def store() -> Iterator[Bare]:
    """One that has just deleted a great hash."""
    with Bare() as made:
        for first in range(0, FIELDS, 100):
            made("HSET", "hash", *[part for i in range(first, first + 100) for part in (f"field:{i}", i)])
        made("DEL", "hash")
        yield made


def buried(store: Bare) -> int:
    """Elements that wait in the grave."""
    record = read_words(store.context, CONTROL_BASE + CONTROL_GRAVE, 1)[0]
    return int(root_count(store.context.space, record)) if record else 0


def test_a_turn_has_room_for_one_slice_however_long_serving_took(store: Bare) -> None:
    store.registers.CYCLES_PER_MS = NOTHING
    left = buried(store)
    assert left == FIELDS
    for _ in range(5):
        assert release_memory(store.context, HOURS) == 1
        done, left = left - buried(store), buried(store)
        assert BACKGROUND_PAGES // 2 < done <= BACKGROUND_PAGES + 36, "one step, which may end within a bucket's chain"


def test_what_a_turn_has_no_room_for_is_credited_and_used(store: Bare) -> None:
    r = store.registers
    r.CYCLES_PER_MS = ENDLESS
    assert release_memory(store.context, 0) == 1, "nothing was served, so it takes one step"
    assert FIELDS - BACKGROUND_PAGES - 36 <= buried(store) < FIELDS and r.BACKGROUND_CREDIT == 0
    r.BACKGROUND_CREDIT = HOURS
    assert release_memory(store.context, 0) == 0 and buried(store) == 0
    assert r.BACKGROUND_CREDIT == 0, "no credit is kept when there is nothing to do"


def test_credit_is_bounded(store: Bare) -> None:
    r = store.registers
    r.CYCLES_PER_MS = 5  # a slice of one cycle
    assert release_memory(store.context, HOURS) == 1
    assert 0 <= r.BACKGROUND_CREDIT < BACKGROUND_SLICES_MAX
