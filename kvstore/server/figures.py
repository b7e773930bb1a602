"""Figures of the store and of the process: counters, memory, digests."""

import time

from kvstore.commands import rows
from kvstore.commands.coldplane import Described, Frames, Usage
from kvstore.commands.compiled import CommandTable
from kvstore.commands.describe import describe_key
from kvstore.commands.populate import populate_database
from kvstore.commands.table import ROWS
from kvstore.durable.loading import LOADING_ERROR, Loading
from kvstore.durable.persistence import Persistence
from kvstore.lifetimes import sizes
from kvstore.lifetimes.context import Context, Registers
from kvstore.lifetimes.wiring import Shard
from kvstore.net.reads import read_begun
from kvstore.net.waiting import begin_wait
from kvstore.observe.acllog import AclLog
from kvstore.observe.histogram import Histogram, Scale
from kvstore.server.reader import Reader
from kvstore.store.aside import read_begin
from kvstore.store.databases import memory_used, overhead_memory
from kvstore.store.digest import store_digest, value_digest
from kvstore.store.flush import background_step
from kvstore.store.sampling import DatabaseSize, database_sizes
from kvstore.wire.errors import ERRORS, READ_ONLY_REPLICA
from kvstore.wire.reply import CommandError
from mmcore.memory import PhysicalMemory
from mmcore.populate import Populator
from mmcore.state import EMPTY_COUNT, FRESH, RETURNED

PURGE_PAGES = 1024  # in a step
DIGESTED_PER_FIELD = 6  # log2 of the bytes that are digested in the time that a field of a hash takes (store/aside.py)

PURGE_S = 0.005

_RESETTABLE = (
    "TOTAL_CONNECTIONS",
    "COMMANDS_PROCESSED",
    "NET_INPUT_BYTES",
    "NET_OUTPUT_BYTES",
    "REJECTED_CONNECTIONS",
    "EXPIRED_KEYS",
    "EXPIRED_SUBKEYS",
    "EXPIRED_STALE_PERC",
    "EXPIRE_TIME_CAPS",
    "EXPIRE_CYCLES",
    "LOOP_BEGAN_NS",
    "LOOP_LONGEST_NS",
    "EVICTED_CLIENTS",
    "EVICTED_KEYS",
    "EVICTION_EXCEEDED_MS",
    "DEFRAG_HITS",
    "DEFRAG_MISSES",
    "DEFRAG_KEY_HITS",
    "DEFRAG_KEY_MISSES",
    "DEFRAG_RAN_MS",
    "KEYSPACE_HITS",
    "KEYSPACE_MISSES",
    "QUERY_LIMIT_CLOSED",
    "OUTPUT_LIMIT_CLOSED",
    "ERROR_REPLIES",
    "READS_PROCESSED",
    "WRITES_PROCESSED",
    "READS_ASIDE",
    "READS_IN_PLACE",
)


class Figures:
    """See the module's note.  A part of the server, whose attributes it names."""

    main: Context
    reader: Reader
    context: Context
    registers: Registers
    shard: Shard
    commands: CommandTable
    memory: PhysicalMemory
    acl_log: AclLog
    snapshots: Persistence
    loading: Loading | None
    _populator: Populator | None
    _peak: int

    def statistics(self) -> dict[str, int | float]:
        """The counters, by the names they have in INFO's section Stats."""
        r = self.registers
        ops, bytes_in, bytes_out = self._rates()
        defragged_ms = r.TIMER_MS - r.DEFRAG_BEGAN_MS if r.DEFRAG_RUNNING else 0
        exceeded_ms = r.TIMER_MS - r.EVICTION_BEGAN_MS if r.EVICTION_BEGAN_MS else 0
        return {
            "total_connections_received": r.TOTAL_CONNECTIONS,
            "total_commands_processed": r.COMMANDS_PROCESSED,
            "instantaneous_ops_per_sec": round(ops),
            "total_net_input_bytes": r.NET_INPUT_BYTES,
            "total_net_output_bytes": r.NET_OUTPUT_BYTES,
            "instantaneous_input_kbps": round(bytes_in / 1024, 2),
            "instantaneous_output_kbps": round(bytes_out / 1024, 2),
            "rejected_connections": r.REJECTED_CONNECTIONS,
            "expired_subkeys": r.EXPIRED_SUBKEYS,
            "expired_keys": r.EXPIRED_KEYS,
            "expired_time_cap_reached_count": r.EXPIRE_TIME_CAPS,
            "expire_cycle_cpu_milliseconds": int(r.EXPIRE_CYCLES / self._cycles_per_us() / 1000),
            "evicted_keys": r.EVICTED_KEYS,
            "evicted_clients": r.EVICTED_CLIENTS,
            "total_eviction_exceeded_time": r.EVICTION_EXCEEDED_MS + exceeded_ms,
            "current_eviction_exceeded_time": exceeded_ms,
            "active_defrag_hits": r.DEFRAG_HITS,
            "active_defrag_misses": r.DEFRAG_MISSES,
            "active_defrag_key_hits": r.DEFRAG_KEY_HITS,
            "active_defrag_key_misses": r.DEFRAG_KEY_MISSES,
            "total_active_defrag_time": r.DEFRAG_RAN_MS + defragged_ms,
            "current_active_defrag_time": defragged_ms,
            "keyspace_hits": r.KEYSPACE_HITS,
            "keyspace_misses": r.KEYSPACE_MISSES,
            "client_query_buffer_limit_disconnections": r.QUERY_LIMIT_CLOSED,
            "client_output_buffer_limit_disconnections": r.OUTPUT_LIMIT_CLOSED,
            "total_error_replies": r.ERROR_REPLIES,
            "total_reads_processed": r.READS_PROCESSED,
            "total_writes_processed": r.WRITES_PROCESSED,
            "eventloop_cycles": r.LOOP_TURNS,
            "acl_access_denied_auth": self.acl_log.denied,
            "reads_aside": r.READS_ASIDE,
            "reads_aside_pending": self.reader.pending,
            "reads_aside_in_place": r.READS_IN_PLACE,
        }

    def _rates(self) -> tuple[float, float, float]:
        # Per second, over the ring of samples that the timer keeps: commands, bytes in, bytes out.
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
        """By command called at least once, or rejected: calls, time [us], rejected, failed."""
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
        """How long calls took, by command called at least once."""
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
        """The memory of the store."""
        used, index = memory_used(self.context), overhead_memory(self.context)
        self._peak = max(self._peak, used)
        clocks = sizes.CLOCK_LINE * self.registers.CLOCK_LINES if self.context is self.main else 0
        return Usage(used - index, index, clocks, self._peak)

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
        """MEMORY PURGE: give free frames back at once, for PURGE_S; the loop goes on with what is left."""
        self.registers.GIVE_ALL = 1
        until = time.perf_counter() + PURGE_S
        store = self.main if self.context.registers.READ_ONLY else self.context  # a snapshot has nothing to free
        while background_step(store, PURGE_PAGES) and time.perf_counter() < until:
            pass

    def db_sizes(self) -> list[DatabaseSize]:
        """The size of each database."""
        return database_sizes(self.context)

    def describe(self, db: int, key: bytes) -> Described | None:
        """How the value of a key is kept."""
        return describe_key(self.context, db, key)

    def digest(self, slot: int) -> str | None:
        """DEBUG DIGEST; None if it goes aside."""
        keys, row = sum(one.keys for one in self.db_sizes()), self.shard.connections.row(slot)
        work = max(keys, memory_used(self.context) >> DIGESTED_PER_FIELD)
        if work <= self.registers.READ_ASIDE_OVER or not read_begin(self.context):
            return store_digest(self.context)
        if begin_wait(self.context, row):
            read_begun(self.context, slot, row)
            self.registers.COMMAND = rows.UNCOUNTED  # it is accounted for when it is answered
        return None

    def value_digest(self, db: int, key: bytes) -> str:
        """DEBUG DIGEST-VALUE"""
        return value_digest(self.context, db, key)

    def populate(self, db: int, count: int, prefix: bytes, size: int) -> None:
        """DEBUG POPULATE"""
        if self.loading:  # what is read would take the place of what is made
            raise CommandError(LOADING_ERROR)
        if self.context.registers.READ_ONLY:
            raise CommandError(ERRORS[READ_ONLY_REPLICA])
        populate_database(self.context, db, count, prefix, size)

    def reset_statistics(self) -> None:
        """CONFIG RESETSTAT"""
        self.commands.counters.clear()
        self.shard.errors.clear()
        self.acl_log.denied = 0
        for register in _RESETTABLE:
            setattr(self.registers, register, 0)
