"""Client-side caching in the kernels: who is told what, beside a model; and where memory or a limit ends it."""

import ctypes
import random
from collections.abc import Iterator

import numpy as np
import pytest

from kvstore.connections import chained
from kvstore.connections.interests import check_interests
from kvstore.connections.table import kill_connection
from kvstore.effects import broadcasts
from kvstore.effects.broadcasts import COLLECTED_MAX, PREFIXES_TRIED, broadcast, sort_triples
from kvstore.effects.invalidations import TRIPLE
from kvstore.effects.notifications import set_classes
from kvstore.effects.tracking import (
    END_STEP,
    prefix_add,
    tracking_ended,
    tracking_off,
    tracking_on,
    trim_tracked,
)
from kvstore.lifetimes import connection
from kvstore.lifetimes.listeners import TRACKED
from kvstore.lifetimes.sizes import BROADCAST_WORDS, INTERESTS_WORDS
from kvstore.net.closing import close_connection
from kvstore.net.loop import serve_turns
from kvstore.net.output import send_all
from kvstore.store.expire import deadline_buckets, expire_step
from mmcore.jit import address_of
from tests.kvstore.test_turn import Sockets

PUSH = b">2\r\n$10\r\ninvalidate\r\n"
PUBLISHED = b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n"
NOTHING_IS_VALID = PUSH + b"_\r\n"


def array_of(*keys: bytes) -> bytes:
    """An array in RESP."""
    return b"*%d\r\n" % len(keys) + b"".join(b"$%d\r\n%s\r\n" % (len(key), key) for key in keys)


def push(*keys: bytes) -> bytes:
    """The message in RESP3."""
    return PUSH + array_of(*keys)


def published(*keys: bytes) -> bytes:
    """The message in RESP2."""
    return PUBLISHED + array_of(*keys)


class Caches(Sockets):
    """A store whose connections track keys."""

    def __init__(self) -> None:
        super().__init__()
        self.table.install_places(self.shard)
        self.rows = self.shard.connections

    def join(self, modes: int = 0, *prefixes: bytes, protocol: int = 3, told: int = -1) -> int:
        """The slot of a new connection that tracks; `told`: the slot of the one that is told in its place."""
        slot = self.open()
        self.rows[slot, connection.SPEAKS] = protocol
        self.track(slot, modes, *prefixes, told=told)
        return slot

    def track(self, slot: int, modes: int, *prefixes: bytes, told: int = -1) -> None:
        """As CLIENT TRACKING ON does."""
        redirect = int(self.rows[told, connection.ID]) if told >= 0 else 0
        tracking_on(self.context, slot, modes, redirect, max(told, 0))
        for prefix in prefixes:
            text = prefix + b"\0"
            assert prefix_add(self.context, slot, address_of(text), len(prefix)) == 1

    def turn(self, slot: int, *commands: tuple[str | int, ...]) -> bytes:
        """Run commands as one turn of the loop does; returns what the connection has been sent."""
        self.receive(slot, *commands)
        return self.end(slot)

    def end(self, slot: int) -> bytes:
        """The end of a turn."""
        if self.registers.BROADCAST_DUE:
            broadcast(self.context)
        send_all(self.context)
        return self.arrived(slot)

    def tracked(self, slot: int) -> int:
        """How many keys a connection is to be told of; proves the lists sound."""
        seen = np.zeros(len(self.rows), np.int64)
        for table, count in (
            (self.registers.TRACKED_KEYS, connection.TRACKED_COUNT),
            (self.registers.PREFIXES, connection.PREFIXES_COUNT),
        ):
            assert check_interests(table, seen, len(self.rows)) == sum(seen)
            assert list(seen) == [self.rows[one, count] for one in range(len(self.rows))]
        return int(self.rows[slot, connection.TRACKED_COUNT])

    def words(self, register: str, count: int) -> "ctypes.Array[ctypes.c_int64]":
        """Words that a register of the store points at."""
        return (ctypes.c_int64 * count).from_address(getattr(self.registers, register))


@pytest.fixture
def server() -> Iterator[Caches]:
    with Caches() as made:
        yield made
        for slot in range(made.registers.CONNECTION_SLOTS):
            if made.rows[slot, connection.FLAGS] & connection.IN_USE:
                close_connection(made.context, slot)
        assert made.registers.TRACKING_CLIENTS == 0 and not made.registers.LISTENERS & TRACKED
        for client in made.clients:
            client.close()
        made.check()


# --------------------------------------------------------------------------------------------------- who is told, how


def test_who_reads_a_key_is_told_once_when_it_changes(server: Caches) -> None:
    reader, writer = server.join(), server.open()
    server.turn(reader, ("GET", "k"), ("MGET", "k", "l", "k"), ("PING",))
    assert server.tracked(reader) == 2
    server.turn(writer, ("SET", "k", 1), ("SET", "k", 2), ("SET", "other", 1))
    assert server.arrived(reader) == push(b"k")
    assert server.tracked(reader) == 1
    server.turn(writer, ("SELECT", 3), ("SET", "l", 1))
    assert server.arrived(reader) == push(b"l"), "keys are tracked by name, whatever the database"


def test_a_writing_command_is_not_a_read(server: Caches) -> None:
    reader = server.join()
    server.turn(reader, ("GETSET", "k", 1), ("GETDEL", "k"), ("INCR", "k"), ("NOSUCH", "k"), ("GET",))
    assert server.tracked(reader) == 0
    server.turn(reader, ("LPUSH", "list", 1), ("GET", "list"))  # an error of a good command may be held in a cache, too
    assert server.tracked(reader) == 1


def test_the_message_to_the_one_at_hand_follows_its_reply(server: Caches) -> None:
    slot = server.join()
    server.turn(slot, ("GET", "k"))
    assert server.turn(slot, ("SET", "k", 1), ("PING",)) == b"+OK\r\n" + push(b"k") + b"+PONG\r\n"
    server.turn(slot, ("GET", "k"))
    queued = server.turn(slot, ("MULTI",), ("SET", "k", 1), ("GET", "k"), ("EXEC",))
    assert queued.endswith(b"*2\r\n+OK\r\n$1\r\n1\r\n" + push(b"k"))
    assert server.tracked(slot) == 1


def test_resp2_is_told_as_a_subscriber_in_place_of_another(server: Caches) -> None:
    told, writer = server.open(), server.open()
    reader = server.join(told=told, protocol=2)
    server.turn(reader, ("GET", "k"))
    server.turn(writer, ("SET", "k", 1))
    assert server.arrived(told) == server.arrived(reader) == b"", "it has not subscribed to anything"
    server.rows[told, connection.FLAGS] |= connection.SUBSCRIBER
    server.turn(reader, ("GET", "k"))
    server.turn(writer, ("SET", "k", 1))
    assert server.arrived(told) == published(b"k")
    server.turn(writer, ("FLUSHALL",))
    assert server.arrived(told) == PUBLISHED + b"$-1\r\n"
    server.rows[told, connection.SPEAKS] = 3
    server.turn(reader, ("GET", "k"))
    server.turn(writer, ("SET", "k", 1))
    assert server.arrived(told) == push(b"k")
    assert server.arrived(reader) == b""


def test_resp2_without_another_is_told_nothing_and_forgotten(server: Caches) -> None:
    reader, writer = server.join(protocol=2), server.open()
    server.turn(reader, ("GET", "k"))
    server.turn(writer, ("SET", "k", 1))
    assert server.arrived(reader) == b"" and server.tracked(reader) == 0


def test_both_forms_of_one_message(server: Caches) -> None:
    told = server.open()
    server.rows[told, connection.FLAGS] |= connection.SUBSCRIBER
    first, second, third = server.join(), server.join(told=told, protocol=2), server.join()
    for slot in (first, second, third):
        server.turn(slot, ("GET", "k"))
    assert server.turn(first, ("SET", "k", 1)) == b"+OK\r\n" + push(b"k")
    assert (server.arrived(told), server.arrived(second), server.arrived(third)) == (published(b"k"), b"", push(b"k"))


def test_a_redirection_that_is_broken_is_told_each_time(server: Caches) -> None:
    told = server.open()
    reader, writer = server.join(told=told), server.open()
    number = server.rows[told, connection.ID]
    close_connection(server.context, told)
    server.clients[told].close()
    assert server.open() == told, "another connection may get its slot"
    server.clients[told] = server.clients.pop()
    for _ in range(2):
        server.turn(reader, ("GET", "k"))
        server.turn(writer, ("SET", "k", 1))
        assert server.arrived(reader) == b">2\r\n$21\r\ntracking-redir-broken\r\n:%d\r\n" % number
        assert server.rows[reader, connection.FLAGS] & connection.TRACKING_BROKEN
    assert server.arrived(told) == b""
    server.track(reader, 0)
    assert server.rows[reader, connection.FLAGS] & connection.TRACKING_BROKEN == 0


def test_noloop_hides_own_changes_but_not_expiry(server: Caches) -> None:
    slot, other = server.join(connection.TRACKING_NOLOOP), server.open()
    server.turn(slot, ("GET", "k"))
    assert server.turn(slot, ("SET", "k", 1, "PX", 10)) == b"+OK\r\n"
    assert server.tracked(slot) == 0
    server.turn(slot, ("GET", "k"))
    server.clock_ms += 11
    assert server.turn(slot, ("EXISTS", "k")) == b":0\r\n" + push(b"k"), "an expiry is nobody's change"
    server.turn(other, ("SET", "k", 1))
    assert server.arrived(slot) == push(b"k")


def test_active_expiry_is_told(server: Caches) -> None:
    slot = server.join()
    server.turn(slot, ("SET", "k", 1, "PX", 10), ("GET", "k"))
    server.registers.CONNECTION = -1
    server.clock_ms += 11
    assert expire_step(server.context, deadline_buckets(server.context)) > 0
    assert server.end(slot) == push(b"k")


@pytest.mark.parametrize(
    ("mode", "alone", "asked"), [(connection.TRACKING_OPTIN, 0, 1), (connection.TRACKING_OPTOUT, 1, 0)]
)
def test_caching_is_for_one_command_or_transaction(server: Caches, mode: int, alone: int, asked: int) -> None:
    slot = server.join(mode)

    def tracked_after(ask: bool, *commands: tuple[str | int, ...]) -> int:
        server.turn(slot, ("MSET", "a", 1, "b", 1, "c", 1))
        if ask:
            server.rows[slot, connection.FLAGS] |= connection.TRACKING_CACHING
        server.turn(slot, *commands)
        assert server.rows[slot, connection.FLAGS] & connection.TRACKING_CACHING == 0
        return server.tracked(slot)

    a, b, c = ("GET", "a"), ("GET", "b"), ("GET", "c")
    assert tracked_after(False, a) == alone
    assert tracked_after(True, a) == asked
    assert tracked_after(True, a, b) == asked + alone
    assert tracked_after(True, ("NOSUCH",), b) == alone, "a refused command counts"
    assert tracked_after(True, ("MULTI",), a, b, ("EXEC",)) == 2 * asked
    assert tracked_after(True, ("MULTI",), a, b, ("EXEC",), c) == 2 * asked + alone
    assert tracked_after(True, ("MULTI",), a, ("DISCARD",), c) == alone


@pytest.mark.parametrize("command", [("FLUSHALL",), ("FLUSHDB",), ("SELECT", 9), ("SWAPDB", 4, 7)])
def test_when_all_keys_may_have_changed_everybody_is_told(server: Caches, command: tuple[str | int, ...]) -> None:
    plain = server.open()
    reader = server.join(connection.TRACKING_NOLOOP)
    other, by_prefix = server.join(), server.join(connection.TRACKING_BCAST, b"x")
    server.turn(reader, ("SET", "a", 1), ("MGET", *(f"key:{i}" for i in range(500))))
    server.turn(other, ("GET", "key:1"))
    if command[0] == "SELECT":  # a flush of a database that is empty
        assert server.turn(plain, command, ("FLUSHDB",), ("SELECT", 0)) == 3 * b"+OK\r\n"
        assert server.arrived(reader) == NOTHING_IS_VALID
    else:
        assert server.turn(reader, command) == b"+OK\r\n" + NOTHING_IS_VALID
    assert server.arrived(other) == server.arrived(by_prefix) == NOTHING_IS_VALID
    assert server.tracked(reader) == server.tracked(other) == 0
    server.turn(plain, ("SET", "key:1", 1))
    assert server.arrived(reader) == b""


def test_a_swap_of_a_database_with_itself_is_no_change(server: Caches) -> None:
    slot = server.join()
    server.turn(slot, ("GET", "k"))
    assert server.turn(slot, ("SWAPDB", 1, 1)) == b"+OK\r\n"


# -------------------------------------------------------------------------------------------------------- transactions


def test_a_transaction_that_is_undone_tells_nothing(server: Caches) -> None:
    reader, writer = server.join(), server.join(connection.TRACKING_NOLOOP)
    by_prefix = server.join(connection.TRACKING_BCAST, b"")
    server.turn(writer, ("SET", "k", "v"))
    server.turn(reader, ("GET", "k"))
    server.turn(by_prefix, ("PING",))
    frames = server.memory.state.frames
    free = server.registers.FRAMES_IN_FORCE
    server.registers.FRAMES_IN_FORCE = int(server.memory.frames_total - server.memory.frames_free) + 300
    answer = server.turn(
        writer, ("MULTI",), ("APPEND", "k", "w"), ("GET", "k"), ("SETRANGE", "k", 40_000_000, "x"), ("FLUSHALL",),
        ("EXEC",),
    )  # fmt: skip
    server.registers.FRAMES_IN_FORCE = free
    assert b"EXECABORT" in answer and len(frames) > 0
    assert server.end(reader) == server.arrived(by_prefix) == b""
    assert (server.tracked(reader), server.tracked(writer)) == (1, 0)
    server.turn(writer, ("SET", "k", 1))
    assert server.arrived(reader) == server.arrived(by_prefix) == push(b"k")


def test_all_who_listen_hear_nothing_of_a_transaction_that_is_undone_and_all_of_the_next(server: Caches) -> None:
    """A subscriber to keyspace events, and connections that track the key, watch it, and wait for another."""
    tracker, writer, subscriber, watcher, waiter = server.join(), *(server.open() for _ in range(4))
    set_classes(server.registers, "KEg$l")
    server.turn(writer, ("SET", "k", "v"))
    server.turn(tracker, ("GET", "k"))
    server.turn(subscriber, ("PSUBSCRIBE", "__key*__:*"))
    server.turn(watcher, ("WATCH", "k"))
    server.turn(waiter, ("BLPOP", "list", 0))
    commands = (("APPEND", "k", "w"), ("RPUSH", "list", "x"), ("SETRANGE", "k", 40_000_000, "x"))
    free = server.registers.FRAMES_IN_FORCE
    server.registers.FRAMES_IN_FORCE = int(server.memory.frames_total - server.memory.frames_free) + 300
    answer = server.turn(writer, ("MULTI",), *commands, ("EXEC",))
    server.registers.FRAMES_IN_FORCE = free
    assert b"EXECABORT" in answer
    assert [server.arrived(one) for one in (tracker, subscriber, waiter)] == [b"", b"", b""]
    assert server.turn(watcher, ("MULTI",), ("EXEC",)).endswith(b"*0\r\n"), "its key has not changed"
    server.turn(watcher, ("WATCH", "k"))
    answer = server.turn(writer, ("MULTI",), *commands[:2], ("EXEC",))
    assert b"EXECABORT" not in answer
    assert server.arrived(tracker) == push(b"k")
    assert server.arrived(waiter) == b"*2\r\n$4\r\nlist\r\n$1\r\nx\r\n"
    told = server.arrived(subscriber)
    assert [told.count(word) for word in (b"append", b"rpush", b"lpop", b"$3\r\ndel\r\n")] == [2, 2, 2, 1]
    assert server.turn(watcher, ("MULTI",), ("EXEC",)).endswith(b"*-1\r\n")


def test_what_is_read_after_a_change_in_an_undoable_transaction_stays_tracked(server: Caches) -> None:
    slot, other = server.join(connection.TRACKING_NOLOOP), server.open()
    server.turn(slot, ("GET", "k"), ("GET", "l"))
    forks = server.shard.processor.counters["forks"]
    server.turn(slot, ("MULTI",), ("APPEND", "k", "v"), ("GET", "k"), ("GET", "l"), ("APPEND", "l", "v"), ("EXEC",))
    assert server.shard.processor.counters["forks"] == forks + 1
    assert server.tracked(slot) == 1
    server.turn(other, ("SET", "k", 1), ("SET", "l", 1))
    assert server.arrived(slot) == push(b"k")


# --------------------------------------------------------------------------------------------------------------- limits


def test_too_many_keys_are_given_up_with_a_message(server: Caches) -> None:
    server.registers.TRACKING_KEYS_MAX = 20
    slot, told, read = server.join(), set(), set()
    for i in range(300):
        key = b"key:%d" % i
        read.add(key)
        sent = server.turn(slot, ("GET", key.decode()))
        assert sent.startswith(b"_\r\n")
        told |= {one for one in read if push(one) in sent}
        assert server.tracked(slot) == len(read - told) <= 20
    server.turn(slot, ("MGET", *(f"many:{i}" for i in range(1000))))
    assert server.tracked(slot) <= 20


def test_a_lower_limit_is_reached_in_steps(server: Caches) -> None:
    slot = server.join()
    server.turn(slot, ("MGET", *(f"key:{i}" for i in range(5000))))
    server.registers.TRACKING_KEYS_MAX = 10
    trim_tracked(server.context, 100)
    assert server.tracked(slot) == 4900
    assert server.end(slot).endswith(b"".join(push(b"key:%d" % i) for i in range(100))), "the first read go first"
    server.turn(slot, ("GET", "key:4999"))
    assert server.tracked(slot) == 4900 - 101
    trim_tracked(server.context, 5000)
    assert server.tracked(slot) == 10
    server.registers.TRACKING_KEYS_MAX = 0  # no limit
    server.turn(slot, ("MGET", *(f"key:{i}" for i in range(5000))))
    assert server.tracked(slot) == 5000


def test_without_memory_for_an_interest_the_key_is_not_valid(server: Caches) -> None:
    slot = server.join()
    server.turn(slot, ("GET", "a"))
    words = server.words("TRACKED_KEYS", INTERESTS_WORDS)
    used, capacity = chained._USED, chained._CAPACITY
    kept = words[used], words[capacity]
    words[used] = words[capacity] = 1 << 50  # a table that cannot grow
    assert server.turn(slot, ("GET", "b"), ("PING",)) == b"_\r\n" + push(b"b") + b"+PONG\r\n"
    words[used], words[capacity] = kept
    assert server.tracked(slot) == 1


def test_a_closed_connection_ends_its_interests_in_steps(server: Caches) -> None:
    slot, other = server.join(), server.join()
    for start in range(0, 2 * END_STEP, 4096):
        server.turn(slot, ("MGET", *(f"key:{i}" for i in range(start, start + 4096))))
    server.turn(other, ("GET", "key:7"))
    server.registers.CONNECTION = -1
    kill_connection(server.context, slot)
    for left in (END_STEP, 0):
        server.registers.TURNS_LEFT = 1
        assert serve_turns(server.context) == 0
        if left:
            assert server.tracked(slot) == left
    assert server.rows[slot, connection.FLAGS] & connection.IN_USE == 0
    assert server.registers.TRACKING_CLIENTS == 1
    assert server.tracked(other) == 1
    assert tracking_ended(server.context, other) == 1
    assert server.tracked(other) == 0


def test_turning_it_off_ends_everything(server: Caches) -> None:
    slot, other = server.join(connection.TRACKING_NOLOOP | connection.TRACKING_OPTOUT), server.open()
    server.turn(slot, ("GET", "k"))
    tracking_off(server.context, slot)
    tracking_off(server.context, slot)
    assert server.tracked(slot) == server.registers.LISTENERS & TRACKED == server.registers.TRACKING_CLIENTS == 0
    assert server.rows[slot, connection.FLAGS] & connection.TRACKING_FLAGS == 0
    server.track(slot, 0)
    server.turn(other, ("SET", "k", 1))
    assert server.arrived(slot) == b"", "what it read before is no longer tracked"


@pytest.mark.parametrize("seed", range(4))
def test_a_stream_beside_a_model(server: Caches, seed: int) -> None:
    """Nobody holds a key that has changed since without having been told, and nobody is told twice."""
    chance = random.Random(seed)
    slots = [server.join(connection.TRACKING_NOLOOP * (i % 2)) for i in range(4)]
    caches: list[set[bytes]] = [set() for _ in slots]
    for _ in range(600):
        at = chance.randrange(len(slots))
        keys = [b"key:%d" % chance.randrange(30) for _ in range(chance.randrange(1, 4))]
        names = [key.decode() for key in keys]
        own = b""
        if chance.random() < 0.6:
            server.turn(slots[at], ("MGET", *names))
            caches[at] |= set(keys)
            continue
        own = server.turn(slots[at], ("MSET", *(word for name in names for word in (name, 1))))
        for other, cache in enumerate(caches):
            hears = other != at or other % 2 == 0
            first = list(dict.fromkeys(key for key in keys if key in cache))
            expected = b"".join(map(push, first)) if hears else b""
            got = own[len(b"+OK\r\n") :] if other == at else server.arrived(slots[other])
            assert got == expected
            cache -= set(keys)
            assert server.tracked(slots[other]) == len(cache)


# ------------------------------------------------------------------------------------------------------------ prefixes


def test_prefixes_are_told_of_each_key_once_a_turn_in_order(server: Caches) -> None:
    writer, everything = server.open(), server.join(connection.TRACKING_BCAST, b"")
    some = server.join(connection.TRACKING_BCAST, b"user:", b"a", b"longer than any key that is there")
    server.receive(writer, ("SET", "user:2", 1), ("SET", "b", 1), ("DEL", "user:2"), ("SET", "user:", 1))
    server.receive(writer, ("SET", "a", 1), ("SET", "user", 1), ("SET", "user:10", 1))
    server.end(writer)
    assert server.arrived(everything) == push(b"a", b"b", b"user", b"user:", b"user:10", b"user:2")
    assert server.arrived(some) == push(b"a") + push(b"user:", b"user:10", b"user:2")
    server.turn(writer, ("GET", "a"), ("SET", "ab", 1))
    assert server.arrived(some) == server.arrived(everything) == push(b"ab")


def test_noloop_leaves_out_what_it_changed_last(server: Caches) -> None:
    modes = connection.TRACKING_BCAST | connection.TRACKING_NOLOOP
    first, second, third = server.join(modes, b""), server.join(modes, b""), server.join(connection.TRACKING_BCAST, b"")
    server.receive(first, ("SET", "a", 1), ("SET", "b", 1))
    server.receive(second, ("SET", "b", 2), ("SET", "c", 1))
    assert server.end(first) == b"+OK\r\n+OK\r\n" + push(b"b", b"c")
    assert server.arrived(second) == b"+OK\r\n+OK\r\n" + push(b"a")
    assert server.arrived(third) == push(b"a", b"b", b"c")
    assert server.turn(first, ("SET", "a", 1)) == b"+OK\r\n"
    assert server.arrived(second) == server.arrived(third) == push(b"a")


@pytest.mark.parametrize("extra", [0, 3 * PREFIXES_TRIED])
def test_only_what_may_concern_somebody_is_collected(server: Caches, extra: int) -> None:
    writer = server.open()
    slot = server.join(connection.TRACKING_BCAST, b"x", *(b"%03d" % i for i in range(extra)))
    server.receive(writer, ("SET", "other", 1), ("MSET", "z", 1, "", 2))
    assert bool(server.registers.BROADCAST_DUE) == bool(extra)
    server.receive(writer, ("SET", "x1", 1))
    server.end(writer)
    assert server.arrived(slot) == push(b"x1")


def test_very_many_keys_are_told_before_the_turn_ends(server: Caches) -> None:
    writer = server.open()
    server.join(connection.TRACKING_BCAST, b"")
    count = COLLECTED_MAX // broadcasts.ROW_BYTES
    for start in range(0, count, 4096):
        server.receive(writer, ("MSET", *(word for i in range(start, start + 4096) for word in (f"{i}", 1))))
    assert server.registers.SENDS > 0
    words = server.words("BROADCAST_ADDRESS", BROADCAST_WORDS)
    assert words[chained.ROWS] < count // 2
    server.end(writer)
    assert words[chained.ROWS] == words[broadcasts._TEXT_LENGTH] == 0


def test_without_memory_for_a_key_nothing_is_valid(server: Caches) -> None:
    writer, slot = server.open(), server.join(connection.TRACKING_BCAST, b"a", b"b")
    server.turn(writer, ("SET", "a", 1))
    assert server.arrived(slot) == push(b"a")
    words = server.words("BROADCAST_ADDRESS", BROADCAST_WORDS)
    words[broadcasts._TEXT_LENGTH] = 1 << 60
    server.receive(writer, ("SET", "a", 1), ("SET", "c", 1))
    server.end(writer)
    assert server.arrived(slot) == 2 * NOTHING_IS_VALID, "once for each prefix"
    server.turn(writer, ("SET", "a", 1))
    assert server.arrived(slot) == push(b"a")


def test_keys_are_sorted_as_bytes() -> None:
    chance = random.Random(3)
    for count in (0, 1, 2, 3, 50, 1000):
        texts = [bytes(chance.choice(b"ab\0\xff") for _ in range(chance.randrange(12))) + b"!" for _ in range(count)]
        triples = np.array([(address_of(text), len(text), i) for i, text in enumerate(texts)], np.int64).reshape(-1)
        sort_triples(triples, count)
        found = [texts[i] for i in triples.reshape(-1, TRIPLE)[:, 2]] if count else []
        assert found == sorted(texts)
