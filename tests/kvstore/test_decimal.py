"""INCRBYFLOAT's arithmetic: the processor's extended precision, read and printed as in Redis."""

import pytest

from tests.kvstore.bare import Bare

NOT_A_FLOAT = "ERR value is not a valid float"
SUMS = [
    ("10.50", "0.1", "10.6"),
    ("3.0", "1.1", "4.1"),
    ("5.0e3", "2.0e2", "5200"),
    ("0", "-0", "0"),
    ("-1", "1", "0"),
    ("1e17", "0.5", "100000000000000000.5"),
    ("0.1", "0.2", "0.3"),
    ("1", "0x1p3", "9"),
    ("0", "0xA.8", "10.5"),
    ("0", "1e-17", "0.00000000000000001"),
    ("0", "1e-18", "0"),
    ("+5", "+5", "10"),
    ("-0.000000000000000001", "0", "0"),
    ("0" * 300 + "1", "1", "2"),
]
REFUSED = ["", "abc", " 1", "1 ", "1x", "nan", "-nan", "1e5000", "-1e5000", "1e-5000", "\t1", "1\0", "--1", "0x", "e5"]


@pytest.fixture(scope="module")
def store():  # type: ignore[no-untyped-def]
    with Bare(16 << 20) as bare:
        yield bare


@pytest.mark.parametrize(("old", "by", "expected"), SUMS)
def test_sums(store: Bare, old: str, by: str, expected: str) -> None:
    store("SET", "k", old)
    assert store("INCRBYFLOAT", "k", by) == expected.encode() == store("GET", "k")


def test_a_number_of_thousands_of_digits(store: Bare) -> None:
    store("SET", "k", "1" + "0" * 4000)
    for _ in range(2):
        reply = store("INCRBYFLOAT", "k", "1")
        assert isinstance(reply, bytes) and reply == store("GET", "k")
        assert abs(int(reply) - 10**4000) < 10**3982  # 64 bits are significant


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_number(store: Bare, text: str) -> None:
    store("SET", "k", "1")
    assert store("INCRBYFLOAT", "k", text) == NOT_A_FLOAT
    assert store("GET", "k") == b"1"
    store("SET", "k", text)
    assert store("INCRBYFLOAT", "k", "1") == NOT_A_FLOAT


@pytest.mark.parametrize(("old", "by"), [("0", "inf"), ("inf", "1"), ("inf", "-inf"), ("1.1e4932", "1.1e4932")])
def test_a_sum_without_end_is_refused(store: Bare, old: str, by: str) -> None:
    store("SET", "k", old)
    assert store("INCRBYFLOAT", "k", by) == "ERR increment would produce NaN or Infinity"
    assert store("GET", "k") == old.encode()


def test_a_sum_is_text_even_if_it_spells_an_integer(store: Bare) -> None:
    store("SET", "k", "4")
    assert store("OBJECT", "ENCODING", "k") == b"int"
    store("INCRBYFLOAT", "k", "1")
    assert store("OBJECT", "ENCODING", "k") == b"embstr"
    assert store("INCR", "k") == 6
    assert store("OBJECT", "ENCODING", "k") == b"int"
