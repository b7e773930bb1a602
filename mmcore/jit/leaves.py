"""Leaves: small kernels that are compiled where they are used, and inlined there.

    @kernel     typed where it is used, and inlined there by LLVM
    @view       one that returns an array made on the spot: inlined by numba, before it types anything, for compiled
                kernels without reference counts cannot return one

A leaf becomes numba's only when a kernel that names it is compiled, so a program whose kernels are all kept compiles
none.  With NUMBA_DISABLE_JIT=1 the decorators leave the function as it is.
"""

import functools
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numba

from mmcore.jit.digests import Digests, digest_of
from mmcore.jit.kept import OPTIONS, cache_root, digests

DISABLED = bool(numba.config.DISABLE_JIT)


class Leaf:
    """A leaf kernel.  `py_func` and `targetoptions` are what numba looks for in a function to inline."""

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        self.py_func, self.targetoptions = function, options
        functools.update_wrapper(self, function)

    @cached_property
    def dispatcher(self) -> Any:
        """It, as numba knows functions."""
        # numba reads the directory when the decorator runs.  What it keeps there spares whatever inlines the leaf from
        # compiling it again; it asks for more than the digest, so it is never stale.
        before = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = str(cache_root() / "leaves" / digest_of(*self.digest_parts(digests())))
        try:
            return numba.njit(cache=True, **OPTIONS, **self.targetoptions)(self.py_func)
        finally:
            numba.config.CACHE_DIR = before

    @property
    def _numba_type_(self) -> Any:
        return numba.types.Dispatcher(self.dispatcher)

    def digest_parts(self, known: Digests) -> Iterator[str]:
        """What the machine code of a kernel that inlines it is made of."""
        yield f"leaf {sorted(self.targetoptions.items())}"
        yield known.function(self.py_func)

    def __call__(self, *arguments: Any) -> Any:
        return self.dispatcher(*arguments)

    def __repr__(self) -> str:
        return f"<leaf kernel {self.py_func.__module__}.{self.py_func.__qualname__}>"


def kernel(function: Callable[..., Any]) -> Any:
    """A leaf kernel: compiled for each use, inlined into its callers."""
    return function if DISABLED else Leaf(function)


def view(function: Callable[..., Any]) -> Any:
    """A leaf kernel that returns an array it has made: inlined where it is called."""
    return function if DISABLED else Leaf(function, inline="always")
