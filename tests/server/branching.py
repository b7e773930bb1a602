"""Shared by the tests of branches: commands as text, what BRANCH INFO tells, and an end without branches."""

from typing import Any

from tests.harness import Process
from tests.server.wire import OK, Argument, Failure, Wire, info, wait_until, words

DROPPED = "NOBRANCH the branch of this connection was dropped: choose another one by BRANCH USE"
NOBRANCH = "NOBRANCH no such branch or snapshot"
LEAVE = "ERR a connection that watches keys, is subscribed or tracks keys cannot change its branch: end that first"
READ_ONLY = "READONLY You can't write against a read only replica."


def play(wire: Wire, text: str) -> list[Any]:
    """The replies to commands that are sent in one write; they are separated by semicolons."""
    return wire.pipeline(each(text))


def each(text: str) -> list[tuple[Argument, ...]]:
    """Commands that are separated by semicolons."""
    return [tuple(words(command)) for command in text.split(";")]


def drop_all(wire: Wire) -> None:
    """Drop all branches and snapshots."""
    wire("BRANCH", "USE", "main")
    for kind in ("BRANCH", "SNAPSHOT"):
        for one in wire(kind, "LIST"):
            fields = one if isinstance(one, dict) else dict(zip(one[::2], one[1::2], strict=True))
            if fields[b"kind"] != b"main":
                assert wire(kind, "DROP", fields[b"name"], "FORCE") == OK


def fields_of(wire: Wire, name: str, kind: str = "BRANCH") -> dict[str, int | bytes]:
    """BRANCH INFO, in either protocol."""
    reply = wire(kind, "INFO", name)
    assert not isinstance(reply, Failure), reply
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    return {key.decode(): value for key, value in pairs}


def settled_frames(wire: Wire) -> int:
    """Frames in use when nothing is left to be released."""

    def steady() -> int | None:
        figures = [int(info(wire, "machine")["frames_in_use"]) for _ in range(5)]
        return figures[0] if len(set(figures)) == 1 else None

    return int(wait_until(steady, "all to be released"))


def check_clean(server: Process) -> None:
    """Drop what a test has made: the server is alive, and counts nobody who waits, listens or tracks."""
    assert server.process.poll() is None, server.log()[-5000:]
    with Wire(server.address) as last:
        drop_all(last)
        figures = info(last)
        assert figures["blocked_clients"] == figures["pubsub_clients"] == figures["tracking_clients"] == "0"
        assert last("CONFIG", "SET", "notify-keyspace-events", "") == OK
    assert "Traceback" not in server.log(), server.log()[-5000:]
