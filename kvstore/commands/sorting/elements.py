"""The elements of a SORT: gathered as rows (kvstore/commands/sortedsets/gathered.py) of a score, a text, its length.

    load_all      in any order, to be sorted
    load_ranks    some of a list or a sorted set in its own order, or in reverse: BY a pattern without an asterisk

The texts stay where they are (texts.py).
"""

from kvstore.commands.sortedsets.gathered import gather_put, gather_room
from kvstore.commands.sortedsets.order import cursor_at, cursor_element, cursor_next, cursor_previous
from kvstore.commands.sorting.texts import IN_PROCESS
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import SCRATCH_ADDRESS
from kvstore.store.entries import LIST, SET, entry_root, entry_type
from kvstore.structures.element import element_key, element_key_length
from kvstore.structures.ints import ints_at, ints_count
from kvstore.structures.kinds import INTS, kind_of
from kvstore.structures.packed_layout import PACKED_HEADER, capacity_at, count_at, long_size_at, offset_at
from kvstore.structures.sequence import NOWHERE, packed_where, sequence_find, where_next, where_previous
from kvstore.structures.walk import WALK_WORDS, walk_begin, walk_next
from kvstore.system.libc import bytes_at, words_at
from kvstore.wire.numerals import put_decimal
from kvstore.wire.wanted import is_given_up
from mmcore.jit import int64, kernel, linked, view, void
from mmcore.mmu import read_address

_PLACE = 88  # of a walk among the words of the scratch memory
_DIGITS = 24  # [bytes] that the text of an integer may take


@view
def _walk(context):  # type: ignore[no-untyped-def]
    return words_at(context.shard[SCRATCH_ADDRESS] + 8 * _PLACE, WALK_WORDS)


@kernel
def _put(context, element):  # type: ignore[no-untyped-def]
    gather_put(context, 0, element_key(context.space, element), element_key_length(context.space, element))


@linked(void(CONTEXT, int64, int64))
def _put_item(context, packed, i):  # type: ignore[no-untyped-def]
    """Append the element at place i of a packed."""
    memory, at = context.space.mem.bytes, read_address(context.space, packed)
    capacity = capacity_at(memory, at)
    if capacity == 0:
        gather_put(context, 0, packed + PACKED_HEADER, long_size_at(memory, at))
    else:
        start = offset_at(memory, at, capacity, i)
        gather_put(context, 0, packed + start, offset_at(memory, at, capacity, i + 1) - start)


@linked(void(CONTEXT, int64, int64, int64, int64))
def _load_list(context, root, rank, n, step):  # type: ignore[no-untyped-def]
    """Load `n` elements of a list from a rank on, in steps of 1 or -1."""
    space = context.space
    if n <= 0:
        return
    where, packed, first = sequence_find(space, root, rank)
    i = rank - first
    while n > 0 and where != NOWHERE and not is_given_up(context):
        count = count_at(space.mem.bytes, read_address(space, packed))
        here = min(n, count - i if step > 0 else i + 1)
        for _ in range(here):
            _put_item(context, packed, i)
            i += step
        n -= here
        where = where_next(space, root, where) if step > 0 else where_previous(space, root, where)
        if where != NOWHERE:
            packed = packed_where(space, root, where)
            i = 0 if step > 0 else count_at(space.mem.bytes, read_address(space, packed)) - 1


@linked(int64(CONTEXT, int64))
def _load_integers(context, root):  # type: ignore[no-untyped-def]
    """Load a set of integers: 1, or 0 without memory."""
    for i in range(ints_count(context.space, root)):
        address = gather_room(context, _DIGITS)
        if address == 0:
            return 0
        k = put_decimal(bytes_at(address, _DIGITS), 0, ints_at(context.space, root, i))
        gather_put(context, 0, address | IN_PROCESS, k)
    return 1


@linked(int64(CONTEXT, int64, int64))
def load_all(context, entry, count):  # type: ignore[no-untyped-def]
    """Load all elements of an entry's list, set or sorted set: 1, or 0 without memory."""
    space, root, walk = context.space, entry_root(context, entry), _walk(context)
    if entry_type(context, entry) == LIST:
        _load_list(context, root, 0, count, 1)
        return 1
    if entry_type(context, entry) == SET and kind_of(space, root) == INTS:
        return _load_integers(context, root)
    walk_begin(space, root, walk)
    element = walk_next(space, walk)
    while element != 0 and not is_given_up(context):
        _put(context, element)
        element = walk_next(space, walk)
    return 1


@linked(void(CONTEXT, int64, int64, int64, int64))
def load_ranks(context, entry, rank, n, reverse):  # type: ignore[no-untyped-def]
    """Load `n` elements of an entry's list or sorted set from a rank on, or in reverse from this rank down."""
    space, root = context.space, entry_root(context, entry)
    if entry_type(context, entry) == LIST:
        _load_list(context, root, rank, n, -1 if reverse else 1)
        return
    at = cursor_at(space, root, rank) if n > 0 else 0
    for _ in range(n):
        if is_given_up(context):
            break
        _put(context, cursor_element(space, root, at))
        at = cursor_previous(space, root, at) if reverse else cursor_next(space, root, at)
