"""Glob patterns, as KEYS and SCAN match them: * ? [abc] [^a-z] and backslash.

The language is Redis's, and so is the treatment of ill-formed patterns.  A class that is not closed ends with the
pattern.  A range may be written backwards.  Bytes in a range compare as signed ones.  A backslash at the end stands for
itself.  An empty class matches nothing.  Names match without regard to case; then a byte behind a backslash in a class
keeps its case, and the ends of a range are lowered after they were put in order.

A pattern is a sequence of stars and of items, each of which takes one byte.  A command opens its pattern once.  That
counts the items, so that texts with fewer bytes are rejected at once.  The pattern is compiled for the first text that
is long enough.  So the memory for that depends on the length of an existing text, and not on the input of a client:

    codes      int32 an item: a byte (0 to 255), any byte (256), or class k (257 + k)
    classes    4 words a class: the set of its bytes
    segments   items between two stars: first item, number, address of the search's tables once it is hard

The items before the first star are compared with the beginning of the text, and the items behind the last star with its
end.  Each segment between two stars is searched for.  Its leftmost place is always right, because every item takes one
byte, so the search never backtracks.  It compares place by place.  When it has compared 8 times as many bytes as it has
passed, the search is hard, and continues with another algorithm.  For a segment of bytes alone this is Knuth, Morris
and Pratt's, which is linear.  For any other it is shift-and (Baeza-Yates and Gonnet, CACM 1992), which takes a step of
one word for each 64 items and byte.
"""

from kvstore.system.libc import bytes_at, free, ints_at, malloc, words_at
from mmcore.jit import int64, kernel, linked, uint8

_STAR, _ANY, _OPEN, _CLOSE, _NOT, _RANGE, _ESCAPE = 42, 63, 91, 93, 94, 45, 92
ANY, CLASS = 256, 257  # codes of items
NAIVE, NAIVE_MIN = 8, 64  # comparisons per byte passed, and beside those, until a search changes its algorithm
(
    _ADDRESS,  # of the pattern's bytes, which must not move while it is open
    _LENGTH,
    _NO_CASE,  # 1 to disregard case
    _ITEMS,
    _CLASSES,
    _SEGMENTS,  # one more than stars
    _CODES_ADDRESS,  # 0 until it is compiled
    _CLASSES_ADDRESS,
    _SEGMENTS_ADDRESS,
    _WORK,  # items compared with bytes in searches, and steps of the other algorithms
    _HEADER,
) = range(11)
_FIRST, _COUNT, _SEARCH, _SEGMENT_WIDTH = range(4)
_NO_MEMORY = -2


@kernel
def _lower(byte):  # type: ignore[no-untyped-def]
    return byte + 32 if 65 <= byte <= 90 else byte


@kernel
def _signed(byte):  # type: ignore[no-untyped-def]
    return byte - 256 if byte >= 128 else byte


@kernel
def _add_to_class(words, at, byte, no_case):  # type: ignore[no-untyped-def]
    words[at + (byte >> 6)] |= 1 << (byte & 63)
    if no_case:
        lower = _lower(byte)
        words[at + (lower >> 6)] |= 1 << (lower & 63)
        if 97 <= lower <= 122:
            words[at + ((lower - 32) >> 6)] |= 1 << ((lower - 32) & 63)


@kernel
def _in_class(words, at, byte):  # type: ignore[no-untyped-def]
    return (words[at + (byte >> 6)] >> (byte & 63)) & 1 != 0


@kernel
def _fill(words, at, low, high):  # type: ignore[no-untyped-def]
    # Add the bytes low to high, none if low > high.
    for k in range(4):
        first, last = max(low, 64 * k), min(high, 64 * k + 63)
        if first <= last:
            count = last - first + 1
            ones = -1 if count == 64 else (1 << count) - 1
            words[at + k] |= ones << (first & 63)


@kernel
def _add_range(words, at, first, last, no_case):  # type: ignore[no-untyped-def]
    low, high = min(_signed(first), _signed(last)), max(_signed(first), _signed(last))
    if no_case:
        # Bytes are compared in lower case, which no capital is: add the capitals whose lower form is in the set.
        low, high = _lower(low), _lower(high)
        _fill(words, at, max(low, 0), min(high, 64))
        _fill(words, at, max(low, 91), high)
        _fill(words, at, max(low, 97) - 32, min(high, 122) - 32)
    else:
        _fill(words, at, max(low, 0), high)
    _fill(words, at, low + 256, min(high, -1) + 256)


@kernel
def _class_end(pattern, at, end):  # type: ignore[no-untyped-def]
    # The place in the pattern behind the class that opens at `at`.
    at += 1
    if at < end and pattern[at] == _NOT:
        at += 1
    while at < end:
        if pattern[at] == _ESCAPE and at + 1 < end:
            at += 2
        elif pattern[at] == _CLOSE:
            return at + 1
        elif at + 2 < end and pattern[at + 1] == _RANGE:
            at += 3
        else:
            at += 1
    return end


@kernel
def _read_class(pattern, at, end, words, place, no_case):  # type: ignore[no-untyped-def]
    # Write the set of the class that opens at `at` to the four words at `place`; returns the place behind the class.
    for i in range(4):
        words[place + i] = 0
    at += 1
    negated = at < end and pattern[at] == _NOT
    if negated:
        at += 1
    while at < end:
        here = int64(pattern[at])
        if here == _ESCAPE and at + 1 < end:
            _add_to_class(words, place, int64(pattern[at + 1]), 0)
            at += 2
        elif here == _CLOSE:
            at += 1
            break
        elif at + 2 < end and pattern[at + 1] == _RANGE:
            _add_range(words, place, here, int64(pattern[at + 2]), no_case)
            at += 3
        else:
            _add_to_class(words, place, here, no_case)
            at += 1
    if negated:
        for i in range(4):
            words[place + i] = ~words[place + i]
    return at


@linked(int64(int64, int64, int64))
def glob_open(address, length, no_case):  # type: ignore[no-untyped-def]
    """Open the pattern of `length` bytes at `address`; returns a handle for the other functions, 0 without memory."""
    program = malloc(_HEADER * 8)
    if program == 0:
        return 0
    pattern = bytes_at(address, length)
    items = classes = stars = at = 0
    while at < length:
        here = int64(pattern[at])
        if here == _STAR:
            stars += 1
            while at < length and pattern[at] == _STAR:
                at += 1
            continue
        items += 1
        if here == _OPEN:
            classes += 1
            at = _class_end(pattern, at, length)
        else:
            at += 2 if here == _ESCAPE and at + 1 < length else 1
    header = words_at(program, _HEADER)
    header[_ADDRESS], header[_LENGTH], header[_NO_CASE] = address, length, no_case
    header[_ITEMS], header[_CLASSES], header[_SEGMENTS] = items, classes, stars + 1
    header[_CODES_ADDRESS] = header[_CLASSES_ADDRESS] = header[_SEGMENTS_ADDRESS] = header[_WORK] = 0
    return program


@linked(int64(int64))
def glob_work(program):  # type: ignore[no-untyped-def]
    """The work of the searches so far: items compared with bytes, and steps of one word."""
    return words_at(program, _HEADER)[_WORK]


@linked(int64(int64))
def glob_hard(program):  # type: ignore[no-untyped-def]
    """How many segments have needed another search algorithm so far."""
    header, hard = words_at(program, _HEADER), 0
    if header[_SEGMENTS_ADDRESS] != 0:
        segments = words_at(header[_SEGMENTS_ADDRESS], header[_SEGMENTS] * _SEGMENT_WIDTH)
        for i in range(header[_SEGMENTS]):
            hard += segments[i * _SEGMENT_WIDTH + _SEARCH] != 0
    return hard


@kernel
def glob_least(program):  # type: ignore[no-untyped-def]
    """The least number of bytes of a matching text."""
    return words_at(program, _HEADER)[_ITEMS]


@kernel
def _free_program(header):  # type: ignore[no-untyped-def]
    if header[_SEGMENTS_ADDRESS] != 0:
        segments = words_at(header[_SEGMENTS_ADDRESS], header[_SEGMENTS] * _SEGMENT_WIDTH)
        for i in range(header[_SEGMENTS]):
            free(segments[i * _SEGMENT_WIDTH + _SEARCH])
    free(header[_CODES_ADDRESS])
    free(header[_CLASSES_ADDRESS])
    free(header[_SEGMENTS_ADDRESS])


@kernel
def glob_close(program):  # type: ignore[no-untyped-def]
    """Free an open pattern; does nothing for 0."""
    if program != 0:
        _free_program(words_at(program, _HEADER))
        free(program)


@linked(int64(int64))
def _compile(program):  # type: ignore[no-untyped-def]
    """Compile an open pattern: 0, or _NO_MEMORY with nothing changed."""
    header = words_at(program, _HEADER)
    items, no_case, end = header[_ITEMS], header[_NO_CASE], header[_LENGTH]
    codes_address, classes_address = malloc(4 * items + 4), malloc(32 * header[_CLASSES] + 32)
    segments_address = malloc(8 * _SEGMENT_WIDTH * header[_SEGMENTS])
    if codes_address == 0 or classes_address == 0 or segments_address == 0:
        free(codes_address)
        free(classes_address)
        free(segments_address)
        return _NO_MEMORY
    pattern = bytes_at(header[_ADDRESS], end)
    codes, classes = ints_at(codes_address, items), words_at(classes_address, 4 * header[_CLASSES] + 4)
    segments = words_at(segments_address, _SEGMENT_WIDTH * header[_SEGMENTS])
    item = segment = kept = at = 0
    segments[_FIRST] = segments[_SEARCH] = 0
    while at < end:
        here = int64(pattern[at])
        if here == _STAR:
            while at < end and pattern[at] == _STAR:
                at += 1
            segments[segment * _SEGMENT_WIDTH + _COUNT] = item - segments[segment * _SEGMENT_WIDTH + _FIRST]
            segment += 1
            segments[segment * _SEGMENT_WIDTH + _FIRST] = item
            segments[segment * _SEGMENT_WIDTH + _SEARCH] = 0
            continue
        code = here
        if here == _OPEN:
            at = _read_class(pattern, at, end, classes, 4 * kept, no_case)
            code = CLASS + kept
            kept += 1
        elif here == _ANY:
            code = ANY
            at += 1
        else:
            if here == _ESCAPE and at + 1 < end:
                at += 1
                code = int64(pattern[at])
            at += 1
            if no_case:
                code = _lower(code)
        codes[item] = code
        item += 1
    segments[segment * _SEGMENT_WIDTH + _COUNT] = item - segments[segment * _SEGMENT_WIDTH + _FIRST]
    header[_CODES_ADDRESS], header[_CLASSES_ADDRESS], header[_SEGMENTS_ADDRESS] = (
        codes_address,
        classes_address,
        segments_address,
    )
    return 0


@kernel
def _takes(code, classes, byte, no_case):  # type: ignore[no-untyped-def]
    # Whether an item matches a byte.
    if code < ANY:
        return code == (_lower(byte) if no_case else byte)
    return code == ANY or _in_class(classes, 4 * (code - CLASS), byte)


@kernel
def _all_take(codes, first, count, classes, text, at, no_case):  # type: ignore[no-untyped-def]
    # How many items from `first` on match the bytes from `at` on, up to the first mismatch.
    i = 0
    while i < count and _takes(int64(codes[first + i]), classes, int64(text[at + i]), no_case):
        i += 1
    return i


@linked(int64(int64, int64, uint8[::1], int64, int64))
def _search_bytes(program, segment, text, start, stop):  # type: ignore[no-untyped-def]
    """The first place of a segment of bytes alone in text[start:stop]; -1 for none, or _NO_MEMORY."""
    header = words_at(program, _HEADER)
    segments = words_at(header[_SEGMENTS_ADDRESS], _SEGMENT_WIDTH * header[_SEGMENTS])
    row, no_case = segment * _SEGMENT_WIDTH, header[_NO_CASE]
    first, count = segments[row + _FIRST], segments[row + _COUNT]
    codes = ints_at(header[_CODES_ADDRESS], header[_ITEMS])
    if segments[row + _SEARCH] == 0:
        address = malloc(8 * count)
        if address == 0:
            return _NO_MEMORY
        segments[row + _SEARCH] = address
        borders = words_at(address, count)  # the longest proper prefix of the first i + 1 items that is also a suffix
        borders[0] = border = 0
        for i in range(1, count):
            while border > 0 and codes[first + border] != codes[first + i]:
                border = borders[border - 1]
            if codes[first + border] == codes[first + i]:
                border += 1
            borders[i] = border
    borders = words_at(segments[row + _SEARCH], count)
    matched = 0
    for at in range(start, stop):
        byte = _lower(int64(text[at])) if no_case else int64(text[at])
        while matched > 0 and codes[first + matched] != byte:
            matched = borders[matched - 1]
        if codes[first + matched] == byte:
            matched += 1
        if matched == count:
            header[_WORK] += 2 * (at + 1 - start)
            return at + 1 - count
    header[_WORK] += 2 * (stop - start)
    return -1


@linked(int64(int64, int64, uint8[::1], int64, int64))
def _search_items(program, segment, text, start, stop):  # type: ignore[no-untyped-def]
    """Where a segment first stands in text[start:stop]; -1 for nowhere, or _NO_MEMORY."""
    header = words_at(program, _HEADER)
    segments = words_at(header[_SEGMENTS_ADDRESS], _SEGMENT_WIDTH * header[_SEGMENTS])
    row, no_case = segment * _SEGMENT_WIDTH, header[_NO_CASE]
    first, count = segments[row + _FIRST], segments[row + _COUNT]
    width = (count + 63) >> 6
    if segments[row + _SEARCH] == 0:
        address = malloc(8 * width * 257)
        if address == 0:
            return _NO_MEMORY
        segments[row + _SEARCH] = address
        # For each byte the set of items that match it, one bit for each item.
        takers = words_at(address, 256 * width)
        codes = ints_at(header[_CODES_ADDRESS], header[_ITEMS])
        classes = words_at(header[_CLASSES_ADDRESS], 4 * header[_CLASSES] + 4)
        for i in range(256 * width):
            takers[i] = 0
        for i in range(count):
            code, word, bit = int64(codes[first + i]), i >> 6, 1 << (i & 63)
            if code < ANY and not no_case:
                takers[code * width + word] |= bit
                continue
            for byte in range(256):
                if _takes(code, classes, byte, no_case):
                    takers[byte * width + word] |= bit
    takers = words_at(segments[row + _SEARCH], 256 * width)
    state = words_at(segments[row + _SEARCH] + 8 * width * 256, width)  # items that end a match so far
    for i in range(width):
        state[i] = 0
    last, done = width - 1, 1 << ((count - 1) & 63)
    for at in range(start, stop):
        taking = int64(text[at]) * width
        for k in range(last, 0, -1):
            carry = (state[k - 1] >> 63) & 1
            state[k] = ((state[k] << 1) | carry) & takers[taking + k]
        state[0] = ((state[0] << 1) | 1) & takers[taking]
        if state[last] & done != 0:
            header[_WORK] += width * (at + 1 - start)
            return at + 1 - count
    header[_WORK] += width * (stop - start)
    return -1


@linked(int64(int64, int64, uint8[::1], int64, int64))
def _search(program, segment, text, start, stop):  # type: ignore[no-untyped-def]
    """Where a segment first stands in text[start:stop]; -1 for nowhere, or _NO_MEMORY."""
    header = words_at(program, _HEADER)
    segments = words_at(header[_SEGMENTS_ADDRESS], _SEGMENT_WIDTH * header[_SEGMENTS])
    first = segments[segment * _SEGMENT_WIDTH + _FIRST]
    count = segments[segment * _SEGMENT_WIDTH + _COUNT]
    codes, no_case = ints_at(header[_CODES_ADDRESS], header[_ITEMS]), header[_NO_CASE]
    classes = words_at(header[_CLASSES_ADDRESS], 4 * header[_CLASSES] + 4)
    at, compared = start, 0
    while at + count <= stop:
        taken = _all_take(codes, first, count, classes, text, at, no_case)
        compared += taken + 1
        if taken == count:
            header[_WORK] += compared
            return at
        at += 1
        if compared > NAIVE * (at - start) + NAIVE_MIN:
            header[_WORK] += compared
            for i in range(count):
                if codes[first + i] >= ANY:
                    return _search_items(program, segment, text, at, stop)
            return _search_bytes(program, segment, text, at, stop)
    header[_WORK] += compared
    return -1


@linked(int64(int64, uint8[::1], int64, int64))
def glob_match(program, text, offset, count):  # type: ignore[no-untyped-def]
    """Whether `count` bytes of `text` match an open pattern: 1 or 0, or -1 when memory ran out.

    No star matches the empty text, as in Redis, whose KEYS does not match keys against a single star at all.
    """
    header = words_at(program, _HEADER)
    items, last = header[_ITEMS], header[_SEGMENTS] - 1
    if count == 0:
        return 1 if header[_LENGTH] == 0 else 0
    if count < items or (last == 0 and count > items):
        return 0
    if header[_CODES_ADDRESS] == 0 and _compile(program) != 0:
        return -1
    codes, no_case = ints_at(header[_CODES_ADDRESS], items), header[_NO_CASE]
    classes = words_at(header[_CLASSES_ADDRESS], 4 * header[_CLASSES] + 4)
    segments = words_at(header[_SEGMENTS_ADDRESS], _SEGMENT_WIDTH * header[_SEGMENTS])
    start, stop = offset, offset + count
    head = segments[_COUNT]
    if _all_take(codes, 0, head, classes, text, start, no_case) < head:
        return 0
    if last == 0:
        return 1
    tail = segments[last * _SEGMENT_WIDTH + _COUNT]
    start += head
    stop -= tail
    if _all_take(codes, items - tail, tail, classes, text, stop, no_case) < tail:
        return 0
    for segment in range(1, last):
        found = _search(program, segment, text, start, stop)
        if found < 0:
            return 0 if found == -1 else -1
        start = found + segments[segment * _SEGMENT_WIDTH + _COUNT]
    return 1


@linked(int64(uint8[::1], int64, uint8[::1], int64[::1], uint8[::1]))
def glob_select(pattern, length, names, ends, selected):  # type: ignore[no-untyped-def]
    """Select the names that match without regard to case: selected[i] = 1 or 0; returns 0, or -1 without memory.

    names      uint8[]    all names, one behind the other
    ends       int64[n]   the end of each
    selected   uint8[n]
    """
    program = glob_open(int64(pattern.ctypes.data), length, 1)
    if program == 0:
        return -1
    code, start = 0, 0
    for i in range(ends.size):
        matches = glob_match(program, names, start, ends[i] - start)
        if matches < 0:
            code = -1
            break
        selected[i] = matches
        start = ends[i]
    glob_close(program)
    return code
