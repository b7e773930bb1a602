"""Functions of C's mathematical library, called by symbol: they give the same last digit as in a program written in C.

Kernels pass numbers that are no integers as their bits (kvstore/wire/doubles.py); here they are doubles, because these
functions are inlined.
"""

from typing import Any

from mmcore.jit import intrinsic
from mmcore.jit.toolchain import arrays, cgutils, ir, types


def _of_double(symbol: str) -> Any:
    # An intrinsic that calls a function of one double.
    def function(typingctx, value):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
            kind = ir.FunctionType(ir.DoubleType(), [ir.DoubleType()])
            return builder.call(cgutils.get_or_insert_function(builder.module, kind, symbol), values)

        return types.float64(types.float64), codegen

    return intrinsic(function)


sine, cosine, arcsine = _of_double("sin"), _of_double("cos"), _of_double("asin")
square_root = _of_double("llvm.sqrt.f64")
rounded = _of_double("rint")  # to the nearest integer, halves to the even one


@intrinsic
def doubles_at(typingctx, address, count):  # type: ignore[no-untyped-def]
    """(address, count) -> float64[count]: a view of that memory."""

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        made = arrays.make_array(signature.return_type)(context, builder)
        pointer = builder.inttoptr(values[0], ir.DoubleType().as_pointer())
        item = context.get_constant(types.intp, 8)
        arrays.populate_array(made, data=pointer, shape=[values[1]], strides=[item], itemsize=item, meminfo=None)
        return made._getvalue()

    return types.float64[::1](types.int64, types.int64), codegen
