"""Positions on the earth as scores: the world is halved again and again, and each half gives a bit.

A *cell* of n steps is one of 2^n by 2^n parts of the map.  Its number has 2n bits, of the longitude and the latitude in
turn; the first of them, a longitude's, is the highest.  The cell of STEPS steps, a bit more than half a metre wide, is
the score of a position.  So the members within a larger cell are those with scores between two.

The map ends at 85 degrees of latitude, as maps of the web do.  A score that ZADD has made may have more bits; what
Redis makes of it is the same.  A position outside the map is taken for one at its edge.
"""

from mmcore.jit import kernel

STEPS = 26
LONGITUDE_MAX, LATITUDE_MAX = 180.0, 85.05112878  # [degrees]
_LONGITUDES, _LATITUDES = 2 * LONGITUDE_MAX, 2 * LATITUDE_MAX  # between the edges
_EVERY_SECOND = 0x5555_5555_5555_5555
_PAIRS, _FOURS, _BYTES, _HALVES = 0x3333_3333_3333_3333, 0x0F0F_0F0F_0F0F_0F0F, 0x00FF_00FF_00FF_00FF, 0xFFFF_0000_FFFF
_LOW = 0xFFFF_FFFF
_UNSIGNED_END = float(1 << 63)


@kernel
def _spread(value):  # type: ignore[no-untyped-def]
    # The low 32 bits of a number, each in front of a zero.
    value = (value | value << 16) & _HALVES
    value = (value | value << 8) & _BYTES
    value = (value | value << 4) & _FOURS
    value = (value | value << 2) & _PAIRS
    return (value | value << 1) & _EVERY_SECOND


@kernel
def _gathered(value):  # type: ignore[no-untyped-def]
    # Every second bit of a number, from the lowest on.
    value &= _EVERY_SECOND
    value = (value | value >> 1) & _PAIRS
    value = (value | value >> 2) & _FOURS
    value = (value | value >> 4) & _BYTES
    value = (value | value >> 8) & _HALVES
    return (value | value >> 16) & _LOW


@kernel
def _place(value, least, span, steps):  # type: ignore[no-untyped-def]
    # The number of the part of a range that holds a value.
    share = (value - least) / span
    return int(min(max(share, 0.0), 1.0) * float(1 << steps))


@kernel
def cell_of(longitude, latitude, steps):  # type: ignore[no-untyped-def]
    """The cell of so many steps that holds a position."""
    x = _place(longitude, -LONGITUDE_MAX, _LONGITUDES, steps)
    return _spread(_place(latitude, -LATITUDE_MAX, _LATITUDES, steps)) | _spread(x) << 1


@kernel
def standard_cell_of(longitude, latitude):  # type: ignore[no-untyped-def]
    """The cell of STEPS steps on a map that ends at the poles, which is a geohash as others know it."""
    return _spread(_place(latitude, -90.0, 180.0, STEPS)) | _spread(_place(longitude, -180.0, 360.0, STEPS)) << 1


@kernel
def cell_west(cell, steps, further):  # type: ignore[no-untyped-def]
    """The longitude of a cell's western edge, or of the one `further` cells to the east of it."""
    x = (_gathered(cell >> 1) + further) & _LOW
    return -LONGITUDE_MAX + float(x) / float(1 << steps) * _LONGITUDES


@kernel
def cell_south(cell, steps, further):  # type: ignore[no-untyped-def]
    """The latitude of a cell's southern edge, or of the one `further` cells to the north of it."""
    y = (_gathered(cell) + further) & _LOW
    return -LATITUDE_MAX + float(y) / float(1 << steps) * _LATITUDES


@kernel
def cell_of_score(score):  # type: ignore[no-untyped-def]
    """The cell of STEPS steps that a score is; any double is one, as C converts it to 64 bits."""
    if score >= _UNSIGNED_END:
        score -= _UNSIGNED_END
        return int(score) ^ (-1 << 63) if score < _UNSIGNED_END else 0
    return int(score) if score >= -_UNSIGNED_END else -1 << 63


@kernel
def cell_longitude(cell):  # type: ignore[no-untyped-def]
    """The longitude in the middle of a cell of STEPS steps."""
    return (cell_west(cell, STEPS, 0) + cell_west(cell, STEPS, 1)) / 2


@kernel
def cell_latitude(cell):  # type: ignore[no-untyped-def]
    """The latitude in the middle of a cell of STEPS steps."""
    return (cell_south(cell, STEPS, 0) + cell_south(cell, STEPS, 1)) / 2


@kernel
def _moved(bits, own, others, by):  # type: ignore[no-untyped-def]
    # The bits of one coordinate, moved by -1, 0 or 1 around the map; the others carry.
    if by > 0:
        return (bits + others + 1) & own
    return ((bits | others) - others - 1) & own if by < 0 else bits


@kernel
def cell_beside(cell, steps, east, north):  # type: ignore[no-untyped-def]
    """The cell that is -1, 0 or 1 cells to the east and to the north.  The edges of the map lead to each other."""
    y = _EVERY_SECOND >> (64 - 2 * steps)
    x = y << 1
    return _moved(cell & ~_EVERY_SECOND, x, y, east) | _moved(cell & _EVERY_SECOND, y, x, north)
