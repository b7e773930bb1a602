"""Random numbers for draws that may be predictable: they are not secure."""

from kvstore.lifetimes.shard import RANDOM
from mmcore.jit import kernel


@kernel
def next_random(context):  # type: ignore[no-untyped-def]
    """A random number below 2^62 (xorshift)."""
    state = context.shard[RANDOM]
    state ^= state << 13
    state ^= (state >> 7) & 0x01FF_FFFF_FFFF_FFFF
    state ^= state << 17
    context.shard[RANDOM] = state
    return state & 0x3FFF_FFFF_FFFF_FFFF
