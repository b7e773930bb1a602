"""The MMU: translation, loads, stores and copies, across pages and with sharing."""

import random

import numpy as np
import pytest

from mmcore import ForkMode, check_memory
from mmcore.errors import NOT_PRESENT
from mmcore.mmu import (
    compare,
    copy_in,
    copy_out,
    copy_within,
    load8,
    load32,
    load64,
    read_address,
    store8,
    store32,
    store64,
    write_address,
)
from mmcore.paging import VA_LIMIT
from tests.mmcore.support import MIB2, PAGE, frame_at, machine, scaled, seeds

BASE = MIB2 - 2 * PAGE


def test_an_address_is_the_frame_and_the_offset() -> None:
    _, space = machine()
    space.map(BASE, PAGE)
    expected = frame_at(space, BASE) * PAGE + 77
    for _ in range(2):  # a miss for the read, one for the first write, which sets D, and hits
        assert read_address(space.state, BASE + 77) == expected == write_address(space.state, BASE + 77)
    assert space.counters["tlb_misses"] == 2


@pytest.mark.parametrize("va", [BASE - 1, BASE + PAGE, 0, -1, -PAGE, VA_LIMIT, VA_LIMIT + BASE, 1 << 62, -(1 << 63)])
def test_what_is_not_mapped_or_not_canonical_is_not_present(va: int) -> None:
    _, space = machine()
    space.map(BASE, PAGE)
    assert read_address(space.state, va) == write_address(space.state, va) == NOT_PRESENT


def test_misses_are_counted_and_conflicts_evict() -> None:
    memory, space = machine(tlb_entries=4)
    space.map(BASE, 5 * PAGE)
    for page in (0, 1, 2, 3, 0, 1, 2, 3):
        read_address(space.state, BASE + page * PAGE)
    assert space.counters["tlb_misses"] == 4
    read_address(space.state, BASE + 4 * PAGE)  # in the place of page 0
    read_address(space.state, BASE)
    assert space.counters["tlb_misses"] == 6
    check_memory(memory, [space])


def test_a_write_fault_moves_the_read_translation_too() -> None:
    memory, space = machine()
    space.map(BASE, PAGE)
    child = space.fork(ForkMode.ON_DEMAND)
    before = read_address(space.state, BASE)
    after = write_address(space.state, BASE)
    assert after != before and read_address(space.state, BASE) == after
    assert read_address(child.state, BASE) == before
    check_memory(memory, [space, child])


def test_words_are_little_endian_and_unaligned() -> None:
    _, space = machine()
    space.map(BASE, PAGE)
    state = space.state
    store64(state, BASE + 3, -2)
    assert space.read(BASE + 3, 8) == (-2).to_bytes(8, "little", signed=True)
    assert load64(state, BASE + 3) == -2
    store32(state, BASE + 5, 0x1_89AB_CDEF)
    assert load32(state, BASE + 5) == 0x89AB_CDEF
    assert space.read(BASE + 3, 8) == b"\xfe\xff\xef\xcd\xab\x89\xff\xff"
    store8(state, BASE + 3, 0x3FF)
    assert load8(state, BASE + 3) == 255 and load8(state, BASE + 4) == 255
    store64(state, BASE + PAGE - 8, 1 << 62)
    assert load64(state, BASE + PAGE - 8) == 1 << 62


def test_a_word_does_not_straddle_pages() -> None:
    _, space = machine()
    space.map(BASE, 2 * PAGE)
    for function in (load64, load32):
        with pytest.raises(AssertionError):
            function(space.state, BASE + PAGE - 2)
    with pytest.raises(AssertionError):
        store64(space.state, BASE + PAGE - 7, 1)


def test_loads_and_stores_of_unmapped_pages_are_bugs() -> None:
    _, space = machine()
    with pytest.raises(AssertionError):
        load64(space.state, BASE)
    with pytest.raises(AssertionError):
        store64(space.state, BASE, 1)


@pytest.mark.parametrize("seed", seeds(6))
def test_copies_across_pages_agree_with_a_flat_array(seed: int) -> None:
    memory, space = machine()
    choose, size = random.Random(seed), 6 * PAGE
    space.map(BASE, size)
    flat = bytearray(size)
    children = []
    for step in range(scaled(300, 60)):
        count = choose.choice((0, 1, 7, 100, PAGE, PAGE + 1, 3 * PAGE))
        at = choose.randrange(size - count)
        kind = choose.randrange(4)
        if kind == 0:
            data = np.frombuffer(bytearray(choose.randbytes(count + 5)), np.uint8)
            copy_in(space.state, BASE + at, data, 3, count)
            flat[at : at + count] = data[3 : 3 + count].tobytes()
        elif kind == 1:
            out = np.zeros(count + 9, np.uint8)
            copy_out(space.state, BASE + at, out, 4, count)
            assert out.tobytes() == bytes(4) + flat[at : at + count] + bytes(5)
        elif kind == 2:
            to = choose.randrange(size - count)
            copy_within(space.state, BASE + to, BASE + at, count)
            flat[to : to + count] = flat[at : at + count]
        else:
            other = np.frombuffer(bytearray(b"##" + flat[at : at + count]), np.uint8)
            assert compare(space.state, BASE + at, other, 2, count)
            if count:
                other[2 + choose.randrange(count)] ^= 1 << choose.randrange(8)
                assert not compare(space.state, BASE + at, other, 2, count)
        if step % 40 == 0:
            children.append((space.fork(ForkMode(step // 40 % 2)), bytes(flat)))
    assert space.read(BASE, size) == flat
    for child, frozen in children:
        assert child.read(BASE, size) == frozen
    check_memory(memory, [space, *(child for child, _ in children)])
