"""Whether two streams are the same: a part of the comparison of two entries (comparing.py), in the same steps.

First the words of the roots are compared, then entry after entry, then the groups: of each the words and the consumers,
and one pending entry after the other.  The two streams may have different nodes.  A node in a page that both stores
share is passed over.  A consumer's times are compared, too: they are what XINFO CONSUMERS answers from.
"""

from kvstore.store.comparing_bytes import (
    DIFFERENT,
    LEFT,
    MORE,
    NEXT_WORD,
    SAME,
    begin_pieces,
    compare_piece,
    end_pieces,
    same_key,
)
from kvstore.structures.groups import (
    ACTIVE,
    CONSUMER,
    CONSUMERS,
    GIVEN_MS,
    PENDING,
    READ,
    SEEN,
    TIME,
    TIMES,
    pending_count,
    word_at,
)
from kvstore.structures.record import record_count
from kvstore.structures.stream import (
    COUNT,
    GROUPS,
    NODES,
    NOWHERE,
    entry_identifier,
    node_entries,
    node_where,
    where_first,
    where_next,
)
from kvstore.structures.stream_entry import entry_begin, entry_pair
from kvstore.structures.tree import position_address, position_next, position_word, tree_seek
from mmcore.jit import boolean, int64, kernel, linked
from mmcore.mmu import load64
from mmcore.paging import PAGE_MASK
from mmcore.sameness import is_same_page
from mmcore.state import CR3, SPACE

# The state, as in comparing.py: AT is the phase.  Of the entries: where each stream's next one is, and its place there;
# of the groups: the ranks of the next group and of the next of its pending entries.
AT = 1
WHERE, PLACE, OTHER_WHERE, OTHER_PLACE = range(NEXT_WORD, NEXT_WORD + 4)
_BEGIN, _ENTRIES, _GROUPS = range(3)
ENTRY_COST = 6


@linked(int64(SPACE, SPACE, int64, int64, int64, int64, int64[::1]))
def _compare_entry(x, y, node, place, other, other_place, state):  # type: ignore[no-untyped-def]
    """Compare the identifiers, fields and values of two entries."""
    ms, seq = entry_identifier(x, node, place)
    other_ms, other_seq = entry_identifier(y, other, other_place)
    fields, master, at = entry_begin(x, node, place)
    others, other_master, other_at = entry_begin(y, other, other_place)
    if ms != other_ms or seq != other_seq or fields != others:
        return DIFFERENT
    begin_pieces(state)
    for _ in range(fields):
        name, k, value, v, master, at = entry_pair(x, master, at)
        its, its_k, its_value, its_v, other_master, other_at = entry_pair(y, other_master, other_at)
        if k != its_k or v != its_v:
            return DIFFERENT
        code = compare_piece(x, y, name, its, k, state)
        if code == SAME:
            code = compare_piece(x, y, value, its_value, v, state)
        if code != SAME:
            return code
    end_pieces(state)
    return SAME


@linked(int64(SPACE, SPACE, int64, int64, int64[::1], int64[::1]))
def _compare_entries(x, y, root, others, same, state):  # type: ignore[no-untyped-def]
    """Compare the entries from where the state is on."""
    while state[WHERE] != NOWHERE:
        if state[LEFT] <= 0:
            return MORE
        node, other = node_where(x, root, state[WHERE]), node_where(y, others, state[OTHER_WHERE])
        entries, their_entries, i, j = node_entries(x, node), node_entries(y, other), state[PLACE], state[OTHER_PLACE]
        shared = node == other and i == j and node & PAGE_MASK != 0  # else perhaps a run of pages
        if shared and is_same_page(x.mem, x.cpu[CR3], y.cpu[CR3], same, node):
            i = j = entries
        else:
            code = _compare_entry(x, y, node, i, other, j, state)
            if code != SAME:
                return code
            i += 1
            j += 1
        if i == entries:
            state[WHERE], i = where_next(x, state[WHERE]), 0
        if j == their_entries:
            state[OTHER_WHERE], j = where_next(y, state[OTHER_WHERE]), 0
        state[PLACE], state[OTHER_PLACE] = i, j
        state[LEFT] -= ENTRY_COST
    return SAME


@linked(boolean(SPACE, SPACE, int64, int64))
def _same_consumers(x, y, group, other):  # type: ignore[no-untyped-def]
    """Whether two groups have the same words and consumers, and equally many pending entries."""
    for place in range(GIVEN_MS, READ + 1, 8):
        if word_at(x, group, place) != word_at(y, other, place):
            return False
    consumers, others = word_at(x, group, CONSUMERS), word_at(y, other, CONSUMERS)
    if record_count(x, consumers) != record_count(y, others) or pending_count(x, group) != pending_count(y, other):
        return False
    where, theirs = tree_seek(x, consumers, 0, 0), tree_seek(y, others, 0, 0)
    while where != 0:
        consumer, its = position_address(x, where), position_address(y, theirs)
        if not same_key(x, y, consumer, its) or word_at(x, consumer, SEEN) != word_at(y, its, SEEN):
            return False
        if word_at(x, consumer, ACTIVE) != word_at(y, its, ACTIVE):
            return False
        where, theirs = position_next(x, where), position_next(y, theirs)
    return True


@linked(boolean(SPACE, SPACE, int64, int64))
def _same_pending(x, y, where, theirs):  # type: ignore[no-untyped-def]
    """Whether the pending entries at two positions are the same."""
    element, other = position_address(x, where), position_address(y, theirs)
    if position_word(x, where) != position_word(y, theirs) or not same_key(x, y, element, other):
        return False
    if word_at(x, element, TIME) != word_at(y, other, TIME) or word_at(x, element, TIMES) != word_at(y, other, TIMES):
        return False
    return same_key(x, y, word_at(x, element, CONSUMER), word_at(y, other, CONSUMER))


@linked(int64(SPACE, SPACE, int64, int64, int64[::1]))
def _compare_groups(x, y, groups, others, state):  # type: ignore[no-untyped-def]
    """Compare the groups from where the state is on: at least one pending entry, or the rest of a group, in a call."""
    where, theirs = tree_seek(x, groups, state[WHERE], 0), tree_seek(y, others, state[WHERE], 0)
    while where != 0:
        group, other = position_address(x, where), position_address(y, theirs)
        if state[PLACE] == 0 and (not same_key(x, y, group, other) or not _same_consumers(x, y, group, other)):
            return DIFFERENT
        at = tree_seek(x, word_at(x, group, PENDING), state[PLACE], 0)
        its = tree_seek(y, word_at(y, other, PENDING), state[PLACE], 0)
        while at != 0:
            if not _same_pending(x, y, at, its):
                return DIFFERENT
            at, its = position_next(x, at), position_next(y, its)
            state[PLACE] += 1
            state[LEFT] -= ENTRY_COST
            if state[LEFT] <= 0 and at != 0:
                return MORE
        where, theirs = position_next(x, where), position_next(y, theirs)
        state[WHERE], state[PLACE] = state[WHERE] + 1, 0
        state[LEFT] -= ENTRY_COST * (1 + record_count(x, word_at(x, group, CONSUMERS)))
        if state[LEFT] <= 0 and where != 0:
            return MORE
    return SAME


@kernel
def _groups_of(space, root):  # type: ignore[no-untyped-def]
    groups = load64(space, root + GROUPS)
    return groups, record_count(space, groups) if groups != 0 else int64(0)


@linked(int64(SPACE, SPACE, int64, int64, int64[::1], int64[::1]))
def compare_streams(x, y, root, others, same, state):  # type: ignore[no-untyped-def]
    """Compare two streams: SAME, DIFFERENT, or MORE with the budget used up."""
    groups, count = _groups_of(x, root)
    other_groups, other_count = _groups_of(y, others)
    if state[AT] == _BEGIN:
        for field in range(COUNT, NODES, 8):
            if load64(x, root + field) != load64(y, others + field):
                return DIFFERENT
        if count != other_count:
            return DIFFERENT
        state[AT], state[WHERE], state[OTHER_WHERE] = _ENTRIES, where_first(x, root), where_first(y, others)
        state[PLACE] = state[OTHER_PLACE] = 0
    if state[AT] == _ENTRIES:
        code = _compare_entries(x, y, root, others, same, state)
        if code != SAME:
            return code
        state[AT], state[WHERE], state[PLACE] = _GROUPS, 0, 0
    return _compare_groups(x, y, groups, other_groups, state) if count > 0 else SAME
