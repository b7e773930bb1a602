"""COPY of great values by clients: what others see meanwhile, and the ends that a COPY can have.

A test that needs a COPY under way looks for its command in CLIENT LIST, with its input unread.  That another client got
an answer then shows that others are served.  If the COPY was too fast to be seen, it is sent again.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness import Process
from tests.server.wire import OK, QUEUED, Closed, Failure, Status, Wire, encode, info, wait_until

COUNT = 60_000
COMMANDS = {"hash": "HSET", "set": "SADD", "zset": "ZADD", "list": "RPUSH"}
COPY = ("COPY", "great", "copy", "REPLACE")

pytestmark = pytest.mark.usefixtures("ours")


def fill(wire: Wire, kind: str = "hash", key: str = "great", count: int = COUNT, mark: str = "x") -> None:
    """Make a great value."""
    commands = []
    for first in range(0, count, 200):
        parts: list[str | int] = []
        for i in range(first, first + 200):
            name = f"{mark}:{i}"
            parts += (name, i) if kind == "hash" else (i * 7, name) if kind == "zset" else (name,)
        commands.append((COMMANDS[kind], key, *parts))
    assert not any(isinstance(reply, Failure) for reply in wire.pipeline(commands))


def digest(wire: Wire, key: str) -> str:
    """A digest of a key's value."""
    (reply,) = wire("DEBUG", "DIGEST-VALUE", key)
    assert isinstance(reply, Status) and set(reply.text) != {"0"}, f"there is no {key}"
    return reply.text


def used(wire: Wire) -> int:
    """Bytes that the store uses."""
    return int(info(wire, "memory")["used_memory_dataset"])


@pytest.fixture
def other(server: Process) -> Iterator[Wire]:
    with Wire(server.address) as connection:
        yield connection


def is_copying(wire: Wire, identity: int) -> bool:
    """Whether a connection's COPY is under way."""
    line = wire("CLIENT", "LIST", "ID", identity)
    fields = dict(field.split(b"=", 1) for field in line.split())
    return fields[b"cmd"] == b"copy" and fields[b"qbuf"] != b"0"


def begin(wire: Wire, other: Wire, *command: str) -> None:
    """Let a COPY of `wire` be under way, as `other` sees it."""
    identity = wire("CLIENT", "ID")
    while True:
        wire.send(encode(*command))
        for _ in range(5):
            if is_copying(other, identity):
                return
        wire.reply()


@pytest.mark.parametrize("kind", COMMANDS)
def test_others_are_served_while_a_great_value_is_copied(wire2: Wire, other: Wire, kind: str) -> None:
    fill(wire2, kind)
    before, forks = digest(wire2, "great"), int(info(wire2, "machine")["forks"])
    begin(wire2, other, *COPY)
    assert other("SET", "small", "x") == OK and other("GET", "small") == b"x"
    assert wire2.reply() == 1
    assert digest(wire2, "copy") == digest(wire2, "great") == before
    assert int(info(wire2, "machine")["forks"]) > forks
    assert wire2("OBJECT", "ENCODING", "copy") == wire2("OBJECT", "ENCODING", "great")


def test_what_others_change_meanwhile_is_in_the_source_alone(wire2: Wire, other: Wire) -> None:
    fill(wire2)
    before = digest(wire2, "great")
    begin(wire2, other, *COPY)
    assert other("HSET", "great", "x:5", "changed", "new", "y") == 1 and other("HDEL", "great", "x:6") == 1
    # The change came after the copying had begun.  It could come after its end, too.
    assert wire2.reply() == 1
    assert digest(wire2, "copy") == before != digest(wire2, "great")
    assert wire2("HMGET", "great", "x:5", "x:6", "new") == [b"changed", None, b"y"]


def test_a_pipeline_goes_on_behind_it(wire2: Wire, other: Wire) -> None:
    fill(wire2, "zset")
    replies = wire2.pipeline([("SET", "a", 1), COPY, ("ZCARD", "copy"), COPY[:3], ("DEL", "great", "copy"), COPY])
    assert replies == [OK, 1, COUNT, 0, 2, 0]


def test_several_clients_copy_at_once(server: Process, wire2: Wire) -> None:
    fill(wire2, "hash")
    fill(wire2, "zset", "second")
    before = {key: digest(wire2, key) for key in ("great", "second")}
    clients = [Wire(server.address) for _ in range(6)]
    for i, client in enumerate(clients):
        client.send(encode("COPY", ("great", "second")[i % 2], f"copy:{i}"))
    assert [client.reply() for client in clients] == [1] * 6
    for i, client in enumerate(clients):
        assert digest(wire2, f"copy:{i}") == before[("great", "second")[i % 2]]
        client.close()


@pytest.mark.parametrize("how", ["KILL", "closed"])
def test_a_client_that_goes_leaves_the_whole_or_nothing(server: Process, wire2: Wire, other: Wire, how: str) -> None:
    fill(wire2)
    before, empty = digest(wire2, "great"), used(wire2)
    client = Wire(server.address)
    identity = client("CLIENT", "ID")
    begin(client, other, *COPY)
    if how == "KILL":
        assert other("CLIENT", "KILL", "ID", identity) == 1
        client.until_closed()
    client.close()
    wait_until(lambda: not other("CLIENT", "LIST", "ID", identity), "the end of the connection")
    if how == "closed":
        assert digest(other, "copy") == before, "a command that was sent is executed"
    elif other("EXISTS", "copy"):
        assert digest(other, "copy") == before
    other("DEL", "copy")
    wait_until(lambda: used(other) < empty + 100_000, "what was copied to be freed")
    assert other("COPY", "great", "copy") == 1 and digest(other, "copy") == before


def test_a_pause_of_writes_is_waited_for(wire2: Wire, other: Wire) -> None:
    fill(wire2)
    begin(wire2, other, *COPY)
    assert other("CLIENT", "PAUSE", 100_000_000, "WRITE") == OK
    assert other("HLEN", "great") == COUNT
    assert other("CLIENT", "UNPAUSE") == OK
    assert wire2.reply() == 1 and digest(wire2, "copy") == digest(wire2, "great")


def test_maxmemory_refuses_it_in_the_middle(wire2: Wire, other: Wire) -> None:
    fill(wire2)
    empty = used(wire2)
    total = int(info(wire2, "memory")["used_memory"])
    assert wire2("CONFIG", "SET", "maxmemory", total + 1_000_000) == OK
    try:
        reply = wire2(*COPY)
        assert reply == Failure("OOM command not allowed when used memory > 'maxmemory'.")
        wait_until(lambda: used(wire2) < empty + 100_000, "what was copied to be freed")
        assert wire2("EXISTS", "copy") == 0 and wire2("PING") == Status("PONG")
    finally:
        wire2("CONFIG", "SET", "maxmemory", 0)
    assert wire2(*COPY) == 1


def test_within_a_transaction_it_is_copied_at_once(wire2: Wire, other: Wire) -> None:
    fill(wire2, "zset")
    replies = wire2.pipeline([("MULTI",), COPY, ("ZADD", "great", 1, "new"), ("ZCARD", "copy"), ("EXEC",)])
    assert replies == [OK, QUEUED, QUEUED, QUEUED, [1, 1, COUNT]]


def test_what_is_deleted_meanwhile_does_not_come_back(wire2: Wire, other: Wire) -> None:
    fill(wire2)
    begin(wire2, other, *COPY)
    assert other("FLUSHALL") == OK
    # It may have ended before FLUSHALL; then it was deleted with everything else.
    assert wire2.reply() in (0, 1)
    assert wire2("DBSIZE") == 0
    empty = int(info(wire2, "memory")["used_memory_dataset"])
    wait_until(lambda: used(wire2) <= empty, "what was copied to be freed")


def test_reloading_meanwhile_does_no_harm(start: Callable[..., Process], data: Path) -> None:
    with start(data) as server, Wire(server.address) as wire, Wire(server.address) as other:
        fill(wire)
        before = digest(wire, "great")
        begin(wire, other, *COPY)
        assert other("DEBUG", "RELOAD") == OK
        assert wire.reply() == 1
        assert digest(wire, "copy") == digest(wire, "great") == before


@pytest.mark.parametrize("end", ["kill -9", "SHUTDOWN", "SIGTERM"])
def test_a_server_that_ends_meanwhile_starts_with_the_whole_or_nothing(
    start: Callable[..., Process], data: Path, end: str
) -> None:
    with start(data, save="3600 1") as server, Wire(server.address) as wire, Wire(server.address) as other:
        fill(wire)
        before = digest(wire, "great")
        begin(wire, other, *COPY)
        if end == "SHUTDOWN":
            other.send(encode("SHUTDOWN", "SAVE"))
            assert server.ended() == 0
        elif end == "SIGTERM":
            assert server.terminate() == 0
        else:
            assert other("SAVE") == OK
            server.kill()
        with pytest.raises((Closed, ConnectionError)):
            while True:
                wire.reply()
    with start(data) as server, Wire(server.address) as wire:
        assert digest(wire, "great") == before
        if wire("EXISTS", "copy"):
            assert digest(wire, "copy") == before
        wire("DEL", "copy", "great")
        wait_until(lambda: used(wire) < 10_000, "everything to be freed")


def test_images_written_meanwhile_hold_the_whole_or_nothing(start: Callable[..., Process], data: Path) -> None:
    with start(data) as server, Wire(server.address) as wire, Wire(server.address) as other:
        fill(wire)
        before = digest(wire, "great")
        begin(wire, other, *COPY)
        assert isinstance(other("BGSAVE"), Status)
        assert wire.reply() == 1 and digest(wire, "copy") == before
        wait_until(lambda: info(other, "persistence")["rdb_bgsave_in_progress"] == "0", "the image")
        server.kill()
    with start(data) as server, Wire(server.address) as wire:
        assert digest(wire, "great") == before
        if wire("EXISTS", "copy"):
            assert digest(wire, "copy") == before
        wire("DEL", "copy", "great")
        wait_until(lambda: used(wire) < 10_000, "everything to be freed")


def test_a_line_that_takes_several_turns_is_kept_as_it_was_sent(wire2: Wire, other: Wire) -> None:
    """An inline command is parsed again in each turn, though it is unquoted in place; nobody else's line takes part."""
    fill(wire2)
    assert wire2("SET", "keep", 1) == OK
    other.send(b"DEL gone\r\n")
    assert other.reply() == 0
    for _ in range(3):
        other.send(b'COPY "great" copy REPLACE\r\n')
        assert other.reply() == 1
    assert digest(wire2, "copy") == digest(wire2, "great")
    assert wire2("EXISTS", "keep") == 1
    other.send(b"WATCH " + b" ".join(b"k%d" % i for i in range(9_000)) + b"\r\nPING\r\n")
    assert other.reply() == OK
    assert other.reply() == Status("PONG")
