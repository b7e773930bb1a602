"""HyperLogLogs beside redis-server and valkey-server: replies, all bytes, and sketches that go from one to the other.

The streams are of streams.py.
"""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.mmcore.support import seeds
from tests.server import streams
from tests.server.streams import OTHER, STRING, Command, Pair, relaxed
from tests.server.test_differential import command, of, several
from tests.server.wire import OK

BEFORE: list[Command] = [
    (b"SET", STRING, b"x"), (b"RPUSH", OTHER, b"x"), (b"PFADD", b"a", b"1", b"2", b"3"), (b"PFADD", b"b", b"x"),
    (b"PFADD", b"d", *(b"%d" % i for i in range(2000))), (b"SET", b"e", b"12345"),
]  # fmt: skip
KEYS = [b"a", b"b", b"c", b"d"]

key = st.sampled_from(KEYS * 6 + [STRING, OTHER, b"e", b"none"])
target = st.sampled_from(KEYS * 8 + [STRING])
element = st.one_of(
    st.integers(0, 3000).map(lambda value: b"%d" % value),
    of(b"", b"x", b"\x00\xff\r\n", b"12345678", b"123456789abcdef", b"m" * 5000),
)
SKETCHES = st.one_of(
    command(b"PFADD", target, several(element, 0, 3)),
    command(b"PFADD", target, st.integers(0, 3000).map(lambda at: tuple(b"e%d" % (at + i) for i in range(60)))),
    command(b"PFADD", key, several(element, 0, 2)),
    command(b"PFCOUNT", key),
    command(b"PFCOUNT", several(key, 2, 4)),
    command(b"PFMERGE", target, several(key, 0, 3)),
    command(b"PFDEBUG", of(b"DECODE", b"ENCODING", b"encoding", b"TODENSE", b"GETREG", b"x"), key),
    command(b"GET", key),
    command(b"CONFIG", b"SET", b"hll-sparse-max-bytes", of(b"3000", b"3000", b"100", b"0", b"20000")),
)


@pytest.fixture(autouse=True)
def usual_limit(pair: Pair) -> None:
    """Both servers keep sketches sparse up to the usual size."""
    for side in (pair.mine, pair.theirs):
        assert side.wire("CONFIG", "SET", "hll-sparse-max-bytes", 3000) == OK


@given(stream=streams.streams(SKETCHES, SKETCHES, SKETCHES, streams.generic(st.sampled_from(KEYS))))
@settings(relaxed, max_examples=40)
def test_sketches(pair: Pair, stream: list[Command]) -> None:
    """All commands.  Their results are compared byte for byte."""
    pair.play({}, [(b"CONFIG", b"SET", b"hll-sparse-max-bytes", b"3000"), *BEFORE], stream)


@pytest.mark.parametrize("limit", [3000, 500, 16000])
def test_every_byte_on_the_way_from_empty_to_dense(pair: Pair, limit: int) -> None:
    """One element after the other: the same runs are split and joined, at the same time it becomes dense."""
    for side in (pair.mine, pair.theirs):
        side.reset({}, [])
        side.wire("CONFIG", "SET", "hll-sparse-max-bytes", limit)
    r = random.Random(limit)
    for at in range(45):
        words = (b"PFADD", b"k", *(b"%d" % r.randrange(1 << 40) for _ in range(at * at // 8)))
        for step in (words, (b"PFCOUNT", b"k") if at % 3 == 0 else (b"STRLEN", b"k"), (b"GET", b"k")):
            assert not pair.step(step), at


def sparse_sketch(r: random.Random) -> bytes:
    """A sketch of runs such as no server would make: neighbours of one value, zeros in several runs."""
    out, left = bytearray(b"HYLL\x01" + bytes(11)), 16384
    values, longest, share = r.choice([[1], [1, 2], range(1, 33)]), r.choice([1, 2, 4]), r.choice([0.02, 0.5, 0.97, 1])
    zeros = r.choice([1, 5, 70, 3000])
    while left > 0:
        if r.random() < share:
            count = r.randint(1, min(longest, left))
            out.append(0x80 | r.choice(values) - 1 << 2 | count - 1)
        else:
            count = r.randint(1, min(zeros, left))
            long = count > 64 or r.random() < 0.2
            out += (0x4000 | count - 1).to_bytes(2, "big") if long else bytes([count - 1])
        left -= count
    return bytes(out)


@pytest.mark.parametrize("seed", seeds(6))
def test_sketches_of_strange_runs_are_added_to_and_merged_alike(pair: Pair, seed: int) -> None:
    """All bytes after each element, and after PFMERGE, whose registers come one after the other."""
    r = random.Random(seed)
    for side in (pair.mine, pair.theirs):
        side.reset({}, [])
    for number in range(30):
        limit = b"%d" % r.choice([3000, 3000, 100, 5000, 20_000, 100_000])
        for step in (
            (b"CONFIG", b"SET", b"hll-sparse-max-bytes", limit),
            (b"SET", b"a", sparse_sketch(r)),
            (b"SET", b"b", sparse_sketch(r)),
            *((b"PFADD", b"a", b"%d" % r.randrange(1 << 40)) for _ in range(20)),
            (b"GET", b"a"),
            (b"PFMERGE", b"b", b"a"),
            (b"GET", b"b"),
            (b"PFMERGE", b"c%d" % number, b"a"),
            (b"GET", b"c%d" % number),
            (b"PFCOUNT", b"b", b"c0"),
        ):
            assert not pair.step(step), (seed, number, limit, step)


@pytest.mark.parametrize("key", [b"k", b"k" * 1500, b"k" * 4050])
def test_every_byte_of_a_sketch_that_grows_by_one_element_at_a_time(pair: Pair, key: bytes) -> None:
    """It passes all size classes of the heap; its entry has a deadline, or comes to be longer than a page."""
    for side in (pair.mine, pair.theirs):
        side.reset({}, [])
    r = random.Random(len(key))
    for at in range(1200):
        assert not pair.step((b"PFADD", key, b"%d" % r.randrange(2000))), at
        if at == 50:
            assert not pair.step((b"EXPIRE", key, b"10000"))
        if at % 7 == 0:
            assert not pair.step((b"GET", key)), at
    assert pair.mine.wire("TTL", key) > 9000


def test_many_elements_have_the_same_estimates(pair: Pair) -> None:
    for side in (pair.mine, pair.theirs):
        side.reset({}, [])
    for at in range(100):
        assert not pair.step((b"PFADD", b"k%d" % (at % 3), *(b"element:%d" % i for i in range(at * at, at * at + 900))))
        assert not pair.step((b"PFCOUNT", b"k%d" % (at % 3)))
        assert not pair.step((b"PFCOUNT", b"k0", b"k1", b"k2", b"none"))
    assert not pair.step((b"PFMERGE", b"k", b"k0", b"k1", b"k2"))
    assert not pair.step((b"PFCOUNT", b"k")) and not pair.step((b"GET", b"k"))
    assert not pair.step((b"PFSELFTEST",))


@pytest.mark.parametrize("count", [0, 3, 700, 9000])
def test_a_sketch_goes_from_one_server_to_the_other_and_back(pair: Pair, count: int) -> None:
    mine, theirs = pair.mine.wire, pair.theirs.wire
    for side in (pair.mine, pair.theirs):
        side.reset({}, [])
    mine("PFADD", "k", *range(count))
    theirs("SET", "k", mine("GET", "k"))
    assert mine("PFCOUNT", "k") == theirs("PFCOUNT", "k")
    theirs("PFADD", "k", *range(count, 2 * count + 1))
    mine("SET", "k", theirs("GET", "k"))
    assert not pair.step((b"PFADD", b"k", b"another")) and not pair.step((b"PFCOUNT", b"k"))
    assert mine("GET", "k") == theirs("GET", "k")
