"""The bytes that fill collections, and the load on them."""

import numpy as np
import pytest

from bench.rig.client import encode
from bench.rig.elements import INTEGER_FIRST, commands, in_order, numbered, store, template
from bench.rig.openloop import HASH_KEY, ZSET_KEY, Plan, forms
from bench.rig.servers import server
from tests.bench.support import needs_redis, replying
from tests.bench.test_openloop import generate

NUMBERS = np.array([7, 123456789, 0])


def test_a_number_stands_in_every_run_of_digits() -> None:
    rows = numbered(b"a##b###", np.array([7, 12]))
    assert [row.tobytes() for row in rows] == [b"a07b007", b"a12b012"]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("hash", lambda i: ("HSET", "key", f"f{i:09d}", f"v{i:09d}")),
        ("set", lambda i: ("SADD", "key", f"m{i:09d}")),
        ("zset", lambda i: ("ZADD", "key", f"{i:09d}", f"m{i:09d}")),
        ("list", lambda i: ("RPUSH", "key", f"v{i:09d}")),
    ],
)
def test_elements_are_the_commands_they_stand_for(kind, words) -> None:  # type: ignore[no-untyped-def]
    assert b"".join(data for data, _ in commands(kind, b"key", NUMBERS, 1)) == b"".join(
        encode(*words(i)) for i in NUMBERS
    )
    ((together, one), (rest, another)) = commands(kind, b"key", NUMBERS, 2)
    assert (one, another) == (1, 1)
    assert together == encode(*words(7), *words(123456789)[2:])
    assert rest == encode(*words(0))


def test_elements_may_have_more_digits() -> None:
    assert template("zset", 12).count(b"#") == 24
    ((data, _),) = commands("set", b"key", NUMBERS[:1], 1, digits=12)
    assert data == encode("SADD", "key", "m000000000007")


def test_elements_are_stored_once_each_in_random_order_except_a_lists() -> None:
    assert in_order("list", 5).tolist() == [0, 1, 2, 3, 4]
    assert sorted(in_order("hash", 1000).tolist()) == list(range(1000)) != in_order("hash", 1000).tolist()
    assert min(in_order("intset", 10)) == INTEGER_FIRST


@needs_redis
def test_a_collection_is_made_with_as_many_elements_as_asked_for() -> None:
    with server("redis") as one, one.client() as client:
        counts = {"hash": "HLEN", "set": "SCARD", "zset": "ZCARD", "list": "LLEN", "intset": "SCARD"}
        for kind, count in counts.items():
            store(client, kind, kind, 1234)
            assert client.command(count, kind) == 1234
        assert client.command("OBJECT", "ENCODING", "intset") == b"hashtable"  # it has more than 512
        assert client.command("LRANGE", "list", 0, 0) == [b"v000000000"]
        assert client.command("ZSCORE", "zset", "m000000007") == b"7"


def test_the_open_loop_makes_commands_of_collections() -> None:
    get, set_, add = forms(Plan(0, 1, 1, 1, 3, 1.0, collections=True))
    assert get == encode("HGET", HASH_KEY, "key:000000000000")
    assert set_ == encode("HSET", HASH_KEY, "key:000000000000", b"\0\0\0")
    assert add == encode("ZADD", ZSET_KEY, "000000000000", "key:000000000000")


@needs_redis
def test_the_open_loop_changes_a_hash_and_a_sorted_set() -> None:
    keys, value_size = 20, 30
    with server("redis") as one:
        plan = Plan(one.port, 3000, 4, keys, value_size, 0.3, set_share=1 / 3, add_share=1 / 3, collections=True)
        found = generate(plan)
        assert len(found.due) == 900
        assert found.errors == 0
        assert 0.25 < found.sets.mean() < 0.42
        with one.client() as client:
            assert client.command("HLEN", HASH_KEY) == client.command("ZCARD", ZSET_KEY) == keys
            assert set(client.command("HKEYS", HASH_KEY)) == {b"key:%012d" % i for i in range(keys)}
            assert {len(value) for value in client.command("HVALS", HASH_KEY)} == {value_size}
            assert float(client.command("ZSCORE", ZSET_KEY, "key:000000000000")) > keys
            assert client.command("DBSIZE") == 2


def test_an_open_loop_of_strings_has_no_third_kind() -> None:
    asked: list[bytes] = []

    def answer(connection) -> None:  # type: ignore[no-untyped-def]
        while data := connection.recv(65536):
            asked.append(data)
            connection.sendall(b"+OK\r\n" * (data.count(b"SET\r\n") + data.count(b"GET\r\n")))

    with replying(answer) as port:
        assert len(generate(Plan(port, 500, 1, 10, 10, 0.2)).due) == 100
    assert b"ZADD" not in b"".join(asked)
