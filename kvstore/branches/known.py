"""Named stores as Python sees them: a picture of the registry, and a context over one of them.

Python looks at named stores only for commands like BRANCH LIST.  Its copies of their figures are valid until the next
command.
"""

import ctypes
from collections.abc import Iterator
from typing import Any, NamedTuple

from kvstore.lifetimes import named, pool
from kvstore.lifetimes.connection import NEVER
from kvstore.lifetimes.context import CONTEXT_WORDS, Context
from mmcore.jit import int64, over
from mmcore.state import SPACE, Space

KINDS = {"main": "main store", "branch": "branch", "snapshot": "snapshot"}
_NAMES = {named.MAIN: "main", named.BRANCH: "branch", named.SNAPSHOT: "snapshot"}


class Known(NamedTuple):
    """A named store, as its row describes it."""

    address: int
    context: int  # address of its context's record
    number: int
    name: str
    kind: str  # main, branch or snapshot
    origin: str  # name that the store had then which it was made from; "" for main
    made_ms: int  # Unix time
    ends_ms: int  # Unix time; NEVER
    quota: int  # [bytes], 0 for none
    users: int  # connections
    resets: int

    def ttl_s(self, now_ms: int) -> int:
        """Seconds until it is dropped, -1 for never."""
        return -1 if self.ends_ms == NEVER else max(0, self.ends_ms - now_ms + 999) // 1000


def _words(address: int, count: int) -> Any:
    return over((ctypes.c_int64 * count).from_address(address), int64)


def known(address: int) -> Known:
    """The named store whose row is at this address."""
    row = _words(address, named.NAMED_WORDS)
    return Known(
        address=address,
        context=row[named.CONTEXT_OF_NAMED],
        number=row[named.NUMBER],
        name=_text(row[named.NAME], row[named.NAME_SIZE]),
        kind=_NAMES[row[named.KIND]],
        origin=_text(row[named.ORIGIN_NAME], row[named.ORIGIN_SIZE]),
        made_ms=row[named.MADE_MS],
        ends_ms=row[named.ENDS_MS],
        quota=row[named.QUOTA],
        users=row[named.USERS],
        resets=row[named.RESETS],
    )


def known_stores(context: Context) -> Iterator[Known]:
    """All named stores, the main one first, then in the order in which they were made."""
    address = int(context.pool[pool.NAMED_FIRST])
    while address:
        yield known(address)
        address = _words(address, named.NAMED_WORDS)[named.AFTER]


def _text(address: int, size: int) -> str:
    return ctypes.string_at(address, size).decode("ascii") if address else ""


def context_over(main: Context, address: int) -> Context:
    """The context of a named store, whose record is at `address`; `main` is that of the main store."""
    if address == main.address:
        return main
    record = _words(address, CONTEXT_WORDS)
    cpu, store = (_array(record, place) for place in (SPACE.offset("cpu"), Context.kind.offset("store")))
    beside = main.space
    space = Space(beside.mem, beside.tlb, beside.psc, beside.processor, beside.spaces, cpu)
    return Context(space, main.pool, store, main.shard, main.call, main.args)


def _array(record: Any, place: int) -> Any:
    return _words(record[place], record[place + 1])
