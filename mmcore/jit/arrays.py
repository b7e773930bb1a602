"""Arrays that Python and kernels share: contiguous memory, without NumPy.

    zeros(int64, 100)           memory of its own
    over(mapping, uint8)        the memory of another object: a mmap, bytes, an array
    address_of(array)           where it begins; the caller keeps the array alive
    Table(rows, width)          rows of int64 fields
    constant(b"text")           a constant of kernels; constant((1, 2), int64)

In Python an array is a memoryview: items, slices, len, tolist; numpy.asarray takes it without copying it.  NumPy takes
longer to import than the rest of a server's start, and twelve MiB, so a server does without.  With NUMBA_DISABLE_JIT=1
kernels are Python functions that reckon with NumPy's integers, so arrays are NumPy's.
"""

import ctypes
import mmap
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from mmcore.jit.settings import DISABLED
from mmcore.jit.types import Scalar, bridge, int64, uint8

Array = Any  # a memoryview; in runs without the compiler an ndarray
_MAPPED = 1 << 16  # [bytes] from here on an array has pages of its own, which the system gives as they are touched


class _Buffer(ctypes.Structure):
    """Py_buffer, of the stable interface of CPython."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


_get_buffer, _release_buffer = ctypes.pythonapi.PyObject_GetBuffer, ctypes.pythonapi.PyBuffer_Release
_get_buffer.argtypes = (ctypes.py_object, ctypes.POINTER(_Buffer), ctypes.c_int)
_release_buffer.argtypes = (ctypes.POINTER(_Buffer),)
_release_buffer.restype = None


def anonymous(size: int) -> mmap.mmap:
    """`size` bytes of zeros, taken from the system as they are touched.  Raises OSError when it refuses."""
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000))


def zeros(kind: Scalar, count: int) -> Array:
    """`count` zeros of this type.  Raises OSError when the system refuses."""
    size = count * kind.size
    return over(anonymous(size) if size >= _MAPPED else bytearray(size), kind)


def over(buffer: Any, kind: Scalar) -> Array:
    """The memory of `buffer`, which is contiguous, as an array."""
    if DISABLED:
        return import_module("numpy").frombuffer(buffer, kind.name)
    whole: Any = memoryview(buffer)
    return (whole if whole.format == "B" and whole.ndim == 1 else whole.cast("B")).cast(kind.code)


def address_of(array: Any) -> int:
    """The address of its first byte; of any object with a buffer.  Raises BufferError where it is not contiguous."""
    buffer = _Buffer()
    _get_buffer(array, ctypes.byref(buffer), 0)  # PyBUF_SIMPLE
    try:
        return buffer.buf or 0
    finally:
        _release_buffer(ctypes.byref(buffer))


def is_of(view: memoryview, kind: Scalar) -> bool:
    """Whether it is a contiguous array of this type."""
    letters = "bhilq" if kind.signed else "BHILQ"  # some types have two
    return view.c_contiguous and view.itemsize == kind.size and view.format.lstrip("<=@") in letters


class Table:
    """Rows of int64 fields, which kernels find by its address.

    `words` is the memory, int64[rows * width].  table[row, field] is one word; `row` and `first` share the memory,
    `column` is a list of it.
    """

    def __init__(self, rows: int, width: int, words: Array = None) -> None:
        self.rows, self.width = rows, width
        self.words = zeros(int64, rows * width) if words is None else words

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]], width: int) -> "Table":
        """A table of these rows."""
        made = cls(len(rows), width)
        for number, row in enumerate(rows):
            for field, word in enumerate(row):
                made[number, field] = word
        return made

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, at: tuple[int, int]) -> int:
        return self.words[at[0] * self.width + at[1]]  # type: ignore[no-any-return]

    def __setitem__(self, at: tuple[int, int], word: int) -> None:
        self.words[at[0] * self.width + at[1]] = word

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, width)."""
        return self.rows, self.width

    @property
    def address(self) -> int:
        """Where it begins; 0 for a table without rows."""
        return address_of(self.words) if self.rows else 0

    def first(self, rows: int) -> "Table":
        """A table of the first rows of this one."""
        return Table(rows, self.width, self.words)

    def row(self, number: int) -> Array:
        """A row, int64[width]."""
        return self.words[number * self.width : (number + 1) * self.width]

    def column(self, field: int) -> list[int]:
        """A field of all rows."""
        return self.words[field : self.rows * self.width : self.width].tolist()  # type: ignore[no-any-return]

    def tolist(self) -> list[list[int]]:
        """All rows."""
        return [self.row(number).tolist() for number in range(self.rows)]

    def clear(self) -> None:
        """Set all words to zero."""
        ctypes.memset(address_of(self.words), 0, 8 * self.rows * self.width)


class Constant:
    """An array that kernels name as a global, and that becomes part of their code.  Made by `constant`."""

    def __init__(self, values: bytes | Sequence[int], kind: Scalar) -> None:
        self.kind = kind
        self.values = tuple(values)

    @property
    def _numba_type_(self) -> Any:
        return bridge().numba_type(self.kind[::1])

    @property
    def size(self) -> int:
        """How many values."""
        return len(self.values)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, key: Any) -> Any:
        return self.values[key]


def constant(values: bytes | Sequence[int], kind: Scalar = uint8) -> Any:
    """A constant array of kernels."""
    return import_module("numpy").array(list(values), kind.name) if DISABLED else Constant(values, kind)
