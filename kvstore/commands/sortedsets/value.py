"""A sorted set as a value: finding, adding, moving and removing a member, whatever the form.

    COMPACT and fits a chain   CHAIN of elements, in the order of score and member
    else                       RECORD with a table of elements, and a tree that has them in that order

An element's key is the member, its payload the score.  Scores are passed as words (kvstore/store/scores.py).  A sorted
set that is COMPACT but does not fit a chain is a record all the same; OBJECT ENCODING reports its encoding.  A record
never becomes a chain again.

In a chain a score takes as few bytes as it can, or as many as the others in its block: elements of one shape cost
least.

The functions that change a value assume that frames were reserved for it, for a change of form too: `reserve_members`
does that.  The root may move.
"""

from kvstore.commands.sortedsets.order import chain_rank
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import ZSET_MAX_LISTPACK_ENTRIES, ZSET_MAX_LISTPACK_VALUE
from kvstore.lifetimes.store import HASH_SEED
from kvstore.store.collections import collection_new, held
from kvstore.store.entries import ZSET, entry_encoding, entry_root, entry_set_encoding, entry_set_root
from kvstore.store.index import entry_of
from kvstore.store.lookup import key_hash
from kvstore.store.reserve import reserve_elements
from kvstore.store.scores import WORD_SIZE, element_score, ordered, put_score, short_score_size
from kvstore.store.types import COMPACT, WIDE
from kvstore.structures.chain import (
    CHAIN_MAX,
    chain_count,
    chain_element,
    chain_first,
    chain_fits,
    chain_payload,
    spot_element,
    spot_next,
)
from kvstore.structures.chain_change import chain_free, chain_insert, chain_new, chain_remove
from kvstore.structures.chain_find import chain_find, chain_seek
from kvstore.structures.collection import root_count
from kvstore.structures.element import (
    element_alloc,
    element_free,
    element_key,
    element_key_length,
    element_payload,
    element_payload_length,
)
from kvstore.structures.kinds import CHAIN, kind_of
from kvstore.structures.record import OWNS_ELEMENTS, record_new
from kvstore.structures.table import table_add, table_at, table_drop, table_find
from kvstore.structures.tree import (
    position_address,
    tree_insert,
    tree_insert_at,
    tree_remove,
    tree_remove_at,
    tree_seek,
)
from mmcore.jit import int64, kernel, linked, void
from mmcore.mmu import load64
from mmcore.state import SPACE

ELEMENT_COST = 64  # [bytes] beside its member, in a table and a tree: two slots, an item, and what growth wants ahead


@linked(int64(CONTEXT, int64, int64, int64))
def member_find(context, root, member, k):  # type: ignore[no-untyped-def]
    """The element of a member that is `k` bytes at `member`; 0 without one."""
    space = context.space
    if kind_of(space, root) == CHAIN:
        spot = chain_seek(space, root, member, k)
        return spot_element(space, spot) if spot != 0 else 0
    slot = table_find(space, root, key_hash(context, member, k), member, k)
    return table_at(space, slot) if slot != 0 else 0


@linked(int64(CONTEXT, int64, int64, int64))
def reserve_members(context, slot, members, size):  # type: ignore[no-untyped-def]
    """Whether the sorted set at a slot, or a new one, may get so many members of `size` bytes; else it replies -OOM."""
    moved = 0
    if slot != 0:
        root = entry_root(context, entry_of(load64(context.space, slot)))
        if kind_of(context.space, root) == CHAIN:
            moved = chain_count(context.space, root)
    return reserve_elements(context, members + moved, size + ELEMENT_COST * (members + moved) + 2 * CHAIN_MAX)


@linked(int64(CONTEXT, int64, int64, int64, int64))
def record_add(context, record, member, k, word):  # type: ignore[no-untyped-def]
    """Add an element to a record's table: its address, or 0 with nothing changed when frames ran out."""
    space = context.space
    element = element_alloc(space, member, k, 0, WORD_SIZE)
    if element == 0:
        return 0
    put_score(space, element_payload(space, element), word, WORD_SIZE)
    if table_add(space, record, context.store[HASH_SEED], key_hash(context, member, k), element) != 0:
        element_free(space, element)
        return 0
    return element


@linked(void(CONTEXT, int64))
def _to_record(context, entry):  # type: ignore[no-untyped-def]
    """Turn a chain into a record."""
    space, chain = context.space, entry_root(context, entry)
    record = record_new(space, OWNS_ELEMENTS)
    assert record != 0, "no frame was reserved for a record"
    spot, rank = chain_first(space, chain), 0
    while spot != 0:
        old = spot_element(space, spot)
        k, word = element_key_length(space, old), element_score(space, old)
        element = record_add(context, record, held(context, element_key(space, old), k), k, word)
        assert element != 0, "no frame was reserved for an element"
        code = tree_insert_at(space, record, rank, ordered(word), element, 0)
        assert code == 0, "no frame was reserved for a tree"
        spot, rank = spot_next(space, spot), rank + 1
    chain_free(space, chain)
    entry_set_root(context, entry, record)


@kernel
def zset_widen(context, entry):  # type: ignore[no-untyped-def]
    """Give a sorted set the encoding of a large one."""
    if kind_of(context.space, entry_root(context, entry)) == CHAIN:
        _to_record(context, entry)
    entry_set_encoding(context, entry, WIDE)


@linked(int64(CONTEXT, int64, int64, int64, int64, int64))
def zset_for_writing(context, slot, key, key_size, hash_, members):  # type: ignore[no-untyped-def]
    """The entry of a sorted set that may get so many members: the slot's, or a new one without members."""
    if slot != 0:
        entry = entry_of(load64(context.space, slot))
    else:
        root = chain_new(context.space)
        assert root != 0, "no frame was reserved for a chain"
        entry = collection_new(context, key, key_size, hash_, ZSET, COMPACT, root)
    # As Redis 7.2 does, which looks at the number of arguments before it looks at them.
    if members > context.shard[ZSET_MAX_LISTPACK_ENTRIES]:
        zset_widen(context, entry)
    return entry


@linked(int64(SPACE, int64, int64, int64))
def score_size_in(space, chain, place, word):  # type: ignore[no-untyped-def]
    """Bytes that a score takes at a place of a chain: as many as the others there, unless it needs more."""
    return max(short_score_size(word), chain_payload(space, chain, place))


@linked(int64(SPACE, int64, int64, int64, int64))
def _insert(space, chain, member, k, word):  # type: ignore[no-untyped-def]
    """Insert a member that is not there.  The new root, or 0 with nothing changed where it does not fit."""
    word = ordered(word)
    place = chain_rank(space, chain, word, member, k, 0)
    size = score_size_in(space, chain, place, word)
    if not chain_fits(space, chain, k, size):
        return 0
    chain = chain_insert(space, chain, place, member, k, 0, size)
    assert chain != 0, "no frame was reserved for a chain"
    put_score(space, element_payload(space, chain_element(space, chain, place)), word, size)
    return chain


@kernel
def _kept_word(context, entry, word):  # type: ignore[no-untyped-def]
    # A sorted set that is reported as a small one has no -0, though it be a record.
    return ordered(word) if entry_encoding(context, entry) == COMPACT else word


@linked(void(CONTEXT, int64, int64, int64, int64))
def member_add(context, entry, member, k, word):  # type: ignore[no-untyped-def]
    """Add a member that the sorted set does not have."""
    space, shard, root = context.space, context.shard, entry_root(context, entry)
    if k > shard[ZSET_MAX_LISTPACK_VALUE] or root_count(space, root) >= shard[ZSET_MAX_LISTPACK_ENTRIES]:
        zset_widen(context, entry)
    elif kind_of(space, root) == CHAIN:
        root = _insert(space, root, member, k, word)
        if root != 0:
            entry_set_root(context, entry, root)
            return
        _to_record(context, entry)
    root, word = entry_root(context, entry), _kept_word(context, entry, word)
    element = record_add(context, root, member, k, word)
    assert element != 0, "no frame was reserved for an element"
    code = tree_insert(space, root, ordered(word), element)
    assert code == 0, "no frame was reserved for a tree"


@linked(int64(CONTEXT, int64, int64, int64, int64))
def _move_in_chain(context, entry, member, k, word):  # type: ignore[no-untyped-def]
    """member_move in a chain: 1, or 0 where it must become a record first."""
    space, root = context.space, entry_root(context, entry)
    place = chain_find(space, root, member, k)
    element = chain_element(space, root, place)
    behind = chain_rank(space, root, ordered(word), member, k, 0)  # counts the member itself where its score rises
    size = element_payload_length(space, element)
    if short_score_size(word) <= size and place <= behind <= place + 1:
        put_score(space, element_payload(space, element), ordered(word), size)
        return 1
    if not chain_fits(space, root, k, WORD_SIZE):
        return 0
    root = chain_remove(space, root, place, 1)
    assert root != 0, "no frame was reserved for a chain"
    root = _insert(space, root, member, k, word)
    assert root != 0, "a member that was taken out does not fit any more"
    entry_set_root(context, entry, root)
    return 1


@linked(void(CONTEXT, int64, int64, int64, int64))
def member_move(context, entry, member, k, word):  # type: ignore[no-untyped-def]
    """Give a member that the sorted set has another score."""
    space = context.space
    if kind_of(space, entry_root(context, entry)) == CHAIN:
        if _move_in_chain(context, entry, member, k, word):
            return
        _to_record(context, entry)
    root, word = entry_root(context, entry), _kept_word(context, entry, word)
    element = table_at(space, table_find(space, root, key_hash(context, member, k), member, k))
    code = tree_remove(space, root, ordered(element_score(space, element)), element)
    assert code == 0, "no frame was reserved for a tree"
    put_score(space, element_payload(space, element), word, WORD_SIZE)
    code = tree_insert(space, root, ordered(word), element)
    assert code == 0, "no frame was reserved for a tree"


@linked(int64(CONTEXT, int64, int64, int64))
def member_remove(context, entry, member, k):  # type: ignore[no-untyped-def]
    """Remove a member: 1, or 0 without one."""
    space, root = context.space, entry_root(context, entry)
    if kind_of(space, root) == CHAIN:
        place = chain_find(space, root, member, k)
        if place < 0:
            return 0
        root = chain_remove(space, root, place, 1)
        assert root != 0, "no frame was reserved for a chain"
        entry_set_root(context, entry, root)
        return 1
    hash_ = key_hash(context, member, k)
    slot = table_find(space, root, hash_, member, k)
    if slot == 0:
        return 0
    element = table_at(space, slot)
    code = tree_remove(space, root, ordered(element_score(space, element)), element)
    assert code == 0, "no frame was reserved for a tree"
    table_drop(space, root, hash_, slot)
    return 1


@linked(void(CONTEXT, int64, int64, int64))
def members_remove(context, entry, rank, count):  # type: ignore[no-untyped-def]
    """Remove `count` members from the one with this rank on."""
    space, root = context.space, entry_root(context, entry)
    if kind_of(space, root) == CHAIN:
        root = chain_remove(space, root, rank, count)
        assert root != 0, "no frame was reserved for a chain"
        entry_set_root(context, entry, root)
        return
    for _ in range(count):
        element = position_address(space, tree_seek(space, root, rank, 0))
        code = tree_remove_at(space, root, rank, 0)
        assert code == 0, "no frame was reserved for a tree"
        k = element_key_length(space, element)
        member = held(context, element_key(space, element), k)
        hash_ = key_hash(context, member, k)
        slot = table_find(space, root, hash_, member, k)
        assert slot != 0, "a member of the tree is not in the table"
        table_drop(space, root, hash_, slot)
