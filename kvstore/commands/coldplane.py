"""The cold plane: what the commands that Python serves may ask of the server and of a connection.

A cold command is a function of a module in kvstore.commands:

    def time(server: Server, client: Client, args: list[bytes]) -> Reply

It gets the whole command, its name first, with the number of arguments already checked against the table, and returns
its reply as a Python value (see reply.py) or raises CommandError. It runs between two turns of the loop: while it
runs nobody is served, and what it does to the registers or to a connection the loop sees at once.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from kvstore.config.config import Config
from kvstore.connections.clientlist import ClientTotals
from kvstore.lifetimes.context import Registers
from kvstore.observe.acllog import AclLog
from kvstore.observe.histogram import Histogram
from kvstore.observe.latency import LatencyMonitor
from kvstore.wire.reply import Reply
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
    reply_mode: str  # "on", "off", or "skip": no reply to the next command
    close_after_reply: bool

    @property
    def id(self) -> int: ...
    @property
    def slot(self) -> int: ...  # its row of the table
    @property
    def addr(self) -> str: ...
    @property
    def user(self) -> str: ...
    @property
    def unix(self) -> bool: ...
    def reset(self) -> None: ...


class Snapshots(Protocol):
    """Snapshots of the store, and what is known of the last one."""

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
        """What INFO tells of it."""


class Frames(NamedTuple):
    """Physical memory, in frames."""

    in_force: int  # that the store may take
    reserved: int  # that there are
    in_use: int
    resident: int  # that the system has given: those in use, those free that were kept, some never used
    kept: int  # free ones among those
    returned: int  # given back to the system since the start

    @property
    def free(self) -> int:
        """In force, and not in use."""
        return max(0, self.in_force - self.in_use)


class Space(Protocol):
    """The store's address space."""

    @property
    def counters(self) -> Mapping[str, int]: ...
    @property
    def epoch(self) -> int: ...


class Usage(NamedTuple):
    """What the store takes [bytes]."""

    heap: int  # keys and values
    indices: int  # the pages that they take
    peak: int  # the most that the two together ever took


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
        """Enter in the log that a command did not let the connection in as this user."""

    def reply_clients(self, slots: Sequence[int]) -> Reply: ...  # with CLIENT LIST's lines of these connections
    def from_address(self, address: str, own: bool) -> list[bool]: ...  # by slot; `own`: the address they went to
    def kill(self, slots: Sequence[int]) -> None: ...
    def unblock(self, slot: int, error: bool) -> bool: ...  # whether it waited
    def discard_transaction(self, client: Any) -> None: ...
    def pause_clients(self, timeout_ms: int, write_only: bool) -> None: ...
    def shift_clock(self, wall_ms: int, timer_ms: int) -> None: ...
    def unpause_clients(self) -> None: ...

    def apply(self, name: str) -> None:
        """Act on a parameter's new value.  Raises ValueError, with the reason, if it cannot be had."""

    def shutdown(self, save: bool | None, force: bool) -> None:
        """Stop serving; `save` as asked for, None to go by the save points.  Raises CommandError if that failed."""

    def reload(self, save: bool) -> None:
        """Empty the store and load the newest image, after taking one if `save`.  Raises as snapshots do."""

    def describe(self, db: int, key: bytes) -> Described | None:
        """How the value of a key is kept, or None without the key; does not count as a use of it."""

    def digest(self) -> str:
        """A digest of all data, in 40 hexadecimal digits: Redis's of the same data."""

    def value_digest(self, db: int, key: bytes) -> str:
        """The same of a key's value; 40 zeros without the key."""

    def populate(self, db: int, count: int, prefix: bytes, size: int) -> None:
        """Make numbered keys that are not there yet; see populate.py.  Raises CommandError when memory is full."""

    def usage(self) -> Usage: ...

    def frames(self) -> Frames: ...

    @property
    def own_resident(self) -> int: ...  # what the process held beside the frames when it began to serve [bytes]

    def purge(self) -> None:
        """Give all free frames back to the system; what is more than some milliseconds' work follows at once."""

    def db_sizes(self) -> Sequence[tuple[int, int, int]]:
        """Of each database: keys, keys with a deadline, and the mean time that those have left [ms]."""

    def statistics(self) -> Mapping[str, int | float]:
        """Counters, by the names that INFO's section Stats has for them."""

    def command_statistics(self) -> Mapping[str, tuple[int, int, int, int]]:
        """By command called at least once: calls, time [us], rejected, failed."""

    def histograms(self) -> Mapping[str, Histogram]:
        """How long calls took, by command called at least once while that was tracked."""

    def error_statistics(self) -> Mapping[str, int]:
        """Error replies, by the code that they begin with."""

    def reset_statistics(self) -> None: ...
