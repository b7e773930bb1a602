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
from mmcore.jit.records import State
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
    def _call(self) -> Callable[..., Any]:
        return _caller(self)

    def __call__(self, *arguments: Any) -> Any:
        if len(arguments) != len(self.signature.args):
            raise TypeError(f"{self.symbol} takes {len(self.signature.args)} arguments, not {len(arguments)}")
        return self._call(*arguments)

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


def _caller(kernel: Linked) -> Callable[..., Any]:
    """The function by which Python calls a kernel.

    It is written out for the kernel's signature, which halves the time of a call: most kernels take less time than a
    loop over their arguments.
    """
    kinds = kernel.signature.args
    scope: dict[str, Any] = {"byref": ctypes.byref, "Outcome": _Outcome, "FAILURE": _FAILURE, "failed": _exception}
    lines, words, count = [], [], 0
    for i, kind in enumerate(kinds):
        value = f"_{i}"
        if isinstance(kind, State):
            scope[f"kind{i}"], scope["wrong"] = kind, _wrong_state
            lines.append(f"if getattr({value}, 'kind', None) is not kind{i}: wrong({value}, kind{i})")
            words.append(f"{value}.address")
        elif isinstance(kind, Scalar):
            limit = 1 << (kind.bits - 1 if kind.signed else kind.bits)
            scope[f"kind{i}"], scope["too_large"] = kind, _too_large
            lines.append(f"{value} = int({value})")
            lines.append(f"if not {-limit} <= {value} < {limit}: too_large({value}, kind{i})")
            words.append(value)
        else:
            scope[f"pack{i}"] = _packer(kind)
            words.append(f"*pack{i}({value})")
        count += _word_count(kind)
    pointers = ctypes.c_void_p, ctypes.c_void_p
    prototype = ctypes.CFUNCTYPE(ctypes.c_int32, *pointers, *[ctypes.c_int64] * count)
    scope["native"] = prototype(kernel.address)
    returned = kernel.signature.return_type
    answer = {void: "None", boolean: "bool(outcome.result & 1)"}.get(returned, "outcome.result")
    lines += [
        "outcome = Outcome()",
        f"status = native({', '.join(['byref(outcome)', 'byref(outcome, FAILURE)', *words])})",
        f"if status not in {_RETURNED}: raise failed(status, outcome.failure)",
        f"return {answer}",
    ]
    parameters = ", ".join(f"_{i}" for i in range(len(kinds)))
    exec(f"def call({parameters}):\n    " + "\n    ".join(lines), scope)
    return scope["call"]  # type: ignore[no-any-return]


def _wrong_state(value: Any, kind: State) -> None:
    raise TypeError(f"{type(value).__name__} for a {kind}")


def _too_large(word: int, kind: Scalar) -> None:
    raise OverflowError(f"{word} for {kind}")


def _word_count(kind: Any) -> int:
    if isinstance(kind, Array):
        return 5 + 2 * kind.ndim
    return sum(map(_word_count, kind.kinds)) if isinstance(kind, NamedTuple) else 1


Packer = Callable[[Any], tuple[int, ...]]
"""An argument's words, in numba's order."""


def _packer(kind: Any) -> Packer:
    """How an argument of several words becomes these, or one within a tuple."""
    if isinstance(kind, Scalar):
        limit = 1 << (kind.bits - 1 if kind.signed else kind.bits)

        def pack_scalar(value: Any) -> tuple[int, ...]:
            word = int(value)
            if not -limit <= word < limit:
                _too_large(word, kind)
            return (word,)

        return pack_scalar
    if isinstance(kind, Array):

        def pack_array(value: Any) -> tuple[int, ...]:
            if isinstance(value, Table):
                if kind != _ROWS:
                    raise TypeError(f"a table for {kind}")
                words = 0, 0, value.rows * value.width, 8, value.address
                return *words, value.rows, value.width, 8 * value.width, 8
            array: Any = memoryview(value)
            if not is_of(array, kind.item) or array.ndim != kind.ndim:
                raise TypeError(f"{array.format}{list(array.shape)} for {kind}")
            size, length = array.itemsize, array.nbytes
            if array.readonly or length == 0:
                address = address_of(array)
            else:  # takes a quarter of the time
                address = ctypes.addressof(ctypes.c_char.from_buffer(array))
            return 0, 0, length // size, size, address, *array.shape, *array.strides

        return pack_array
    if isinstance(kind, NamedTuple):
        fields = tuple(map(_packer, kind.kinds))

        def pack_fields(value: Any) -> tuple[int, ...]:
            return tuple(word for pack, field in zip(fields, value, strict=True) for word in pack(field))

        return pack_fields
    raise TypeError(f"kernels called from Python take no {kind}")
