"""A server and connections without sockets, loop or store, for tests of cold commands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kvstore.branches.costs import Costs
from kvstore.commands import coldplane
from kvstore.commands.refusals import wrong_arity
from kvstore.commands.table import cold_handler, find
from kvstore.config.config import Config
from kvstore.connections.clientlist import ClientTotals, TrackedTotals
from kvstore.connections.interests import INTEREST_MEMORY
from kvstore.lifetimes import connection
from kvstore.observe.acllog import AclLog
from kvstore.observe.histogram import CELLS, Histogram, Scale
from kvstore.observe.latency import LatencyMonitor
from kvstore.store.sampling import DatabaseSize
from kvstore.wire.reply import Reply, Verbatim
from mmcore.holdings import Held
from mmcore.jit import Table


@dataclass
class FakeClient:
    """A connection."""

    id: int
    name: str = ""
    lib_name: str = ""
    lib_ver: str = ""
    db: int = 0
    protocol: int = 2
    authenticated: bool = True
    no_evict: bool = False
    no_touch: bool = False
    monitors: bool = False
    reply_mode: str = "on"
    close_after_reply: bool = False
    slot: int = 0
    addr: str = "127.0.0.1:50000"
    laddr: str = "127.0.0.1:6379"
    unix: bool = False
    user: str = "default"
    age_s: int = 10
    waits: bool = False  # in a blocking command
    watch: int = 0
    tracking: int = 0
    redirect: int = 0
    prefixes: list[bytes] = field(default_factory=list)

    def reset(self) -> None:
        self.protocol, self.db, self.name, self.reply_mode = 2, 0, "", "on"
        self.no_evict = self.no_touch = False


@dataclass
class FakeSnapshots:
    """Snapshots that only count."""

    running: bool = False
    progress: float = 0.0
    elapsed_s: float = 0.0
    taken: int = 0
    forks: int = 0
    last_ok: bool = True
    last_error: str = ""
    last_duration_s: float = -1.0
    last_save_unix_s: float = 1700000000.5
    last_pause_us: float = 12.25
    last_fork_ns: int = 2500
    last_pages: int = 100
    last_pages_copied: int = 3
    last_cow_size: int = 16384
    last_bytes: int = 0
    last_path: Path | None = None
    keys_loaded: int = 0
    failure: Exception | None = None
    done: list[str] = field(default_factory=list)

    def _do(self, what: str) -> None:
        if self.failure:
            raise self.failure
        self.done.append(what)

    def start(self) -> None:
        self._do("start")

    def run_and_wait(self) -> None:
        self._do("run_and_wait")


@dataclass
class FakeSpace:
    """An address space."""

    counters: Mapping[str, int] = field(
        default_factory=lambda: {"write_faults": 5, "pages_copied": 3, "tables_copied": 2, "tlb_misses": 7}
    )
    epoch: int = 4


class FakeSlowLog:
    """A slow log that is only emptied."""

    def __init__(self, server: "FakeServer") -> None:
        self._server = server

    def reset(self) -> None:
        self._server.done.append(("slowlog reset",))


class FakeRegisters:
    """Registers that are all zero until they are set."""

    def __getattr__(self, name: str) -> int:
        return 0


class FakeServer:
    """A server that records the calls to it."""

    def __init__(self, *clients: FakeClient, **settings: str) -> None:
        settings = {"enable_debug_command": "yes", **settings}
        self.config = Config.load(None, [(name.replace("_", "-"), text) for name, text in settings.items()])
        self.config_file: Path | None = None
        self.registers = FakeRegisters()
        self.registers.NOW_MS = 1_700_000_000_000
        self.registers.TIMER_MS = 1_000_000
        self.connections = Table(8, connection.FIELDS)
        for slot, client in enumerate(clients):
            client.slot = slot
            row = self.connections.row(slot)
            row[connection.ID], row[connection.FLAGS], row[connection.WATCH_COUNT] = (
                client.id,
                connection.IN_USE,
                client.watch,
            )
            row[connection.CREATED_MS] = self.registers.TIMER_MS - 1000 * client.age_s
        self.run_id = "ab" * 20
        self.started_ms = 0
        self.physical = coldplane.Frames(in_force=1000, reserved=1200, in_use=100, resident=150, kept=30, returned=7)
        self.own_resident = 50 << 20
        self.space = FakeSpace()
        self.snapshots = FakeSnapshots()
        self.slowlog = FakeSlowLog(self)
        self.latency = LatencyMonitor()
        self.acl_log = AclLog()
        self.loading: coldplane.Loading | None = None
        self.in_transaction = False
        self.listed = list(clients)
        self.done: list[tuple[object, ...]] = []
        self.denied: list[tuple[int, bytes, bytes]] = []  # refused authentications
        self.refuses: dict[str, str] = {}  # parameters that cannot be applied, and why
        self.keys: dict[bytes, coldplane.Described] = {}

    def client_totals(self) -> ClientTotals:
        used = [row for row in self.connections.tolist() if row[connection.FLAGS] & connection.IN_USE]
        watched = [row[connection.WATCH_COUNT] for row in used]
        memory = 8 * connection.FIELDS * len(used) + INTEREST_MEMORY * sum(watched)
        return ClientTotals(len(used), memory, 0, 0, len([one for one in watched if one]), sum(watched), 0, 0)

    def tracked_totals(self) -> TrackedTotals:
        return TrackedTotals(3, 5, 2)

    def reply_clients(self, slots: Sequence[int]) -> Reply:
        return Verbatim("".join(f"id={self.listed[slot].id}\n" for slot in slots))

    def from_address(self, address: str, own: bool) -> list[bool]:
        addresses = [client.laddr if own else client.addr for client in self.listed]
        return [one == address for one in addresses] + [False] * (len(self.connections) - len(addresses))

    def kill(self, slots: Sequence[int]) -> None:
        self.done += [("kill", self.listed[slot].id) for slot in slots]

    def unblock(self, slot: int, error: bool) -> bool:
        self.done.append(("unblock", self.listed[slot].id, error))
        return self.listed[slot].waits

    def log_denied(self, client: coldplane.Client, command: bytes, user: bytes) -> None:
        self.denied.append((client.id, command, user))

    def slot_of(self, identity: int) -> int:
        return next((client.slot for client in self.listed if client.id == identity), -1)

    def track(
        self, client: coldplane.Client, modes: int, redirect: int, target: int, prefixes: Sequence[bytes]
    ) -> None:
        fake = self.listed[client.slot]
        fake.tracking, fake.redirect = connection.TRACKING | modes, redirect
        fake.prefixes += prefixes
        self.done.append(("track", client.id, target))

    def track_nothing(self, client: coldplane.Client) -> None:
        fake = self.listed[client.slot]
        fake.tracking, fake.redirect, fake.prefixes = 0, 0, []

    def tracked_prefixes(self, client: coldplane.Client) -> list[bytes]:
        return sorted(self.listed[client.slot].prefixes)

    def discard_transaction(self, client: coldplane.Client) -> None:
        self.done.append(("discard", client.id))

    def end_subscriptions(self, client: coldplane.Client) -> None:
        self.done.append(("unsubscribe", client.id))

    def subscribed_topics(self) -> tuple[int, int, int]:
        return 5, 6, 7

    def begin_monitoring(self, client: coldplane.Client) -> None:
        self.done.append(("monitor", client.id))
        client.monitors = True

    def end_monitoring(self, client: coldplane.Client) -> None:
        client.monitors = False

    def pause_clients(self, timeout_ms: int, write_only: bool) -> None:
        self.done.append(("pause", timeout_ms, write_only))

    def shift_clock(self, wall_ms: int, timer_ms: int) -> None:
        self.done.append(("shift", wall_ms, timer_ms))

    def unpause_clients(self) -> None:
        self.done.append(("unpause",))

    def apply(self, name: str) -> None:
        self.done.append(("apply", name, self.config.text(name)))
        if self.config.text(name) in self.refuses.get(name, ""):
            raise ValueError(f"{name} cannot be had")

    def shutdown(self, save: bool | None, force: bool) -> None:
        self.done.append(("shutdown", save, force))

    def reload(self, save: bool) -> None:
        if self.snapshots.failure:
            raise self.snapshots.failure
        self.done.append(("reload", save))

    def digest(self, _slot: int) -> str:
        return "0123456789" * 4

    def value_digest(self, db: int, key: bytes) -> str:
        return f"{db}:{key.decode()}" if key in self.keys else "0" * 40

    def populate(self, db: int, count: int, prefix: bytes, size: int) -> None:
        self.done.append(("populate", db, count, prefix, size))

    def describe(self, db: int, key: bytes) -> coldplane.Described | None:
        return self.keys.get(key)

    def usage(self) -> coldplane.Usage:
        return coldplane.Usage(100_000, 8192, 0, 120_000)

    def frames(self) -> coldplane.Frames:
        return self.physical

    def purge(self) -> None:
        self.done.append(("purge",))

    def use_store(self, slot: int, name: bytes) -> None:
        self.done.append(("use", slot, name))

    def costs(self) -> Costs:
        return Costs(branches=2, snapshots=1, own_bytes=12_288, costliest=[])

    def held(self) -> Held:
        return Held(rss=20_480, shared=12_288, private=8192, tables_shared=3, tables_private=4)

    def db_sizes(self) -> Sequence[DatabaseSize]:
        return [DatabaseSize(10, 2, 500, 3), DatabaseSize(0, 0, 0, 0), DatabaseSize(1, 0, 0, 0)]

    def statistics(self) -> Mapping[str, int | float]:
        return {"total_commands_processed": 42, "instantaneous_input_kbps": 1.5}

    def command_statistics(self) -> Mapping[str, tuple[int, int, int, int]]:
        return {"get": (4, 10, 1, 2), "client|list": (0, 0, 1, 0)}

    def histograms(self) -> Mapping[str, Histogram]:
        counts = np.zeros(CELLS, np.int64)
        counts[10], counts[63] = 3, 1  # at ten cycles a microsecond: 1.0 us, and 6.3 us
        return {"get": Histogram(counts, Scale(10.0))}

    def error_statistics(self) -> Mapping[str, int]:
        return {"WRONGTYPE": 1, "ERR": 3}

    def reset_statistics(self) -> None:
        self.done.append(("reset_statistics",))


def ask(server: FakeServer, client: FakeClient, *words: str | bytes) -> Reply:
    """The reply of a cold command, which is first checked against the table, as in the loop."""
    args = [word if isinstance(word, bytes) else word.encode() for word in words]
    command = find(args[0])
    assert command is not None
    if not command.takes(len(args)):
        raise wrong_arity(command)
    return cold_handler(command)(server, client, args)


_server: coldplane.Server = FakeServer()  # lets mypy prove that the double has every member of a server
_client: coldplane.Client = FakeClient(1)
