"""The benchmarks of collections, part by part, in their smoke sizes: all rows and bars are there."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bench.cli import bench
from bench.rig.servers import DEFAULT, RIVALS, installed
from bench.values import collections
from bench.values.collection_memory import CASES, KINDS, items
from bench.values.collection_rates import TESTS
from bench.values.pages import CASES as WRITES
from bench.values.pages import Kernels, chosen, filling
from mmcore.jit import build
from mmcore.memory import PhysicalMemory
from tests.bench.support import needs_redis_benchmark
from tests.bench.test_cli import rows, run

HERE = [subject for subject in (DEFAULT, *RIVALS) if installed(subject)]


def part(tmp_path: Path, name: str) -> dict[str, Any]:
    """The report of one part; every figure of this server was measured."""
    report = run(tmp_path, "collections", "--only", name)
    assert report["parameters"]["parts"] == [name]
    wrong = [note for note in report["notes"] if "not installed" not in note]
    assert wrong == []
    return report


@needs_redis_benchmark
def test_throughput_has_a_rate_and_a_processor_time_for_each_command(tmp_path: Path) -> None:
    report = part(tmp_path, "throughput")
    for table in range(2):  # one for each client
        found = rows(report, table)
        assert [row["command"] for row in found] == list(TESTS)
        assert all(row[f"{subject}{what}"] > 0 for row in found for subject in HERE for what in ("", ", processor"))
    assert [(figure["at_least"], figure["at_most"]) for figure in report["figures"]] == [(1.5, None), (None, 0.9)] * 9


def test_memory_is_told_by_kind_and_size(tmp_path: Path) -> None:
    report = part(tmp_path, "memory")
    found = rows(report)
    assert [row["what"] for row in found] == [case.what for case in CASES]
    assert all(row[subject] > 0 for row in found for subject in HERE)
    assert [figure["at_most"] for figure in report["figures"]] == [40, 39, 75, 12.5, 22, 14, 4.2, 105]


def test_an_index_is_looked_up_at_the_head_and_anywhere(tmp_path: Path) -> None:
    report = part(tmp_path, "index")
    assert [(row["server"], row["pipeline"]) for row in rows(report)] == [(s, n) for s in HERE for n in (1, 16, 200)]
    assert all(row["at 0"] > 0 and row["anywhere"] > 0 for row in rows(report))
    assert [figure["at_most"] for figure in report["figures"]] == [1.5]


def test_turns_are_told_of_every_value_and_command(tmp_path: Path) -> None:
    report = part(tmp_path, "turns")
    found = rows(report)
    of_collections = ("grow", "COPY", "DEL", "UNLINK", "expiry", "FLUSHALL")
    of_string = ("SET", "APPEND", "GETRANGE at its end", "SETRANGE at its end", "COPY", "DEL")
    assert [(row["value"], row["what"]) for row in found] == [
        *((kind, what) for kind in ("hash", "zset", "list") for what in of_collections),
        *(("string", what) for what in of_string),
    ]
    assert all(0 < row["turn, median"] <= row["turn, worst"] for row in found)
    assert all(row[f"{subject}, idle"] > 0 for row in found for subject in HERE)
    assert [figure["at_most"] for figure in report["figures"]] == [1000, 5] * len(found) + [1000]


def test_a_snapshot_is_taken_under_commands_of_collections(tmp_path: Path) -> None:
    report = part(tmp_path, "snapshot")
    assert [(row["server"], row["window"]) for row in rows(report)] == [
        (s, w) for s in HERE for w in ("before", "during")
    ]
    assert all(row["requests"] > 0 for row in rows(report) if row["window"] == "before")
    assert [figure["at_most"] for figure in report["figures"]] == [0.2]


def test_the_remainder_is_compared_with_a_fresh_server(tmp_path: Path) -> None:
    report = part(tmp_path, "remainder")
    assert [row["server"] for row in rows(report)] == HERE
    assert all(row["loaded"] > row["fresh with the remainder"] for row in rows(report))
    assert rows(report)[0]["defragmented"] > 0
    assert [figure["at_most"] for figure in report["figures"]] == [1.3, 1.3]


def test_mixed_data_have_every_kind_and_the_size_asked_for() -> None:
    found = items(1_000_000)
    assert {item.kind for item in found} == set(KINDS)
    assert len({item.name for item in found}) == len(found)
    assert found == items(1_000_000)[: len(found)]
    assert min(item.size for item in found) == 1 and max(item.size for item in found) > 1000


def test_an_unknown_part_is_refused() -> None:
    result = CliRunner().invoke(bench, ["collections", "--only", "memory,nosuch"])
    assert result.exit_code == 2
    assert "no such part: nosuch" in result.output
    assert set(collections.PARTS) == set(collections._MEASURE)


def test_pages_are_counted_of_every_write_and_server(tmp_path: Path) -> None:
    report = run(tmp_path, "pages")
    found = rows(report)
    assert [(row["write"], row["N"]) for row in found] == [("HSET", 20), ("ZADD", 20), ("LSET", 20)]
    assert all(row[DEFAULT] > 0 for row in found)
    assert all(row[rival] > row[f"{rival}, by reads"] for row in found for rival in HERE[1:])
    assert [figure["at_most"] for figure in report["figures"]] == [1.0, 2.4, 1.1]


@pytest.mark.parametrize("case", WRITES, ids=lambda case: case.name)
def test_reads_copy_no_page_and_writes_arrive(case: Any) -> None:
    build()
    with PhysicalMemory(64 << 20) as memory:
        kernels = Kernels(memory)
        for words in filling(case, 1000):
            kernels(*words)
        reads, writes = chosen(case, 1000, 10, 1)
        assert kernels.copied(reads)[0] == 0
        pages, tables = kernels.copied(writes)
        assert 0 < pages <= 10 * 4 and tables > 0
        last = writes[-1][2] if case.name == "ZADD" else writes[-1][3]
        assert last.encode() in kernels(*reads[-1])
