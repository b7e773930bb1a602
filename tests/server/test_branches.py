"""BRANCH and SNAPSHOT over the wire: each subcommand, option and error; pipelines; users and passwords."""

from pathlib import Path

import pytest
import redis

from tests.harness import Process
from tests.server.branching import NOBRANCH, drop_all, fields_of, play
from tests.server.wire import (
    OK,
    QUEUED,
    Argument,
    Failure,
    Status,
    Wire,
    agrees,
    encode,
    expectation,
    run_transcript,
    words,
)

pytestmark = pytest.mark.usefixtures("stores")

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
BRANCH USE b -> !ERR a connection that watches keys, is subscribed or tracks keys cannot change its branch...
BRANCH USE main -> OK
AUTH default@b "" -> !ERR a connection that watches keys, is subscribed or tracks keys cannot change its branch...
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
    assert play(wire, "BRANCH CREATE x TTL 100; SNAPSHOT CREATE s FROM x; BRANCH USE x") == [OK] * 3
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
    replies = play(wire, "SET a 1; BRANCH USE x; MULTI; SET a 2; BRANCH CURRENT; EXEC")
    replies += play(wire, "MULTI; SET a 3; GET a; EXEC; BRANCH USE main; GET a")
    not_allowed = Failure("ERR Command not allowed inside a transaction")
    assert replies[:5] == [OK, OK, OK, QUEUED, not_allowed]
    assert replies[5].text.startswith("EXECABORT")
    assert replies[6:] == [OK, QUEUED, QUEUED, [OK, b"3"], OK, b"1"]


def test_auth_within_a_transaction_changes_no_store(wire: Wire) -> None:
    assert wire("BRANCH", "CREATE", "x") == OK
    replies = play(wire, 'MULTI; AUTH default@x ""; HELLO 2 AUTH default@x ""; SET a 1; EXEC')
    not_allowed = Failure("ERR Command not allowed inside a transaction")
    assert replies == [OK, QUEUED, QUEUED, QUEUED, [not_allowed, not_allowed, OK]]
    assert wire("BRANCH", "CURRENT") == b"main"
    assert wire("DBSIZE") == 1
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
    assert play(wire, "SELECT 3; SET a 1; BRANCH USE x; GET a; SET a 2") == [OK, OK, OK, None, OK]
    assert play(wire, "BRANCH USE main; GET a; SELECT 0; DBSIZE") == [OK, b"1", OK, 0]


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
