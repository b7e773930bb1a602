"""Leaves: small kernels that are compiled where they are used, and inlined there.

    @kernel     typed where it is used, and inlined there by LLVM
    @view       one that returns an array made on the spot: inlined by numba, before it types anything, for compiled
                kernels without reference counts cannot return one
    @intrinsic  a function of types of arguments, which returns a signature and a generator of LLVM's code

A leaf becomes numba's only when a kernel that names it is compiled, so a program whose kernels are all in a library
compiles none and needs no numba.  With NUMBA_DISABLE_JIT=1 the decorators leave the function as it is.
"""

import functools
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mmcore.jit.settings import DISABLED
from mmcore.jit.types import bridge

if TYPE_CHECKING:
    from mmcore.jit.digests import Digests


class Leaf:
    """A leaf kernel.  `py_func` and `targetoptions` are what numba looks for in a function to inline."""

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        self.py_func, self.targetoptions = function, options
        functools.update_wrapper(self, function)

    @cached_property
    def _for_python(self) -> Any:
        return bridge().leaf_dispatcher(self)

    @property
    def _numba_type_(self) -> Any:
        return bridge().leaf_type(self)

    def digest_parts(self, known: "Digests") -> Iterator[str]:
        """The sources of the machine code of a kernel that inlines it."""
        yield f"leaf {sorted(self.targetoptions.items())}"
        yield known.function(self.py_func)

    def __call__(self, *arguments: Any) -> Any:
        return self._for_python(*arguments)

    def __repr__(self) -> str:
        return f"<leaf kernel {self.py_func.__module__}.{self.py_func.__qualname__}>"


class Intrinsic:
    """A leaf whose code is generated."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        functools.update_wrapper(self, function)

    @cached_property
    def _numba_type_(self) -> Any:
        return bridge().intrinsic_type(self.function, self.function.__code__.co_argcount - 1)

    def digest_parts(self, known: "Digests") -> Iterator[str]:
        """The sources of the machine code of a kernel that uses it."""
        yield "intrinsic"
        yield known.function(self.function)

    def __call__(self, *_arguments: Any) -> Any:
        raise NotImplementedError(f"{self!r} is for kernels alone")

    def __repr__(self) -> str:
        return f"<intrinsic {self.function.__module__}.{self.function.__qualname__}>"


def kernel(function: Callable[..., Any]) -> Any:
    """A leaf kernel: compiled for each use, inlined into its callers."""
    return function if DISABLED else Leaf(function)


def in_python(leaf: Any) -> Callable[..., Any]:
    """The function of a leaf, for Python to call where numbers are small and numba may not be there."""
    return leaf.py_func if isinstance(leaf, Leaf) else leaf  # type: ignore[no-any-return]


def view(function: Callable[..., Any]) -> Any:
    """A leaf kernel that returns an array it has made: inlined where it is called."""
    return function if DISABLED else Leaf(function, inline="always")


def intrinsic(function: Callable[..., Any]) -> Any:
    """A leaf whose code is generated: `function(context, *types)` returns its signature and the generator."""
    return Intrinsic(function)
