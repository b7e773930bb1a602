"""The table of watches, against a model; its chains stay short, and it gives its memory back."""

import random
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from kvstore import connections as rows
from kvstore import state, watch
from kvstore.commands import transactions
from kvstore.state import STORE, Store
from mmcore.jit import int64, linked
from tests.kvstore.bare import Bare

CONNECTIONS = 50


class Watched(Bare):
    """A store with connections that watch keys, which are numbers here."""

    def __init__(self) -> None:
        super().__init__(1 << 22)
        self.table = np.zeros((CONNECTIONS, rows.FIELDS), np.int64)
        self.table[:, rows.WATCH_FIRST] = -1
        self.registers[state.CONNECTIONS_ADDRESS] = self.table.ctypes.data

    def watch(self, slot: int, db: int, key: int) -> None:
        """As WATCH does it."""
        if not watch.is_watched(self.store, slot, db, key):
            row = self.table[slot]
            row[rows.WATCH_FIRST] = watch.watch_add(self.store, slot, int(row[rows.WATCH_FIRST]), db, key, 0, 1)
            row[rows.WATCH_COUNT] += 1

    def unwatch(self, slot: int) -> None:
        watch.unwatch_all(self.store, self.table[slot], rows.WATCH_FIRST, rows.WATCH_COUNT)

    def command(self, slot: int, *keys: bytes) -> list[int]:
        """WATCH, turn after turn; how many keys the connection watches at the end of each."""
        parts, r = (b"WATCH", *keys), self.registers
        counts: list[int] = []
        lengths = np.array([len(part) for part in parts])
        self.args = np.zeros((len(parts), 2), np.int64)
        self.args[:, 1] = lengths
        self.args[1:, 0] = np.cumsum(lengths)[:-1]
        text = np.frombuffer(b"".join(parts), np.uint8)
        r[state.QUERY_ADDRESS], r[state.QUERY_SIZE], r[state.ARGC] = text.ctypes.data, text.size, len(parts)
        r[state.CONNECTION], r[state.REPLY_LENGTH] = slot, 0
        store = Store(self.space.state, r, self.args.reshape(-1))
        code = state.AGAIN
        while code == state.AGAIN:
            assert r[state.REPLY_LENGTH] == 0
            code = transactions.watch(store)
            counts.append(int(self.table[slot, rows.WATCH_COUNT]))
        assert code == 0
        assert r[state.REPLY_LENGTH] == len(b"+OK\r\n")
        return counts

    def told(self, db: int, key: int) -> set[int]:
        """The connections that hear of a change."""
        self.table[:, rows.FLAGS] = 0
        watch.touch_watched(self.store, db, key)
        return set(np.flatnonzero(self.table[:, rows.FLAGS] & rows.DIRTY_CAS).tolist())


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
            assert bool(watch.is_watched(store.store, slot, db, key)) == ((slot, db, key) in model), (seed, step)
            store.watch(slot, db, key)
            model.add((slot, db, key))
        assert store.registers[state.WATCHES] == len(model)
        if step % 50 == 0 and model:
            db, key = draw.randrange(3), draw.choice(keys)
            assert store.told(db, key) == {one[0] for one in model if one[1:] == (db, key)}, (seed, step)
    counts = Counter(one[0] for one in model)
    assert [counts[slot] for slot in range(CONNECTIONS)] == store.table[:, rows.WATCH_COUNT].tolist()


@linked(int64(STORE, int64))
def longest_chain(store, which):  # type: ignore[no-untyped-def]
    """Rows in the longest chain of keys (0) or of pairs (1)."""
    longest = 0
    for chain in range(store.server[state.WATCH_CHAINS]):
        longest = max(longest, watch.chain_length(store, chain, which))
    return longest


def test_chains_stay_short_however_many_watches_there_are(store: Watched) -> None:
    draw = random.Random(7)
    for _ in range(20_000):
        store.watch(0, 0, draw.getrandbits(63))
    assert store.registers[state.WATCH_CHAINS] == store.registers[state.WATCHES] == 20_000
    assert longest_chain(store.store, 0) <= 16
    assert longest_chain(store.store, 1) <= 16


def test_a_key_that_many_watch_does_not_lengthen_their_search(store: Watched) -> None:
    draw = random.Random(8)
    keys = [draw.getrandbits(63) for _ in range(40)]
    for slot in range(CONNECTIONS):
        for key in keys:
            store.watch(slot, 0, key)
    assert longest_chain(store.store, 0) >= CONNECTIONS  # each of a key's watchers is told, so they are in one chain
    assert longest_chain(store.store, 1) <= 16
    assert store.told(0, keys[7]) == set(range(CONNECTIONS))


def test_very_many_keys_are_watched_some_a_turn(store: Watched) -> None:
    keys = [b"key:%d" % i for i in range(20_000)]
    assert store.command(0, *keys[:100]) == [100]
    assert store.command(0, *keys) == [8192, 16384, 20_000]
    assert store.command(0, *keys) == [20_000] * 3
    assert store.command(1, *keys[:8192]) == [8192]
    assert store.table[0, rows.WATCH_DONE] == 0


def test_a_watch_that_has_failed_already_ends_at_once(store: Watched) -> None:
    store.table[0, rows.FLAGS] |= rows.DIRTY_CAS
    assert store.command(0, *[b"key:%d" % i for i in range(20_000)]) == [0]
    assert store.registers[state.WATCHES] == 0


def test_memory_is_given_back_when_no_watch_is_left(store: Watched) -> None:
    r = store.registers
    for key in range(10_000):
        store.watch(0, 0, key)
    store.watch(1, 0, 5)
    assert r[state.WATCH_CAPACITY] >= 10_001
    store.unwatch(0)
    assert store.told(0, 5) == {1}
    store.unwatch(1)
    assert r[state.WATCHES] == 0
    assert r[state.WATCH_TABLE_ADDRESS] == r[state.WATCH_HEADS_ADDRESS] == 0
    assert r[state.WATCH_CAPACITY] == r[state.WATCH_HEADS_CAPACITY] == r[state.WATCH_CHAINS] == 0
    store.watch(2, 1, 99)
    assert store.told(1, 99) == {2}


def test_a_freed_row_is_taken_again(store: Watched) -> None:
    for key in range(60):
        store.watch(0, 0, key)
    store.watch(1, 0, 0)
    store.unwatch(0)
    for key in range(60):
        store.watch(2, 0, key)
    assert store.registers[state.WATCH_USED] == 61
    assert store.told(0, 0) == {1, 2}
