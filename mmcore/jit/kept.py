"""What is kept of compiled kernels: where, under which digests, and how it is told that a file is whole.

    DIRECTORY/objects/xx/DIGEST.o       a linked kernel's object code, see linking.py
    DIRECTORY/leaves/DIGEST/            what numba keeps of a leaf
    DIRECTORY/digests/DIGEST            the digests of kernels, by a digest of all their sources, see linking.py

A file is a line with the checksum of the rest, and the rest.  It is durable before it gets its name.  A file that fails
its checksum is as good as none: what it held is compiled again.
"""

import os
import platform
from functools import cache
from pathlib import Path

import llvmlite
import numba
import numpy as np

from mmcore.jit.digests import Digests, digest_of

OPTIONS = {"nogil": True, "_nrt": False, "error_model": "numpy"}  # of every compilation


def cache_root() -> Path:
    """The directory below which compiled kernels are kept: $KVSTORE_CACHE_DIR, else the user's cache directory."""
    chosen = os.environ.get("KVSTORE_CACHE_DIR")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kvstore"


@cache
def digests() -> Digests:
    """The digests of kernels as this process compiles them."""
    processor = numba.core.registry.cpu_target.target_context.codegen().magic_tuple()
    settings = (
        platform.python_version(),
        numba.__version__,
        llvmlite.__version__,
        np.__version__,
        f"processor {processor}",
        f"options {sorted(OPTIONS.items())}",
        f"bounds {numba.config.BOUNDSCHECK} optimise {numba.config.OPT} assertions {__debug__}",
    )
    return Digests(" ".join(settings))


def keep(file: Path, content: bytes) -> None:
    """Write a file whole and durable, or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(f".{os.getpid()}")
    with partial.open("wb") as out:
        out.write(digest_of(content).encode() + b"\n" + content)
        out.flush()
        os.fsync(out.fileno())
    partial.replace(file)


def read_kept(file: Path) -> bytes | None:
    """What `keep` wrote; None without a file that is whole."""
    try:
        checksum, _, content = file.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    return content if checksum.decode(errors="replace") == digest_of(content) else None
