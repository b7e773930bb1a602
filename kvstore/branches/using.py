"""The store that a connection uses, and the store at hand.

A connection's row has the address of a context.  `enter` makes it the context at hand; whatever serves the connection
takes that context, and needs to know nothing of other stores.  The loop enters a store for each connection's turn, and
the main store for its own work.  Usually it is the same store again, which costs a comparison.

The frames that are taken are charged to the account of the store at hand (mmcore/charges.py).  A store that comes to
hand is put on the list of those that may have work left (due.py).

A connection that begins to use another store must keep nothing in the old one.  It may not watch keys, listen to
channels or track keys.  If its store is dropped it loses all that, and has the flag STORE_LOST until it
chooses another one; it never falls back to the main store.
"""

from kvstore.branches.named import area_open, is_main, named_of
from kvstore.connections.table import connection
from kvstore.lifetimes.connection import (
    BEFORE_USER,
    CONTEXT_OF,
    FLAGS,
    MOVED,
    NEXT_USER,
    STORE_LOST,
    SUBSCRIBER,
    TRACKING,
    WATCH_COUNT,
)
from kvstore.lifetimes.context import CONTEXT, context_at
from kvstore.lifetimes.named import AREA, DUE_NEXT, IS_DUE, NAMED_WORDS, USER_FIRST, USERS
from kvstore.lifetimes.shard import CONTEXT_AT_HAND, DUE_FIRST, DUE_LAST, MAIN_CONTEXT
from kvstore.lifetimes.store import ACCOUNT, CONTEXT_ADDRESS, NAMED_ADDRESS
from kvstore.store.copying import leave_copy
from kvstore.system.libc import words_at
from kvstore.wire.errors import BRANCH_LEAVE, BRANCH_MEMORY
from mmcore.jit import int64, kernel, linked, void
from mmcore.state import CHARGED


@kernel
def main_of(context):  # type: ignore[no-untyped-def]
    """The context of the main store."""
    return context_at(context.shard[MAIN_CONTEXT])


@linked(void(CONTEXT))
def note_due(context):  # type: ignore[no-untyped-def]
    """Put the store of this context on the list of those that may have work left, unless it is the main one."""
    shard = context.shard
    if is_main(context):
        return
    own, address = named_of(context), context.store[NAMED_ADDRESS]
    if own[IS_DUE]:
        return
    own[IS_DUE], own[DUE_NEXT] = 1, 0
    if shard[DUE_FIRST] == 0:
        shard[DUE_FIRST] = address
    else:
        words_at(shard[DUE_LAST], NAMED_WORDS)[DUE_NEXT] = address
    shard[DUE_LAST] = address


@linked(void(CONTEXT, int64))
def come_to_hand(context, address):  # type: ignore[no-untyped-def]
    """The store of the context at `address` comes to hand; it pays from now on."""
    context.shard[CONTEXT_AT_HAND] = address
    context.space.mem.frames[CHARGED] = context_at(address).store[ACCOUNT]


@linked(void(CONTEXT, int64))
def _change(context, address):  # type: ignore[no-untyped-def]
    come_to_hand(context, address)
    note_due(context_at(address))


@kernel
def enter(context, address):  # type: ignore[no-untyped-def]
    """Let the store of the context at `address` come to hand; returns that context."""
    if context.shard[CONTEXT_AT_HAND] != address:
        _change(context, address)
    return context_at(address)


@kernel
def enter_main(context):  # type: ignore[no-untyped-def]
    """Let the main store come to hand."""
    if context.shard[CONTEXT_AT_HAND] != context.shard[MAIN_CONTEXT]:
        come_to_hand(context, context.shard[MAIN_CONTEXT])


@kernel
def _may_leave(row):  # type: ignore[no-untyped-def]
    # Whether the connection with this row keeps nothing in the store that it uses.
    return row[FLAGS] & (SUBSCRIBER | TRACKING) == 0 and row[WATCH_COUNT] == 0


@linked(void(CONTEXT, int64, int64[::1]))
def stop_using(context, slot, row):  # type: ignore[no-untyped-def]
    """The connection in `slot` uses the store of this context, its own, no longer; it uses the main one.

    It keeps nothing in it any more.
    """
    leave_copy(context, slot)
    row[CONTEXT_OF] = context.shard[MAIN_CONTEXT]
    if is_main(context):
        return
    own, after, before = named_of(context), row[NEXT_USER], row[BEFORE_USER]
    if before > 0:
        connection(context, before - 1)[NEXT_USER] = after
    else:
        own[USER_FIRST] = after
    if after > 0:
        connection(context, after - 1)[BEFORE_USER] = before
    row[NEXT_USER] = row[BEFORE_USER] = 0
    own[USERS] -= 1
    note_due(context)  # the memory for its users is freed when no command of theirs is at hand any more


@linked(int64(CONTEXT, int64))
def use(context, slot):  # type: ignore[no-untyped-def]
    """Let the connection in `slot` use the store of this context: 0, or the number of an error with nothing changed."""
    row = connection(context, slot)
    if row[CONTEXT_OF] != context.store[CONTEXT_ADDRESS]:
        if not _may_leave(row):
            return BRANCH_LEAVE
        if not is_main(context) and named_of(context)[AREA] == 0 and area_open(context) == 0:
            return BRANCH_MEMORY
        stop_using(context_at(row[CONTEXT_OF]), slot, row)
        row[CONTEXT_OF] = context.store[CONTEXT_ADDRESS]
        if not is_main(context):
            own = named_of(context)
            row[NEXT_USER] = own[USER_FIRST]
            if own[USER_FIRST] > 0:
                connection(context, own[USER_FIRST] - 1)[BEFORE_USER] = slot + 1
            own[USER_FIRST] = slot + 1
            own[USERS] += 1
        row[FLAGS] |= MOVED
    row[FLAGS] &= ~STORE_LOST
    return 0
