"""Redis's glob patterns for names that Python matches: of parameters, of commands.

The kernels of glob.py match them without regard to case.  They are imported on first use, because the command line
reads its configuration before it loads any kernel.
"""

from collections.abc import Iterable
from itertools import accumulate


def matching_names(pattern: str, names: Iterable[str]) -> list[str]:
    """Those of `names`, which are ASCII, that match `pattern`.  Raises MemoryError."""
    from kvstore.wire.glob import glob_select
    from mmcore.jit import int64, uint8, zeros

    candidates = list(names)
    raw = pattern.encode(errors="surrogateescape")
    ends = zeros(int64, len(candidates))
    for i, end in enumerate(accumulate(map(len, candidates))):
        ends[i] = end
    selected = zeros(uint8, len(candidates))
    text = "".join(candidates).encode("ascii") or b"\0"
    if glob_select(raw or b"\0", len(raw), text, ends, selected) != 0:
        raise MemoryError("out of memory for a pattern")
    return [name for name, chosen in zip(candidates, selected.tolist(), strict=True) if chosen]
