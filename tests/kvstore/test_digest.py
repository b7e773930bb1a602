"""DEBUG DIGEST's digests compared with hashlib's, for random streams, forks, and data that cross pages."""

import hashlib
import random
import struct

import pytest

from kvstore.lifetimes.wiring import OpenStore
from kvstore.store.check import contents
from kvstore.store.digest import store_digest, value_digest
from tests.kvstore.bare import START_MS, Bare
from tests.mmcore.support import seeds

PAGE = 4096


def sha1(data: bytes) -> bytes:
    return hashlib.sha1(data).digest()


def xor(digest: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(digest, other, strict=True))


def mix(digest: bytes, data: bytes) -> bytes:
    return sha1(xor(digest, sha1(data)))


def value(digest: bytes, data: bytes, deadline: int | None) -> bytes:
    digest = mix(mix(digest, struct.pack(">I", 0)), data)
    return xor(digest, sha1(b"!!expire!!")) if deadline is not None else digest


def expected(databases: dict[int, dict[bytes, tuple[bytes, int | None]]]) -> str:
    """Redis's computeDatasetDigest."""
    whole = bytes(20)
    for db in sorted(databases):
        whole = mix(whole, struct.pack(">I", db))
        for key, (data, deadline) in databases[db].items():
            whole = xor(whole, sha1(value(mix(bytes(20), key), data, deadline)))
    return whole.hex()


def test_an_empty_store_s_digest_is_zeros() -> None:
    with Bare() as bare:
        assert store_digest(bare.context) == "0" * 40
        bare("SET", "k", "v")
        bare("DEL", "k")
        assert store_digest(bare.context) == "0" * 40
        assert value_digest(bare.context, 0, b"k") == "0" * 40
        assert value_digest(bare.context, 0, b"") == "0" * 40


def test_a_value_s_digest_is_what_redis_server_answers() -> None:
    """The digest does not depend on the key."""
    with Bare() as bare:
        bare("SET", "key:1", "value:1")
        assert value_digest(bare.context, 0, b"key:1") == "ec4b7bec343ec862c8bd5dd8feab05ec1e9e6703"


def stream(bare: Bare, rng: random.Random, length: int) -> None:
    """Strings, numbers and deadlines in three databases; some keys and values lie across pages."""
    keys = [b"", b"k", b"\x00\xff", b"K" * 3000, b"L" * PAGE, b"M" * 9000, *(b"key%d" % i for i in range(60))]
    values = [b"", b"0", b"-17", b"007", b"v" * 44, b"w" * 63, b"x" * 64, b"y" * 5000, bytes(range(256)) * 100]
    for _ in range(length):
        key = rng.choice(keys)
        command = rng.choice(
            ("SET", "SET", "SETEX", "DEL", "INCR", "APPEND", "PEXPIRE", "PERSIST", "SELECT", "SETRANGE")
        )
        if command == "SELECT":
            bare("SELECT", rng.choice((0, 3, 15)))
        elif command == "SET":
            bare("SET", key, rng.choice(values))
        elif command == "SETEX":
            bare("SETEX", key, rng.randrange(1, 1000), rng.choice(values))
        elif command == "APPEND":
            bare("APPEND", key, rng.choice(values))
        elif command == "PEXPIRE":
            bare("PEXPIRE", key, rng.randrange(1, 10**6))
        elif command == "SETRANGE":
            bare("SETRANGE", key, rng.randrange(6000), "piece")
        else:
            bare(command, key)


@pytest.mark.parametrize("seed", seeds(8))
def test_a_stream_s_digest_is_the_model_s(seed: int) -> None:
    with Bare(seed=seed + 1) as bare:
        stream(bare, random.Random(seed), 400)
        bare.clock_ms += 500_000  # half of the deadlines have passed, but their keys still exist
        databases = contents(bare.context)
        assert store_digest(bare.context) == expected(databases)
        for db, held in databases.items():
            for key, (data, deadline) in held.items():
                assert value_digest(bare.context, db, key) == value(bytes(20), data, deadline).hex(), (db, key)


def test_a_digest_changes_nothing_that_a_store_or_a_shard_keeps() -> None:
    with Bare() as bare:
        stream(bare, random.Random(99), 300)
        bare.clock_ms = START_MS + 10**9
        before = contents(bare.context)
        lifetimes = bare.context.store, bare.context.shard, bare.context.call, bare.context.pool
        words = [list(one) for one in lifetimes]
        pages = {name: count for name, count in bare.space.counters.items() if not name.startswith(("tlb", "psc"))}
        store_digest(bare.context)
        for db, held in before.items():
            for key in held:
                value_digest(bare.context, db, key)
        assert [list(one) for one in lifetimes] == words
        assert contents(bare.context) == before
        after = bare.space.counters
        assert {name: after[name] for name in pages} == pages
        bare.check()


def test_neither_the_order_of_commands_nor_what_was_there_before_matters() -> None:
    rng = random.Random(5)
    pairs = [(f"key{i}", "v" * rng.randrange(200)) for i in range(300)]
    with Bare(seed=1) as one, Bare(seed=2) as other:
        for key, data in pairs:
            one("SET", key, data)
        rng.shuffle(pairs)
        for key, data in pairs:
            other("SET", key, "before" * rng.randrange(50))
            other("SET", f"{key}gone", 1)
            other("SET", key, data)
            other("DEL", f"{key}gone")
        assert store_digest(one.context) == store_digest(other.context)
        other("APPEND", "key0", "x")
        assert store_digest(one.context) != store_digest(other.context)


def test_a_database_s_number_and_a_deadline_matter_and_when_that_is_does_not() -> None:
    with Bare() as bare:
        bare("SET", "k", "v")
        plain = store_digest(bare.context)
        bare("PEXPIRE", "k", 1000)
        soon = store_digest(bare.context)
        bare("PEXPIRE", "k", 2000)
        assert store_digest(bare.context) == soon != plain
        bare("PERSIST", "k")
        assert store_digest(bare.context) == plain
        bare("MOVE", "k", 1)
        assert store_digest(bare.context) != plain


def test_a_fork_s_digest_stays_what_it_was() -> None:
    """The same kernels read another store, which shares pages with the first."""
    with Bare() as bare:
        stream(bare, random.Random(7), 300)
        frozen = OpenStore(bare.pool, bare.shard, bare.space.fork(bare.mode), registers=bare.opened.registers)
        bare.registers.FROZEN_ROOTS = 1
        was = store_digest(bare.context)
        assert store_digest(frozen.context) == was
        stream(bare, random.Random(8), 300)
        assert store_digest(bare.context) == expected(contents(bare.context)) != was
        assert store_digest(frozen.context) == was
        bare("FLUSHALL")
        assert store_digest(bare.context) == "0" * 40
        assert store_digest(frozen.context) == was
