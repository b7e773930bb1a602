r"""Turns: a pipeline is interrupted to serve other clients, and has no other visible effect.

The tests rely on order, not on time.  While writes are paused, two connections send pipelines that begin with a write,
so that all of their input lies in the server when the pause ends.  The first connection then goes on first.  Its last
command sees the second one's write only if the second had a turn in between.
"""

import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from tests.server.wire import OK, Wire, encode, wait_until

ENDLESS_US = 2**31 - 1
PIPELINES = {
    "INFO": encode("INFO") * 100,
    "unknown commands": encode("NOSUCH", "a", "b") * 40_000,
    "wrong arity": encode("GET") * 40_000,
    "HELLO": encode("HELLO") * 500,
    "empty lines": b"\r\n" * 2_000_000,
    "GET": encode("GET", "missing") * 40_000,
    "queued": encode("MULTI") + encode("GET", "missing") * 40_000 + encode("DISCARD"),
    "CLIENT LIST": encode("CLIENT", "LIST") * 5000,
}


def has_unread(admin: Wire, identity: int, count: int) -> bool:
    """Whether the server holds `count` bytes of a connection's input that it has not executed."""
    line = admin("CLIENT", "LIST", "ID", identity)
    return dict(field.split(b"=", 1) for field in line.split())[b"qbuf"] == b"%d" % count


@contextmanager
def two(address) -> Iterator[tuple[Wire, Wire]]:
    """Two connections; the first goes on first when a pause ends, because it is first in the table."""
    with Wire(address) as one, Wire(address) as other:
        by_id = {connection("CLIENT", "ID"): connection for connection in (one, other)}
        listed = [int(line.split()[0].removeprefix(b"id=")) for line in one("CLIENT", "LIST").splitlines()]
        first, second = (by_id[identity] for identity in listed if identity in by_id)
        yield first, second


def both_at_once(address, hog: Wire, pipeline: bytes, other: Wire, write: bytes) -> None:
    """Make `hog` and then `other` go on with all of their input at the same moment."""
    with Wire(address) as admin:
        identities = [hog("CLIENT", "ID"), other("CLIENT", "ID")]
        assert admin("CLIENT", "PAUSE", 1_000_000, "WRITE") == OK
        for connection, identity, data in zip((hog, other), identities, (pipeline, write), strict=True):
            connection.send(data)
            wait_until(partial(has_unread, admin, identity, len(data)), "all input to be received")
        assert admin("CLIENT", "UNPAUSE") == OK


@pytest.fixture(scope="module")
def address(start, tmp_path_factory) -> Iterator[tuple[str, int]]:
    """The address of a server with the default budget."""
    with start(tmp_path_factory.mktemp("turns")) as server:
        if server.is_redis:
            pytest.skip("of this server only")
        yield server.address


FIRST, SECOND = encode("SET", "first", "1"), encode("SET", "second", "seen")
LOOK = encode("GET", "second") + encode("QUIT")
SEEN, NOT_SEEN = b"$4\r\nseen\r\n+OK\r\n", b"$-1\r\n+OK\r\n"


@pytest.mark.parametrize("name", PIPELINES)
def test_another_client_is_served_in_the_middle_of_a_pipeline(address, name: str) -> None:
    """This holds for all commands, in kernels and in Python."""
    with two(address) as (hog, other):
        assert other("FLUSHALL") == OK
        both_at_once(address, hog, FIRST + PIPELINES[name] + LOOK, other, SECOND)
        assert hog.until_closed(60).endswith(SEEN)
        assert other.reply() == OK


def test_a_transaction_is_not_interrupted(address) -> None:
    """EXEC runs whole, including commands in Python."""
    with two(address) as (hog, other):
        assert other("FLUSHALL") == OK
        transaction = encode("MULTI") + encode("INFO") * 100 + encode("GET", "second") + encode("EXEC")
        both_at_once(address, hog, FIRST + transaction + encode("QUIT"), other, SECOND)
        assert hog.until_closed(60).endswith(NOT_SEEN)
        assert other.reply() == OK


@pytest.mark.parametrize(("budget_us", "end"), [(0, SEEN), (ENDLESS_US, NOT_SEEN)])
def test_the_budget_is_configured(start, tmp_path, budget_us: int, end: bytes) -> None:
    """With budget 0 every command is a turn of its own; with half an hour no pipeline is interrupted."""
    with start(tmp_path, options=("--turn-budget-us", str(budget_us))) as server, two(server.address) as (hog, other):
        both_at_once(server.address, hog, FIRST + encode("PING") + LOOK, other, SECOND)
        assert hog.until_closed(60).endswith(end)
        assert other.reply() == OK


def test_what_is_left_of_a_killed_clients_pipeline_is_not_executed(address) -> None:
    """The client that kills it has a turn in the middle of the pipeline."""
    with two(address) as (hog, other):
        assert other("FLUSHALL") == OK
        kill = SECOND + encode("CLIENT", "KILL", "ID", hog("CLIENT", "ID"))
        both_at_once(address, hog, FIRST + encode("INFO") * 100 + encode("SET", "last", "1"), other, kill)
        assert [other.reply(), other.reply()] == [OK, 1]
        hog.until_closed(60)
        assert other("EXISTS", "first", "last") == 1


# ------------------------------------------------------------------------- interrupted or not, the replies are the same


def commands(generator: random.Random) -> bytes:
    """A pipeline whose replies depend only on its own connection; its last command ends the connection."""
    keys = ["a", "b", "c"]

    def one() -> bytes:
        key = generator.choice(keys)
        kind = generator.randrange(22)
        size = generator.choice((1, 50, 5000, 70_000))
        return [
            lambda: encode("SET", key, generator.randrange(1000)),
            lambda: encode("SET", key, "v" * size),
            lambda: encode("GET", key),
            lambda: encode("INCR", key),
            lambda: encode("DEL", *keys),
            lambda: encode("PING", "a", "b"),
            lambda: encode("NOSUCH", key, "x\r\ny"),
            lambda: encode("GET"),
            lambda: encode("CLIENT", "GETNAME"),
            lambda: encode("CLIENT", "SETNAME", generator.choice(("me", "", "no good"))),
            lambda: encode("COMMAND", "INFO", "get"),
            lambda: encode("CONFIG", "GET", "maxmemory"),
            lambda: encode("CLIENT", "REPLY", generator.choice(("ON", "ON", "SKIP", "OFF"))),
            lambda: encode("CLIENT", "REPLY", "ON"),
            lambda: encode("MULTI"),
            lambda: encode("EXEC"),
            lambda: encode("DISCARD"),
            lambda: encode("WATCH", key),
            lambda: encode("FLUSHDB"),
            lambda: b'SET %b "quoted \\"%d\\" \\x41"\r\n' % (key.encode(), generator.randrange(10)),
            lambda: b"\r\n" * generator.randrange(3) + b"*0\r\n",
            lambda: encode("OBJECT", "ENCODING", key),
        ][kind]()

    body = b"".join(one() for _ in range(generator.randrange(1, 120)))
    return body + generator.choice((encode("QUIT"), encode("QUIT"), b"*1\r\nbad\r\n", b"POST / HTTP/1.1\r\n"))


def play(server, seed: int) -> list[bytes]:
    """The bytes that each of some connections receives; their input is sent in pieces, with pauses at random."""
    generator = random.Random(seed)
    streams = [commands(generator) for _ in range(4)]
    pieces = [generator.choice((13, 1000, 100_000)) for _ in streams]
    received: list[bytes] = [b""] * len(streams)

    def client(i: int) -> None:
        with Wire(server.address) as connection:
            assert connection("SELECT", i) == OK
            assert connection("FLUSHDB") == OK

            def send() -> None:
                try:
                    for at in range(0, len(streams[i]), pieces[i]):
                        connection.send(streams[i][at : at + pieces[i]])
                except OSError:
                    pass  # closed before the end

            sender = threading.Thread(target=send)
            sender.start()
            received[i] = connection.until_closed(60)
            sender.join()

    clients = [threading.Thread(target=client, args=(i,)) for i in range(len(streams))]
    for one in clients:
        one.start()
    with Wire(server.address) as admin:
        while any(one.is_alive() for one in clients):
            assert admin("CLIENT", "PAUSE", 5, generator.choice(("WRITE", "ALL"))) == OK
            assert admin("PING") is not None
    for one in clients:
        one.join()
    # Replies may be lost if the connection is closed without a reply behind them.
    return [
        data if not stream.endswith(b"HTTP/1.1\r\n") else b"" for data, stream in zip(received, streams, strict=True)
    ]


@pytest.fixture(scope="module")
def pair(start, tmp_path_factory):
    """A server that interrupts a pipeline after every command, and one that never does."""
    with (
        start(tmp_path_factory.mktemp("hasty"), options=("--hz", "500", "--turn-budget-us", "0")) as hasty,
        start(
            tmp_path_factory.mktemp("patient"), options=("--hz", "500", "--turn-budget-us", str(ENDLESS_US))
        ) as patient,
    ):
        yield hasty, patient


def compare(pair, seed: int, rounds: int) -> None:
    print(f"seed {seed}")
    for i in range(rounds):
        hasty, patient = (play(server, seed + i) for server in pair)
        assert hasty == patient, f"seed {seed + i}"


def test_interruptions_do_not_show(pair) -> None:
    """Plays streams over several connections at once; KVSTORE_TURNS_SEED replays."""
    compare(pair, int(os.environ.get("KVSTORE_TURNS_SEED", random.randrange(1 << 30))), 25)


@pytest.mark.slow
def test_interruptions_do_not_show_in_many_streams(pair) -> None:
    """The same, forty times as long."""
    compare(pair, int(os.environ.get("KVSTORE_TURNS_SEED", random.randrange(1 << 30))), 1000)
