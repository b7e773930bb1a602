"""The state that every kernel of the server takes: the store's address space, the server's registers, the arguments.

`server` is one int64 array; each of its words has a name here.  `args` holds the command at hand: for argument i its
offset in the query buffer and its length, at 2*i and 2*i+1.  Argument 0 is the command's name.
"""

from typing import NamedTuple

import numpy as np
from numba import int64, types

from mmcore.state import SPACE, Space


class Store(NamedTuple):
    """What a kernel of the server takes first."""

    space: Space  # the address space that holds the data
    server: np.ndarray  # int64[REGISTERS]
    args: np.ndarray  # int64[2 * ARGUMENTS_MAX]


STORE = types.NamedTuple((SPACE, int64[::1], int64[::1]), Store)
HANDLER = int64(STORE)  # a command's signature

REGISTERS = 256
ARGUMENTS_MAX = 1 << 24  # arguments of one command; the array is touched only as far as it is used

(
    # the clock, read once a turn of the loop
    NOW_MS,  # Unix time [ms]
    NOW_US,  # Unix time [us]
    # the command at hand
    ARGC,
    QUERY_ADDRESS,  # of the buffer that the arguments' offsets count from
    QUERY_SIZE,  # [bytes]
    DB,  # the connection's database
    CONNECTION,  # the connection's slot
    PROTOCOL,  # 2 or 3
    COMMAND,  # row of the command table
    NO_TOUCH,  # the command leaves the access clock alone
    # the reply under construction
    REPLY_ADDRESS,
    REPLY_CAPACITY,
    REPLY_LENGTH,
    # the store
    DIRTY,  # changes since the last durable snapshot
    MAXMEMORY,  # [bytes], 0 = no limit
    SNAPSHOT_ALIVE,  # a frozen image is being read: reads leave the access clock alone, the index does not shrink
    WATCHES,  # keys watched by all connections together
    RANDOM,  # state of the generator behind RANDOMKEY and sampling
    # statistics, named as INFO has them
    KEYSPACE_HITS,
    KEYSPACE_MISSES,
    EXPIRED_KEYS,
    EXPIRED_STALE_PERC,  # [1/1000 %]
    ACTIVE_EXPIRE_ENABLED,
    LAZYFREE_PENDING,
    LAZYFREED_OBJECTS,
    EVICTED_KEYS,
    LRU_CLOCK,  # Unix time [s]
    # the loop's own registers follow: see loop.py
    LOOP_FIRST,
) = range(28)
