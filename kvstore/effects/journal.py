"""A journal of keyspace events: a listener that records every event.

A record is two words and the key, padded to 8 bytes:

    OFFSET  SIZE  DESCRIPTION
    0       8     event (events.py), or EMPTIED, SWAPPED, REPLACED
    8       8     database | length of the key << 16; of SWAPPED the other database << 16
    16      n     the key

When the buffer is full, events are counted but not recorded.
"""

from typing import NamedTuple

from kvstore.effects.events import EMPTIED, EVENTS, REPLACED, SWAPPED
from kvstore.lifetimes.context import CONTEXT, Context
from kvstore.lifetimes.listeners import JOURNALED
from kvstore.lifetimes.store import JOURNAL_ADDRESS, LISTENERS
from kvstore.system.libc import bytes_at, words_at
from mmcore.jit import address_of, copy_bytes, int64, linked, uint8, void, zeros

_ADDRESS, _CAPACITY, _LENGTH, _LEFT_OUT, _WORDS = range(5)
_DB_BITS = 16
_WHOLE = {EMPTIED: "emptied", SWAPPED: "swapped", REPLACED: "replaced"}  # events of whole databases


class Told(NamedTuple):
    """One record."""

    event: str  # by Redis's name; those of _WHOLE are ours
    db: int  # -1 for all
    key: bytes
    other: int = 0  # of "swapped"


@linked(void(CONTEXT, int64, int64, int64, int64))
def journal_put(context, event, db, key, size):  # type: ignore[no-untyped-def]
    """Record an event of the key that is `size` bytes at `key`.  The caller has checked that there is a journal."""
    head = words_at(context.store[JOURNAL_ADDRESS], _WORDS)
    padded = 16 + ((size + 7) & ~7)
    if head[_LENGTH] + padded > head[_CAPACITY]:
        head[_LEFT_OUT] += 1
        return
    at = head[_ADDRESS] + head[_LENGTH]
    record = words_at(at, 2)
    record[0] = event
    record[1] = (db & 0xFFFF) | size << _DB_BITS
    if key != 0:
        copy_bytes(bytes_at(at + 16, size), 0, bytes_at(key, size), 0, size)
    else:
        padded = 16
    head[_LENGTH] += padded


class Journal:
    """Records the events of a store, from now until `close`."""

    def __init__(self, context: Context, capacity: int = 1 << 20) -> None:
        self._context = context
        self._room, self._head = zeros(uint8, capacity), zeros(int64, _WORDS)
        self._head[_ADDRESS], self._head[_CAPACITY] = address_of(self._room), capacity
        context.store[JOURNAL_ADDRESS] = address_of(self._head)
        context.store[LISTENERS] |= JOURNALED

    @property
    def left_out(self) -> int:
        """Number of events that did not fit."""
        return int(self._head[_LEFT_OUT])

    def take(self) -> list[Told]:
        """The records since the last call, in order."""
        found, at = [], 0
        while at < self._head[_LENGTH]:
            event, where = (int.from_bytes(self._room[at + i : at + i + 8], "little", signed=True) for i in (0, 8))
            db, size = where & 0xFFFF, where >> _DB_BITS
            db = -1 if db == 0xFFFF else db
            if event >= 0:
                found.append(Told(EVENTS[event].name, db, bytes(self._room[at + 16 : at + 16 + size])))
                at += 16 + ((size + 7) & ~7)
            else:
                found.append(Told(_WHOLE[event], db, b"", size))
                at += 16
        self._head[_LENGTH] = 0
        return found

    def close(self) -> None:
        """Stop recording."""
        self._context.store[LISTENERS] &= ~JOURNALED
        self._context.store[JOURNAL_ADDRESS] = 0
