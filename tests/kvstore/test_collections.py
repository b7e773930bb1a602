"""Collections under stress: seeded streams of all their commands on a store that is short of memory, beside forks.

A second store with plenty of memory plays what the first one did not refuse.  The two must hold the same, by their
digests, and be sound.  Thresholds are low, so that encodings change often.
"""

import random
from collections.abc import Callable

import numpy as np
import pytest

from kvstore.commands.table import find
from kvstore.store.digest import store_digest
from kvstore.store.flush import background_step
from tests.kvstore.bare import HANDLERS, Bare, ReplyError
from tests.mmcore.support import only, runs_of, seeds

Command = tuple[str | bytes | int, ...]
MEMBERS = [b"%d" % i for i in range(40)] + [b"member:%d" % i for i in range(60)] + [b"x" * 70, b"y" * 5000]


def hashes(r: random.Random, key: str) -> Command:
    field, value = r.choice(MEMBERS), b"v" * r.choice([0, 1, 10, 70, 3000])
    many = [part for _ in range(r.randrange(1, 20)) for part in (r.choice(MEMBERS), b"v" * r.randrange(30))]
    return r.choice(
        [
            ("HSET", key, field, value),
            ("HSET", key, *many),
            ("HSETNX", key, field, value),
            ("HDEL", key, *r.sample(MEMBERS, r.randrange(1, 30))),
            ("HINCRBY", key, b"number", r.randrange(-5, 5)),
            ("HINCRBYFLOAT", key, b"number", b"0.5"),
            ("HGETALL", key),
            ("HRANDFIELD", key, r.randrange(-5, 30), "WITHVALUES"),
        ]
    )


def sets(r: random.Random, key: str) -> Command:
    other = r.choice("abc")
    return r.choice(
        [
            ("SADD", key, *r.sample(MEMBERS, r.randrange(1, 30))),
            ("SADD", key, *[r.randrange(-(1 << 40), 1 << 40) for _ in range(r.randrange(1, 10))]),
            ("SREM", key, *r.sample(MEMBERS, r.randrange(1, 30))),
            ("SMOVE", key, f"s{other}", r.choice(MEMBERS)),
            ("SUNIONSTORE", key, "sa", "sb"),
            ("SINTERSTORE", key, "sa", "sb"),
            ("SDIFFSTORE", key, "sa", "sb"),
            ("SRANDMEMBER", key, r.randrange(-5, 30)),
            ("SMEMBERS", key),
        ]
    )


def sorted_sets(r: random.Random, key: str) -> Command:
    scored = [
        p for _ in range(r.randrange(1, 25)) for p in (r.choice([1, 2, "1.5", "-inf", r.random()]), r.choice(MEMBERS))
    ]
    return r.choice(
        [
            ("ZADD", key, *scored),
            ("ZADD", key, "CH", "GT", *scored),
            ("ZINCRBY", key, "0.25", r.choice(MEMBERS)),
            ("ZREM", key, *r.sample(MEMBERS, r.randrange(1, 30))),
            ("ZREMRANGEBYRANK", key, 0, r.randrange(5)),
            ("ZREMRANGEBYSCORE", key, "(1", "1.5"),
            ("ZPOPMIN", key, r.randrange(4)),
            ("ZPOPMAX", key, r.randrange(4)),
            ("ZRANGESTORE", key, "za", 0, r.randrange(30)),
            ("ZUNIONSTORE", key, 2, "za", "zb", "WEIGHTS", 2, 3),
            ("ZINTERSTORE", key, 2, "za", "zb"),
            ("ZDIFFSTORE", key, 2, "za", "zb"),
            ("ZRANGE", key, 0, -1, "WITHSCORES"),
        ]
    )


def lists(r: random.Random, key: str) -> Command:
    many = [r.choice(MEMBERS) for _ in range(r.randrange(1, 30))]
    return r.choice(
        [
            ("RPUSH", key, *many),
            ("LPUSH", key, *many),
            ("LPOP", key, r.randrange(1, 20)),
            ("RPOP", key, r.randrange(1, 20)),
            ("LSET", key, r.randrange(-50, 50), r.choice(MEMBERS)),
            ("LINSERT", key, r.choice(["BEFORE", "AFTER"]), r.choice(MEMBERS), r.choice(MEMBERS)),
            ("LREM", key, r.randrange(-2, 3), r.choice(MEMBERS)),
            ("LTRIM", key, r.randrange(10), r.randrange(20, 500)),
            ("LMOVE", key, "l" + r.choice("abc"), r.choice(["LEFT", "RIGHT"]), r.choice(["LEFT", "RIGHT"])),
            ("LRANGE", key, 0, -1),
        ]
    )


def streams(r: random.Random, key: str) -> Command:
    fields = [part for _ in range(r.choice([1, 1, 1, 3, 40])) for part in (r.choice(MEMBERS), b"v" * r.randrange(30))]
    consumer, ids = r.choice("mno"), [f"{r.randrange(1, 90)}-{r.randrange(3)}" for _ in range(r.randrange(1, 12))]
    return r.choice(
        [
            ("XADD", key, "*", *fields),
            ("XADD", key, f"{r.randrange(1, 90)}-*", "f", r.choice(MEMBERS)),
            ("XADD", key, "MAXLEN", "~", 20, "*", *fields),
            ("XDEL", key, *ids),
            ("XTRIM", key, "MAXLEN", r.randrange(30)),
            ("XTRIM", key, "MINID", ids[0]),
            ("XSETID", key, "1800000000000-0", "ENTRIESADDED", 1000),
            ("XRANGE", key, "-", "+"),
            ("XGROUP", "CREATE", key, "g", 0, "MKSTREAM"),
            ("XGROUP", "CREATE", key, "g", 0, "MKSTREAM"),
            ("XGROUP", "DESTROY", key, "g"),
            ("XGROUP", "SETID", key, "g", 0),
            ("XGROUP", "CREATECONSUMER", key, "g", consumer),
            ("XGROUP", "DELCONSUMER", key, "g", consumer),
            ("XREADGROUP", "GROUP", "g", consumer, "COUNT", r.randrange(1, 30), "STREAMS", key, ">"),
            ("XREADGROUP", "GROUP", "g", consumer, "STREAMS", key, ">"),
            ("XREADGROUP", "GROUP", "g", consumer, "STREAMS", key, 0),
            ("XACK", key, "g", *ids),
            ("XCLAIM", key, "g", consumer, 0, *ids, "FORCE"),
            ("XAUTOCLAIM", key, "g", consumer, 0, "-", "COUNT", r.randrange(1, 20)),
        ]
    )


def keys(r: random.Random, key: str) -> Command:
    kind, other = key[0], r.choice("abc")
    return r.choice(
        [
            ("DEL", key),
            ("COPY", key, f"{kind}{other}", "REPLACE"),
            ("RENAME", key, f"{kind}{other}"),
            ("PEXPIRE", key, 1_000_000_000),
            ("PERSIST", key),
        ]
    )


FAMILIES: dict[str, Callable[[random.Random, str], Command]] = {
    "h": hashes,
    "s": sets,
    "z": sorted_sets,
    "l": lists,
    "x": streams,
}
LIMITS = {
    "HASH_MAX_LISTPACK_ENTRIES": 20,
    "SET_MAX_INTSET_ENTRIES": 16,
    "SET_MAX_LISTPACK_ENTRIES": 20,
    "ZSET_MAX_LISTPACK_ENTRIES": 20,
    "LIST_MAX_LISTPACK_SIZE": 20,
    "STREAM_NODE_MAX_ENTRIES": 7,
}


def small(store: Bare) -> Bare:
    """The store with low thresholds."""
    for name, limit in LIMITS.items():
        setattr(store.registers, name, limit)
    return store


def stream(r: random.Random, family: str, count: int) -> list[Command]:
    commands = []
    for _ in range(count):
        key = family + r.choice("abc")
        commands.append(keys(r, key) if r.random() < 0.1 else FAMILIES[family](r, key))
    return commands


def agree(store: Bare, twin: Bare) -> bool:
    return store_digest(store.context) == store_digest(twin.context)


def is_served(family: str) -> bool:
    names = {"h": b"HSET", "s": b"SADD", "z": b"ZADD", "l": b"RPUSH", "x": b"XADD"}
    return names[family] in HANDLERS and find(names[family]) is not None


@pytest.mark.parametrize("seed", seeds(3))
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_refused_for_want_of_memory_changes_nothing(family: str, seed: int) -> None:
    assert is_served(family)
    r = random.Random(f"{family}{seed}")
    with small(Bare(8 << 20)) as store, small(Bare(64 << 20)) as twin:
        refused = 0
        for number, command in enumerate(stream(r, family, 400)):
            free = min(store.memory.frames_free, r.choice([3000, 3000, *range(0, 1200, 100)]))
            with only(store.memory, free):
                before = store_digest(store.context)
                reply = store(*command)
                if isinstance(reply, ReplyError) and reply.startswith("OOM"):
                    refused += 1
                    assert store_digest(store.context) == before, f"seed {seed}, command {number}: {command}"
                else:
                    twin(*command)
                    assert agree(store, twin), f"seed {seed}, command {number}: {command}"
            if number % 50 == 0:
                store.check()
        assert refused > 5
        store.check()
        while background_step(store.context, 64) > 0:
            pass
        store.check()


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("family", FAMILIES)
def test_a_fork_keeps_what_it_had(family: str, seed: int) -> None:
    r = random.Random(f"{family}{seed}")
    with small(Bare(64 << 20)) as store:
        frozen: list[tuple[int, dict[int, bytes]]] = []
        for number, command in enumerate(stream(r, family, 300)):
            store(*command)
            if number % 30 == 0:
                root = store.fork()
                frozen.append((root, pages_of(store, root)))
            if len(frozen) > 3:
                root, pages = frozen.pop(0)
                assert pages_of(store, root) == pages, f"seed {seed}, command {number}: {command}"
                store.release(root)
            if number % 60 == 0:
                store.check()
        store.check()


def pages_of(store: Bare, root: int) -> dict[int, bytes]:
    """A digest of the pages of a root, by the runs that it maps."""
    from hashlib import blake2b

    from mmcore.frozen import gather

    found = {}
    for address, count in runs_of(store.memory, root):
        buffer = np.empty(count * 4096, np.uint8)
        assert gather(store.memory.state, root, address, count, buffer, 0) == count
        found[address] = blake2b(buffer.tobytes()).digest()
    return found
