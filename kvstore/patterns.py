"""Redis's glob patterns for names that Python matches: of parameters, commands.

The kernels of glob.py match them, without regard to case.  They are imported when they are first needed, for the
command line reads its configuration before it loads any kernel.
"""

from collections.abc import Iterable

import numpy as np


def matching_names(pattern: str, names: Iterable[str]) -> list[str]:
    """Those of `names`, which are ASCII, that match `pattern`.  Raises MemoryError."""
    from kvstore.glob import glob_select

    candidates = list(names)
    raw = pattern.encode(errors="surrogateescape")
    ends = np.cumsum([len(name) for name in candidates], dtype=np.int64)
    selected = np.zeros(len(candidates), np.uint8)
    text = np.frombuffer("".join(candidates).encode("ascii") or b"\0", np.uint8)
    if glob_select(np.frombuffer(raw or b"\0", np.uint8), len(raw), text, ends, selected) != 0:
        raise MemoryError("out of memory for a pattern")
    return [name for name, chosen in zip(candidates, selected.tolist(), strict=True) if chosen]
