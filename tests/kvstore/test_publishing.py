"""Publishing: written once for each protocol, in order, to channels, patterns and shard channels; subscriptions end."""

import contextlib
import ctypes
import threading
from collections.abc import Iterator

import pytest

from kvstore.commands.pubsub.subscribing import STEP
from kvstore.connections.interests import check_interests
from kvstore.effects.publishing import publish, receivers
from kvstore.effects.subscriptions import (
    CHANNEL,
    PATTERN,
    SHARD_CHANNEL,
    end_subscriptions,
    subscribe,
    subscribed_topics,
    unsubscribe,
)
from kvstore.lifetimes import connection
from kvstore.net.closing import close_connection
from kvstore.net.loop import serve_turns
from kvstore.net.output import keep_output, send_all
from mmcore.jit import int64, zeros
from mmcore.state import FREE_COUNT, TOTAL
from tests.kvstore.test_turn import Sockets, receive_of
from tests.server.wire import encode

PONG = b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"


class Publisher(Sockets):
    """Connections that subscribe, and messages to them, without commands."""

    def __init__(self) -> None:
        super().__init__()
        self.registers.CONNECTION = -1

    def topics(self, kind: int) -> int:
        r = self.registers
        return (r.CHANNELS, r.PATTERNS, r.SHARD_CHANNELS)[kind]

    def subscribe(self, slot: int, kind: int, name: bytes) -> None:
        address = ctypes.create_string_buffer(name, len(name) + 1)
        assert subscribe(self.context, slot, kind, ctypes.addressof(address), len(name)) == 0

    def unsubscribe(self, slot: int, kind: int, name: bytes) -> None:
        address = ctypes.create_string_buffer(name, len(name) + 1)
        unsubscribe(self.context, slot, kind, ctypes.addressof(address), len(name))

    def publish(self, name: bytes, text: bytes, kind: int = CHANNEL) -> int:
        names, texts = (ctypes.create_string_buffer(data, len(data) + 1) for data in (name, text))
        at = ctypes.addressof(names), len(name)
        expected = receivers(self.context, self.topics(kind), *at)
        count = publish(self.context, self.topics(kind), *at, ctypes.addressof(texts), len(text))
        assert expected == count
        return int(count)

    def speak(self, slot: int, protocol: int) -> None:
        self.shard.connections.row(slot)[connection.SPEAKS] = protocol

    def flags(self, slot: int) -> int:
        return int(self.shard.connections.row(slot)[connection.FLAGS])

    def check(self) -> list[int]:
        """Check the tables; returns how many subscriptions of each kind there are."""
        seen = zeros(int64, len(self.shard.connections))
        return [check_interests(self.topics(kind), seen, len(seen)) for kind in (CHANNEL, PATTERN, SHARD_CHANNEL)]


@pytest.fixture
def server() -> Iterator[Publisher]:
    with Publisher() as made:
        yield made
        for client in made.clients:
            client.close()


def message(*parts: bytes) -> bytes:
    return encode(*parts)


def push(*parts: bytes) -> bytes:
    return b">" + encode(*parts)[1:]


def test_a_message_reaches_all_subscribers_and_is_written_once_for_each_protocol(server: Publisher) -> None:
    slots = [server.open() for _ in range(4)]
    for slot in slots:
        server.subscribe(slot, CHANNEL, b"news")
    for slot in slots[2:]:
        server.speak(slot, 3)
    assert server.publish(b"news", b"hello") == 4
    assert 2 * len(message(b"message", b"news", b"hello")) == server.registers.MESSAGES_LENGTH
    assert server.registers.SENDS == 4
    send_all(server.context)
    assert [server.arrived(slot) for slot in slots[:2]] == 2 * [message(b"message", b"news", b"hello")]
    assert [server.arrived(slot) for slot in slots[2:]] == 2 * [push(b"message", b"news", b"hello")]


def test_messages_to_a_channel_that_nobody_hears_are_not_written(server: Publisher) -> None:
    slot = server.open()
    server.subscribe(slot, CHANNEL, b"news")
    assert server.publish(b"new", b"hello") == server.publish(b"news", b"hello", SHARD_CHANNEL) == 0
    assert server.registers.MESSAGES_LENGTH == server.registers.SENDS == 0


def test_a_channel_comes_before_its_patterns_and_these_in_the_order_of_their_age(server: Publisher) -> None:
    slot, other = server.open(), server.open()
    for pattern in (b"n?ws", b"x*", b"*"):
        server.subscribe(slot, PATTERN, pattern)
    server.subscribe(other, PATTERN, b"*")
    server.subscribe(slot, CHANNEL, b"news")
    assert server.publish(b"news", b"") == 4
    send_all(server.context)
    assert server.arrived(slot) == b"".join(
        (
            message(b"message", b"news", b""),
            message(b"pmessage", b"n?ws", b"news", b""),
            message(b"pmessage", b"*", b"news", b""),
        )
    )
    assert server.arrived(other) == message(b"pmessage", b"*", b"news", b"")


def test_shard_channels_are_apart(server: Publisher) -> None:
    slot = server.open()
    server.subscribe(slot, PATTERN, b"*")
    server.subscribe(slot, SHARD_CHANNEL, b"news")
    assert server.publish(b"news", b"1", SHARD_CHANNEL) == 1
    assert server.publish(b"news", b"2") == 1
    send_all(server.context)
    assert server.arrived(slot) == message(b"smessage", b"news", b"1") + message(b"pmessage", b"*", b"news", b"2")


def test_a_pattern_is_matched_when_its_first_subscriber_has_left(server: Publisher) -> None:
    slots = [server.open() for _ in range(3)]
    for slot in slots:
        server.subscribe(slot, PATTERN, b"[mn]ews")
    for gone in range(3):
        assert server.publish(b"news", b"x") == 3 - gone
        server.unsubscribe(slots[gone], PATTERN, b"[mn]ews")
    assert server.publish(b"news", b"x") == 0
    assert server.check() == [0, 0, 0]


def test_the_flag_and_the_counts_follow_all_three_kinds(server: Publisher) -> None:
    slot = server.open()
    kinds = (CHANNEL, PATTERN, SHARD_CHANNEL)
    for kind in kinds:
        for name in (b"a", b"b", b"a"):
            server.subscribe(slot, kind, name)
    assert [subscribed_topics(server.context, kind) for kind in kinds] == [2, 2, 2]
    assert server.check() == [2, 2, 2]
    for kind in kinds:
        assert server.registers.PUBSUB_CLIENTS == 1
        assert server.flags(slot) & connection.SUBSCRIBER
        for name in (b"a", b"b", b"c"):
            server.unsubscribe(slot, kind, name)
    assert server.registers.PUBSUB_CLIENTS == 0
    assert server.flags(slot) & connection.SUBSCRIBER == 0
    assert [subscribed_topics(server.context, kind) for kind in kinds] == [0, 0, 0]


@pytest.mark.parametrize("closing", [False, True], ids=["reset", "closed"])
def test_all_subscriptions_of_a_connection_end_at_once(server: Publisher, closing: bool) -> None:
    slot, other = server.open(), server.open()
    for one in (slot, other):
        for kind in (CHANNEL, PATTERN, SHARD_CHANNEL):
            for number in range(100):
                server.subscribe(one, kind, b"name:%d" % number)
    if closing:
        close_connection(server.context, slot)
    else:
        end_subscriptions(server.context, server.shard.connections.row(slot))
    assert server.check() == [100, 100, 100]
    assert server.registers.PUBSUB_CLIENTS == 1
    assert server.publish(b"name:7", b"x") == 2
    close_connection(server.context, other)
    assert server.check() == [0, 0, 0]
    assert server.registers.PUBSUB_CLIENTS == 0


def test_a_long_text_lies_in_memory_once_for_all_subscribers(server: Publisher) -> None:
    slots = [server.open() for _ in range(4)]
    for slot in slots:
        server.subscribe(slot, CHANNEL, b"news")
    text = bytes(1 << 22)
    assert server.publish(b"news", text) == 4
    assert len(message(b"message", b"news", text)) == server.registers.MESSAGES_LENGTH
    assert all(server.shard.connections.row(slot)[connection.OUTPUT_LENGTH] == 0 for slot in slots)


# ------------------------------------------------------------------------------------------------------------ commands


def converse(server: Publisher, slot: int, *commands: tuple[str | int, ...]) -> bytes:
    """The bytes that a connection receives after these commands, without a further turn."""
    data, received = b"".join(encode(*command) for command in commands), b""
    row = server.shard.connections.row(slot)
    expected = row[connection.BYTES_IN] + len(data)
    while row[connection.BYTES_IN] < expected:
        with contextlib.suppress(BlockingIOError):
            data = data[server.clients[slot].send(data[:60_000]) :]
        assert receive_of(server.context, slot) == 0
        send_all(server.context)
        while more := server.arrived(slot):
            received += more
    return received


def next_turn(server: Publisher, slot: int) -> bytes:
    """The bytes that a connection receives in the next turn of those that wait for one."""
    server.registers.TURNS_LEFT = server.registers.TURNS_PENDING
    assert serve_turns(server.context) == 0
    send_all(server.context)
    return server.arrived(slot)


def test_a_long_subscribe_takes_several_turns_and_others_are_served_between(server: Publisher) -> None:
    slot, other = server.open(), server.open()
    names = [str(number) for number in range(2 * STEP + 1)]
    row = server.shard.connections.row(slot)
    received = converse(server, slot, ("SUBSCRIBE", *names), ("PING",))
    for turn in range(1, 3):
        assert row[connection.CHANNELS_COUNT] == turn * STEP
        assert row[connection.FLAGS] & connection.WAITS_FOR_TURN
        assert converse(server, other, ("PUBLISH", "0", "x")) == b":1\r\n"
        received += server.arrived(slot)
        received += next_turn(server, slot)
    assert row[connection.CHANNELS_COUNT] == len(names) and row[connection.PART_DONE] == 0
    confirmed = [b"*3\r\n$9\r\nsubscribe\r\n$%d\r\n%d\r\n:%d\r\n" % (len(str(i)), i, i + 1) for i in range(len(names))]
    published = message(b"message", b"0", b"x")
    assert received == published.join(b"".join(confirmed[i : i + STEP]) for i in range(0, len(names), STEP)) + PONG
    received = converse(server, slot, ("UNSUBSCRIBE",), ("PING",))
    assert row[connection.CHANNELS_COUNT] == STEP + 1
    received += next_turn(server, slot) + next_turn(server, slot)
    assert received.count(b"unsubscribe") == len(names) and received.endswith(b":0\r\n+PONG\r\n")


@pytest.mark.parametrize("kind", ["", "P", "S"])
def test_the_empty_name_is_a_name(server: Publisher, kind: str) -> None:
    slot = server.open()
    received = converse(server, slot, (f"{kind}SUBSCRIBE", ""), (f"{kind}UNSUBSCRIBE",), (f"{kind}UNSUBSCRIBE",))
    word, end = (f"{kind}{word}".lower().encode() for word in ("SUBSCRIBE", "UNSUBSCRIBE"))
    confirmed = [(word, b"$0\r\n", 1), (end, b"$0\r\n", 0), (end, b"$-1", 0)]
    assert received == b"".join(
        b"*3\r\n$%d\r\n%s\r\n%s\r\n:%d\r\n" % (len(word), word, name, count) for word, name, count in confirmed
    )


def test_a_transaction_is_not_interrupted_by_a_long_subscribe(server: Publisher) -> None:
    slot = server.open()
    row = server.shard.connections.row(slot)
    names = [str(number) for number in range(2 * STEP + 1)]
    received = converse(server, slot, ("MULTI",), ("SUBSCRIBE", *names), ("UNSUBSCRIBE",), ("EXEC",))
    while row[connection.OUTPUT_LENGTH] > row[connection.OUTPUT_START]:
        keep_output(server.context, slot, row)
        received += server.arrived(slot)
    assert received.startswith(b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n*3\r\n$9\r\nsubscribe\r\n")
    assert received.count(b"$9\r\nsubscribe") == received.count(b"$11\r\nunsubscribe") == len(names)
    assert server.check() == [0, 0, 0]


def test_silenced_confirmations_of_a_long_subscribe_do_not_wait_for_its_end(server: Publisher) -> None:
    slot = server.open()
    row = server.shard.connections.row(slot)
    row[connection.FLAGS] |= connection.REPLY_OFF
    received = converse(server, slot, ("SUBSCRIBE", *range(STEP + 1)))
    assert received.count(b"subscribe") == STEP
    assert server.registers.SENDS_DEFERRED == server.registers.MESSAGES_LENGTH == 0
    assert next_turn(server, slot).count(b"subscribe") == 1


def test_what_a_transaction_publishes_is_heard_when_it_cannot_be_undone_any_more(server: Publisher) -> None:
    slot, other = server.open(), server.open()
    server.subscribe(other, CHANNEL, b"news")
    server.subscribe(other, PATTERN, b"*")
    server.subscribe(other, SHARD_CHANNEL, b"news")
    forks = server.shard.processor.counters["forks"]
    commands = (("APPEND", "key", "x"), ("PUBLISH", "news", "1"), ("SPUBLISH", "news", "2"))
    received = converse(server, slot, ("MULTI",), *commands, ("EXEC",))
    assert server.shard.processor.counters["forks"] == forks + 1
    assert received.endswith(b"*3\r\n:1\r\n:2\r\n:1\r\n")
    assert server.arrived(other) == b"".join(
        (
            message(b"message", b"news", b"1"),
            message(b"pmessage", b"*", b"news", b"1"),
            message(b"smessage", b"news", b"2"),
        )
    )


def test_nothing_is_heard_of_a_transaction_that_is_undone(server: Publisher) -> None:
    slot, other = server.open(), server.open()
    server.subscribe(other, CHANNEL, b"news")
    frames = server.memory.state.frames
    server.registers.FRAMES_IN_FORCE = int(frames[TOTAL] - frames[FREE_COUNT]) + 300
    commands = (("APPEND", "key", "x"), ("PUBLISH", "news", "1"))
    received = converse(
        server, slot, ("MULTI",), *commands, *(("SET", f"key:{i}", "v" * 4000) for i in range(500)), ("EXEC",)
    )
    assert received.endswith(b"(see machine-memory).\r\n") and b"-EXECABORT" in received
    assert server.arrived(other) == b""
    assert server.registers.MESSAGES_LENGTH == server.registers.PENDING_LENGTH == 0


def test_messages_in_a_store_that_is_read_only(server: Publisher) -> None:
    slot, other = server.open(), server.open()
    server.registers.READ_ONLY = 1
    assert converse(server, other, ("SUBSCRIBE", "news")).endswith(b":1\r\n")
    assert converse(server, slot, ("PUBLISH", "news", "x")) == b":1\r\n"
    assert server.arrived(other) == message(b"message", b"news", b"x")


def test_many_long_messages_are_sent_before_the_turn_ends(server: Publisher) -> None:
    slot, other = server.open(), server.open()
    server.subscribe(other, CHANNEL, b"news")
    text = "x" * 100_000
    server.clients[slot].setblocking(True)
    sender = threading.Thread(target=server.clients[slot].sendall, args=(encode("PUBLISH", "news", text) * 3,))
    sender.start()
    row = server.shard.connections.row(slot)
    while row[connection.COMMANDS] < 3:
        assert receive_of(server.context, slot) == 0
    sender.join()
    assert server.registers.MESSAGES_LENGTH == 0
    row = server.shard.connections.row(other)
    assert row[connection.BYTES_OUT] + row[connection.OUTPUT_LENGTH] == 3 * len(
        message(b"message", b"news", text.encode())
    )


def test_who_reads_nothing_is_closed_at_its_limit_and_no_byte_beyond_it_is_copied(server: Publisher) -> None:
    slots = [server.open() for _ in range(3)]
    server.registers.PUBSUB_HARD_LIMIT = 1 << 20
    for slot in slots:
        server.subscribe(slot, CHANNEL, b"news")
    closed = server.registers.OUTPUT_LIMIT_CLOSED
    assert server.publish(b"news", bytes(1 << 22)) == 3
    send_all(server.context)
    assert closed + 3 == server.registers.OUTPUT_LIMIT_CLOSED
    for slot in slots:
        row = server.shard.connections.row(slot)
        assert row[connection.FLAGS] & connection.KILLED
        assert row[connection.OUTPUT_CAPACITY] == 0
        server.clients[slot].close()


def test_the_output_of_one_that_is_always_late_does_not_grow(server: Publisher) -> None:
    """It has never read everything, but its buffer holds little more than what it has not read."""
    slot = server.open()
    server.subscribe(slot, CHANNEL, b"news")
    row, text = server.shard.connections.row(slot), bytes(10_000)
    while row[connection.OUTPUT_LENGTH] - row[connection.OUTPUT_START] < 500_000:
        server.publish(b"news", text)
        send_all(server.context)
    for _ in range(1000):
        server.clients[slot].recv(10_000)
        server.publish(b"news", text)
        send_all(server.context)
        assert row[connection.FLAGS] & connection.KILLED == 0
        assert row[connection.OUTPUT_LENGTH] > row[connection.OUTPUT_START]
    assert row[connection.OUTPUT_CAPACITY] < 4_000_000
    assert row[connection.OUTPUT_START] > 0
