"""Pairs are sorted by their keys, and equal ones keep their order."""

import random

import numpy as np
import pytest

from kvstore.structures.pairs import sort_pairs
from tests.mmcore.support import seeds

KEYS = {
    "any": lambda generator: generator.randrange(-(1 << 63), 1 << 63),
    "few": lambda generator: generator.randrange(-3, 3),
    "one byte of them": lambda generator: generator.randrange(256) << 24,
    "equal": lambda generator: -(1 << 63),
}


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("seed", seeds(4))
def test_pairs_are_sorted_and_equal_ones_keep_their_order(kind: str, seed: int) -> None:
    generator = random.Random(seed)
    for count in (0, 1, 2, 24, 25, 300, 5000):
        keys = [KEYS[kind](generator) for _ in range(count)]
        pairs = np.array([word for i, key in enumerate(keys) for word in (key, i)], np.int64)
        assert sort_pairs(pairs.ctypes.data, count) == 1
        expected = sorted(range(count), key=keys.__getitem__)
        assert pairs[1::2].tolist() == expected, (seed, count)
        assert pairs[::2].tolist() == [keys[i] for i in expected], (seed, count)
