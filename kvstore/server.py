"""The server: the owner of the store, its sockets, its snapshots; where the cold plane meets the hot one.

`Server(config).run()` serves until a signal or SHUTDOWN.  The hot plane is one kernel, loop.py's `serve`; this class
prepares the registers and tables it works on, and does what it returns for:

    serve ─► EVENT_COMMAND ─► a function of commands/connection.py or commands/server.py ─► reply ─► serve
          ─► EVENT_SAVE    ─► a snapshot that could not be begun
          ─► EVENT_WAKE    ─► a signal, or the writer's outcome

Nothing here runs per data command.  One thread owns the store: the one that calls `run`.
"""

import contextlib
import ctypes
import logging
import os
import select
import signal
import socket
import struct
import threading
import time
from array import array
from collections.abc import Iterable, Sequence

from kvstore import capacity, loop, startup, state
from kvstore import connections as rows
from kvstore.acllog import AclLog, Moment
from kvstore.clientlist import ClientTotals, add_connections, find_address, reply_connections
from kvstore.clients import Client
from kvstore.clock import counter_is_steady, start_clocks
from kvstore.coldplane import Described, Frames, Usage
from kvstore.commands.secrets import secret_arguments
from kvstore.commands.table import (
    COMMANDS,
    ROWS,
    Command,
    cold_handler,
    hot_handlers,
    prepare_cold,
    resolve,
    row_number,
    row_number_of,
    unknown_subcommand,
    wrong_arity,
)
from kvstore.commands.transactions import discard_transaction, queue_command
from kvstore.config import Config
from kvstore.connections import close_connection, connection_table, kill_connection, unblock_connection
from kvstore.decimal import RESULT_MAX, TEXT_MAX
from kvstore.describe import describe_key
from kvstore.descriptors import allow_clients, clients_max
from kvstore.flush import RELEASES_MAX, background_step
from kvstore.histogram import Histogram, Scale
from kvstore.info import resident_bytes
from kvstore.keyspace import database_sizes, index_pages, keyspace_init, memory_used
from kvstore.latency import LatencyMonitor
from kvstore.listeners import CannotListen, UnixListener, listen_tcp, warn_of_backlog
from kvstore.loading import LOADING_ERROR, Loading, loading_table
from kvstore.logfile import set_level
from kvstore.persistence import Persistence
from kvstore.refcounts import HOLDS, KEEPS_NONE
from kvstore.refusals import NAME_WIDTH
from kvstore.reply import NO_REPLY, CommandError, Error, Reply, Sentinel, encode
from kvstore.request import LINE_ROOM
from kvstore.resp import reply_grow
from kvstore.signals import Signals
from kvstore.slowlog import SlowLog
from kvstore.state import ARGUMENTS_MAX, REGISTERS, Store
from mmcore.jit import Table, address_of, int64, uint8, zeros
from mmcore.paging import PAGE_SIZE
from mmcore.populate import Populator
from mmcore.release import CURSOR_SIZE
from mmcore.space import AddressSpace, PhysicalMemory
from mmcore.state import EMPTY_COUNT, FRESH, RETURNED
from snapshot.errors import OutOfFrames

log = logging.getLogger("kvstore")
_HOT = hot_handlers()  # imported here, with everything else, so that one `build` makes all kernels

COLD_ARGUMENTS_MAX = 1024  # of a command that Python serves, which would keep everyone waiting with more
ATTACK_LOG_S = 60.0  # between warnings of HTTP requests
EVENTS_CAPACITY = 1024
LISTEN_AFTER_S = 0.05  # a store that is loaded so soon is never seen loading
PURGE_S = 0.005
PURGE_PAGES = 1024  # in a step


class Server:
    """A store being served."""

    def __init__(self, config: Config, opened: startup.Opened | None = None) -> None:
        opened = opened or startup.open_images(config)
        preload = opened.preload
        self.config = config
        self.config_file = config.file
        self.run_id = os.urandom(20).hex()
        self.registers = zeros(int64, REGISTERS)
        self.memory = PhysicalMemory(len(preload.mapping), mapping=preload.mapping)
        self.space = AddressSpace(self.memory)
        self._attack_logged_s = -ATTACK_LOG_S
        self._listeners: list[socket.socket] = []
        self._populator: Populator | None = None
        self._peak = 0
        self._prepare_buffers()
        self._prepare_connections()
        self._prepare_commands()
        self._prepare_wake()
        self.store = Store(self.space.state, self.registers, self._arguments)
        self.snapshots = Persistence(self, opened.lock)
        self._watch_descriptor(self.snapshots.fileno(), loop.WAKE)
        start_clocks(self.store)
        self.registers[state.LAST_SAVE_MS] = self.registers[state.NOW_MS]
        if keyspace_init(self.store) != 0:
            raise OutOfFrames("the physical memory is too small for an empty store")
        self.started_ms = int(self.registers[state.TIMER_MS])
        self._prepare_observation()
        self.loading: Loading | None = Loading(preload, self._wake_up)
        self._loading_table = loading_table(self._table)
        self.registers[state.COMMAND_TABLE_ADDRESS] = self._loading_table.address
        for name in _APPLIED:
            self.apply(name)
        configured, reserved = config["machine-memory"], len(preload.mapping)
        self.registers[state.FRAMES_IN_FORCE] = capacity.in_force(configured, reserved) // PAGE_SIZE
        self.own_resident = resident_bytes()

    def _have_what_was_loaded(self) -> None:
        # What was saved starts, whatever machine-memory says now.
        r, in_use = self.registers, self.memory.frames_total - self.memory.frames_free
        asked = int(r[state.FRAMES_IN_FORCE])
        if in_use > asked:
            r[state.FRAMES_IN_FORCE] = in_use
            log.warning("The image takes %d frames: so many are in force now, instead of %d", in_use, asked)
        elif self.config["machine-memory"] // PAGE_SIZE > asked:
            log.warning("machine-memory is %d bytes: no more can be reserved", asked * PAGE_SIZE)

    # ------------------------------------------------------------------------------------------------- preparation

    def _prepare_buffers(self) -> None:
        r = self.registers
        self._arguments = zeros(int64, 2 * ARGUMENTS_MAX)  # reserved, and touched as far as commands reach
        self._shared = zeros(uint8, loop.INPUT_MAX)
        self._events = zeros(uint8, 12 * EVENTS_CAPACITY)
        self._inline = zeros(uint8, LINE_ROOM)
        self._unix_path = os.fsencode(self.config["unixsocket"]) + b"\0"
        self._scratch = zeros(int64, 256)
        self._decimal = zeros(uint8, 2 * TEXT_MAX + RESULT_MAX)
        self._releases = Table(RELEASES_MAX, CURSOR_SIZE)
        self._error_counts = Table(loop.ERROR_WORDS, loop.ERROR_WIDTH)
        r[state.ERROR_TABLE_ADDRESS] = self._error_counts.address
        self._samples = Table(loop.SAMPLES, 4)
        r[state.SHARED_ADDRESS], r[state.SHARED_CAPACITY] = address_of(self._shared), loop.INPUT_MAX
        r[state.EVENTS_ADDRESS], r[state.EVENTS_CAPACITY] = address_of(self._events), EVENTS_CAPACITY
        r[state.INLINE_ADDRESS] = address_of(self._inline)
        r[state.UNIX_PATH_ADDRESS], r[state.UNIX_PATH_LENGTH] = address_of(self._unix_path), len(self._unix_path) - 1
        r[state.SCRATCH_ADDRESS] = address_of(self._scratch)
        r[state.DECIMAL_ADDRESS] = address_of(self._decimal)
        r[state.RELEASE_ADDRESS] = self._releases.address
        r[state.SAMPLES_ADDRESS] = self._samples.address
        r[state.WATCH_FREE] = r[state.RESUME] = -1
        r[state.RANDOM] = int.from_bytes(os.urandom(8), "little") >> 2 | 1
        r[state.ACTIVE_EXPIRE_ENABLED] = 1
        r[state.NEXT_ID] = 1
        r[state.LAST_SAVE_OK] = 1
        r[state.TICK_MS] = 100

    def _prepare_connections(self) -> None:
        # Address space for as many as the limit of open files may ever allow; memory for those that come.
        maxclients, r = self.config["maxclients"], self.registers
        try:
            self._connections = connection_table(max(maxclients, clients_max()))
        except OSError:
            self._connections = connection_table(maxclients)
        r[state.CONNECTIONS_ADDRESS] = self._connections.address
        r[state.CONNECTION_CAPACITY] = len(self._connections)
        r[state.FREE_SLOT] = -1

    @property
    def connections(self) -> Table:
        """The rows of the table of connections that were ever used."""
        return self._connections.first(self.registers[state.CONNECTION_SLOTS])

    def _prepare_commands(self) -> None:
        r, count = self.registers, len(COMMANDS)
        self._table = Table(len(ROWS), loop.ROW_WIDTH)
        names = [row.name.encode() for row in ROWS]
        assert max(map(len, names)) < NAME_WIDTH, "a command's name is longer than the table of names is wide"
        self._names = b"".join(name.ljust(NAME_WIDTH, b"\0") for name in names)
        r[state.COMMAND_NAMES_ADDRESS] = address_of(self._names)
        self.command_counters = Table(len(ROWS), loop.STATISTICS_WIDTH)
        for index, command in enumerate(ROWS):
            kernel = _HOT.get(command.name)
            self._table[index, loop.ROW_HANDLER] = kernel.address if kernel is not None else 0
            self._table[index, loop.ROW_ARITY] = command.arity
            self._table[index, loop.ROW_FLAGS] = _loop_flags(command)
            self._table[index, loop.ROW_HOLDS] = HOLDS.get(command.name, KEEPS_NONE)
        self._slots = _hashed((_name_hash(row.name), index) for index, row in enumerate(COMMANDS))
        self._sub_slots = _hashed(
            (_subcommand_hash(sub.own_name, container), row_number_of(sub))
            for container, row in enumerate(COMMANDS)
            for sub in row.subcommands
        )
        r[state.COMMAND_TABLE_ADDRESS], r[state.COMMAND_COUNT] = self._table.address, count
        r[state.COMMAND_SLOTS_ADDRESS], r[state.COMMAND_SLOTS] = self._slots.address, len(self._slots)
        r[state.SUBCOMMAND_SLOTS_ADDRESS] = self._sub_slots.address
        r[state.SUBCOMMAND_SLOTS] = len(self._sub_slots)
        r[state.COMMAND_STATISTICS_ADDRESS] = self.command_counters.address

    def _prepare_observation(self) -> None:
        r = self.registers
        self.slowlog, self.latency, self.acl_log = SlowLog(), LatencyMonitor(), AclLog()
        r[state.SLOWLOG_ADDRESS] = address_of(self.slowlog.log)
        r[state.LATENCY_ADDRESS] = self.latency.rings.address
        r[state.BLOCKED_DEADLINE_MS] = rows.NEVER
        if not counter_is_steady():
            log.warning(
                "The processor's time stamp counter changes its rate: what is told of commands' times is not exact"
            )

    def _prepare_wake(self) -> None:
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._epoll = select.epoll()
        self.registers[state.EPOLL_FD] = self._epoll.fileno()
        self._watch_descriptor(self._wake_read, loop.WAKE)

    def _watch_descriptor(self, fd: int, kind: int) -> None:
        # select.epoll registers a descriptor as its own data; the loop wants the kind as well.
        libc = ctypes.CDLL(None, use_errno=True)
        event = struct.pack("=Iq", select.EPOLLIN, -(1 + 4 * fd + kind))
        if libc.epoll_ctl(self._epoll.fileno(), 1, fd, event):
            raise OSError(ctypes.get_errno(), "epoll_ctl")

    # ---------------------------------------------------------------------------------------------------- settings

    def apply(self, name: str) -> None:
        """Let the hot plane know of a parameter's new value."""
        r, config = self.registers, self.config
        if name == "maxmemory":
            r[state.MAXMEMORY] = config["maxmemory"]
        elif name in ("requirepass", "protected-mode", "bind"):
            if config["requirepass"] and not r[state.REQUIRE_AUTH]:
                # Who came before there was a password stays in.
                for slot in self._slots_with(rows.IN_USE):
                    self._connections[slot, rows.FLAGS] |= rows.AUTHENTICATED
            r[state.REQUIRE_AUTH] = bool(config["requirepass"])
            r[state.PROTECTED] = bool(config["protected-mode"]) and not config["requirepass"]
        elif name == "timeout":
            r[state.TIMEOUT_MS] = 1000 * config["timeout"]
        elif name == "tcp-keepalive":
            r[state.KEEPALIVE_S] = config["tcp-keepalive"]
        elif name == "proto-max-bulk-len":
            r[state.PROTO_MAX_BULK_LEN] = config["proto-max-bulk-len"]
        elif name == "client-query-buffer-limit":
            r[state.QUERY_BUFFER_LIMIT] = config["client-query-buffer-limit"]
        elif name == "client-output-buffer-limit":
            limit = config["client-output-buffer-limit"]["normal"]
            r[state.OUTPUT_HARD_LIMIT], r[state.OUTPUT_SOFT_LIMIT] = limit.hard, limit.soft
            r[state.OUTPUT_SOFT_MS] = 1000 * limit.soft_seconds
        elif name == "maxclients":
            self._set_maxclients(config["maxclients"])
        elif name == "turn-budget-us":
            r[state.TURN_US] = config["turn-budget-us"]
        elif name == "hz":
            r[state.TICK_MS] = max(1, 1000 // config["hz"])
        elif name == "active-expire-enabled":
            r[state.ACTIVE_EXPIRE_ENABLED] = bool(config["active-expire-enabled"])
        elif name == "slowlog-max-len":
            self.slowlog.resize(config["slowlog-max-len"])
        elif name in ("slowlog-log-slower-than", "latency-monitor-threshold"):
            self._set_slowness()
        elif name == "latency-tracking":
            r[state.LATENCY_TRACKING] = bool(config["latency-tracking"])
        elif name == "save":
            points = Table.of(config["save"].points, 2)
            self._save_points = points  # the register holds its address only
            r[state.SAVE_POINTS_ADDRESS] = points.address
            r[state.SAVE_POINTS] = 0 if self.loading else len(points)  # nothing is saved over what is not there yet
            self.snapshots.refuse_writes()
        elif name == "stop-writes-on-bgsave-error":
            self.snapshots.refuse_writes()
        elif name in ("dir", "dbfilename", "fork-mode"):
            self.snapshots.reconfigure()
        elif name == "loglevel":
            set_level(config["loglevel"])

    def _set_maxclients(self, maxclients: int) -> None:
        most = min(allow_clients(maxclients), len(self._connections))
        if most < maxclients:
            raise ValueError(
                f"The operating system is not able to handle the specified number of clients, try with {most}"
            )
        self.registers[state.MAXCLIENTS] = maxclients

    def _set_slowness(self) -> None:
        # From how many microseconds on a command is of interest to the slow log or to the latency monitor.
        r, slow_us, slow_ms = (
            self.registers,
            self.config["slowlog-log-slower-than"],
            self.config["latency-monitor-threshold"],
        )
        r[state.SLOWLOG_US], r[state.LATENCY_MS] = slow_us, slow_ms
        limits_us = [slow_us] * (slow_us >= 0) + [1000 * slow_ms] * (slow_ms > 0)
        r[state.SLOW_US] = min(limits_us, default=rows.NEVER)
        loop.measure_slowness(self.store)

    # ---------------------------------------------------------------------------------------------------- sockets

    def listen(self) -> None:
        """Open the listening sockets.  Raises CannotListen."""
        config = self.config
        backlog, port = config["tcp-backlog"], config["port"]
        warn_of_backlog(backlog)
        for address in config["bind"] if port else ():
            listener = listen_tcp(address, port, backlog)
            if listener is not None:
                self._listen_on(listener, loop.LISTEN_TCP)
        if config["unixsocket"]:
            self._listen_on(UnixListener(config["unixsocket"], config["unixsocketperm"], backlog), loop.LISTEN_UNIX)
        if not self._listeners:
            raise CannotListen("Configured to not listen anywhere, exiting.")

    def _listen_on(self, listener: socket.socket, kind: int) -> None:
        self._listeners.append(listener)
        self._watch_descriptor(listener.fileno(), kind)

    # ---------------------------------------------------------------------------------------------------- serving

    def run(self, signals: Signals) -> int:
        """Listen and serve until told to stop; returns the exit status.  Raises why the store could not be loaded."""
        self._signals = signals
        signals.wake(self._wake_write)
        try:
            assert self.loading is not None
            if self.loading.ended(LISTEN_AFTER_S):
                self._loaded()
                self.listen()
            else:
                self.listen()
                log.info("Loading; clients are answered -LOADING meanwhile%s", self._listening())
            if self.loading is None:
                log.info("Ready to accept connections%s", self._listening())
            # The first command that Python serves would wait for its module, the first COMMAND for all of the table.
            threading.Thread(target=prepare_cold, name="prepare", daemon=True).start()
            self._serve()
        finally:
            signals.wake_nobody()
            self.close()
        return 0

    def _listening(self) -> str:
        return "".join(f" on {_name(one)}" for one in self._listeners)

    def _loaded(self) -> None:
        # The store is there, or there is none to load.
        loading, self.loading = self.loading, None
        assert loading is not None
        self.snapshots.load(loading)
        # What is watched was looked for in a store that was not there.
        for slot, watched in enumerate(self.connections.column(rows.WATCH_COUNT)):
            if watched:
                self._connections[slot, rows.FLAGS] |= rows.DIRTY_CAS
        self.registers[state.COMMAND_TABLE_ADDRESS] = self._table.address
        self.apply("save")
        self._have_what_was_loaded()
        self.own_resident = max(0, resident_bytes() - self.frames().resident * PAGE_SIZE)
        self._populator = Populator(self.memory)

    def _serve(self) -> None:
        while True:
            event = loop.serve(self.store)
            if event in (loop.EVENT_COMMAND, loop.EVENT_QUEUE):
                self._answer(event)
            elif event == loop.EVENT_HTTP:
                self._warn_of_http()
            elif event == loop.EVENT_WAKE:
                self._wake()
            elif event == loop.EVENT_SAVE:
                self.snapshots.start_due()
            else:
                return

    def _answer(self, event: int) -> None:
        r = self.registers
        count = int(r[state.ARGC])
        # What becomes of a longer command, or of one to be queued, depends on its first words only.
        whole = event == loop.EVENT_COMMAND and count <= COLD_ARGUMENTS_MAX
        args = self._arguments_at_hand(count if whole else min(count, 2))
        client = self._client(int(r[state.CONNECTION]))
        value: Reply
        try:
            command = COMMANDS[r[state.EVENT_DETAIL]]
            row = resolve(args)
            well_formed = not command.subcommands or (row is not None and row.takes(count))
            if self.loading and well_formed and row is not None and "loading" not in row.flags:
                self._count_refused(client, row)
                raise CommandError(LOADING_ERROR)
            if not well_formed or (event == loop.EVENT_COMMAND and not whole):
                raise self._refuse(command, row, client, args)
            if event == loop.EVENT_QUEUE:
                assert row is not None
                value = self._queue(client, row)
            else:
                r[state.COMMAND] = client.row[rows.LAST_COMMAND] = row_number(args)  # counted by subcommand
                if self._table[r[state.COMMAND], loop.ROW_FLAGS] & loop.HAS_SECRETS:
                    r[state.REDACTED] = secret_arguments(ROWS[r[state.COMMAND]].name, args)
                value = cold_handler(command)(self, client, args)
        except CommandError as error:
            value = Error(str(error))
        except Exception as error:
            value = _internal_error(args[0], error)
        r[state.DB], r[state.PROTOCOL] = client.db, client.protocol
        if value is not NO_REPLY:
            try:
                data = encode(value, client.protocol)
            except Exception as error:
                data = encode(_internal_error(args[0], error))
            self._append(data)
        r[state.RESUME] = r[state.CONNECTION]

    def _queue(self, client: Client, row: Command) -> Sentinel:
        # A good command, whose container alone the loop knows, goes to the transaction.
        r = self.registers
        flags = int(self._table[r[state.EVENT_DETAIL], loop.ROW_FLAGS])
        queue_command(self.store, client.row, flags | loop.ASKS_REFCOUNT * (row.name == "object|refcount"))
        r[state.COMMAND] = loop.UNCOUNTED
        return NO_REPLY

    def _refuse(self, command: Command, row: Command | None, client: Client, args: list[bytes]) -> CommandError:
        # The reply to a subcommand that the command does not have, or, of `row`, to too many arguments or too few.
        self._count_refused(client, row)
        return wrong_arity(row) if row else unknown_subcommand(command.name, args[1])

    def _count_refused(self, client: Client, row: Command | None) -> None:
        self.registers[state.COMMAND] = loop.REFUSED
        if row is not None:
            self.command_counters[row_number_of(row), loop.STAT_REJECTED] += 1
        if client.in_multi and not self.in_transaction:
            client.dirty_exec = True

    def _arguments_at_hand(self, count: int) -> list[bytes]:
        # The first `count` of them.
        base = int(self.registers[state.QUERY_ADDRESS])
        places = self._arguments[: 2 * count].tolist()
        return [ctypes.string_at(base + places[i], places[i + 1]) for i in range(0, 2 * count, 2)]

    def _warn_of_http(self) -> None:
        # In Redis's words, and as seldom as it warns.
        now_s = time.monotonic()
        if now_s - self._attack_logged_s >= ATTACK_LOG_S:
            self._attack_logged_s = now_s
            log.warning(
                "Possible SECURITY ATTACK detected. It looks like somebody is sending POST or Host: commands to Redis. "
                "This is likely due to an attacker attempting to use Cross Protocol Scripting to compromise your Redis "
                "instance. Connection aborted."
            )
        self.registers[state.RESUME] = self.registers[state.CONNECTION]

    def _append(self, data: bytes) -> None:
        r = self.registers
        if r[state.REPLY_LENGTH] + len(data) > r[state.REPLY_CAPACITY]:
            reply_grow(self.store, len(data))
        ctypes.memmove(int(r[state.REPLY_ADDRESS] + r[state.REPLY_LENGTH]), data, len(data))
        r[state.REPLY_LENGTH] += len(data)

    @property
    def in_transaction(self) -> bool:
        """Whether the command at hand is one of a transaction that EXEC is running."""
        return bool(self.registers[state.EXEC_SAVED_ADDRESS])

    def _wake_up(self) -> None:
        # From any thread: have `serve` return.
        with contextlib.suppress(OSError):  # a full pipe wakes it too; one that is closed needs to wake nobody
            os.write(self._wake_write, b"\0")

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        self.snapshots.poll()
        if self.loading and self.loading.ended():
            self._loaded()
            log.info("Ready to accept connections%s", self._listening())
        if self._signals.asked:
            log.info("Received %s, shutting down", signal.Signals(self._signals.asked).name)
            try:
                self.shutdown(None, force=False)
            except CommandError as error:
                log.error("%s", error)
                self._signals.asked = 0

    def shutdown(self, save: bool | None, force: bool) -> None:
        """Stop serving, after a last snapshot if `save`, or by default if there are save points.

        While the store is loaded there is nothing to save, whatever was asked for.  CommandError when the snapshot
        failed, and then the server goes on, unless `force`.
        """
        if self.loading:
            log.info("The store is still being loaded: nothing is saved")
        elif save or (save is None and self.config["save"].points):
            log.info("Saving the final snapshot before exiting")
            try:
                self.snapshots.run_and_wait()
            except CommandError as error:
                log.error("Error trying to save the final snapshot: %s", error)
                if not force:
                    raise CommandError("ERR Errors trying to SHUTDOWN. Check logs.") from error
        else:
            self.snapshots.cancel()
        self.registers[state.STOPPING] = 1

    def close(self) -> None:
        """Give back sockets, threads and memory."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        for slot in self._slots_with(rows.IN_USE):
            close_connection(self.store, slot)
        if self.loading:
            self.loading.stop()
            self.loading = None
        self.snapshots.close()
        if self._populator:
            self._populator.close()
        self.slowlog.close()
        self._epoll.close()
        os.close(self._wake_read)
        os.close(self._wake_write)
        log.info("Bye bye")

    # ---------------------------------------------------------------------------------------------------- clients

    def _client(self, slot: int) -> Client:
        return Client(self.store, self._connections.row(slot), slot)

    def _slots_with(self, flag: int) -> list[int]:
        return [slot for slot, flags in enumerate(self.connections.column(rows.FLAGS)) if flags & flag]

    def client_totals(self) -> ClientTotals:
        """Of all connections."""
        totals = zeros(int64, len(ClientTotals._fields))
        add_connections(self.store, totals)
        return ClientTotals(*totals.tolist())

    def reply_clients(self, slots: Sequence[int]) -> Sentinel:
        """Reply to the command at hand with CLIENT LIST's lines of these connections."""
        reply_connections(self.store, array("q", slots))
        return NO_REPLY

    def log_denied(self, client: Client, command: bytes, user: bytes) -> None:
        """Enter in ACL LOG that a command did not let the connection in as this user."""
        r = self.registers
        start, protocol = int(r[state.REPLY_LENGTH]), int(r[state.PROTOCOL])
        r[state.PROTOCOL] = 2
        reply_connections(self.store, array("q", [client.slot]))
        reply = ctypes.string_at(int(r[state.REPLY_ADDRESS]) + start, int(r[state.REPLY_LENGTH]) - start)
        r[state.REPLY_LENGTH], r[state.PROTOCOL] = start, protocol
        line = reply.split(b"\r\n", 1)[1].rstrip(b"\r\n")
        inside = "multi" if self.in_transaction else "toplevel"
        now = Moment(int(r[state.NOW_MS]), int(r[state.TIMER_MS]))
        self.acl_log.enter(inside, command, user, line, now, self.config["acllog-max-len"])

    def from_address(self, address: str, own: bool) -> list[bool]:
        """Which slots have a connection from this address, or to it if that is our `own`."""
        text = address.encode(errors="surrogateescape") or b"\0"
        found = zeros(uint8, len(self.connections))
        find_address(self.store, rows.OWN if own else rows.PEER, text, len(text) if address else 0, found)
        return [byte != 0 for byte in found.tolist()]

    def kill(self, slots: Iterable[int]) -> None:
        """Close connections: the one at hand after its reply, any other at the end of the turn."""
        for slot in slots:
            kill_connection(self.store, slot)

    def unblock(self, slot: int, error: bool) -> bool:
        """CLIENT UNBLOCK: end the wait of a connection in a command, as if its time were over; whether it waited."""
        return bool(unblock_connection(self.store, slot, error))

    def pause_clients(self, timeout_ms: int, write_only: bool) -> None:
        """CLIENT PAUSE: hold commands back for so long; a running pause only grows and gets stricter."""
        r = self.registers
        until_ms = int(r[state.TIMER_MS]) + timeout_ms
        running = r[state.PAUSED_UNTIL_MS] > r[state.TIMER_MS]
        r[state.PAUSED_WRITES_ONLY] = write_only and not (running and not r[state.PAUSED_WRITES_ONLY])
        r[state.PAUSED_UNTIL_MS] = max(until_ms, r[state.PAUSED_UNTIL_MS]) if running else until_ms

    def shift_clock(self, wall_ms: int, timer_ms: int) -> None:
        """DEBUG SHIFT-CLOCK: move the clocks by so much; the monotonic one only goes on."""
        assert timer_ms >= 0
        self.registers[state.WALL_SHIFT_US] += 1000 * wall_ms
        self.registers[state.TIMER_SHIFT_US] += 1000 * timer_ms

    def unpause_clients(self) -> None:
        """CLIENT UNPAUSE"""
        loop.resume_postponed(self.store)

    def discard_transaction(self, client: Client) -> None:
        """Forget what a connection has queued and watched (RESET)."""
        discard_transaction(self.store, client.row)

    # ---------------------------------------------------------------------------------------------------- statistics

    def statistics(self) -> dict[str, int | float]:
        """The counters, by the names they have in INFO's section Stats."""
        r = self.registers
        ops, bytes_in, bytes_out = self._rates()
        return {
            "total_connections_received": int(r[state.TOTAL_CONNECTIONS]),
            "total_commands_processed": int(r[state.COMMANDS_PROCESSED]),
            "instantaneous_ops_per_sec": round(ops),
            "total_net_input_bytes": int(r[state.NET_INPUT_BYTES]),
            "total_net_output_bytes": int(r[state.NET_OUTPUT_BYTES]),
            "instantaneous_input_kbps": round(bytes_in / 1024, 2),
            "instantaneous_output_kbps": round(bytes_out / 1024, 2),
            "rejected_connections": int(r[state.REJECTED_CONNECTIONS]),
            "expired_keys": int(r[state.EXPIRED_KEYS]),
            "expired_time_cap_reached_count": int(r[state.EXPIRE_TIME_CAPS]),
            "expire_cycle_cpu_milliseconds": int(r[state.EXPIRE_CYCLES] / self._cycles_per_us() / 1000),
            "evicted_keys": int(r[state.EVICTED_KEYS]),
            "keyspace_hits": int(r[state.KEYSPACE_HITS]),
            "keyspace_misses": int(r[state.KEYSPACE_MISSES]),
            "client_query_buffer_limit_disconnections": int(r[state.QUERY_LIMIT_CLOSED]),
            "client_output_buffer_limit_disconnections": int(r[state.OUTPUT_LIMIT_CLOSED]),
            "total_error_replies": int(r[state.ERROR_REPLIES]),
            "total_reads_processed": int(r[state.READS_PROCESSED]),
            "total_writes_processed": int(r[state.WRITES_PROCESSED]),
            "eventloop_cycles": int(r[state.LOOP_TURNS]),
            "acl_access_denied_auth": self.acl_log.denied,
        }

    def _rates(self) -> tuple[float, float, float]:
        # Per second, over the ring of samples that the timer keeps: commands, bytes in, bytes out.
        newest = (int(self.registers[state.SAMPLE_NEXT]) - 1) % loop.SAMPLES
        samples = self._samples.tolist()
        taken = [sample for sample in samples if sample[0] > 0]
        if len(taken) < 2:
            return 0.0, 0.0, 0.0
        first, last = min(taken), samples[newest]
        seconds = max(1, last[0] - first[0]) / 1000
        commands, received, sent = ((last[i] - first[i]) / seconds for i in (1, 2, 3))
        return commands, received, sent

    def command_statistics(self) -> dict[str, tuple[int, int, int, int]]:
        """By command called at least once, or rejected: calls, time [us], rejected, failed."""
        per_us = self._cycles_per_us()
        table = self.command_counters
        counters = [table.row(row)[: loop.STAT_CELLS].tolist() for row in range(len(table))]
        return {
            command.name: (calls, int(cycles / per_us), rejected, failed)
            for command, (calls, cycles, rejected, failed) in zip(ROWS, counters, strict=True)
            if calls or rejected
        }

    def _cycles_per_us(self) -> float:
        return float(self.registers[state.CYCLES_PER_MS]) / 1000

    def histograms(self) -> dict[str, Histogram]:
        """How long calls took, by command called at least once."""
        scale = Scale(self._cycles_per_us())
        called = [row for row, calls in enumerate(self.command_counters.column(loop.STAT_CALLS)) if calls]
        found = {ROWS[row].name: Histogram(self.command_counters.row(row)[loop.STAT_CELLS :], scale) for row in called}
        return {name: histogram for name, histogram in found.items() if histogram.calls}

    def error_statistics(self) -> dict[str, int]:
        """Error replies by their first word."""
        return {
            int(first).to_bytes(8, "big").rstrip(b"\0").decode()
            + int(second).to_bytes(8, "big").rstrip(b"\0").decode(): int(count)
            for first, second, count in self._error_counts.tolist()
            if count
        }

    def usage(self) -> Usage:
        """What the store takes."""
        used, index = memory_used(self.store), index_pages(self.store) * PAGE_SIZE
        self._peak = max(self._peak, used)
        return Usage(used - index, index, self._peak)

    def frames(self) -> Frames:
        """Physical memory."""
        registers, total = self.memory.state.frames, self.memory.frames_total
        fresh, empty = int(registers[FRESH]), int(registers[EMPTY_COUNT])
        ahead = max(0, self._populator.watermark - fresh) if self._populator else 0
        return Frames(
            in_force=int(self.registers[state.FRAMES_IN_FORCE]),
            reserved=total,
            in_use=total - self.memory.frames_free,
            resident=fresh - empty + ahead,
            kept=self.memory.frames_kept,
            returned=int(registers[RETURNED]),
        )

    def purge(self) -> None:
        """MEMORY PURGE: give free frames back at once, for PURGE_S; the loop goes on with what is left."""
        self.registers[state.GIVE_ALL] = 1
        until = time.perf_counter() + PURGE_S
        while background_step(self.store, PURGE_PAGES) and time.perf_counter() < until:
            pass

    def db_sizes(self) -> list[tuple[int, int, int]]:
        """For each database: keys, keys with a deadline, their average time to live [ms]."""
        return database_sizes(self.store)

    def describe(self, db: int, key: bytes) -> Described | None:
        """How the value of a key is kept."""
        return describe_key(self.store, db, key)

    def reload(self, save: bool) -> None:
        """DEBUG RELOAD"""
        if self.loading:
            raise CommandError(LOADING_ERROR)
        self.snapshots.reload(save)

    def reset_statistics(self) -> None:
        """CONFIG RESETSTAT"""
        self.command_counters.clear()
        self._error_counts.clear()
        self.acl_log.denied = 0
        for register in _RESETTABLE:
            self.registers[register] = 0


def _name(listener: socket.socket) -> str:
    name = listener.getsockname()
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else str(name)


def _internal_error(command: bytes, error: Exception) -> Error:
    # A bug: the log gets all of it, the client its kind.
    log.exception("%s failed", command[:64])
    return Error(f"ERR internal error: {type(error).__name__}")


def _loop_flags(command: Command) -> int:
    # What the loop must know of a command, from the flags that Redis gives it.
    flags = set(command.flags)
    return (
        loop.WRITE * ("write" in flags)
        | loop.DENY_OOM * ("denyoom" in flags)
        | loop.NO_AUTH_NEEDED * ("no_auth" in flags)
        | loop.NO_MULTI_ALLOWED * ("no_multi" in flags)
        | loop.NOT_QUEUED * command.unqueued
        | loop.MAY_REPLICATE * ("may_replicate" in flags)
        | loop.IS_EXEC * (command.name == "exec")
        | loop.CONTAINER * bool(command.subcommands)
        | loop.TELLS_HEALTH * (command.name == "ping")
        | loop.SKIP_SLOWLOG * ("skip_slowlog" in flags)
        | loop.FAST * ("fast" in flags)
        | loop.HAS_SECRETS * command.has_secrets
    )


_APPLIED = [
    "maxmemory",
    "requirepass",
    "protected-mode",
    "timeout",
    "tcp-keepalive",
    "proto-max-bulk-len",
    "client-query-buffer-limit",
    "client-output-buffer-limit",
    "maxclients",
    "hz",
    "turn-budget-us",
    "active-expire-enabled",
    "slowlog-max-len",
    "slowlog-log-slower-than",
    "latency-tracking",
    "save",
    "stop-writes-on-bgsave-error",
    "loglevel",
]
_RESETTABLE = (
    state.TOTAL_CONNECTIONS,
    state.COMMANDS_PROCESSED,
    state.NET_INPUT_BYTES,
    state.NET_OUTPUT_BYTES,
    state.REJECTED_CONNECTIONS,
    state.EXPIRED_KEYS,
    state.EXPIRED_STALE_PERC,
    state.EXPIRE_TIME_CAPS,
    state.EXPIRE_CYCLES,
    state.EVICTED_KEYS,
    state.KEYSPACE_HITS,
    state.KEYSPACE_MISSES,
    state.QUERY_LIMIT_CLOSED,
    state.OUTPUT_LIMIT_CLOSED,
    state.ERROR_REPLIES,
    state.READS_PROCESSED,
    state.WRITES_PROCESSED,
)


def _int64(value: int) -> int:
    value &= 0xFFFF_FFFF_FFFF_FFFF
    return value - (1 << 64) if value >> 63 else value


def _name_hash(name: str) -> int:
    # As loop.py's name_hash.
    hash_ = loop.FNV_OFFSET
    for byte in name.upper().encode():
        hash_ = _int64((hash_ ^ byte) * loop.FNV_PRIME)
    return hash_


def _subcommand_hash(name: str, container: int) -> int:
    # As loop.py's subcommand_hash, of a name.
    return _int64((_name_hash(name) ^ (container + 1)) * loop.FNV_PRIME)


def _hashed(pairs: Iterable[tuple[int, int]]) -> Table:
    # A table of (hash, row) with room for twice as many, open addressing, -1 for no row.
    rows_by_hash: dict[int, int] = {}
    for hash_, row in pairs:
        assert hash_ not in rows_by_hash, f"two rows hash alike: {rows_by_hash[hash_]} and {row}"
        rows_by_hash[hash_] = row
    slots = 1 << (2 * len(rows_by_hash)).bit_length()
    table = Table(slots, 2)
    for at in range(slots):
        table[at, 0] = table[at, 1] = -1
    for hash_, row in rows_by_hash.items():
        at = hash_ & (slots - 1)
        while table[at, 1] >= 0:
            at = (at + 1) & (slots - 1)
        table[at, 0], table[at, 1] = hash_, row
    return table
