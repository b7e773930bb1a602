"""DEBUG over the wire: permission, POPULATE, and digests equal to a real redis-server's for the same data."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import Process
from tests.server.conftest import Start
from tests.server.wire import OK, Failure, Status, Wire, info, run_transcript

NOT_ALLOWED = Failure(
    'ERR DEBUG command not allowed. If the enable-debug-command option is set to "local", you can run it from a local '
    "connection, otherwise you need to set this option in the configuration file, and then restart the server."
)
NONE = Status("0" * 40)


def test_forms_and_errors(wire: Wire) -> None:
    run_transcript(
        wire,
        """
        DEBUG DIGEST-VALUE -> []
        DEBUG DIGEST x -> !ERR unknown subcommand or wrong number of arguments for 'DIGEST'. Try DEBUG HELP.
        DEBUG POPULATE -> !ERR unknown subcommand or wrong number of arguments for 'POPULATE'. Try DEBUG HELP.
        DEBUG POPULATE 1 2 3 4 -> !ERR unknown subcommand or wrong number of arguments for 'POPULATE'. Try DEBUG HELP.
        DEBUG POPULATE x -> !ERR value is out of range, must be positive
        DEBUG POPULATE -1 -> !ERR value is out of range, must be positive
        DEBUG POPULATE 01 -> !ERR value is out of range, must be positive
        DEBUG POPULATE 9223372036854775808 -> !ERR value is out of range, must be positive
        DEBUG POPULATE 3 p x -> !ERR value is out of range, must be positive
        DEBUG POPULATE 3 p -1 -> !ERR value is out of range, must be positive
        DBSIZE -> 0
        DEBUG POPULATE 0 -> OK
        DEBUG POPULATE 3 -> OK
        MGET key:0 key:1 key:2 key:3 -> ["value:0", "value:1", "value:2", nil]
        DEBUG DIGEST-VALUE key:1 -> [ec4b7bec343ec862c8bd5dd8feab05ec1e9e6703]
        debug populate 2 q 10 -> OK
        MGET q:0 q:1 -> ["value:0\\x00\\x00\\x00", "value:1\\x00\\x00\\x00"]
        DEBUG POPULATE 2 r 3 -> OK
        MGET r:0 r:1 -> ["val", "val"]
        DEBUG POPULATE 2 q 3 -> OK
        STRLEN q:1 -> 10
        OBJECT ENCODING q:1 -> "embstr"
        DEBUG POPULATE 1 q 45 -> OK
        DEBUG POPULATE 1 s 45 -> OK
        OBJECT ENCODING s:0 -> "raw"
        DBSIZE -> 8
        FLUSHALL -> OK
        """,
    )
    assert wire("DEBUG", "DIGEST") == NONE
    assert wire("DEBUG", "DIGEST-VALUE", "missing", "") == [NONE, NONE]


@pytest.fixture
def both(wire2: Wire, redis_server: Process) -> Iterator[tuple[Wire, Wire]]:
    """Connections to the server and to a real redis-server, both empty and without active expiry."""
    with Wire(redis_server.address) as real:
        for wire in (wire2, real):
            assert wire("FLUSHALL") == OK
            assert wire("DEBUG", "SET-ACTIVE-EXPIRE", "0") == OK
        yield wire2, real
        for wire in (wire2, real):
            assert wire("DEBUG", "SET-ACTIVE-EXPIRE", "1") == OK


def the_same(both: tuple[Wire, Wire], *command: object) -> object:
    """The reply to a command, which must be the same on both."""
    replies = [wire(*command) for wire in both]
    assert replies[0] == replies[1], command
    return replies[0]


VALUES = [b"", b"0", b"12345", b"-9223372036854775808", b"9223372036854775808", b"007", b"1.5", b"v" * 44, b"w" * 45,
          b"x" * 63, b"y" * 64, b"z" * 5000, bytes(range(256)) * 300]  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_digests_are_redis_s_for_the_same_data(both: tuple[Wire, Wire], seed: int) -> None:
    rng = random.Random(seed)
    keys = [b"", b"\x00\xff\r\n", b"L" * 6000, *(b"key%d" % i for i in range(40))]
    for _ in range(300):
        the_same(both, "SELECT", rng.choice((0, 1, 9, 15)))
        key = rng.choice(keys)
        command = rng.choice(("SET", "SET", "INCRBY", "APPEND", "DEL", "EXPIREAT", "PERSIST", "POPULATE"))
        if command == "SET":
            the_same(both, "SET", key, rng.choice(VALUES), *rng.choice(((), ("EX", 1000))))
        elif command == "INCRBY":
            the_same(both, "INCRBY", key, rng.randrange(-100, 10**12))
        elif command == "APPEND":
            the_same(both, "APPEND", key, rng.choice(VALUES))
        elif command == "EXPIREAT":
            the_same(both, "EXPIREAT", key, 4_000_000_000 + rng.randrange(1000))
        elif command == "POPULATE":
            options = rng.choice(((), ("p",), ("q", 3), ("q" * 126, 10), ("r\0s", 200)))
            the_same(both, "DEBUG", "POPULATE", rng.randrange(30), *options)
        else:
            the_same(both, command, key)
    assert the_same(both, "DEBUG", "DIGEST") != NONE
    for db in (0, 1, 2, 9, 15):
        the_same(both, "SELECT", db)
        the_same(both, "DBSIZE")
        the_same(both, "DEBUG", "DIGEST-VALUE", *keys)
    the_same(both, "FLUSHALL")
    assert the_same(both, "DEBUG", "DIGEST") == NONE


def test_a_key_that_is_due_and_not_deleted_yet_is_in_the_digest_as_in_redis(both: tuple[Wire, Wire]) -> None:
    the_same(both, "SET", "k", "v", "PX", 1)
    the_same(both, "SET", "other", "v")
    the_same(both, "DEBUG", "SLEEP", "0.01")
    with_it = the_same(both, "DEBUG", "DIGEST")
    value = the_same(both, "DEBUG", "DIGEST-VALUE", "k")
    assert value != [NONE]
    assert the_same(both, "DBSIZE") == 2  # neither of the two deleted it
    assert the_same(both, "GET", "k") is None
    assert the_same(both, "DBSIZE") == 1
    assert the_same(both, "DEBUG", "DIGEST-VALUE", "k") == [NONE]
    assert the_same(both, "DEBUG", "DIGEST") != with_it


def test_populate_and_digest_within_a_transaction(wire: Wire, ours: None) -> None:
    """Later commands find their own arguments; POPULATE uses the database selected within the transaction."""
    alone = [("SELECT", 2), ("DEBUG", "POPULATE", 50, "p", 20), ("DEBUG", "DIGEST"), ("DBSIZE",), ("GET", "p:49")]
    replies = wire.pipeline([("MULTI",), *alone, ("EXEC",)])[-1]
    assert replies[:2] == [OK, OK]
    assert replies[2:] == [replies[2], 50, b"value:49".ljust(20, b"\0")]
    assert wire("DEBUG", "DIGEST") == replies[2]


def test_populate_tells_who_watches_a_key(wire2: Wire) -> None:
    assert wire2("WATCH", "key:3") == OK
    assert wire2("DEBUG", "POPULATE", 3) == OK
    assert wire2.pipeline([("MULTI",), ("PING",), ("EXEC",)])[-1] == [Status("PONG")]
    assert wire2("WATCH", "key:3") == OK
    assert wire2("DEBUG", "POPULATE", 4) == OK
    assert wire2.pipeline([("MULTI",), ("PING",), ("EXEC",)])[-1] != [Status("PONG")]


def test_a_snapshot_keeps_the_digest(start, tmp_path: Path, ours: None) -> None:
    with start(tmp_path) as server, Wire(server.address) as wire:
        assert wire("DEBUG", "POPULATE", 20_000, "key", 100) == OK
        digest = wire("DEBUG", "DIGEST")
        assert wire("DEBUG", "RELOAD") == OK
        assert wire("DEBUG", "DIGEST") == digest != NONE
        server.terminate()
    with start(tmp_path) as server, Wire(server.address) as wire:
        assert wire("DEBUG", "DIGEST") == digest


@pytest.mark.parametrize(("setting", "allowed"), [("", False), ("no", False), ("local", True), ("yes", True)])
def test_who_may_is_what_the_option_says(start, tmp_path: Path, setting: str, allowed: bool) -> None:
    """It is off by default, and cannot be turned on while the server runs."""
    option = "enable-debug-command"
    with start(tmp_path, debug=setting) as server:
        for address in (server.address, server.unix_socket):
            with Wire(address) as wire:
                for command in (("DEBUG", "SLEEP", "0"), ("debug", "sleep", "0")):
                    assert wire(*command) == (OK if allowed else NOT_ALLOWED)
                if not allowed:
                    assert wire("DEBUG", "HELP") == NOT_ALLOWED
                    assert wire("DEBUG", "NOSUCH") == NOT_ALLOWED
        with Wire(server.address) as wire:
            assert wire("CONFIG", "GET", option) == [option.encode(), (setting or "no").encode()]
            assert wire("CONFIG", "SET", option, "yes") == Failure(
                f"ERR CONFIG SET failed (possibly related to argument '{option}') - can't set immutable config"
            )


def test_a_population_that_runs_out_of_memory_undoes_its_transaction(start: Start, tmp_path: Path) -> None:
    with start(tmp_path, options=("--machine-memory", "16mb")) as server, Wire(server.address) as wire:
        assert wire("SET", "key", "before") == OK
        digest = wire("DEBUG", "DIGEST")
        assert wire("MULTI") == OK
        wire("APPEND", "key", "after")
        wire("DEBUG", "POPULATE", 3900, "many", 4000)
        answer = wire("EXEC")
        assert isinstance(answer, Failure) and "EXECABORT Transaction discarded because of: OOM" in repr(answer)
        assert wire("DEBUG", "DIGEST") == digest
        assert info(wire, "machine")["transactions_undone"] == "1"
