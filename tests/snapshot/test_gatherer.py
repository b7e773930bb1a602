"""The thread that gathers in idle time: the same images with it and without it, and nobody waits for it for long."""

import os
import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from mmcore import AddressSpace, PhysicalMemory, check_memory
from mmcore.fork import CONSTANT, fork
from mmcore.jit import DISABLED, address_of, int64, uint8, zeros
from mmcore.paging import PAGE_SIZE, PT_SPAN
from mmcore.release import CURSOR_SIZE, RELEASED, release_begin, release_step
from snapshot import gatherer as module
from snapshot import writer as writer_module
from snapshot.errors import WriteFailed
from snapshot.frozen import FrozenSpace
from snapshot.gatherer import Gatherer
from snapshot.snapshotter import Snapshotter
from snapshot.writer import Job, Outcome, Writer
from tests.snapshot.faults import WAIT_S, FaultyFiles, Gate, raising

pytestmark = pytest.mark.skipif(DISABLED, reason="without the compiler there is no such thread")
CHUNK = 4 * PAGE_SIZE
PER_GROUP = CHUNK // PAGE_SIZE
SIZE = 32 << 20
BASE = 0x1000_0000
SHAPES = {
    "no pages": [],
    "a page": [(0, 1)],
    "a group": [(0, PER_GROUP)],
    "a group and a page": [(0, PER_GROUP + 1)],
    "many short runs": [(7 * n, 1 + n % 5) for n in range(60)],
    "runs longer than a group": [(0, 5 * PER_GROUP + 3), (700, 2 * PER_GROUP), (2000, 1000)],
}


class Held(Gatherer):
    """Its thread gets no time while `held`: what would wake it is put off until `let_go`."""

    def __init__(self, *arguments: Any) -> None:
        self.held = False
        self.asked = 0
        super().__init__(*arguments)

    def _ring(self) -> None:
        self.asked += 1
        if not self.held:
            super()._ring()

    def let_go(self) -> None:
        """Let it answer late, and wait until it has."""
        self.held = False
        super()._ring()
        deadline = time.monotonic() + WAIT_S
        while self.pending:
            assert time.monotonic() < deadline
            time.sleep(0.001)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(writer_module, "Gatherer", Held)
    monkeypatch.setattr(module, "PATIENCE_MS", WAIT_S * 1000)  # no test depends on the load


@pytest.fixture
def memory():
    return PhysicalMemory(SIZE, poison=True)


@pytest.fixture
def space(memory):
    return AddressSpace(memory)


@pytest.fixture
def make_writer(tmp_path, memory):
    made: list[Writer] = []

    def make(directory: Path = tmp_path, files=None, helped: bool = True) -> Writer:
        directory.mkdir(exist_ok=True)
        made.append(Writer(directory, files=files, chunk_size=CHUNK, memory=memory.state if helped else None))
        return made[-1]

    yield make
    for one in made:
        one.close()


def fill(space: AddressSpace, runs: list[tuple[int, int]], seed: int = 1) -> None:
    rng = random.Random(seed)
    for page, count in runs:
        space.map(BASE + page * PAGE_SIZE, count * PAGE_SIZE)
        space.write(BASE + page * PAGE_SIZE, rng.randbytes(count * PAGE_SIZE))


def freeze(space: AddressSpace) -> FrozenSpace:
    return FrozenSpace(space.state.mem, int(fork(space.state, CONSTANT)))


def release(space: AddressSpace, root: int) -> None:
    cursor = zeros(int64, CURSOR_SIZE)
    release_begin(cursor, root)
    while cursor[0] != RELEASED:
        release_step(space.state.mem, cursor, 1 << 20)


def run(writer: Writer, frozen: FrozenSpace) -> Outcome:
    writer.submit(Job(frozen, keep=100))
    assert writer.wait(WAIT_S)
    outcome = writer.take()
    assert outcome is not None
    return outcome


def contents(outcome: Outcome, pages: int) -> bytes:
    """The header, which names the image, and the end, which has times, are left out."""
    assert outcome.path is not None, outcome.error
    assert pages == outcome.pages
    return outcome.path.read_bytes()[PAGE_SIZE : (1 + pages) * PAGE_SIZE]


def hand(writer: Writer) -> Held:
    assert isinstance(writer._gatherer, Held)
    return writer._gatherer


@pytest.mark.parametrize("name", SHAPES)
def test_the_image_is_the_same_with_the_thread_and_without_it(space, make_writer, tmp_path, name):
    fill(space, SHAPES[name])
    frozen, pages = freeze(space), sum(count for _, count in SHAPES[name])
    helped, alone = make_writer(tmp_path / "a"), make_writer(tmp_path / "b", helped=False)
    expected = b"".join(space.read(BASE + at * PAGE_SIZE, count * PAGE_SIZE) for at, count in SHAPES[name])
    for _ in range(2):
        assert expected == contents(run(helped, frozen), pages) == contents(run(alone, frozen), pages)
    assert (2 * -(-pages // PER_GROUP), 0) == (hand(helped).asked, hand(alone).asked)


def test_huge_pages_and_a_run_over_several_tables_are_gathered_frame_by_frame(memory, make_writer):
    memory = PhysicalMemory(SIZE)
    space = AddressSpace(memory)
    space.map(4 * PT_SPAN, 2 * PT_SPAN)
    data = random.Random(3).randbytes(2 * PT_SPAN)
    space.write(4 * PT_SPAN, data)
    frozen = freeze(space)
    frozen.runs()
    frames, copied = zeros(int64, 1024), zeros(uint8, 1024 * PAGE_SIZE)
    frozen.frames(0, 1024, frames)
    assert len(set(frames.tolist())) == 1024
    frozen.gather(0, 1024, copied)
    assert bytes(copied) == data


def test_pages_are_gathered_from_any_page_on(space):
    fill(space, SHAPES["many short runs"])
    frozen = freeze(space)
    pages = sum(frozen.runs().column(1))
    whole, part = zeros(uint8, pages * PAGE_SIZE), zeros(uint8, 9 * PAGE_SIZE)
    frozen.gather(0, pages, whole)
    rng = random.Random(4)
    for first in [0, pages - 9, *(rng.randrange(pages - 8) for _ in range(50))]:
        frozen.gather(first, 9, part)
        assert bytes(part) == bytes(whole[first * PAGE_SIZE : (first + 9) * PAGE_SIZE])


def test_a_disk_that_is_full_in_the_middle_lets_the_writer_begin_again(space, make_writer, tmp_path):
    runs = SHAPES["runs longer than a group"]
    fill(space, runs)
    frozen, pages = freeze(space), sum(count for _, count in runs)
    files = FaultyFiles("write", 9, raising(28))
    for _ in range(2):
        expected = contents(run(make_writer(), frozen), pages)
    outcome = run(make_writer(files=files), frozen)
    assert ["was removed" in warning for warning in outcome.warnings] == [True]
    assert contents(outcome, pages) == expected


def test_after_an_error_in_the_middle_the_thread_works_for_the_next_image(space, make_writer):
    runs = SHAPES["runs longer than a group"]
    fill(space, runs)
    frozen, pages = freeze(space), sum(count for _, count in runs)
    writer = make_writer(files=FaultyFiles("write", 4, raising(5)))
    assert isinstance(run(writer, frozen).error, WriteFailed)
    asked = hand(writer).asked
    assert 0 < asked < -(-pages // PER_GROUP)
    assert contents(run(writer, frozen), pages) == contents(run(make_writer(helped=False), frozen), pages)
    assert hand(writer).asked == asked + -(-pages // PER_GROUP)


# --- a thread that is late ---


@pytest.mark.parametrize("groups", [0, 1, 2, 3])
def test_a_thread_that_is_late_is_left_alone_and_its_late_answer_changes_nothing(
    space, make_writer, monkeypatch, groups
):
    """It stops after some groups, answers while the writer writes a later one, and works for the next image."""
    runs = SHAPES["runs longer than a group"]
    fill(space, runs)
    frozen, pages = freeze(space), sum(count for _, count in runs)
    expected = contents(run(make_writer(helped=False), frozen), pages)
    gate_in, gate_late = Gate(), Gate()

    class Files(FaultyFiles):
        def write(self, fd, data, offset):
            if offset == PAGE_SIZE * (1 + groups * PER_GROUP) and groups and not gate_in.reached.is_set():
                gate_in("write")
            if offset == PAGE_SIZE * (1 + (groups + 3) * PER_GROUP) and not gate_late.reached.is_set():
                gate_late("write")
            super().write(fd, data, offset)

    writer = make_writer(files=Files())
    helper = hand(writer)
    if not groups:
        helper.held = True
        monkeypatch.setattr(module, "PATIENCE_MS", 1)
    writer.submit(Job(frozen, keep=100))
    if groups:
        assert gate_in.reached.wait(WAIT_S)
        helper._wait(WAIT_S * 1000)
        helper.held = True
        monkeypatch.setattr(module, "PATIENCE_MS", 1)
        gate_in.go_on.set()
    assert gate_late.reached.wait(WAIT_S)
    asked = helper.asked
    assert helper.pending
    helper.let_go()  # the writer is about to write a buffer: it must not be the one that the thread fills now
    gate_late.go_on.set()
    assert writer.wait(WAIT_S)
    outcome = writer.take()
    assert outcome is not None
    assert contents(outcome, pages) == expected
    assert helper.asked == asked < -(-pages // PER_GROUP), "it was left alone for the rest of the image"
    monkeypatch.setattr(module, "PATIENCE_MS", WAIT_S * 1000)
    assert contents(run(writer, frozen), pages) == expected
    assert helper.asked == asked + -(-pages // PER_GROUP)


def test_a_thread_that_has_not_answered_yet_works_for_no_image(memory, space, make_writer, monkeypatch):
    """Its root is released and its frames are used again while it is late."""
    monkeypatch.setattr(module, "PATIENCE_MS", 1)
    runs = SHAPES["runs longer than a group"]
    fill(space, runs)
    pages = sum(count for _, count in runs)
    frozen = freeze(space)
    writer = make_writer()
    helper = hand(writer)
    helper.held = True
    expected = contents(run(writer, frozen), pages)
    release(space, frozen.root)
    space.unmap(BASE, 23 * PAGE_SIZE)
    space.map(BASE, 23 * PAGE_SIZE)
    space.write(BASE, expected[: 23 * PAGE_SIZE])
    frozen = freeze(space)
    assert contents(run(writer, frozen), pages) == expected
    assert helper.pending
    helper.let_go()
    monkeypatch.setattr(module, "PATIENCE_MS", WAIT_S * 1000)
    assert contents(run(writer, frozen), pages) == expected
    assert helper.asked == 1 + -(-pages // PER_GROUP)
    release(space, frozen.root)
    check_memory(memory, [space])


def test_a_ring_without_the_answer_to_the_last_request_does_not_count(memory, space):
    fill(space, [(0, 40)])
    frozen = freeze(space)
    frozen.runs()
    helper = Held(40 * PAGE_SIZE, memory.state, 0)
    helper.held = True
    assert helper._wait(5) == 5
    helper._request(frozen, 0, 40)
    os.eventfd_write(helper._control[module.DONE], 1)
    assert helper._wait(1) < 0
    helper.let_go()
    assert helper._wait(0) == 0
    helper.close()


def test_many_waits_use_up_the_patience_of_an_image_as_one_long_wait_does(space, make_writer, monkeypatch):
    """Each wait is told to have lasted 3 ms, and each answer grants 1 ms again."""
    real = Held._wait

    def slow(helper, patience_ms):
        real(helper, WAIT_S * 1000)
        return patience_ms - 3 if patience_ms >= 3 else -1.0

    monkeypatch.setattr(module, "PATIENCE_MS", 20)
    monkeypatch.setattr(Held, "_wait", slow)
    runs = SHAPES["runs longer than a group"]
    fill(space, runs)
    frozen, pages = freeze(space), sum(count for _, count in runs)
    writer = make_writer()
    assert contents(run(writer, frozen), pages) == contents(run(make_writer(helped=False), frozen), pages)
    assert hand(writer).asked == 9  # 20 - 3 at the beginning, then 2 less for each group: the ninth finds less than 3


def test_a_request_is_given_up_where_stop_was_set(memory, space):
    fill(space, [(0, 40)])
    frozen = freeze(space)
    frozen.runs()
    frames, control, buffers = zeros(int64, 40), zeros(int64, module.CONTROL_SIZE), zeros(uint8, 80 * PAGE_SIZE)
    frozen.frames(0, 40, frames)
    control[module.SLOT], control[module.COUNT], control[module.STOP] = 1, 40, 1
    assert not module.answer(memory.state, control, frames, buffers)
    assert not any(buffers)
    control[module.STOP] = 0
    assert module.answer(memory.state, control, frames, buffers)
    assert not any(buffers[: 40 * PAGE_SIZE])
    assert bytes(buffers[40 * PAGE_SIZE :]) == space.read(BASE, 40 * PAGE_SIZE)


@pytest.mark.parametrize("late", [False, True])
def test_closing_ends_the_thread_while_it_works_and_while_it_is_late(memory, space, late):
    fill(space, [(0, 2000)])
    for _ in range(10):
        frozen = freeze(space)
        frozen.runs()
        helper = Held(2000 * PAGE_SIZE, memory.state, 0)
        helper.held = late
        helper._request(frozen, 0, 2000)
        helper.close()
        assert not helper._thread.is_alive()
        helper.close()


def test_closing_the_writer_in_the_middle_of_an_image_ends_both_threads(space, make_writer):
    fill(space, SHAPES["runs longer than a group"])
    gate = Gate()
    writer = make_writer(files=FaultyFiles("write", 2, gate))
    writer.submit(Job(freeze(space)))
    assert gate.reached.wait(WAIT_S)
    gate.go_on.set()
    writer.close()
    assert not hand(writer)._thread.is_alive()


def test_the_thread_has_the_idle_policy_and_the_writer_has_not(space, tmp_path):
    fill(space, SHAPES["a group"])
    gate = Gate()
    snapshotter = Snapshotter(space.state, tmp_path, chunk_size=CHUNK, files=FaultyFiles("sync", 0, gate))
    snapshotter.start()
    assert gate.reached.wait(WAIT_S)
    writer = snapshotter._writer
    helper = hand(writer)
    assert helper.asked == 1
    assert len({helper.native_id, writer.native_id, threading.get_native_id()}) == 3
    assert os.sched_getscheduler(helper.native_id) == os.SCHED_IDLE
    assert os.sched_getscheduler(writer.native_id) == os.SCHED_BATCH
    gate.go_on.set()
    assert snapshotter.wait().ok
    snapshotter.close()


def test_pages_of_another_memory_are_not_left_to_the_thread(make_writer):
    other = AddressSpace(PhysicalMemory(SIZE))
    fill(other, SHAPES["a group"])
    writer = make_writer()
    assert contents(run(writer, freeze(other)), PER_GROUP) == other.read(BASE, PER_GROUP * PAGE_SIZE)
    assert hand(writer).asked == 0


def test_the_buffers_are_advised_for_huge_pages(memory):
    helper = Gatherer(4 << 20, None, 0)
    address = address_of(helper._buffers)
    flags: list[str] = []
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0] and ":" not in line.split()[0]:
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            inside = start <= address < end
        elif inside and line.startswith("VmFlags:"):
            flags = line.split()[1:]
    assert "sh" not in flags, "the advice has no effect on shared memory"
    assert "hg" in flags or not Path("/sys/kernel/mm/transparent_hugepage").exists()
    helper.close()
