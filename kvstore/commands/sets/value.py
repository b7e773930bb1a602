"""A set as a value: finding, adding and removing a member, whatever the form.

    INTSET    INTS while they fit, else RECORD
    COMPACT   CHAIN of elements without payload while they fit, else RECORD
    WIDE      RECORD with a table of such elements

A set is reported by its encoding, whatever its form.  `reshape` gives it another encoding, and the form that goes with
it.  A record never becomes INTS or a chain again.

A draft, int64[DRAFT_WORDS], is a set that is being changed: its ROOT and its ENCODING.  The entry gets both back when a
command has done all its changes.  So nothing here needs an entry, and a result that is built aside has none.

Adding is bounded by its arguments, and by what a change of form writes anew: `reserve_members` counts both.
"""

from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import (
    SCRATCH_ADDRESS,
    SET_MAX_INTSET_ENTRIES,
    SET_MAX_LISTPACK_ENTRIES,
    SET_MAX_LISTPACK_VALUE,
)
from kvstore.lifetimes.store import HASH_SEED
from kvstore.store.entries import entry_encoding, entry_root, entry_set_encoding, entry_set_root
from kvstore.store.lookup import key_hash
from kvstore.store.reserve import reserve_elements
from kvstore.store.types import COMPACT, INTSET, WIDE
from kvstore.structures.chain import chain_count, chain_fits
from kvstore.structures.chain_change import chain_free, chain_insert, chain_new, chain_remove
from kvstore.structures.chain_find import chain_find, chain_seek
from kvstore.structures.collection import root_count
from kvstore.structures.element import element_alloc, element_key_length
from kvstore.structures.ints import (
    ints_at,
    ints_count,
    ints_find,
    ints_fits,
    ints_free,
    ints_insert,
    ints_new,
    ints_remove,
)
from kvstore.structures.kinds import CHAIN, INTS, RECORD, kind_of
from kvstore.structures.record import OWNS_ELEMENTS, record_new
from kvstore.structures.spread import record_of_chain
from kvstore.structures.table import table_add, table_drop, table_find
from kvstore.structures.walk import WALK_WORDS, walk_begin, walk_next
from kvstore.system.libc import bytes_at, words_at
from kvstore.wire.arguments import parse_integer
from kvstore.wire.numerals import put_decimal
from mmcore.jit import int64, kernel, linked, view, void

ROOT, ENCODING = range(2)  # of a draft
DRAFT_WORDS = 2
DIGITS_MAX = 20  # of an integer [bytes]
CONVERSION_BYTES = 1 << 17  # that all members of INTS or of a chain take at most in a record, with its buckets
_DIGITS, _WALK, _DRAFT = 0, 4, 16  # in the scratch memory [words]; members.py and building.py use what lies behind


# --- drafts ----------------------------------------------------------------------------------------------------------


@view
def draft_of(context):  # type: ignore[no-untyped-def]
    """The draft of the command at hand, in the shard's scratch memory."""
    return words_at(context.shard[SCRATCH_ADDRESS] + 8 * _DRAFT, DRAFT_WORDS)


@kernel
def draft_load(context, entry):  # type: ignore[no-untyped-def]
    """Begin to change the set of an entry."""
    draft = draft_of(context)
    draft[ROOT], draft[ENCODING] = entry_root(context, entry), entry_encoding(context, entry)


@kernel
def draft_store(context, entry):  # type: ignore[no-untyped-def]
    """Give the entry what has become of its set."""
    draft = draft_of(context)
    entry_set_root(context, entry, draft[ROOT])
    entry_set_encoding(context, entry, draft[ENCODING])


@linked(void(CONTEXT, int64))
def draft_new(context, encoding):  # type: ignore[no-untyped-def]
    """Begin with an empty set.  Frames were reserved."""
    draft = draft_of(context)
    if encoding == INTSET:
        root = ints_new(context.space)
    elif encoding == COMPACT:
        root = chain_new(context.space)
    else:
        root = record_new(context.space, OWNS_ELEMENTS)
    assert root != 0, "no frame was reserved for a set"
    draft[ROOT], draft[ENCODING] = root, encoding


@linked(int64(CONTEXT, int64, int64, int64))
def reserve_members(context, root, members, size):  # type: ignore[no-untyped-def]
    """Whether a set (root 0: a new one) may get so many members of `size` bytes; else it replies -OOM."""
    moved = 0
    if root != 0 and kind_of(context.space, root) != RECORD:
        moved = root_count(context.space, root)
    return reserve_elements(context, members + moved, size + (CONVERSION_BYTES if moved > 0 else 0))


# --- members ---------------------------------------------------------------------------------------------------------


@linked(int64(CONTEXT, int64, int64, int64))
def set_has(context, root, key, k):  # type: ignore[no-untyped-def]
    """Whether the `k` bytes at `key` are a member (1 or 0)."""
    space, kind = context.space, kind_of(context.space, root)
    if kind == INTS:
        valid, value = parse_integer(bytes_at(key, k), 0, k)
        return 1 if valid and ints_find(space, root, value) >= 0 else 0
    if kind == CHAIN:
        return 1 if chain_seek(space, root, key, k) != 0 else 0
    return 1 if table_find(space, root, key_hash(context, key, k), key, k) != 0 else 0


@linked(int64(CONTEXT, int64, int64, int64))
def _put_in_table(context, record, key, k):  # type: ignore[no-untyped-def]
    """Add a member to a record: 1, or 0 if it is there."""
    hash_ = key_hash(context, key, k)
    if table_find(context.space, record, hash_, key, k) != 0:
        return 0
    element = element_alloc(context.space, key, k, 0, 0)
    assert element != 0, "no frame was reserved for an element"
    code = table_add(context.space, record, context.store[HASH_SEED], hash_, element)
    assert code == 0, "no frame was reserved for a table"
    return 1


@kernel
def _print(context, ints, i):  # type: ignore[no-untyped-def]
    # (address, size) of the digits of the integer at place i.
    address = context.shard[SCRATCH_ADDRESS] + 8 * _DIGITS
    return address, put_decimal(bytes_at(address, DIGITS_MAX), 0, ints_at(context.space, ints, i))


@kernel
def _leave_ints(context, ints, root):  # type: ignore[no-untyped-def]
    code = ints_free(context.space, ints)
    assert code == 0, "no frame was reserved for a release"
    draft_of(context)[ROOT] = root


@linked(void(CONTEXT))
def _to_record(context):  # type: ignore[no-untyped-def]
    """Give the draft the form of a record, unless it has that."""
    space, root = context.space, draft_of(context)[ROOT]
    kind = kind_of(space, root)
    if kind == CHAIN:
        record = record_of_chain(space, root, context.store[HASH_SEED], OWNS_ELEMENTS)
        assert record != 0, "no frame was reserved for a record"
        draft_of(context)[ROOT] = record
    elif kind == INTS:
        record = record_new(space, OWNS_ELEMENTS)
        assert record != 0, "no frame was reserved for a record"
        for i in range(ints_count(space, root)):
            digits, k = _print(context, root, i)
            _put_in_table(context, record, digits, k)
        _leave_ints(context, root, record)


@linked(void(CONTEXT))
def _ints_to_chain(context):  # type: ignore[no-untyped-def]
    """Turn a draft of integers into a chain, or into a record if they do not fit one.  Frames were reserved."""
    space, root = context.space, draft_of(context)[ROOT]
    chain = chain_new(space)
    assert chain != 0, "no frame was reserved for a chain"
    for i in range(ints_count(space, root)):
        digits, k = _print(context, root, i)
        if not chain_fits(space, chain, k, 0):
            chain_free(space, chain)
            _to_record(context)
            return
        chain = chain_insert(space, chain, i, digits, k, 0, 0)
        assert chain != 0, "no frame was reserved for a chain"
    _leave_ints(context, root, chain)


@linked(void(CONTEXT, int64))
def reshape(context, encoding):  # type: ignore[no-untyped-def]
    """Give the draft another encoding, and the form that goes with it.  Frames were reserved."""
    draft = draft_of(context)
    draft[ENCODING] = encoding
    if encoding == WIDE:
        _to_record(context)
    elif encoding == COMPACT and kind_of(context.space, draft[ROOT]) == INTS:
        _ints_to_chain(context)


@linked(int64(CONTEXT, int64, int64))
def put(context, key, k):  # type: ignore[no-untyped-def]
    """Add a member to the draft without regard to limits: 1, or 0 if it is there.  Frames were reserved.

    A draft that is INTSET gets integers only.
    """
    space, draft = context.space, draft_of(context)
    root = draft[ROOT]
    kind = kind_of(space, root)
    if kind == INTS:
        _, value = parse_integer(bytes_at(key, k), 0, k)
        if ints_find(space, root, value) >= 0:
            return 0
        if ints_fits(space, root, value):
            root = ints_insert(space, root, value)
            assert root != 0, "no frame was reserved for integers"
            draft[ROOT] = root
            return 1
    elif kind == CHAIN:
        if chain_seek(space, root, key, k) != 0:
            return 0
        if chain_fits(space, root, k, 0):
            root = chain_insert(space, root, chain_count(space, root), key, k, 0, 0)
            assert root != 0, "no frame was reserved for a chain"
            draft[ROOT] = root
            return 1
    _to_record(context)
    return _put_in_table(context, draft[ROOT], key, k)


@linked(int64(CONTEXT, int64))
def longest_member(context, root):  # type: ignore[no-untyped-def]
    """The length of the longest member [bytes]."""
    space, longest = context.space, 0
    if kind_of(space, root) == INTS:
        for i in range(ints_count(space, root)):
            _, k = _print(context, root, i)
            longest = max(longest, k)
        return longest
    walk = words_at(context.shard[SCRATCH_ADDRESS] + 8 * _WALK, WALK_WORDS)
    walk_begin(space, root, walk)
    element = walk_next(space, walk)
    while element != 0:
        longest = max(longest, element_key_length(space, element))
        element = walk_next(space, walk)
    return longest


@kernel
def _may_stay_compact(context, root, k):  # type: ignore[no-untyped-def]
    # Whether integers, and with them a member of k bytes that is none, may be a listpack.
    limit = context.shard[SET_MAX_LISTPACK_VALUE]
    if root_count(context.space, root) >= context.shard[SET_MAX_LISTPACK_ENTRIES] or k > limit:
        return False
    return limit >= DIGITS_MAX or longest_member(context, root) <= limit


@linked(int64(CONTEXT, int64, int64))
def set_add(context, key, k):  # type: ignore[no-untyped-def]
    """Add a member to the draft: 1, or 0 if it is there.  Frames were reserved.

    The encoding changes by the rules of Redis 7.2.
    """
    shard, draft = context.shard, draft_of(context)
    if draft[ENCODING] == INTSET:
        valid, _ = parse_integer(bytes_at(key, k), 0, k)
        if not valid:
            reshape(context, COMPACT if _may_stay_compact(context, draft[ROOT], k) else WIDE)
    if put(context, key, k) == 0:
        return 0
    count = root_count(context.space, draft[ROOT])
    if draft[ENCODING] == INTSET:
        if count > shard[SET_MAX_INTSET_ENTRIES]:
            reshape(context, WIDE)
    elif draft[ENCODING] == COMPACT:
        if count > shard[SET_MAX_LISTPACK_ENTRIES] or k > shard[SET_MAX_LISTPACK_VALUE]:
            reshape(context, WIDE)
    return 1


@linked(void(CONTEXT, int64))
def take_out_at(context, place):  # type: ignore[no-untyped-def]
    """Remove the member at a place of a draft that is no record.  Frames were reserved."""
    space, draft = context.space, draft_of(context)
    root = draft[ROOT]
    root = ints_remove(space, root, place) if kind_of(space, root) == INTS else chain_remove(space, root, place, 1)
    assert root != 0, "no frame was reserved for a removal"
    draft[ROOT] = root


@linked(int64(CONTEXT, int64, int64))
def set_remove(context, key, k):  # type: ignore[no-untyped-def]
    """Remove a member from the draft: 1, or 0 without it.  Frames were reserved."""
    space, root, place = context.space, draft_of(context)[ROOT], -1
    kind = kind_of(space, root)
    if kind == RECORD:
        hash_ = key_hash(context, key, k)
        slot = table_find(space, root, hash_, key, k)
        if slot == 0:
            return 0
        table_drop(context.space, root, hash_, slot)
        return 1
    if kind == CHAIN:
        place = chain_find(space, root, key, k)
    else:
        valid, value = parse_integer(bytes_at(key, k), 0, k)
        if valid:
            place = ints_find(space, root, value)
    if place < 0:
        return 0
    take_out_at(context, place)
    return 1
