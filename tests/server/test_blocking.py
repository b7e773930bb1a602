"""WAIT, the command that blocks: which calls wait, and how a wait ends."""

import pytest

from tests.server.wire import OK, Failure, Status, Wire, encode, info, wait_until

FOR_GOOD = ("WAIT", "1", "0")


def blocked(wire: Wire) -> int:
    return int(info(wire, "clients")["blocked_clients"])


def identity(wire: Wire) -> int:
    return int(wire("CLIENT", "ID"))


def begin(wire: Wire, witness: Wire, *words: str) -> None:
    """Send a command that blocks, and return when the connection is blocked."""
    before = blocked(witness)
    wire.send(encode(*words))
    wait_until(lambda: blocked(witness) == before + 1, "the connection to be blocked")


def test_without_replicas_to_wait_for_the_answer_comes_at_once(wire: Wire) -> None:
    """The call asks for no replica, or runs in a transaction, which must not stop."""
    assert wire("WAIT", "0", "0") == 0
    assert wire("WAIT", "-1", "0") == 0
    assert wire.pipeline([("MULTI",), FOR_GOOD, ("SET", "k", "v"), ("EXEC",)])[-1] == [0, OK]


def pass_by(wire: Wire, milliseconds: int) -> None:
    """Let so much time pass for the server."""
    assert wire("DEBUG", "SHIFT-CLOCK", "TIMER", milliseconds) == OK


def test_a_wait_ends_with_its_time(server, wire: Wire, wire2: Wire, ours: None) -> None:
    """It ends then and not earlier, and no other client waits."""
    before = info(wire2, "clients")
    begin(wire, wire2, "WAIT", "1", "600000")
    during = info(wire2, "clients")
    assert int(during["clients_in_timeout_table"]) == int(before["clients_in_timeout_table"]) + 1
    pass_by(wire2, 500_000)
    assert wire2("SET", "k", "v") == OK
    assert blocked(wire2) == int(before["blocked_clients"]) + 1
    pass_by(wire2, 100_001)
    assert wire.reply() == 0
    assert info(wire2, "clients")["blocked_clients"] == before["blocked_clients"]
    assert wire("PING") == Status("PONG")


def test_a_short_wait_ends_by_itself(wire: Wire) -> None:
    """It needs no other event."""
    assert wire("WAIT", "1", "1") == 0


def test_waits_end_in_the_order_of_their_deadlines(server, wire2: Wire, ours: None) -> None:
    """The order in which the waits began does not matter."""
    with Wire(server.address) as long, Wire(server.address) as short:
        begin(long, wire2, "WAIT", "1", "900000")
        begin(short, wire2, "WAIT", "1", "300000")
        pass_by(wire2, 300_001)
        assert short.reply() == 0
        assert blocked(wire2) == 1
        pass_by(wire2, 600_000)
        assert long.reply() == 0


def identity_of(wire: Wire, other: Wire) -> int:
    """The id of a connection that is blocked and cannot be asked itself."""
    host, port = other.socket.getsockname()
    (line,) = (line for line in wire("CLIENT", "LIST").decode().splitlines() if f" addr={host}:{port} " in line)
    return int(line.split()[0].removeprefix("id="))


def test_what_came_before_is_answered_and_what_comes_behind_waits(server, wire2: Wire) -> None:
    """Replies before the wait are sent at once, and commands behind it run after it, in order."""
    with Wire(server.address) as other:
        me = identity(other)
        other.send(encode("SET", "k", "1") + encode(*FOR_GOOD) + encode("INCR", "k") + encode("GET", "k"))
        assert other.reply() == OK
        wait_until(lambda: blocked(wire2) == 1, "the connection to be blocked")
        other.send(encode("APPEND", "k", "0"))
        assert wire2("GET", "k") == b"1"
        assert wire2("CLIENT", "UNBLOCK", me) == 1
        assert [other.reply() for _ in range(4)] == [0, 2, b"2", 2]
        assert other.pending() == b""


def test_a_wait_for_good_is_ended_by_unblock(server, wire: Wire, wire2: Wire) -> None:
    """The command gets the reply of a time-out, or an error."""
    me = identity(wire)
    assert wire2("CLIENT", "UNBLOCK", me) == 0
    for words, reply in (
        ((), 0),
        (("TIMEOUT",), 0),
        (("error",), Failure("UNBLOCKED client unblocked via CLIENT UNBLOCK")),
    ):
        begin(wire, wire2, *FOR_GOOD)
        assert wire2("CLIENT", "UNBLOCK", me, *words) == 1
        assert wire.reply() == reply
        assert wire2("CLIENT", "UNBLOCK", me, *words) == 0
    assert wire2("CLIENT", "UNBLOCK", 999_999_999) == 0


def test_a_blocked_client_shows_itself(server, wire: Wire, wire2: Wire) -> None:
    """It has flag b and command wait.  It is one call, counted when it is answered; as in Redis it is not logged."""
    wire2("CONFIG", "RESETSTAT")
    begin(wire, wire2, *FOR_GOOD)
    host, port = wire.socket.getsockname()
    (line,) = (line for line in wire2("CLIENT", "LIST").decode().splitlines() if f" addr={host}:{port} " in line)
    assert " flags=b " in line
    assert " cmd=wait " in line
    assert wire2("CLIENT", "UNBLOCK", identity_of(wire2, wire)) == 1
    assert wire.reply() == 0
    assert info(wire2, "commandstats")["cmdstat_wait"].startswith("calls=1,")
    assert "latency_percentiles_usec_wait" not in info(wire2, "latencystats")


def test_a_client_that_goes_or_is_killed_waits_no_more(server, wire2: Wire) -> None:
    """blocked_clients is decremented."""
    with Wire(server.address) as gone:
        begin(gone, wire2, *FOR_GOOD)
    wait_until(lambda: blocked(wire2) == 0, "the connection to be closed")
    with Wire(server.address) as killed:
        me = identity(killed)
        begin(killed, wire2, *FOR_GOOD)
        assert wire2("CLIENT", "KILL", "ID", me) == 1
        assert killed.until_closed() == b""
    assert blocked(wire2) == 0


def test_a_reply_that_is_turned_off_stays_off(server, wire2: Wire) -> None:
    """Tests CLIENT REPLY SKIP before the wait, and OFF around it."""
    with Wire(server.address) as other:
        me = identity(other)
        other.send(encode("CLIENT", "REPLY", "SKIP") + encode(*FOR_GOOD) + encode("ECHO", "x"))
        wait_until(lambda: blocked(wire2) == 1, "the connection to be blocked")
        assert wire2("CLIENT", "UNBLOCK", me) == 1
        assert other.reply() == b"x"


def test_one_who_waits_is_not_idle(start, data) -> None:
    """The idle time-out does not run while a command blocks, and the wait does not count afterwards."""
    with start(data, options=("--timeout", "100")) as process:

        def fresh() -> Wire:
            return Wire(process.address)

        with fresh() as before, fresh() as waiting, fresh() as behind:
            with fresh() as other:
                begin(waiting, other, "WAIT", "1", "400000")
                pass_by(other, 200_000)
            assert before.until_closed() == behind.until_closed() == b""
            with fresh() as other:
                assert blocked(other) == 1
                pass_by(other, 200_001)
            assert waiting.reply() == 0
            assert waiting("PING") == Status("PONG")


def test_a_password_that_comes_while_one_waits_changes_nothing_for_it(server, wire2: Wire) -> None:
    """Its later commands run when it goes on."""
    with Wire(server.address) as other:
        me = identity(other)
        begin(other, wire2, *FOR_GOOD)
        wire2("CONFIG", "SET", "requirepass", "secret")
        try:
            assert wire2("CLIENT", "UNBLOCK", me) == 1
            assert other.reply() == 0
            assert other("PING") == Status("PONG")
        finally:
            wire2("CONFIG", "SET", "requirepass", "")


REPLIES = [
    ("WAIT",),
    ("WAIT", "0"),
    ("WAIT", "0", "0"),
    ("WAIT", "0", "0", "0"),
    ("WAIT", "-1", "0"),
    ("WAIT", "x", "0"),
    ("WAIT", "x", "x"),
    ("WAIT", "1", "x"),
    ("WAIT", "1", "-1"),
    ("WAIT", "1", "1.5"),
    ("WAIT", "1", "99999999999999999999"),
    ("WAIT", "99999999999999999999", "0"),
    ("WAIT", "1", "1"),
    ("CLIENT", "UNBLOCK", "x"),
    ("CLIENT", "UNBLOCK", "1", "nosuch"),
    ("CLIENT", "UNBLOCK", "999999999"),
]


@pytest.mark.parametrize("words", REPLIES, ids=" ".join)
def test_replies_are_those_of_redis(wire: Wire, redis_server, words: tuple[str, ...]) -> None:
    """The replies are equal to the byte."""
    with Wire(redis_server.address, wire.protocol) as theirs:
        assert wire.raw(*words) == theirs.raw(*words)


def test_a_time_out_beyond_all_clocks_is_refused(wire: Wire) -> None:
    """Redis 7.2 does the same; 7.0 waits forever."""
    assert wire("WAIT", "1", str((1 << 63) - 1)) == Failure("ERR timeout is out of range")
