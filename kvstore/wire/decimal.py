"""Decimal text and the processor's extended precision, for INCRBYFLOAT, and for time-outs in seconds.

Redis adds in C's long double and prints seventeen digits behind the point, which hides binary rounding: 3.0 + 1.1 is
4.1.  numba does not have this type, but LLVM does.  The functions below call the C library's strtold and snprintf.
"""

from functools import cache
from typing import Any

from kvstore.lifetimes.sizes import RESULT_MAX, TEXT_MAX
from kvstore.system.libc import bytes_at, errno, set_errno
from mmcore.jit import copy_bytes, int64, intrinsic, kernel
from mmcore.jit.toolchain import cgutils, ir

_ERANGE = 34
_NAN, _ENDS = 1, 2  # not a number; zero or infinite


@cache
def _extended() -> Any:
    # x86_fp80, for which llvmlite has no class.
    class Extended(ir.types._BaseFloatType):  # type: ignore[misc, name-defined]
        null = "0.0"
        intrinsic_name = "f80"

        def __str__(self) -> str:
            return "x86_fp80"

        def format_constant(self, value: float) -> str:
            raise NotImplementedError("constants of this type are never written")

    Extended._create_instance()
    return Extended()


def _text() -> Any:
    return ir.IntType(8).as_pointer()


def _word() -> Any:
    return ir.IntType(64)


def _strtold(builder: Any, address: Any, end: Any) -> Any:
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_extended(), [_text(), _text().as_pointer()]), "strtold"
    )
    return builder.call(function, [builder.inttoptr(address, _text()), end])


@intrinsic
def _read(typingctx, address):  # type: ignore[no-untyped-def]
    # The number of bytes that spell a number in the NUL-terminated text at `address`, times 4, plus _NAN or _ENDS.
    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        end = cgutils.alloca_once(builder, _text())
        value = _strtold(builder, values[0], end)
        length = builder.sub(builder.ptrtoint(builder.load(end), _word()), values[0])
        nan = builder.zext(builder.fcmp_unordered("uno", value, value), _word())
        ends = builder.zext(builder.fcmp_ordered("==", builder.fadd(value, value), value), _word())
        return builder.add(
            builder.shl(length, ir.Constant(_word(), 2)), builder.add(nan, builder.shl(ends, ir.Constant(_word(), 1)))
        )

    return int64(int64), codegen


@intrinsic
def _print_sum(typingctx, first, second, target, size):  # type: ignore[no-untyped-def]
    # The sum of the numbers at `first` and `second`, as text at `target`; its length.
    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        none = ir.Constant(_text().as_pointer(), None)
        total = builder.fadd(_strtold(builder, values[0], none), _strtold(builder, values[1], none))
        kind = ir.FunctionType(ir.IntType(32), [_text(), _word(), _text()], var_arg=True)
        function = cgutils.get_or_insert_function(builder.module, kind, "snprintf")
        form = context.insert_const_string(builder.module, "%.17Lf")
        written = builder.call(function, [builder.inttoptr(values[2], _text()), values[3], form, total])
        return builder.sext(written, _word())

    return int64(int64, int64, int64, int64), codegen


@intrinsic
def _thousandfold(typingctx, address):  # type: ignore[no-untyped-def]
    # The number at `address` times 1000, rounded up, and within int64.
    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        least, most = ir.Constant(_word(), -(1 << 63)), ir.Constant(_word(), (1 << 63) - 1)
        thousand = builder.sitofp(ir.Constant(_word(), 1000), _extended())
        value = builder.fmul(_strtold(builder, values[0], ir.Constant(_text().as_pointer(), None)), thousand)
        whole = builder.fptosi(value, _word())
        below = builder.fcmp_ordered("<", builder.sitofp(whole, _extended()), value)
        rounded = builder.add(whole, builder.zext(below, _word()))
        too_much = builder.fcmp_ordered(">", value, builder.sitofp(most, _extended()))
        too_little = builder.fcmp_ordered("<", value, builder.sitofp(least, _extended()))
        return builder.select(too_much, most, builder.select(too_little, least, rounded))

    return int64(int64), codegen


@kernel
def milliseconds(address):  # type: ignore[no-untyped-def]
    """The seconds that `number_text` has put at `address` as milliseconds, rounded up, and within int64."""
    return _thousandfold(address)


@kernel
def number_text(text, start, count, address):  # type: ignore[no-untyped-def]
    """Copy a number to `address`, NUL-terminated; False when Redis would not accept these bytes as a number."""
    if count == 0 or count >= TEXT_MAX:
        return False
    room = bytes_at(address, TEXT_MAX)
    copy_bytes(room, 0, text, start, count)
    room[count] = 0
    first = int64(room[0])
    if first == 32 or 9 <= first <= 13:
        return False
    set_errno(0)
    found = _read(address)
    if found >> 2 != count or found & _NAN:
        return False
    return errno() != _ERANGE or found & _ENDS == 0


@kernel
def print_sum(first, second, target):  # type: ignore[no-untyped-def]
    """Write the sum of two numbers in text as text to `target`; returns its length, or -1 if it is not a number."""
    count = _print_sum(first, second, target, RESULT_MAX)
    out = bytes_at(target, RESULT_MAX)
    digit = int64(out[1] if out[0] == 45 else out[0])
    if digit < 48 or digit > 57:
        return -1
    while out[count - 1] == 48:
        count -= 1
    if out[count - 1] == 46:
        count -= 1
    if count == 2 and out[0] == 45 and out[1] == 48:
        out[0] = 48
        count = 1
    return count
