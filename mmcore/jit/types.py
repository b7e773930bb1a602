"""The types of kernels' signatures, in numba's notation and without numba.

    int64(SPACE, int64)         a signature: what is returned, and of what arguments
    int64[::1], int64[:, ::1]   contiguous arrays
    void, boolean               only as what is returned
    int64(x)                    in a kernel: x as an int64.  In Python the same, as NumPy's
    external("send", int64(int32, int64, int64, int32))     a function of the C library, called by its symbol
    named_tuple((int64, uint8[::1]), Echo)                  of a NamedTuple's fields, passed one by one

compiler.py turns each into numba's type of that name when a kernel is compiled; nothing else asks for numba.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


class Type:
    """A type of arguments or results.  Its name tells types apart, in digests too."""

    name: str

    def __repr__(self) -> str:
        return self.name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Type) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __call__(self, *arguments: Any) -> Any:
        """The signature of what takes these types and returns this one."""
        return Signature(self, arguments)

    @property
    def _numba_type_(self) -> Any:
        # numba asks a value that a kernel names for this.
        return _compiler().type_of_type(self)


class Scalar(Type):
    """An integer of NumPy's type of the same name."""

    def __init__(self, name: str) -> None:
        self.name, self.dtype = name, np.dtype(name)
        self.bits, self.signed = 8 * self.dtype.itemsize, self.dtype.kind == "i"

    def __call__(self, *arguments: Any) -> Any:
        if len(arguments) == 1 and not isinstance(arguments[0], Type):
            return self.dtype.type(arguments[0])
        return super().__call__(*arguments)

    def __getitem__(self, key: Any) -> "Array":
        axes = key if isinstance(key, tuple) else (key,)
        if axes[-1] != slice(None, None, 1) or any(axis != slice(None) for axis in axes[:-1]):
            raise TypeError("arrays of kernels are contiguous: [::1], [:, ::1]")
        return Array(self, len(axes))


class Boolean(Type):
    """What a test returns."""

    name = "boolean"


class Void(Type):
    """What is returned by what returns nothing."""

    name = "void"


class Array(Type):
    """A contiguous array."""

    def __init__(self, item: Scalar, ndim: int) -> None:
        self.item, self.ndim = item, ndim
        self.name = f"array({item}, {ndim}d, C)"


class NamedTuple(Type):
    """A NamedTuple, whose fields are passed one by one."""

    def __init__(self, kinds: Sequence[Type], made_by: Callable[..., Any]) -> None:
        self.kinds, self.made_by = tuple(kinds), made_by
        names = zip(made_by._fields, self.kinds, strict=True)  # type: ignore[attr-defined]
        self.name = f"{made_by.__qualname__}({', '.join(f'{name}: {kind}' for name, kind in names)})"


class Signature:
    """What a kernel returns, and of what arguments."""

    def __init__(self, return_type: Type, args: Sequence[Type]) -> None:
        if not all(isinstance(kind, Type) for kind in args):
            raise TypeError(f"{args} are not all types")
        self.return_type, self.args = return_type, tuple(args)

    def __repr__(self) -> str:
        return f"{self.return_type}({', '.join(map(repr, self.args))})"


class External:
    """A function of the C library."""

    def __init__(self, symbol: str, signature: Signature) -> None:
        self.symbol, self.signature = symbol, signature

    def __call__(self, *_arguments: Any) -> Any:
        raise NotImplementedError(f"{self!r} is for kernels alone")

    def __repr__(self) -> str:
        return f"external {self.symbol} {self.signature}"

    @property
    def _numba_type_(self) -> Any:
        return _compiler().external_type(self)


def _compiler() -> Any:
    # Only compiling a kernel leads here, so only that imports numba.
    from mmcore.jit import compiler

    return compiler


int8, int16, int32, int64 = (Scalar(f"int{bits}") for bits in (8, 16, 32, 64))
uint8, uint16, uint32, uint64 = (Scalar(f"uint{bits}") for bits in (8, 16, 32, 64))
boolean, void = Boolean(), Void()
external = External
named_tuple = NamedTuple
