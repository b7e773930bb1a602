"""Plain arrays: array types that cost two words as an argument.

numba passes an array as seven words (owner, parent, counts, data, shape, strides).  A kernel's state holds seven arrays
or more, so each call would move some fifty words through the stack, which takes longer than most kernels.  The arrays
of a kernel's state are one-dimensional, contiguous and kept alive by their Python owner: their data and length say
everything.  A `Plain` array is numba's array in all other respects, and converts from and to it.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.datamodel import register_default
from numba.core.datamodel.models import ArrayModel
from numba.core.imputils import lower_cast
from numba.extending import typeof_impl


class Plain(types.Array):  # type: ignore[misc]
    """The type of a contiguous, writable, one-dimensional array of `dtype` in a kernel's state."""

    def __init__(self, dtype: Any) -> None:
        super().__init__(dtype, 1, "C", name=f"plain({dtype})")


@register_default(Plain)
class _PlainModel(ArrayModel):  # type: ignore[misc]
    """numba's array as a value; as an argument, its data pointer and its length."""

    def get_argument_type(self) -> Any:
        return (self._models[self._fields.index("data")].get_argument_type(), ir.IntType(64))

    def as_argument(self, builder: Any, value: Any) -> Any:
        return (self.get(builder, value, "data"), self.get(builder, value, "nitems"))

    def from_argument(self, builder: Any, value: Any) -> Any:
        data, count = value
        size = ir.Constant(ir.IntType(64), np.dtype(self.fe_type.dtype.name).itemsize)
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


def state_type(kind: type, *fields: Any) -> Any:
    """The numba type of a NamedTuple class of kernel state; values of the class are known to have it."""
    known = types.NamedTuple(fields, kind)
    typeof_impl.register(kind)(lambda value, context: known)
    return known
