"""Searches in geo sets, against a naive model that looks at every member; hostile arguments."""

import math
import random

import pytest

from tests.kvstore.bare import Bare, ReplyError
from tests.mmcore.support import seeds

RADIUS = 6372797.560856


def away(one: tuple[float, float], other: tuple[float, float]) -> float:
    """The distance of two positions [m]."""
    (x, y), (u, v) = ((math.radians(a), math.radians(b)) for a, b in (one, other))
    share = math.sin((v - y) / 2) ** 2 + math.cos(y) * math.cos(v) * math.sin((u - x) / 2) ** 2
    return 2 * RADIUS * math.asin(math.sqrt(share))


def within_box(centre: tuple[float, float], place: tuple[float, float], width: float, height: float) -> bool:
    """Whether a position is in a box of this size [m], as Redis sees it."""
    across = away((centre[0], place[1]), place)
    return RADIUS * abs(math.radians(centre[1] - place[1])) <= height / 2 and across <= width / 2


@pytest.mark.parametrize("seed", seeds(4))
@pytest.mark.parametrize("members", [40, 700])
def test_a_search_finds_what_looking_at_every_member_finds(members: int, seed: int) -> None:
    generator = random.Random(seed)
    with Bare(seed=seed) as store:
        for i in range(members):
            crowd = generator.choice([(179.9, 10.0), (0.0, 0.0), (-60.0, -45.0)])
            place = (crowd[0] + generator.gauss(0, 3) + 180) % 360 - 180, crowd[1] + generator.gauss(0, 3)
            assert store("GEOADD", "geo", place[0], place[1], f"m{i}") == 1
        names = store("ZRANGE", "geo", 0, -1)
        places = {
            name: (float(place[0]), float(place[1]))
            for name, place in zip(names, store("GEOPOS", "geo", *names), strict=True)
        }
        for _ in range(30):
            name = generator.choice(names)
            centre, size = places[name], 10 ** generator.uniform(3, 6)
            here = {one: away(centre, place) for one, place in places.items()}
            found = store("GEOSEARCH", "geo", "FROMMEMBER", name, "BYRADIUS", size, "m", "ASC", "WITHDIST")
            expected = sorted((distance, one) for one, distance in here.items() if distance <= size)
            assert len(found) == len(expected), seed
            for (distance, _), (_, told) in zip(expected, found, strict=True):
                assert abs(distance - float(told)) < 1e-3, seed
            assert {one for one, _ in found} == {one for _, one in expected}, seed
            box = 2 * size, size
            found = store("GEOSEARCH", "geo", "FROMMEMBER", name, "BYBOX", *box, "m")
            assert set(found) == {one for one, place in places.items() if within_box(centre, place, *box)}, seed
            some = store("GEOSEARCH", "geo", "FROMMEMBER", name, "BYBOX", *box, "m", "COUNT", 5, "ANY")
            assert set(some) <= set(found) and len(some) == min(5, len(found))
            assert store("GEOSEARCHSTORE", "to", "geo", "FROMMEMBER", name, "BYBOX", *box, "m") == len(found)
            assert store("ZRANGE", "to", 0, -1) == [one for one in names if one in set(found)]
        store.check()


HOSTILE = ["nan", "inf", "-inf", "1e308", "1e-308", "90", "85.05112878", "-180", "", "x", "9223372036854775807"]


def test_hostile_arguments_are_answered() -> None:
    """Every reply is an error or what it is for sane arguments, and the sorted set stays what it is."""
    with Bare() as store:
        store("ZADD", "geo", "inf", "a", "-inf", "b", "-1", "c", "1e300", "d", "4503599627370496", "e", "-0", "f")
        store("GEOADD", "geo", 180, 85.05112878, "g", -180, -85.05112878, "h", 0, 0, "i")
        before = store("ZRANGE", "geo", 0, -1, "WITHSCORES")
        for one in HOSTILE:
            for other in HOSTILE:
                answers = [
                    store("GEOSEARCH", "geo", "FROMLONLAT", one, other, "BYRADIUS", 1, "km"),
                    store("GEOSEARCH", "geo", "FROMLONLAT", 0, 0, "BYBOX", one, other, "km", "ASC", "WITHCOORD"),
                    store("GEOSEARCH", "geo", "FROMMEMBER", "abcdefghi"[len(one) % 9], "BYRADIUS", other, "mi", "DESC"),
                    store("GEORADIUS", "geo", 0, 0, one, "km", "COUNT", other),
                ]
                assert all(isinstance(answer, ReplyError | list) for answer in answers), (one, other)
        assert set(store("GEOSEARCH", "geo", "FROMLONLAT", 0, 0, "BYRADIUS", "inf", "m")) == {b"f", b"h", b"i"}
        assert len(store("GEOPOS", "geo", *"abcdefghi")) == len(store("GEOHASH", "geo", *"abcdefghi")) == 9
        assert store("ZRANGE", "geo", 0, -1, "WITHSCORES") == before
        assert store("GEOADD", "geo", 1, 86, "x") == ReplyError(
            "ERR invalid longitude,latitude pair 1.000000,86.000000"
        )
        store.check()


def test_rounding_makes_no_distance_that_is_not_a_number() -> None:
    """Two hand-made scores, of places 180 degrees of latitude apart over the pole: the haversine is -3e-16."""
    with Bare() as store:
        near, far = (str(spread(y) | spread(x) << 1) for y, x in ((20638327, 38680976), (117484264, 72235408)))
        store("ZADD", "geo", near, "near", far, "far")
        assert store("GEODIST", "geo", "near", "far") == b"0.0000"


def spread(number: int) -> int:
    """The bits of a number, a zero in front of each."""
    return sum((number >> bit & 1) << 2 * bit for bit in range(32))
