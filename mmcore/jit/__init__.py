"""The tool chain of kernels: how they are compiled, joined, kept and called.

A *kernel* is a function that numba compiles without the interpreter, without the GIL and without numba's reference
counts.  It never allocates a Python or NumPy object, so it never waits for another thread.  There are three kinds:

    @kernel                 a leaf: numba types it for each caller, and LLVM inlines it there
    @view                   a leaf that returns a temporary array: numba inlines it before it types anything
    @linked(signature)      compiled once, separately, under its own symbol; other kernels call it by that symbol,
                            Python by its address

If all kernels of a program are in a library, the program opens that library and imports neither numba nor LLVM.

    types.py        the types of signatures           records.py      a kernel's state, passed by address
    arrays.py       what Python and kernels share     digests.py      what the machine code of a kernel is made of
    leaves.py       @kernel, @view, @intrinsic        bytes.py        copies and words that numba has no fast form of
    linking.py      @linked, and calls from Python    library.py      finding, building and opening the library
    kept.py         files that are whole              checksums.py    the digest behind them
    elf.py          a linker                          builder.py      the process that builds
    compiler.py     the bridge to numba               pipeline.py     what kernels need of numba's pipeline
    inlining.py     leaves as numba sees them         toolchain.py    numba and LLVM by name
    settings.py     what changes code, and where      errors.py       what can go wrong
"""

from mmcore.jit.arrays import Array, Table, address_of, anonymous, constant, over, zeros
from mmcore.jit.bytes import bytes32, bytes64, copy_bytes, equal_bytes, fill_bytes, ones, prefetch, put32, put64
from mmcore.jit.errors import CannotCompile, Undigestible, Unsupported
from mmcore.jit.leaves import Leaf, in_python, intrinsic, kernel, view
from mmcore.jit.library import Progress, build
from mmcore.jit.linking import Linked, indirect, linked
from mmcore.jit.records import Plain, Record, State, state_type
from mmcore.jit.settings import BOUNDSCHECK, DISABLED, cache_root
from mmcore.jit.types import (
    boolean,
    external,
    int8,
    int16,
    int32,
    int64,
    named_tuple,
    uint8,
    uint16,
    uint32,
    uint64,
    void,
)

__all__ = [
    # decorators
    "kernel", "view", "linked", "indirect", "intrinsic", "in_python",
    # types
    "boolean", "external", "int8", "int16", "int32", "int64", "named_tuple", "uint8", "uint16", "uint32", "uint64",
    "void", "Plain", "Record", "State", "state_type",
    # arrays
    "Array", "Table", "address_of", "anonymous", "constant", "over", "zeros",
    # building
    "build", "cache_root", "Progress", "Linked", "Leaf", "CannotCompile", "Undigestible", "Unsupported",
    "BOUNDSCHECK", "DISABLED",
    # bytes
    "bytes32", "bytes64", "put32", "put64", "copy_bytes", "fill_bytes", "equal_bytes", "prefetch", "ones",
]  # fmt: skip
