"""Linked kernels: each is compiled once under its own symbol; kernels call it by the symbol, Python by its address.

Why linking.  Before numba optimises a function, it copies everything that the function calls, at any depth, into the
function's module.  A hundred commands that each reach the fault handler would compile it a hundred times.  A call of a
linked kernel compiles to a call of an undefined symbol, which is bound when the kernels are joined (elf.py).

How Python calls.  It uses ctypes and numba's calling convention, so a start needs neither numba's compiler nor its
wrappers.  A call returns a status and takes the address of the result, the address of the description of an exception,
and the words of the arguments.

    @linked(int64(SPACE, int64))
    def heap_alloc(space, size): ...

    heap_alloc(space, 100)      called from Python; the first such call loads its machine code (library.py)
    heap_alloc.address          of the machine code
    indirect(HANDLER)           for kernels: a call of the linked kernel at an address

With NUMBA_DISABLE_JIT=1 the decorator leaves the function as it is.
"""

import ctypes
import functools
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mmcore.jit import library
from mmcore.jit.arrays import Table, address_of, is_of
from mmcore.jit.kept import digests
from mmcore.jit.records import Record, State
from mmcore.jit.settings import DISABLED
from mmcore.jit.types import Array, NamedTuple, Scalar, Signature, boolean, bridge, int64, void

if TYPE_CHECKING:
    from mmcore.jit.digests import Digests


class Linked:
    """A separately compiled kernel; see the module's note.  Made by `linked`."""

    def __init__(self, function: Callable[..., Any], signature: Signature) -> None:
        self.symbol = f"{function.__module__}.{function.__qualname__}"
        self.signature = signature
        self.function = function
        self._native: Any = None  # the machine code, as Python calls it
        functools.update_wrapper(self, function)
        library.register(self)

    @cached_property
    def digest(self) -> str:
        """The digest of everything that its machine code depends on."""
        return digests().linked(self.symbol, self.function, self.signature)

    @cached_property
    def address(self) -> int:
        """The address of its machine code."""
        return library.address_of(self)

    @cached_property
    def _numba_type_(self) -> Any:
        return bridge().linked_type(self.symbol, self.signature)

    def digest_parts(self, _known: "Digests") -> Iterator[str]:
        """Its contribution to the digest of a kernel that calls it."""
        yield f"linked {self.symbol} {self.signature}"

    def compile(self) -> tuple[str, bytes]:
        """(the name of the function in the object, the object code)."""
        name, code = bridge().compile_kernel(self.function, self.signature)
        return name, code

    def __call__(self, *arguments: Any) -> Any:
        kinds = self.signature.args
        if len(arguments) != len(kinds):
            raise TypeError(f"{self.symbol} takes {len(kinds)} arguments, not {len(arguments)}")
        words: list[int] = []
        for kind, value in zip(kinds, arguments, strict=True):
            _put_words(kind, value, words)
        if self._native is None:
            pointers = ctypes.c_void_p, ctypes.c_void_p
            self._native = ctypes.CFUNCTYPE(ctypes.c_int32, *pointers, *[ctypes.c_int64] * len(words))(self.address)
        result, failure = ctypes.c_int64(), ctypes.POINTER(_Failure)()
        status = self._native(ctypes.byref(result), ctypes.byref(failure), *words)
        if status not in _RETURNED:
            raise _exception(status, failure)
        if self.signature.return_type is void:
            return None
        return bool(result.value & 1) if self.signature.return_type is boolean else result.value

    def __repr__(self) -> str:
        return f"<linked kernel {self.symbol}>"


class Indirect:
    """For kernels: `call(address, *arguments)`.  Made by `indirect`."""

    def __init__(self, signature: Signature) -> None:
        self.signature = signature

    @cached_property
    def _numba_type_(self) -> Any:
        return bridge().indirect_type(self.signature)

    def __call__(self, *_arguments: Any) -> Any:
        raise NotImplementedError("calls by address are for kernels alone")

    def digest_parts(self, _known: "Digests") -> Iterator[str]:
        """Its contribution to the digest of a kernel that uses it for a call."""
        yield f"indirect {self.signature}"


def linked(signature: Signature) -> Callable[[Callable[..., Any]], Any]:
    """Decorator: compile the kernel once, for `signature`, and let other kernels call it by symbol."""
    return lambda function: function if DISABLED else Linked(function, signature)


def indirect(signature: Signature) -> Indirect:
    """A call, for kernels, of the linked kernel of that signature at an address (int64)."""
    return Indirect(signature)


_ROWS = int64[:, ::1]  # how kernels take a Table
_RETURNED = (0, -2)  # numba's codes of success: with a value, and with None


class _Failure(ctypes.Structure):
    # Numba's calling convention describes an exception as a pickled (class, arguments, place).
    _fields_ = (("pickled", ctypes.c_void_p), ("size", ctypes.c_int32))


def _exception(status: int, failure: Any) -> BaseException:
    if status < 0 or not failure:
        return SystemError(f"a kernel returned status {status}")
    import pickle  # imported here, because kernels normally never raise

    kind, arguments, _place = pickle.loads(ctypes.string_at(failure.contents.pickled, failure.contents.size))
    error: BaseException = kind(*(arguments or ()))
    return error


def _put_words(kind: Any, value: Any, words: list[int]) -> None:
    """Append an argument's words, in numba's order."""
    if isinstance(kind, State):
        if not isinstance(value, Record) or value.kind is not kind:
            raise TypeError(f"{type(value).__name__} for a {kind}")
        words.append(value.address)
    elif isinstance(kind, Scalar):
        word = int(value)
        if word >> (kind.bits - 1 if kind.signed else kind.bits) not in (0, -1):
            raise OverflowError(f"{word} for {kind}")
        words.append(word)
    elif isinstance(value, Table):
        if kind != _ROWS:
            raise TypeError(f"a table for {kind}")
        words += (0, 0, value.rows * value.width, 8, value.address, value.rows, value.width, 8 * value.width, 8)
    elif isinstance(kind, Array):
        array: Any = memoryview(value)
        if not is_of(array, kind.item) or array.ndim != kind.ndim:
            raise TypeError(f"{array.format}{list(array.shape)} for {kind}")
        count = array.nbytes // array.itemsize
        words += (0, 0, count, array.itemsize, address_of(value), *array.shape, *array.strides)
    elif isinstance(kind, NamedTuple):
        for inner, field in zip(kind.kinds, value, strict=True):
            _put_words(inner, field, words)
    else:
        raise TypeError(f"kernels called from Python take no {kind}")
