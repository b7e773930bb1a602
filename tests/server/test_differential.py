r"""Random command streams, played to this server and to a real redis-server: every reply must be the same bytes.

A stream is a list of (connection, command).  It uses two connections, so that transactions and watches conflict.  Then
all databases are compared: keys, values, deadlines, encodings.  Replies that depend on chance or on the order of a
table are compared by their guarantees: RANDOMKEY by membership, KEYS and SCAN as sets, times to live to a second.

Without redis-server these tests are skipped with a message; with KVSTORE_REQUIRE_REDIS=1 they fail.
"""

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.server.wire import OK, Failure, Wire, encode, info, scan_all, wait_until

Command = tuple[bytes, ...]
Step = tuple[int, Command]

KEYS = [b"a", b"b", b"c", b"d", b"", b"\x00\xff\r\n", b"long" * 1200]
INTEGERS = [
    b"0", b"1", b"-1", b"7", b"1000000", b"9223372036854775807", b"-9223372036854775808", b"9223372036854775808",
    b"9223372036854775806", b"-9223372036854775807", b"4611686018427387904",
]  # fmt: skip
NOT_INTEGERS = [b"", b"x", b"01", b"+1", b" 1", b"1 ", b"1.0", b"-0", b"-", b"1e3", b"0x10", b"99999999999999999999"]
FLOATS = [
    b"0.1", b"0.2", b"-0.1", b"1.5", b"3.14159265358979", b"1e3", b"1e-5", b"123456789.123456789", b"0", b"-2.5e2",
    b"1e17", b"0.3333333333333333", b"5.", b".5", b"0x1p3", b"1e400", b"nan", b"inf", b"-inf", b"1,5", b"infinity",
    b"1e-400",
]  # fmt: skip
TIMES = [b"1000", b"100000000", b"0", b"-1", b"9223372036854775807", b"-9223372036854775808", b"x", b"1.5", b""]
TIMES_MS = [b"1000000", b"100000000000", b"0", b"-1", b"9223372036854775807", b"9223372036854770000", b"x"]
STAMPS = [b"99999999999", b"1", b"0", b"-1", b"9223372036854775807", b"9223372036854775", b"x"]
STAMPS_MS = [b"99999999999999", b"88888888888888", b"1", b"-1", b"9223372036854775807", b"x"]
OFFSETS = [
    b"0",
    b"1",
    b"-1",
    b"3",
    b"-3",
    b"40",
    b"5000",
    b"-5000",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"x",
    b"1.5",
]
DATABASES = [b"0", b"1", b"1", b"2", b"15", b"16", b"-1", b"x", b"2147483648"]
PATTERNS = [
    b"*",
    b"a",
    b"?",
    b"[ab]",
    b"[^a]*",
    b"*ong*",
    b"\\a",
    b"[a-c]",
    b"",
    b"**l*g",
    b"[",
    b"a*",
    b"*\xff*",
    b"[\\]a]",
]

key = st.sampled_from(KEYS)
value = st.one_of(
    st.sampled_from(INTEGERS + NOT_INTEGERS + FLOATS),
    st.binary(max_size=12),
    st.sampled_from([43, 44, 45, 100, 4000, 4096, 5000, 40_000]).map(lambda size: b"v" * size),
)
integer = st.sampled_from(INTEGERS + INTEGERS[:5] + NOT_INTEGERS)
database = st.sampled_from(DATABASES)


def of(*texts: bytes) -> st.SearchStrategy[bytes]:
    """A strategy for one of these texts."""
    return st.sampled_from(texts)


def command(name: bytes, *arguments: Any) -> st.SearchStrategy[Command]:
    """A command; an argument is a strategy for one or a strategy for a tuple of them."""
    parts = [st.just((name,))]
    for argument in arguments:
        strategy = st.just(argument) if isinstance(argument, bytes) else argument
        parts.append(strategy.map(lambda each: each if isinstance(each, tuple) else (each,)))
    return st.tuples(*parts).map(lambda groups: tuple(word for group in groups for word in group))


def several(strategy: st.SearchStrategy[Any], least: int = 0, most: int = 3) -> st.SearchStrategy[Command]:
    """A tuple of `least` to `most` examples."""
    return st.lists(strategy, min_size=least, max_size=most).map(
        lambda each: tuple(word for part in each for word in (part if isinstance(part, tuple) else (part,)))
    )


deadline = st.one_of(
    st.tuples(of(b"EX"), st.sampled_from(TIMES)),
    st.tuples(of(b"PX"), st.sampled_from(TIMES_MS)),
    st.tuples(of(b"EXAT"), st.sampled_from(STAMPS)),
    st.tuples(of(b"PXAT"), st.sampled_from(STAMPS_MS)),
)
flag = of(b"NX", b"XX", b"GET", b"KEEPTTL", b"nx", b"PERSIST", b"FOO").map(lambda word: (word,))
condition = several(of(b"NX", b"XX", b"GT", b"LT", b"gt", b"FOO"), most=2)

STRINGS = st.one_of(
    command(b"SET", key, value),
    command(b"SET", key, value, several(st.one_of(flag, deadline))),
    command(b"GET", key),
    command(b"SETNX", key, value),
    command(b"SETEX", key, st.sampled_from(TIMES), value),
    command(b"PSETEX", key, st.sampled_from(TIMES_MS), value),
    command(b"GETSET", key, value),
    command(b"GETDEL", key),
    command(b"GETEX", key, several(st.one_of(flag, deadline), most=2)),
    command(b"MGET", several(key, 1)),
    command(b"MSET", several(st.tuples(key, value), 1)),
    command(b"MSETNX", several(st.tuples(key, value), 1)),
    command(b"APPEND", key, value),
    command(b"STRLEN", key),
    command(b"GETRANGE", key, st.sampled_from(OFFSETS), st.sampled_from(OFFSETS)),
    command(b"SUBSTR", key, st.sampled_from(OFFSETS), st.sampled_from(OFFSETS)),
    command(b"SETRANGE", key, st.sampled_from(OFFSETS), value),
    command(b"INCR", key),
    command(b"DECR", key),
    command(b"INCRBY", key, integer),
    command(b"DECRBY", key, integer),
)
NUMBERS = st.one_of(
    command(b"SET", key, st.sampled_from(FLOATS + INTEGERS)),
    command(b"INCRBYFLOAT", key, st.sampled_from(FLOATS + INTEGERS + NOT_INTEGERS)),
    command(b"INCRBYFLOAT", key, st.floats(-1e6, 1e6).map(lambda x: b"%.6f" % x)),
    command(b"INCRBYFLOAT", key, st.floats(width=32).map(lambda x: repr(x).encode())),
    command(b"INCRBY", key, integer),
    command(b"GET", key),
)
GENERIC = st.one_of(
    command(b"DEL", several(key, 1)),
    command(b"UNLINK", several(key, 1)),
    command(b"EXISTS", several(key, 1)),
    command(b"TOUCH", several(key, 1)),
    command(b"TYPE", key),
    command(b"RENAME", key, key),
    command(b"RENAMENX", key, key),
    command(b"COPY", key, key, several(st.one_of(of(b"REPLACE", b"FOO"), st.tuples(of(b"DB"), database)), most=2)),
    command(b"MOVE", key, database),
    command(b"EXPIRE", key, st.sampled_from(TIMES), condition),
    command(b"PEXPIRE", key, st.sampled_from(TIMES_MS), condition),
    command(b"EXPIREAT", key, st.sampled_from(STAMPS), condition),
    command(b"PEXPIREAT", key, st.sampled_from(STAMPS_MS), condition),
    command(b"TTL", key),
    command(b"PTTL", key),
    command(b"EXPIRETIME", key),
    command(b"PEXPIRETIME", key),
    command(b"PERSIST", key),
    command(b"OBJECT", b"ENCODING", key),
    command(b"OBJECT", b"FREQ", key),
    command(b"KEYS", st.sampled_from(PATTERNS)),
    command(b"SCAN", of(b"0", b"x", b"0x"), several(st.tuples(of(b"COUNT"), of(b"1000", b"0", b"x")), most=1)),
    command(b"SCAN", b"0", b"COUNT", b"1000", b"MATCH", st.sampled_from(PATTERNS)),
    command(b"SCAN", b"0", b"COUNT", b"1000", b"TYPE", of(b"string", b"list", b"nope")),
    command(b"RANDOMKEY"),
    command(b"DBSIZE"),
)
DATABASE_WIDE = st.one_of(
    command(b"SELECT", database),
    command(b"SWAPDB", database, database),
    command(b"FLUSHDB", several(of(b"ASYNC", b"SYNC", b"FOO"), most=1)),
    command(b"FLUSHALL"),
)
TRANSACTIONS = st.one_of(
    command(b"MULTI"), command(b"EXEC"), command(b"EXEC"), command(b"DISCARD"), command(b"UNWATCH"),
    command(b"WATCH", several(key, 1)),
)  # fmt: skip
CONNECTION = st.one_of(
    command(b"PING", several(value, most=2)),
    command(b"ECHO", value),
    command(b"CLIENT", b"GETNAME"),
    command(b"CLIENT", b"SETNAME", of(b"name", b"", b"a b")),
    command(b"NOSUCH", several(value)),
    command(b"OBJECT", b"NOSUCH", key),
    command(b"CONFIG", b"GET", of(b"appendonly", b"nosuch")),
)


@st.composite
def mangled(draw: Callable[..., Any], commands: st.SearchStrategy[Command]) -> Command:
    """A correct command, or one with its last argument lost or doubled, with an extra one, or in another case."""
    words: Command = draw(commands)
    kind = draw(st.integers(0, 20))
    if kind == 0 and len(words) > 1:
        return words[:-1]
    if kind == 1:
        return (*words, words[-1])
    if kind == 2:
        return (*words, draw(of(b"EX", b"GET", b"NX", b"1", b"")))
    if kind == 3:
        return (words[0].lower(), *words[1:])
    return words


def steps(*commands: st.SearchStrategy[Command], most: int = 40) -> st.SearchStrategy[list[Step]]:
    """Streams of these commands, most of them from the first connection."""
    return st.lists(st.tuples(of(0, 0, 1), mangled(st.one_of(*commands))), min_size=1, max_size=most)  # type: ignore[arg-type]


APPROXIMATE_S = {b"TTL", b"EXPIRETIME"}
APPROXIMATE_MS = {b"PTTL", b"PEXPIRETIME"}
UNORDERED = {b"KEYS", b"SCAN"}
PLAYED_MS = 100_000  # the stream is played to one side after the other: times to live differ by no more than that takes


class Side:
    """One of the two servers, with two connections to it."""

    def __init__(self, address: Any, protocol: int) -> None:
        self.wires = [Wire(address, protocol) for _ in range(2)]
        assert self.wires[0]("FLUSHALL") == OK

    def play(self, stream: list[Step]) -> list[bytes]:
        """The raw replies."""
        return [self.wires[connection].raw(*words) for connection, words in stream]

    def state(self) -> dict[int, dict[bytes, Any]]:
        """All contents: by database and key the value, its encoding, and its deadline."""
        for wire in self.wires:
            wire("DISCARD")
        wire = self.wires[0]
        found: dict[int, dict[bytes, Any]] = {}
        for db in range(16):
            assert wire("SELECT", db) == OK
            # DBSIZE counts expired keys that are not deleted yet; KEYS does not list them.
            wait_until(lambda: wire("DBSIZE") == len(wire("KEYS", "*")), "what is over to go")
            keys = sorted(wire("KEYS", "*"))
            assert sorted(set(scan_all(wire))) == keys
            if keys:
                found[db] = {
                    key: (
                        wire("GET", key),
                        wire("OBJECT", "ENCODING", key),
                        wire("PEXPIRETIME", key),
                    )
                    for key in keys
                }
        found[-1] = {db.encode(): line.split(",avg")[0] for db, line in info(wire, "keyspace").items()}
        return found

    def close(self) -> None:
        for wire in self.wires:
            wire.close()


def alike(words: Command, mine: bytes, theirs: bytes) -> bool:
    """Whether two replies to the same command agree in all that the command guarantees."""
    if mine == theirs:
        return True
    name = words[0].upper()
    if name in APPROXIMATE_S | APPROXIMATE_MS:
        numbers = [re.fullmatch(rb":(\d+)\r\n", reply) for reply in (mine, theirs)]
        margin = PLAYED_MS // 1000 if name in APPROXIMATE_S else PLAYED_MS
        return all(numbers) and abs(int(numbers[0][1]) - int(numbers[1][1])) <= margin  # type: ignore[index]
    if name in UNORDERED:
        return sorted(mine.split(b"\r\n")) == sorted(theirs.split(b"\r\n"))
    if name == b"RANDOMKEY":
        return mine[:1] == theirs[:1]
    # The reply of a transaction may hold any of the above.
    return name == b"EXEC" and shape(mine) == shape(theirs)


def same_states(mine: dict[int, dict[bytes, Any]], theirs: dict[int, dict[bytes, Any]]) -> bool:
    """Whether two states are the same, except for deadlines that were set as times to live."""
    if mine.keys() != theirs.keys() or any(mine[db].keys() != theirs[db].keys() for db in mine):
        return False
    return all(
        one == other or (isinstance(one, tuple) and one[:2] == other[:2] and abs(one[2] - other[2]) <= PLAYED_MS)
        for db in mine
        for one, other in ((mine[db][key], theirs[db][key]) for key in mine[db])
    )


def shape(reply: bytes) -> bytes:
    """A transaction's reply without the numbers that depend on time."""
    return re.sub(rb":\d{3,}\r\n", b":n\r\n", reply)


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"], scope="module")
def sides(request: pytest.FixtureRequest, running, redis_server):
    """This server and the real one."""
    pair = Side(running.address, request.param), Side(redis_server.address, request.param)
    yield pair
    for side in pair:
        side.close()


def compare(sides: tuple[Side, Side], stream: list[Step]) -> None:
    """Play the stream to both; compare replies, then states."""
    for side in sides:
        for wire in side.wires:
            wire("DISCARD")
            wire("UNWATCH")
            assert wire("SELECT", 0) == OK
            assert wire("CLIENT", "SETNAME", "") == OK
        assert side.wires[0]("FLUSHALL") == OK
    mine, theirs = (side.play(stream) for side in sides)
    in_exec_unordered = any(words[0].upper() in UNORDERED | {b"RANDOMKEY"} for _, words in stream)
    for step, my_reply, their_reply in zip(stream, mine, theirs, strict=True):
        if step[1][0].upper() == b"EXEC" and in_exec_unordered:
            assert my_reply[:1] == their_reply[:1], (step, my_reply, their_reply)
            continue
        assert alike(step[1], my_reply, their_reply), (
            f"{step}\n  got   {my_reply[:300]!r}\n  redis {their_reply[:300]!r}"
        )
    my_state, their_state = (side.state() for side in sides)
    assert same_states(my_state, their_state), f"{my_state}\n{their_state}"


relaxed = settings(
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@given(stream=steps(STRINGS, GENERIC))
@settings(relaxed, max_examples=150)
def test_strings_and_keys(sides: tuple[Side, Side], stream: list[Step]) -> None:
    """Values and keys in one or two databases."""
    compare(sides, stream)


@given(stream=steps(NUMBERS, most=25))
@settings(relaxed, max_examples=100)
def test_numbers(sides: tuple[Side, Side], stream: list[Step]) -> None:
    """Integers and floating point numbers, to the last digit."""
    compare(sides, stream)


@given(stream=steps(STRINGS, GENERIC, DATABASE_WIDE, TRANSACTIONS, TRANSACTIONS, CONNECTION, most=60))
@settings(relaxed, max_examples=150)
def test_everything_together(sides: tuple[Side, Side], stream: list[Step]) -> None:
    """Includes databases, transactions and watches of two connections."""
    compare(sides, stream)


@pytest.mark.slow
@given(stream=steps(STRINGS, NUMBERS, GENERIC, DATABASE_WIDE, TRANSACTIONS, CONNECTION, most=300))
@settings(relaxed, max_examples=3000)
def test_everything_together_for_long(sides: tuple[Side, Side], stream: list[Step]) -> None:
    """The same with longer and more streams."""
    compare(sides, stream)


def test_a_long_pipeline_gets_the_same_bytes_from_both(sides: tuple[Side, Side]) -> None:
    """Thousands of commands in one write, compared as one stream of bytes."""
    requests = b"".join(
        encode(*words)
        for i in range(2500)
        for words in (
            ("SET", f"k{i % 50}", i), ("INCR", f"k{i % 50}"), ("APPEND", f"k{i % 70}", "x" * (i % 90)),
            ("GET", f"k{i % 90}"),
        )
    )  # fmt: skip
    replies = []
    for side in sides:
        wire = side.wires[0]
        wire("SELECT", 0)
        wire("FLUSHALL")
        wire.send(requests)
        replies.append(b"".join(wire.raw_reply() for _ in range(10_000)))
    assert replies[0] == replies[1]


def test_the_comparison_would_notice() -> None:
    """A canary: different replies are detected."""
    assert not alike((b"GET", b"k"), b"$1\r\na\r\n", b"$1\r\nb\r\n")
    assert not alike((b"TTL", b"k"), b":-1\r\n", b":5\r\n")
    assert alike((b"TTL", b"k"), b":5\r\n", b":6\r\n")
    assert not alike((b"TTL", b"k"), b":1000\r\n", b":100000000\r\n")
    state = {0: {b"k": (b"v", b"embstr", 1_000_000)}}
    assert same_states(state, {0: {b"k": (b"v", b"embstr", 1_000_900)}})
    for other in ((b"w", b"embstr", 1_000_000), (b"v", b"raw", 1_000_000), (b"v", b"embstr", -1)):
        assert not same_states(state, {0: {b"k": other}})
    assert not same_states(state, {0: {b"l": (b"v", b"embstr", 1_000_000)}})
    assert not alike((b"KEYS", b"*"), b"*1\r\n$1\r\na\r\n", b"*1\r\n$1\r\nb\r\n")
    assert Failure("x") != OK
