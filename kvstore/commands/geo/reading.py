"""GEODIST, GEOHASH, GEOPOS: where members are."""

from kvstore.commands.geo.cells import cell_latitude, cell_longitude, cell_of_score, standard_cell_of
from kvstore.commands.geo.distances import distance, unit_argument
from kvstore.commands.sortedsets.value import member_find
from kvstore.lifetimes.call import ARGC
from kvstore.lifetimes.context import CONTEXT, HANDLER
from kvstore.lifetimes.shard import SCRATCH_ADDRESS
from kvstore.store.collections import OTHER_TYPE, collection_read
from kvstore.store.entries import ZSET, entry_root
from kvstore.store.scores import element_score
from kvstore.system.libc import bytes_at
from kvstore.wire.arguments import argument
from kvstore.wire.doubles import double_of
from kvstore.wire.errors import SYNTAX, UNIT_UNKNOWN
from kvstore.wire.fixed import reply_coordinate, reply_distance
from kvstore.wire.resp import reply_array, reply_bulk, reply_error, reply_null, reply_null_array
from mmcore.jit import constant, int64, kernel, linked, void

_ALPHABET = constant(b"0123456789bcdefghjkmnpqrstuvwxyz")
_DIGITS = 11  # of a geohash; the last is always 0, because the cells have too few bits for it
_BITS = 52


@linked(int64(CONTEXT, int64, int64))
def _element_of(context, entry, i):  # type: ignore[no-untyped-def]
    """The element of the member in argument i; 0 without one, or without a sorted set (entry 0)."""
    if entry == 0:
        return 0
    member, k = argument(context, i)
    return member_find(context, entry_root(context, entry), member, k)


@kernel
def _cell_of(context, element):  # type: ignore[no-untyped-def]
    return cell_of_score(double_of(element_score(context.space, element)))


@kernel
def reply_position(context, cell):  # type: ignore[no-untyped-def]
    """An array of the longitude and the latitude in the middle of a cell."""
    reply_array(context, 2)
    reply_coordinate(context, cell_longitude(cell))
    reply_coordinate(context, cell_latitude(cell))


@linked(void(CONTEXT, int64))
def _reply_geohash(context, element):  # type: ignore[no-untyped-def]
    """The position of an element as text, as others write it."""
    place = _cell_of(context, element)
    cell = standard_cell_of(cell_longitude(place), cell_latitude(place))
    text = bytes_at(context.shard[SCRATCH_ADDRESS], _DIGITS)
    for i in range(_DIGITS - 1):
        text[i] = _ALPHABET[(cell >> (_BITS - 5 * (i + 1))) & 31]
    text[_DIGITS - 1] = _ALPHABET[0]
    reply_bulk(context, text, 0, _DIGITS)


@linked(HANDLER)
def geohash(context):  # type: ignore[no-untyped-def]
    """GEOHASH key [member [member ...]]"""
    key, key_size = argument(context, 1)
    entry = collection_read(context, key, key_size, ZSET)
    if entry == OTHER_TYPE:
        return 0
    reply_array(context, context.call[ARGC] - 2)
    for i in range(2, context.call[ARGC]):
        element = _element_of(context, entry, i)
        if element == 0:
            reply_null(context)
        else:
            _reply_geohash(context, element)
    return 0


@linked(HANDLER)
def geopos(context):  # type: ignore[no-untyped-def]
    """GEOPOS key [member [member ...]]"""
    key, key_size = argument(context, 1)
    entry = collection_read(context, key, key_size, ZSET)
    if entry == OTHER_TYPE:
        return 0
    reply_array(context, context.call[ARGC] - 2)
    for i in range(2, context.call[ARGC]):
        element = _element_of(context, entry, i)
        if element == 0:
            reply_null_array(context)
        else:
            reply_position(context, _cell_of(context, element))
    return 0


@linked(HANDLER)
def geodist(context):  # type: ignore[no-untyped-def]
    """GEODIST key member1 member2 [M | KM | FT | MI]"""
    argc, unit = context.call[ARGC], 1.0
    if argc == 5:
        unit = unit_argument(context, 4)
    if argc > 5 or unit == 0.0:
        reply_error(context, SYNTAX if argc > 5 else UNIT_UNKNOWN)
        return 0
    key, key_size = argument(context, 1)
    entry = collection_read(context, key, key_size, ZSET)
    if entry == OTHER_TYPE:
        return 0
    one, other = _element_of(context, entry, 2), _element_of(context, entry, 3)
    if one == 0 or other == 0:
        reply_null(context)
        return 0
    here, there = _cell_of(context, one), _cell_of(context, other)
    away = distance(cell_longitude(here), cell_latitude(here), cell_longitude(there), cell_latitude(there))
    reply_distance(context, away / unit)
    return 0
