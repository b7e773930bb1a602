"""Commands that wait, without a server: what a wait costs, what marks a key, and what is told of a served command."""

import ctypes
import faulthandler
import mmap
import os
import signal
from collections.abc import Callable, Iterator

import pytest

from kvstore.connections.chained import _ADDRESS, _CAPACITY, _HEADS, _HEADS_CAPACITY, HEADER_WORDS, WIDTH
from kvstore.connections.interests import check_interests
from kvstore.connections.table import open_connection
from kvstore.effects.journal import Journal
from kvstore.lifetimes import connection
from kvstore.lifetimes.listeners import WAITING
from kvstore.lifetimes.sizes import INTERESTS_WORDS
from kvstore.net.closing import close_connection
from kvstore.net.output import send_all
from kvstore.net.pipeline import run_pipeline, settle
from kvstore.net.timer import tick
from kvstore.net.waiting import unblock_connection, wake_blocked
from mmcore.jit import int64, zeros
from mmcore.state import FREE_COUNT, TOTAL
from tests.kvstore.test_turn import Sockets
from tests.server.wire import encode

MANY = 10_000
PAGE = mmap.PAGESIZE
READY = b"*2\r\n$1\r\nk\r\n$1\r\nv\r\n"


class Waiting(Sockets):
    """A store with a few connections to sockets, and room for many that only wait."""

    def __init__(self) -> None:
        super().__init__(connections=MANY + 4)
        self.registers.CONNECTION = -1
        for _ in range(3):
            self.open()

    def do(self, slot: int, *words: str | int) -> bytes:
        """The reply to a command, after a turn."""
        self.receive(slot, words)
        send_all(self.context)
        return self.arrived(slot)

    def wait(self, *words: str) -> int:
        """The slot of a new connection, which waits in this command and has no socket."""
        self.opened_so_far += 1
        slot = int(open_connection(self.context, -1, self.opened_so_far, connection.AUTHENTICATED, 0))
        data, r, row = encode(*words), self.registers, self.shard.connections.row(slot)
        text = ctypes.create_string_buffer(data)
        r.CONNECTION, r.DB, r.PROTOCOL = slot, 0, 2
        r.QUERY_ADDRESS, r.QUERY_SIZE = ctypes.addressof(text), len(data)
        r.INPUT_POSITION, r.INPUT_SHARED, r.AHEAD = 0, 1, 0
        assert run_pipeline(self.context, slot, row) == 0
        settle(self.context, slot, row)
        assert row[connection.FLAGS] & connection.BLOCKED
        return slot

    def arrays(self) -> list[tuple[int, int]]:
        """(address, size) of the memory behind the tables of waited keys."""
        words = (ctypes.c_int64 * INTERESTS_WORDS).from_address(self.registers.WAITED_KEYS)
        found = []
        for table in (0, HEADER_WORDS):
            found.append((words[table + _ADDRESS], 8 * words[table + _CAPACITY] * words[table + WIDTH]))
            found.append((words[table + _HEADS], 8 * words[table + _HEADS_CAPACITY]))
        return found

    def interests(self) -> int:
        """How many there are, after all lists were walked."""
        return int(check_interests(self.registers.WAITED_KEYS, zeros(int64, MANY + 4), MANY + 4))


@pytest.fixture
def store() -> Iterator[Waiting]:
    with Waiting() as made:
        yield made
        for client in made.clients:
            client.close()


def outcome_without(pages: list[tuple[int, int]], work: Callable[[], object]) -> int:
    """Do some work in a copy of the process in which these (address, size) cannot be read; its exit status."""
    child = os.fork()
    if child == 0:
        faulthandler.disable()
        protect = ctypes.CDLL(None).mprotect
        for address, size in pages:
            first, end = -(-address // PAGE) * PAGE, (address + size) // PAGE * PAGE
            assert first < end
            if protect(ctypes.c_void_p(first), ctypes.c_size_t(end - first), 0) != 0:
                os._exit(2)
        work()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def test_ten_thousand_that_wait_are_not_looked_at(store: Waiting) -> None:
    """Neither their rows, nor their deadlines, nor what they wait for are read by turns, changes and the timer."""
    for number in range(MANY):
        store.wait("BLPOP", f"key:{number}", "shared", "1000" if number % 2 else "0")
    assert store.registers.BLOCKED_CLIENTS == MANY
    assert store.interests() == 2 * MANY
    table, room = store.shard.connections, 8 * connection.FIELDS
    rows = (table.address + 8 * room, (MANY - 8) * room)
    deadlines = (store.registers.DEADLINES_ADDRESS + PAGE, 16 * store.registers.DEADLINES - PAGE)
    swept = store.registers.ROWS_SWEPT

    def turns() -> None:
        for number in range(200):
            assert store.do(0, "SET", f"other:{number % 7}", number) == b"+OK\r\n"
            assert store.do(1, "HSET", "hash", "f", number).startswith(b":")
            assert store.do(2, "GET", "other:1").startswith(b"$")
            tick(store.context)
            wake_blocked(store.context)
        assert swept == store.registers.ROWS_SWEPT
        assert store.registers.TURNS_PENDING == store.registers.SENDS == 0

    assert outcome_without([rows, deadlines, *store.arrays()], turns) == 0

    def sweep() -> None:
        store.registers.TIMEOUT_MS = 1
        for _ in range(20):
            tick(store.context)

    assert outcome_without([rows], sweep) == -signal.SIGSEGV, "nothing was protected"


def test_a_push_looks_at_those_who_wait_for_its_key_alone(store: Waiting) -> None:
    """It is served, and the others are left where they are."""
    for number in range(MANY):
        store.wait("BLPOP", f"key:{number}", "1000")
    store.receive(0, ("BLPOP", "k", 0))
    rows = (store.shard.connections.address + 8 * 8 * connection.FIELDS, (MANY - 8) * 8 * connection.FIELDS)
    deadlines = (store.registers.DEADLINES_ADDRESS + PAGE, 16 * store.registers.DEADLINES - PAGE)

    def push() -> None:
        assert store.do(1, "RPUSH", "k", "v") == b":1\r\n"
        assert store.arrived(0) == READY

    assert outcome_without([rows, deadlines], push) == 0


def test_the_listener_is_there_as_long_as_somebody_waits(store: Waiting) -> None:
    """However the wait ends."""
    r = store.registers
    for end in (
        lambda slot: store.do(1, "RPUSH", "k", "v"),
        lambda slot: unblock_connection(store.context, slot, 0),
        lambda slot: close_connection(store.context, slot),
    ):
        assert r.LISTENERS & WAITING == 0
        slot = store.wait("BLPOP", "k", "j", "0")
        assert r.LISTENERS & WAITING and store.interests() == 2
        end(slot)
        assert r.LISTENERS & WAITING == 0 and store.interests() == 0
        assert r.BLOCKED_CLIENTS == 0


def test_the_changes_of_a_served_command_are_told_behind_the_push(store: Waiting) -> None:
    """In the order in which they happen, and counted."""
    journal, dirty = Journal(store.context), store.registers.DIRTY
    store.receive(0, ("BLMOVE", "k", "l", "LEFT", "RIGHT", 0))
    store.receive(2, ("BLPOP", "l", 0))
    assert journal.take() == []
    store.do(1, "RPUSH", "k", "v")
    told = [(one.event, one.key) for one in journal.take() if one.event != "new"]
    assert told == [
        *(("rpush", b"k"), ("rpush", b"l"), ("lpop", b"k"), ("del", b"k"), ("lpop", b"l"), ("del", b"l")),
    ]
    assert dirty + 3 == store.registers.DIRTY
    assert (store.arrived(0), store.arrived(2)) == (b"$1\r\nv\r\n", b"*2\r\n$1\r\nl\r\n$1\r\nv\r\n")


def test_an_undone_transaction_serves_nobody(store: Waiting) -> None:
    """One that holds serves at its end."""
    store.receive(0, ("BLPOP", "k", 0))
    frames = store.memory.state.frames
    store.registers.FRAMES_IN_FORCE = int(frames[TOTAL] - frames[FREE_COUNT]) + 300
    queue = [("MULTI",), ("RPUSH", "k", "v"), ("APPEND", "a", "x"), ("SET", "b", "y" * 100_000), ("EXEC",)]
    for words in queue[:3]:
        store.do(1, *words)
    for number in range(30):
        store.do(1, "SET", f"b:{number}", "y" * 100_000)
    assert b"-EXECABORT" in store.do(1, "EXEC")
    assert store.arrived(0) == b"" and store.registers.BLOCKED_CLIENTS == 1
    store.registers.FRAMES_IN_FORCE = 1 << 40
    for words in queue:
        reply = store.do(1, *words)
    assert reply == b"*3\r\n:1\r\n:1\r\n+OK\r\n"
    assert store.arrived(0) == READY


def test_a_turn_comes_only_to_one_that_has_sent_more(store: Waiting) -> None:
    """The reply itself needs none."""
    store.receive(0, ("BLPOP", "k", 0))
    store.receive(2, ("BLPOP", "k", 0), ("PING",))
    assert store.do(1, "RPUSH", "k", "v") == b":1\r\n"
    assert store.arrived(0) == READY and store.registers.TURNS_PENDING == 0
    store.do(1, "RPUSH", "k", "v")
    assert store.arrived(2) == READY and store.registers.TURNS_PENDING == 1


def test_deadlines_end_waits_in_their_order_without_a_turn(store: Waiting) -> None:
    store.receive(0, ("BLPOP", "k", 2))
    store.receive(1, ("BZPOPMIN", "k", 1))
    store.receive(2, ("BLMOVE", "k", "l", "LEFT", "LEFT", 3))
    for slot, passed in ((1, 1000), (0, 2000), (2, 3000)):
        store.registers.TIMER_MS = passed - 1
        wake_blocked(store.context)
        assert store.registers.SENDS == 0
        store.registers.TIMER_MS = passed
        wake_blocked(store.context)
        send_all(store.context)
        assert [store.arrived(one) for one in range(3)] == [b"*-1\r\n" if one == slot else b"" for one in range(3)]
    assert store.registers.BLOCKED_CLIENTS == store.registers.DEADLINES == store.registers.TURNS_PENDING == 0


def test_a_wait_ends_within_the_room_for_arguments_however_long_the_last_command_was(store: Waiting) -> None:
    """The arguments of a command that has waited lie where those of the last one were, which is over."""
    slot = store.wait("BLPOP", *["key"] * 30_000, "0.001")
    row = store.shard.connections.row(slot)
    length = row[connection.QUEUE_LENGTH]
    assert length > 30_000
    store.registers.ARGC = len(store.shard.args) // 2 - 1
    before = store.shard.args[-2:].tolist()
    store.registers.TIMER_MS += 10
    wake_blocked(store.context)
    assert row[connection.FLAGS] & connection.BLOCKED == 0
    assert store.registers.ARGC == store.registers.ARGS == 0
    assert store.shard.args[-2:].tolist() == before


def test_a_command_that_waited_ends_client_caching(store: Waiting) -> None:
    slot = store.wait("BLPOP", "key", "0.001")
    row = store.shard.connections.row(slot)
    row[connection.FLAGS] |= connection.TRACKING_CACHING
    store.registers.TIMER_MS += 10
    wake_blocked(store.context)
    assert row[connection.FLAGS] & connection.TRACKING_CACHING == 0
