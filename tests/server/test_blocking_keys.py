"""Commands that wait for keys: what ends a wait, in which order, and what the others see of it."""

import random
import threading
from collections import Counter
from collections.abc import Iterator

import pytest
import redis

from tests.server.conftest import Start
from tests.server.crowd import Crowd, Replies
from tests.server.test_blocking import blocked, pass_by
from tests.server.wire import OK, Argument, Closed, Failure, Wire, encode, info, wait_until

OOM = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"
WRONG_TYPE = b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"
NULL_ARRAY = b"*-1\r\n"


def popped(key: str, element: str) -> list[bytes]:
    """BLPOP's reply, of one element."""
    return [encode(key, element)]


@pytest.fixture
def crowd(server) -> Iterator[Crowd]:
    """Four connections to an empty server."""
    with Crowd(server.address, 4) as made:
        yield made


LISTS: list[tuple[tuple[Argument, ...], ...]] = [
    (("RPUSH", "k", "v"),),
    (("LPUSH", "k", "v"),),
    (("RENAME", "list", "k"),),
    (("RENAMENX", "list", "k"),),
    (("SET", "k", "x"), ("RENAME", "list", "k")),
    (("COPY", "list", "k"),),
    (("SET", "k", "x"), ("COPY", "list", "k", "REPLACE")),
    (("COPY", "list", "k", "DB", "1"), ("SELECT", "1"), ("MOVE", "k", "0")),
    (("SELECT", "1"), ("RPUSH", "list", "v"), ("COPY", "list", "k", "DB", "0")),
    (("SELECT", "1"), ("RPUSH", "k", "v"), ("SWAPDB", "0", "1")),
    (("LMOVE", "list", "k", "LEFT", "LEFT"),),
    (("RPOPLPUSH", "list", "k"),),
    (("BLMOVE", "list", "k", "LEFT", "LEFT", "0"),),
    (("MULTI",), ("SET", "k", "x"), ("DEL", "k"), ("RPUSH", "k", "v"), ("EXEC",)),
    (("MULTI",), ("RPUSH", "k", "v"), ("CONFIG", "GET", "maxmemory"), ("EXEC",)),  # Python serves the last command
]
ZSETS: list[tuple[tuple[Argument, ...], ...]] = [
    (("ZADD", "k", "1", "v"),),
    (("ZADD", "k", "INCR", "1", "v"),),
    (("ZINCRBY", "k", "1", "v"),),
    (("ZUNIONSTORE", "k", "1", "zset"),),
    (("ZINTERSTORE", "k", "1", "zset"),),
    (("ZDIFFSTORE", "k", "1", "zset"),),
    (("ZRANGESTORE", "k", "zset", "0", "-1"),),
    (("RENAME", "zset", "k"),),
    (("COPY", "zset", "k"),),
]


@pytest.mark.parametrize("commands", LISTS, ids=lambda commands: " ".join(map(str, commands[-1])))
def test_whatever_makes_the_list_ends_the_wait(crowd: Crowd, commands) -> None:
    crowd.act(0, "RPUSH", "list", "v")
    assert crowd.act(1, "BLPOP", "none", "k", "0") == {}
    assert crowd.send(0, commands)[1] == popped("k", "v")
    assert crowd.waiting() == set()


@pytest.mark.parametrize("commands", ZSETS, ids=lambda commands: " ".join(map(str, commands[-1])))
def test_whatever_makes_the_sorted_set_ends_the_wait(crowd: Crowd, commands) -> None:
    crowd.act(0, "ZADD", "zset", "1", "v")
    assert crowd.act(1, "BZPOPMAX", "none", "k", "0") == {}
    assert crowd.send(0, commands)[1] == [encode("k", "v", "1")]
    assert crowd.waiting() == set()


def test_a_result_that_replaces_a_value_of_another_type_ends_the_wait(crowd: Crowd, ours: None) -> None:
    """Redis leaves the client waiting for a key that is there, because it signals only a key that was not."""
    crowd.act(1, "BZPOPMIN", "k", "0")
    crowd.send(0, [("ZADD", "zset", "1", "v"), ("SET", "k", "x")])
    assert crowd.act(0, "ZUNIONSTORE", "k", "1", "zset")[1] == [encode("k", "v", "1")]


@pytest.mark.parametrize(
    "commands",
    [
        [("SET", "k", "x")],
        [("ZADD", "k", "1", "v")],
        [("RPUSH", "other", "v")],
        [("MULTI",), ("RPUSH", "k", "v"), ("DEL", "k"), ("EXEC",)],
        [("MULTI",), ("RPUSH", "k", "v"), ("RENAME", "k", "other"), ("EXEC",)],
        [("MULTI",), ("RPUSH", "k", "v"), ("FLUSHALL",), ("EXEC",)],
        [("MULTI",), ("RPUSH", "k", "v"), ("SWAPDB", "0", "1"), ("EXEC",), ("FLUSHALL",)],
        [("SELECT", "1"), ("RPUSH", "k", "v")],
        [("FLUSHALL",)],
    ],
    ids=lambda commands: " ".join(map(str, commands[-2 if len(commands) > 1 else -1])),
)
def test_what_leaves_no_list_behind_ends_no_wait(crowd: Crowd, commands) -> None:
    """The client goes on waiting, in its place, until a list comes."""
    crowd.act(1, "BLPOP", "k", "0")
    assert 1 not in crowd.send(0, commands)
    assert crowd.waiting() == {1}
    crowd.act(3, "DEL", "k")
    crowd.act(2, "BLPOP", "k", "0")
    replies = crowd.send(3, [("SELECT", "0"), ("RPUSH", "k", "first", "second")])
    assert (replies[1], replies[2]) == (popped("k", "first"), popped("k", "second"))


def test_the_first_to_come_is_the_first_to_be_served(crowd: Crowd) -> None:
    for member in (2, 0, 1):
        crowd.act(member, "BLPOP", "k", "0")
    replies = crowd.act(3, "RPUSH", "k", "a", "b")
    assert (replies[2], replies[0], 1 in replies) == (popped("k", "a"), popped("k", "b"), False)
    crowd.act(2, "BLPOP", "k", "0")
    replies = crowd.act(3, "RPUSH", "k", "c", "d", "e")
    assert (replies[1], replies[2]) == (popped("k", "c"), popped("k", "d"))
    assert crowd.witness("LRANGE", "k", "0", "-1") == [b"e"]


def test_each_type_has_those_who_wait_for_it(crowd: Crowd) -> None:
    crowd.act(0, "BLPOP", "k", "0")
    crowd.act(1, "BZPOPMIN", "k", "0")
    assert crowd.act(3, "ZADD", "k", "1", "v")[1] == [encode("k", "v", "1")]
    assert crowd.act(3, "RPUSH", "k", "v")[0] == popped("k", "v")


def test_of_several_keys_the_first_in_the_command_is_taken(crowd: Crowd, at_least_72: None) -> None:
    """Though the other one came first.  It is served once."""
    crowd.act(0, "BLPOP", "a", "b", "0")
    replies = crowd.send(1, [("MULTI",), ("RPUSH", "b", "y"), ("RPUSH", "a", "x"), ("EXEC",)])
    assert replies[0] == popped("a", "x")
    assert crowd.witness("LRANGE", "b", "0", "-1") == [b"y"]


def test_a_key_of_the_wrong_type_before_it_is_an_error(crowd: Crowd, at_least_72: None) -> None:
    """The whole command runs again, and meets it first."""
    crowd.act(0, "BLPOP", "a", "b", "0")
    crowd.act(1, "SET", "a", "x")
    assert crowd.act(1, "RPUSH", "b", "y")[0] == [WRONG_TYPE]
    crowd.act(0, "BLMOVE", "k", "a", "LEFT", "LEFT", "0")
    assert crowd.act(1, "RPUSH", "k", "v")[0] == [WRONG_TYPE]
    assert crowd.witness("LRANGE", "k", "0", "-1") == [b"v"]


def test_one_move_causes_another(server) -> None:
    """Through a hundred lists, by one push."""
    with Crowd(server.address, 101) as crowd:
        for member in range(100):
            crowd.act(member, "BLMOVE", f"k{member}", f"k{member + 1}", "LEFT", "RIGHT", "0")
        replies = crowd.act(100, "RPUSH", "k0", "v")
        assert replies == {**{member: [b"$1\r\nv\r\n"] for member in range(100)}, 100: [b":1\r\n"]}
        assert crowd.witness("KEYS", "*") == [b"k100"]


def test_moves_in_a_circle_end(crowd: Crowd) -> None:
    """Each client is served once."""
    crowd.act(0, "BLMOVE", "a", "b", "LEFT", "RIGHT", "0")
    crowd.act(1, "BLMOVE", "b", "a", "LEFT", "RIGHT", "0")
    crowd.act(2, "BRPOPLPUSH", "a", "a", "0")
    replies = crowd.act(3, "RPUSH", "a", "v")
    assert replies == {0: [b"$1\r\nv\r\n"], 1: [b"$1\r\nv\r\n"], 2: [b"$1\r\nv\r\n"], 3: [b":1\r\n"]}
    assert crowd.witness("LRANGE", "a", "0", "-1") == [b"v"]


def test_what_comes_behind_the_wait_runs_after_it_in_order(crowd: Crowd) -> None:
    crowd.send(0, [("SET", "n", "1"), ("BLPOP", "k", "0"), ("INCR", "n"), ("BLPOP", "k", "0"), ("INCR", "n")])
    assert crowd.act(1, "GET", "n")[1] == [b"$1\r\n1\r\n"]
    assert crowd.act(1, "RPUSH", "k", "v")[0] == [*popped("k", "v"), b":2\r\n"]
    assert crowd.waiting() == {0}
    assert crowd.act(1, "RPUSH", "k", "w")[0] == [*popped("k", "w"), b":3\r\n"]


@pytest.mark.parametrize("words", ["BLPOP k {}", "BLMOVE k l LEFT LEFT {}", "BLMPOP {} 1 k LEFT", "BZPOPMIN k {}"])
def test_a_wait_ends_with_its_time(crowd: Crowd, ours: None, words: str) -> None:
    """It ends then and not earlier."""
    crowd.act(0, *words.format("300.5").split())
    pass_by(crowd.witness, 299_000)
    assert crowd.settle() == {} and crowd.waiting() == {0}
    assert info(crowd.witness, "clients")["clients_in_timeout_table"] == "1"
    pass_by(crowd.witness, 1501)
    wait_until(lambda: crowd.waiting() == set(), "the time to be over")
    assert crowd.settle() == {0: [NULL_ARRAY]}
    assert crowd.act(1, "RPUSH", "k", "v") == {1: [b":1\r\n"]}


def test_a_push_of_the_same_turn_wins_if_it_comes_first(crowd: Crowd, ours: None) -> None:
    crowd.act(0, "BLPOP", "k", "100")
    crowd.witness.pipeline([("DEBUG", "SHIFT-CLOCK", "TIMER", 200_000), ("RPUSH", "k", "v")])
    assert crowd.settle() == {0: popped("k", "v")}


def test_one_that_is_unblocked_gets_nothing_of_a_push_behind_it(crowd: Crowd) -> None:
    crowd.act(0, "BLPOP", "k", "0")
    crowd.act(1, "BLPOP", "k", "0")
    unblock = ("CLIENT", "UNBLOCK", crowd.ids[0], "ERROR")
    replies = crowd.send(2, [("MULTI",), unblock, ("RPUSH", "k", "v"), ("EXEC",)])
    assert replies[0] == [b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"]
    assert replies[1] == popped("k", "v")
    assert replies[2][-1] == b"*2\r\n:1\r\n:1\r\n"
    assert crowd.act(2, *unblock)[2] == [b":0\r\n"]


def test_one_that_is_killed_or_goes_gets_nothing(crowd: Crowd, at_least_72: None) -> None:
    crowd.act(0, "BLPOP", "k", "0")
    crowd.act(1, "BLPOP", "k", "0")
    crowd.act(2, "BLPOP", "k", "0")
    assert blocked(crowd.witness) == 3
    crowd.leave(1)
    assert blocked(crowd.witness) == 2
    crowd.witness.send(encode("CLIENT", "KILL", "ID", crowd.ids[0]) + encode("RPUSH", "k", "v"))
    assert [crowd.witness.reply() for _ in range(2)] == [1, 1]
    with pytest.raises(Closed):
        crowd.wires[0].reply()
    assert crowd.wires[2].raw_reply() == popped("k", "v")[0]
    assert blocked(crowd.witness) == 0
    assert info(crowd.witness, "clients")["total_blocking_keys"] == "0"


def test_a_client_that_dies_in_a_transaction_of_waits_leaves_nothing(crowd: Crowd) -> None:
    """In MULTI nobody waits: each command answers as if its time were over."""
    commands = ["BLPOP k 0", "BLMOVE k l LEFT LEFT 0", "BZPOPMIN k 0", "BLMPOP 0 1 k LEFT", "BZMPOP 0 1 k MIN"]
    replies = crowd.send(0, [("MULTI",), *(tuple(words.split()) for words in commands), ("EXEC",)])
    assert replies[0][-1] == b"*5\r\n*-1\r\n$-1\r\n*-1\r\n*-1\r\n*-1\r\n"
    assert crowd.waiting() == set()


def test_the_figures_of_a_wait(crowd: Crowd, at_least_72: None) -> None:
    """One call, when it ends, successful or not; a served one that is refused is rejected; all changes count."""
    crowd.act(1, "CONFIG", "RESETSTAT")
    dirty = int(info(crowd.witness, "persistence")["rdb_changes_since_last_save"])
    crowd.act(0, "BLPOP", "k", "j", "k", "0")
    clients, stats = info(crowd.witness, "clients"), info(crowd.witness, "commandstats")
    assert (clients["blocked_clients"], clients["total_blocking_keys"]) == ("1", "2")
    assert "cmdstat_blpop" not in stats
    crowd.act(1, "RPUSH", "k", "v")
    clients = info(crowd.witness, "clients")
    assert (clients["blocked_clients"], clients["total_blocking_keys"]) == ("0", "0")
    assert int(info(crowd.witness, "persistence")["rdb_changes_since_last_save"]) == dirty + 2
    crowd.act(0, "BLPOP", "k", "0")
    crowd.witness("CLIENT", "UNBLOCK", crowd.ids[0])
    crowd.settle()
    crowd.act(0, "BLPOP", "k", "0")
    crowd.witness("CLIENT", "UNBLOCK", crowd.ids[0], "ERROR")
    crowd.settle()
    fields = dict(field.split("=") for field in info(crowd.witness, "commandstats")["cmdstat_blpop"].split(","))
    assert (fields["calls"], fields["rejected_calls"], fields["failed_calls"]) == ("3", "0", "1")
    assert info(crowd.witness, "errorstats")["errorstat_UNBLOCKED"] == "count=1"


def test_the_slow_log_has_a_wait_once_with_its_client(crowd: Crowd, at_least_72: None) -> None:
    """By the time that the command took, not by the wait: an hour is below the threshold of a minute."""
    crowd.act(1, "CONFIG", "SET", "slowlog-log-slower-than", "60000000")
    crowd.act(1, "SLOWLOG", "RESET")
    try:
        crowd.act(0, "BLPOP", "k", "0")
        pass_by(crowd.witness, 3_600_000)
        crowd.act(1, "RPUSH", "k", "v")
        assert crowd.witness("SLOWLOG", "LEN") == 0
        crowd.act(0, "BLPOP", "k", "0")
        crowd.witness("CONFIG", "SET", "slowlog-log-slower-than", "0")
        crowd.act(1, "RPUSH", "k", "v")
        host, port = crowd.wires[0].socket.getsockname()
        entries = [entry for entry in crowd.witness("SLOWLOG", "GET", "100") if entry[3][0] == b"BLPOP"]
        assert [(entry[3], entry[4]) for entry in entries] == [([b"BLPOP", b"k", b"0"], f"{host}:{port}".encode())]
    finally:
        crowd.witness("CONFIG", "SET", "slowlog-log-slower-than", "10000")


def test_a_watch_hears_of_the_push_and_of_the_pop(crowd: Crowd) -> None:
    """Though the key is gone as before."""
    crowd.send(0, [("WATCH", "k"), ("MULTI",), ("PING",)])
    crowd.act(1, "BLPOP", "k", "0")
    crowd.act(2, "RPUSH", "k", "v")
    assert crowd.act(0, "EXEC")[0] == [NULL_ARRAY]


def memory_is_short(crowd: Crowd, words: str) -> Replies:
    """Let member 0 wait in a command, and a list come while maxmemory has been exceeded."""
    crowd.act(0, *words.split())
    try:
        return crowd.send(1, [("MULTI",), ("RPUSH", "k", "v"), ("CONFIG", "SET", "maxmemory", "1"), ("EXEC",)])
    finally:
        crowd.witness("CONFIG", "SET", "maxmemory", "0")


def test_a_command_that_may_not_add_memory_is_refused_when_it_is_served(crowd: Crowd, at_least_72: None) -> None:
    """One that only removes is not."""
    crowd.witness("CONFIG", "RESETSTAT")
    assert memory_is_short(crowd, "BLMOVE k l LEFT LEFT 0")[0] == [OOM]
    assert crowd.witness("LRANGE", "k", "0", "-1") == [b"v"]
    assert ",rejected_calls=1," in info(crowd.witness, "commandstats")["cmdstat_blmove"]
    crowd.witness("DEL", "k")
    assert memory_is_short(crowd, "BLPOP k 0")[0] == popped("k", "v")


def test_frames_that_run_out_are_told_to_the_one_that_waits(tmp_path, start: Start, ours: None) -> None:
    """The element stays where it is."""
    with start(tmp_path, options=("--machine-memory", "16mb")) as server, Crowd(server.address, 2) as crowd:
        crowd.act(1, "RPUSH", "other", "x" * 100_000)
        number = 0
        while crowd.witness("SET", f"filler:{number}", "x" * 200_000) == OK:
            number += 1
        crowd.act(0, "BLMOVE", "k", "l", "LEFT", "LEFT", "0")
        (reply,) = crowd.act(1, "RENAME", "other", "k")[0]
        assert reply.startswith(b"-OOM out of physical memory")
        assert (crowd.witness("LLEN", "k"), crowd.witness("EXISTS", "l")) == (1, 0)
        crowd.act(0, "BLPOP", "l", "k", "0")
        assert crowd.witness("LLEN", "k") == 0


def test_a_pause_of_writes_holds_the_service_back(crowd: Crowd, at_least_72: None) -> None:
    """Until it ends: by UNPAUSE, or by its time."""
    paused = [("MULTI",), ("RPUSH", "k", "v"), ("CLIENT", "PAUSE", "1000000", "WRITE"), ("EXEC",)]
    try:
        crowd.act(0, "BLPOP", "k", "0")
        assert 0 not in crowd.send(1, paused)
        assert crowd.witness("LLEN", "k") == 1
        crowd.witness("CLIENT", "UNPAUSE")
        assert crowd.settle()[0] == popped("k", "v")
        if info(crowd.witness, "server").get("kvstore_version"):
            crowd.act(0, "BLPOP", "k", "0")
            assert 0 not in crowd.send(1, paused)
            pass_by(crowd.witness, 1_000_001)
            wait_until(lambda: crowd.waiting() == set(), "the end of the pause")
            assert crowd.settle()[0] == popped("k", "v")
    finally:
        crowd.witness("CLIENT", "UNPAUSE")


def test_a_reply_that_is_turned_off_stays_off(crowd: Crowd) -> None:
    """The element is gone nevertheless."""
    with Wire(crowd.wires[0].socket.getpeername()) as wire:
        wire.send(encode("CLIENT", "REPLY", "SKIP") + encode("BLPOP", "k", "0") + encode("ECHO", "x"))
        wait_until(lambda: blocked(crowd.witness) == 1, "the connection to be blocked")
        crowd.act(1, "RPUSH", "k", "v")
        assert wire.reply() == b"x"
        wire.send(encode("CLIENT", "REPLY", "OFF") + encode("BLPOP", "k", "0") + encode("CLIENT", "REPLY", "ON"))
        wait_until(lambda: blocked(crowd.witness) == 1, "the connection to be blocked")
        crowd.act(1, "RPUSH", "k", "v")
        assert wire.reply() == OK
    assert crowd.witness("EXISTS", "k") == 0


def test_very_long_names_and_very_many_keys(crowd: Crowd) -> None:
    """The command that waits is memory of its client."""
    name = "k" * (2 << 20)
    many = [f"key:{number}" for number in range(20_000)]
    crowd.act(0, "BLPOP", name, "0")
    crowd.act(1, "BLPOP", *many, *many, "0")
    (line,) = (line for line in crowd.witness("CLIENT", "LIST").decode().splitlines() if f"id={crowd.ids[0]} " in line)
    fields = dict(word.split("=", 1) for word in line.split(" "))
    assert (2 << 20) <= int(fields["argv-mem"]) <= int(fields["tot-mem"])
    assert crowd.act(2, "RPUSH", name, "v")[0] == popped(name, "v")
    assert crowd.act(2, "RPUSH", many[-1], "v")[1] == popped(many[-1], "v")
    assert info(crowd.witness, "clients")["blocked_clients"] == "0"


def test_nothing_is_lost_and_nothing_delivered_twice(server, protocol: int = 2) -> None:
    """Two hundred clients wait for twenty keys, which others push to, pop from and rename."""
    chance = random.Random(20)
    keys = [f"k{number}" for number in range(20)]
    with Crowd(server.address, 200, protocol) as crowd, Wire(server.address) as wire:
        wanted = [chance.sample(keys, 3) for _ in range(200)]
        arrived: dict[str, list[int]] = {key: [] for key in keys}
        for member in range(200):  # in a settled order
            crowd.wires[member].send(encode("BLPOP", *wanted[member], "0"))
            wait_until(lambda: blocked(wire) == member + 1, "a client to wait", interval_s=0)  # noqa: B023
            for key in wanted[member]:
                arrived[key].append(member)
        pushed, taken, waiting, served = 0, Counter[bytes](), set(range(200)), 0
        while waiting:
            key, kind = chance.choice(keys), chance.randrange(4)
            elements = [b"e%d" % (pushed + i) for i in range(chance.randrange(1, 4))]
            pushed += len(elements)
            if kind == 0:
                other = f"other{chance.randrange(3)}"
                assert wire("RPUSH", other, *elements) >= 1
                elements = wire("LRANGE", other, "0", "-1")
                wire("RENAME", other, key)
            elif kind == 1:
                replies = wire.pipeline([("MULTI",), ("RPUSH", key, *elements), ("LPOP", key), ("EXEC",)])
                taken[replies[-1][1]] += 1
                elements = elements[1:]
            else:
                wire("RPUSH", key, *elements)
            first = [member for member in arrived[key] if member in waiting][: len(elements)]
            for member, element in zip(first, elements, strict=False):
                assert crowd.wires[member].reply() == [key.encode(), element]
                taken[element] += 1
                waiting.remove(member)
                served += 1
            for element in elements[len(first) :]:
                assert wire("LPOP", key) == element
                taken[element] += 1
            assert blocked(wire) == len(waiting)
        assert served == 200
        assert taken == Counter(b"e%d" % number for number in range(pushed))
        assert wire("DBSIZE") == 0


def test_a_client_library_waits(server) -> None:
    """redis-py's blocking calls, from threads."""
    host, port = server.address
    with redis.Redis(host=host, port=port, decode_responses=True) as client:
        found: list[object] = []
        calls = [
            lambda: client.blpop(["a", "b"], timeout=0),
            lambda: client.brpoplpush("c", "d", timeout=0),
            lambda: client.blmove("d", "e", 0, "LEFT", "RIGHT"),
            lambda: client.bzpopmin(["z"], timeout=0),
            lambda: client.blmpop(0, 2, "f", "g", direction="LEFT", count=2),
        ]
        threads = [threading.Thread(target=lambda call=call: found.append(call())) for call in calls]
        with Wire(server.address) as wire:
            for number, thread in enumerate(threads):
                thread.start()
                wait_until(lambda: blocked(wire) == number + 1, "a thread to wait")  # noqa: B023
            client.rpush("b", "1")
            client.rpush("c", "2")
            client.zadd("z", {"m": 1.5})
            client.rpush("g", "3", "4", "5")
        for thread in threads:
            thread.join()
        expected: list[object] = [("b", "1"), "2", "2", ("z", "m", 1.5), ["g", ["3", "4"]]]
        assert sorted(map(str, map(_plain, found))) == sorted(map(str, map(_plain, expected)))
        assert client.blpop(["none"], timeout=0.01) is None


def _plain(value: object) -> object:
    return list(map(_plain, value)) if isinstance(value, tuple | list) else value


TIMES = [
    *("0", "0.001", "1.5", "-0", "-0.0001", "0x10", "1e3", "+1", "9223370000000000"),
    *("", " 1", "1 ", "x", "1_0", "nan", "1e-5000", "1.5.5", "1\0"),
    *("-1", "-0.9", "-1e300"),
]
BEYOND = ["1e400", "1e16", "9223372036854776", "inf", "-inf"]
WRONG = [
    *("BLPOP k", "BLPOP", "BLMPOP x 0 k LEFT", "BLMPOP 0 0 k LEFT", "BLMPOP 0 -1 k LEFT", "BLMPOP 0 x k LEFT"),
    *("BLMPOP 0 2 k LEFT", "BLMPOP 0 1 k UP", "BLMPOP 0 1 k LEFT COUNT", "BLMPOP 0 1 k LEFT COUNT 0"),
    *("BLMPOP 0 1 k LEFT COUNT 1 COUNT 2", "BLMPOP 0 1 k LEFT x", "BLMPOP 0 9223372036854775807 k LEFT"),
    *("BLMOVE k l LEFT UP 0", "BLMOVE k l UP LEFT x", "BLMOVE k l LEFT LEFT x", "BLMOVE k l LEFT LEFT"),
    *("BLMOVE string k LEFT LEFT 0", "BLMOVE list string LEFT LEFT 0", "BLMOVE string k LEFT LEFT x"),
    *("BRPOPLPUSH k l x", "BRPOPLPUSH list string 0", "BRPOPLPUSH list list 0", "BRPOPLPUSH list k 0"),
    *("BZPOPMIN k x", "BZPOPMIN k", "BZPOPMIN k list zset 0", "BZPOPMAX k zset 0", "BZPOPMIN zset 0"),
    *("BZMPOP 0 1 k UP", "BZMPOP 0 2 k zset MIN COUNT 5", "BZMPOP 0 1 zset MAX", "BZMPOP 0 1 k MIN COUNT x"),
    *("BZMPOP 0 1 zset MIN COUNT 1 COUNT 1", "BZMPOP x 1 zset MIN", "BZMPOP 0 0 zset MIN", "BZMPOP 0 1 list MIN"),
    *("BLPOP k zset list 0", "BLPOP k list zset 0", "BRPOP k list 0", "BLMPOP 0 2 k list RIGHT COUNT 9"),
    *("BLMPOP 0 2 k list LEFT", "BLPOP k 0.001", "BLMOVE k l LEFT LEFT 0.001", "BZMPOP 0.001 1 k MIN"),
]


@pytest.mark.parametrize("words", WRONG)
def test_replies_are_those_of_redis(wire: Wire, redis_server, words: str) -> None:
    """The replies are equal to the byte."""
    with Wire(redis_server.address, wire.protocol) as theirs:
        found = []
        for one in (wire, theirs):
            one.pipeline([("FLUSHALL",), ("SET", "string", "x"), ("RPUSH", "list", "a", "b", "c")])
            one("ZADD", "zset", "1", "m", "2", "n")
            found.append(one.raw(*words.split(" ")))
        assert found[0] == found[1]


@pytest.mark.parametrize("time", TIMES)
def test_times_are_read_as_redis_reads_them(wire: Wire, redis_server, time: str) -> None:
    with Wire(redis_server.address, wire.protocol) as theirs:
        found = []
        for one in (wire, theirs):
            one.pipeline([("DEL", "list"), ("RPUSH", "list", "a")])
            found.append(one.raw("BLPOP", "list", time))
        assert found[0] == found[1]


@pytest.mark.parametrize("time", BEYOND)
def test_a_time_beyond_all_clocks_is_refused(wire: Wire, ours: None, time: str) -> None:
    """Redis 7.2 does the same; in 7.0 some wrap to negative ones."""
    what = "negative" if time == "-inf" else "out of range"
    assert wire("BLPOP", "list", time) == Failure(f"ERR timeout is {what}")
