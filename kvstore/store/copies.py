"""How much of what a fork shares has been copied: frames that the processor took for copies."""

from mmcore.jit import kernel
from mmcore.paging import RUN_FRAMES
from mmcore.state import HUGE_COPIED, PAGES_COPIED, TABLES_COPIED


@kernel
def copies_made(space):  # type: ignore[no-untyped-def]
    """Frames that the space's processor has taken for copies since it was made."""
    counters = space.processor
    return counters[PAGES_COPIED] + counters[TABLES_COPIED] + RUN_FRAMES * counters[HUGE_COPIED]
