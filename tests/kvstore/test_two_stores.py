"""Two stores in one process, over one physical memory and one shard, do not affect each other."""

import random
from copy import copy

import pytest

from kvstore.lifetimes.wiring import OpenStore
from kvstore.store.check import check_keyspace
from kvstore.store.databases import keyspace_init
from kvstore.store.digest import store_digest
from mmcore.check import check_heap, check_memory
from tests.kvstore.bare import Bare
from tests.mmcore.support import seeds

STEPS = 3000
KEYS = [b"key:%d" % i for i in range(60)] + [b"", b"L" * 4090, b"M" * 9000]
LENGTHS = 0, 1, 8, 60, 500, 4100, 20_000
RARE = ("FLUSHDB",), ("FLUSHALL",), ("SWAPDB", 0, 1)


def commands(seed: str) -> list[tuple[str | bytes | int, ...]]:
    """A stream of random commands."""
    choose = random.Random(seed)
    found: list[tuple[str | bytes | int, ...]] = []
    for _ in range(STEPS):
        key, other = choose.choice(KEYS), choose.choice(KEYS)
        value = bytes([choose.randrange(256)]) * choose.choice(LENGTHS)
        ordinary = (
            ("SET", key, value),
            ("SET", key, value, "KEEPTTL"),
            ("GET", key),
            ("APPEND", key, value),
            ("SETRANGE", key, choose.randrange(5000), value),
            ("INCRBY", key, choose.randrange(1000)),
            ("DEL", key, other),
            ("PEXPIRE", key, choose.randrange(10_000, 20_000)),
            ("PERSIST", key),
            ("RENAME", key, other),
            ("COPY", key, other, "DB", choose.randrange(2), "REPLACE"),
            ("MOVE", key, choose.randrange(2)),
            ("SELECT", choose.randrange(2)),
            ("DBSIZE",),
        )
        found.append(choose.choice(RARE if choose.random() < 0.003 else ordinary))
    return found


def second(first: Bare) -> Bare:
    """Another store over the memory and the shard of the first."""
    other = copy(first)
    other.opened = OpenStore(first.pool, first.shard)
    other.space, other.context = other.opened.space, other.opened.context
    other.registers = other.context.registers
    other.registers.HASH_SEED = first.registers.HASH_SEED
    assert keyspace_init(other.context) == 0
    return other


@pytest.mark.parametrize("seed", seeds(4))
def test_commands_interleaved_one_by_one_give_what_they_give_apart(seed: int) -> None:
    generator = random.Random(seed)
    streams = [commands(f"{seed} {which}") for which in range(2)]
    apart = []
    for stream in streams:
        with Bare(64 << 20) as alone:
            apart.append(([alone(*command) for command in stream], store_digest(alone.context)))
    with Bare(64 << 20) as first:
        stores = first, second(first)
        replies: list[list[object]] = [[], []]
        position, database = [0, 0], [0, 0]
        while position != [STEPS, STEPS]:
            which = generator.randrange(2) if max(position) < STEPS else position.index(min(position))
            replies[which].append(play(stores[which], database[which], streams[which][position[which]]))
            database[which] = stores[which].registers.DB
            position[which] += 1
        for which in range(2):
            assert replies[which] == apart[which][0], f"store {which} of seed {seed}"
            assert store_digest(stores[which].context) == apart[which][1]
            check_keyspace(stores[which].context)
            check_heap(stores[which].space)
        check_memory(first.memory, [store.space for store in stores], first.pool.waiting)


def play(store: Bare, database: int, command: tuple[str | bytes | int, ...]) -> object:
    """Execute a command in a store, in the database that its client has selected."""
    store.registers.DB = database
    return store(*command)
