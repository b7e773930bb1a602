"""Elements: what is written is read back, short, long and across pages; order and hash are those of the keys."""

import random

import pytest

from kvstore.structures.element import (
    element_alloc,
    element_bytes,
    element_compare,
    element_compare_two,
    element_free,
    element_hash,
    element_is,
    element_key,
    element_key_length,
    element_payload,
    element_payload_length,
    pin,
)
from mmcore import AddressSpace
from mmcore.heap import heap_used
from mmcore.jit import DISABLED, int64, linked
from mmcore.state import SPACE
from tests.kvstore.structures.support import at, memory_of, space_of_heap
from tests.mmcore.support import only

LENGTHS = [0, 1, 5, 127, 128, 129, 1000, 4000, 4085, 4086, 4096, 5000, 9000]


@linked(int64(SPACE, int64, int64))
def part(space, va, which):  # type: ignore[no-untyped-def]
    """A leaf of the module, by number."""
    if which == 0:
        return element_key_length(space, va)
    if which == 1:
        return element_payload_length(space, va)
    if which == 2:
        return element_key(space, va)
    if which == 3:
        return element_payload(space, va)
    return element_bytes(space, va)


@linked(int64(SPACE, int64, int64))
def pinned(space, va, count):  # type: ignore[no-untyped-def]
    """pin, for Python."""
    return pin(space, va, count)


@pytest.fixture
def space() -> AddressSpace:
    return space_of_heap(400)


def made(space: AddressSpace, key: bytes, payload: bytes = b"") -> int:
    va = int(element_alloc(space.state, at(key), len(key), at(payload), len(payload)))
    assert va != 0
    return va


@pytest.mark.parametrize("k", LENGTHS)
def test_an_element_is_read_back(space: AddressSpace, k: int) -> None:
    for p in LENGTHS:
        key, payload = bytes(i * 7 & 255 for i in range(k)), bytes(i * 11 & 255 for i in range(p))
        before = heap_used_of(space)
        va = made(space, key, payload)
        assert part(space.state, va, 0) == k
        assert part(space.state, va, 1) == p
        assert memory_of(space, int(part(space.state, va, 2)), k) == key
        assert memory_of(space, int(part(space.state, va, 3)), p) == payload
        assert part(space.state, va, 4) == k + p + (1 if k < 128 else 4) + (1 if p < 128 else 4)
        assert element_free(space.state, va) == 0
        assert heap_used_of(space) == before


def heap_used_of(space: AddressSpace) -> int:
    return int(used(space.state))


@linked(int64(SPACE))
def used(space):  # type: ignore[no-untyped-def]
    """heap_used, for Python."""
    return heap_used(space)


def test_order_is_that_of_bytes(space: AddressSpace) -> None:
    generator = random.Random(5)
    keys = [b"", b"a", b"ab", b"b", b"\0", b"\xff", b"x" * 4090, b"x" * 4096, b"x" * 5000, b"x" * 4999 + b"y"]
    keys += [generator.randbytes(generator.randrange(9)) for _ in range(20 if DISABLED else 60)]
    elements = [made(space, key, b"payload") for key in keys]
    for key, va in zip(keys, elements, strict=True):
        for other, other_va in zip(keys, elements, strict=True):
            expected = (key > other) - (key < other)
            assert element_compare(space.state, va, at(other), len(other)) == expected
            assert element_compare_two(space.state, va, other_va) == expected
            assert bool(element_is(space.state, va, at(other), len(other))) == (key == other)


def test_the_hash_is_that_of_the_key_alone_across_pages_too(space: AddressSpace) -> None:
    for key in (b"", b"field", b"k" * 300, b"k" * 9000):
        first, second = made(space, key, b"1"), made(space, key, b"another payload")
        assert element_hash(space.state, first, 77) == element_hash(space.state, second, 77)
        assert element_hash(space.state, first, 77) != element_hash(space.state, first, 78)


def test_a_pin_is_the_address_of_bytes_in_one_page(space: AddressSpace) -> None:
    import ctypes

    va = made(space, b"field", b"value")
    assert ctypes.string_at(int(pinned(space.state, va + 2, 10)), 10) == b"fieldvalue"
    long = made(space, b"k" * 9000)
    assert pinned(space.state, long, 9000) == 0


def test_without_frames_nothing_changes(space: AddressSpace) -> None:
    key = b"k" * 20_000
    with only(space.memory, 10):
        assert element_alloc(space.state, at(key), len(key), 0, 0) == 0
    va = made(space, key)
    assert memory_of(space, va + 5, 20_000) == key
