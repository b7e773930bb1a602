"""Streams of bitmap commands, compared with redis-server and valkey-server: see streams.py."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server import streams
from tests.server.streams import OTHER, STRING, Command, Pair, relaxed
from tests.server.test_differential import command, of, several
from tests.server.wire import OK, info

BEFORE: list[Command] = [
    (b"SET", STRING, b"\xff\xf0\x00"), (b"RPUSH", OTHER, b"x"), (b"SET", b"a", b"foobar"), (b"SET", b"b", b"12345"),
    (b"SET", b"e", b""), (b"SET", b"long", b"\xff" * 5000),
]  # fmt: skip
KEYS = [b"a", b"b", b"c", b"d"]

key = st.sampled_from(KEYS * 4 + [STRING, b"e", b"long", OTHER, b"none"])
target = st.sampled_from(KEYS * 6 + [OTHER])
offset = st.one_of(
    st.integers(0, 90).map(lambda value: b"%d" % value),
    of(b"0", b"7", b"8", b"5000", b"40000", b"300000", b"-1", b"x", b"", b"4294967296", b"9223372036854775807", b"1.5"),
)
bit = of(b"0", b"1", b"1", b"0", b"1", b"2", b"-1", b"x", b"")
end = st.one_of(
    st.integers(-60, 60).map(lambda value: b"%d" % value),
    of(b"0", b"-1", b"4999", b"40000", b"x", b"", b"9223372036854775807", b"-9223372036854775808"),
)
unit = of(b"BIT", b"BYTE", b"bit", b"Byte", b"x")
kind = st.one_of(
    st.tuples(of(b"u", b"i"), st.integers(1, 63)).map(lambda both: b"%s%d" % both),
    of(b"i64", b"u8", b"u64", b"i65", b"i0", b"x", b"", b"u", b"i-1", b"U8"),
)
place = st.one_of(
    st.integers(0, 200).map(lambda value: b"%d" % value),
    st.integers(0, 30).map(lambda value: b"#%d" % value),
    of(b"0", b"-1", b"#-1", b"#", b"x", b"#x", b"4294967296", b"39990"),
)
operand = st.one_of(
    st.integers(-300, 300).map(lambda value: b"%d" % value),
    of(b"0", b"1", b"-1", b"9223372036854775807", b"-9223372036854775808", b"9223372036854775808", b"x", b""),
)
get = st.tuples(of(b"GET", b"get"), kind, place)
operation = st.one_of(
    get,
    st.tuples(of(b"SET", b"INCRBY", b"INCRBY"), kind, place, operand),
    st.tuples(of(b"OVERFLOW"), of(b"WRAP", b"SAT", b"FAIL", b"sat", b"x")),
)
good_kind = st.tuples(of(b"u", b"i"), st.integers(1, 63)).map(lambda both: b"%s%d" % both)
good = st.one_of(
    st.tuples(of(b"GET"), good_kind, st.integers(0, 99).map(lambda value: b"%d" % value)),
    st.tuples(
        of(b"SET", b"INCRBY"), st.one_of(good_kind, of(b"i64")), st.integers(0, 99).map(lambda value: b"#%d" % value),
        st.one_of(st.integers(-(1 << 63), (1 << 63) - 1), st.integers(-200, 200)).map(lambda value: b"%d" % value),
    ),
    st.tuples(of(b"OVERFLOW"), of(b"WRAP", b"SAT", b"FAIL")),
)  # fmt: skip


def flat(parts: list[tuple[bytes, ...]]) -> tuple[bytes, ...]:
    """The words of several operations, one after the other."""
    return tuple(word for part in parts for word in part)


BITS = st.one_of(
    command(b"SETBIT", target, offset, bit),
    command(b"SETBIT", target, offset, bit),
    command(b"SETBIT", key, offset, bit),
    command(b"GETBIT", key, offset),
    command(b"STRLEN", key),
)
RANGES = st.one_of(
    command(b"BITCOUNT", key),
    command(b"BITCOUNT", key, end, end),
    command(b"BITCOUNT", key, end, end, unit),
    command(b"BITPOS", key, bit),
    command(b"BITPOS", key, bit, end),
    command(b"BITPOS", key, bit, end, end),
    command(b"BITPOS", key, bit, end, end, unit),
)
OPERATIONS = st.one_of(
    command(b"BITOP", of(b"AND", b"OR", b"XOR", b"and", b"x"), target, several(key, 1, 4)),
    command(b"BITOP", of(b"NOT"), target, several(key, 1, 2)),
)
FIELDS = st.one_of(
    command(b"BITFIELD", key, st.lists(operation, max_size=4).map(flat)),
    command(b"BITFIELD", target, st.lists(good, max_size=6).map(flat)),
    command(b"BITFIELD", target, st.lists(good, max_size=6).map(flat)),
    command(b"BITFIELD_RO", key, st.lists(get, max_size=3).map(flat)),
    command(b"BITFIELD_RO", key, st.lists(operation, max_size=2).map(flat)),
)


def played(pair: Pair, stream: list[Command]) -> list[Command]:
    """A stream without what is meant to be otherwise.

    Redis 7.0 looks for the key of BITCOUNT and BITPOS before it reads numbers, and 7.2 after it.  Valkey may leave out
    the end of BITCOUNT, and reads its unit before its numbers.
    """

    def is_left_out(words: Command) -> bool:
        name = words[0].upper()
        if name == b"BITCOUNT" and len(words) == 3:
            return pair.theirs.name == "valkey"
        if name == b"BITCOUNT" and len(words) == 5 and not _is_right(words):
            return True
        return name in (b"BITCOUNT", b"BITPOS") and pair.theirs.name == "redis" and not _is_right(words)

    return [words for words in stream if not is_left_out(words)]


def _is_right(words: Command) -> bool:
    # Whether the arguments of BITCOUNT or BITPOS are right whatever the key holds.
    numbers = words[2:4] if words[0].upper() == b"BITCOUNT" else words[2:5]
    rest = words[2 + len(numbers) :]
    try:
        return all(-(1 << 63) <= int(one) < 1 << 63 and one == b"%d" % int(one) for one in numbers) and (
            rest in ((), (b"BIT",), (b"BYTE",), (b"bit",), (b"Byte",))
        )
    except ValueError:
        return False


@given(limits=streams.limits, stream=streams.streams(BITS, RANGES, OPERATIONS, streams.generic(st.sampled_from(KEYS))))
@settings(relaxed, max_examples=40)
def test_bits(pair: Pair, limits: dict[bytes, bytes], stream: list[Command]) -> None:
    """All commands but fields."""
    pair.play(limits, BEFORE, played(pair, stream))


@given(stream=streams.streams(BITS, FIELDS, FIELDS, streams.generic(st.sampled_from(KEYS))))
@settings(relaxed, max_examples=40)
def test_fields(pair: Pair, stream: list[Command]) -> None:
    """Integers of all widths, at all places, with every kind of overflow."""
    pair.play({}, BEFORE, stream)


def test_every_range_of_a_short_string(pair: Pair) -> None:
    """All pairs of ends, by bytes and by bits."""
    pair.play({}, [(b"SET", b"a", b"\xff\x0f"), (b"SET", b"b", b"\xff\xff"), (b"SET", b"c", b"\0\0")], [
        words
        for name in (b"a", b"b", b"c")
        for start in range(-18, 19, 1)
        for stop in (-17, -9, -2, -1, 0, 1, 3, 8, 15, 16, 20)
        for word in (b"BIT", b"BYTE")
        for words in (
            (b"BITCOUNT", name, b"%d" % start, b"%d" % stop, word),
            (b"BITPOS", name, b"1", b"%d" % start, b"%d" % stop, word),
            (b"BITPOS", name, b"0", b"%d" % start, b"%d" % stop, word),
        )
    ])  # fmt: skip


@pytest.mark.parametrize("size", [1 << 20, 5_000_001])
def test_long_strings_are_combined_and_counted(pair: Pair, size: int) -> None:
    """Of more than a page, and not of whole words; BITCOUNT and BITPOS of them go aside."""
    assert pair.mine.wire("CONFIG", "SET", "read-aside-threshold", 50) == OK
    for side in (pair.mine, pair.theirs):
        side.reset({}, [])
        side.wire("SET", "a", bytes(range(251)) * (size // 251))
        side.wire("SET", "b", b"\xa5\x0f\x77" * (size // 4))
        side.wire("SET", "c", b"\xff" * size)
        side.wire("SETBIT", "d", 8 * size, 1)
    stream: list[Command] = [
        *((b"BITOP", name, b"to", *keys) for name in (b"AND", b"OR", b"XOR") for keys in (b"ab", b"ba", b"abcd")),
        (b"BITOP", b"NOT", b"to", b"b"), (b"BITOP", b"NOT", b"d", b"d"),
    ]  # fmt: skip
    stream = [tuple(bytes([w]) if isinstance(w, int) else w for w in words) for words in stream]
    for words in stream:
        assert not pair.step(words)
        for look in (
            (b"BITCOUNT", b"to"), (b"BITCOUNT", b"to", b"3", b"-5"), (b"BITCOUNT", b"to", b"3", b"-5", b"BIT"),
            (b"BITPOS", b"to", b"0"), (b"BITPOS", b"to", b"1", b"%d" % (size - 9)), (b"BITPOS", b"c", b"0"),
            (b"BITPOS", b"d", b"0", b"1"), (b"GETRANGE", b"to", b"5000", b"5100"),
        ):  # fmt: skip
            assert not pair.step(look)
    assert int(info(pair.mine.wire, "stats")["reads_aside"]) > 0
    assert pair.mine.wire("CONFIG", "SET", "read-aside-threshold", 2500) == OK
    assert pair.mine.wire("DEBUG", "DIGEST") == pair.theirs.wire("DEBUG", "DIGEST")
