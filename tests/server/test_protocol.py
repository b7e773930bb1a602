r"""Bad input: malformed requests, silence, floods, impostors.  One connection is closed; nobody else notices.

Each malformed request is sent whole, byte by byte, and with a good command behind it that must not be executed.
"""

import contextlib
import os
import random
import socket
import threading
import time

import pytest

from tests.server.wire import OK, Closed, Failure, Status, Wire, encode, info, wait_until

ERROR = b"-ERR Protocol error: "
BAD_COUNT = ERROR + b"invalid multibulk length\r\n"
BAD_LENGTH = ERROR + b"invalid bulk length\r\n"
BAD_QUOTES = ERROR + b"unbalanced quotes in request\r\n"

# What is sent, and the reply before the connection is closed.
CLOSING = [
    (b"*x\r\n", BAD_COUNT),
    (b"*1x\r\n", BAD_COUNT),
    (b"* 1\r\n", BAD_COUNT),
    (b"*+1\r\n", BAD_COUNT),
    (b"*01\r\n", BAD_COUNT),
    (b"*1.0\r\n", BAD_COUNT),
    (b"*\r\n", BAD_COUNT),
    (b"*-\r\n", BAD_COUNT),
    (b"*2147483648\r\n", BAD_COUNT),
    (b"*9223372036854775807\r\n", BAD_COUNT),
    (b"*9223372036854775808\r\n", BAD_COUNT),
    (b"*-9223372036854775809\r\n", BAD_COUNT),
    (b"*99999999999999999999999999999999\r\n", BAD_COUNT),
    (b"*1\r\n:4\r\nPING\r\n", ERROR + b"expected '$', got ':'\r\n"),
    (b"*1\r\nPING\r\n", ERROR + b"expected '$', got 'P'\r\n"),
    (b"*1\r\n\r\n", ERROR + b"expected '$', got ' '\r\n"),
    (b"*1\r\n*1\r\n", ERROR + b"expected '$', got '*'\r\n"),
    (b"*1\r\n$x\r\n", BAD_LENGTH),
    (b"*1\r\n$\r\n", BAD_LENGTH),
    (b"*1\r\n$-1\r\n", BAD_LENGTH),
    (b"*1\r\n$-100\r\n", BAD_LENGTH),
    (b"*1\r\n$ 4\r\nPING\r\n", BAD_LENGTH),
    (b"*1\r\n$04\r\nPING\r\n", BAD_LENGTH),
    (b"*1\r\n$+4\r\nPING\r\n", BAD_LENGTH),
    (b"*1\r\n$4x\r\nPING\r\n", BAD_LENGTH),
    (b"*1\r\n$536870913\r\n", BAD_LENGTH),
    (b"*1\r\n$9223372036854775807\r\n", BAD_LENGTH),
    (b"*1\r\n$9223372036854775808\r\n", BAD_LENGTH),
    (b"*1\r\n$-9223372036854775808\r\n", BAD_LENGTH),
    (b"*2\r\n$4\r\nECHO\r\n$-5\r\n", BAD_LENGTH),
    (b"*2\r\n$4\r\nECHO\r\n+x\r\n", ERROR + b"expected '$', got '+'\r\n"),
    (b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\nv\r\n", ERROR + b"expected '$', got 'v'\r\n"),
    (b'ECHO "unbalanced\r\n', BAD_QUOTES),
    (b"ECHO 'unbalanced\r\n", BAD_QUOTES),
    (b'ECHO "a"b\r\n', BAD_QUOTES),
    (b"ECHO 'a'b\r\n", BAD_QUOTES),
    (b'ECHO "a\\"\r\n', BAD_QUOTES),
    (b'"\r\n', BAD_QUOTES),
]


@pytest.mark.parametrize("feed", ["whole", "bytewise", "with a tail", "after good ones"])
@pytest.mark.parametrize(("data", "reply"), CLOSING, ids=[repr(data) for data, _ in CLOSING])
def test_a_malformed_request_is_answered_and_the_connection_closed(
    server, data: bytes, reply: bytes, feed: str
) -> None:
    """With Redis's words; nothing behind it is executed, everything before it is."""
    with Wire(server.address) as connection:
        if feed == "bytewise":
            for i in range(len(data)):
                try:
                    connection.send(data[i : i + 1])
                except (BrokenPipeError, ConnectionResetError):
                    break  # the error was seen before all of it was sent
        elif feed == "with a tail":
            connection.send(data + encode("SET", "tail", "executed"))
        elif feed == "after good ones":
            connection.send(encode("SET", "before", "1") + encode("PING") + data)
            reply = b"+OK\r\n+PONG\r\n" + reply
        else:
            connection.send(data)
        got = connection.until_closed()
        assert got == reply
    with Wire(server.address) as connection:
        assert connection("EXISTS", "tail") == 0
        assert connection("EXISTS", "before") == (feed == "after good ones")


def test_a_length_that_is_too_short_shifts_the_rest(server) -> None:
    """What Redis makes of it: two bytes are skipped unseen after each argument."""
    with Wire(server.address) as connection:
        connection.send(b"*2\r\n$4\r\nECHO\r\n$3\r\nhello\r\n*1\r\n$4\r\nPING\r\n")
        assert connection.reply() == b"hel"
        assert connection("PING") == Status("PONG")


def test_the_separators_after_arguments_are_not_looked_at(server) -> None:
    """Redis does not either."""
    with Wire(server.address) as connection:
        connection.send(b"*2\r\n$4\r\nECHOxx$3\r\nabcyy")
        assert connection.reply() == b"abc"


@pytest.mark.parametrize(
    "data", [b"*3\r\n$3\r\nSET\r\n$5\r\nab", b"*2\r\n", b"*", b"PIN", b"$", b"*1\r\n$100000\r\nabc"]
)
def test_half_a_command_and_then_silence_harms_nobody(server, data: bytes) -> None:
    """The rest may come whenever it likes, or never."""
    with Wire(server.address) as slow, Wire(server.address) as other:
        slow.send(data)
        for i in range(50):
            assert other("SET", "k", i) == OK
        slow.close()
        assert other("GET", "k") == b"49"


def test_endless_inline_is_cut_off(server) -> None:
    """A line of more than 64 KB without an end."""
    with Wire(server.address) as connection:
        try:
            for _ in range(100):
                connection.send(b"x" * 10_000)
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert connection.until_closed() in (ERROR + b"too big inline request\r\n", b"")
    with Wire(server.address) as connection:
        connection.send(b"x" * 65_537)
        assert connection.until_closed() == ERROR + b"too big inline request\r\n"


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        (b"*" + b"1" * 70_000, ERROR + b"too big mbulk count string\r\n"),
        (b"*1\r\n$" + b"1" * 70_000, ERROR + b"too big bulk count string\r\n"),
        (b"*2\r\n$4\r\nECHO\r\n$" + b"1" * 70_000, ERROR + b"too big bulk count string\r\n"),
    ],
    ids=["count", "length", "second length"],
)
def test_a_number_without_end_is_cut_off(server, data: bytes, reply: bytes) -> None:
    """Counts and lengths as well."""
    with Wire(server.address) as connection:
        connection.send(data)
        assert connection.until_closed() == reply


def test_a_huge_count_reserves_nothing(server) -> None:
    """Claims are not believed until the bytes come."""
    with Wire(server.address) as admin:
        before = int(info(admin, "memory")["used_memory_rss"])
        claims = [Wire(server.address) for _ in range(20)]
        try:
            for connection in claims:
                connection.send(b"*1000000\r\n$4\r\nMGET\r\n$500000000\r\nabc")
            for _ in range(20):
                assert admin("PING") == Status("PONG")
            assert int(info(admin, "memory")["used_memory_rss"]) - before < 300 << 20
        finally:
            for connection in claims:
                connection.close()


def test_many_arguments_are_served(server) -> None:
    """A count in the hundred thousands is meant."""
    with Wire(server.address) as connection:
        assert connection("DEL", *range(300_000)) == 0
        connection.send(b"*200001\r\n$6\r\nEXISTS\r\n" + b"$0\r\n\r\n" * 200_000)
        assert connection.reply() == 0


# ----------------------------------------------------------------------------------------------------- before AUTH


@pytest.fixture
def locked(server):
    """A server that asks for a password."""
    with Wire(server.address) as admin:
        assert admin("CONFIG", "SET", "requirepass", "sesame") == OK
        yield server
        assert admin("CONFIG", "SET", "requirepass", "") == OK


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        (b"*11\r\n", ERROR + b"unauthenticated multibulk length\r\n"),
        (b"*1000000\r\n$4\r\n", ERROR + b"unauthenticated multibulk length\r\n"),
        (b"*2\r\n$4\r\nECHO\r\n$16385\r\n", ERROR + b"unauthenticated bulk length\r\n"),
        (b"*2\r\n$4\r\nAUTH\r\n$100000000\r\n", ERROR + b"unauthenticated bulk length\r\n"),
    ],
    ids=["11 arguments", "a million", "16385 bytes", "100 MB"],
)
def test_strangers_have_small_limits(locked, data: bytes, reply: bytes) -> None:
    """Ten arguments, 16 KB each, before AUTH; the usual ones after it."""
    with Wire(locked.address) as connection:
        connection.send(data)
        assert connection.until_closed() == reply
    with Wire(locked.address) as connection:
        assert connection("AUTH", "x" * 16_384) == Failure(
            "WRONGPASS invalid username-password pair or user is disabled."
        )
        assert connection("AUTH", "sesame") == OK
        assert connection("ECHO", "x" * 100_000) == b"x" * 100_000
        assert connection("EXISTS", *range(100)) == 0


# ------------------------------------------------------------------------------------------------------------ limits


def test_a_query_buffer_over_its_limit_closes_the_connection(server, wire2: Wire) -> None:
    """client-query-buffer-limit."""
    old = wire2("CONFIG", "GET", "client-query-buffer-limit")[1]
    assert wire2("CONFIG", "SET", "client-query-buffer-limit", "1mb") == OK
    try:
        before = int(info(wire2, "stats").get("client_query_buffer_limit_disconnections", 0))
        with Wire(server.address) as greedy:
            greedy.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n")
            try:
                greedy.send(b"$4000000\r\n" + b"x" * 4_000_000)
                got = greedy.until_closed()
            except (BrokenPipeError, ConnectionResetError):
                got = b""
            assert got == b""
        assert wire2("EXISTS", "k") == 0
        after = int(info(wire2, "stats").get("client_query_buffer_limit_disconnections", before + 1))
        assert after == before + 1
    finally:
        assert wire2("CONFIG", "SET", "client-query-buffer-limit", old) == OK


def test_output_over_the_hard_limit_closes_the_connection(server, wire2: Wire) -> None:
    """client-output-buffer-limit normal: who does not read is let go before memory is."""
    assert wire2("CONFIG", "SET", "client-output-buffer-limit", "normal 4mb 0 0") == OK
    try:
        wire2("SET", "big", b"x" * (1 << 20))
        with Wire(server.address) as deaf:
            deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            identity = deaf("CLIENT", "ID")
            with contextlib.suppress(ConnectionError):  # it may be let go while it still asks
                for _ in range(60):
                    deaf.send(encode("GET", "big"))
            wait_until(lambda: wire2("CLIENT", "LIST", "ID", identity) == b"", "the deaf client to be closed")
        with Wire(server.address) as reader:
            for _ in range(60):
                assert len(reader("GET", "big")) == 1 << 20
    finally:
        assert wire2("CONFIG", "SET", "client-output-buffer-limit", "normal 0 0 0") == OK


def test_output_over_the_soft_limit_for_too_long_closes_the_connection(server, wire2: Wire) -> None:
    """But not before its seconds are over."""
    assert wire2("CONFIG", "SET", "client-output-buffer-limit", "normal 0 1mb 2") == OK
    try:
        wire2("SET", "big", b"x" * (1 << 20))
        with Wire(server.address) as deaf:
            deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            identity = deaf("CLIENT", "ID")
            started = time.monotonic()
            deaf.send(encode("GET", "big") * 30)
            wait_until(lambda: wire2("CLIENT", "LIST", "ID", identity) == b"", "the deaf client to be closed")
            assert time.monotonic() - started > 1
    finally:
        assert wire2("CONFIG", "SET", "client-output-buffer-limit", "normal 0 0 0") == OK


def test_protected_mode_refuses_what_does_not_come_over_loopback(start, tmp_path) -> None:
    """Bound to all addresses without a password; a password or `protected-mode no` opens it."""
    outside = outside_address()
    if outside is None:
        pytest.skip("this machine has no address but loopback's")
    with start(tmp_path, options=("--bind", "0.0.0.0")) as server, Wire(server.address) as local:
        assert local("PING") == Status("PONG")
        with Wire((outside, server.port)) as stranger:
            answer = stranger.until_closed()
            assert answer.startswith(b"-DENIED Redis is running in protected mode because protected mode is enabled")
            assert answer.endswith(b"\r\n")
        assert local("CONFIG", "SET", "protected-mode", "no") == OK
        with Wire((outside, server.port)) as guest:
            assert guest("PING") == Status("PONG")
        assert local("CONFIG", "SET", "protected-mode", "yes", "requirepass", "sesame") == OK
        with Wire((outside, server.port)) as guest:
            assert guest("PING") == Failure("NOAUTH Authentication required.")
            assert guest("AUTH", "sesame") == OK
            assert guest("PING") == Status("PONG")


def outside_address() -> str | None:
    """An address of this machine that is not loopback's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            return None
        address = str(probe.getsockname()[0])
    return None if address.startswith("127.") else address


def test_connections_that_come_and_go_by_the_thousand(server, wire2: Wire) -> None:
    """Some leave at once, some amid a command, some with replies unread; all is given back."""
    generator = random.Random(3)
    wire2("SET", "big", b"x" * 2_000_000)
    before = info(wire2, "clients")["connected_clients"]
    for _ in range(1500):
        connection = Wire(server.address)
        kind = generator.randrange(5)
        if kind == 1:
            connection.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100\r\nhalf")
        elif kind == 2:
            connection.send(encode("GET", "big"))
        elif kind == 3:
            connection("WATCH", "k")
            connection("MULTI")
        elif kind == 4:
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # reset on close
            connection.send(encode("PING") * 10)
        connection.close()
    wait_until(lambda: info(wire2, "clients")["connected_clients"] == before, "all to be gone")
    assert wire2("PING") == Status("PONG")


# -------------------------------------------------------------------------------------------------------------- fuzz

PIECES = [
    b"*", b"$", b"\r\n", b"\n", b"\r", b"0", b"-1", b"1", b"9999999999999999999", b"4", b" ", b'"', b"'", b"\\x",
    b"\x00", b"GET", b"SET", b"EXEC", b"MULTI", b"PING", b"HELLO", b"CLIENT", b"+", b":", b"%", b"x" * 300,
]  # fmt: skip
HARMLESS = [
    ("SET", "fuzz:a", "1"), ("GET", "fuzz:a"), ("MULTI",), ("EXEC",), ("INCR", "fuzz:n"), ("PING",), ("CLIENT", "ID"),
    ("APPEND", "fuzz:a", "x" * 100), ("HELLO", "3"), ("HELLO", "2"), ("SETRANGE", "fuzz:a", "99", "y"),
    ("INFO", "server"), ("WATCH", "fuzz:a"), ("DEL", "fuzz:a"), ("SCAN", "0", "MATCH", "fuzz:*"),
    ("EXPIRE", "fuzz:n", "10"), ("COMMAND", "COUNT"),
]  # fmt: skip
FORBIDDEN = (b"SHUTDOWN", b"FLUSH", b"CONFIG", b"DEBUG", b"SWAPDB", b"PAUSE", b"KILL", b"BGSAVE", b"SAVE")


def mutated(generator: random.Random) -> bytes:
    """A stream of good commands, with some of its bytes changed, lost, doubled or put elsewhere."""
    data = bytearray(b"".join(encode(*generator.choice(HARMLESS)) for _ in range(generator.randrange(1, 12))))
    for _ in range(generator.choice((1, 1, 2, 4, 20))):
        at, kind = generator.randrange(len(data) + 1), generator.randrange(6)
        if kind == 0:
            data[at:at] = generator.choice(PIECES)
        elif kind == 1:
            del data[at : at + generator.randrange(1, 10)]
        elif kind == 2 and data:
            data[at % len(data)] = generator.randrange(256)
        elif kind == 3:
            data[at:at] = data[generator.randrange(len(data) + 1) :][: generator.randrange(40)]
        elif kind == 4:
            data[at:at] = generator.randbytes(generator.randrange(30))
        else:
            del data[at:]
    return bytes(data)


def fuzz(server, seed: int, rounds: int) -> None:
    """Send mutated streams over connection after connection, reading now and then."""
    generator = random.Random(seed)
    for _ in range(rounds):
        data = mutated(generator)
        if any(word in data.upper() for word in FORBIDDEN):
            continue
        connection = Wire(server.address)
        try:
            start = 0
            while start < len(data):
                step = generator.choice((1, 7, 100, 100_000))
                connection.send(data[start : start + step])
                start += step
            if generator.random() < 0.3:
                connection.socket.shutdown(socket.SHUT_WR)
                connection.until_closed()
        except (Closed, OSError) as error:
            assert not isinstance(error, TimeoutError)
        finally:
            connection.close()


def run_fuzz(server, seed: int, rounds: int) -> None:
    print(f"seed {seed}")
    with Wire(server.address) as good:
        good("SELECT", 1)
        memory = int(info(good, "memory")["used_memory_rss"])
        failures: list[BaseException] = []

        def attack(own_seed: int) -> None:
            try:
                fuzz(server, own_seed, rounds)
            except BaseException as error:  # shown by the test, with the seed
                failures.append(error)

        attackers = [threading.Thread(target=attack, args=(seed + i,)) for i in range(2)]
        for attacker in attackers:
            attacker.start()
        count = 0
        while any(attacker.is_alive() for attacker in attackers):
            count += 1
            assert good("SET", "mine", count) == OK
            assert good("GET", "mine") == b"%d" % count
            assert good("INCR", "count") == count
        assert not failures, f"seed {seed}: {failures}"
        assert count > 10
        assert good("DBSIZE") == 2
        assert int(info(good, "memory")["used_memory_rss"]) - memory < 256 << 20


def test_mutated_streams_disturb_nobody(server) -> None:
    """Two attackers for a while, and a good client that is checked all along; KVSTORE_FUZZ_SEED replays."""
    run_fuzz(server, int(os.environ.get("KVSTORE_FUZZ_SEED", random.randrange(1 << 30))), 400)


@pytest.mark.slow
def test_mutated_streams_disturb_nobody_for_long(server) -> None:
    """The same, fifty times as long."""
    run_fuzz(server, int(os.environ.get("KVSTORE_FUZZ_SEED", random.randrange(1 << 30))), 20_000)
