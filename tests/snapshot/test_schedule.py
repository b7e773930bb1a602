"""Save points: read from text, and due as Redis has it."""

import pytest

from snapshot.errors import BadSavePoints, SnapshotError
from snapshot.schedule import RETRY_SECONDS, SavePoint, SavePoints

REDIS_DEFAULT = "3600 1 300 100 60 10000"


def test_the_text_of_save_points_is_read_and_written_back():
    points = SavePoints.parse(REDIS_DEFAULT)
    assert (SavePoint(3600, 1), SavePoint(300, 100), SavePoint(60, 10000)) == points.points
    assert str(points) == REDIS_DEFAULT
    assert SavePoints.parse("  60\t1 ") == SavePoints((SavePoint(60, 1),))


def test_no_text_is_no_save_points_and_nothing_is_ever_due():
    assert SavePoints.parse("").points == ()
    assert SavePoints.parse("").due(10**9, 10**9) is None


@pytest.mark.parametrize("text", ["60", "60 1 300", "60 x", "x 1", "-60 1", "60 -1", "0 1", "60.5 1", "60 ١", "60 1_0"])
def test_bad_save_points_are_refused(text):
    with pytest.raises(BadSavePoints):
        SavePoints.parse(text)
    with pytest.raises(SnapshotError):
        SavePoints.parse(text)


# changes, seconds since the save, seconds since the failure -> the point
DUE = [
    (0, 10**6, None, None),
    (1, 3600, None, None),
    (1, 3601, None, SavePoint(3600, 1)),
    (99, 301, None, None),
    (100, 301, None, SavePoint(300, 100)),
    (100, 300, None, None),
    (9999, 61, None, None),
    (10000, 60, None, None),
    (10000, 60.1, None, SavePoint(60, 10000)),
    (10000, 4000, None, SavePoint(3600, 1)),
    (10000, 61, 0, None),
    (10000, 61, RETRY_SECONDS, None),
    (10000, 61, RETRY_SECONDS + 0.1, SavePoint(60, 10000)),
]


@pytest.mark.parametrize(("changes", "since_save", "since_failure", "expected"), DUE)
def test_a_point_is_due_after_its_seconds_with_its_changes_and_not_soon_after_a_failure(
    changes, since_save, since_failure, expected
):
    assert expected == SavePoints.parse(REDIS_DEFAULT).due(changes, since_save, since_failure)


def test_a_point_of_no_changes_is_due_by_time_alone():
    assert SavePoints.parse("10 0").due(0, 10.5) == SavePoint(10, 0)
