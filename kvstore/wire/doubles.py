"""Doubles: the text of scores, in and out, and the words that hold them.

Kernels are linked without floating point in their signatures, and tables have words, so a double travels as its bits
(`bits_of_double`).  A structure that orders doubles keeps `sortable` words instead: their order as int64 is the order
of the doubles, and -0 and 0 are the same word, because Redis orders them by member.

Text is read as redis-server 7 reads it, with C's strtod: infinities and hexadecimal digits are numbers; blanks, NaN,
and what only an infinity or zero would represent are not.  Most numbers are short, and are read without strtod: an
integer below 2^53 divided by a power of ten up to 10^15 is the nearest double.

Text is written as Redis 7.2 writes it: an integer up to 2^62 has all its digits, any other double the digits that
Grisu2 finds (Loitsch, "Printing floating-point numbers quickly and accurately with integers", PLDI 2010), laid out as
in fpconv.  These digits always read back as the same double.  A few doubles in a thousand have fewer or nearer digits
that would do (1e23 is written 99999999999999990000000), but clients compare text with text.
"""

from typing import Any

from kvstore.system.libc import bytes_at, errno, free, malloc, set_errno, words_at
from kvstore.wire.arguments import arg_length, arg_offset, query
from kvstore.wire.numerals import put_decimal
from mmcore.jit import constant, copy_bytes, int64, intrinsic, kernel, linked, uint8, uint64
from mmcore.jit.toolchain import cgutils, ir, types

DOUBLE_MAX = 25  # [bytes] of a double's text

NO_DOUBLE = -1  # the bits of a NaN: no double

_ERANGE = 34
_INT64_MAX = 0x7FFF_FFFF_FFFF_FFFF
_WHOLE_MAX = float(1 << 62)  # integers up to here are printed as integers
_ROOM = 256  # [bytes] on the stack

_FRACTION_BITS = 52
_HIDDEN = uint64(1 << _FRACTION_BITS)  # the leading bit, which is not stored
_FRACTION = _HIDDEN - 1
_BIAS = 1023 + _FRACTION_BITS
_LOW, _HALF = uint64(0xFFFF_FFFF), uint64(1 << 31)
_ONE, _TEN = uint64(1), uint64(10)
_EXPONENT_MIN, _EXPONENT_MAX = -60, -32  # of the product with a power of ten
_FIRST_POWER, _POWER_STEP, _POWER_COUNT = -348, 8, 87
_LOG10_2 = 0.30102999566398114  # fpconv's


def _power(exponent: int) -> tuple[int, int]:
    # (f, e): f * 2^e is 10^exponent, f rounded to 64 bits.
    numerator, denominator = 10 ** max(exponent, 0), 10 ** max(-exponent, 0)
    shift = numerator.bit_length() - denominator.bit_length() - 64
    while True:
        top, bottom = numerator << max(-shift, 0), denominator << max(shift, 0)
        rounded = (2 * top + bottom) // (2 * bottom)
        if rounded >> 64 == 0:
            return rounded, shift
        shift += 1


_POWERS = [_power(_FIRST_POWER + _POWER_STEP * i) for i in range(_POWER_COUNT)]
_POWER_BITS = constant([bits for bits, _ in _POWERS], uint64)
_POWER_EXPONENT = constant([exponent for _, exponent in _POWERS], int64)
_TENS = constant([10**i for i in range(20)], uint64)

# ------------------------------------------------------------------------------------------------------- bits and order


@intrinsic
def double_of_bits(typingctx, bits):  # type: ignore[no-untyped-def]
    """The double with these bits (int64)."""

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        return builder.bitcast(values[0], ir.DoubleType())

    return types.float64(types.int64), codegen


@intrinsic
def bits_of_double(typingctx, value):  # type: ignore[no-untyped-def]
    """The bits of a double, as an int64."""

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        return builder.bitcast(values[0], ir.IntType(64))

    return types.int64(types.float64), codegen


@kernel
def sortable(value):  # type: ignore[no-untyped-def]
    """The word of a double that is not NaN: words compare as their doubles do."""
    bits = bits_of_double(value + 0.0)  # -0 + 0 is 0
    return bits ^ ((bits >> 63) & _INT64_MAX)


@kernel
def double_of(word):  # type: ignore[no-untyped-def]
    """The double of a sortable word."""
    return double_of_bits(word ^ ((word >> 63) & _INT64_MAX))


# -------------------------------------------------------------------------------------------------------- the C library


@intrinsic
def _stack(typingctx):  # type: ignore[no-untyped-def]
    # The address of _ROOM bytes of the calling kernel's stack.
    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        room = cgutils.alloca_once(builder, ir.ArrayType(ir.IntType(8), _ROOM))
        return builder.ptrtoint(room, ir.IntType(64))

    return int64(), codegen


def _text() -> Any:
    return ir.IntType(8).as_pointer()


@intrinsic
def _strtod(typingctx, address, end):  # type: ignore[no-untyped-def]
    # The number in the NUL-terminated text at `address`; the word at `end` becomes the address behind it.
    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        kind = ir.FunctionType(ir.DoubleType(), [_text(), _text().as_pointer()])
        function = cgutils.get_or_insert_function(builder.module, kind, "strtod")
        end = builder.inttoptr(values[1], _text().as_pointer())
        return builder.call(function, [builder.inttoptr(values[0], _text()), end])

    return types.float64(types.int64, types.int64), codegen


@intrinsic
def _print17(typingctx, value, target):  # type: ignore[no-untyped-def]
    # Write a double with seventeen digits at `target`, NUL-terminated; its length.
    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        kind = ir.FunctionType(ir.IntType(32), [_text(), ir.IntType(64), _text()], var_arg=True)
        function = cgutils.get_or_insert_function(builder.module, kind, "snprintf")
        form = context.insert_const_string(builder.module, "%.17g")
        room = ir.Constant(ir.IntType(64), _ROOM)
        written = builder.call(function, [builder.inttoptr(values[1], _text()), room, form, values[0]])
        return builder.sext(written, ir.IntType(64))

    return types.int64(types.float64, types.int64), codegen


# -------------------------------------------------------------------------------------------------------------- reading


@kernel
def _read_short(text, start, count):  # type: ignore[no-untyped-def]
    # The bits of a number of at most fifteen digits without an exponent; NO_DOUBLE if this is something else.
    at, end = start, start + count
    negative = text[at] == 45
    if negative or text[at] == 43:
        at += 1
    number, digits, behind, point = 0, 0, 0, False
    while at < end:
        byte = int64(text[at])
        if 48 <= byte <= 57:
            number = 10 * number + byte - 48
            digits += 1
            behind += point
        elif byte == 46 and not point:
            point = True
        else:
            return NO_DOUBLE
        at += 1
    if digits == 0 or digits > 15:
        return NO_DOUBLE
    value = float(number) / float(int64(_TENS[behind]))
    return bits_of_double(-value if negative else value)


@kernel
def _read_copy(block, text, start, count, lenient):  # type: ignore[no-untyped-def]
    # The bits of a number, or NO_DOUBLE.  The block at this address has room for a word, these bytes and a NUL.
    address = block + 8
    room = bytes_at(address, count + 1)
    copy_bytes(room, 0, text, start, count)
    room[count] = 0
    set_errno(0)
    value = _strtod(address, block)
    length = words_at(block, 1)[0] - address
    if value != value:
        return NO_DOUBLE
    if lenient != 0:
        return bits_of_double(value) if room[length] == 0 else NO_DOUBLE
    first = int64(room[0])
    if count == 0 or length != count or first == 32 or 9 <= first <= 13:
        return NO_DOUBLE
    if errno() == _ERANGE and (value == 0.0 or value + value == value):
        return NO_DOUBLE
    return bits_of_double(value)


@linked(int64(uint8[::1], int64, int64, int64))
def read_double(text, start, count, lenient):  # type: ignore[no-untyped-def]
    """The bits of the double that text[start:start + count] spells, or NO_DOUBLE.

    Lenient is how Redis reads the ends of ranges: up to a zero byte, blanks before the number are skipped, no digits at
    all are 0, and what is too large or too small is infinite or 0.
    """
    if 0 < count <= 17:
        bits = _read_short(text, start, count)
        if bits != NO_DOUBLE:
            return bits
    if count + 9 <= _ROOM:
        return _read_copy(_stack(), text, start, count, lenient)
    block = malloc(count + 9)
    if block == 0:
        return NO_DOUBLE
    bits = _read_copy(block, text, start, count, lenient)
    free(block)
    return bits


@kernel
def parse_double(text, start, count):  # type: ignore[no-untyped-def]
    """(whether these bytes spell a double, its value)."""
    bits = read_double(text, start, count, 0)
    return bits != NO_DOUBLE, double_of_bits(bits)


@kernel
def double_argument(context, i):  # type: ignore[no-untyped-def]
    """(whether argument i spells a double, its value)."""
    return parse_double(query(context), arg_offset(context, i), arg_length(context, i))


# -------------------------------------------------------------------------------------------------------------- writing


@kernel
def _product(a, b):  # type: ignore[no-untyped-def]
    # The upper 64 bits of a product of uint64, rounded.
    high_low, low_high = (a >> uint64(32)) * (b & _LOW), (a & _LOW) * (b >> uint64(32))
    middle = (high_low & _LOW) + (low_high & _LOW) + (((a & _LOW) * (b & _LOW)) >> uint64(32)) + _HALF
    high = (a >> uint64(32)) * (b >> uint64(32))
    return high + (high_low >> uint64(32)) + (low_high >> uint64(32)) + (middle >> uint64(32))


@kernel
def _shift_to(fraction, bit):  # type: ignore[no-untyped-def]
    # By how many places a fraction must be shifted until this bit is set.
    shift = 0
    while (fraction << uint64(shift)) & bit == uint64(0):
        shift += 1
    return shift


@kernel
def _power_for(exponent):  # type: ignore[no-untyped-def]
    # The index of the power of ten whose product with a fraction of this exponent is within Grisu's bounds.
    i = (int64(float(-(exponent + _POWER_COUNT)) * _LOG10_2) - _FIRST_POWER) // _POWER_STEP
    while True:
        scaled = exponent + _POWER_EXPONENT[i] + 64
        if scaled < _EXPONENT_MIN:
            i += 1
        elif scaled > _EXPONENT_MAX:
            i -= 1
        else:
            return i


@kernel
def _round_last(out, last, delta, rest, unit, gap):  # type: ignore[no-untyped-def]
    # Bring the last digit as near to the double as it can get within the interval.
    digit = out[last]
    while rest < gap and delta - rest >= unit and (rest + unit < gap or gap - rest > rest + unit - gap):
        digit -= 1
        rest += unit
    out[last] = digit


@kernel
def _digits(out, bits):  # type: ignore[no-untyped-def]
    # Write the digits of a positive double, 18 at most, to out[0:]; (how many, the power of ten that they count).
    fraction, exponent = uint64(bits) & _FRACTION, (bits >> _FRACTION_BITS) & 0x7FF
    if exponent != 0:
        fraction |= _HIDDEN
        exponent -= _BIAS
    else:
        exponent = 1 - _BIAS
    # The bounds of what reads back as this double, and the double, with a common exponent.
    upper = (fraction << _ONE) + _ONE
    shift = _shift_to(upper, uint64(1 << 63))
    upper <<= uint64(shift)
    common = exponent - 1 - shift
    narrow = 2 if fraction == _HIDDEN else 1
    lower = ((fraction << uint64(narrow)) - _ONE) << uint64(exponent - narrow - common)
    middle = fraction << uint64(exponent - common)
    i = _power_for(common)
    power = _POWER_BITS[i]
    upper = _product(upper, power) - _ONE
    lower = _product(lower, power) + _ONE
    middle = _product(middle, power)
    point = uint64(-(common + _POWER_EXPONENT[i] + 64))  # bits behind the binary point, 32 to 60
    behind = -(_FIRST_POWER + _POWER_STEP * i)
    gap, delta = upper - middle, upper - lower
    whole, part = upper >> point, upper & ((_ONE << point) - _ONE)
    count, left = 0, 10
    while left > 0:
        left -= 1
        unit = _TENS[left]
        digit = whole // unit
        if digit != uint64(0) or count != 0:
            out[count] = uint8(digit) + 48
            count += 1
        whole -= digit * unit
        rest = (whole << point) + part
        if rest <= delta:
            _round_last(out, count - 1, delta, rest, unit << point, gap)
            return count, behind + left
    scale = _ONE
    while True:
        part *= _TEN
        delta *= _TEN
        scale *= _TEN
        left -= 1
        digit = part >> point
        if digit != uint64(0) or count != 0:
            out[count] = uint8(digit) + 48
            count += 1
        part &= (_ONE << point) - _ONE
        if part < delta:
            _round_last(out, count - 1, delta, part, _ONE << point, gap * scale)
            return count, behind + left


@kernel
def _put_exponent(out, at, exponent):  # type: ignore[no-untyped-def]
    # Write e, a sign and an exponent; returns the place behind it.
    out[at] = 101
    out[at + 1] = 45 if exponent < 0 else 43
    return at + 2 + put_decimal(out, at + 2, abs(exponent))


@kernel
def _lay_out(out, at, digits, count, power):  # type: ignore[no-untyped-def]
    # Write the number digits * 10^power as fpconv does; returns the place behind it.
    exponent = power + count - 1
    if power >= 0 and abs(exponent) < count + 7:
        copy_bytes(out, at, digits, 0, count)
        for i in range(power):
            out[at + count + i] = 48
        return at + count + power
    if power < 0 and (power > -7 or abs(exponent) < 4):
        if exponent < 0:
            zeros = -exponent
            for i in range(zeros + 1):
                out[at + i] = 48
            out[at + 1] = 46
            copy_bytes(out, at + 1 + zeros, digits, 0, count)
            return at + 1 + zeros + count
        copy_bytes(out, at, digits, 0, exponent + 1)
        out[at + exponent + 1] = 46
        copy_bytes(out, at + exponent + 2, digits, exponent + 1, -power)
        return at + count + 1
    out[at] = digits[0]
    if count == 1:
        return _put_exponent(out, at + 1, exponent)
    out[at + 1] = 46
    copy_bytes(out, at + 2, digits, 1, count - 1)
    return _put_exponent(out, at + 1 + count, exponent)


@kernel
def _put_word(out, start, first, second, third):  # type: ignore[no-untyped-def]
    out[start] = first
    out[start + 1] = second
    out[start + 2] = third
    return 3


@linked(int64(uint8[::1], int64, int64))
def write_double(out, start, bits):  # type: ignore[no-untyped-def]
    """put_double of the double with these bits."""
    value = double_of_bits(bits)
    if value != value:
        return _put_word(out, start, 110, 97, 110)
    at = start
    if bits < 0:
        out[at] = 45
        at += 1
        value = -value
    if value + value == value and value != 0.0:
        return at - start + _put_word(out, at, 105, 110, 102)
    if value <= _WHOLE_MAX and float(int64(value)) == value:
        return at - start + put_decimal(out, at, int64(value))
    digits = bytes_at(_stack(), _ROOM)
    count, power = _digits(digits, bits & _INT64_MAX)
    return _lay_out(out, at, digits, count, power) - start


@kernel
def put_double(out, start, value):  # type: ignore[no-untyped-def]
    """Write a score's text at out[start:] (DOUBLE_MAX bytes at most); returns how many bytes it took."""
    return write_double(out, start, bits_of_double(value))


@linked(int64(uint8[::1], int64, int64))
def write_double17(out, start, bits):  # type: ignore[no-untyped-def]
    """put_double17 of the double with these bits."""
    address = _stack()
    count = _print17(double_of_bits(bits), address)
    copy_bytes(out, start, bytes_at(address, _ROOM), 0, count)
    return count


@kernel
def put_double17(out, start, value):  # type: ignore[no-untyped-def]
    """Write C's %.17g of a double at out[start:] (DOUBLE_MAX bytes at most); returns how many bytes it took."""
    return write_double17(out, start, bits_of_double(value))
