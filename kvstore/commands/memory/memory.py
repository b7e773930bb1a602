"""MEMORY: the uses of memory."""

from typing import TYPE_CHECKING

from kvstore.commands.usage import PAGE_SIZE, memory_figures, memory_ratios
from kvstore.wire.reply import OK, Reply, Verbatim

if TYPE_CHECKING:
    from kvstore.commands.coldplane import Client, Server


def _keys(server: "Server") -> int:
    return sum(one.keys for one in server.db_sizes())


def memory_stats(server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    """MEMORY STATS"""
    of, keys = memory_figures(server), _keys(server)
    used, ratios, shares = of["used"], memory_ratios(of), server.held()
    databases: dict[str, Reply] = {
        f"db.{number}": {
            "overhead.hashtable.main": of["index"] * one.keys // keys,
            "overhead.hashtable.expires": 0,
            "overhead.hashtable.slot-to-keys": 0,
        }
        for number, one in enumerate(server.db_sizes())
        if one.keys
    }
    return {
        "peak.allocated": of["peak"],
        "total.allocated": used,
        "startup.allocated": 0,
        "replication.backlog": 0,
        "clients.slaves": 0,
        "clients.normal": of["clients"],
        "cluster.links": 0,
        "aof.buffer": 0,
        "lua.caches": 0,
        "functions.caches": 0,
        **databases,
        "overhead.total": of["overhead"],
        "keys.count": keys,
        "keys.bytes-per-key": (of["heap"] + of["index"]) // keys if keys else 0,
        "dataset.bytes": of["dataset"],
        "dataset.percentage": 100 * of["dataset"] / used if used else 0.0,
        "peak.percentage": 100 * used / of["peak"] if of["peak"] else 0.0,
        "allocator.allocated": of["allocated"],
        "allocator.active": of["active"],
        "allocator.resident": of["resident"],
        "allocator-fragmentation.ratio": ratios.fragmentation.ratio,
        "allocator-fragmentation.bytes": ratios.fragmentation.bytes,
        "allocator-rss.ratio": ratios.kept.ratio,
        "allocator-rss.bytes": ratios.kept.bytes,
        "rss-overhead.ratio": ratios.overhead.ratio,
        "rss-overhead.bytes": ratios.overhead.bytes,
        "fragmentation": ratios.whole.ratio,
        "fragmentation.bytes": ratios.whole.bytes,
        "store.rss": shares.rss,
        "store.shared": shares.shared,
        "store.private": shares.private,
    }


def memory_doctor(server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    """MEMORY DOCTOR"""
    of, frames = memory_figures(server), server.frames()
    found = []
    if frames.free < frames.in_force // 10:
        share = 100 * frames.free / frames.in_force
        found.append(f"Only {share:.1f}% of the frames are free: raise machine-memory, or set maxmemory below it.")
    limit = server.config["maxmemory"]
    if limit and of["heap"] + of["index"] > 0.9 * limit:
        found.append("More than 90% of maxmemory is used: writes will soon be refused.")
    if of["clients"] > 100 << 20:
        found.append("Connections hold more than 100 MB of unread replies and unfinished commands: see CLIENT LIST.")
    if of["heap"] > 8 << 20 and of["active"] > 2 * (of["heap"] + of["index"]):
        found.append("Pages take twice what is kept in them: many keys were deleted, or a snapshot is being written.")
    return Verbatim("".join(f"* {line}\n" for line in found) or "No problems with memory were found.\n")


def memory_malloc_stats(server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    """MEMORY MALLOC-STATS"""
    usage, frames = server.usage(), server.frames()
    figures = {
        "frames": f"{frames.in_force} of {PAGE_SIZE} bytes, {frames.free} free, {frames.kept} of them kept",
        "heap": f"{usage.heap} bytes in live allocations",
        "index": f"{usage.indices} bytes",
        **server.space.counters,
    }
    return Verbatim("".join(f"{name}: {figure}\n" for name, figure in figures.items()))


def memory_purge(server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    """MEMORY PURGE"""
    server.purge()
    return OK
