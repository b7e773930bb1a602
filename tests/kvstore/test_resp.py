"""Replies that kernels write: numbers and lengths as Python spells them."""

from tests.kvstore.bare import Bare

NUMBERS = sorted(
    {sign * (10**power + by) for power in range(19) for by in (-1, 0, 1) for sign in (-1, 1)}
    | {sign * n for n in range(130) for sign in (-1, 1)}
    | {-(2**63), 2**63 - 1}
)


def test_numbers_of_any_length_are_spelled_as_python_spells_them() -> None:
    with Bare() as store:
        for number in NUMBERS:
            store("SET", "n", number)
            assert store.raw("INCRBY", "n", 0) == b":%d\r\n" % number
            text = b"%d" % number
            assert store.raw("GET", "n") == b"$%d\r\n%b\r\n" % (len(text), text)


def test_bulk_strings_have_the_length_that_they_tell() -> None:
    with Bare() as store:
        for length in (*range(130), 999, 1000, 9999, 10_000, 100_000):
            text = b"v" * length
            store("SET", "s", text)
            assert store.raw("GET", "s") == b"$%d\r\n%b\r\n" % (length, text)
