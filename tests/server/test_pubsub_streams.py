"""Random streams of publish/subscribe on several connections, beside redis-server and Valkey.

Each connection must get the same bytes from both servers, but for the orders that are chance (stage.py), and for what
MEANT lists.
"""

import random

import pytest

from tests.harness import Process
from tests.server.stage import Part, Stage, canonical, parts, without_messages
from tests.server.wire import Argument

CONNECTIONS = "abcde"
CHANNELS = ("news", "new", "n*ws", "a", "", "news.sport", b"\xff\r\n\x00")
PATTERNS = ("*", "n?ws", "news.*", "[a-m]*", "n\\*ws", "news", "", "[^a]*", "**s*")
TEXTS = ("", "1", "two\r\nlines", b"\x00\xff", "x" * 3000)
SHORT, LONG, STEPS = 6, 60, 150

MEANT = {
    "push to the publisher": "a publisher's own message comes behind the reply, as in Redis 7.2; in 7.0 before it",
}

Step = tuple[str, tuple[Argument, ...]]


def stream(seed: int, steps: int) -> list[Step]:
    """A stream: who sends which command."""
    chance = random.Random(seed)
    queueing: set[str] = set()

    def names(pool: tuple[Argument, ...], least: int = 1) -> tuple[Argument, ...]:
        return tuple(chance.choices(pool, k=chance.randint(least, 3)))

    def command(who: str) -> tuple[Argument, ...]:
        kind = chance.choices(
            ("subscribe", "unsubscribe", "publish", "pubsub", "plain", "mode", "end", "transaction", "reply", "wrong"),
            (20, 10, 35, 5, 8, 6, 3, 9, 6, 3),
        )[0]
        match kind:
            case "subscribe":
                return chance.choice(
                    (
                        ("SUBSCRIBE", *names(CHANNELS)),
                        ("PSUBSCRIBE", *names(PATTERNS)),
                        ("SSUBSCRIBE", *names(CHANNELS)),
                    )
                )
            case "unsubscribe":
                name, pool = chance.choice(
                    (("UNSUBSCRIBE", CHANNELS), ("PUNSUBSCRIBE", PATTERNS), ("SUNSUBSCRIBE", CHANNELS))
                )
                return (name, *names(pool, 0)) if chance.random() < 0.7 else (name,)
            case "publish":
                return chance.choice(("PUBLISH", "PUBLISH", "SPUBLISH")), chance.choice(CHANNELS), chance.choice(TEXTS)
            case "pubsub":
                return chance.choice(
                    (
                        ("PUBSUB", "NUMSUB", *CHANNELS),
                        ("PUBSUB", "SHARDNUMSUB", *CHANNELS),
                        ("PUBSUB", "NUMPAT"),
                        ("PUBSUB", "CHANNELS", "news.*"),
                        ("PUBSUB", "SHARDCHANNELS", "news.*"),
                    )
                )
            case "plain":
                return chance.choice(
                    (("PING",), ("PING", "text"), ("GET", "none"), ("ECHO", "x"), ("CLIENT", "GETNAME"))
                )
            case "mode":
                return "HELLO", chance.choice((2, 3))
            case "end":
                return (chance.choice(("RESET", "QUIT")),)
            case "transaction":
                return (chance.choice(("EXEC", "EXEC", "EXEC", "DISCARD")) if who in queueing else "MULTI",)
            case "reply" if who not in queueing:
                return "CLIENT", "REPLY", chance.choice(("OFF", "SKIP", "ON", "ON"))
        return chance.choice(
            (("NOSUCH",), ("CLIENT", "NOSUCH"), ("CLIENT", "KILL"), ("PUBLISH", "news"), ("SUBSCRIBE",), ("SPUBLISH",),
             ("PUBSUB", "CHANNELS", "a", "b"), ("PUBSUB", "NOSUCH"), ("GET",), ("PING", "a", "b"))
        )  # fmt: skip

    found: list[Step] = []
    for _ in range(steps):
        who = chance.choice(CONNECTIONS)
        words = command(who)
        # Whether it queues is known only roughly, and a little too often: CLIENT REPLY is to be run by itself.
        if words[0] == "MULTI":
            queueing.add(who)
        elif words[0] in ("EXEC", "DISCARD", "RESET", "QUIT"):
            queueing.discard(who)
        found.append((who, words))
    return found


def differences(mine: list[tuple[str, bytes]], theirs: list[tuple[str, bytes]], older: bool) -> list[str]:
    """The differences, one text for each connection."""
    found = []
    assert [who for who, _ in mine] == [who for who, _ in theirs]
    for (who, own), (_, other) in zip(mine, theirs, strict=True):
        one, two = canonical(parts(own)), canonical(parts(other))
        if one == two or (older and _but_for_own_messages(one, two)):
            continue
        place = next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
        found.append(f"{who}, part {place}:\n  got      {one[place : place + 4]}\n  expected {two[place : place + 4]}")
    return found


def _but_for_own_messages(one: list[Part], two: list[Part]) -> bool:
    # MEANT: messages may stand elsewhere among the replies, but in the same order.
    return [canonical(part) for part in without_messages(one)] == [canonical(part) for part in without_messages(two)]


def play(server: Process, other: Process, seed: int, older: bool) -> None:
    """Play a stream to both servers, one after the other."""
    steps, found = stream(seed, STEPS), []
    for one in (server, other):
        stage = Stage(one.address)
        for who, words in steps:
            stage.play(who, *words)
        found.append(stage.end())
    wrong = differences(*found, older)
    assert not wrong, f"seed {seed}:\n" + "\n".join(wrong)


@pytest.mark.parametrize("seed", range(SHORT))
def test_each_connection_gets_what_it_gets_from_redis(
    server: Process, redis_server: Process, ours: None, seed: int
) -> None:
    play(server, redis_server, seed, older=True)


@pytest.mark.parametrize("seed", range(SHORT))
def test_each_connection_gets_what_it_gets_from_valkey(
    server: Process, valkey_server: Process, ours: None, seed: int
) -> None:
    play(server, valkey_server, seed, older=False)


@pytest.mark.slow
@pytest.mark.parametrize("other", ["redis", "valkey"])
def test_long_streams(server: Process, request: pytest.FixtureRequest, ours: None, other: str) -> None:
    for _ in range(LONG):
        play(server, request.getfixturevalue(f"{other}_server"), random.getrandbits(32), older=other == "redis")
