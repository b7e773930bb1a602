"""The server: the owner of the store, its sockets, its snapshots; where the cold plane meets the hot one.

`Server(config).run()` serves until a signal or SHUTDOWN.  The hot plane is one kernel, net/loop.py's `serve`.  This
class wires the lifetimes it works on, and acts on what it returns:

    serve ─► EVENT_COMMAND ─► the Python function that its declaration names ─► reply ─► serve
          ─► EVENT_SAVE    ─► a snapshot that could not be begun
          ─► EVENT_WAKE    ─► a signal, or the writer's outcome

Its bases answer the questions of cold commands: settings.py, clientele.py, figures.py,
stores.py.

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

from kvstore.branches.known import context_over
from kvstore.commands import rows
from kvstore.commands.compiled import CommandTable
from kvstore.commands.declaration import Command
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
from kvstore.commands.transactions import queue_command
from kvstore.commands.usage import resident_bytes
from kvstore.config.config import Config
from kvstore.connections.clients import Client
from kvstore.durable import startup
from kvstore.durable.exports import Exports
from kvstore.durable.loading import LOADING_ERROR, Loading
from kvstore.durable.persistence import Persistence
from kvstore.lifetimes import connection
from kvstore.lifetimes.wiring import OpenStore, Pool, Shard
from kvstore.net import accept, events, loop
from kvstore.net.closing import close_slot
from kvstore.net.listeners import CannotListen, UnixListener, listen_tcp, warn_of_backlog
from kvstore.observe.acllog import AclLog
from kvstore.observe.latency import LatencyMonitor
from kvstore.observe.slowlog import SlowLog
from kvstore.server.figures import Figures
from kvstore.server.loading import loading_table
from kvstore.server.reader import Reader
from kvstore.server.settings import APPLIED, Settings
from kvstore.store.databases import keyspace_init
from kvstore.system import capacity
from kvstore.system.clock import counter_is_steady, start_clocks
from kvstore.system.descriptors import clients_max
from kvstore.system.signals import Signals
from kvstore.wire.reply import NO_REPLY, CommandError, Error, Reply, Sentinel, encode
from kvstore.wire.resp import reply_grow
from mmcore.jit import address_of
from mmcore.memory import PhysicalMemory
from mmcore.paging import PAGE_SIZE
from mmcore.populate import Populator
from snapshot.errors import OutOfFrames

log = logging.getLogger("kvstore")

RELOAD_MAIN = "ERR DEBUG RELOAD is of the main store: BRANCH USE main first"
COLD_ARGUMENTS_MAX = 1024  # of a command that Python serves; more would keep all clients waiting
ATTACK_LOG_S = 60.0  # between warnings of HTTP requests
LISTEN_AFTER_S = 0.05  # a store that is loaded so soon is never seen loading


class Server(Settings, Figures):
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
        self.space, self.main = self.store.space, self.store.context
        self.context = self.main  # of the store that the command at hand concerns
        self.registers = self.main.registers
        self.commands = CommandTable()
        self.commands.install(self.shard)
        self._unix_path = os.fsencode(config["unixsocket"]) + b"\0"
        r = self.registers
        r.CONNECTION = -1  # none is at hand
        r.UNIX_PATH_ADDRESS, r.UNIX_PATH_LENGTH = address_of(self._unix_path), len(self._unix_path) - 1
        self._attack_logged_s = -ATTACK_LOG_S
        self._listeners: list[socket.socket] = []
        self._populator: Populator | None = None
        self._peak = 0
        self._prepare_descriptors()
        self.snapshots = Persistence(self, opened.lock)
        self._watch_descriptor(self.snapshots.fileno(), accept.WAKE)
        self.exports = Exports(self.main, lambda fd: self._watch_descriptor(fd, accept.WAKE))
        start_clocks(self.main)
        r.LAST_SAVE_MS = r.NOW_MS
        self._begin_names()
        if keyspace_init(self.main) != 0:
            raise OutOfFrames("the physical memory is too small for an empty store")
        self.started_ms = r.TIMER_MS
        self._prepare_observation()
        self.loading: Loading | None = Loading(preload, self._wake_up)
        self._loading_table = loading_table(self.commands.rows)
        r.COMMAND_TABLE_ADDRESS = self._loading_table.address
        for name in APPLIED:
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

    def _prepare_observation(self) -> None:
        r = self.registers
        self.slowlog, self.latency, self.acl_log = SlowLog(), LatencyMonitor(), AclLog()
        r.SLOWLOG_ADDRESS = address_of(self.slowlog.log)
        r.LATENCY_ADDRESS = self.latency.rings.address
        if not counter_is_steady():
            log.warning(
                "The processor's time stamp counter changes its rate: what is told of commands' times is not exact"
            )

    def _prepare_descriptors(self) -> None:
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._epoll = select.epoll()
        self.registers.EPOLL_FD = self._epoll.fileno()
        self._watch_descriptor(self._wake_read, accept.WAKE)
        self.reader = Reader(self.memory, self.commands, self.shard, self._wake_up)
        self._watch_descriptor(self.reader.fileno(), accept.READS)

    def _watch_descriptor(self, fd: int, kind: int) -> None:
        # select.epoll registers a descriptor with itself as data; the loop also needs its kind.
        libc = ctypes.CDLL(None, use_errno=True)
        event = struct.pack("=Iq", select.EPOLLIN, -(1 + 4 * fd + kind))
        if libc.epoll_ctl(self._epoll.fileno(), 1, fd, event):
            raise OSError(ctypes.get_errno(), "epoll_ctl")

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
        self.reader.start()
        self._populator = Populator(self.memory)
        self.registers.POPULATOR_ADDRESS = self._populator.control

    def _serve(self) -> None:
        while True:
            event = loop.serve(self.main)
            self.context = context_over(self.main, self.registers.CONTEXT_AT_HAND)
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

    def _wake_up(self) -> None:
        # Make `serve` return; may be called from any thread.
        with contextlib.suppress(OSError):  # a full pipe wakes it too; a closed one need not wake it
            os.write(self._wake_write, b"\0")

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        if self.reader.failure:
            raise self.reader.failure
        self.snapshots.poll()
        self.exports.poll()
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
            close_slot(self.main, slot)
        self.reader.close()
        if self.loading:
            self.loading.stop()
            self.loading = None
        self.exports.close()
        self.snapshots.close()
        if self._populator:
            self.registers.POPULATOR_ADDRESS = 0
            self._populator.close()
        self.slowlog.close()
        self._epoll.close()
        os.close(self._wake_read)
        os.close(self._wake_write)
        log.info("Bye bye")

    def shift_clock(self, wall_ms: int, timer_ms: int) -> None:
        """DEBUG SHIFT-CLOCK: move the clocks by so much; the monotonic one only forwards."""
        assert timer_ms >= 0
        self.registers.WALL_SHIFT_US += 1000 * wall_ms
        self.registers.TIMER_SHIFT_US += 1000 * timer_ms

    def reload(self, save: bool) -> None:
        """DEBUG RELOAD"""
        if self.loading:
            raise CommandError(LOADING_ERROR)
        if self.context is not self.main:
            raise CommandError(RELOAD_MAIN)
        self.snapshots.reload(save)


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
