"""XREAD and XREADGROUP that wait, and a day's log that the consumers of a group share."""

import random
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.server.crowd import Crowd
from tests.server.test_blocking import pass_by
from tests.server.wire import OK, Failure, Wire, encode, wait_until

NO_GROUP = b"-NOGROUP No such key 'k' or consumer group 'g' in XREADGROUP with GROUP option\r\n"
WRONG_TYPE = b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"
NULL_ARRAY = b"*-1\r\n"
GROUP_READ = ("XREADGROUP", "GROUP", "g", "one", "BLOCK", "0", "STREAMS", "k", ">")


@pytest.fixture
def crowd(server) -> Iterator[Crowd]:
    """Four connections to an empty server."""
    with Crowd(server.address, 4) as made:
        yield made


def entries(key: str, *found: tuple[str, str]) -> bytes:
    """XREAD's reply, of entries with the field f in one stream."""
    parts = b"".join(b"*2\r\n" + encode(id_)[4:] + encode("f", value) for id_, value in found)
    return b"*1\r\n*2\r\n" + encode(key)[4:] + b"*%d\r\n" % len(found) + parts


@pytest.mark.parametrize(
    "commands",
    [
        [("XADD", "k", "7-1", "f", "v")],
        [("XADD", "other", "7-1", "f", "v"), ("RENAME", "other", "k")],
        [("XADD", "other", "7-1", "f", "v"), ("COPY", "other", "k")],
        [("MULTI",), ("SET", "k", "x"), ("DEL", "k"), ("XADD", "k", "7-1", "f", "v"), ("EXEC",)],
        [("SELECT", "1"), ("XADD", "k", "7-1", "f", "v"), ("SWAPDB", "0", "1")],
    ],
    ids=lambda commands: commands[-1][0],
)
@pytest.mark.parametrize("since", ["$", "0", "7-0"])
def test_whatever_makes_the_stream_ends_the_wait(crowd: Crowd, commands, since: str) -> None:
    assert crowd.act(1, "XREAD", "BLOCK", "0", "STREAMS", "none", "k", "$", since) == {}
    assert crowd.send(0, commands)[1] == [entries("k", ("7-1", "v"))]


def test_a_dollar_is_the_last_entry_when_the_wait_began(crowd: Crowd) -> None:
    """Several entries of one transaction are all read, and what was there is not."""
    crowd.act(0, "XADD", "k", "1-1", "f", "old")
    assert crowd.act(1, "XREAD", "COUNT", "5", "BLOCK", "0", "STREAMS", "k", "$") == {}
    crowd.act(0, "XADD", "none", "1-1", "f", "v")
    assert crowd.act(0, "XDEL", "k", "1-1") == {0: [b":1\r\n"]}
    assert crowd.waiting() == {1}
    replies = crowd.send(0, [("MULTI",), ("XADD", "k", "2-1", "f", "a"), ("XADD", "k", "2-2", "f", "b"), ("EXEC",)])
    assert replies[1] == [entries("k", ("2-1", "a"), ("2-2", "b"))]


def test_all_who_wait_read_the_entry(crowd: Crowd) -> None:
    for member in (0, 1, 2):
        crowd.act(member, "XREAD", "BLOCK", "0", "STREAMS", "k", "$")
    replies = crowd.act(3, "XADD", "k", "1-1", "f", "v")
    assert [replies[member] for member in (0, 1, 2)] == [[entries("k", ("1-1", "v"))]] * 3


def test_an_identifier_that_is_not_reached_ends_no_wait(crowd: Crowd) -> None:
    crowd.act(1, "XREAD", "BLOCK", "0", "STREAMS", "k", "5-5")
    assert 1 not in crowd.act(0, "XADD", "k", "5-5", "f", "v")
    assert crowd.act(0, "XADD", "k", "5-6", "f", "w")[1] == [entries("k", ("5-6", "w"))]


def test_a_wait_for_a_stream_ends_with_its_time(server, crowd: Crowd, ours: None) -> None:
    crowd.act(1, "XREAD", "BLOCK", "600000", "STREAMS", "k", "$")
    with Wire(server.address) as other:
        pass_by(other, 700_000)
    assert crowd.settle() == {1: [NULL_ARRAY]}


def test_in_a_transaction_nobody_waits(crowd: Crowd) -> None:
    replies = crowd.send(0, [("MULTI",), ("XREAD", "BLOCK", "0", "STREAMS", "k", "$"), ("EXEC",)])
    assert replies[0][-1] == b"*1\r\n" + NULL_ARRAY


def test_the_plus_is_the_last_entry(wire: Wire, ours: None) -> None:
    """As of Redis 7.4, also where the last ones were deleted."""
    for i in (1, 2, 3):
        wire("XADD", "k", f"{i}-1", "f", "v")
    wire("XDEL", "k", "3-1")
    found = wire("XREAD", "STREAMS", "k", "+")
    assert (found[b"k"] if wire.protocol == 3 else found[0][1]) == [[b"2-1", [b"f", b"v"]]]
    assert wire.raw("XREAD", "STREAMS", "none", "+") == (b"_\r\n" if wire.protocol == 3 else NULL_ARRAY)


# --- groups ----------------------------------------------------------------------------------------------------------


def test_an_entry_goes_to_one_consumer_of_a_group(crowd: Crowd) -> None:
    """To the one that has waited for longest; another group gets it, too."""
    crowd.act(3, "XGROUP", "CREATE", "k", "g", "$", "MKSTREAM")
    crowd.act(3, "XGROUP", "CREATE", "k", "h", "$")
    crowd.act(1, *GROUP_READ)
    crowd.act(0, "XREADGROUP", "GROUP", "g", "two", "BLOCK", "0", "STREAMS", "k", ">")
    crowd.act(2, "XREADGROUP", "GROUP", "h", "one", "BLOCK", "0", "STREAMS", "k", ">")
    replies = crowd.act(3, "XADD", "k", "1-1", "f", "v")
    assert (replies[1], replies[2], 0 in replies) == (
        [entries("k", ("1-1", "v"))] * 1,
        [entries("k", ("1-1", "v"))],
        False,
    )
    assert crowd.act(3, "XADD", "k", "1-2", "f", "w")[0] == [entries("k", ("1-2", "w"))]
    assert crowd.witness("XPENDING", "k", "g")[0] == 2


@pytest.mark.parametrize(
    ("commands", "error"),
    [
        ([("DEL", "k")], NO_GROUP),
        ([("UNLINK", "k")], NO_GROUP),
        ([("XGROUP", "DESTROY", "k", "g")], NO_GROUP),
        ([("FLUSHALL",)], NO_GROUP),
        ([("FLUSHDB",)], NO_GROUP),
        ([("RENAME", "k", "other")], NO_GROUP),
        ([("SWAPDB", "0", "1")], NO_GROUP),
        ([("EXPIRE", "k", "-1")], NO_GROUP),
        ([("SET", "k", "x")], WRONG_TYPE),
        ([("DEL", "k"), ("RPUSH", "k", "x")], NO_GROUP),
        ([("MULTI",), ("DEL", "k"), ("RPUSH", "k", "x"), ("EXEC",)], WRONG_TYPE),
    ],
    ids=lambda commands: commands[-1][0] if isinstance(commands, list) else "",
)
def test_a_reader_of_a_group_that_is_gone_gets_an_error(
    crowd: Crowd, at_least_72: None, commands, error: bytes
) -> None:
    crowd.act(0, "XGROUP", "CREATE", "k", "g", "$", "MKSTREAM")
    crowd.act(1, *GROUP_READ)
    crowd.act(2, "XREAD", "BLOCK", "0", "STREAMS", "k", "$")
    replies = crowd.send(0, commands)
    assert replies[1] == [error]
    assert crowd.waiting() == {2}
    assert crowd.witness("PING").text == "PONG"


def test_a_group_that_is_made_again_within_a_transaction_is_waited_for(crowd: Crowd, ours: None) -> None:
    crowd.act(0, "XGROUP", "CREATE", "k", "g", "$", "MKSTREAM")
    crowd.act(1, *GROUP_READ)
    again: list[tuple[Any, ...]] = [
        ("MULTI",), ("DEL", "k"), ("XGROUP", "CREATE", "k", "g", "$", "MKSTREAM"), ("EXEC",),
    ]  # fmt: skip
    assert 1 not in crowd.send(0, again)
    assert crowd.act(0, "XADD", "k", "1-1", "f", "v")[1] == [entries("k", ("1-1", "v"))]


# --- a day -----------------------------------------------------------------------------------------------------------


def test_three_consumers_read_a_day_s_log_and_one_of_them_dies(server) -> None:
    """The lines that it had read and not acknowledged go to another one: each line is worked on, most of them once."""
    lines, generator = 3000, random.Random(7)
    log = redis.Redis(port=server.port)
    log.xgroup_create("log", "workers", id="$", mkstream=True)
    done: dict[str, list[bytes]] = {name: [] for name in ("one", "two", "three")}

    def work(name: str, dies_after: int) -> None:
        with redis.Redis(port=server.port) as mine:
            while True:
                found = mine.xreadgroup("workers", name, {"log": ">"}, count=10, block=20_000)
                for id_, fields in found[0][1] if found else []:
                    if fields == {b"end": b""}:
                        mine.xack("log", "workers", id_)
                        return
                    done[name].append(fields[b"line"])
                    if len(done[name]) == dies_after:
                        return
                    mine.xack("log", "workers", id_)

    workers = [threading.Thread(target=work, args=one) for one in (("one", 10**9), ("two", 150), ("three", 10**9))]
    for worker in workers:
        worker.start()
    pipe = log.pipeline(transaction=False)
    for line in range(lines):
        pipe.xadd("log", {"line": line, "host": f"h{generator.randrange(9)}"}, maxlen=10**6, approximate=True)
    pipe.execute()
    workers[1].join()
    for ended in (1, 2):  # one by one, or the same worker might get both
        log.xadd("log", {"end": ""})
        wait_until(lambda ended=ended: sum(not worker.is_alive() for worker in workers) == 1 + ended, "a worker to end")
    left = log.xpending("log", "workers")
    assert {one["name"] for one in left["consumers"]} == {b"two"} and 1 <= left["pending"] <= 10
    _, claimed, deleted = log.xautoclaim("log", "workers", "one", min_idle_time=0)
    assert len(claimed) == left["pending"] and deleted == []
    done["one"] += [fields[b"line"] for _, fields in claimed]
    assert log.xack("log", "workers", *(id_ for id_, _ in claimed)) == left["pending"]
    assert sorted({int(line) for lines_ in done.values() for line in lines_}) == list(range(lines))
    assert sum(map(len, done.values())) == lines + 1  # the one that it died with
    assert log.xpending("log", "workers")["pending"] == 0
    assert {one["name"]: one["pending"] for one in log.xinfo_consumers("log", "workers")} == dict.fromkeys(
        (b"one", b"three", b"two"), 0
    )
    assert log.xinfo_groups("log")[0]["lag"] == 0
    log.close()


def test_groups_survive_a_restart(start, tmp_path) -> None:
    with start(tmp_path) as server, Wire(server.address) as wire:
        for i in range(1, 500):
            wire("XADD", "k", f"{i}-1", "f", i)
        wire("XGROUP", "CREATE", "k", "g", "100-0")
        wire("XREADGROUP", "GROUP", "g", "one", "COUNT", "200", "STREAMS", "k", ">")
        wire("XDEL", "k", "150-1")
        before = wire("XINFO", "STREAM", "k", "FULL", "COUNT", "0"), wire("DEBUG", "DIGEST")
        assert wire("SAVE") == OK
    with start(tmp_path) as server, Wire(server.address) as wire:
        assert (wire("XINFO", "STREAM", "k", "FULL", "COUNT", "0"), wire("DEBUG", "DIGEST")) == before
        assert wire("XADD", "k", "1-1", "f", "v") == Failure(
            "ERR The ID specified in XADD is equal or smaller than the target stream top item"
        )
        assert wire("XACK", "k", "g", "150-1", "200-1", "400-1") == 2
