"""The files of compiled kernels: their places, their digests, and the check that they are complete.

    DIRECTORY/objects/xx/DIGEST.o       a linked kernel's object code: a line with the function's name, and the code
    DIRECTORY/objects/xx/DIGEST.bc      a leaf's LLVM code for types of arguments, see inlining.py
    DIRECTORY/leaves/DIGEST/            numba's files of a leaf that Python calls
    DIRECTORY/libraries/DIGEST.so       a library of linked kernels, see library.py

A file ends with a checksum of the rest.  It is durable before it gets its name; a leaf's is not, because there are many
and each is made again in no time.  A file that fails its checksum is ignored, and its contents are compiled again.  A
file that has not been used for a month is removed at the next compilation.
"""

import contextlib
import os
import sys
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from mmcore.jit.checksums import DIGEST_SIZE, digest_of
from mmcore.jit.settings import BOUNDSCHECK, OPTIONS, cache_root, level

if TYPE_CHECKING:
    from mmcore.jit.digests import Digests

UNUSED_S = 30 * 86400  # files not used for this long are removed
TOUCH_S = 86400  # the use of a file is recorded once a day


@cache
def digests() -> "Digests":
    """The digests of kernels as this process compiles them."""
    from mmcore.jit.digests import Digests  # only programs that compile need it

    return Digests(f"{tools()} {settings()}")


@cache
def tools() -> str:
    """The versions of the compiler's packages."""
    found = dict.fromkeys(("numba", "llvmlite", "numpy"), "-")
    # This finds the same versions as importlib.metadata, whose import takes a tenth of a start.
    for folder in reversed(sys.path):
        with contextlib.suppress(OSError):
            for name in os.listdir(folder or "."):
                library, dash, rest = name.partition("-")
                if dash and library in found and rest.endswith(".dist-info"):
                    found[library] = rest.removesuffix(".dist-info")
    return ", ".join([f"python {sys.version.split()[0]}", *(f"{name} {version}" for name, version in found.items())])


def settings(assertions: bool = __debug__) -> str:
    """All settings that affect machine code."""
    optimise = os.environ.get("NUMBA_OPT", "")
    return f"{level()} bounds {BOUNDSCHECK} assertions {assertions} optimise {optimise} {sorted(OPTIONS.items())}"


def object_file(digest: str) -> Path:
    """The file of a linked kernel's object code."""
    return cache_root() / "objects" / digest[:2] / f"{digest}.o"


def leaf_file(digest: str) -> Path:
    """The file of a leaf's LLVM code."""
    return cache_root() / "objects" / digest[:2] / f"{digest}.bc"


def library_file(digest: str) -> Path:
    """The file of a library."""
    return cache_root() / "libraries" / f"{digest}.so"


def whole(content: bytes) -> bytes:
    """The bytes of a file followed by their checksum."""
    return content + bytes.fromhex(digest_of(content))


def keep(file: Path, content: bytes, durable: bool = True) -> None:
    """Write a file completely and durably, or not at all.  Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.name}.{os.urandom(4).hex()}")
    try:
        with partial.open("wb") as out:
            out.write(whole(content))
            if durable:
                out.flush()
                os.fsync(out.fileno())
        partial.replace(file)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def read_kept(file: Path) -> bytes | None:
    """The content that `keep` wrote; None if there is no complete file."""
    try:
        data = file.read_bytes()
    except OSError:
        return None
    content, checksum = data[:-DIGEST_SIZE], data[-DIGEST_SIZE:]
    if bytes.fromhex(digest_of(content)) != checksum:
        return None
    with contextlib.suppress(OSError):  # the directory may be read-only
        if time.time() - file.stat().st_mtime > TOUCH_S:
            os.utime(file)
    return content


def remove_unused(now_unix_s: float) -> None:
    """Remove files that have not been used for a month."""
    with contextlib.suppress(OSError):
        for folder in ("objects/*", "libraries"):
            for file in cache_root().glob(f"{folder}/*"):
                if file.is_file() and now_unix_s - file.stat().st_mtime > UNUSED_S:
                    file.unlink(missing_ok=True)
        for leaf in cache_root().glob("leaves/*"):
            newest = max((file.stat().st_mtime for file in leaf.rglob("*")), default=leaf.stat().st_mtime)
            if now_unix_s - newest > UNUSED_S:
                import shutil

                shutil.rmtree(leaf, ignore_errors=True)
