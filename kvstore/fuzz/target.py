"""A store to be attacked: loaded in this process, with the loop's table of commands, without a loop or a socket.

    with Target(keys=1000) as target:
        target.run([b"*2\\r\\n$3\\r\\nGET\\r\\n$5\\r\\nkey:1\\r\\n"])      each input in a fork of its own
        target.examine(data)                                       one input, after which the fork is proved sound

It holds `keys` strings, key:0 and so on, and some collections of every form.  The clock stands still, so an input has
the same effect whenever it is played.
"""

import ctypes
import mmap
from collections.abc import Sequence
from types import TracebackType

from kvstore.commands import rows
from kvstore.commands.compiled import CommandTable
from kvstore.commands.populate import populate_database
from kvstore.commands.table import ROWS, row_number_of
from kvstore.fuzz.playing import begin, executions, pass_over, play, restore
from kvstore.lifetimes.wiring import OpenStore, Pool, Shard
from kvstore.store.databases import keyspace_init
from kvstore.store.flush import background_step
from kvstore.wire.resp import reply_grow
from kvstore.wire.respclient import encode_command
from mmcore.errors import OutOfFrames
from mmcore.fork import CONSTANT
from mmcore.jit import Array, address_of, int64, over, uint8, zeros
from mmcore.memory import PhysicalMemory

START_MS = 1_700_000_000_000  # what the clock shows
ROOM = 32 << 20  # [bytes] beside the data, for what inputs write; as much again for copies
_ENTRY = 64  # [bytes] of a key beside its value, at most
_REPLY_ROOM = 1 << 16
# Commands of what a server has beside its store: images, other stores, a slow log.
NOT_PLAYED = ("bgsave", "branch", "snapshot", "slowlog")
PLAYED = tuple(row for row in ROWS if row.kernel and row.name.partition("|")[0] not in NOT_PLAYED)

COLLECTIONS = ("hash", "list", "set", "zset", "stream")
GROUP, CONSUMER = b"group", b"consumer"  # of the streams
SIZES = (3, 200)  # of the collections: a packed one, and one with a record


def collection(form: str, size: int) -> bytes:
    """The key of a collection."""
    return b"%b:%d" % (form.encode(), size)


def _loading() -> list[bytes]:
    # Commands that make the collections.
    made = []
    for size in SIZES:
        numbers = [b"%d" % i for i in range(size)]
        fields = [word for i in numbers for word in (b"field:" + i, b"value:" + i)]
        scored = [word for i in numbers for word in (i, b"member:" + i)]
        made += [
            encode_command(b"HSET", collection("hash", size), *fields),
            encode_command(b"RPUSH", collection("list", size), *(b"item:" + i for i in numbers)),
            encode_command(b"SADD", collection("set", size), *numbers),
            encode_command(b"ZADD", collection("zset", size), *scored),
        ]
        key = collection("stream", size)
        made += [encode_command(b"XADD", key, b"%d-1" % (i + 1), b"field", b"value:%d" % i) for i in range(size)]
        reading = (b"XREADGROUP", b"GROUP", GROUP, CONSUMER, b"COUNT", b"%d" % (size // 2), b"STREAMS", key, b">")
        made += [encode_command(b"XGROUP", b"CREATE", key, GROUP, b"0"), encode_command(*reading)]
    return [*made, encode_command(b"EXPIRE", b"key:0", b"1000")]


class Target:
    """A loaded store."""

    def __init__(self, keys: int, value_size: int = 0, *, huge_pages: bool = True, seed: int = 1) -> None:
        """value_size: of the strings [bytes], 0 for a short text.  Raises OSError when there is no memory for it."""
        data = keys * (_ENTRY + max(value_size, _ENTRY)) * 5 // 4
        self.memory = PhysicalMemory(data + 3 * ROOM, huge_pages=huge_pages)
        self.pool, self.shard = Pool(self.memory, data + ROOM), Shard(4)
        self.keys, self.seed = keys, seed
        self.opened = OpenStore(self.pool, self.shard)
        self.context = self.opened.context
        self.registers = r = self.context.registers
        self.table = CommandTable()
        self.table.install(self.shard)
        self.table.install_places(self.shard)
        for row in ROWS:
            if row.name in NOT_PLAYED:
                self.table.rows[row_number_of(row), rows.ROW_HANDLER] = pass_over.address
        r.TURN_SHARE, r.QUERY_BUFFER_LIMIT, r.ACTIVE_EXPIRE_ENABLED = 1 << 60, 1 << 40, 0
        r.NOW_MS, r.NOW_US, r.LRU_CLOCK, r.RANDOM = START_MS, 1000 * START_MS, START_MS // 1000, 2 * seed + 1
        if keyspace_init(self.context) != 0:
            raise OutOfFrames
        reply_grow(self.context, _REPLY_ROOM)
        populate_database(self.context, 0, keys, size=value_size)
        for command in _loading():
            self._play(command)
        while background_step(self.context, 1 << 16):
            pass
        self._progress: Array = zeros(int64, 1)

    def __enter__(self) -> "Target":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the memory."""
        self.memory.close()

    def note_progress(self, shared: mmap.mmap) -> None:
        """Count the inputs that are played in the first word of this memory, each before it is played."""
        self._progress = over(shared, int64)[:1]

    def run(self, inputs: Sequence[bytes], mode: int = CONSTANT) -> None:
        """Play each of the inputs in a fork of its own.  The target cannot be used after an exception of a kernel."""
        data, ends = over(b"".join(inputs) + b"\0", uint8), zeros(int64, len(inputs))
        end = 0
        for i, one in enumerate(inputs):
            end += len(one)
            ends[i] = end
        executions(self.context, address_of(data), ends, mode, self._progress)

    def _play(self, data: bytes) -> None:
        buffer = ctypes.create_string_buffer(data)
        play(self.context, ctypes.addressof(buffer), len(data))

    def play_here(self, data: bytes) -> None:
        """Play an input in the store itself."""
        self._play(data)

    def examine(self, data: bytes, mode: int = CONSTANT) -> None:
        """Play one input in a fork, and prove the fork, the machine and the store that was forked sound."""
        from kvstore.store.check import check_keyspace  # it requires NumPy
        from mmcore.check import check_heap, check_memory

        self._progress[0] += 1
        root = int(begin(self.context, mode))
        if root < 0:
            raise OutOfFrames
        self._play(data)
        copied = [int(self.registers.COPY_ROOT)] if self.registers.COPY_ROOT >= 0 else []
        check_memory(self.memory, [self.opened.space], [root, *copied, *self.pool.waiting])
        check_heap(self.opened.space)
        check_keyspace(self.context)
        restore(self.context, root)
        check_memory(self.memory, [self.opened.space], self.pool.waiting)
