"""The types of kernels' signatures, in numba's notation and without numba.

    int64(SPACE, int64)         a signature: what is returned, and of what arguments
    int64[::1], int64[:, ::1]   contiguous arrays
    void, boolean               only as what is returned
    int64(x)                    in a kernel: x as an int64
    RW = uint64(1 << 1)         in Python: a constant of kernels, which keeps its type in arithmetic (Word)
    external("send", int64(int32, int64, int64, int32))     a function of the C library, called by its symbol
    named_tuple((int64, uint8[::1]), Echo)                  of a NamedTuple's fields, passed one by one

compiler.py turns each into numba's type of that name when a kernel is compiled; nothing else asks for numba.  With
NUMBA_DISABLE_JIT=1 kernels are Python functions, and their numbers NumPy's, which wrap around as numba's do.
"""

from collections.abc import Callable, Sequence
from functools import cache, cached_property
from importlib import import_module
from typing import Any

from mmcore.jit.settings import DISABLED


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
        return bridge().type_of_type(self)


class Word(int):
    """An unsigned integer of a Scalar type, as a kernel's constant.  Arithmetic wraps around and keeps the type."""

    kind: "Scalar"

    @property
    def _numba_type_(self) -> Any:
        return bridge().numba_type(self.kind)

    def __invert__(self) -> "Word":
        return self.kind(~int(self))  # type: ignore[no-any-return]

    __str__ = int.__repr__

    def __repr__(self) -> str:
        return f"{self.kind}({int(self)})"


def _keeping(name: str) -> Callable[[Word, int], Any]:
    operation = getattr(int, name)

    def keeping(self: Word, other: int) -> Any:
        result = operation(self, other)
        return result if result is NotImplemented else self.kind(result)

    return keeping


# From either side: uint64(1) | 2 and 2 | uint64(1) are both of its type.
for _name in ["and", "or", "xor", "lshift", "rshift", "add", "sub", "mul", "floordiv", "mod"]:
    for _side in ("", "r"):
        setattr(Word, f"__{_side}{_name}__", _keeping(f"__{_side}{_name}__"))


class Scalar(Type):
    """An integer of so many bits.  `code` is its letter in struct and memoryview."""

    def __init__(self, code: str, bits: int) -> None:
        self.code, self.bits, self.signed = code, bits, code.islower()
        self.size = bits // 8  # [bytes]
        self.name = f"{'' if self.signed else 'u'}int{bits}"

    def __call__(self, *arguments: Any) -> Any:
        if len(arguments) != 1 or isinstance(arguments[0], Type):
            return super().__call__(*arguments)
        if DISABLED:
            return self._of_numpy(arguments[0])
        word = int(arguments[0]) & (1 << self.bits) - 1
        if self.signed:
            return word - (word >> self.bits - 1 << self.bits)
        made = Word(word)
        made.kind = self
        return made

    @cached_property
    def _of_numpy(self) -> Any:
        # Looked up once: without the compiler kernels convert at every step.
        return getattr(import_module("numpy"), self.name)

    def __getitem__(self, key: Any) -> "Array":
        axes = key if isinstance(key, tuple) else (key,)
        if axes[-1] != slice(None, None, 1) or any(axis != slice(None) for axis in axes[:-1]):
            raise TypeError("arrays of kernels are contiguous: [::1], [:, ::1]")
        return Array(self, len(axes))


class Boolean(Type):
    """The type of a test's result."""

    name = "boolean"


class Void(Type):
    """The type of no result."""

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
    """A kernel's types: of its result, and of its arguments."""

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
        return bridge().external_type(self)


@cache
def bridge() -> Any:
    """compiler.py.  Only compiling a kernel leads here, so only that imports numba."""
    return import_module("mmcore.jit.compiler")


int8, int16, int32, int64 = Scalar("b", 8), Scalar("h", 16), Scalar("i", 32), Scalar("q", 64)
uint8, uint16, uint32, uint64 = Scalar("B", 8), Scalar("H", 16), Scalar("I", 32), Scalar("Q", 64)
boolean, void = Boolean(), Void()
external = External
named_tuple = NamedTuple
