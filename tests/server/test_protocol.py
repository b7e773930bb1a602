r"""Bad input: malformed requests, silence, floods, impostors.  One connection is closed; no other client notices.

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

# Bytes to send, and the reply before the connection is closed.
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
    """The error is Redis's; no command behind it is executed, and every command before it is."""
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
    """As in Redis, the two bytes after each argument are skipped without a check."""
    with Wire(server.address) as connection:
        connection.send(b"*2\r\n$4\r\nECHO\r\n$3\r\nhello\r\n*1\r\n$4\r\nPING\r\n")
        assert connection.reply() == b"hel"
        assert connection("PING") == Status("PONG")


def test_the_separators_after_arguments_are_not_looked_at(server) -> None:
    """Redis does not look at them either."""
    with Wire(server.address) as connection:
        connection.send(b"*2\r\n$4\r\nECHOxx$3\r\nabcyy")
        assert connection.reply() == b"abc"


@pytest.mark.parametrize(
    "data", [b"*3\r\n$3\r\nSET\r\n$5\r\nab", b"*2\r\n", b"*", b"PIN", b"$", b"*1\r\n$100000\r\nabc"]
)
def test_half_a_command_and_then_silence_harms_nobody(server, data: bytes) -> None:
    """The rest may arrive at any time, or never."""
    with Wire(server.address) as slow, Wire(server.address) as other:
        slow.send(data)
        for i in range(50):
            assert other("SET", "k", i) == OK
        slow.close()
        assert other("GET", "k") == b"49"


def test_endless_inline_is_cut_off(server) -> None:
    """The line is longer than 64 KB and has no end."""
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
@pytest.mark.parametrize("end", [b"", b"\r\n" + encode("SET", "tail", "executed")], ids=["endless", "with its end"])
def test_a_number_that_is_too_long_is_cut_off(server, data: bytes, reply: bytes, end: bytes) -> None:
    """This holds for counts and lengths, even if the whole line has arrived."""
    if end and server.is_redis:
        data += b"1" * 100_000  # it reads 16 KiB at a time, and sees the end of a line that is a little too long
    with Wire(server.address) as connection:
        connection.send(data + end)
        assert connection.until_closed() == reply
    with Wire(server.address) as connection:
        assert connection("EXISTS", "tail") == 0


@pytest.mark.parametrize("words", [1, 2, 32_765])
def test_an_inline_command_of_64_kib_is_served(server, words: int) -> None:
    """It is served to the last byte, with as many words as fit."""
    line = b"DEL " + b" ".join([b"x"] * words)
    line += b"x" * (65_536 - len(line))
    with Wire(server.address) as connection:
        connection.send(line + b"\n")
        assert connection.reply() == 0


def test_an_inline_command_of_more_is_refused_though_its_end_is_there(server) -> None:
    """The line has one byte more, and the command behind it is not executed."""
    line = b"DEL " + b"x" * (65_533 if not server.is_redis else 200_000)
    with Wire(server.address) as connection:
        connection.send(line + b"\n" + encode("SET", "tail", "executed"))
        assert connection.until_closed() == ERROR + b"too big inline request\r\n"
    with Wire(server.address) as connection:
        assert connection("EXISTS", "tail") == 0


def test_a_line_of_millions_of_words_that_piled_up_in_a_pause_is_refused(server) -> None:
    """The whole line is there at the first look, with more words than the array of arguments can hold."""
    with Wire(server.address) as admin, Wire(server.address) as victim:
        identity = victim("CLIENT", "ID")
        assert admin("CLIENT", "PAUSE", 1_000_000, "WRITE") == OK
        data = b"SET k v\r\n" + b"a " * 17_500_000 + b"\r\n"

        def received() -> bool:
            line = admin("CLIENT", "LIST", "ID", identity)
            return dict(field.split(b"=", 1) for field in line.split())[b"qbuf"] == b"%d" % len(data)

        victim.send(data)
        wait_until(received, "all of it to be received")
        assert admin("CLIENT", "UNPAUSE") == OK
        assert victim.until_closed() == b"+OK\r\n" + ERROR + b"too big inline request\r\n"
        assert admin("PING") == Status("PONG")


def test_an_inline_command_that_waits_for_a_pause_to_end_is_read_as_it_was_sent(server) -> None:
    """This includes quotes and escapes, although the line is parsed twice."""
    lines = rb"""
SET "a\"b" "x\x41\n y"
SET 'it''s' z
  SET "*k" "*v"
SET plain '\'quoted\' "inside"'
"""
    commands = [line.replace(b"''", b"\\'") + b"\r\n" for line in lines.splitlines() if line]
    with Wire(server.address) as admin:
        connections = [Wire(server.address) for _ in commands]
        try:
            assert admin("CLIENT", "PAUSE", 1_000_000, "WRITE") == OK
            for connection, command in zip(connections, commands, strict=True):
                connection.send(command)
            wait_until(lambda: info(admin, "clients")["blocked_clients"] == "4", "all to be held back")
            assert admin("CLIENT", "UNPAUSE") == OK
            assert [connection.reply() for connection in connections] == [OK] * 4
        finally:
            for connection in connections:
                connection.close()
        pairs = {b'a"b': b"xA\n y", b"it's": b"z", b"*k": b"*v", b"plain": b"'quoted' \"inside\""}
        assert admin("MGET", *pairs) == list(pairs.values())


# ---------------------------------------------------------------------------------------- text of a client's in a reply

FORGING = [
    *(encode(name, "k", "1", "x\r\n+FORGED") for name in ("EXPIRE", "PEXPIRE", "EXPIREAT", "PEXPIREAT")),
    encode("EXPIRE", "k", "1", "\r\nx\r\n\r\n"),
    encode("EXPIRE", "k", "1", b"ab\0cd"),
    encode("EXPIRE", "k", "1", "z" * 5000),
    encode("fo\r\n+FORGED", "ba\r\n+FORGED", b"x\0y"),
    encode("foo\r\n"),
    encode("f" * 200, *["a" * 50] * 10),
    encode("foo", *["a"] * 1000),
    encode("foo", "b" * 300, "c"),
    encode("foo", "b" * 120, "cdefgh", "i"),
    encode("foo", "b" * 125, "cdefgh", "i"),
    encode(""),
    encode("", "", ""),
    encode("x" * 33),
    encode("HELLO", "3", b"fo\r\n-x\0y"),
    encode("CLIENT", b"a\r\nb\0c"),
    encode("CLIENT", "a" * 300),
    encode("OBJECT", "a\nb"),
    encode("CONFIG", "SET", b"a\r\nb\0c", "d"),
    encode("CONFIG", "SET", "a\r\n", "d"),
    encode("CONFIG", "SET", "maxmemory", "a\r\nb"),
    encode("CLIENT", "KILL", "TYPE", "a\r\nb"),
    encode("CLIENT", "KILL", "USER", "a\r\nb"),
    encode("CLIENT", "KILL", "ID", "5", "ID", "x"),
    encode("PING", "a\r\n", "b"),
    encode("GET", "a", "b"),
    encode("EXEC", "a\r\nb"),
    encode("MULTI") + encode("EXEC", "a") + encode("EXEC"),
    encode("MULTI") + encode("fo\r\no") + encode("EXEC"),
    encode("MULTI") + encode("GET") + encode("EXEC"),
    encode("MULTI") + encode("CLIENT", "fo\r\no") + encode("EXEC"),
    encode("PING", *["a"] * 2000),
    encode("CLIENT", "SETNAME", *["a"] * 2000),
    encode("CLIENT", "NOSUCH", *["a"] * 2000),
]


@pytest.mark.parametrize("data", FORGING, ids=[repr(data[:40]) for data in FORGING])
def test_what_a_client_wrote_stays_within_its_error(server, redis_server, data: bytes) -> None:
    """The bytes equal redis-server's: blanks for line breaks, nothing behind a zero byte, Redis's lengths."""
    end = encode("ECHO", "end")
    replies = []
    for one in (server, redis_server):
        with Wire(one.address) as connection:
            connection.send(data + end)
            got = b""
            while not got.endswith(b"$3\r\nend\r\n"):
                got += connection.raw_reply()
            replies.append(got)
    assert replies[0] == replies[1]


def test_a_command_that_python_serves_takes_a_thousand_arguments(server, ours) -> None:
    """A command with more is refused at once, for the wrong number of arguments."""
    with Wire(server.address) as connection:
        assert connection("COMMAND", "INFO", *["x"] * 1022) == [None] * 1022
        refused = [
            (("COMMAND", "INFO", *["x"] * 1023), "ERR wrong number of arguments for 'command|info' command"),
            (("INFO", *["x"] * 1024), "ERR wrong number of arguments for 'info' command"),
        ]
        for command, error in refused:
            assert connection(*command) == Failure(error)
        queued = [connection("MULTI"), connection("COMMAND", "INFO", *["x"] * 2000), connection("EXEC")]
        assert queued == [OK, Status("QUEUED"), [Failure("ERR wrong number of arguments for 'command|info' command")]]


# ----------------------------------------------------------------------------------- before a client has said who it is

HTTP = [
    b"POST / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"PUT / HTTP/1.1\r\nhost: x\r\n\r\n",
    encode("PING") + encode("post"),
    encode("Host:", "x"),
    encode(b"POST\0x"),
    encode("MULTI") + encode("POST"),
]


@pytest.mark.parametrize("data", HTTP, ids=[repr(data[:40]) for data in HTTP])
def test_an_http_request_closes_the_connection(server, data: bytes) -> None:
    """No reply is sent, and the body is not executed."""
    with Wire(server.address) as connection:
        connection.send(data + encode("SET", "body", "executed"))
        assert connection.until_closed() == b""
    with Wire(server.address) as connection:
        assert connection("EXISTS", "body") == 0
        assert connection("POSTER") == Failure("ERR unknown command 'POSTER', with args beginning with: ")
        assert connection("HOST") == Failure("ERR unknown command 'HOST', with args beginning with: ")


def test_an_http_request_is_told_in_the_log_once_a_minute(start, tmp_path) -> None:
    """The text is Redis's."""
    with start(tmp_path) as server:
        for _ in range(3):
            with Wire(server.address) as connection:
                connection.send(b"POST / HTTP/1.1\r\n\r\n")
                assert connection.until_closed() == b""
        assert server.log().count("Possible SECURITY ATTACK detected.") == 1


@pytest.mark.parametrize("known", [False, True])
def test_a_stranger_who_does_not_read_is_let_go(start, tmp_path, ours, known: bool) -> None:
    """Only the system's buffers hold replies for it; an authenticated client may read slowly."""
    with (
        start(tmp_path, options=("--requirepass", "sesame"), password="sesame") as server,
        Wire(server.address) as admin,
    ):
        assert admin("AUTH", "sesame") == OK
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.settimeout(30)
            deaf.connect(server.address)
            deaf.sendall((encode("AUTH", "sesame") if known else b"") + encode("CLIENT", "SETNAME", "deaf"))
            closed = int(info(admin, "stats")["client_output_buffer_limit_disconnections"])
            asked = 0
            with contextlib.suppress(ConnectionError):
                while asked < (2 << 20 if known else 1 << 40):
                    asked += deaf.send(encode("GET", "k") * 1000)
            lines = admin("CLIENT", "LIST").splitlines()
            assert len(lines) == (2 if known else 1)
            assert int(info(admin, "stats")["client_output_buffer_limit_disconnections"]) == closed + (not known)


def test_a_stranger_who_reads_is_served(start, tmp_path) -> None:
    """The number of its requests does not matter."""
    with (
        start(tmp_path, options=("--requirepass", "sesame"), password="sesame") as server,
        Wire(server.address) as stranger,
    ):
        for _ in range(20):
            replies = stranger.pipeline([("GET", "k")] * 30 + [("HELLO",)] * 3)
            assert set(replies[:30]) == {Failure("NOAUTH Authentication required.")}
            assert all(reply.text.startswith("NOAUTH HELLO must be called") for reply in replies[30:])
        assert stranger("AUTH", "sesame") == OK
        assert stranger("GET", "k") is None


def test_a_huge_count_reserves_nothing(server) -> None:
    """Memory is reserved only for bytes that arrive."""
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
    """A count of some hundred thousand is legitimate."""
    with Wire(server.address) as connection:
        assert connection("DEL", *range(300_000)) == 0
        connection.send(b"*200001\r\n$6\r\nEXISTS\r\n" + b"$0\r\n\r\n" * 200_000)
        assert connection.reply() == 0


# ----------------------------------------------------------------------------------------------------- before AUTH


@pytest.fixture
def locked(server):
    """A server that requires a password."""
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
    """Before AUTH the limit is ten arguments of 16 KB; after it, the usual limits hold."""
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
    """client-output-buffer-limit normal: a client that does not read is closed before memory runs out."""
    assert wire2("CONFIG", "SET", "client-output-buffer-limit", "normal 4mb 0 0") == OK
    try:
        wire2("SET", "big", b"x" * (1 << 20))
        with Wire(server.address) as deaf:
            deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            identity = deaf("CLIENT", "ID")
            with contextlib.suppress(ConnectionError):  # it may be closed while it still sends
                for _ in range(60):
                    deaf.send(encode("GET", "big"))
            wait_until(lambda: wire2("CLIENT", "LIST", "ID", identity) == b"", "the deaf client to be closed")
        with Wire(server.address) as reader:
            for _ in range(60):
                assert len(reader("GET", "big")) == 1 << 20
    finally:
        assert wire2("CONFIG", "SET", "client-output-buffer-limit", "normal 0 0 0") == OK


def test_output_over_the_soft_limit_for_too_long_closes_the_connection(server, wire2: Wire) -> None:
    """It is not closed before the configured seconds have passed."""
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
    """The server is bound to all addresses without a password; a password or `protected-mode no` opens it."""
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
    """An address of this machine that is not a loopback address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            return None
        address = str(probe.getsockname()[0])
    return None if address.startswith("127.") else address


def test_connections_that_come_and_go_by_the_thousand(server, wire2: Wire) -> None:
    """Some leave at once, some amid a command, some with replies unread; all memory is freed."""
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
    """A stream of good commands, with some of its bytes changed, lost, doubled or moved."""
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
    """Two attackers run for a while beside a good client that is checked; KVSTORE_FUZZ_SEED replays."""
    run_fuzz(server, int(os.environ.get("KVSTORE_FUZZ_SEED", random.randrange(1 << 30))), 400)


@pytest.mark.slow
def test_mutated_streams_disturb_nobody_for_long(server) -> None:
    """The same, fifty times as long."""
    run_fuzz(server, int(os.environ.get("KVSTORE_FUZZ_SEED", random.randrange(1 << 30))), 20_000)
