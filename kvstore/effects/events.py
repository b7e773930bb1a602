"""Keyspace events: what can happen to a key, numbered for kernels and named as in Redis.

Most events are changes.  A *notice* is none: `new` comes before the change that makes a key, and `keymiss` after a look
for a key that is not there.

The letter is the class of `notify-keyspace-events` that an event belongs to.  A class is a bit of the register NOTIFY.
"""

from collections.abc import Iterable
from typing import NamedTuple

from kvstore.config.kinds import EVENT_CLASSES
from mmcore.jit import constant, int64, uint8


class Event(NamedTuple):
    """A keyspace event."""

    name: str
    # g: of any type; $ h s z l t: of strings, hashes, ..., streams; x: expired; e: evicted; n: new; m: miss; or none
    letter: str
    # Whether WATCH and tracking hear of it.  In Redis, too, they do not hear of changes of the groups of a stream, nor
    # of XSETID.
    signals: bool = True


EVENTS = (
    Event("del", "g"),
    Event("expire", "g"),
    Event("persist", "g"),
    Event("rename_from", "g"),
    Event("rename_to", "g"),
    Event("move_from", "g"),
    Event("move_to", "g"),
    Event("copy_to", "g"),
    Event("set", "$"),
    Event("setrange", "$"),
    Event("append", "$"),
    Event("incrby", "$"),
    Event("incrbyfloat", "$"),
    Event("expired", "x"),
    Event("evicted", "e"),
    Event("hset", "h"),
    Event("hincrby", "h"),
    Event("hincrbyfloat", "h"),
    Event("hdel", "h"),
    Event("sadd", "s"),
    Event("srem", "s"),
    Event("spop", "s"),
    Event("sinterstore", "s"),
    Event("sunionstore", "s"),
    Event("sdiffstore", "s"),
    Event("zadd", "z"),
    Event("zincr", "z"),
    Event("zrem", "z"),
    Event("zremrangebyrank", "z"),
    Event("zremrangebyscore", "z"),
    Event("zremrangebylex", "z"),
    Event("zpopmin", "z"),
    Event("zpopmax", "z"),
    Event("zrangestore", "z"),
    Event("zunionstore", "z"),
    Event("zinterstore", "z"),
    Event("zdiffstore", "z"),
    Event("lpush", "l"),
    Event("rpush", "l"),
    Event("lpop", "l"),
    Event("rpop", "l"),
    Event("lset", "l"),
    Event("linsert", "l"),
    Event("lrem", "l"),
    Event("ltrim", "l"),
    Event("xadd", "t"),
    Event("xtrim", "t"),
    Event("xdel", "t"),
    Event("xsetid", "t", signals=False),
    Event("xgroup-create", "t", signals=False),
    Event("xgroup-setid", "t", signals=False),
    Event("xgroup-destroy", "t", signals=False),
    Event("xgroup-createconsumer", "t", signals=False),
    Event("xgroup-delconsumer", "t", signals=False),
    Event("xchanged", ""),  # a stream was changed, and the event that Redis publishes follows
    Event("xpending", "", signals=False),
    Event("georadiusstore", "z"),
    Event("geosearchstore", "z"),
    Event("sortstore", "l"),
    Event("setbit", "$"),
    Event("pfadd", "$"),
    Event("pfcount", ""),  # a cardinality was cached, or a sketch made dense: Redis publishes nothing
    Event("hexpire", "h"),
    Event("hexpired", "h"),
    Event("hpersist", "h"),
    # notices
    Event("new", "n"),
    Event("keymiss", "m"),
)
(
    DEL,
    EXPIRE,
    PERSIST,
    RENAME_FROM,
    RENAME_TO,
    MOVE_FROM,
    MOVE_TO,
    COPY_TO,
    SET,
    SETRANGE,
    APPEND,
    INCRBY,
    INCRBYFLOAT,
    EXPIRED,
    EVICTED,
    HSET,
    HINCRBY,
    HINCRBYFLOAT,
    HDEL,
    SADD,
    SREM,
    SPOP,
    SINTERSTORE,
    SUNIONSTORE,
    SDIFFSTORE,
    ZADD,
    ZINCR,
    ZREM,
    ZREMRANGEBYRANK,
    ZREMRANGEBYSCORE,
    ZREMRANGEBYLEX,
    ZPOPMIN,
    ZPOPMAX,
    ZRANGESTORE,
    ZUNIONSTORE,
    ZINTERSTORE,
    ZDIFFSTORE,
    LPUSH,
    RPUSH,
    LPOP,
    RPOP,
    LSET,
    LINSERT,
    LREM,
    LTRIM,
    XADD,
    XTRIM,
    XDEL,
    XSETID,
    XGROUP_CREATE,
    XGROUP_SETID,
    XGROUP_DESTROY,
    XGROUP_CREATECONSUMER,
    XGROUP_DELCONSUMER,
    XCHANGED,
    XPENDING,
    GEORADIUSSTORE,
    GEOSEARCHSTORE,
    SORTSTORE,
    SETBIT,
    PFADD,
    PFCOUNT,
    HEXPIRE,
    HEXPIRED,
    HPERSIST,
    NEW,
    KEYMISS,
) = range(len(EVENTS))
NOTICES = NEW  # the first of them
EMPTIED, SWAPPED = -1, -2  # events of whole databases: they reach WATCH, and Redis publishes no event for them
PUBLISHED = -3  # no event, but a message that waits among them: see pending.py
READ = -4  # no event, but a key that a tracking connection has read, likewise
REPLACED = -5  # of a whole store: it has other contents
ALL_DATABASES = -1


def class_bits(letters: Iterable[str]) -> int:
    """The register NOTIFY for these classes."""
    return sum(1 << EVENT_CLASSES.index(letter) for letter in letters)


CLASS_OF = constant([class_bits(event.letter) for event in EVENTS], int64)
SIGNALS = constant([event.signals for event in EVENTS], uint8)
KEYSPACE, KEYEVENT = class_bits("K"), class_bits("E")  # not classes, but the channels that events are published in
