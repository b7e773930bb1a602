"""The server: the owner of the store, its sockets, its snapshots; where the cold plane meets the hot one.

`Server(config).run()` serves until a signal or SHUTDOWN.  The hot plane is one kernel, loop.py's `serve`.  This class
prepares the registers and tables that the kernel works on, and handles the events for which it returns:

    serve ─► EVENT_COMMAND ─► the Python function that its declaration names ─► reply ─► serve
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

from kvstore.commands import accounts, rows
from kvstore.commands.coldplane import Described, Frames, Usage
from kvstore.commands.compiled import CommandTable
from kvstore.commands.declaration import Command
from kvstore.commands.describe import describe_key
from kvstore.commands.info import resident_bytes
from kvstore.commands.populate import populate_database
from kvstore.commands.refusals import unknown_subcommand, wrong_arity
from kvstore.commands.table import (
    COMMANDS,
    ROWS,
    cold_handler,
    prepare_cold,
    resolve,
    row_number,
    row_number_of,
    secret_arguments,
)
from kvstore.commands.transactions import discard_transaction, queue_command
from kvstore.config.parameters import Config
from kvstore.connections.clientlist import ClientTotals, add_connections, find_address, reply_connections
from kvstore.connections.clients import Client
from kvstore.connections.table import close_connection, kill_connection, unblock_connection
from kvstore.durable import startup
from kvstore.durable.loading import LOADING_ERROR, Loading
from kvstore.durable.persistence import Persistence
from kvstore.lifetimes import connection, sizes
from kvstore.lifetimes.wiring import OpenStore, Pool, Shard
from kvstore.net import accept, events, loop, timer
from kvstore.net.listeners import CannotListen, UnixListener, listen_tcp, warn_of_backlog
from kvstore.observe.acllog import AclLog, Moment
from kvstore.observe.histogram import Histogram, Scale
from kvstore.observe.latency import LatencyMonitor
from kvstore.observe.slowlog import SlowLog
from kvstore.server.loading import loading_table
from kvstore.server.logfile import set_level
from kvstore.store.databases import index_pages, keyspace_init, memory_used
from kvstore.store.digest import store_digest, value_digest
from kvstore.store.flush import background_step
from kvstore.store.sampling import database_sizes
from kvstore.system import capacity
from kvstore.system.clock import counter_is_steady, start_clocks
from kvstore.system.descriptors import allow_clients, clients_max
from kvstore.system.signals import Signals
from kvstore.wire.reply import NO_REPLY, CommandError, Error, Reply, Sentinel, encode
from kvstore.wire.resp import reply_grow
from mmcore.jit import Table, address_of, int64, uint8, zeros
from mmcore.paging import PAGE_SIZE
from mmcore.populate import Populator
from mmcore.space import PhysicalMemory
from mmcore.state import EMPTY_COUNT, FRESH, RETURNED
from snapshot.errors import OutOfFrames

log = logging.getLogger("kvstore")

COLD_ARGUMENTS_MAX = 1024  # of a command that Python serves; more would keep all clients waiting
ATTACK_LOG_S = 60.0  # between warnings of HTTP requests
LISTEN_AFTER_S = 0.05  # clients never see the loading of a store that takes less
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
        self.memory = PhysicalMemory(len(preload.mapping), mapping=preload.mapping)
        in_force = capacity.in_force(config["machine-memory"], len(preload.mapping))
        self.pool, self.shard = Pool(self.memory, in_force), _shard_for(config["maxclients"])
        self.store = OpenStore(self.pool, self.shard)
        self.space, self.context = self.store.space, self.store.context
        self.registers = self.context.registers
        self.commands = CommandTable()
        self.commands.install(self.shard)
        self._unix_path = os.fsencode(config["unixsocket"]) + b"\0"
        r = self.registers
        r.UNIX_PATH_ADDRESS, r.UNIX_PATH_LENGTH = address_of(self._unix_path), len(self._unix_path) - 1
        self._attack_logged_s = -ATTACK_LOG_S
        self._listeners: list[socket.socket] = []
        self._populator: Populator | None = None
        self._peak = 0
        self._prepare_wake()
        self.snapshots = Persistence(self, opened.lock)
        self._watch_descriptor(self.snapshots.fileno(), accept.WAKE)
        start_clocks(self.context)
        r.LAST_SAVE_MS = r.NOW_MS
        if keyspace_init(self.context) != 0:
            raise OutOfFrames("the physical memory is too small for an empty store")
        self.started_ms = r.TIMER_MS
        self._prepare_observation()
        self.loading: Loading | None = Loading(preload, self._wake_up)
        self._loading_table = loading_table(self.commands.rows)
        r.COMMAND_TABLE_ADDRESS = self._loading_table.address
        for name in _APPLIED:
            self.apply(name)
        self.own_resident = resident_bytes()

    def _have_what_was_loaded(self) -> None:
        # A saved store can always start, even if machine-memory is now too small for it.
        r, in_use = self.registers, self.memory.frames_total - self.memory.frames_free
        asked = r.FRAMES_IN_FORCE
        if in_use > asked:
            r.FRAMES_IN_FORCE = in_use
            log.warning("The image takes %d frames: so many are in force now, instead of %d", in_use, asked)
        elif self.config["machine-memory"] // PAGE_SIZE > asked:
            log.warning("machine-memory is %d bytes: no more can be reserved", asked * PAGE_SIZE)

    # ------------------------------------------------------------------------------------------------- preparation

    @property
    def connections(self) -> Table:
        """The rows of the table of connections that have ever been used."""
        return self.shard.connections.first(self.registers.CONNECTION_SLOTS)

    def _prepare_observation(self) -> None:
        r = self.registers
        self.slowlog, self.latency, self.acl_log = SlowLog(), LatencyMonitor(), AclLog()
        r.SLOWLOG_ADDRESS = address_of(self.slowlog.log)
        r.LATENCY_ADDRESS = self.latency.rings.address
        if not counter_is_steady():
            log.warning(
                "The processor's time stamp counter changes its rate: what is told of commands' times is not exact"
            )

    def _prepare_wake(self) -> None:
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._epoll = select.epoll()
        self.registers.EPOLL_FD = self._epoll.fileno()
        self._watch_descriptor(self._wake_read, accept.WAKE)

    def _watch_descriptor(self, fd: int, kind: int) -> None:
        # select.epoll registers a descriptor with itself as data; the loop also needs its kind.
        libc = ctypes.CDLL(None, use_errno=True)
        event = struct.pack("=Iq", select.EPOLLIN, -(1 + 4 * fd + kind))
        if libc.epoll_ctl(self._epoll.fileno(), 1, fd, event):
            raise OSError(ctypes.get_errno(), "epoll_ctl")

    # ---------------------------------------------------------------------------------------------------- settings

    def apply(self, name: str) -> None:
        """Pass a parameter's new value to the hot plane."""
        r, config = self.registers, self.config
        if name == "maxmemory":
            r.MAXMEMORY = config["maxmemory"]
        elif name in ("requirepass", "protected-mode", "bind"):
            if config["requirepass"] and not r.REQUIRE_AUTH:
                # Connections that were opened before there was a password stay authenticated.
                for slot in self._slots_with(connection.IN_USE):
                    self.shard.connections[slot, connection.FLAGS] |= connection.AUTHENTICATED
            r.REQUIRE_AUTH = bool(config["requirepass"])
            r.PROTECTED = bool(config["protected-mode"]) and not config["requirepass"]
        elif name == "timeout":
            r.TIMEOUT_MS = 1000 * config["timeout"]
        elif name == "tcp-keepalive":
            r.KEEPALIVE_S = config["tcp-keepalive"]
        elif name == "proto-max-bulk-len":
            r.PROTO_MAX_BULK_LEN = config["proto-max-bulk-len"]
        elif name == "client-query-buffer-limit":
            r.QUERY_BUFFER_LIMIT = config["client-query-buffer-limit"]
        elif name == "client-output-buffer-limit":
            limit = config["client-output-buffer-limit"]["normal"]
            r.OUTPUT_HARD_LIMIT, r.OUTPUT_SOFT_LIMIT = limit.hard, limit.soft
            r.OUTPUT_SOFT_MS = 1000 * limit.soft_seconds
        elif name == "maxclients":
            self._set_maxclients(config["maxclients"])
        elif name == "busy-poll-usec":
            r.BUSY_POLL_US = config["busy-poll-usec"]
        elif name == "turn-budget-us":
            r.TURN_US = config["turn-budget-us"]
        elif name == "hz":
            r.TICK_MS = max(1, 1000 // config["hz"])
        elif name == "active-expire-enabled":
            r.ACTIVE_EXPIRE_ENABLED = bool(config["active-expire-enabled"])
        elif name == "slowlog-max-len":
            self.slowlog.resize(config["slowlog-max-len"])
        elif name in ("slowlog-log-slower-than", "latency-monitor-threshold"):
            self._set_slowness()
        elif name == "latency-tracking":
            r.LATENCY_TRACKING = bool(config["latency-tracking"])
        elif name == "save":
            points = Table.of(config["save"].points, 2)
            self._save_points = points  # keep the array: the register holds only its address
            r.SAVE_POINTS_ADDRESS = points.address
            r.SAVE_POINTS = 0 if self.loading else len(points)  # no image may be written before the store is loaded
            self.snapshots.refuse_writes()
        elif name == "stop-writes-on-bgsave-error":
            self.snapshots.refuse_writes()
        elif name in ("dir", "dbfilename", "fork-mode"):
            self.snapshots.reconfigure()
        elif name == "loglevel":
            set_level(config["loglevel"])

    def _set_maxclients(self, maxclients: int) -> None:
        most = min(allow_clients(maxclients), len(self.shard.connections))
        if most < maxclients:
            raise ValueError(
                f"The operating system is not able to handle the specified number of clients, try with {most}"
            )
        self.registers.MAXCLIENTS = maxclients

    def _set_slowness(self) -> None:
        # The least duration that interests the slow log or the latency monitor [us].
        r, slow_us, slow_ms = (
            self.registers,
            self.config["slowlog-log-slower-than"],
            self.config["latency-monitor-threshold"],
        )
        r.SLOWLOG_US, r.LATENCY_MS = slow_us, slow_ms
        limits_us = [slow_us] * (slow_us >= 0) + [1000 * slow_ms] * (slow_ms > 0)
        r.SLOW_US = min(limits_us, default=connection.NEVER)
        accounts.measure_slowness(self.context)

    # ---------------------------------------------------------------------------------------------------- sockets

    def listen(self) -> None:
        """Open the listening sockets.  Raises CannotListen."""
        config = self.config
        backlog, port = config["tcp-backlog"], config["port"]
        warn_of_backlog(backlog)
        for address in config["bind"] if port else ():
            listener = listen_tcp(address, port, backlog)
            if listener is not None:
                self._listen_on(listener, accept.LISTEN_TCP)
        if config["unixsocket"]:
            self._listen_on(UnixListener(config["unixsocket"], config["unixsocketperm"], backlog), accept.LISTEN_UNIX)
        if not self._listeners:
            raise CannotListen("Configured to not listen anywhere, exiting.")

    def _listen_on(self, listener: socket.socket, kind: int) -> None:
        self._listeners.append(listener)
        self._watch_descriptor(listener.fileno(), kind)

    # ---------------------------------------------------------------------------------------------------- serving

    def run(self, signals: Signals) -> int:
        """Listen and serve until told to stop; returns the exit status.  Raises the error that prevented loading."""
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
            # Else the first command in Python would wait for its module, and the first COMMAND for the whole table.
            threading.Thread(target=prepare_cold, name="prepare", daemon=True).start()
            self._serve()
        finally:
            signals.wake_nobody()
            self.close()
        return 0

    def _listening(self) -> str:
        return "".join(f" on {_name(one)}" for one in self._listeners)

    def _loaded(self) -> None:
        # The store has been loaded, or there is none to load.
        loading, self.loading = self.loading, None
        assert loading is not None
        self.snapshots.load(loading)
        # Watched keys were looked up before the store was loaded.
        for slot, watched in enumerate(self.connections.column(connection.WATCH_COUNT)):
            if watched:
                self.shard.connections[slot, connection.FLAGS] |= connection.DIRTY_CAS
        self.registers.COMMAND_TABLE_ADDRESS = self.commands.rows.address
        self.apply("save")
        self._have_what_was_loaded()
        self.own_resident = max(0, resident_bytes() - self.frames().resident * PAGE_SIZE)
        self._populator = Populator(self.memory)

    def _serve(self) -> None:
        while True:
            event = loop.serve(self.context)
            if event in (events.EVENT_COMMAND, events.EVENT_QUEUE):
                self._answer(event)
            elif event == events.EVENT_HTTP:
                self._warn_of_http()
            elif event == events.EVENT_WAKE:
                self._wake()
            elif event == events.EVENT_SAVE:
                self.snapshots.start_due()
            else:
                return

    def _answer(self, event: int) -> None:
        r = self.registers
        count = r.ARGC
        # A longer command, or one to be queued, is handled by its first words only.
        whole = event == events.EVENT_COMMAND and count <= COLD_ARGUMENTS_MAX
        args = self._arguments_at_hand(count if whole else min(count, 2))
        client = self._client(r.CONNECTION)
        value: Reply
        try:
            command = COMMANDS[r.EVENT_DETAIL]
            row = resolve(args)
            well_formed = not command.subcommands or (row is not None and row.takes(count))
            if self.loading and well_formed and row is not None and "loading" not in row.flags:
                self._count_refused(client, row)
                raise CommandError(LOADING_ERROR)
            if not well_formed or (event == events.EVENT_COMMAND and not whole):
                raise self._refuse(command, row, client, args)
            if event == events.EVENT_QUEUE:
                assert row is not None
                value = self._queue(client, row)
            else:
                r.COMMAND = client.row[connection.LAST_COMMAND] = row_number(args)  # counted by subcommand
                if self.commands.rows[r.COMMAND, rows.ROW_FLAGS] & rows.HAS_SECRETS:
                    r.REDACTED = secret_arguments(ROWS[r.COMMAND], args)
                value = cold_handler(command)(self, client, args)
        except CommandError as error:
            value = Error(str(error))
        except Exception as error:
            value = _internal_error(args[0], error)
        r.DB, r.PROTOCOL = client.db, client.protocol
        if value is not NO_REPLY:
            try:
                data = encode(value, client.protocol)
            except Exception as error:
                data = encode(_internal_error(args[0], error))
            self._append(data)
        r.RESUME = r.CONNECTION

    def _queue(self, client: Client, row: Command) -> Sentinel:
        # Queue a well-formed subcommand; the loop knows only its container.
        r = self.registers
        flags = int(self.commands.rows[r.EVENT_DETAIL, rows.ROW_FLAGS])
        queue_command(self.context, client.row, flags | rows.ASKS_REFCOUNT * (row.name == "object|refcount"))
        r.COMMAND = rows.UNCOUNTED
        return NO_REPLY

    def _refuse(self, command: Command, row: Command | None, client: Client, args: list[bytes]) -> CommandError:
        # The refusal of an unknown subcommand; or, for the command in `row`, of too many or too few arguments.
        self._count_refused(client, row)
        return wrong_arity(row) if row else unknown_subcommand(command.name, args[1])

    def _count_refused(self, client: Client, row: Command | None) -> None:
        self.registers.COMMAND = rows.REFUSED
        if row is not None:
            self.commands.counters[row_number_of(row), rows.STAT_REJECTED] += 1
        if client.in_multi and not self.in_transaction:
            client.dirty_exec = True

    def _arguments_at_hand(self, count: int) -> list[bytes]:
        # The first `count` arguments.
        base = self.registers.QUERY_ADDRESS
        first = 2 * self.registers.ARGS
        places = self.shard.args[first : first + 2 * count].tolist()
        return [ctypes.string_at(base + places[i], places[i + 1]) for i in range(0, 2 * count, 2)]

    def _warn_of_http(self) -> None:
        # The text and the interval of the warning are Redis's.
        now_s = time.monotonic()
        if now_s - self._attack_logged_s >= ATTACK_LOG_S:
            self._attack_logged_s = now_s
            log.warning(
                "Possible SECURITY ATTACK detected. It looks like somebody is sending POST or Host: commands to Redis. "
                "This is likely due to an attacker attempting to use Cross Protocol Scripting to compromise your Redis "
                "instance. Connection aborted."
            )
        self.registers.RESUME = self.registers.CONNECTION

    def _append(self, data: bytes) -> None:
        r = self.registers
        if r.REPLY_LENGTH + len(data) > r.REPLY_CAPACITY:
            reply_grow(self.context, len(data))
        ctypes.memmove(int(r.REPLY_ADDRESS + r.REPLY_LENGTH), data, len(data))
        r.REPLY_LENGTH += len(data)

    @property
    def in_transaction(self) -> bool:
        """Whether the command at hand belongs to a transaction that EXEC is running."""
        return bool(self.registers.DEPTH)

    def _wake_up(self) -> None:
        # Make `serve` return; may be called from any thread.
        with contextlib.suppress(OSError):  # a full pipe wakes it too; a closed one need not wake it
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

        While the store is being loaded there is nothing to save, so `save` has no effect.  If the snapshot failed, and
        not `force`, raises CommandError and the server goes on.
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
        self.registers.STOPPING = 1

    def close(self) -> None:
        """Give back sockets, threads and memory."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        for slot in self._slots_with(connection.IN_USE):
            close_connection(self.context, slot)
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
        return Client(self.context, self.shard.connections.row(slot), slot)

    def _slots_with(self, flag: int) -> list[int]:
        return [slot for slot, flags in enumerate(self.connections.column(connection.FLAGS)) if flags & flag]

    def client_totals(self) -> ClientTotals:
        """Sums over all connections."""
        totals = zeros(int64, len(ClientTotals._fields))
        add_connections(self.context, totals)
        return ClientTotals(*totals.tolist())

    def reply_clients(self, slots: Sequence[int]) -> Sentinel:
        """Reply to the command at hand with CLIENT LIST's lines of these connections."""
        reply_connections(self.context, array("q", slots))
        return NO_REPLY

    def log_denied(self, client: Client, command: bytes, user: bytes) -> None:
        """Record in ACL LOG that a command refused to authenticate the connection as this user."""
        r = self.registers
        start, protocol = r.REPLY_LENGTH, r.PROTOCOL
        r.PROTOCOL = 2
        reply_connections(self.context, array("q", [client.slot]))
        reply = ctypes.string_at(r.REPLY_ADDRESS + start, r.REPLY_LENGTH - start)
        r.REPLY_LENGTH, r.PROTOCOL = start, protocol
        line = reply.split(b"\r\n", 1)[1].rstrip(b"\r\n")
        inside = "multi" if self.in_transaction else "toplevel"
        now = Moment(r.NOW_MS, r.TIMER_MS)
        self.acl_log.enter(inside, command, user, line, now, self.config["acllog-max-len"])

    def from_address(self, address: str, own: bool) -> list[bool]:
        """For each slot, whether its connection comes from this address, or goes to it if `own`."""
        text = address.encode(errors="surrogateescape") or b"\0"
        found = zeros(uint8, len(self.connections))
        find_address(self.context, connection.OWN if own else connection.PEER, text, len(text) if address else 0, found)
        return [byte != 0 for byte in found.tolist()]

    def kill(self, slots: Iterable[int]) -> None:
        """Close connections: the one at hand after its reply, any other at the end of the turn."""
        for slot in slots:
            kill_connection(self.context, slot)

    def unblock(self, slot: int, error: bool) -> bool:
        """CLIENT UNBLOCK: end the wait of a blocked connection, as if by time-out; returns whether it was blocked."""
        return bool(unblock_connection(self.context, slot, error))

    def pause_clients(self, timeout_ms: int, write_only: bool) -> None:
        """CLIENT PAUSE: hold commands back for so long; a running pause only becomes longer or stricter."""
        r = self.registers
        until_ms = r.TIMER_MS + timeout_ms
        running = r.PAUSED_UNTIL_MS > r.TIMER_MS
        r.PAUSED_WRITES_ONLY = write_only and not (running and not r.PAUSED_WRITES_ONLY)
        r.PAUSED_UNTIL_MS = max(until_ms, r.PAUSED_UNTIL_MS) if running else until_ms

    def shift_clock(self, wall_ms: int, timer_ms: int) -> None:
        """DEBUG SHIFT-CLOCK: move the clocks by so much; the monotonic one only forwards."""
        assert timer_ms >= 0
        self.registers.WALL_SHIFT_US += 1000 * wall_ms
        self.registers.TIMER_SHIFT_US += 1000 * timer_ms

    def unpause_clients(self) -> None:
        """CLIENT UNPAUSE"""
        timer.resume_postponed(self.context)

    def discard_transaction(self, client: Client) -> None:
        """Discard a connection's queue and watches (RESET)."""
        discard_transaction(self.context, client.row)

    # ---------------------------------------------------------------------------------------------------- statistics

    def statistics(self) -> dict[str, int | float]:
        """The counters, by the names they have in INFO's section Stats."""
        r = self.registers
        ops, bytes_in, bytes_out = self._rates()
        return {
            "total_connections_received": r.TOTAL_CONNECTIONS,
            "total_commands_processed": r.COMMANDS_PROCESSED,
            "instantaneous_ops_per_sec": round(ops),
            "total_net_input_bytes": r.NET_INPUT_BYTES,
            "total_net_output_bytes": r.NET_OUTPUT_BYTES,
            "instantaneous_input_kbps": round(bytes_in / 1024, 2),
            "instantaneous_output_kbps": round(bytes_out / 1024, 2),
            "rejected_connections": r.REJECTED_CONNECTIONS,
            "expired_keys": r.EXPIRED_KEYS,
            "expired_time_cap_reached_count": r.EXPIRE_TIME_CAPS,
            "expire_cycle_cpu_milliseconds": int(r.EXPIRE_CYCLES / self._cycles_per_us() / 1000),
            "evicted_keys": r.EVICTED_KEYS,
            "keyspace_hits": r.KEYSPACE_HITS,
            "keyspace_misses": r.KEYSPACE_MISSES,
            "client_query_buffer_limit_disconnections": r.QUERY_LIMIT_CLOSED,
            "client_output_buffer_limit_disconnections": r.OUTPUT_LIMIT_CLOSED,
            "total_error_replies": r.ERROR_REPLIES,
            "total_reads_processed": r.READS_PROCESSED,
            "total_writes_processed": r.WRITES_PROCESSED,
            "eventloop_cycles": r.LOOP_TURNS,
            "acl_access_denied_auth": self.acl_log.denied,
        }

    def _rates(self) -> tuple[float, float, float]:
        # Rates over the timer's ring of samples: commands, bytes in, bytes out [1/s].
        newest = (self.registers.SAMPLE_NEXT - 1) % sizes.SAMPLES
        samples = self.shard.samples.tolist()
        taken = [sample for sample in samples if sample[0] > 0]
        if len(taken) < 2:
            return 0.0, 0.0, 0.0
        first, last = min(taken), samples[newest]
        seconds = max(1, last[0] - first[0]) / 1000
        commands, received, sent = ((last[i] - first[i]) / seconds for i in (1, 2, 3))
        return commands, received, sent

    def command_statistics(self) -> dict[str, tuple[int, int, int, int]]:
        """Calls, time [us], rejected and failed calls of every command that was called or rejected."""
        per_us = self._cycles_per_us()
        table = self.commands.counters
        counters = [table.row(row)[: rows.STAT_CELLS].tolist() for row in range(len(table))]
        return {
            command.name: (calls, int(cycles / per_us), rejected, failed)
            for command, (calls, cycles, rejected, failed) in zip(ROWS, counters, strict=True)
            if calls or rejected
        }

    def _cycles_per_us(self) -> float:
        return float(self.registers.CYCLES_PER_MS) / 1000

    def histograms(self) -> dict[str, Histogram]:
        """Durations of calls, for every command that was called."""
        scale = Scale(self._cycles_per_us())
        called = [row for row, calls in enumerate(self.commands.counters.column(rows.STAT_CALLS)) if calls]
        found = {ROWS[row].name: Histogram(self.commands.counters.row(row)[rows.STAT_CELLS :], scale) for row in called}
        return {name: histogram for name, histogram in found.items() if histogram.calls}

    def error_statistics(self) -> dict[str, int]:
        """Error replies by their first word."""
        return {
            int(first).to_bytes(8, "big").rstrip(b"\0").decode()
            + int(second).to_bytes(8, "big").rstrip(b"\0").decode(): int(count)
            for first, second, count in self.shard.errors.tolist()
            if count
        }

    def usage(self) -> Usage:
        """Memory that the store uses."""
        used, index = memory_used(self.context), index_pages(self.context) * PAGE_SIZE
        self._peak = max(self._peak, used)
        return Usage(used - index, index, self._peak)

    def frames(self) -> Frames:
        """Physical memory."""
        registers, total = self.memory.state.frames, self.memory.frames_total
        fresh, empty = int(registers[FRESH]), int(registers[EMPTY_COUNT])
        ahead = max(0, self._populator.watermark - fresh) if self._populator else 0
        return Frames(
            in_force=self.registers.FRAMES_IN_FORCE,
            reserved=total,
            in_use=total - self.memory.frames_free,
            resident=fresh - empty + ahead,
            kept=self.memory.frames_kept,
            returned=int(registers[RETURNED]),
        )

    def purge(self) -> None:
        """MEMORY PURGE: give free frames back for at most PURGE_S; the loop goes on with the rest."""
        self.registers.GIVE_ALL = 1
        until = time.perf_counter() + PURGE_S
        while background_step(self.context, PURGE_PAGES) and time.perf_counter() < until:
            pass

    def db_sizes(self) -> list[tuple[int, int, int]]:
        """For each database: keys, keys with a deadline, their average time to live [ms]."""
        return database_sizes(self.context)

    def describe(self, db: int, key: bytes) -> Described | None:
        """The stored form of a key's value."""
        return describe_key(self.context, db, key)

    def digest(self) -> str:
        """DEBUG DIGEST"""
        return store_digest(self.context)

    def value_digest(self, db: int, key: bytes) -> str:
        """DEBUG DIGEST-VALUE"""
        return value_digest(self.context, db, key)

    def populate(self, db: int, count: int, prefix: bytes, size: int) -> None:
        """DEBUG POPULATE"""
        if self.loading:  # the loaded store would replace the new keys
            raise CommandError(LOADING_ERROR)
        populate_database(self.context, db, count, prefix, size)

    def reload(self, save: bool) -> None:
        """DEBUG RELOAD"""
        if self.loading:
            raise CommandError(LOADING_ERROR)
        self.snapshots.reload(save)

    def reset_statistics(self) -> None:
        """CONFIG RESETSTAT"""
        self.commands.counters.clear()
        self.shard.errors.clear()
        self.acl_log.denied = 0
        for register in _RESETTABLE:
            setattr(self.registers, register, 0)


def _shard_for(maxclients: int) -> Shard:
    # Address space for as many connections as the limit of open files may ever allow; memory only for rows in use.
    try:
        return Shard(max(maxclients, clients_max()))
    except OSError:
        return Shard(maxclients)


def _name(listener: socket.socket) -> str:
    name = listener.getsockname()
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else str(name)


def _internal_error(command: bytes, error: Exception) -> Error:
    # A bug: the log gets all of it, the client its kind.
    log.exception("%s failed", command[:64])
    return Error(f"ERR internal error: {type(error).__name__}")


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
    "busy-poll-usec",
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
    "TOTAL_CONNECTIONS",
    "COMMANDS_PROCESSED",
    "NET_INPUT_BYTES",
    "NET_OUTPUT_BYTES",
    "REJECTED_CONNECTIONS",
    "EXPIRED_KEYS",
    "EXPIRED_STALE_PERC",
    "EXPIRE_TIME_CAPS",
    "EXPIRE_CYCLES",
    "EVICTED_KEYS",
    "KEYSPACE_HITS",
    "KEYSPACE_MISSES",
    "QUERY_LIMIT_CLOSED",
    "OUTPUT_LIMIT_CLOSED",
    "ERROR_REPLIES",
    "READS_PROCESSED",
    "WRITES_PROCESSED",
)
