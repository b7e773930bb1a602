"""BRANCH and SNAPSHOT over the wire: each subcommand, option and error, and what clients of several stores notice.

Every test ends with the main store alone: the fixture `stores` drops all others, and checks that nothing of them stays.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.harness import Process
from tests.server.wire import (
    OK,
    QUEUED,
    Argument,
    Closed,
    Failure,
    Status,
    Wire,
    agrees,
    encode,
    expectation,
    info,
    run_transcript,
    wait_until,
)

DROPPED = "NOBRANCH the branch of this connection was dropped: choose another one by BRANCH USE"
NOBRANCH = "NOBRANCH no such branch or snapshot"
LEAVE = "ERR a connection that watches keys, is subscribed or tracks keys cannot change its branch: end that first"
READ_ONLY = "READONLY You can't write against a read only replica."

pytestmark = pytest.mark.usefixtures("ours")


def drop_all(wire: Wire) -> None:
    """Drop all branches and snapshots."""
    wire("BRANCH", "USE", "main")
    for kind in ("BRANCH", "SNAPSHOT"):
        for one in wire(kind, "LIST"):
            fields = one if isinstance(one, dict) else dict(zip(one[::2], one[1::2], strict=True))
            if fields[b"kind"] != b"main":
                assert wire(kind, "DROP", fields[b"name"], "FORCE") == OK


@pytest.fixture(autouse=True)
def stores(server: Process) -> Iterator[None]:
    """Drops what a test has made."""
    with Wire(server.address) as first:
        drop_all(first)
    yield
    assert server.process.poll() is None, server.log()[-5000:]
    with Wire(server.address) as last:
        drop_all(last)
        figures = info(last)
        assert figures["blocked_clients"] == figures["pubsub_clients"] == figures["tracking_clients"] == "0"
        assert last("CONFIG", "SET", "notify-keyspace-events", "") == OK
    assert "Traceback" not in server.log(), server.log()[-5000:]


def fields_of(wire: Wire, name: str, kind: str = "BRANCH") -> dict[str, int | bytes]:
    """BRANCH INFO, in either protocol."""
    reply = wire(kind, "INFO", name)
    assert not isinstance(reply, Failure), reply
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    return {key.decode(): value for key, value in pairs}


def settled_frames(wire: Wire) -> int:
    """Frames in use when nothing is left to be released."""

    def steady() -> int | None:
        figures = [int(info(wire, "machine")["frames_in_use"]) for _ in range(5)]
        return figures[0] if len(set(figures)) == 1 else None

    return int(wait_until(steady, "all to be released"))


# ------------------------------------------------------------------------------------------------------- transcripts

FORMS = """
SET a 1 -> OK
BRANCH CURRENT -> "main"
BRANCH CREATE x -> OK
branch create x -> !ERR a branch or snapshot of that name exists
BRANCH CREATE x IFNX -> nil
BRANCH CREATE main IFNX -> nil
SNAPSHOT CREATE x -> !ERR a branch or snapshot of that name exists
SNAPSHOT CREATE s -> OK
SNAPSHOT CREATE s IFNX -> nil
BRANCH CREATE y FROM x TTL 100 MAXMEMORY 1000000 IFNX -> OK
BRANCH CREATE z ifnx from s -> OK
SNAPSHOT CREATE t FROM y TTL 5 -> OK
BRANCH USE x -> OK
BRANCH CURRENT -> "x"
GET a -> "1"
SET a 2 -> OK
BRANCH CREATE child -> OK
BRANCH USE child -> OK
GET a -> "2"
BRANCH USE y -> OK
GET a -> "1"
BRANCH USE s -> OK
BRANCH CURRENT -> "s"
GET a -> "1"
SET a 2 -> !READONLY You can't write against a read only replica.
BRANCH RESET -> !ERR that is no branch that was made by BRANCH CREATE
SNAPSHOT RESTORE s -> !READONLY a snapshot cannot be written
BRANCH CREATE fromsnapshot -> OK
SNAPSHOT CREATE again -> OK
BRANCH USE again -> OK
GET a -> "1"
BRANCH USE fromsnapshot -> OK
SET a 3 -> OK
BRANCH USE x -> OK
GET a -> "2"
BRANCH RESET -> OK
GET a -> "1"
DEL a -> 1
BRANCH RESET x -> OK
GET a -> "1"
SNAPSHOT RESTORE s -> OK
SET a 7 -> OK
SNAPSHOT RESTORE s INTO x -> OK
GET a -> "1"
SET a 8 -> OK
BRANCH SWAP x fromsnapshot -> OK
GET a -> "3"
BRANCH SWAP x main -> OK
GET a -> "1"
BRANCH SWAP x x -> OK
GET a -> "1"
BRANCH USE main -> OK
GET a -> "3"
BRANCH RENAME x renamed -> OK
BRANCH USE x -> !NOBRANCH no such branch or snapshot
BRANCH USE renamed -> OK
BRANCH CURRENT -> "renamed"
SNAPSHOT RESTORE s INTO main -> OK
BRANCH USE main -> OK
GET a -> "1"
BRANCH RENAME s kept -> OK
SNAPSHOT DROP kept -> OK
BRANCH DROP renamed -> OK
BRANCH DROP y FORCE -> OK
BRANCH USE y -> !NOBRANCH no such branch or snapshot
"""

REFUSED = """
BRANCH -> !ERR wrong number of arguments for 'branch' command
SNAPSHOT -> !ERR wrong number of arguments for 'snapshot' command
BRANCH NOSUCH -> !ERR unknown subcommand 'NOSUCH'. Try BRANCH HELP.
SNAPSHOT NOSUCH -> !ERR unknown subcommand 'NOSUCH'. Try SNAPSHOT HELP.
SNAPSHOT USE s -> !ERR unknown subcommand 'USE'. Try SNAPSHOT HELP.
BRANCH CREATE -> !ERR wrong number of arguments for 'branch|create' command
BRANCH USE -> !ERR wrong number of arguments for 'branch|use' command
BRANCH USE a b -> !ERR wrong number of arguments for 'branch|use' command
BRANCH CURRENT a -> !ERR wrong number of arguments for 'branch|current' command
BRANCH DROP -> !ERR wrong number of arguments for 'branch|drop' command
BRANCH LIST a -> !ERR wrong number of arguments for 'branch|list' command
BRANCH INFO -> !ERR wrong number of arguments for 'branch|info' command
BRANCH RENAME a -> !ERR wrong number of arguments for 'branch|rename' command
BRANCH SWAP a -> !ERR wrong number of arguments for 'branch|swap' command
SNAPSHOT RESTORE -> !ERR wrong number of arguments for 'snapshot|restore' command
BRANCH CREATE "" -> !ERR a branch's name has 1 to 128 letters, digits or characters of -_.:/+#=,~
BRANCH CREATE "a b" -> !ERR a branch's name has 1 to 128 letters, digits or characters of -_.:/+#=,~
BRANCH CREATE "a@b" -> !ERR a branch's name has 1 to 128 letters, digits or characters of -_.:/+#=,~
BRANCH CREATE "a\\r\\nb" -> !ERR a branch's name has 1 to 128 letters, digits or characters of -_.:/+#=,~
BRANCH CREATE "\\xc3\\xa9" -> !ERR a branch's name has 1 to 128 letters, digits or characters of -_.:/+#=,~
SNAPSHOT CREATE "*" -> !ERR a branch's name has 1 to 128 letters, digits or characters of -_.:/+#=,~
BRANCH CREATE main -> !ERR a branch or snapshot of that name exists
BRANCH CREATE x FROM -> !ERR syntax error
BRANCH CREATE x FROM nosuch -> !NOBRANCH no such branch or snapshot
BRANCH CREATE x TTL -> !ERR syntax error
BRANCH CREATE x TTL 0 -> !ERR TTL is not a positive number of seconds, or too large
BRANCH CREATE x TTL -5 -> !ERR TTL is not a positive number of seconds, or too large
BRANCH CREATE x TTL soon -> !ERR TTL is not a positive number of seconds, or too large
BRANCH CREATE x TTL 9223372036854775807 -> !ERR TTL is not a positive number of seconds, or too large
BRANCH CREATE x MAXMEMORY -> !ERR syntax error
BRANCH CREATE x MAXMEMORY 0 -> !ERR MAXMEMORY is not a positive number of bytes, or too large
BRANCH CREATE x MAXMEMORY 1mb -> !ERR MAXMEMORY is not a positive number of bytes, or too large
BRANCH CREATE x EXTRA -> !ERR syntax error
SNAPSHOT CREATE x MAXMEMORY 5 -> !ERR syntax error
BRANCH USE nosuch -> !NOBRANCH no such branch or snapshot
BRANCH USE "" -> !NOBRANCH no such branch or snapshot
BRANCH INFO nosuch -> !NOBRANCH no such branch or snapshot
SNAPSHOT INFO main -> !ERR that is no snapshot
BRANCH RESET main -> !ERR that is no branch that was made by BRANCH CREATE
BRANCH RESET -> !ERR that is no branch that was made by BRANCH CREATE
BRANCH RESET nosuch -> !NOBRANCH no such branch or snapshot
BRANCH RESET a b -> !ERR syntax error
BRANCH DROP main -> !ERR that is no branch that was made by BRANCH CREATE
BRANCH DROP main FORCE -> !ERR that is no branch that was made by BRANCH CREATE
SNAPSHOT DROP main -> !ERR that is no snapshot
BRANCH DROP nosuch -> !NOBRANCH no such branch or snapshot
BRANCH DROP nosuch FORCE -> !NOBRANCH no such branch or snapshot
BRANCH CREATE b -> OK
SNAPSHOT CREATE s -> OK
BRANCH DROP s -> !ERR that is no branch that was made by BRANCH CREATE
SNAPSHOT DROP b -> !ERR that is no snapshot
SNAPSHOT DROP b FORCE -> !ERR that is no snapshot
BRANCH DROP b NOW -> !ERR syntax error
SNAPSHOT RESTORE b -> !ERR that is no snapshot
SNAPSHOT RESTORE main -> !ERR that is no snapshot
SNAPSHOT RESTORE nosuch -> !NOBRANCH no such branch or snapshot
SNAPSHOT RESTORE s INTO -> !ERR syntax error
SNAPSHOT RESTORE s OVER b -> !ERR syntax error
SNAPSHOT RESTORE s INTO nosuch -> !NOBRANCH no such branch or snapshot
SNAPSHOT RESTORE s INTO s -> !READONLY a snapshot cannot be written
BRANCH RESET s -> !ERR that is no branch that was made by BRANCH CREATE
BRANCH SWAP b s -> !READONLY a snapshot cannot be written
BRANCH SWAP s s -> !READONLY a snapshot cannot be written
BRANCH SWAP b nosuch -> !NOBRANCH no such branch or snapshot
BRANCH RENAME main other -> !ERR the main store keeps its name
BRANCH RENAME b main -> !ERR a branch or snapshot of that name exists
BRANCH RENAME b s -> !ERR a branch or snapshot of that name exists
BRANCH RENAME b "a b" -> !ERR a branch's name has 1 to 128 letters, digits or characters of -_.:/+#=,~
BRANCH RENAME nosuch c -> !NOBRANCH no such branch or snapshot
BRANCH RENAME b b -> !ERR a branch or snapshot of that name exists
BRANCH CURRENT -> "main"
MULTI -> OK
BRANCH USE b -> !ERR Command not allowed inside a transaction
EXEC -> !EXECABORT Transaction discarded because of previous errors.
MULTI -> OK
SNAPSHOT RESTORE s -> !ERR Command not allowed inside a transaction
DISCARD -> OK
MULTI -> OK
BRANCH LIST -> !ERR Command not allowed inside a transaction
DISCARD -> OK
WATCH k -> OK
BRANCH USE b -> !ERR a connection that watches keys, is subscribed or tracks keys cannot change its branch: end that first
BRANCH USE main -> OK
AUTH default@b "" -> !ERR a connection that watches keys, is subscribed or tracks keys cannot change its branch: end that first
UNWATCH -> OK
AUTH default@nosuch "" -> !NOBRANCH no such branch or snapshot
AUTH default@ "" -> !NOBRANCH no such branch or snapshot
AUTH somebody@b "" -> !WRONGPASS invalid username-password pair or user is disabled.
AUTH default@b@b "" -> !NOBRANCH no such branch or snapshot
BRANCH CURRENT -> "main"
AUTH default@b anything -> OK
BRANCH CURRENT -> "b"
AUTH default@main "" -> OK
BRANCH CURRENT -> "main"
AUTH default@s "" -> OK
RESET -> RESET
"""


@pytest.mark.parametrize("transcript", [FORMS, REFUSED], ids=["forms", "refused"])
def test_transcripts(wire: Wire, transcript: str) -> None:
    run_transcript(wire, transcript.replace("\\\\", "\\"))


@pytest.mark.parametrize("transcript", [FORMS, REFUSED], ids=["forms", "refused"])
def test_the_same_in_one_write_and_byte_by_byte(server: Process, transcript: str) -> None:
    """A pipeline that changes its store stops there, and goes on with the other one, however it arrives."""
    from tests.server.wire import words

    lines = [line.rpartition(" -> ") for line in transcript.replace("\\\\", "\\").strip().splitlines()]
    data = b"".join(encode(*words(line[0])) for line in lines)
    for size in (1, 7, len(data)):
        with Wire(server.address) as wire:
            drop_all(wire)
            assert wire("FLUSHALL") == OK
            for at in range(0, len(data), size):
                wire.send(data[at : at + size])
            for command, _, reply in lines:
                got = wire.reply()
                assert agrees(expectation(reply.strip(), 2), got), f"{command}: {got}"


def test_a_list_tells_each_store(wire: Wire) -> None:
    for command in (
        ("BRANCH", "CREATE", "x", "TTL", "100"),
        ("SNAPSHOT", "CREATE", "s", "FROM", "x"),
        ("BRANCH", "USE", "x"),
    ):
        assert wire(*command) == OK
    keys = [b"name", b"kind", b"from", b"created", b"ttl", b"connections"]
    branches = [
        one if isinstance(one, dict) else dict(zip(one[::2], one[1::2], strict=True)) for one in wire("BRANCH", "LIST")
    ]
    snapshots = [
        one if isinstance(one, dict) else dict(zip(one[::2], one[1::2], strict=True))
        for one in wire("SNAPSHOT", "LIST")
    ]
    assert all(list(one) == keys for one in branches + snapshots)
    now = int(wire("TIME")[0])
    assert all(now - 3600 * 24 < one[b"created"] <= now for one in branches + snapshots)
    short = [tuple(one[key] for key in (b"name", b"kind", b"from", b"connections")) for one in branches + snapshots]
    assert short[1:] == [(b"x", b"branch", b"main", 1), (b"s", b"snapshot", b"x", 0)]
    assert short[0][:3] == (b"main", b"main", b"")
    assert [one[b"ttl"] for one in branches + snapshots][::2] == [-1, -1] and 95 < branches[1][b"ttl"] <= 100
    assert wire("BRANCH", "USE", "main") == OK
    assert wire("BRANCH", "DROP", "x") == OK
    (left,) = wire("SNAPSHOT", "LIST")
    assert (left[b"from"] if isinstance(left, dict) else left[5]) == b"x"  # as it was called then


def test_main_counts_its_connections(server: Process, wire2: Wire) -> None:
    before = int(fields_of(wire2, "main")["connections"])
    assert before >= 1
    with Wire(server.address) as other:
        assert other("PING") == Status("PONG")
        assert fields_of(wire2, "main")["connections"] == before + 1
        assert wire2("BRANCH", "CREATE", "x") == OK
        assert other("BRANCH", "USE", "x") == OK
        assert fields_of(wire2, "main")["connections"] == before
        assert fields_of(wire2, "x")["connections"] == 1


def test_info_tells_keys_and_memory(wire: Wire) -> None:
    assert wire("DEBUG", "POPULATE", "1000", "key", "1000") == OK
    assert wire("BRANCH", "CREATE", "x", "MAXMEMORY", "50000000") == OK
    fresh = fields_of(wire, "x")
    assert (fresh["keys"], fresh["maxmemory"], fresh["resets"], fresh["private"]) == (1000, 50_000_000, 0, 0)
    assert fresh["own_bytes"] == 2 * 4096 and int(fresh["shared"]) > 1_000_000
    assert wire("BRANCH", "USE", "x") == OK
    assert wire("SET", "long", b"x" * 1_000_000) == OK
    written = fields_of(wire, "x")
    assert written["keys"] == 1001
    assert 1_000_000 <= int(written["private"]) <= int(written["own_bytes"]) < 1_400_000
    assert int(written["rss"]) == int(written["shared"]) + int(written["private"])
    assert fields_of(wire, "main")["keys"] == 1000
    assert wire("BRANCH", "RESET") == OK
    again = fields_of(wire, "x")
    assert (again["keys"], again["resets"], again["own_bytes"], again["private"]) == (1000, 1, 2 * 4096, 0)
    with_snapshot = wire("SNAPSHOT", "CREATE", "s"), fields_of(wire, "s", "SNAPSHOT")
    assert with_snapshot[1]["keys"] == 1000 and with_snapshot[1]["kind"] == b"snapshot"
    assert wire("MEMORY", "USAGE", "key:1") > 1000
    assert wire("OBJECT", "ENCODING", "key:1") == b"raw"
    assert wire("DBSIZE") == 1000


# ---------------------------------------------------------------------------------------------------------- pipelines


def test_one_write_changes_stores_many_times(wire: Wire) -> None:
    assert wire("SET", "a", "0") == OK
    for name in "xyz":
        assert wire("BRANCH", "CREATE", name) == OK
    commands: list[tuple[Argument, ...]] = []
    expected: list[object] = []
    for turn in range(200):
        for name in ("x", "main", "y", "z", "x"):
            commands += [
                ("BRANCH", "USE", name),
                ("APPEND", name, "+"),
                ("GET", "a"),
                ("STRLEN", name),
                ("SET", "a", f"{name}{turn}"),
            ]
    sizes: dict[str, int] = {}
    values: dict[str, bytes] = {}
    for turn in range(200):
        for name in ("x", "main", "y", "z", "x"):
            sizes[name] = sizes.get(name, 0) + 1
            expected += [OK, sizes[name], values.get(name, b"0"), sizes[name], OK]
            values[name] = f"{name}{turn}".encode()
    assert wire.pipeline(commands) == expected


def test_a_transaction_is_of_the_store_in_which_it_was_begun(wire: Wire) -> None:
    assert wire("BRANCH", "CREATE", "x") == OK
    replies = wire.pipeline(
        [
            ("SET", "a", "1"), ("BRANCH", "USE", "x"), ("MULTI",), ("SET", "a", "2"), ("BRANCH", "CURRENT"), ("EXEC",),
            ("MULTI",), ("SET", "a", "3"), ("GET", "a"), ("EXEC",), ("BRANCH", "USE", "main"), ("GET", "a"),
        ]
    )  # fmt: skip
    not_allowed = Failure("ERR Command not allowed inside a transaction")
    assert replies[:5] == [OK, OK, OK, QUEUED, not_allowed]
    assert replies[5].text.startswith("EXECABORT")
    assert replies[6:] == [OK, QUEUED, QUEUED, [OK, b"3"], OK, b"1"]


def test_auth_within_a_transaction_changes_no_store(wire: Wire) -> None:
    assert wire("BRANCH", "CREATE", "x") == OK
    replies = wire.pipeline(
        [("MULTI",), ("AUTH", "default@x", ""), ("HELLO", "2", "AUTH", "default@x", ""), ("SET", "a", "1"), ("EXEC",)]
    )
    assert "in" not in [reply for reply in replies if isinstance(reply, str)]
    assert wire("BRANCH", "CURRENT") == b"main"
    assert wire("DBSIZE") in (0, 1)
    assert fields_of(wire, "x")["keys"] == 0


def test_replies_that_are_turned_off_and_skipped(wire2: Wire) -> None:
    assert wire2("BRANCH", "CREATE", "x") == OK
    for command in (("CLIENT", "REPLY", "SKIP"), ("BRANCH", "USE", "x"), ("SET", "a", "1"), ("BRANCH", "CURRENT")):
        wire2.send(encode(*command))
    assert (wire2.reply(), wire2.reply()) == (OK, b"x")
    for command in (
        ("CLIENT", "REPLY", "OFF"),
        ("BRANCH", "USE", "main"),
        ("SET", "b", "1"),
        ("CLIENT", "REPLY", "ON"),
        ("GET", "b"),
    ):
        wire2.send(encode(*command))
    assert (wire2.reply(), wire2.reply()) == (OK, b"1")
    assert wire2("BRANCH", "CURRENT") == b"main"


def test_each_connection_has_its_database_in_every_store(wire: Wire) -> None:
    assert wire("BRANCH", "CREATE", "x") == OK
    assert wire.pipeline(
        [("SELECT", "3"), ("SET", "a", "1"), ("BRANCH", "USE", "x"), ("GET", "a"), ("SET", "a", "2")]
    ) == [OK, OK, OK, None, OK]
    assert wire.pipeline([("BRANCH", "USE", "main"), ("GET", "a"), ("SELECT", "0"), ("DBSIZE",)]) == [OK, b"1", OK, 0]


# ------------------------------------------------------------------------------------------------- users and passwords


def test_hello_chooses_a_store(server: Process, wire2: Wire) -> None:
    assert wire2("BRANCH", "CREATE", "x") == OK
    with Wire(server.address) as other:
        assert isinstance(other("HELLO", "3", "AUTH", "default@x", "", "SETNAME", "me"), dict)
        other.protocol = 3
        assert other("BRANCH", "CURRENT") == b"x"
        assert other("CLIENT", "GETNAME") == b"me"
        refused = other("HELLO", "2", "AUTH", "default@nosuch", "", "SETNAME", "you")
        assert refused == Failure(NOBRANCH)
        assert other("CLIENT", "GETNAME") == b"me"
        assert other("BRANCH", "CURRENT") == b"x"
        assert other("RESET") == Status("RESET")
        assert other("BRANCH", "CURRENT") == b"main"


def test_with_a_password(start, tmp_path: Path) -> None:
    with start(tmp_path, options=("--requirepass", "secret"), password="secret") as server:
        with Wire(server.address) as wire:
            denied = Failure("NOAUTH Authentication required.")
            for command in (
                ("BRANCH", "CREATE", "x"),
                ("BRANCH", "USE", "main"),
                ("BRANCH", "LIST"),
                ("SNAPSHOT", "LIST"),
            ):
                assert wire(*command) == denied
            wrong = Failure("WRONGPASS invalid username-password pair or user is disabled.")
            assert wire("AUTH", "default@main", "guess") == wrong
            assert wire("AUTH", "default@nosuch", "guess") == wrong  # nobody learns which stores there are
            assert wire("AUTH", "default@nosuch", "secret") == Failure(NOBRANCH)
            assert wire("PING") == denied
            assert wire("AUTH", "default@main", "secret") == OK
            assert wire("BRANCH", "CREATE", "x") == OK
            assert wire("AUTH", "default@x", "guess") == wrong
            assert wire("BRANCH", "CURRENT") == b"main"
            assert wire("AUTH", "default@x", "secret") == OK
            assert wire("BRANCH", "CURRENT") == b"x"
            assert wire("RESET") == Status("RESET")
            assert wire("BRANCH", "CURRENT") == denied
            assert wire("AUTH", "secret") == OK
            assert wire("BRANCH", "CURRENT") == b"main"
            assert wire("ACL", "LOG", "RESET") in (OK, Failure("ERR unknown command 'ACL'"))
        with redis.Redis(host=server.host, port=server.port, username="default@x", password="secret") as client:
            client.set("a", 1)
            assert client.execute_command("BRANCH", "CURRENT") == b"x"


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_pool_of_redis_py_stays_in_its_branch(server: Process, wire2: Wire, protocol: int) -> None:
    assert wire2("SET", "a", "main") == OK
    assert wire2("BRANCH", "CREATE", "x") == OK
    # A server without a password takes any.
    pool = redis.ConnectionPool(
        host=server.host, port=server.port, username="default@x", password="any", protocol=protocol, max_connections=4
    )
    with redis.Redis(connection_pool=pool) as client:
        held = [pool.get_connection() for _ in range(4)]
        for one in held:
            one.send_command("BRANCH", "CURRENT")
            assert one.read_response() == b"x"
            pool.release(one)
        assert client.set("a", "x") and client.get("a") == b"x"
        with client.pipeline(transaction=True) as pipeline:
            pipeline.watch("a")
            pipeline.multi()
            pipeline.incr("n")
            pipeline.get("a")
            assert pipeline.execute() == [1, b"x"]
        assert fields_of(wire2, "x")["connections"] == 4
        client.connection_pool.disconnect()
        assert client.get("a") == b"x"  # a new connection chooses the store again
    pool.disconnect()
    assert wire2("GET", "a") == b"main"


# ------------------------------------------------------------------------------------------------------- lost branches


def test_a_connection_whose_branch_was_dropped_is_told_until_it_chooses(server: Process, wire: Wire) -> None:
    with Wire(server.address) as other:
        assert other("BRANCH", "CREATE", "x") == OK
        assert wire("BRANCH", "USE", "x") == OK
        assert wire("SET", "a", "1") == OK
        in_use = Failure("ERR the branch is used by 1 connection: let them use another one, or drop it with FORCE")
        assert other("BRANCH", "DROP", "x") == in_use
        assert other("BRANCH", "DROP", "x", "FORCE") == OK
        for command in (
            ("GET", "a"), ("SET", "a", "1"), ("MULTI",), ("DISCARD",), ("WATCH", "a"), ("KEYS", "*"), ("DBSIZE",),
            ("FLUSHALL",), ("INFO",), ("CONFIG", "GET", "hz"), ("SUBSCRIBE", "c"),
            ("PUBLISH", "c", "m"), ("BLPOP", "a", "0"), ("COPY", "a", "b"), ("MEMORY", "PURGE"), ("DEBUG", "RELOAD"),
            ("BGSAVE",), ("SAVE",), ("OBJECT", "ENCODING", "a"), ("WAIT", "0", "1"), ("SCAN", "0"), ("TIME",), ("COMMAND", "COUNT"),
        ):  # fmt: skip
            assert wire(*command) == Failure(DROPPED), command
        assert wire("EXEC") == Failure(f"EXECABORT Transaction discarded because of: {DROPPED}")
        assert wire("BRANCH", "CURRENT") == wire("BRANCH", "RESET") == wire("BRANCH", "CREATE", "y") == Failure(DROPPED)
        assert wire("SNAPSHOT", "CREATE", "y") == Failure(DROPPED)
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
        assert wire.pipeline([("BRANCH", "USE", "main"), ("GET", "a")]) == [OK, None]
        assert wire.pipeline([("BRANCH", "USE", "x"), ("GET", "a"), ("BRANCH", "DROP", "x", "FORCE"), ("GET", "a"), ("BRANCH", "USE", "y"), ("GET", "a")]) == [
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
        assert wire.pipeline([("BRANCH", "USE", "x"), ("MULTI",), ("SET", "a", "1")]) == [OK, OK, QUEUED]
        assert other("BRANCH", "DROP", "x", "FORCE") == OK
        assert wire("SET", "b", "1") == Failure(DROPPED)
        reply = wire("EXEC")
        assert isinstance(reply, Failure) and "NOBRANCH" in reply.text
        assert wire.pipeline([("BRANCH", "USE", "main"), ("DBSIZE",), ("MULTI",), ("SET", "a", "1"), ("EXEC",)]) == [
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
            assert wire2.pipeline([("BRANCH", "USE", "x"), ("MULTI",), ("SET", "a", "1")]) == [OK, OK, QUEUED]
            assert other("BRANCH", "DROP", "x", "FORCE") == OK
            wire2(*end)
            replies = wire2.pipeline(
                [("BRANCH", "USE", "main"), ("BRANCH", "CURRENT"), ("PING",), ("RESET",), ("DBSIZE",)]
            )
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
        assert watcher.pipeline([("MULTI",), ("GET", "a"), ("EXEC",)]) == [OK, QUEUED, [b"1"]]


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
    assert others[19].pipeline([("SET", "a", "1"), ("GET", "a"), ("BRANCH", "USE", "main")]) == [OK, b"1", OK]
    assert wire2("BRANCH", "DROP", "x") == OK
    others[19].close()


# --------------------------------------------------------------------------------------------- watched keys and waits


@pytest.mark.parametrize("replace", ["RESET", "RESTORE", "SWAP", "INTO", "SWAP FROM MAIN"])
def test_replaced_contents_break_watches_of_that_store_alone(server: Process, wire2: Wire, replace: str) -> None:
    commands: dict[str, tuple[str, ...]] = {
        "RESET": ("BRANCH", "RESET", "x"),
        "RESTORE": ("SNAPSHOT", "RESTORE", "s", "INTO", "x"),
        "SWAP": ("BRANCH", "SWAP", "y", "x"),
        "INTO": ("SNAPSHOT", "RESTORE", "s", "INTO", "x"),
        "SWAP FROM MAIN": ("BRANCH", "SWAP", "x", "y"),
    }
    with Wire(server.address) as watcher, Wire(server.address) as calm:
        for command in (("BRANCH", "CREATE", "x"), ("BRANCH", "CREATE", "y"), ("SNAPSHOT", "CREATE", "s")):
            assert wire2(*command) == OK
        assert watcher.pipeline([("BRANCH", "USE", "x"), ("WATCH", "a")]) == [OK, OK]
        assert calm.pipeline([("WATCH", "a")]) == [OK]
        assert wire2(*commands[replace]) == OK
        assert watcher.pipeline([("MULTI",), ("GET", "a"), ("EXEC",)])[-1] is None or watcher.protocol == 2
        assert watcher.pipeline([("MULTI",), ("GET", "a"), ("EXEC",)])[-1] == [None]
        assert calm.pipeline([("MULTI",), ("GET", "a"), ("EXEC",)])[-1] == [None]


def test_a_watch_is_broken_by_changes_in_its_own_store_only(server: Process, wire2: Wire) -> None:
    with Wire(server.address) as watcher, Wire(server.address) as mate:
        assert wire2("BRANCH", "CREATE", "x") == OK
        assert mate("BRANCH", "USE", "x") == OK
        assert watcher.pipeline([("BRANCH", "USE", "x"), ("WATCH", "a")]) == [OK, OK]
        assert wire2("SET", "a", "1") == OK
        assert wire2("FLUSHALL") == OK
        assert watcher.pipeline([("MULTI",), ("GET", "a"), ("EXEC",)])[-1] == [None]
        assert watcher("WATCH", "a") == OK
        assert mate("SET", "a", "1") == OK
        assert watcher.pipeline([("MULTI",), ("GET", "a"), ("EXEC",)])[-1] != [b"1"]


@pytest.mark.parametrize("store", ["x", "main"])
@pytest.mark.parametrize("replace", ["RESET", "RESTORE", "SWAP"])
@pytest.mark.parametrize("actor", ["main", "x", "other"])
def test_waits_are_served_when_other_contents_bring_a_key(
    server: Process, wire2: Wire, store: str, replace: str, actor: str
) -> None:
    """Whichever store is waited in, and whichever the connection uses that replaces its contents."""
    if (store, replace) == ("main", "RESET"):
        pytest.skip("the main store cannot be reset")
    with Wire(server.address) as waiter, Wire(server.address) as second:
        assert wire2("RPUSH", "k", "v", "w") == 2
        for command in (("BRANCH", "CREATE", "x"), ("BRANCH", "CREATE", "other"), ("SNAPSHOT", "CREATE", "s")):
            assert wire2(*command) == OK
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
        assert mate.pipeline([("BRANCH", "USE", "x"), ("RPUSH", "k", "x")]) == [OK, 1]
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
        for command in (("BRANCH", "CREATE", "x"), ("BRANCH", "CREATE", "y"), ("SNAPSHOT", "CREATE", "s")):
            assert wire2(*command) == OK
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
        for command in (("BRANCH", "CREATE", "x"), ("BRANCH", "USE", "x")):
            assert wire2(*command) == OK
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
        assert there.pipeline([("BRANCH", "USE", "x"), ("SUBSCRIBE", "c")]) == [OK, [b"subscribe", b"c", 1]]
        assert pattern.pipeline([("BRANCH", "USE", "x"), ("PSUBSCRIBE", "*")]) == [OK, [b"psubscribe", b"*", 1]]
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
    for command in (
        ("BRANCH", "CREATE", "x"), ("BRANCH", "CREATE", "y"), ("SNAPSHOT", "CREATE", "s"), ("BRANCH", "RESET", "x"),
        ("SNAPSHOT", "RESTORE", "s", "INTO", "x"), ("BRANCH", "SWAP", "x", "y"), ("BRANCH", "SWAP", "main", "y"),
        ("BRANCH", "USE", "x"), ("BRANCH", "USE", "main"), ("PING",), ("BRANCH", "RESET", "x"), ("BRANCH", "SWAP", "x", "y"),
    ):  # fmt: skip
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
        assert reader.pipeline([("BRANCH", "USE", "x"), ("SET", "a", "1")]) == [OK, OK]
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


# ------------------------------------------------------------------------------------------------------ saving, memory


def test_flushall_in_a_branch_concerns_it_alone(wire: Wire) -> None:
    assert wire("SET", "a", "1") == OK
    assert wire("BRANCH", "CREATE", "x") == OK
    assert wire("BRANCH", "USE", "x") == OK
    assert wire("FLUSHALL") == OK
    assert wire("DBSIZE") == 0
    assert wire("SWAPDB", "0", "1") == OK
    assert wire.pipeline([("BRANCH", "USE", "main"), ("DBSIZE",), ("GET", "a")]) == [OK, 1, b"1"]
    assert wire.pipeline([("BRANCH", "RESET", "x"), ("BRANCH", "USE", "x"), ("GET", "a")]) == [OK, OK, b"1"]


def test_what_a_branch_saves_is_the_main_store(start, data: Path) -> None:
    with start(data, save="") as server, Wire(server.address) as wire:
        assert wire("SET", "a", "main") == OK
        for command in (("BRANCH", "CREATE", "x"), ("BRANCH", "USE", "x"), ("SET", "a", "x"), ("SET", "b", "x")):
            assert wire(*command) == OK
        assert wire("SAVE") == OK
        assert wire("FLUSHALL") == OK
        assert wire("BGSAVE") == Status("Background saving started")
        wait_until(lambda: info(wire)["rdb_bgsave_in_progress"] == "0", "the image")
        digest = wire("DEBUG", "DIGEST")
        assert wire("MULTI") == OK
        assert wire("BGSAVE") == QUEUED
        assert isinstance(wire("EXEC"), list)
        wait_until(
            lambda: info(wire)["rdb_bgsave_in_progress"] == "0" and info(wire)["rdb_last_bgsave_status"] == "ok",
            "the image",
        )
        assert wire("DEBUG", "DIGEST") == digest
        assert wire("DBSIZE") == 0
        wire.send(encode("SHUTDOWN", "SAVE"))
        assert server.ended() == 0
    with start(data, save="") as server, Wire(server.address) as wire:
        assert wire("DBSIZE") == 1
        assert wire("GET", "a") == b"main"
        assert len(wire("BRANCH", "LIST")) == 1
        assert wire("BRANCH", "USE", "x") == Failure(NOBRANCH)


def test_flushall_in_a_branch_leaves_the_image_alone_though_there_are_save_points(start, data: Path) -> None:
    with start(data, save="3600 1") as server, Wire(server.address) as wire:
        assert wire("SET", "a", "main") == OK
        assert wire("SAVE") == OK
        for command in (
            ("BRANCH", "CREATE", "x"),
            ("BRANCH", "USE", "x"),
            ("SET", "b", "x"),
            ("FLUSHALL",),
            ("FLUSHDB",),
        ):
            assert wire(*command) == OK
        server.kill()
    with start(data, save="3600 1") as server, Wire(server.address) as wire:
        assert wire("GET", "a") == b"main"
        assert wire("DBSIZE") == 1
        assert wire("BRANCH", "CREATE", "x") == OK
        assert wire("BRANCH", "USE", "x") == OK
        assert wire("SET", "c", "x" * 1_000_000) == OK
        assert server.terminate() == 0
    with start(data) as server, Wire(server.address) as wire:
        assert wire("DBSIZE") == 1


def test_changes_in_a_branch_are_no_unsaved_changes(wire2: Wire) -> None:
    assert wire2("BRANCH", "CREATE", "x") == OK
    before = info(wire2, "persistence")["rdb_changes_since_last_save"]
    assert (
        wire2.pipeline([("BRANCH", "USE", "x"), ("SET", "a", "1"), ("SET", "b", "1"), ("BRANCH", "USE", "main")])
        == [OK] * 4
    )
    assert info(wire2, "persistence")["rdb_changes_since_last_save"] == before


def test_long_values_arrive_in_a_branch(wire: Wire) -> None:
    value = bytes(range(256)) * 8192 + b"end"
    assert wire("SET", "a", value) == OK
    for command in (("BRANCH", "CREATE", "x"), ("BRANCH", "USE", "x")):
        assert wire(*command) == OK
    assert wire("GET", "a") == value
    assert wire("SET", "b", value + b"x") == OK
    assert wire("APPEND", "a", value) == 2 * len(value)
    assert wire("COPY", "a", "c") == 1
    assert wire("SETRANGE", "c", 5, "changed") == 2 * len(value)
    assert wire("BRANCH", "USE", "main") == OK
    assert wire("EXISTS", "b", "c") == 0
    assert wire("GET", "a") == value
    assert wire.pipeline([("BRANCH", "USE", "x"), ("SET", "d", value), ("BRANCH", "USE", "main"), ("EXISTS", "d"), ("BRANCH", "USE", "x"), ("GET", "d"), ("GET", "a")]) == [
        OK, OK, OK, 0, OK, value, value * 2,
    ]  # fmt: skip


def test_a_long_value_is_on_its_way_when_its_branch_is_dropped(server: Process, wire2: Wire) -> None:
    value = b"v" * 3_000_000
    with Wire(server.address) as sender:
        before = settled_frames(wire2)
        assert wire2("BRANCH", "CREATE", "x") == OK
        assert sender("BRANCH", "USE", "x") == OK
        data = encode("SET", "a", value)
        sender.send(data[:2_000_000])
        wait_until(lambda: settled_frames(wire2) > before + 400, "its first half")
        assert wire2("BRANCH", "DROP", "x", "FORCE") == OK
        sender.send(data[2_000_000:])
        assert sender.reply() == Failure(DROPPED)
        assert sender.pipeline([("BRANCH", "USE", "main"), ("EXISTS", "a")]) == [OK, 0]
        wait_until(lambda: settled_frames(wire2) <= before, "all frames to come back")


def test_a_copy_in_steps_is_under_way_when_contents_are_replaced_or_the_branch_is_dropped(
    server: Process, wire2: Wire
) -> None:
    for name in ("x", "y"):
        assert wire2("BRANCH", "CREATE", name) == OK
    with Wire(server.address) as copier:
        assert copier("BRANCH", "USE", "x") == OK
        for start in range(0, 100_000, 1000):
            assert copier("SADD", "big", *range(start, start + 1000), "text") >= 1000
        assert wire2("SNAPSHOT", "CREATE", "s", "FROM", "x") == OK
        for command in (
            ("SNAPSHOT", "RESTORE", "s", "INTO", "x"), ("BRANCH", "SWAP", "x", "y"), ("BRANCH", "SWAP", "x", "y"), ("BRANCH", "DROP", "x", "FORCE"),
        ):  # fmt: skip
            copier.send(encode("COPY", "big", "copy", "REPLACE") + encode("SCARD", "copy"))
            assert wire2(*command) == OK
            outcome = copier.reply(), copier.reply()
            assert outcome in (
                (1, 100_001),
                (0, 0),
                (Failure(DROPPED), Failure(DROPPED)),
                (1, Failure(DROPPED)),
                (0, 100_001),
            ), outcome
        assert copier("BRANCH", "USE", "main") == OK
        assert wire2("BRANCH", "USE", "y") == OK
        assert wire2("DBSIZE") in (0, 1, 2)


def test_a_branch_beyond_its_quota_is_refused_by_name_and_main_goes_on(server: Process, wire2: Wire) -> None:
    assert wire2("SET", "a", "1") == OK
    with Wire(server.address) as user:
        assert wire2("BRANCH", "CREATE", "x", "MAXMEMORY", "4000000") == OK
        assert user("BRANCH", "USE", "x") == OK
        reply: object = OK
        written = 0
        while reply == OK and written < 100:
            reply = user("SET", f"key:{written}", b"v" * 100_000)
            written += 1
        assert isinstance(reply, Failure) and reply.text.startswith("OOM this branch may take no more memory"), reply
        assert 15 <= written <= 41
        assert int(fields_of(wire2, "x")["own_bytes"]) <= 4_000_000 + (2 << 20)
        assert wire2("SET", "b", b"v" * 1_000_000) == OK
        assert user("GET", "key:0") == b"v" * 100_000
        for way in (("FLUSHALL",), ("BRANCH", "RESET")):
            assert user(*way) == OK
            written = 0
            reply = OK
            while reply == OK and written < 100:
                reply = user("SET", f"key:{written}", b"v" * 100_000)
                written += 1
            assert 15 <= written <= 41, (way, written)
        for number in range(written):
            user("DEL", f"key:{number}")
        assert user("SET", "again", b"v" * 100_000) == OK
        replies = user.pipeline([("MULTI",), *[("APPEND", f"k{i}", b"v" * 500_000) for i in range(20)], ("EXEC",)])
        assert isinstance(replies[-1], Failure) and replies[-1].text.startswith("EXECABORT"), replies[-1]
        assert user("EXISTS", "k0") == 0


def test_a_quota_is_charged_for_the_work_of_its_own_connections_alone(server: Process, wire2: Wire) -> None:
    assert wire2("DEBUG", "POPULATE", "20000", "key", "100") == OK
    with Wire(server.address) as user:
        assert wire2("BRANCH", "CREATE", "x", "MAXMEMORY", "8000000") == OK
        assert user("BRANCH", "USE", "x") == OK
        for turn in range(300):
            assert user("BRANCH", "CREATE", f"b{turn}") == OK
            assert user("BRANCH", "DROP", f"b{turn}") == OK
            assert user("SNAPSHOT", "CREATE", "s", "FROM", "main") == OK
            assert user("SNAPSHOT", "DROP", "s") == OK
        assert int(fields_of(wire2, "x")["own_bytes"]) < 100_000
        assert wire2("FLUSHALL") == OK  # what others release is not given to it
        assert user("SET", "a", b"v" * 2_000_000) == OK
        settled_frames(wire2)
        assert int(fields_of(wire2, "x")["own_bytes"]) >= 2_000_000
        assert user("DEBUG", "RELOAD").text.startswith("ERR")
        assert int(fields_of(wire2, "x")["own_bytes"]) >= 2_000_000


@pytest.mark.parametrize("user", ["main", "x"])
def test_a_thousand_branches_come_and_go_and_leave_nothing(server: Process, wire2: Wire, user: str) -> None:
    def resources() -> tuple[int, int]:
        descriptors = len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))
        return settled_frames(wire2), descriptors

    assert wire2("DEBUG", "POPULATE", "1000") == OK
    assert wire2("BRANCH", "CREATE", "x") == OK
    with Wire(server.address) as other:
        assert other("BRANCH", "USE", user) == OK

        def rounds(count: int) -> None:
            for turn in range(count):
                commands = [
                    ("BRANCH", "CREATE", "t", "FROM", "main"), ("SNAPSHOT", "CREATE", "s", "FROM", "t"), ("BRANCH", "USE", "t"),
                    ("SET", "key:1", turn), ("DEL", "key:2"), ("RPUSH", "l", "a"), ("BRANCH", "RESET"), ("SET", "key:3", turn),
                    ("SNAPSHOT", "RESTORE", "s"), ("BRANCH", "USE", user), ("BRANCH", "DROP", "t"), ("SNAPSHOT", "DROP", "s"),
                ]  # fmt: skip
                replies = other.pipeline(commands)
                assert [reply for reply in replies if isinstance(reply, Failure)] == [], replies

        rounds(20)
        before = resources()
        memory = int(info(wire2)["used_memory_rss"])
        rounds(1000)
        assert resources() == before
        assert int(info(wire2)["used_memory_rss"]) < memory + (4 << 20)
        assert len(wire2("BRANCH", "LIST")) == 2


# ------------------------------------------------------------------------------------------------------------ expiry


def test_restored_keys_whose_time_has_passed_are_gone_and_a_snapshot_hides_them(server: Process, wire2: Wire) -> None:
    for command in (
        ("SET", "a", "1", "PX", "500"),
        ("SET", "b", "1"),
        ("SNAPSHOT", "CREATE", "s"),
        ("BRANCH", "CREATE", "x"),
        ("PERSIST", "a"),
    ):
        wire2(*command)
    with Wire(server.address) as there:
        assert there("BRANCH", "USE", "s") == OK
        assert there.pipeline([("GET", "a"), ("DBSIZE",)]) == [b"1", 2]
        assert wire2("DEBUG", "SHIFT-CLOCK", "WALL", "1000") == OK
        try:
            assert wire2("GET", "a") == b"1"
            assert there.pipeline([("GET", "a"), ("EXISTS", "a"), ("TTL", "a"), ("KEYS", "*"), ("RANDOMKEY",), ("GET", "b")]) == [
                None, 0, -2, [b"b"], b"b", b"1",
            ]  # fmt: skip
            assert there.pipeline([("BRANCH", "USE", "x"), ("GET", "a"), ("DBSIZE",)]) == [OK, None, 1]
            assert wire2("SNAPSHOT", "RESTORE", "s") == OK
            assert wire2("GET", "a") is None
            assert wire2("DEBUG", "SHIFT-CLOCK", "WALL", "-1000") == OK
            assert there.pipeline([("BRANCH", "USE", "s"), ("GET", "a")]) == [OK, b"1"]
        finally:
            for _ in range(2):
                wire2("DEBUG", "SHIFT-CLOCK", "WALL", "0")


# ------------------------------------------------------------------------------------------- commands about the server


def test_a_snapshot_cannot_be_written_by_any_way(server: Process, wire: Wire) -> None:
    with Wire(server.address) as other:
        assert other("DEBUG", "POPULATE", "3000") == OK
        for start in range(0, 20_000, 1000):
            assert other("SADD", "big", *(f"member {i}" for i in range(start, start + 1000))) == 1000
        assert (
            other.pipeline(
                [
                    ("SELECT", "1"),
                    ("DEBUG", "POPULATE", "3000"),
                    ("SELECT", "0"),
                    ("UNLINK", "big"),
                    ("SNAPSHOT", "CREATE", "s"),
                ]
            )[-1]
            == OK
        )
        assert other.pipeline([("SELECT", "1"), ("FLUSHDB",), ("SNAPSHOT", "CREATE", "t")])[-1] == OK
    for name in ("s", "t"):
        assert wire("BRANCH", "USE", name) == OK
        digest = wire("DEBUG", "DIGEST")
        for command in (
            ("SET", "a", "1"), ("FLUSHALL",), ("FLUSHDB",), ("SWAPDB", "0", "1"), ("DEBUG", "POPULATE", "10000"), ("EXPIRE", "key:1", "0"),
            ("GETDEL", "key:1"), ("GETEX", "key:1", "PX", "1"), ("COPY", "key:1", "b"), ("SORT", "k", "STORE", "l"), ("RESTORE", "a", "0", "x"),
            ("BLPOP", "k", "0.01"), ("LMPOP", "1", "k", "LEFT"), ("RENAME", "key:1", "b"), ("DEBUG", "RELOAD"),
        ):  # fmt: skip
            reply = wire(*command)
            assert isinstance(reply, Failure), (command, reply)
        assert wire.pipeline([("MULTI",), ("SET", "a", "1"), ("EXEC",)])[-1].text.startswith("EXECABORT")
        for command in (
            ("MEMORY", "PURGE"),
            ("MEMORY", "DOCTOR"),
            ("INFO",),
            ("OBJECT", "FREQ", "key:1"),
            ("OBJECT", "IDLETIME", "key:1"),
            ("TOUCH", "key:1"),
            ("GET", "key:1"),
            ("MEMORY", "STATS"),
            ("DEBUG", "OBJECT", "key:1"),
        ):
            wire(*command)
        assert wire("PING") == Status("PONG")
        assert wire("DEBUG", "DIGEST") == digest


def test_debug_works_on_the_store_at_hand_and_reload_on_main_alone(wire: Wire) -> None:
    assert wire("SET", "a", "1") == OK
    main = wire("DEBUG", "DIGEST")
    for command in (("BRANCH", "CREATE", "x"), ("BRANCH", "USE", "x")):
        assert wire(*command) == OK
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
    for command in (
        ("BRANCH", "CREATE", "x"),
        ("BRANCH", "USE", "x"),
        ("SET", "b", "1"),
        ("SET", "c", "1", "EX", "100"),
    ):
        assert wire2(*command) == OK
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
    commands: list[tuple[Argument, ...]] = []
    for turn in range(100):
        commands += [
            ("BRANCH", "CREATE", "x"), ("BRANCH", "USE", "x"), ("SET", "a", turn), ("BRANCH", "DROP", "x", "FORCE"), ("GET", "a"),
            ("BRANCH", "CREATE", "x", "FROM", "main"), ("BRANCH", "USE", "x"), ("GET", "a"), ("BRANCH", "USE", "main"), ("BRANCH", "DROP", "x"),
        ]  # fmt: skip
    assert wire2.pipeline(commands) == [OK, OK, OK, OK, Failure(DROPPED), OK, OK, None, OK, OK] * 100
