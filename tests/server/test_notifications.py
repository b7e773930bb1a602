"""Keyspace notifications: what a subscriber hears of this server, and of a real redis-server that is played the same.

Both publish all classes of events, the notices among them, in both channels.  A subscriber listens to all of them.

    forms        each form of each command, on keys of each type
    due keys     the same, on keys whose deadlines have passed
    streams      random commands of all families, with transactions, in several databases

UNLIKE says how this server is meant to be unlike redis-server 7.0.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis
from hypothesis import given, settings

from tests.harness import Process
from tests.server import test_differential as differential
from tests.server.conftest import Start
from tests.server.streams import newer, relaxed, streams
from tests.server.test_collections import EVERYTHING
from tests.server.test_command import NOT_IN_REDIS
from tests.server.test_door import BEFORE, SAMPLES
from tests.server.wire import OK, Argument, Wire, encode, info, wait_until

Command = tuple[Argument, ...]
Heard = list[tuple[bytes, bytes]]  # channels, and messages
CLASSES = "KEAnm"

FORMS = """
    GET none | GET text
    MGET none text hash none
    STRLEN none
    GETRANGE none 0 1
    SUBSTR none 0 1
    EXISTS none text
    TOUCH none
    TYPE none
    TTL none
    PTTL none
    EXPIRETIME none
    PEXPIRETIME none
    OBJECT ENCODING none | OBJECT FREQ none | OBJECT IDLETIME none | OBJECT REFCOUNT none
    MEMORY USAGE none
    SET none v XX GET | SET none v NX GET | SET text v GET | SET text v NX GET | SET hash v GET | SET new v GET
    SET new v GET EX 100 | SET new v EX 100 | SET text v EXAT 1 | SET text v PXAT 1 | SET timed v KEEPTTL GET
    SET hash v
    SETEX text 100 v | SETEX new 100 v | SETEX text 0 v
    PSETEX text 100000 v
    GETSET none v | GETSET hash v | GETSET timed v
    GETDEL hash | GETDEL timed
    GETEX none | GETEX none PERSIST | GETEX hash EX 10 | GETEX timed EX 100 | GETEX text EX 100 | GETEX timed PX 1 EX 1
    GETEX text EXAT 1 | GETEX timed
    MSET new 1 text 2 new 3 | MSET hash 1
    MSETNX none 1 none 2
    APPEND hash x | APPEND new ""
    SETRANGE none 0 "" | SETRANGE hash 0 x | SETRANGE text 0 "" | SETRANGE text 100 x
    INCR hash | INCR timed
    DECR new
    DECRBY new 4
    INCRBYFLOAT text 1 | INCRBYFLOAT hash 1 | INCRBYFLOAT number 0
    INCRBY number 0
    DEL hash set zset list text none | DEL none
    UNLINK hash none hash
    EXPIRE hash 100 | EXPIRE hash 0 | EXPIRE hash -1 NX | EXPIRE timed -1 NX | EXPIRE timed -1 GT | EXPIRE timed -1 LT
    EXPIRE text 100 XX | EXPIRE text 100 LT | EXPIRE text 100 GT | EXPIRE timed 5 XX
    PEXPIRE zset -5
    EXPIREAT list 1
    PERSIST none | PERSIST hash
    RENAME none text | RENAME text none | RENAME timed text | RENAME hash hash:1 | RENAME hash hash
    RENAMENX hash hash | RENAMENX none new | RENAMENX text list | RENAMENX zset new
    MOVE text 0 | MOVE there 1 | MOVE none 1 | MOVE hash 1 | MOVE timed 3
    COPY none new | COPY none new REPLACE | COPY text text | COPY text text DB 1 | COPY hash text REPLACE
    COPY hash text | COPY zset new | COPY list there DB 1 | COPY list there DB 1 REPLACE | COPY none there DB 1 REPLACE
    HSET hash f v | HSET hash f v f w | HSET new f v g w
    HMSET new f v | HMSET text f v
    HSETNX text f v
    HDEL hash f n other | HDEL hash f f n other | HDEL none f | HDEL text f
    HINCRBY hash n 0 | HINCRBY hash none 4 | HINCRBY text n 1 | HINCRBY new n x
    HINCRBYFLOAT hash f 1 | HINCRBYFLOAT hash n 0 | HINCRBYFLOAT text n 1 | HINCRBYFLOAT new n nan
    HINCRBYFLOAT new n inf | HINCRBYFLOAT new n x
    HGET none f | HGET hash none
    HMGET none f g
    HGETALL none
    HKEYS none
    HVALS none
    HLEN none
    HSTRLEN none f
    HEXISTS none f
    HRANDFIELD none | HRANDFIELD none 2
    HSCAN none 0 | HSCAN hash 0
    SADD set a b c | SADD set a z | SADD new a a | SADD text a | SADD ints 1 2 | SADD ints 4
    SREM set a b c | SREM set:1 a a | SREM none a | SREM text a | SREM ints 1 2 3
    SPOP none | SPOP none 2 | SPOP text | SPOP set | SPOP set 2 | SPOP set 4 | SPOP set 40 | SPOP set:1 1 | SPOP ints 1
    SPOP ints 0
    SMOVE none set a | SMOVE none new a | SMOVE text set a | SMOVE set text a | SMOVE set:1 set a | SMOVE set ints a
    SMOVE set:1 set:1 a | SMOVE set:1 new none | SMOVE set set:1 a | SMOVE set set none
    SISMEMBER none a
    SMISMEMBER none a b
    SCARD none
    SMEMBERS none
    SRANDMEMBER none | SRANDMEMBER none 3
    SSCAN none 0
    SINTER none set | SINTER set none | SINTER none | SINTER set none text | SINTER none text | SINTER none set none
    SINTERCARD 2 none set | SINTERCARD 2 set none
    SUNION none set none
    SDIFF none set | SDIFF set none | SDIFF none none
    SINTERSTORE new none set | SINTERSTORE text none set | SINTERSTORE set none set | SINTERSTORE new set none text
    SINTERSTORE new set set:1 | SINTERSTORE set set set:1 | SINTERSTORE list set set:1 | SINTERSTORE none none
    SINTERSTORE new text
    SUNIONSTORE new set none | SUNIONSTORE new none none | SUNIONSTORE text none none | SUNIONSTORE text set
    SUNIONSTORE text text | SUNIONSTORE timed set
    SDIFFSTORE new set none | SDIFFSTORE new none set | SDIFFSTORE set set set | SDIFFSTORE text set
    SDIFFSTORE set set:1 set
    ZADD zset 1 a 2 b | ZADD zset CH 1 a 2 b | ZADD zset NX 5 a | ZADD zset XX 5 none | ZADD zset GT 0 a
    ZADD zset LT 9 a | ZADD zset XX CH 7 a | ZADD new XX 5 a | ZADD new NX 5 a | ZADD new INCR 5 a
    ZADD new XX INCR 5 a | ZADD zset NX INCR 5 a | ZADD zset GT INCR -5 a | ZADD zset INCR 0 a | ZADD zset INCR 5 none
    ZADD zset 5 a 6 a | ZADD zset inf a | ZADD zset x a | ZADD new x a | ZADD zset nan a | ZADD zset 1 a 1 none
    ZADD zset -0 n
    ZINCRBY text 1 a | ZINCRBY zset nan a | ZINCRBY zset 0 none | ZINCRBY new 0 a
    ZREM zset a a | ZREM zset:1 a | ZREM none a | ZREM text a
    ZREMRANGEBYRANK zset 5 9 | ZREMRANGEBYRANK none 0 -1 | ZREMRANGEBYRANK text 0 -1 | ZREMRANGEBYRANK zset:1 0 0
    ZREMRANGEBYSCORE zset -inf inf | ZREMRANGEBYSCORE none -inf inf | ZREMRANGEBYSCORE zset x inf
    ZREMRANGEBYLEX none - + | ZREMRANGEBYLEX zset - + | ZREMRANGEBYLEX zset [zz [zzz
    ZPOPMIN zset 100 | ZPOPMIN none 3 | ZPOPMIN text
    ZPOPMAX none | ZPOPMAX zset 0 | ZPOPMAX zset -1
    ZMPOP 1 text MIN | ZMPOP 2 none none MAX | ZMPOP 3 none zset:1 zset MAX | ZMPOP 2 none zset MAX COUNT 2
    ZRANGESTORE new none 0 -1 | ZRANGESTORE text none 0 -1 | ZRANGESTORE zset zset 0 0 | ZRANGESTORE zset zset 9 10
    ZRANGESTORE text zset 0 -1 | ZRANGESTORE zset:1 zset 0 -1 | ZRANGESTORE new text 0 -1
    ZRANGESTORE new zset (1 +inf BYSCORE | ZRANGESTORE new zset (9 +inf BYSCORE | ZRANGESTORE text zset (9 +inf BYSCORE
    ZRANGESTORE new zset - + BYLEX | ZRANGESTORE new zset - + BYLEX LIMIT 0 0
    ZUNION 2 none zset
    ZINTER 2 none zset | ZINTER 2 zset none
    ZINTERCARD 2 zset none | ZINTERCARD 2 none zset
    ZDIFF 2 none zset | ZDIFF 2 zset none
    ZUNIONSTORE new 2 none none | ZUNIONSTORE text 2 none none | ZUNIONSTORE text 2 none zset
    ZUNIONSTORE zset 2 none zset | ZUNIONSTORE new 1 text | ZUNIONSTORE new 2 none text | ZUNIONSTORE list 1 set
    ZINTERSTORE zset 2 zset none | ZINTERSTORE new 2 none none | ZINTERSTORE text 2 zset zset
    ZINTERSTORE text 2 none zset
    ZDIFFSTORE new 2 none zset | ZDIFFSTORE new 2 zset none | ZDIFFSTORE zset 2 zset zset
    ZDIFFSTORE text 2 zset:1 zset:1
    ZSCORE none a
    ZMSCORE none a b
    ZRANK none a
    ZREVRANK none a
    ZCARD none
    ZCOUNT none 0 1
    ZLEXCOUNT none - +
    ZRANGE none 0 -1
    ZREVRANGE none 0 -1
    ZRANGEBYSCORE none 0 1
    ZREVRANGEBYSCORE none 1 0
    ZRANGEBYLEX none - +
    ZREVRANGEBYLEX none + -
    ZRANDMEMBER none | ZRANDMEMBER none 2
    ZSCAN none 0
    LPUSH text a | LPUSH new a b c
    RPUSHX new a | RPUSHX list a b
    LPUSHX text a
    LPOP none | LPOP none 3 | LPOP none 0 | LPOP text | LPOP text 0 | LPOP list 100 | LPOP list 5 | LPOP list 0
    RPOP list:1 | RPOP list 5 | RPOP list 2
    LMPOP 1 text LEFT | LMPOP 2 none none LEFT | LMPOP 3 none list:1 list LEFT | LMPOP 1 list LEFT COUNT 100
    LMPOP 1 list RIGHT COUNT 2
    LSET list 0 a | LSET text 0 a | LSET list -1 z
    LINSERT none BEFORE a b | LINSERT text BEFORE a b | LINSERT list AFTER b z
    LREM none 0 a | LREM list 0 b | LREM list -1 b | LREM list:1 0 a | LREM text 0 a
    LTRIM none 0 1 | LTRIM text 0 1 | LTRIM list 1 0 | LTRIM list 0 -1 | LTRIM list 0 2 | LTRIM list:1 5 6
    LMOVE list list:1 LEFT LEFT | LMOVE list:1 list RIGHT LEFT | LMOVE list:1 new RIGHT LEFT
    LMOVE list:1 list:1 RIGHT LEFT | LMOVE list list RIGHT LEFT | LMOVE none new LEFT LEFT | LMOVE text new LEFT LEFT
    LMOVE list text LEFT LEFT
    RPOPLPUSH none list | RPOPLPUSH list new | RPOPLPUSH list text | RPOPLPUSH list:1 list:1
    LLEN none
    LRANGE none 0 -1
    LINDEX none 0
    LPOS none a
    XADD stream MAXLEN 1 9-1 f v | XADD stream 1-1 f v | XADD new 0-* f v | XADD stream MAXLEN 9 9-1 f v
    XDEL stream 1-1 1-1 | XDEL stream 1-1 2-1 | XDEL text 1-1
    XTRIM stream MAXLEN 0 | XTRIM stream MINID 2 | XTRIM stream MAXLEN ~ 0 | XTRIM text MAXLEN 0
    XSETID stream 9 ENTRIESADDED 9 | XSETID text 9 | XSETID stream 1
    XLEN none
    XRANGE none - +
    XREVRANGE none + -
    XREAD STREAMS none stream 0 0 | XREAD STREAMS stream none $ 0
    XGROUP CREATE stream h $ | XGROUP CREATE new h $ MKSTREAM | XGROUP CREATE none h $ | XGROUP CREATE stream g $
    XGROUP SETID stream g 0 | XGROUP DESTROY stream g | XGROUP DESTROY stream none | XGROUP SETID stream none 0
    XGROUP CREATECONSUMER stream g two | XGROUP DELCONSUMER stream g one | XGROUP DELCONSUMER stream g two
    XREADGROUP GROUP g two STREAMS stream > | XREADGROUP GROUP g one STREAMS stream 0
    XREADGROUP GROUP none two STREAMS stream > | XREADGROUP GROUP g two NOACK STREAMS stream >
    XACK stream g 1-1 | XACK none g 1-1
    XPENDING stream g | XPENDING none g
    XCLAIM stream g two 0 1-1 | XCLAIM stream g one 0 9-9 | XCLAIM stream g two 0 2-1 FORCE
    XAUTOCLAIM stream g two 0 0 | XAUTOCLAIM stream none two 0 0
    XINFO STREAM none | XINFO GROUPS stream"""
"""Forms of commands beside those in test_door.py, which are the forms of writing commands."""

SEQUENCES: tuple[tuple[Command, ...], ...] = (
    (("MULTI",), ("SET", "new", 1), ("INCR", "new"), ("DEL", "new"), ("GET", "new"), ("EXEC",)),
    (("MULTI",), ("LPUSH", "new", 1), ("LPOP", "new"), ("HSET", "text", "f", "v"), ("EXEC",)),
    (("MULTI",), ("SET", "new", 1), ("DISCARD",)),
    (("MULTI",), ("SET", "new"), ("SET", "new", 1), ("EXEC",)),
    (("WATCH", "text"), ("SET", "text", 1), ("MULTI",), ("SET", "new", 1), ("EXEC",)),
    (("MULTI",), ("APPEND", "text", "x"), ("COPY", "hash", "new"), ("SETRANGE", "newer", 5, "x"), ("EXEC",)),
    (("MULTI",), ("SELECT", 3), ("SET", "new", 1), ("MOVE", "new", 4), ("SELECT", 4), ("DEL", "new"), ("EXEC",)),
    (("MULTI",), ("FLUSHALL",), ("SET", "new", 1), ("EXEC",), ("GET", "text")),
    (("SWAPDB", 0, 1), ("SET", "there", 1), ("SET", "text", 1), ("SELECT", 1), ("SET", "text", 1)),
    (("FLUSHDB",), ("SET", "text", 1), ("SELECT", 1), ("SET", "there", 1)),
    (("FLUSHALL", "ASYNC"), ("SELECT", 9), ("SET", b"\0\r\n\xff", b"\xff\0"), ("DEL", b"\0\r\n\xff"), ("GET", "")),
    (("SET", "", ""), ("RENAME", "", "k" * 5000), ("DEL", "k" * 5000)),
    (("GETSET", "text", 1), ("GETDEL", "text"), ("GETEX", "text", "EX", 10), ("SETNX", "text", 1)),
    (("SADD", "gone", "a"), ("SMOVE", "gone", "other", "a"), ("SPOP", "other"), ("SADD", "other", 1)),
    (("RPUSH", "gone", "a"), ("LMOVE", "gone", "gone", "LEFT", "RIGHT"), ("RPOPLPUSH", "gone", "other")),
    (("ZADD", "gone", 1, "a"), ("ZRANGESTORE", "gone", "none", 0, -1), ("ZINTERSTORE", "zset", 1, "none")),
)
MEETINGS: tuple[Command, ...] = (
    ("KEYS", "*"), ("DBSIZE",), ("GET", "text"), ("MGET", "text", "timed", "none"), ("EXISTS", "text", "text"),
    ("TTL", "timed"), ("OBJECT", "ENCODING", "text"), ("TYPE", "text"), ("TOUCH", "text", "hash"),
    ("HGETALL", "hash"), ("HLEN", "hash"), ("HSCAN", "hash", 0), ("LLEN", "list"), ("LPOS", "list", "a"),
    ("LRANGE", "list", 0, -1), ("SCARD", "set"), ("SISMEMBER", "set", "a"), ("SINTER", "set", "set:1"),
    ("SINTERCARD", 2, "set", "set:1"), ("SUNION", "set", "set:1"), ("SDIFF", "set", "set:1"), ("SSCAN", "set", 0),
    ("SRANDMEMBER", "set"), ("ZSCORE", "zset", "a"), ("ZRANGE", "zset", 0, -1), ("ZSCAN", "zset", 0),
    ("MEMORY", "USAGE", "text"), ("SCAN", 0, "COUNT", 1000), ("SCAN", 0, "COUNT", 1000, "TYPE", "string"),
)  # fmt: skip
"""Reading commands that meet keys which are due."""

UNLIKE: tuple[tuple[Callable[[Command], bool], str], ...] = (
    (
        lambda words: _name(words) == b"SCAN",
        "SCAN changes nothing; it hides keys that are due, and active expiry tells them",
    ),
    (lambda words: _name(words) == b"MEMORY", "MEMORY USAGE finds no key that is due; in Redis it does not look"),
)


def _name(words: Command) -> bytes:
    return encode(words[0]).split(b"\r\n")[2].upper()


def is_meant(words: Command) -> bool:
    """Whether this command's events are meant to be others than Redis's, if keys are due."""
    return any(applies(words) for applies, _ in UNLIKE)


GROWN = ("BITFIELD", "text", "OVERFLOW", "FAIL", "INCRBY", "u1", 900, 5)
"""Redis grows the string and tells nobody; here the string has changed, and is told."""


def forms() -> list[Command]:
    """All forms of commands that redis-server has, each once."""
    lines = [form.split() for line in FORMS.splitlines() for form in line.split("|") if form.strip()]
    all_forms = dict.fromkeys([*SAMPLES, *(tuple(word.strip('"') for word in words) for words in lines)])
    return [words for words in all_forms if _name(words).decode().lower() not in NOT_IN_REDIS and "IFEQ" not in words]


class Side:
    """A server with a client, a subscriber, and a connection that nothing else is done with."""

    def __init__(self, address: Any) -> None:
        self.address = address
        self.client, self.control, self.subscriber = (Wire(address) for _ in range(3))
        assert self.control("CONFIG", "SET", "notify-keyspace-events", CLASSES) == OK
        assert self.control("DEBUG", "SET-ACTIVE-EXPIRE", "0") == OK
        self.subscriber.send(encode("PSUBSCRIBE", "__key*@*__:*", "mark"))
        for number in (1, 2):
            assert self.subscriber.reply()[2] == number

    def close(self) -> None:
        """Leave the server as it was."""
        assert self.control("CONFIG", "SET", "notify-keyspace-events", "") == OK
        assert self.control("DEBUG", "SET-ACTIVE-EXPIRE", "1") == OK
        for wire in (self.client, self.control, self.subscriber):
            wire.close()

    def now_ms(self) -> int:
        """The server's time."""
        seconds, microseconds = self.control("TIME")
        return 1000 * int(seconds) + int(microseconds) // 1000

    def prepare(self, before: tuple[Command, ...]) -> None:
        """Have these keys and no others."""
        for way_out in ("DISCARD", "UNWATCH"):
            self.client(way_out)
        self.client.pipeline([("SELECT", 0), ("FLUSHALL",), *before])

    def make_due(self) -> None:
        """Let the deadlines of all keys pass, and none of them be deleted."""
        keys = [(db, key) for db in (0, 1) for key in self._keys(db)]
        wait_ms = 3
        while True:
            deadline = self.now_ms() + wait_ms
            commands = [[("SELECT", db), ("PEXPIREAT", key, deadline)] for db, key in keys]
            self.control.pipeline([command for pair in commands for command in pair])
            if self.now_ms() < deadline:
                break
            wait_ms *= 2  # the machine is busy: they may be deleted already
            self.prepare(BEFORE)
        while self.now_ms() <= deadline:
            pass

    def await_blocked(self, count: int) -> None:
        """Until so many clients wait."""
        wait_until(lambda: info(self.control, "clients")["blocked_clients"] == str(count), f"{count} clients that wait")

    def _keys(self, db: int) -> list[bytes]:
        self.control("SELECT", db)
        return sorted(self.control("KEYS", "*"))

    def hear(self, commands: list[Command] | tuple[Command, ...]) -> Heard:
        """The messages to the subscriber while the client sends these commands."""
        self.control("PUBLISH", "mark", "begin")
        self.client.pipeline(list(commands))
        self.control("PUBLISH", "mark", "end")
        heard: Heard = []
        while (message := self._next()) != (b"mark", b"begin"):
            pass
        while (message := self._next()) != (b"mark", b"end"):
            heard.append(message)
        return heard

    def _next(self) -> tuple[bytes, bytes]:
        kind, _, channel, message = self.subscriber.reply()
        assert kind == b"pmessage"
        return channel, message


AWAITED: tuple[tuple[tuple[Command, ...], tuple[Command, ...]], ...] = (
    ((("BLPOP", "a", 0),), (("LPUSH", "a", 1),)),
    ((("BLPOP", "a", 0), ("BRPOP", "b", "a", 0)), (("RPUSH", "a", 1, 2, 3),)),
    ((("BLMOVE", "a", "b", "LEFT", "RIGHT", 0), ("BLPOP", "b", 0)), (("LPUSH", "a", 1),)),
    ((("BRPOPLPUSH", "a", "a", 0),), (("LPUSH", "a", 1, 2),)),
    ((("BLMOVE", "a", "text", "LEFT", "LEFT", 0),), (("LPUSH", "a", 1),)),
    ((("BLMPOP", 0, 2, "b", "a", "LEFT", "COUNT", 2),), (("RPUSH", "a", 1, 2, 3),)),
    ((("BZPOPMIN", "a", 0), ("BZPOPMAX", "a", 0)), (("ZADD", "a", 1, "x", 2, "y", 3, "z"),)),
    ((("BZMPOP", 0, 1, "a", "MAX", "COUNT", 5),), (("ZADD", "a", 1, "x", 2, "y"),)),
    ((("BLPOP", "a", 0),), (("MULTI",), ("LPUSH", "a", 1), ("LPUSH", "a", 2), ("EXEC",))),
    ((("BLPOP", "a", 0),), (("MULTI",), ("LPUSH", "a", 1), ("DEL", "a"), ("EXEC",))),
    (
        (("BLPOP", "a", 0), ("BLPOP", "b", 0)),
        (("MULTI",), ("GET", "b"), ("LPUSH", "a", 1), ("LPUSH", "b", 1), ("EXEC",)),
    ),
    ((("BLPOP", "a", 0),), (("RENAME", "list:1", "a"),)),
    ((("BLPOP", "a", 0),), (("COPY", "list:1", "a"), ("COPY", "list", "a"))),
    ((("BLPOP", "there", 0),), (("SELECT", 1), ("DEL", "there"), ("LPUSH", "there", 1), ("MOVE", "there", 0))),
    ((("BZPOPMIN", "a", 0),), (("ZRANGESTORE", "a", "zset", 0, 0), ("ZUNIONSTORE", "a", 1, "zset"))),
    ((("BLPOP", "a", 0),), (("SET", "a", 1), ("DEL", "a"), ("GET", "a"), ("RPUSH", "a", 1))),
)
"""Commands of clients that wait, each of its own, and the commands of another that end the waiting."""


@pytest.fixture
def sides(running: Process, redis_server: Process) -> Iterator[tuple[Side, Side]]:
    made = Side(running.address), Side(redis_server.address)
    yield made
    for side in made:
        side.close()


def difference(mine: Heard, theirs: Heard, what: object) -> str:
    """A line about two lists of messages, or nothing if they are the same."""
    return "" if mine == theirs else f"{what}\n  got   {mine}\n  redis {theirs}\n"


def test_each_form_of_each_command_is_told_as_in_redis(sides: tuple[Side, Side]) -> None:
    found = ""
    for words in forms():
        heard = []
        for side in sides:
            side.prepare(BEFORE)
            heard.append(side.hear([words]))
        if words == GROWN:
            assert heard[0] and not heard[1]
        else:
            found += difference(*heard, words)
    assert not found, found


@pytest.mark.parametrize("commands", SEQUENCES, ids=lambda commands: " ".join(words[0] for words in commands))
def test_a_sequence_is_told_as_in_redis(sides: tuple[Side, Side], commands: tuple[Command, ...]) -> None:
    heard = []
    for side in sides:
        side.prepare(BEFORE)
        heard.append(side.hear(commands))
    assert not difference(*heard, commands), difference(*heard, commands)


@pytest.mark.parametrize(("waiting", "commands"), AWAITED, ids=[f"{case}" for case in range(len(AWAITED))])
def test_a_command_that_has_waited_is_told_as_in_redis(
    sides: tuple[Side, Side], waiting: tuple[Command, ...], commands: tuple[Command, ...]
) -> None:
    heard = []
    for side in sides:
        side.prepare(BEFORE)
        with ExitStack() as stack:
            for count, words in enumerate(waiting, 1):
                client = stack.enter_context(Wire(side.address))
                client.send(encode(*words))
                side.await_blocked(count)
            heard.append(side.hear(commands))
        side.await_blocked(0)
    assert not difference(*heard, commands), difference(*heard, commands)


def test_keys_that_are_due_are_told_as_in_redis(sides: tuple[Side, Side]) -> None:
    found, unlike = "", set()
    for words in (*forms(), *MEETINGS):
        if _name(words).startswith(b"B"):
            continue  # it waits
        heard = []
        for side in sides:
            side.prepare(BEFORE)
            side.make_due()
            heard.append(side.hear([words]))
        if not is_meant(words):
            found += difference(*heard, words)
        elif difference(*heard, words):
            unlike.add(_name(words))
    assert not found, found
    assert unlike == {b"SCAN", b"MEMORY"}


COMMANDS = (
    differential.STRINGS,
    differential.NUMBERS,
    differential.GENERIC,
    differential.DATABASE_WIDE,
    differential.TRANSACTIONS,
    EVERYTHING,
    EVERYTHING,
)


def playable(stream: list[tuple[bytes, ...]]) -> list[Command]:
    """A stream without what makes the two servers' contents different: other versions, limits, chance."""
    played: list[Command] = []
    for words in stream:
        if not (newer(words) or is_meant(words) or _name(words) == b"CONFIG"):
            played.append(words)
        if _name(words) == b"SPOP" and len(words) > 1:
            played.append(("DEL", words[1]))
    return played


def compare(sides: tuple[Side, Side], stream: list[tuple[bytes, ...]]) -> None:
    """Play a stream to both, and compare what is heard."""
    played, heard = playable(stream), []
    for side in sides:
        side.prepare(())
        heard.append(side.hear(played))
    assert not difference(*heard, played), difference(*heard, played)


@given(stream=streams(*COMMANDS, most=60))
@settings(relaxed, max_examples=150)
def test_random_commands_are_told_as_in_redis(sides: tuple[Side, Side], stream: list[tuple[bytes, ...]]) -> None:
    compare(sides, stream)


@pytest.mark.slow
@given(stream=streams(*COMMANDS, most=300))
@settings(relaxed, max_examples=3000, derandomize=False)
def test_random_commands_are_told_for_long(sides: tuple[Side, Side], stream: list[tuple[bytes, ...]]) -> None:
    compare(sides, stream)


def test_the_comparison_would_notice() -> None:
    told: Heard = [(b"__keyspace@0__:a", b"set"), (b"__keyevent@0__:set", b"a")]
    assert not difference(told, list(told), "")
    assert difference(told, told[::-1], "")
    assert difference(told, told[:1], "")


def test_active_expiry_is_told_though_no_command_comes(server: Process) -> None:
    with Wire(server.address) as client, Wire(server.address, 3) as subscriber:
        assert client("CONFIG", "SET", "notify-keyspace-events", "KEx") == OK
        subscriber.send(encode("SUBSCRIBE", "__keyevent@7__:expired", "__keyspace@7__:short"))
        for _ in range(2):
            subscriber.reply()
        client("SELECT", 7)
        client("SET", "short", "x", "PX", 20)
        heard = [subscriber.reply() for _ in range(2)]
        assert [list(message)[1:] for message in heard] == [
            [b"__keyspace@7__:short", b"expired"],
            [b"__keyevent@7__:expired", b"short"],
        ]
        assert client("CONFIG", "SET", "notify-keyspace-events", "") == OK


def test_a_server_that_is_started_with_them_publishes_them(start: Start, tmp_path: Any) -> None:
    with start(tmp_path, options=("--notify-keyspace-events", "Elg")) as process, Wire(process.address) as client:
        assert client("CONFIG", "GET", "notify-keyspace-events") == [b"notify-keyspace-events", b"glE"]
        with Wire(process.address) as subscriber:
            subscriber.send(encode("PSUBSCRIBE", "*"))
            subscriber.reply()
            for words in (("SET", "a", 1), ("LPUSH", "b", 1), ("DEL", "a", "b")):
                client(*words)
            heard = [subscriber.reply()[2:] for _ in range(3)]
        assert heard == [[b"__keyevent@0__:lpush", b"b"], [b"__keyevent@0__:del", b"a"], [b"__keyevent@0__:del", b"b"]]


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_client_library_hears_of_events(server: Process, protocol: int) -> None:
    host, port = server.address
    client = redis.Redis(host=host, port=port, protocol=protocol)
    subscriber = client.pubsub(ignore_subscribe_messages=False)
    client.config_set("notify-keyspace-events", "KEA")
    subscriber.psubscribe("__keyevent@0__:*", "__keyspace@0__:user:*")
    client.hset("user:1", "name", "x")
    client.rename("user:1", "user:2")
    client.expire("user:2", -1)
    heard = []
    while len(heard) < 10:
        message = subscriber.get_message(timeout=30)
        assert message is not None
        heard.append((message["type"], message["channel"], message["data"]))
    assert [one[0] for one in heard[:2]] == ["psubscribe"] * 2
    told = [("user:1", "hset"), ("user:1", "rename_from"), ("user:2", "rename_to"), ("user:2", "del")]
    assert heard[2:] == [
        ("pmessage", channel.encode(), data.encode())
        for key, event in told
        for channel, data in ((f"__keyspace@0__:{key}", event), (f"__keyevent@0__:{event}", key))
    ]
    client.config_set("notify-keyspace-events", "")
    subscriber.close()
    client.close()
