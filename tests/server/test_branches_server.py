"""Commands about the server in branches and snapshots, and many connections over many branches."""

import contextlib
from pathlib import Path

import pytest

from tests.harness import Process
from tests.server.branching import (
    DROPPED,
    READ_ONLY,
    each,
    fields_of,
    play,
)
from tests.server.wire import (
    OK,
    Closed,
    Failure,
    Status,
    Wire,
    encode,
    info,
    wait_until,
)

pytestmark = pytest.mark.usefixtures("stores")


def test_a_snapshot_cannot_be_written_by_any_way(server: Process, wire: Wire) -> None:
    with Wire(server.address) as other:
        assert other("DEBUG", "POPULATE", "3000") == OK
        for start in range(0, 20_000, 1000):
            assert other("SADD", "big", *(f"member {i}" for i in range(start, start + 1000))) == 1000
        assert play(other, "SELECT 1; DEBUG POPULATE 3000; SELECT 0; UNLINK big; SNAPSHOT CREATE s")[-1] == OK
        assert play(other, "SELECT 1; FLUSHDB; SNAPSHOT CREATE t")[-1] == OK
    for name in ("s", "t"):
        assert wire("BRANCH", "USE", name) == OK
        digest = wire("DEBUG", "DIGEST")
        for command in each(
            "SET a 1; FLUSHALL; FLUSHDB; SWAPDB 0 1; DEBUG POPULATE 10000; EXPIRE key:1 0; GETDEL key:1;"
            "GETEX key:1 PX 1;"
            "COPY key:1 b; BLPOP k 0.01; LMPOP 1 k LEFT; RENAME key:1 b; MOVE key:1 1; BLMOVE k l LEFT LEFT 0.01"
        ):
            assert wire(*command) == Failure(READ_ONLY), command
        assert isinstance(wire("DEBUG", "RELOAD"), Failure)
        assert play(wire, "MULTI; SET a 1; EXEC")[-1].text.startswith("EXECABORT")
        for command in each(
            "MEMORY PURGE; MEMORY DOCTOR; INFO; OBJECT FREQ key:1; OBJECT IDLETIME key:1; TOUCH key:1; GET key:1;"
            "MEMORY STATS;DEBUG OBJECT key:1"
        ):
            wire(*command)
        assert wire("PING") == Status("PONG")
        assert wire("DEBUG", "DIGEST") == digest


def test_debug_works_on_the_store_at_hand_and_reload_on_main_alone(wire: Wire) -> None:
    assert wire("SET", "a", "1") == OK
    main = wire("DEBUG", "DIGEST")
    assert play(wire, "BRANCH CREATE x; BRANCH USE x") == [OK] * 2
    assert wire("DEBUG", "DIGEST") == main
    assert wire("DEBUG", "POPULATE", "100") == OK
    assert wire("DBSIZE") == 101
    mine = wire("DEBUG", "DIGEST")
    assert mine != main
    assert wire("DEBUG", "DIGEST-VALUE", "a", "key:1")[0] != Status("0" * 40)
    reply = wire("DEBUG", "RELOAD")
    assert isinstance(reply, Failure) and "main" in reply.text, reply
    assert isinstance(wire("DEBUG", "RELOAD", "NOSAVE"), Failure)
    assert wire("DEBUG", "DIGEST") == mine
    assert wire("BRANCH", "USE", "main") == OK
    assert wire("DEBUG", "DIGEST") == main
    assert wire("DEBUG", "RELOAD") == OK
    assert wire("DEBUG", "DIGEST") == main
    assert wire("BRANCH", "USE", "x") == OK
    assert wire("DEBUG", "DIGEST") == mine
    assert wire("BRANCH", "RESET") == OK
    assert wire("DEBUG", "DIGEST") == main


def test_info_of_the_keyspace_is_that_of_the_store_at_hand(wire2: Wire) -> None:
    assert wire2("SET", "a", "1") == OK
    assert play(wire2, "BRANCH CREATE x; BRANCH USE x; SET b 1; SET c 1 EX 100") == [OK] * 4
    assert info(wire2, "keyspace")["db0"].startswith("keys=3,expires=1")
    assert wire2("BRANCH", "USE", "main") == OK
    assert info(wire2, "keyspace")["db0"].startswith("keys=1,expires=0")


def test_commands_are_counted_by_subcommand(wire2: Wire) -> None:
    assert wire2("CONFIG", "RESETSTAT") == OK
    for command in (
        ("BRANCH", "CREATE", "x"),
        ("BRANCH", "USE", "x"),
        ("SET", "a", "1"),
        ("BRANCH", "USE", "nosuch"),
        ("BRANCH", "CREATE"),
        ("BRANCH", "LIST"),
    ):
        wire2(*command)
    figures = info(wire2, "commandstats")
    assert (
        figures["cmdstat_branch|create"].startswith("calls=1,")
        and "rejected_calls=1" in figures["cmdstat_branch|create"]
    )
    assert figures["cmdstat_branch|use"].startswith("calls=2,") and figures["cmdstat_branch|use"].endswith(
        "failed_calls=1"
    )
    assert figures["cmdstat_branch|list"].startswith("calls=1,")
    assert figures["cmdstat_set"].startswith("calls=1,")
    assert info(wire2, "errorstats")["errorstat_NOBRANCH"] == "count=1"


def test_configuration_holds_for_all_stores(wire2: Wire) -> None:
    assert wire2("BRANCH", "CREATE", "x") == OK
    assert wire2("BRANCH", "USE", "x") == OK
    kept = wire2("CONFIG", "GET", "hash-max-listpack-entries")[1]
    assert wire2("CONFIG", "SET", "hash-max-listpack-entries", "1") == OK
    try:
        assert wire2("HSET", "h", "a", "1", "b", "2") == 2
        assert wire2("OBJECT", "ENCODING", "h") == b"hashtable"
        assert wire2("BRANCH", "USE", "main") == OK
        assert wire2("HSET", "h", "a", "1", "b", "2") == 2
        assert wire2("OBJECT", "ENCODING", "h") == b"hashtable"
    finally:
        wire2("CONFIG", "SET", "hash-max-listpack-entries", kept)


def test_clients_of_branches_are_evicted_like_others(start, tmp_path: Path) -> None:
    with start(tmp_path, options=("--maxmemory-clients", "4mb")) as server, Wire(server.address) as wire:
        assert wire("BRANCH", "CREATE", "x") == OK
        with Wire(server.address) as greedy:
            assert greedy("BRANCH", "USE", "x") == OK
            assert greedy("MULTI") == OK
            with contextlib.suppress(OSError, Closed):
                for _ in range(20):
                    greedy("SET", "a", b"x" * 500_000)
        wait_until(lambda: fields_of(wire, "x")["connections"] == 0, "its end")
        assert int(info(wire)["evicted_clients"]) == 1
        assert wire("BRANCH", "DROP", "x") == OK
        assert wire("PING") == Status("PONG")


def test_many_connections_over_many_branches(server: Process, wire2: Wire) -> None:
    for number in range(10):
        assert wire2("BRANCH", "CREATE", f"b{number}") == OK
    wires = [Wire(server.address) for _ in range(30)]
    for number, one in enumerate(wires):
        one.send(
            b"".join(
                encode(*command)
                for turn in range(50)
                for command in (
                    ("BRANCH", "USE", f"b{(number + turn) % 10}"),
                    ("INCR", "n"),
                    ("APPEND", f"c{number}", "x"),
                )
            )
        )
    for one in wires:
        assert all(not isinstance(one.reply(), Failure) for _ in range(150))
        one.close()
    for number in range(10):
        assert wire2("BRANCH", "USE", f"b{number}") == OK
        assert wire2("GET", "n") == b"150"
        assert sum(wire2("STRLEN", f"c{i}") for i in range(30)) == 150
    assert wire2("BRANCH", "USE", "main") == OK
    assert wire2("DBSIZE") == 0


def test_a_branch_is_dropped_in_the_turn_in_which_it_was_used(server: Process, wire2: Wire) -> None:
    """Create, use, write, drop, and the same name again, all in one pipeline: nothing is freed while it is at hand."""
    once = (
        "BRANCH CREATE x; BRANCH USE x; SET a 1; BRANCH DROP x FORCE; GET a; BRANCH CREATE x FROM main; BRANCH USE x;"
        "GET a;BRANCH USE main; BRANCH DROP x"
    )
    assert play(wire2, ";".join([once] * 100)) == [OK, OK, OK, OK, Failure(DROPPED), OK, OK, None, OK, OK] * 100
