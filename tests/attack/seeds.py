"""Seeds of attacks: where they come from, and how one is played again.

    for seed in seeds("images", 200):       # the kept ones, then new ones; KVSTORE_ATTACK_SEED=n: that one only
        with told(seed):                    # a failure says which seed it was
            ...

A seed that has failed stays: it is entered in KEPT under its attack's name, and is played before all others.
"""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

VARIABLE = "KVSTORE_ATTACK_SEED"

KEPT: dict[str, tuple[int, ...]] = {}


def seeds(attack: str, fresh: int) -> Iterator[int]:
    """The kept seeds of an attack, and `fresh` that nobody has tried; or the one that is to be played again."""
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
    """The generator of a seed; what fails within names it."""
    try:
        yield random.Random(seed)
    except BaseException as error:
        error.add_note(f"to play it again: {VARIABLE}={seed}")
        raise
