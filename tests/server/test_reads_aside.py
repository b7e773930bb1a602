"""Long reads that another thread serves: their replies, their order, and the ends that they can have.

A threshold of 1 lets every read of two elements go aside.  A test that needs a read under way asks for several very
long ones and looks at `reads_aside_pending`; the reader does one after the other.
"""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from kvstore.store.aside import READS_MAX
from tests.harness import Process
from tests.server.conftest import Start
from tests.server.streams import tree, without_times
from tests.server.wire import NULL_ARRAY, OK, QUEUED, Argument, Closed, Failure, Wire, encode, info, wait_until

pytestmark = pytest.mark.usefixtures("ours")

UNLIKE = ("KEYS", "MEMORY", "XPENDING", "XINFO")  # their replies depend on the clock or on a server's memory
COUNT = 200_000  # members of two great sets
LONG: tuple[Argument, ...] = ("SINTERCARD", 2, "great", "greater")  # takes some 50 ms, and its reply is short

KEYS = 68  # that `fill` makes

# Commands that go aside, with those keys.
READS: tuple[str, ...] = (
    "KEYS *",
    "KEYS *s*",
    "KEYS nothing*",
    "SCAN 0 COUNT 1000",
    "SCAN 0 COUNT 1000 MATCH *1 TYPE hash",
    *(f"{name} hash{size}" for size in (3, 900) for name in ("HGETALL", "HKEYS", "HVALS")),
    *(f"SMEMBERS {key}" for key in ("ints", "set3", "set900", "other900")),
    *(f"{name} {keys}" for name in ("SUNION", "SINTER", "SDIFF") for keys in (
        "set900 other900", "ints set3", "set900", "set3 missing", "missing", "set900 other900 ints set3 set900")),
    "SINTERCARD 2 set900 other900",
    "SINTERCARD 2 set900 other900 LIMIT 7",
    "LRANGE list3 0 -1",
    "LRANGE list900 0 -1",
    "LRANGE list900 -700 -5",
    "LRANGE list900 5 1",
    "LPOS list900 e77",
    "LPOS list900 nothing",
    "LPOS list900 e7 RANK -1 COUNT 0 MAXLEN 800",
    *(f"ZRANGE {key} 0 -1{end}" for key in ("zset3", "zset900")
      for end in ("", " WITHSCORES", " REV", " REV WITHSCORES")),
    "ZREVRANGE zset900 5 700 WITHSCORES",
    "ZRANGEBYSCORE zset900 (3 +inf WITHSCORES LIMIT 10 500",
    "ZREVRANGEBYSCORE zset900 +inf -inf",
    "ZRANGEBYLEX zset900 - +",
    "ZREVRANGEBYLEX zset900 + - LIMIT 1 50",
    *(f"{name} 2 zset900 {other}{end}" for name in ("ZUNION", "ZINTER", "ZDIFF") for other in ("zset3", "set900")
      for end in ("", " WITHSCORES")),
    "ZUNION 3 zset900 set900 ints WEIGHTS 1.5 -2 inf AGGREGATE MAX WITHSCORES",
    "ZINTERCARD 2 zset900 zset900",
    "ZINTERCARD 2 zset900 zset900 LIMIT 9",
    *(f"{name}SCAN {key} 0 COUNT 5000" for name, key in (
        ("H", "hash900"), ("S", "set900"), ("Z", "zset900"), ("H", "hash3"), ("S", "ints"))),
    "HSCAN hash900 0 COUNT 5000 NOVALUES",
    "GEOSEARCH zset900 FROMMEMBER e500 BYRADIUS 30 m WITHDIST WITHCOORD",
    "GEOSEARCH zset900 FROMMEMBER e3 BYBOX 900 900 km DESC COUNT 100 WITHHASH",
    "GEORADIUS_RO zset900 -180 -85 9000 km COUNT 5 ANY",
    "SORT_RO list900 ALPHA DESC LIMIT 3 700",
    "SORT_RO list900",
    "SORT_RO ints BY string*",
    "SORT_RO zset900 ALPHA DESC GET # GET string*",
    "SORT_RO list900 BY nosort GET # GET string*",
    "LCS string49 string1 IDX",
    "MEMORY USAGE hash900 SAMPLES 0",
    "MEMORY USAGE zset900",
    "HGETALL set3",
    "SUNION set3 hash3",
    "ZUNION 2 zset3 hash3",
    "HGETALL missing",
    "HMGET hash900 f1 f2 missing f1",
    "HMGET missing f1 f2",
    "HMGET set3 f1 f2",
    "SMISMEMBER set900 e1 nothing e2",
    "SMISMEMBER ints 3 4 x",
    "ZMSCORE zset900 e1 nothing e2",
    "MGET string1 string2 missing hash3 string1 long",
    "GET long",
    "GETRANGE long 10 -10",
    "GETRANGE long 0 300000",
    "HVALS large",
    "SMEMBERS large:2",
    "LRANGE large:3 0 -1",
    "ZRANGE large:4 0 -1 WITHSCORES",
    "MGET long long string1",
    "HMGET large f0 f1 f2 nothing f1",
    "XRANGE stream900 - +",
    "XREVRANGE stream900 + 700-0 COUNT 150",
    "XREAD COUNT 100 STREAMS stream900 missing 5-1 0",
    "XPENDING stream900 g",
    "XPENDING stream900 g - + 400",
    "XPENDING stream900 g IDLE 1 30-0 + 400 consumer1",
    "XINFO GROUPS stream900",
    "XINFO CONSUMERS stream900 g",
    "XINFO CONSUMERS stream900 none",
    "XINFO STREAM stream900",
    "XINFO STREAM stream900 FULL",
    "XINFO STREAM stream900 FULL COUNT 0",
    "XINFO STREAM large:5 FULL",
    "MEMORY USAGE stream900",
    "MEMORY USAGE stream900 SAMPLES 0",
)  # fmt: skip


def fill(wire: Wire) -> None:
    """One key of each type and form, small and not."""
    commands: list[tuple[Argument, ...]] = [("SADD", "ints", *range(0, 300, 3))]
    for size in (3, 900):
        commands += [
            ("HSET", f"hash{size}", *(word for i in range(size) for word in (f"f{i}", f"value {i}" * (i % 5)))),
            ("SADD", f"set{size}", *(f"e{i}" for i in range(size))),
            ("SADD", f"other{size}", *(f"e{i}" for i in range(size // 2, 2 * size))),
            ("RPUSH", f"list{size}", *(f"e{i % 100}" for i in range(size))),
            ("ZADD", f"zset{size}", *(word for i in range(size) for word in (i * 0.7, f"e{i}"))),
        ]
    commands += [("SET", f"string{i}", i) for i in range(50)]
    commands += [("SET", "long", bytes(range(256)) * 6000)]
    commands += [("XADD", "stream900", f"{i}-1", "f", i) for i in range(1, 901)]
    commands += [("XGROUP", "CREATE", "stream900", group, 0) for group in "ghij"]
    commands += [
        ("XREADGROUP", "GROUP", "g", f"consumer{i}", "COUNT", 80 * i, "STREAMS", "stream900", ">") for i in range(4)
    ]
    texts = ["x" * 700_000 + str(i) for i in range(3)]
    commands += [
        ("HSET", "large", *(word for i, text in enumerate(texts) for word in (f"f{i}", text))),
        ("SADD", "large:2", *texts),
        ("RPUSH", "large:3", *texts),
        ("ZADD", "large:4", *(word for i, text in enumerate(texts) for word in (i, text))),
        *(("XADD", "large:5", f"{i}-1", "f", text) for i, text in enumerate(texts, 1)),
    ]
    assert not any(isinstance(reply, Failure) for reply in wire.pipeline(commands))


def fill_great(wire: Wire) -> None:
    """Two sets, and what they have in common."""
    step = 1000
    names = [[f"member:{i}" for i in range(first, first + step)] for first in range(0, COUNT, step)]
    replies = wire.pipeline([("SADD", key, *some) for key in ("great", "greater") for some in names])
    assert set(replies) == {step}
    assert wire("SADD", "greater", "more") == 1


def threshold(wire: Wire, elements: int) -> None:
    assert wire("CONFIG", "SET", "read-aside-threshold", elements) == OK


def figures(wire: Wire) -> tuple[int, int, int]:
    """Reads aside so far, under way, and in place although long."""
    stats = info(wire, "stats")
    return tuple(int(stats[name]) for name in ("reads_aside", "reads_aside_pending", "reads_aside_in_place"))  # type: ignore[return-value]


def settled(wire: Wire) -> None:
    """No read is under way, and the roots have come back."""
    wait_until(lambda: figures(wire)[1] == 0, "the reads to end")


@pytest.fixture(autouse=True)
def always_aside(request: pytest.FixtureRequest) -> Iterator[None]:
    """Of the shared server: every read of two elements goes aside."""
    if "server" not in request.fixturenames:
        yield
        return
    server: Process = request.getfixturevalue("server")
    with Wire(server.address) as wire:
        before = wire("CONFIG", "GET", "read-aside-threshold")[1]
        threshold(wire, 1)
        yield
        settled(wire)
        threshold(wire, int(before))


def reply_to(wire: Wire, command: list[str]) -> Any:
    """The reply's bytes; or its parts, where it says for how long an entry or a consumer has been idle."""
    reply = wire.raw(*command)
    words = tuple(map(str.encode, command))
    return without_times(words, tree(reply)) if command[0] in ("XPENDING", "XINFO") else reply


def in_place_and_aside(wire: Wire, commands: list[list[str]]) -> tuple[list[Any], list[Any]]:
    """The replies to the same commands with and without a reader."""
    found = []
    for elements in (0, 1):
        threshold(wire, elements)
        found.append([reply_to(wire, command) for command in commands])
    return found[0], found[1]


def test_every_command_replies_as_in_place(wire: Wire) -> None:
    fill(wire)
    commands = [command.split() for command in READS]
    before = figures(wire)[0]
    in_place, aside = in_place_and_aside(wire, commands)
    for command, one, other in zip(commands, in_place, aside, strict=True):
        assert one == other, command
    went = figures(wire)[0] - before
    assert went > 70, "hardly anything went aside"


@pytest.mark.parametrize(
    "command",
    ["HVALS large", "SMEMBERS large:2", "LRANGE large:3 0 -1", "ZRANGE large:4 0 -1", "MGET long long long",
     "HMGET large f0 f1 f2", "GET great", "GETRANGE great 1 -1", "XRANGE large:5 - +", "XREVRANGE large:5 + -",
     "XREAD STREAMS large:5 0", "XREAD BLOCK 0 COUNT 2 STREAMS large:5 0-1", "XINFO STREAM large:5 FULL"],
)  # fmt: skip
def test_a_read_of_few_elements_goes_aside_when_they_are_large(wire: Wire, command: str) -> None:
    fill(wire)
    assert wire("SETRANGE", "great", 3_000_000, "x") == 3_000_001
    threshold(wire, 0)
    expected = wire.raw(*command.split())
    threshold(wire, 2500)
    assert wire("CONFIG", "RESETSTAT") == OK
    assert wire.raw(*command.split()) == expected
    assert figures(wire)[0] == 1
    stats = info(wire, "stats")
    assert (stats["keyspace_hits"], stats["keyspace_misses"]) == (
        {"MGET": "3", "XREAD": "2"}.get(command.split()[0], "1"),
        "0",
    )
    before = figures(wire)[2]
    replies = wire.pipeline([("MULTI",), tuple(command.split()), ("EXEC",)])
    assert replies[1] == QUEUED and len(replies[2]) == 1
    assert (figures(wire)[0], figures(wire)[2]) == (1, before)


@pytest.mark.parametrize(
    ("command", "aside"),
    [("XINFO CONSUMERS consumers g", 1), ("XINFO STREAM consumers FULL", 1), ("XPENDING consumers g", 1),
     ("MEMORY USAGE consumers SAMPLES 0", 1), ("MEMORY USAGE consumers", 0), ("XINFO GROUPS consumers", 0),
     ("XINFO GROUPS groups", 1), ("XINFO STREAM groups FULL", 1), ("MEMORY USAGE groups", 1), ("XPENDING groups g1", 0),
     ("XINFO STREAM groups", 0), ("XINFO CONSUMERS groups g1", 0)],
)  # fmt: skip
def test_many_groups_and_consumers_count_as_work(wire: Wire, command: str, aside: int) -> None:
    """Of a stream of one entry."""
    wire("XADD", "consumers", "1-1", "f", "v")
    wire("XGROUP", "CREATE", "consumers", "g", 0)
    wire.pipeline([("XGROUP", "CREATECONSUMER", "consumers", "g", f"c{i}") for i in range(120)])
    wire.pipeline([("XGROUP", "CREATE", "groups", f"g{i}", 0, "MKSTREAM") for i in range(120)])
    threshold(wire, 100)
    before = figures(wire)[0]
    expected = reply_to(wire, command.split())
    assert figures(wire)[0] - before == aside
    threshold(wire, 0)
    assert reply_to(wire, command.split()) == expected


def test_xread_counts_as_many_hits_and_misses_aside_as_in_place(wire: Wire) -> None:
    fill(wire)
    for elements, aside in ((0, "0"), (1, "1")):
        threshold(wire, elements)
        assert wire("CONFIG", "RESETSTAT") == OK
        wire("XREAD", "STREAMS", "stream900", "missing", "large:5", 5, 0, 0)
        stats = info(wire, "stats")
        assert (stats["keyspace_hits"], stats["keyspace_misses"], stats["reads_aside"]) == ("4", "2", aside)


def test_mget_aside_counts_its_hits_and_misses_and_in_place_announces_them(server: Process, wire2: Wire) -> None:
    fill(wire2)
    many = [f"string{i}" for i in range(60)]
    assert wire2("CONFIG", "RESETSTAT") == OK
    assert wire2("MGET", *many) == [str(i).encode() for i in range(50)] + [None] * 10
    stats = info(wire2, "stats")
    assert (stats["keyspace_hits"], stats["keyspace_misses"], stats["reads_aside"]) == ("50", "10", "1")
    assert wire2("CONFIG", "SET", "notify-keyspace-events", "Km") == OK
    try:
        with Wire(server.address) as listener:
            assert listener("SUBSCRIBE", "__keyspace@0__:string59") is not None
            assert wire2("MGET", *many) == [str(i).encode() for i in range(50)] + [None] * 10
            assert listener.reply() == [b"message", b"__keyspace@0__:string59", b"keymiss"]
            assert figures(wire2)[0] == 1
    finally:
        wire2("CONFIG", "SET", "notify-keyspace-events", "")


def test_a_digest_is_made_aside(server: Process, wire: Wire) -> None:
    fill(wire)
    threshold(wire, 0)
    expected = wire("DEBUG", "DIGEST")
    threshold(wire, 1)
    before = figures(wire)[0]
    replies = wire.pipeline([("GET", "string1"), ("DEBUG", "DIGEST"), ("GET", "string2")])
    assert replies == [b"1", expected, b"2"] and figures(wire)[0] == before + 1
    wire.send(encode("CLIENT", "REPLY", "SKIP") + encode("DEBUG", "DIGEST") + encode("PING"))
    assert wire.reply().text == "PONG"
    replies = wire.pipeline([("MULTI",), ("DEBUG", "DIGEST"), ("SET", "a", "b"), ("EXEC",)])
    assert replies[3] == [expected, OK] and figures(wire)[0] == before + 2
    assert wire("DEBUG", "DIGEST") != expected
    assert isinstance(wire("DEBUG", "NOSUCH"), Failure)
    calls = dict(field.split("=") for field in info(wire, "commandstats")["cmdstat_debug"].split(","))["calls"]
    assert wire("DEBUG", "DIGEST") != expected
    line = info(wire, "commandstats")["cmdstat_debug"]
    assert int(dict(field.split("=") for field in line.split(","))["calls"]) == int(calls) + 1
    settled(wire)


@pytest.mark.parametrize(
    "command", ["SRANDMEMBER set900 400", "SRANDMEMBER ints -400", "HRANDFIELD hash900 400 WITHVALUES",
                "HRANDFIELD hash900 -9", "ZRANDMEMBER zset900 -300 WITHSCORES", "ZRANDMEMBER zset900 7"]
)  # fmt: skip
def test_draws_are_made_aside_too(wire: Wire, command: str) -> None:
    fill(wire)
    words = command.split()
    before = figures(wire)[0]
    reply = wire(*words)
    if wire.protocol == 3 and len(words) == 4:
        drawn = [pair[0] for pair in reply]
    else:
        drawn = reply[:: 2 if len(words) == 4 else 1]
    count = int(words[2])
    assert len(drawn) == abs(count) and (count < 0 or len(set(drawn)) == count)
    assert figures(wire)[0] == before + 1


def test_a_pipeline_keeps_its_order_and_sees_the_store_of_its_own_moment(wire: Wire) -> None:
    fill(wire)
    expected = wire("HGETALL", "hash900")
    replies = wire.pipeline(
        [("SET", "a", 1), ("HGETALL", "hash900"), ("DEL", "hash900"), ("HGETALL", "hash900"), ("GET", "a"),
         ("LRANGE", "list900", 0, 2), ("LLEN", "list900")]
    )  # fmt: skip
    assert replies[:3] == [OK, expected, 1]
    assert replies[3] in ({}, []) and replies[4:] == [b"1", [b"e0", b"e1", b"e2"], 900]


def test_others_go_on_and_do_not_change_what_is_read(server: Process, great: Wire) -> None:
    with crowd(server, 4) as busy, Wire(server.address) as reading:
        ask(great, reading, LONG, ("SCARD", "great"), ("SMEMBERS", "small"))
        assert great("SADD", "small", "a", "b") == 2
        assert great("SREM", "great", "member:7") == 1 and great("DEL", "greater") == 1
        assert reading.reply() == COUNT
        assert reading.reply() in (COUNT - 1, COUNT)
        assert set(reading.reply()) <= {b"a", b"b"}
        assert {client.reply() for client in busy} == {COUNT}


def test_in_a_transaction_it_runs_in_place(wire: Wire) -> None:
    fill(wire)
    expected, before = wire("HGETALL", "hash3"), figures(wire)[0]
    replies = wire.pipeline([("MULTI",), ("HGETALL", "hash3"), ("KEYS", "*"), ("SET", "k", "v"), ("EXEC",)])
    assert replies[:4] == [OK, QUEUED, QUEUED, QUEUED]
    assert replies[4][0] == expected and len(replies[4][1]) == KEYS and replies[4][2] == OK
    assert figures(wire)[0] == before


def test_client_reply_off_and_skip(server: Process, wire2: Wire) -> None:
    fill(wire2)
    wire2.send(encode("CLIENT", "REPLY", "SKIP") + encode("HGETALL", "hash900") + encode("PING"))
    assert wire2.reply().text == "PONG"
    wire2.send(encode("CLIENT", "REPLY", "OFF") + encode("KEYS", "*") + encode("CLIENT", "REPLY", "ON"))
    assert wire2.reply() == OK and wire2("PING").text == "PONG"


def test_it_is_counted_once_with_its_hits_and_misses(wire: Wire) -> None:
    fill(wire)
    assert wire("CONFIG", "RESETSTAT") == OK
    assert len(wire("SUNION", "set3", "set900", "missing")) == 900
    assert isinstance(wire("SUNION", "set3", "hash3"), Failure)
    stats = info(wire, "stats")
    assert (stats["keyspace_hits"], stats["keyspace_misses"], stats["reads_aside"]) == ("4", "1", "1")
    line = info(wire, "commandstats")["cmdstat_sunion"]
    fields = dict(field.split("=") for field in line.split(","))
    assert fields["calls"] == "2" and fields["failed_calls"] == "1" and int(fields["usec"]) > 0


def test_the_slow_log_has_it_with_its_arguments(wire: Wire) -> None:
    fill(wire)
    assert wire("CONFIG", "SET", "slowlog-log-slower-than", 0) == OK and wire("SLOWLOG", "RESET") == OK
    assert len(wire("LRANGE", "list900", 0, -1)) == 900
    assert wire("CONFIG", "SET", "slowlog-log-slower-than", 10000) == OK
    entries = [entry for entry in wire("SLOWLOG", "GET", 10) if entry[3][0] == b"LRANGE"]
    assert len(entries) == 1 and entries[0][3] == [b"LRANGE", b"list900", b"0", b"-1"] and entries[0][2] > 0


def test_monitor_shows_it_once(server: Process, wire: Wire) -> None:
    fill(wire)
    with Wire(server.address) as monitor:
        assert monitor("MONITOR") == OK
        assert len(wire("SMEMBERS", "set900")) == 900
        assert wire("SET", "end", 1) == OK
        lines = [monitor.reply().text for _ in range(2)]
    assert '"SMEMBERS" "set900"' in lines[0] and '"SET" "end"' in lines[1]


def test_an_expired_key_is_hidden_and_its_event_told(server: Process, wire2: Wire) -> None:
    fill(wire2)
    assert wire2("CONFIG", "SET", "notify-keyspace-events", "KExm") == OK
    try:
        with Wire(server.address) as listener:
            assert listener("SUBSCRIBE", "__keyevent@0__:keymiss", "__keyevent@0__:expired")
            listener.reply()
            assert wire2("DEBUG", "SET-ACTIVE-EXPIRE", 0) == OK and wire2("PEXPIRE", "set3", 1) == 1
            assert wire2("DEBUG", "SHIFT-CLOCK", "WALL", 10) == OK
            assert len(wire2("SUNION", "set3", "set900")) == 900
            assert listener.reply()[1:] == [b"__keyevent@0__:expired", b"set3"]
            assert listener.reply()[1:] == [b"__keyevent@0__:keymiss", b"set3"]
            assert wire2("PUBLISH", "__keyevent@0__:expired", "end") == 1
            assert listener.reply()[2] == b"end"
    finally:
        wire2("CONFIG", "SET", "notify-keyspace-events", "")
        wire2("DEBUG", "SET-ACTIVE-EXPIRE", 1)


# --- the ends of a read ----------------------------------------------------------------------------------------------


@pytest.fixture
def great(server: Process) -> Iterator[Wire]:
    """The great sets are there."""
    with Wire(server.address) as wire:
        fill_great(wire)
        yield wire


@contextmanager
def crowd(server: Process, count: int) -> Iterator[list[Wire]]:
    """Clients whose reads keep the reader busy."""
    with ExitStack() as stack:
        clients = [stack.enter_context(Wire(server.address)) for _ in range(count)]
        for client in clients:
            client.send(encode(*LONG))
        yield clients


def ask(great: Wire, waiting: Wire, *commands: tuple[Argument, ...]) -> int:
    """Let a client ask for these reads, one after the other; returns its number once the first has been begun.

    It waits then, unless this test was stopped for so long that the reader has done all that came before.
    """
    identity = int(waiting("CLIENT", "ID"))
    waiting.send(b"".join(encode(*command) for command in commands or (LONG,)))
    wait_until(lambda: b" cmd=client|id " not in great("CLIENT", "LIST", "ID", identity), "the read")
    return identity


def test_a_client_that_waits_for_a_read_cannot_be_unblocked(server: Process, great: Wire) -> None:
    with crowd(server, 6) as busy, Wire(server.address) as waiting:
        identity = ask(great, waiting)
        assert great("CLIENT", "UNBLOCK", identity) == 0
        assert waiting.reply() == COUNT
        assert {client.reply() for client in busy} == {COUNT}


@pytest.mark.parametrize("how", ["kill", "leave", "flush"])
def test_a_client_that_is_killed_or_leaves_gives_its_read_up(server: Process, great: Wire, how: str) -> None:
    with crowd(server, 6), Wire(server.address) as waiting:
        identity = ask(great, waiting, LONG, LONG, LONG)
        if how == "kill":
            assert great("CLIENT", "KILL", "ID", identity) == 1
            with pytest.raises((Closed, ConnectionError)):
                while True:
                    waiting.reply()
        elif how == "flush":
            assert great("FLUSHALL") == OK
            replies = [waiting.reply() for _ in range(3)]
            assert replies[0] == COUNT and set(replies) <= {COUNT, 0}
    settled(great)
    assert great("SET", "still", "there") == OK and great("KEYS", "st*") == [b"still"]


def test_more_reads_than_fit_run_in_place(server: Process, great: Wire) -> None:
    before = figures(great)
    with crowd(server, READS_MAX + 6) as busy:
        assert [client.reply() for client in busy] == [COUNT] * (READS_MAX + 6)
    after = figures(great)
    assert after[0] - before[0] + after[2] - before[2] == READS_MAX + 6


def closed(wire: Wire) -> int:
    """Clients that were closed because too much waited for them."""
    return int(info(wire, "stats")["client_output_buffer_limit_disconnections"])


def test_a_client_over_its_limit_is_closed(server: Process, great: Wire) -> None:
    limit = great("CONFIG", "GET", "client-output-buffer-limit")[1]
    value = "v" * 1000
    assert len(great.pipeline([("HSET", "large", f"f{i}", value) for i in range(20_000)])) == 20_000
    assert great("CONFIG", "SET", "client-output-buffer-limit", "normal 1mb 0 0") == OK
    try:
        for command in ("HGETALL large", "HSCAN large 0 COUNT 100000"):  # in pieces as it is made, and at its end
            before = closed(great)
            with Wire(server.address) as client:
                client.send(encode(*command.split()))
                wait_until(lambda before=before: closed(great) == before + 1, "the limit")  # type: ignore[misc]
                with pytest.raises((Closed, ConnectionError)):
                    client.reply()
    finally:
        assert great("CONFIG", "SET", "client-output-buffer-limit", limit) == OK


def test_a_reply_that_the_socket_does_not_take_at_once(server: Process, great: Wire) -> None:
    value = "v" * 1000
    assert len(great.pipeline([("HSET", "large", f"f{i}", value) for i in range(20_000)])) == 20_000
    with Wire(server.address) as client:
        client.send(encode("HVALS", "large") + encode("HLEN", "large") + encode("HVALS", "large"))
        wait_until(lambda: figures(great)[1] == 0 and int(info(great, "stats")["reads_aside"]) > 0, "the first")
        assert client.reply() == [value.encode()] * 20_000
        assert client.reply() == 20_000
        assert client.reply() == [value.encode()] * 20_000


def test_a_paused_client_asks_later(server: Process, wire: Wire) -> None:
    fill(wire)
    before = figures(wire)[0]
    with Wire(server.address) as other:
        assert wire("CLIENT", "PAUSE", 100) == OK
        other.send(encode("SMEMBERS", "set900") + encode("DBSIZE"))
        assert len(other.reply()) == 900 and other.reply() == KEYS
    assert figures(wire)[0] == before + 1


def test_on_branches_and_snapshots(server: Process, wire: Wire) -> None:
    fill(wire)
    in_place, _ = in_place_and_aside(wire, [command.split() for command in READS])
    assert wire("BRANCH", "CREATE", "b") == OK and wire("SNAPSHOT", "CREATE", "s") == OK
    try:
        with Wire(server.address, wire.protocol) as one, Wire(server.address, wire.protocol) as two:
            assert one("BRANCH", "USE", "b") == OK and two("BRANCH", "USE", "s") == OK
            assert wire("DEL", "hash900") == 1 and wire("FLUSHALL") == OK
            before = figures(wire)[0]
            for client in (one, two):
                assert [reply_to(client, command.split()) for command in READS] == in_place
            assert figures(wire)[0] > before + 100
            assert one("DEL", "set900") == 1 and len(one("SUNION", "set900", "other900")) == 1350
            assert len(two("SUNION", "set900", "other900")) == 1800
    finally:
        assert wire("BRANCH", "DROP", "b", "FORCE") == OK and wire("SNAPSHOT", "DROP", "s", "FORCE") == OK


def test_a_branch_that_is_dropped_reset_or_exchanged_meanwhile(server: Process, great: Wire) -> None:
    assert great("BRANCH", "CREATE", "b") == OK and great("BRANCH", "CREATE", "c") == OK
    with crowd(server, 5) as busy, Wire(server.address) as on_branch, Wire(server.address) as dropped:
        assert on_branch("BRANCH", "USE", "b") == OK and dropped("BRANCH", "USE", "c") == OK
        assert on_branch("SREM", "great", "member:1") == 1
        ask(great, on_branch)
        ask(great, dropped, LONG, ("GET", "a"))
        assert great("BRANCH", "DROP", "c", "FORCE") == OK
        assert great("BRANCH", "SWAP", "main", "b") == OK and great("BRANCH", "RESET", "b") == OK
        assert on_branch.reply() == COUNT - 1
        lost = dropped.reply()
        assert isinstance(lost, Failure) or lost == COUNT
        dropped.reply()
        assert isinstance(dropped("GET", "a"), Failure)
        assert {client.reply() for client in busy} == {COUNT}
        assert great("BRANCH", "DROP", "b", "FORCE") == OK
    settled(great)


# --- messages meanwhile ----------------------------------------------------------------------------------------------


def test_a_message_does_not_come_before_the_reply_or_in_its_middle(server: Process, great: Wire) -> None:
    value = "v" * 1000
    assert len(great.pipeline([("HSET", "large", f"f{i}", value) for i in range(20_000)])) == 20_000
    with crowd(server, 4), Wire(server.address, 3) as client:
        assert client("SUBSCRIBE", "news") == [b"subscribe", b"news", 1]
        ask(great, client, ("HLEN", "large"), ("HGETALL", "large"), ("HLEN", "large"), ("HKEYS", "large"))
        before = figures(great)[0]
        assert great("PUBLISH", "news", "1") == 1
        assert client.reply() == 20_000
        assert len(client.reply()) == 20_000
        assert client.reply() == [b"message", b"news", b"1"]
        assert client.reply() == 20_000 and len(client.reply()) == 20_000
        assert great("PUBLISH", "news", "2") == 1 and client.reply() == [b"message", b"news", b"2"]
        assert figures(great)[0] == before + 1


@pytest.mark.parametrize("modes", ["", "OPTIN", "BCAST"])
def test_what_a_client_tracks_is_told_behind_the_reply_that_it_concerns(
    server: Process, great: Wire, modes: str
) -> None:
    fill(great)
    with crowd(server, 4), Wire(server.address, 3) as client:
        assert client("CLIENT", "TRACKING", "ON", *modes.split()) == OK
        if modes == "OPTIN":
            assert client("CLIENT", "CACHING", "YES") == OK
        ask(great, client, ("SUNION", "set3", "set900"), ("HGETALL", "hash900"))
        assert great("SADD", "set3", "new") == 1 and great("SADD", "set900", "new") == 1
        assert len(client.reply()) == 900
        told = [client.reply() for _ in range(2)]
        assert told == [[b"invalidate", [b"set3"]], [b"invalidate", [b"set900"]]]
        assert len(client.reply()) == 900
        tracked = int(info(great, "stats")["tracking_total_keys"])
        assert tracked == (1 if modes == "" else 0)


def test_a_client_that_tracks_is_told_once_for_a_read_aside(server: Process, great: Wire) -> None:
    fill(great)
    with Wire(server.address, 3) as client:
        assert client("CLIENT", "TRACKING", "ON") == OK
        before = figures(great)[0]
        assert len(client("MEMORY", "USAGE", "hash900") and client("ZINTER", 2, "zset900", "set3")) == 3
        assert figures(great)[0] == before + 2
        assert great("DEL", "hash900", "zset900") == 2 and great("SADD", "zset900", "again") == 1
        told = [client.reply() for _ in range(2)]
        assert sorted(told) == [[b"invalidate", [b"hash900"]], [b"invalidate", [b"zset900"]]]
        assert client("PING").text == "PONG"


def test_a_client_that_loses_its_branch_in_the_middle_of_a_reply_is_closed(server: Process, great: Wire) -> None:
    value = "v" * 1000
    assert len(great.pipeline([("HSET", "large", f"f{i}", value) for i in range(30_000)])) == 30_000
    assert great("BRANCH", "CREATE", "b") == OK
    with Wire(server.address) as client:
        assert client("BRANCH", "USE", "b") == OK
        client.send(encode("HGETALL", "large") * 40)
        wait_until(lambda: b" oll=0 " not in great("CLIENT", "LIST", "ID", 1 + int(great("CLIENT", "ID"))), "a piece")
        assert great("BRANCH", "DROP", "b", "FORCE") == OK
        with pytest.raises((Closed, ConnectionError)):
            for _ in range(40):
                assert len(client.reply()) == 60_000
    settled(great)


def test_a_server_that_stops_does_not_wait_for_reads(start: Start, tmp_path: Path) -> None:
    with start(tmp_path, options=("--read-aside-threshold", "1")) as server, Wire(server.address) as wire:
        fill_great(wire)
        with crowd(server, 40):
            wait_until(lambda: figures(wire)[0] == 40, "the reads")
            wire.send(encode("SHUTDOWN", "NOSAVE"))
            server.process.wait(60)
    assert server.process.returncode == 0


def test_never_means_never(wire: Wire) -> None:
    fill(wire)
    threshold(wire, 0)
    before = figures(wire)
    assert len(wire("HKEYS", "hash900")) == 900
    assert figures(wire) == before
    assert isinstance(wire("CONFIG", "SET", "read-aside-threshold", -1), Failure)
    assert wire("LRANGE", "missing", 0, -1) not in (NULL_ARRAY, None)


# --- streams ---------------------------------------------------------------------------------------------------------


def _write(draw: random.Random) -> tuple[Argument, ...]:
    size = draw.choice((3, 900))
    i = draw.randrange(1200)
    choices: tuple[tuple[Argument, ...], ...] = (
        ("HSET", f"hash{size}", f"f{i}", "x" * draw.randrange(200)),
        ("HDEL", f"hash{size}", f"f{i}"),
        ("SADD", f"set{size}", f"e{i}"),
        ("SREM", f"other{size}", f"e{i}"),
        ("RPUSH", f"list{size}", f"e{i}"),
        ("LPOP", f"list{size}"),
        ("LSET", f"list{size}", 0, f"e{i}"),
        ("ZADD", f"zset{size}", i, f"e{i}"),
        ("ZREMRANGEBYRANK", f"zset{size}", 0, 1),
        ("COPY", f"set{size}", f"copy{i % 7}", "REPLACE"),
        ("DEL", f"copy{i % 7}"),
        ("SADD", "ints", i),
        ("SET", f"string{i % 60}", "y" * draw.randrange(3000)),
    )
    return draw.choice(choices)


@pytest.mark.parametrize("seed", range(3))
def test_streams_with_writers_between(start: Start, tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    with start(tmp_path / "a", options=("--read-aside-threshold", "1")) as aside, \
            start(tmp_path / "b", options=("--read-aside-threshold", "0")) as in_place:  # fmt: skip
        sides = [
            (Wire(server.address), [Wire(server.address, 2 + i % 2) for i in range(4)]) for server in (aside, in_place)
        ]
        seeds = [wire("DEBUG", "DIGEST") for wire, _ in sides]
        assert seeds[0] == seeds[1]
        for wire, _ in sides:
            fill(wire)
        for _ in range(60):
            asked: list[tuple[int, tuple[Argument, ...]]] = []
            for i in range(4):
                command: tuple[Argument, ...] = tuple(draw.choice(READS).split())
                if not str(command[0]).endswith("SCAN") and command[0] not in UNLIKE:
                    asked.append((i, command))
            writes = [_write(draw) for _ in range(draw.randrange(1, 30))]
            found: list[list[Any]] = []
            for wire, clients in sides:
                for i, command in asked:
                    ask(wire, clients[i], command)
                written = wire.pipeline(writes)
                replies = [_in_order(command, clients[i].reply()) for i, command in asked]
                found.append([*replies, *written])
            assert found[0] == found[1]
        for wire, clients in sides:
            for client in (wire, *clients):
                client.close()


def _in_order(command: tuple[Argument, ...], reply: Any) -> Any:
    # The two servers hash with different seeds, so what has no order comes in another one.
    if isinstance(reply, list) and str(command[0])[:2] in ("HG", "HK", "HV", "SM", "SU", "SI", "SD"):
        if command[0] == "HGETALL":
            return sorted(zip(reply[::2], reply[1::2], strict=True))
        return sorted(reply)
    return reply
