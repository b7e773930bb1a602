"""The settings that change machine code, and where it is kept.  Nothing here imports numba.

NUMBA_DISABLE_JIT=1, NUMBA_BOUNDSCHECK=1 and NUMBA_OPT are numba's own variables.  The level of x86-64 is the highest of
LEVELS that the processor has; its names are LLVM's, after the psABI, and what it stands for is listed here by the flags
of /proc/cpuinfo.
"""

import os
from functools import cache
from pathlib import Path

from mmcore.jit.errors import Unsupported

DISABLED = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")
BOUNDSCHECK = os.environ.get("NUMBA_BOUNDSCHECK", "0") not in ("", "0")
OPTIONS = {"nogil": True, "_nrt": False, "error_model": "numpy"}  # of every compilation

_V2 = "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3"
_V3 = "avx avx2 bmi1 bmi2 f16c fma abm movbe xsave"
LEVELS = {"x86-64-v3": {*_V2.split(), *_V3.split()}, "x86-64-v2": set(_V2.split())}


@cache
def level() -> str:
    """The level of x86-64 that kernels are compiled for.  Raises Unsupported."""
    chosen = os.environ.get("NUMBA_CPU_NAME")
    if chosen in LEVELS:
        return chosen
    system = os.uname()
    if system.sysname != "Linux" or system.machine != "x86_64":
        raise Unsupported(f"kernels run on Linux on x86-64, not on {system.sysname} on {system.machine}")
    flags = _processor_flags()
    for name, needed in LEVELS.items():
        if needed <= flags:
            return name
    missing = " ".join(sorted(LEVELS["x86-64-v2"] - flags))
    raise Unsupported(f"the processor is older than x86-64-v2: it lacks {missing}")


def _processor_flags() -> set[str]:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return set(line.partition(":")[2].split())
    return set()


def cache_root() -> Path:
    """The directory below which compiled kernels are kept: $KVSTORE_CACHE_DIR, else the user's cache directory."""
    chosen = os.environ.get("KVSTORE_CACHE_DIR")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kvstore"
