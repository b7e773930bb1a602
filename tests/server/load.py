r"""Write load with a known effect, to check that an image of the store is consistent.

A `Writer` owns two databases and has a list of operations made beforehand from a seed, each a command or a MULTI/EXEC
group.  It sends them in order over one connection, in bursts that end anywhere, so that an image is likely to be taken
while a group is half sent.  At every instant the store holds the result of the first p operations for some p.  `prefix`
finds that p; it lies between the number answered before the instant and the number sent after it.
"""

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.model.keyspace import Contents, Entry, Keyspace, Refused
from tests.server.wire import Closed, Failure, Wire, encode

FAR_MS = 99_999_999_999_000
Apply = Callable[[Keyspace], object]


@dataclass(frozen=True)
class Operation:
    """An atomic operation: its bytes on the wire, the number of replies, and its effect on the model."""

    data: bytes
    replies: int
    effects: tuple[Apply, ...]

    def apply(self, model: Keyspace) -> None:
        """Apply it to the model."""
        for effect in self.effects:
            with contextlib.suppress(Refused):
                effect(model)


@dataclass(frozen=True)
class Kinds:
    """The kinds of operation in the load, beside single small writes."""

    groups: bool = True
    large: bool = False
    renames: bool = False
    flushes: bool = False
    expiries: bool = False


def single(generator: random.Random, db: int, kinds: Kinds) -> tuple[tuple[Any, ...], Apply]:
    """One command to database `db`, which it may swap or share with db + 1, and its effect."""
    key = b"k%d" % generator.randrange(150)
    other = b"k%d" % generator.randrange(150)
    value = generator.randbytes(generator.choice((0, 3, 20, 60, 300)))
    choice = generator.random()
    if choice < 0.25:
        return ("INCR", "counter"), lambda model: model.incrby(db, b"counter", 1)
    if kinds.large and choice < 0.32:
        seed, size = generator.randrange(256), generator.choice((4090, 5000, 40_000, 300_000))
        large = bytes([seed]) * size
        return ("SET", key, large), lambda model: model.set(db, key, large)
    if kinds.renames and choice < 0.50:
        kind = generator.randrange(6)
        if kind == 0:
            return ("MOVE", key, db + 1), lambda model: model.move(db, key, db + 1)
        if kind == 1:
            return ("COPY", key, other, "DB", db + 1, "REPLACE"), lambda model: model.copy_key(
                db, key, db + 1, other, True
            )
        if kind == 2:
            return ("SWAPDB", db, db + 1), lambda model: model.swap(db, db + 1)
        return ("RENAME", key, other), lambda model: model.rename(db, key, other)
    if kinds.expiries and choice < 0.58:
        short, deadline = (
            b"short%d" % generator.randrange(100),
            int(time.time() * 1000) + generator.randrange(100, 4000),
        )
        return ("SET", short, value, "PXAT", deadline), lambda model: model.set(db, short, value, deadline)
    if kinds.expiries and choice < 0.64:
        return ("PEXPIREAT", key, FAR_MS), lambda model: model.deadline(db, key, FAR_MS)
    if kinds.flushes and choice < 0.643:
        return ("FLUSHDB",), lambda model: model.flush(db)
    if choice < 0.70:
        return ("APPEND", key, value[:20]), lambda model: model.append(db, key, value[:20])
    if choice < 0.76:
        offset = generator.randrange(200)
        return ("SETRANGE", key, offset, value), lambda model: model.setrange(db, key, offset, value)
    if choice < 0.82:
        return ("DEL", key, other), lambda model: model.delete(db, key, other)
    return ("SET", key, value), lambda model: model.set(db, key, value)


def operations(generator: random.Random, db: int, kinds: Kinds, count: int) -> Iterator[Operation]:
    """`count` operations."""
    for _ in range(count):
        if kinds.groups and generator.random() < 0.3:
            parts = [single(generator, db, kinds) for _ in range(generator.randrange(2, 9))]
            data = b"".join((encode("MULTI"), *(encode(*command) for command, _ in parts), encode("EXEC")))
            yield Operation(data, len(parts) + 2, tuple(effect for _, effect in parts))
        else:
            command, effect = single(generator, db, kinds)
            yield Operation(encode(*command), 1, (effect,))


class Writer:
    """One connection's part of the load."""

    def __init__(self, number: int, seed: int, kinds: Kinds, count: int) -> None:
        self.db = 2 * number
        self.model = Keyspace()  # the state after `applied` operations
        self.applied = 0
        self.generator = random.Random(f"{seed}:{number}")
        self.list = list(operations(self.generator, self.db, kinds, count))
        self.sent = self.answered = 0  # operations, by number
        self.error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._stop = False

    def start(self, address: Any) -> None:
        """Go on writing until the list ends, `stop` is called or the server goes away."""
        self._stop = False
        self._thread = threading.Thread(target=self._run, args=(address,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop writing, after all sent operations have been answered."""
        self._stop = True
        if self._thread:
            self._thread.join()
        if self.error:
            raise self.error

    @property
    def writing(self) -> bool:
        """Whether the writer has not ended by itself."""
        return self._thread is not None and self._thread.is_alive()

    def _run(self, address: Any) -> None:
        try:
            with Wire(address) as wire:
                wire("SELECT", self.db)
                while self.answered < len(self.list) and not self._stop:
                    self._burst(wire)
        except (OSError, Closed):
            pass  # the server was killed, as it was meant to be
        except BaseException as error:  # raised by stop
            self.error = error

    def _burst(self, wire: Wire) -> None:
        first = self.answered
        last = min(len(self.list), first + self.generator.choice((1, 5, 30, 100)))
        burst = b"".join(operation.data for operation in self.list[first:last])
        cut = self.generator.randrange(len(burst))
        self.sent = last  # set before sending: an operation that is sent but not counted would be worse
        wire.send(burst[:cut])
        if self.generator.random() < 0.1:
            time.sleep(0.001)
        wire.send(burst[cut:])
        for number in range(first, last):
            for _ in range(self.list[number].replies):
                reply = wire.reply()
                assert not isinstance(reply, Failure) or reply.text == "ERR no such key", reply
            self.answered = number + 1

    def prefix(self, contents: Contents, least: int, most: int, now_ms: int) -> int:
        """The number of operations that yield `contents`; leaves the model in that state."""
        mine = {db: contents[db] for db in (self.db, self.db + 1) if db in contents}
        assert least >= self.applied, "images are to be checked in the order they were taken"
        while self.applied < least:
            self._step()
        nearest = (self.applied, "~ no state has these counters")  # sorts behind every number
        counters = [mine.get(db, {}).get(b"counter") for db in (self.db, self.db + 1)]
        while True:
            # The counters rule out most states; the others are compared in full.
            if [self.model.databases[db].get(b"counter") for db in (self.db, self.db + 1)] == counters:
                expected = self.model.contents(now_ms)
                if expected == mine:
                    return self.applied
                nearest = min(nearest, (self.applied, describe(expected, mine)), key=lambda each: each[1])
            if self.applied >= most:
                break
            self._step()
        raise AssertionError(
            f"no prefix between {least} and {most} makes this image of database {self.db}; "
            f"nearest, {nearest[0]}: {nearest[1]}"
        )

    def _step(self) -> None:
        self.list[self.applied].apply(self.model)
        self.applied += 1


def describe(expected: Contents, got: Contents) -> str:
    """The first few differences."""
    differences = []
    for db in sorted(set(expected) | set(got)):
        one, other = expected.get(db, {}), got.get(db, {})
        differences += [
            (db, key, one.get(key), other.get(key))
            for key in one.keys() | other.keys()
            if one.get(key) != other.get(key)
        ]
    return f"{len(differences):6} differ: " + ", ".join(repr(each)[:300] for each in differences[:3])


def contents_of(wire: Wire, databases: range = range(16)) -> Contents:
    """All contents of a server."""
    found: Contents = {}
    for db in databases:
        wire("SELECT", db)
        keys = wire("KEYS", "*")
        replies = wire.pipeline([command for key in keys for command in (("GET", key), ("PEXPIRETIME", key))])
        values = zip(keys, replies[0::2], replies[1::2], strict=True)
        entries = {
            key: Entry(value, deadline if deadline >= 0 else None)
            for key, value, deadline in values
            if value is not None
        }
        if entries:
            found[db] = entries
    wire("SELECT", 0)
    return found
