"""An x86-64 paging machine: frames, four-level page tables, a TLB, a fault handler, and three ways to fork.

    PhysicalMemory          frames of 4 KiB
    AddressSpace            map, read, write, fork; counters, usage, regions, changed_since
    ForkMode                CLASSIC, ON_DEMAND, CONSTANT
    Processor               the translation hardware of one or more spaces: TLB, caches, counters
    Caches                  the sizes of the translation caches
    Release                 a space that exits in steps
    path_of, PathEntry      the page-table entries that lead to an address
    Usage, REGION, RegionState  accounts, in the words of smaps
    check_memory            proves the machine's invariants, or raises CorruptMemory
    MachineError            the base of all errors: see errors.py

In a checkout the first use compiles the machine, which requires numba.  The code is kept below $KVSTORE_CACHE_DIR if
that is set, otherwise in the user's cache directory.  `mmcore.jit.build(progress)` compiles ahead of use.  A wheel
already contains the code.  Accounts and checks require NumPy.
docs/machine.md is a tutorial.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
        TooManySpaces,
    )
    from mmcore.memory import PhysicalMemory
    from mmcore.path import PathEntry, path_of
    from mmcore.processor import Caches, Processor
    from mmcore.release import Release
    from mmcore.space import AddressSpace, ForkMode

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
    "Processor",
    "REGION",
    "RegionState",
    "Release",
    "TooManySpaces",
    "Usage",
    "check_memory",
    "path_of",
]

# Each module is imported on first access: a program that needs only the heap does not wait for the accounts.
_HOMES = {
    "account": "REGION RegionState Usage",
    "check": "check_memory",
    "errors": "AddressError AlreadyMapped ClosedMemory CorruptMemory DeadSpace EmptyRange MachineError MemoryTooSmall "
    "Misaligned NonCanonical NotMapped OutOfFrames Overlap TooManySpaces",
    "memory": "PhysicalMemory",
    "path": "PathEntry path_of",
    "processor": "Caches Processor",
    "release": "Release",
    "space": "AddressSpace ForkMode",
}
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'mmcore' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"mmcore.{_HOME[name]}"), name)
    return value
