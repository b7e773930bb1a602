"""The kind of a root, in the three low bits of its first byte.

PACKED   packed.py: some items in one allocation; a short list
INTS     ints.py: a sorted set of integers in one allocation
RECORD   record.py: the root of a hash table, a tree, or both
CHAIN    chain.py: some elements in a few blocks; a small hash, set or sorted set
STREAM   stream.py: the root of a stream, which names records
"""

from mmcore.jit import kernel
from mmcore.mmu import load8

PACKED, INTS, RECORD, CHAIN, STREAM = 1, 2, 3, 4, 5
KIND_MASK = 7


@kernel
def kind_of(space, root):  # type: ignore[no-untyped-def]
    """PACKED, INTS, RECORD, CHAIN or STREAM."""
    return load8(space, root) & KIND_MASK
