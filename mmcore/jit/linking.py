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
        name, code = bridge().compile_kernel(self.function, self.signature, self.digest)
        return name, code

    @cached_property
    def _packers(self) -> tuple["Packer", ...]:
        return tuple(map(_packer, self.signature.args))

    def __call__(self, *arguments: Any) -> Any:
        packers = self._packers
        if len(arguments) != len(packers):
            raise TypeError(f"{self.symbol} takes {len(packers)} arguments, not {len(arguments)}")
        words: list[int] = []
        for put, value in zip(packers, arguments, strict=True):
            put(value, words)
        native = self._native
        if native is None:
            pointers = ctypes.c_void_p, ctypes.c_void_p
            prototype = ctypes.CFUNCTYPE(ctypes.c_int32, *pointers, *[ctypes.c_int64] * len(words))
            native = self._native = prototype(self.address)
        outcome = _Outcome()
        status = native(ctypes.byref(outcome), ctypes.byref(outcome, _FAILURE), *words)
        if status not in _RETURNED:
            raise _exception(status, outcome.failure)
        if self.signature.return_type is void:
            return None
        return bool(outcome.result & 1) if self.signature.return_type is boolean else outcome.result

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


class _Outcome(ctypes.Structure):
    # A call leaves its result here, or the address of a description.
    _fields_ = (("result", ctypes.c_int64), ("failure", ctypes.POINTER(_Failure)))


_FAILURE = _Outcome.failure.offset


def _exception(status: int, failure: Any) -> BaseException:
    if status < 0 or not failure:
        return SystemError(f"a kernel returned status {status}")
    import pickle  # imported here, because kernels normally never raise

    kind, arguments, _place = pickle.loads(ctypes.string_at(failure.contents.pickled, failure.contents.size))
    error: BaseException = kind(*(arguments or ()))
    return error


Packer = Callable[[Any, list[int]], None]
"""It appends an argument's words, in numba's order."""


def _packer(kind: Any) -> Packer:
    """How an argument of this type becomes words.  A kernel makes its packers once, as some are called very often."""
    if isinstance(kind, State):

        def put_state(value: Any, words: list[int]) -> None:
            if not isinstance(value, Record) or value.kind is not kind:
                raise TypeError(f"{type(value).__name__} for a {kind}")
            words.append(value.address)

        return put_state
    if isinstance(kind, Scalar):
        limit = 1 << (kind.bits - 1 if kind.signed else kind.bits)

        def put_scalar(value: Any, words: list[int]) -> None:
            word = int(value)
            if not -limit <= word < limit:
                raise OverflowError(f"{word} for {kind}")
            words.append(word)

        return put_scalar
    if isinstance(kind, Array):

        def put_array(value: Any, words: list[int]) -> None:
            if isinstance(value, Table):
                if kind != _ROWS:
                    raise TypeError(f"a table for {kind}")
                words += (0, 0, value.rows * value.width, 8, value.address)
                words += (value.rows, value.width, 8 * value.width, 8)
                return
            array: Any = memoryview(value)
            if not is_of(array, kind.item) or array.ndim != kind.ndim:
                raise TypeError(f"{array.format}{list(array.shape)} for {kind}")
            size, length = array.itemsize, array.nbytes
            if array.readonly or length == 0:
                address = address_of(array)
            else:  # takes a quarter of the time
                address = ctypes.addressof(ctypes.c_char.from_buffer(array))
            words += (0, 0, length // size, size, address, *array.shape, *array.strides)

        return put_array
    if isinstance(kind, NamedTuple):
        fields = tuple(map(_packer, kind.kinds))

        def put_fields(value: Any, words: list[int]) -> None:
            for put, field in zip(fields, value, strict=True):
                put(field, words)

        return put_fields
    raise TypeError(f"kernels called from Python take no {kind}")
