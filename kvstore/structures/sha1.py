"""SHA-1 (FIPS 180-4) as kernels, for Redis's DEBUG DIGEST.

A state is int64[STATE], made by its caller and used again for the next hash:

    WORD    DESCRIPTION
    0 .. 4  the hash, 32 bits in each word
    5       bytes consumed so far
    6 .. 21 the incomplete block, 16 big-endian words of 32 bits

    sha1_begin(state); sha1_update(state, text, offset, count); ...; sha1_end(state)

A message may be added in pieces of any length; a value that crosses pages needs that.  A block of 64 bytes costs about
0.4 us.  SHA-1 only distinguishes data here; it is no longer secure against attacks.
"""

from mmcore.jit import bytes32, int64, kernel, linked, uint8, void

HASH_WORDS = 5
STATE = 22
_COUNT, _BLOCK = 5, 6
_BLOCK_BYTES = 64
_MASK = 0xFFFF_FFFF
_INITIAL = 0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0
_INITIAL0, _INITIAL1, _INITIAL2, _INITIAL3, _INITIAL4 = _INITIAL
_ROUND0, _ROUND1, _ROUND2, _ROUND3 = 0x5A827999, 0x6ED9EBA1, 0x8F1BBCDC, 0xCA62C1D6


@kernel
def _rotate(word, by):  # type: ignore[no-untyped-def]
    return ((word << by) | (word >> (32 - by))) & _MASK


@kernel
def _swap(word):  # type: ignore[no-untyped-def]
    # The four bytes in the opposite order.
    return (word & 255) << 24 | (word & 0xFF00) << 8 | (word >> 8) & 0xFF00 | word >> 24


@kernel
def _schedule(state, t):  # type: ignore[no-untyped-def]
    # Word t of the message schedule; it overwrites a word of the block that is no longer needed.
    here = _BLOCK + (t & 15)
    if t < 16:
        return state[here]
    word = state[_BLOCK + ((t - 3) & 15)] ^ state[_BLOCK + ((t - 8) & 15)] ^ state[_BLOCK + ((t - 14) & 15)]
    word = _rotate(word ^ state[here], 1)
    state[here] = word
    return word


@linked(void(int64[::1]))
def _fold_block(state):  # type: ignore[no-untyped-def]
    """Fold the whole block into the hash."""
    a, b, c, d, e = state[0], state[1], state[2], state[3], state[4]
    for t in range(20):
        mixed = (b & c) | (~b & d)
        a, b, c, d, e = (_rotate(a, 5) + mixed + e + _ROUND0 + _schedule(state, t)) & _MASK, a, _rotate(b, 30), c, d
    for t in range(20, 40):
        mixed = b ^ c ^ d
        a, b, c, d, e = (_rotate(a, 5) + mixed + e + _ROUND1 + _schedule(state, t)) & _MASK, a, _rotate(b, 30), c, d
    for t in range(40, 60):
        mixed = (b & c) | (b & d) | (c & d)
        a, b, c, d, e = (_rotate(a, 5) + mixed + e + _ROUND2 + _schedule(state, t)) & _MASK, a, _rotate(b, 30), c, d
    for t in range(60, 80):
        mixed = b ^ c ^ d
        a, b, c, d, e = (_rotate(a, 5) + mixed + e + _ROUND3 + _schedule(state, t)) & _MASK, a, _rotate(b, 30), c, d
    state[0] = (state[0] + a) & _MASK
    state[1] = (state[1] + b) & _MASK
    state[2] = (state[2] + c) & _MASK
    state[3] = (state[3] + d) & _MASK
    state[4] = (state[4] + e) & _MASK


@kernel
def sha1_begin(state):  # type: ignore[no-untyped-def]
    """Begin a hash and discard the old state."""
    state[0], state[1], state[2], state[3], state[4] = _INITIAL0, _INITIAL1, _INITIAL2, _INITIAL3, _INITIAL4
    state[_COUNT] = 0


@kernel
def _take_byte(state, byte):  # type: ignore[no-untyped-def]
    at = state[_COUNT] & (_BLOCK_BYTES - 1)
    word = _BLOCK + (at >> 2)
    state[word] = byte if at & 3 == 0 else state[word] << 8 | byte
    state[_COUNT] += 1
    if at == _BLOCK_BYTES - 1:
        _fold_block(state)


@linked(void(int64[::1], uint8[::1], int64, int64))
def sha1_update(state, text, offset, count):  # type: ignore[no-untyped-def]
    """Add text[offset : offset + count] to the message."""
    at, end = offset, offset + count
    while at < end:
        if state[_COUNT] & (_BLOCK_BYTES - 1) == 0 and end - at >= _BLOCK_BYTES:
            for i in range(_BLOCK_BYTES >> 2):
                state[_BLOCK + i] = _swap(bytes32(text, at + 4 * i))
            state[_COUNT] += _BLOCK_BYTES
            _fold_block(state)
            at += _BLOCK_BYTES
        else:
            _take_byte(state, int64(text[at]))
            at += 1


@linked(void(int64[::1]))
def sha1_end(state):  # type: ignore[no-untyped-def]
    """Pad the message and fold it in; state[:HASH_WORDS] becomes its hash."""
    bits = 8 * state[_COUNT]
    _take_byte(state, 0x80)
    while state[_COUNT] & (_BLOCK_BYTES - 1) != _BLOCK_BYTES - 8:
        _take_byte(state, 0)
    state[_BLOCK + 14], state[_BLOCK + 15] = bits >> 32, bits & _MASK
    _fold_block(state)


@linked(void(int64[::1], int64[::1], int64, int64))
def sha1_words(state, words, at, count):  # type: ignore[no-untyped-def]
    """state[:HASH_WORDS] becomes the hash of `count` big-endian 32-bit words, at most 13, at words[at:]."""
    sha1_begin(state)
    for i in range(15):
        state[_BLOCK + i] = words[at + i] if i < count else 0
    state[_BLOCK + count] = 0x8000_0000
    state[_BLOCK + 15] = 32 * count
    _fold_block(state)
