"""The register that an element belongs to, and what it says there.

An element is hashed by MurmurHash64A, with Redis's seed, so that sketches mean the same in both servers.  The low 14
bits of the hash are the number of a register.  The value is the place of the lowest bit that is set among the other 50,
counted from 1; 51 if none is.
"""

from mmcore.jit import bytes64, int64, linked, uint8, uint64

REGISTER_BITS = 14
REGISTERS = 1 << REGISTER_BITS
HASH_BITS = 64 - REGISTER_BITS  # those that a value is counted in
VALUE_SHIFT = 16  # of the value, above the register's number
_SEED, _FACTOR, _FOLD = uint64(0xADC83B19), uint64(0xC6A4A7935BD1E995), uint64(47)


@linked(int64(uint8[::1], int64, int64))
def murmur(text, start, count):  # type: ignore[no-untyped-def]
    """MurmurHash64A of `count` bytes of `text` from `start` on."""
    hash_ = _SEED ^ (uint64(count) * _FACTOR)
    end = start + (count & ~7)
    at = start
    while at < end:
        word = uint64(bytes64(text, at)) * _FACTOR
        word ^= word >> _FOLD
        hash_ = (hash_ ^ (word * _FACTOR)) * _FACTOR
        at += 8
    rest = count & 7
    if rest != 0:
        for i in range(rest):
            hash_ ^= uint64(text[at + i]) << uint64(8 * i)
        hash_ *= _FACTOR
    hash_ ^= hash_ >> _FOLD
    hash_ *= _FACTOR
    return int64(hash_ ^ (hash_ >> _FOLD))


@linked(int64(uint8[::1], int64, int64))
def register_of(text, start, count):  # type: ignore[no-untyped-def]
    """The number of the register of an element, which is `count` bytes of `text`, and its value << VALUE_SHIFT."""
    hash_ = uint64(murmur(text, start, count))
    index = int64(hash_ & uint64(REGISTERS - 1))
    rest = int64(hash_ >> uint64(REGISTER_BITS)) | 1 << HASH_BITS
    value = 1
    while rest & 1 == 0:
        value += 1
        rest >>= 1
    return index | value << VALUE_SHIFT
