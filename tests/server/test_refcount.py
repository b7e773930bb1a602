"""OBJECT REFCOUNT: usually 1, Redis's own number for small integers, and 2 for values that EXEC's queue holds."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.server.wire import OK, Wire

KEYS = ["a", "b", "c"]
VALUES = ["", "x", "y" * 44, "z" * 100, "5", "12345", "-3", "1.5"]
key, value = st.sampled_from(KEYS), st.sampled_from(VALUES)
integer = st.sampled_from(["1", "9999", "10000", "123456", "-20"])
database = st.sampled_from(["0", "1"])


def command(*parts: str | st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.tuples(*(part if isinstance(part, st.SearchStrategy) else st.just(part) for part in parts))


# APPEND to an empty value is left out: there Redis's count tells whether the key was there before.
CHANGES = st.one_of(
    command("SET", key, value),
    command("SET", key, value, "NX"),
    command("SET", key, value, "XX"),
    command("SET", key, value, "EX", "100"),
    command("SETNX", key, value),
    command("SETEX", key, "100", value),
    command("PSETEX", key, "100000", value),
    command("GETSET", key, value),
    command("GETEX", key, "EX", "100"),
    command("GETDEL", key),
    command("MSET", key, value, key, value),
    command("MSETNX", key, value, key, value),
    command("INCR", key),
    command("DECRBY", key, integer),
    command("INCRBYFLOAT", key, st.sampled_from(["1.5", "0.25"])),
    command("SETRANGE", key, "1", st.sampled_from(["x", "yy"])),
    command("RENAME", key, key),
    command("RENAMENX", key, key),
    command("MOVE", key, database),
    command("COPY", key, key, "REPLACE"),
    command("COPY", key, key, "DB", database),
    command("SWAPDB", database, database),
    command("SELECT", database),
    command("DEL", key, key),
    command("EXPIRE", key, "100"),
    command("PERSIST", key),
)
STREAMS = st.lists(st.one_of(CHANGES, CHANGES, command("OBJECT", "REFCOUNT", key)), min_size=1, max_size=20)


SHARED = 2**31 - 1  # the count of a small integer


def played(wire: Wire, stream: list[tuple[str, ...]]) -> list[object]:
    """The replies of a transaction that asks for all counts after each of these commands, and the counts after it.

    When COPY copies a shared integer, Redis makes a copy that is not shared.  So shared ones count as 1 here.
    """
    counts = [("OBJECT", "REFCOUNT", one) for one in KEYS]
    wire("SELECT", 0)
    assert wire("FLUSHALL") == OK
    wire("SET", "a", "there before")
    wire("SET", "b", "7")
    asked = [ask for words in stream for ask in (words, *counts)]
    wire.pipeline([("MULTI",), *asked])
    replies = [*wire("EXEC"), *(wire(*one) for one in counts)]
    return [1 if reply == SHARED else reply for reply in replies]


@given(stream=STREAMS)
@settings(
    deadline=None,
    print_blob=True,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_counts_within_a_transaction_are_those_of_redis(server, redis_server, stream) -> None:
    """This holds for every transaction."""
    with Wire(server.address) as mine, Wire(redis_server.address) as theirs:
        assert played(mine, stream) == played(theirs, stream)


def test_a_value_is_held_until_the_transaction_ends(wire: Wire) -> None:
    """SET and similar commands hold their argument; commands that compute a value do not."""
    wire("SET", "counter", 99999)
    replies = wire.pipeline(
        [
            ("MULTI",),
            ("SET", "k", "value"),
            ("INCR", "counter"),
            ("APPEND", "new", "value"),
            *(("OBJECT", "REFCOUNT", one) for one in ("k", "counter", "new", "nosuch")),
            ("APPEND", "k", "x"),
            ("OBJECT", "REFCOUNT", "k"),
            ("EXEC",),
        ]
    )
    assert replies[-1] == [OK, 100_000, 5, 2, 1, 2, None, 6, 1]
    assert [wire("OBJECT", "REFCOUNT", one) for one in ("k", "counter", "new")] == [1, 1, 1]


def test_another_transaction_s_queue_holds_nothing(wire: Wire) -> None:
    """A discarded queue holds nothing either."""
    wire.pipeline([("MULTI",), ("SET", "k", "value"), ("OBJECT", "REFCOUNT", "k"), ("EXEC",)])
    wire.pipeline([("MULTI",), ("SET", "k", "value"), ("OBJECT", "REFCOUNT", "k"), ("DISCARD",)])
    assert wire.pipeline([("MULTI",), ("OBJECT", "REFCOUNT", "k"), ("EXEC",)])[-1] == [1]


def test_a_long_transaction_that_asks_often_takes_no_longer_for_it(wire2: Wire) -> None:
    """The transaction asks for each of ten thousand keys."""
    pairs = [(("SET", f"k{i}", "value"), ("OBJECT", "REFCOUNT", f"k{i}")) for i in range(10_000)]
    wire2.pipeline([("MULTI",), *(words for pair in pairs for words in pair)])
    assert wire2("EXEC") == [OK, 2] * 10_000
