"""Publishing: written once for each protocol, in order, to channels, patterns and shard channels; subscriptions end."""

import ctypes
from collections.abc import Iterator

import pytest

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
from kvstore.net.output import send_all
from mmcore.jit import int64, zeros
from tests.kvstore.test_turn import Sockets
from tests.server.wire import encode


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
