"""Keyspace notifications, kernel by kernel: who hears of which event, when, and what an undone transaction tells."""

from collections.abc import Iterator

import pytest

from kvstore.effects.events import EVENTS
from kvstore.effects.journal import Journal
from kvstore.effects.notifications import set_classes
from kvstore.effects.subscriptions import CHANNEL, PATTERN
from kvstore.lifetimes.listeners import JOURNALED, NOTIFYING
from kvstore.net.output import send_all
from kvstore.store.expire import expire_step
from mmcore.state import FREE_COUNT, TOTAL
from tests.kvstore.test_publishing import Publisher, message


class Notifying(Publisher):
    """A client, and another that listens."""

    def __init__(self) -> None:
        super().__init__()
        self.client, self.listener = self.open(), self.open()

    def run(self, *commands: tuple[str | bytes | int, ...]) -> bytes:
        """The replies to some commands."""
        self.receive(self.client, *commands)
        send_all(self.context)
        return self.arrived(self.client)

    def heard(self) -> bytes:
        """All messages since the last call."""
        send_all(self.context)
        return self.arrived(self.listener)


@pytest.fixture
def server() -> Iterator[Notifying]:
    with Notifying() as made:
        yield made
        for client in made.clients:
            client.close()


def of_key(key: bytes, event: bytes, db: int = 0) -> bytes:
    return message(b"message", b"__keyspace@%d__:%s" % (db, key), event)


def of_event(event: bytes, key: bytes, db: int = 0) -> bytes:
    return message(b"message", b"__keyevent@%d__:%s" % (db, event), key)


def test_an_event_is_told_in_the_channel_of_its_key_and_then_in_its_own(server: Notifying) -> None:
    for channel in (b"__keyevent@0__:set", b"__keyspace@0__:key"):
        server.subscribe(server.listener, CHANNEL, channel)
    set_classes(server.registers, "K$E")
    server.run(("SET", "key", 1), ("SET", "other", 1), ("DEL", "key"))
    assert server.heard() == of_key(b"key", b"set") + of_event(b"set", b"key") + of_event(b"set", b"other")
    set_classes(server.registers, "Kg$")
    server.run(("SET", "key", 1), ("DEL", "key"))
    assert server.heard() == of_key(b"key", b"set") + of_key(b"key", b"del")
    set_classes(server.registers, "E$")
    server.run(("SET", "key", 1))
    assert server.heard() == of_event(b"set", b"key")


@pytest.mark.parametrize("classes", ["", "K", "E", "KE", "g$lshzxetdnm", "n"])
def test_without_a_class_and_a_channel_nobody_listens(server: Notifying, classes: str) -> None:
    server.subscribe(server.listener, PATTERN, b"*")
    set_classes(server.registers, "KEnm")
    assert NOTIFYING == server.registers.LISTENERS
    set_classes(server.registers, classes)
    assert server.registers.LISTENERS == 0
    server.run(("SET", "key", 1), ("GET", "none"))
    assert server.heard() == b""


def test_the_bit_of_listeners_is_one_of_several(server: Notifying) -> None:
    journal = Journal(server.context)
    set_classes(server.registers, "KE$")
    assert JOURNALED | NOTIFYING == server.registers.LISTENERS
    set_classes(server.registers, "")
    assert JOURNALED == server.registers.LISTENERS
    journal.close()


def test_nothing_is_written_when_nobody_is_subscribed(server: Notifying) -> None:
    set_classes(server.registers, "KEg$lshzxetdnm")
    server.receive(server.client, ("SET", "key", 1), ("GET", "none"), ("DEL", "key"))
    assert server.registers.MESSAGES_LENGTH == 0


def test_keys_are_any_bytes_and_databases_have_their_numbers(server: Notifying) -> None:
    key = bytes(range(256)) * 300
    for pattern in (b"__keyspace@15__:*", b"__keyevent@*__:*"):
        server.subscribe(server.listener, PATTERN, pattern)
    set_classes(server.registers, "KE$")
    keys = (b"", b"\r\n\0\xff", key)
    server.run(("SELECT", 15), *(("SET", one, 1) for one in keys))
    expected = b"".join(
        message(b"pmessage", b"__keyspace@15__:*", b"__keyspace@15__:" + one, b"set")
        + message(b"pmessage", b"__keyevent@*__:*", b"__keyevent@15__:set", one)
        for one in keys
    )
    heard = b""
    while len(heard) < len(expected):
        heard += server.heard()
    assert heard == expected


def test_the_longest_names_have_room(server: Notifying) -> None:
    assert max(len(event.name) for event in EVENTS) == len("xgroup-createconsumer")
    server.subscribe(server.listener, PATTERN, b"*")
    server.run(("SELECT", 15), ("XGROUP", "CREATE", "stream", "g", "$", "MKSTREAM"))
    set_classes(server.registers, "KEt")
    server.run(("XGROUP", "CREATECONSUMER", "stream", "g", "c"))
    assert server.heard() == b"".join(
        message(b"pmessage", b"*", *parts)
        for parts in (
            (b"__keyspace@15__:stream", b"xgroup-createconsumer"),
            (b"__keyevent@15__:xgroup-createconsumer", b"stream"),
        )
    )


def test_notices_are_no_changes(server: Notifying) -> None:
    """WATCH does not hear that a watched key was looked for in vain."""
    server.subscribe(server.listener, CHANNEL, b"__keyevent@0__:keymiss")
    set_classes(server.registers, "Em")
    assert server.run(("WATCH", "none"), ("GET", "none"), ("MULTI",), ("EXEC",)).endswith(b"*0\r\n")
    assert server.heard() == of_event(b"keymiss", b"none")
    dirty = server.registers.DIRTY
    server.run(("GET", "none"))
    assert dirty == server.registers.DIRTY


def test_the_one_who_causes_an_event_hears_of_it_behind_the_reply(server: Notifying) -> None:
    server.subscribe(server.client, CHANNEL, b"__keyspace@0__:key")
    server.speak(server.client, 3)
    set_classes(server.registers, "Kg$")
    pushed = [b">" + of_key(b"key", event)[1:] for event in (b"set", b"del")]
    assert server.run(("SET", "key", 1), ("DEL", "key")) == b"+OK\r\n" + pushed[0] + b":1\r\n" + pushed[1]
    queued = b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n:1\r\n"
    assert server.run(("MULTI",), ("SET", "key", 1), ("DEL", "key"), ("EXEC",)) == queued + b"".join(pushed)


def test_what_expires_between_commands_is_told(server: Notifying) -> None:
    server.subscribe(server.listener, PATTERN, b"__key*")
    server.run(("SET", "key", 1, "PX", 10), ("SET", "other", 1, "PX", 10), ("SET", "third", 1, "PX", 10))
    set_classes(server.registers, "KEx")
    server.clock_ms += 11
    server.run(("EXISTS", "other"))
    assert server.heard().count(b"pmessage") == 2
    server.registers.CONNECTION = -1
    assert expire_step(server.context, 1000) > 0
    heard = server.heard()
    for key in (b"key", b"third"):
        first = message(b"pmessage", b"__key*", b"__keyspace@0__:" + key, b"expired")
        assert heard.count(first + message(b"pmessage", b"__key*", b"__keyevent@0__:expired", key)) == 1
    assert heard.count(b"pmessage") == 4


def test_an_undone_transaction_tells_nothing(server: Notifying) -> None:
    server.subscribe(server.listener, PATTERN, b"*")
    server.run(("SET", "key", "x" * 100))
    set_classes(server.registers, "KEg$lshzxetdnm")
    frames = server.memory.state.frames
    in_force = server.registers.FRAMES_IN_FORCE
    server.registers.FRAMES_IN_FORCE = int(frames[TOTAL] - frames[FREE_COUNT]) + 300
    transaction = (("MULTI",), ("GET", "none"), ("APPEND", "key", "x"), ("SETRANGE", "new", 4 << 20, "y"), ("EXEC",))
    assert b"-EXECABORT Transaction discarded because of: OOM" in server.run(*transaction)
    assert server.heard() == b""
    server.registers.FRAMES_IN_FORCE = in_force
    assert server.run(*transaction).endswith(b"*3\r\n$-1\r\n:101\r\n:4194305\r\n")
    told = ((b"none", b"keymiss"), (b"key", b"append"), (b"new", b"new"), (b"new", b"setrange"))
    assert server.heard() == b"".join(
        message(b"pmessage", b"*", b"__keyspace@0__:" + key, event)
        + message(b"pmessage", b"*", b"__keyevent@0__:" + event, key)
        for key, event in told
    )


def test_very_many_events_of_one_command_arrive_in_order(server: Notifying) -> None:
    keys = [f"key:{i}" for i in range(3000)]
    server.subscribe(server.listener, CHANNEL, b"__keyevent@0__:del")
    server.run(("MSET", *(word for key in keys for word in (key, 1))))
    set_classes(server.registers, "Eg")
    server.run(("DEL", *keys))
    expected, heard = b"".join(of_event(b"del", key.encode()) for key in keys), b""
    while len(heard) < len(expected):
        heard += server.heard()
    assert heard == expected
