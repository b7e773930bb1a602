"""Client-side caching: streams of reads, writes and modes beside redis-server, redis-py's cache, and clients that fail.

Five connections play each stream on both servers: two that track in RESP3, one in RESP2 that redirects to a fourth,
which has subscribed in RESP2 or speaks RESP3, and one that does not track.  After each step every connection is read
to its end, so each gets the same messages in the same order as Redis's, and in the same place between its replies.

Meant differences, which the streams avoid:

    off and on again    a connection that has turned tracking off is not told of what it read before; Redis tells it
    NOLOOP and expiry   a key that expires is nobody's change, so a connection is told even if its own command finds it
                        expired; Redis tells it only with BCAST, and its cache stays stale
    SWAPDB              nothing is valid after it; Redis tells nobody, and caches stay stale
    redirected nulls    FLUSHALL is told in the protocol of the one that is told; Redis uses that of the one that
                        tracks, which breaks the stream of replies of a RESP2 connection
    CLIENT in error     a CLIENT command with the wrong number of arguments ends CLIENT CACHING, like other errors
"""

import random
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from redis.cache import CacheConfig
from redis.connection import CacheProxyConnection

from tests.harness import Process
from tests.server.wire import OK, Argument, Wire, encode, info, wait_until

Command = tuple[Argument, ...]
PONG = b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"


class Peer:
    """One connection, all of whose replies and messages are read."""

    def __init__(self, address: Any, protocol: int, subscribed: bool = False) -> None:
        self.wire = Wire(address, protocol)
        self.id = self.wire("CLIENT", "ID")
        self.frames: list[bytes] = []
        self.subscribed = subscribed and protocol == 2  # then it may only PING
        if self.subscribed:
            self.wire("SUBSCRIBE", "channel")

    def play(self, *commands: Command) -> None:
        """Send these commands, and wait for their replies; `frames` has them and the messages between."""
        self.wire.send(b"".join(encode(*command) for command in commands))
        self._read(len(commands))

    def _read(self, replies: int) -> None:
        while replies:
            frame = self.wire.raw_reply()
            self.frames.append(frame)
            replies -= not frame.startswith((b">", b"*3\r\n$7\r\nmessage"))

    def sync(self) -> list[bytes]:
        """All frames since the last call."""
        self.wire.send(encode("PING") if self.subscribed else encode("CLIENT", "ID"))
        self._read(1)
        *frames, last = self.frames
        assert last == (PONG if self.subscribed else b":%d\r\n" % self.id)
        self.frames = []
        return frames


class Cast:
    """The connections of one server."""

    def __init__(self, address: Any, target: int) -> None:
        """target: the protocol of the one that is told in place of another."""
        self.address, self.target = address, target
        self.writer, self.told = Peer(address, 2), Peer(address, target, subscribed=True)
        self.peers = [Peer(address, 3), Peer(address, 3), Peer(address, 2), self.told, self.writer]
        self.gone: list[int] = []

    def step(self, who: int, *commands: Command) -> list[list[bytes]]:
        """Let one of them play commands; returns all frames of each."""
        mine = [tuple(str(self.told.id) if word == "TARGET" else word for word in command) for command in commands]
        self.peers[who].play(*mine)
        return self.settle()

    def settle(self) -> list[list[bytes]]:
        """All frames of each connection, with the ids of connections made the same."""
        return [[self._same_ids(frame) for frame in peer.sync()] for peer in [*self.peers[:4], self.writer]]

    def _same_ids(self, frame: bytes) -> bytes:
        for number in (self.told.id, *self.gone):
            frame = re.sub(rb":%d\r\n" % number, b":target\r\n", frame) if b"redir" in frame else frame
        return frame

    def replace_target(self) -> None:
        """The one that is told goes, and another comes."""
        self.gone.append(self.told.id)
        self.told.wire.close()
        wait_until(lambda: self.writer.wire("CLIENT", "LIST", "ID", self.told.id) == b"", "its end")
        self.told = self.peers[3] = Peer(self.address, self.target, subscribed=True)

    def expire(self, key: str) -> list[list[bytes]]:
        """Let a key come and expire."""
        self.writer.play(("SET", key, "v", "PX", 1))
        wait_until(lambda: self.writer.wire("EXISTS", key) == 0, "its expiry", interval_s=0.001)
        return self.settle()

    def close(self) -> None:
        for peer in self.peers:
            peer.wire.close()


@pytest.fixture(params=[2, 3], ids=["told in RESP2", "told in RESP3"])
def casts(server: Process, redis_server: Process, request: pytest.FixtureRequest) -> Iterator[list[Cast]]:
    made = [Cast(one.address, request.param) for one in (server, redis_server)]
    yield made
    for cast in made:
        cast.close()


KEYS = [f"{prefix}{i}" for prefix in ("user:", "u", "", "other:") for i in range(3)]
READS: tuple[Callable[[Callable[[], str]], Command], ...] = (
    lambda key: ("GET", key()),
    lambda key: ("GET", key()),
    lambda key: ("MGET", key(), key(), key()),
    lambda key: ("EXISTS", key(), key()),
    lambda key: ("TYPE", key()),
    lambda key: ("LRANGE", key(), 0, -1),
    lambda key: ("HGET", key(), "f"),
    lambda key: ("ZRANGE", key(), 0, -1),
    lambda key: ("ZUNION", 2, key(), key()),
    lambda key: ("ZUNION", 3, key(), key()),
    lambda key: ("SINTERCARD", 2, key(), key(), "LIMIT", 1),
    lambda key: ("OBJECT", "FREQ", key()),
    lambda key: ("TOUCH", key(), key()),
    lambda key: ("DBSIZE",),
    lambda key: ("GET",),
    lambda key: ("NOSUCH", key()),
    lambda key: ("CLIENT", "GETNAME"),
)
WRITES: tuple[Callable[[Callable[[], str]], Command], ...] = (
    lambda key: ("SET", key(), 1),
    lambda key: ("SET", key(), 1),
    lambda key: ("MSET", key(), 1, key(), 2, key(), 3),
    lambda key: ("SET", key(), 1, "NX"),
    lambda key: ("GETSET", key(), 1),
    lambda key: ("GETEX", key(), "PERSIST"),
    lambda key: ("DEL", key(), key(), key()),
    lambda key: ("UNLINK", key()),
    lambda key: ("INCR", key()),
    lambda key: ("APPEND", key(), "x"),
    lambda key: ("EXPIRE", key(), 1000),
    lambda key: ("EXPIRE", key(), -1),
    lambda key: ("RENAME", key(), key()),
    lambda key: ("COPY", key(), key(), "REPLACE"),
    lambda key: ("MOVE", key(), 1),
    lambda key: ("LPUSH", key(), "a", "b"),
    lambda key: ("RPOPLPUSH", key(), key()),
    lambda key: ("LPOP", key()),
    lambda key: ("SADD", key(), "m", "n"),
    lambda key: ("SMOVE", key(), key(), "m"),
    lambda key: ("SINTERSTORE", key(), key(), key()),
    lambda key: ("HSET", key(), "f", 1),
    lambda key: ("HDEL", key(), "f"),
    lambda key: ("ZADD", key(), 1, "m"),
    lambda key: ("ZUNIONSTORE", key(), 2, key(), key()),
    lambda key: ("ZPOPMIN", key()),
)
MODES: tuple[Command, ...] = (
    (),
    ("NOLOOP",),
    ("OPTIN",),
    ("OPTOUT", "NOLOOP"),
    ("BCAST",),
    ("BCAST", "NOLOOP"),
    ("BCAST", "PREFIX", "user:", "PREFIX", "other:"),
    ("BCAST", "PREFIX", "u", "NOLOOP"),
    ("BCAST", "PREFIX", "user:1"),
)
BAD: tuple[Command, ...] = (
    ("ON", "PREFIX", "a"),
    ("ON", "BCAST", "OPTIN"),
    ("ON", "OPTIN", "OPTOUT"),
    ("ON", "BCAST", "PREFIX", "a", "PREFIX", "ab"),
    ("ON", "BCAST", "PREFIX", "user:11"),
    ("ON", "BCAST", "PREFIX", ""),
    ("ON", "REDIRECT", "TARGET", "REDIRECT", "TARGET"),
    ("ON", "REDIRECT", 99_999_999),
    ("OFF", "REDIRECT", 0),
    ("ON", "REDIRECT", "x"),
    ("ON", "REDIRECT"),
    ("MAYBE",),
    ("ON", "FOO"),
    ("OFF", "FOO"),
    ("ON", "BCAST", "BCAST", "PREFIX"),
)


class Script:
    """Steps by chance, the same for both servers."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.modes: list[Command] = [(), (), ()]

    def key(self) -> str:
        """A key, most often one of few."""
        return self.chance.choice(KEYS[: self.chance.choice((4, len(KEYS)))])

    def _some(self, kinds: Any, most: int = 3) -> list[Command]:
        return [self.chance.choice(kinds)(self.key) for _ in range(self.chance.randrange(1, most))]

    def commands(self, who: int) -> list[Command]:
        """The next commands of a connection."""
        chance = self.chance
        found = chance.choice((self._some(READS, 4), self._some(READS), self._some(WRITES), self._some(WRITES, 5)))
        if chance.random() < 0.25:
            found = [*found, *self._some(READS), *self._some(WRITES)]
            chance.shuffle(found)
            found = [one for one in found if one[0] != "NOSUCH" and one != ("GET",)]
            found = [("MULTI",), *found, (chance.choice(("EXEC", "EXEC", "EXEC", "DISCARD")),)]
        if who < 3 and chance.random() < 0.6:
            asked = "YES" if "OPTIN" in self.modes[who] else "NO"
            found = [("CLIENT", "CACHING", chance.choice((asked, asked, asked, "YES", "NO", "x"))), *found]
        return found

    def begin(self, who: int) -> Command:
        """A mode for a connection."""
        self.modes[who] = self.chance.choice(MODES)
        redirect = ("REDIRECT", "TARGET") if who == 2 else ()
        return "CLIENT", "TRACKING", "ON", *redirect, *self.modes[who]


def step(cast: Cast, script: Script) -> tuple[str, list[list[bytes]]]:
    """Play the next step of a script; what it was, and all frames."""
    chance = script.chance
    kind, who = chance.random(), chance.choice((0, 0, 1, 1, 2, 4))
    if kind < 0.05:
        who %= 3
        off = cast.step(who, ("CLIENT", "TRACKING", "OFF"), ("CLIENT", "TRACKINGINFO"))
        flushed = cast.step(4, ("FLUSHALL",))  # Redis forgets, too, what it has read
        mode = script.begin(who)
        on = cast.step(who, mode, ("CLIENT", "TRACKINGINFO"))
        return f"{who} {mode}", off + flushed + on
    if kind < 0.08:
        bad = ("CLIENT", "TRACKING", *chance.choice(BAD))
        return f"{who} {bad}", cast.step(who, bad, ("CLIENT", "TRACKINGINFO"))
    if kind < 0.10:
        flush = chance.choice((("FLUSHALL",), ("FLUSHDB",), ("SELECT", 1), ("SELECT", 0)))
        return f"{who} {flush}", cast.step(who, flush)
    if kind < 0.13:
        key = script.key()
        return f"{key} expires", cast.expire(key)
    if kind < 0.15:
        cast.replace_target()
        return "another target", cast.settle()
    commands = script.commands(who)
    return f"{who} {commands}", cast.step(who, *commands)


def _null(frames: list[bytes]) -> list[bytes]:
    # With nulls that are told the same in both protocols.
    return [frame.replace(b"invalidate\r\n$-1", b"invalidate\r\n_") for frame in frames]


def compare(casts: list[Cast], seed: int, steps: int) -> None:
    """Play a script to both; the first difference fails."""
    scripts = [Script(seed) for _ in casts]
    for cast, script in zip(casts, scripts, strict=True):
        cast.step(4, ("FLUSHALL",))
        for who in range(3):
            cast.step(who, script.begin(who))
    told = 0
    for number in range(steps):
        (what, mine), (_, theirs) = (step(cast, script) for cast, script in zip(casts, scripts, strict=True))
        mine, theirs = ([_null(frames) for frames in side] for side in (mine, theirs))
        told += sum(b"invalidate" in frame for frames in mine for frame in frames)
        assert mine == theirs, f"seed {seed}, step {number}: {what}\n  got   {mine}\n  redis {theirs}"
    assert told > steps // 8


@pytest.mark.parametrize("seed", range(5))
def test_streams_beside_redis(casts: list[Cast], ours: None, seed: int) -> None:
    compare(casts, seed, 160)


@pytest.mark.slow
@pytest.mark.parametrize("round_", range(40))
def test_many_streams_beside_redis(casts: list[Cast], ours: None, round_: int) -> None:
    compare(casts, random.randrange(1 << 40), 400)


def test_getredir(server: Process, wire: Wire, wire2: Wire) -> None:
    assert wire("CLIENT", "GETREDIR") == -1
    assert wire("CLIENT", "TRACKING", "ON") == OK
    assert wire("CLIENT", "GETREDIR") == 0
    other = wire2("CLIENT", "ID")
    assert wire("CLIENT", "TRACKING", "ON", "REDIRECT", other) == OK
    assert wire("CLIENT", "GETREDIR") == other
    assert wire("CLIENT", "TRACKING", "OFF") == OK
    assert wire("CLIENT", "GETREDIR") == -1


# ---------------------------------------------------------------------------------------------------- redis-py's cache


def test_the_cache_of_redis_py(server: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """It refuses to cache for servers that say they are older than 7.4, though these have all that it needs."""
    monkeypatch.setattr(CacheProxyConnection, "MIN_ALLOWED_VERSION", "7.0.0")
    host, port = server.address
    with (
        redis.Redis(host, port, protocol=3, cache_config=CacheConfig()) as cached,
        redis.Redis(host, port) as other,
    ):
        cache = cached.get_cache()
        other.mset({"k": "1", "l": "2"})
        assert cached.get("k") == b"1" and cached.mget("k", "l") == [b"1", b"2"]
        assert cache.size == 2
        calls = other.info("commandstats")["cmdstat_get"]["calls"]
        assert cached.get("k") == b"1"
        assert other.info("commandstats")["cmdstat_get"]["calls"] == calls, "it came out of the cache"
        other.set("k", "3")
        assert wait_until(lambda: cached.get("k") == b"3", "the new value")
        assert cached.mget("k", "l") == [b"3", b"2"]
        other.flushall()
        assert wait_until(lambda: cached.get("k") is None, "the flush")
        cached.set("k", "4")
        assert cached.get("k") == b"4" == cached.get("k")


# -------------------------------------------------------------------------------------------------- clients that fail


def test_the_end_of_a_connection_ends_its_tracking(server: Process, wire2: Wire, ours: None) -> None:
    before = info(wire2, "clients")["connected_clients"]
    for end in ("close", "reset", "kill"):
        with Wire(server.address, 3) as tracking, Wire(server.address, 3) as by_prefix:
            assert tracking("CLIENT", "TRACKING", "ON") == OK
            tracking("MGET", *(f"key:{i}" for i in range(10_000)))
            assert by_prefix("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "key:", "PREFIX", "x") == OK
            if end == "reset":
                tracking("RESET")
                by_prefix("RESET")
                assert wire2("SET", "key:1", end) == OK
                assert tracking("CLIENT", "TRACKINGINFO") == [b"flags", [b"off"], b"redirect", -1, b"prefixes", []]
                assert by_prefix("PING") == tracking("PING")
            if end == "kill":
                wire2("CLIENT", "KILL", "ID", tracking("CLIENT", "ID"))
                wire2("CLIENT", "KILL", "ID", by_prefix("CLIENT", "ID"))
        wait_until(lambda: info(wire2, "clients")["connected_clients"] == before, "their end")
        assert wire2("MSET", "key:1", 1, "key:9999", 1, "x", 1) == OK


def test_one_that_does_not_read_is_closed_and_stops_nobody(start: Any, data: Any, ours: None) -> None:
    with (
        start(data, options=("--client-output-buffer-limit", "normal 1mb 0 0")) as server,
        Wire(server.address, 3) as deaf,
        Wire(server.address) as writer,
    ):
        assert deaf("CLIENT", "TRACKING", "ON", "BCAST") == OK
        name = "x" * 100_000
        for i in range(1000):
            assert writer("SET", f"{name}{i}", "v") == OK
            assert writer("DEL", f"{name}{i}") == 1
            if int(info(writer, "clients")["connected_clients"]) == 1:
                break
        assert i < 999, "it was closed when too much waited for it"
        assert writer("SET", "k", "v") == OK


def test_a_limit_on_keys_holds(server: Process, wire2: Wire, ours: None) -> None:
    """A key that is given up is told at once.  Any other is told when it changes."""
    assert wire2("CONFIG", "SET", "tracking-table-max-keys", 50) == OK
    try:
        peer, names = Peer(server.address, 3), [f"key:{i}" for i in range(500)]
        peer.play(("CLIENT", "TRACKING", "ON"), *(("GET", name) for name in names))
        told = {frame for frame in peer.sync() if frame.startswith(b">")}
        assert 450 <= len(told) < 500
        wire2("MSET", *(word for name in names for word in (name, 1)))
        later = [frame for frame in peer.sync() if frame.startswith(b">")]
        assert len(later) == 500 - len(told) and not told & set(later)
        peer.wire.close()
    finally:
        wire2("CONFIG", "SET", "tracking-table-max-keys", 1_000_000)
