"""The memory's registers: data common to all stores whose frames come from one pool.

With mmcore's Memory, the frames themselves, this is the first of the four lifetimes; see context.py.
"""

(
    # statistics, named as INFO has them
    RELEASE_COUNT,  # old roots waiting to be released, in the ring at RELEASE_ADDRESS; see flush.py
    RELEASE_FIRST,
    RELEASE_ADDRESS,
    FRAMES_IN_FORCE,  # that the store may use in all; see reserve.py
    GIVE_CREDIT,  # frames to give back to the system before the next tick; see flush.py
    GIVE_ALL,  # MEMORY PURGE: none are kept
    FRAMES_ADDRESS,  # of the first byte of the first frame, in the process
    POPULATOR_ADDRESS,  # of the populator's words (mmcore/populate.py), 0 without one
    # named stores: see branches/registry.py
    NAMED_STORES,  # branches and snapshots; the main store is not counted
    NAMES_ADDRESS,  # of the table that finds them by their names
    NAMED_FIRST,  # the eldest of all, the main store; a list
    NAMED_LAST,
    NAMED_NUMBER,  # of the last one made
    NAMED_END_MS,  # before this Unix time none of them ends; NEVER
    LENT_ROOTS,  # frozen roots, of any store, that other threads or comparisons read
    # records of changed keys: see effects/changes.py
    CHANGES_MAX,  # records of a line, a power of two
    CHANGES_BYTES,  # that all of them take
    CHANGES_BYTES_MAX,
) = range(18)
POOL_REGISTERS = 32
assert POOL_REGISTERS >= 18
