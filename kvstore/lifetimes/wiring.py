"""One constructor for each lifetime: it makes the memory that the kernels' registers point at, and keeps it alive.

    pool = Pool(PhysicalMemory(1 << 30))
    shard = Shard(connections=100)
    store = OpenStore(pool, shard)          store.context is what kernels take

The server makes one of each, and so do the tests.  The first store of a shard is its main one.  Python can open further
stores over the same pool and shard, such as frozen ones.  Branches are made in kernels (kvstore/branches/).
"""

import os
import weakref
from collections.abc import Sequence

from kvstore.lifetimes import call, pool, shard, store
from kvstore.lifetimes.connection import FIELDS, NEVER
from kvstore.lifetimes.context import Context
from kvstore.lifetimes.sizes import (
    ARGUMENTS_AROUND,
    ARGUMENTS_MAX,
    BROADCAST_WORDS,
    CALLS_MAX,
    CLOCK_LINE,
    CLOCK_LINES_MIN,
    COPYING_WORDS,
    DEADLINE_WORDS,
    ERROR_WIDTH,
    ERROR_WORDS,
    EVENTS_CAPACITY,
    EVICTION_POOL_WORDS,
    INPUT_MAX,
    INTERESTS_WORDS,
    INVALIDATION_WORDS,
    LINE_ROOM,
    NAMES_WORDS,
    PLACES_MAX,
    PLACES_WORDS,
    RELEASES_MAX,
    RESULT_MAX,
    SAMPLES,
    SCRATCH_WORDS,
    SEND_WORDS,
    SENDS_MAX,
    TEXT_MAX,
)
from mmcore.jit import Array, Table, address_of, int64, uint8, zeros
from mmcore.memory import PhysicalMemory
from mmcore.paging import PAGE_SIZE
from mmcore.processor import Processor
from mmcore.release import CURSOR_SIZE
from mmcore.space import AddressSpace, frozen_reader
from mmcore.state import FROZEN, Space

TICK_MS = 100
SPACES_MAX = 1 << 16  # that a shard works on
CLOCKS_SHARE = 16  # clocks of use take one part in so many of the memory at most
CHANGES_MAX = 1 << 18  # changed keys that a line of contents records: 6 MiB
CHANGES_BYTES_MAX = 64 << 20  # that all lines take for that

# Limits, until the configuration says otherwise.
LIMITS = {
    shard.PROTO_MAX_BULK_LEN: 512 << 20,
    shard.DEFRAG_IGNORE_BYTES: 100 << 20,
    shard.DEFRAG_THRESHOLD_LOWER: 10,
    shard.DEFRAG_THRESHOLD_UPPER: 100,
    shard.DEFRAG_CYCLE_MIN: 1,
    shard.DEFRAG_CYCLE_MAX: 25,
    shard.DEFRAG_MAX_SCAN_FIELDS: 1000,
    shard.HASH_MAX_LISTPACK_ENTRIES: 512,
    shard.HASH_MAX_LISTPACK_VALUE: 64,
    shard.SET_MAX_INTSET_ENTRIES: 512,
    shard.SET_MAX_LISTPACK_ENTRIES: 128,
    shard.SET_MAX_LISTPACK_VALUE: 64,
    shard.ZSET_MAX_LISTPACK_ENTRIES: 128,
    shard.ZSET_MAX_LISTPACK_VALUE: 64,
    shard.HLL_SPARSE_MAX_BYTES: 3000,
    shard.LIST_MAX_LISTPACK_SIZE: -2,
    shard.MAXMEMORY_SAMPLES: 5,
    shard.EVICTION_TENACITY: 10,
    shard.LFU_LOG_FACTOR: 10,
    shard.LFU_DECAY_TIME: 1,
    shard.STREAM_NODE_MAX_BYTES: 4096,
    shard.STREAM_NODE_MAX_ENTRIES: 100,
}


# Memory of fixed size that a store's registers point at, in words; it lies behind them.
AREAS = (
    *((register, INTERESTS_WORDS) for register in store.INTEREST_TABLES),
    (store.COPY_STATE, COPYING_WORDS),
    (store.INVALIDATION_ADDRESS, INVALIDATION_WORDS),
    (store.BROADCAST_ADDRESS, BROADCAST_WORDS),
)


class Pool:
    """Physical memory, and the roots on it that wait to be released."""

    def __init__(self, memory: PhysicalMemory, in_force: int | None = None) -> None:
        """in_force: the part that stores may use for data [bytes], by default all."""
        self.memory = memory
        self.registers = zeros(int64, pool.POOL_REGISTERS)
        self._releases = Table(RELEASES_MAX, CURSOR_SIZE)
        self.registers[pool.RELEASE_ADDRESS] = self._releases.address
        self.registers[pool.FRAMES_ADDRESS] = address_of(memory.state.bytes)
        self._names = zeros(int64, NAMES_WORDS)
        self.registers[pool.NAMES_ADDRESS], self.registers[pool.NAMED_END_MS] = address_of(self._names), NEVER
        self.registers[pool.CHANGES_MAX], self.registers[pool.CHANGES_BYTES_MAX] = CHANGES_MAX, CHANGES_BYTES_MAX
        self.registers[pool.FRAMES_IN_FORCE] = (memory.size if in_force is None else in_force) // PAGE_SIZE

    @property
    def waiting(self) -> list[int]:
        """Roots that are still to be released."""
        first, count = self.registers[pool.RELEASE_FIRST], self.registers[pool.RELEASE_COUNT]
        return [self._releases[(first + i) % RELEASES_MAX, 0] for i in range(count)]


class Shard:
    """A loop's registers, its kernels' buffers, and its table of connections."""

    def __init__(self, connections: int = 1, arguments: int = ARGUMENTS_MAX) -> None:
        """connections, arguments: the largest numbers of them; memory is touched only as far as it is used.

        Raises OSError when so much cannot be reserved.
        """
        self.registers = words = zeros(int64, shard.SHARD_REGISTERS)
        self.call = zeros(int64, call.CALL_REGISTERS)
        self.processor = Processor(spaces=SPACES_MAX)
        self._readers: weakref.WeakKeyDictionary[PhysicalMemory, Space] = weakref.WeakKeyDictionary()
        self.args = zeros(int64, 2 * (arguments + ARGUMENTS_AROUND))
        self.connections = Table(connections, FIELDS)
        self._calls = Table(CALLS_MAX, call.CALL_REGISTERS)
        self._sends = Table(SENDS_MAX, SEND_WORDS)
        words[shard.CALLS_ADDRESS], words[shard.SENDS_ADDRESS] = self._calls.address, self._sends.address
        self._deadlines = Table(connections, DEADLINE_WORDS)
        words[shard.DEADLINES_ADDRESS] = self._deadlines.address
        self._clocks = Table(0, CLOCK_LINE // 8)  # see reserve_clocks
        self.errors, self.samples = Table(ERROR_WORDS, ERROR_WIDTH), Table(SAMPLES, 4)
        self._rooms = {
            shard.SHARED_ADDRESS: zeros(uint8, INPUT_MAX),
            shard.EVENTS_ADDRESS: zeros(uint8, 12 * EVENTS_CAPACITY),
            shard.INLINE_ADDRESS: zeros(uint8, LINE_ROOM),
            shard.SCRATCH_ADDRESS: zeros(int64, SCRATCH_WORDS),
            shard.DECIMAL_ADDRESS: zeros(uint8, 2 * TEXT_MAX + RESULT_MAX),
            shard.EVICTION_POOL_ADDRESS: zeros(int64, EVICTION_POOL_WORDS),
            shard.PLACES_ADDRESS: zeros(int64, PLACES_MAX * PLACES_WORDS),
        }
        for register, room in self._rooms.items():
            words[register] = address_of(room)
        words[shard.SHARED_CAPACITY], words[shard.EVENTS_CAPACITY] = INPUT_MAX, EVENTS_CAPACITY
        words[shard.ERROR_TABLE_ADDRESS], words[shard.SAMPLES_ADDRESS] = self.errors.address, self.samples.address
        words[shard.CONNECTIONS_ADDRESS], words[shard.CONNECTION_CAPACITY] = self.connections.address, connections
        words[shard.FREE_SLOT] = words[shard.RESUME] = -1
        words[shard.RANDOM] = int.from_bytes(os.urandom(8), "little") >> 2 | 1
        words[shard.ACTIVE_EXPIRE_ENABLED] = words[shard.NEXT_ID] = 1
        words[shard.TICK_MS], words[shard.BLOCKED_DEADLINE_MS] = TICK_MS, NEVER
        for register, limit in LIMITS.items():
            words[register] = limit
        words[shard.SLOW_US] = words[shard.SLOW_CYCLES] = NEVER  # until slow commands are to be recorded
        words[shard.READ_ASIDE_OVER] = NEVER
        self.call[call.PROTOCOL] = 2

    def reserve_clocks(self, size: int) -> None:
        """Memory for the clocks of use, for a machine of so many bytes; it is touched only as far as it is used."""
        lines, words = max(CLOCK_LINES_MIN, size // CLOCKS_SHARE // CLOCK_LINE), self.registers
        self._clocks = Table(lines, CLOCK_LINE // 8)
        words[shard.CLOCKS_ADDRESS], words[shard.CLOCK_LINES_MAX] = self._clocks.address, lines
        words[shard.CLOCK_LINES] = CLOCK_LINES_MIN

    def reader(self, memory: PhysicalMemory) -> Space:
        """The space by which kernels read frozen roots of this memory; no two of them at the same time."""
        if memory not in self._readers:
            self._readers[memory] = frozen_reader(memory, self.processor)
        return self._readers[memory]


class OpenStore:
    """An address space that holds a store, and the context in which a shard's kernels work on it."""

    def __init__(
        self, memory: Pool, loop: Shard, space: AddressSpace | None = None, *, registers: Array | None = None
    ) -> None:
        """space: one that holds a store; by default a new one.  Over a frozen space the store is read-only.

        registers: those of an existing store that is wired again.  Raises OutOfFrames.
        """
        self.space = space if space is not None else AddressSpace(memory.memory, processor=loop.processor)
        if registers is None:
            registers = zeros(int64, store.STORE_REGISTERS + sum(words for _, words in AREAS))
            registers[store.LAST_SAVE_OK] = 1
            registers[store.UNDO_ROOT] = registers[store.COPY_ROOT] = -1
            registers[store.COPY_NUMBER] = int.from_bytes(os.urandom(5), "little")
            place = address_of(registers) + 8 * store.STORE_REGISTERS
            for register, words in AREAS:
                registers[register] = place
                place += 8 * words
        self.registers = registers
        self.context = Context(self.space.state, memory.registers, self.registers, loop.registers, loop.call, loop.args)
        self.registers[store.READ_ONLY] = self.space.state.cpu[FROZEN]
        self.registers[store.COPY_READER_ADDRESS] = loop.reader(memory.memory).address
        self.registers[store.CONTEXT_ADDRESS] = self.context.address
        if loop.registers[shard.MAIN_CONTEXT] == 0:
            loop.registers[shard.MAIN_CONTEXT] = loop.registers[shard.CONTEXT_AT_HAND] = self.context.address
            loop.reserve_clocks(memory.memory.size)
        self._owners: Sequence[object] = (memory, loop)  # the registers point at their buffers
