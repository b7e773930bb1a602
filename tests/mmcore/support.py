"""Shared by the tests of mmcore."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from mmcore import AddressSpace, Caches, PhysicalMemory
from mmcore.frames import frame_drop, reserve, run_alloc, run_drop
from mmcore.frozen import gather, next_run
from mmcore.jit import DISABLED, int64, linked, void
from mmcore.space import new_root
from mmcore.state import MEMORY
from mmcore.tables import VERIFY
from mmcore.walk import walk
from tests.model.address_space import ModelSpace

PAGE = 4096
MIB2 = 1 << 21
GIB = 1 << 30
GIB512 = 1 << 39


@linked(void(MEMORY, int64[::1]))
def take_roots(mem, roots):  # type: ignore[no-untyped-def]
    """Fill an array with empty tables.  In one call: a test takes thousands, again and again."""
    for i in range(roots.size):
        roots[i] = new_root(mem, 0)


@linked(void(MEMORY, int64[::1]))
def drop_roots(mem, roots):  # type: ignore[no-untyped-def]
    """Let them go, the last one first."""
    for i in range(roots.size - 1, -1, -1):
        frame_drop(mem, roots[i])


def scaled(full: int, small: int) -> int:
    """A size for compiled runs, and one for runs without the compiler."""
    return small if DISABLED else full


def some(full: int, few: int) -> int:
    """A number of cases: fewer suffice for the runs with bounds checks and without the compiler, which are slower."""
    return few if VERIFY else full


def seeds(count: int, first: int = 0) -> list[Any]:
    """`count` seeds of a random stream: the compiled run takes half, with bounds checks it is a quarter, without the
    compiler an eighth; the rest is `slow`.

    A kernel is fifty times slower without the compiler.  That run is for NumPy's warnings, which any stream provokes.
    The search for the rare case is the compiled runs' part.
    """
    usual = scaled(some((count + 1) // 2, count // 4), count // 8) or 1
    slow = [pytest.param(first + i, marks=pytest.mark.slow) for i in range(usual, count)]
    return [first + i for i in range(usual)] + slow


def machine(frames: int = 512, tlb_entries: int = 64) -> tuple[PhysicalMemory, AddressSpace]:
    """A small memory with poison on, and a space on it with a small TLB and smaller paging-structure caches."""
    memory = PhysicalMemory(frames * PAGE, huge_pages=False, poison=True)
    return memory, AddressSpace(memory, caches=Caches(tlb_entries, pml4=1, pdpte=2, pde=4))


def runs_of(memory: PhysicalMemory, root: int, limit: int = 1 << 20) -> list[tuple[int, int]]:
    """(first address, pages) of every run of the tree at `root`."""
    out, va, runs = np.zeros(2, np.int64), 0, []
    while next_run(memory.state, root, va, limit, out) > 0:
        runs.append((int(out[0]), int(out[1])))
        va = int(out[0] + out[1] * PAGE)
    return runs


def run_contents(memory: PhysicalMemory, root: int, limit: int = 1 << 20) -> dict[int, bytes]:
    """The bytes of every run of the tree at `root`, by its first address."""
    found = {}
    for address, count in runs_of(memory, root, limit):
        buffer = np.empty(count * PAGE, np.uint8)
        assert gather(memory.state, root, address, count, buffer, 0) == count
        found[address] = bytes(buffer)
    return found


def contents(memory: PhysicalMemory, root: int, limit: int = 1 << 20) -> dict[int, bytes]:
    """Every page of the tree at `root`, by address."""
    return {
        address + at: data[at : at + PAGE]
        for address, data in run_contents(memory, root, limit).items()
        for at in range(0, len(data), PAGE)
    }


def agrees(space: AddressSpace, model: ModelSpace) -> bool:
    """Whether the space holds the model's pages, no more and no less."""
    return contents(space.memory, space.root) == {page: bytes(data) for page, data in model.pages.items()}


def frame_at(space: AddressSpace, address: int, level: int = 0) -> int:
    """Frame of the page, or of the table of `level`, that serves an address."""
    return int(walk(space.state.mem, space.root, address, level))


def count_at(space: AddressSpace, address: int, level: int = 0) -> int:
    """Reference count of that frame."""
    return int(space.state.mem.refcount[frame_at(space, address, level)])


@contextmanager
def only(memory: PhysicalMemory, free: int, runs: int = 0) -> Iterator[list[int]]:
    """Leave `free` frames and `runs` runs free; yields roots that hold the others, and lets them go at the end."""
    assert reserve(memory.state, runs, free)
    kept = [run_alloc(memory.state, 0, 0) for _ in range(runs)]
    roots = np.zeros(max(memory.frames_free - free, 0), np.int64)
    take_roots(memory.state, roots)
    for head in kept:
        run_drop(memory.state, head)
    try:
        yield roots.tolist()
    finally:
        drop_roots(memory.state, roots)
