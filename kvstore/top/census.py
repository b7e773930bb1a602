"""The memory that the keys of a server take by type, estimated from a sample.

No field of INFO tells memory by type.  So each look at the server takes a few keys by SCAN and asks for their TYPE and
MEMORY USAGE.  SCAN goes on where it stopped, in the order of hashes, which says nothing about types or sizes.  Each
time the database is chosen by chance, with its number of keys as weight.  The last KEPT keys make the estimate.

A look costs the server `budget` lookups, whatever it holds; SCAN may return more keys, which are left out.  TYPE counts
as a hit, so the census counts its hits, and the rates leave them out.
"""

import random
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass

from kvstore.wire.reply import Error
from kvstore.wire.respclient import Connection

KEPT = 4096


@dataclass(frozen=True)
class OfType:
    """The keys of a type in the sample."""

    type: str
    keys: int
    bytes: int


class Census:
    """Takes samples of keys; `sent` counts the commands, by their names in commandstats, and `hits` the lookups."""

    def __init__(self, chance: random.Random | None = None) -> None:
        self.sent: Counter[str] = Counter()
        self.hits = 0
        self._chance = chance or random.Random()
        self._cursors: dict[int, bytes] = {}
        self._kept: deque[tuple[str, int]] = deque(maxlen=KEPT)

    @property
    def sampled(self) -> int:
        """Number of keys that the estimate comes from."""
        return len(self._kept)

    def types(self) -> list[OfType]:
        """The sample by type, the type that takes most memory first."""
        keys, sizes = Counter[str](), Counter[str]()
        for kind, size in self._kept:
            keys[kind] += 1
            sizes[kind] += size
        return [OfType(kind, keys[kind], size) for kind, size in sizes.most_common()]

    def look(self, connection: Connection, databases: Mapping[int, int], budget: int) -> None:
        """Add up to `budget` keys of one database, by its number of keys.  Raises OSError, ProtocolError."""
        if not sum(databases.values()) or budget <= 0:
            return
        (database,) = self._chance.choices(list(databases), list(databases.values()))
        cursor = self._cursors.get(database, b"0")
        chosen, scanned = connection.pipeline([("SELECT", database), ("SCAN", cursor, "COUNT", budget)])
        self.sent.update(["select", "scan"])
        if isinstance(chosen, Error) or not isinstance(scanned, list) or len(scanned) != 2:
            return  # a user who may not, or a branch that is gone
        self._cursors[database], keys = scanned
        keys = keys[:budget]
        asked = [words for key in keys for words in (("TYPE", key), ("MEMORY", "USAGE", key))]
        replies = connection.pipeline(asked)
        self.sent.update({"type": len(keys), "memory|usage": len(keys)})
        for kind, size in zip(replies[::2], replies[1::2], strict=True):
            if isinstance(kind, Error) or kind == "none":
                continue
            self.hits += 1
            if isinstance(size, int):
                self._kept.append((str(kind), size))
