"""A store without sockets or a loop: a test calls the kernels of commands, and moves the time itself.

Usage:

    store = Bare()
    store("SET", "key", "value") == "OK"
    store("GET", "key") == b"value"
    store.clock_ms += 1000
    store.check()
"""

import ctypes
from array import array
from collections.abc import Callable
from types import TracebackType

import numpy as np

from kvstore.commands.bitmaps import declarations as bitmaps
from kvstore.commands.geo import declarations as geo
from kvstore.commands.hashes import declarations as hashes
from kvstore.commands.hyperloglog import declarations as hyperloglog
from kvstore.commands.keys import declarations as keys
from kvstore.commands.lists import declarations as lists
from kvstore.commands.memory import declarations as memory
from kvstore.commands.sets import declarations as sets
from kvstore.commands.sortedsets import declarations as sortedsets
from kvstore.commands.sorting import declarations as sorting
from kvstore.commands.streams import declarations as streams
from kvstore.commands.strings import declarations as strings
from kvstore.commands.table import find, kernel_of
from kvstore.lifetimes import call
from kvstore.lifetimes.context import AGAIN
from kvstore.lifetimes.wiring import OpenStore, Pool, Shard
from kvstore.store.check import check_keyspace
from kvstore.store.databases import keyspace_init
from kvstore.wire.resp import reply_grow
from mmcore.check import check_heap, check_memory
from mmcore.fork import CONSTANT, fork
from mmcore.jit import int64, zeros
from mmcore.memory import PhysicalMemory
from mmcore.release import CURSOR_SIZE, RELEASED, release_begin, release_step
from snapshot.begin import TICKET_WORDS

_FAMILIES = (bitmaps, geo, hashes, hyperloglog, keys, lists, memory, sets, sortedsets, sorting, streams, strings)
HANDLERS = {command.name.upper().encode(): kernel_of(command) for family in _FAMILIES for command in family.COMMANDS}
START_MS = 1_700_000_000_000


class ReplyError(str):
    """An error reply; compares as its text."""


class Bare:
    """An empty store in memory of its own."""

    def __init__(
        self,
        size: int = 64 << 20,
        protocol: int = 2,
        seed: int = 1,
        spare: int | None = None,
        mode: int = CONSTANT,
        connections: int = 1,
    ) -> None:
        """size: memory in force [bytes]; spare: memory beside it, by default as much again."""
        self.memory = PhysicalMemory(size + (size if spare is None else spare))
        self.mode = mode
        self.pool, self.shard = Pool(self.memory, size), Shard(connections, arguments=1 << 15)
        self.opened = OpenStore(self.pool, self.shard)
        self.space, self.context = self.opened.space, self.opened.context
        self.registers = self.context.registers
        self._ticket = np.zeros(TICKET_WORDS, np.int64)
        self.registers.TICKET_ADDRESS = self._ticket.ctypes.data
        self.registers.PROTOCOL, self.registers.RANDOM = protocol, seed * 2 + 1
        self.registers.ACTIVE_EXPIRE_ENABLED = 0
        self.clock_ms = START_MS
        self.forks: list[int] = []
        self.turns = 0  # that the last command took
        self.between: Callable[[], object] | None = None  # what others do between two turns of a command
        assert keyspace_init(self.context) == 0
        reply_grow(self.context, 1 << 16)

    def __enter__(self) -> "Bare":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the memory."""
        self.memory.close()

    @property
    def clock_ms(self) -> int:
        return int(self.registers.NOW_MS)

    @clock_ms.setter
    def clock_ms(self, now_ms: int) -> None:
        self.registers.NOW_MS = now_ms
        self.registers.NOW_US = 1000 * now_ms
        self.registers.LRU_CLOCK = now_ms // 1000

    def raw(self, *arguments: str | bytes | int) -> bytes:
        """The reply to a command, in the form in which it would be sent."""
        reply = self.attempt(*arguments)
        assert reply is not None, f"left to Python: {arguments}"
        return reply

    def attempt(self, *arguments: str | bytes | int) -> bytes | None:
        """The same reply; None for a form of the command that its kernel leaves to Python."""
        parts = [part if isinstance(part, bytes) else str(part).encode() for part in arguments]
        if parts[0].upper() == b"SELECT":
            self.registers.DB = int(parts[1])
            return b"+OK\r\n"
        command = find(parts[0])
        assert command is not None and command.takes(len(parts)), parts
        code, turns = self._turn(parts), 1
        while code == AGAIN:  # as the loop does in its next turn
            assert self.context.call[call.REPLY_LENGTH] == 0
            if self.between is not None:
                self._interrupt(self.between)
            code = self._turn(parts)
            turns += 1
        self.turns = turns
        if code != 0:
            return None
        words = self.context.call
        return ctypes.string_at(words[call.REPLY_ADDRESS], words[call.REPLY_LENGTH])

    def _interrupt(self, between: Callable[[], object]) -> None:
        # Another connection's turn.
        r = self.registers
        slot, db = int(r.CONNECTION), int(r.DB)
        r.CONNECTION, self.between = slot + 1, None
        between()
        if self.between is None:
            self.between = between
        self.registers.CONNECTION, self.registers.DB = slot, db

    def _turn(self, parts: list[bytes]) -> int:
        # Call the kernel of a command.
        text = ctypes.create_string_buffer(b"".join(parts))
        if len(self.context.args) < 2 * len(parts):
            self.shard.args = zeros(int64, 4 * len(parts))
            self.opened = OpenStore(self.pool, self.shard, self.space, registers=self.opened.registers)
            self.context = self.opened.context
            self.registers = self.context.registers
        at, places = 0, array("q")
        for part in parts:
            places.extend((at, len(part)))
            at += len(part)
        self.context.args[: len(places)] = memoryview(places)
        words = self.context.call  # without the names of all registers: some tests call 100,000 commands
        words[call.QUERY_ADDRESS], words[call.QUERY_SIZE] = ctypes.addressof(text), at
        words[call.ARGC], words[call.REPLY_LENGTH] = len(parts), 0
        return int(HANDLERS[parts[0].upper()](self.context))

    def __call__(self, *arguments: str | bytes | int) -> object:
        """The reply to a command, parsed."""
        reply = self.raw(*arguments)
        value, end = parse(reply, 0)
        assert end == len(reply), f"more than one reply: {reply[:200]!r}"
        return value

    def fork(self) -> int:
        """A frozen root, as a snapshot holds one."""
        root = int(fork(self.context.space, self.mode))
        assert root >= 0
        self.forks.append(root)
        self.registers.FROZEN_ROOTS = len(self.forks)
        return root

    def release(self, root: int) -> None:
        """Release a frozen root."""
        cursor = np.zeros(CURSOR_SIZE, np.int64)
        release_begin(cursor, root)
        while cursor[0] != RELEASED:
            release_step(self.memory.state, cursor, 64)
        self.forks.remove(root)
        self.registers.FROZEN_ROOTS = len(self.forks)

    def check(self) -> None:
        """Prove the machine, the heap and the keyspace sound."""
        copied = [int(self.registers.COPY_ROOT)] if self.registers.COPY_ROOT >= 0 else []
        if self.registers.COMBINED_ROOT_PLUS_1:
            copied.append(int(self.registers.COMBINED_ROOT_PLUS_1) - 1)
        check_memory(self.memory, [self.space], [*self.forks, *copied, *self.pool.waiting])
        check_heap(self.space)
        check_keyspace(self.context)


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
    if kind == b",":
        return float(line), at
    assert kind in (b"*", b"~", b"%"), reply
    if int(line) < 0:
        return None, at
    items = []
    for _ in range(int(line) * (2 if kind == b"%" else 1)):
        item, at = parse(reply, at)
        items.append(item)
    return items, at
