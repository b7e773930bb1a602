"""Pairs of a key and a number, in memory of the process, sorted by their keys.

    KEY      int64
    NUMBER   what the key belongs to, as the caller counts it

The sort is stable, and its time does not depend on what the keys are: a few pairs are sorted by insertion, and more by
the bytes of their keys, the lowest first (radix sort).  A byte that is the same in all keys costs nothing.
"""

from kvstore.system.libc import bytes_at, free, malloc, words_at
from mmcore.jit import copy_bytes, int64, linked, view, void

KEY, NUMBER = range(2)
PAIR = 2
_FEW = 24  # pairs that are sorted by insertion
_BYTES, _VALUES = 8, 256
_SIGN = 0x80  # negative keys come first


@view
def pairs_at(address, count):  # type: ignore[no-untyped-def]
    """So many pairs, int64[PAIR * count]."""
    return words_at(address, PAIR * count)


@linked(void(int64[::1], int64))
def _insert(pairs, count):  # type: ignore[no-untyped-def]
    """Sort a few pairs."""
    for i in range(1, count):
        key, number, j = pairs[PAIR * i + KEY], pairs[PAIR * i + NUMBER], i
        while j > 0 and pairs[PAIR * (j - 1) + KEY] > key:
            pairs[PAIR * j + KEY], pairs[PAIR * j + NUMBER] = (
                pairs[PAIR * (j - 1) + KEY],
                pairs[PAIR * (j - 1) + NUMBER],
            )
            j -= 1
        pairs[PAIR * j + KEY], pairs[PAIR * j + NUMBER] = key, number


@linked(void(int64[::1], int64, int64[::1]))
def _tally(pairs, count, tallies):  # type: ignore[no-untyped-def]
    """Count how often each byte of the keys has each value: tallies int64[_BYTES * _VALUES]."""
    for i in range(_BYTES * _VALUES):
        tallies[i] = 0
    for i in range(count):
        key = pairs[PAIR * i + KEY]
        for byte in range(_BYTES):
            tallies[_VALUES * byte + ((key >> 8 * byte) & 0xFF)] += 1


@linked(void(int64[::1], int64[::1], int64, int64[::1], int64))
def _distribute(source, target, count, tallies, byte):  # type: ignore[no-untyped-def]
    """Copy the pairs in the order of one byte of their keys."""
    before, base = 0, _VALUES * byte
    flipped = _SIGN if byte == _BYTES - 1 else 0
    for value in range(_VALUES):
        here = tallies[base + (value ^ flipped)]
        tallies[base + (value ^ flipped)] = before
        before += here
    for i in range(count):
        key = source[PAIR * i + KEY]
        slot = base + ((key >> 8 * byte) & 0xFF)
        place = tallies[slot]
        tallies[slot] = place + 1
        target[PAIR * place + KEY], target[PAIR * place + NUMBER] = key, source[PAIR * i + NUMBER]


@linked(int64(int64, int64))
def sort_pairs(address, count):  # type: ignore[no-untyped-def]
    """Sort so many pairs by their keys: 1, or 0 with nothing changed without memory for as many again."""
    if count <= _FEW:
        _insert(pairs_at(address, count), count)
        return 1
    size = 8 * PAIR * count
    spare = malloc(size + 8 * _BYTES * _VALUES)
    if spare == 0:
        return 0
    tallies, source, target = words_at(spare + size, _BYTES * _VALUES), address, spare
    _tally(pairs_at(address, count), count, tallies)
    first = pairs_at(address, count)[KEY]
    for byte in range(_BYTES):
        if tallies[_VALUES * byte + ((first >> 8 * byte) & 0xFF)] != count:
            _distribute(pairs_at(source, count), pairs_at(target, count), count, tallies, byte)
            source, target = target, source
    if source != address:
        copy_bytes(bytes_at(address, size), 0, bytes_at(source, size), 0, size)
    free(spare)
    return 1
