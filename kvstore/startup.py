"""What can begin before the kernels are there: reading the newest image.

Importing numba and loading compiled kernels takes most of a start, on one processor.  The image's pages are meanwhile
read into what will be the physical memory, by threads that need nothing but the operating system.  So nothing that this
module imports may import a kernel.
"""

import os

from kvstore.config import Config
from snapshot.directory import ImageDirectory
from snapshot.preload import Preload

_MEMORY_MIN = 256 << 20


def memory_size(configured: int, maxmemory: int) -> int:
    """Size of the physical memory to reserve [bytes]: as configured, else what the store can come to at most.

    Reserving costs nothing: frames are touched when they are first used.  With maxmemory a snapshot can at worst copy
    every page, so twice that and room for tables; the machine's memory at most, and without it.
    """
    if configured:
        return configured
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if maxmemory:
        return min(max(_MEMORY_MIN, 2 * maxmemory + maxmemory // 4), machine)
    return machine


def preload(config: Config) -> Preload:
    """Begin to read the newest image in the configured directory."""
    images = ImageDirectory(config["dir"], config["dbfilename"])
    return Preload(images, memory_size(config["machine-memory"], config["maxmemory"]))
