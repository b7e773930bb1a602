"""How kernels are given their state: one pointer, and arrays of two words.

numba passes an array as seven words (owner, parent, counts, data, shape, strides), and a tuple of arrays as all of
theirs.  A kernel's state holds nine arrays, so each call would move some sixty words through the stack, which takes
longer than most kernels, and to compile that takes longer than to compile most kernels.

So a state is given by the address of a record, which is made with the state, in Python, and lives as long:

    per array   its data's address, its length        arrays of state are one-dimensional and contiguous,
    per state   the nested state's words              so that says everything

An array is read out of the record where a kernel names it.  The record never changes, and the reads say so, which lets
the compiler read each word once per kernel, and only those that are needed.  In Python, and without the compiler, a
state is the dataclass that it looks like.
"""

import dataclasses
from typing import Any, ClassVar

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.datamodel import models, register_default
from numba.core.imputils import lower_cast, lower_getattr_generic
from numba.core.typing.templates import AttributeTemplate
from numba.extending import NativeValue, infer_getattr, typeof_impl, unbox

_WORD = ir.IntType(64)


class Plain(types.Array):  # type: ignore[misc]
    """The type of a contiguous, writable, one-dimensional array of `dtype` in a kernel's state."""

    def __init__(self, dtype: Any) -> None:
        super().__init__(dtype, 1, "C", name=f"plain({dtype})")


@register_default(Plain)
class _PlainModel(models.ArrayModel):  # type: ignore[misc]
    """numba's array as a value; as an argument, its data pointer and its length."""

    def get_argument_type(self) -> Any:
        return (self._models[self._fields.index("data")].get_argument_type(), _WORD)

    def as_argument(self, builder: Any, value: Any) -> Any:
        return (self.get(builder, value, "data"), self.get(builder, value, "nitems"))

    def from_argument(self, builder: Any, value: Any) -> Any:
        data, count = value
        size = ir.Constant(_WORD, np.dtype(self.fe_type.dtype.name).itemsize)
        array = ir.Constant(self.get_value_type(), ir.Undefined)
        fields = dict(self.inner_models())
        for name in ("meminfo", "parent"):
            array = self.set(builder, array, ir.Constant(fields[name].get_value_type(), None), name)
        for name, content in (("nitems", count), ("itemsize", size), ("data", data)):
            array = self.set(builder, array, content, name)
        for name, content in (("shape", count), ("strides", size)):
            one = builder.insert_value(ir.Constant(fields[name].get_value_type(), ir.Undefined), content, 0)
            array = self.set(builder, array, one, name)
        return array

    def inner_models(self) -> Any:
        return zip(self._fields, self._models, strict=True)


@lower_cast(Plain, types.Array)
@lower_cast(types.Array, Plain)
def _same_value(context, builder, source, target, value):  # type: ignore[no-untyped-def]
    return value


class State(types.Type):  # type: ignore[misc]
    """The type of a Record of Plain arrays and further states; made by `state_type`."""

    def __init__(self, kind: type["Record"], fields: tuple[Any, ...]) -> None:
        names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
        self.fields = dict(zip(names, fields, strict=True))
        super().__init__(name=f"{kind.__module__}.{kind.__name__}({', '.join(str(field) for field in fields)})")

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

    `kind` is the class's State, `words` the record (int64[kind.words]), `address` where it lies.
    """

    __slots__ = ("address", "words")
    kind: ClassVar[State]
    words: np.ndarray
    address: int

    def __post_init__(self) -> None:
        words: list[int] = []
        for name, kind in self.kind.fields.items():
            value = getattr(self, name)
            if isinstance(kind, State):
                words += value.words.tolist()
                continue
            if value.dtype != np.dtype(kind.dtype.name) or value.ndim != 1 or not value.flags.c_contiguous:
                raise TypeError(f"{name}: {value.dtype}{list(value.shape)} for {kind}")
            words += (value.ctypes.data, value.size)
        record = np.array(words, np.int64)
        object.__setattr__(self, "words", record)
        object.__setattr__(self, "address", record.ctypes.data)


def state_type(kind: type[Record], *fields: Any) -> State:
    """The numba type of a Record class, whose fields have these types; values of the class are known to have it."""
    known = kind.kind = State(kind, fields)
    typeof_impl.register(kind)(lambda value, context: known)
    return known


@register_default(State)
class _StateModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: State) -> None:
        super().__init__(manager, kind, _WORD.as_pointer())


@infer_getattr
class _StateAttribute(AttributeTemplate):  # type: ignore[misc]
    key = State

    def generic_resolve(self, kind: State, name: str) -> Any:
        return kind.fields.get(name)


def _address(builder: Any, record: Any, offset: int) -> Any:
    return builder.gep(record, [ir.Constant(_WORD, offset)], inbounds=True)


@lower_getattr_generic(State)
def _field(context, builder, kind, record, name):  # type: ignore[no-untyped-def]
    field, offset = kind.fields[name], kind.offset(name)
    if isinstance(field, State):
        return _address(builder, record, offset)
    words = []
    for i in range(2):
        word = builder.load(_address(builder, record, offset + i))
        word.set_metadata("invariant.load", builder.module.add_metadata([]))
        words.append(word)
    model = context.data_model_manager[field]
    return model.from_argument(builder, (builder.inttoptr(words[0], model.get_argument_type()[0]), words[1]))


@unbox(State)
def _unbox(kind, value, c):  # type: ignore[no-untyped-def]
    number = c.pyapi.object_getattr_string(value, "address")
    record = c.builder.inttoptr(c.pyapi.long_as_longlong(number), _WORD.as_pointer())
    c.pyapi.decref(number)
    return NativeValue(record, is_error=c.pyapi.c_api_error())
