"""SHA-1 as a kernel: NIST's vectors, and messages of every length beside hashlib's, whole and in pieces."""

import hashlib
import random
import struct

import numpy as np
import pytest

from kvstore.structures.sha1 import HASH_WORDS, STATE, sha1_begin, sha1_end, sha1_update, sha1_words
from mmcore.jit import Array, int64, linked, over, uint8, void, zeros


@linked(void(int64[::1]))
def begin(state):  # type: ignore[no-untyped-def]
    """sha1_begin, for Python."""
    sha1_begin(state)


def hexadecimal(state: Array) -> str:
    return "".join(f"{word:08x}" for word in state[:HASH_WORDS])


def sha1(data: bytes, cuts: tuple[int, ...] = ()) -> str:
    """The hash of `data`, added in the pieces between `cuts`, each from the middle of a larger array."""
    state, at = over(bytearray(b"\xff" * 8 * STATE), int64), 0  # what was there before does not matter
    begin(state)
    for end in (*cuts, len(data)):
        piece = np.frombuffer(b"###" + data[at:end] + b"###", np.uint8)
        sha1_update(state, piece, 3, end - at)
        at = end
    sha1_end(state)
    return hexadecimal(state)


NIST = {
    b"": "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    b"abc": "a9993e364706816aba3e25717850c26c9cd0d89d",
    b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq": "84983e441c3bd26ebaae4aa1f95129e5e54670f1",
    b"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu":
        "a49b2446a02c645bf419f995b67091253a04a259",
    b"a" * 1_000_000: "34aa973cd4c4daa4f61eeb2bdbad27316534016f",
}  # fmt: skip


@pytest.mark.parametrize("message", NIST, ids=lambda message: f"{len(message)} bytes")
def test_the_vectors_of_fips_180(message: bytes) -> None:
    assert sha1(message) == NIST[message]


def test_every_length_around_a_block_is_padded_as_hashlib_pads_it() -> None:
    for length in range(260):
        data = bytes(range(256))[:length] + b"\xff" * max(0, length - 256)
        assert sha1(data) == hashlib.sha1(data).hexdigest(), length


def test_pieces_of_any_length_make_the_same_hash() -> None:
    for seed in range(200):
        rng = random.Random(seed)
        data = rng.randbytes(rng.choice((10, 63, 64, 65, 300, 9000)))
        cuts = tuple(sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(6))))
        assert sha1(data, cuts) == hashlib.sha1(data).hexdigest(), seed


@pytest.mark.parametrize("count", range(14))
def test_words_are_hashed_as_their_big_endian_bytes(count: int) -> None:
    words = [random.Random(count * 100 + i).randrange(1 << 32) for i in range(count)]
    state, room = zeros(int64, STATE), zeros(int64, 20)
    for i in range(count):
        room[3 + i] = words[i]
    sha1_words(state, room, 3, count)
    assert hexadecimal(state) == hashlib.sha1(struct.pack(f">{count}I", *words)).hexdigest()


def test_a_large_message_is_counted_in_more_than_32_bits() -> None:
    """The length in bits takes two words; the first is not zero only beyond 512 MiB."""
    state, piece = zeros(int64, STATE), zeros(uint8, 1 << 24)
    begin(state)
    expected = hashlib.sha1()
    for _ in range(33):
        sha1_update(state, piece, 0, len(piece))
        expected.update(piece)
    sha1_end(state)
    assert hexadecimal(state) == expected.hexdigest()
