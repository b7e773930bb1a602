"""Streams of hash commands, compared with redis-server and valkey-server: see streams.py."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server import streams
from tests.server.streams import OTHER, STRING, Command, Pair, cursor, member, number, relaxed, scan_option
from tests.server.test_differential import command, of, several

BEFORE: list[Command] = [(b"SET", STRING, b"x"), (b"RPUSH", OTHER, b"x"), (b"HSET", b"a", b"1", b"2", b"f", b"1.5")]
KEYS = [b"a", b"b", b"c"]

key = st.sampled_from(KEYS * 4 + [STRING, OTHER, b"none"])
amount = st.sampled_from([b"0.1", b"1.5", b"-3", b"1e3", b"5.0e3", b"3.0", b"x", b"", b"nan", b"inf", b" 1", b"1e400"])
pairs = several(st.tuples(member, member), 1, 4)
options = several(st.one_of(scan_option, of(b"NOVALUES").map(lambda word: (word,))), most=3)

HASHES = st.one_of(
    command(b"HSET", key, pairs),
    command(b"HSET", key, pairs),
    command(b"HMSET", key, pairs),
    command(b"HSETNX", key, member, member),
    command(b"HGET", key, member),
    command(b"HMGET", key, several(member, 1)),
    command(b"HGETALL", key),
    command(b"HKEYS", key),
    command(b"HVALS", key),
    command(b"HLEN", key),
    command(b"HSTRLEN", key, member),
    command(b"HEXISTS", key, member),
    command(b"HDEL", key, several(member, 1)),
    command(b"HDEL", key, several(member, 1, 12)),
    command(b"HINCRBY", key, member, number),
    command(b"HINCRBYFLOAT", key, member, amount),
    command(b"HRANDFIELD", key),
    command(b"HRANDFIELD", key, streams.count),
    command(b"HRANDFIELD", key, streams.count, of(b"WITHVALUES", b"WITHVALUES", b"x")),
    command(b"HSCAN", key, cursor, options),
)


@given(limits=streams.limits, stream=streams.streams(HASHES, HASHES, streams.generic(st.sampled_from(KEYS))))
@settings(relaxed, max_examples=100)
def test_hashes(pair: Pair, limits: dict[bytes, bytes], stream: list[Command]) -> None:
    """All commands, with the limits of small encodings as they are by default or lower."""
    pair.play(limits, BEFORE, stream)


def test_a_hash_of_many_fields(pair: Pair) -> None:
    """Fields come and go until it is large, and then small again."""
    many: list[Command] = [
        (b"HSET", b"a", *(word for i in range(at, at + 50) for word in (b"f%d" % i, b"%d" % (i * i))))
        for at in range(0, 1000, 25)
    ]
    fewer: list[Command] = [(b"HDEL", b"a", *(b"f%d" % i for i in range(at, at + 60))) for at in range(0, 960, 60)]
    look: list[Command] = [
        (b"HSCAN", b"a", b"0", b"COUNT", b"7"), (b"HLEN", b"a"), (b"HGETALL", b"a"), (b"OBJECT", b"ENCODING", b"a"),
        (b"HRANDFIELD", b"a", b"300", b"WITHVALUES"), (b"HRANDFIELD", b"a", b"-2000"), (b"HRANDFIELD", b"a", b"9999"),
    ]  # fmt: skip
    pair.play({}, BEFORE, [*many, *look, *fewer, *look])
