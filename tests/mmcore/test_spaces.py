"""Spaces that kernels open and close: their rows, their generations, and what they share."""

import ctypes
import random

import numpy as np
import pytest

from mmcore import AddressSpace, Caches, ForkMode, PhysicalMemory, check_memory
from mmcore.account import usage
from mmcore.errors import NO_SPACE
from mmcore.fork import CONSTANT, fork
from mmcore.holdings import held
from mmcore.processor import Processor
from mmcore.release import release
from mmcore.spaces import SPACE_WORDS, space_close, space_open
from mmcore.state import (
    CPU_REGISTERS,
    CR3,
    EPOCH,
    FROZEN,
    GENERATION,
    LAST_GENERATION,
    SPACE,
    Space,
)
from mmcore.tlb import GENERATION_LIMIT, GENERATION_ONE
from tests.mmcore.support import GIB, PAGE, scaled, seeds
from tests.mmcore.test_streams import HUGE, SMALL, Stream

ROWS = 6


class Opened:
    """A space that a kernel has opened beside another one."""

    def __init__(self, beside: AddressSpace, frozen: bool = False) -> None:
        self.memory, state = beside.memory, beside.state
        self.root = int(fork(state, CONSTANT))
        assert self.root >= 0
        self.record = np.zeros(SPACE_WORDS, np.int64)
        source = np.ctypeslib.as_array((ctypes.c_int64 * SPACE_WORDS).from_address(state.address))
        self.code = int(space_open(state, source, self.record, self.root, int(frozen)))
        if self.code == 0:
            at = SPACE.offset("cpu")
            words = (ctypes.c_int64 * CPU_REGISTERS).from_address(int(self.record[at]))
            self.cpu = np.ctypeslib.as_array(words)
            self.row = (int(self.record[at]) - int(self.record[SPACE.offset("spaces")])) // (8 * CPU_REGISTERS)
            self.space = AddressSpace.__new__(AddressSpace)
            self.space.memory, self.space.processor = self.memory, beside.processor
            self.space._state = Space(state.mem, state.tlb, state.psc, state.processor, state.spaces, self.cpu)

    def load(self, va: int) -> int:
        """A word."""
        return int.from_bytes(self.space.read(va, 8), "little")

    def store(self, va: int, word: int) -> None:
        """Write a word."""
        self.space.write(va, word.to_bytes(8, "little"))

    def close(self) -> None:
        """Close it, and release its tree."""
        release(self.memory, int(space_close(self.space.state)))


def machine(rows: int = ROWS, frames: int = 400) -> AddressSpace:
    """A space with two words, on a processor of a few rows."""
    memory = PhysicalMemory(frames * PAGE, huge_pages=False, poison=True)
    space = AddressSpace(memory, processor=Processor(Caches(64, pml4=1, pdpte=2, pde=4), rows))
    space.map(GIB, 4 * PAGE)
    space.write(GIB, b"\1" + bytes(7))
    return space


def test_an_opened_space_has_what_was_there_and_goes_its_own_way() -> None:
    space = machine()
    one, frozen = Opened(space), Opened(space, frozen=True)
    assert (one.load(GIB), frozen.load(GIB)) == (1, 1)
    one.store(GIB, 2)
    space.write(GIB, b"\3" + bytes(7))
    assert (one.load(GIB), frozen.load(GIB), space.read(GIB, 1)) == (2, 1, b"\3")
    assert (int(one.cpu[FROZEN]), int(frozen.cpu[FROZEN])) == (0, 1)
    assert one.cpu[CR3] == one.root and one.cpu[EPOCH] <= space.epoch
    check_memory(space.memory, [space, one.space, frozen.space])
    one.close()
    frozen.close()
    check_memory(space.memory, [space])


def test_a_frozen_space_is_not_written() -> None:
    space = machine()
    frozen = Opened(space, frozen=True)
    with pytest.raises(AssertionError):
        frozen.store(GIB, 2)
    assert frozen.load(GIB) == 1


def test_rows_end_and_are_used_again() -> None:
    space = machine(rows=3)
    one, other = Opened(space), Opened(space)
    assert sorted((one.row, other.row)) == [1, 2]
    refused = Opened(space)
    assert refused.code == NO_SPACE
    assert not refused.record.any()
    check_memory(space.memory, [space, one.space, other.space], [refused.root])
    release(space.memory, refused.root)
    row = one.row
    one.close()
    again = Opened(space)
    assert (again.code, again.row) == (0, row)
    again.close()
    other.close()
    check_memory(space.memory, [space])


def test_a_space_in_the_row_of_another_sees_none_of_its_translations() -> None:
    """The row has another generation each time, and no generation is given twice."""
    space = machine(rows=2)
    given = {int(space.state.cpu[GENERATION])}
    for turn in range(50):
        one = Opened(space)
        assert one.row == 1
        assert int(one.cpu[GENERATION]) not in given
        given.add(int(one.cpu[GENERATION]))
        assert one.load(GIB) == 1
        one.store(GIB, 100 + turn)
        assert (one.load(GIB), space.read(GIB, 1)) == (100 + turn, b"\1")
        given.add(int(space.state.cpu[GENERATION]))
        one.close()
    check_memory(space.memory, [space])


def test_generations_are_renumbered_while_spaces_are_open() -> None:
    space = machine()
    opened = [Opened(space) for _ in range(3)]
    for number, one in enumerate(opened):
        one.store(GIB, 10 + number)
    space.state.processor[LAST_GENERATION] = GENERATION_LIMIT - 2 * GENERATION_ONE
    for turn in range(6):
        more = Opened(space)
        generations = [int(one.cpu[GENERATION]) for one in (*opened, more)] + [int(space.state.cpu[GENERATION])]
        assert len(set(generations)) == 5 and all(0 < generation < GENERATION_LIMIT for generation in generations)
        more.store(GIB, 50 + turn)
        assert [one.load(GIB) for one in (*opened, more)] == [10, 11, 12, 50 + turn]
        assert space.read(GIB, 1) == b"\1"
        check_memory(space.memory, [space, *(one.space for one in (*opened, more))])
        more.close()
    assert int(space.state.processor[LAST_GENERATION]) < GENERATION_LIMIT // 2
    for one in opened:
        one.close()
    check_memory(space.memory, [space])


def test_a_thousand_spaces_leave_no_frame() -> None:
    space = machine()
    space.read(GIB, 1)
    before = space.memory.frames_free
    generator = random.Random(1)
    live: list[Opened] = []
    for turn in range(scaled(1000, 60)):
        if len(live) == ROWS - 1 or (live and generator.random() < 0.4):
            live.pop(generator.randrange(len(live))).close()
        else:
            live.append(Opened(space, frozen=generator.random() < 0.3))
            if not live[-1].cpu[FROZEN]:
                live[-1].store(GIB + PAGE * generator.randrange(4), turn)
        if turn % 100 == 0:
            check_memory(space.memory, [space, *(one.space for one in live)])
    for one in live:
        one.close()
    space.write(GIB, b"\1")  # the tables that are its own again are told so by a write
    check_memory(space.memory, [space])
    assert space.memory.frames_free == before


@pytest.mark.parametrize("seed", seeds(6))
def test_holdings_are_those_of_the_account(seed: int) -> None:
    """After forks of all modes, in random trees: the kernel's sums are those of account.py."""
    stream = Stream(seed, 4096, 64, tuple(ForkMode), SMALL if seed % 2 else HUGE)
    for number in range(scaled(60, 30)):
        stream.step()
        if number % 6:
            continue
        for space, _ in stream.live:
            known = usage(space.state.mem, space.root)
            got = held(space.state.mem, space.root)
            shared = known.shared_clean + known.shared_dirty
            private = known.private_clean + known.private_dirty
            assert tuple(got) == (known.rss, shared, private, known.tables_shared, known.tables_private)
