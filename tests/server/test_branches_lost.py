"""Connections whose branch was dropped, and those that end: what they are told, and what stays of them."""

import contextlib

import pytest

from tests.harness import Process
from tests.server.branching import (
    DROPPED,
    NOBRANCH,
    each,
    fields_of,
    play,
)
from tests.server.wire import (
    OK,
    QUEUED,
    Closed,
    Failure,
    Status,
    Wire,
    encode,
    info,
    wait_until,
)

pytestmark = pytest.mark.usefixtures("stores")


def test_a_connection_whose_branch_was_dropped_is_told_until_it_chooses(server: Process, wire: Wire) -> None:
    with Wire(server.address) as other:
        assert other("BRANCH", "CREATE", "x") == OK
        assert wire("BRANCH", "USE", "x") == OK
        assert wire("SET", "a", "1") == OK
        in_use = Failure("ERR the branch is used by 1 connection: let them use another one, or drop it with FORCE")
        assert other("BRANCH", "DROP", "x") == in_use
        assert other("BRANCH", "DROP", "x", "FORCE") == OK
        for command in each(
            "GET a; SET a 1; MULTI; WATCH a; KEYS *; DBSIZE; FLUSHALL; INFO; CONFIG GET hz;"
            "SUBSCRIBE c; BGSAVE; SAVE;"
            "PUBLISH c m; BLPOP a 0; COPY a b; MEMORY PURGE; DEBUG RELOAD; OBJECT ENCODING a; WAIT 0 1; SCAN 0; TIME"
        ):
            assert wire(*command) == Failure(DROPPED), command
        assert wire("EXEC") == Failure(f"EXECABORT Transaction discarded because of: {DROPPED}")
        assert wire("BRANCH", "CURRENT") == wire("BRANCH", "RESET") == wire("BRANCH", "CREATE", "y") == Failure(DROPPED)
        assert wire("SNAPSHOT", "CREATE", "y") == Failure(DROPPED)
        assert wire("CLIENT", "TRACKING", "on") == Failure(DROPPED)  # it would hear of the main store's keys
        assert wire("BRANCH", "CREATE", "y", "FROM", "main") == OK
        assert wire("SNAPSHOT", "CREATE", "s", "FROM", "y") == OK
        assert wire("SNAPSHOT", "RESTORE", "s") == Failure(DROPPED)
        assert wire("SNAPSHOT", "RESTORE", "s", "INTO", "y") == OK
        assert wire("PING") == Status("PONG")
        assert isinstance(wire("CLIENT", "ID"), int)
        assert wire("CLIENT", "SETNAME", "lost") == OK
        assert isinstance(wire("BRANCH", "LIST"), list)
        # Another branch of the same name is not the one that was lost.
        assert other("BRANCH", "CREATE", "x") == OK
        assert wire("GET", "a") == Failure(DROPPED)
        assert play(wire, "BRANCH USE main; GET a") == [OK, None]
        assert play(wire, "BRANCH USE x; GET a; BRANCH DROP x FORCE; GET a; BRANCH USE y; GET a") == [
            OK, None, OK, Failure(DROPPED), OK, None,
        ]  # fmt: skip
        assert wire("BRANCH", "USE", "main") == OK


def test_reset_and_auth_end_the_loss(server: Process, wire2: Wire) -> None:
    with Wire(server.address) as other:
        for way in (("RESET",), ("AUTH", "default@main", ""), ("HELLO", "3", "AUTH", "default@main", "")):
            assert other("BRANCH", "CREATE", "x") == OK
            assert wire2("BRANCH", "USE", "x") == OK
            assert other("BRANCH", "DROP", "x", "FORCE") == OK
            assert wire2("GET", "a") == Failure(DROPPED)
            wire2(*way)
            assert wire2("GET", "a") is None


def test_a_transaction_of_a_lost_branch_is_not_run(server: Process, wire: Wire) -> None:
    with Wire(server.address) as other:
        assert other("BRANCH", "CREATE", "x") == OK
        assert play(wire, "BRANCH USE x; MULTI; SET a 1") == [OK, OK, QUEUED]
        assert other("BRANCH", "DROP", "x", "FORCE") == OK
        assert wire("SET", "b", "1") == Failure(DROPPED)
        reply = wire("EXEC")
        assert isinstance(reply, Failure) and "NOBRANCH" in reply.text
        assert play(wire, "BRANCH USE main; DBSIZE; MULTI; SET a 1; EXEC") == [
            OK,
            0,
            OK,
            QUEUED,
            [OK],
        ]


def test_discard_and_exec_after_a_loss_leave_nothing_of_the_transaction(server: Process, wire2: Wire) -> None:
    with Wire(server.address) as other:
        for end in (("DISCARD",), ("EXEC",), ("RESET",)):
            assert other("BRANCH", "CREATE", "x") == OK
            assert play(wire2, "BRANCH USE x; MULTI; SET a 1") == [OK, OK, QUEUED]
            assert other("BRANCH", "DROP", "x", "FORCE") == OK
            ended = wire2(*end)
            assert ended == OK or end != ("DISCARD",)
            replies = play(wire2, "BRANCH USE main; BRANCH CURRENT; PING; RESET; DBSIZE")
            assert replies[-2:] == [Status("RESET"), 0], (end, replies)


def test_waiting_clients_of_a_dropped_branch_are_told(server: Process, wire2: Wire) -> None:
    with Wire(server.address, 2) as two, Wire(server.address, 3) as three, Wire(server.address) as ours:
        assert wire2("BRANCH", "CREATE", "x") == OK
        for waiter, command in (
            (two, ("BLPOP", "k", "0")),
            (three, ("BZPOPMIN", "k", "0")),
            (ours, ("BLMOVE", "k", "l", "LEFT", "LEFT", "0")),
        ):
            waiter.send(encode("BRANCH", "USE", "x") + encode(*command) + encode("GET", "a") + encode("PING"))
            assert waiter.reply() == OK
        wait_until(lambda: info(wire2)["blocked_clients"] == "3", "three that wait")
        assert wire2("BRANCH", "DROP", "x", "FORCE") == OK
        for waiter in (two, three, ours):
            assert [waiter.reply() for _ in range(3)] == [Failure(DROPPED), Failure(DROPPED), Status("PONG")]
        assert info(wire2)["blocked_clients"] == "0"
        assert wire2("RPUSH", "k", "v") == 1


def test_who_waits_for_replicas_or_is_held_by_a_pause_is_told_too(server: Process, wire2: Wire) -> None:
    with Wire(server.address) as waiter, Wire(server.address) as paused:
        assert wire2("BRANCH", "CREATE", "x") == OK
        waiter.send(encode("BRANCH", "USE", "x") + encode("WAIT", "1", "0") + encode("PING"))
        assert waiter.reply() == OK
        assert paused("BRANCH", "USE", "x") == OK
        assert wire2("CLIENT", "PAUSE", "100000", "WRITE") == OK
        paused.send(encode("SET", "a", "1") + encode("GET", "a") + encode("BRANCH", "CURRENT"))
        wait_until(lambda: info(wire2)["blocked_clients"] == "2", "two that wait")
        assert wire2("BRANCH", "DROP", "x", "FORCE") == OK
        assert [waiter.reply(), waiter.reply()] == [Failure(DROPPED), Status("PONG")]
        assert wire2("CLIENT", "UNPAUSE") == OK
        assert [paused.reply() for _ in range(3)] == [Failure(DROPPED)] * 3
        assert play(paused, "BRANCH USE main; EXISTS a") == [OK, 0]


def test_a_monitor_whose_branch_was_dropped_goes_on(server: Process, wire2: Wire) -> None:
    with Wire(server.address) as monitor:
        assert wire2("BRANCH", "CREATE", "x") == OK
        assert play(monitor, "BRANCH USE x; MONITOR") == [OK, OK]
        assert wire2("BRANCH", "DROP", "x", "FORCE") == OK
        assert monitor.reply().text.endswith('"BRANCH" "DROP" "x" "FORCE"')
        assert wire2("SET", "a", "1") == OK
        assert monitor.reply().text.endswith('"SET" "a" "1"')
        assert monitor("RESET") == Status("RESET")
        assert monitor("GET", "a") == b"1"


def test_subscribers_trackers_and_watchers_of_a_dropped_branch_are_none_any_more(server: Process, wire2: Wire) -> None:
    with (
        Wire(server.address) as subscriber,
        Wire(server.address, 3) as tracker,
        Wire(server.address) as watcher,
        Wire(server.address, 3) as caster,
    ):
        assert wire2("BRANCH", "CREATE", "x") == OK
        for one in (subscriber, tracker, watcher, caster):
            assert one("BRANCH", "USE", "x") == OK
        assert subscriber("SUBSCRIBE", "c") == [b"subscribe", b"c", 1]
        assert tracker("CLIENT", "TRACKING", "on") == OK
        assert tracker("GET", "a") is None
        assert caster("CLIENT", "TRACKING", "on", "BCAST", "PREFIX", "a") == OK
        assert watcher("WATCH", "a") == OK
        figures = info(wire2)
        assert (figures["pubsub_clients"], figures["tracking_clients"]) == ("1", "2")
        assert wire2("BRANCH", "DROP", "x", "FORCE") == OK
        figures = info(wire2)
        assert (figures["pubsub_clients"], figures["tracking_clients"]) == ("0", "0")
        assert subscriber("GET", "a") == Failure(DROPPED)  # it is in no mode any more
        for one in (subscriber, tracker, watcher, caster):
            assert one("BRANCH", "USE", "main") == OK
        assert wire2("SET", "a", "1") == OK
        assert wire2("PUBLISH", "c", "m") == 0
        assert tracker("GET", "a") == caster("GET", "a") == b"1"
        assert tracker.pending() == caster.pending() == b""
        assert play(watcher, "MULTI; GET a; EXEC") == [OK, QUEUED, [b"1"]]


def test_a_branch_ends_with_its_time_and_its_connections_learn_it(server: Process, wire2: Wire) -> None:
    with Wire(server.address) as user, Wire(server.address) as waiter:
        assert wire2("BRANCH", "CREATE", "x", "TTL", "1") == OK
        assert wire2("SNAPSHOT", "CREATE", "s", "TTL", "1000") == OK
        assert user("BRANCH", "USE", "x") == OK
        waiter.send(encode("BRANCH", "USE", "x") + encode("BLPOP", "k", "0"))
        assert waiter.reply() == OK
        wait_until(lambda: info(wire2)["blocked_clients"] == "1", "one that waits")
        assert wire2("DEBUG", "SHIFT-CLOCK", "WALL", "1500") == OK
        try:
            assert waiter.reply() == Failure(DROPPED)
            assert user("GET", "a") == Failure(DROPPED)
            assert wire2("BRANCH", "USE", "x") == Failure(NOBRANCH)
            assert fields_of(wire2, "s")["ttl"] in range(990, 1000)
        finally:
            assert wire2("DEBUG", "SHIFT-CLOCK", "WALL", "-1500") == OK


def test_killed_and_closed_connections_leave_their_branch(server: Process, wire2: Wire) -> None:
    assert wire2("BRANCH", "CREATE", "x") == OK
    others = [Wire(server.address) for _ in range(20)]
    for one in others:
        assert one("BRANCH", "USE", "x") == OK
    assert fields_of(wire2, "x")["connections"] == 20
    assert wire2("CLIENT", "KILL", "ID", others[0]("CLIENT", "ID")) == 1
    assert others[19]("CLIENT", "KILL", "ID", others[10]("CLIENT", "ID")) == 1
    with contextlib.suppress(Closed):
        others[5].send(encode("QUIT"))
        others[5].until_closed()
    others[7].close()
    others[6].send(encode("BLPOP", "k", "0"))
    others[6].close()
    wait_until(lambda: fields_of(wire2, "x")["connections"] == 15, "their end")
    for one in others[:19]:
        one.close()
    wait_until(lambda: fields_of(wire2, "x")["connections"] == 1, "their end")
    assert play(others[19], "SET a 1; GET a; BRANCH USE main") == [OK, b"1", OK]
    assert wire2("BRANCH", "DROP", "x") == OK
    others[19].close()
