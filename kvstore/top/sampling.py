"""One look at a server: what it is asked, and what it answers.

A look is one pipeline, INFO, SLOWLOG GET and LATENCY LATEST, and what follows from the answer: BRANCH INFO or SNAPSHOT
INFO for stores, and a census of keys.  BRANCH INFO walks over a store's page tables, 5 ms for each GiB, so only a few
stores are asked in a look, in turn, and the others keep their last figures.

A command that a server does not know, or does not allow, leaves its part empty.  Only INFO must be answered.

The commands sent here are counted, so that the rates can leave them out: an idle server serves 0 requests a second.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kvstore.top.census import Census, OfType
from kvstore.top.fields import Fields, NamedStore
from kvstore.top.place import Place
from kvstore.wire.reply import CommandError, Error
from kvstore.wire.respclient import Connection, ProtocolError

SLOW_MAX = 10  # entries of the slow log
GONE = (OSError, ProtocolError, CommandError)  # what ends a connection to a server


@dataclass(frozen=True)
class Budget:
    """How much a look may ask for beside INFO."""

    keys: int = 32  # of the census
    stores: int = 1  # whose pages are counted


LIVE = Budget()


@dataclass(frozen=True)
class Slow:
    """An entry of the slow log."""

    unix_s: int
    us: int
    command: str
    client: str


@dataclass(frozen=True)
class Event:
    """An entry of LATENCY LATEST."""

    name: str
    unix_s: int
    last_ms: int
    worst_ms: int


@dataclass(frozen=True)
class Sample:
    """The answers of a server at one time."""

    at_s: float  # of the monotonic clock
    info: Fields
    slow: Sequence[Slow] = ()
    events: Sequence[Event] = ()
    pages: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # by store: fields of BRANCH INFO
    types: Sequence[OfType] = ()
    sampled: int = 0
    own_calls: Mapping[str, int] = field(default_factory=dict)  # sent by this program since the last sample
    own_hits: int = 0


class Sampler:
    """Looks at one server, again and again; connects when it has to."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._connection: Connection | None = None
        self._begin()

    def _begin(self) -> None:
        self._census = Census()
        self._sent: Counter[str] = Counter()
        self._pages: dict[str, dict[str, int]] = {}
        self._next = 0  # store whose pages are counted next

    def look(self, budget: Budget = Budget()) -> Sample:
        """A sample.  Raises one of GONE; the next look connects anew."""
        try:
            if self._connection is None:
                self._begin()
                self._connection = self.place.connect()
            return self._look(self._connection, budget)
        except GONE:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _look(self, connection: Connection, budget: Budget) -> Sample:
        own = Counter(self._sent) + self._census.sent
        hits = self._census.hits
        self._sent.clear()
        self._census.sent.clear()
        self._census.hits = 0
        text, slow, events = connection.pipeline(
            [("INFO", "everything"), ("SLOWLOG", "GET", SLOW_MAX), ("LATENCY", "LATEST")]
        )
        self._sent.update(["info", "slowlog|get", "latency|latest"])
        if isinstance(text, Error):
            raise CommandError(str(text))
        at_s, info = time.monotonic(), Fields(_text(text))
        self._count_pages(connection, info.stores(), budget.stores)
        keys = {number: int(pairs["keys"]) for number, pairs in info.databases().items() if pairs["keys"].isdecimal()}
        self._census.look(connection, keys, budget.keys)
        return Sample(
            at_s,
            info,
            list(filter(None, map(_slow, _list(slow)))),
            list(filter(None, map(_event, _list(events)))),
            dict(self._pages),
            self._census.types(),
            self._census.sampled,
            own,
            hits,
        )

    def _count_pages(self, connection: Connection, stores: Sequence[NamedStore], most: int) -> None:
        names = [one.name for one in stores]
        self._pages = {name: pages for name, pages in self._pages.items() if name in names}
        chosen = [stores[(self._next + i) % len(stores)] for i in range(min(most, len(stores)))]
        self._next += len(chosen)
        replies = connection.pipeline([(one.kind, "INFO", one.name) for one in chosen])
        self._sent.update(f"{one.kind}|info" for one in chosen)
        for one, reply in zip(chosen, replies, strict=True):
            found = _map(reply)
            self._pages[one.name] = {name: value for name, value in found.items() if isinstance(value, int)}


def _text(reply: Any) -> str:
    return reply.decode(errors="backslashreplace") if isinstance(reply, bytes) else str(reply)


def _list(reply: Any) -> list[Any]:
    return reply if isinstance(reply, list) else []


def _map(reply: Any) -> dict[str, Any]:
    # A reply of names and values, as RESP2 or RESP3 has it.
    pairs = reply.items() if isinstance(reply, dict) else zip(_list(reply)[::2], _list(reply)[1::2], strict=False)
    return {_text(name): value for name, value in pairs}


def _slow(entry: Any) -> Slow | None:
    match entry:
        case [_, int(unix_s), int(us), list(words), *more]:
            return Slow(unix_s, us, " ".join(map(_text, words)), _text(more[0]) if more else "")
    return None


def _event(entry: Any) -> Event | None:
    match entry:
        case [name, int(unix_s), int(last_ms), int(worst_ms), *_]:
            return Event(_text(name), unix_s, last_ms, worst_ms)
    return None
