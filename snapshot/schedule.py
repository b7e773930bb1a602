"""When to take a snapshot: save points.

A save point `seconds changes` makes a snapshot due when at least `changes` changes were made since the last good one
and more than `seconds` have passed since it.  After a failure nothing is due for RETRY_SECONDS.  This module reads no
clock: the owner passes the elapsed times.
"""

from dataclasses import dataclass
from typing import NamedTuple

from snapshot.errors import BadSavePoints

RETRY_SECONDS = 5  # as Redis's CONFIG_BGSAVE_RETRY_DELAY
CHANGES_MAX = 2**63 - 1  # changes and time are int64; the time is in milliseconds
SECONDS_MAX = CHANGES_MAX // 1000
DIGITS_MAX = len(str(CHANGES_MAX))


class SavePoint(NamedTuple):
    """A snapshot is due when `changes` changes were made and `seconds` have passed."""

    seconds: int
    changes: int


@dataclass(frozen=True)
class SavePoints:
    """A list of save points, in the order in which they were written."""

    points: tuple[SavePoint, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "SavePoints":
        """Parse pairs of seconds and changes, such as "3600 1 300 100"; "" is none.  Raises BadSavePoints."""
        words = text.split()
        if len(words) % 2:
            raise BadSavePoints(f"save points are pairs of seconds and changes, not {text!r}")
        points = []
        for seconds, changes in zip(words[::2], words[1::2], strict=True):
            # isdigit alone would let other scripts' digits through.
            if not (seconds.isascii() and seconds.isdigit() and changes.isascii() and changes.isdigit()):
                raise BadSavePoints(f"save point {seconds} {changes}: both must be whole numbers")
            if len(seconds) > DIGITS_MAX or len(changes) > DIGITS_MAX:
                raise BadSavePoints(f"save points are numbers of at most {DIGITS_MAX} digits")
            point = SavePoint(int(seconds), int(changes))
            if not 1 <= point.seconds <= SECONDS_MAX or point.changes > CHANGES_MAX:
                limits = f"1 to {SECONDS_MAX} seconds, and at most {CHANGES_MAX} changes"
                raise BadSavePoints(f"save point {seconds} {changes}: there may be {limits}")
            points.append(point)
        return cls(tuple(points))

    def __str__(self) -> str:
        """The text that `parse` reads."""
        return " ".join(f"{point.seconds} {point.changes}" for point in self.points)

    def due(
        self, changes: int, seconds_since_save: float, seconds_since_failure: float | None = None
    ) -> SavePoint | None:
        """The first point that is due, or None.

        `changes` and `seconds_since_save` count from the last good snapshot (or the start); `seconds_since_failure` is
        None unless the last attempt failed.
        """
        if seconds_since_failure is not None and seconds_since_failure <= RETRY_SECONDS:
            return None
        for point in self.points:
            if changes >= point.changes and seconds_since_save > point.seconds:
                return point
        return None
