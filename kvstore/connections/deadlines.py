"""The deadlines of blocked connections: a binary heap, the earliest on top.

A node is (deadline, slot); each connection's row holds the place of its node, so a wait that ends early takes its node
out at once.  The heap has room for all connections, so adding to it never fails.  The time to add or remove a deadline
is logarithmic in the number of connections that wait with one; the others, and those without a deadline, cost nothing.
"""

from kvstore.connections.table import connection
from kvstore.lifetimes.connection import DEADLINE_PLACE, NEVER
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import BLOCKED_DEADLINE_MS, CONNECTION_CAPACITY, DEADLINES, DEADLINES_ADDRESS
from kvstore.lifetimes.sizes import DEADLINE_WORDS
from kvstore.system.libc import words_at
from mmcore.jit import int64, kernel, linked, view, void


@view
def _nodes(context):  # type: ignore[no-untyped-def]
    return words_at(context.shard[DEADLINES_ADDRESS], context.shard[CONNECTION_CAPACITY] * DEADLINE_WORDS)


@kernel
def _place(context, nodes, at, deadline, slot):  # type: ignore[no-untyped-def]
    nodes[2 * at], nodes[2 * at + 1] = deadline, slot
    connection(context, slot)[DEADLINE_PLACE] = at + 1


@kernel
def _sift(context, at, deadline, slot):  # type: ignore[no-untyped-def]
    # Put a node into the hole at `at`, or above or below it, where it belongs.
    nodes, count = _nodes(context), context.shard[DEADLINES]
    while at > 0 and nodes[2 * ((at - 1) >> 1)] > deadline:
        above = (at - 1) >> 1
        _place(context, nodes, at, nodes[2 * above], nodes[2 * above + 1])
        at = above
    while True:
        below = 2 * at + 1
        if below + 1 < count and nodes[2 * below + 2] < nodes[2 * below]:
            below += 1
        if below >= count or nodes[2 * below] >= deadline:
            break
        _place(context, nodes, at, nodes[2 * below], nodes[2 * below + 1])
        at = below
    _place(context, nodes, at, deadline, slot)


@kernel
def _note_first(context):  # type: ignore[no-untyped-def]
    shard = context.shard
    shard[BLOCKED_DEADLINE_MS] = _nodes(context)[0] if shard[DEADLINES] > 0 else NEVER


@linked(void(CONTEXT, int64, int64[::1], int64))
def deadline_set(context, slot, row, deadline):  # type: ignore[no-untyped-def]
    """Let the connection have a deadline, by the monotonic clock [ms].  It has none yet; NEVER is none."""
    if deadline == NEVER:
        return
    assert row[DEADLINE_PLACE] == 0, "a connection has two deadlines"
    context.shard[DEADLINES] += 1
    _sift(context, context.shard[DEADLINES] - 1, deadline, slot)
    _note_first(context)


@linked(void(CONTEXT, int64[::1]))
def deadline_drop(context, row):  # type: ignore[no-untyped-def]
    """Forget the connection's deadline, if it has one."""
    at, shard = row[DEADLINE_PLACE] - 1, context.shard
    if at < 0:
        return
    row[DEADLINE_PLACE] = 0
    shard[DEADLINES] -= 1
    last = shard[DEADLINES]
    if at != last:
        nodes = _nodes(context)
        _sift(context, at, nodes[2 * last], nodes[2 * last + 1])
    _note_first(context)


@linked(int64(CONTEXT, int64))
def deadline_due(context, now_ms):  # type: ignore[no-untyped-def]
    """The slot of the connection with the earliest deadline if that has passed, else -1."""
    if context.shard[DEADLINES] == 0:
        return -1
    nodes = _nodes(context)
    return nodes[1] if nodes[0] <= now_ms else -1
