"""Doubles with a number of digits behind the point, as Redis prints distances and positions.

reply_distance      four digits, which Redis 7.2 gets by rounding the double times 10000; not negative
reply_coordinate    seventeen digits without the zeros at their end; in RESP3 a double
put_six             C's %f, as a part of an error
"""

from kvstore.lifetimes.call import PROTOCOL, REPLY_ADDRESS, REPLY_LENGTH
from kvstore.lifetimes.context import CONTEXT
from kvstore.system.libc import bytes_at
from kvstore.system.maths import rounded
from kvstore.wire.doubles import bits_of_double, double_of_bits
from kvstore.wire.numerals import put_decimal
from kvstore.wire.resp import reply_bulk, reply_raw, reply_room
from mmcore.jit import constant, int64, intrinsic, kernel, linked, void
from mmcore.jit.toolchain import cgutils, ir, types

_TEXT_MAX = 352  # [bytes] of a double with seventeen digits behind the point: 309 before it, a sign, a point, a NUL
_NO_NUMBER = constant(b"-922337203685477.5808")  # a NaN, as Redis 7.2 prints it
_END = constant(b"\r\n")


@intrinsic
def _print(typingctx, value, digits, address):  # type: ignore[no-untyped-def]
    # Write a double with so many digits behind the point to _TEXT_MAX bytes at `address`; its length.
    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        text = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.IntType(32), [text, ir.IntType(64), text], var_arg=True)
        function = cgutils.get_or_insert_function(builder.module, kind, "snprintf")
        form, room = context.insert_const_string(builder.module, "%.*f"), ir.Constant(ir.IntType(64), _TEXT_MAX)
        digits = builder.trunc(values[1], ir.IntType(32))
        written = builder.call(function, [builder.inttoptr(values[2], text), room, form, digits, values[0]])
        return builder.sext(written, ir.IntType(64))

    return types.int64(types.float64, types.int64, types.int64), codegen


@kernel
def _print_behind(context, value, digits):  # type: ignore[no-untyped-def]
    # Write a double behind the reply, with room for a header; (the offset, the length).
    reply_room(context, 2 * _TEXT_MAX)
    at = context.call[REPLY_LENGTH] + _TEXT_MAX
    return at, _print(value, digits, context.call[REPLY_ADDRESS] + at)


@linked(void(CONTEXT, int64))
def put_six_bits(context, bits):  # type: ignore[no-untyped-def]
    """put_six of the double with these bits."""
    reply_room(context, _TEXT_MAX)
    at = context.call[REPLY_LENGTH]
    context.call[REPLY_LENGTH] = at + _print(double_of_bits(bits), 6, context.call[REPLY_ADDRESS] + at)


@linked(void(CONTEXT, int64))
def reply_coordinate_bits(context, bits):  # type: ignore[no-untyped-def]
    """reply_coordinate of the double with these bits."""
    at, count = _print_behind(context, double_of_bits(bits), 17)
    out = bytes_at(context.call[REPLY_ADDRESS] + at, _TEXT_MAX)
    while out[count - 1] == 48:
        count -= 1
    if out[count - 1] == 46:
        count -= 1
    if count == 2 and out[0] == 45 and out[1] == 48:
        out[0] = 48
        count = 1
    if context.call[PROTOCOL] == 3:
        reply_room(context, count + 3)[context.call[REPLY_LENGTH]] = 44
        context.call[REPLY_LENGTH] += 1
        reply_raw(context, out, 0, count)
        reply_raw(context, _END, 0, 2)
    else:
        reply_bulk(context, out, 0, count)


@linked(void(CONTEXT, int64))
def reply_distance_bits(context, bits):  # type: ignore[no-untyped-def]
    """reply_distance of the double with these bits."""
    value = double_of_bits(bits)
    if value != value:
        reply_bulk(context, _NO_NUMBER, 0, len(_NO_NUMBER))
        return
    number = int64(rounded(value * 10000.0))
    out, start = reply_room(context, 96), context.call[REPLY_LENGTH] + 48
    at = start + put_decimal(out, start, number // 10000)
    out[at] = 46
    for i in range(4):
        out[at + 4 - i] = 48 + number % 10
        number //= 10
    reply_bulk(context, out, start, at + 5 - start)


@kernel
def put_six(context, value):  # type: ignore[no-untyped-def]
    """A double with six digits behind the point, as a part of a longer text."""
    put_six_bits(context, bits_of_double(value))


@kernel
def reply_distance(context, value):  # type: ignore[no-untyped-def]
    """A distance: a bulk string in both protocols."""
    reply_distance_bits(context, bits_of_double(value))


@kernel
def reply_coordinate(context, value):  # type: ignore[no-untyped-def]
    """A longitude or a latitude; in RESP2 a bulk string that spells it."""
    reply_coordinate_bits(context, bits_of_double(value))
