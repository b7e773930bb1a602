"""An emulated 48-bit address space with x86-64 page tables, and forks of it; see space.py."""

from mmcore.account import REGION, RegionState, Usage
from mmcore.check import check_memory
from mmcore.errors import (
    AddressError,
    AlreadyMapped,
    ClosedMemory,
    CorruptMemory,
    DeadSpace,
    EmptyRange,
    MachineError,
    MemoryTooSmall,
    Misaligned,
    NonCanonical,
    NotMapped,
    OutOfFrames,
    Overlap,
)
from mmcore.path import PathEntry, path_of
from mmcore.space import AddressSpace, Caches, ForkMode, PhysicalMemory, Release

__all__ = [
    "AddressError",
    "AddressSpace",
    "AlreadyMapped",
    "Caches",
    "ClosedMemory",
    "CorruptMemory",
    "DeadSpace",
    "EmptyRange",
    "ForkMode",
    "MachineError",
    "MemoryTooSmall",
    "Misaligned",
    "NonCanonical",
    "NotMapped",
    "OutOfFrames",
    "Overlap",
    "PathEntry",
    "PhysicalMemory",
    "REGION",
    "RegionState",
    "Release",
    "Usage",
    "check_memory",
    "path_of",
]
