"""The area of a search, a circle or a box, and the cells that cover it.

A search looks at a cell that holds the centre and at the eight around it.  They are so large that the area cannot reach
beyond them, and those that the area does not touch are left out.  The cells, and the order in which they are looked at,
are Redis's: so are the results of a search without an order, and what it misses near the poles.

    SHAPE doubles at `shape_of(context)`

    WORD        DESCRIPTION
    LONGITUDE   of the centre [degrees]
    LATITUDE
    UNIT        [m] by which the lengths are given
    WIDTH       of a box; of a circle the radius
    HEIGHT      of a box
    IS_BOX      1.0 for a box
    NORTHWARD   degrees of latitude from the centre beyond which nothing can be within a circle
    EASTWARD    the same of longitude

    CELLS words at `cells_of(context)`: their numbers, NONE for one that is left out; and behind them their steps
"""

from kvstore.commands.geo.cells import STEPS, cell_beside, cell_of, cell_south, cell_west
from kvstore.commands.geo.distances import EARTH_RADIUS, RADIANS, distance, meridian_distance
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import SCRATCH_ADDRESS
from kvstore.system.libc import words_at
from kvstore.system.maths import arcsine, cosine, doubles_at, sine, square_root
from mmcore.jit import constant, int64, kernel, linked, view, void

LONGITUDE, LATITUDE, UNIT, WIDTH, HEIGHT, IS_BOX, NORTHWARD, EASTWARD = range(8)
SHAPE = 8
CELLS = 9
NONE = -1  # no cell
_SHAPE_PLACE, _CELLS_PLACE = 96, 104  # among the words of the scratch memory
_EAST = constant([0, 0, 0, 1, -1, 1, -1, 1, -1], int64)  # where the cells are
_NORTH = constant([0, 1, -1, 0, 0, 1, 1, -1, -1], int64)
_WORLD = 20037726.37  # [m] half the equator, as far as the map of the web goes
_EVERYWHERE = 1000.0  # [degrees]
_EXACT_FROM = 1_000_000.0  # [m] a larger circle may hold positions whose distance is known badly
_MARGIN = 1.000001


@view
def shape_of(context):  # type: ignore[no-untyped-def]
    """The area of the search at hand, float64[SHAPE]."""
    return doubles_at(context.shard[SCRATCH_ADDRESS] + 8 * _SHAPE_PLACE, SHAPE)


@view
def cells_of(context):  # type: ignore[no-untyped-def]
    """The cells of the search at hand, int64[CELLS + 1]."""
    return words_at(context.shard[SCRATCH_ADDRESS] + 8 * _CELLS_PLACE, CELLS + 1)


@kernel
def _reach(shape):  # type: ignore[no-untyped-def]
    # How far the area reaches from the centre [m].
    if shape[IS_BOX] == 0.0:
        return shape[WIDTH] * shape[UNIT]
    return square_root(shape[WIDTH] / 2 * (shape[WIDTH] / 2) + shape[HEIGHT] / 2 * (shape[HEIGHT] / 2)) * shape[UNIT]


@kernel
def _steps(reach, latitude):  # type: ignore[no-untyped-def]
    # The steps of the cells for an area that reaches so far [m]: fewer near the poles, where cells are narrow.
    if reach == 0.0:
        return STEPS
    steps = -1
    while reach < _WORLD and steps < STEPS + 2:
        reach *= 2
        steps += 1
    if abs(latitude) > 66:
        steps -= 2 if abs(latitude) > 80 else 1
    return min(max(steps, 1), STEPS)


@kernel
def _edges(shape):  # type: ignore[no-untyped-def]
    # (west, south, east, north) of the area [degrees].
    longitude, latitude = shape[LONGITUDE], shape[LATITUDE]
    if shape[IS_BOX] == 0.0:
        width = height = shape[UNIT] * shape[WIDTH]
    else:
        width, height = shape[UNIT] * (shape[WIDTH] / 2), shape[UNIT] * (shape[HEIGHT] / 2)
    north = height / EARTH_RADIUS / RADIANS
    # Of its northern and southern edges, Redis takes the one nearer to the pole in the north, the other in the south.
    edge = latitude - north if latitude < 0 else latitude + north
    east = width / EARTH_RADIUS / cosine(edge * RADIANS) / RADIANS
    return longitude - east, latitude - north, longitude + east, latitude + north


@kernel
def _reaches_beyond(cell, steps, west, south, east, north):  # type: ignore[no-untyped-def]
    # Whether an area reaches beyond the cells around one.
    return (
        cell_south(cell_beside(cell, steps, 0, 1), steps, 1) < north
        or cell_south(cell_beside(cell, steps, 0, -1), steps, 0) > south
        or cell_west(cell_beside(cell, steps, 1, 0), steps, 1) < east
        or cell_west(cell_beside(cell, steps, -1, 0), steps, 0) > west
    )


@kernel
def _set_bounds(shape):  # type: ignore[no-untyped-def]
    # Fill NORTHWARD and EASTWARD.
    shape[NORTHWARD] = shape[EASTWARD] = _EVERYWHERE
    angle = shape[WIDTH] * shape[UNIT] * _MARGIN / EARTH_RADIUS
    if shape[IS_BOX] != 0.0 or not angle * EARTH_RADIUS < _EXACT_FROM:
        return
    shape[NORTHWARD] = angle / RADIANS + (_MARGIN - 1)
    share = sine(angle) / cosine(shape[LATITUDE] * RADIANS)
    if angle / RADIANS + abs(shape[LATITUDE]) < 89 and share < 1:
        shape[EASTWARD] = arcsine(share) / RADIANS * _MARGIN + (_MARGIN - 1)


@linked(void(CONTEXT))
def cover(context):  # type: ignore[no-untyped-def]
    """Find the cells that cover the area of the search at hand."""
    shape, cells = shape_of(context), cells_of(context)
    longitude, latitude = shape[LONGITUDE], shape[LATITUDE]
    west, south, east, north = _edges(shape)
    steps = _steps(_reach(shape), latitude)
    cell = cell_of(longitude, latitude, steps)
    if steps > 1 and _reaches_beyond(cell, steps, west, south, east, north):
        steps -= 1
        cell = cell_of(longitude, latitude, steps)
    no_south, no_north = cell_south(cell, steps, 0) < south, cell_south(cell, steps, 1) > north
    no_west, no_east = cell_west(cell, steps, 0) < west, cell_west(cell, steps, 1) > east
    for i in range(CELLS):
        cells[i] = cell_beside(cell, steps, _EAST[i], _NORTH[i])
        without = (_NORTH[i] < 0 and no_south) or (_NORTH[i] > 0 and no_north)
        if steps >= 2 and (without or (_EAST[i] < 0 and no_west) or (_EAST[i] > 0 and no_east)):
            cells[i] = NONE
    cells[CELLS] = steps
    _set_bounds(shape)


@kernel
def is_far(shape, longitude, latitude):  # type: ignore[no-untyped-def]
    """Whether a position is outside of a circle for certain, which is known without trigonometry."""
    eastward = abs(longitude - shape[LONGITUDE])
    if eastward > 180:
        eastward = 360 - eastward
    return abs(latitude - shape[LATITUDE]) > shape[NORTHWARD] or eastward > shape[EASTWARD]


@kernel
def distance_within(shape, longitude, latitude):  # type: ignore[no-untyped-def]
    """The distance [m] of a position from the centre; negative for one outside of the area."""
    if shape[IS_BOX] == 0.0:
        away = distance(shape[LONGITUDE], shape[LATITUDE], longitude, latitude)
        return -1.0 if away > shape[WIDTH] * shape[UNIT] else away
    if meridian_distance(latitude, shape[LATITUDE]) > shape[HEIGHT] * shape[UNIT] / 2:
        return -1.0
    if distance(longitude, latitude, shape[LONGITUDE], latitude) > shape[WIDTH] * shape[UNIT] / 2:
        return -1.0
    return distance(shape[LONGITUDE], shape[LATITUDE], longitude, latitude)
