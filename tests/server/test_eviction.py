"""Eviction through the socket: the store stays within maxmemory, events and statistics are told, branches are left."""

from pathlib import Path

import pytest

from kvstore.wire.errors import ERRORS, OUT_OF_FRAMES
from tests.server.wire import NULL_ARRAY, OK, QUEUED, Failure, Wire, info, wait_until

NO_LFU = Failure(
    "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching "
    "between policies at runtime LRU and LFU data will take some time to adjust."
)
NO_IDLE_TIME = Failure(
    "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between policies "
    "at runtime LRU and LFU data will take some time to adjust."
)
OUT_OF_MEMORY = Failure("OOM command not allowed when used memory > 'maxmemory'.")
FRAMES = Failure(ERRORS[OUT_OF_FRAMES])
ROOM = 4_000_000  # [bytes] beside the data that are there
POLICIES = ["volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl", "allkeys-lru", "allkeys-lfu"]
POLICIES += ["allkeys-random", "noeviction"]


def used(wire: Wire) -> int:
    return int(info(wire, "memory")["used_memory"])


def evicted(wire: Wire) -> int:
    return int(info(wire, "stats")["evicted_keys"])


@pytest.fixture
def limited(wire2: Wire):
    """A server with so much room for data; by default under allkeys-lru."""
    wire2("FLUSHALL")
    wire2("CONFIG", "RESETSTAT")
    assert wire2("CONFIG", "SET", "maxmemory", used(wire2) + ROOM, "maxmemory-policy", "allkeys-lru") == OK
    yield wire2
    assert wire2("CONFIG", "SET", "maxmemory", "0", "maxmemory-policy", "noeviction", "maxmemory-samples", "5") == OK
    wire2("FLUSHALL")


def fill(wire: Wire, first: int, last: int, *options: str) -> list[object]:
    commands = [("SET", f"k:{i}", "v" * 1000, *options) for i in range(first, last)]
    return [reply for i in range(0, len(commands), 200) for reply in wire.pipeline(commands[i : i + 200])]


def settle(wire: Wire) -> None:
    """Wait until nothing is left to evict, if something can be."""
    if info(wire, "memory")["maxmemory_policy"] != "noeviction":
        wait_until(lambda: info(wire, "stats")["current_eviction_exceeded_time"] == "0", "the store to fit")


@pytest.mark.parametrize("policy", POLICIES)
def test_object_tells_what_the_policy_keeps(limited: Wire, policy: str) -> None:
    assert limited("CONFIG", "SET", "maxmemory-policy", policy) == OK
    assert limited("SET", "k", "v") == OK
    lfu = policy.endswith("lfu")
    # A clock may tick between the commands: that of seconds, or that of minutes, by which a counter falls.
    assert limited("OBJECT", "FREQ", "k") in ((4, 5) if lfu else (NO_LFU,))
    assert limited("OBJECT", "IDLETIME", "k") in ((NO_IDLE_TIME,) if lfu else range(60))
    assert limited("OBJECT", "FREQ", "none") is None and limited("OBJECT", "IDLETIME", "none") is None
    assert info(limited, "memory")["maxmemory_policy"] == policy


@pytest.mark.parametrize("policy", POLICIES)
def test_writes_beyond_the_limit_evict_or_are_refused(limited: Wire, policy: str) -> None:
    assert limited("CONFIG", "SET", "maxmemory-policy", policy) == OK
    replies = fill(limited, 0, 8000, "EX", "1000")
    settle(limited)
    before = evicted(limited)
    gone = 8000 - int(limited("DBSIZE"))
    if policy == "noeviction":
        assert replies[-1] == OUT_OF_MEMORY and evicted(limited) == 0
    else:
        assert set(replies) == {OK}
        assert before <= gone <= evicted(limited) and gone > 3000  # upkeep may evict between two commands
    assert used(limited) < int(info(limited, "memory")["maxmemory"]) + 300_000


def test_volatile_policies_refuse_when_nothing_has_a_deadline(limited: Wire) -> None:
    assert limited("CONFIG", "SET", "maxmemory-policy", "volatile-lru") == OK
    replies = fill(limited, 0, 6000)
    assert replies[-1] == OUT_OF_MEMORY and info(limited, "stats")["evicted_keys"] == "0"
    assert limited("GET", "k:1") == b"v" * 1000
    assert limited("EXPIRE", "k:1", "1000") == 1 and limited("EXPIRE", "k:2", "1000") == 1
    assert limited("SET", "new", "v") in (OK, OUT_OF_MEMORY)


def test_a_lower_limit_evicts_without_any_command(limited: Wire) -> None:
    fill(limited, 0, 3000)
    assert limited("CONFIG", "SET", "maxmemory", used(limited) // 2) == OK
    goal = int(info(limited, "memory")["maxmemory"])
    settle(limited)
    memory = info(limited, "memory")
    assert (
        int(memory["used_memory"]) - int(memory["mem_not_counted_for_evict"]) <= goal
        and 1000 < int(limited("DBSIZE")) < 2000
    )
    assert info(limited, "stats")["current_eviction_exceeded_time"] == "0"


def test_evictions_are_published_and_watched(limited: Wire, server) -> None:
    with Wire(server.address) as listener, Wire(server.address) as watcher:
        assert limited("CONFIG", "SET", "notify-keyspace-events", "Ee") == OK
        listener("SUBSCRIBE", "__keyevent@0__:evicted")
        assert limited("CONFIG", "SET", "maxmemory-policy", "allkeys-random") == OK
        fill(limited, 0, 100)
        watcher("WATCH", *(f"k:{i}" for i in range(100)))
        assert watcher("MULTI") == OK and watcher("PING") == QUEUED
        fill(limited, 100, 8000)
        assert limited("EXISTS", *(f"k:{i}" for i in range(100))) < 100
        assert watcher("EXEC") == NULL_ARRAY
        kind, channel, key = listener.reply()
        assert (kind, channel) == (b"message", b"__keyevent@0__:evicted") and key.startswith(b"k:")
        assert limited("CONFIG", "SET", "notify-keyspace-events", "") == OK


def test_transactions_at_the_limit_are_served_whole(limited: Wire) -> None:
    fill(limited, 0, 6000)
    for start in range(0, 2000, 20):
        replies = limited.pipeline(
            [("MULTI",), *(("SET", f"t:{i}", "w" * 500) for i in range(start, start + 20)), ("EXEC",)]
        )
        assert replies[-1] == [OK] * 20
        assert limited("EXISTS", *(f"t:{i}" for i in range(start, start + 20))) == 20
    assert used(limited) < int(info(limited, "memory")["maxmemory"]) + 300_000


def test_collections_are_evicted_whole(limited: Wire) -> None:
    for i in range(60):
        assert limited("RPUSH", f"l:{i}", *("v" * 100 for _ in range(2000))) == 2000
    left = [i for i in range(60) if limited("EXISTS", f"l:{i}")]
    assert 5 < len(left) < 25 and {limited("LLEN", f"l:{i}") for i in left} == {2000}


def test_branches_keep_what_main_loses_and_are_not_evicted(limited: Wire, server) -> None:
    if server.is_redis:
        pytest.skip("branches are ours")
    fill(limited, 0, 2000)
    assert limited("BRANCH", "CREATE", "kept") == OK
    with Wire(server.address) as other:
        assert other("BRANCH", "USE", "kept") == OK
        fill(limited, 2000, 8000)
        assert other("DBSIZE") == 2000 and limited("EXISTS", *(f"k:{i}" for i in range(2000))) < 2000
        fill(other, 10_000, 12_000)
        assert other("DBSIZE") == 4000
    assert limited("BRANCH", "DROP", "kept", "FORCE") == OK


def test_without_maxmemory_keys_go_before_the_machines_memory_ends(start, data: Path) -> None:
    """But not while a snapshot shares it, and not without a policy."""
    options = ("--machine-memory", "32mb", "--maxmemory-policy", "allkeys-lru")
    with start(data, options=options) as server, Wire(server.address) as wire:
        assert fill(wire, 0, 60_000) == [OK] * 60_000
        keys = wire("DBSIZE")
        assert evicted(wire) == 60_000 - keys and 15_000 < keys < 32_000
        assert wire("EXISTS", "k:0", "k:59999") == 1
        assert wire("SNAPSHOT", "CREATE", "s") == OK
        before = evicted(wire)
        assert FRAMES in fill(wire, 60_000, 90_000) and evicted(wire) >= before
        assert wire("SNAPSHOT", "DROP", "s") == OK
        wait_until(lambda: fill(wire, 90_000, 90_200) == [OK] * 200, "the snapshot's memory")
        assert wire("CONFIG", "SET", "maxmemory-policy", "noeviction") == OK
        assert FRAMES in fill(wire, 100_000, 140_000)
