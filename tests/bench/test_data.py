"""The benchmark of streams, HyperLogLogs, bits, geography and SORT, in its smoke size."""

from pathlib import Path
from typing import Any

import pytest

from bench.rig.servers import DEFAULT, RIVALS, installed, server
from bench.values import data
from kvstore.commands.table import find
from tests.bench.support import needs_redis, needs_redis_benchmark
from tests.bench.test_cli import rows, run

HERE = [subject for subject in (DEFAULT, *RIVALS) if installed(subject)]


def here(command: str) -> list[str]:
    """The servers that have a command."""
    return HERE if find(command.encode()) is not None else HERE[1:]


def part(tmp_path: Path, name: str) -> dict[str, Any]:
    report = run(tmp_path, "data", "--only", name)
    assert report["parameters"]["parts"] == [name]
    return report


@needs_redis_benchmark
def test_every_command_has_a_rate_and_a_processor_time(tmp_path: Path) -> None:
    report = part(tmp_path, "rates")
    found = rows(report)
    assert [row["command"] for row in found] == [
        "XADD", "XRANGE of 10", "PFADD", "PFADD, sparse", "PFADD, 30 keys", "SETBIT", "GETBIT", "GEOSEARCH", "SORT",
    ]  # fmt: skip
    for row in found:
        name = row["command"].split()[0].rstrip(",")
        assert all(row[f"{subject}{what}"] > 0 for subject in here(name) for what in ("", ", processor")), name
    assert [(figure["at_least"], figure["at_most"]) for figure in report["figures"]] == [(1.5, None), (None, 0.9)] * 9


def test_an_entry_of_a_stream_has_a_size(tmp_path: Path) -> None:
    report = part(tmp_path, "memory")
    assert [row["server"] for row in rows(report)] == HERE
    assert all(row["bytes"] > 8 for row in rows(report) if row["server"] in here("XADD"))


def test_long_commands_of_bits_have_a_time_and_a_wait(tmp_path: Path) -> None:
    report = part(tmp_path, "bits")
    found = rows(report)
    assert [row["command"] for row in found] == list(data.LONG)
    for row in found:
        name = row["command"].split()[0]
        assert all(row[f"{subject}{what}"] > 0 for subject in here(name) for what in (", processor", ", wait")), name
    assert [figure["at_most"] for figure in report["figures"]] == [1.0] * 3


@needs_redis
def test_the_search_finds_the_hundredth_part_and_the_bit_is_the_last() -> None:
    sizes = data.Sizes(**data.SMOKE)
    commands = {one.name: one for one in data.driven(data.Sizes(**data.FULL))}
    with server("redis") as one, one.client() as client:
        commands["GEOSEARCH"].prepare(client)
        found = client.command(*commands["GEOSEARCH"].words)
        assert len(found) == pytest.approx(1000, rel=0.1)
        commands["XRANGE of 10"].prepare(client)
        first = client.command(
            *(word.replace("__rand_int__", "000000000007") for word in commands["XRANGE of 10"].words)
        )
        assert [entry[0] for entry in first] == [b"%d-0" % i for i in range(7, 17)]
        data.fill_bitmaps(client, sizes.bitmap_bytes)
        assert client.command(*data.LONG["BITPOS"]) == 8 * sizes.bitmap_bytes - 1
