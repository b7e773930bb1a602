r"""CLIENT and its subcommands."""

import contextlib
import re
import socket
import threading

import pytest

from tests.server.wire import OK, Closed, Failure, Status, Verbatim, Wire, encode, info, run_transcript, wait_until

TRANSCRIPTS = {
    "names": r"""
        CLIENT GETNAME -> nil
        CLIENT SETNAME me -> OK
        CLIENT GETNAME -> "me"
        CLIENT SETNAME "a b" -> !ERR Client names cannot contain spaces, newlines or special characters.
        CLIENT SETNAME "a\nb" -> !ERR Client names cannot contain spaces, newlines or special characters.
        CLIENT SETNAME "\xc3\xa9" -> !ERR Client names cannot contain spaces, newlines or special characters.
        CLIENT GETNAME -> "me"
        CLIENT SETNAME "" -> OK
        CLIENT GETNAME -> nil
        CLIENT SETNAME -> !ERR wrong number of arguments for 'client|setname' command
        CLIENT GETNAME x -> !ERR wrong number of arguments for 'client|getname' command
        client getname -> nil
    """,
    "refusals": r"""
        CLIENT -> !ERR wrong number of arguments for 'client' command
        CLIENT FOO -> !ERR unknown subcommand 'FOO'. Try CLIENT HELP.
        CLIENT ID x -> !ERR wrong number of arguments for 'client|id' command
        CLIENT LIST FOO -> !ERR syntax error
        CLIENT LIST TYPE -> !ERR syntax error
        CLIENT LIST TYPE foo -> !ERR Unknown client type 'foo'
        CLIENT LIST ID -> !ERR syntax error
        CLIENT LIST ID x -> !ERR Invalid client ID
        CLIENT KILL -> !ERR wrong number of arguments for 'client|kill' command
        CLIENT KILL 1.2.3.4:5 -> !ERR No such client
        CLIENT KILL ID x -> !ERR client-id should be greater than 0
        CLIENT KILL ID 0 -> !ERR client-id should be greater than 0
        CLIENT KILL ID 99999999 -> 0
        CLIENT KILL FOO bar -> !ERR syntax error
        CLIENT KILL ID 1 SKIPME -> !ERR syntax error
        CLIENT KILL ID 1 SKIPME maybe -> !ERR syntax error
        CLIENT KILL TYPE foo -> !ERR Unknown client type 'foo'
        CLIENT KILL USER nobody -> !ERR No such user 'nobody'
        CLIENT KILL ADDR 1.2.3.4:5 -> 0
        CLIENT KILL LADDR 1.2.3.4:5 -> 0
        CLIENT KILL TYPE replica -> 0
        CLIENT KILL TYPE pubsub -> 0
        CLIENT REPLY MAYBE -> !ERR syntax error
        CLIENT REPLY ON -> OK
        CLIENT PAUSE -> !ERR wrong number of arguments for 'client|pause' command
        CLIENT PAUSE x -> !ERR timeout is not an integer or out of range
        CLIENT PAUSE -1 -> !ERR timeout is negative
        CLIENT PAUSE 10 FOO -> !ERR CLIENT PAUSE mode must be WRITE or ALL
        CLIENT UNPAUSE -> OK
        CLIENT NO-EVICT ON -> OK
        CLIENT NO-EVICT OFF -> OK
        CLIENT NO-EVICT FOO -> !ERR syntax error
    """,
    "new in 7.2": r"""
        CLIENT NO-TOUCH ON -> OK
        CLIENT NO-TOUCH off -> OK
        CLIENT NO-TOUCH FOO -> !ERR syntax error
        CLIENT NO-TOUCH -> !ERR wrong number of arguments for 'client|no-touch' command
        CLIENT SETINFO LIB-NAME lib -> OK
        CLIENT SETINFO lib-ver 1.2.3 -> OK
        CLIENT SETINFO LIB-NAME "" -> OK
        CLIENT SETINFO LIB-NAME "a b" -> !ERR LIB-NAME cannot contain spaces, newlines or special characters.
        CLIENT SETINFO LIB-VER "a\nb" -> !ERR LIB-VER cannot contain spaces, newlines or special characters.
        CLIENT SETINFO FOO bar -> !ERR Unrecognized option 'FOO'
        CLIENT SETINFO LIB-NAME -> !ERR wrong number of arguments for 'client|setinfo' command
    """,
}


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_transcript(wire: Wire, name: str, request: pytest.FixtureRequest) -> None:
    """The transcript's replies are the server's."""
    if "7.2" in name:
        request.getfixturevalue("at_least_72")
    run_transcript(wire, TRANSCRIPTS[name])


FIELDS = [
    *("id", "addr", "laddr", "fd", "name", "age", "idle", "flags", "db", "sub", "psub", "ssub", "multi", "qbuf"),
    *("qbuf-free", "argv-mem", "multi-mem", "rbs", "rbp", "obl", "oll", "omem", "tot-mem", "events", "cmd", "user"),
    *("redir", "resp"),
]


def fields(line: bytes) -> dict[str, str]:
    """One line of CLIENT LIST."""
    pairs = (word.split("=", 1) for word in line.decode().strip().split(" "))
    return dict(pairs)


def text(reply: object) -> bytes:
    """A reply that is a verbatim text in RESP3."""
    data = reply.data if isinstance(reply, Verbatim) else reply
    assert isinstance(data, bytes)
    return data


def test_info_and_list_have_redis_fields_in_redis_order(wire: Wire) -> None:
    """Tools parse these fields."""
    wire("CLIENT", "SETNAME", "me")
    wire("SELECT", 7)
    line = text(wire("CLIENT", "INFO"))
    assert line.endswith(b"\n")
    mine = fields(line)
    assert [name for name in mine if name != "watch" and not name.startswith("lib-")] == FIELDS
    assert mine["id"] == str(wire("CLIENT", "ID"))
    host, port = wire.socket.getsockname()
    assert mine["addr"] == f"{host}:{port}"
    host, port = wire.socket.getpeername()
    assert mine["laddr"] == f"{host}:{port}"
    assert (mine["name"], mine["db"], mine["cmd"], mine["user"]) == ("me", "7", "client|info", "default")
    assert (mine["resp"], mine["flags"], mine["multi"], mine["sub"]) == (str(wire.protocol), "N", "-1", "0")
    assert re.fullmatch(r"r?w?", mine["events"])
    listed = [fields(each) for each in text(wire("CLIENT", "LIST")).splitlines()]
    assert [each for each in listed if each["id"] == mine["id"]]
    assert len(listed) == int(info(wire, "clients")["connected_clients"])


def test_the_library_shows_in_the_list(server, wire: Wire, at_least_72: None) -> None:
    """redis-py sends CLIENT SETINFO when it connects."""
    wire("CLIENT", "SETINFO", "LIB-NAME", "mylib")
    wire("CLIENT", "SETINFO", "LIB-VER", "1.0")
    mine = fields(text(wire("CLIENT", "INFO")))
    assert [name for name in mine if name != "watch"] == [*FIELDS, "lib-name", "lib-ver"]
    assert (mine["lib-name"], mine["lib-ver"]) == ("mylib", "1.0")


def test_list_selects_by_id_and_type(server, wire: Wire) -> None:
    """Tests CLIENT LIST ID and CLIENT LIST TYPE."""
    with Wire(server.address) as one, Wire(server.address) as two:
        ids = [one("CLIENT", "ID"), two("CLIENT", "ID")]
        lines = text(wire("CLIENT", "LIST", "ID", *ids, 99_999_999)).splitlines()
        assert [int(fields(line)["id"]) for line in lines] == ids
        assert text(wire("CLIENT", "LIST", "TYPE", "replica")) == b""
        normal = text(wire("CLIENT", "LIST", "TYPE", "NORMAL")).splitlines()
        assert {str(each) for each in ids} <= {fields(line)["id"] for line in normal}


def test_both_addresses_are_those_of_the_socket(server, wire2: Wire) -> None:
    """IPv6 addresses have brackets, Unix sockets have their path; CLIENT KILL accepts the same forms."""
    with Wire(server.unix_socket) as local:
        mine = fields(text(local("CLIENT", "INFO")))
        assert mine["addr"] == mine["laddr"] == f"{server.unix_socket}:0"
        assert mine["flags"] == "U"
        assert wire2("CLIENT", "KILL", "ADDR", f"{server.unix_socket}:0") == 1
        assert local.until_closed() == b""
    try:
        six = socket.create_connection(("::1", server.port), 30)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with six:
        six.sendall(b"CLIENT INFO\r\n")
        line = six.recv(4096).partition(b"\r\n")[2]
        own, peer = six.getsockname()[1], six.getpeername()[1]
        assert (fields(line)["addr"], fields(line)["laddr"]) == (f"[::1]:{own}", f"[::1]:{peer}")
        assert wire2("CLIENT", "KILL", "LADDR", f"[::1]:{peer}", "ADDR", f"[::1]:{own}") == 1
        assert six.recv(1) == b""


def test_a_thousand_connections_are_listed_each_as_it_is(server, wire2: Wire) -> None:
    """Names, databases and addresses go to the right line."""
    before = len(text(wire2("CLIENT", "LIST")).splitlines())
    with contextlib.ExitStack() as stack:
        expected = {}
        for i in range(1000):
            one = stack.enter_context(Wire(server.address))
            assert one.pipeline([("CLIENT", "SETNAME", f"name-{i}" * (i % 7)), ("SELECT", i % 16)]) == [OK, OK]
            host, port = one.socket.getsockname()
            expected[f"{host}:{port}"] = f"name-{i}" * (i % 7), str(i % 16), "select"
        lines = [fields(line) for line in text(wire2("CLIENT", "LIST")).splitlines()]
        assert len(lines) == before + 1000
        listed = {line["addr"]: (line["name"], line["db"], line["cmd"]) for line in lines}
        assert {address: listed[address] for address in expected} == expected
        assert wire2("CLIENT", "KILL", "TYPE", "normal") == len(lines) - 1
    wait_until(lambda: info(wire2, "clients")["connected_clients"] == "1", "all to be closed")


def test_kill_closes_the_one_that_is_meant(server, wire: Wire) -> None:
    """Selects it by id, by address, and in the old form; SKIPME spares the caller."""
    with Wire(server.address) as victim, Wire(server.address) as bystander:
        assert wire("CLIENT", "KILL", "ID", victim("CLIENT", "ID")) == 1
        assert victim.until_closed() == b""
        assert bystander("PING") == Status("PONG")
        host, port = bystander.socket.getsockname()
        assert wire("CLIENT", "KILL", "ADDR", f"{host}:{port}", "TYPE", "pubsub") == 0
        assert wire("CLIENT", "KILL", "ADDR", f"{host}:{port}") == 1
        assert bystander.until_closed() == b""
    with Wire(server.address) as victim:
        assert victim("PING") == Status("PONG")  # the server has accepted it
        host, port = victim.socket.getsockname()
        assert wire("CLIENT", "KILL", f"{host}:{port}") == OK
        assert victim.until_closed() == b""
    assert wire("CLIENT", "KILL", "ID", wire("CLIENT", "ID")) == 0
    assert wire("PING") == Status("PONG")


def test_kill_by_user_type_and_local_address(server, wire: Wire) -> None:
    """Kills all matching clients, but spares the caller unless SKIPME is no."""
    victims = [Wire(server.address) for _ in range(3)]
    for victim in victims:
        victim("PING")
    local = "{}:{}".format(*victims[0].socket.getpeername())
    count = len(text(wire("CLIENT", "LIST", "TYPE", "normal")).splitlines())
    assert wire("CLIENT", "KILL", "LADDR", local, "TYPE", "normal", "USER", "default", "SKIPME", "yes") == count - 1
    for victim in victims:
        assert victim.until_closed() == b""
        victim.close()
    wire.send(encode("CLIENT", "KILL", "ID", wire("CLIENT", "ID"), "SKIPME", "no") + encode("SET", "after", "1"))
    assert wire.until_closed() == b":1\r\n"
    with Wire(server.address) as other:
        assert other("EXISTS", "after") == 0


def test_kill_while_a_reply_waits_to_be_read(server, wire2: Wire) -> None:
    """A client that does not read can be killed."""
    with Wire(server.address) as sleeper:
        sleeper("SET", "big", b"x" * (8 << 20))
        identity = sleeper("CLIENT", "ID")
        sleeper.send(encode("GET", "big") * 4)
        wait_until(
            lambda: int(fields(text(wire2("CLIENT", "LIST", "ID", identity)))["tot-mem"]) > 1 << 20, "output to pile up"
        )
        assert wire2("CLIENT", "KILL", "ID", identity) == 1
        wait_until(lambda: text(wire2("CLIENT", "LIST", "ID", identity)) == b"", "the client to be gone")


def test_reply_off_and_skip(server) -> None:
    """No reply is sent for the covered commands, in kernels or Python, right or wrong."""
    with Wire(server.address) as connection:
        connection.send(encode("CLIENT", "REPLY", "SKIP") + encode("SET", "a", "1") + encode("GET", "a"))
        assert connection.reply() == b"1"
        connection.send(encode("CLIENT", "REPLY", "SKIP") + encode("CLIENT", "ID") + encode("GET", "a"))
        assert connection.reply() == b"1"
        connection.send(encode("CLIENT", "REPLY", "OFF") + encode("SET", "a", "2") + encode("FOO") + encode("GET"))
        connection.send(encode("INFO") + encode("CLIENT", "REPLY", "SKIP") + encode("PING"))
        connection.send(encode("CLIENT", "REPLY", "ON") + encode("GET", "a"))
        assert connection.reply() == OK
        assert connection.reply() == b"2"
        assert connection("PING") == Status("PONG")
        connection.send(encode("CLIENT", "REPLY", "OFF") + encode("RESET") + encode("GET", "a"))
        assert connection.reply() == Status("RESET")
        assert connection.reply() == b"2"


def test_pause_holds_commands_back_until_it_ends(server, wire2: Wire) -> None:
    """ALL holds every command, even CLIENT UNPAUSE, until the pause ends by itself."""
    with Wire(server.address) as other:
        started, paused = wire2.pipeline([("TIME",), ("CLIENT", "PAUSE", 300)])
        assert paused == OK
        stored, read, ended = other.pipeline([("SET", "k", "v"), ("GET", "k"), ("TIME",)])
        assert (stored, read) == (OK, b"v")
        took_us = (int(ended[0]) - int(started[0])) * 1_000_000 + int(ended[1]) - int(started[1])
        assert took_us >= 299_000  # deadlines are in whole milliseconds


def test_pause_of_writes_lets_reads_through(server, wire2: Wire) -> None:
    """Tests CLIENT PAUSE ... WRITE, which CLIENT UNPAUSE ends."""
    wire2("SET", "k", "old")
    with Wire(server.address) as writer, Wire(server.address) as transaction:
        assert wire2("CLIENT", "PAUSE", 100_000, "WRITE") == OK
        writer.send(encode("SET", "k", "new"))
        transaction.send(encode("MULTI") + encode("SET", "l", "new") + encode("EXEC"))
        assert transaction.reply() == OK
        for _ in range(20):
            assert wire2("GET", "k") == b"old"
        wait_until(lambda: info(wire2, "clients")["blocked_clients"] == "2", "both to be held")
        assert wire2("EXISTS", "l") == 0
        assert wire2("CLIENT", "UNPAUSE") == OK
        assert writer.reply() == OK
        assert transaction.reply() == Status("QUEUED")
        assert transaction.reply() == [OK]
        assert wire2("MGET", "k", "l") == [b"new", b"new"]
        assert info(wire2, "clients")["blocked_clients"] == "0"


def test_a_client_may_leave_while_it_is_held(server, wire2: Wire) -> None:
    """Its held command is not executed."""
    assert wire2("CLIENT", "PAUSE", 100_000, "WRITE") == OK
    with Wire(server.address) as writer:
        writer.send(encode("SET", "k", "v"))
        wait_until(lambda: info(wire2, "clients")["blocked_clients"] == "1", "it to be held")
    wait_until(lambda: info(wire2, "clients")["blocked_clients"] == "0", "it to be gone")
    assert wire2("CLIENT", "UNPAUSE") == OK
    assert wire2("EXISTS", "k") == 0


def test_no_touch_leaves_the_access_time_alone(server, wire: Wire, at_least_72: None) -> None:
    """Only TOUCH itself updates it."""
    wire("SET", "k", "v")
    wire("CLIENT", "NO-TOUCH", "ON")
    wait_until(
        lambda: wire("GET", "k") == b"v" and wire("OBJECT", "IDLETIME", "k") >= 1, "a second to pass, in spite of GETs"
    )
    assert "T" in fields(text(wire("CLIENT", "INFO")))["flags"]
    # Within a transaction no time passes.
    assert wire.pipeline([("MULTI",), ("TOUCH", "k"), ("OBJECT", "IDLETIME", "k"), ("EXEC",)])[-1] == [1, 0]
    wire("CLIENT", "NO-TOUCH", "OFF")


STATES: dict[str, list[tuple[str | int, ...]]] = {
    "new": [],
    "subscriber": [("SUBSCRIBE", "a", "b"), ("PSUBSCRIBE", "p*"), ("SSUBSCRIBE", "s", "t", "u")],
    "no subscriber any more": [("SUBSCRIBE", "a"), ("UNSUBSCRIBE",)],
    "tracking": [("HELLO", 3), ("CLIENT", "TRACKING", "on")],
    "tracking by prefix": [("HELLO", 3), ("CLIENT", "TRACKING", "on", "BCAST", "PREFIX", "a")],
    "tracking no more": [("HELLO", 3), ("CLIENT", "TRACKING", "on"), ("CLIENT", "TRACKING", "off")],
    "tracking for another": [("CLIENT", "TRACKING", "on", "REDIRECT", "OTHER")],
    "tracking for one that has gone": [("CLIENT", "TRACKING", "on", "REDIRECT", "GONE")],
    "transaction": [("WATCH", "key"), ("MULTI",), ("SET", "a", "b"), ("GET", "a")],
    "transaction that will fail": [("WATCH", "key"), ("MULTI",), ("TOUCHED",)],
    "monitor": [("MONITOR",)],
    "many modes": [("CLIENT", "NO-EVICT", "on"), ("SUBSCRIBE", "a"), ("SELECT", 3), ("CLIENT", "SETNAME", "x")],
    "waits": [("BLPOP", "no key", 0)],
    "reset": [("SELECT", 3), ("SUBSCRIBE", "a"), ("MONITOR",), ("RESET",)],
}
COMPARED = ["name", "flags", "db", "sub", "psub", "ssub", "multi", "user", "redir", "resp", "cmd", "events"]


def described(process, state: str) -> dict[str, str]:
    """The line of CLIENT LIST for a connection in this state, and its class."""
    with Wire(process.address) as client, Wire(process.address) as other, Wire(process.address) as gone:
        identity = client("CLIENT", "ID")
        ids = {"OTHER": other("CLIENT", "ID"), "GONE": gone("CLIENT", "ID")}
        for command in STATES[state]:
            if command == ("TOUCHED",):
                other("SET", "key", "value")
                continue
            client.send(encode(*(ids.get(str(word), word) for word in command)))
            if command[0] not in ("BLPOP", "MONITOR", "RESET") and command != ("CLIENT", "TRACKING", "off"):
                client.reply()
        if "GONE" in str(STATES[state]):
            assert other("CLIENT", "KILL", "ID", ids["GONE"]) == 1
            client("GET", "key")
            other("SET", "key", "value")

        def line() -> dict[str, str]:
            return fields(text(other("CLIENT", "LIST", "ID", identity)))

        last = STATES[state][-1][0] if STATES[state] else "client"
        if last in ("BLPOP", "RESET", "MONITOR"):
            wait_until(lambda: line()["cmd"] == str(last).lower(), "its last command")
        found = {name: line()[name] for name in COMPARED}
        of_class = [
            name
            for name in ("normal", "pubsub", "replica")
            if f"id={identity} " in text(other("CLIENT", "LIST", "TYPE", name)).decode()
        ]
        redirected = {str(number): name for name, number in ids.items()}
        return found | {"class": " ".join(of_class), "redir": redirected.get(found["redir"], found["redir"])}


@pytest.mark.parametrize("state", STATES)
def test_a_connection_is_described_as_in_redis(server, redis_server, state: str) -> None:
    assert described(server, state) == described(redis_server, state)


def test_kill_by_class_closes_subscribers(server, wire: Wire) -> None:
    """A subscriber in RESP3 too; a normal client and a monitor stay."""
    with Wire(server.address) as one, Wire(server.address, 3) as two, Wire(server.address) as monitor:
        one("SUBSCRIBE", "a")
        two("SSUBSCRIBE", "a")
        monitor("MONITOR")
        listed = text(wire("CLIENT", "LIST", "TYPE", "pubsub")).splitlines()
        assert [fields(line)["flags"] for line in listed] == ["P", "P"]
        assert wire("CLIENT", "KILL", "TYPE", "pubsub") == 2
        assert one.until_closed() == two.until_closed() == b""
        assert wire("CLIENT", "KILL", "TYPE", "replica") == 0
        assert wire("CLIENT", "KILL", "TYPE", "normal") == 1
        monitor.until_closed()


def test_flags_tell_a_transaction(server, wire2: Wire) -> None:
    """x stands for a transaction, d for one that will fail; multi counts queued commands."""
    with Wire(server.address) as other:
        identity = other("CLIENT", "ID")
        other("WATCH", "k")
        other("MULTI")
        other("PING")
        other("PING")
        line = fields(text(wire2("CLIENT", "LIST", "ID", identity)))
        assert (line["flags"], line["multi"], line["cmd"]) == ("x", "2", "ping")
        wire2("SET", "k", "v")
        assert set(fields(text(wire2("CLIENT", "LIST", "ID", identity)))["flags"]) == {"x", "d"}


def test_age_and_idle_count_seconds(server, wire2: Wire) -> None:
    """CLIENT LIST shows them for each connection."""
    with Wire(server.address) as other:
        identity = other("CLIENT", "ID")
        line = wait_until(
            lambda: (line := fields(text(wire2("CLIENT", "LIST", "ID", identity)))) and int(line["idle"]) >= 1 and line,
            "a second to pass",
        )
        assert int(line["age"]) >= 1
        wait_until(
            lambda: other("PING") and fields(text(wire2("CLIENT", "LIST", "ID", identity)))["idle"] == "0",
            "it to count from the last command",
        )


def test_idle_clients_are_closed_after_the_timeout(server, wire2: Wire) -> None:
    """Tests CONFIG SET timeout; an active client stays."""
    assert wire2("CONFIG", "SET", "timeout", 3) == OK
    try:
        with Wire(server.address) as idle:
            idle("PING")
            gone = threading.Event()

            def wait() -> None:
                assert idle.until_closed() == b""
                gone.set()

            thread = threading.Thread(target=wait)
            thread.start()
            wait_until(lambda: wire2("PING") == Status("PONG") and gone.is_set(), "the idle client to be closed")
            thread.join()
        assert wire2("PING") == Status("PONG")
    finally:
        assert wire2("CONFIG", "SET", "timeout", 0) == OK


def test_beyond_maxclients_a_client_is_told_and_closed(server, wire2: Wire) -> None:
    """New clients are accepted again when there is room."""
    connected = int(info(wire2, "clients")["connected_clients"])
    before = int(info(wire2, "stats")["rejected_connections"])
    old = wire2("CONFIG", "GET", "maxclients")[1]
    assert wire2("CONFIG", "SET", "maxclients", connected + 2) == OK
    try:
        with Wire(server.address) as one, Wire(server.address) as two:
            assert one("PING") == two("PING") == Status("PONG")
            with Wire(server.address) as three:
                assert three.until_closed() == b"-ERR max number of clients reached\r\n"
            assert int(info(wire2, "stats")["rejected_connections"]) == before + 1
        wait_until(lambda: int(info(wire2, "clients")["connected_clients"]) == connected, "both to be gone")

        def accepted() -> bool:
            try:
                with Wire(server.address) as again:
                    return bool(again("PING") == Status("PONG"))
            except (Closed, ConnectionError):
                return False

        wait_until(accepted, "room")
    finally:
        assert wire2("CONFIG", "SET", "maxclients", old) == OK


def test_what_a_client_is_is_not_confused_with_who_came_after(server) -> None:
    """Ids are never reused, although sockets and slots are."""
    seen: set[int] = set()
    for _ in range(100):
        with Wire(server.address) as connection:
            identity = connection("CLIENT", "ID")
            assert identity not in seen
            assert not seen or identity > max(seen)
            seen.add(identity)


def test_tracking_and_caching_are_refused_or_accepted_cleanly(wire: Wire) -> None:
    """The connection goes on after every reply."""
    assert isinstance(wire("CLIENT", "TRACKING", "MAYBE"), Failure)
    wire("CLIENT", "GETREDIR")
    wire("CLIENT", "TRACKINGINFO")
    assert wire("CLIENT", "UNBLOCK", 99_999_999) == 0
    assert wire("PING") == Status("PONG")
