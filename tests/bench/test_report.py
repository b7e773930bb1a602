"""Reports: numbers as text, statistics, figures and their bars, what is saved."""

import json

import numpy as np
import pytest
from rich.console import Console

from bench.reporting.report import (
    Figure,
    Report,
    largest,
    latencies,
    line,
    machine,
    median,
    number,
    pair,
    ratio,
    revision,
    versions,
    worst,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "–"),
        ("a word", "a word"),
        (0, "0"),
        (1234567, "1,234,567"),
        (3.0, "3"),
        (0.00012345, "0.0001234"),
        (12.3456, "12.35"),
        (1234.56, "1,235"),
        (-0.5, "-0.5000"),
        (float("inf"), "inf"),
        (np.int64(5), "5"),
        (np.float64(2.5), "2.500"),
    ],
)
def test_numbers_have_four_digits(value: object, expected: str) -> None:
    assert expected == number(value)  # type: ignore[arg-type]


def test_statistics_of_nothing_are_none() -> None:
    assert median([]) is None
    assert worst([]) is None
    assert ratio(1.0, None) is None
    assert ratio(None, 1.0) is None
    assert ratio(1.0, 0.0) is None
    assert pair([]) is None
    assert largest([]) is None
    assert largest([None, None]) is None
    assert set(latencies(np.array([], np.int64)).values()) == {None}


def test_what_could_not_be_had_is_left_out_of_a_pair_and_of_the_largest() -> None:
    assert pair([3.0, 1.0, 2.0]) == "2 / 3"
    assert pair([1234.5, 1234.5], ".0f") == "1,234 / 1,234"
    assert largest([1.0, None, 3.0, 2.0]) == 3.0


def test_a_line_goes_through_its_points() -> None:
    intercept, slope = line([0.5, 1.0, 2.0, 4.0], [2.0, 3.0, 5.0, 9.0])
    assert (intercept, slope) == pytest.approx((1.0, 2.0))


def test_percentiles_are_those_of_the_values_to_three_digits() -> None:
    values = np.random.default_rng(1).lognormal(12, 1.5, 200_000).astype(np.int64)
    found = latencies(values)
    for name, percentile in (("p50", 50), ("p99", 99), ("p99.9", 99.9), ("p99.99", 99.99)):
        expected = np.percentile(values, percentile, method="inverted_cdf") / 1e6
        assert found[name] == pytest.approx(expected, rel=1e-2)  # one rank more or less
    assert found["max"] == values.max() / 1e6


def test_a_stall_shows_in_the_percentiles_it_belongs_to() -> None:
    values = np.full(100_000, 100_000)
    values[:200] = 50_000_000
    found = latencies(values)
    assert found["p99"] == pytest.approx(0.1, rel=1e-3)
    assert found["p99.9"] == pytest.approx(50, rel=1e-3)


@pytest.mark.parametrize(
    ("figure", "reached"),
    [
        (Figure("a", 1.0, at_least=1.0), True),
        (Figure("a", 0.9, at_least=1.0), False),
        (Figure("a", 0.2, at_most=0.2), True),
        (Figure("a", 0.21, at_most=0.2), False),
        (Figure("a", None, at_most=0.2), None),
        (Figure("a", 7.0), None),
    ],
)
def test_a_figure_is_held_to_its_bar(figure: Figure, reached: bool | None) -> None:
    assert reached is figure.reached


def test_a_report_is_shown_and_saved_with_what_it_was_measured_on(tmp_path) -> None:
    report = Report("name", "A question?", ["so [it] was done"], {"keys": np.int64(3)})
    report.table("Times [ms]", "what", "a [ms]", "b").add("this", 1.5, None)
    report.figure("faster", 2.0, at_least=1.5, unit=" ×")
    report.notes.append("a [note]")
    console = Console(width=120, record=True)
    report.show(console)
    text = console.export_text()
    for part in ("A question?", "so [it] was done", "Times [ms]", "a [ms]", "1.500", "–", "at least 1.5 ×", "a [note]"):
        assert part in text
    path = tmp_path / "report.json"
    report.save(path)
    saved = json.loads(path.read_text())
    assert saved["tables"] == [
        {"title": "Times [ms]", "columns": ["what", "a [ms]", "b"], "rows": [["this", 1.5, None]]}
    ]
    assert saved["figures"][0]["reached"] is True
    assert saved["parameters"] == {"keys": 3}
    assert saved["machine"] == machine()
    assert saved["versions"] == versions()
    assert saved["revision"] == revision()
    assert saved["versions"]["numba"]
    assert saved["machine"]["cores"] >= 1


def test_a_row_has_a_cell_for_each_column() -> None:
    with pytest.raises(AssertionError, match="1 cells, 2 columns"):
        Report("name", "?", [], {}).table("t", "a", "b").add("only one")
