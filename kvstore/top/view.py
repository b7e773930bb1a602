"""The view of a server: figures from its last answer, and rates from the last two.

A figure that the server does not tell is None; so is a rate without a sample before it, and one whose counter went
back, which CONFIG RESETSTAT and a restart do.  Commands that this program sent are not counted, neither as requests nor
as hits.  Their bytes are: the network rates of an idle server are this program's own.

A view holds only text, numbers and lists of such, so `as_json` is what it says.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from kvstore.top.fields import Fields, NamedStore, number_of
from kvstore.top.sampling import Event, Sample, Slow

Number = float | None


@dataclass(frozen=True)
class Command:
    """A command or subcommand."""

    name: str
    per_s: Number
    busy: Number  # share of the time between the samples
    now_us: Number  # mean of the calls between the samples
    ever_us: Number  # mean of all calls
    p50_us: Number
    p99_us: Number
    p999_us: Number
    failed_per_s: Number
    calls: Number


@dataclass(frozen=True)
class Store:
    """A branch or a snapshot [bytes]."""

    name: str
    kind: str
    connections: int
    own: int
    mapped: int | None
    shared: int | None
    private: int | None


@dataclass(frozen=True)
class Database:
    """A database that has keys."""

    number: int
    keys: Number
    expires: Number


@dataclass(frozen=True)
class Type:
    """Keys of one type, estimated from a sample."""

    type: str
    keys: Number  # of all databases
    bytes: Number
    share: Number  # of the bytes
    bytes_per_key: float
    sampled: int


@dataclass(frozen=True)
class View:
    """One frame.  `figures` are the single numbers and words, by group."""

    figures: dict[str, dict[str, Number | str | bool]]
    commands: list[Command]
    stores: list[Store]
    databases: list[Database]
    types: list[Type]
    slow: list[Slow] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """All of it, as values that JSON can encode."""
        whole = asdict(self)
        return {**whole.pop("figures"), **whole}


class _Between:
    """Rates between two samples of one server."""

    def __init__(self, before: Sample | None, after: Sample) -> None:
        self.now = after.info
        same = before is not None and before.info.text("run_id") == after.info.text("run_id")
        self._before = before.info if same and before else Fields()
        self.seconds = after.at_s - before.at_s if same and before else 0.0
        self.own_calls, self.own_hits = after.own_calls, after.own_hits

    def growth(self, old: Number, new: Number, own: float = 0) -> Number:
        """By how much a counter has grown without our own share; None if it cannot be told."""
        if old is None or new is None or new < old or self.seconds <= 0:
            return None
        return max(new - old - own, 0.0)

    def rate(self, name: str, own: float = 0) -> Number:
        """Growth of a field a second."""
        return self.a_second(self.growth(self._before.number(name), self.now.number(name), own))

    def a_second(self, growth: Number) -> Number:
        return None if growth is None else growth / self.seconds

    def commands(self) -> Iterator[Command]:
        before = dict(self._before.rows("cmdstat_"))
        percentiles = dict(self.now.rows("latency_percentiles_usec_"))
        own = {name if f"cmdstat_{name}" in self.now else name.partition("|")[0]: calls
               for name, calls in self.own_calls.items()}  # fmt: skip
        for name, pairs in self.now.rows("cmdstat_"):
            # A command that was not there before had no calls.
            old = before.get(name, dict.fromkeys(pairs, "0")) if before else {}
            grown = {
                what: self.growth(number_of(old.get(what)), number_of(pairs.get(what)))
                for what in ("calls", "usec", "failed_calls")
            }
            calls, usec = grown["calls"], grown["usec"]
            shares = percentiles.get(name, {})
            yield Command(
                name,
                self.a_second(None if calls is None else max(calls - own.get(name, 0), 0.0)),
                None if usec is None else usec / 1e6 / self.seconds,
                usec / calls if calls and usec is not None else None,
                number_of(pairs.get("usec_per_call")),
                number_of(shares.get("p50")),
                number_of(shares.get("p99")),
                number_of(shares.get("p99.9")),
                self.a_second(grown["failed_calls"]),
                number_of(pairs.get("calls")),
            )


def view_of(before: Sample | None, after: Sample) -> View:
    """The view of a sample, with rates since the one before."""
    between, info = _Between(before, after), after.info
    databases = [
        Database(number, number_of(pairs.get("keys")), number_of(pairs.get("expires")))
        for number, pairs in sorted(info.databases().items())
    ]
    return View(
        {
            "server": _server(info),
            "requests": _requests(between),
            "clients": _clients(info),
            "memory": _memory(info),
            "machine": _machine(between),
            "images": _images(info),
            "branches": {name: info.number(name) for name in ("branches", "snapshots", "branches_own_bytes")},
        },
        list(between.commands()),
        [_store(one, after) for one in info.stores()],
        databases,
        list(_types(after, sum(one.keys or 0 for one in databases))),
        list(after.slow),
        list(after.events),
    )


def _server(info: Fields) -> dict[str, Number | str | bool]:
    # A Valkey says so; this project's server is known by the section Machine.
    valkey = info.text("valkey_version")
    name = "kvstore" if "frame_size" in info else "valkey" if valkey else "redis"
    return {
        "name": name,
        "version": valkey or info.text("redis_version"),
        "process": info.number("process_id"),
        "uptime_s": info.number("uptime_in_seconds"),
        "role": info.text("role"),
        "loading": info.flag("loading"),
    }


def _requests(of: _Between) -> dict[str, Number | str | bool]:
    hits, misses = of.rate("keyspace_hits", of.own_hits), of.rate("keyspace_misses")
    lookups = None if hits is None or misses is None else hits + misses
    processor = [of.rate(f"used_cpu_{mode}") for mode in ("user", "sys")]
    return {
        "per_s": of.rate("total_commands_processed", sum(of.own_calls.values())),
        "hits_per_s": hits,
        "misses_per_s": misses,
        "hit_rate": hits / lookups if hits is not None and lookups else None,
        "errors_per_s": of.rate("total_error_replies"),
        "expired_per_s": of.rate("expired_keys"),
        "evicted_per_s": of.rate("evicted_keys"),
        "received_bytes_per_s": of.rate("total_net_input_bytes"),
        "sent_bytes_per_s": of.rate("total_net_output_bytes"),
        "processors": sum(one for one in processor if one is not None) if None not in processor else None,
        # 0: kvstore measures its turns only while latency-monitor-threshold is set.
        "longest_turn_us": of.now.number("loop_longest_turn_usec") or None,
    }


def _clients(info: Fields) -> dict[str, Number | str | bool]:
    names = {"connected": "connected_clients", "most": "maxclients"}
    names |= {name: f"{name}_clients" for name in ("blocked", "pubsub", "tracking", "watching")}
    return {name: info.number(field) for name, field in names.items()}


def _memory(info: Fields) -> dict[str, Number | str | bool]:
    limit = info.number("maxmemory")
    return {
        "used": info.number("used_memory"),
        "resident": info.number("used_memory_rss"),
        "peak": info.number("used_memory_peak"),
        "limit": limit or None,  # 0 is none
        "fragmentation": info.number("mem_fragmentation_ratio"),
    }


def _machine(of: _Between) -> dict[str, Number | str | bool]:
    now, reads = of.now, (of.rate("tlb_hits"), of.rate("tlb_misses"))
    looked = sum(one for one in reads if one is not None)
    frame, pause = now.number("frame_size"), now.number("latest_fork_usec")
    total, used = now.number("frames_total"), now.number("frames_in_use")
    return {
        "bytes": frame * total if frame and total else None,
        "bytes_in_use": frame * used if frame and used is not None else None,
        "pages_copied": now.number("pages_copied"),
        "tables_copied": now.number("tables_copied"),
        "pages_copied_per_s": of.rate("pages_copied"),
        "tables_copied_per_s": of.rate("tables_copied"),
        "faults_per_s": of.rate("write_faults"),
        "forks": now.number("forks") if "forks" in now else now.number("total_forks"),
        "forks_per_s": of.rate("forks" if "forks" in now else "total_forks"),
        "last_fork_us": pause,
        "tlb_hit_rate": (reads[0] or 0) / looked if looked else None,
    }


def _images(info: Fields) -> dict[str, Number | str | bool]:
    running = info.flag("rdb_bgsave_in_progress")
    return {
        "running": running,
        "progress": (info.number("current_fork_perc") or 0) / 100 if running else None,
        "status": info.text("rdb_last_bgsave_status"),
        "error": info.text("snapshot_last_error"),
        "taken": info.number("rdb_saves"),
        "saved_unix_s": info.number("rdb_last_save_time"),
        "changes_since": info.number("rdb_changes_since_last_save"),
        "pause_us": info.number("snapshot_last_pause_usec"),
        "seconds": info.number("snapshot_last_duration_sec") or info.number("rdb_last_bgsave_time_sec"),
        "pages": info.number("snapshot_last_pages"),
        "bytes": info.number("snapshot_last_bytes"),
        "copied_bytes": info.number("rdb_last_cow_size"),
    }


def _store(one: NamedStore, sample: Sample) -> Store:
    pages = sample.pages.get(one.name, {})
    counted = (pages.get(what) for what in ("rss", "shared", "private"))
    return Store(one.name, one.kind, one.connections, one.own, *counted)


def _types(sample: Sample, keys: float) -> Iterator[Type]:
    everything = sum(one.bytes for one in sample.types)
    for one in sample.types:
        part = one.keys / sample.sampled
        yield Type(
            one.type,
            keys * part,
            keys * one.bytes / sample.sampled,
            one.bytes / everything if everything else None,
            one.bytes / one.keys,
            one.keys,
        )


# ------------------------------------------------------------------------------------------------------------ orders

_NOTHING = -1.0
ORDERS: dict[str, str] = {"calls": "c", "time": "t", "mean": "m", "p99": "9", "name": "n"}  # with the key of each


def in_order(commands: Sequence[Command], order: str, backwards: bool = False) -> list[Command]:
    """The commands in one of ORDERS: the largest first, names from a to z; `backwards` turns it round."""
    if order == "name":
        return sorted(commands, key=lambda one: one.name, reverse=backwards)
    by: dict[str, tuple[str, ...]] = {
        "calls": ("per_s", "calls"),
        "time": ("busy",),
        "mean": ("now_us", "ever_us"),
        "p99": ("p99_us",),
    }
    ordered = sorted(commands, key=lambda one: one.name)

    def rank(one: Command) -> tuple[float, ...]:
        values = (getattr(one, name) for name in by[order])
        return tuple(_NOTHING if value is None else value for value in values)

    return sorted(ordered, key=rank, reverse=not backwards)
