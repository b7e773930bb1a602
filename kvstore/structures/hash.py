"""The hash of keys: 64 bits, seeded, by multiplying to 128 bits and folding.

A round takes sixteen bytes: it mixes two words with constants and the state, multiplies them, and xors the halves of
the product (the construction of wyhash).  The seed is drawn when a store is made, and kept in it.  It is part of both
factors.  So clients can choose neither keys that collide, nor a word that makes a factor zero, which would erase the
state.  The constants are digits of pi.
"""

from mmcore.jit import DISABLED, bytes32, bytes64, int64, intrinsic, kernel
from mmcore.jit.toolchain import ir

_SECRET0 = int64(0x243F6A8885A308D3)
_SECRET1 = int64(0x13198A2E03707344)
_SECRET2 = int64(0x24093822299F31D1)
_SECRET3 = int64(0x082EFA98EC4E6C89)


if DISABLED:

    def _fold(a: int, b: int) -> int:
        product = (int(a) & 0xFFFF_FFFF_FFFF_FFFF) * (int(b) & 0xFFFF_FFFF_FFFF_FFFF)
        folded = (product ^ product >> 64) & 0xFFFF_FFFF_FFFF_FFFF
        return folded - (folded >> 63 << 64)

else:

    @intrinsic
    def _fold(typingctx, a, b):  # type: ignore[no-untyped-def]
        # The two halves of the 128-bit product of a and b, both read as unsigned, xor-ed.
        def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
            wide = ir.IntType(128)
            product = builder.mul(builder.zext(values[0], wide), builder.zext(values[1], wide))
            high = builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))
            return builder.xor(builder.trunc(product, ir.IntType(64)), high)

        return int64(int64, int64), codegen


@kernel
def hash_bytes(text, offset, count, seed):  # type: ignore[no-untyped-def]
    """64-bit hash of `count` bytes of `text` from `offset` on."""
    key, state = seed ^ _SECRET0, _fold(seed ^ _SECRET1, _SECRET2)
    at, end = offset, offset + count
    while end - at > 16:
        state = _fold(bytes64(text, at) ^ key, bytes64(text, at + 8) ^ state)
        at += 16
    # The last words may overlap the words before them.  The length, added at the end, distinguishes such texts.
    first = second = 0
    if count >= 16:
        first, second = bytes64(text, end - 16), bytes64(text, end - 8)
    elif count >= 8:
        first, second = bytes64(text, at), bytes64(text, end - 8)
    elif count >= 4:
        first, second = bytes32(text, at), bytes32(text, end - 4)
    elif count > 0:
        first = int64(text[at]) | int64(text[at + (count >> 1)]) << 8 | int64(text[end - 1]) << 16
    state = _fold(first ^ key, second ^ state)
    return _fold(state ^ _SECRET3, int64(count) ^ key)
