"""The latency monitor: the slowest event of each second, by kind of event.

The monitor records the time and duration of each event that took latency-monitor-threshold milliseconds or more.  Each
kind has a ring of the last SAMPLES seconds with such an event.  Only the slowest event of a second is kept.

    WORD        DESCRIPTION
    0           place of the next sample
    1           the longest ever [ms]
    2 + 2*i     sample i: Unix time [s], 0 for none
    3 + 2*i     and how long it took [ms]

The kinds of event are:

    command         a command, but for the fast ones
    fast-command    a command that is declared to be O(1) or O(log N)
    fork            the fork of the address space for a snapshot
    expire-cycle    one step of active expiry
    eviction-cycle  one step of eviction
"""

from dataclasses import dataclass

from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import LATENCY_ADDRESS, LATENCY_MS, NOW_MS
from kvstore.system.libc import words_at
from mmcore.jit import Table, int64, linked, void

EVENTS = ("command", "fast-command", "fork", "expire-cycle", "eviction-cycle")
COMMAND_EVENT, FAST_COMMAND_EVENT, FORK_EVENT, EXPIRE_EVENT, EVICTION_EVENT = range(len(EVENTS))
SAMPLES = 160  # Redis's LATENCY_TS_LEN
_NEXT, _LONGEST, _FIRST = 0, 1, 2
EVENT_WORDS = _FIRST + 2 * SAMPLES


@linked(void(CONTEXT, int64, int64))
def latency_sample(context, event, duration_ms):  # type: ignore[no-untyped-def]
    """Record the duration of an event of this kind, if it reaches the threshold."""
    shard = context.shard
    if shard[LATENCY_MS] == 0 or duration_ms < shard[LATENCY_MS]:
        return
    ring = words_at(shard[LATENCY_ADDRESS] + event * EVENT_WORDS * 8, EVENT_WORDS)
    ring[_LONGEST] = max(ring[_LONGEST], duration_ms)
    now_s = shard[NOW_MS] // 1000
    last = _FIRST + 2 * ((ring[_NEXT] + SAMPLES - 1) % SAMPLES)
    if ring[last] == now_s:
        ring[last + 1] = max(ring[last + 1], duration_ms)
        return
    at = _FIRST + 2 * ring[_NEXT]
    ring[at], ring[at + 1] = now_s, duration_ms
    ring[_NEXT] = (ring[_NEXT] + 1) % SAMPLES


@dataclass(frozen=True)
class Series:
    """The recorded samples of one kind of event."""

    event: str
    samples: list[tuple[int, int]]  # (Unix time [s], duration [ms]), oldest first; never empty
    longest_ms: int  # ever

    @property
    def durations_ms(self) -> list[int]:
        """Durations of the samples."""
        return [duration for _, duration in self.samples]


class LatencyMonitor:
    """The rings, read by Python."""

    def __init__(self) -> None:
        self.rings = Table(len(EVENTS), EVENT_WORDS)

    def series(self) -> list[Series]:
        """The series of every kind of event with samples."""
        found = []
        for event, ring in zip(EVENTS, self.rings.tolist(), strict=True):
            pairs = list(zip(ring[_FIRST::2], ring[_FIRST + 1 :: 2], strict=True))
            ordered = [pair for pair in pairs[ring[_NEXT] :] + pairs[: ring[_NEXT]] if pair[0]]
            if ordered:
                found.append(Series(event, ordered, ring[_LONGEST]))
        return found

    def reset(self, event: str) -> bool:
        """Delete the samples of a kind of event; returns whether there were any."""
        if event not in EVENTS:
            return False
        ring = self.rings.row(EVENTS.index(event))
        known = any(ring.tolist())
        for word in range(EVENT_WORDS):
            ring[word] = 0
        return known
