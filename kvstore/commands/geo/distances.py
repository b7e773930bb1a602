"""Distances on the earth, a sphere here: the haversine formula, in the order of operations that Redis has.

The radius and the factor of degrees are Redis's too, so distances are the same to the last digit.
"""

import math

from kvstore.system.maths import arcsine, cosine, sine, square_root
from kvstore.wire.arguments import arg_length, pack, word
from mmcore.jit import kernel

EARTH_RADIUS = 6372797.560856  # [m]
RADIANS = math.pi / 180.0  # of a degree
_METRES, _KILOMETRES, _FEET, _MILES = pack(b"M"), pack(b"KM"), pack(b"FT"), pack(b"MI")


@kernel
def meridian_distance(latitude, other):  # type: ignore[no-untyped-def]
    """The distance [m] of two positions with the same longitude."""
    return EARTH_RADIUS * abs(other * RADIANS - latitude * RADIANS)


@kernel
def distance(longitude, latitude, other_longitude, other_latitude):  # type: ignore[no-untyped-def]
    """The distance [m] of two positions in degrees.

    Scores that ZADD has made may be positions beyond a pole.  Of these, rounding may make the haversine a little less
    than 0, for which Redis answers a NaN.  Here every distance is a number, so each can be a score.
    """
    v = sine((other_longitude * RADIANS - longitude * RADIANS) / 2)
    if v == 0.0:
        return meridian_distance(latitude, other_latitude)
    here, there = latitude * RADIANS, other_latitude * RADIANS
    u = sine((there - here) / 2)
    haversine = u * u + cosine(here) * cosine(there) * v * v
    return 2.0 * EARTH_RADIUS * arcsine(square_root(min(max(haversine, 0.0), 1.0)))


@kernel
def unit_argument(context, i):  # type: ignore[no-untyped-def]
    """The metres of the unit that argument i names; 0 where it names none."""
    name = word(context, i)
    if arg_length(context, i) == 0:
        return 0.0
    if name == _METRES:
        return 1.0
    if name == _KILOMETRES:
        return 1000.0
    if name == _FEET:
        return 0.3048
    return 1609.34 if name == _MILES else 0.0
