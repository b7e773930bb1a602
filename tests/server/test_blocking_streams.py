"""Streams of commands from several connections, some of which wait, beside redis-server and valkey-server.

All replies that a step causes are compared, of every connection, who waits after it (see crowd.py), and the keyspace
events that a subscriber hears of it, in their order.  Redis 7.2 and
Valkey run a command again when it is served; redis-server 7.0 serves it from the key that has come.  They differ where
a command waits for several keys, so beside redis-server each waits for one.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness import Process
from tests.server.crowd import Crowd
from tests.server.streams import Command, relaxed
from tests.server.test_differential import command, of, several
from tests.server.wire import OK, Wire, encode

MEMBERS = 5
KEYS = [b"a", b"b", b"c", b"d"]
WHOLE = {"list": ("LRANGE", 0, -1), "zset": ("ZRANGE", 0, -1, "WITHSCORES"), "string": ("GET",)}
UNBLOCK, LEAVE = b"(unblock)", b"(leave)"  # steps that are no commands

Step = tuple[int, bool, list[Command]]  # which member, whether it may wait already, and what it sends

key = st.sampled_from(KEYS)
side = of(b"LEFT", b"RIGHT")
end = of(b"MIN", b"MAX")
element = st.sampled_from([b"1", b"2", b"3", b"x", b"y", b"m" * 70])
elements = several(element, 1, 4)
score = st.sampled_from([b"0", b"1", b"2", b"3", b"-1"])
pairs = st.lists(st.tuples(score, element), min_size=1, max_size=4).map(lambda each: sum(each, ()))
count = several(st.tuples(of(b"COUNT"), of(b"1", b"2", b"5")), most=1)


def waits(most: int) -> st.SearchStrategy[Command]:
    """Commands that wait for up to so many keys, for good."""
    keys = several(key, 1, most)
    counted = keys.map(lambda each: (b"%d" % len(each), *each))
    return st.one_of(
        command(b"BLPOP", keys, b"0"),
        command(b"BRPOP", keys, b"0"),
        command(b"BLMPOP", b"0", counted, side, count),
        command(b"BZPOPMIN", keys, b"0"),
        command(b"BZPOPMAX", keys, b"0"),
        command(b"BZMPOP", b"0", counted, end, count),
        command(b"BLMOVE", key, key, side, side, b"0"),
        command(b"BRPOPLPUSH", key, key, b"0"),
    )


CHANGES = st.one_of(
    command(b"LPUSH", key, elements),
    command(b"RPUSH", key, elements),
    command(b"ZADD", key, pairs),
    command(b"ZINCRBY", key, score, element),
    command(b"LPUSH", key, elements),
    command(b"RPUSH", key, elements),
    command(b"ZADD", key, pairs),
    command(b"LPOP", key),
    command(b"LMOVE", key, key, side, side),
    command(b"ZPOPMIN", key),
    command(b"DEL", key),
    command(b"SET", key, element),
    command(b"RENAME", key, key),
    command(b"RENAMENX", key, key),
    command(b"COPY", key, key, of(b"REPLACE")),
    command(b"COPY", key, key, b"DB", of(b"0", b"1")),
    command(b"MOVE", key, of(b"0", b"1")),
    command(b"FLUSHDB"),
    command(b"EXPIRE", key, of(b"-1", b"1000")),
)
OTHERS = st.one_of(command(b"SELECT", of(b"0", b"1")), command(UNBLOCK, of(b"TIMEOUT", b"ERROR")), command(LEAVE))


def steps(most_keys: int) -> st.SearchStrategy[list[Step]]:
    """Steps of the members, one after the other."""
    transaction = st.lists(st.one_of(CHANGES, CHANGES, waits(most_keys)), min_size=1, max_size=5).map(
        lambda inside: [(b"MULTI",), *inside, (b"EXEC",)]
    )
    alone = st.one_of(*[waits(most_keys)] * 6, *[CHANGES] * 5, OTHERS).map(lambda words: [words])
    sent = st.one_of(alone, alone, alone, alone, transaction)
    behind = st.one_of(*[st.just(False)] * 6, st.just(True))
    return st.lists(st.tuples(st.integers(0, MEMBERS - 1), behind, sent), min_size=1, max_size=50)


class Ear:
    """A subscriber to all keyspace events of a server."""

    def __init__(self, address: Any, witness: Wire) -> None:
        self._wire, self._witness = Wire(address), witness
        assert witness("CONFIG", "SET", "notify-keyspace-events", "KEA") == OK
        self._wire.send(encode("PSUBSCRIBE", "__key*@*__:*", "mark"))
        for number in (1, 2):
            assert self._wire.reply()[2] == number

    def heard(self) -> list[tuple[bytes, bytes]]:
        """The events since the last call.  Valkey calls a deadline that has passed already an expiry, Redis a DEL."""
        self._witness("PUBLISH", "mark", "")
        found = []
        while (message := self._wire.reply())[2] != b"mark":
            channel, text = message[2:]
            found.append((channel.replace(b":expired", b":del"), b"del" if text == b"expired" else text))
        return found

    def close(self) -> None:
        """Leave the server without notifications."""
        assert self._witness("CONFIG", "SET", "notify-keyspace-events", "") == OK
        self._wire.close()


class Beside:
    """This server and an oracle, each with a crowd."""

    def __init__(self, mine: Process, theirs: Process, protocol: int) -> None:
        self.crowds = [Crowd(process.address, MEMBERS, protocol) for process in (mine, theirs)]
        self.ears = [Ear(one.address, crowd.witness) for one, crowd in zip((mine, theirs), self.crowds, strict=True)]

    def reset(self) -> None:
        """End all waits, and empty both servers."""
        for crowd in self.crowds:
            for member in crowd.waiting():
                crowd.leave(member)
            for wire in crowd.wires:
                assert wire("SELECT", "0") == OK
            assert crowd.witness("FLUSHALL") == OK
        for ear in self.ears:
            ear.heard()

    def _one(self, crowd: Crowd, member: int, sent: list[Command]) -> object:
        if sent[0][0] == LEAVE:
            return crowd.leave(member)
        if sent[0][0] == UNBLOCK:
            unblocked = crowd.witness("CLIENT", "UNBLOCK", crowd.ids[member], sent[0][1])
            return unblocked, crowd.settle()
        return crowd.send(member, sent)

    def play(self, stream: list[Step]) -> None:
        """Play a stream, and compare what comes of each step, and in the end the contents."""
        self.reset()
        try:
            self._play(stream)
        finally:
            self.reset()  # so that nobody waits while another test uses the servers

    def _play(self, stream: list[Step]) -> None:
        waiting: set[int] = set()
        for at, (member, behind, sent) in enumerate(stream):
            free = [one for one in range(MEMBERS) if one not in waiting]
            if not behind and sent[0][0] not in (UNBLOCK, LEAVE):
                if not free:
                    continue
                member = free[member % len(free)]
            mine, theirs = (self._one(crowd, member, sent) for crowd in self.crowds)
            assert mine == theirs, (at, member, sent)
            events, expected = (ear.heard() for ear in self.ears)
            assert events == expected, (at, member, sent)
            waiting, others = (crowd.waiting() for crowd in self.crowds)
            assert waiting == others, (at, member, sent)
        assert self._contents(self.crowds[0]) == self._contents(self.crowds[1])

    @staticmethod
    def _contents(crowd: Crowd) -> list[object]:
        found: list[object] = []
        for db in (0, 1):
            crowd.witness("SELECT", db)
            for name in sorted(crowd.witness("KEYS", "*")):
                first, *others = WHOLE[crowd.witness("TYPE", name).text]
                found.append((db, name, crowd.witness(first, name, *others)))
        crowd.witness("SELECT", 0)
        return found

    def close(self) -> None:
        """Close all connections."""
        for ear in self.ears:
            ear.close()
        for crowd in self.crowds:
            crowd.close()


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"], scope="module")
def protocol(request: pytest.FixtureRequest) -> int:
    """The protocol of all members."""
    return int(request.param)


@pytest.fixture(scope="module")
def beside_redis(running: Process, redis_server: Process, protocol: int) -> Iterator[Beside]:
    """This server beside redis-server."""
    beside = Beside(running, redis_server, protocol)
    yield beside
    beside.close()


@pytest.fixture(scope="module")
def beside_valkey(running: Process, valkey_server: Process, protocol: int) -> Iterator[Beside]:
    """This server beside valkey-server."""
    beside = Beside(running, valkey_server, protocol)
    yield beside
    beside.close()


@given(stream=steps(most_keys=1))
@settings(relaxed, max_examples=60)
def test_waiting_for_one_key(beside_redis: Beside, stream: list[Step]) -> None:
    beside_redis.play(stream)


@given(stream=steps(most_keys=3))
@settings(relaxed, max_examples=60)
def test_waiting_for_several_keys(beside_valkey: Beside, stream: list[Step]) -> None:
    beside_valkey.play(stream)


@pytest.mark.slow
@given(stream=steps(most_keys=3))
@settings(relaxed, max_examples=3000, derandomize=False)
def test_waiting_for_several_keys_for_long(beside_valkey: Beside, stream: list[Step]) -> None:
    beside_valkey.play(stream)
