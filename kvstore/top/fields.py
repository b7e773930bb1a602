"""The text of INFO as fields.

    used_memory:4784                                    a number
    cmdstat_get:calls=2,usec=5,usec_per_call=2.50       pairs; the fields of a prefix are rows
    store0:name=a,b,kind=branch,own=8192,connections=0  a store; its name may contain commas and equals signs

A server may lack any field, and may say anything in it.  A number that is missing, or is none, is None.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_WHOLE = re.compile(r"-?[0-9]{1,20}")
_STORE = re.compile(r"name=(.*),kind=(branch|snapshot),own=(\d{1,18}),connections=(\d{1,18})")


@dataclass(frozen=True)
class NamedStore:
    """A branch or a snapshot, as a line of INFO tells it."""

    name: str
    kind: str
    own: int  # [bytes]
    connections: int


def number_of(text: str | None) -> float | None:
    """A finite number, an int where it is whole; None if the text is none."""
    if text is None:
        return None
    if _WHOLE.fullmatch(text):
        return int(text)
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def pairs_of(text: str) -> dict[str, str]:
    """`a=1,b=2` as a dictionary."""
    return dict(part.split("=", 1) for part in text.split(",") if "=" in part)


class Fields:
    """The fields of one INFO."""

    def __init__(self, text: str = "") -> None:
        lines = (line for line in text.splitlines() if ":" in line and not line.startswith("#"))
        self._by_name: Mapping[str, str] = dict(line.split(":", 1) for line in lines)

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def text(self, name: str) -> str | None:
        """A field as it stands; None if it is missing or empty."""
        return self._by_name.get(name) or None

    def number(self, name: str) -> float | None:
        """A field as a number."""
        return number_of(self._by_name.get(name))

    def flag(self, name: str) -> bool | None:
        """A field that is 0 or 1."""
        value = self.number(name)
        return None if value is None else value != 0

    def rows(self, prefix: str) -> Iterator[tuple[str, dict[str, str]]]:
        """Each field that begins with a prefix: the rest of its name, and its pairs."""
        for name, value in self._by_name.items():
            if name.startswith(prefix):
                yield name.removeprefix(prefix), pairs_of(value)

    def databases(self) -> dict[int, dict[str, str]]:
        """The pairs of each database that has keys."""
        return {int(name): pairs for name, pairs in self.rows("db") if name.isdecimal() and "keys" in pairs}

    def stores(self) -> list[NamedStore]:
        """Branches and snapshots, the costliest first; INFO names at most ten."""
        found = (_STORE.fullmatch(value) for name, value in self._by_name.items() if name.startswith("store"))
        return [NamedStore(one[1], one[2], int(one[3]), int(one[4])) for one in found if one]
