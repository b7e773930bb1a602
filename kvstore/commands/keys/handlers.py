"""The commands about keys, whatever their values are.

RENAME and MOVE never copy a long value, DEL and UNLINK give one back later, in steps, FLUSHALL and FLUSHDB leave
everything for later; KEYS alone looks at every key at once, as it must.
"""

from kvstore.commands.keys.deadlines import (
    expire,
    expireat,
    expiretime,
    persist,
    pexpire,
    pexpireat,
    pexpiretime,
    pttl,
    ttl,
)
from kvstore.commands.keys.existence import dbsize, del_, exists, touch, type_
from kvstore.commands.keys.flushing import flushall, flushdb
from kvstore.commands.keys.introspection import memory_usage, object_
from kvstore.commands.keys.listing import keys, scan
from kvstore.commands.keys.moving import copy, move, rename, renamenx, swapdb
from kvstore.commands.keys.randomkey import randomkey

HANDLERS = {
    b"DEL": del_,
    b"UNLINK": del_,
    b"EXISTS": exists,
    b"TOUCH": touch,
    b"TYPE": type_,
    b"DBSIZE": dbsize,
    b"KEYS": keys,
    b"SCAN": scan,
    b"RANDOMKEY": randomkey,
    b"RENAME": rename,
    b"RENAMENX": renamenx,
    b"MOVE": move,
    b"COPY": copy,
    b"SWAPDB": swapdb,
    b"FLUSHALL": flushall,
    b"FLUSHDB": flushdb,
    b"EXPIRE": expire,
    b"PEXPIRE": pexpire,
    b"EXPIREAT": expireat,
    b"PEXPIREAT": pexpireat,
    b"TTL": ttl,
    b"PTTL": pttl,
    b"EXPIRETIME": expiretime,
    b"PEXPIRETIME": pexpiretime,
    b"PERSIST": persist,
    b"OBJECT": object_,
    b"MEMORY": memory_usage,
}
