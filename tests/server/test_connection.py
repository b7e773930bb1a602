r"""The connection itself: PING ECHO QUIT RESET AUTH HELLO, both protocols, inline commands, pipelines, sockets."""

import os
import socket
import threading

import pytest
import redis

from tests.server.wire import OK, Failure, Status, Wire, encode, run_transcript

TRANSCRIPTS = {
    "ping and echo": r"""
        PING -> PONG
        PING hello -> "hello"
        PING "" -> ""
        ping -> PONG
        PING a b -> !ERR wrong number of arguments for 'ping' command
        ECHO "a\x00b\r\n" -> "a\x00b\r\n"
        ECHO -> !ERR wrong number of arguments for 'echo' command
        ECHO a b -> !ERR wrong number of arguments for 'echo' command
    """,
    "auth without a password": r"""
        AUTH secret -> !ERR AUTH <password> called without any password configured for the default user. Are \
            you sure your configuration is correct?
        AUTH default anything -> OK
        AUTH nobody secret -> !WRONGPASS invalid username-password pair or user is disabled.
        AUTH -> !ERR wrong number of arguments for 'auth' command
        AUTH a b c -> !ERR syntax error
        PING -> PONG
    """,
    "hello refuses": r"""
        HELLO 1 -> !NOPROTO unsupported protocol version
        HELLO 4 -> !NOPROTO unsupported protocol version
        HELLO x -> !ERR Protocol version is not an integer or out of range
        HELLO "" -> !ERR Protocol version is not an integer or out of range
        HELLO 3 FOO -> !ERR Syntax error in HELLO option 'FOO'
        HELLO 3 AUTH x -> !ERR Syntax error in HELLO option 'AUTH'
        HELLO 3 AUTH nobody secret -> !WRONGPASS invalid username-password pair or user is disabled.
        HELLO 3 SETNAME -> !ERR Syntax error in HELLO option 'SETNAME'
        HELLO 3 SETNAME "a b" -> !ERR Client names cannot contain spaces, newlines or special characters.
        CLIENT GETNAME -> nil
    """,
    "reset": r"""
        SELECT 3 -> OK
        SET k v -> OK
        CLIENT SETNAME me -> OK
        WATCH k -> OK
        RESET -> RESET
        GET k -> nil
        RESET x -> !ERR wrong number of arguments for 'reset' command
    """,
}


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_transcript(wire: Wire, name: str) -> None:
    """The transcript's replies are the server's."""
    run_transcript(wire, TRANSCRIPTS[name])


# ------------------------------------------------------------------------------------------------------------- HELLO


def test_hello_describes_the_server_in_either_protocol(server, wire2: Wire) -> None:
    """The reply has seven pairs: a flat array in RESP2, a map in RESP3."""
    identity = wire2("CLIENT", "ID")
    flat = wire2("HELLO", 2)
    assert flat[0::2] == [b"server", b"version", b"proto", b"id", b"mode", b"role", b"modules"]
    reply = wire2("HELLO", 3)
    assert reply[b"server"] == b"redis"
    assert reply[b"version"].startswith(b"7.")
    assert (reply[b"proto"], reply[b"id"]) == (3, identity)
    assert (reply[b"mode"], reply[b"role"], reply[b"modules"]) == (b"standalone", b"master", [])
    assert wire2("HELLO") == reply
    assert wire2("GET", "missing") is None
    assert wire2.raw("GET", "missing") == b"_\r\n"
    assert isinstance(wire2("HELLO", 2), list)
    assert wire2.raw("GET", "missing") == b"$-1\r\n"


def test_hello_sets_the_name(wire: Wire) -> None:
    """Tests HELLO ... SETNAME."""
    wire("HELLO", wire.protocol, "SETNAME", "me")
    assert wire("CLIENT", "GETNAME") == b"me"
    wire("HELLO", wire.protocol, "AUTH", "default", "whatever", "SETNAME", "you")
    assert wire("CLIENT", "GETNAME") == b"you"


def test_reset_goes_back_to_resp2(server) -> None:
    """RESET undoes HELLO 3 and CLIENT REPLY."""
    with Wire(server.address, 3) as connection:
        assert connection("RESET") == Status("RESET")
        assert connection.raw("GET", "missing") == b"$-1\r\n"


# ----------------------------------------------------------------------------------------------------------- passwords


@pytest.fixture
def password(server):
    """A server that requires a password."""
    with Wire(server.address) as admin:
        assert admin("CONFIG", "SET", "requirepass", "sesame") == OK
        yield "sesame"
        assert admin("CONFIG", "SET", "requirepass", "") == OK


NO_AUTH = Failure("NOAUTH Authentication required.")
WRONG_PASS = Failure("WRONGPASS invalid username-password pair or user is disabled.")


def test_without_the_password_nothing_is_served(server, password: str) -> None:
    """The exceptions are AUTH, HELLO, QUIT and RESET."""
    with Wire(server.address) as connection:
        for command in (("GET", "k"), ("PING",), ("MULTI",), ("CLIENT", "ID"), ("COMMAND",), ("SHUTDOWN",), ("INFO",)):
            assert connection(*command) == NO_AUTH
        assert connection("GET") == Failure("ERR wrong number of arguments for 'get' command")
        assert connection("FOO") == Failure("ERR unknown command 'FOO', with args beginning with: ")
        assert connection("HELLO", 3).text.startswith(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO "
        )
        assert connection("AUTH", "wrong") == WRONG_PASS
        assert connection("AUTH", "default", "wrong") == WRONG_PASS
        assert connection("AUTH", "nobody", password) == WRONG_PASS
        assert connection("GET", "k") == NO_AUTH
        assert connection("AUTH", password) == OK
        assert connection("GET", "k") is None
        assert connection("AUTH", "wrong") == WRONG_PASS
        assert connection("GET", "k") is None
        assert connection("RESET") == Status("RESET")
        assert connection("GET", "k") == NO_AUTH
        assert connection("AUTH", "default", password) == OK
        assert connection("PING") == Status("PONG")


def test_hello_authenticates(server, password: str) -> None:
    """Tests HELLO 3 AUTH user password."""
    with Wire(server.address) as connection:
        assert connection("HELLO", 3, "AUTH", "default", "wrong") == WRONG_PASS
        assert connection("PING") == NO_AUTH
        assert connection("HELLO", 3, "AUTH", "default", password, "SETNAME", "me")[b"proto"] == 3
        assert connection("CLIENT", "GETNAME") == b"me"
    for protocol in (2, 3):
        with redis.Redis(server.host, server.port, password=password, protocol=protocol) as client:
            assert client.ping()
        with (
            redis.Redis(server.host, server.port, password="wrong", protocol=protocol, retry=None) as client,
            pytest.raises(redis.AuthenticationError),
        ):
            client.ping()


def test_a_connection_from_before_the_password_stays_authenticated(server, wire2: Wire) -> None:
    """CONFIG SET requirepass affects later connections only."""
    try:
        assert wire2("CONFIG", "SET", "requirepass", "x" * 500) == OK
        assert wire2("PING") == Status("PONG")
        with Wire(server.address) as late:
            assert late("PING") == NO_AUTH
            assert late("AUTH", "x" * 499) == WRONG_PASS
            assert late("AUTH", "x" * 500) == OK
    finally:
        assert wire2("CONFIG", "SET", "requirepass", "") == OK


# -------------------------------------------------------------------------------------------------------------- inline

INLINE = [
    (b"PING\r\n", b"+PONG\r\n"),
    (b"PING\n", b"+PONG\r\n"),
    (b"\r\nPING\r\n", b"+PONG\r\n"),
    (b"   PING   \r\n", b"+PONG\r\n"),
    (b"\tPING\t\n", b"+PONG\r\n"),
    (b"ECHO hello\r\n", b"$5\r\nhello\r\n"),
    (b"ECHO 'hello world'\r\n", b"$11\r\nhello world\r\n"),
    (b'ECHO "hello world"\r\n', b"$11\r\nhello world\r\n"),
    (b'ECHO "a\\x00\\xffb\\n\\r\\t\\b\\a\\q\\"\\\\"\r\n', b'$12\r\na\x00\xffb\n\r\t\b\aq"\\\r\n'),
    (b"ECHO 'a\\'b\\n\"'\r\n", b"$6\r\na'b\\n\"\r\n"),
    (b'ECHO ""\r\n', b"$0\r\n\r\n"),
    (b"ECHO ''\r\n", b"$0\r\n\r\n"),
    (b'ECHO "\\x4g"\r\n', b"$3\r\nx4g\r\n"),
    (b'ECHO a"b c"\r\n', b"$4\r\nab c\r\n"),
    (b"ECHO \xff\xfe\r\n", b"$2\r\n\xff\xfe\r\n"),
    (b"SET inline 1\r\nINCR inline\r\nGET inline\r\n", b"+OK\r\n:2\r\n$1\r\n2\r\n"),
    (b"PING\r\n*1\r\n$4\r\nPING\r\nECHO x\r\n", b"+PONG\r\n+PONG\r\n$1\r\nx\r\n"),
    (b"*0\r\nPING\r\n", b"+PONG\r\n"),
    (b"*-1\r\nPING\r\n", b"+PONG\r\n"),
    (b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"),
    (b"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n", b"$0\r\n\r\n"),
]


@pytest.mark.parametrize("feed", ["whole", "bytewise", "with a tail"])
@pytest.mark.parametrize(("data", "reply"), INLINE, ids=[repr(data) for data, _ in INLINE])
def test_requests_in_every_spelling_however_they_arrive(server, data: bytes, reply: bytes, feed: str) -> None:
    """Mixes inline and multi-bulk; sends them whole, byte by byte, and followed by the beginning of another command."""
    with Wire(server.address) as connection:
        tail = b"*2\r\n$4\r\nECHO\r\n$3\r\nta"
        if feed == "bytewise":
            for i in range(len(data)):
                connection.send(data[i : i + 1])
        else:
            connection.send(data + tail if feed == "with a tail" else data)
        got = b""
        while len(got) < len(reply):
            got += connection.socket.recv(len(reply) - len(got))
        assert got == reply
        if feed == "with a tail":
            connection.send(b"g\r\n")
            assert connection.reply() == b"tag"
        assert connection("PING") == Status("PONG")


# ----------------------------------------------------------------------------------------------------------- pipelines


def test_a_pipeline_of_ten_thousand_is_answered_in_order(wire: Wire) -> None:
    """The pipeline mixes hot and cold commands, errors and arrays."""
    commands: list[tuple[object, ...]] = []
    expected: list[object] = []
    for i in range(2500):
        commands += [("SET", f"k{i}", i), ("GET", f"k{i}"), ("INCR", "n"), ("ECHO", i)]
        expected += [OK, str(i).encode(), i + 1, str(i).encode()]
        if i % 50 == 0:
            commands += [("CLIENT", "GETNAME"), ("INCR",), ("MGET", "k0", "x"), ("NOPE",)]
            expected += [
                None,
                Failure("ERR wrong number of arguments for 'incr' command"),
                [b"0", None],
                Failure("ERR unknown command 'NOPE', with args beginning with: "),
            ]
    assert wire.pipeline(commands) == expected


def test_a_pipeline_that_nobody_reads_for_a_while(server) -> None:
    """Replies of 100 MB wait for the reader, and arrive whole and in order."""
    with Wire(server.address) as connection:
        value = os.urandom(100_000)
        assert connection("SET", "k", value) == OK
        requests = b"".join(encode("GET", "k") + encode("ECHO", i) for i in range(1000))
        sender = threading.Thread(target=connection.send, args=(requests,))
        sender.start()
        with Wire(server.address) as other:
            for _ in range(20):
                assert other("PING") == Status("PONG")
        for i in range(1000):
            assert connection.reply() == value
            assert connection.reply() == str(i).encode()
        sender.join()


def test_a_large_value_in_small_pieces(server) -> None:
    """A command may arrive in thousands of packets, while other clients are served."""
    value = os.urandom(300_000)
    request = encode("SET", "k", value) + encode("GET", "k")
    with Wire(server.address) as slow, Wire(server.address) as other:
        for start in range(0, len(request), 1000):
            slow.send(request[start : start + 1000])
            if start % 50_000 == 0 and start < len(value):
                assert other("EXISTS", "k") == 0
        assert slow.reply() == OK
        assert slow.reply() == value


def test_redis_py_speaks_both_protocols_through_it(server) -> None:
    """Uses redis-py's own pipelines."""
    for protocol in (2, 3):
        with redis.Redis(server.host, server.port, protocol=protocol, decode_responses=True) as client:
            client.flushall()
            assert client.set("k", "v", ex=100)
            assert client.get("k") == "v"
            with client.pipeline() as pipe:
                for _i in range(1000):
                    pipe.incr("n")
                assert pipe.execute() == list(range(1, 1001))
            with client.pipeline(transaction=False) as pipe:
                pipe.set("a", 1).get("a").delete("a").get("a")
                assert pipe.execute() == [True, "1", 1, None]
            assert client.info("server")["redis_version"].startswith("7.")
            assert client.config_get("maxclients").keys() == {"maxclients"}
            assert client.client_list()[0]["resp"] in ("2", "3")


# ----------------------------------------------------------------------------------------------------- leaving, staying


def test_quit_answers_and_closes(server) -> None:
    """Commands behind QUIT in the pipeline are not executed."""
    with Wire(server.address) as connection:
        connection.send(encode("SET", "a", 1) + encode("QUIT") + encode("SET", "b", 1))
        assert connection.until_closed() == b"+OK\r\n+OK\r\n"
    with Wire(server.address) as connection:
        assert connection("MGET", "a", "b") == [b"1", None]
        connection.send(encode("MULTI") + encode("QUIT"))
        assert connection.until_closed() == b"+OK\r\n+OK\r\n"


def test_a_client_that_closes_its_sending_half_is_still_answered(server) -> None:
    """`printf ... | nc` does that."""
    with Wire(server.address) as connection:
        connection.send(b"PING\r\nSET half open\r\nGET half\r\n")
        connection.socket.shutdown(socket.SHUT_WR)
        assert connection.until_closed() == b"+PONG\r\n+OK\r\n$4\r\nopen\r\n"


def test_the_unix_socket_serves_the_same_store(server, wire2: Wire) -> None:
    """Tests --unixsocket."""
    with Wire(server.unix_socket) as connection:
        assert connection("SET", "k", "v") == OK
        assert wire2("GET", "k") == b"v"
        assert b"flags=U " in connection("CLIENT", "INFO")
        assert b" addr=%s:0 " % server.unix_socket.encode() in connection("CLIENT", "INFO")


def test_hundreds_of_connections_at_once(server) -> None:
    """Each is served and has an id of its own, and none is left afterwards."""
    connections = [Wire(server.address) for _ in range(300)]
    try:
        identities = [connection("CLIENT", "ID") for connection in connections]
        assert identities == sorted(set(identities))
        for i, connection in enumerate(connections):
            connection.send(encode("SET", f"k{i}", i) + encode("GET", f"k{i}"))
        for i, connection in enumerate(connections):
            assert [connection.reply(), connection.reply()] == [OK, str(i).encode()]
    finally:
        for connection in connections:
            connection.close()
