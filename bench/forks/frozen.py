"""The cost of reading a frozen store, beside that of reading the store itself.

Method.  A store of `keys` keys is filled by DEBUG POPULATE's kernel and forked.  The frozen root becomes a read-only
store on the same shard: the same kernels, the same processor with its TLB.  A kernel serves GET for keys drawn at
random, once for the owner's store and once for the frozen one, in turn, in `rounds` rounds; what is compared are the
medians, and the median of the rounds' ratios.  Each draws the same keys.

The fork is made anew for each round, and nothing is written after it, so both read the same frames through the same
tables.  Only the first touch of a page differs: in the owner's tables A may have to be set, in the frozen ones it
is left as it is.

Units: ns per GET, by the clock that the kernel reads.

Sources of error: an owner whose pages were all touched long ago, beside a frozen store of pages never touched.
Both are read once before anything is timed.
"""

from typing import Any

import numpy as np

from bench.reporting.report import Report, Say, median, say
from bench.rig.machine import new_clock, now
from kvstore.commands.populate import populate_database
from kvstore.commands.strings.getting import reply_value
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.wiring import OpenStore, Pool, Shard
from kvstore.store.databases import keyspace_init, keyspace_open
from kvstore.store.lookup import lookup_read
from kvstore.system.libc import bytes_at
from kvstore.wire.numerals import put_decimal
from kvstore.wire.resp import reply_grow, reply_truncate
from mmcore.fork import CONSTANT, fork
from mmcore.jit import address_of, build, int64, linked, uint8, zeros
from mmcore.memory import PhysicalMemory
from mmcore.space import AddressSpace

KEYS, READS, ROUNDS = 1_000_000, 500_000, 15
SMOKE: dict[str, Any] = {"keys": 2000, "reads": 2000, "rounds": 3}
PREFIX = b"key:"
_KEY_ROOM = 32
_FRAMES_PER_KEY = 0.05  # with room to spare, for short values
BAR = 1.1


@linked(int64(CONTEXT, int64, int64, int64, int64[::1]))
def random_gets(context, room, keys, reads, clock):  # type: ignore[no-untyped-def]
    """GET for `reads` random keys, whose texts are made at `room` behind the prefix that is there [ns]."""
    seed, found = 88172645463325252, 0
    text = bytes_at(room, _KEY_ROOM)
    before = now(clock)
    for _ in range(reads):
        seed ^= seed << 13
        seed ^= (seed >> 7) & 0x01FF_FFFF_FFFF_FFFF
        seed ^= seed << 17
        size = len(PREFIX) + put_decimal(text, len(PREFIX), (seed & 0x7FFF_FFFF) % keys)
        entry = lookup_read(context, room, size)
        reply_value(context, entry, 0)
        reply_truncate(context, 0)
        found += entry != 0
    after = now(clock)
    return after - before if found == reads else -1


def run(keys: int = KEYS, reads: int = READS, rounds: int = ROUNDS, progress: Say = say) -> Report:
    """Measure both, in turn."""
    report = Report(
        "frozen",
        "The cost of reading a frozen store, beside that of reading the store itself.",
        [f"{keys:,} keys, {reads:,} GETs a round, {rounds} rounds in turn; medians"],
        {"keys": keys, "reads": reads, "rounds": rounds},
    )
    build()
    room = zeros(uint8, _KEY_ROOM)
    room[: len(PREFIX)] = PREFIX
    times: dict[str, list[float]] = {"the store itself": [], "frozen": []}
    with PhysicalMemory((64 << 20) + int(keys * _FRAMES_PER_KEY) * 4096) as memory:
        pool, shard = Pool(memory), Shard(arguments=64)
        owner = OpenStore(pool, shard)
        assert keyspace_init(owner.context) == 0
        reply_grow(owner.context, 1 << 16)
        populate_database(owner.context, 0, keys)
        for number in range(rounds):
            progress(f"frozen, round {number + 1} of {rounds}")
            root = int(fork(owner.context.space, CONSTANT))
            assert root >= 0, "no frame for a root"
            space = AddressSpace.of_root(memory, root, owner.space.epoch, processor=shard.processor, frozen=True)
            frozen = OpenStore(pool, shard, space)
            assert keyspace_open(frozen.context) == 0
            owner.context.registers.FROZEN_ROOTS = 1
            for name, one in zip(times, (owner, frozen), strict=True):
                for timed in (False, True):
                    took = int(random_gets(one.context, address_of(room), keys, reads, new_clock()))
                    assert took >= 0, "a key is missing"
                    if timed:
                        times[name].append(took / reads)
            owner.context.registers.FROZEN_ROOTS = 0
            space.exit()
    table = report.table("GET of a random key", "store", "ns", "slowest round")
    for name, found in times.items():
        table.add(name, median(found), float(np.max(found)))
    ratios = [b / a for a, b in zip(*times.values(), strict=True)]
    report.figure("GET of a random key, frozen over the store itself", median(ratios), at_most=BAR)
    return report
