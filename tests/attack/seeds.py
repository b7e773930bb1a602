"""Seeds of attacks: their sources, and how to replay one.

    for seed in seeds("images", 200):       # the kept ones, then new ones; KVSTORE_ATTACK_SEED=n: that one only
        with told(seed):                    # a failure names the seed
            ...

A seed that has failed is kept: it is added to KEPT under its attack's name, and is played before all others.
"""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

VARIABLE = "KVSTORE_ATTACK_SEED"

KEPT: dict[str, tuple[int, ...]] = {"careful": (4184117792,)}


def seeds(attack: str, fresh: int) -> Iterator[int]:
    """The kept seeds of an attack, and `fresh` new ones; or only the seed to replay."""
    chosen = os.environ.get(VARIABLE)
    if chosen is not None:
        yield int(chosen)
        return
    yield from KEPT.get(attack, ())
    source = random.SystemRandom()
    for _ in range(fresh):
        yield source.randrange(1 << 32)


@contextmanager
def told(seed: int) -> Iterator[random.Random]:
    """The generator of a seed; failures within the block name the seed."""
    try:
        yield random.Random(seed)
    except BaseException as error:
        error.add_note(f"to play it again: {VARIABLE}={seed}")
        raise
