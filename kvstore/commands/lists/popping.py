"""LPOP, RPOP, LMPOP.  They remove no more than the list has: they reserve frames, and then cannot fail.

blocking.py has the forms that wait.
"""

from kvstore.commands.lists.value import note_loss, reply_elements, reserve_loss
from kvstore.commands.strings.getting import slot_entry
from kvstore.effects.door import changed
from kvstore.effects.events import LPOP, RPOP
from kvstore.lifetimes.call import ARGC, DB
from kvstore.lifetimes.connection import NEVER
from kvstore.lifetimes.context import CONTEXT, HANDLER
from kvstore.store.collections import collection_first, collection_gone, collection_write
from kvstore.store.entries import LIST, entry_root, entry_set_root
from kvstore.store.lookup import key_hash
from kvstore.structures.sequence import sequence_count
from kvstore.structures.sequence_change import sequence_remove
from kvstore.wire.arguments import arg_offset, argument, integer_argument, pack, query, word
from kvstore.wire.errors import COUNT_NOT_POSITIVE, LPOP_ARITY, NOT_POSITIVE, NUMKEYS, RPOP_ARITY, SYNTAX
from kvstore.wire.resp import reply_array, reply_bulk, reply_empty_array, reply_error, reply_null, reply_null_array
from mmcore.jit import int64, kernel, linked, void

WITH_KEY, IN_ARRAY = 1, 2  # forms of a reply: the key comes first; the elements are an array, however many
_LEFT, _RIGHT, _COUNT = pack(b"LEFT"), pack(b"RIGHT"), pack(b"COUNT")


@linked(int64(CONTEXT, int64))
def end_argument(context, i):  # type: ignore[no-untyped-def]
    """The end of a list that argument i names: 1 the front, 0 the end; -1 with an error reply for another word."""
    name = word(context, i)
    if name == _LEFT:
        return 1
    if name == _RIGHT:
        return 0
    reply_error(context, SYNTAX)
    return -1


@linked(void(CONTEXT, int64, int64, int64, int64, int64, int64, int64))
def remove_end(context, entry, root, key, size, hash_, front, n):  # type: ignore[no-untyped-def]
    """Remove the first or the last `n` elements of a list with this root, and announce that.  Frames were reserved."""
    count = sequence_count(context.space, root)
    changed(context, context.call[DB], key, size, hash_, LPOP if front else RPOP, n)
    if n == count:
        collection_gone(context, key, size, hash_)
        return
    left = sequence_remove(context.space, root, 0 if front else count - n, n)
    assert left != 0, "no frame was reserved for a list"
    if left != root:
        entry_set_root(context, entry, left)
    note_loss(context, entry, left)


@linked(void(CONTEXT, int64, int64, int64))
def _reply_end(context, root, front, n):  # type: ignore[no-untyped-def]
    """The first `n` elements, or the last ones, the last one first."""
    if front:
        reply_elements(context, root, 0, n, 1, 0, NEVER)
    else:
        reply_elements(context, root, sequence_count(context.space, root) - 1, n, -1, 0, NEVER)


@linked(void(CONTEXT, int64, int64, int64, int64, int64, int64))
def _pop_some(context, i, slot, hash_, front, n, form):  # type: ignore[no-untyped-def]
    """Pop up to `n` elements of the list at a slot, whose key is argument i."""
    key, key_size = argument(context, i)
    entry = slot_entry(context, slot)
    root = entry_root(context, entry)
    n = min(n, sequence_count(context.space, root))
    if not reserve_loss(context, root, n):
        return
    if form & WITH_KEY:
        reply_array(context, 2)
        reply_bulk(context, query(context), arg_offset(context, i), key_size)
    if form & IN_ARRAY:
        reply_array(context, n)
    _reply_end(context, root, front, n)
    remove_end(context, entry, root, key, key_size, hash_, front, n)


@linked(int64(CONTEXT, int64, int64, int64, int64, int64))
def pop_first(context, first, keys, front, n, form):  # type: ignore[no-untyped-def]
    """Pop up to `n` elements of the first list that exists among `keys` keys, of which argument `first` is the first.

    Returns 1, or 0 with nothing replied when there is none.
    """
    i, slot, hash_ = collection_first(context, first, keys, LIST)
    if slot > 0:
        _pop_some(context, i, slot, hash_, front, n, form)
    return 1 if slot != 0 else 0


@linked(int64(CONTEXT, int64))
def _pop(context, front):  # type: ignore[no-untyped-def]
    """LPOP and RPOP."""
    argc, n = context.call[ARGC], 1
    key, key_size = argument(context, 1)
    if argc > 3:
        reply_error(context, LPOP_ARITY if front else RPOP_ARITY)
        return 0
    if argc == 3:
        valid, n = integer_argument(context, 2)
        if not valid or n < 0:
            reply_error(context, NOT_POSITIVE)
            return 0
    hash_ = key_hash(context, key, key_size)
    slot = collection_write(context, key, key_size, hash_, LIST)
    if slot < 0:
        return 0
    if slot == 0 and argc == 3:
        reply_null_array(context)
        return 0
    if slot == 0:
        reply_null(context)
        return 0
    if n == 0:
        reply_empty_array(context)
        return 0
    _pop_some(context, 1, slot, hash_, front, n, IN_ARRAY if argc == 3 else 0)
    return 0


@linked(HANDLER)
def lpop(context):  # type: ignore[no-untyped-def]
    """LPOP key [count]"""
    return _pop(context, 1)


@linked(HANDLER)
def rpop(context):  # type: ignore[no-untyped-def]
    """RPOP key [count]"""
    return _pop(context, 0)


@linked(int64(CONTEXT, int64))
def _count_option(context, i):  # type: ignore[no-untyped-def]
    """The count from argument i on, 1 without one; -1 with an error reply."""
    argc, n = context.call[ARGC], -1
    while i < argc:
        if word(context, i) != _COUNT or n != -1 or i + 1 >= argc:
            reply_error(context, SYNTAX)
            return -1
        valid, n = integer_argument(context, i + 1)
        if not valid or n <= 0:
            reply_error(context, COUNT_NOT_POSITIVE)
            return -1
        i += 2
    return 1 if n == -1 else n


@kernel
def several_arguments(context, at):  # type: ignore[no-untyped-def]
    """LMPOP's (number of keys, which end, count), the first of which is argument `at`; no keys with an error."""
    valid, keys = integer_argument(context, at)
    if not valid or keys <= 0:
        reply_error(context, NUMKEYS)
        return 0, 0, 0
    if keys >= context.call[ARGC] - at - 1:
        reply_error(context, SYNTAX)
        return 0, 0, 0
    front = end_argument(context, at + 1 + keys)
    if front < 0:
        return 0, 0, 0
    n = _count_option(context, at + 2 + keys)
    return (keys, front, n) if n >= 0 else (0, 0, 0)


@linked(HANDLER)
def lmpop(context):  # type: ignore[no-untyped-def]
    """LMPOP numkeys key [key ...] <LEFT | RIGHT> [COUNT count]"""
    keys, front, n = several_arguments(context, 1)
    if keys > 0 and pop_first(context, 2, keys, front, n, WITH_KEY | IN_ARRAY) == 0:
        reply_null_array(context)
    return 0
