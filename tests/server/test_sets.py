"""Streams of set commands, compared with redis-server and valkey-server: see streams.py."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server import streams
from tests.server.streams import OTHER, STRING, Command, Pair, cursor, member, numkeys, positive, relaxed, scan_option
from tests.server.test_differential import command, of, several

BEFORE: list[Command] = [
    (b"SET", STRING, b"x"), (b"RPUSH", OTHER, b"x"), (b"SADD", b"a", b"1", b"2", b"3"), (b"SADD", b"b", b"a", b"2"),
]  # fmt: skip
KEYS = [b"a", b"b", b"c", b"d"]

key = st.sampled_from(KEYS * 4 + [STRING, OTHER, b"none"])
target = st.sampled_from(KEYS * 6 + [STRING, OTHER])
integer = st.integers(-40000, 40000).map(lambda value: b"%d" % value)
members = st.one_of(several(member, 1, 4), several(integer, 1, 4))

SETS = st.one_of(
    command(b"SADD", key, members),
    command(b"SADD", key, members),
    command(b"SADD", key, several(integer, 1, 12)),
    command(b"SREM", key, members),
    command(b"SREM", key, several(member, 1, 12)),
    command(b"SMEMBERS", key),
    command(b"SISMEMBER", key, member),
    command(b"SMISMEMBER", key, several(member, 1)),
    command(b"SCARD", key),
    command(b"SPOP", key),
    command(b"SPOP", key, positive),
    command(b"SRANDMEMBER", key),
    command(b"SRANDMEMBER", key, streams.count),
    command(b"SMOVE", key, key, member),
    command(b"SSCAN", key, cursor, several(scan_option, most=2)),
)
ALGEBRA = st.one_of(
    command(b"SINTER", several(key, 1)),
    command(b"SUNION", several(key, 1)),
    command(b"SDIFF", several(key, 1)),
    command(b"SINTERSTORE", target, several(key, 1)),
    command(b"SUNIONSTORE", target, several(key, 1)),
    command(b"SDIFFSTORE", target, several(key, 1)),
    command(b"SINTERCARD", numkeys(key), several(st.tuples(of(b"LIMIT", b"LIMIT", b"x"), positive), most=2)),
)


@given(limits=streams.limits, stream=streams.streams(SETS, SETS, ALGEBRA, streams.generic(st.sampled_from(KEYS))))
@settings(relaxed, max_examples=100)
def test_sets(pair: Pair, limits: dict[bytes, bytes], stream: list[Command]) -> None:
    """All commands, with the limits of small encodings as they are by default or lower."""
    pair.play(limits, BEFORE, stream)


@given(limits=streams.limits, stream=streams.streams(command(b"SADD", target, members), ALGEBRA, ALGEBRA))
@settings(relaxed, max_examples=60)
def test_algebra(pair: Pair, limits: dict[bytes, bytes], stream: list[Command]) -> None:
    """Unions, intersections and differences of sets in different encodings."""
    pair.play(limits, BEFORE, stream)


@pytest.mark.parametrize("form", [b"%d", b"m%d", b"m%060d"])
def test_a_set_of_many_members(pair: Pair, form: bytes) -> None:
    """Members come and go until it is large, and then small again."""
    many: list[Command] = [(b"SADD", b"c", *(form % i for i in range(at, at + 50))) for at in range(0, 1000, 25)]
    fewer: list[Command] = [(b"SREM", b"c", *(form % i for i in range(at, at + 60))) for at in range(0, 960, 60)]
    look: list[Command] = [
        (b"SSCAN", b"c", b"0", b"COUNT", b"7"), (b"SCARD", b"c"), (b"SMEMBERS", b"c"), (b"OBJECT", b"ENCODING", b"c"),
        (b"SRANDMEMBER", b"c", b"300"), (b"SRANDMEMBER", b"c", b"-2000"), (b"SRANDMEMBER", b"c", b"9999"),
        (b"SPOP", b"c", b"20"), (b"SUNIONSTORE", b"d", b"a", b"c"), (b"SINTER", b"d", b"c"), (b"SDIFF", b"d", b"a"),
        (b"SMEMBERS", b"d"), (b"OBJECT", b"ENCODING", b"d"),
    ]  # fmt: skip
    pair.play({}, BEFORE, [*many, *look, *fewer, *look])


@pytest.mark.parametrize("form", [b"%d", b"m%d"])
@pytest.mark.parametrize("popped", [1, 10, 590, 599, 600, 700])
def test_the_encoding_after_many_were_popped(pair: Pair, form: bytes, popped: int) -> None:
    """Where all members are alike, chance does not decide it."""
    members = [form % i for i in range(600)]
    found = []
    for side in (pair.mine, pair.theirs):
        side.reset({name: values[0] for name, values in streams.LIMITS.items()}, [])
        side.wire("SADD", "s", *members)
        assert len(side.wire("SPOP", "s", popped)) == min(popped, 600)
        found.append((side.wire("SCARD", "s"), side.wire("OBJECT", "ENCODING", "s")))
    (size, mine), (other_size, theirs) = found
    assert size == other_size == max(0, 600 - popped)
    assert mine == theirs or (pair.theirs.name == "redis" and (theirs, mine) in streams.ENCODINGS)
