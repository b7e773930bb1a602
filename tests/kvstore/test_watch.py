"""The table of watches, compared with a model; its chains stay short, and it frees its memory."""

import random
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from kvstore.commands import transactions
from kvstore.connections.chained import HEADER_WORDS, NEXT, first_row, row_at, row_count, row_memory
from kvstore.effects import watch
from kvstore.effects.journal import Journal
from kvstore.lifetimes import connection
from kvstore.lifetimes.context import AGAIN, CONTEXT
from kvstore.lifetimes.listeners import JOURNALED, WATCHING
from kvstore.lifetimes.store import WATCHED_KEYS
from kvstore.lifetimes.wiring import OpenStore
from mmcore.jit import int64, linked
from tests.kvstore.bare import Bare
from tests.mmcore.support import seeds

CONNECTIONS = 50


@linked(int64(CONTEXT))
def watches_of(context):  # type: ignore[no-untyped-def]
    """How many watches there are."""
    return row_count(context.store[WATCHED_KEYS] + 8 * HEADER_WORDS)


@linked(int64(CONTEXT))
def memory_of(context):  # type: ignore[no-untyped-def]
    """Bytes of the table of watches."""
    table = context.store[WATCHED_KEYS]
    return row_memory(table) + row_memory(table + 8 * HEADER_WORDS)


class Watched(Bare):
    """A store with connections that watch keys, which are numbers here."""

    def __init__(self) -> None:
        super().__init__(1 << 22)
        self.table = np.zeros((CONNECTIONS, connection.FIELDS), np.int64)
        self.registers.CONNECTIONS_ADDRESS = self.table.ctypes.data

    def watch(self, slot: int, db: int, key: int, deadline: int = watch.NO_DEADLINE) -> int:
        """Add a watch, as WATCH does; 0 if there is one."""
        return int(watch.watch_add(self.context, slot, db, key, deadline))

    def unwatch(self, slot: int) -> None:
        watch.unwatch_all(self.context, self.table[slot])

    @property
    def watches(self) -> int:
        """How many there are."""
        return int(watches_of(self.context))

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


@pytest.mark.parametrize("seed", seeds(4))
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
            assert store.watch(slot, db, key) == ((slot, db, key) not in model), (seed, step)
            model.add((slot, db, key))
        assert store.watches == len(model)
        if step % 50 == 0 and model:
            db, key = draw.randrange(3), draw.choice(keys)
            assert store.told(db, key) == {one[0] for one in model if one[1:] == (db, key)}, (seed, step)
    counts = Counter(one[0] for one in model)
    assert [counts[slot] for slot in range(CONNECTIONS)] == store.table[:, connection.WATCH_COUNT].tolist()


@linked(int64(CONTEXT, int64))
def longest_chain(context, which):  # type: ignore[no-untyped-def]
    """Rows in the longest chain of keys (0) or of pairs (1), of which there are as many as rows."""
    table, longest = context.store[WATCHED_KEYS] + 8 * HEADER_WORDS * which, 0
    for chain in range(row_count(table)):
        length, at = 0, first_row(table, chain)
        while at >= 0:
            length += 1
            at = row_at(table, at)[NEXT]
        longest = max(longest, length)
    return longest


def test_chains_stay_short_however_many_watches_there_are(store: Watched) -> None:
    draw = random.Random(7)
    for _ in range(20_000):
        store.watch(0, 0, draw.getrandbits(63))
    assert store.watches == 20_000
    assert longest_chain(store.context, 0) <= 16
    assert longest_chain(store.context, 1) <= 16


def test_a_key_that_many_watch_does_not_lengthen_their_search(store: Watched) -> None:
    draw = random.Random(8)
    keys = [draw.getrandbits(63) for _ in range(40)]
    for slot in range(CONNECTIONS):
        for key in keys:
            store.watch(slot, 0, key)
    assert longest_chain(store.context, 0) <= 16
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
    assert store.watches == 0


def test_memory_is_given_back_when_no_watch_is_left(store: Watched) -> None:
    for key in range(10_000):
        store.watch(0, 0, key)
    store.watch(1, 0, 5)
    assert memory_of(store.context) >= 10_001 * 80
    store.unwatch(0)
    assert store.told(0, 5) == {1}
    store.unwatch(1)
    assert store.watches == 0
    assert memory_of(store.context) < 1000
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
    before = memory_of(store.context)
    for key in range(60):
        store.watch(2, 0, key)
    assert memory_of(store.context) == before
    assert store.told(0, 0) == {1, 2}


def test_what_a_connection_saw_decides_whom_an_empty_database_concerns(store: Watched) -> None:
    """A key that did not exist does not change when its database is emptied; one with a deadline changes by itself."""
    store.watch(0, 0, 1, watch.NO_KEY)
    store.watch(1, 0, 1, watch.NO_DEADLINE)
    store.watch(2, 0, 2, 5000)
    store.watch(3, 1, 1, watch.NO_DEADLINE)
    told: dict[tuple[int, int], set[int]] = {}
    for db in (0, 1, -1):
        for absent in (0, 1):
            store.table[:, connection.FLAGS] = 0
            watch.touch_watched_db(store.context, db, absent)
            told[db, absent] = set(np.flatnonzero(store.table[:, connection.FLAGS]).tolist())
    assert [told[0, 0], told[1, 0], told[-1, 0]] == [{1, 2}, {3}, {1, 2, 3}]
    assert [told[0, 1], told[1, 1], told[-1, 1]] == [{0, 1, 2}, {3}, {0, 1, 2, 3}]
    expired = [watch.watched_expired(store.context, store.table[slot], 5000) for slot in range(4)]
    assert expired == [0, 0, 1, 0]
    assert watch.watched_expired(store.context, store.table[2], 4999) == 0
