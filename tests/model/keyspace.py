"""The simplest model of a store of strings: sixteen dictionaries.

Tests play random commands against this model, and compare images with it.  It knows the meaning of commands, but not
their syntax: its methods take the arguments of correct commands, with deadlines as absolute times, and return the
commands' results.  Time is an argument, so the model never changes by itself.

    keyspace = Keyspace()
    keyspace.set(0, b"k", b"v", deadline_ms=None)
    frozen = keyspace.copy()        # what a snapshot taken now must hold
"""

from dataclasses import dataclass

DATABASES = 16
INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1


@dataclass(frozen=True)
class Entry:
    """A key's value and deadline [Unix ms]; None: no deadline."""

    value: bytes
    deadline_ms: int | None = None


class Refused(Exception):
    """The command is refused, and nothing has changed."""


Contents = dict[int, dict[bytes, Entry]]


class Keyspace:
    """Databases 0 to 15, each a dictionary from key to Entry."""

    def __init__(self) -> None:
        self.databases: list[dict[bytes, Entry]] = [{} for _ in range(DATABASES)]

    def copy(self) -> "Keyspace":
        """A copy of the contents, independent of later changes."""
        other = Keyspace()
        other.databases = [dict(database) for database in self.databases]
        return other

    def contents(self, now_ms: int = 0) -> Contents:
        """The contents at `now_ms`, by database, without empty databases."""
        alive = (
            {key: entry for key, entry in database.items() if not _over(entry, now_ms)} for database in self.databases
        )
        return {db: entries for db, entries in enumerate(alive) if entries}

    def expire(self, now_ms: int) -> None:
        """Remove due keys."""
        for database in self.databases:
            for key in [key for key, entry in database.items() if _over(entry, now_ms)]:
                del database[key]

    # --- values ---

    def get(self, db: int, key: bytes) -> bytes | None:
        """The value."""
        entry = self.databases[db].get(key)
        return entry.value if entry else None

    def set(self, db: int, key: bytes, value: bytes, deadline_ms: int | None = None, keep_ttl: bool = False) -> None:
        """SET; removes an old deadline, except with keep_ttl."""
        if keep_ttl and key in self.databases[db]:
            deadline_ms = self.databases[db][key].deadline_ms
        self.databases[db][key] = Entry(value, deadline_ms)

    def append(self, db: int, key: bytes, tail: bytes) -> int:
        """APPEND: the new length."""
        return self._change(db, key, (self.get(db, key) or b"") + tail)

    def setrange(self, db: int, key: bytes, offset: int, part: bytes) -> int:
        """SETRANGE: the new length; an empty part changes nothing."""
        old = self.get(db, key) or b""
        if not part:
            return len(old)
        return self._change(db, key, old[:offset].ljust(offset, b"\0") + part + old[offset + len(part) :])

    def incrby(self, db: int, key: bytes, amount: int) -> int:
        """INCRBY: the new number."""
        old = self.get(db, key)
        number = 0 if old is None else _integer(old)
        if number is None or not INT64_MIN <= number + amount <= INT64_MAX:
            raise Refused
        self._change(db, key, b"%d" % (number + amount))
        return number + amount

    def _change(self, db: int, key: bytes, value: bytes) -> int:
        self.set(db, key, value, keep_ttl=True)
        return len(value)

    # --- keys ---

    def delete(self, db: int, *keys: bytes) -> int:
        """DEL: how many there were."""
        return sum(self.databases[db].pop(key, None) is not None for key in keys)

    def deadline(self, db: int, key: bytes, deadline_ms: int | None) -> bool:
        """PEXPIREAT, or PERSIST for None: whether that changed anything."""
        entry = self.databases[db].get(key)
        if entry is None or (deadline_ms is None and entry.deadline_ms is None):
            return False
        self.databases[db][key] = Entry(entry.value, deadline_ms)
        return True

    def rename(self, db: int, source: bytes, target: bytes) -> None:
        """RENAME."""
        if source not in self.databases[db]:
            raise Refused
        self.databases[db][target] = self.databases[db].pop(source)

    def copy_key(self, db: int, source: bytes, target_db: int, target: bytes, replace: bool) -> bool:
        """COPY: whether it was copied."""
        if (db, source) == (target_db, target):
            raise Refused
        entry = self.databases[db].get(source)
        if entry is None or (target in self.databases[target_db] and not replace):
            return False
        self.databases[target_db][target] = entry
        return True

    def move(self, db: int, key: bytes, target_db: int) -> bool:
        """MOVE: whether it was moved."""
        if db == target_db:
            raise Refused
        if key not in self.databases[db] or key in self.databases[target_db]:
            return False
        self.databases[target_db][key] = self.databases[db].pop(key)
        return True

    # --- databases ---

    def swap(self, one: int, other: int) -> None:
        """SWAPDB."""
        self.databases[one], self.databases[other] = self.databases[other], self.databases[one]

    def flush(self, db: int | None = None) -> None:
        """FLUSHDB, or FLUSHALL for None."""
        for database in self.databases if db is None else [self.databases[db]]:
            database.clear()


def _over(entry: Entry, now_ms: int) -> bool:
    return entry.deadline_ms is not None and entry.deadline_ms <= now_ms


def _integer(text: bytes) -> int | None:
    # As strict as Redis: what an integer prints as, and nothing else.
    try:
        number = int(text)
    except ValueError:
        return None
    return number if text == b"%d" % number and INT64_MIN <= number <= INT64_MAX else None
