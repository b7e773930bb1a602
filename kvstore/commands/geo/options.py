"""The arguments of a search: where the centre is, which area, what is answered or stored, and in which order.

    OPTIONS words at `options_at_hand(context)`

    WORD         DESCRIPTION
    CENTRED      1 when the centre is known: by FROM_MEMBER or by FROM_PLACE; 0 without it
    FORMED       the same of the area: CIRCLE or BOX
    ORDER        0 for none, ASCENDING or DESCENDING
    COUNT        0 for no limit
    ANY          1 for the first results that are found
    DISTANCES, HASHES, COORDINATES    1 for what is answered beside a member
    STORE_AT     number of the argument with the key that gets the result; 0 if it is replied
    SCORES       1 if distances are stored as scores

The shape is at hand besides (shapes.py).  Errors come in the order in which Redis meets them: the key of the sorted set
has been looked up, and a member is looked for when its option is read.
"""

from kvstore.commands.geo.cells import LATITUDE_MAX, LONGITUDE_MAX, cell_latitude, cell_longitude, cell_of_score
from kvstore.commands.geo.distances import unit_argument
from kvstore.commands.geo.shapes import HEIGHT, IS_BOX, LATITUDE, LONGITUDE, UNIT, WIDTH, shape_of
from kvstore.commands.sortedsets.value import member_find
from kvstore.lifetimes.call import ARGC
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import SCRATCH_ADDRESS
from kvstore.store.entries import entry_root
from kvstore.store.scores import element_score
from kvstore.system.libc import words_at
from kvstore.wire.arguments import argument, integer_argument, is_word, pack, word
from kvstore.wire.doubles import double_argument, double_of
from kvstore.wire.errors import (
    BOX_NEGATIVE,
    GEO_COUNT,
    GEO_MEMBER,
    GEO_PAIR,
    HEIGHT_NOT_FLOAT,
    NOT_FLOAT,
    NOT_INTEGER,
    RADIUS_NEGATIVE,
    RADIUS_NOT_FLOAT,
    SYNTAX,
    UNIT_UNKNOWN,
    WIDTH_NOT_FLOAT,
)
from kvstore.wire.fixed import put_six
from kvstore.wire.resp import end_error, reply_error, reply_length, reply_raw, reply_truncate
from mmcore.jit import constant, int64, kernel, linked, view

CENTRED, FORMED, ORDER, COUNT, ANY, DISTANCES, HASHES, COORDINATES, STORE_AT, SCORES = range(10)
OPTIONS = 10
FROM_MEMBER, FROM_PLACE = 1, 2
CIRCLE, BOX = 1, 2
ASCENDING, DESCENDING = 1, 2
AROUND_PLACE, AROUND_MEMBER, SEARCH, SEARCH_STORE = range(4)  # forms of a search: GEORADIUS and its kin, GEOSEARCH
_PLACE = 80  # among the words of the scratch memory
_ANY_WORD, _ASC_WORD, _DESC_WORD = pack(b"ANY"), pack(b"ASC"), pack(b"DESC")
_WITHDIST_WORD, _WITHHASH_WORD, _COUNT_WORD = pack(b"WITHDIST"), pack(b"WITHHASH"), pack(b"COUNT")
_STORE_WORD, _BYRADIUS_WORD, _BYBOX_WORD = pack(b"STORE"), pack(b"BYRADIUS"), pack(b"BYBOX")
_WITHCOORD, _STOREDIST = constant(b"WITHCOORD"), constant(b"STOREDIST")
_FROMMEMBER, _FROMLONLAT = constant(b"FROMMEMBER"), constant(b"FROMLONLAT")
_COMMA = constant(b",")


@view
def options_at_hand(context):  # type: ignore[no-untyped-def]
    """The options of the search at hand, int64[OPTIONS]."""
    return words_at(context.shard[SCRATCH_ADDRESS] + 8 * _PLACE, OPTIONS)


@linked(int64(CONTEXT, int64))
def check_position(context, i):  # type: ignore[no-untyped-def]
    """Whether arguments i and i + 1 are a longitude and a latitude on the map; else an error is replied."""
    valid, longitude = double_argument(context, i)
    also_valid, latitude = double_argument(context, i + 1)
    if not (valid and also_valid):
        reply_error(context, NOT_FLOAT)
        return 0
    if abs(longitude) <= LONGITUDE_MAX and abs(latitude) <= LATITUDE_MAX:
        return 1
    start = reply_length(context)
    reply_error(context, GEO_PAIR)
    reply_truncate(context, reply_length(context) - 2)
    put_six(context, longitude)
    reply_raw(context, _COMMA, 0, len(_COMMA))
    put_six(context, latitude)
    end_error(context, start)
    return 0


@kernel
def _take_position(context, i):  # type: ignore[no-untyped-def]
    # Whether arguments i and i + 1 are a position, which becomes the centre; else an error is replied.
    if not check_position(context, i):
        return False
    shape = shape_of(context)
    _, shape[LONGITUDE] = double_argument(context, i)
    _, shape[LATITUDE] = double_argument(context, i + 1)
    return True


@kernel
def _take_member(context, entry, i):  # type: ignore[no-untyped-def]
    # Whether the member in argument i becomes the centre; else an error is replied.
    member, k = argument(context, i)
    element = member_find(context, entry_root(context, entry), member, k)
    if element == 0:
        reply_error(context, GEO_MEMBER)
        return False
    shape, cell = shape_of(context), cell_of_score(double_of(element_score(context.space, element)))
    shape[LONGITUDE], shape[LATITUDE] = cell_longitude(cell), cell_latitude(cell)
    return True


@kernel
def _take_unit(context, i):  # type: ignore[no-untyped-def]
    unit = unit_argument(context, i)
    if unit == 0.0:
        reply_error(context, UNIT_UNKNOWN)
        return False
    shape_of(context)[UNIT] = unit
    return True


@linked(int64(CONTEXT, int64))
def _take_circle(context, i):  # type: ignore[no-untyped-def]
    """Whether arguments i and i + 1 are a radius and a unit, which become the area; else an error is replied."""
    valid, radius = double_argument(context, i)
    if not valid or radius < 0:
        reply_error(context, RADIUS_NEGATIVE if valid else RADIUS_NOT_FLOAT)
        return 0
    shape = shape_of(context)
    shape[WIDTH], shape[IS_BOX] = radius, 0.0
    return int64(_take_unit(context, i + 1))


@linked(int64(CONTEXT, int64))
def _take_box(context, i):  # type: ignore[no-untyped-def]
    """Whether arguments i to i + 2 are a width, a height and a unit, and so the area; else an error is replied."""
    valid, width = double_argument(context, i)
    if not valid:
        reply_error(context, WIDTH_NOT_FLOAT)
        return 0
    also_valid, height = double_argument(context, i + 1)
    if not also_valid or width < 0 or height < 0:
        reply_error(context, BOX_NEGATIVE if also_valid else HEIGHT_NOT_FLOAT)
        return 0
    shape = shape_of(context)
    shape[WIDTH], shape[HEIGHT], shape[IS_BOX] = width, height, 1.0
    return int64(_take_unit(context, i + 2))


@linked(int64(CONTEXT, int64))
def _take_count(context, i):  # type: ignore[no-untyped-def]
    """Whether argument i is a limit of the results; else an error is replied."""
    valid, count = integer_argument(context, i)
    if not valid or count <= 0:
        reply_error(context, GEO_COUNT if valid else NOT_INTEGER)
        return 0
    options_at_hand(context)[COUNT] = count
    return 1


@kernel
def _take_flag(context, i):  # type: ignore[no-untyped-def]
    # Whether argument i is an option that stands alone.
    options, name = options_at_hand(context), word(context, i)
    if name == _WITHDIST_WORD:
        options[DISTANCES] = 1
    elif name == _WITHHASH_WORD:
        options[HASHES] = 1
    elif is_word(context, i, _WITHCOORD):
        options[COORDINATES] = 1
    elif name == _ANY_WORD:
        options[ANY] = 1
    elif name == _ASC_WORD or name == _DESC_WORD:
        options[ORDER] = ASCENDING if name == _ASC_WORD else DESCENDING
    else:
        return False
    return True


@linked(int64(CONTEXT, int64, int64))
def _take_from_or_by(context, entry, i):  # type: ignore[no-untyped-def]
    """Read an option of GEOSEARCH at argument i: the arguments behind it, -1 if it is none, -2 with an error reply."""
    options, name, left = options_at_hand(context), word(context, i), context.call[ARGC] - i
    if is_word(context, i, _FROMMEMBER) and left > 1 and options[CENTRED] != FROM_PLACE:
        options[CENTRED] = FROM_MEMBER
        return 1 if entry == 0 or _take_member(context, entry, i + 1) else -2
    if is_word(context, i, _FROMLONLAT) and left > 2 and options[CENTRED] != FROM_MEMBER:
        options[CENTRED] = FROM_PLACE
        return 2 if _take_position(context, i + 1) else -2
    if name == _BYRADIUS_WORD and left > 2 and options[FORMED] != BOX:
        options[FORMED] = CIRCLE
        return 2 if _take_circle(context, i + 1) else -2
    if name == _BYBOX_WORD and left > 3 and options[FORMED] != CIRCLE:
        options[FORMED] = BOX
        return 3 if _take_box(context, i + 1) else -2
    return -1


@kernel
def _take_store(context, i, form):  # type: ignore[no-untyped-def]
    # Read STORE or STOREDIST at argument i: the arguments behind it, -1 if it is none.
    options, distances = options_at_hand(context), is_word(context, i, _STOREDIST)
    if form == SEARCH_STORE and distances:
        options[SCORES] = 1
        return 0
    if form >= SEARCH or i + 1 >= context.call[ARGC] or not (distances or word(context, i) == _STORE_WORD):
        return -1
    options[STORE_AT], options[SCORES] = i + 1, int64(distances)
    return 1


@linked(int64(CONTEXT, int64, int64))
def _take_centre(context, entry, form):  # type: ignore[no-untyped-def]
    """Read what GEORADIUS and its kin have before their options: where these begin, or 0 with an error replied."""
    if form == AROUND_PLACE:
        return 6 if _take_position(context, 2) and _take_circle(context, 4) else 0
    if entry == 0:
        return 5
    return 5 if _take_member(context, entry, 2) and _take_circle(context, 3) else 0


@linked(int64(CONTEXT, int64, int64, int64))
def search_options(context, entry, form, may_store):  # type: ignore[no-untyped-def]
    """Read the arguments of a search in the sorted set of an entry, or in none (0): 1, or 0 with an error replied."""
    options, i = options_at_hand(context), 2
    for option in range(OPTIONS):
        options[option] = 0
    if form == SEARCH_STORE:
        options[STORE_AT], i = 1, 3
    elif form != SEARCH:
        i = _take_centre(context, entry, form)
        if i == 0:
            return 0
    while i < context.call[ARGC]:
        more = 0 if _take_flag(context, i) else -1
        if more < 0 and word(context, i) == _COUNT_WORD and i + 1 < context.call[ARGC]:
            more = 1 if _take_count(context, i + 1) else -2
        if more == -1 and may_store:
            more = _take_store(context, i, form)
        if more == -1 and form >= SEARCH:
            more = _take_from_or_by(context, entry, i)
        if more < 0:
            if more == -1:
                reply_error(context, SYNTAX)
            return 0
        i += 1 + more
    return 1
