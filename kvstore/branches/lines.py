"""How lines of contents hang together: which of them began where, and what two of them have in common.

A line (effects/changes.py) is what the contents of a store have been, one after the other.  A fork begins a line at a
position of another one, its parent:

    main     ────────┬──────────┬──────────────►        main was changed before, between and after the two forks
                     │          └── b ────►
                     └── a ──┬────►
                             └── a's child ────►

The contents of two stores can differ only in keys that were recorded on the two ways from the point where they parted:
in the lines below the common one, and in the common one between the two positions.  So positions of different lines are
never compared.

The contents have a line, and not the name.  So a command that gives a store other contents gives it another line:

    BRANCH CREATE       a line that begins at the end of the origin's; and another one there, for the branch's base
    SNAPSHOT CREATE     likewise; such a line stays empty
    BRANCH RESET        a line that begins at the base's
    SNAPSHOT RESTORE    a line that begins at the snapshot's
    BRANCH SWAP         the two stores exchange their lines

A line that begins at one without any change begins, in truth, where that one began: it becomes its sibling.

(1) The list of a line's children has them in the order of their positions.
(2) A line is held, or at least two lines began at it.  If only one is left, the two lines become one.  So there are at
    most twice as many lines as stores, bases and comparisons.
(3) The store of a line listens for changes exactly while somebody may ask about them: while the line has a parent, or
    children.
"""

from kvstore.effects.changes import (
    BEFORE,
    BEGIN,
    CAPACITY,
    END,
    FIRST,
    FLOOR,
    HELD,
    LAST,
    LINE_WORDS,
    MARK,
    NEXT,
    OWNER,
    PARENT,
    RING,
    RING_BYTES,
    RING_MIN,
    START,
    line_at,
    line_clear,
    replay,
    ring_bytes,
    ring_free,
    ring_new,
)
from kvstore.lifetimes.context import CONTEXT, context_at
from kvstore.lifetimes.listeners import RECORDED
from kvstore.lifetimes.store import CONTEXT_ADDRESS, LINE, LISTENERS
from kvstore.system.libc import free, malloc
from mmcore.jit import int64, kernel, linked, void


@kernel
def _listen(line):  # type: ignore[no-untyped-def]
    # (3)
    if line[OWNER] != 0:
        store = context_at(line[OWNER]).store
        if line[PARENT] != 0 or line[FIRST] != 0:
            store[LISTENERS] |= RECORDED
        else:
            store[LISTENERS] &= ~RECORDED


@linked(void(int64, int64, int64, int64))
def _link(address, parent, begin, before):  # type: ignore[no-untyped-def]
    """Let a line begin at a position of `parent`, behind the sibling `before` in the list of its children."""
    line, above = line_at(address), line_at(parent)
    line[PARENT], line[BEGIN], line[BEFORE] = parent, begin, before
    line[NEXT] = above[FIRST] if before == 0 else line_at(before)[NEXT]
    if before == 0:
        above[FIRST] = address
    else:
        line_at(before)[NEXT] = address
    if line[NEXT] == 0:
        above[LAST] = address
    else:
        line_at(line[NEXT])[BEFORE] = address


@linked(void(int64))
def _unlink(address):  # type: ignore[no-untyped-def]
    """Take a line out of the list of its parent's children."""
    line = line_at(address)
    above = line_at(line[PARENT])
    if line[BEFORE] == 0:
        above[FIRST] = line[NEXT]
    else:
        line_at(line[BEFORE])[NEXT] = line[NEXT]
    if line[NEXT] == 0:
        above[LAST] = line[BEFORE]
    else:
        line_at(line[NEXT])[BEFORE] = line[BEFORE]
    line[PARENT] = line[NEXT] = line[BEFORE] = 0


@linked(int64())
def line_new():  # type: ignore[no-untyped-def]
    """A line that begins with itself, and is held; 0 when memory ran out."""
    address = malloc(8 * LINE_WORDS)
    if address != 0:
        line = line_at(address)
        for i in range(LINE_WORDS):
            line[i] = 0
        line[HELD] = 1
        line_clear(line)
    return address


@linked(int64(int64))
def line_begin(origin):  # type: ignore[no-untyped-def]
    """A line that begins where another one is now, and is held; 0 when memory ran out, or without the other one."""
    address = line_new() if origin != 0 else 0
    if address == 0:
        return 0
    old = line_at(origin)
    if old[PARENT] != 0 and old[END] == old[START]:
        _link(address, old[PARENT], old[BEGIN], origin)
    else:
        _link(address, origin, old[END], old[LAST])
        old[MARK] = old[END]
        _listen(old)
    return address


@kernel
def _forget(context, line):  # type: ignore[no-untyped-def]
    # Nobody can ask about what the line has recorded.
    ring_free(context, line[RING], line[RING_BYTES])
    line_clear(line)
    _listen(line)


@linked(void(CONTEXT, int64[::1], int64[::1]))
def _put_before(context, line, child):  # type: ignore[no-untyped-def]
    """Put what a line has recorded before the position of `child` in front of what that has recorded."""
    begin, floor, end, ring, capacity = child[BEGIN], child[FLOOR], child[END], child[RING], child[CAPACITY]
    bytes_before = child[RING_BYTES]
    if floor > child[START] or begin == line[START]:
        return
    needed, room = begin - line[START] + end - floor, RING_MIN
    while room < needed:
        room *= 2
    if line[FLOOR] > line[START] or ring_new(context, child, room, ring_bytes(context, room)) == 0:
        child[START] -= 1  # the child has forgotten its beginning
        return
    replay(child, line[RING], line[CAPACITY], line[START], begin, 0)
    replay(child, ring, capacity, floor, end, child[FIRST])
    ring_free(context, ring, bytes_before)


@linked(void(CONTEXT, int64))
def _become_one(context, address):  # type: ignore[no-untyped-def]
    """Let the only child of a line that is not held take its place (2)."""
    line = line_at(address)
    child = line[FIRST]
    below, parent = line_at(child), line[PARENT]
    if parent != 0:
        _put_before(context, line, below)
        begin, before = line[BEGIN], line[BEFORE]
        _unlink(address)
        _link(child, parent, begin, before)
    else:
        below[PARENT] = 0
        if below[FIRST] == 0:
            _forget(context, below)
    ring_free(context, line[RING], line[RING_BYTES])
    free(address)


@linked(void(CONTEXT, int64))
def line_end(context, address):  # type: ignore[no-untyped-def]
    """Nobody holds the line any more (0: none)."""
    if address == 0:
        return
    line = line_at(address)
    line[HELD] = line[OWNER] = 0
    while line[HELD] == 0 and line[FIRST] == 0:
        parent = line[PARENT]
        if parent != 0:
            _unlink(address)
        ring_free(context, line[RING], line[RING_BYTES])
        free(address)
        if parent == 0:
            return
        address, line = parent, line_at(parent)
    if line[HELD] == 0:
        if line[FIRST] == line[LAST]:
            _become_one(context, address)
    elif line[FIRST] != 0:
        line[MARK] = line_at(line[LAST])[BEGIN]
    elif line[PARENT] != 0:
        line[MARK] = line[START]
    else:
        _forget(context, line)


@linked(void(CONTEXT, int64))
def follow(context, address):  # type: ignore[no-untyped-def]
    """Let the contents of the store of this context go on along a line (0: none).  It has no other line any more."""
    store = context.store
    store[LINE] = address
    store[LISTENERS] &= ~RECORDED
    if address != 0:
        line_at(address)[OWNER] = store[CONTEXT_ADDRESS]
        _listen(line_at(address))


@linked(void(CONTEXT))
def follow_anew(context):  # type: ignore[no-untyped-def]
    """Let the store of this context follow a new line: its contents come from elsewhere."""
    old = context.store[LINE]
    follow(context, line_new())
    line_end(context, old)


@linked(void(CONTEXT, int64))
def follow_from(context, origin):  # type: ignore[no-untyped-def]
    """Let the store of this context follow a line from `origin` on: its contents have just become those of that one."""
    old = context.store[LINE]
    follow(context, line_begin(origin))
    line_end(context, old)
