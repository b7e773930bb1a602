"""SLOWLOG: the logged commands and their entries, compared with a real redis-server's."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.server.wire import OK, Failure, Status, Wire, wait_until

PARAMETERS = {"slowlog-log-slower-than": "10000", "slowlog-max-len": "128", "requirepass": ""}


def configure(wire: Wire, **settings: int) -> None:
    """CONFIG SET of slowlog-..."""
    for name, value in settings.items():
        assert wire("CONFIG", "SET", f"slowlog-{name.replace('_', '-')}", value) == OK


def put_back(wire: Wire) -> None:
    for name, value in PARAMETERS.items():
        wire("CONFIG", "SET", name, value)
    wire("SLOWLOG", "RESET")


@pytest.fixture
def logged(wire: Wire) -> Iterator[Wire]:
    """A connection to a server that logs every command, from the next one on."""
    configure(wire, log_slower_than=0, max_len=128)
    assert wire("SLOWLOG", "RESET") == OK
    yield wire
    put_back(wire)


def commands(wire: Wire, count: int = -1) -> list[list[bytes]]:
    """The commands in the log, oldest first."""
    return [entry[3] for entry in reversed(wire("SLOWLOG", "GET", count))]


def test_an_entry_tells_number_time_duration_command_and_client(logged: Wire) -> None:
    """The form is that of Redis 4.0 and later."""
    before = int(time.time())
    assert logged("CLIENT", "SETNAME", "someone") == OK
    assert logged("SET", "k", "v") == OK
    host, port = logged.socket.getsockname()
    reset, named, entry = reversed(logged("SLOWLOG", "GET"))
    assert reset[3] == [b"SLOWLOG", b"RESET"]
    number, when, duration_us, args, address, name = entry
    assert args == [b"SET", b"k", b"v"]
    assert number == named[0] + 1 == reset[0] + 2
    assert before <= when <= time.time()
    assert 0 <= duration_us < 1_000_000
    assert address == f"{host}:{port}".encode()
    assert (reset[5], named[5], name) == (b"", b"someone", b"someone")
    logged("CLIENT", "SETNAME", "")
    assert logged("SLOWLOG", "GET", 1)[0][3:] == [[b"CLIENT", b"SETNAME", b""], address, b""]


def test_a_unix_socket_s_path_is_the_address(server) -> None:
    """It has port 0, as in CLIENT LIST."""
    with Wire(server.unix_socket) as wire:
        configure(wire, log_slower_than=0)
        try:
            wire("ECHO", "here")
            shown = {entry[4] for entry in wire("SLOWLOG", "GET") if entry[3][0] == b"ECHO"}
            assert shown == {f"{server.unix_socket}:0".encode()}
        finally:
            put_back(wire)


def test_the_newest_come_first_and_as_many_as_asked_for(logged: Wire) -> None:
    """The default is ten; -1 means all."""
    for i in range(20):
        logged("ECHO", i)
    assert [entry[3][-1] for entry in logged("SLOWLOG", "GET", 3)] == [b"19", b"18", b"17"]
    assert logged("SLOWLOG", "GET", 0) == []
    assert len(logged("SLOWLOG", "GET")) == 10
    everything = logged("SLOWLOG", "GET", -1)
    assert len(everything) == 24 == len(logged("SLOWLOG", "GET", 1000)) - 1
    assert [entry[0] for entry in everything] == list(range(everything[0][0], everything[0][0] - 24, -1))
    assert logged("SLOWLOG", "LEN") == 26


def test_numbers_go_on_after_a_reset(logged: Wire) -> None:
    """RESET empties the log and is then its first entry."""
    last = logged("SLOWLOG", "GET", 1)[0][0]
    assert logged("SLOWLOG", "RESET") == OK
    (entry,) = logged("SLOWLOG", "GET")
    assert (entry[0], entry[3]) == (last + 2, [b"SLOWLOG", b"RESET"])


def test_the_log_is_as_long_as_it_is_set_to_be_at_once(logged: Wire) -> None:
    """The newest entries stay when it becomes shorter, and all of them when it becomes longer."""
    for i in range(9):
        logged("ECHO", i)
    configure(logged, max_len=3)
    assert commands(logged) == [[b"ECHO", b"7"], [b"ECHO", b"8"], [b"CONFIG", b"SET", b"slowlog-max-len", b"3"]]
    assert logged("SLOWLOG", "LEN") == 3
    configure(logged, max_len=1000)
    for i in range(500):
        logged("ECHO", i)
    kept = commands(logged)
    assert len(kept) == 3 + 1 + 500
    assert kept[-500:] == [[b"ECHO", b"%d" % i] for i in range(500)]
    configure(logged, max_len=0)
    logged("ECHO", "x")
    assert logged("SLOWLOG", "LEN") == 0
    assert logged("SLOWLOG", "GET", -1) == []


def test_only_slow_commands_are_logged_by_default(wire2: Wire) -> None:
    """The default limit is ten milliseconds; -1 logs nothing at all."""
    put_back(wire2)
    wire2("DEBUG", "SLEEP", "0.02")
    durations = {tuple(entry[3]): entry[2] for entry in wire2("SLOWLOG", "GET", -1)}
    assert durations[b"DEBUG", b"SLEEP", b"0.02"] >= 20_000
    for never in (1_000_000_000, -1):
        configure(wire2, log_slower_than=never)
        wire2("SLOWLOG", "RESET")
        wire2("DEBUG", "SLEEP", "0.02")
        wire2("SET", "k", "v")
        assert wire2("SLOWLOG", "LEN") == 0
    put_back(wire2)


def test_what_is_refused_before_it_runs_is_not_logged(logged: Wire) -> None:
    """Tests unknown commands, wrong numbers of arguments, and unknown subcommands."""
    for words in (("NOSUCH", "a"), ("GET",), ("CONFIG", "NOSUCH"), ("CONFIG", "SET", "x"), ("OBJECT", "NOSUCH", "k")):
        assert isinstance(logged(*words), Failure)
    assert commands(logged) == [[b"SLOWLOG", b"RESET"]]


def test_exec_is_not_logged_and_what_it_runs_is(logged: Wire) -> None:
    """The entries have the client's name and address, even if Python serves a command of the queue."""
    logged.pipeline([("MULTI",), ("SET", "k", "v"), ("CLIENT", "GETNAME"), ("OBJECT", "ENCODING", "k"), ("EXEC",)])
    assert commands(logged) == [
        [b"SLOWLOG", b"RESET"],
        [b"MULTI"],
        [b"SET", b"k", b"v"],
        [b"CLIENT", b"GETNAME"],
        [b"OBJECT", b"ENCODING", b"k"],
    ]


def test_the_memory_of_an_entry_is_bounded(logged: Wire) -> None:
    """Thousands of long arguments take no more than thirty-two short ones."""
    logged("MSET", *(b"x" * 10_000 for _ in range(2000)))
    (args,) = (entry[3] for entry in logged("SLOWLOG", "GET", 1))
    assert len(args) == 32
    assert args[1:31] == [b"x" * 128 + b"... (9872 more bytes)"] * 30
    assert args[31] == b"... (1970 more arguments)"


def test_a_log_of_many_entries_is_answered_whole(wire2: Wire) -> None:
    """Reads ten thousand entries in one reply, and checks the oldest and the newest."""
    configure(wire2, log_slower_than=0, max_len=10_000)
    wire2("SLOWLOG", "RESET")
    wire2.pipeline([("ECHO", f"{i}") for i in range(12_000)])
    found = commands(wire2)
    assert found == [[b"ECHO", b"%d" % i] for i in range(2000, 12_000)]
    put_back(wire2)


SAID = [
    ("AUTH", "secret"),
    ("AUTH", "user", "secret"),
    ("HELLO", "2", "AUTH", "default", "secret", "SETNAME", "other"),
    ("HELLO", "2", "SETNAME", "AUTH"),
    ("CONFIG", "SET", "maxmemory", "0", "RequirePass", "secret"),
    ("CONFIG", "SET", "requirepass", ""),
    ("CONFIG", "SET", "masterauth", ""),
    ("CONFIG", "SET", "masteruser", ""),
    ("config", "get", "timeout"),
    ("ObJeCt", "encoding", "k"),
    ("MULTI",),
    ("SET", "k", "v"),
    ("AUTH", "secret"),
    ("EXEC",),
    ("WAIT", "1", "1"),
    ("MGET", *(f"a{i}" for i in range(31))),
    ("MGET", *(f"a{i}" for i in range(32))),
    ("MGET", *(f"a{i}" for i in range(33))),
    ("GET", "x" * 128),
    ("GET", "x" * 129),
    ("GET", "x" * 1000),
    ("GET", b"\x00\xff\r\n"),
    ("INCR", "k"),
    ("SETEX", "k", "100", "v"),
    ("SLOWLOG", "LEN"),
    ("SLOWLOG", "GET", "-2"),
]


def entries_of(address: Any) -> list[list[Any]]:
    with Wire(address) as wire:
        put_back(wire)
        wire("SET", "k", "v")
        wire("CLIENT", "SETNAME", "someone")
        configure(wire, log_slower_than=0)
        for words in SAID:
            wire(*words)
        found = [[entry[3], entry[5]] for entry in wire("SLOWLOG", "GET", -1)]
        put_back(wire)
    return found


def test_entries_are_those_of_redis(server, redis_server) -> None:
    """Compares names and arguments, whole, shortened and redacted."""
    assert entries_of(server.address) == entries_of(redis_server.address)


REPLIES = [
    ("SLOWLOG",),
    ("SLOWLOG", "NOSUCH"),
    ("SLOWLOG", "GET", "x"),
    ("SLOWLOG", "GET", "-2"),
    ("SLOWLOG", "GET", "1", "2"),
    ("SLOWLOG", "GET", "99999999999999999999"),
    ("SLOWLOG", "LEN", "1"),
    ("SLOWLOG", "RESET", "1"),
    ("SLOWLOG", "HELP", "1"),
    ("CONFIG", "SET", "slowlog-log-slower-than", "-2"),
    ("CONFIG", "SET", "slowlog-max-len", "-1"),
    ("CONFIG", "GET", "slowlog-max-len"),
    ("CONFIG", "GET", "slowlog-log-slower-than"),
]


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("words", REPLIES, ids=" ".join)
def test_replies_are_those_of_redis(server, redis_server, words: tuple[str, ...], protocol: int) -> None:
    """Errors and settings are equal to the byte."""
    with Wire(server.address, protocol) as mine, Wire(redis_server.address, protocol) as theirs:
        assert mine.raw(*words) == theirs.raw(*words)


def test_a_client_that_has_gone_stays_in_the_log(server, logged: Wire) -> None:
    """The entry holds its own copy of name and address."""
    with Wire(server.address) as other:
        other("CLIENT", "SETNAME", "gone")
        host, port = other.socket.getsockname()
        assert other("PING") == Status("PONG")
    wait_until(lambda: all(b"name=gone" not in line for line in clients(logged)), "the client to go")
    (entry,) = (entry for entry in logged("SLOWLOG", "GET", -1) if entry[3] == [b"PING"])
    assert entry[4:] == [f"{host}:{port}".encode(), b"gone"]


def clients(wire: Wire) -> list[bytes]:
    reply = wire("CLIENT", "LIST")
    return (reply.data if wire.protocol == 3 else reply).splitlines()
