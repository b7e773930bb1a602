"""Publish/subscribe: forms and errors, the restricted mode of RESP2, limits, and the client library's own classes."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

from tests.server.wire import OK, Failure, Status, Wire, encode, info, run_transcript, wait_until

CANNOT = (
    "ERR Can't execute '%s': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
)


@pytest.fixture
def other(server) -> Iterator[Wire]:
    """A second connection."""
    with Wire(server.address) as connection:
        yield connection


def figures(wire: Wire) -> list[int]:
    """INFO's channels, patterns, shard channels and subscribed connections."""
    stats, clients = info(wire, "stats"), info(wire, "clients")
    names = ("pubsub_channels", "pubsub_patterns", "pubsubshard_channels")
    return [*(int(stats[name]) for name in names), int(clients["pubsub_clients"])]


# --------------------------------------------------------------------------------------------------- forms and errors

FORMS = r"""
    SUBSCRIBE                       -> !ERR wrong number of arguments for 'subscribe' command
    PSUBSCRIBE                      -> !ERR wrong number of arguments for 'psubscribe' command
    SSUBSCRIBE                      -> !ERR wrong number of arguments for 'ssubscribe' command
    PUBLISH a                       -> !ERR wrong number of arguments for 'publish' command
    PUBLISH a b c                   -> !ERR wrong number of arguments for 'publish' command
    SPUBLISH a                      -> !ERR wrong number of arguments for 'spublish' command
    PUBLISH a b                     -> 0
    SPUBLISH a b                    -> 0
    UNSUBSCRIBE                     -> ["unsubscribe", nil, 0]
    PUNSUBSCRIBE                    -> ["punsubscribe", nil, 0]
    SUNSUBSCRIBE                    -> ["sunsubscribe", nil, 0]
    UNSUBSCRIBE none                -> ["unsubscribe", "none", 0]
    PUBSUB CHANNELS                 -> []
    PUBSUB SHARDCHANNELS            -> []
    PUBSUB channels *               -> []
    PUBSUB NUMSUB                   -> []
    PUBSUB NUMSUB a b               -> ["a", 0, "b", 0]
    PUBSUB SHARDNUMSUB a            -> ["a", 0]
    PUBSUB NUMPAT                   -> 0
    PUBSUB NUMPAT a                 -> !ERR wrong number of arguments for 'pubsub|numpat' command
    PUBSUB CHANNELS a b      -> !ERR unknown subcommand or wrong number of arguments for 'CHANNELS'. Try PUBSUB HELP.
    PUBSUB shardchannels a b -> !ERR unknown subcommand or wrong number of arguments for 'shardchannels'. ...
    PUBSUB nosuch                   -> !ERR unknown subcommand 'nosuch'. Try PUBSUB HELP.
    PUBSUB                          -> !ERR wrong number of arguments for 'pubsub' command
    MULTI                           -> OK
    SSUBSCRIBE a                    -> QUEUED
    PUBLISH a b                     -> QUEUED
    EXEC                            -> [!ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client, 0]
"""


def test_forms_and_errors(wire: Wire) -> None:
    run_transcript(wire, FORMS)


def test_names_are_listed_once_by_pattern_and_counted(server, wire: Wire, other: Wire) -> None:
    with Wire(server.address) as third:
        for one in (other, third):
            for name in ("news", "n*ws", "weather", ""):
                one("SUBSCRIBE", name)
        third("SSUBSCRIBE", "shard")
        third("PSUBSCRIBE", "*")
        other("PSUBSCRIBE", "*")
        assert sorted(wire("PUBSUB", "CHANNELS")) == [b"", b"n*ws", b"news", b"weather"]
        assert wire("PUBSUB", "CHANNELS", "n\\*ws") == [b"n*ws"]
        assert sorted(wire("PUBSUB", "CHANNELS", "n*")) == [b"n*ws", b"news"]
        assert wire("PUBSUB", "SHARDCHANNELS") == [b"shard"]
        assert wire("PUBSUB", "NUMSUB", "news", "shard", "news") == [b"news", 2, b"shard", 0, b"news", 2]
        assert wire("PUBSUB", "SHARDNUMSUB", "shard") == [b"shard", 1]
        assert wire("PUBSUB", "NUMPAT") == 1
        assert figures(wire) == [4, 1, 1, 2]
    wait_until(lambda: figures(wire) == [4, 1, 0, 1], "the subscriptions of a closed connection to end")
    assert wire("PUBLISH", "news", "x") == 2
    assert [other.reply(), other.reply()] == [[b"message", b"news", b"x"], [b"pmessage", b"*", b"news", b"x"]]
    assert other("RESET") == Status("RESET")
    assert figures(wire) == [0, 0, 0, 0]
    assert wire("PUBLISH", "news", "x") == 0


# ------------------------------------------------------------------------------------------------- the restricted mode

REFUSED = {
    ("GET", "a"): "get",
    ("SET", "a", "1"): "set",
    ("PUBLISH", "news", "x"): "publish",
    ("CLIENT", "ID"): "client|id",
    ("CLIENT", "REPLY", "ON"): "client|reply",
    ("PUBSUB", "NUMPAT"): "pubsub|numpat",
    ("HELLO", "3"): "hello",
    ("MULTI",): "multi",
    ("INFO",): "info",
    ("AUTH", "x"): "auth",
}


def test_a_subscriber_in_resp2_may_do_little(wire2: Wire, ours: None) -> None:
    assert wire2("SSUBSCRIBE", "news") == [b"ssubscribe", b"news", 1]
    for words, name in REFUSED.items():
        assert wire2(*words) == Failure(CANNOT % name)
    assert wire2("PING") == [b"pong", b""]
    assert wire2("PING", "text") == [b"pong", b"text"]
    assert wire2("NOSUCH").text.startswith("ERR unknown command")
    assert wire2("CLIENT", "NOSUCH") == Failure("ERR unknown subcommand 'NOSUCH'. Try CLIENT HELP.")
    assert wire2("GET") == Failure("ERR wrong number of arguments for 'get' command")
    assert wire2("CLIENT", "KILL") == Failure("ERR wrong number of arguments for 'client|kill' command")
    assert wire2("SUNSUBSCRIBE", "news") == [b"sunsubscribe", b"news", 0]
    assert wire2("GET", "a") is None
    assert wire2("PING") == Status("PONG")


def test_refusals_are_counted(wire2: Wire, other: Wire, ours: None) -> None:
    before = (
        info(other, "commandstats").get("cmdstat_get", "rejected_calls=0").split("rejected_calls=")[1].split(",")[0]
    )
    wire2("SUBSCRIBE", "news")
    wire2("GET", "a")
    after = info(other, "commandstats")["cmdstat_get"].split("rejected_calls=")[1].split(",")[0]
    assert int(after) == int(before) + 1


def test_reset_and_quit_leave_it(wire2: Wire, other: Wire) -> None:
    wire2("SUBSCRIBE", "news")
    assert wire2("RESET") == Status("RESET")
    assert wire2("GET", "a") is None
    wire2("SUBSCRIBE", "news")
    assert wire2("QUIT") == OK
    assert wire2.until_closed() == b""
    wait_until(lambda: other("PUBLISH", "news", "x") == 0, "the connection to be closed")


def test_resp3_knows_no_such_mode_and_hello_changes_between_both(wire2: Wire, other: Wire) -> None:
    assert isinstance(wire2("HELLO", "3"), dict)
    wire2("SUBSCRIBE", "news")
    assert wire2("GET", "a") is None
    assert wire2("PING") == Status("PONG")
    other("PUBLISH", "news", "1")
    assert wire2.raw_reply() == b">" + encode("message", "news", "1")[1:]
    assert isinstance(wire2("HELLO", "2"), list)
    other("PUBLISH", "news", "2")
    assert wire2.raw_reply() == encode("message", "news", "2")
    assert wire2("GET", "a") == Failure(CANNOT % "get")


def test_exec_is_refused_and_its_transaction_discarded(wire2: Wire, ours: None) -> None:
    """A transaction that subscribes, and goes back to RESP2, leaves the connection restricted."""
    wire2("HELLO", "3")
    wire2("SUBSCRIBE", "news")
    wire2("MULTI")
    assert wire2("HELLO", "2") == Status("QUEUED")
    wire2("EXEC")
    assert wire2("EXEC") == Failure(
        "EXECABORT Transaction discarded because of: " + (CANNOT % "exec").removeprefix("ERR ")
    )
    assert wire2("PING") == [b"pong", b""]


# ------------------------------------------------------------------------------------------- what else has to be right


def test_silenced_clients_hear_messages_and_confirmations(wire2: Wire, other: Wire) -> None:
    wire2.send(encode("CLIENT", "REPLY", "OFF") + encode("SET", "a", "1") + encode("SUBSCRIBE", "news", "x"))
    assert [wire2.reply(), wire2.reply()] == [[b"subscribe", b"news", 1], [b"subscribe", b"x", 2]]
    assert other("PUBLISH", "news", "1") == 1
    assert wire2.reply() == [b"message", b"news", b"1"]
    wire2.send(encode("PING") + encode("UNSUBSCRIBE", "x", "news"))
    assert [wire2.reply(), wire2.reply()] == [[b"unsubscribe", b"x", 1], [b"unsubscribe", b"news", 0]]
    assert wire2("CLIENT", "REPLY", "ON") == OK


def test_a_password_is_asked_for(start, tmp_path: Path) -> None:
    with (
        start(tmp_path, options=("--requirepass", "secret"), password="secret") as server,
        Wire(server.address) as stranger,
        Wire(server.address) as known,
    ):
        assert known("AUTH", "secret") == OK
        known("SUBSCRIBE", "news")
        for words in (("SUBSCRIBE", "news"), ("PUBLISH", "news", "x"), ("PUBSUB", "CHANNELS"), ("UNSUBSCRIBE",)):
            assert stranger(*words) == Failure("NOAUTH Authentication required.")
        assert stranger("AUTH", "secret") == OK
        assert stranger("PUBLISH", "news", "x") == 1
        assert known.reply() == [b"message", b"news", b"x"]


def test_messages_go_on_while_writes_are_refused(start, data: Path) -> None:
    """As in Redis: after a snapshot has failed, only what writes is refused, and PING, which tells of the failure."""
    with start(data, save="3600 1") as server, Wire(server.address) as wire, Wire(server.address) as listener:
        listener("SUBSCRIBE", "news")
        away = data.with_name("away")
        data.rename(away)
        assert wire("SET", "a", "1") == OK
        assert isinstance(wire("SAVE"), Failure)
        wait_until(lambda: isinstance(wire("SET", "a", "2"), Failure), "writes to be refused")
        assert wire("PUBLISH", "news", "x") == 1
        assert listener.reply() == [b"message", b"news", b"x"]
        assert listener("SUBSCRIBE", "more") == [b"subscribe", b"more", 2]
        assert isinstance(listener("PING"), Failure)
        away.rename(data)


def test_a_pause_of_writes_holds_messages_back(wire2: Wire, other: Wire) -> None:
    other("SUBSCRIBE", "news")
    assert wire2("CLIENT", "PAUSE", "1000000", "WRITE") == OK
    try:
        with Wire(wire2.socket.getpeername()) as third:
            third.send(encode("PUBLISH", "news", "x"))
            wait_until(lambda: info(wire2, "clients")["blocked_clients"] == "1", "PUBLISH to be held back")
            assert other("SUBSCRIBE", "more") == [b"subscribe", b"more", 2]
            assert wire2("CLIENT", "UNPAUSE") == OK
            assert other.reply() == [b"message", b"news", b"x"]
            assert third.reply() == 1
    finally:
        assert wire2("CLIENT", "UNPAUSE") == OK


def test_a_full_store_does_not_keep_messages_back(wire2: Wire, other: Wire) -> None:
    other("SUBSCRIBE", "news")
    assert wire2("SET", "a", "1") == OK
    assert wire2("CONFIG", "SET", "maxmemory", "1") == OK
    try:
        assert wire2("SET", "a", "1").text.startswith("OOM")
        assert wire2("PUBLISH", "news", "x") == 1
        assert other.reply() == [b"message", b"news", b"x"]
    finally:
        assert wire2("CONFIG", "SET", "maxmemory", "0") == OK


def test_a_long_message_reaches_all(server, wire2: Wire) -> None:
    text = bytes(range(256)) * (20 << 12)  # 20 MiB
    with ExitStack() as stack:
        listeners = [stack.enter_context(Wire(server.address, protocol)) for protocol in (2, 3, 2)]
        for one in listeners:
            one("SUBSCRIBE", "news")
        received: list[Any] = []
        readers = [threading.Thread(target=lambda one=one: received.append(one.reply())) for one in listeners]
        for reader in readers:
            reader.start()
        assert wire2("PUBLISH", "news", text) == 3
        for reader in readers:
            reader.join()
        assert received == [[b"message", b"news", text]] * 3


def test_a_thousand_subscribers(server, wire2: Wire, ours: None) -> None:
    """All get all messages, by one system call each for a whole pipeline."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(Wire(server.address)) for _ in range(1000)]
        for one in listeners:
            one.send(encode("SUBSCRIBE", "news"))
        for one in listeners:
            assert one.reply() == [b"subscribe", b"news", 1]
        assert figures(wire2) == [1, 0, 0, 1000]
        assert wire2("PUBSUB", "NUMSUB", "news") == [b"news", 1000]
        before = info(wire2, "stats")
        assert wire2.pipeline([("PUBLISH", "news", str(number)) for number in range(16)]) == [1000] * 16
        after = info(wire2, "stats")
        messages = [[b"message", b"news", b"%d" % number] for number in range(16)]
        for one in listeners:
            assert [one.reply() for _ in messages] == messages
        writes = int(after["total_writes_processed"]) - int(before["total_writes_processed"])
        assert 1000 <= writes < 3000, "16,000 messages"
    wait_until(lambda: figures(wire2) == [0, 0, 0, 0], "all subscriptions to end")


# --------------------------------------------------------------------------------------------------------------- limits


def closed_by_limit(wire: Wire) -> int:
    """Connections that were closed because they did not read."""
    return int(info(wire, "stats")["client_output_buffer_limit_disconnections"])


@pytest.fixture
def limited(wire2: Wire) -> Iterator[Callable[[str], None]]:
    """Sets a limit for subscribers; the default comes back at the end."""

    def limit(text: str) -> None:
        assert wire2("CONFIG", "SET", "client-output-buffer-limit", f"pubsub {text}") == OK

    yield limit
    limit("32mb 8mb 60")


def test_who_reads_nothing_is_closed_at_its_limit_and_harms_nobody(
    server, wire2: Wire, other: Wire, limited, ours: None
) -> None:
    limited("1mb 0 0")
    other("SUBSCRIBE", "news")
    before, text = closed_by_limit(wire2), b"x" * 100_000
    with Wire(server.address) as deaf:
        deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf("SUBSCRIBE", "news")
        published = 0
        while closed_by_limit(wire2) == before:
            wire2("PUBLISH", "news", text)
            published += 1
            assert other.reply() == [b"message", b"news", text]
            assert published < 1000
        assert wire2("PUBLISH", "news", text) == 1
        assert other.reply() == [b"message", b"news", text]
        assert 100_000 * published > 1 << 20


def test_the_soft_limit_counts_seconds(server, wire2: Wire, limited, ours: None) -> None:
    limited("0 100kb 50")
    before = closed_by_limit(wire2)
    with Wire(server.address) as deaf:
        deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf("SUBSCRIBE", "news")
        for _ in range(100):
            assert wire2("PUBLISH", "news", b"x" * 100_000) == 1
        assert wire2("DEBUG", "SHIFT-CLOCK", "TIMER", 40_000) == OK
        assert wire2("PUBLISH", "news", "x") == 1
        assert closed_by_limit(wire2) == before
        assert wire2("DEBUG", "SHIFT-CLOCK", "TIMER", 20_000) == OK
        wait_until(lambda: wire2("PUBLISH", "news", "x") == 0, "the deaf subscriber to be closed")
        assert closed_by_limit(wire2) == before + 1


def test_the_limit_of_subscribers_is_not_that_of_others(server, wire2: Wire, limited, ours: None) -> None:
    """It holds from the first subscription to the end of the last one."""
    limited("1kb 0 0")
    assert wire2("CONFIG", "GET", "client-output-buffer-limit")[1] == (
        b"normal 0 0 0 slave 268435456 67108864 60 pubsub 1024 0 0"
    )
    before = closed_by_limit(wire2)
    with Wire(server.address, 3) as one:
        one("SET", "big", b"x" * (16 << 20))
        assert len(one("GET", "big")) == 16 << 20
        one("SUBSCRIBE", "news")
        one("UNSUBSCRIBE", "news")
        assert len(one("GET", "big")) == 16 << 20
        assert closed_by_limit(wire2) == before
        one("PSUBSCRIBE", "*")
        one.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.send(encode("GET", "big"))
        wait_until(lambda: closed_by_limit(wire2) == before + 1, "a subscriber to be closed for a long reply")


# ---------------------------------------------------------------------------------------------------- client libraries


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def client(server, request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    """redis-py, in either protocol."""
    with redis.Redis(*server.address, protocol=request.param, decode_responses=True) as made:
        yield made


def wait_for_message(listening: Any, **more: Any) -> dict[str, Any]:
    """The next message of redis-py's PubSub."""
    return dict(wait_until(lambda: listening.get_message(timeout=1.0, **more), "a message"))


def test_redis_py_gets_messages(client: redis.Redis) -> None:
    with client.pubsub() as listening:
        listening.subscribe("news")
        listening.psubscribe("n*")
        assert wait_for_message(listening) == {"type": "subscribe", "pattern": None, "channel": "news", "data": 1}
        assert wait_for_message(listening) == {"type": "psubscribe", "pattern": None, "channel": "n*", "data": 2}
        assert client.publish("news", "hello") == 2
        assert wait_for_message(listening) == {"type": "message", "pattern": None, "channel": "news", "data": "hello"}
        assert wait_for_message(listening) == {"type": "pmessage", "pattern": "n*", "channel": "news", "data": "hello"}
        listening.ping()
        assert wait_for_message(listening)["type"] == "pong" or client.get_connection_kwargs()["protocol"] == 3
        listening.unsubscribe()
        assert wait_for_message(listening)["type"] == "unsubscribe"
        assert client.pubsub_channels() == [] and client.pubsub_numpat() == 1
        assert client.pubsub_numsub("news") == [("news", 0)]


def test_redis_py_listens_in_a_thread(client: redis.Redis) -> None:
    heard: list[str] = []
    listening = client.pubsub(ignore_subscribe_messages=True)
    listening.subscribe(news=lambda message: heard.append(message["data"]))
    thread = listening.run_in_thread(sleep_time=0.01)
    try:
        wait_until(lambda: client.publish("news", "first") == 1, "the thread to subscribe")
        for number in range(100):
            client.publish("news", str(number))
        wait_until(lambda: len(heard) == 101, "all messages")
        assert heard == ["first", *map(str, range(100))]
    finally:
        thread.stop()
        thread.join()


def test_redis_py_has_shard_channels(client: redis.Redis) -> None:
    with client.pubsub(ignore_subscribe_messages=True) as listening:
        listening.ssubscribe("news")
        wait_until(lambda: listening.get_message(timeout=0.1) is None and listening.subscribed, "the confirmation")
        assert client.execute_command("SPUBLISH", "news", "hello") == 1
        assert wait_for_message(listening)["data"] == "hello"
        assert client.pubsub_shardchannels() == ["news"]
        assert client.pubsub_shardnumsub("news") == [("news", 1)]


def test_redis_py_listens_asynchronously(server) -> None:
    async def talk() -> list[str]:
        found: list[str] = []
        async with (
            redis.asyncio.Redis(host=server.host, port=server.port, decode_responses=True) as one,
            one.pubsub(ignore_subscribe_messages=True) as listening,
        ):
            await listening.psubscribe("n*")
            while await one.publish("news", "0") == 0:
                await asyncio.sleep(0.01)
            for number in range(1, 50):
                await one.publish("news", str(number))
            async for message in listening.listen():
                found.append(message["data"])
                if len(found) == 50:
                    break
        return found

    assert asyncio.run(asyncio.wait_for(talk(), 60)) == list(map(str, range(50)))
