"""Frames for a command: a command reserves them before it changes anything, so that it cannot fail half-way.

    0 .............. FRAMES_IN_FORCE .............. all frames there are
    data            | spare

There are two checks, one for safety and one for policy:

    are there frames for the worst case?    FRAMES_PER_COMMAND, the added data, and a copy of every page and table that
                                            a snapshot shares and the command may change
    may the store use so many?              the frames in use and the worst case together, within FRAMES_IN_FORCE

A command that adds data must pass both.  If only the second fails, the command's real need is computed.  A value that
fits its old allocation needs no frame, and neither does a value for which a slab page has room: a full store accepts
both.  A command that removes keys, or moves entries (EXPIRE, RENAME), must pass the first check only.  It takes spare
frames, as a snapshot's copies do.  So a full store can be overwritten and emptied, even while a snapshot shares it.

COPY of a very long value takes no frames: the copy shares its pages.  A write to either needs them later, and so does
an image of the store when it is loaded.  So pages that a value has borrowed (mmcore/heap/ranges.py) count as frames in
use, and as long as there are some, a command reserves for copies as it does under a snapshot.

A branch is refused before the main store is.  Each of its commands, also one that removes, may copy pages which it
shares; so it is refused as soon as its own frames exceed its quota, or the frames in force are used up but for a part.

A transaction reserves for all of its commands together.  If that is refused, the transaction can be undone (undo.py).

Before a refusal, trees and ranges that wait to be released are released at once, within PAY_STEPS.
"""

from kvstore.lifetimes.call import ARGC, DB
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.pool import FRAMES_IN_FORCE, RELEASE_COUNT
from kvstore.lifetimes.shard import COMMANDS_PROCESSED, DUE_HIDDEN, NOW_MS
from kvstore.lifetimes.store import ACCOUNT, FRAMES_MAX, UNDO_COPIES, UNDO_ROOT
from kvstore.store.copies import copies_made, is_shared
from kvstore.store.databases import FRAMES_TO_REMOVE, db_load
from kvstore.store.entries import (
    EXPIRY,
    LARGE,
    NO_DEADLINE,
    TYPE_MASK,
    entry_deadline,
    entry_flags,
    entry_length,
    entry_size,
    is_large,
)
from kvstore.store.flush import release_some
from kvstore.store.index import entry_of
from kvstore.store.layout import DB_DATED
from kvstore.store.lookup import find_slot, key_hash
from kvstore.wire.arguments import arg_address, arg_length
from kvstore.wire.resp import reply_out_of_frames
from mmcore.heap import SMALL_MAX, heap_borrowed, heap_has_room, heap_size
from mmcore.jit import int64, kernel, linked
from mmcore.mmu import load64
from mmcore.state import FREE_COUNT, TOTAL

FRAMES_PER_COMMAND = 256  # that a command which adds may take beside the pages of what it adds
# Copies that a change of one key may take under a snapshot, of pages and their PTs.  The PDs and PDPTs above them,
# which a constant fork shares too, are few and copied once: FRAMES_PER_COMMAND has room for them.
FRAMES_PER_KEY = 40  # a value that is a chain has six blocks at most (kvstore/structures/chain.py)
BYTES_PER_CHANGE = 2 << 20  # that a change of a hash table or a tree must find free, though it takes little of it
FRAMES_OF_INDEX = 16  # that a new key may take in the two indices: pages of buckets, overflow buckets, tables
OVERWRITE_SHARE = 16  # overwriting by smaller values may exceed the frames in force by one part in this many
KEPT_FOR_MAIN = 16  # one part in so many of the frames in force is for the main store alone
PAY_STEPS, PAY_PAGES = 8, 1024
NO, SAFE, ALLOWED = 0, 1, 2
WITHOUT, WITH, AS_BEFORE = 0, 1, 2  # whether a new value has a deadline


@kernel
def _copies(context, keys):  # type: ignore[no-untyped-def]
    # Frames that copies of shared pages and tables may take when `keys` keys are changed; none is copied twice.
    if is_shared(context) == 0 and context.pool[RELEASE_COUNT] == 0 and heap_borrowed(context.space) == 0:
        return 0
    frames = context.space.mem.frames
    return min(FRAMES_PER_KEY * keys, frames[TOTAL] - frames[FREE_COUNT])


@kernel
def _worst(keys, size):  # type: ignore[no-untyped-def]
    # Frames that adding `size` bytes to `keys` keys may take; an entry may take twice its size, and tables.
    pages = size >> 12
    return FRAMES_PER_COMMAND + pages + min(pages, keys) + (keys >> 3) + (pages >> 8)


@kernel
def _in_force(context):  # type: ignore[no-untyped-def]
    # The store's limit.  Pages that a transaction has copied, so that it can be undone, do not count against it.
    limit, store = context.pool[FRAMES_IN_FORCE], context.store
    if store[UNDO_ROOT] >= 0:
        limit += copies_made(context.space) - store[UNDO_COPIES]
    return limit


@kernel
def frames_used(context):  # type: ignore[no-untyped-def]
    """Frames in use, and those that values have borrowed."""
    frames = context.space.mem.frames
    return frames[TOTAL] - frames[FREE_COUNT] + heap_borrowed(context.space)


@linked(int64(CONTEXT))
def own_frames(context):  # type: ignore[no-untyped-def]
    """Frames in use that a store has taken, whoever needs them now."""
    return context.space.mem.charges[context.store[ACCOUNT]]


@linked(int64(CONTEXT, int64))
def leaves_enough(context, worst):  # type: ignore[no-untyped-def]
    """Whether what is kept for the main store stays free when so many frames are taken (0 or 1)."""
    in_force = context.pool[FRAMES_IN_FORCE]
    return 1 if frames_used(context) + worst <= in_force - in_force // KEPT_FOR_MAIN else 0


@linked(int64(CONTEXT, int64))
def _branch_may(context, worst):  # type: ignore[no-untyped-def]
    """Whether a branch may take so many frames: within its quota, and what is kept for the main store stays free."""
    if own_frames(context) + worst - FRAMES_PER_COMMAND > context.store[FRAMES_MAX]:
        return 0
    return leaves_enough(context, worst)


@kernel
def _judge(context, worst, keys):  # type: ignore[no-untyped-def]
    if context.space.mem.frames[FREE_COUNT] < worst + _copies(context, keys):
        return NO
    if context.store[FRAMES_MAX] != 0 and _branch_may(context, worst) == 0:
        return NO
    return ALLOWED if frames_used(context) + worst <= _in_force(context) else SAFE


@linked(int64(CONTEXT, int64, int64, int64))
def _look_again(context, worst, keys, enough):  # type: ignore[no-untyped-def]
    """Like _judge, after releasing waiting memory, within bounds, until _judge answers `enough`.

    Nothing is released in a command that has found a due key hidden for want of frames.
    """
    verdict = _judge(context, worst, keys)
    if context.shard[DUE_HIDDEN] == context.shard[COMMANDS_PROCESSED] + 1:
        return verdict
    for _ in range(PAY_STEPS):
        if verdict >= enough or release_some(context, PAY_PAGES) == 0:
            break
        verdict = _judge(context, worst, keys)
    return verdict


@kernel
def _granted(context, granted):  # type: ignore[no-untyped-def]
    if not granted:
        reply_out_of_frames(context)
        return 0
    return 1


@linked(int64(CONTEXT, int64, int64, int64))
def _granted_late(context, worst, keys, enough):  # type: ignore[no-untyped-def]
    return _granted(context, _look_again(context, worst, keys, enough) >= enough)


@linked(int64(CONTEXT, int64, int64))
def reserve(context, keys, size):  # type: ignore[no-untyped-def]
    """Whether a command that changes `keys` keys may add `size` bytes for any purpose; else it replies -OOM."""
    worst = _worst(keys, size)
    if _judge(context, worst, keys) == ALLOWED:
        return 1
    return _granted_late(context, worst, keys, ALLOWED)


@linked(int64(CONTEXT, int64, int64))
def reserve_change(context, keys, size):  # type: ignore[no-untyped-def]
    """Whether there are frames for a command that moves up to `size` bytes of `keys` keys; else it replies -OOM."""
    worst = _worst(keys, size)
    if _judge(context, worst, keys) >= SAFE:
        return 1
    return _granted_late(context, worst, keys, SAFE)


@linked(int64(CONTEXT, int64))
def reserve_removal(context, keys):  # type: ignore[no-untyped-def]
    """Whether there are frames for a command that removes `keys` keys; else it replies -OOM."""
    if db_load(context, context.call[DB], DB_DATED) != 0:
        keys += keys  # with each key, its name in an agenda (dated.py)
    if _judge(context, FRAMES_TO_REMOVE, keys) >= SAFE:
        return 1
    return _granted_late(context, FRAMES_TO_REMOVE, keys, SAFE)


@linked(int64(CONTEXT, int64, int64))
def reserve_elements(context, elements, size):  # type: ignore[no-untyped-def]
    """Whether a command may add so many elements of `size` bytes together to one key; else it replies -OOM.

    The caller counts as elements also those that a change of form writes anew.
    """
    return reserve(context, elements + 2, size + BYTES_PER_CHANGE)


@linked(int64(CONTEXT, int64))
def reserve_removal_of(context, elements):  # type: ignore[no-untyped-def]
    """Whether there are frames for a command that removes so many elements of one key; else it replies -OOM."""
    enough = (
        context.space.mem.frames[TOTAL] // FRAMES_PER_KEY
    )  # so many may copy all that there is; none copies it twice
    return reserve_change(context, min(elements, enough) + 2, BYTES_PER_CHANGE)


@kernel
def _live_entry(context, key, count, hash_):  # type: ignore[no-untyped-def]
    # The entry of a key of the selected database, 0 for none or a due one; deletes nothing.
    slot = find_slot(context, context.call[DB], key, count, hash_)
    entry = entry_of(load64(context.space, slot)) if slot != 0 else 0
    if entry != 0:
        deadline = entry_deadline(context, entry)
        if deadline != NO_DEADLINE and deadline <= context.shard[NOW_MS]:
            entry = 0
    return entry


@linked(int64(CONTEXT, int64, int64, int64))
def _in_place(context, entry, key_length, length):  # type: ignore[no-untyped-def]
    """Whether a value of `length` bytes fits the allocation that this entry, or its long value, has."""
    flags = entry_flags(context, entry)
    if flags & TYPE_MASK or is_large(key_length, length, flags) != (flags & LARGE != 0):
        return 0
    before = entry_length(context, entry)
    if flags & LARGE == 0:
        before, length = entry_size(key_length, before, flags), entry_size(key_length, length, flags)
    return 1 if heap_size(before) == heap_size(length) else 0


@kernel
def _bytes_after(key_length, length, has_deadline):  # type: ignore[no-untyped-def]
    # Heap memory for an entry of this key and a value of `length` bytes.
    flags = EXPIRY if has_deadline else 0
    if is_large(key_length, length, flags):
        return heap_size(entry_size(key_length, length, flags | LARGE)) + heap_size(length)
    return heap_size(entry_size(key_length, length, flags))


@linked(int64(CONTEXT, int64, int64, int64, int64, int64))
def _takes_little(context, key, count, hash_, length, deadline):  # type: ignore[no-untyped-def]
    """Whether a full store may set a key to a value of `length` bytes; see the module's note."""
    entry = _live_entry(context, key, count, hash_)
    had = entry != 0 and entry_flags(context, entry) & EXPIRY != 0
    has = deadline == WITH or (deadline == AS_BEFORE and had)
    if entry != 0 and had == has and _in_place(context, entry, count, length) == 1:
        return 1
    used, limit = frames_used(context), _in_force(context)
    if entry != 0 and had == has and used <= limit + limit // OVERWRITE_SHARE:
        if _bytes_after(count, length, had) <= _bytes_after(count, entry_length(context, entry), had):
            return 1  # the old allocations are freed
    if (entry == 0 or had != has) and used + FRAMES_OF_INDEX > limit:
        return 0
    flags = EXPIRY if has else 0
    size = entry_size(count, length, flags)
    if is_large(count, length, flags) or size > SMALL_MAX:
        return 0
    return 1 if heap_has_room(context.space, size) else 0


@linked(int64(CONTEXT, int64, int64, int64, int64, int64, int64))
def _reserve_value_late(context, key, count, hash_, length, deadline, worst):  # type: ignore[no-untyped-def]
    verdict = _look_again(context, worst, 1, ALLOWED)
    granted = verdict == ALLOWED or (
        verdict == SAFE and _takes_little(context, key, count, hash_, length, deadline) == 1
    )
    return _granted(context, granted)


@linked(int64(CONTEXT, int64, int64, int64, int64, int64, int64))
def reserve_value(context, key, count, hash_, length, deadline, size):  # type: ignore[no-untyped-def]
    """Whether a key may be set to a value of `length` bytes, with or without a deadline; else it replies -OOM.

    `size`: the most bytes that the command may allocate.
    """
    worst = _worst(1, size)
    if _judge(context, worst, 1) == ALLOWED:
        return 1
    return _reserve_value_late(context, key, count, hash_, length, deadline, worst)


@linked(int64(CONTEXT))
def _pairs_in_place(context):  # type: ignore[no-untyped-def]
    """Whether the value of every pair of arguments fits its key's old allocation."""
    for i in range(1, context.call[ARGC], 2):
        key, count = arg_address(context, i), arg_length(context, i)
        entry = _live_entry(context, key, count, key_hash(context, key, count))
        if entry == 0 or entry_flags(context, entry) & EXPIRY:
            return 0
        if _in_place(context, entry, count, arg_length(context, i + 1)) == 0:
            return 0
    return 1


@linked(int64(CONTEXT))
def reserve_pairs(context):  # type: ignore[no-untyped-def]
    """Whether the arguments, pairs of key and value, may be set; else it replies -OOM."""
    size, keys = 0, context.call[ARGC] // 2
    for i in range(1, context.call[ARGC]):
        size += arg_length(context, i)
    worst = _worst(keys, size)
    if _judge(context, worst, keys) == ALLOWED:
        return 1
    verdict = _look_again(context, worst, keys, ALLOWED)
    return _granted(context, verdict == ALLOWED or (verdict == SAFE and _pairs_in_place(context) == 1))


@linked(int64(CONTEXT, int64))
def may_add(context, size):  # type: ignore[no-untyped-def]
    """Whether the store may grow by `size` bytes as it is (1 or 0)."""
    return 1 if _judge(context, _worst(1, size), 1) == ALLOWED else 0


@linked(int64(CONTEXT, int64, int64, int64))
def reserve_transaction(context, commands, keys, size):  # type: ignore[no-untyped-def]
    """Whether there are frames for so many commands together, with so many arguments of so many bytes (1 or 0)."""
    worst = _worst(keys, size + 2 * BYTES_PER_CHANGE) + FRAMES_PER_COMMAND + FRAMES_OF_INDEX * commands
    return 1 if _look_again(context, worst, keys, ALLOWED) == ALLOWED else 0
