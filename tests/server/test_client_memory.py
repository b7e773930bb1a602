"""maxmemory-clients: the largest clients are closed when all together take too much memory."""

import contextlib

import pytest

from tests.server.wire import OK, Closed, Failure, Status, Wire, encode, info, wait_until

TRANSCRIPT = [
    ("5%", "5%"),
    ("100%", "100%"),
    ("0%", "0"),
    ("1mb", "1048576"),
    ("200kb", "204800"),
    ("0", "0"),
]
REFUSED = {
    "101%": "percentage argument must be less or equal to 100",
    "-1": "argument must be a memory or percent value",
    "1.5": "argument must be a memory or percent value",
    "%": "argument must be a memory or percent value",
    "5%%": "argument must be a memory or percent value",
    "-5%": "argument must be a memory or percent value",
    "10 %": "argument must be a memory or percent value",
}
MEBIBYTE = 1 << 20


def test_the_limit_is_bytes_or_a_percentage(server, wire: Wire) -> None:
    for given, answered in TRANSCRIPT:
        assert wire("CONFIG", "SET", "maxmemory-clients", given) == OK
        reply = wire("CONFIG", "GET", "maxmemory-clients")
        flat = [*reply, *reply.values()] if isinstance(reply, dict) else reply
        assert flat == [b"maxmemory-clients", answered.encode()]
    for given, why in REFUSED.items():
        beginning = "ERR CONFIG SET failed (possibly related to argument 'maxmemory-clients') - "
        assert wire("CONFIG", "SET", "maxmemory-clients", given) == Failure(beginning + why)


def hold(client: Wire, size: int) -> None:
    """Let the client have this many bytes of unfinished command, which its connection keeps."""
    client.send(b"*2\r\n$4\r\nECHO\r\n$%d\r\n" % (size + 1000) + b"x" * size)


def memory(wire: Wire, identity: int) -> int:
    """tot-mem of a client in CLIENT LIST, 0 when it is gone."""
    line = wire("CLIENT", "LIST", "ID", identity)
    line = getattr(line, "data", line)
    fields = dict(word.split("=", 1) for word in line.decode().split())
    return int(fields["tot-mem"]) if fields else 0


def test_the_largest_are_closed_until_the_others_fit(server, wire2: Wire) -> None:
    """One that has asked for CLIENT NO-EVICT stays, and so do the small ones."""
    before = int(info(wire2, "stats")["evicted_clients"])
    sizes = [12, 1, 8, 3, 20, 2]
    clients = [Wire(server.address) for _ in sizes]
    ids = [client("CLIENT", "ID") for client in clients]
    assert clients[0]("CLIENT", "NO-EVICT", "ON") == OK
    for client, size in zip(clients, sizes, strict=True):
        hold(client, size * MEBIBYTE)

    def taken() -> list[int]:
        return [memory(wire2, identity) for identity in ids]

    wait_until(lambda: all(t > s * MEBIBYTE for t, s in zip(taken(), sizes, strict=True)), "all to be received")
    try:
        without_two = sum(taken()) - memory(wire2, ids[4]) - memory(wire2, ids[2])
        assert wire2("CONFIG", "SET", "maxmemory-clients", without_two + MEBIBYTE) == OK
        for number in (2, 4):
            assert clients[number].until_closed() == b""
        assert int(info(wire2, "stats")["evicted_clients"]) == before + 2
        for number in (0, 1, 3, 5):
            clients[number].send(b"x" * 1000 + b"\r\n")
            assert len(clients[number].reply()) == sizes[number] * MEBIBYTE + 1000
        assert wire2("CONFIG", "RESETSTAT") == OK
        assert info(wire2, "stats")["evicted_clients"] == "0"
    finally:
        assert wire2("CONFIG", "SET", "maxmemory-clients", "0") == OK
        for client in clients:
            client.close()


KINDS = {
    "replies that it does not read": [("GET", "long")] * 40,
    "commands that it queues": [("MULTI",), *[("SET", "key", "x" * 100_000)] * 400],
    "keys that it watches": [("WATCH", *range(i, i + 1000)) for i in range(0, 400_000, 1000)],
}


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_a_client_piles_up_counts(server, wire2: Wire, kind: str) -> None:
    if server.is_redis and "watches" in kind:
        pytest.skip("Redis 7.0 does not count them")
    wire2("SET", "long", "x" * MEBIBYTE)
    try:
        assert wire2("CONFIG", "SET", "maxmemory-clients", "16mb") == OK
        with Wire(server.address) as greedy, Wire(server.address) as modest:
            assert modest("PING") == greedy("PING") == Status("PONG")
            with contextlib.suppress(OSError):  # it may be closed before all is sent
                greedy.send(b"".join(encode(*command) for command in KINDS[kind]))
            wait_until(lambda: info(wire2, "clients")["connected_clients"] == "2", "the greedy to be closed")
            assert modest("PING") == Status("PONG")
    finally:
        assert wire2("CONFIG", "SET", "maxmemory-clients", "0") == OK


def test_a_value_on_its_way_into_the_store_counts(server, wire2: Wire, ours: None) -> None:
    """It is received into frames, and shows in CLIENT LIST as input."""
    with Wire(server.address) as client:
        identity = client("CLIENT", "ID")
        value = b"x" * (20 * MEBIBYTE)
        client.send(b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$%d\r\n" % (len(value) + 2) + value)
        wait_until(lambda: memory(wire2, identity) > len(value), "it to be received")
        line = wire2("CLIENT", "LIST", "ID", identity).decode()
        assert f" qbuf={len(value) + len('*3$3SET$3key$20971522') + 12} " in line
        client.send(b"xx\r\n")
        assert client.reply() == OK
        assert memory(wire2, identity) < 10_000
        client.send(b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$%d\r\n" % (len(value) + 2) + value)
        wait_until(lambda: memory(wire2, identity) > len(value), "it to be received")
        assert wire2("CONFIG", "SET", "maxmemory-clients", "16mb") == OK
        assert client.until_closed() == b""
        assert wire2("CONFIG", "SET", "maxmemory-clients", "0") == OK
    assert wire2("STRLEN", "key") == len(value) + 2


def test_a_percentage_follows_maxmemory(start, data) -> None:
    with start(data) as own, Wire(own.address) as wire, Wire(own.address) as client:
        identity = client("CLIENT", "ID")
        assert wire("CONFIG", "SET", "maxmemory-clients", "10%") == OK
        hold(client, 8 * MEBIBYTE)
        wait_until(lambda: memory(wire, identity) > 8 * MEBIBYTE, "it to hold its input")
        assert wire("CONFIG", "SET", "maxmemory", "200mb") == OK
        assert memory(wire, identity) > 8 * MEBIBYTE
        assert wire("CONFIG", "SET", "maxmemory", "50mb") == OK
        assert client.until_closed() == b""
        assert info(wire, "stats")["evicted_clients"] == "1"


def test_a_limit_that_cannot_be_met_closes_nobody_else(start, data) -> None:
    """The limit is 128 KiB at least; a client that may not be closed can be over it, and the server still serves."""
    with start(data) as own, Wire(own.address) as wire, Wire(own.address) as client:
        for one in (wire, client):
            assert one("CLIENT", "NO-EVICT", "ON") == OK
        identity = client("CLIENT", "ID")
        hold(client, 8 * MEBIBYTE)
        wait_until(lambda: memory(wire, identity) > 8 * MEBIBYTE, "it to hold its input")
        assert wire("CONFIG", "SET", "maxmemory-clients", "1") == OK
        assert wire("PING") == Status("PONG")
        with Wire(own.address) as small, pytest.raises((Closed, OSError)):
            while True:
                small("PING")
        assert wire("CLIENT", "KILL", "ID", identity) == 1
        assert client.until_closed() == b""
        with Wire(own.address) as small:
            assert small("PING") == Status("PONG")
        assert wire("CONFIG", "GET", "maxmemory-clients") == [b"maxmemory-clients", b"1"]


def test_rewrite_keeps_a_percentage(start, data) -> None:
    config = data / "own.conf"
    config.write_text(f"maxmemory-clients 7%\ndir {data}\n")
    with start(data, config=config) as own, Wire(own.address) as wire:
        assert wire("CONFIG", "GET", "maxmemory-clients") == [b"maxmemory-clients", b"7%"]
        assert wire("CONFIG", "SET", "maxmemory-clients", "12%") == OK
        assert wire("CONFIG", "REWRITE") == OK
        assert "maxmemory-clients 12%" in config.read_text().splitlines()
        assert wire("CONFIG", "SET", "maxmemory-clients", "3mb") == OK
        assert wire("CONFIG", "REWRITE") == OK
        assert "maxmemory-clients 3mb" in config.read_text().splitlines()
