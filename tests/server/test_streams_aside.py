"""XREADGROUP whose reply another thread makes, because the entries are many or long: as if it had been made at once."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness import Process
from tests.server.streams import tree, without_times
from tests.server.test_reads_aside import figures, settled, threshold
from tests.server.wire import NULL_ARRAY, OK, QUEUED, Argument, Wire, encode, info, wait_until

pytestmark = pytest.mark.usefixtures("ours")

MANY, LARGE, TEXT = 1500, 12, "x" * 200_000


@pytest.fixture(autouse=True)
def normal(server: Process) -> Iterator[None]:
    """The threshold of the shared server is what it was, and no read is under way."""
    with Wire(server.address) as wire:
        before = wire("CONFIG", "GET", "read-aside-threshold")[1]
        yield
        settled(wire)
        threshold(wire, int(before))


def fill(wire: Wire) -> None:
    wire.pipeline(
        [("XADD", "many", f"{i}-{i % 3}", *(("f", i) if i % 5 else ("g", i, "h", ""))) for i in range(1, MANY + 1)]
    )
    wire.pipeline([("XADD", "large", f"{i}-1", "f", f"{i}{TEXT}") for i in range(1, LARGE + 1)])
    wire("XADD", "small", f"{2**64 - 1}-{2**64 - 1}", "f", "v")
    for key in ("many", "large", "small", "none"):
        for group in "gh":
            assert wire("XGROUP", "CREATE", key, group, 0, "MKSTREAM") == OK


def read(*options: Argument, group: str = "g", consumer: str = "one") -> tuple[Argument, ...]:
    return ("XREADGROUP", "GROUP", group, consumer, *options)


COMMANDS: list[tuple[tuple[Argument, ...], int]] = [  # with how many of them go aside
    (read("COUNT", 5, "STREAMS", "many", ">"), 1),
    (read("COUNT", 6, "STREAMS", "large", ">"), 1),
    (read("STREAMS", "none", ">"), 0),
    (read("STREAMS", "small", ">"), 0),
    (read("STREAMS", "small", ">"), 0),
    (read("STREAMS", "small", 0), 0),
    (read("STREAMS", "none", "many", "large", "small", ">", "0", ">", ">"), 1),
    (read("NOACK", "COUNT", 100, "STREAMS", "large", "many", "none", ">", ">", 0, group="h"), 1),
    (read("STREAMS", "many", "many", ">", 0), 1),
    (read("STREAMS", "many", ">", consumer="two"), 0),
    (("XDEL", "many", "5-2", "7-1", "800-2"), 0),
    (("XTRIM", "large", "MAXLEN", 8), 0),
    (("XACK", "many", "g", "6-0", "801-0"), 0),
    (read("STREAMS", "many", "3-0"), 1),
    (read("COUNT", 900, "STREAMS", "many", "large", 0, 0), 1),
    (read("STREAMS", "many", f"{MANY}-0"), 0),
    (("XCLAIM", "many", "g", "two", 0, "9-0", "10-1"), 0),
    (read("STREAMS", "many", 0, consumer="two"), 0),
    (read("BLOCK", 0, "COUNT", 2, "STREAMS", "many", 0, consumer="two"), 0),
]


def state(wire: Wire) -> list[Any]:
    """All of the streams, and the digest, which knows no times."""
    full = [("XINFO", "STREAM", key, "FULL", "COUNT", 0) for key in ("many", "large", "small", "none")]
    words = (b"XINFO", b"STREAM", b"key", b"FULL")
    return [_without_given(without_times(words, tree(wire.raw(*one)))) for one in full]


def _without_given(part: Any) -> Any:
    # The times in what is pending: the third of four, and the second of three, where the last one is how often.
    kind, value = part
    if not isinstance(value, list):
        return part
    kinds = [one[0] for one in value]
    if kinds in ([b"$", b"$", b":", b":"], [b"$", b":", b":"]):
        return kind, [*value[:-2], value[-1]]
    return kind, [_without_given(one) for one in value]


def test_aside_as_at_once(server: Process, wire: Wire) -> None:
    """The same replies, the same state behind them, and the same hits."""
    found = []
    for elements in (0, 1):
        assert wire("FLUSHALL") == OK
        fill(wire)
        threshold(wire, elements)
        assert wire("CONFIG", "RESETSTAT") == OK
        replies, went = [], []
        for command, _ in COMMANDS:
            before = figures(wire)[0]
            replies.append(wire.raw(*command))
            went.append(figures(wire)[0] - before)
        stats = info(wire, "stats")
        threshold(wire, 0)
        found.append((replies, stats["keyspace_hits"], stats["keyspace_misses"], state(wire)))
        assert went == [aside * elements for _, aside in COMMANDS]
    for (command, _), one, other in zip(COMMANDS, found[0][0], found[1][0], strict=True):
        assert one == other, command
    assert found[0][1:] == found[1][1:]
    assert wire("FLUSHALL") == OK


@pytest.mark.parametrize("since", [">", "0"])
def test_a_reply_of_few_entries_goes_aside_when_they_are_large(wire: Wire, since: str) -> None:
    fill(wire)
    if since == "0":
        threshold(wire, 0)
        assert len(wire.raw(*read("STREAMS", "large", ">"))) > LARGE * len(TEXT)
    threshold(wire, 2500)
    before = figures(wire)[0]
    reply = wire.raw(*read("STREAMS", "small", "large", "many", since, since, since))
    assert figures(wire)[0] == before + 1
    threshold(wire, 0)
    again = wire.raw(*read("STREAMS", "small", "large", "many", 0, 0, 0))
    assert again == reply


def test_a_long_reply_has_what_a_later_stream_of_the_command_gives(wire: Wire) -> None:
    """The last one asks for what the one before it gives."""
    found = []
    for elements in (0, 2500):
        wire("FLUSHALL")
        fill(wire)
        threshold(wire, elements)
        before = figures(wire)[0]
        found.append(wire.raw(*read("COUNT", 12, "STREAMS", "large", "many", "many", ">", ">", 0)))
        assert figures(wire)[0] - before == int(elements > 0)
    assert found[0] == found[1]


def test_in_a_transaction_and_after_a_wait_it_replies_at_once(server: Process, wire: Wire) -> None:
    fill(wire)
    threshold(wire, 1)
    before = figures(wire)
    replies = wire.pipeline([("MULTI",), read("STREAMS", "many", ">"), read("STREAMS", "large", ">"), ("EXEC",)])
    assert replies[1:3] == [QUEUED, QUEUED] and len(replies[3]) == 2
    with Wire(server.address, wire.protocol) as other:
        other.send(encode(*read("BLOCK", 0, "STREAMS", "none", "many", ">", ">")))
        wait_until(lambda: info(wire, "clients")["blocked_clients"] == "1", "the wait")
        wire.pipeline([("MULTI",), *(("XADD", "none", "*", "f", TEXT) for _ in range(8)), ("EXEC",)])
        found = other.reply()
    entries = found[b"none"] if wire.protocol == 3 else found[0][1]
    assert [fields for _, fields in entries] == [[b"f", TEXT.encode()]] * 8
    assert figures(wire) == before


def test_what_a_client_was_given_that_goes_away_meanwhile_is_pending(server: Process, wire: Wire) -> None:
    """It has not taken its reply; perhaps its command has not ended."""
    fill(wire)
    threshold(wire, 1)
    clients = info(wire, "clients")["connected_clients"]
    for name in ("one", "two", "three"):
        with Wire(server.address) as client:
            client.send(encode(*read("COUNT", 600, "STREAMS", "many", ">", consumer=name)))
            wait_until(
                lambda name=name: any(  # type: ignore[misc]
                    one[1] == name.encode() for one in _consumers(wire)
                ),
                "the consumer",
            )
    settled(wire)
    wait_until(lambda: info(wire, "clients")["connected_clients"] == clients, "the clients to go")
    given = [id_ for id_, *_ in wire("XPENDING", "many", "g", "-", "+", MANY)]
    rest = wire(*read("STREAMS", "many", ">", consumer="last"))
    left = (
        [] if rest in (None, NULL_ARRAY) else [id_ for id_, _ in (rest[b"many"] if wire.protocol == 3 else rest[0][1])]
    )
    assert given + left == [f"{i}-{i % 3}".encode() for i in range(1, MANY + 1)]


def _consumers(wire: Wire) -> list[list[Any]]:
    found = wire("XINFO", "CONSUMERS", "many", "g")
    return [[b"name", one[b"name"]] if isinstance(one, dict) else one for one in found]


def test_the_slow_log_says_what_was_given(wire: Wire) -> None:
    fill(wire)
    threshold(wire, 1)
    assert wire("CONFIG", "SET", "slowlog-log-slower-than", 0) == OK
    try:
        wire(*read("COUNT", 4, "STREAMS", "none", "many", ">", ">"))
        settled(wire)
        logged = [one[3] for one in wire("SLOWLOG", "GET", 50)]
    finally:
        assert wire("CONFIG", "SET", "slowlog-log-slower-than", 10_000) == OK
    words = [str(word).encode() for word in read("COUNT", 4, "STREAMS", "many", "many", "(0-0", "4-1")]
    assert words in logged
