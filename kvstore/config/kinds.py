"""Kinds of parameters: how a value is read, what it may be, and how it is written."""

import errno
import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from snapshot.errors import BadSavePoints
from snapshot.schedule import SavePoints

INT_MIN, INT_MAX, UINT_MAX, LONG_MAX = -(2**31), 2**31 - 1, 2**32 - 1, 2**63 - 1
MEGABYTE = 1 << 20
KEEPALIVE_MAX = 32767  # [s] TCP_KEEPIDLE takes no more


class Kind(Protocol):
    """How a parameter's values are written."""

    def parse(self, text: str) -> Any:
        """The value; raises ValueError with what is wrong with the text."""

    def text(self, value: Any) -> str:
        """The text that `parse` reads."""


class Text:
    """Any text."""

    def parse(self, text: str) -> str:
        return text

    def text(self, value: str) -> str:
        return value


class FilePath(Text):
    """The path of a file; the system knows none with a zero byte."""

    def parse(self, text: str) -> str:
        if "\0" in text:
            raise ValueError("argument must be a path, without zero bytes")
        return text


class Integer:
    """A whole number from `low` to `high`; one outside of `clamp` counts as the nearer end of that."""

    def __init__(self, low: int = 0, high: int = INT_MAX, clamp: tuple[int, int] | None = None) -> None:
        self.low, self.high, self.clamp = low, high, clamp

    def parse(self, text: str) -> int:
        if not re.fullmatch(r"0|-?[1-9][0-9]{0,18}", text, re.ASCII):
            raise ValueError("argument couldn't be parsed into an integer")
        return self.within(int(text))

    def within(self, value: int) -> int:
        if not self.low <= value <= self.high:
            raise ValueError(f"argument must be between {self.low} and {self.high} inclusive")
        return min(max(value, self.clamp[0]), self.clamp[1]) if self.clamp else value

    def text(self, value: int) -> str:
        return str(value)


class Memory(Integer):
    """A number of bytes, with or without a unit: 1k is 1000 bytes, 1kb is 1024."""

    def __init__(self, low: int = 0, high: int = LONG_MAX, clamp: tuple[int, int] | None = None) -> None:
        super().__init__(low, high, clamp)

    def parse(self, text: str) -> int:
        return self.within(parse_memory(text))


class MemoryOrPercentage(Memory):
    """A number of bytes, or a percentage of maxmemory, which is a negative number."""

    def parse(self, text: str) -> int:
        match = re.fullmatch("([0-9]{1,19})%", text, re.ASCII)
        if match is None:
            try:
                return super().parse(text)
            except ValueError:
                raise ValueError("argument must be a memory or percent value") from None
        if int(match[1]) > 100:
            raise ValueError("percentage argument must be less or equal to 100")
        return -int(match[1])

    def text(self, value: int) -> str:
        return f"{-value}%" if value < 0 else str(value)


class MachineSize(Memory):
    """A number of bytes for the physical memory, or 0 for as many as the server chooses."""

    def __init__(self) -> None:
        super().__init__(16 * MEGABYTE, 1 << 46)

    def within(self, value: int) -> int:
        if value and not self.low <= value <= self.high:
            raise ValueError(f"argument must be 0, or between {self.low} and {self.high} inclusive")
        return value


_UNITS = {"": 1, "b": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30}


def parse_memory(text: str) -> int:
    """The number of bytes that "100", "1kb" or "2gb" says; raises ValueError."""
    match = re.fullmatch(r"([0-9]{1,19})([a-z]*)", text, re.ASCII | re.IGNORECASE)
    unit = _UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None or int(match[1]) * unit > LONG_MAX:
        raise ValueError("argument must be a memory value")
    return int(match[1]) * unit


def memory_text(count: int) -> str:
    """A number of bytes in the largest unit that divides it: the inverse of `parse_memory`."""
    for unit in ("gb", "mb", "kb"):
        if count and count % _UNITS[unit] == 0:
            return f"{count // _UNITS[unit]}{unit}"
    return str(count)


class Flag:
    """yes or no."""

    def parse(self, text: str) -> bool:
        if text.lower() not in ("yes", "no"):
            raise ValueError("argument must be 'yes' or 'no'")
        return text.lower() == "yes"

    def text(self, value: bool) -> str:
        return "yes" if value else "no"


class Choice(NamedTuple):
    """One of several words."""

    words: tuple[str, ...]

    def parse(self, text: str) -> str:
        if text.lower() not in self.words:
            raise ValueError(f"argument(s) must be one of the following: {', '.join(self.words)}")
        return text.lower()

    def text(self, value: str) -> str:
        return value


EVENT_CLASSES = "g$lshzxetdnKEm"  # letters of notify-keyspace-events, in the order in which Redis prints them
_ALL = "g$lshzxetd"  # what A stands for


class EventClasses:
    """Classes of keyspace events: the letters of those that are meant, each once, in the order of EVENT_CLASSES."""

    def parse(self, text: str) -> str:
        given = set(text.replace("A", _ALL))
        if not given <= set(EVENT_CLASSES):
            raise ValueError("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")
        return "".join(letter for letter in EVENT_CLASSES if letter in given)

    def text(self, value: str) -> str:
        return self.line(value).replace("An", "A")  # Redis does not show n beside A

    def line(self, value: str) -> str:
        """The text for a configuration file, which says all."""
        return value.replace(_ALL, "A")


class Octal:
    """File permissions."""

    def parse(self, text: str) -> int:
        if not re.fullmatch("[0-7]{1,4}", text, re.ASCII) or int(text, 8) > 0o777:
            raise ValueError("argument couldn't be parsed into an octal number between 0 and 777")
        return int(text, 8)

    def text(self, value: int) -> str:
        return f"{value:o}"


class Words:
    """Any number of words."""

    def parse(self, text: str) -> tuple[str, ...]:
        return tuple(text.split())

    def text(self, value: tuple[str, ...]) -> str:
        return " ".join(value)


class Points:
    """Save points: pairs of seconds and changes."""

    def parse(self, text: str) -> SavePoints:
        try:
            return SavePoints.parse(text)
        except BadSavePoints as error:
            raise ValueError("Invalid save parameters") from error

    def text(self, value: SavePoints) -> str:
        return str(value)


class Percentiles:
    """Any number of percentages."""

    def parse(self, text: str) -> tuple[float, ...]:
        try:
            values = tuple(float(word) for word in text.split())
        except ValueError:
            raise ValueError("Invalid latency-tracking-info-percentiles parameters") from None
        if not all(0 <= value <= 100 for value in values):
            raise ValueError("latency-tracking-info-percentiles parameters should sit between [0.0,100.0]")
        return values

    def text(self, value: tuple[float, ...]) -> str:
        return " ".join(map(percentage_text, value))


def percentage_text(value: float) -> str:
    """A percentage in as few digits as it needs."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


class Directory(FilePath):
    """A directory, made absolute where it is read."""

    def parse(self, text: str) -> str:
        if not text:
            raise ValueError(os.strerror(errno.ENOENT))
        return os.path.abspath(super().parse(text))


class FileName:
    """The name of a file, without a directory."""

    def parse(self, text: str) -> str:
        if not text or "/" in text or "\0" in text or text.startswith("."):
            raise ValueError("dbfilename can't be a path, just a filename")
        return text

    def text(self, value: str) -> str:
        return value


class OutputLimit(NamedTuple):
    """How much a client may let its replies pile up [bytes]; 0 is no limit."""

    hard: int
    soft: int
    soft_seconds: int  # for which the soft limit may be exceeded


class OutputLimits:
    """Output limits by class of client; a class not named keeps its default."""

    def parse(self, text: str) -> dict[str, OutputLimit]:
        words = text.split()
        if not words or len(words) % 4:
            raise ValueError("Wrong number of arguments in buffer limit configuration.")
        limits = dict(OUTPUT_LIMITS)
        for name, hard, soft, seconds in zip(*[iter(words)] * 4, strict=True):
            name = {"slave": "replica"}.get(name.lower(), name.lower())
            if name not in limits:
                raise ValueError("Invalid client class specified in buffer limit configuration.")
            try:
                limits[name] = OutputLimit(parse_memory(hard), parse_memory(soft), Integer().parse(seconds))
            except ValueError as error:
                message = "Error in hard, soft or soft_seconds setting in buffer limit configuration."
                raise ValueError(message) from error
        return limits

    def text(self, value: Mapping[str, OutputLimit]) -> str:
        # Redis goes on answering the class's old name here.
        return " ".join(
            f"{'slave' if name == 'replica' else name} {limit.hard} {limit.soft} {limit.soft_seconds}"
            for name, limit in value.items()
        )


OUTPUT_LIMITS = {
    "normal": OutputLimit(0, 0, 0),
    "replica": OutputLimit(256 * MEGABYTE, 64 * MEGABYTE, 60),
    "pubsub": OutputLimit(32 * MEGABYTE, 8 * MEGABYTE, 60),
}


class Only(NamedTuple):
    """A kind of which one value is served; any other is refused, and why is said."""

    kind: Kind
    served: Any
    why: str

    def parse(self, text: str) -> Any:
        value = self.kind.parse(text)
        if value != self.served:
            raise ValueError(self.why)
        return value

    def text(self, value: Any) -> str:
        return self.kind.text(value)
