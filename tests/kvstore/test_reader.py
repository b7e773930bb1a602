"""The reader's thread beside an owner that writes, forks and releases as fast as it can.

Each fork clears R/W in entries that the reader walks through, and each release may free the last copy of a frame that
the reader does not hold.  Freed frames are poisoned, so a reader that touched one would reply with other bytes or fail.
The reply that a command must get is made in place, just before it goes aside.
"""

import ctypes
import random
import select
import time
from collections.abc import Iterator

import pytest

from kvstore.commands.compiled import CommandTable
from kvstore.commands.table import COMMANDS
from kvstore.commands.transactions import keep_command
from kvstore.connections.pieces import ADDRESS, END, NODE_WORDS, PIECE, START, node_free, pieces_end, read_under_way
from kvstore.lifetimes import connection
from kvstore.lifetimes.connection import NEVER, PIECES
from kvstore.lifetimes.context import BLOCKS
from kvstore.server.reader import Reader
from kvstore.store.aside import (
    GIVEN_UP,
    JOB_WORDS,
    NEWS,
    OWNER_WORD,
    READS_MAX,
    READS_WORDS,
    TAKEN,
    job_end,
    piece_take,
    read_ask,
    read_give_up,
)
from kvstore.store.flush import background_step
from kvstore.system.eventfds import count_take
from kvstore.wire.wanted import TOO_LONG, UNWANTED, WANTED
from mmcore.fork import CLASSIC, CONSTANT, ON_DEMAND
from mmcore.jit import DISABLED, address_of
from mmcore.state import POISON
from tests.kvstore.bare import Bare

pytestmark = pytest.mark.skipif(DISABLED, reason="there is no reader without the compiler")

PATIENCE_S = 60
ROWS = {command.name.encode(): number for number, command in enumerate(COMMANDS)}
READS = (
    "HGETALL hash", "HVALS hash:2", "SMEMBERS set", "SUNION set set:2", "SINTER set set:2", "SDIFF set:2 set",
    "LRANGE list 0 -1", "LPOS list nothing", "ZRANGE zset 0 -1 WITHSCORES", "ZUNION 2 zset set", "ZINTER 2 zset set",
    "KEYS *", "SCAN 0 COUNT 100000", "HGETALL large", "HSCAN large 0 COUNT 100",
    "MEMORY USAGE hash SAMPLES 0", "HSCAN hash 0 COUNT 9000",
)  # fmt: skip


class Aside(Bare):
    """A store with a reader; connection 0 asks, and the test is the loop."""

    def __init__(self, mode: int = CONSTANT, size: int = 32 << 20) -> None:
        super().__init__(size, mode=mode)
        self.memory.state.frames[POISON] = 1
        self.table = CommandTable()
        self.table.install(self.shard)
        self.reader = Reader(self.memory, self.table, self.shard, lambda: None)
        self.reader.start()
        self.row, self.reads = self.shard.connections.row(0), self.reader.shared
        self.pieces: list[bytes] = []  # of the read under way, as far as they have come
        self.sizes: list[int] = []  # of all pieces

    def close(self) -> None:
        self.reader.close()
        super().close()

    def ask(self, *arguments: str | bytes | int) -> bytes:
        """Let a read go aside; returns the reply that it must get."""
        parts = [part if isinstance(part, bytes) else str(part).encode() for part in arguments]
        self.registers.READ_ASIDE_OVER = NEVER
        expected = self.raw(*parts)
        self.registers.READ_ASIDE_OVER = 1
        # The arguments' text lives as long as the call, so the command is kept at once.
        text = ctypes.create_string_buffer(b"".join(parts))
        assert self._turn(parts) == BLOCKS
        self.registers.QUERY_ADDRESS, self.registers.COMMAND = ctypes.addressof(text), ROWS[parts[0].lower()]
        self.row[connection.QUEUE_LENGTH] = 0
        assert keep_command(self.context, self.row) >= 0
        assert read_ask(self.context, self.row) == 1
        self.registers.READ_ASIDE_OVER = NEVER
        return expected

    def job(self, number: int) -> memoryview:
        """The words of a job."""
        at = READS_WORDS + number % READS_MAX * JOB_WORDS
        return self.reads[at : at + JOB_WORDS]

    def ready(self, timeout_s: float = 0) -> bool:
        """Whether a read has ended."""
        assert self.reader.failure is None, self.reader.failure
        return bool(select.select([self.reader.fileno()], [], [], timeout_s)[0])

    def take(self) -> list[tuple[int, bytes]]:
        """The reads that have ended: whether each was given up, and its reply."""
        reads, found = self.reads, []
        for _ in range(count_take(reads[NEWS], address_of(self.reads) + 8 * OWNER_WORD)):
            job = self.job(reads[TAKEN])
            address = piece_take(job)
            if address:
                node = (ctypes.c_int64 * NODE_WORDS).from_address(address)
                self.pieces.append(ctypes.string_at(node[ADDRESS] + node[START], node[END] - node[START]))
                self.sizes.append(len(self.pieces[-1]))
                node_free(address)
                continue
            reads[TAKEN] += 1
            found.append((int(job[GIVEN_UP]), b"".join(self.pieces)))
            self.pieces.clear()
            if read_under_way(self.row):
                pieces_end(self.context, 0, self.row)
            job_end(self.context, job)
        return found

    def answer(self) -> tuple[int, bytes]:
        """The only read under way."""
        found: list[tuple[int, bytes]] = []
        while not found:
            assert self.ready(PATIENCE_S), "the reader does not answer"
            found = self.take()
        return found[0]


def fill(store: Aside, count: int) -> None:
    """Values over some thousand pages."""
    for first in range(0, count, 100):
        some = range(first, first + 100)
        for name in ("", ":2"):
            shift = count // 2 if name else 0
            store("HSET", f"hash{name}", *(word for i in some for word in (f"f{i}", f"value {i}" * (i % 7))))
            store("SADD", f"set{name}", *(f"m{i + shift}" for i in some))
        store("RPUSH", "list", *(f"e{i}" for i in some))
        store("ZADD", "zset", *(word for i in some for word in (i * 0.3, f"m{i}")))
        store("SET", f"string:{first}", "x" * (first % 5000))
        store("HSET", "large", f"f{first}", "z" * 60_000)  # more than one piece


def write(store: Aside, draw: random.Random, count: int) -> None:
    """A command that changes what is being read."""
    i = draw.randrange(count)
    commands: tuple[tuple[str | int, ...], ...] = (
        ("HSET", "hash", f"f{i}", f"new {i}" * draw.randrange(9)),
        ("HDEL", "hash:2", f"f{i}"),
        ("HSET", "hash:2", f"f{i}", "again"),
        ("SREM", "set", f"m{i}"),
        ("SADD", "set", f"m{i}"),
        ("LSET", "list", i % 1000, f"other {i}"),
        ("LPOP", "list"),
        ("RPUSH", "list", f"e{i}"),
        ("ZADD", "zset", draw.randrange(1000), f"m{i}"),
        ("ZREM", "zset", f"m{i}"),
        ("SET", f"string:{i}", "y" * draw.randrange(3000)),
        ("DEL", f"string:{i // 100 * 100}"),
    )
    store.raw(*draw.choice(commands))


def beside(store: Aside, draw: random.Random, count: int) -> None:
    """The owner's work while the reader reads: write, fork, release, return frames."""
    write(store, draw, count)
    if len(store.forks) < 3:
        store.fork()
    elif store.forks:
        store.release(draw.choice(store.forks))


def hammer(mode: int, seed: int, count: int, seconds: float) -> None:
    """Reads aside, one after the other, beside such an owner."""
    draw, ends = random.Random(seed), time.monotonic() + seconds
    with Aside(mode, 96 << 20) as store:
        fill(store, count)
        rounds = meanwhile = 0
        while time.monotonic() < ends or rounds < 2 * len(READS):
            expected = store.ask(*READS[rounds % len(READS)].split())
            found: list[tuple[int, bytes]] = []
            while not found:
                while not store.ready():
                    beside(store, draw, count)
                    meanwhile += 1
                found = store.take()
            given_up, reply = found[0]
            assert given_up == WANTED and reply == expected, READS[rounds % len(READS)]
            if rounds % 20 == 0:
                store.check()
            rounds += 1
        for root in list(store.forks):
            store.release(root)
        store.check()
        assert store.reader.pending == 0 and meanwhile > rounds


@pytest.fixture
def store() -> Iterator[Aside]:
    with Aside(size=96 << 20) as aside:
        yield aside
        aside.check()


@pytest.mark.parametrize("mode", [CONSTANT, ON_DEMAND, CLASSIC])
def test_reads_beside_an_owner_that_writes_forks_and_releases(mode: int) -> None:
    hammer(mode, seed=mode, count=2000, seconds=1)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [CONSTANT, ON_DEMAND, CLASSIC])
@pytest.mark.parametrize("seed", range(2))
def test_the_same_for_minutes(mode: int, seed: int) -> None:
    hammer(mode, seed=seed, count=20_000, seconds=120)


def emptied(store: Aside, count: int) -> None:
    """The rest that the owner may do meanwhile: lose everything, free it in steps, and fill the same frames anew."""
    store("FLUSHALL")
    while background_step(store.context, 64):
        pass
    fill(store, count)


@pytest.mark.parametrize("rounds", [1, pytest.param(40, marks=pytest.mark.slow)])
def test_the_store_is_emptied_and_filled_again_meanwhile(store: Aside, rounds: int) -> None:
    fill(store, 500)
    for command in READS * rounds:
        expected = store.ask(*command.split())
        emptied(store, 500)
        assert store.answer() == (WANTED, expected), command
    store.check()


def test_the_root_keeps_what_it_had_though_the_store_is_emptied(store: Aside) -> None:
    fill(store, 1000)
    expected = store.ask("HGETALL", "hash")
    assert store("FLUSHALL") == "OK"
    assert store.answer() == (WANTED, expected)


def test_a_read_that_is_given_up_ends_and_its_root_comes_back(store: Aside) -> None:
    fill(store, 2000)
    for _ in range(20):
        store.ask("ZUNION", 2, "zset", "set")
        read_give_up(store.context, 0, store.row)
        assert store.row[PIECES] == 0
        given_up, _ = store.answer()
        assert given_up == UNWANTED and store.reader.pending == 0
    expected = store.ask("SMEMBERS", "set")
    assert store.answer() == (WANTED, expected)


def test_a_reply_beyond_the_limit_ends_early(store: Aside) -> None:
    for i in range(400):
        store("HSET", "large", f"f{i}", "v" * 30_000)
    store.registers.OUTPUT_HARD_LIMIT = 1 << 20
    expected = store.ask("HSCAN", "large", 0, "COUNT", 9000)  # its header comes last
    assert len(expected) > 12_000_000 and store.answer() == (TOO_LONG, b"")
    assert store.ask("HGETALL", "large") == store.answer()[1]
    store.registers.OUTPUT_HARD_LIMIT = 0
    assert store.ask("HSCAN", "large", 0, "COUNT", 9000) == store.answer()[1]


def test_a_long_reply_comes_in_pieces(store: Aside) -> None:
    for i in range(400):
        store("HSET", "large", f"f{i}", "v" * 30_000)
    for command in ("HGETALL large", "HSCAN large 0 COUNT 9000"):
        expected = store.ask(*command.split())
        store.sizes.clear()
        assert store.answer() == (WANTED, expected)
        whole, rest = divmod(len(expected), PIECE)
        assert store.sizes == [PIECE] * whole + [rest]


def test_the_clock_is_that_of_the_fork(store: Aside) -> None:
    fill(store, 300)
    store("PEXPIRE", "string:100", 1000)
    expected = store.ask("KEYS", "*")
    store.clock_ms += 2000
    assert store.answer() == (WANTED, expected) and b"string:100\r" in expected
