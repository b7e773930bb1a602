"""The Python face: what it refuses, by which name, carrying which address, with nothing changed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mmcore import (
    AddressError,
    AddressSpace,
    AlreadyMapped,
    Caches,
    ClosedMemory,
    DeadSpace,
    EmptyRange,
    ForkMode,
    MachineError,
    Misaligned,
    NonCanonical,
    NotMapped,
    OutOfFrames,
    Overlap,
    PhysicalMemory,
    check_memory,
    path_of,
)
from mmcore.errors import ALREADY_MAPPED, NO_FRAME, NON_CANONICAL, NOT_PRESENT, error_of
from tests.mmcore.support import GIB, MIB2, PAGE, contents, machine

TOP = 1 << 47
BASE = GIB

REFUSED: list[tuple[Callable[[AddressSpace], object], type[AddressError], int]] = [
    (lambda s: s.map(BASE, PAGE), AlreadyMapped, BASE),
    (lambda s: s.map(BASE - PAGE, 3 * PAGE), AlreadyMapped, BASE),
    (lambda s: s.map(BASE + 1, PAGE), Misaligned, BASE + 1),
    (lambda s: s.map(BASE + 8 * PAGE, 100), Misaligned, BASE + 8 * PAGE + 100),
    (lambda s: s.map(BASE + 8 * PAGE, 0), EmptyRange, BASE + 8 * PAGE),
    (lambda s: s.map(BASE + 8 * PAGE, -PAGE), EmptyRange, BASE + 8 * PAGE),
    (lambda s: s.map(-PAGE, PAGE), NonCanonical, -PAGE),
    (lambda s: s.map(TOP, PAGE), NonCanonical, TOP),
    (lambda s: s.map(TOP - PAGE, 2 * PAGE), NonCanonical, TOP),
    (lambda s: s.map(1 << 70, PAGE), NonCanonical, 1 << 70),
    (lambda s: s.unmap(BASE, 3 * PAGE), NotMapped, BASE + 2 * PAGE),
    (lambda s: s.unmap(BASE - PAGE, PAGE), NotMapped, BASE - PAGE),
    (lambda s: s.unmap(BASE, 5), Misaligned, BASE + 5),
    (lambda s: s.unmap(BASE, 0), EmptyRange, BASE),
    (lambda s: s.remap(BASE, 2 * PAGE, BASE + PAGE), Overlap, BASE + PAGE),
    (lambda s: s.remap(BASE, PAGE, BASE), Overlap, BASE),
    (lambda s: s.remap(BASE, PAGE, BASE + PAGE), AlreadyMapped, BASE + PAGE),
    (lambda s: s.remap(BASE, 3 * PAGE, 0), NotMapped, BASE + 2 * PAGE),
    (lambda s: s.remap(BASE, PAGE, 17), Misaligned, 17),
    (lambda s: s.remap(BASE, PAGE, BASE, 2 * PAGE), AlreadyMapped, BASE + PAGE),
    (lambda s: s.remap(BASE, 3 * PAGE, BASE, PAGE), NotMapped, BASE + 2 * PAGE),
    (lambda s: s.remap(BASE, 3 * PAGE, BASE, 4 * PAGE), NotMapped, BASE + 2 * PAGE),
    (lambda s: s.remap(BASE, 2 * PAGE, BASE, 0), EmptyRange, BASE),
    (lambda s: s.remap(BASE, 2 * PAGE, BASE, -PAGE), EmptyRange, BASE),
    (lambda s: s.remap(BASE, 2 * PAGE, BASE, PAGE + 1), Misaligned, BASE + PAGE + 1),
    (lambda s: s.remap(BASE, 2 * PAGE, BASE, TOP), NonCanonical, TOP),
    (lambda s: s.remap(BASE, 2 * PAGE, BASE - PAGE, PAGE + PAGE), Overlap, BASE),
    (lambda s: s.remap(BASE, PAGE, BASE - 2 * PAGE, 3 * PAGE), Overlap, BASE),
    (lambda s: s.remap(BASE + PAGE, PAGE, BASE - 8 * PAGE, 9 * PAGE), AlreadyMapped, BASE),
    (lambda s: s.remap(BASE, 3 * PAGE, 0, PAGE), NotMapped, BASE + 2 * PAGE),
    (lambda s: s.remap(BASE, 2 * PAGE, 0, MIB2, huge=True), Misaligned, 2 * PAGE),
    (lambda s: s.remap(BASE, 2 * PAGE, MIB2 - 2 * PAGE, MIB2, huge=True), Misaligned, 2 * MIB2 - 2 * PAGE),
    (lambda s: s.remap(BASE, 2 * PAGE, BASE, 1 << 40, huge=True), Misaligned, BASE + 2 * PAGE),
    (lambda s: s.read(BASE + PAGE, PAGE + 1), NotMapped, BASE + 2 * PAGE),
    (lambda s: s.read(5, 1), NotMapped, 0),
    (lambda s: s.read(BASE, -1), EmptyRange, BASE),
    (lambda s: s.read(TOP - 1, 2), NonCanonical, TOP),
    (lambda s: s.write(BASE + 2 * PAGE - 1, b"xx"), NotMapped, BASE + 2 * PAGE),
    (lambda s: s.write(TOP - 1, b"xx"), NonCanonical, TOP),
    (lambda s: s.mapped(BASE, 0), EmptyRange, BASE),
    (lambda s: s.map(np.int64(BASE), np.int64((1 << 63) - PAGE)), NonCanonical, TOP),
    (lambda s: s.read(np.int64(BASE), np.int64((1 << 63) - 1)), NonCanonical, TOP),
    (lambda s: s.map(BASE + MIB2, 1 << 62), NonCanonical, TOP),
    (lambda s: s.map(BASE + PAGE, MIB2, huge=True), Misaligned, BASE + PAGE),
    (lambda s: s.map(BASE + MIB2, MIB2 + PAGE, huge=True), Misaligned, BASE + 2 * MIB2 + PAGE),
    (lambda s: s.map(BASE, MIB2, huge=True), AlreadyMapped, BASE),
    (lambda s: s.map(BASE + MIB2, -MIB2, huge=True), EmptyRange, BASE + MIB2),
    (lambda s: s.unmap(BASE, 1 << 50), NonCanonical, TOP),
    (lambda s: s.remap(BASE, PAGE, TOP), NonCanonical, TOP),
    (lambda s: s.remap(BASE, 0, 0), EmptyRange, BASE),
    (lambda s: s.remap(BASE, 1 << 46, 0), Overlap, BASE),
    (lambda s: s.regions(BASE, 0), EmptyRange, BASE),
    (lambda s: s.regions(-1, 1), NonCanonical, -1),
    (lambda s: s.regions(TOP), NonCanonical, TOP),
    (lambda s: s.map(np.int32(BASE), np.int32(BASE)), AlreadyMapped, BASE),
    (lambda s: s.read(np.uint64(TOP), np.uint64(1)), NonCanonical, TOP),
    (lambda s: s.unmap(np.uint32(BASE - PAGE), np.uint32(PAGE)), NotMapped, BASE - PAGE),
]


@pytest.mark.parametrize(("operation", "error", "address"), REFUSED)
def test_a_refusal_names_its_reason_and_address(
    operation: Callable[[AddressSpace], object], error: type[AddressError], address: int
) -> None:
    memory, space = machine()
    space.map(BASE, 2 * PAGE)
    space.write(BASE, b"kept")
    before, free, counters = contents(memory, space.root), memory.frames_free, space.counters
    with pytest.raises(error) as caught:
        operation(space)
    assert type(caught.value) is error and caught.value.address == address
    assert hex(address) in str(caught.value) and isinstance(caught.value, MachineError)
    assert contents(memory, space.root) == before and memory.frames_free == free and space.counters == counters
    check_memory(memory, [space])


@pytest.mark.parametrize("wrong", [float(BASE), str(BASE), None])
def test_a_number_that_is_no_integer_is_refused(wrong: Any) -> None:
    _memory, space = machine()
    space.map(BASE, 2 * PAGE)
    operations: list[Callable[[], object]] = [
        lambda: PhysicalMemory(wrong),
        lambda: space.map(wrong, PAGE),
        lambda: space.map(TOP // 2, wrong),
        lambda: space.unmap(wrong, PAGE),
        lambda: space.remap(BASE, PAGE, wrong),
        *([] if wrong is None else [lambda: space.remap(BASE, PAGE, 0, wrong)]),
        lambda: space.read(wrong, 1),
        lambda: space.write(wrong, b"x"),
        lambda: space.unshare_step(wrong),
        lambda: space.exit_begin().step(wrong),
    ]
    for operation in operations:
        with pytest.raises(TypeError):
            operation()


def test_an_enormous_range_is_out_of_frames() -> None:
    memory, space = machine()
    with pytest.raises(OutOfFrames) as caught:
        space.map(0, TOP)
    assert caught.value.address == 0
    space.map(0, PAGE)
    for new, address in ((0, PAGE), (GIB, GIB)):
        with pytest.raises(OutOfFrames) as caught:
            space.remap(0, PAGE, new, TOP - GIB)
        assert caught.value.address == address
    check_memory(memory, [space])


def test_a_dead_space_is_named_so() -> None:
    memory, space = machine()
    space.exit()
    operations: list[Callable[[], object]] = [
        lambda: space.map(0, PAGE),
        lambda: space.map(0, 0),  # that it is dead comes first
        lambda: space.unmap(0, PAGE),
        lambda: space.remap(0, PAGE, PAGE),
        lambda: space.mapped(0, 1),
        lambda: space.read(0, 1),
        lambda: space.read(0, 0),
        lambda: space.write(0, b"x"),
        lambda: space.write(0, b""),
        lambda: space.unshare_step(1),
        lambda: list(space.changed_since(0)),
        lambda: space.root,
        lambda: space.epoch,
        lambda: space.counters,
        space.fork,
        space.exit,
        space.exit_begin,
        space.reset,
        space.usage,
        space.regions,
    ]
    for operation in operations:
        with pytest.raises(DeadSpace):
            operation()
    assert not space.alive and "dead" in repr(space)
    check_memory(memory, [space])


@pytest.mark.parametrize("budget", [0, -1])
def test_a_step_does_something(budget: int) -> None:
    memory, space = machine()
    space.map(0, PAGE)
    with pytest.raises(ValueError, match="at least 1"):
        space.unshare_step(budget)
    release = space.exit_begin()
    with pytest.raises(ValueError, match="at least 1"):
        release.step(budget)
    release.finish()
    assert release.done and memory.frames_free == memory.frames_total
    check_memory(memory, [space])


def test_a_closed_memory_is_named_so() -> None:
    memory, space = machine()
    space.map(0, PAGE)
    with memory:
        assert "frames free" in repr(memory)
    memory.close()
    for operation in (lambda: memory.frames_free, lambda: space.read(0, 1), lambda: AddressSpace(memory), space.exit):
        with pytest.raises(ClosedMemory):
            operation()
    assert "closed" in repr(memory) and "cr3" in repr(space)


@pytest.mark.parametrize("size", [-1, 0, PAGE, 5 * PAGE - 1])
def test_a_memory_too_small_for_its_tables_is_refused(size: int) -> None:
    with pytest.raises(MachineError, match="too few"):
        PhysicalMemory(size)


def test_the_smallest_memory_holds_a_page() -> None:
    memory = PhysicalMemory(5 * PAGE + 7)
    space = AddressSpace(memory)
    space.map(0, PAGE)
    assert memory.frames_free == 0 and memory.frames_total == 5 and memory.size == 5 * PAGE
    with pytest.raises(OutOfFrames):
        space.map(PAGE, PAGE)


@pytest.mark.parametrize("name", ["tlb", "pml4", "pdpte", "pde"])
@pytest.mark.parametrize("entries", [0, -1, 3, 100])
def test_a_cache_has_a_power_of_two_of_entries_and_the_tlb_at_least_one(name: str, entries: int) -> None:
    if name != "tlb" and entries == 0:
        assert getattr(Caches(pml4=0, pdpte=0, pde=0), name) == 0
        return
    with pytest.raises(MachineError, match=name):
        Caches(**{name: entries})


def test_fork_refuses_a_mode_it_does_not_know() -> None:
    memory, space = machine()
    with pytest.raises(ValueError, match="17"):
        space.fork(17)  # type: ignore[arg-type]
    check_memory(memory, [space])


def test_the_last_page_below_the_limit_can_be_used() -> None:
    memory, space = machine()
    space.map(TOP - PAGE, PAGE)
    space.write(TOP - 3, b"end")
    assert space.read(TOP - 3, 3) == b"end"
    check_memory(memory, [space])


@pytest.mark.parametrize("data", [b"data", bytearray(b"data"), memoryview(b"data"), np.frombuffer(b"data", np.uint8)])
def test_anything_of_bytes_can_be_written(data: bytes) -> None:
    _, space = machine()
    space.map(BASE, PAGE)
    space.write(BASE + 1, data)
    assert space.read(BASE, 6) == b"\0data\0"
    space.write(BASE - 1, b"")
    assert space.read(BASE - 1, 0) == b""


def test_a_number_is_not_written_as_so_many_zeros() -> None:
    _, space = machine()
    space.map(BASE, PAGE)
    with pytest.raises(TypeError):
        space.write(BASE, 5)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [np.int64, np.uint64, np.int32, np.uint32])
def test_integers_of_numpy_are_integers(kind: type[np.integer]) -> None:
    memory, space = machine()
    base, page = kind(BASE), kind(PAGE)
    space.map(base, page)
    space.write(base + kind(5), b"here")
    space.remap(base, page, base + page)
    assert space.mapped(base + page, page) and space.read(base + page + kind(5), kind(4)) == b"here"
    assert space.regions(base, page)["pages"].tolist() == [1]
    assert len(path_of(space, base + page)) == 4
    space.unmap(base + page, page)
    check_memory(memory, [space])


@pytest.mark.parametrize("new", [BASE, 5 * BASE])
def test_a_mapping_grows_by_zeros_and_shrinks_by_its_last_pages(new: int) -> None:
    memory, space = machine()
    space.map(BASE, 2 * PAGE)
    space.write(BASE, b"one" + bytes(PAGE - 3) + b"two")
    frame = path_of(space, BASE)[-1].frame
    space.remap(BASE, 2 * PAGE, new, 4 * PAGE)
    assert space.read(new, 4 * PAGE) == b"one" + bytes(PAGE - 3) + b"two" + bytes(3 * PAGE - 3)
    space.remap(new, 4 * PAGE, BASE, PAGE)
    assert space.read(BASE, 3) == b"one" and path_of(space, BASE)[-1].frame == frame
    space.remap(BASE, PAGE, BASE, PAGE)
    assert space.usage().rss == PAGE
    check_memory(memory, [space])


@pytest.mark.parametrize("new", [BASE, 5 * BASE])
def test_a_mapping_grows_by_huge_pages_and_shrinks_to_part_of_one(new: int) -> None:
    memory, space = machine(5 * 512)
    space.map(BASE, MIB2, huge=True)
    space.write(BASE + MIB2 - 3, b"end")
    space.remap(BASE, MIB2, new, 3 * MIB2, huge=True)
    assert space.regions()["huge"].tolist() == [True, True, True]
    assert space.read(new + MIB2 - 3, 4) == b"end\0" and space.mapped(new, 3 * MIB2)
    space.remap(new, 3 * MIB2, new, MIB2 + PAGE)
    assert space.regions()["pages"].tolist() == [512, 1] and space.regions()["huge"].tolist() == [True, False]
    space.remap(new, MIB2 + PAGE, 9 * BASE, 2 * PAGE)
    assert space.regions()["pages"].tolist() == [2]
    check_memory(memory, [space])


def test_spaces_of_one_memory_are_apart() -> None:
    memory, one = machine()
    other = AddressSpace(memory)
    one.map(BASE, PAGE)
    other.map(BASE, PAGE)
    one.write(BASE, b"one")
    assert other.read(BASE, 3) == bytes(3)
    check_memory(memory, [one, other])


def test_reset_leaves_an_empty_space() -> None:
    memory, space = machine()
    space.map(BASE, 9 * PAGE)
    space.write(BASE, b"x")
    child = space.fork(ForkMode.ON_DEMAND)
    space.reset()
    assert not space.mapped(BASE, 1) and child.read(BASE, 1) == b"x"
    check_memory(memory, [space, child])
    space.map(BASE, PAGE)
    assert space.read(BASE, 1) == b"\0"


def test_each_code_has_its_exception() -> None:
    expected = {NO_FRAME: OutOfFrames, NOT_PRESENT: NotMapped}
    expected |= {ALREADY_MAPPED: AlreadyMapped, NON_CANONICAL: NonCanonical}
    assert {code: type(error_of(code, 64)) for code in expected} == expected
    assert error_of(NO_FRAME).args == ("out of frames",)
