"""How kernels are given their state: one pointer, and arrays of two words.

numba passes an array as seven words (owner, parent, counts, data, shape, strides), and a tuple of arrays as all of
theirs.  A kernel's state holds nine arrays, so each call would move some sixty words through the stack, which takes
longer than most kernels, and to compile that takes longer than to compile most kernels.

So a state is given by the address of a record, which is made with the state, in Python, and lives as long:

    per array   its data's address, its length        arrays of state are one-dimensional and contiguous,
    per state   the nested state's words              so that says everything

An array is read out of the record where a kernel names it.  The record never changes, and the reads say so, which lets
the compiler read each word once per kernel, and only those that are needed.  In Python, and without the compiler, a
state is the dataclass that it looks like.  compiler.py teaches numba the two types.
"""

import dataclasses
from importlib import import_module
from types import SimpleNamespace
from typing import Any, ClassVar

from mmcore.jit.arrays import address_of, is_of, zeros
from mmcore.jit.types import Array, Scalar, Type, bridge, int64


class Plain(Array):
    """The type of a contiguous, writable, one-dimensional array of `item` in a kernel's state."""

    def __init__(self, item: Scalar) -> None:
        super().__init__(item, 1)
        self.name = f"plain({item})"


class State(Type):
    """The type of a Record of Plain arrays and further states; made by `state_type`."""

    def __init__(self, kind: type["Record"], fields: tuple[Any, ...]) -> None:
        names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
        self.fields = dict(zip(names, fields, strict=True))
        inner = ", ".join(f"{name}: {field}" for name, field in self.fields.items())
        self.name = f"{kind.__module__}.{kind.__name__}({inner})"

    @property
    def words(self) -> int:
        """Length of the record."""
        return sum(_words(field) for field in self.fields.values())

    def offset(self, name: str) -> int:
        """Where in the record a field begins [words]."""
        names = list(self.fields)
        return sum(_words(self.fields[before]) for before in names[: names.index(name)])


def _words(field: Any) -> int:
    return field.words if isinstance(field, State) else 2


class Record:
    """Base of the states' classes, which are frozen dataclasses of arrays and of further states.

    `kind` is the class's State, `words` the record (int64[kind.words]), `address` where it lies.  `arrays` are NumPy's
    arrays over the same memory, for those who reckon with whole arrays.
    """

    __slots__ = ("address", "words")
    kind: ClassVar[State]
    words: Any
    address: int

    @property
    def _numba_type_(self) -> Any:
        # numba asks this of a state that Python gives to a leaf.
        return bridge().numba_type(self.kind)

    @property
    def arrays(self) -> Any:
        """Its fields by name, arrays as NumPy's."""
        numpy, found = import_module("numpy"), SimpleNamespace()
        for name, kind in self.kind.fields.items():
            value = getattr(self, name)
            setattr(found, name, value.arrays if isinstance(kind, State) else numpy.asarray(value))
        return found

    def __post_init__(self) -> None:
        words: list[int] = []
        for name, kind in self.kind.fields.items():
            value = getattr(self, name)
            if isinstance(kind, State):
                words += value.words.tolist()
                continue
            array: Any = memoryview(value)
            if not is_of(array, kind.item) or array.ndim != 1:
                raise TypeError(f"{name}: {array.format}{list(array.shape)} for {kind}")
            words += (address_of(value), len(array))
        record = zeros(int64, len(words))
        for i, word in enumerate(words):
            record[i] = word
        object.__setattr__(self, "words", record)
        object.__setattr__(self, "address", address_of(record))


def state_type(kind: type[Record], *fields: Any) -> State:
    """The type of a Record class, whose fields have these types."""
    kind.kind = State(kind, fields)
    return kind.kind
