"""How much of what a fork shares has been copied: frames that the processor took for copies."""

from kvstore.lifetimes.pool import LENT_ROOTS, NAMED_STORES
from kvstore.lifetimes.store import FROZEN_ROOTS
from mmcore.jit import kernel
from mmcore.paging import RUN_FRAMES
from mmcore.state import HUGE_COPIED, PAGES_COPIED, TABLES_COPIED


@kernel
def copies_made(space):  # type: ignore[no-untyped-def]
    """Frames that the space's processor has taken for copies since it was made."""
    counters = space.processor
    return counters[PAGES_COPIED] + counters[TABLES_COPIED] + RUN_FRAMES * counters[HUGE_COPIED]


@kernel
def is_shared(context):  # type: ignore[no-untyped-def]
    """Whether other roots may share the store's pages and tables: an image's, a transaction's, a branch's (not 0)."""
    return context.store[FROZEN_ROOTS] | context.pool[NAMED_STORES] | context.pool[LENT_ROOTS]
