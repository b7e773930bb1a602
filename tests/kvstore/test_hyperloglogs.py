"""HyperLogLogs without sockets: beside a naive twin, by their bytes, hostile ones, and where memory is short.

tests/server/test_hyperloglogs.py compares the same commands, and all bytes, with redis-server and valkey-server.
"""

import random
from collections.abc import Iterator
from copy import deepcopy

import pytest

from kvstore.store.check import contents
from kvstore.store.flush import background_step
from kvstore.wire.errors import CORRUPT_SKETCH, ERRORS, NO_SKETCH, OUT_OF_FRAMES
from tests.kvstore.bare import Bare
from tests.kvstore.test_read_only import frozen_of
from tests.mmcore.support import seeds

OOM, CORRUPT, NONE = ERRORS[OUT_OF_FRAMES], ERRORS[CORRUPT_SKETCH], ERRORS[NO_SKETCH]
MASK = (1 << 64) - 1
DENSE_SIZE = 12304
EMPTY = b"HYLL\x01\0\0\0" + bytes(7) + b"\x80"


@pytest.fixture
def store() -> Iterator[Bare]:
    with Bare() as made:
        yield made
        while background_step(made.context, 64):
            pass
        made.check()


def murmur(data: bytes) -> int:
    """MurmurHash64A as its author describes it."""
    m, h = 0xC6A4A7935BD1E995, 0xADC83B19 ^ len(data) * 0xC6A4A7935BD1E995 & MASK
    for at in range(0, len(data) & ~7, 8):
        k = int.from_bytes(data[at : at + 8], "little") * m & MASK
        h = (h ^ (k ^ k >> 47) * m & MASK) * m & MASK
    if len(data) & 7:
        h = (h ^ int.from_bytes(data[len(data) & ~7 :], "little")) * m & MASK
    h = (h ^ h >> 47) * m & MASK
    return h ^ h >> 47


def add(registers: list[int], element: bytes) -> bool:
    """Raise the register of an element; whether it was lower."""
    hash_ = murmur(element)
    index, rest = hash_ & 16383, hash_ >> 14 | 1 << 50
    value = (rest & -rest).bit_length()
    raised = value > registers[index]
    registers[index] = max(registers[index], value)
    return raised


def registers_of(sketch: bytes) -> list[int]:
    """The registers of a sketch of either encoding."""
    if sketch[4] == 0:
        number = int.from_bytes(sketch[16:], "little")
        return [number >> 6 * i & 63 for i in range(16384)]
    found: list[int] = []
    at = 16
    while at < len(sketch):
        byte = sketch[at]
        if byte & 0x80:
            found += [(byte >> 2 & 31) + 1] * ((byte & 3) + 1)
        elif byte & 0x40:
            found += [0] * (((byte & 63) << 8 | sketch[at + 1]) + 1)
            at += 1
        else:
            found += [0] * (byte + 1)
        at += 1
    return found


def element(r: random.Random) -> bytes:
    return r.choice([b"%d" % r.randrange(3000), r.randbytes(r.randrange(20)), b"x" * r.randrange(40)])


def step(store: Bare, twin: dict[str, list[int]], r: random.Random) -> str:
    """Do the same to both."""
    key, kind = r.choice("abcd"), r.randrange(8)
    if kind < 5:
        elements = [element(r) for _ in range(r.choice([0, 1, 1, 3, 200]))]
        made = key not in twin
        registers = twin.setdefault(key, [0] * 16384)
        raised = [add(registers, one) for one in elements]
        assert store("PFADD", key, *elements) == int(made or any(raised))
        return "PFADD"
    if kind == 5:
        sources = [r.choice("abcd") for _ in range(r.randrange(3))]
        assert store("PFMERGE", key, *sources) == "OK"
        all_of = [twin[one] for one in (key, *sources) if one in twin]
        twin[key] = [max(values) for values in zip(*all_of, strict=True)] if all_of else [0] * 16384
        return "PFMERGE"
    if kind == 6:
        store("DEL", key)
        twin.pop(key, None)
        return "DEL"
    count, several = store("PFCOUNT", key), store("PFCOUNT", key, "none")
    assert count == several == store("PFCOUNT", key)
    nonzero = sum(value > 0 for value in twin.get(key, []))
    assert isinstance(count, int) and nonzero <= count <= 1.4 * nonzero + 2
    return "PFCOUNT"


@pytest.mark.parametrize("seed", seeds(4))
def test_registers_are_what_naive_ones_are(store: Bare, seed: int) -> None:
    r, twin, root = random.Random(seed), dict[str, list[int]](), -1
    for number in range(60):
        if number % 20 == 0:
            store.registers.HLL_SPARSE_MAX_BYTES = r.choice([3000, 3000, 40, 0, 100_000])
            if root >= 0:
                store.release(root)
            root = store.fork()
        name = step(store, twin, r)
        for key in "abcd":
            found = store("GET", key)
            assert (found is None) == (key not in twin)
            if isinstance(found, bytes):
                assert registers_of(found) == twin[key], f"seed {seed}, step {number}: {name}"
        store.check()
    store.release(root)


def test_the_estimate_is_close_and_is_kept(store: Bare) -> None:
    for i in range(0, 100_000, 1000):
        store("PFADD", "k", *range(i, i + 1000))
    sketch = store("GET", "k")
    assert isinstance(sketch, bytes) and len(sketch) == DENSE_SIZE and sketch[15] & 0x80
    count = store("PFCOUNT", "k")
    assert isinstance(count, int) and abs(count - 100_000) < 2500
    kept = store("GET", "k")
    assert isinstance(kept, bytes) and int.from_bytes(kept[8:16], "little") == count
    assert store("PFADD", "k", 1) == 0 and store("GET", "k") == kept
    assert store("OBJECT", "ENCODING", "k") == b"raw"
    assert store("PFSELFTEST") == "OK"


def test_a_reading_store_computes_and_keeps_nothing(store: Bare) -> None:
    store("PFADD", "k", *range(500))
    store("PFADD", "other", *range(400, 900))
    frozen = frozen_of(store)
    before = store("GET", "k")
    assert frozen("PFCOUNT", "k") == frozen("PFCOUNT", "k") and frozen("GET", "k") == before
    assert frozen("PFCOUNT", "k", "other") == store("PFCOUNT", "k", "other")
    assert store("PFCOUNT", "k") == frozen("PFCOUNT", "k") and store("GET", "k") != before


def test_a_frozen_store_keeps_a_sketch_that_is_changed_in_its_place(store: Bare) -> None:
    store("PFADD", "k", *range(40))
    frozen, before = frozen_of(store), store("GET", "k")
    for i in range(40, 300):
        store("PFADD", "k", i)
        assert frozen("GET", "k") == before
    assert store("PFCOUNT", "k") != frozen("PFCOUNT", "k")


def test_an_element_that_changes_nothing_copies_no_page(store: Bare) -> None:
    store("PFADD", "sparse", *range(40))
    store("PFADD", "dense", *range(5000))
    root = store.fork()
    copied = store.space.counters["write_faults"]
    assert store("PFADD", "sparse", 7) == 0 and store("PFADD", "dense", 7, 8, 9) == 0
    assert store.space.counters["write_faults"] == copied
    store.release(root)


# ------------------------------------------------------------------------------------------------------------- hostile


def hostile(r: random.Random, sketches: list[bytes]) -> bytes:
    """A string that is nearly a sketch."""
    kind, sketch = r.randrange(8), bytearray(r.choice(sketches))
    if kind == 0:
        return EMPTY + r.randbytes(r.randrange(60))
    if kind == 1:
        return EMPTY + b"\x7f\xff" * r.randrange(3) + b"\x7f"  # a run that ends behind the string
    if kind == 2:
        return EMPTY + bytes(r.choice([0, 255, 63, 0x40, 0xFF]) for _ in range(r.choice([1, 256, 16384, 33000, 70000])))
    if kind == 3:
        return bytes(sketch[: r.randrange(len(sketch))])
    for _ in range(r.randrange(1, 9)):
        sketch[r.randrange(16 if kind < 6 else 0, len(sketch))] = r.randrange(256)
    return bytes(sketch)


@pytest.mark.parametrize("seed", seeds(8))
def test_a_string_that_only_looks_like_one_is_refused_or_served(store: Bare, seed: int) -> None:
    r = random.Random(seed)
    sketches = []
    for count in (0, 1, 30, 800, 5000):
        store("PFADD", "s", *range(count))
        sketches.append(store("GET", "s"))
    for number in range(80):
        store("SET", "h", hostile(r, sketches))  # type: ignore[arg-type]
        store("SET", "s", r.choice(sketches))  # type: ignore[arg-type]
        for command in (
            ("PFADD", "h", r.randrange(10_000)), ("PFCOUNT", "h"), ("PFCOUNT", "h", "s"), ("PFMERGE", "s", "h"),
            ("PFMERGE", "h", "s"), ("PFDEBUG", "DECODE", "h"), ("PFDEBUG", "ENCODING", "h"),
            ("PFDEBUG", "TODENSE", "h"), ("PFDEBUG", "GETREG", "h"),
        ):  # fmt: skip
            found = store(*command)
            assert not isinstance(found, str) or found in (
                CORRUPT, NONE, "OK", "dense", "sparse", "ERR HLL encoding is not sparse",
            ), (seed, number, command, found)  # fmt: skip
    store.check()


def test_other_strings_are_no_sketches(store: Bare) -> None:
    store("RPUSH", "list", "x")
    for text in (b"", b"x", b"HYLL", b"HYLL\0" + bytes(11), b"HYLL\x02" + bytes(40), b"HYLL\0" + bytes(DENSE_SIZE)):
        store("SET", "k", text)
        for command in (("PFADD", "k", 1), ("PFCOUNT", "k"), ("PFMERGE", "d", "k"), ("PFDEBUG", "GETREG", "k")):
            assert store(*command) == NONE, (text, command)
    assert store("PFCOUNT", "list") == store("PFADD", "list") == ERRORS[3]
    assert store("EXISTS", "d") == 0


# --------------------------------------------------------------------------------------------------- memory is short


def test_a_full_store_keeps_its_sketches_as_they_are() -> None:
    with Bare(4 << 20) as store:
        store("PFADD", "sparse", 1, 2, 3)
        store("PFADD", "dense", *range(5000))
        number = 0
        while store("SET", f"fill:{number}", b"x" * 3000) == "OK":
            number += 1
        while store("SET", f"fine:{number}", b"x" * 8) == "OK":
            number += 1
        before = deepcopy(contents(store.context))
        for command in (
            ("PFADD", "new", *range(3000)),
            ("PFADD", "sparse", *range(3000)),
            ("PFMERGE", "sparse", "dense"),
        ):
            assert store(*command) == OOM, command
            assert contents(store.context) == before
        count = store("PFCOUNT", "dense")  # is not kept
        assert isinstance(count, int) and abs(count - 5000) < 200 and contents(store.context) == before
        assert store("PFADD", "dense", *range(5000, 5100)) == 1
        for i in range(100):
            before = deepcopy(contents(store.context))
            if store("PFADD", "sparse", 10_000 + i) == OOM:
                break
        assert i > 0 and contents(store.context) == before
        store.check()
