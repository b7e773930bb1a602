"""Shared by the tests of structures: a space with a heap, and bytes by address.  `only` takes frames away."""

import ctypes

import numpy as np

from mmcore import AddressSpace
from mmcore.heap import heap_init, heap_used
from mmcore.jit import int64, linked, uint8, void
from mmcore.mmu import copy_out
from mmcore.state import SPACE
from tests.mmcore.support import machine

_KEPT: dict[bytes, ctypes.Array[ctypes.c_char]] = {}


def at(text: bytes) -> int:
    """An address in the process where these bytes lie, for as long as the tests run."""
    if text not in _KEPT:
        _KEPT[text] = ctypes.create_string_buffer(text, len(text) + 8)
    return ctypes.addressof(_KEPT[text])


def space_of_heap(frames: int) -> AddressSpace:
    """A space with an empty heap on a small memory, whose freed frames are poisoned."""
    _, space = machine(frames=frames)
    assert heap_init(space.state) == 0
    return space


@linked(void(SPACE, int64, uint8[::1], int64))
def _read(space, va, out, count):  # type: ignore[no-untyped-def]
    """Copy bytes of the space to an array."""
    copy_out(space, va, out, 0, count)


def memory_of(space: AddressSpace, va: int, count: int) -> bytes:
    """`count` bytes of the space at `va`."""
    out = np.zeros(count, np.uint8)
    _read(space.state, va, out, count)
    return out.tobytes()


def words_of(space: AddressSpace, va: int, count: int) -> list[int]:
    """`count` words of the space at `va`."""
    return [int(word) for word in np.frombuffer(memory_of(space, va, 8 * count), np.int64)]


@linked(int64(SPACE))
def _heap_used(space):  # type: ignore[no-untyped-def]
    """heap_used, for Python."""
    return heap_used(space)


def heap_bytes(space: AddressSpace) -> int:
    """Bytes in live allocations of the heap."""
    return int(_heap_used(space.state))
