"""Glob patterns, as KEYS and SCAN match them: * ? [abc] [^a-z] and backslash.

Redis's language and its treatment of what is ill-formed, but matched without recursion: only the last star ever needs
another try, so the time is at most the product of the two lengths, whatever the pattern.
"""

from numba import boolean, int64, uint8

from mmcore.jit import kernel, linked

_STAR, _ANY, _OPEN, _CLOSE, _NOT, _RANGE, _ESCAPE = 42, 63, 91, 93, 94, 45, 92


@kernel
def _match_class(pattern, at, end, byte):  # type: ignore[no-untyped-def]
    # Match one byte with the class that opens at `at`: (whether it matches, offset behind the class).
    at += 1
    negated = at < end and pattern[at] == _NOT
    if negated:
        at += 1
    found = False
    while at < end:
        here = int64(pattern[at])
        if here == _ESCAPE and at + 1 < end:
            at += 1
            found = found or int64(pattern[at]) == byte
        elif here == _CLOSE:
            at += 1
            break
        elif at + 2 < end and pattern[at + 1] == _RANGE:
            low, high = min(here, int64(pattern[at + 2])), max(here, int64(pattern[at + 2]))
            found = found or low <= byte <= high
            at += 2
        else:
            found = found or here == byte
        at += 1
    return found != negated, at


@kernel
def _match_one(pattern, at, end, byte):  # type: ignore[no-untyped-def]
    # Match one byte with what stands at `at`, which is no star: (whether it matches, offset behind that).
    here = int64(pattern[at])
    if here == _ANY:
        return True, at + 1
    if here == _OPEN:
        return _match_class(pattern, at, end, byte)
    if here == _ESCAPE and at + 1 < end:
        return int64(pattern[at + 1]) == byte, at + 2
    return here == byte, at + 1


@linked(boolean(uint8[::1], int64, int64, uint8[::1], int64, int64))
def glob_match(pattern, start, length, text, offset, count):  # type: ignore[no-untyped-def]
    """Whether `count` bytes of `text` match the pattern of `length` bytes.

    No star matches the empty text, as in Redis, which asks nothing of a key when the pattern is a single star.
    """
    if count == 0:
        return length == 0
    at, end = start, start + length
    here, stop = offset, offset + count
    star, retry = -1, 0  # behind the last star, and the first byte that it does not yet cover
    while here < stop:
        if at < end and pattern[at] == _STAR:
            at += 1
            star, retry = at, here
            continue
        if at < end:
            matches, behind = _match_one(pattern, at, end, int64(text[here]))
            if matches:
                at = behind
                here += 1
                continue
        if star < 0:
            return False
        retry += 1
        at, here = star, retry
    while at < end and pattern[at] == _STAR:
        at += 1
    return at == end
