"""The hash of keys: every byte counts, every bit moves, and no key can be chosen to collide."""

from itertools import pairwise

import numpy as np
import pytest

from kvstore.structures.hash import hash_bytes
from mmcore.jit import int64, linked, uint8

SEED = 0x1234_5678_9ABC


@linked(int64(uint8[::1], int64, int64, int64))
def hash_of(text, offset, count, seed):  # type: ignore[no-untyped-def]
    """hash_bytes, for Python."""
    return hash_bytes(text, offset, count, seed)


def hashed(key: bytes, seed: int = SEED) -> int:
    text = np.frombuffer(b"<<" + key + b">>>>>>>>", np.uint8).copy()  # the bytes around the key must not matter
    return int(hash_of(text, 2, len(key), seed)) & ((1 << 64) - 1)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 48, 100])
def test_every_bit_of_a_key_changes_about_half_of_the_hash(length: int) -> None:
    key = bytes(range(7, 7 + length))
    before = hashed(key)
    for bit in range(8 * length):
        other = bytearray(key)
        other[bit // 8] ^= 1 << bit % 8
        assert 12 <= (hashed(bytes(other)) ^ before).bit_count() <= 52, f"bit {bit} of {length} bytes"


def test_lengths_of_zeros_differ() -> None:
    hashes = {hashed(bytes(length)) for length in range(200)}
    assert len(hashes) == 200


def test_seeds_differ() -> None:
    assert len({hashed(b"key", seed) for seed in range(1000)}) == 1000


def test_numbered_keys_spread_evenly() -> None:
    counts = np.bincount([hashed(b"key:%012d" % i) & 1023 for i in range(20480)], minlength=1024)
    chi_square = float(((counts - 20.0) ** 2 / 20.0).sum())
    assert chi_square < 1023 + 5 * (2 * 1023) ** 0.5
    tags = {hashed(b"key:%012d" % i) >> 48 for i in range(20480)}
    assert len(tags) > 17000  # of 65536 by chance: 17,600


def test_no_word_of_a_key_makes_the_rest_count_for_nothing() -> None:
    # A factor of zero would lose the state.  The words to try are the function's constants.
    constants = [0x243F6A8885A308D3, 0x13198A2E03707344, 0x24093822299F31D1, 0x082EFA98EC4E6C89, 0]
    for constant in constants:
        word = constant.to_bytes(8, "little")
        for key in (word + b"........" + b"tail" * 5, word + word + b"........", b"........" + word + b"12345678"):
            ends = [key[:8] + bytes([i] * 8) + key[16:] for i in range(8)]
            hashes = [hashed(end) for end in ends]
            assert len(set(hashes)) == len(set(ends))
            assert all((one ^ other).bit_count() > 8 for one, other in pairwise(hashes) if one != other)
