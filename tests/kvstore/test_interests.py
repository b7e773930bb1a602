"""Tables of interests beside a model, and the queue of marks; chains stay short, and memory is given back."""

import ctypes
import random
from collections.abc import Iterator

import numpy as np
import pytest

from kvstore.connections import chained, interests
from kvstore.lifetimes.connection import CHANNELS_COUNT, CHANNELS_FIRST, FIELDS
from kvstore.lifetimes.sizes import INTERESTS_WORDS
from mmcore.jit import int64, linked
from tests.mmcore.support import seeds

CONNECTIONS = 40
SEED = 0xBEE


@linked(int64(int64, int64))
def own_of(table, first):  # type: ignore[no-untyped-def]
    """Number of the topics in a connection's list, which begins with interest `first`, -1 for none."""
    count, at = 0, first
    while at >= 0:
        count += 1
        at = interests.own_next(table, at)
    return count


@linked(int64(int64, int64, int64[::1]))
def slots_of(table, topic, found):  # type: ignore[no-untyped-def]
    """The connections with an interest in a topic, in order; returns how many."""
    count, at = 0, interests.interest_first(table, topic)
    while at >= 0:
        found[count] = interests.interest_at(table, at)[interests.CONNECTION]
        count += 1
        at = interests.interest_next(table, at)
    return count


@linked(int64(int64, int64))
def marked(table, take):  # type: ignore[no-untyped-def]
    """The number of the topic that is first in the queue of marks, -1 for none; and take it out."""
    topic = interests.topic_marked(table)
    if topic < 0:
        return -1
    number = interests.topic_at(table, topic)[interests.NUMBER]
    if take:
        interests.topic_unmark(table)
    return number


@linked(int64(int64))
def topics(table):  # type: ignore[no-untyped-def]
    """topic_count, for Python."""
    return interests.topic_count(table)


@linked(int64(int64))
def memory(table):  # type: ignore[no-untyped-def]
    """Bytes of both arrays and of the names."""
    first = chained.row_memory(table)
    return first + chained.row_memory(table + 8 * chained.HEADER_WORDS) + interests.names_memory(table)


class Interests:
    """A table and the rows of its connections."""

    def __init__(self) -> None:
        self.words = np.zeros(INTERESTS_WORDS, np.int64)
        self.table = self.words.ctypes.data
        self.rows = np.zeros((CONNECTIONS, FIELDS), np.int64)
        self.names: dict[bytes, ctypes.Array[ctypes.c_char]] = {}

    def _place(self, name: bytes) -> int:
        return ctypes.addressof(self.names.setdefault(name, ctypes.create_string_buffer(name, len(name) + 1)))

    @staticmethod
    def hash_of(name: bytes) -> int:
        return hash(name) & 0xFFFF  # many names share a hash

    def add(self, slot: int, number: int, name: bytes) -> int:
        return int(
            interests.interest_add(
                self.table, self.hash_of(name), number, self._place(name), len(name), slot, self.rows[slot],
                CHANNELS_FIRST,
            )
        )  # fmt: skip

    def topic(self, number: int, name: bytes) -> int:
        return int(interests.topic_find(self.table, self.hash_of(name), number, self._place(name), len(name)))

    def end(self, slot: int, number: int, name: bytes) -> None:
        found = interests.interest_find(self.table, self.topic(number, name), slot)
        interests.interest_end(self.table, found, self.rows[slot], CHANNELS_FIRST)

    def listeners(self, number: int, name: bytes) -> list[int]:
        topic = self.topic(number, name)
        if topic < 0:
            return []
        found = np.zeros(CONNECTIONS, np.int64)
        return [int(slot) for slot in found[: slots_of(self.table, topic, found)]]

    def check(self, model: dict[tuple[int, bytes], list[int]]) -> None:
        seen = np.zeros(CONNECTIONS, np.int64)
        assert interests.check_interests(self.table, seen, CONNECTIONS) == sum(map(len, model.values()))
        for slot in range(CONNECTIONS):
            expected = sum(slot in slots for slots in model.values())
            assert seen[slot] == expected == self.rows[slot, CHANNELS_COUNT]
            assert own_of(self.table, int(self.rows[slot, CHANNELS_FIRST]) - 1) == expected
        for (number, name), slots in model.items():
            assert self.listeners(number, name) == slots


@pytest.fixture
def made() -> Iterator[Interests]:
    table = Interests()
    yield table
    for row in table.rows:
        interests.interests_end(table.table, row, CHANNELS_FIRST)


@pytest.mark.parametrize("seed", seeds(3))
def test_a_stream_beside_a_model(made: Interests, seed: int) -> None:
    print("seed", SEED + seed)
    rng = random.Random(SEED + seed)
    names = [b"", b"a", b"b" * 300, *(f"channel:{i}".encode() for i in range(150))]
    model: dict[tuple[int, bytes], list[int]] = {}
    for step in range(3000):
        key, slot = (rng.randrange(2), rng.choice(names)), rng.randrange(CONNECTIONS)
        slots = model.setdefault(key, [])
        growing = (step // 700) % 2 == 0
        if rng.random() < (0.8 if growing else 0.1):
            added = made.add(slot, *key)
            assert (added == -1) == (slot in slots)
            if slot not in slots:
                slots.append(slot)
        elif rng.random() < 0.02:
            interests.interests_end(made.table, made.rows[slot], CHANNELS_FIRST)
            for others in model.values():
                if slot in others:
                    others.remove(slot)
        elif slots:
            gone = rng.choice(slots)
            made.end(gone, *key)
            slots.remove(gone)
        if step % 250 == 0:
            made.check(model)
    made.check(model)


def test_listeners_are_heard_in_the_order_of_arrival(made: Interests) -> None:
    for slot in (5, 2, 9, 7):
        assert made.add(slot, 0, b"news") >= 0
    made.end(9, 0, b"news")
    assert made.add(9, 0, b"news") >= 0
    assert made.listeners(0, b"news") == [5, 2, 7, 9]


def test_names_with_one_hash_or_another_number_are_different_topics(made: Interests) -> None:
    made.add(1, 0, b"key")
    made.add(2, 1, b"key")
    assert made.listeners(0, b"key") == [1]
    assert made.listeners(1, b"key") == [2]
    assert made.topic(2, b"key") == -1


def test_marks_are_taken_in_order_and_keep_their_topic(made: Interests) -> None:
    for number in range(4):
        made.add(number, number, b"key")
    for number in (2, 0, 2, 3):
        interests.topic_mark(made.table, made.topic(number, b"key"))
    made.end(0, 0, b"key")
    assert topics(made.table) == 4, "a marked topic stays until its mark is taken"
    assert made.listeners(0, b"key") == []
    assert [marked(made.table, 1) for _ in range(4)] == [2, 0, 3, -1]
    assert topics(made.table) == 3


def test_a_marked_topic_that_is_wanted_again_is_one_topic(made: Interests) -> None:
    made.add(1, 7, b"key")
    interests.topic_mark(made.table, made.topic(7, b"key"))
    made.end(1, 7, b"key")
    made.add(2, 7, b"key")
    assert made.listeners(7, b"key") == [2]
    assert marked(made.table, 1) == 7
    assert made.listeners(7, b"key") == [2]


def test_memory_is_given_back(made: Interests) -> None:
    for i in range(5000):
        made.add(3, i, f"channel:{i}".encode())
    grown = memory(made.table)
    assert grown > 5000 * 100
    interests.interests_end(made.table, made.rows[3], CHANNELS_FIRST)
    assert memory(made.table) == 2 * 8 * chained.HEADER_WORDS
    assert topics(made.table) == made.rows[3, CHANNELS_COUNT] == made.rows[3, CHANNELS_FIRST] == 0
