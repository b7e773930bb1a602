"""How kernels are compiled, linked, kept and called.

A *kernel* is a function that numba compiles without the interpreter, without the GIL and without numba's reference
counts: it never allocates a Python or NumPy object, so nothing it does can wait for another thread.  Three kinds:

    @kernel                 a leaf: typed where it is used, and inlined there by LLVM
    @view                   a leaf that returns an array made on the spot: inlined by numba, before it types anything
    @linked(signature)      compiled once by itself under a symbol of its own; other kernels call it by that symbol,
                            Python by its address

    digests.py      what the machine code of a kernel is made of
    leaves.py       @kernel and @view
    kept.py         where machine code is kept, and how it is told that a file is whole
    linking.py      @linked; compiling, loading and calling machine code
    bytes.py        copies, comparisons and words that numba has no fast form of
"""

from mmcore.jit.bytes import (
    bytes32,
    bytes64,
    copy_bytes,
    equal_bytes,
    fill_bytes,
    prefetch,
    put32,
    put64,
)
from mmcore.jit.digests import Undigestible
from mmcore.jit.kept import cache_root
from mmcore.jit.leaves import DISABLED, Leaf, kernel, view
from mmcore.jit.linking import Linked, Progress, build, indirect, linked

__all__ = [
    # decorators
    "kernel", "view", "linked", "indirect",
    # building
    "build", "cache_root", "Progress", "Linked", "Leaf", "Undigestible", "DISABLED",
    # bytes
    "bytes32", "bytes64", "put32", "put64", "copy_bytes", "fill_bytes", "equal_bytes", "prefetch",
]  # fmt: skip
