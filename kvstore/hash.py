"""The hash of keys: 64 bits, seeded, by multiplying to 128 and folding.

Sixteen bytes a round: two words, mixed with constants and what came before, are multiplied and the halves of the
product xor-ed (the construction of wyhash).  The seed is drawn when a store is made and kept in it, so clients cannot
choose keys that collide.  Constants are digits of pi.
"""

import numba
import numpy as np
from llvmlite import ir
from numba import int64
from numba.extending import intrinsic

from mmcore.jit import bytes64, kernel

_SECRET0 = np.int64(0x243F6A8885A308D3)
_SECRET1 = np.int64(0x13198A2E03707344)
_SECRET2 = np.int64(0x24093822299F31D1)
_SECRET3 = np.int64(0x082EFA98EC4E6C89)


@intrinsic
def _fold(typingctx, a, b):  # type: ignore[no-untyped-def]
    # The two halves of the 128-bit product of a and b, both read as unsigned, xor-ed.
    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(values[0], wide), builder.zext(values[1], wide))
        high = builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))
        return builder.xor(builder.trunc(product, ir.IntType(64)), high)

    return numba.int64(int64, int64), codegen


@kernel
def _tail(text, offset, count):  # type: ignore[no-untyped-def]
    # Up to 7 bytes as one word.
    word = 0
    for i in range(count):
        word |= int64(text[offset + i]) << (8 * i)
    return word


@kernel
def hash_bytes(text, offset, count, seed):  # type: ignore[no-untyped-def]
    """64-bit hash of `count` bytes of `text` from `offset` on."""
    state = seed ^ _SECRET0
    at, left = offset, count
    while left >= 16:
        state = _fold(bytes64(text, at) ^ _SECRET1, bytes64(text, at + 8) ^ state)
        at += 16
        left -= 16
    first = second = 0
    if left >= 8:
        first = bytes64(text, at)
        second = _tail(text, at + 8, left - 8)
    else:
        first = _tail(text, at, left)
    state = _fold(first ^ _SECRET2, second ^ state)
    return _fold(state ^ _SECRET3, int64(count) ^ _SECRET1)
