"""Memory in figures: what it is used for, and how that relates to what the process holds."""

import resource
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from kvstore.commands.coldplane import Server

PAGE_SIZE = 4096


def human(count: float) -> str:
    """A number of bytes as people read it."""
    if count < 1024:
        return f"{count:.0f}B"
    for unit in "KMGTP":
        count /= 1024
        if count < 1024 or unit == "P":
            break
    return f"{count:.2f}{unit}"


def resident_bytes() -> int:
    """Resident set of this process [bytes]."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def ratio_of(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


EMPTY_FRAMES = 5  # of a store without a key: its control page, and a table of each level


def memory_figures(server: "Server") -> dict[str, int]:
    """The uses of memory [bytes]; INFO and MEMORY STATS are made from it."""
    usage, frames = server.usage(), server.frames()
    of_clients = server.client_totals().memory
    used = usage.heap + usage.indices + of_clients
    return {
        "used": used,
        "peak": max(usage.peak + of_clients, used),
        "heap": usage.heap,
        "index": usage.indices,
        "clients": of_clients,
        "overhead": usage.indices + of_clients,
        "dataset": usage.heap,
        "allocated": usage.heap + usage.indices - usage.clocks + EMPTY_FRAMES * PAGE_SIZE,
        "active": frames.in_use * PAGE_SIZE,
        "resident": frames.resident * PAGE_SIZE,
        "process": server.own_resident,
        "rss": resident_bytes(),
    }


class Excess(NamedTuple):
    """Memory over what it is for."""

    ratio: float
    bytes: int

    @classmethod
    def of(cls, memory: int, what: int) -> "Excess":
        """`memory` bytes for `what` bytes."""
        return cls(ratio_of(memory, what), memory - what)


class Ratios(NamedTuple):
    """The ratios of the module's note, in its order."""

    fragmentation: Excess
    kept: Excess
    overhead: Excess
    whole: Excess


def memory_ratios(of: Mapping[str, int]) -> Ratios:
    """From what `memory_figures` says."""
    return Ratios(
        Excess.of(of["active"], of["allocated"]),
        Excess.of(of["resident"], of["active"]),
        Excess.of(of["rss"], of["resident"] + of["process"]),
        Excess.of(of["rss"], of["used"] + of["process"]),
    )
