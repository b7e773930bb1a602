"""Memory taken from the system before it is needed."""

import ctypes
import os
import time

import numpy as np
import pytest

from mmcore import AddressSpace, PhysicalMemory, check_memory
from mmcore.jit import DISABLED, address_of
from mmcore.paging import PAGE_SIZE, RUN_FRAMES
from mmcore.populate import Populator, is_populated, populate_now
from mmcore.state import FRESH

pytestmark = pytest.mark.skipif(DISABLED, reason="without the compiler there is no such thread")
SIZE = 64 << 20
AHEAD = 4 << 20
PAGES_AHEAD = AHEAD // PAGE_SIZE
_libc = ctypes.CDLL(None, use_errno=True)


def resident(memory: PhysicalMemory) -> np.ndarray:
    """bool[F]: whether the system has given the frame."""
    seen = (ctypes.c_ubyte * memory.frames_total)()
    address = ctypes.c_void_p(address_of(memory.state.bytes))
    assert _libc.mincore(address, ctypes.c_size_t(memory.size), seen) == 0
    return np.frombuffer(seen, np.uint8) & 1 != 0


def await_watermark(populator: Populator, frame: int) -> None:
    deadline = time.monotonic() + 180
    while populator.watermark < frame:
        assert populator.running, "the system does not offer it"
        assert time.monotonic() < deadline, (populator.watermark, frame)
        time.sleep(0.005)


def test_frames_are_there_before_they_are_used_and_no_more_than_asked_for():
    memory = PhysicalMemory(SIZE, huge_pages=False)
    space = AddressSpace(memory)
    with Populator(memory, AHEAD) as populator:
        for round_ in range(4):
            fresh = int(memory.state.frames[FRESH])
            await_watermark(populator, fresh + PAGES_AHEAD)
            there = resident(memory)
            assert there[fresh : fresh + PAGES_AHEAD].all()
            assert not there[fresh + PAGES_AHEAD :].any()
            space.map((1 + round_) << 30, 1500 * PAGE_SIZE)
            check_memory(memory, [space])
        assert space.read(1 << 30, 1500 * PAGE_SIZE) == bytes(1500 * PAGE_SIZE)


def test_it_says_whether_the_next_frames_are_there():
    memory = PhysicalMemory(SIZE)
    with Populator(memory, AHEAD) as populator:
        await_watermark(populator, PAGES_AHEAD)
        control = populator._control
        assert populator.control == address_of(control)
        assert is_populated(memory.state, control, 64)
        assert not is_populated(memory.state, control, PAGES_AHEAD + 1)
    assert is_populated(memory.state, control, PAGES_AHEAD + 1), "nobody will populate them"
    assert populator.control == 0


def test_it_stops_at_the_end_of_memory():
    memory = PhysicalMemory(AHEAD // 2)
    space = AddressSpace(memory)
    with Populator(memory, AHEAD) as populator:
        await_watermark(populator, memory.frames_total)
        space.map(0, (memory.frames_free - 10) * PAGE_SIZE)
        time.sleep(0.03)
        assert populator.running
        assert populator.watermark == memory.frames_total
    assert not populator.running


def test_what_was_written_meanwhile_stays():
    memory = PhysicalMemory(SIZE)
    space = AddressSpace(memory)
    with Populator(memory, 64 << 20):
        for page in range(3000):
            space.map((1 << 30) + page * PAGE_SIZE, PAGE_SIZE)
            space.write((1 << 30) + page * PAGE_SIZE, b"%d" % page)
    for page in range(3000):
        expected = b"%d" % page
        assert space.read((1 << 30) + page * PAGE_SIZE, len(expected)) == expected
    check_memory(memory, [space])


@pytest.mark.skipif(
    tuple(map(int, os.uname().release.split(".")[:2])) < (6, 7), reason="an older Linux puts a mapping anywhere"
)
def test_the_blocks_of_a_memory_of_whole_huge_pages_are_those_of_the_system():
    for count in (1, 3, 500):
        memory = PhysicalMemory(count * RUN_FRAMES * PAGE_SIZE)
        assert address_of(memory.state.bytes) % (RUN_FRAMES * PAGE_SIZE) == 0


def test_closing_twice_is_closing_once():
    populator = Populator(PhysicalMemory(SIZE))
    populator.close()
    populator.close()
    assert not populator.running


def test_one_who_waits_for_frames_ends_its_pause() -> None:
    """Its pause is an hour here, so it is the call that wakes it."""
    memory = PhysicalMemory(SIZE, huge_pages=False)
    with Populator(memory, AHEAD, pause_ms=3_600_000) as populator:
        await_watermark(populator, PAGES_AHEAD)
        for frame in range(1, 4):
            memory.state.frames[FRESH] = frame
            populate_now(populator._control)
            await_watermark(populator, frame + PAGES_AHEAD)
        memory.state.frames[FRESH] = 0
