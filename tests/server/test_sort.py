"""Streams of SORT and LCS, compared with redis-server and valkey-server: see streams.py.

Sets and sorted sets have no order of their own where their elements compare as equal, or are not sorted: there only the
multiset of the reply is compared.  SORT of a sorted set makes a large one of it in Redis, and not here.
"""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server import streams
from tests.server.streams import STRING, Command, Pair, number, relaxed, tree
from tests.server.test_differential import command, of, several

BEFORE: list[Command] = [
    (b"SET", STRING, b"x"), (b"HSET", b"hash", b"f", b"1"),
    (b"RPUSH", b"l", b"3", b"1", b"2", b"10", b"1", b"-5", b"1.5"),
    (b"RPUSH", b"t", b"b", b"a", b"ab", b"", b"a\x00b", b"a\x00a", b"element:2", b"element:1", b"element:10", b"B" * 7),
    (b"RPUSH", b"e", *(b"%d" % (i * 7919 % 100) for i in range(60))),
    (b"SADD", b"s", b"1", b"2", b"3", b"x"), (b"SADD", b"i", b"5", b"1", b"200", b"-3"),
    (b"ZADD", b"z", b"3", b"a", b"1", b"b", b"2", b"1", b"2", b"2"),
    (b"MSET", b"w_1", b"30", b"w_2", b"-1", b"w_3", b"7", b"w_a", b"z", b"w_b", b"a", b"w_", b"5", b"w_10", b"1e3"),
    (b"HSET", b"o_1", b"n", b"9", b"t", b"x"), (b"HSET", b"o_2", b"n", b"1"), (b"HSET", b"o_3", b"n", b"5", b"t", b"y"),
]  # fmt: skip
SOURCES = [b"l", b"t", b"s", b"i", b"z", b"d", b"e"]
PATTERNS = [
    b"w_*",
    b"o_*->n",
    b"o_*->t",
    b"#",
    b"*",
    b"none_*",
    b"o_*->",
    b"o_->*n",
    b"w_*->n",
    b"x",
    b"*_*",
    b"",
    b"hash",
]

source = st.sampled_from(SOURCES * 4 + [STRING, b"hash", b"none"])
target = st.sampled_from([b"d"] * 5 + [b"l", STRING])
pattern = st.sampled_from(PATTERNS)
limit = st.tuples(of(b"LIMIT"), number, number)
by = st.tuples(of(b"BY", b"by"), st.sampled_from([*PATTERNS[:3], b"nosort", b"w_*", *PATTERNS]))
get = st.tuples(of(b"GET"), pattern)
word = of(b"ASC", b"DESC", b"ALPHA", b"alpha", b"desc").map(lambda each: (each,))
store = st.tuples(of(b"STORE"), target)
options = several(st.one_of(word, word, by, get, limit), most=5)

SORTS = st.one_of(
    command(b"SORT", source, options),
    command(b"SORT", source, options, several(store, most=1)),
    command(b"SORT", source, b"ALPHA", options),
    command(b"SORT", source, b"ALPHA", options, b"STORE", target),
    command(b"SORT_RO", source, options, several(store, most=1)),
    command(b"RPUSH", of(b"l", b"t", b"d"), several(streams.member, 1)),
    command(b"SADD", of(b"s", b"i"), streams.member),
    command(b"SET", of(b"w_1", b"w_2", b"w_x", b"o_1"), of(b"1", b"x", b"", b"1e400", b" 12", b"0x1f", b"nan", b"inf")),
    command(b"DEL", several(of(b"w_1", b"o_2", b"l"), 1)),
)


class Sorts(Pair):
    """Two servers, compared but for the order of what has none."""

    def _alike(self, words: Command, mine: bytes, theirs: bytes) -> bool:
        if words[0].upper() in (b"SORT", b"SORT_RO") and self.mine.type_of(words[1]) in (b"set", b"zset"):
            one, other = tree(mine), tree(theirs)
            upper = [each.upper() for each in words]
            loose = any(each == b"BY" for each in upper)
            if loose and one[0] == other[0] == b"*":
                if b"LIMIT" in upper:
                    return len(one[1]) == len(other[1])
                return Counter(one[1]) == Counter(other[1])
        return super()._alike(words, mine, theirs)

    def step(self, words: Command) -> str:
        """Play a command; a sorted set that was sorted is made anew, and so is what was stored of what has no order."""
        difference = super().step(words)
        upper = [each.upper() for each in words]
        if upper[0] in (b"SORT", b"SORT_RO") and len(words) > 1:
            for side in (self.mine, self.theirs):
                if side.type_of(words[1]) == b"zset":
                    pairs = side.pairs(words[1])
                    side.wire("DEL", words[1])
                    side.wire("ZADD", words[1], *(part for name, score in pairs.items() for part in (score, name)))
                if b"BY" in upper and b"STORE" in upper[:-1]:
                    side.wire("DEL", words[upper.index(b"STORE") + 1])
        return difference


@given(
    limits=streams.limits, stream=streams.streams(SORTS, SORTS, streams.generic(st.sampled_from([b"l", b"d", b"s"])))
)
@settings(relaxed, max_examples=100)
def test_sorts(pair: Pair, limits: dict[bytes, bytes], stream: list[Command]) -> None:
    """Lists, sets and sorted sets, by themselves and by keys."""
    Sorts(pair.mine, pair.theirs).play(limits, BEFORE, stream)


LIMIT: Command = (b"CONFIG", b"SET", b"proto-max-bulk-len", b"536870912")
TEXTS = [b"", b"a", b"ohmytext", b"mynewtext", b"abcabba" * 30, b"cbabac" * 40, b"\x00\xff\r\n", b"x" * 64, b"x" * 65]
LCS_OPTIONS = st.one_of(
    of(b"LEN", b"IDX", b"WITHMATCHLEN", b"idx", b"x").map(lambda each: (each,)), st.tuples(of(b"MINMATCHLEN"), number)
)
text = st.one_of(st.sampled_from(TEXTS), st.text("abc", max_size=150).map(str.encode))
LCSES = st.one_of(
    command(b"LCS", of(b"a", b"b", b"none"), of(b"a", b"b", b"hash"), several(LCS_OPTIONS, most=3)),
    command(b"LCS", b"a", b"b"),
    command(b"LCS", b"a", b"b", b"IDX", b"WITHMATCHLEN"),
    command(b"LCS", b"a", b"b", b"LEN"),
    command(b"SET", of(b"a", b"b"), text),
    command(b"CONFIG", b"SET", b"proto-max-bulk-len", of(b"1048576", b"536870912")),
)


@given(stream=streams.streams(command(b"SET", of(b"a", b"b"), text), LCSES, LCSES))
@settings(relaxed, max_examples=80)
def test_lcs(pair: Pair, stream: list[Command]) -> None:
    """Strings with much and with nothing in common."""
    # Valkey's embstr is longer: the strings go before the contents are compared.
    pair.play({}, BEFORE, [LIMIT, *stream, LIMIT, (b"DEL", b"a", b"b")])


@pytest.mark.parametrize("limit", [b"536870912", b"1048576"])
def test_a_table_that_is_too_large_is_refused(pair: Pair, limit: bytes) -> None:
    long: list[Command] = [
        (b"SETRANGE", b"a", b"262142", b"x"), (b"LCS", b"a", b"none"), (b"SETRANGE", b"a", b"262143", b"x"),
        (b"LCS", b"a", b"none"), (b"SETRANGE", b"b", b"2000", b"y"), (b"LCS", b"a", b"b", b"LEN"), LIMIT,
        (b"DEL", b"a", b"b"),
    ]  # fmt: skip
    pair.play({}, [], [(b"CONFIG", b"SET", b"proto-max-bulk-len", limit), *long])
