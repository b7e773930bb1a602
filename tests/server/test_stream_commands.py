"""Streams of stream commands, compared with redis-server and valkey-server: see streams.py."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server import streams
from tests.server.streams import OTHER, STRING, Command, Pair, relaxed
from tests.server.test_differential import command, of, several

BEFORE: list[Command] = [
    (b"SET", STRING, b"x"), (b"RPUSH", OTHER, b"x"),
    *((b"XADD", b"a", b"%d-1" % i, b"f", b"v%d" % i) for i in range(1, 12)),
]  # fmt: skip
KEYS = [b"a", b"b", b"c"]

key = st.sampled_from(KEYS * 5 + [STRING, OTHER, b"none"])
LAST = b"18446744073709551615"
ids = st.one_of(
    st.builds(b"%d-%d".__mod__, st.tuples(st.integers(0, 30), st.integers(0, 4))),
    st.builds(b"%d".__mod__, st.integers(0, 30)),
)
odd_ids = of(b"-", b"+", b"0-0", b"x", b"1-x", b"", b"1-", b"-1", b"05-01", b"5--1", b"$", b">", b"*", b"1-2-3", b" 5",
             b"+5", LAST, LAST + b"-" + LAST, b"18446744073709551616", b"1-18446744073709551616", b"5-\0")  # fmt: skip
id_ = st.one_of(ids, ids, ids, ids, odd_ids)
new_id = st.one_of(ids, ids, st.builds(b"%d-*".__mod__, st.integers(0, 40)), odd_ids.filter(lambda word: word != b"*"))
bound = st.one_of(id_, id_, of(b"-", b"+"), id_.map(lambda word: b"(" + word))
number = of(b"0", b"1", b"2", b"3", b"5", b"10", b"-1", b"x", b"9223372036854775807", b"9223372036854775808")
fields = several(st.tuples(of(b"f", b"f", b"f", b"g", b""), of(b"1", b"two", b"", b"x" * 200, b"\r\n")), 1, 4)
trim = st.one_of(
    st.tuples(of(b"MAXLEN", b"maxlen"), number),
    st.tuples(of(b"MAXLEN"), of(b"=", b"~"), number),
    st.tuples(of(b"MINID"), id_),
    st.tuples(of(b"MINID"), of(b"="), id_),
    st.tuples(of(b"MAXLEN"), of(b"~"), number, of(b"LIMIT"), number),
    st.tuples(of(b"MAXLEN"), number, of(b"LIMIT"), number),
    st.tuples(of(b"LIMIT"), number),
    st.tuples(of(b"MAXLEN"), number, of(b"MINID"), id_),
    st.tuples(of(b"x", b"NOMKSTREAM")),
)
counted = several(st.tuples(of(b"COUNT", b"COUNT", b"COUNT", b"x"), number), most=1)
setid = several(
    st.one_of(st.tuples(of(b"ENTRIESADDED"), number), st.tuples(of(b"MAXDELETEDID"), id_), st.tuples(of(b"x"))), most=2
)


def flat(words: object) -> Command:
    """The words of a command that was made of parts."""
    return tuple(word for one in words for word in (flat(one) if isinstance(one, tuple | list) else (one,)))  # type: ignore[attr-defined]


def xread(most: int) -> st.SearchStrategy[Command]:
    """XREAD of up to so many keys."""
    return st.integers(1, most).flatmap(
        lambda n: st.tuples(
            of(b"XREAD"), counted, of(b"STREAMS"), st.lists(key, min_size=n, max_size=n),
            st.lists(st.one_of(ids, of(b"$", b"0", b"x", b"-", b">")), min_size=n, max_size=n),
        ).map(flat)
    )  # fmt: skip


ADDING = st.one_of(
    command(b"XADD", key, new_id, fields),
    command(b"XADD", key, new_id, fields),
    command(b"XADD", key, trim, new_id, fields),
    command(b"XADD", key, of(b"NOMKSTREAM"), new_id, fields),
)
STREAMS = st.one_of(
    ADDING,
    command(b"XDEL", key, several(id_, 1)),
    command(b"XLEN", key),
    command(b"XRANGE", key, bound, bound, counted),
    command(b"XREVRANGE", key, bound, bound, counted),
    command(b"XSETID", key, id_, setid),
    command(b"XTRIM", key, trim),
    xread(3),
)
nodes = st.fixed_dictionaries({b"stream-node-max-entries": of(b"100", b"1", b"2", b"3", b"0")})


@given(limits=nodes, stream=streams.streams(STREAMS, STREAMS, ADDING, streams.generic(st.sampled_from(KEYS))))
@settings(relaxed, max_examples=100)
def test_streams(pair: Pair, limits: dict[bytes, bytes], stream: list[Command]) -> None:
    """All commands that need no consumer group, with small nodes."""
    pair.play(limits, BEFORE, stream)


def test_a_stream_of_many_entries(pair: Pair) -> None:
    """Entries come and go, and their digest is Redis's."""
    many: list[Command] = [(b"XADD", b"b", b"%d-%d" % (i // 7, i), b"f", b"%d" % i, b"g", b"x") for i in range(1, 3000)]
    look: list[Command] = [
        (b"XRANGE", b"b", b"(20", b"200-9", b"COUNT", b"50"), (b"XREVRANGE", b"b", b"300", b"-"), (b"XLEN", b"b"),
        (b"DEBUG", b"DIGEST-VALUE", b"b"), (b"DEBUG", b"DIGEST"), (b"OBJECT", b"ENCODING", b"b"), (b"TYPE", b"b"),
        (b"SCAN", b"0", b"TYPE", b"hash", b"COUNT", b"100"), (b"COPY", b"b", b"c", b"REPLACE"),
        (b"DEBUG", b"DIGEST-VALUE", b"c"),
    ]  # fmt: skip
    fewer: list[Command] = [
        (b"XDEL", b"b", *(b"%d-%d" % (i // 7, i) for i in range(at, 3000, 9))) for at in range(1, 8)
    ]
    trims: list[Command] = [
        (b"XTRIM", b"b", b"MAXLEN", b"~", b"300", b"LIMIT", b"100"), (b"XTRIM", b"b", b"MAXLEN", b"500"),
        (b"XTRIM", b"b", b"MINID", b"350-0"), (b"XTRIM", b"b", b"MAXLEN", b"0"),
    ]  # fmt: skip
    pair.play({}, BEFORE, [*many, *look, *fewer, *look, *(one for trim in trims for one in (trim, *look))])
