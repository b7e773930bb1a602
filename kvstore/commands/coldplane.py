"""The cold plane: the interface of the server and of a connection for commands that Python serves.

A cold command is a function of a module in kvstore.commands:

    def time(server: Server, client: Client, args: list[bytes]) -> Reply

It gets the whole command, including its name.  The number of arguments has already been checked against the table.  It
returns its reply as a Python value (see reply.py) or raises CommandError.  The loop stands still meanwhile, so no other
client is served.  The loop sees all changes of registers and connections when it goes on.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from kvstore.branches.costs import Costs
from kvstore.branches.known import Known
from kvstore.config.config import Config
from kvstore.connections.clientlist import ClientTotals, TrackedTotals
from kvstore.lifetimes.context import Registers
from kvstore.observe.acllog import AclLog
from kvstore.observe.histogram import Histogram
from kvstore.observe.latency import LatencyMonitor
from kvstore.store.sampling import DatabaseSize
from kvstore.wire.reply import Reply
from mmcore.holdings import Held
from mmcore.jit import Table


class Client(Protocol):
    """A connection."""

    name: str  # "" for none
    lib_name: str
    lib_ver: str
    db: int
    protocol: int  # 2 or 3
    authenticated: bool
    no_evict: bool
    no_touch: bool
    monitors: bool  # is shown all commands
    reply_mode: str  # "on", "off", or "skip": no reply to the next command
    close_after_reply: bool
    tracking: int  # its flags that concern tracking: see lifetimes/connection.py

    @property
    def id(self) -> int: ...
    @property
    def slot(self) -> int: ...  # its row of the table
    @property
    def addr(self) -> str: ...
    @property
    def redirect(self) -> int: ...  # id of the connection that is told in its place what it tracks
    @property
    def user(self) -> str: ...
    @property
    def unix(self) -> bool: ...
    def reset(self) -> None: ...


class Snapshots(Protocol):
    """Snapshots of the store, and facts about the last one."""

    @property
    def running(self) -> bool: ...
    @property
    def progress(self) -> float: ...  # of the one that is being written: 0 to 1
    @property
    def elapsed_s(self) -> float: ...  # since it began; 0 when there is none
    @property
    def taken(self) -> int: ...  # good ones since the start
    @property
    def forks(self) -> int: ...
    @property
    def last_ok(self) -> bool: ...
    @property
    def last_error(self) -> str: ...
    @property
    def last_duration_s(self) -> float: ...  # below 0 before the first
    @property
    def last_save_unix_s(self) -> float: ...
    @property
    def last_pause_us(self) -> float: ...
    @property
    def last_fork_ns(self) -> int: ...
    @property
    def last_pages(self) -> int: ...
    @property
    def last_pages_copied(self) -> int: ...
    @property
    def last_cow_size(self) -> int: ...  # [bytes]
    @property
    def last_bytes(self) -> int: ...
    @property
    def last_path(self) -> Path | None: ...
    @property
    def keys_loaded(self) -> int: ...  # that were in the image loaded last

    def start(self) -> None:
        """Fork, and have the image written in the background.  Raises SnapshotError or CommandError."""

    def run_and_wait(self) -> None:
        """Take a snapshot and wait until it is durable.  Raises SnapshotError or CommandError."""


class Loading(Protocol):
    """An image that is still being read."""

    def fields(self) -> Mapping[str, object]:
        """Its fields in INFO."""


class Frames(NamedTuple):
    """Physical memory, in frames."""

    in_force: int  # that the store may use
    reserved: int  # all of them
    in_use: int
    resident: int  # backed by the system: those in use, those free and kept, some never used
    kept: int  # free ones among those
    returned: int  # given back to the system since the start

    @property
    def free(self) -> int:
        """Frames in force that are not in use."""
        return max(0, self.in_force - self.in_use)


class Space(Protocol):
    """The store's address space."""

    @property
    def counters(self) -> Mapping[str, int]: ...
    @property
    def epoch(self) -> int: ...


class Usage(NamedTuple):
    """Memory that the store uses [bytes]."""

    heap: int  # keys and values
    indices: int  # pages of the indices, and the clocks of use
    clocks: int  # the clocks alone, which are not in frames
    peak: int  # highest sum of heap and indices so far


class Described(NamedTuple):
    """How a key's value is kept."""

    address: int
    encoding: str
    length: int  # [bytes]
    clock: int  # when it was last used: 24 bits of Unix time [s]
    idle_s: int


class SlowLog(Protocol):
    """The log of slow commands."""

    def reset(self) -> None: ...


class Server(Protocol):
    """The server."""

    config: Config
    registers: Registers

    @property
    def connections(self) -> Table: ...  # the table of them, as connections/table.py has it
    def client_totals(self) -> ClientTotals: ...
    def tracked_totals(self) -> TrackedTotals: ...
    @property
    def config_file(self) -> Path | None: ...
    @property
    def run_id(self) -> str: ...
    @property
    def started_ms(self) -> int: ...  # by the monotonic clock
    @property
    def space(self) -> Space: ...
    @property
    def snapshots(self) -> Snapshots: ...
    @property
    def loading(self) -> Loading | None: ...  # None once the store is there
    @property
    def in_transaction(self) -> bool: ...  # whether EXEC runs the command at hand
    @property
    def slowlog(self) -> SlowLog: ...
    @property
    def latency(self) -> LatencyMonitor: ...
    @property
    def acl_log(self) -> AclLog: ...

    def log_denied(self, client: Any, command: bytes, user: bytes) -> None:
        """Record in the log that a command refused to authenticate the connection as this user."""

    def reply_clients(self, slots: Sequence[int]) -> Reply: ...  # with CLIENT LIST's lines of these connections
    def from_address(self, address: str, own: bool) -> list[bool]: ...  # by slot; `own`: the address they went to
    def kill(self, slots: Sequence[int]) -> None: ...
    def unblock(self, slot: int, error: bool) -> bool: ...  # whether it waited
    def named(self, name: bytes) -> Known | None: ...
    def is_store_name(self, name: bytes) -> bool: ...
    def rename_store(self, one: Known, name: bytes) -> None: ...
    def swap_stores(self, first: Known, second: Known) -> None: ...
    def save_store(self, slot: int, one: Known, file: bytes) -> Reply: ...  # the client waits for the end
    def use_store(self, slot: int, name: bytes) -> None: ...  # raises CommandError
    def costs(self) -> Costs: ...
    def keys_of(self, one: Known) -> int: ...
    def users_of(self, one: Known) -> int: ...
    def own_bytes(self, one: Known) -> int: ...
    def recorded_of(self, one: Known) -> dict[str, int]: ...
    def held_by(self, one: Known) -> Held: ...
    def held(self) -> Held: ...  # by the store at hand
    def slot_of(self, identity: int) -> int: ...  # of the connection with this id, -1 for none
    def tracked_prefixes(self, client: Any) -> list[bytes]: ...  # sorted
    def track_nothing(self, client: Any) -> None: ...
    def discard_transaction(self, client: Any) -> None: ...
    def end_subscriptions(self, client: Any) -> None: ...
    def subscribed_topics(self) -> tuple[int, int, int]: ...  # channels, patterns, shard channels
    def begin_monitoring(self, client: Any) -> None: ...
    def end_monitoring(self, client: Any) -> None: ...
    def pause_clients(self, timeout_ms: int, write_only: bool) -> None: ...
    def shift_clock(self, wall_ms: int, timer_ms: int) -> None: ...
    def unpause_clients(self) -> None: ...

    def track(self, client: Any, modes: int, redirect: int, target: int, prefixes: Sequence[bytes]) -> None:
        """Let a connection track keys in these modes, and the prefixes as well as those that it has.

        `redirect` and `target`: id and slot of the connection that is told in its place, 0 for itself.
        """

    def apply(self, name: str) -> None:
        """Apply a parameter's new value.  Raises ValueError, with the reason, if that is impossible."""

    def shutdown(self, save: bool | None, force: bool) -> None:
        """Stop serving; `save` None means to save if there are save points.  Raises CommandError if that failed."""

    def reload(self, save: bool) -> None:
        """Empty the store and load the newest image; take one first if `save`.  Raises the errors of snapshots."""

    def describe(self, db: int, key: bytes) -> Described | None:
        """How the value of a key is kept, or None without the key; does not count as a use of it."""

    def digest(self, slot: int) -> str | None:
        """A digest of all data, in 40 hexadecimal digits; equal to Redis's digest of the same data.

        None if another thread makes it, and the connection in `slot`, whose command is at hand, waits for it.
        """

    def value_digest(self, db: int, key: bytes) -> str:
        """The digest of a key's value; 40 zeros without the key."""

    def populate(self, db: int, count: int, prefix: bytes, size: int) -> None:
        """Make numbered keys that are not there yet; see populate.py.  Raises CommandError when memory is full."""

    def usage(self) -> Usage: ...

    def frames(self) -> Frames: ...

    @property
    def own_resident(self) -> int: ...  # what the process held beside the frames when it began to serve [bytes]

    def purge(self) -> None:
        """Give all free frames back to the system: some milliseconds' work now, and the rest in the next turns."""

    def db_sizes(self) -> Sequence[DatabaseSize]:
        """The size of each database."""

    def statistics(self) -> Mapping[str, int | float]:
        """Counters, by the names that INFO's section Stats has for them."""

    def command_statistics(self) -> Mapping[str, tuple[int, int, int, int]]:
        """By command called at least once: calls, time [us], rejected, failed."""

    def histograms(self) -> Mapping[str, Histogram]:
        """How long calls took, by command called at least once while that was tracked."""

    def error_statistics(self) -> Mapping[str, int]:
        """Error replies, by the code that they begin with."""

    def reset_statistics(self) -> None: ...
