"""Making, resetting, restoring, exchanging and dropping named stores: a fork each, or less.

    make       forks the origin.  A branch gets a second root by another fork, its base
    reset      the base becomes the root of the space, and a fork of it the new base
    restore    a fork of a snapshot becomes the root of a branch, or of the main store
    swap       two stores exchange their roots, and what belongs to these
    drop       roots, registers and memory go back; connections that use the store lose it

None of these touches a key, so none depends on how many there are.  Lines of contents (lines.py) follow the roots.
Trees that nobody needs any more are released in steps between turns (store/flush.py).  All take the context of the
store concerned, which need not be the one at hand.

Those who listen at a store learn that its contents are replaced (reset, restore, swap): a watched key counts as
changed, a tracking client is told that nothing in its cache is valid, waited keys are looked up again, and no keyspace
event is published.  Subscriptions and waits stay with the name of the store, as they stay with the number of a database
in SWAPDB.
"""

from kvstore.branches.lines import follow, follow_from, line_begin, line_end
from kvstore.branches.named import area_close, copy_name, named, named_alloc, named_free, named_of
from kvstore.branches.registry import registry_add, registry_remove
from kvstore.branches.using import note_due
from kvstore.effects.door import replaced
from kvstore.lifetimes.context import CONTEXT, CONTEXT_WORDS, context_at
from kvstore.lifetimes.named import (
    AREA,
    BASE,
    BASE_LINE,
    BRANCH,
    CONTEXT_OF_NAMED,
    DROPPED,
    ENDS_MS,
    KIND,
    NAME,
    NAME_SIZE,
    NUMBER,
    ORIGIN,
    ORIGIN_NAME,
    ORIGIN_SIZE,
    QUOTA,
    RESETS,
    SNAPSHOT,
)
from kvstore.lifetimes.pool import NAMED_END_MS, NAMED_STORES
from kvstore.lifetimes.shard import CONTEXT_AT_HAND
from kvstore.lifetimes.store import (
    ACCOUNT,
    CONTEXT_ADDRESS,
    DEFRAG_STATE,
    EXPIRE_BUCKET,
    EXPIRED_STALE_PERC,
    FRAMES_MAX,
    LINE,
    NAMED_ADDRESS,
)
from kvstore.store.databases import keyspace_open
from kvstore.store.defrag import RESTING
from kvstore.store.flush import release_copied, release_root
from kvstore.store.reserve import leaves_enough
from kvstore.system.libc import words_at
from mmcore.charges import account_close, account_open, recharge
from mmcore.errors import NO_FRAME, NO_SPACE
from mmcore.fork import CONSTANT, fork
from mmcore.frames import has_frames
from mmcore.jit import int64, kernel, linked, void
from mmcore.mapping import load_cr3
from mmcore.paging import PAGE_SHIFT
from mmcore.spaces import space_close, space_open
from mmcore.state import CHARGED, CR3, EPOCH
from mmcore.tlb import tlb_flush

NO_MEMORY = -7  # of the process, beside NO_FRAME and NO_SPACE
FRAMES_OF_BRANCH = 2  # its two roots
assert NO_MEMORY not in (NO_FRAME, NO_SPACE)


@linked(void(CONTEXT, int64))
def _take_account(context, account):  # type: ignore[no-untyped-def]
    """Give the store of this context another account; its base, which stays with its name, is charged to it."""
    context.store[ACCOUNT] = account
    if context.shard[CONTEXT_AT_HAND] == context.store[CONTEXT_ADDRESS]:
        context.space.mem.frames[CHARGED] = account
    if named_of(context)[BASE] >= 0:
        recharge(context.space.mem, named_of(context)[BASE], account)


@linked(void(CONTEXT))
def _open_account(context):  # type: ignore[no-untyped-def]
    """Give the store of this context a new account, which pays for its roots."""
    _take_account(context, account_open(context.space.mem))
    recharge(context.space.mem, context.space.cpu[CR3], context.store[ACCOUNT])


@linked(void(CONTEXT))
def _begin(context):  # type: ignore[no-untyped-def]
    """The new store's first steps, in its own context: a branch forks its base."""
    own = named_of(context)
    if own[KIND] == BRANCH:
        own[BASE] = fork(context.space, CONSTANT)
    if own[QUOTA] > 0:
        context.store[FRAMES_MAX] = max(1, own[QUOTA] >> PAGE_SHIFT)


@linked(int64(CONTEXT, int64, int64, int64, int64, int64))
def make(context, name, size, kind, ends_ms, quota):  # type: ignore[no-untyped-def]
    """Make a branch or a snapshot (`kind`) of the store of this context, by the name of `size` bytes at `name`.

    ends_ms: Unix time; NEVER.  quota: of its own frames [bytes], 0 for none.  Returns its address, or NO_FRAME,
    NO_SPACE, NO_MEMORY with nothing changed.
    """
    if not has_frames(context.space, FRAMES_OF_BRANCH) or leaves_enough(context, FRAMES_OF_BRANCH) == 0:
        return NO_FRAME
    address = named_alloc(context, name, size, kind)
    if address == 0:
        return NO_MEMORY
    own, origin = named(address), named_of(context)
    own[ENDS_MS], own[QUOTA], own[ORIGIN] = ends_ms, quota, origin[NUMBER]
    own[ORIGIN_NAME], own[ORIGIN_SIZE] = copy_name(origin[NAME], origin[NAME_SIZE]), origin[NAME_SIZE]
    if own[ORIGIN_NAME] == 0 or registry_add(context, address) == 0:
        named_free(address)
        return NO_MEMORY
    root = fork(context.space, CONSTANT)
    assert root >= 0, "no frame was reserved for a root"
    source = words_at(context.store[CONTEXT_ADDRESS], CONTEXT_WORDS)
    record = words_at(own[CONTEXT_OF_NAMED], CONTEXT_WORDS)
    if space_open(context.space, source, record, root, 1 if kind == SNAPSHOT else 0) < 0:
        registry_remove(context, address)
        named_free(address)
        release_root(context, root)
        context.pool[NAMED_STORES] -= 1
        return NO_SPACE
    made = context_at(own[CONTEXT_OF_NAMED])
    _begin(made)
    _open_account(made)
    if kind == BRANCH:
        own[BASE_LINE] = line_begin(context.store[LINE])
    follow_from(made, context.store[LINE])
    context.pool[NAMED_END_MS] = min(context.pool[NAMED_END_MS], ends_ms)
    return address


@kernel
def _own_again(context):  # type: ignore[no-untyped-def]
    # The store pays for its roots alone.  Its old account pays on for what it took before, until that is free.
    old = context.store[ACCOUNT]
    _open_account(context)
    account_close(context.space.mem, old)


@kernel
def _other_contents(context):  # type: ignore[no-untyped-def]
    # The store has another root than before: nothing that was known of the old one holds.
    store = context.store
    code = keyspace_open(context)
    assert code == 0, "a root without a store"
    store[EXPIRE_BUCKET] = store[EXPIRED_STALE_PERC] = 0
    store[DEFRAG_STATE] = RESTING
    replaced(context)
    note_due(context)


@linked(int64(CONTEXT))
def reset_branch(context):  # type: ignore[no-untyped-def]
    """Give the branch of this context the state that it was made with: 1, or 0 when frames ran out."""
    own = named_of(context)
    if not has_frames(context.space, 1):
        return 0
    release_root(context, load_cr3(context.space, own[BASE]))
    own[BASE] = fork(context.space, CONSTANT)
    own[RESETS] += 1
    follow_from(context, own[BASE_LINE])
    _own_again(context)
    _other_contents(context)
    return 1


@linked(int64(CONTEXT, int64))
def restore(context, address):  # type: ignore[no-untyped-def]
    """Give the store of this context the contents of the named store at `address`: 1, or 0 when frames ran out."""
    source = context_at(named(address)[CONTEXT_OF_NAMED])
    root = fork(source.space, CONSTANT)
    if root < 0:
        return 0
    context.space.cpu[EPOCH] = source.space.cpu[EPOCH]
    release_root(context, load_cr3(context.space, root))
    follow_from(context, source.store[LINE])
    _own_again(context)
    _other_contents(context)
    return 1


@linked(void(CONTEXT, CONTEXT))
def swap(context, other):  # type: ignore[no-untyped-def]
    """Exchange the contents of two stores, each of which can be written."""
    account = context.store[ACCOUNT]
    _take_account(context, other.store[ACCOUNT])
    _take_account(other, account)
    for register in (CR3, EPOCH):
        kept = context.space.cpu[register]
        context.space.cpu[register], other.space.cpu[register] = other.space.cpu[register], kept
    line, others_line = context.store[LINE], other.store[LINE]
    follow(context, others_line)
    follow(other, line)
    tlb_flush(context.space)
    tlb_flush(other.space)
    _other_contents(context)
    _other_contents(other)


@linked(void(CONTEXT))
def drop(context):  # type: ignore[no-untyped-def]
    """Strike out the branch or snapshot of this context, which no connection uses.

    Its memory stays until no command is at hand that may have its context: `end`.
    """
    address = context.store[NAMED_ADDRESS]
    registry_remove(context, address)
    named(address)[KIND] = DROPPED
    note_due(context)


@linked(void(CONTEXT))
def end(context):  # type: ignore[no-untyped-def]
    """The end of a store that was dropped: its roots and its memory.  It is neither at hand nor due."""
    own, address = named_of(context), context.store[NAMED_ADDRESS]
    if own[AREA] != 0:
        area_close(context)
    release_copied(context)
    account_close(context.space.mem, context.store[ACCOUNT])
    line_end(context, context.store[LINE])
    line_end(context, own[BASE_LINE])
    root = space_close(context.space)
    release_root(context, root)
    if own[BASE] >= 0:
        release_root(context, own[BASE])
    context.pool[NAMED_STORES] -= 1
    named_free(address)
