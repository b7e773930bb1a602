"""Interests: the connections that want to hear of a topic.

A topic is a name with a number beside it: a channel, a pattern, a key of a database.  If a user of a table gives no
names, their hashes stand for them.  A topic exists as long as a connection is interested in it.  A table of interests
consists of

    topics      found by the hash of name and number (chained.py); each keeps its name, and a list of its interests in
                the order of arrival.  They lie in a list themselves, the eldest first
    interests   found by topic and connection; each lies in the list of its topic and in that of its connection, which
                begins in the connection's row.  Both lists are doubly linked, so nothing is searched for to end one
    marks       a queue of topics that somebody has to look at, such as keys that clients wait for and that have come

The fields of a connection's row for one table are two: FIRST, the number of its first interest plus 1, and behind it
the count.  A topic whose last interest ends while it is marked stays until its mark is taken.

A kernel names a table by its address; its INTERESTS_WORDS words begin as zeros.
"""

from kvstore.connections.chained import (
    HASH,
    HEADER_WORDS,
    NEXT,
    USER,
    WIDTH,
    add_row,
    first_row,
    remove_all_rows,
    remove_row,
    row_at,
    row_count,
    table_free,
)
from kvstore.lifetimes.sizes import INTERESTS_WORDS
from kvstore.system.libc import bytes_at, free, malloc, words_at
from mmcore.jit import copy_bytes, equal_bytes, int64, kernel, linked, view, void

# Words of a topic
(
    NUMBER,
    NAME,  # address of its bytes, 0 if there are none
    SIZE,  # [bytes]
    _FIRST,  # of its interests, plus 1
    _LAST,
    COUNT,  # of its interests; 0 too while the row is free
    _MARKED,  # whether it is in the queue of marks
    _NEXT_MARKED,  # the topic behind it there, plus 1
    _AFTER,  # the topics that came next and before in the list of all, plus 1
    _BEFORE,
    _TOPIC_WIDTH,
) = range(USER, USER + 11)
# Words of an interest
(
    TOPIC,
    CONNECTION,  # its slot
    WORD,  # for the user of the table
    _NEXT_OF_TOPIC,  # numbers of interests, plus 1
    _BEFORE_OF_TOPIC,
    _NEXT_OF_CONNECTION,
    _BEFORE_OF_CONNECTION,
    _INTEREST_WIDTH,
) = range(USER, USER + 8)
# The table
_TOPICS, _INTERESTS = 0, HEADER_WORDS
_MARK_FIRST, _MARK_LAST, _NAMES, _ELDEST, _YOUNGEST = range(2 * HEADER_WORDS, 2 * HEADER_WORDS + 5)
assert INTERESTS_WORDS == 2 * HEADER_WORDS + 5
_SPREAD = 0x2545_F491_4F6C_DD1D
INTEREST_MEMORY = 8 * (_INTEREST_WIDTH + 1 + _TOPIC_WIDTH + 1)  # [bytes] of one and its topic, without its name


@kernel
def _interests(table):  # type: ignore[no-untyped-def]
    return table + 8 * _INTERESTS


@view
def topic_at(table, topic):  # type: ignore[no-untyped-def]
    """The words of a topic."""
    return row_at(table, topic)


@view
def interest_at(table, interest):  # type: ignore[no-untyped-def]
    """The words of an interest."""
    return row_at(_interests(table), interest)


@kernel
def topic_count(table):  # type: ignore[no-untyped-def]
    """Topics, and those whose last interest has ended but not their mark."""
    return row_count(table)


@kernel
def topic_first(table):  # type: ignore[no-untyped-def]
    """The eldest topic, -1 for none."""
    return words_at(table, INTERESTS_WORDS)[_ELDEST] - 1


@kernel
def topic_after(table, topic):  # type: ignore[no-untyped-def]
    """The topic that came after this one, -1 for none.  It has no interest if only its mark has not been taken yet."""
    return row_at(table, topic)[_AFTER] - 1


@kernel
def interest_count(table):  # type: ignore[no-untyped-def]
    """Interests in all topics."""
    return row_count(_interests(table))


@kernel
def names_memory(table):  # type: ignore[no-untyped-def]
    """Bytes of all topics' names."""
    return words_at(table, INTERESTS_WORDS)[_NAMES]


@kernel
def interest_first(table, topic):  # type: ignore[no-untyped-def]
    """A topic's first interest, in the order of arrival; -1 for none."""
    return row_at(table, topic)[_FIRST] - 1


@kernel
def interest_next(table, interest):  # type: ignore[no-untyped-def]
    """The interest behind this one in the list of its topic; -1 for none."""
    return interest_at(table, interest)[_NEXT_OF_TOPIC] - 1


@kernel
def own_first(row, first):  # type: ignore[no-untyped-def]
    """A connection's first interest, where `first` is the field of its row; -1 for none."""
    return row[first] - 1


@kernel
def own_next(table, interest):  # type: ignore[no-untyped-def]
    """The interest behind this one in the list of its connection; -1 for none."""
    return interest_at(table, interest)[_NEXT_OF_CONNECTION] - 1


@kernel
def _topic_hash(hash_, number):  # type: ignore[no-untyped-def]
    return hash_ ^ (number * 0x9E37_79B9)


@kernel
def hash_of_topic(table, topic):  # type: ignore[no-untyped-def]
    """The hash of a topic's name."""
    row = row_at(table, topic)
    return _topic_hash(row[HASH], row[NUMBER])


@kernel
def _pair_hash(topic, slot):  # type: ignore[no-untyped-def]
    mixed = (topic << 20 ^ slot) * _SPREAD
    return mixed ^ (mixed >> 29)


@linked(int64(int64, int64, int64, int64, int64))
def topic_find(table, hash_, number, name, size):  # type: ignore[no-untyped-def]
    """The topic with this number and the `size` bytes at `name`, whose hash this is; -1 for none."""
    own = _topic_hash(hash_, number)
    at = first_row(table, own)
    while at >= 0:
        row = row_at(table, at)
        if row[HASH] == own and row[NUMBER] == number and row[SIZE] == size:
            if equal_bytes(bytes_at(row[NAME], size), 0, bytes_at(name, size), 0, size):
                return at
        at = row[NEXT]
    return -1


@linked(int64(int64, int64, int64))
def interest_find(table, topic, slot):  # type: ignore[no-untyped-def]
    """The interest of the connection in `slot` in a topic; -1 for none."""
    at = first_row(_interests(table), _pair_hash(topic, slot))
    while at >= 0:
        row = interest_at(table, at)
        if row[TOPIC] == topic and row[CONNECTION] == slot:
            return at
        at = row[NEXT]
    return -1


@kernel
def _topic_add(table, hash_, number, name, size):  # type: ignore[no-untyped-def]
    # A new topic, or -1 when memory ran out.
    kept = malloc(size) if size > 0 else 0
    if kept == 0 and size > 0:
        return -1
    at = add_row(table, _topic_hash(hash_, number))
    if at < 0:
        free(kept)
        return -1
    copy_bytes(bytes_at(kept, size), 0, bytes_at(name, size), 0, size)
    row = row_at(table, at)
    row[NUMBER], row[NAME], row[SIZE] = number, kept, size
    row[_FIRST] = row[_LAST] = row[COUNT] = row[_MARKED] = row[_NEXT_MARKED] = 0
    words = words_at(table, INTERESTS_WORDS)
    words[_NAMES] += size
    row[_AFTER], row[_BEFORE] = 0, words[_YOUNGEST]
    if words[_YOUNGEST] > 0:
        row_at(table, words[_YOUNGEST] - 1)[_AFTER] = at + 1
    else:
        words[_ELDEST] = at + 1
    words[_YOUNGEST] = at + 1
    return at


@kernel
def _topic_drop(table, topic):  # type: ignore[no-untyped-def]
    # Remove a topic without interests, unless it is marked.
    row = row_at(table, topic)
    if row[COUNT] == 0 and row[_MARKED] == 0:
        words = words_at(table, INTERESTS_WORDS)
        words[_NAMES] -= row[SIZE]
        if row[_BEFORE] > 0:
            row_at(table, row[_BEFORE] - 1)[_AFTER] = row[_AFTER]
        else:
            words[_ELDEST] = row[_AFTER]
        if row[_AFTER] > 0:
            row_at(table, row[_AFTER] - 1)[_BEFORE] = row[_BEFORE]
        else:
            words[_YOUNGEST] = row[_BEFORE]
        free(row[NAME])
        remove_row(table, topic)


@linked(int64(int64, int64, int64, int64, int64, int64, int64[::1], int64))
def interest_add(table, hash_, number, name, size, slot, row, first):  # type: ignore[no-untyped-def]
    """Let the connection in `slot`, with this row, be interested in a topic; it comes last there.

    Returns the interest; -1 when it has one already, -2 when memory ran out, and nothing has changed.
    """
    words = words_at(table, INTERESTS_WORDS)
    words[_TOPICS + WIDTH], words[_INTERESTS + WIDTH] = _TOPIC_WIDTH, _INTEREST_WIDTH
    topic = topic_find(table, hash_, number, name, size)
    if topic >= 0 and interest_find(table, topic, slot) >= 0:
        return -1
    if topic < 0:
        topic = _topic_add(table, hash_, number, name, size)
        if topic < 0:
            return -2
    at = add_row(_interests(table), _pair_hash(topic, slot))
    if at < 0:
        _topic_drop(table, topic)
        return -2
    of_topic, made = row_at(table, topic), interest_at(table, at)
    made[TOPIC], made[CONNECTION], made[WORD] = topic, slot, 0
    made[_NEXT_OF_TOPIC], made[_BEFORE_OF_TOPIC] = 0, of_topic[_LAST]
    if of_topic[_LAST] > 0:
        interest_at(table, of_topic[_LAST] - 1)[_NEXT_OF_TOPIC] = at + 1
    else:
        of_topic[_FIRST] = at + 1
    of_topic[_LAST] = at + 1
    of_topic[COUNT] += 1
    made[_NEXT_OF_CONNECTION], made[_BEFORE_OF_CONNECTION] = row[first], 0
    if row[first] > 0:
        interest_at(table, row[first] - 1)[_BEFORE_OF_CONNECTION] = at + 1
    row[first] = at + 1
    row[first + 1] += 1
    return at


@kernel
def _end(table, interest, row, first):  # type: ignore[no-untyped-def]
    # End an interest of the connection with this row.
    gone = interest_at(table, interest)
    topic = gone[TOPIC]
    of_topic = row_at(table, topic)
    before, following = gone[_BEFORE_OF_TOPIC], gone[_NEXT_OF_TOPIC]
    if before > 0:
        interest_at(table, before - 1)[_NEXT_OF_TOPIC] = following
    else:
        of_topic[_FIRST] = following
    if following > 0:
        interest_at(table, following - 1)[_BEFORE_OF_TOPIC] = before
    else:
        of_topic[_LAST] = before
    of_topic[COUNT] -= 1
    before, following = gone[_BEFORE_OF_CONNECTION], gone[_NEXT_OF_CONNECTION]
    if before > 0:
        interest_at(table, before - 1)[_NEXT_OF_CONNECTION] = following
    else:
        row[first] = following
    if following > 0:
        interest_at(table, following - 1)[_BEFORE_OF_CONNECTION] = before
    row[first + 1] -= 1
    remove_row(_interests(table), interest)
    _topic_drop(table, topic)


@linked(void(int64, int64, int64[::1], int64))
def interest_end(table, interest, row, first):  # type: ignore[no-untyped-def]
    """End an interest of the connection with this row."""
    _end(table, interest, row, first)


@linked(void(int64, int64[::1], int64))
def interests_end(table, row, first):  # type: ignore[no-untyped-def]
    """End all interests of the connection with this row."""
    while row[first] > 0:
        _end(table, row[first] - 1, row, first)


@linked(void(int64))
def interests_clear(table):  # type: ignore[no-untyped-def]
    """End all interests of all connections; the caller empties the lists in their rows.  No topic may be marked."""
    words = words_at(table, INTERESTS_WORDS)
    assert words[_MARK_FIRST] == 0, "a marked topic must stay"
    topic = topic_first(table)
    while topic >= 0:
        free(row_at(table, topic)[NAME])
        topic = topic_after(table, topic)
    words[_NAMES] = words[_ELDEST] = words[_YOUNGEST] = 0
    remove_all_rows(table)
    remove_all_rows(_interests(table))


@linked(void(int64, int64))
def topic_mark(table, topic):  # type: ignore[no-untyped-def]
    """Put a topic at the end of the queue of marks, unless it is there."""
    row, words = row_at(table, topic), words_at(table, INTERESTS_WORDS)
    if row[_MARKED] == 0:
        row[_MARKED], row[_NEXT_MARKED] = 1, 0
        if words[_MARK_LAST] > 0:
            row_at(table, words[_MARK_LAST] - 1)[_NEXT_MARKED] = topic + 1
        else:
            words[_MARK_FIRST] = topic + 1
        words[_MARK_LAST] = topic + 1


@kernel
def topic_marked(table):  # type: ignore[no-untyped-def]
    """The topic that has been marked for longest, -1 for none."""
    return words_at(table, INTERESTS_WORDS)[_MARK_FIRST] - 1


@linked(int64(int64))
def topic_unmark(table):  # type: ignore[no-untyped-def]
    """Take the first topic out of the queue of marks; returns it, or -1 when nobody is interested in it any more."""
    words = words_at(table, INTERESTS_WORDS)
    topic = words[_MARK_FIRST] - 1
    row = row_at(table, topic)
    words[_MARK_FIRST] = row[_NEXT_MARKED]
    if row[_NEXT_MARKED] == 0:
        words[_MARK_LAST] = 0
    row[_MARKED] = row[_NEXT_MARKED] = 0
    interested = row[COUNT] > 0
    _topic_drop(table, topic)
    return topic if interested else -1


@linked(void(int64))
def interests_free(table):  # type: ignore[no-untyped-def]
    """Free the memory of a table in which nobody is interested in anything any more."""
    while topic_marked(table) >= 0:
        topic_unmark(table)
    table_free(table)
    table_free(_interests(table))


@linked(int64(int64, int64[::1], int64))
def check_interests(table, seen, slots):  # type: ignore[no-untyped-def]
    """Walk all lists; returns the number of interests, or a negative number that names the fault.

    seen[slot] becomes the number of interests of each connection; `slots` is how many connections there are.
    """
    total, listed, elder, topic = 0, 0, -1, topic_first(table)
    for slot in range(slots):
        seen[slot] = 0
    while topic >= 0:
        row = row_at(table, topic)
        if row[_BEFORE] - 1 != elder:
            return -6
        if topic_find(table, hash_of_topic(table, topic), row[NUMBER], row[NAME], row[SIZE]) != topic:
            return -1
        count, before, at = 0, -1, interest_first(table, topic)
        while at >= 0:
            made = interest_at(table, at)
            if made[TOPIC] != topic or made[_BEFORE_OF_TOPIC] - 1 != before:
                return -2
            if interest_find(table, topic, made[CONNECTION]) != at:
                return -3
            seen[made[CONNECTION]] += 1
            count += 1
            before, at = at, interest_next(table, at)
        if count != row[COUNT] or row[_LAST] - 1 != before:
            return -4
        total += count
        listed += 1
        elder, topic = topic, topic_after(table, topic)
    if listed != topic_count(table) or words_at(table, INTERESTS_WORDS)[_YOUNGEST] - 1 != elder:
        return -7
    return total if total == row_count(_interests(table)) else -5
