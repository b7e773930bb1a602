"""Bitmaps without sockets: beside a naive twin, sparse ones by the frames that they take, and where memory is short.

tests/server/test_bitmaps.py compares the same commands with redis-server and valkey-server.
"""

import random
from collections.abc import Iterator

import pytest

from kvstore.store.check import contents
from kvstore.store.digest import store_digest
from kvstore.store.flush import background_step
from kvstore.wire.errors import ERRORS, OUT_OF_FRAMES
from mmcore.heap import heap_borrowed
from tests.kvstore.bare import Bare
from tests.mmcore.support import seeds

OOM = ERRORS[OUT_OF_FRAMES]
MIB = 1 << 20


@pytest.fixture
def store() -> Iterator[Bare]:
    with Bare() as made:
        yield made
        settle(made)
        made.check()


def settle(store: Bare) -> None:
    """Free what waits to be freed."""
    while background_step(store.context, 64):
        pass


# ------------------------------------------------------------------------------------------------------ beside a twin


class Twin:
    """Strings as Python has them, with their bits as a string of 0 and 1."""

    def __init__(self) -> None:
        self.texts: dict[str, bytes] = {}

    def get(self, key: str) -> bytes:
        return self.texts.get(key, b"")

    def bits(self, key: str) -> str:
        return "".join(f"{byte:08b}" for byte in self.get(key))

    def put_bits(self, key: str, bits: str) -> None:
        self.texts[key] = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))

    def write(self, key: str, offset: int, field: str) -> None:
        bits = self.bits(key)
        bits = bits.ljust(-(-max(len(bits), offset + len(field)) // 8) * 8, "0")
        self.put_bits(key, bits[:offset] + field + bits[offset + len(field) :])

    def field(self, key: str, offset: int, bits: int, signed: bool) -> int:
        text = self.bits(key)[offset : offset + bits].ljust(bits, "0")
        return int(text, 2) - (1 << bits if signed and text[0] == "1" else 0)

    def within(self, key: str, start: int, end: int, unit: int) -> str:
        """The bits of a range, whose ends count from the end if they are negative."""
        total = len(self.get(key)) * (8 // unit)
        start, end = (max(0, at + total) if at < 0 else at for at in (start, end))
        return self.bits(key)[start * unit : (end + 1) * unit] if start <= end else ""


def ranges(r: random.Random, twin: Twin, key: str) -> tuple[tuple[str | int, ...], int, int, int]:
    """(arguments, start, end, bits of a unit)."""
    unit, size = r.choice([1, 8]), len(twin.get(key))
    near = r.choice([3, 20, size * 8 // unit + 2])
    start, end = r.randrange(-near, near), r.randrange(-near, near)
    return (start, end, *(("BIT",) if unit == 1 else r.choice([(), ("BYTE",)]))), start, end, unit


def count(store: Bare, twin: Twin, r: random.Random, key: str) -> str:
    assert store("BITCOUNT", key) == twin.bits(key).count("1")
    words, start, end, unit = ranges(r, twin, key)
    expected = 0 if start < 0 and end < 0 and start > end else twin.within(key, start, end, unit).count("1")
    assert store("BITCOUNT", key, *words) == expected, words
    return "BITCOUNT"


def find(store: Bare, twin: Twin, r: random.Random, key: str) -> str:
    for bit in "01":
        whole = twin.bits(key)
        beyond = len(whole) if bit == "0" and whole else -1
        if key not in twin.texts:
            beyond = -1 if bit == "1" else 0
        found = whole.find(bit)
        assert store("BITPOS", key, bit) == (found if found >= 0 else beyond)
        words, start, end, unit = ranges(r, twin, key)
        part = twin.within(key, start, end, unit)
        total = len(twin.get(key)) * (8 // unit)
        first = (max(0, start + total) if start < 0 else start) * unit
        found = part.find(bit)
        expected = first + found if found >= 0 else -1 if key in twin.texts else beyond
        assert store("BITPOS", key, bit, *words) == expected, (bit, words)
    return "BITPOS"


def combine(store: Bare, twin: Twin, r: random.Random, key: str) -> str:
    name = r.choice(["AND", "OR", "XOR", "NOT"])
    sources = [r.choice("abcde") for _ in range(1 if name == "NOT" else r.randrange(1, 5))]
    longest = max(len(twin.get(source)) for source in sources)
    values = [int.from_bytes(twin.get(source).ljust(longest, b"\0"), "big") for source in sources]
    result = values[0]
    for value in values[1:]:
        result = result & value if name == "AND" else result | value if name == "OR" else result ^ value
    if name == "NOT":
        result ^= (1 << 8 * longest) - 1
    assert store("BITOP", name, key, *sources) == longest
    twin.texts.pop(key, None)
    if longest:
        twin.texts[key] = result.to_bytes(longest, "big")
    return name


def fields(store: Bare, twin: Twin, r: random.Random, key: str) -> str:
    words: list[str | int] = []
    expected: list[int | None] = []
    overflow, writes = "WRAP", []
    size = len(twin.get(key))
    for _ in range(r.randrange(1, 6)):
        signed = r.random() < 0.5
        bits = r.choice([1, 5, 8, 16, 31, 32, 33, 63, 64 if signed else 63, r.randrange(1, 64)])
        offset = r.choice([r.randrange(80), r.randrange(max(1, 8 * size)), 8 * r.randrange(9)])
        words_of = (f"{'i' if signed else 'u'}{bits}", f"#{offset // bits}" if offset % bits == 0 else offset)
        kind = r.choice(["GET", "SET", "INCRBY", "OVERFLOW"])
        if kind == "OVERFLOW":
            overflow = r.choice(["WRAP", "SAT", "FAIL"])
            words += [kind, overflow]
            continue
        operand = r.choice([0, 1, -1, r.randrange(-300, 300), r.randrange(-(1 << 63), 1 << 63)])
        words += [kind, *words_of, *((operand,) if kind != "GET" else ())]
        writes.append((kind, signed, bits, offset, operand, overflow))
    last = max((offset + bits for kind, _, bits, offset, _, _ in writes if kind != "GET"), default=0)
    if last > 8 * size:
        twin.write(key, last - 1, "0")
    for kind, signed, bits, offset, operand, how in writes:
        old = twin.field(key, offset, bits, signed)
        if kind == "GET":
            expected.append(old)
            continue
        least, most = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
        new = old + operand if kind == "INCRBY" else operand
        if kind == "SET" and not signed and new < 0:
            new += 1 << 64  # Redis reads it as an unsigned number
        if not least <= new <= most:
            if how == "FAIL":
                expected.append(None)
                continue
            new = min(max(new, least), most) if how == "SAT" else new
        text = f"{new & (1 << bits) - 1:0{bits}b}"
        twin.write(key, offset, text)
        expected.append(old if kind == "SET" else twin.field(key, offset, bits, signed))
    assert store("BITFIELD", key, *words) == expected, words
    reads = [word for word in writes if word[0] == "GET"]
    if reads:
        again = [
            part
            for _, signed, bits, offset, _, _ in reads
            for part in ("GET", f"{'i' if signed else 'u'}{bits}", offset)
        ]
        assert store("BITFIELD_RO", key, *again) == [twin.field(key, at, n, s) for _, s, n, at, _, _ in reads]
    return "BITFIELD"


def step(store: Bare, twin: Twin, r: random.Random) -> str:
    """Do the same to both."""
    key, kind = r.choice("abcde"), r.randrange(12)
    if kind < 4:
        offset = r.choice([r.randrange(40), r.randrange(400), r.randrange(60_000), r.randrange(200_000)])
        bit, before = r.randrange(2), twin.bits(key)[offset : offset + 1] or "0"
        assert store("GETBIT", key, offset) == int(before)
        assert store("SETBIT", key, offset, bit) == int(before)
        twin.write(key, offset, str(bit))
        return "SETBIT"
    if kind == 4:
        text = r.choice([b"", b"\xff" * r.randrange(1, 9000), r.randbytes(r.randrange(1, 300)), bytes(5000), b"12345"])
        twin.texts[key] = text
        assert store("SET", key, text) == "OK"
        return "SET"
    if kind == 5:
        assert store("DEL", key) == (twin.texts.pop(key, None) is not None)
        return "DEL"
    return (count, find, combine, fields)[kind % 4](store, twin, r, key)


@pytest.mark.parametrize("seed", seeds(6))
def test_bits_are_what_naive_ones_are(store: Bare, seed: int) -> None:
    r, twin = random.Random(seed), Twin()
    root = -1
    for number in range(250):
        name = step(store, twin, r)
        for key in "abcde":
            found = store("GET", key)
            assert found == twin.texts.get(key), f"seed {seed}, step {number}: {name}"
        if number % 50 == 0:
            if root >= 0:
                store.release(root)
            root = store.fork()  # from here on, pages are shared with a snapshot
            store.check()
    store.release(root)


# -------------------------------------------------------------------------------------------------------------- sparse


def in_use(store: Bare) -> int:
    return int(store.memory.frames_total - store.memory.frames_free)


def test_a_sparse_bitmap_takes_the_pages_that_were_written(store: Bare) -> None:
    used = in_use(store)
    size = 40 * MIB
    assert store("SETBIT", "k", 8 * size - 1, 1) == 0
    assert store("STRLEN", "k") == size and in_use(store) - used < 40
    assert heap_borrowed(store.space.state) == size // 4096 - 3  # the first two are its own
    assert store("SETBIT", "k", 0, 1) == 0 and store("SETBIT", "k", 8 * 5 * MIB + 3, 1) == 0
    assert in_use(store) - used < 50 and heap_borrowed(store.space.state) == size // 4096 - 4
    assert store("SETBIT", "k", 8 * 5 * MIB + 3, 1) == 1 and heap_borrowed(store.space.state) == size // 4096 - 4
    assert store("BITCOUNT", "k") == 3 and store("BITPOS", "k", 1, 1) == 8 * 5 * MIB + 3
    assert store("BITPOS", "k", 1, 6 * MIB) == 8 * size - 1
    store.check()
    assert store("DEL", "k") == 1
    settle(store)
    assert heap_borrowed(store.space.state) == 0 and in_use(store) - used < 20


def test_a_value_grows_by_zeros_again_and_again(store: Bare) -> None:
    text = b"\xff" * 100
    store("SET", "k", text, "PX", 1000)
    for size in (MIB, 3 * MIB - 5, 3 * MIB + 9, 7 * MIB + 1, 17 * MIB):
        store("SETRANGE", "k", size - 3, "end")
        text = text.ljust(size - 3, b"\0") + b"end"
        assert store("GET", "k") == text
        store.check()
    assert store("APPEND", "k", "more" * 2000) == len(text) + 8000
    assert store("GET", "k") == text + b"more" * 2000 and store("PTTL", "k") == 1000
    assert store("BITFIELD", "k", "SET", "u16", 8 * 20 * MIB, 0xABCD, "GET", "u8", 8 * 17 * MIB) == [0, ord("m")]
    assert store("SET", "k", bytes(20 * MIB + 2)) == "OK" and heap_borrowed(store.space.state) == 0
    assert store("BITCOUNT", "k") == 0


def test_a_copy_and_a_snapshot_of_a_sparse_bitmap_stay_as_they_were(store: Bare) -> None:
    store("SETBIT", "k", 8 * 4 * MIB + 7, 1)
    root = store.fork()
    digest = store_digest(store.context)
    store("COPY", "k", "other")
    store("SETBIT", "k", 8 * 2 * MIB, 1)
    store("SETBIT", "other", 8 * 3 * MIB, 1)
    assert [store("BITCOUNT", key) for key in ("k", "other")] == [2, 2]
    assert store("BITPOS", "k", 1) == 8 * 2 * MIB and store("BITPOS", "other", 1) == 8 * 3 * MIB
    assert store("BITOP", "XOR", "d", "k", "other") == 4 * MIB + 1 and store("BITCOUNT", "d") == 2
    assert store("BITOP", "OR", "k", "k", "none") == 4 * MIB + 1 and store("BITCOUNT", "k") == 2
    store.check()
    store("SETBIT", "k", 8 * 2 * MIB, 0)
    store("DEL", "other", "d")
    assert store_digest(store.context) == digest
    store.release(root)


# --------------------------------------------------------------------------------------------------- memory is short


def test_a_full_store_refuses_what_grows_and_takes_what_does_not() -> None:
    with Bare(8 * MIB) as store:
        store("SET", "k", b"\0" * 100_000)
        number = 0
        while store("SET", f"fill:{number}", b"x" * 3000) == "OK":
            number += 1
        before = contents(store.context)
        for command in (
            ("SETBIT", "new", 8 * 6 * MIB, 1), ("SETBIT", "k", 8 * 6 * MIB, 1), ("BITOP", "NOT", "d", "k"),
            ("BITFIELD", "k", "SET", "u8", 8 * 3 * MIB, 1), ("SETRANGE", "k", 5 * MIB, "x"),
        ):  # fmt: skip
            assert store(*command) == OOM, command
        assert contents(store.context) == before
        assert store("SETBIT", "k", 5000, 1) == 0 and store("BITFIELD", "k", "SET", "u8", 8000, 255) == [0]
        assert store("BITCOUNT", "k") == 9 and store("BITOP", "AND", "k", "none") == 0
        store.check()


def test_a_sparse_bitmap_counts_as_what_it_may_become() -> None:
    """A write to a value that was accepted never fails, so a store that cannot have all of its pages refuses it."""
    with Bare(32 * MIB) as store:
        assert store("SETBIT", "k", 8 * 20 * MIB, 1) == 0
        assert store("SETBIT", "other", 8 * 20 * MIB, 1) == OOM
        assert store("GETBIT", "k", 8 * 20 * MIB) == 1
        for at in range(0, 20 * MIB, 4096):
            assert store("SETBIT", "k", 8 * at + 1, 1) == 0
        assert store("BITCOUNT", "k") == 20 * 256 + 1 and heap_borrowed(store.space.state) == 0
        store.check()


@pytest.mark.parametrize("argument", ["-1", "4294967296", "9223372036854775807", "x", "", "1.5", "#1"])
def test_offsets_that_no_string_has(store: Bare, argument: str) -> None:
    error = "ERR bit offset is not an integer or out of range"
    assert store("SETBIT", "k", argument, 1) == store("GETBIT", "k", argument) == error
    assert store("BITFIELD", "k", "GET", "u8", "#" + argument) == error
    assert store("BITFIELD", "k", "SET", "u8", "#9223372036854775807", 1) == error
    assert store("EXISTS", "k") == 0


def test_a_field_does_not_reach_beyond_the_longest_value() -> None:
    """An entry has four bytes for the length of its value."""
    with Bare(5 << 30, spare=1 << 28) as store:
        store.registers.PROTO_MAX_BULK_LEN = (1 << 32) - 1
        reply = store("BITFIELD", "k", "SET", "i64", ((1 << 32) - 2) * 8, 1)
        assert str(reply) == "ERR bit offset is not an integer or out of range"
        assert store("EXISTS", "k") == 0
