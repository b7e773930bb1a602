r"""maxmemory with noeviction: writes that need memory are refused, all other commands are served."""

import pytest

from tests.server.wire import OK, QUEUED, Failure, Wire, info

OUT_OF_MEMORY = Failure("OOM command not allowed when used memory > 'maxmemory'.")

REFUSED = [
    ("SET", "k", "v"),
    ("SETNX", "new", "v"),
    ("SETEX", "k", "100", "v"),
    ("PSETEX", "k", "100000", "v"),
    ("GETSET", "k", "v"),
    ("MSET", "k", "v"),
    ("MSETNX", "new", "v"),
    ("APPEND", "k", "v"),
    ("SETRANGE", "k", "0", "v"),
    ("INCR", "n"),
    ("DECR", "n"),
    ("INCRBY", "n", "1"),
    ("DECRBY", "n", "1"),
    ("INCRBYFLOAT", "n", "1"),
    ("COPY", "k", "new"),
]
SERVED = [
    ("GET", "k"),
    ("MGET", "k", "n"),
    ("STRLEN", "k"),
    ("EXPIRE", "k", "100"),
    ("PERSIST", "k"),
    ("GETEX", "k", "EX", "100"),
    ("RENAME", "k", "l"),
    ("RENAME", "l", "k"),
    ("MOVE", "k", "1"),
    ("GETDEL", "n"),
    ("DEL", "n"),
    ("UNLINK", "n"),
    ("SWAPDB", "0", "1"),
    ("SWAPDB", "0", "1"),
    ("SCAN", "0"),
    ("KEYS", "*"),
    ("CONFIG", "GET", "maxmemory"),
    ("FLUSHDB",),
    ("FLUSHALL",),
]


@pytest.fixture
def full(wire: Wire):
    """A server whose data are above maxmemory."""
    wire("MSET", "k", b"x" * 100_000, "n", "1")
    assert wire("CONFIG", "SET", "maxmemory", "50000") == OK
    yield wire
    assert wire("CONFIG", "SET", "maxmemory", "0") == OK


def test_every_write_that_may_need_memory_is_refused(full: Wire) -> None:
    """The error is Redis's, and nothing is changed."""
    for command in REFUSED:
        assert full(*command) == OUT_OF_MEMORY, command
    assert full("STRLEN", "k") == 100_000
    assert full("GET", "n") == b"1"
    assert full("EXISTS", "new") == 0


def test_everything_else_is_served(full: Wire) -> None:
    """This includes reads, deletions, deadlines, renames, and CONFIG SET of the limit."""
    for command in SERVED:
        assert not isinstance(full(*command), Failure), command


def test_a_transaction_is_refused_when_it_queues_and_when_it_runs(full: Wire, server) -> None:
    """As in Redis, queueing is refused, which aborts it; or EXEC is, if memory ran out in between."""
    assert full("MULTI") == OK
    assert full("SET", "k", "v") == OUT_OF_MEMORY
    assert full("EXEC") == Failure("EXECABORT Transaction discarded because of previous errors.")
    assert full("CONFIG", "SET", "maxmemory", "0") == OK
    assert full("MULTI") == OK
    assert full("SET", "k", "v") == QUEUED
    with Wire(server.address) as other:
        assert other("CONFIG", "SET", "maxmemory", "50000") == OK
    reply = full("EXEC")
    assert isinstance(reply, Failure)
    assert "OOM" in reply.text
    assert full("STRLEN", "k") == 100_000


def test_the_store_fills_up_to_the_limit_and_recovers(wire2: Wire) -> None:
    """It stops near maxmemory, keeps all accepted data, and accepts more after deletions."""
    base = int(info(wire2, "memory")["used_memory"])
    limit = base + 8_000_000
    assert wire2("CONFIG", "SET", "maxmemory", limit) == OK
    try:
        accepted = []
        for start in range(0, 40_000, 500):
            replies = wire2.pipeline([("SET", f"k{i}", b"%d" % i * 100) for i in range(start, start + 500)])
            accepted += [start + i for i, reply in enumerate(replies) if reply == OK]
            assert all(reply in (OK, OUT_OF_MEMORY) for reply in replies)
            if replies[-1] == OUT_OF_MEMORY:
                break
        assert replies[-1] == OUT_OF_MEMORY
        assert int(info(wire2, "memory")["used_memory"]) < limit + 1_000_000
        assert len(accepted) * 500 > 4_000_000
        assert wire2("DBSIZE") == len(accepted)
        sample = accepted[:: max(1, len(accepted) // 200)]
        assert wire2("MGET", *(f"k{i}" for i in sample)) == [b"%d" % i * 100 for i in sample]
        wire2.pipeline([("DEL", f"k{i}") for i in accepted[: len(accepted) // 2]])
        assert wire2("SET", "again", "v") == OK
    finally:
        assert wire2("CONFIG", "SET", "maxmemory", "0") == OK
