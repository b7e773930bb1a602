"""Doubles: read as redis-server reads scores, written as Valkey writes them, and ordered as words."""

import math
import random
import struct
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from kvstore.wire.doubles import (
    DOUBLE_MAX,
    NO_DOUBLE,
    bits_of_double,
    double_of,
    double_of_bits,
    read_double,
    sortable,
    write_double,
    write_double17,
)
from mmcore.jit import int64, linked
from tests.harness import Process, start_redis, start_valkey
from tests.server.wire import Wire

SEED = 20_240_917
DRAWN = 20_000


@linked(int64(int64))
def sortable_of(bits):  # type: ignore[no-untyped-def]
    """sortable, for Python: in and out as bits."""
    return sortable(double_of_bits(bits))


@linked(int64(int64))
def double_of_sortable(word):  # type: ignore[no-untyped-def]
    """double_of, for Python."""
    return bits_of_double(double_of(word))


def bits_of(value: float) -> int:
    return int(struct.unpack("<q", struct.pack("<d", value))[0])


def of_bits(bits: int) -> float:
    return float(struct.unpack("<d", struct.pack("<q", bits))[0])


def read(data: bytes, lenient: int = 0) -> float | None:
    bits = read_double(np.frombuffer(b"9" + data + b"9", np.uint8).copy(), 1, len(data), lenient)
    return None if bits == NO_DOUBLE else of_bits(bits)


def _written(kernel: object, value: float) -> str:
    room = np.full(DOUBLE_MAX + 6, 33, np.uint8)
    count = kernel(room, 3, bits_of(value))  # type: ignore[operator]
    assert count <= DOUBLE_MAX and bytes(room[:3]) == b"!!!" and set(bytes(room[3 + count :])) == {33}
    return bytes(room[3 : 3 + count]).decode()


def written(value: float) -> str:
    return _written(write_double, value)


def drawn(count: int = DRAWN, seed: int = SEED) -> Iterator[float]:
    """Doubles of random bits, of random digits and exponents, around integers and powers of two, and denormals."""
    draw = random.Random(seed)
    kinds = (
        lambda: of_bits(draw.getrandbits(64) - (1 << 63)),
        lambda: float(f"{draw.choice('+-')}{draw.randrange(10 ** draw.randrange(1, 18))}e{draw.randrange(-30, 30)}"),
        lambda: math.nextafter(float(draw.randrange(1 << draw.randrange(1, 70))), draw.choice((-math.inf, math.inf))),
        lambda: math.ldexp(1.0, draw.randrange(-1074, 1024)),
        lambda: of_bits(draw.getrandbits(draw.randrange(1, 53))),
        lambda: round(draw.uniform(-1e6, 1e6), draw.randrange(8)),
    )
    made = 0
    while made < count:
        value = kinds[made % len(kinds)]()
        if not math.isnan(value):
            made += 1
            yield value


# -------------------------------------------------------------------------------------------------------------- reading

READ = [
    ("1", 1.0),
    ("-1", -1.0),
    ("+1", 1.0),
    ("1.5", 1.5),
    (".5", 0.5),
    ("5.", 5.0),
    ("007", 7.0),
    ("1e5", 1e5),
    ("1E-5", 1e-5),
    ("0.1", 0.1),
    ("999999999999999", 999999999999999.0),
    ("0.000000000000001", 1e-15),
    ("9007199254740993", 9007199254740992.0),
    ("inf", math.inf),
    ("+inf", math.inf),
    ("-inf", -math.inf),
    ("Infinity", math.inf),
    ("-INFINITY", -math.inf),
    ("0x1p3", 8.0),
    ("-0X.8", -0.5),
    ("1e-320", 1e-320),
    ("2.5e-324", 5e-324),
    ("0x1.8p-1075", 5e-324),
    ("1.7976931348623157e308", 1.7976931348623157e308),
    ("0e-99999", 0.0),
    ("0x0p-99999", 0.0),
    ("0" * 10_000 + "1.5", 1.5),
    ("1." + "0" * 300, 1.0),
]
REFUSED = [
    "", "nan", "-nan", "nan(12)", " 1", "1 ", "\t1", "inf ", "abc", "1x", "1\0", "\x001", "--1", "+-1", ".", "-", "+",
    "1e", "0x", "e5", "1_0", "infinit", "1.2.3", "(1", "1e400", "-1e400", "1e-400", "2.4e-324", "0x1p-1075",
    "1.7976931348623159e308", "1e5000", "0" * 10_000 + "x",
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), READ)
def test_numbers(text: str, value: float) -> None:
    found = read(text.encode())
    assert found is not None and bits_of(found) == bits_of(value)


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_number(text: str) -> None:
    assert read(text.encode()) is None


def test_a_minus_makes_a_zero_negative() -> None:
    for text in (b"-0", b"-0.0", b"-0e5", b"-.0"):
        found = read(text)
        assert found is not None and bits_of(found) == bits_of(-0.0)


def test_random_texts_read_as_python_reads_them() -> None:
    draw = random.Random(SEED)
    for _ in range(DRAWN):
        digits = "".join(draw.choices("0123456789", k=draw.randrange(1, 20)))
        point = draw.randrange(len(digits) + 1)
        text = draw.choice(("", "-", "+")) + digits[:point] + draw.choice((".", "")) + digits[point:]
        text += draw.choice(("", "", f"e{draw.randrange(-25, 25)}"))
        found = read(text.encode())
        assert found is not None and bits_of(found) == bits_of(float(text)), text


LENIENT = [
    (b"", 0.0),
    (b" 1", 1.0),
    (b"\t1", 1.0),
    (b"1\0x", 1.0),
    (b"\0001", 0.0),
    (b"1e400", math.inf),
    (b"-1e400", -math.inf),
    (b"1e-400", 0.0),
    (b"0x1", 1.0),
    (b"1 ", None),
    (b"nan", None),
    (b"abc", None),
]


@pytest.mark.parametrize(("text", "value"), LENIENT)
def test_the_ends_of_ranges_are_read_leniently(text: bytes, value: float | None) -> None:
    assert read(text, 1) == value


# -------------------------------------------------------------------------------------------------------------- writing

WRITTEN = [
    (0.0, "0"),
    (-0.0, "-0"),
    (1.0, "1"),
    (-1.5, "-1.5"),
    (0.1, "0.1"),
    (0.1 + 0.2, "0.30000000000000004"),
    (1e-5, "0.00001"),
    (1e-6, "0.000001"),
    (1e-7, "1e-7"),
    (1.5e-7, "1.5e-7"),
    (0.0012345678901234567, "0.0012345678901234567"),
    (0.00012345678901234567, "1.2345678901234567e-4"),
    (123456789.12345679, "1.2345678912345679e+8"),
    (1234567.125, "1234567.125"),
    (9007199254740993.0, "9007199254740992"),
    (123456789012345678.0, "123456789012345680"),
    (4611686018427387904.0, "4611686018427387904"),
    (-4611686018427387904.0, "-4611686018427387904"),
    (9223372036854775807.0, "9223372036854776000"),
    (9.2e18, "9.2e+18"),
    (123456789012345680000.0, "123456789012345680000"),
    (1e18, "1000000000000000000"),
    (1e20, "1e+20"),
    (1e21, "1e+21"),
    (1e23, "99999999999999990000000"),
    (1.2345e25, "1.2345e+25"),
    (1.5e300, "1.5e+300"),
    (5e-324, "5e-324"),
    (1e-320, "1e-320"),
    (2.2250738585072014e-308, "2.2250738585072014e-308"),
    (-1.7976931348623157e308, "-1.7976931348623157e+308"),
    (math.inf, "inf"),
    (-math.inf, "-inf"),
    (math.nan, "nan"),
]


@pytest.mark.parametrize(("value", "text"), WRITTEN)
def test_texts(value: float, text: str) -> None:
    assert written(value) == text


def significant(text: str) -> str:
    """The digits that count."""
    return text.lstrip("-").split("e")[0].replace(".", "").strip("0")


def test_texts_read_back_and_nearly_all_are_the_shortest() -> None:
    longer = 0
    for value in drawn():
        text = written(value)
        assert bits_of(float(text)) == bits_of(value), text
        if abs(value) > 1 << 62 or value != int(value):
            ours, shortest = significant(text), significant(repr(value))
            assert len(ours) >= len(shortest), text
            longer += ours != shortest
    assert 0 < longer < DRAWN // 250  # 56; Grisu2 is not exact, and Valkey prints the same


def test_17_digits_are_those_of_c() -> None:
    for value in (0.0, -0.0, 0.1, 1e17, 1e16, 1.5e300, 5e-324, math.inf, -math.inf, *drawn(2000)):
        assert _written(write_double17, value) == f"{value:.17g}"


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with start_valkey(tmp_path_factory.mktemp("valkey")) as process:
        yield process


def test_texts_are_valkeys(valkey: Process) -> None:
    values = [value for value in drawn(3000) if value]
    with Wire(valkey.address) as wire:
        wire.pipeline([("ZADD", "scores", repr(value), str(i)) for i, value in enumerate(values)])
        theirs = wire("ZMSCORE", "scores", *map(str, range(len(values))))
    assert [written(value).encode() for value in values] == theirs


def test_numbers_are_those_of_redis_server(tmp_path: Path) -> None:
    with start_redis(tmp_path) as process, Wire(process.address) as wire:
        for text in [*(text for text, _ in READ), *REFUSED]:
            reply, found = wire.raw("ZADD", "k", text, "m"), read(text.encode())
            assert (found is None) == reply.startswith(b"-"), (text, reply)
            assert found is None or float(wire("ZSCORE", "k", "m")) == found, text
        for part, value in LENIENT:
            assert wire.raw("ZCOUNT", "k", part, "+inf").startswith(b"-") == (value is None), part


# ---------------------------------------------------------------------------------------------------------------- order


def test_words_are_in_the_order_of_their_doubles() -> None:
    values = sorted({*drawn(), 0.0, math.inf, -math.inf, 5e-324, -5e-324})
    words = [sortable_of(bits_of(value)) for value in values]
    assert all(one < other for one, other in pairwise(words))
    assert [of_bits(double_of_sortable(word)) for word in words] == values


def test_both_zeros_are_one_word() -> None:
    assert sortable_of(bits_of(-0.0)) == sortable_of(bits_of(0.0)) == 0
    assert double_of_sortable(0) == bits_of(0.0)
