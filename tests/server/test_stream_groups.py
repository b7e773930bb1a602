"""Streams of commands on consumer groups, compared with redis-server and valkey-server: see streams.py."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server import streams
from tests.server.streams import OTHER, STRING, Command, Pair, relaxed
from tests.server.test_differential import command, of, several
from tests.server.test_stream_commands import ADDING, KEYS, bound, flat, ids, key, nodes, number, odd_ids
from tests.server.wire import OK

BEFORE: list[Command] = [
    (b"SET", STRING, b"x"), (b"RPUSH", OTHER, b"x"),
    *((b"XADD", b"a", b"%d-1" % i, b"f", b"v%d" % i) for i in range(1, 12)),
    (b"XGROUP", b"CREATE", b"a", b"g", b"0"), (b"XGROUP", b"CREATE", b"b", b"g", b"$", b"MKSTREAM"),
    (b"XREADGROUP", b"GROUP", b"g", b"one", b"COUNT", b"4", b"STREAMS", b"a", b">"),
]  # fmt: skip
group = of(b"g", b"g", b"g", b"g", b"h", b"none", b"")
consumer = of(b"one", b"one", b"two", b"three", b"\r\n", b"x" * 300)
id_ = st.one_of(ids, ids, ids, ids, odd_ids)
idle = of(b"0", b"0", b"0", b"0", b"1000000", b"-1", b"x", b"9223372036854775807")
start_id = st.one_of(ids, of(b"$", b"0", b"0"), odd_ids)
read = st.one_of(
    of(b"ENTRIESREAD").flatmap(lambda word: st.tuples(st.just(word), number)), of(b"x").map(lambda word: (word,))
)
claim_options = several(
    st.one_of(
        of(b"FORCE", b"JUSTID").map(lambda word: (word,)),
        st.tuples(of(b"RETRYCOUNT"), number),
        st.tuples(of(b"LASTID"), id_),
        st.tuples(of(b"IDLE"), of(b"0", b"10", b"x")),
        st.tuples(of(b"TIME"), of(b"0", b"x", b"99999999999999999")),
        of(b"x").map(lambda word: (word,)),
    ),
    most=2,
)


def reading(most: int) -> st.SearchStrategy[Command]:
    """XREADGROUP of up to so many keys."""
    return st.integers(1, most).flatmap(
        lambda n: st.tuples(
            of(b"XREADGROUP"), of(b"GROUP"), group, consumer, several(st.tuples(of(b"COUNT"), number), most=1),
            several(of(b"NOACK").map(lambda word: (word,)), most=1), of(b"STREAMS"),
            st.lists(key, min_size=n, max_size=n),
            st.lists(st.one_of(of(b">", b">", b">", b"0", b"$"), ids), min_size=n, max_size=n),
        ).map(flat)
    )  # fmt: skip


GROUPS = st.one_of(
    reading(1),
    reading(1),
    reading(2),
    command(b"XACK", key, group, several(id_, 1)),
    command(b"XPENDING", key, group),
    command(b"XPENDING", key, group, several(st.tuples(of(b"IDLE"), idle), most=1), bound, bound, number),
    command(b"XPENDING", key, group, bound, bound, number, consumer),
    command(b"XCLAIM", key, group, consumer, idle, several(id_, 1), claim_options),
    command(b"XAUTOCLAIM", key, group, consumer, idle, bound, several(st.tuples(of(b"COUNT"), number), most=1)),
    command(b"XAUTOCLAIM", key, group, consumer, idle, bound, of(b"JUSTID", b"JUSTID", b"x")),
    command(b"XGROUP", b"CREATE", key, group, start_id, several(read, most=1)),
    command(b"XGROUP", b"CREATE", key, group, start_id, of(b"MKSTREAM")),
    command(b"XGROUP", b"SETID", key, group, start_id, several(read, most=1)),
    command(b"XGROUP", b"DESTROY", key, group),
    command(b"XGROUP", b"CREATECONSUMER", key, group, consumer),
    command(b"XGROUP", b"DELCONSUMER", key, group, consumer),
    command(b"XGROUP", of(b"CREATE", b"x", b"DESTROY"), several(key, most=1)),
    command(b"XINFO", b"STREAM", key),
    command(b"XINFO", b"STREAM", key, of(b"FULL", b"FULL", b"x")),
    command(b"XINFO", b"STREAM", key, of(b"FULL"), of(b"COUNT"), number),
    command(b"XINFO", b"GROUPS", key),
    command(b"XINFO", b"CONSUMERS", key, group),
    command(b"XDEL", key, several(id_, 1)),
    command(b"XTRIM", key, of(b"MAXLEN"), number),
)


@given(
    limits=nodes,
    aside=st.sampled_from((b"2500", b"1")),
    stream=streams.streams(GROUPS, GROUPS, GROUPS, ADDING, streams.generic(st.sampled_from(KEYS))),
)
@settings(relaxed, max_examples=150)
def test_groups(pair: Pair, limits: dict[bytes, bytes], aside: bytes, stream: list[Command]) -> None:
    """All commands on groups, at once, or in steps and by the reader; times are not compared."""
    assert pair.mine.wire("CONFIG", "SET", "read-aside-threshold", aside) == OK
    pair.play(limits, BEFORE, stream)
    assert pair.mine.wire("CONFIG", "SET", "read-aside-threshold", "2500") == OK
