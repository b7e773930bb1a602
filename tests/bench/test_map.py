"""The map of an address space: its grid, its places, and accounts that agree with the machine's counters."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from bench.cli import bench
from bench.paging.map import MODES, NO_CELL, PATTERNS, Layout, Outcome, columns_for, grid, measure, places, run, shade
from mmcore import REGION, RegionState

MIB2 = 1 << 21
SHARED_TABLE, PAGES_COPIED = int(RegionState.SHARED_TABLE), int(RegionState.PAGES_COPIED)


def quiet(text: str) -> None:
    """No progress."""


def some(modes: tuple[str, ...], patterns: tuple[str, ...], writes: int, huge: bool = False) -> list[Outcome]:
    return measure(Layout.of(32 * MIB2), modes, patterns, writes, seed=1, huge=huge, progress=quiet)


def test_a_grid_has_regions_row_by_row_and_nothing_behind_the_last() -> None:
    regions = np.zeros(7, REGION)
    regions["state"] = [0, 1, 2, 3, 3, 1, 0]
    regions["private"] = [0, 0, 0, 1, 512, 0, 0]
    state, private = grid(regions, columns=3)
    assert state.tolist() == [[0, 1, 2], [3, 3, 1], [0, NO_CELL, NO_CELL]]
    assert private.tolist() == [[0, 0, 0], [1, 512, 0], [0, 0, 0]]
    assert grid(regions[:6], columns=3)[0].shape == (2, 3)


def test_rows_lengthen_with_the_space() -> None:
    assert [columns_for(count) for count in (16, 512, 1024, 1025, 32768)] == [32, 32, 32, 64, 256]


def test_a_colour_deepens_with_the_pages_copied() -> None:
    assert shade(np.array([1, 512])).tolist() == [0, 1]
    assert (np.diff(shade(np.arange(1, 513))) > 0).all()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_places_are_within_and_the_same_for_a_seed(pattern: str) -> None:
    found = places(pattern, 100, 250, 7)
    assert found.size == 250 and found.min() >= 0 and found.max() < 100
    assert (found == places(pattern, 100, 250, 7)).all()
    assert (found == places(pattern, 100, 250, 8)).all() == (pattern == "sequential")


def test_zipf_has_favourites() -> None:
    def most(pattern: str) -> int:
        return int(np.bincount(places(pattern, 1000, 5000, 1)).max())

    assert most("zipf") > 10 * most("random")


def test_a_layout_has_all_three_parts_at_any_size() -> None:
    assert Layout.of(1) == Layout.of(32 << 20) == Layout(14 * MIB2, MIB2, MIB2)
    assert Layout.of(1 << 30).size == 1 << 30


def test_writes_in_sequence_copy_the_tables_and_pages_they_meet() -> None:
    (outcome,) = some(("on-demand",), ("sequential",), writes=513)
    parent = outcome.regions["parent"]
    assert parent["state"].tolist() == [PAGES_COPIED] * 2 + [SHARED_TABLE] * 28 + [0, 0]
    assert parent["private"].tolist() == [512, 1] + [0] * 30
    assert (outcome.counted["tables_copied"], outcome.counted["pages_copied"]) == (2, 513)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_accounts_and_counters_agree(pattern: str) -> None:
    for outcome in some(tuple(MODES), (pattern,), writes=40):
        for space, usage in outcome.usage.items():
            found, counted = outcome.regions[space], outcome.counted
            assert found["private"].sum() == counted["pages_copied"]
            assert (found["state"] == PAGES_COPIED).sum() == np.count_nonzero(found["private"])
            assert found["pages"].sum() * 4096 == usage.rss == 30 * MIB2
            assert usage.private_clean + usage.private_dirty == 4096 * counted["pages_copied"]
            assert usage.shared_clean == 2 * MIB2
            assert usage.pss == (usage.rss + 4096 * counted["pages_copied"]) / 2
            assert usage.tables_private == counted["fork_tables"] + counted["tables_copied"]
            assert usage.tables_shared + usage.tables_private == 33


def test_a_write_to_a_huge_page_copies_a_region() -> None:
    (outcome,) = some(("classic",), ("sequential",), writes=1, huge=True)
    assert outcome.regions["parent"]["private"].tolist() == [512] + [0] * 31
    assert outcome.counted["huge_copied"] == 1


def report_of(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    path = tmp_path / "map.json"
    result = CliRunner().invoke(bench, ["map", *arguments, "--json", str(path)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = json.loads(path.read_text())
    return report


def test_the_command_tells_of_each_pattern_mode_and_space_and_draws(tmp_path: Path) -> None:
    picture = tmp_path / "map.png"
    report = report_of(tmp_path, "--smoke", "--plot", str(picture))
    assert picture.read_bytes().startswith(b"\x89PNG")
    memory, tables, states, copied = report["tables"]
    every = [[pattern, mode, space] for pattern in PATTERNS for mode in MODES for space in ("parent", "child")]
    for table in (memory, tables, states):
        assert [row[:3] for row in table["rows"]] == every
    assert memory["columns"][3:] == ["Rss", "Pss", "Shared_Clean", "Shared_Dirty", "Private_Clean", "Private_Dirty"]
    assert all(row[3] == sum(row[5:]) for row in memory["rows"])
    assert [row[:2] for row in copied["rows"]] == [row[:2] for row in every[::2]]
    assert all(sum(row[3:7]) == 32 for row in states["rows"])


def test_the_command_takes_one_mode_and_one_pattern(tmp_path: Path) -> None:
    report = report_of(tmp_path, "--smoke", "--mode", "constant", "--pattern", "zipf", "--huge", "--seed", "3")
    assert [row[:3] for row in report["tables"][0]["rows"]] == [
        ["zipf", "constant", who] for who in ("parent", "child")
    ]
    assert report["parameters"]["huge"] and report["parameters"]["seed"] == 3


def test_no_writes_leave_all_as_the_fork_made_it() -> None:
    report = run(1 / 16, ("on-demand",), ("random",), writes=0, progress=quiet)
    assert [list(row[3:7]) for row in report.tables[2].rows] == [[2, 30, 0, 0]] * 2
