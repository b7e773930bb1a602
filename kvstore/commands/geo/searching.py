"""GEOSEARCH, GEOSEARCHSTORE, and the older GEORADIUS commands: the members within an area.

The cells that cover the area (shapes.py) are ranges of scores, so of ranks.  Their members are looked at one after the
other, and those within the area become rows in malloc'd memory.  The rows are sorted where an order is asked for, and
then replied, or gathered to be stored.  Results of equal distance keep the order in which they were found.

    FOUND words at `found_of(context)`

    WORD     DESCRIPTION
    ROWS     address of the rows
    COUNT    of rows
    ROOM     rows that fit
    SPANS    from here on for each cell: the rank of its first member, and the rank behind its last

    ROW words of a row: the bits of the distance [m], the word of the score, the element

A long search goes aside (store/aside.py): two members that are looked at count as much as a field of a hash.  One that
stores its result writes, so it is made in one turn, as in Redis.
"""

from kvstore.commands.elements import reply_key
from kvstore.commands.geo.cells import STEPS, cell_latitude, cell_longitude, cell_of_score
from kvstore.commands.geo.options import (
    ANY,
    AROUND_MEMBER,
    AROUND_PLACE,
    ASCENDING,
    CENTRED,
    COORDINATES,
    COUNT,
    DISTANCES,
    FORMED,
    HASHES,
    ORDER,
    SCORES,
    SEARCH,
    SEARCH_STORE,
    STORE_AT,
    options_at_hand,
    search_options,
)
from kvstore.commands.geo.reading import reply_position
from kvstore.commands.geo.shapes import CELLS, NONE, UNIT, cells_of, cover, distance_within, is_far, shape_of
from kvstore.commands.sortedsets.gathered import gather_begin, gather_bytes, gather_end, gather_put, gather_sort
from kvstore.commands.sortedsets.order import cursor_at, zset_rank_word
from kvstore.commands.sortedsets.storing import store_gathered
from kvstore.effects.events import GEORADIUSSTORE, GEOSEARCHSTORE
from kvstore.lifetimes.context import BLOCKS, CONTEXT, HANDLER, SERVED
from kvstore.lifetimes.shard import SCRATCH_ADDRESS
from kvstore.store.aside import goes_aside
from kvstore.store.collections import OTHER_TYPE, collection_read
from kvstore.store.entries import ZSET, entry_root
from kvstore.store.leaving import reply_leaves
from kvstore.store.scores import element_score, score_word
from kvstore.structures.chain import spot_element, spot_next
from kvstore.structures.element import element_key, element_key_length
from kvstore.structures.kinds import CHAIN, kind_of
from kvstore.structures.pairs import KEY, NUMBER, PAIR, pairs_at, sort_pairs
from kvstore.structures.tree import position_address, position_next, position_word
from kvstore.system.libc import free, malloc, realloc, words_at
from kvstore.wire.arguments import argument
from kvstore.wire.doubles import bits_of_double, double_of, double_of_bits, sortable
from kvstore.wire.errors import (
    GEO_ANY,
    GEO_AREA,
    GEO_CENTRE,
    GEO_SEARCH_STORE,
    GEO_STORE,
    OUT_OF_RESULT,
)
from kvstore.wire.fixed import reply_distance
from kvstore.wire.resp import (
    reply_array,
    reply_empty_array,
    reply_error,
    reply_error_about,
    reply_integer,
)
from kvstore.wire.wanted import is_given_up
from mmcore.jit import int64, kernel, linked, view, void

ROWS, FOUND, ROOM, SPANS = range(4)
_STATE = SPANS + 2 * CELLS
_PLACE = 116  # among the words of the scratch memory
DISTANCE, SCORE, ELEMENT = range(3)
ROW = 3
_ROOM_MIN = 64  # rows
_CELL_BITS = 2 * STEPS


@view
def found_of(context):  # type: ignore[no-untyped-def]
    """The results of the search at hand, int64[_STATE]."""
    return words_at(context.shard[SCRATCH_ADDRESS] + 8 * _PLACE, _STATE)


@view
def _row(found, i):  # type: ignore[no-untyped-def]
    return words_at(found[ROWS] + 8 * ROW * i, ROW)


@linked(int64(CONTEXT, int64))
def _find_spans(context, root):  # type: ignore[no-untyped-def]
    """Find the ranks of the members in each cell; how many there are in all."""
    space, found, cells, members = context.space, found_of(context), cells_of(context), 0
    shift, last = _CELL_BITS - 2 * cells[CELLS], 0
    for i in range(CELLS):
        first = stop = 0
        # Around the world, a cell on the one side may be the one on the other.
        if cells[i] != NONE and (last == 0 or cells[i] != cells[last]):
            first = zset_rank_word(space, root, sortable(float(cells[i] << shift)), 0)
            stop = zset_rank_word(space, root, sortable(float((cells[i] + 1) << shift)), 0)
            last = i
        found[SPANS + 2 * i], found[SPANS + 2 * i + 1] = first, stop
        members += max(stop - first, 0)
    return members


@kernel
def _keep(found, away, word, element):  # type: ignore[no-untyped-def]
    # Append a row; False without memory.
    if found[FOUND] == found[ROOM]:
        room = max(2 * found[ROOM], _ROOM_MIN)
        rows = realloc(found[ROWS], 8 * ROW * room)
        if rows == 0:
            return False
        found[ROWS], found[ROOM] = rows, room
    row = _row(found, found[FOUND])
    row[DISTANCE], row[SCORE], row[ELEMENT] = bits_of_double(away), word, element
    found[FOUND] += 1
    return True


@linked(int64(CONTEXT, int64, int64, int64, int64))
def _search_span(context, root, rank, count, limit):  # type: ignore[no-untyped-def]
    """Look at `count` members from a rank on, until `limit` are found: 1, or 0 without memory."""
    space, found, shape = context.space, found_of(context), shape_of(context)
    in_chain, at = kind_of(space, root) == CHAIN, cursor_at(space, root, rank)
    for _ in range(count):
        if is_given_up(context):
            break
        word = element_score(space, spot_element(space, at)) if in_chain else position_word(space, at)
        cell = cell_of_score(double_of(word))
        longitude, latitude = cell_longitude(cell), cell_latitude(cell)
        if not is_far(shape, longitude, latitude):
            away = distance_within(shape, longitude, latitude)
            if away >= 0:
                element = spot_element(space, at) if in_chain else position_address(space, at)
                if not _keep(found, away, word if word != 0 else element_score(space, element), element):
                    return 0
        if found[FOUND] == limit:
            break
        at = spot_next(space, at) if in_chain else position_next(space, at)
    return 1


@linked(int64(CONTEXT, int64))
def _search(context, root):  # type: ignore[no-untyped-def]
    """Find the members within the area: 1, or 0 without memory."""
    options, found = options_at_hand(context), found_of(context)
    limit = options[COUNT] if options[ANY] else -1
    for i in range(CELLS):
        first, count = found[SPANS + 2 * i], found[SPANS + 2 * i + 1] - found[SPANS + 2 * i]
        if count > 0 and found[FOUND] != limit and not _search_span(context, root, first, count, limit):
            return 0
    return 1


@linked(int64(CONTEXT))
def _ordered(context):  # type: ignore[no-untyped-def]
    """The address of the rows' numbers in the order that is asked for, as pairs; 0 without memory."""
    options, found = options_at_hand(context), found_of(context)
    count = found[FOUND]
    address = malloc(8 * PAIR * max(count, 1))
    if address == 0:
        return 0
    pairs = pairs_at(address, count)
    for i in range(count):
        word = sortable(double_of_bits(_row(found, i)[DISTANCE]))
        pairs[PAIR * i + KEY], pairs[PAIR * i + NUMBER] = (word if options[ORDER] == ASCENDING else ~word), i
    if options[ORDER] != 0 and not sort_pairs(address, count):
        free(address)
        return 0
    return address


@linked(void(CONTEXT, int64[::1]))
def _reply_row(context, row):  # type: ignore[no-untyped-def]
    """One result, with what is asked for beside the member."""
    options, extra = options_at_hand(context), 0
    for option in (DISTANCES, HASHES, COORDINATES):
        extra += options[option]
    if extra > 0:
        reply_array(context, 1 + extra)
    reply_key(context, row[ELEMENT])
    if options[DISTANCES]:
        reply_distance(context, double_of_bits(row[DISTANCE]) / shape_of(context)[UNIT])
    if options[HASHES] or options[COORDINATES]:
        score = double_of(row[SCORE])
        if options[HASHES]:
            reply_integer(context, int64(score))
        if options[COORDINATES]:
            reply_position(context, cell_of_score(score))


@linked(void(CONTEXT, int64, int64))
def _reply(context, order, count):  # type: ignore[no-untyped-def]
    """The first results in this order."""
    found = found_of(context)
    reply_array(context, count)
    for i in range(count):
        if is_given_up(context):
            break
        _reply_row(context, _row(found, pairs_at(order, count)[PAIR * i + NUMBER]))
        reply_leaves(context)


@linked(int64(CONTEXT, int64, int64))
def _gather(context, order, count):  # type: ignore[no-untyped-def]
    """Gather the first results in this order, to be stored: 1, or 0 without memory."""
    found, scores, unit = found_of(context), options_at_hand(context)[SCORES], shape_of(context)[UNIT]
    if not gather_begin(context, count):
        return 0
    for i in range(count):
        row = _row(found, pairs_at(order, count)[PAIR * i + NUMBER])
        k = element_key_length(context.space, row[ELEMENT])
        address = gather_bytes(context, element_key(context.space, row[ELEMENT]), k)
        if address == 0:
            return 0
        gather_put(context, score_word(double_of_bits(row[DISTANCE]) / unit) if scores else row[SCORE], address, k)
    return gather_sort(context)


@linked(void(CONTEXT, int64, int64))
def _store(context, order, count):  # type: ignore[no-untyped-def]
    """Store the first results in this order, and reply how many."""
    options = options_at_hand(context)
    if _gather(context, order, count):
        searches = options[STORE_AT] == 1
        store_gathered(context, options[STORE_AT], GEOSEARCHSTORE if searches else GEORADIUSSTORE)
    else:
        reply_error(context, OUT_OF_RESULT)
    gather_end(context)


@linked(void(CONTEXT, int64))
def _answer(context, root):  # type: ignore[no-untyped-def]
    """Search, and reply or store."""
    options, found, order = options_at_hand(context), found_of(context), 0
    if _search(context, root):
        order = _ordered(context)
    count = found[FOUND]
    if options[COUNT] > 0:
        count = min(count, options[COUNT])
    if order == 0:
        reply_error(context, OUT_OF_RESULT)
    elif options[STORE_AT]:
        _store(context, order, count)
    else:
        _reply(context, order, count)
    free(order)
    free(found[ROWS])


@linked(int64(CONTEXT, int64))
def _check(context, form):  # type: ignore[no-untyped-def]
    """Whether the options go together; else an error is replied."""
    options, searches = options_at_hand(context), form >= SEARCH
    if options[STORE_AT] and (options[DISTANCES] or options[HASHES] or options[COORDINATES]):
        reply_error(context, GEO_SEARCH_STORE if searches else GEO_STORE)
    elif searches and options[CENTRED] == 0:
        reply_error_about(context, GEO_CENTRE, 0)
    elif searches and options[FORMED] == 0:
        reply_error_about(context, GEO_AREA, 0)
    elif options[ANY] and options[COUNT] == 0:
        reply_error(context, GEO_ANY)
    else:
        return 1
    return 0


@linked(int64(CONTEXT, int64, int64))
def _serve(context, form, may_store):  # type: ignore[no-untyped-def]
    """Serve one of the commands below."""
    options, found = options_at_hand(context), found_of(context)
    key, key_size = argument(context, 2 if form == SEARCH_STORE else 1)
    entry = collection_read(context, key, key_size, ZSET)
    if entry == OTHER_TYPE or not search_options(context, entry, form, may_store) or not _check(context, form):
        return SERVED
    found[ROWS] = found[FOUND] = found[ROOM] = 0
    if entry == 0:
        if options[STORE_AT]:
            _store(context, 0, 0)
        else:
            reply_empty_array(context)
        return SERVED
    if options[COUNT] > 0 and options[ORDER] == 0 and options[ANY] == 0:
        options[ORDER] = ASCENDING
    cover(context)
    root = entry_root(context, entry)
    members = _find_spans(context, root)
    if options[STORE_AT] == 0 and goes_aside(context, members >> 1):
        return BLOCKS
    _answer(context, root)
    return SERVED


@linked(HANDLER)
def georadius(context):  # type: ignore[no-untyped-def]
    """GEORADIUS key longitude latitude radius <M | KM | FT | MI> [...] [STORE key] [STOREDIST key]"""
    return _serve(context, AROUND_PLACE, 1)


@linked(HANDLER)
def georadius_ro(context):  # type: ignore[no-untyped-def]
    """GEORADIUS_RO key longitude latitude radius <M | KM | FT | MI> [...]"""
    return _serve(context, AROUND_PLACE, 0)


@linked(HANDLER)
def georadiusbymember(context):  # type: ignore[no-untyped-def]
    """GEORADIUSBYMEMBER key member radius <M | KM | FT | MI> [...] [STORE key] [STOREDIST key]"""
    return _serve(context, AROUND_MEMBER, 1)


@linked(HANDLER)
def georadiusbymember_ro(context):  # type: ignore[no-untyped-def]
    """GEORADIUSBYMEMBER_RO key member radius <M | KM | FT | MI> [...]"""
    return _serve(context, AROUND_MEMBER, 0)


@linked(HANDLER)
def geosearch(context):  # type: ignore[no-untyped-def]
    """GEOSEARCH key <FROMMEMBER member | FROMLONLAT longitude latitude> <BYRADIUS ... | BYBOX ...> [...]"""
    return _serve(context, SEARCH, 0)


@linked(HANDLER)
def geosearchstore(context):  # type: ignore[no-untyped-def]
    """GEOSEARCHSTORE destination source <FROMMEMBER ... | FROMLONLAT ...> <BYRADIUS ... | BYBOX ...> [...]"""
    return _serve(context, SEARCH_STORE, 1)
