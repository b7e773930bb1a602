"""The table of watches, compared with a model; its chains stay short, and it frees its memory."""

import random
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from kvstore.commands import transactions
from kvstore.effects import watch
from kvstore.effects.journal import Journal
from kvstore.lifetimes import connection
from kvstore.lifetimes.context import AGAIN, CONTEXT
from kvstore.lifetimes.store import JOURNALED, WATCH_CHAINS, WATCHING
from kvstore.lifetimes.wiring import OpenStore
from mmcore.jit import int64, linked
from tests.kvstore.bare import Bare

CONNECTIONS = 50


class Watched(Bare):
    """A store with connections that watch keys, which are numbers here."""

    def __init__(self) -> None:
        super().__init__(1 << 22)
        self.table = np.zeros((CONNECTIONS, connection.FIELDS), np.int64)
        self.table[:, connection.WATCH_FIRST] = -1
        self.registers.CONNECTIONS_ADDRESS = self.table.ctypes.data

    def watch(self, slot: int, db: int, key: int) -> None:
        """Add a watch, as WATCH does."""
        if not watch.is_watched(self.context, slot, db, key):
            row = self.table[slot]
            row[connection.WATCH_FIRST] = watch.watch_add(
                self.context, slot, int(row[connection.WATCH_FIRST]), db, key, 0, 1
            )
            row[connection.WATCH_COUNT] += 1

    def unwatch(self, slot: int) -> None:
        watch.unwatch_all(self.context, self.table[slot], connection.WATCH_FIRST, connection.WATCH_COUNT)

    def command(self, slot: int, *keys: bytes) -> list[int]:
        """Run WATCH turn by turn; returns the number of watched keys after each turn."""
        parts, r = (b"WATCH", *keys), self.registers
        counts: list[int] = []
        lengths = np.array([len(part) for part in parts])
        args = np.zeros((len(parts), 2), np.int64)
        args[:, 1] = lengths
        args[1:, 0] = np.cumsum(lengths)[:-1]
        self.shard.args = memoryview(args.reshape(-1))
        text = np.frombuffer(b"".join(parts), np.uint8)
        r.QUERY_ADDRESS, r.QUERY_SIZE, r.ARGC = text.ctypes.data, text.size, len(parts)
        r.CONNECTION, r.REPLY_LENGTH = slot, 0
        store = OpenStore(self.pool, self.shard, self.space, registers=self.opened.registers).context
        code = AGAIN
        while code == AGAIN:
            assert r.REPLY_LENGTH == 0
            code = transactions.watch(store)
            counts.append(int(self.table[slot, connection.WATCH_COUNT]))
        assert code == 0
        assert len(b"+OK\r\n") == r.REPLY_LENGTH
        return counts

    def told(self, db: int, key: int) -> set[int]:
        """The connections that are told of a change."""
        self.table[:, connection.FLAGS] = 0
        watch.touch_watched(self.context, db, key)
        return set(np.flatnonzero(self.table[:, connection.FLAGS] & connection.DIRTY_CAS).tolist())


@pytest.fixture
def store() -> Iterator[Watched]:
    with Watched() as made:
        yield made


@pytest.mark.parametrize("seed", range(4))
def test_a_stream_of_watches_against_a_model(store: Watched, seed: int) -> None:
    draw = random.Random(seed)
    keys = [draw.getrandbits(63) - (1 << 62) for _ in range(40)] + list(range(40))
    model: set[tuple[int, int, int]] = set()
    for step in range(4000):
        slot, db, key = draw.randrange(CONNECTIONS), draw.randrange(3), draw.choice(keys)
        if draw.random() < 0.03:
            store.unwatch(slot)
            model = {one for one in model if one[0] != slot}
        else:
            assert bool(watch.is_watched(store.context, slot, db, key)) == ((slot, db, key) in model), (seed, step)
            store.watch(slot, db, key)
            model.add((slot, db, key))
        assert len(model) == store.registers.WATCHES
        if step % 50 == 0 and model:
            db, key = draw.randrange(3), draw.choice(keys)
            assert store.told(db, key) == {one[0] for one in model if one[1:] == (db, key)}, (seed, step)
    counts = Counter(one[0] for one in model)
    assert [counts[slot] for slot in range(CONNECTIONS)] == store.table[:, connection.WATCH_COUNT].tolist()


@linked(int64(CONTEXT, int64))
def longest_chain(context, which):  # type: ignore[no-untyped-def]
    """Rows in the longest chain of keys (0) or of pairs (1)."""
    longest = 0
    for chain in range(context.store[WATCH_CHAINS]):
        longest = max(longest, watch.chain_length(context, chain, which))
    return longest


def test_chains_stay_short_however_many_watches_there_are(store: Watched) -> None:
    draw = random.Random(7)
    for _ in range(20_000):
        store.watch(0, 0, draw.getrandbits(63))
    assert store.registers.WATCH_CHAINS == store.registers.WATCHES == 20_000
    assert longest_chain(store.context, 0) <= 16
    assert longest_chain(store.context, 1) <= 16


def test_a_key_that_many_watch_does_not_lengthen_their_search(store: Watched) -> None:
    draw = random.Random(8)
    keys = [draw.getrandbits(63) for _ in range(40)]
    for slot in range(CONNECTIONS):
        for key in keys:
            store.watch(slot, 0, key)
    assert longest_chain(store.context, 0) >= CONNECTIONS  # each of a key's watchers is told, so they are in one chain
    assert longest_chain(store.context, 1) <= 16
    assert store.told(0, keys[7]) == set(range(CONNECTIONS))


def test_very_many_keys_are_watched_some_a_turn(store: Watched) -> None:
    keys = [b"key:%d" % i for i in range(20_000)]
    assert store.command(0, *keys[:100]) == [100]
    assert store.command(0, *keys) == [8192, 16384, 20_000]
    assert store.command(0, *keys) == [20_000] * 3
    assert store.command(1, *keys[:8192]) == [8192]
    assert store.table[0, connection.PART_DONE] == 0


def test_a_watch_that_has_failed_already_ends_at_once(store: Watched) -> None:
    store.table[0, connection.FLAGS] |= connection.DIRTY_CAS
    assert store.command(0, *[b"key:%d" % i for i in range(20_000)]) == [0]
    assert store.registers.WATCHES == 0


def test_memory_is_given_back_when_no_watch_is_left(store: Watched) -> None:
    r = store.registers
    for key in range(10_000):
        store.watch(0, 0, key)
    store.watch(1, 0, 5)
    assert r.WATCH_CAPACITY >= 10_001
    store.unwatch(0)
    assert store.told(0, 5) == {1}
    store.unwatch(1)
    assert r.WATCHES == 0
    assert r.WATCH_TABLE_ADDRESS == r.WATCH_HEADS_ADDRESS == 0
    assert r.WATCH_CAPACITY == r.WATCH_HEADS_CAPACITY == r.WATCH_CHAINS == 0
    store.watch(2, 1, 99)
    assert store.told(1, 99) == {2}


def test_the_bit_of_listeners_is_there_from_the_first_watch_to_the_last(store: Watched) -> None:
    journal, r = Journal(store.context), store.registers
    assert r.LISTENERS == JOURNALED
    store.watch(0, 0, 1)
    store.watch(1, 0, 1)
    assert r.LISTENERS == JOURNALED | WATCHING
    store.unwatch(0)
    assert r.LISTENERS == JOURNALED | WATCHING
    store.unwatch(1)
    assert r.LISTENERS == JOURNALED
    journal.close()
    assert r.LISTENERS == 0


def test_a_freed_row_is_taken_again(store: Watched) -> None:
    for key in range(60):
        store.watch(0, 0, key)
    store.watch(1, 0, 0)
    store.unwatch(0)
    for key in range(60):
        store.watch(2, 0, key)
    assert store.registers.WATCH_USED == 61
    assert store.told(0, 0) == {1, 2}
