"""ZPOPMIN, ZPOPMAX, ZMPOP, and ZREMRANGEBYRANK, -BYSCORE, -BYLEX: members that go by their ranks.

The number of members is known before any is removed, so each command reserves frames for as many, and cannot fail.  If
all members go, the key is deleted with its value, which takes one step.  blocking.py has the forms that wait.
"""

from kvstore.commands.elements import reply_key
from kvstore.commands.sortedsets.bounds import BY_LEX, BY_RANK, BY_SCORE, check_bounds, range_ranks
from kvstore.commands.sortedsets.order import (
    cursor_at,
    cursor_element,
    cursor_next,
    cursor_previous,
    cursor_score,
    reply_score,
)
from kvstore.commands.sortedsets.value import members_remove
from kvstore.effects.door import changed
from kvstore.effects.events import ZPOPMAX, ZPOPMIN, ZREMRANGEBYLEX, ZREMRANGEBYRANK, ZREMRANGEBYSCORE
from kvstore.lifetimes.call import ARGC, DB, PROTOCOL
from kvstore.lifetimes.context import CONTEXT, HANDLER
from kvstore.store.collections import collection_first, collection_gone, collection_write
from kvstore.store.entries import ZSET, entry_root
from kvstore.store.index import entry_of
from kvstore.store.lookup import key_hash
from kvstore.store.reserve import reserve_removal_of
from kvstore.structures.collection import root_count
from kvstore.system.libc import bytes_at
from kvstore.wire.arguments import argument, integer_argument, pack, word
from kvstore.wire.errors import COUNT_NOT_POSITIVE, NOT_POSITIVE, NUMKEYS, SYNTAX
from kvstore.wire.resp import (
    reply_array,
    reply_bulk,
    reply_empty_array,
    reply_error,
    reply_integer,
    reply_null_array,
)
from mmcore.jit import int64, kernel, linked, void
from mmcore.mmu import load64

# Forms of a reply: members and scores in one array; each pair in an array of its own; the key and one pair; the key and
# such pairs
FLAT, PAIRS, KEY_PAIR, KEY_PAIRS = range(4)
_MIN_WORD, _MAX_WORD, _COUNT_WORD = pack(b"MIN"), pack(b"MAX"), pack(b"COUNT")


@linked(void(CONTEXT, int64, int64, int64, int64, int64, int64, int64))
def _remove(context, key, key_size, hash_, entry, rank, count, event):  # type: ignore[no-untyped-def]
    """Remove `count` members from `rank` on, and the key with the last one; announce that.  Frames were reserved."""
    left = root_count(context.space, entry_root(context, entry)) - count
    if left > 0:
        members_remove(context, entry, rank, count)
    changed(context, context.call[DB], key, key_size, hash_, event, count)
    if left == 0:
        collection_gone(context, key, key_size, hash_)


@linked(void(CONTEXT, int64, int64, int64, int64))
def _reply_popped(context, root, count, last, nested):  # type: ignore[no-untyped-def]
    """The first members, or the last ones from the last on, with their scores, each in an array of its own or not."""
    space = context.space
    at = cursor_at(space, root, root_count(space, root) - 1 if last else 0)
    for _ in range(count):
        if nested:
            reply_array(context, 2)
        reply_key(context, cursor_element(space, root, at))
        reply_score(context, cursor_score(space, root, at))
        at = cursor_previous(space, root, at) if last else cursor_next(space, root, at)


@linked(void(CONTEXT, int64, int64, int64, int64, int64, int64))
def _pop(context, i, slot, hash_, count, last, form):  # type: ignore[no-untyped-def]
    """Pop `count` members, or all, from the sorted set at a slot, whose key is in argument i."""
    key, key_size = argument(context, i)
    entry = entry_of(load64(context.space, slot))
    root = entry_root(context, entry)
    members = root_count(context.space, root)
    count = min(count, members)
    if not reserve_removal_of(context, count):
        return
    if form == KEY_PAIR:
        reply_array(context, 3)
    elif form == KEY_PAIRS:
        reply_array(context, 2)
    if form >= KEY_PAIR:
        reply_bulk(context, bytes_at(key, key_size), 0, key_size)
    if form == FLAT:
        reply_array(context, 2 * count)
    elif form != KEY_PAIR:
        reply_array(context, count)
    _reply_popped(context, root, count, last, int64(form == PAIRS or form == KEY_PAIRS))
    rank = members - count if last else 0
    _remove(context, key, key_size, hash_, entry, rank, count, ZPOPMAX if last else ZPOPMIN)


@linked(int64(CONTEXT, int64, int64, int64, int64, int64))
def pop_first(context, first, keys, count, last, form):  # type: ignore[no-untyped-def]
    """Pop `count` members, or all, from the first sorted set that exists among `keys` keys, from argument `first` on.

    Returns 1, or 0 with nothing replied when there is none.
    """
    i, slot, hash_ = collection_first(context, first, keys, ZSET)
    if slot > 0:
        _pop(context, i, slot, hash_, count, last, form)
    return 1 if slot != 0 else 0


@linked(int64(CONTEXT, int64))
def _pop_one_key(context, last):  # type: ignore[no-untyped-def]
    """ZPOPMIN and ZPOPMAX."""
    count, counted = 1, context.call[ARGC] == 3
    if context.call[ARGC] > 3:
        reply_error(context, SYNTAX)
        return 0
    if counted:
        valid, count = integer_argument(context, 2)
        if not valid or count < 0:
            reply_error(context, NOT_POSITIVE)
            return 0
    key, key_size = argument(context, 1)
    hash_ = key_hash(context, key, key_size)
    slot = collection_write(context, key, key_size, hash_, ZSET)
    if slot < 0:
        return 0
    if slot == 0 or count == 0:
        reply_empty_array(context)
    else:
        _pop(context, 1, slot, hash_, count, last, PAIRS if counted and context.call[PROTOCOL] == 3 else FLAT)
    return 0


@linked(HANDLER)
def zpopmin(context):  # type: ignore[no-untyped-def]
    """ZPOPMIN key [count]"""
    return _pop_one_key(context, 0)


@linked(HANDLER)
def zpopmax(context):  # type: ignore[no-untyped-def]
    """ZPOPMAX key [count]"""
    return _pop_one_key(context, 1)


@kernel
def _count_option(context, first):  # type: ignore[no-untyped-def]
    # The count from argument `first` on, 1 without one; -1 with an error replied.
    argc, count = context.call[ARGC], 1
    if first == argc:
        return count
    if first + 2 > argc or word(context, first) != _COUNT_WORD:
        reply_error(context, SYNTAX)
        return -1
    valid, count = integer_argument(context, first + 1)
    if not valid or count < 1:
        reply_error(context, COUNT_NOT_POSITIVE)
        return -1
    if first + 2 < argc:
        reply_error(context, SYNTAX)
        return -1
    return count


@kernel
def several_arguments(context, at):  # type: ignore[no-untyped-def]
    """ZMPOP's (number of keys, 1 for the last, count), the first of which is argument `at`; no keys with an error."""
    valid, keys = integer_argument(context, at)
    if not valid or keys < 1:
        reply_error(context, NUMKEYS)
        return 0, 0, 0
    if keys >= context.call[ARGC] - at - 1:
        reply_error(context, SYNTAX)
        return 0, 0, 0
    where = word(context, at + 1 + keys)
    if where != _MIN_WORD and where != _MAX_WORD:
        reply_error(context, SYNTAX)
        return 0, 0, 0
    count = _count_option(context, at + 2 + keys)
    return (keys, int64(where == _MAX_WORD), count) if count >= 0 else (0, 0, 0)


@linked(HANDLER)
def zmpop(context):  # type: ignore[no-untyped-def]
    """ZMPOP numkeys key [key ...] <MIN | MAX> [COUNT count]"""
    keys, last, count = several_arguments(context, 1)
    if keys > 0 and pop_first(context, 2, keys, count, last, KEY_PAIRS) == 0:
        reply_null_array(context)
    return 0


@linked(int64(CONTEXT, int64, int64))
def _remove_range(context, kind, event):  # type: ignore[no-untyped-def]
    """ZREMRANGEBY..."""
    if not check_bounds(context, kind, 2, 3):
        return 0
    key, key_size = argument(context, 1)
    hash_ = key_hash(context, key, key_size)
    slot = collection_write(context, key, key_size, hash_, ZSET)
    if slot < 0:
        return 0
    count = 0
    if slot != 0:
        entry = entry_of(load64(context.space, slot))
        start, stop = range_ranks(context, entry_root(context, entry), kind, 2, 3)
        count = max(stop - start, 0)
        if count > 0:
            if not reserve_removal_of(context, count):
                return 0
            _remove(context, key, key_size, hash_, entry, start, count, event)
    reply_integer(context, count)
    return 0


@linked(HANDLER)
def zremrangebyrank(context):  # type: ignore[no-untyped-def]
    """ZREMRANGEBYRANK key start stop"""
    return _remove_range(context, BY_RANK, ZREMRANGEBYRANK)


@linked(HANDLER)
def zremrangebyscore(context):  # type: ignore[no-untyped-def]
    """ZREMRANGEBYSCORE key min max"""
    return _remove_range(context, BY_SCORE, ZREMRANGEBYSCORE)


@linked(HANDLER)
def zremrangebylex(context):  # type: ignore[no-untyped-def]
    """ZREMRANGEBYLEX key min max"""
    return _remove_range(context, BY_LEX, ZREMRANGEBYLEX)
