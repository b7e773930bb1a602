"""The server's view of its connections, for commands that Python serves: it lists, changes and ends them."""

import ctypes
from array import array
from collections.abc import Iterable, Sequence

from kvstore.commands.accounts import measure_slowness
from kvstore.commands.compiled import CommandTable
from kvstore.commands.transactions import discard_transaction
from kvstore.config.config import Config
from kvstore.connections.clientlist import (
    ClientTotals,
    TrackedTotals,
    add_connections,
    count_tracked,
    find_address,
    reply_connections,
)
from kvstore.connections.clients import Client
from kvstore.connections.table import find_connection, kill_connection
from kvstore.effects import subscriptions
from kvstore.effects.monitors import monitor_begin, monitor_end
from kvstore.effects.tracking import prefix_add, prefix_next, tracking_off, tracking_on
from kvstore.lifetimes import connection
from kvstore.lifetimes.context import Context, Registers
from kvstore.lifetimes.wiring import Shard
from kvstore.net import timer
from kvstore.net.waiting import unblock_connection
from kvstore.observe.acllog import AclLog, Moment
from kvstore.wire.errors import BRANCH_DROPPED, ERRORS, UNBLOCKED_ERROR
from kvstore.wire.reply import NO_REPLY, CommandError, Sentinel
from mmcore.jit import Table, address_of, int64, uint8, zeros


class Clientele:
    """See the module's note.  A part of the server, whose attributes it names."""

    config: Config
    context: Context
    registers: Registers
    shard: Shard
    commands: CommandTable
    acl_log: AclLog

    @property
    def connections(self) -> Table:
        """The rows of the table of connections that were ever used."""
        return self.shard.connections.first(self.registers.CONNECTION_SLOTS)

    @property
    def in_transaction(self) -> bool:
        """Whether the command at hand is one of a transaction that EXEC is running."""
        return bool(self.registers.DEPTH)

    def _client(self, slot: int) -> Client:
        return Client(self.context, self.shard.connections.row(slot), slot)

    def _slots_with(self, flag: int) -> list[int]:
        return [slot for slot, flags in enumerate(self.connections.column(connection.FLAGS)) if flags & flag]

    def client_totals(self) -> ClientTotals:
        """Of all connections."""
        totals = zeros(int64, len(ClientTotals._fields))
        add_connections(self.context, totals)
        return ClientTotals(*totals.tolist())

    def tracked_totals(self) -> TrackedTotals:
        """Of the tables of tracking."""
        totals = zeros(int64, len(TrackedTotals._fields))
        count_tracked(self.context, totals)
        return TrackedTotals(*totals.tolist())

    def reply_clients(self, slots: Sequence[int]) -> Sentinel:
        """Reply to the command at hand with CLIENT LIST's lines of these connections."""
        reply_connections(self.context, array("q", slots))
        return NO_REPLY

    def log_denied(self, client: Client, command: bytes, user: bytes) -> None:
        """Enter in ACL LOG that a command did not let the connection in as this user."""
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
        """The slots that have a connection from this address, or to it if that is our `own`."""
        text = address.encode(errors="surrogateescape") or b"\0"
        found = zeros(uint8, len(self.connections))
        find_address(self.context, connection.OWN if own else connection.PEER, text, len(text) if address else 0, found)
        return [byte != 0 for byte in found.tolist()]

    def kill(self, slots: Iterable[int]) -> None:
        """Close connections: the one at hand after its reply, any other at the end of the turn."""
        for slot in slots:
            kill_connection(self.context, slot)

    def unblock(self, slot: int, error: bool) -> bool:
        """CLIENT UNBLOCK: end the wait of a connection in a command, as if its time were over; whether it waited.

        A client whose long read another thread serves does not wait in this sense: its command is being executed.
        """
        row = self.shard.connections.row(slot)
        if row[connection.FLAGS] & connection.BLOCKED and row[connection.BLOCKED_ANSWER] == connection.ANSWER_READ:
            return False
        return bool(unblock_connection(self.context, slot, UNBLOCKED_ERROR if error else 0))

    def pause_clients(self, timeout_ms: int, write_only: bool) -> None:
        """CLIENT PAUSE: hold commands back for so long; a running pause only grows and gets stricter."""
        r = self.registers
        until_ms = r.TIMER_MS + timeout_ms
        running = r.PAUSED_UNTIL_MS > r.TIMER_MS
        r.PAUSED_WRITES_ONLY = write_only and not (running and not r.PAUSED_WRITES_ONLY)
        r.PAUSED_UNTIL_MS = max(until_ms, r.PAUSED_UNTIL_MS) if running else until_ms

    def unpause_clients(self) -> None:
        """CLIENT UNPAUSE"""
        timer.resume_postponed(self.context)

    def slot_of(self, identity: int) -> int:
        """The slot of the connection with this id, -1 for none."""
        return int(find_connection(self.context, identity))

    def track(self, client: Client, modes: int, redirect: int, target: int, prefixes: Sequence[bytes]) -> None:
        """CLIENT TRACKING ON; `prefixes` are added to those that the connection has.  Raises CommandError."""
        if client.store_lost:
            raise CommandError(ERRORS[BRANCH_DROPPED])
        self.commands.install_places(self.shard)
        tracking_on(self.context, client.slot, modes, redirect, target)
        for prefix in prefixes:
            text = prefix + b"\0"  # so that an empty one has an address, too
            if not prefix_add(self.context, client.slot, address_of(text), len(prefix)):
                self.track_nothing(client)
                raise MemoryError("for a prefix")

    def track_nothing(self, client: Client) -> None:
        """CLIENT TRACKING OFF"""
        tracking_off(self.context, client.slot)

    def tracked_prefixes(self, client: Client) -> list[bytes]:
        """The prefixes whose keys a connection tracks, sorted."""
        prefixes, found, at = [], zeros(int64, 2), int(client.row[connection.PREFIXES_FIRST]) - 1
        while at >= 0:
            at = prefix_next(self.context, at, found)
            prefixes.append(ctypes.string_at(found[0], found[1]))
        return sorted(prefixes)

    def begin_monitoring(self, client: Client) -> None:
        """MONITOR: show the connection all commands."""
        monitor_begin(self.context, client.slot)
        measure_slowness(self.context)

    def end_monitoring(self, client: Client) -> None:
        """Show it no more commands (RESET)."""
        monitor_end(self.context, client.slot)

    def discard_transaction(self, client: Client) -> None:
        """Forget what a connection has queued and watched (RESET)."""
        discard_transaction(self.context, client.row)

    def end_subscriptions(self, client: Client) -> None:
        """End what a connection listens to (RESET)."""
        subscriptions.end_subscriptions(self.context, client.row)

    def subscribed_topics(self) -> tuple[int, int, int]:
        """How many channels, patterns and shard channels have a subscriber."""
        kinds = (subscriptions.CHANNEL, subscriptions.PATTERN, subscriptions.SHARD_CHANNEL)
        channels, patterns, shard_channels = (subscriptions.subscribed_topics(self.context, kind) for kind in kinds)
        return channels, patterns, shard_channels
