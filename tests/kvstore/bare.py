"""A store without sockets or a loop: commands are given to their kernels, and time stands still unless told to move.

Used so:

    store = Bare()
    store("SET", "key", "value") == "OK"
    store("GET", "key") == b"value"
    store.clock_ms += 1000
    store.check()
"""

import ctypes
from types import TracebackType

import numpy as np

from kvstore import state
from kvstore.commands import keys, strings
from kvstore.commands.table import find
from kvstore.decimal import RESULT_MAX, TEXT_MAX
from kvstore.flush import RELEASES_MAX
from kvstore.keyspace import keyspace_init
from kvstore.resp import reply_grow
from kvstore.state import REGISTERS, Store
from mmcore.check import check_heap, check_memory
from mmcore.fork import CONSTANT, fork
from mmcore.release import CURSOR_SIZE, RELEASED, release_begin, release_step
from mmcore.space import AddressSpace, PhysicalMemory
from snapshot.begin import TICKET_WORDS
from tests.kvstore.keyspace_check import check_keyspace

HANDLERS = strings.HANDLERS | keys.HANDLERS
START_MS = 1_700_000_000_000


class ReplyError(str):
    """An error reply; compares as its text."""


class Bare:
    """An empty store in memory of its own."""

    def __init__(
        self, size: int = 64 << 20, protocol: int = 2, seed: int = 1, spare: int | None = None, mode: int = CONSTANT
    ) -> None:
        """size: of what is in force [bytes]; spare: of what there is beside it, as much again if not said."""
        self.memory = PhysicalMemory(size + (size if spare is None else spare))
        self.mode = mode
        self.space = AddressSpace(self.memory)
        self.registers = r = np.zeros(REGISTERS, np.int64)
        self._kept = kept = [
            np.zeros(256, np.int64),
            np.zeros(2 * TEXT_MAX + RESULT_MAX, np.uint8),
            np.zeros((RELEASES_MAX, CURSOR_SIZE), np.int64),
            np.zeros(TICKET_WORDS, np.int64),
        ]
        for register, array in zip(
            (state.SCRATCH_ADDRESS, state.DECIMAL_ADDRESS, state.RELEASE_ADDRESS, state.TICKET_ADDRESS),
            kept,
            strict=True,
        ):
            r[register] = array.ctypes.data
        r[state.PROTOCOL], r[state.RANDOM], r[state.PROTO_MAX_BULK_LEN] = protocol, seed * 2 + 1, 512 << 20
        r[state.WATCH_FREE] = -1
        r[state.FRAMES_IN_FORCE] = size >> 12
        self.args = np.zeros(1 << 16, np.int64)
        self.store = Store(self.space.state, r, self.args)
        self.clock_ms = START_MS
        self.forks: list[int] = []
        self.turns = 0  # that the last command took
        assert keyspace_init(self.store) == 0
        reply_grow(self.store, 1 << 16)

    def __enter__(self) -> "Bare":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the memory back."""
        self.memory.close()

    @property
    def clock_ms(self) -> int:
        return int(self.registers[state.NOW_MS])

    @clock_ms.setter
    def clock_ms(self, now_ms: int) -> None:
        self.registers[state.NOW_MS] = now_ms
        self.registers[state.NOW_US] = 1000 * now_ms
        self.registers[state.LRU_CLOCK] = now_ms // 1000

    def raw(self, *arguments: str | bytes | int) -> bytes:
        """The reply to a command, as it would be sent."""
        reply = self.attempt(*arguments)
        assert reply is not None, f"left to Python: {arguments}"
        return reply

    def attempt(self, *arguments: str | bytes | int) -> bytes | None:
        """The same; None for a form of the command that its kernel leaves to Python."""
        parts = [part if isinstance(part, bytes) else str(part).encode() for part in arguments]
        if parts[0].upper() == b"SELECT":
            self.registers[state.DB] = int(parts[1])
            return b"+OK\r\n"
        command = find(parts[0])
        assert command is not None and command.takes(len(parts)), parts
        text = ctypes.create_string_buffer(b"".join(parts))
        if self.args.size < 2 * len(parts):
            self.args = np.zeros(4 * len(parts), np.int64)
            self.store = Store(self.space.state, self.registers, self.args)
        at, places = 0, []
        for part in parts:
            places += [at, len(part)]
            at += len(part)
        self.args[: len(places)] = places
        r = self.registers
        r[state.QUERY_ADDRESS], r[state.QUERY_SIZE], r[state.ARGC] = ctypes.addressof(text), at, len(parts)
        r[state.REPLY_LENGTH] = 0
        code = HANDLERS[parts[0].upper()](self.store)
        self.turns = 1
        while code == state.AGAIN:  # as the loop does in its next turn
            assert r[state.REPLY_LENGTH] == 0
            code = HANDLERS[parts[0].upper()](self.store)
            self.turns += 1
        if code != 0:
            return None
        return ctypes.string_at(int(r[state.REPLY_ADDRESS]), int(r[state.REPLY_LENGTH]))

    def __call__(self, *arguments: str | bytes | int) -> object:
        """The reply to a command, parsed."""
        reply = self.raw(*arguments)
        value, end = parse(reply, 0)
        assert end == len(reply), f"more than one reply: {reply[:200]!r}"
        return value

    def fork(self) -> int:
        """A frozen root, as a snapshot holds one."""
        root = int(fork(self.store.space, self.mode))
        assert root >= 0
        self.forks.append(root)
        self.registers[state.SNAPSHOT_ALIVE] = 1
        return root

    def release(self, root: int) -> None:
        """Let a frozen root go."""
        cursor = np.zeros(CURSOR_SIZE, np.int64)
        release_begin(cursor, root)
        while cursor[0] != RELEASED:
            release_step(self.memory.state, cursor, 64)
        self.forks.remove(root)
        self.registers[state.SNAPSHOT_ALIVE] = len(self.forks) > 0

    def check(self) -> None:
        """Prove the machine, the heap and the keyspace sound."""
        r = self.registers
        ring = self._kept[2]
        first, count = int(r[state.RELEASE_FIRST]), int(r[state.RELEASE_COUNT])
        waiting = [ring[(first + i) % RELEASES_MAX] for i in range(count)]
        check_memory(self.memory, [self.space], [*self.forks, *(int(cursor[0]) for cursor in waiting)])
        check_heap(self.space)
        check_keyspace(self.store)


def parse(reply: bytes, at: int) -> tuple[object, int]:
    """One reply in `reply` at `at`, of either protocol, and where it ends."""
    end = reply.index(b"\r\n", at)
    kind, line, at = reply[at : at + 1], reply[at + 1 : end], end + 2
    if kind == b"+":
        return line.decode(), at
    if kind == b"-":
        return ReplyError(line.decode(errors="surrogateescape")), at
    if kind == b":":
        return int(line), at
    if kind == b"_":
        return None, at
    if kind == b"$":
        count = int(line)
        if count < 0:
            return None, at
        assert reply[at + count : at + count + 2] == b"\r\n"
        return reply[at : at + count], at + count + 2
    assert kind == b"*", reply
    if int(line) < 0:
        return None, at
    items = []
    for _ in range(int(line)):
        item, at = parse(reply, at)
        items.append(item)
    return items, at
