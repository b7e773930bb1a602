"""The cost of branches and snapshots: their number, the frames that are theirs, and the costliest of them.

A frame that a store's commands have taken is its own until it is free (mmcore/charges.py), even if a snapshot or
another branch alone still holds it.  RESET, RESTORE and DROP end that: what the store took before is nobody's from then
on.  BRANCH INFO finds the frames that a store alone holds by looking at the tables.
"""

from typing import NamedTuple

from kvstore.branches.known import Known, known
from kvstore.branches.named import named
from kvstore.lifetimes.context import CONTEXT, Context, context_at
from kvstore.lifetimes.named import AFTER, CONTEXT_OF_NAMED, KIND, MAIN, SNAPSHOT
from kvstore.lifetimes.pool import NAMED_FIRST
from kvstore.store.reserve import own_frames
from mmcore.jit import int64, linked, void, zeros
from mmcore.paging import PAGE_SIZE

COSTLIEST = 10
_BRANCHES, _SNAPSHOTS, _FRAMES, _FIRST = range(4)
_WORDS = _FIRST + 2 * COSTLIEST  # behind the sums: address and frames of the costliest, the costliest first


@linked(void(CONTEXT, int64[::1]))
def add_costs(context, out):  # type: ignore[no-untyped-def]
    """Sum up all stores but the main one, int64[_WORDS]; `out` begins as zeros."""
    address = context.pool[NAMED_FIRST]
    while address != 0:
        own = named(address)
        if own[KIND] != MAIN:
            frames = own_frames(context_at(own[CONTEXT_OF_NAMED]))
            out[_SNAPSHOTS if own[KIND] == SNAPSHOT else _BRANCHES] += 1
            out[_FRAMES] += frames
            at = COSTLIEST
            while at > 0 and (out[_FIRST + 2 * at - 2] == 0 or out[_FIRST + 2 * at - 1] < frames):
                at -= 1
                if at + 1 < COSTLIEST:
                    out[_FIRST + 2 * at + 2], out[_FIRST + 2 * at + 3] = out[_FIRST + 2 * at], out[_FIRST + 2 * at + 1]
            if at < COSTLIEST:
                out[_FIRST + 2 * at], out[_FIRST + 2 * at + 1] = address, frames
        address = own[AFTER]


class Costs(NamedTuple):
    """Of all stores but the main one."""

    branches: int
    snapshots: int
    own_bytes: int
    costliest: list[tuple[Known, int]]  # and the memory of its own frames [bytes], the costliest first


def costs(context: Context) -> Costs:
    """The cost of branches and snapshots."""
    out = zeros(int64, _WORDS)
    add_costs(context, out)
    pairs = [(out[at], out[at + 1] * PAGE_SIZE) for at in range(_FIRST, _WORDS, 2) if out[at]]
    return Costs(
        out[_BRANCHES], out[_SNAPSHOTS], out[_FRAMES] * PAGE_SIZE, [(known(address), size) for address, size in pairs]
    )
