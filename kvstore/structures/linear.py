"""Linear hashing: the bucket of a hash, in a table that grows by one bucket at a time.

With N buckets, a hash belongs to bucket h mod 2^k, where 2^k is the next power of two >= N.  If that bucket does not
exist yet, it belongs to h mod 2^(k-1) (Litwin, "Linear hashing", VLDB 1980).

A scan's cursor visits the buckets in the order of their reversed binary numbers, as in Redis.
"""

from mmcore.jit import kernel


@kernel
def bucket_mask(buckets):  # type: ignore[no-untyped-def]
    # The next power of two at or above the number of buckets, less one.
    mask = buckets - 1
    mask |= mask >> 1
    mask |= mask >> 2
    mask |= mask >> 4
    mask |= mask >> 8
    mask |= mask >> 16
    return mask


@kernel
def bucket_number(hash_, buckets):  # type: ignore[no-untyped-def]
    """The bucket that a hash belongs to."""
    mask = bucket_mask(buckets)
    number = hash_ & mask
    if number >= buckets:
        number = hash_ & (mask >> 1)
    return number


@kernel
def _reverse(word):  # type: ignore[no-untyped-def]
    # The 32 low bits, in the opposite order.
    word = ((word >> 1) & 0x5555_5555) | ((word & 0x5555_5555) << 1)
    word = ((word >> 2) & 0x3333_3333) | ((word & 0x3333_3333) << 2)
    word = ((word >> 4) & 0x0F0F_0F0F) | ((word & 0x0F0F_0F0F) << 4)
    word = ((word >> 8) & 0x00FF_00FF) | ((word & 0x00FF_00FF) << 8)
    return ((word >> 16) & 0xFFFF) | ((word & 0xFFFF) << 16)


@kernel
def scan_bucket(cursor, buckets):  # type: ignore[no-untyped-def]
    """The bucket at a cursor."""
    return bucket_number(cursor, buckets)


@kernel
def scan_next(cursor, buckets):  # type: ignore[no-untyped-def]
    """The cursor of the bucket behind this one; 0 behind the last."""
    mask = bucket_mask(buckets)
    if cursor & mask >= buckets:
        mask >>= 1
    elif cursor & mask <= mask >> 1 and (cursor & mask) + ((mask + 1) >> 1) >= buckets:
        mask >>= 1  # a bucket that was not split in this round represents both halves
    # Count up in the reversed bits of the bucket's number.  The bits above it become ones, so the carry starts there.
    reversed_ = _reverse((cursor & mask) | (~mask & 0xFFFF_FFFF))
    return _reverse((reversed_ + 1) & 0xFFFF_FFFF)
