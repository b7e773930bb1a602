r"""MULTI, EXEC, DISCARD, WATCH, UNWATCH; the transcripts are Redis's own."""

import random
import threading

import pytest
import redis

from tests.server.wire import NULL_ARRAY, OK, QUEUED, Failure, Wire, info, run_transcript

TRANSCRIPTS = {
    "a transaction's replies come together": r"""
        MULTI -> OK
        SET a 1 -> QUEUED
        INCR a -> QUEUED
        GET missing -> QUEUED
        MGET a missing -> QUEUED
        PING -> QUEUED
        EXEC -> [OK, 2, nil, ["2", nil], PONG]
        MULTI -> OK
        EXEC -> []
    """,
    "errors at run time do not stop it": r"""
        SET k abc -> OK
        MULTI -> OK
        INCR k -> QUEUED
        SET other 1 -> QUEUED
        EXPIRE k x -> QUEUED
        EXEC -> [!ERR value is not an integer or out of range, OK, !ERR value is not an integer or out of range]
        GET other -> "1"
    """,
    "errors while queueing abort it": r"""
        MULTI -> OK
        SET a 1 -> QUEUED
        FOO -> !ERR unknown command 'FOO', with args beginning with:...
        EXEC -> !EXECABORT Transaction discarded because of previous errors.
        GET a -> nil
        MULTI -> OK
        GET -> !ERR wrong number of arguments for 'get' command
        SET a 1 -> QUEUED
        EXEC -> !EXECABORT Transaction discarded because of previous errors.
        GET a -> nil
        MULTI -> OK
        GET -> !ERR wrong number of arguments for 'get' command
        DISCARD -> OK
        SET a 1 -> OK
    """,
    "discard": r"""
        DISCARD -> !ERR DISCARD without MULTI
        MULTI -> OK
        SET a 1 -> QUEUED
        DISCARD -> OK
        GET a -> nil
        EXEC -> !ERR EXEC without MULTI
    """,
    "out of place": r"""
        EXEC -> !ERR EXEC without MULTI
        MULTI -> OK
        MULTI -> !ERR MULTI calls can not be nested
        WATCH a -> !ERR WATCH inside MULTI is not allowed
        EXEC -> []
        UNWATCH -> OK
        WATCH -> !ERR wrong number of arguments for 'watch' command
        MULTI x -> !ERR wrong number of arguments for 'multi' command
        EXEC x -> !EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command
        MULTI -> OK
        SET a 1 -> QUEUED
        EXEC x -> !EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command
        EXEC -> !ERR EXEC without MULTI
        GET a -> nil
        MULTI -> OK
        DISCARD x -> !ERR wrong number of arguments for 'discard' command
        EXEC -> !EXECABORT Transaction discarded because of previous errors.
        MULTI -> OK
        UNWATCH -> QUEUED
        EXEC -> [OK]
    """,
    "commands refused in one": r"""
        MULTI -> OK
        SAVE -> !ERR Command not allowed inside a transaction
        EXEC -> !EXECABORT Transaction discarded because of previous errors.
        MULTI -> OK
        SHUTDOWN -> !ERR Command not allowed inside a transaction
        EXEC -> !EXECABORT Transaction discarded because of previous errors.
    """,
    "select inside one": r"""
        MULTI -> OK
        SET a zero -> QUEUED
        SELECT 1 -> QUEUED
        SET a one -> QUEUED
        FLUSHDB -> QUEUED
        SET a two -> QUEUED
        EXEC -> [OK, OK, OK, OK, OK]
        GET a -> "two"
        SELECT 0 -> OK
        GET a -> "zero"
    """,
    "commands that Python serves, inside one": r"""
        MULTI -> OK
        SET a 1 -> QUEUED
        CLIENT SETNAME me -> QUEUED
        CONFIG GET appendonly -> QUEUED
        CLIENT GETNAME -> QUEUED
        INCR a -> QUEUED
        OBJECT ENCODING a -> QUEUED
        OBJECT HELP x -> !ERR wrong number of arguments for 'object|help' command
        DISCARD -> OK
        MULTI -> OK
        SET a 1 -> QUEUED
        CLIENT SETNAME me -> QUEUED
        CONFIG GET appendonly -> QUEUED
        CLIENT GETNAME -> QUEUED
        INCR a -> QUEUED
        CLIENT SETNAME "" -> QUEUED
        EXEC -> [OK, OK, {"appendonly": "no"}, "me", 2, OK]
        CLIENT GETNAME -> nil
    """,
    "watching keys nobody touches": r"""
        SET a 1 -> OK
        WATCH a b c -> OK
        WATCH a -> OK
        GET a -> "1"
        MULTI -> OK
        INCR a -> QUEUED
        EXEC -> [2]
        MULTI -> OK
        INCR a -> QUEUED
        EXEC -> [3]
    """,
    "one's own changes count": r"""
        WATCH a -> OK
        SET a 1 -> OK
        MULTI -> OK
        GET a -> QUEUED
        EXEC -> nil*
        MULTI -> OK
        GET a -> QUEUED
        EXEC -> ["1"]
        WATCH a -> OK
        SET a 2 -> OK
        UNWATCH -> OK
        MULTI -> OK
        GET a -> QUEUED
        EXEC -> ["2"]
        WATCH a -> OK
        SET a 3 -> OK
        MULTI -> OK
        DISCARD -> OK
        MULTI -> OK
        GET a -> QUEUED
        EXEC -> ["3"]
    """,
    "a command error wins over a changed key": r"""
        WATCH a -> OK
        SET a 1 -> OK
        MULTI -> OK
        FOO -> !ERR unknown command...
        EXEC -> !EXECABORT Transaction discarded because of previous errors.
        MULTI -> OK
        EXEC -> []
    """,
    "reset ends one": r"""
        MULTI -> OK
        SET a 1 -> QUEUED
        RESET -> RESET
        EXEC -> !ERR EXEC without MULTI
        GET a -> nil
    """,
}


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_transcript(wire: Wire, name: str) -> None:
    """The transcript's replies are the server's."""
    run_transcript(wire, TRANSCRIPTS[name])


SETUP = ("MSET", "k", "1", "other", "2")
TOUCHING = [
    ("SET", "k", "1"),
    ("SET", "k", "2", "KEEPTTL"),
    ("SET", "k", "2", "GET"),
    ("SETEX", "k", "100", "1"),
    ("GETSET", "k", "1"),
    ("GETDEL", "k"),
    ("GETEX", "k", "EX", "100"),
    ("GETEX", "k", "PXAT", "1"),
    ("MSET", "x", "1", "k", "1"),
    ("APPEND", "k", "1"),
    ("SETRANGE", "k", "0", "1"),
    ("INCR", "k"),
    ("DECRBY", "k", "0"),
    ("INCRBYFLOAT", "k", "0"),
    ("DEL", "k"),
    ("UNLINK", "k"),
    ("EXPIRE", "k", "100"),
    ("EXPIRE", "k", "-1"),
    ("PEXPIREAT", "k", "99999999999000"),
    ("RENAME", "k", "x"),
    ("RENAME", "other", "k"),
    ("RENAMENX", "k", "x"),
    ("COPY", "other", "k", "REPLACE"),
    ("MOVE", "k", "1"),
    ("FLUSHDB",),
    ("FLUSHALL",),
    ("FLUSHALL", "ASYNC"),
    ("SWAPDB", "0", "1"),
    ("SWAPDB", "1", "0"),
]
NOT_TOUCHING = [
    ("GET", "k"),
    ("SET", "k", "2", "NX"),
    ("SETNX", "k", "2"),
    ("MSETNX", "k", "2", "x", "1"),
    ("GETEX", "k"),
    ("GETEX", "k", "PERSIST"),
    ("PERSIST", "k"),
    ("EXPIRE", "k", "100", "XX"),
    ("APPEND", "k2", "1"),
    ("SETRANGE", "k", "5", ""),
    ("INCRBY", "k", "abc"),
    ("DEL", "missing"),
    ("TOUCH", "k"),
    ("RENAMENX", "other", "k"),
    ("COPY", "k", "x"),
    ("COPY", "other", "k"),
    ("MOVE", "missing", "1"),
    ("SWAPDB", "2", "1"),
    ("SWAPDB", "0", "0"),
    ("SET", "other", "k"),
]


@pytest.mark.parametrize("command", TOUCHING, ids=" ".join)
def test_a_change_by_another_client_fails_the_transaction(wire: Wire, wire2: Wire, command: tuple[str, ...]) -> None:
    """Every change of a watched key makes EXEC answer null and do nothing."""
    wire2(*SETUP)
    assert wire("WATCH", "k") == OK
    assert not isinstance(wire2(*command), Failure)
    assert wire("MULTI") == OK
    assert wire("SET", "done", "1") == QUEUED
    assert wire("EXEC") == (NULL_ARRAY if wire.protocol == 2 else None)
    assert wire("EXISTS", "done") == 0


@pytest.mark.parametrize("command", NOT_TOUCHING, ids=" ".join)
def test_what_changes_nothing_fails_nothing(wire2: Wire, wire: Wire, command: tuple[str, ...]) -> None:
    """Reading a watched key is not a change, and neither is a write that has no effect on it."""
    wire2(*SETUP)
    assert wire("WATCH", "k") == OK
    wire2(*command)
    assert wire("MULTI") == OK
    assert wire("SET", "done", "1") == QUEUED
    assert wire("EXEC") == [OK]


def test_a_swap_changes_only_what_is_in_either_database(wire: Wire, wire2: Wire) -> None:
    """A watched key that neither database has is unchanged; a key that the other database brings is changed."""
    wire2("SELECT", 1)
    wire2("SET", "there", "1")
    for key, touched in (("nowhere", False), ("there", True)):
        wire("WATCH", key)
        assert wire2("SWAPDB", 0, 1) == OK
        wire("MULTI")
        wire("PING")
        reply = wire("EXEC")
        assert (reply in (NULL_ARRAY, None)) == touched
        assert wire2("SWAPDB", 0, 1) == OK


def test_a_watched_key_that_did_not_exist(wire: Wire, wire2: Wire) -> None:
    """Its creation is a change; a flush without it is not."""
    wire2("SET", "other", "1")
    wire("WATCH", "k")
    wire2("FLUSHALL")
    wire("MULTI")
    assert wire("EXEC") == []
    wire("WATCH", "k")
    wire2("SETNX", "k", "v")
    wire("MULTI")
    assert wire("EXEC") in (NULL_ARRAY, None)


def test_a_watched_key_in_another_database(wire: Wire, wire2: Wire) -> None:
    """A watch refers to the database that was selected when it was set."""
    wire("SELECT", 3)
    wire("WATCH", "k")
    wire("SELECT", 0)
    wire2("SET", "k", "v")
    wire("MULTI")
    assert wire("EXEC") == []
    wire("SELECT", 3)
    wire("WATCH", "k")
    wire("SELECT", 0)
    wire2("SELECT", 3)
    wire2("SET", "k", "v")
    wire("MULTI")
    assert wire("EXEC") in (NULL_ARRAY, None)


def test_a_watched_key_that_expires(wire: Wire, wire2: Wire) -> None:
    """Expiry of a watched key fails the transaction, as a deletion does; expiry before WATCH does not."""
    wire2("SET", "k", "v", "PX", 50)
    wire("WATCH", "k")
    while wire2("EXISTS", "k"):
        pass
    wire("MULTI")
    wire("PING")
    assert wire("EXEC") in (NULL_ARRAY, None)


def test_a_hundred_thousand_keys_can_be_watched(ours: None, wire: Wire, wire2: Wire) -> None:
    keys = [f"key:{i}" for i in range(100_000)]
    for touched, answer in ((None, ["PONG"]), ("key:99999", None)):
        assert wire("WATCH", *keys) == OK
        assert wire("WATCH", *keys[::-1]) == OK  # watched already
        assert int(info(wire2, "clients")["total_watched_keys"]) == 100_000
        assert int(info(wire2, "memory")["mem_clients_normal"]) > 100_000 * 80
        if touched:
            assert wire2("SET", touched, "v") == OK
        assert wire("MULTI") == OK
        assert wire("PING") == QUEUED
        reply = wire("EXEC")
        assert [one.text for one in reply] == answer if answer else reply in (None, NULL_ARRAY)
        assert int(info(wire2, "clients")["total_watched_keys"]) == 0
    assert wire("WATCH", *keys) == OK
    assert wire("UNWATCH") == OK
    assert int(info(wire2, "clients")["total_watched_keys"]) == 0


def test_nobody_comes_between_the_commands_of_a_transaction(server, wire2: Wire) -> None:
    """Transfers between accounts by several clients at once: every reader sees the same sum."""
    accounts = [f"account:{i}" for i in range(4)]
    wire2("MSET", *(word for account in accounts for word in (account, "1000")))
    stop = threading.Event()
    failures: list[object] = []

    def transfer(seed: int) -> None:
        generator = random.Random(seed)
        with Wire(server.address) as connection:
            while not stop.is_set():
                source, target = generator.sample(accounts, 2)
                amount = generator.randrange(50)
                replies = connection.pipeline(
                    [("MULTI",), ("DECRBY", source, amount), ("INCRBY", target, amount), ("EXEC",)]
                )
                if not isinstance(replies[3], list):
                    failures.append(replies)

    threads = [threading.Thread(target=transfer, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(1000):
            assert sum(map(int, wire2("MGET", *accounts))) == 4000
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures


def test_optimistic_increments_lose_nothing(server) -> None:
    """WATCH, read, MULTI, write, EXEC by several clients: the count is exact (redis-py's own transaction helper)."""

    def increment(name: str) -> None:
        client = redis.Redis(server.host, server.port)
        for _ in range(100):

            def body(pipe: redis.client.Pipeline) -> None:
                current = int(pipe.get("counter") or 0)
                pipe.multi()
                pipe.set("counter", current + 1)

            client.transaction(body, "counter")
        client.close()

    threads = [threading.Thread(target=increment, args=(str(i),)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with redis.Redis(server.host, server.port) as client:
        assert client.get("counter") == b"300"


def test_a_transaction_of_ten_thousand_commands_with_large_values(wire: Wire) -> None:
    """The queue has no limit of its own."""
    big = b"x" * 100_000
    commands: list[tuple[object, ...]] = [("SET", f"k{i}", big if i % 500 == 0 else i) for i in range(10_000)]
    replies = wire.pipeline([("MULTI",), *commands, ("STRLEN", "k500"), ("EXEC",)])
    assert replies[0] == OK
    assert replies[1:-1] == [QUEUED] * 10_001
    assert replies[-1] == [OK] * 10_000 + [100_000]
    assert wire("DBSIZE") == 10_000


def test_a_client_that_leaves_in_a_transaction_leaves_nothing(server, wire2: Wire) -> None:
    """Its queue and its watches are deleted."""
    for _ in range(50):
        with Wire(server.address) as connection:
            connection("WATCH", "k", "l")
            connection("MULTI")
            connection("SET", "k", b"x" * 10_000)
    wire2("SET", "k", "mine")
    assert wire2("GET", "k") == b"mine"
