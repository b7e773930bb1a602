"""MONITOR: what is shown of which command, beside redis-server; and its bounds."""

import re

import pytest

from tests.harness import Process
from tests.server.wire import OK, QUEUED, Failure, Status, Wire, encode, info, wait_until

END = ("ECHO", "the end")

# Commands of one connection, and lines that only one of the two servers shows.
SESSIONS: dict[str, list[tuple[str | bytes, ...]]] = {
    "arguments are quoted": [
        ("SET", "a", bytes(range(256))),
        ("set", "b", "5"),
        ("SET", "c", 'x"\\'),
        ("ping", ""),
        ("MGET", "a", "b", "c", "ä"),
    ],
    "the database is the one after the command": [("SELECT", "3"), ("SET", "a", "b"), ("SELECT", "0")],
    "secrets are not shown": [
        ("AUTH", "secret"),
        ("AUTH", "user", "secret"),
        ("HELLO", "2", "AUTH", "default", "secret", "SETNAME", "me"),
        ("CONFIG", "SET", "requirepass", ""),
    ],
    "administration is not shown": [
        ("CLIENT", "ID"),
        ("CLIENT", "LIST"),
        ("CLIENT", "NO-EVICT", "off"),
        ("CONFIG", "GET", "port"),
        ("SLOWLOG", "LEN"),
        ("SLOWLOG", "HELP"),
        ("LATENCY", "LATEST"),
        ("DEBUG", "SLEEP", "0"),
        ("INFO", "server"),
        ("COMMAND", "COUNT"),
        ("MEMORY", "USAGE", "a"),
        ("OBJECT", "ENCODING", "a"),
        ("LASTSAVE",),
        ("ROLE",),
        ("ACL", "WHOAMI"),
    ],
    "what was not executed is not shown": [
        ("NOSUCH", "a"),
        ("GET",),
        ("GET", "a", "b"),
        ("CLIENT", "NOSUCH"),
        ("OBJECT", "ENCODING"),
        ("INCR", "a", "b"),
        ("SET", "a", "b", "NOSUCH"),
        ("SET", "a", "b"),
        ("INCR", "a"),
        ("LPUSH", "a", "b"),
    ],
    "a transaction is shown when it is executed": [
        ("WATCH", "a"),
        ("MULTI",),
        ("SET", "a", "b"),
        ("INCR", "a"),
        ("CLIENT", "ID"),
        ("CONFIG", "GET", "port"),
        ("SELECT", "2"),
        ("GET", "a"),
        ("MONITOR",),
        ("EXEC",),
        ("SELECT", "0"),
    ],
    "a transaction that is not executed": [
        ("MULTI",),
        ("SET", "a", "b"),
        ("DISCARD",),
        ("EXEC",),
        ("MULTI",),
        ("NOSUCH",),
        ("SET", "a", "b"),
        ("EXEC",),
        ("UNWATCH",),
    ],
    "a command that waits": [("WAIT", "0", "0"), ("WAIT", "1", "1"), ("BLPOP", "q", "0.01"), ("BLPOP", "q", "x")],
    "publish/subscribe": [("PUBLISH", "c", "m"), ("PUBSUB", "CHANNELS"), ("SUBSCRIBE", "c"), ("UNSUBSCRIBE", "c")],
    "the end of a connection's state": [("MULTI",), ("RESET",), ("CLIENT", "REPLY", "ON")],
}


def shown(monitor: Wire) -> list[str]:
    """The lines up to that of END, without what differs from run to run."""
    lines = []
    while not lines or '"the end"' not in lines[-1]:
        line = monitor.reply()
        assert isinstance(line, Status)
        match = re.fullmatch(r"\d{10}\.\d{6} (\[\d+ )[^ \]]+(\] .*)", line.text, re.DOTALL)
        assert match, line
        lines.append(match[1] + match[2])
    return lines[:-1]


def session(process: Process, protocol: int, commands: list[tuple[str | bytes, ...]]) -> list[str]:
    """The lines that a monitor gets for these commands."""
    with Wire(process.address, protocol) as monitor, Wire(process.address) as client:
        assert monitor("MONITOR") == OK
        for command in commands:
            client(*command)
        client(*END)
        return shown(monitor)


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("name", SESSIONS)
def test_a_monitor_is_shown_what_redis_shows(server, redis_server: Process, name: str, protocol: int) -> None:
    with Wire(redis_server.address) as wire:
        wire("FLUSHALL")
    assert session(server, protocol, SESSIONS[name]) == session(redis_server, protocol, SESSIONS[name])


def test_a_command_that_is_served_later_is_shown_when_it_begins(server, redis_server: Process) -> None:
    """And not again when its key has come."""

    def lines(process: Process) -> list[str]:
        with Wire(process.address) as monitor, Wire(process.address) as waiting, Wire(process.address) as client:
            waiting("DEL", "q", "r")
            assert monitor("MONITOR") == OK
            waiting.send(encode("BLMOVE", "q", "r", "LEFT", "LEFT", "0"))
            wait_until(lambda: info(client, "clients")["blocked_clients"] == "1", "it to wait")
            client("RPUSH", "q", "a", "b")
            assert waiting.reply() == b"a"
            client(*END)
            return [line for line in shown(monitor) if "INFO" not in line.upper()]

    assert (
        lines(server)
        == lines(redis_server)
        == [
            '[0 ] "BLMOVE" "q" "r" "LEFT" "LEFT" "0"',
            '[0 ] "RPUSH" "q" "a" "b"',
        ]
    )


def test_an_address_is_that_of_the_connection(server, wire: Wire) -> None:
    """A Unix socket is shown by its path."""
    assert wire("MONITOR") == OK
    with Wire(server.address) as other:
        assert other("PING") == Status("PONG")
        host, port = other.socket.getsockname()
        assert wire.reply().text.split(" ", 1)[1] == f'[0 {host}:{port}] "PING"'
    with Wire(server.unix_socket) as local:
        assert local("PING") == Status("PONG")
    assert wire.reply().text.split(" ", 1)[1] == f'[0 unix:{server.unix_socket}] "PING"'


def test_a_monitor_is_shown_its_own_commands_behind_their_replies(server, wire: Wire) -> None:
    assert wire("MONITOR") == OK
    assert wire("SELECT", 3) == OK
    assert wire.reply().text.endswith('] "SELECT" "3"')
    assert wire("MULTI") == OK
    assert wire.reply().text.endswith('] "MULTI"')
    assert wire("ECHO", "a") == QUEUED
    assert wire("EXEC") == [b"a"]
    assert [wire.reply().text.split("] ")[1] for _ in range(2)] == ['"ECHO" "a"', '"EXEC"']


def test_a_monitor_may_not_touch_keys(server, wire: Wire) -> None:
    """Neither at once nor in a transaction, which is then aborted."""
    refusal = Failure("ERR Replica can't interact with the keyspace")
    assert wire("MONITOR") == OK
    for command in (("SET", "a", "b"), ("GET", "a"), ("DBSIZE",), ("OBJECT", "ENCODING", "a"), ("FLUSHALL",)):
        assert wire(*command) == refusal
    wire.send(encode("MULTI") + encode("GET", "a") + encode("EXEC") + encode("RESET") + encode("GET", "a"))
    replies = [wire.reply() for _ in range(7)]
    assert [reply for reply in replies if not isinstance(reply, Status) or "] " not in reply.text] == [
        OK,
        refusal,
        Failure("EXECABORT Transaction discarded because of previous errors."),
        Status("RESET"),
        None,
    ]


def test_monitor_twice_in_a_transaction_and_reset(server, wire: Wire) -> None:
    """A second MONITOR is not answered; one in a transaction is refused; RESET ends it."""
    assert wire("MULTI") == OK
    assert wire("MONITOR") == QUEUED
    assert wire("EXEC") == [Failure("ERR MONITOR isn't allowed for DENY BLOCKING client")]
    wire.send(encode("MONITOR") + encode("MONITOR") + encode("RESET") + encode("ECHO", "x"))
    assert [wire.reply() for _ in range(3)] == [OK, Status("RESET"), b"x"]
    assert wire("MONITOR", "x") == Failure("ERR wrong number of arguments for 'monitor' command")


def test_the_flag_and_the_class_of_a_monitor(server, wire: Wire) -> None:
    """It is a normal client, although Redis handles it as a replica."""
    identity = wire("CLIENT", "ID")
    wire("MONITOR")
    with Wire(server.address) as other:
        line = other("CLIENT", "LIST", "ID", identity)
        assert b" flags=O " in line and b" cmd=monitor " in line
        assert b"id=%d " % identity in other("CLIENT", "LIST", "TYPE", "normal")
        assert other("CLIENT", "LIST", "TYPE", "replica") == b""
        assert other("CLIENT", "KILL", "ID", identity) == 1
    assert wire.until_closed() == b""


def test_several_monitors_come_and_go(server, wire2: Wire) -> None:
    """Each is shown what is executed while it is there."""
    monitors = [Wire(server.address, 2 + number % 2) for number in range(6)]
    for monitor in monitors:
        assert monitor("MONITOR") == OK
    wire2("ECHO", "1")
    monitors[2]("RESET")
    for monitor in (monitors[0], monitors[5]):
        monitor.close()
    wait_until(lambda: info(wire2, "clients")["connected_clients"] == "5", "two of them to be gone")
    wire2(*END)
    for number in (1, 3, 4):
        lines = shown(monitors[number])
        assert lines[0] == '[0 ] "ECHO" "1"'
        assert '[0 ] "RESET"' in lines
    for monitor in monitors:
        monitor.close()


def test_a_long_pipeline_is_shown_in_order(server, wire2: Wire) -> None:
    with Wire(server.address) as monitor:
        assert monitor("MONITOR") == OK
        count = 20_000
        assert wire2.pipeline([("SET", "key", i) for i in range(count)]) == [OK] * count
        wire2(*END)
        assert shown(monitor) == [f'[0 ] "SET" "key" "{i}"' for i in range(count)]


def test_a_transaction_of_many_commands_is_shown_in_order(server, wire2: Wire) -> None:
    """More bytes than may wait at once, and one monitor is the connection itself."""
    with Wire(server.address) as monitor:
        assert monitor("MONITOR") == OK
        value = "x" * 50_000
        commands: list[tuple[str | int, ...]] = [("MULTI",), *(("ECHO", f"{i}{value}") for i in range(1000)), ("EXEC",)]
        assert len(wire2.pipeline(commands)[-1]) == 1000
        wire2(*END)
        assert shown(monitor) == ['[0 ] "MULTI"', *(f'[0 ] "ECHO" "{i}{value}"' for i in range(1000)), '[0 ] "EXEC"']


def test_a_long_argument_is_shortened(server, wire2: Wire, ours: None) -> None:
    """The longest that is shown as a whole has a mebibyte; the value of SET may have been moved into the store."""
    whole, long = "y" * (1 << 20), "x" * (3 << 20)
    with Wire(server.address) as monitor:
        assert monitor("MONITOR") == OK
        for command in (("SET", "key", whole), ("SET", "key", long), ("ECHO", long), ("SET", "key", long, "KEEPTTL")):
            wire2(*command)
        wire2("SET", "key", long, "NOSUCH")
        wire2(*END)
        cut = "x" * 128 + f"... ({len(long) - 128} more bytes)"
        assert shown(monitor) == [
            f'[0 ] "SET" "key" "{whole}"',
            f'[0 ] "SET" "key" "{cut}"',
            f'[0 ] "ECHO" "{cut}"',
            f'[0 ] "SET" "key" "{cut}" "KEEPTTL"',
            f'[0 ] "SET" "key" "{cut}" "NOSUCH"',
        ]
    assert wire2("STRLEN", "key") == len(long)


def test_a_long_line_is_shortened(server, wire2: Wire, ours: None) -> None:
    """It ends behind 16 MiB of arguments."""
    argument, count = "x" * 1_000_000, 100
    with Wire(server.address) as monitor:
        assert monitor("MONITOR") == OK
        wire2("EXISTS", *[argument] * count)
        wire2(*END)
        (line,) = shown(monitor)
    words = ['"EXISTS"', *[f'"{argument}"'] * 17, f'"... ({count - 17} more arguments)"']
    assert line == "[0 ] " + " ".join(words)


def test_a_monitor_that_does_not_read_is_closed_at_its_limit(start, data) -> None:
    """It has the limits of a normal client, as in Redis."""
    with start(data) as own, Wire(own.address) as monitor, Wire(own.address) as wire:
        assert wire("CONFIG", "SET", "client-output-buffer-limit", "normal 4mb 0 0") == OK
        assert monitor("MONITOR") == OK

        def is_gone() -> bool:
            wire("ECHO", "x" * 500_000)
            return info(wire, "clients")["connected_clients"] == "1"

        wait_until(is_gone, "the monitor to be closed")
        assert info(wire, "stats").get("client_output_buffer_limit_disconnections", "1") == "1"  # new in 7.2


def test_a_monitor_neither_times_out_nor_is_held_by_pause(server, wire2: Wire, ours: None) -> None:
    with Wire(server.address) as monitor:
        assert monitor("MONITOR") == OK
        try:
            assert wire2("CONFIG", "SET", "timeout", 10) == OK
            with Wire(server.address) as idle:
                assert idle("PING") == Status("PONG")
                assert wire2("DEBUG", "SHIFT-CLOCK", "TIMER", 20_000) == OK
                assert idle.until_closed() == b""
        finally:
            with Wire(server.address) as other:
                assert other("CONFIG", "SET", "timeout", 0) == OK
        with Wire(server.address) as other:
            assert other("CLIENT", "PAUSE", 1_000_000) == OK
            other.send(encode("PING"))
            monitor.send(encode("CLIENT", "UNPAUSE"))  # a pause of everything holds this back from others
            assert other.reply() == Status("PONG")


def test_redis_py_reads_the_lines(server, wire2: Wire) -> None:
    redis = pytest.importorskip("redis")
    client = redis.Redis(port=server.port)
    with client.monitor() as monitor:
        wire2("SET", "a key", 'with "quotes"')
        wire2("SELECT", 5)
        first, second = monitor.next_command(), monitor.next_command()
    host, port = wire2.socket.getsockname()
    assert first.pop("time") > 1_700_000_000
    assert first == {
        "db": 0,
        "client_address": host,
        "client_port": str(port),
        "client_type": "tcp",
        "command": 'SET a key with "quotes"',
    }
    assert (second["db"], second["command"]) == (5, "SELECT 5")
    client.close()
