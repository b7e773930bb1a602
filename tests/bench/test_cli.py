"""Each benchmark through the command line, in its smoke size: what it prints and saves is there and makes sense."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from bench.cli import PAPER_PARTS, bench
from bench.paging import concurrent
from bench.reporting.report import Report
from bench.rig import osfork
from bench.rig.machine import MODES
from bench.rig.redisbenchmark import ClientFailed, redis_benchmark
from bench.rig.servers import DEFAULT, installed, present
from bench.serving import blocking, restart, throughput
from tests.bench.support import REQUIRED, needs_redis, needs_redis_benchmark

HERE = [subject for subject in (DEFAULT, "redis") if installed(subject)]
CONCURRENT_ROWS = [
    *((name, seen) for name in MODES for seen in (concurrent.KERNEL, concurrent.PYTHON)),
    *((name, concurrent.PYTHON) for name in osfork.NAMES.values()),
]
AGAINST = ["--subject", DEFAULT, "--subject", "redis"]


@pytest.mark.skipif(not REQUIRED, reason="redis may be absent unless KVSTORE_REQUIRE_REDIS=1")
def test_what_to_compare_with_is_installed() -> None:
    assert installed("redis")
    assert shutil.which("redis-benchmark")


def run(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    """Run `bench`, and return what it saved."""
    path = tmp_path / "report.json"
    result = CliRunner().invoke(bench, [*arguments, "--smoke", "--json", str(path)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = json.loads(path.read_text())
    assert report["question"] in " ".join(result.output.split())
    return report


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The reports that `bench paper` saved, by part; with a picture of each but the summary."""
    directory = tmp_path_factory.mktemp("paper")
    result = CliRunner().invoke(bench, ["paper", "--smoke", "--to", str(directory)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert all((directory / f"{name}.png").read_bytes().startswith(b"\x89PNG") for name in PAPER_PARTS)
    return {name: json.loads((directory / f"{name}.json").read_text()) for name in (*PAPER_PARTS, "paper")}


def rows(report: dict[str, Any], table: int = 0) -> list[dict[str, Any]]:
    found = report["tables"][table]
    return [dict(zip(found["columns"], row, strict=True)) for row in found["rows"]]


def bars(report: dict[str, Any]) -> list[tuple[float | None, float | None]]:
    """(the bar, the paper's figure) of each figure, all of which were measured."""
    assert all(figure["value"] > 0 for figure in report["figures"])
    return [(figure["at_least"] or figure["at_most"], figure["paper"]) for figure in report["figures"]]


def test_fork_compares_the_machine_with_the_system(paper: dict[str, dict[str, Any]]) -> None:
    report = paper["fork"]
    found = rows(report)
    assert len(found) == 10
    assert all(row["0.03125 GiB"] > 0 for row in found)
    ours = [(100.0, 65.0), (270.0, 270.0), (2.0, None), (2.0, None), (1.5, None), (1000.0, 65.0), (0.02, None)]
    assert bars(report) == ours


def test_a_part_of_the_paper_can_be_had_by_itself(tmp_path: Path) -> None:
    picture = tmp_path / "small.png"
    report = run(tmp_path, "small", "--plot", str(picture))
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert report["name"] == "small"


def test_forks_at_once_are_compared_with_one_alone(paper: dict[str, dict[str, Any]]) -> None:
    report = paper["concurrent"]
    assert len(rows(report)) == 8
    assert len(report["figures"]) == 4
    absent = sum("no fork was made by" in note for note in report["notes"])
    shares = [row[f"{count} at once"] for row in rows(report) for count in (1, 2, 3)]
    assert shares.count(None) == absent
    assert all(figure["value"] is None or figure["value"] > 0 for figure in report["figures"])


def test_threads_that_came_to_no_fork_have_no_figure_and_a_note_says_so(tmp_path: Path) -> None:
    found: concurrent.Times = {(name, seen): {1: [2.0, 4.0], 2: [5.0], 3: []} for name, seen in CONCURRENT_ROWS}
    report = Report("concurrent", "?", [], {})
    concurrent.tell(report, found)
    assert all(row[2:5] == ("3 / 4", "5 / 5", None) for row in report.tables[0].rows)
    assert [figure.value for figure in report.figures] == [None] * 4
    assert len(report.notes) == len(CONCURRENT_ROWS)
    assert report.notes[0] == "classic, in the kernel: no fork was made by 3 at once in the time there was"
    report.show(Console(quiet=True))
    report.save(tmp_path / "report.json")
    concurrent.draw(found, tmp_path / "forks.png")
    assert (tmp_path / "forks.png").read_bytes().startswith(b"\x89PNG")


def test_faults_are_told_by_kind_and_by_layout(paper: dict[str, dict[str, Any]]) -> None:
    report = paper["fault"]
    kinds = {(row["what"], row["pages"], row["kind"]): row["writes"] for row in rows(report, 2)}
    pages, tables, rounds = 4096, 8, 2
    for layout in ("in sequence", "scattered"):
        assert kinds["classic", layout, "page"] == rounds * pages
        assert kinds["on-demand", layout, "page"] == rounds * (pages - tables)
        assert kinds["on-demand", layout, "table, page"] == rounds * tables
        assert kinds["constant", layout, "table, page"] == rounds * (tables - 1)
        assert kinds["constant", layout, "upper, too"] == rounds
    assert bars(report) == [
        (3.0, pytest.approx(5.3, abs=0.1)),
        (2.0, None),
        (3.0, pytest.approx(5.3, abs=0.1)),
        (2.0, None),
        (6.0, None),
    ]


def test_the_whole_cost_is_told_by_what_is_touched(paper: dict[str, dict[str, Any]]) -> None:
    report = paper["whole"]
    found = rows(report)
    assert len(found) == 2 * 2 * 5
    assert all(row["0 %"] > 0 for row in found)
    for row in rows(report, 1):
        times = [row[share] for share in ("0 %", "25 %", "50 %", "75 %", "100 %")]
        assert times == sorted(times) and times[0] > 0, row
    assert bars(report) == [(0.96, 0.96), (0.96, None), (None, None), (0.92, 0.92), (0.92, None), (None, None)]
    notes = [note for note in report["notes"] if "over classic in the single rounds" in note]
    assert len(notes) == 2
    assert all(re.search(r"on-demand \d\.\d+ to \d\.\d+, constant \d\.\d+ to \d\.\d+$", note) for note in notes)


def test_small_spaces_are_measured_at_every_size(paper: dict[str, dict[str, Any]]) -> None:
    report = paper["small"]
    assert [len(table["rows"]) for table in report["tables"]] == [3, 5, 3]
    assert bars(report) == [(1.0, None), (1.0, None), (None, None), (None, None)]


def test_an_exit_takes_as_many_steps_as_it_has_thousands_of_frames(paper: dict[str, dict[str, Any]]) -> None:
    report = paper["exit"]
    steps = {(row["what"], row["the child has"]): row["steps"] for row in rows(report)}
    assert steps["classic", "all its own"] == steps["on-demand", "all its own"] == 5
    assert steps["on-demand", "all shared"] == steps["constant", "all shared"] == 1
    assert bars(report) == [(100.0, None)] * 4


def test_clones_are_counted_by_what_a_run_touches(paper: dict[str, dict[str, Any]]) -> None:
    report = paper["clone"]
    by = {row["clone by"]: row for row in rows(report)}
    assert list(by) == [*MODES, *osfork.NAMES.values(), "no clone"]
    assert all(row[what] > 0 for row in by.values() for what in ("nothing", "near", "far"))
    assert [by[name]["the paper"] for name in ("classic", "on-demand", "constant")] == [91, 145, None]
    gain, saved = 145 / 91, 1e6 / 91 - 1e6 / 145
    figures = [(figure["at_least"], figure["paper"]) for figure in report["figures"]]
    assert figures == [(gain, gain)] * 2 + [(None, gain)] * 2 + [(None, saved), (gain, None)]


def test_a_fuzzer_is_told_by_the_size_of_the_store(paper: dict[str, dict[str, Any]]) -> None:
    report = paper["fuzz"]
    by = {row["fork by"]: row for row in rows(report)}
    assert list(by) == [*MODES, *osfork.NAMES.values(), "no fork"]
    assert all(row["1 MB"] > 0 and row["1 GB"] > 0 for row in by.values())
    assert [by[name]["the paper, 1 GB"] for name in ("classic", "on-demand", "constant")] == [63, 206, None]
    assert [row["fork by"] for row in rows(report, 1)] == list(by)
    small, large = rows(report, 2)
    assert small["commands"] > 3 and large["commands"] > 3  # most inputs are not rubbish
    assert small["changes"] > 0 and large["changes"] > 0
    gain = 206 / 63
    assert bars(report) == [(0.8, None), (0.8, None), (None, None), (None, gain), (3.3, gain), (3.3, gain)]


def test_the_paper_ends_with_a_summary_of_all_figures(paper: dict[str, dict[str, Any]]) -> None:
    summary = rows(paper["paper"])
    assert len(summary) == sum(len(paper[name]["figures"]) for name in PAPER_PARTS)
    assert {row["part"] for row in summary} == set(PAPER_PARTS)


def test_pause_tells_the_worst_of_many(tmp_path: Path) -> None:
    report = run(tmp_path, "pause", *AGAINST)
    assert [row["snapshots"] for row in rows(report)] == [2] * len(HERE)
    assert all(row["pause, worst"] >= row["pause, median"] > 0 for row in rows(report))


def test_a_long_read_is_measured_aside_in_place_and_elsewhere(tmp_path: Path) -> None:
    report = run(tmp_path, "aside", *AGAINST)
    found = rows(report)
    assert [row["read"] for row in found] == [
        "KEYS *, 5,000 keys",
        "HGETALL, 5,000 fields",
        "SUNION, twice 5,000 members",
        "ZRANGE, 5,000 members",
    ]
    ways = ["aside", "in place", *HERE[1:]]
    assert all(row[f"{way}, {what}"] > 0 for row in found for way in ways for what in ("idle", "read"))
    assert all(row[f"{way}, turn"] > 0 for row in found for way in ways[:2])


def test_a_bystander_is_told_of_every_pipeline(tmp_path: Path) -> None:
    report = run(tmp_path, "bystander", *AGAINST)
    found = rows(report)
    assert [row["pipeline"] for row in found] == [
        "5 INFO",
        "50 unknown commands",
        "CLIENT LIST, 20 connections",
        "PING, 1,000 arguments",
        "unknown, 1,000 arguments",
        "WATCH, 100 keys",
        "KEYS, 2 nested stars",
        "20 HELLO, no password",
        "1,000 keys expire",
    ]
    for row in found:
        assert all(row[f"{subject}, idle"] > 0 for subject in HERE)
    assert [figure["at_most"] for figure in report["figures"]] == [15.0] * len(found)


def test_eviction_tells_of_hits_and_of_the_cost_of_a_set(tmp_path: Path) -> None:
    report = run(tmp_path, "eviction", *AGAINST)
    for number in range(2):
        assert [row["server"] for row in rows(report, number)] == HERE
        for row in rows(report, number):
            assert 50 < row["hits [%]"] < 95 and 5000 < row["keys held"] < 15_000
            assert row["a SET at maxmemory [us]"] > 0
    assert [figure["at_least"] for figure in report["figures"]] == [0.99, 1.3] * 2 * (len(HERE) - 1)


def test_expiry_tells_when_keys_are_gone_and_how_many_are_held(tmp_path: Path) -> None:
    report = run(tmp_path, "expiry", *AGAINST)
    assert [row["server"] for row in rows(report)] == HERE
    assert all(row["gone after [s]"] > 0 for row in rows(report))
    assert all(row["longest wait, idle [ms]"] > 0 and row["longest wait, expiring [ms]"] > 0 for row in rows(report))
    assert all(0 < row["held at the end"] <= 2000 for row in rows(report, 1))
    assert [figure["at_most"] for figure in report["figures"]] == [1.0, 1.2, 15.0]


@needs_redis_benchmark
def test_branches_tell_of_times_frames_and_what_they_cost_the_main_store(tmp_path: Path) -> None:
    report = run(tmp_path, "branches")
    commands = {row["command"]: row for row in rows(report)}
    assert {"PING", "BRANCH CREATE", "BRANCH DROP", "BRANCH RESET", "SNAPSHOT RESTORE"} <= commands.keys()
    made, written, private = (row["frames"] for row in rows(report, 1))
    assert made == 2  # its two roots
    assert written == private + 1  # all that it has copied, and its base
    assert [row["test"] for row in rows(report, 2)] == ["GET", "SET"]
    assert [figure["at_most"] for figure in report["figures"]] == [2.0, 3.0, 1024, 1.03, 1.03, 5.0, 5.0, None, 1.01]


@needs_redis
def test_tests_tell_of_ways_to_give_each_one_its_own_store(tmp_path: Path) -> None:
    report = run(tmp_path, "tests")
    ways = ["a branch a test", *(f"{way}, redis-server" for way in ("load again", "DEBUG RELOAD", "a server a test"))]
    assert [row["way"] for row in rows(report)] == ways
    assert all(0 < row["median"] <= row["worst"] for row in rows(report))
    assert [row["mode"] for row in rows(report, 1)] == ["classic", "on-demand", "constant"]


def test_a_scan_of_a_snapshot_sees_one_instant(tmp_path: Path) -> None:
    report = run(tmp_path, "scan")
    assert [row["batches"] > 0 for row in rows(report)] == [True, True]
    assert rows(report, 1)[0] == {"scan": "of the snapshot", "hashes": 2000, "sum": 2_000_000, "off by": 0}


@needs_redis_benchmark
def test_blocking_tells_of_answers_and_of_what_a_crowd_costs(tmp_path: Path) -> None:
    report = run(tmp_path, "blocking", *AGAINST)
    answers = rows(report)
    assert [row["server"] for row in answers] == HERE
    assert all(0 < row["median"] <= row["p99"] for row in answers)
    crowds = rows(report, 1)
    assert [(row["server"], row["test"]) for row in crowds] == [(one, test) for one in HERE for test in ("GET", "SET")]
    assert all(row[kind] > 0 for row in crowds for kind in ("none", *blocking.KINDS))
    bars = [figure["at_most"] for figure in report["figures"]]
    assert bars == [blocking.ANSWER_BAR, None, *[blocking.CROWD_BAR] * 6, *[None] * 6]


@needs_redis
def test_two_of_a_kind_may_be_compared(tmp_path: Path) -> None:
    report = run(tmp_path, "memory", "--subject", "redis", "--subject", "redis")
    assert [row["server"] for row in rows(report)] == ["redis", "redis"]
    assert report["figures"][0]["value"] == pytest.approx(1.0, abs=0.2)


@needs_redis_benchmark
def test_throughput_is_a_ratio_per_pair(tmp_path: Path) -> None:
    picture = tmp_path / "throughput.png"
    report = run(tmp_path, "throughput", *AGAINST, "--pipeline", "1", "--pipeline", "16", "--plot", str(picture))
    found = rows(report)
    assert [(row["test"], row["pipeline"]) for row in found] == [("GET", 1), ("SET", 1), ("GET", 16), ("SET", 16)]
    assert picture.exists()
    assert len(report["figures"]) == 4
    for row in found:
        assert (row["A / B"] is None) == (len(HERE) == 1)


def test_snapshot_tells_latencies_before_and_during_and_draws(tmp_path: Path) -> None:
    picture = tmp_path / "snapshot.png"
    report = run(tmp_path, "snapshot", *AGAINST, "--plot", str(picture))
    assert picture.read_bytes().startswith(b"\x89PNG")
    windows = [(row["server"], row["window"]) for row in rows(report)]
    assert windows == [("nothing", "–"), *((s, w) for s in HERE for w in ("before", "during"))]
    for row in rows(report):
        shown = [row[column] for column in ("p50", "p99", "p99.9", "p99.99")]
        if row["window"] == "during" and not row["requests"]:  # the snapshot was over before a request was due
            assert shown == [None] * 4
        else:
            assert row["requests"] > 0
            assert shown == sorted(shown) and shown[0] > 0
    assert report["notes"] == present([DEFAULT, "redis"])[1]


def test_the_papers_load_takes_snapshots_by_itself(tmp_path: Path) -> None:
    report = run(tmp_path, "snapshot", "--paper", *AGAINST)
    forks = rows(report)
    assert [row["server"] for row in forks] == [*HERE, "the paper, fork", "the paper, on-demand-fork"]
    assert all(row["snapshots"] >= 1 and row["fork [ms]"] > 0 for row in forks[:-2])
    assert all(row["p99.9"] > 0 for row in rows(report, 1))


def test_the_paper_has_no_picture(tmp_path: Path) -> None:
    result = CliRunner().invoke(bench, ["snapshot", "--paper", "--plot", str(tmp_path / "p.png")])
    assert result.exit_code == 2
    assert "has no picture" in result.output


def test_restart_waits_for_the_right_value(tmp_path: Path) -> None:
    report = run(tmp_path, "restart", *AGAINST)
    assert all(row["median"] > 0 and row["files [MiB]"] > 1.9 for row in rows(report))
    *servers, python = rows(report, 1)
    assert python["what"] == "python -c pass" and all(row["median"] > python["median"] > 0 for row in servers[:1])
    assert all(1 < row["resident [MiB]"] < 100 for row in servers)


def test_memory_is_told_per_key(tmp_path: Path) -> None:
    report = run(tmp_path, "memory", *AGAINST, "--value-size", "64", "--value-size", "1024")
    assert [row["value [B]"] for row in rows(report)] == sorted([64, 1024] * len(HERE))
    assert all(row["loaded [MiB]"] >= row["empty [MiB]"] for row in rows(report))


def test_what_is_given_back_is_told_by_the_way_it_was_deleted(tmp_path: Path) -> None:
    report = run(tmp_path, "givenback", *AGAINST)
    found = [(row["deleted by"], row["server"]) for row in rows(report)]
    assert found == [(how, one) for how in ("FLUSHALL", "UNLINK", "expiry", "7 of 8") for one in HERE]
    assert all(row["loaded [MiB]"] > row["empty [MiB]"] + 30 for row in rows(report))
    assert [figure["what"] for figure in report["figures"]] == [
        f"resident after {how}, over empty" for how in ("FLUSHALL", "UNLINK", "expiry")
    ]
    images = {row["deleted by"]: row["image [MiB]"] for row in rows(report) if row["server"] == "constant"}
    assert images["FLUSHALL"] < 1 and 6 < images["7 of 8"] < 40, "an eighth of 50 MiB, in pages of which parts are free"


def test_the_page_cache_is_warmed_by_reading_everything(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a").write_bytes(bytes(1000))
    (tmp_path / "b").write_bytes(bytes(24))
    assert restart.warm_page_cache(tmp_path) == 1024


@needs_redis_benchmark
def test_a_redis_benchmark_that_does_not_end_is_ended() -> None:
    with pytest.raises(ClientFailed, match="did not end"):
        redis_benchmark(1, ["get"], 10, 1, 1, 10, 10, timeout_s=0.5)


def test_without_redis_benchmark_nothing_is_measured_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput.shutil, "which", lambda name: None)
    report = throughput.run()
    assert report.notes == ["redis-benchmark is not installed; nothing was measured"]
    assert not report.tables


def test_all_runs_every_benchmark_and_saves_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, bool, Path, Path | None]] = []
    for name, command in bench.commands.items():
        if name not in ("all", "paper"):

            def record(
                *, smoke: bool, json_file: Path, plot: Path | None = None, name: str = name, **_: object
            ) -> Report:
                ran.append((name, smoke, json_file, plot))
                return Report(name, "?", [], {})

            monkeypatch.setattr(command, "callback", record)
    result = CliRunner().invoke(bench, ["all", "--smoke", "--to", str(tmp_path / "to")], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert {name for name, *_ in ran} == set(bench.commands) - {"all", "paper"}
    assert len({path for _, _, path, _ in ran}) == len(bench.commands) - 1  # snapshot twice
    assert (tmp_path / "to" / "paper.json").exists()
    assert all(smoke and path.parent == tmp_path / "to" for _, smoke, path, _ in ran)


@pytest.mark.parametrize("name", sorted(bench.commands))
def test_help_has_an_example(name: str) -> None:
    result = CliRunner().invoke(bench, [name, "--help"])
    assert result.exit_code == 0
    assert f"kvstore bench {name}" in result.output


def test_translation_counts_what_the_caches_serve(tmp_path: Path) -> None:
    found = {row["caches of tables"]: row for row in rows(run(tmp_path, "translation"))}
    assert found["none"]["walks cut short [%]"] == 0 and found["none"]["over none"] == 1
    assert found["PDE cache 4096"]["walks cut short [%]"] > 90


def test_a_frozen_store_and_its_owner_are_read_in_turn(tmp_path: Path) -> None:
    found = {row["store"]: row["ns"] for row in rows(run(tmp_path, "frozen"))}
    assert set(found) == {"the store itself", "frozen"} and min(found.values()) > 0
