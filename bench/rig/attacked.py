"""The target of the rates of fuzzers, in fuzz.py and osfuzz.py: a loaded store, and a source of inputs for it.

Inputs consist of commands whose time does not depend on the number of keys, without PFSELFTEST, which takes
milliseconds; a string is limited to 1 MiB.  Otherwise a few inputs would take most of the time.
"""

import random

from kvstore.fuzz.inputs import Inputs
from kvstore.fuzz.target import PLAYED, Target
from mmcore.jit import build

LEFT_OUT = ("keys", "scan", "flushall", "flushdb", "pfselftest")
COMMANDS = tuple(row for row in PLAYED if row.name not in LEFT_OUT)
BULK_MAX = 1 << 20


def attacked(keys: int, value_size: int, *, huge_pages: bool = True) -> Target:
    """A store of so many strings."""
    build()
    target = Target(keys, value_size, huge_pages=huge_pages)
    target.registers.PROTO_MAX_BULK_LEN = BULK_MAX
    return target


def source(keys: int) -> Inputs:
    """A source of inputs, which are the same ones in every process."""
    return Inputs(random.Random(1), keys, COMMANDS)
