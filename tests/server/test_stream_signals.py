"""WATCH, tracking, keyspace events, hits and misses hear of commands on streams as in redis-server."""

from typing import Any

import pytest

from tests.harness import Process
from tests.server.test_tracking import Peer
from tests.server.wire import Wire, encode, info

SETUP = [
    "FLUSHALL",
    *(f"XADD s {i}-1 f v" for i in range(1, 9)),
    "XGROUP CREATE s g 0",
    "XREADGROUP GROUP g one COUNT 4 STREAMS s >",
    *(f"XGROUP CREATECONSUMER s g {name}" for name in ("two", "idle")),
    "XDEL s 4-1",
    "XADD empty 1-1 f v",
    "XTRIM empty MAXLEN 0",
    "XGROUP CREATE empty g 0",
    "XGROUP CREATECONSUMER empty g one",
]
COMMANDS = [
    *(f"XADD s {options}f v" for options in ("99-1 ", "1-1 ", "MAXLEN 2 99-1 ", "NOMKSTREAM 99-1 ")),
    "XADD n 1-1 f v", "XADD n NOMKSTREAM 1-1 f v",
    "XDEL s 1-1", "XDEL s 99-1", "XTRIM s MAXLEN 2", "XTRIM s MAXLEN 100", "XTRIM n MAXLEN 2",
    "XSETID s 99-1", "XSETID s 1-1", "XSETID n 1-1",
    "XACK s g 1-1", "XACK s g 7-1", "XACK s none 1-1", "XACK n g 1-1",
    "XCLAIM s g two 0 1-1", "XCLAIM s g one 0 1-1 JUSTID", "XCLAIM s g two 0 7-1 FORCE", "XCLAIM s g two 0 4-1",
    "XCLAIM s g one 0 7-1 LASTID 7-1", "XCLAIM s g one 0 7-1", "XCLAIM n g one 0 1-1",
    "XAUTOCLAIM s g two 0 0", "XAUTOCLAIM s g two 99999 0", "XAUTOCLAIM s g idle 0 9-1", "XAUTOCLAIM n g one 0 0",
    "XREADGROUP GROUP g one STREAMS s >", "XREADGROUP GROUP g two NOACK COUNT 1 STREAMS s >",
    "XREADGROUP GROUP g one STREAMS s 0", "XREADGROUP GROUP g three STREAMS s 0",
    "XREADGROUP GROUP g one STREAMS s empty > >", "XREADGROUP GROUP g one STREAMS empty >",
    "XREADGROUP GROUP g one BLOCK 1 STREAMS empty >", "XREADGROUP GROUP none one STREAMS s >",
    "XGROUP CREATE s g 0", "XGROUP CREATE s h 0", "XGROUP CREATE n h 0 MKSTREAM", "XGROUP CREATE n h 0",
    "XGROUP SETID s g 0", "XGROUP SETID s none 0", "XGROUP DESTROY s g", "XGROUP DESTROY s none",
    "XGROUP CREATECONSUMER s g new", "XGROUP CREATECONSUMER s g one", "XGROUP DELCONSUMER s g one",
    "XGROUP DELCONSUMER s g none",
    *(f"XREAD {block}STREAMS {key} {id_}" for block in ("", "BLOCK 1 ") for key in "sn" for id_ in ("0", "99", "$")),
    "XREAD STREAMS s empty n $ 0 0", "XREAD STREAMS s x", "XREADGROUP GROUP g one STREAMS s $",
    "XRANGE s - +", "XREVRANGE n + -", "XLEN n", "XPENDING s g", "XPENDING n g", "XINFO GROUPS s",
    "XINFO CONSUMERS s none", "XINFO STREAM n FULL",
]  # fmt: skip


def heard(server: Process, protocol: int, command: str) -> dict[str, Any]:
    """The outcome of a command, on a server with these contents."""
    with Wire(server.address, protocol) as wire, Wire(server.address) as watcher, Wire(server.address) as listener:
        wire.pipeline([tuple(one.split()) for one in SETUP])
        tracker = Peer(server.address, 3)
        tracker.play(("CLIENT", "TRACKING", "ON"), ("XLEN", "s"), ("XLEN", "n"), ("XLEN", "empty"))
        tracker.sync()
        wire("CONFIG", "SET", "notify-keyspace-events", "EAmn")
        listener("PSUBSCRIBE", "__keyevent@0__:*")
        watcher("WATCH", "s", "n", "empty")
        wire("CONFIG", "RESETSTAT")
        reply = wire.raw(*command.split())
        stats = info(wire, "stats")
        told = [frame for frame in tracker.sync() if b"invalidate" in frame]
        watcher("MULTI")
        found = {"reply": reply[:1], "told": told, "touched": not isinstance(watcher("EXEC"), list)}
        tracker.wire.close()
        wire("CONFIG", "SET", "notify-keyspace-events", "")
        listener.send(encode("PING"))
        events = []
        while (message := listener.reply())[0] != b"pong":
            events.append(message[2:])
        return found | {"events": events, "hits": (stats["keyspace_hits"], stats["keyspace_misses"])}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_same_parts_hear_of_it(server: Process, redis_server: Process, ours: None, command: str) -> None:
    for protocol in (2, 3):
        assert heard(server, protocol, command) == heard(redis_server, protocol, command)
