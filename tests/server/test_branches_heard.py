"""Clients hear of changes in their store alone: watched keys, waits, messages, events, caches; new contents, too."""

import pytest

from tests.harness import Process
from tests.server.branching import LEAVE, each, play
from tests.server.wire import (
    NULL_ARRAY,
    OK,
    Failure,
    Status,
    Wire,
    agrees,
    encode,
    expectation,
    info,
    wait_until,
)

pytestmark = pytest.mark.usefixtures("stores")

# --------------------------------------------------------------------------------------------- watched keys and waits


@pytest.mark.parametrize("replace", ["RESET", "RESTORE", "SWAP"])
def test_replaced_contents_break_watches_of_that_store_alone(server: Process, wire2: Wire, replace: str) -> None:
    commands: dict[str, tuple[str, ...]] = {
        "RESET": ("BRANCH", "RESET", "x"),
        "RESTORE": ("SNAPSHOT", "RESTORE", "s", "INTO", "x"),
        "SWAP": ("BRANCH", "SWAP", "y", "x"),
    }
    with Wire(server.address) as watcher, Wire(server.address) as calm:
        assert play(wire2, "BRANCH CREATE x; BRANCH CREATE y; SNAPSHOT CREATE s") == [OK] * 3
        assert play(watcher, "BRANCH USE x; WATCH a") == [OK, OK]
        assert play(calm, "WATCH a") == [OK]
        assert wire2(*commands[replace]) == OK
        assert play(watcher, "MULTI; GET a; EXEC")[-1] == NULL_ARRAY
        assert play(watcher, "MULTI; GET a; EXEC")[-1] == [None]
        assert play(calm, "MULTI; GET a; EXEC")[-1] == [None]


def test_a_watch_is_broken_by_changes_in_its_own_store_only(server: Process, wire2: Wire) -> None:
    with Wire(server.address) as watcher, Wire(server.address) as mate:
        assert wire2("BRANCH", "CREATE", "x") == OK
        assert mate("BRANCH", "USE", "x") == OK
        assert play(watcher, "BRANCH USE x; WATCH a") == [OK, OK]
        assert wire2("SET", "a", "1") == OK
        assert wire2("FLUSHALL") == OK
        assert play(watcher, "MULTI; GET a; EXEC")[-1] == [None]
        assert watcher("WATCH", "a") == OK
        assert mate("SET", "a", "1") == OK
        assert play(watcher, "MULTI; GET a; EXEC")[-1] == NULL_ARRAY


@pytest.mark.parametrize("store", ["x", "main"])
@pytest.mark.parametrize("replace", ["RESET", "RESTORE", "SWAP"])
@pytest.mark.parametrize("actor", ["main", "x", "other"])
def test_waits_are_served_when_other_contents_bring_a_key(
    server: Process, wire2: Wire, store: str, replace: str, actor: str
) -> None:
    """In every store that may be waited in, and from a connection to any store that replaces its contents."""
    if (store, replace) == ("main", "RESET"):
        pytest.skip("the main store cannot be reset")
    with Wire(server.address) as waiter, Wire(server.address) as second:
        assert wire2("RPUSH", "k", "v", "w") == 2
        assert play(wire2, "BRANCH CREATE x; BRANCH CREATE other; SNAPSHOT CREATE s") == [OK] * 3
        for name in ("main", "x"):
            assert wire2.pipeline([("BRANCH", "USE", name), ("DEL", "k")]) == [OK, 1]
        for one, command in ((waiter, ("BLPOP", "k", "0")), (second, ("BLMOVE", "k", "l", "LEFT", "LEFT", "0"))):
            one.send(encode("BRANCH", "USE", store) + encode(*command))
            assert one.reply() == OK
            wait_until(lambda one=one: info(wire2)["blocked_clients"] == ("1" if one is waiter else "2"), "the wait")
        assert wire2("BRANCH", "USE", actor) == OK
        commands = {
            "RESET": ("BRANCH", "RESET", "x"),
            "RESTORE": ("SNAPSHOT", "RESTORE", "s", "INTO", store),
            "SWAP": ("BRANCH", "SWAP", "other", store),
        }
        assert wire2(*commands[replace]) == OK
        assert waiter.reply() == [b"k", b"v"]
        assert second.reply() == b"w"
        assert wire2.pipeline([("BRANCH", "USE", store), ("EXISTS", "k"), ("LRANGE", "l", "0", "-1")]) == [
            OK,
            0,
            [b"w"],
        ]


def test_waits_are_served_by_pushes_in_their_store_alone(server: Process, wire2: Wire) -> None:
    with Wire(server.address) as waiter, Wire(server.address) as mate:
        assert wire2("BRANCH", "CREATE", "x") == OK
        waiter.send(encode("BRANCH", "USE", "x") + encode("BLPOP", "k", "0"))
        assert waiter.reply() == OK
        wait_until(lambda: info(wire2)["blocked_clients"] == "1", "the wait")
        assert wire2("RPUSH", "k", "main") == 1
        assert wire2("LLEN", "k") == 1
        assert play(mate, "BRANCH USE x; RPUSH k x") == [OK, 1]
        assert waiter.reply() == [b"k", b"x"]
        waiter.send(encode("BLPOP", "k", "0.01"))
        assert agrees(expectation("nil*", 2), waiter.reply())
        identity = waiter("CLIENT", "ID")
        waiter.send(encode("BLPOP", "k", "0"))
        wait_until(lambda: info(wire2)["blocked_clients"] == "1", "the wait")
        assert wire2("CLIENT", "UNBLOCK", identity, "ERROR") == 1
        assert waiter.reply() == Failure("UNBLOCKED client unblocked via CLIENT UNBLOCK")


@pytest.mark.parametrize("pauser", ["main", "x", "y"])
@pytest.mark.parametrize("where", ["main", "x"])
def test_waits_are_served_after_a_pause(server: Process, wire2: Wire, where: str, pauser: str) -> None:
    with Wire(server.address) as waiter, Wire(server.address) as third:
        assert wire2("RPUSH", "k", "v") == 1
        assert play(wire2, "BRANCH CREATE x; BRANCH CREATE y; SNAPSHOT CREATE s") == [OK] * 3
        assert wire2.pipeline([("BRANCH", "USE", where), ("DEL", "k")]) == [OK, 1]
        assert third("BRANCH", "USE", pauser) == OK
        waiter.send(encode("BRANCH", "USE", where) + encode("BLPOP", "k", "0"))
        assert waiter.reply() == OK
        wait_until(lambda: info(wire2)["blocked_clients"] == "1", "the wait")
        assert third("CLIENT", "PAUSE", "100000", "WRITE") == OK
        assert third("SNAPSHOT", "RESTORE", "s", "INTO", where) == OK
        assert wire2("LLEN", "k") == 1
        assert waiter.pending() == b""
        assert third("CLIENT", "UNPAUSE") == OK
        assert waiter.reply() == [b"k", b"v"]


def test_a_pause_that_ends_by_itself_serves_branches(server: Process, wire2: Wire) -> None:
    with Wire(server.address) as waiter:
        assert play(wire2, "BRANCH CREATE x; BRANCH USE x") == [OK] * 2
        assert wire2("RPUSH", "k", "v") == 1
        assert wire2("SNAPSHOT", "CREATE", "s") == OK
        assert wire2("DEL", "k") == 1
        waiter.send(encode("BRANCH", "USE", "x") + encode("BLPOP", "k", "0"))
        assert waiter.reply() == OK
        wait_until(lambda: info(wire2)["blocked_clients"] == "1", "the wait")
        assert wire2("CLIENT", "PAUSE", "50", "WRITE") == OK
        assert wire2("SNAPSHOT", "RESTORE", "s") == OK
        assert waiter.reply() == [b"k", b"v"]


# --------------------------------------------------------------------------------------------- messages and tracking


def test_messages_stay_in_their_store(server: Process, wire2: Wire) -> None:
    with (
        Wire(server.address) as there,
        Wire(server.address) as here,
        Wire(server.address) as pattern,
        Wire(server.address) as speaker,
    ):
        assert wire2("BRANCH", "CREATE", "x") == OK
        assert play(there, "BRANCH USE x; SUBSCRIBE c") == [OK, [b"subscribe", b"c", 1]]
        assert play(pattern, "BRANCH USE x; PSUBSCRIBE *") == [OK, [b"psubscribe", b"*", 1]]
        assert here("SUBSCRIBE", "c") == [b"subscribe", b"c", 1]
        assert wire2("PUBLISH", "c", "to main") == 1
        assert wire2("PUBSUB", "CHANNELS") == [b"c"]
        assert wire2("PUBSUB", "NUMPAT") == 0
        assert speaker.pipeline(
            [("BRANCH", "USE", "x"), ("PUBLISH", "c", "to x"), ("PUBSUB", "NUMPAT"), ("SPUBLISH", "c", "m")]
        ) == [OK, 2, 1, 0]
        assert here.reply() == [b"message", b"c", b"to main"]
        assert there.reply() == [b"message", b"c", b"to x"]
        assert pattern.reply() == [b"pmessage", b"*", b"c", b"to x"]
        assert there("BRANCH", "USE", "main").text.startswith("ERR Can't execute 'branch|use'")
        assert there("UNSUBSCRIBE") == [b"unsubscribe", b"c", 0]
        assert there("BRANCH", "USE", "main") == OK
        assert wire2("PUBLISH", "c", "again") == 1
        assert here.reply() == [b"message", b"c", b"again"]


def test_a_subscriber_in_resp3_cannot_change_its_store(server: Process, wire2: Wire) -> None:
    assert wire2("BRANCH", "CREATE", "x") == OK
    with Wire(server.address, 3) as subscriber:
        assert subscriber("SUBSCRIBE", "c") == [b"subscribe", b"c", 1]
        assert subscriber("BRANCH", "USE", "x") == Failure(LEAVE)
        assert subscriber("AUTH", "default@x", "") == Failure(LEAVE)
        assert subscriber("BRANCH", "USE", "main") == OK
        assert subscriber("RESET") == Status("RESET")
        subscriber.protocol = 2
        assert subscriber("BRANCH", "USE", "x") == OK


def test_keyspace_events_stay_in_their_store_whenever_they_are_configured(server: Process, wire2: Wire) -> None:
    assert wire2("BRANCH", "CREATE", "early") == OK
    assert wire2("CONFIG", "SET", "notify-keyspace-events", "KEA") == OK
    assert wire2("BRANCH", "CREATE", "late") == OK
    for name in ("early", "late"):
        with Wire(server.address) as listener, Wire(server.address) as writer:
            assert listener.pipeline([("BRANCH", "USE", name), ("PSUBSCRIBE", "__key*")]) == [
                OK,
                [b"psubscribe", b"__key*", 1],
            ]
            assert wire2("SET", "main", "1") == OK
            assert writer.pipeline([("BRANCH", "USE", name), ("SET", "k", "1")]) == [OK, OK]
            assert listener.reply() == [b"pmessage", b"__key*", b"__keyspace@0__:k", b"set"], name
            assert listener.reply() == [b"pmessage", b"__key*", b"__keyevent@0__:set", b"k"]
            assert wire2("BRANCH", "RESET", name) == OK  # no event
            assert writer("DEL", "k") == 0
            assert wire2("CONFIG", "SET", "notify-keyspace-events", "") == OK
            assert writer("SET", "k", "2") == OK
            assert writer("PUBLISH", "__key", "end") == 1
            assert listener.reply() == [b"pmessage", b"__key*", b"__key", b"end"]
            assert wire2("CONFIG", "SET", "notify-keyspace-events", "KEA") == OK


def test_contents_are_replaced_while_events_are_published_and_nobody_uses_the_store(wire: Wire) -> None:
    assert wire("CONFIG", "SET", "notify-keyspace-events", "KEA") == OK
    assert wire("SET", "a", "1") == OK
    for command in each(
        "BRANCH CREATE x; BRANCH CREATE y; SNAPSHOT CREATE s; BRANCH RESET x; SNAPSHOT RESTORE s INTO x;"
        "BRANCH SWAP x y;BRANCH SWAP main y; BRANCH USE x; BRANCH USE main; PING; BRANCH RESET x; BRANCH SWAP x y"
    ):
        assert isinstance(wire(*command), Status), command
    assert wire("GET", "a") == b"1"


def test_caches_are_told_of_their_own_store_alone(server: Process, wire2: Wire) -> None:
    with Wire(server.address, 3) as reader, Wire(server.address, 3) as caster, Wire(server.address) as mate:
        assert wire2("SET", "a", "1") == OK
        assert wire2("BRANCH", "CREATE", "x") == OK
        for one, modes in ((reader, ()), (caster, ("BCAST", "PREFIX", "a"))):
            assert one("BRANCH", "USE", "x") == OK
            assert one("CLIENT", "TRACKING", "on", *modes) == OK
            assert one("BRANCH", "USE", "main") == Failure(LEAVE)
        assert mate("BRANCH", "USE", "x") == OK
        assert reader("GET", "a") == b"1"
        assert wire2("SET", "a", "2") == OK
        assert wire2("FLUSHALL") == OK
        for one in (reader, caster):
            assert one("PING") == Status("PONG")
            assert one.pending() == b""
        assert mate("SET", "a", "3") == OK
        assert reader.reply() == caster.reply() == [b"invalidate", [b"a"]]
        assert reader("GET", "a") == b"3"
        assert wire2("BRANCH", "RESET", "x") == OK
        assert reader.reply() == caster.reply() == [b"invalidate", None]
        assert reader("GET", "a") == b"1"
        assert wire2("BRANCH", "SWAP", "x", "main") == OK
        assert reader.reply() == caster.reply() == [b"invalidate", None]
        assert reader("GET", "a") is None


def test_a_redirected_cache_is_told_across_stores(server: Process, wire2: Wire) -> None:
    with Wire(server.address, 3) as target, Wire(server.address) as reader:
        assert wire2("BRANCH", "CREATE", "x") == OK
        assert play(reader, "BRANCH USE x; SET a 1") == [OK, OK]
        assert reader("CLIENT", "TRACKING", "on", "REDIRECT", target("CLIENT", "ID")) == OK
        assert reader("GET", "a") == b"1"
        assert reader("SET", "a", "2") == OK
        assert target.reply() == [b"invalidate", [b"a"]]
        assert wire2("BRANCH", "DROP", "x", "FORCE") == OK
        assert target("PING") == Status("PONG")


def test_a_monitor_is_shown_the_commands_of_all_stores(server: Process, wire2: Wire) -> None:
    with Wire(server.address) as monitor:
        assert monitor("MONITOR") == OK
        for command in (("BRANCH", "CREATE", "x"), ("BRANCH", "USE", "x"), ("SET", "a", "1")):
            assert wire2(*command) == OK
            assert monitor.reply().text.endswith(" ".join(f'"{word}"' for word in command))
        assert wire2("BRANCH", "DROP", "x", "FORCE") == OK
        assert monitor.reply().text.endswith('"BRANCH" "DROP" "x" "FORCE"')
