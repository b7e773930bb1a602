"""Glob patterns of keys: Redis's language, in bounded time for every pattern."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from kvstore.wire.glob import NAIVE, NAIVE_MIN, glob_close, glob_hard, glob_match, glob_open, glob_select, glob_work
from mmcore.jit import int64, linked, void
from tests.mmcore.support import seeds

CASES = [
    ("", "", True),
    ("", "a", False),
    ("*", "", False),
    ("*", "anything", True),
    ("**", "anything", True),
    ("a*c", "abbbc", True),
    ("a*c", "abbb", False),
    ("a*b*c", "aXbYbZc", True),
    ("?", "a", True),
    ("?", "", False),
    ("h?llo", "hello", True),
    ("h[ae]llo", "hallo", True),
    ("h[ae]llo", "hillo", False),
    ("h[^e]llo", "hallo", True),
    ("h[^e]llo", "hello", False),
    ("h[a-c]llo", "hbllo", True),
    ("h[c-a]llo", "hbllo", True),
    ("h[a-c]llo", "hdllo", False),
    ("[a-]", "-", False),  # a range from a to ]
    ("[a-]", "]", True),
    ("[]", "a", False),
    ("[^]", "a", True),
    ("[abc", "b", True),
    ("[abc", "d", False),
    (r"\*", "*", True),
    (r"\*", "a", False),
    (r"[\]]", "]", True),
    (r"[\-x]", "-", True),
    ("\\", "\\", True),
    ("a\\", "a\\", True),
    ("*a*a*b", "aaab", True),
    ("key:*:name", "key:12:name", True),
    ("*.txt", "a.txt.txt", True),
    ("[", "[", False),
    ("[^", "x", True),
    ("[^", "xy", False),
    ("a[^", "a", False),
    ("[\\", "\\", True),
    ("[a-", "-", True),
    ("[a-", "a", True),
    ("*[^", "abc", True),
    ("*\\", "a\\", True),
    ("[^]]", "a]", True),
    ("[^]]", "a", False),
    ("[a\\]b]", "]", True),
    ("*a", "", False),
    ("**", "", False),
    ("a**", "a", True),
    ("*?*?*", "a", False),
    ("*?*?*", "ab", True),
    ("*ab*ab", "abab", True),
    ("*ab*ab", "ab", False),
    ("*aba", "ababa", True),
    ("ab*ba", "aba", False),
]


@linked(void(int64))
def close(program):  # type: ignore[no-untyped-def]
    """glob_close, for Python."""
    glob_close(program)


def bytes_of(data: bytes) -> np.ndarray:
    return np.frombuffer(data or b"\0", np.uint8).copy()


class Opened:
    """An open pattern."""

    def __init__(self, pattern: bytes, no_case: int = 0) -> None:
        self._pattern = bytes_of(pattern)
        self.program = glob_open(self._pattern.ctypes.data, len(pattern), no_case)
        assert self.program

    def matches(self, text: bytes) -> bool:
        answer = glob_match(self.program, bytes_of(text), 0, len(text))
        assert answer in (0, 1)
        return bool(answer)

    @property
    def work(self) -> int:
        return int(glob_work(self.program))


@contextmanager
def opened(pattern: bytes, no_case: int = 0) -> Iterator[Opened]:
    one = Opened(pattern, no_case)
    try:
        yield one
    finally:
        close(one.program)


def matches(pattern: bytes, text: bytes, no_case: int = 0) -> bool:
    with opened(pattern, no_case) as one:
        return one.matches(text)


@pytest.mark.parametrize(("pattern", "text", "expected"), CASES)
def test_patterns(pattern: str, text: str, expected: bool) -> None:
    assert matches(pattern.encode(), text.encode()) == expected


def test_bytes_are_bytes() -> None:
    assert matches(b"\xff\x00?", b"\xff\x00\x80")
    assert matches(b"[\x80-\xff]", b"\xc3")
    assert not matches(b"[\x80-\xff]", b"a")


def test_bytes_in_a_range_are_signed() -> None:
    """In Redis 0xff comes before 0, so the range from 'a' to 0xff goes down."""
    assert matches(b"[a-\xff]", b"A")
    assert matches(b"[a-\xff]", b"\xff")
    assert not matches(b"[a-\xff]", b"b")
    assert not matches(b"[a-\xff]", b"\xc3")


NO_CASE = [
    ("ABC", "abc", True),
    ("a?C", "AbC", True),
    ("[a-c]x", "BX", True),
    ("[A-C]x", "bx", True),
    ("[^a]", "A", False),
    ("[\\A]", "a", False),  # a byte behind a backslash keeps its case
    ("[\\A]", "A", True),
    ("\\A", "a", True),  # outside of a class it does not
    ("[Z-a]", "z", False),  # from z to a, once both are lowered
    ("[Z-a]", "_", False),
    ("[0-a]", "A", True),
    ("[0-a]", "@", True),
    ("[0-a]", "B", False),
]


@pytest.mark.parametrize(("pattern", "text", "expected"), NO_CASE)
def test_patterns_without_regard_to_case(pattern: str, text: str, expected: bool) -> None:
    assert matches(pattern.encode(), text.encode(), 1) == expected


# ------------------------------------------------------------------------------------------- against the plain meaning


def lower(byte: int) -> int:
    return byte + 32 if 65 <= byte <= 90 else byte


def signed(byte: int) -> int:
    return byte - 256 if byte > 127 else byte


def class_takes(pattern: bytes, at: int, byte: int, no_case: bool) -> tuple[bool, int]:
    """Whether the class that opens at `at` matches a byte, and the place behind it, as in Redis's stringmatchlen."""
    at += 1
    negated = pattern[at : at + 1] == b"^"
    at += negated
    found = False
    while True:
        left = len(pattern) - at
        if left >= 2 and pattern[at] == ord("\\"):
            at += 1
            found |= pattern[at] == byte
        elif left == 0:
            at -= 1
            break
        elif pattern[at] == ord("]"):
            break
        elif left >= 3 and pattern[at + 1] == ord("-"):
            low, high = sorted((signed(pattern[at]), signed(pattern[at + 2])))
            here = signed(byte)
            if no_case:
                low, high, here = lower(low), lower(high), lower(here)
            at += 2
            found |= low <= here <= high
        elif no_case:
            found |= lower(pattern[at]) == lower(byte)
        else:
            found |= pattern[at] == byte
        at += 1
    return found != negated, at + 1


def meaning(pattern: bytes, text: bytes, no_case: bool = False) -> bool:
    """Whether the pattern matches; computes for each item all the places that a match can have reached."""
    places = {0}
    at = 0
    while at < len(pattern):
        if pattern[at] == ord("*"):
            places = set(range(min(places), len(text) + 1)) if places else places
            at += 1
            continue
        behind = at + 1
        escaped = pattern[at] == ord("\\") and behind < len(pattern)
        behind += escaped
        reached = set()
        for here in places - {len(text)}:
            byte = text[here]
            if pattern[at] == ord("["):
                takes, behind = class_takes(pattern, at, byte, no_case)
            elif no_case:
                takes = pattern[at] == ord("?") or lower(pattern[at + escaped]) == lower(byte)
            else:
                takes = pattern[at] == ord("?") or pattern[at + escaped] == byte
            if takes:
                reached.add(here + 1)
        if not reached:
            return False
        places, at = reached, behind
    return len(text) in places if text else not pattern


ALPHABETS = [
    (b"ab*", b"ab"),
    (b"aB*?[]^-\\", b"aAbB]^-\\"),
    (b"a\x80\xff*[]-^", b"a\x80\xc0\xff-"),
    (b"a*?[^b]", b"ab"),
]


@pytest.mark.parametrize("seed", range(len(ALPHABETS)))
@pytest.mark.parametrize("no_case", [0, 1])
def test_random_patterns_mean_what_redis_means(seed: int, no_case: int) -> None:
    draw = random.Random(seed)
    symbols, letters = ALPHABETS[seed]
    agreed = {False: 0, True: 0}
    for _ in range(3000):
        pattern = bytes(draw.choices(symbols, k=draw.randrange(10)))
        with opened(pattern, no_case) as one:
            for _ in range(4):
                text = bytes(draw.choices(letters, k=draw.randrange(12)))
                expected = meaning(pattern, text, bool(no_case))
                assert one.matches(text) == expected, (pattern, text)
                agreed[expected] += 1
    assert min(agreed.values()) > 100


@pytest.mark.parametrize("seed", seeds(6))
def test_hard_searches_find_the_same(seed: int) -> None:
    """Long segments in texts that resemble them force the other search algorithms, over several words too."""
    draw = random.Random(seed)
    hard = found = 0
    for _ in range(60):
        unit = bytes(draw.choices(b"ab", weights=(60, 1), k=draw.randrange(10, 200)))
        items = [draw.choice((b"?", b"[^c]", bytes([byte]))) if seed % 2 else bytes([byte]) for byte in unit]
        pattern = b"*" + b"".join(items) + b"*" + draw.choice((b"", b"b", b"?b*"))
        text = bytes(draw.choices(b"abc", weights=(60, 1, 1), k=draw.randrange(900)))
        if draw.random() < 0.5:
            at = draw.randrange(len(text) + 1)
            text = text[:at] + unit + text[at:]
        with opened(pattern) as one:
            expected = meaning(pattern, text)
            assert one.matches(text) == expected, (pattern, text)
            hard += int(glob_hard(one.program))
            found += expected
    assert hard > 10
    assert 10 < found < 60


# ------------------------------------------------------------------------------------------------------ what it takes


def test_a_class_is_read_once_however_long_it_is() -> None:
    """Redis reads it again for every byte: 40,000 times 40,000."""
    with opened(b"*[" + b"z" * 40_000 + b"]") as one:
        assert not one.matches(b"a" * 40_000)
        assert one.matches(b"a" * 40_000 + b"z")
    with opened((b"*[" + b"z" * 10_000 + b"]") * 8 + b"*") as one:
        assert not one.matches(b"a" * 40_000)
        assert one.work <= 40_000


def test_stars_and_classes_take_a_time_that_is_linear_in_the_text() -> None:
    text = b"a" * 50_000
    for pattern in (b"*a" * 1000 + b"*b", b"*[ab]?" * 300 + b"*c", b"*[a]a" * 2000 + b"*[^a]*"):
        with opened(pattern) as one:
            assert not one.matches(text)
            assert one.work <= (NAIVE + 1) * len(text) + NAIVE_MIN * pattern.count(b"*")


def test_a_segment_of_bytes_is_searched_in_linear_time() -> None:
    text = b"a" * 100_000
    with opened(b"*" + b"a" * 40_000 + b"b*") as one:
        assert not one.matches(text)
        assert one.work <= 12 * len(text)
        assert one.matches(text + b"b" + text)


def test_a_segment_of_items_takes_a_step_for_each_64_of_them() -> None:
    text = b"a" * 20_000
    with opened(b"*" + b"?" * 6_399 + b"b*") as one:
        assert not one.matches(text)
        assert one.work <= 100 * len(text) + 20_000


def test_more_stars_than_any_budget_still_match() -> None:
    """Newer Redis answers that a pattern of a thousand stars or more matches nothing."""
    assert matches(b"*a" * 5000, b"ba" * 5000)
    assert not matches(b"*a" * 5001, b"ba" * 5000)


def test_a_pattern_longer_than_every_text_is_not_compiled() -> None:
    with opened(b"*[a]" * 100_000) as one:
        assert not one.matches(b"a" * 99_999)
        assert one.work == 0
        assert one.matches(b"a" * 100_000)


def test_names_are_selected_all_at_once() -> None:
    names = ["maxmemory", "maxclients", "", "MAX", "port"]
    text = np.frombuffer("".join(names).encode(), np.uint8)
    ends = np.cumsum([len(name) for name in names])
    selected = np.full(len(names), 9, np.uint8)
    assert glob_select(bytes_of(b"max*"), 4, text, ends, selected) == 0
    assert selected.tolist() == [1, 1, 0, 1, 0]
