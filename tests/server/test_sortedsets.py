"""Streams of sorted set commands, compared with redis-server and valkey-server: see streams.py.

The commands that order members by name are played to keys whose members have equal scores: the replies for others are
not specified.
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server import streams
from tests.server.streams import (
    OTHER,
    STRING,
    Command,
    Pair,
    cursor,
    member,
    number,
    numkeys,
    positive,
    relaxed,
    scan_option,
)
from tests.server.test_differential import command, of, several

BEFORE: list[Command] = [
    (b"SET", STRING, b"x"), (b"RPUSH", OTHER, b"x"), (b"SADD", b"set", b"a", b"b", b"1"),
    (b"ZADD", b"a", b"1", b"a", b"2", b"b", b"3", b"c", b"1", b"1"), (b"ZADD", b"b", b"0.1", b"a", b"-1", b"c"),
    (b"ZADD", b"n", *(word for name in (b"a", b"ab", b"b", b"c", b"", b"m") for word in (b"0", name))),
]  # fmt: skip
KEYS, NAMED = [b"a", b"b", b"c"], [b"n", b"o"]  # members of NAMED have equal scores
SCORES = [
    *(b"0", b"1", b"-1", b"2", b"3", b"1.5", b"0.1", b"0.2", b"3.0000000000000004", b"1e308", b"5e-324", b"-0", b"inf"),
    *(b"-inf", b"+inf", b"123456789012345678", b"1e21", b"1e-7", b"100000", b"12345678.9"),
]
BAD_SCORES = [b"nan", b"x", b"", b" 1", b"1 ", b"0x10", b"1e400", b"1,5", b"infinity", b"1e", b"(1"]
BOUNDS = [b"-inf", b"+inf", b"inf", b"0", b"1", b"(1", b"2", b"(2", b"1.5", b"(-inf", b"(+inf", b"-1", b"(0.1"]
BAD_BOUNDS = [b"x", b"(", b"", b"nan", b"(nan", b"[1", b"1x", b"((1"]
NAMES = [b"-", b"+", b"[a", b"(a", b"[b", b"(b", b"[c", b"[", b"(", b"[m", b"(zz"]
BAD_NAMES = [b"a", b"", b"-1", b"+a", b"--"]

key = st.sampled_from(KEYS * 4 + [STRING, OTHER, b"none"])
source = st.sampled_from(KEYS * 3 + [b"set", STRING, OTHER, b"none", b"n"])
target = st.sampled_from(KEYS * 5 + [STRING, OTHER])
named = st.sampled_from(NAMED * 5 + [b"set", b"none"])  # and no key that may get members of different scores
score = st.one_of(
    st.sampled_from(SCORES * 2 + BAD_SCORES),
    st.integers(-5, 5).map(lambda value: b"%d" % value),
    st.floats(width=64, allow_nan=False).map(lambda value: repr(value).encode()),
)
bound, name = st.sampled_from(BOUNDS * 2 + BAD_BOUNDS), st.sampled_from(NAMES * 3 + BAD_NAMES)
flags = several(of(b"NX", b"XX", b"GT", b"LT", b"CH", b"INCR", b"ch", b"x"), most=2)
pairs = several(st.tuples(score, member), 1, 4)
limit = st.tuples(of(b"LIMIT"), number, number)
with_scores = of(b"WITHSCORES").map(lambda word: (word,))
reverse = of(b"REV").map(lambda word: (word,))
by_score = of(b"BYSCORE").map(lambda word: (word,))
weights = st.one_of(
    several(of(b"1", b"2", b"-1", b"0.5", b"inf", b"0", b"x"), 1, 4).map(lambda each: (b"WEIGHTS", *each)),
    st.tuples(of(b"AGGREGATE"), of(b"SUM", b"MIN", b"MAX", b"min", b"x")),
)

SORTED_SETS = st.one_of(
    command(b"ZADD", key, pairs),
    command(b"ZADD", key, pairs),
    command(b"ZADD", key, flags, pairs),
    command(b"ZADD", key, flags, several(st.tuples(score, member), 1, 1)),
    command(b"ZINCRBY", key, score, member),
    command(b"ZREM", key, several(member, 1)),
    command(b"ZREM", key, several(member, 1, 12)),
    command(b"ZCARD", key),
    command(b"ZSCORE", key, member),
    command(b"ZMSCORE", key, several(member, 1)),
    command(b"ZRANK", key, member, several(of(b"WITHSCORE", b"WITHSCORE", b"x"), most=1)),
    command(b"ZREVRANK", key, member, several(of(b"WITHSCORE", b"withscore"), most=1)),
    command(b"ZCOUNT", key, bound, bound),
    command(b"ZPOPMIN", key, several(positive, most=1)),
    command(b"ZPOPMAX", key, several(positive, most=1)),
    command(
        b"ZMPOP", numkeys(key), of(b"MIN", b"MAX", b"min", b"x"), several(st.tuples(of(b"COUNT"), positive), most=2)
    ),
    command(b"ZREMRANGEBYRANK", key, number, number),
    command(b"ZREMRANGEBYSCORE", key, bound, bound),
    command(b"ZRANDMEMBER", key),
    command(b"ZRANDMEMBER", key, streams.count),
    command(b"ZRANDMEMBER", key, streams.count, of(b"WITHSCORES", b"WITHSCORES", b"x")),
    command(b"ZSCAN", key, cursor, several(scan_option, most=2)),
)
RANGES = st.one_of(
    command(b"ZRANGE", key, number, number, several(st.one_of(reverse, with_scores), most=2)),
    command(b"ZRANGE", key, bound, bound, several(st.one_of(by_score, by_score, reverse, with_scores, limit), most=4)),
    command(b"ZRANGE", key, bound, bound, by_score, several(st.one_of(reverse, with_scores, limit), most=3)),
    command(b"ZRANGESTORE", target, source, number, number, several(reverse, most=1)),
    command(b"ZRANGESTORE", target, source, bound, bound, by_score, several(st.one_of(reverse, limit), most=2)),
    command(b"ZRANGEBYSCORE", key, bound, bound, several(st.one_of(with_scores, limit), most=3)),
    command(b"ZREVRANGEBYSCORE", key, bound, bound, several(st.one_of(with_scores, limit), most=3)),
    command(b"ZREVRANGE", key, number, number, several(with_scores, most=1)),
)
NAMED_ONES = st.one_of(
    command(b"ZADD", named, several(member.map(lambda each: (b"0", each)), 1, 4)),
    command(b"ZREM", named, several(member, 1)),
    command(b"ZLEXCOUNT", named, name, name),
    command(b"ZRANGEBYLEX", named, name, name, several(limit, most=1)),
    command(b"ZREVRANGEBYLEX", named, name, name, several(limit, most=1)),
    command(b"ZREMRANGEBYLEX", named, name, name),
    command(b"ZRANGE", named, name, name, b"BYLEX", several(st.one_of(reverse, limit, with_scores), most=2)),
    command(b"ZRANGESTORE", target, named, name, name, b"BYLEX", several(st.one_of(reverse, limit), most=2)),
)
ALGEBRA = st.one_of(
    command(b"ZUNION", numkeys(source), several(st.one_of(weights, with_scores), most=3)),
    command(b"ZINTER", numkeys(source), several(st.one_of(weights, with_scores), most=3)),
    command(b"ZDIFF", numkeys(source), several(with_scores, most=1)),
    command(b"ZUNIONSTORE", target, numkeys(source), several(weights, most=2)),
    command(b"ZINTERSTORE", target, numkeys(source), several(weights, most=2)),
    command(b"ZDIFFSTORE", target, numkeys(source)),
    command(b"ZINTERCARD", numkeys(source), several(st.tuples(of(b"LIMIT", b"LIMIT", b"x"), positive), most=2)),
)


@given(limits=streams.limits, stream=streams.streams(SORTED_SETS, SORTED_SETS, streams.generic(st.sampled_from(KEYS))))
@settings(relaxed, max_examples=100)
def test_sorted_sets(pair: Pair, limits: dict[bytes, bytes], stream: list[Command]) -> None:
    """All commands on one sorted set, with the limits of small encodings as they are by default or lower."""
    pair.play(limits, BEFORE, stream)


@given(limits=streams.limits, stream=streams.streams(command(b"ZADD", key, pairs), RANGES, NAMED_ONES))
@settings(relaxed, max_examples=100)
def test_ranges(pair: Pair, limits: dict[bytes, bytes], stream: list[Command]) -> None:
    """By place, by score and by name."""
    pair.play(limits, BEFORE, stream)


@given(limits=streams.limits, stream=streams.streams(command(b"ZADD", target, pairs), ALGEBRA, ALGEBRA))
@settings(relaxed, max_examples=100)
def test_algebra(pair: Pair, limits: dict[bytes, bytes], stream: list[Command]) -> None:
    """Unions, intersections and differences, of sets too."""
    pair.play(limits, BEFORE, stream)


def test_a_sorted_set_of_many_members(pair: Pair) -> None:
    """Members come, move and go until it is large, and then small again."""
    many: list[Command] = [
        (b"ZADD", b"c", *(word for i in range(at, at + 50) for word in (b"%d" % (i * 7919 % 500), b"m%d" % i)))
        for at in range(0, 1000, 25)
    ]
    moved: list[Command] = [(b"ZINCRBY", b"c", b"%d" % (i * 31 % 77 - 30), b"m%d" % i) for i in range(0, 1000, 3)]
    look: list[Command] = [
        (b"ZSCAN", b"c", b"0", b"COUNT", b"7"), (b"ZCARD", b"c"), (b"OBJECT", b"ENCODING", b"c"),
        (b"ZRANGE", b"c", b"0", b"-1", b"WITHSCORES"), (b"ZREVRANGE", b"c", b"10", b"300"), (b"ZRANK", b"c", b"m700"),
        (b"ZREVRANK", b"c", b"m31"), (b"ZCOUNT", b"c", b"(100", b"300"), (b"ZRANDMEMBER", b"c", b"-300", b"WITHSCORES"),
        (b"ZRANGEBYSCORE", b"c", b"100", b"(200", b"LIMIT", b"20", b"90"), (b"ZRANDMEMBER", b"c", b"9999"),
        (b"ZREMRANGEBYRANK", b"c", b"300", b"340"), (b"ZREMRANGEBYSCORE", b"c", b"(80", b"90"),
        (b"ZPOPMIN", b"c", b"9"),
        (b"ZUNIONSTORE", b"b", b"3", b"a", b"c", b"set"), (b"ZINTER", b"2", b"b", b"c", b"WITHSCORES"),
        (b"ZRANGESTORE", b"b", b"c", b"5", b"160"), (b"OBJECT", b"ENCODING", b"b"), (b"ZMPOP", b"1", b"c", b"MAX"),
    ]  # fmt: skip
    fewer: list[Command] = [(b"ZREM", b"c", *(b"m%d" % i for i in range(at, at + 60))) for at in range(0, 960, 60)]
    pair.play({}, BEFORE, [*many, *look, *moved, *look, *fewer, *look])
