"""Streams of list commands, compared with redis-server and valkey-server: see streams.py."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server import streams
from tests.server.streams import OTHER, STRING, Command, Pair, member, number, numkeys, positive, relaxed
from tests.server.test_differential import command, of, several

BEFORE: list[Command] = [
    (b"SET", STRING, b"x"), (b"SADD", OTHER, b"x"), (b"RPUSH", b"a", b"a", b"b", b"c", b"1", b"a"),
]  # fmt: skip
KEYS = [b"a", b"b", b"c"]

key = st.sampled_from(KEYS * 4 + [STRING, OTHER, b"none"])
side = of(b"LEFT", b"RIGHT", b"LEFT", b"RIGHT", b"left", b"x")
elements = st.one_of(several(member, 1, 3), several(member, 1, 12))
option = st.one_of(
    st.tuples(of(b"RANK"), number),
    st.tuples(of(b"COUNT"), positive),
    st.tuples(of(b"MAXLEN"), positive),
    of(b"x", b"RANK").map(lambda word: (word,)),
)

LISTS = st.one_of(
    command(b"LPUSH", key, elements),
    command(b"RPUSH", key, elements),
    command(b"LPUSHX", key, elements),
    command(b"RPUSHX", key, elements),
    command(b"LPOP", key),
    command(b"RPOP", key),
    command(b"LPOP", key, positive),
    command(b"RPOP", key, positive),
    command(b"LMPOP", numkeys(key), side, several(st.tuples(of(b"COUNT"), positive), most=2)),
    command(b"LLEN", key),
    command(b"LRANGE", key, number, number),
    command(b"LINDEX", key, number),
    command(b"LPOS", key, member, several(option, most=3)),
    command(b"LPOS", key, of(b"a", b"b", b"1"), several(option, most=2)),
    command(b"LSET", key, number, member),
    command(b"LINSERT", key, of(b"BEFORE", b"AFTER", b"before", b"x"), member, member),
    command(b"LREM", key, number, member),
    command(b"LTRIM", key, number, number),
    command(b"LMOVE", key, key, side, side),
    command(b"RPOPLPUSH", key, key),
)


@given(limits=streams.limits, stream=streams.streams(LISTS, LISTS, streams.generic(st.sampled_from(KEYS))))
@settings(relaxed, max_examples=120)
def test_lists(pair: Pair, limits: dict[bytes, bytes], stream: list[Command]) -> None:
    """All commands, with the limits of small encodings as they are by default or lower."""
    pair.play(limits, BEFORE, stream)


@pytest.mark.parametrize("size", [b"-2", b"3", b"-1"])
def test_a_list_of_many_elements(pair: Pair, size: bytes) -> None:
    """Elements come and go at both ends and within, until it is long, and then short again."""
    many: list[Command] = [
        ((b"LPUSH", b"RPUSH")[at % 2], b"b", *(b"%0*d" % (i % 90, i % 17) for i in range(at, at + 50)))
        for at in range(0, 1000, 25)
    ]
    look: list[Command] = [
        (b"LLEN", b"b"), (b"LRANGE", b"b", b"0", b"-1"), (b"LRANGE", b"b", b"900", b"-900"), (b"LINDEX", b"b", b"777"),
        (b"LINDEX", b"b", b"-777"), (b"LPOS", b"b", b"007", b"COUNT", b"0"), (b"OBJECT", b"ENCODING", b"b"),
        (b"LPOS", b"b", b"007", b"RANK", b"-3", b"COUNT", b"2", b"MAXLEN", b"1000"),
        (b"LSET", b"b", b"500", b"x" * 200),
        (b"LINSERT", b"b", b"BEFORE", b"x" * 200, b"y"), (b"LINSERT", b"b", b"AFTER", b"x" * 200, b"z" * 9000),
        (b"LREM", b"b", b"2", b"0011"), (b"LREM", b"b", b"-2", b"007"), (b"LREM", b"b", b"0", b"5"),
        (b"LMOVE", b"b", b"c", b"RIGHT", b"LEFT"), (b"LMPOP", b"2", b"none", b"b", b"LEFT", b"COUNT", b"30"),
        (b"LTRIM", b"b", b"40", b"-41"), (b"RPOP", b"b", b"100"), (b"OBJECT", b"ENCODING", b"b"),
    ]  # fmt: skip
    fewer: list[Command] = [(b"LTRIM", b"b", b"%d" % (at % 2 * 20), b"%d" % -20) for at in range(60)]
    pair.play({b"list-max-listpack-size": size}, BEFORE, [*many, *look, *look, *fewer, *look])
