"""BITOP: a string that is made of the bits of others.

The result is made aside, in an entry that is not in the store yet, page by page (combining.py), so the destination may
be among the sources.  Great strings are worked on in steps (turns.py); within a transaction they are not.
"""

from kvstore.commands.bitmaps.combining import (
    AND,
    DONE,
    FIRST,
    LENGTH,
    NOT,
    OPERATION,
    OR,
    PAGES,
    SOURCE_COST,
    SOURCE_WORDS,
    SOURCES,
    WORKED_IN,
    XOR,
    combine_page,
    work_words,
)
from kvstore.commands.bitmaps.turns import COMBINED, GREAT_WORK, MORE, turns_begin, turns_entry, turns_step
from kvstore.commands.strings.getting import slot_entry
from kvstore.effects.door import changed
from kvstore.effects.events import DEL, SET
from kvstore.lifetimes.call import ARGC, DB, DEPTH
from kvstore.lifetimes.context import AGAIN, CONTEXT, HANDLER
from kvstore.lifetimes.store import COPY_OWNER, COPY_STALE
from kvstore.store.copying import BEGINS_MAX, copy_begins, copy_end
from kvstore.store.entries import NO_DEADLINE, TYPE_MASK, entry_alloc, entry_flags, entry_length, entry_value
from kvstore.store.growing import mark_raw
from kvstore.store.lookup import key_hash, lookup, lookup_read
from kvstore.store.membership import delete_entry
from kvstore.store.reserve import reserve, reserve_removal
from kvstore.store.values import give_entry
from kvstore.system.libc import free, malloc, words_at
from kvstore.wire.arguments import INT64_MAX, argument, word
from kvstore.wire.errors import BITOP_NOT_ARITY, OUT_OF_RESULT, SYNTAX, WRONG_TYPE
from kvstore.wire.resp import reply_error, reply_integer, reply_out_of_frames
from mmcore.jit import int64, linked, void
from mmcore.mmu import write_address
from mmcore.paging import PAGE_MASK, PAGE_SIZE

_FIRST_SOURCE = 3  # the argument


@linked(int64(CONTEXT, int64[::1]))
def _find_sources(context, work):  # type: ignore[no-untyped-def]
    """Describe the work: what it costs [bytes]; -1 with an error reply if a source is no string."""
    count, cost = context.call[ARGC] - _FIRST_SOURCE, 0
    work[OPERATION], work[SOURCES] = word(context, 1), count
    work[LENGTH] = work[DONE] = work[WORKED_IN] = work[PAGES] = 0
    for i in range(count):
        key, key_size = argument(context, _FIRST_SOURCE + i)
        entry, at, length = lookup_read(context, key, key_size), FIRST + SOURCE_WORDS * i, 0
        work[at] = 0
        if entry != 0:
            if entry_flags(context, entry) & TYPE_MASK:
                reply_error(context, WRONG_TYPE)
                return -1
            work[at], length = entry_value(context, entry), entry_length(context, entry)
        work[at + 1] = length
        work[LENGTH] = max(work[LENGTH], length)
        cost += length + SOURCE_COST
    return cost + work[LENGTH]


@linked(void(CONTEXT, int64))
def _publish(context, entry):  # type: ignore[no-untyped-def]
    """Give the destination an entry that has the result, and reply."""
    db, length = context.call[DB], entry_length(context, entry)
    key, key_size = argument(context, 2)
    hash_ = key_hash(context, key, key_size)
    mark_raw(context, entry)
    slot = lookup(context, db, key, key_size, hash_)
    give_entry(context, db, key, key_size, slot, hash_, entry, NO_DEADLINE)
    changed(context, db, key, key_size, hash_, SET, 1)
    reply_integer(context, length)


@linked(int64(CONTEXT, int64[::1]))
def _at_once(context, work):  # type: ignore[no-untyped-def]
    """Make a result of at least one byte, whose frames have been reserved, in one turn: 0."""
    space, length = context.space, work[LENGTH]
    _, key_size = argument(context, 2)
    entry = entry_alloc(context, key_size, length, NO_DEADLINE)
    if entry == 0:
        reply_out_of_frames(context)
        return 0
    value = entry_value(context, entry)
    while work[DONE] < length:
        size = min(length - work[DONE], PAGE_SIZE - (value + work[DONE] & PAGE_MASK))
        to = write_address(space, value + work[DONE])
        assert to >= 0, "no frame was reserved for a result"
        combine_page(space, work, to, size, INT64_MAX)
    _publish(context, entry)
    return 0


@linked(int64(CONTEXT))
def _delete(context):  # type: ignore[no-untyped-def]
    """Delete the destination, because the result is empty, and reply: 0."""
    key, key_size = argument(context, 2)
    if not reserve_removal(context, 1):
        return 0
    hash_ = key_hash(context, key, key_size)
    slot = lookup(context, context.call[DB], key, key_size, hash_)
    if slot_entry(context, slot) != 0:
        delete_entry(context, context.call[DB], slot, hash_)
        changed(context, context.call[DB], key, key_size, hash_, DEL, 1)
    reply_integer(context, 0)
    return 0


@linked(int64(CONTEXT))
def _continue(context):  # type: ignore[no-untyped-def]
    """A step of the work under way, which is this connection's; in the end it publishes the result and replies."""
    _, key_size = argument(context, 2)
    code, entry = turns_step(context), int64(0)
    if code == MORE:
        return AGAIN
    if code == COMBINED and reserve(context, 2, key_size + GREAT_WORK):
        entry = turns_entry(context, key_size)
        if entry == 0:
            reply_out_of_frames(context)
    copy_end(context)
    if entry != 0:
        _publish(context, entry)
    return 0


@linked(int64(CONTEXT))
def _waits(context):  # type: ignore[no-untyped-def]
    """Whether another connection's work in steps is under way, and this one's would be made in steps, too (0 or 1)."""
    if context.store[COPY_OWNER] == 0 or context.call[DEPTH] != 0:
        return 0
    longest = cost = 0
    for i in range(_FIRST_SOURCE, context.call[ARGC]):
        key, key_size = argument(context, i)
        slot = lookup(context, context.call[DB], key, key_size, key_hash(context, key, key_size))
        entry = slot_entry(context, slot)
        if entry != 0 and entry_flags(context, entry) & TYPE_MASK == 0:
            longest = max(longest, entry_length(context, entry))
            cost += entry_length(context, entry)
        cost += SOURCE_COST
    return 1 if cost + longest > GREAT_WORK else 0


@linked(int64(CONTEXT, int64, int64))
def _begin(context, address, begins):  # type: ignore[no-untyped-def]
    """Find the sources, and begin or do all the work, whose record is at `address`.  Returns what the kernel does."""
    work = words_at(address, work_words(context.call[ARGC] - _FIRST_SOURCE))
    cost = _find_sources(context, work)
    _, key_size = argument(context, 2)
    if cost >= 0 and work[LENGTH] == 0:
        _delete(context)
    elif cost >= 0 and reserve(context, 2, key_size + work[LENGTH]):
        if cost <= GREAT_WORK or context.call[DEPTH] != 0 or begins >= BEGINS_MAX:
            _at_once(context, work)
        elif turns_begin(context, address, begins + 1) == 1:
            return _continue(context)
        else:
            reply_out_of_frames(context)
    free(address)
    return 0


@linked(HANDLER)
def bitop(context):  # type: ignore[no-untyped-def]
    """BITOP AND | OR | XOR | NOT destkey key [key ...]"""
    operation, count = word(context, 1), context.call[ARGC] - _FIRST_SOURCE
    if operation != AND and operation != OR and operation != XOR and operation != NOT:
        reply_error(context, SYNTAX)
        return 0
    if operation == NOT and count != 1:
        reply_error(context, BITOP_NOT_ARITY)
        return 0
    begins = copy_begins(context)
    if begins > 0:
        if context.store[COPY_STALE] == 0:
            return _continue(context)
        copy_end(context)
    if _waits(context):
        return AGAIN
    address = malloc(8 * work_words(count))
    if address == 0:
        reply_error(context, OUT_OF_RESULT)
        return 0
    return _begin(context, address, begins)
