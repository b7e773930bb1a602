"""The memory of connections, and maxmemory-clients: the largest are closed when all together take too much.

A connection takes its row, its own buffers, what it has received of a long value, and its interests, watches among
them.  The names of what it is interested in are shared, and count for nobody, as in Redis.  The sum over all
connections is known without looking at them: each change of a buffer changes CLIENT_BUFFERS, and the tables know how
many interests they have.

The loop compares the sum with the limit once a turn.  Over the limit, one walk over the rows finds the largest
connections that may be closed, CLOSED_AT_ONCE at most, and closes them from the largest on until the others fit.  A
connection with CLIENT NO-EVICT is not closed; if there are no others, the next walk waits for a tick.
"""

from kvstore.connections.interests import INTEREST_MEMORY, interest_count, names_memory
from kvstore.connections.pieces import WAITING, pieces_of
from kvstore.connections.table import connection, give_turn
from kvstore.lifetimes.connection import (
    BODY_PAGES,
    CHANNELS_COUNT,
    FIELDS,
    FLAGS,
    IN_USE,
    INPUT_CAPACITY,
    KEYS_COUNT,
    KILLED,
    NO_EVICT,
    OUTPUT_CAPACITY,
    PATTERNS_COUNT,
    PIECES,
    PREFIXES_COUNT,
    QUEUE_CAPACITY,
    SHARD_CHANNELS_COUNT,
    TRACKED_COUNT,
    WATCH_COUNT,
)
from kvstore.lifetimes.context import CONTEXT, context_at
from kvstore.lifetimes.named import AFTER, CONTEXT_OF_NAMED, NAMED_WORDS, USERS
from kvstore.lifetimes.pool import NAMED_FIRST
from kvstore.lifetimes.shard import (
    CLIENT_BUFFERS,
    CONNECTED_CLIENTS,
    CONNECTION_SLOTS,
    EVICTED_CLIENTS,
    EVICTION_REST_MS,
    MAIN_CONTEXT,
    MAXMEMORY_CLIENTS,
    SCRATCH_ADDRESS,
    TICK_MS,
    TIMER_MS,
)
from kvstore.lifetimes.store import INTEREST_TABLES
from kvstore.system.libc import words_at
from mmcore.jit import constant, int64, kernel, linked, view, void
from mmcore.paging import PAGE_SHIFT

CLOSED_AT_ONCE = 64  # connections, in a turn
_TABLES = constant(INTEREST_TABLES, int64)


@kernel
def interests_of(row):  # type: ignore[no-untyped-def]
    """How many interests a connection has."""
    pubsub = row[CHANNELS_COUNT] + row[PATTERNS_COUNT] + row[SHARD_CHANNELS_COUNT]
    return pubsub + row[WATCH_COUNT] + row[KEYS_COUNT] + row[TRACKED_COUNT] + row[PREFIXES_COUNT]


@kernel
def connection_memory(row):  # type: ignore[no-untyped-def]
    """Memory of a connection [bytes]."""
    buffers = row[INPUT_CAPACITY] + row[OUTPUT_CAPACITY] + row[QUEUE_CAPACITY] + (row[BODY_PAGES] << PAGE_SHIFT)
    if row[PIECES] != 0:
        buffers += pieces_of(row)[WAITING]
    return 8 * FIELDS + buffers + INTEREST_MEMORY * interests_of(row)


@kernel
def next_used(context, address):  # type: ignore[no-untyped-def]
    """The named store behind the one at `address` (0: the main one) that connections use; its address, 0 for none."""
    address = context.pool[NAMED_FIRST] if address == 0 else address
    while address != 0:
        address = words_at(address, NAMED_WORDS)[AFTER]
        if address != 0 and words_at(address, NAMED_WORDS)[USERS] > 0:
            break
    return address


@view
def store_of(address):  # type: ignore[no-untyped-def]
    """The registers of the named store at `address`."""
    return context_at(words_at(address, NAMED_WORDS)[CONTEXT_OF_NAMED]).store


@kernel
def _names_in(store):  # type: ignore[no-untyped-def]
    names = 0
    for i in range(len(_TABLES)):
        names += names_memory(store[_TABLES[i]])
    return names


@kernel
def _interests_in(store):  # type: ignore[no-untyped-def]
    interests = 0
    for i in range(len(_TABLES)):
        interests += interest_count(store[_TABLES[i]])
    return interests


@linked(int64(CONTEXT))
def names_of_topics(context):  # type: ignore[no-untyped-def]
    """Memory of the names of all topics, which count for no single connection [bytes]."""
    names, address = _names_in(context_at(context.shard[MAIN_CONTEXT]).store), next_used(context, 0)
    while address != 0:
        names += _names_in(store_of(address))
        address = next_used(context, address)
    return names


@linked(int64(CONTEXT))
def connections_memory(context):  # type: ignore[no-untyped-def]
    """Memory of all connections, without those names [bytes]."""
    shard, address = context.shard, next_used(context, 0)
    interests = _interests_in(context_at(shard[MAIN_CONTEXT]).store)
    while address != 0:
        interests += _interests_in(store_of(address))
        address = next_used(context, address)
    fixed = 8 * FIELDS * shard[CONNECTED_CLIENTS]
    return fixed + shard[CLIENT_BUFFERS] + INTEREST_MEMORY * interests


@kernel
def _survey(context, largest):  # type: ignore[no-untyped-def]
    # (bytes that all connections take but those that are being closed, how many were put in `largest`): the largest
    # of those that may be closed, in falling order, each as its size and its slot.
    total, found = 0, 0
    for slot in range(context.shard[CONNECTION_SLOTS]):
        row = connection(context, slot)
        if row[FLAGS] & (IN_USE | KILLED) != IN_USE:
            continue
        size = connection_memory(row)
        total += size
        if row[FLAGS] & NO_EVICT or (found == CLOSED_AT_ONCE and largest[2 * found - 2] >= size):
            continue
        found = min(found + 1, CLOSED_AT_ONCE)
        at = found - 1
        while at > 0 and largest[2 * at - 2] < size:
            largest[2 * at], largest[2 * at + 1] = largest[2 * at - 2], largest[2 * at - 1]
            at -= 1
        largest[2 * at], largest[2 * at + 1] = size, slot
    return total, found


@linked(void(CONTEXT))
def evict_connections(context):  # type: ignore[no-untyped-def]
    """Close the largest connections if all together take MAXMEMORY_CLIENTS or more."""
    shard = context.shard
    limit = shard[MAXMEMORY_CLIENTS]
    if connections_memory(context) < limit or shard[TIMER_MS] < shard[EVICTION_REST_MS]:
        return
    largest = words_at(shard[SCRATCH_ADDRESS], 2 * CLOSED_AT_ONCE)
    total, found = _survey(context, largest)
    if found == 0:
        shard[EVICTION_REST_MS] = shard[TIMER_MS] + shard[TICK_MS]
    for i in range(found):
        if total < limit:
            break
        slot = largest[2 * i + 1]
        give_turn(context, slot, connection(context, slot), KILLED)
        shard[EVICTED_CLIENTS] += 1
        total -= largest[2 * i]
