"""XGROUP DELCONSUMER over several turns: its reply when the client leaves, or others change the stream meanwhile."""

from collections.abc import Iterator

import pytest

from tests.harness import Process
from tests.server.wire import NULL_ARRAY, OK, Wire, encode, wait_until

pytestmark = pytest.mark.usefixtures("ours")

ENTRIES = 30_000  # fifteen turns


@pytest.fixture
def group(wire: Wire) -> Iterator[Wire]:
    """A stream whose entries are all pending of one consumer."""
    wire.pipeline([("XADD", "stream", "MAXLEN", ENTRIES, f"{i}-1", "f", "v") for i in range(1, ENTRIES + 1)])
    assert wire("XGROUP", "CREATE", "stream", "g", 0) == OK
    wire("XREADGROUP", "GROUP", "g", "c", "COUNT", ENTRIES, "STREAMS", "stream", ">")
    assert wire("XPENDING", "stream", "g")[0] == ENTRIES
    yield wire
    wire("DEL", "stream")


DELETE = ("XGROUP", "DELCONSUMER", "stream", "g", "c")


def test_a_client_that_leaves_in_the_middle_leaves_no_count_behind(server: Process, group: Wire) -> None:
    with Wire(server.address) as leaving:
        identity = leaving("CLIENT", "ID")
        leaving.send(encode(*DELETE))
        group("PING")
    wait_until(lambda: "id=" not in str(group("CLIENT", "LIST", "ID", identity)), "the connection to be closed")
    left = group("XPENDING", "stream", "g")[0]
    assert group(*DELETE) == left


@pytest.mark.parametrize("times", range(3))
def test_a_command_that_is_refused_in_the_middle_leaves_nothing_to_the_next(
    server: Process, group: Wire, times: int
) -> None:
    with Wire(server.address) as client:
        client.send(encode(*DELETE))
        assert group("DEL", "stream") == 1
        first = client.reply()
        assert first == ENTRIES or "requires the key to exist" in str(first)
        assert client("WATCH", *(f"key:{i}" for i in range(50))) == OK
        assert group("SET", "key:0", times) == OK
        assert client("MULTI") == OK
        client("PING")
        assert client("EXEC") in (None, NULL_ARRAY)
