"""Streams against a naive twin, a sorted list of entries, with the store proved sound all along."""

import random

import pytest

from kvstore.store.check import contents, heap_bytes
from tests.kvstore.bare import Bare, ReplyError
from tests.mmcore.support import seeds

MAX = 2**64 - 1
Id = tuple[int, int]


def spell(id_: Id) -> bytes:
    return b"%d-%d" % id_


class Twin:
    """The model of a stream: entries in order, the last identifier, the greatest one deleted, entries added."""

    def __init__(self) -> None:
        self.entries: list[tuple[Id, list[bytes]]] = []
        self.last: Id = (0, 0)
        self.deleted: Id = (0, 0)
        self.added = 0

    def between(self, start: Id, end: Id) -> list[object]:
        return [[spell(id_), texts] for id_, texts in self.entries if start <= id_ <= end]

    def add(self, id_: Id, texts: list[bytes]) -> bool:
        if id_ <= self.last:
            return False
        self.entries.append((id_, texts))
        self.last = id_
        self.added += 1
        return True

    def delete(self, ids: list[Id]) -> int:
        gone = {id_ for id_, _ in self.entries} & set(ids)
        self.entries = [entry for entry in self.entries if entry[0] not in gone]
        self.deleted = max([self.deleted, *gone])
        return len(gone)

    def keep(self, most: int, least: Id) -> int:
        kept = [entry for entry in self.entries if entry[0] >= least]
        kept = kept[len(kept) - most :] if len(kept) > most else kept
        gone, self.entries = len(self.entries) - len(kept), kept
        return gone


class Play:
    """A random stream of commands on one key of a store, and on its twin."""

    def __init__(self, store: Bare, seed: int) -> None:
        self.store, self.random, self.twin = store, random.Random(seed), Twin()
        self.names = [b"f", b"field", b"", b"n" * 130]

    def texts(self) -> list[bytes]:
        choose = self.random
        kind = choose.randrange(40)
        if kind == 0:
            return [b"long", choose.randbytes(choose.choice((3000, 4000, 5000, 20000)))]
        if kind < 30:
            return [b"f", b"%d" % choose.randrange(10**6)]
        if kind == 30:
            return [word for i in range(choose.choice((100, 600))) for word in (b"n%d" % i, b"v")]
        return [word for _ in range(choose.randint(1, 5)) for word in (choose.choice(self.names), choose.randbytes(9))]

    def next_id(self) -> Id:
        ms, seq = self.twin.last
        choose = self.random
        kind = choose.randrange(50)
        if kind < 20:
            return ms, min(seq + choose.choice((0, 1, 1, 1, 7, 300)), MAX)
        if kind < 48:
            return min(ms + choose.choice((1, 1, 3, 200, 70_000)), MAX), choose.choice((0, 0, 0, 5, 2**40))
        return min(ms + 2 ** choose.randrange(40), MAX), choose.choice((0, 2**50))

    def some_id(self) -> Id:
        if self.twin.entries and self.random.random() < 0.8:
            (ms, seq), _ = self.random.choice(self.twin.entries)
            return ms, max(0, min(seq + self.random.choice((0, 0, 0, 1, -1)), MAX))
        return self.random.choice([(0, 0), (MAX, MAX), (0, 1), self.twin.last, (self.twin.last[0], MAX)])

    def step(self) -> None:
        twin, store, choose = self.twin, self.store, self.random
        kind = choose.randrange(20)
        if kind < 11:
            for _ in range(choose.choice((1, 1, 5, 30))):
                id_, texts = self.next_id(), self.texts()
                if id_ == (0, 0):
                    id_ = (0, 1)
                reply = store("XADD", "s", spell(id_), *texts)
                assert reply == spell(id_) if twin.add(id_, texts) else isinstance(reply, ReplyError)
        elif kind < 13:
            ids = [self.some_id() for _ in range(choose.choice((1, 1, 3, 40)))]
            assert store("XDEL", "s", *map(spell, ids)) == twin.delete(ids)
        elif kind == 13:
            most = choose.choice((0, 1, len(twin.entries), len(twin.entries) // 2, max(len(twin.entries) - 1, 0)))
            assert store("XTRIM", "s", "MAXLEN", most) == twin.keep(most, (0, 0))
        elif kind == 14:
            least = self.some_id()
            assert store("XTRIM", "s", "MINID", spell(least)) == twin.keep(10**9, least)
        elif kind == 15 and twin.entries:
            before = len(twin.entries)
            gone = int(str(store("XTRIM", "s", "MAXLEN", "~", before // 2)))
            assert gone <= before - before // 2
            twin.entries = twin.entries[gone:]
        else:
            start, end = self.some_id(), self.some_id()
            found, count = twin.between(start, end), choose.choice((1, 3, 10**9))
            assert store("XRANGE", "s", spell(start), spell(end), "COUNT", count) == found[:count]
            assert store("XREVRANGE", "s", spell(end), spell(start), "COUNT", count) == found[::-1][:count]

    def check(self) -> None:
        """Compare everything, by the proof's own reading."""
        self.store.check()
        twin = self.twin
        assert self.store("XLEN", "s") == len(twin.entries)
        assert self.store("XRANGE", "s", "-", "+") == twin.between((0, 0), (MAX, MAX))
        found = contents(self.store.context).get(0, {}).get(b"s")
        if found is not None:
            rest = dict(found[0][len(twin.entries) :])
            assert [(id_, texts) for id_, texts in found[0][: len(twin.entries)]] == twin.entries
            assert (rest["last"], rest["deleted"], rest["added"]) == (twin.last, twin.deleted, twin.added)


@pytest.mark.parametrize("seed", seeds(8))
@pytest.mark.parametrize("entries", [1, 4, 100, 0])
def test_streams_of_commands_do_what_the_twin_does(seed: int, entries: int) -> None:
    print("seed", seed)
    with Bare() as store:
        store.registers.STREAM_NODE_MAX_ENTRIES = entries
        store.registers.STREAM_NODE_MAX_BYTES = random.Random(seed).choice((0, 1, 300, 4096, 1 << 30))
        play = Play(store, seed)
        for number in range(60):
            play.step()
            if number % 20 == 19:
                play.check()
        root = store.fork()
        before = play.twin.entries[:]
        for _ in range(20):
            play.step()
        play.check()
        store.release(root)
        assert store("COPY", "s", "t") in (0, 1)
        assert store("XRANGE", "t", "-", "+") == store("XRANGE", "s", "-", "+")
        assert store("DEL", "s", "t") in (1, 2) or not before
        store.check()


@pytest.mark.parametrize(
    ("id_", "reply"),
    [
        ("0-0", "ERR The ID specified in XADD must be greater than 0-0"),
        ("0", "ERR The ID specified in XADD must be greater than 0-0"),
        ("18446744073709551616-0", "ERR Invalid stream ID specified as stream command argument"),
        ("1-18446744073709551616", "ERR Invalid stream ID specified as stream command argument"),
        ("-", "ERR Invalid stream ID specified as stream command argument"),
        ("+", "ERR Invalid stream ID specified as stream command argument"),
        ("1-2-3", "ERR Invalid stream ID specified as stream command argument"),
        ("1-", "ERR Invalid stream ID specified as stream command argument"),
        ("-1", "ERR Invalid stream ID specified as stream command argument"),
        ("", "ERR Invalid stream ID specified as stream command argument"),
        ("1" * 200, "ERR Invalid stream ID specified as stream command argument"),
    ],
)
def test_identifiers_that_are_none(id_: str, reply: str) -> None:
    with Bare() as store:
        assert store("XADD", "s", id_, "f", "v") == ReplyError(reply)
        assert store("EXISTS", "s") == 0


def test_the_last_identifier_of_all_has_no_successor() -> None:
    with Bare() as store:
        last = f"{MAX}-{MAX}"
        assert store("XADD", "s", f"{MAX}-*", "f", "v") == f"{MAX}-0".encode()
        assert store("XADD", "s", last, "f", "v") == last.encode()
        exhausted = ReplyError("ERR The stream has exhausted the last possible ID, unable to add more items")
        assert store("XADD", "s", "*", "f", "v") == exhausted
        assert store("XRANGE", "s", f"({last}", "+") == ReplyError("ERR invalid start ID for the interval")
        assert store("XRANGE", "s", "-", "(0-0") == ReplyError("ERR invalid end ID for the interval")
        assert store("XRANGE", "s", last, "+") == [[last.encode(), [b"f", b"v"]]]
        assert store("XTRIM", "s", "MAXLEN", 2**63 - 1) == 0
        assert store("XTRIM", "s", "MINID", last) == 1
        store.check()


def test_a_short_entry_takes_twenty_one_bytes() -> None:
    """100 000 entries of one field with a value of eight bytes, from the heap's own figure."""
    with Bare(size=16 << 20) as store:
        before = heap_bytes(store.context.space)
        for i in range(20_000):
            store.clock_ms += i % 3
            store("XADD", "s", "*", "f", f"{i:08}")
        assert heap_bytes(store.context.space) - before <= 21 * 20_000


def test_an_entry_that_finds_no_frames_changes_nothing() -> None:
    with Bare(size=4 << 20) as store:
        added = 0
        while not isinstance(store("XADD", "s", "*", "f", "x" * 9000), ReplyError):
            added += 1
        assert added > 50 and store("XLEN", "s") == added
        store.check()
        assert store("XTRIM", "s", "MAXLEN", 10) == added - 10
        store.check()


@pytest.mark.parametrize(
    "command",
    ["GET s", "APPEND s x", "HGETALL s", "HSET s f v", "SADD s m", "SUNION s", "ZADD s 1 m", "ZUNION 1 s", "LPUSH s e",
     "LRANGE s 0 -1", "SORT s", "SORT_RO s ALPHA", "GEOPOS s m", "STRLEN s", "SETBIT s 7 1", "PFADD s e"],
)  # fmt: skip
def test_commands_of_other_types_refuse_a_stream(command: str) -> None:
    with Bare() as store:
        store("XADD", "s", "1-1", "f", "v")
        wrong = ReplyError("WRONGTYPE Operation against a key holding the wrong kind of value")
        assert store(*command.split()) == wrong
        store.check()
