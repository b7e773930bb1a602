"""SORT and LCS against naive models; what is hostile; what runs out of frames."""

import random
from functools import cmp_to_key
from typing import Any

import pytest

from tests.kvstore.bare import Bare, ReplyError
from tests.mmcore.support import seeds

TEXTS = [b"", b"a", b"a\x00", b"a\x00b", b"aaaaaaa", b"aaaaaaaa", b"aaaaaaab", b"a" * 14, b"a" * 15, b"\xff" * 8]


def texts(generator: random.Random, count: int) -> list[bytes]:
    """Texts that have beginnings in common, some of them long."""
    common = [generator.choice(TEXTS) * generator.choice([1, 1, 2, 300]) for _ in range(3)]
    return [generator.choice(common) + generator.choice(TEXTS) for _ in range(count)]


def up_to_zero(text: bytes) -> bytes:
    """A text as C sees it."""
    return text.split(b"\0", 1)[0]


@pytest.mark.parametrize("seed", seeds(6))
def test_texts_are_in_the_order_of_their_bytes(seed: int) -> None:
    generator = random.Random(seed)
    with Bare(seed=seed) as store:
        for count in (1, 20, 200):
            elements = texts(generator, count)
            store("DEL", "list")
            store("RPUSH", "list", *elements)
            for down in (False, True):
                end = ("DESC",) if down else ()
                sign = -1 if down else 1
                keyed = sorted(range(count), key=lambda i: i)
                order = sorted(
                    keyed,
                    key=cmp_to_key(lambda i, j: sign * compare(up_to_zero(elements[i]), up_to_zero(elements[j]))),  # noqa: B023
                )
                assert store("SORT", "list", "ALPHA", *end) == [elements[i] for i in order], seed
                assert store("SORT", "list", "ALPHA", *end, "STORE", "to") == count
                assert store("LRANGE", "to", 0, -1) == sorted(elements, reverse=down), seed
            start, some = generator.randrange(-2, count + 2), generator.randrange(-1, count + 2)
            chosen = sorted(elements)[max(start, 0) :]
            chosen = chosen if some < 0 else chosen[:some]
            store("SORT", "list", "ALPHA", "LIMIT", start, some, "STORE", "to")
            assert store("LRANGE", "to", 0, -1) == chosen, seed
        store.check()


def compare(one: Any, other: Any) -> int:
    """-1, 0 or 1."""
    return int(one > other) - int(one < other)


@pytest.mark.parametrize("seed", seeds(6))
def test_numbers_are_in_order_and_equal_ones_in_that_of_their_texts(seed: int) -> None:
    generator = random.Random(seed)
    with Bare(seed=seed) as store:
        for key, add, count in (("list", "RPUSH", 300), ("set", "SADD", 300), ("ints", "SADD", 90)):
            forms = (b"%d",) if key == "ints" else (b"%d", b"%d.0", b" %d", b"%de0")
            elements = [generator.choice(forms) % generator.randrange(-40, 40) for _ in range(count)]
            store(add, key, *elements)
            elements = elements if key == "list" else list(set(elements))
            expected = sorted(elements, key=lambda one: (float(one), one))
            assert store("SORT", key) == store("SORT_RO", key) == expected, seed
            assert store("SORT", key, "DESC", "LIMIT", 5, 20) == expected[::-1][5:25], seed
            weights = {one: generator.randrange(5) for one in elements}
            for one, weight in weights.items():
                store("SET", b"w:" + one, weight)
                store("HSET", b"h:" + one + b":h", "f", b"<" + one + b">")
            by_weight = sorted(elements, key=lambda one: (weights[one], one))
            assert store("SORT", key, "BY", "w:*") == by_weight, seed
            pairs = [part for one in by_weight for part in (b"<" + one + b">", one, None)]
            assert store("SORT", key, "BY", "w:*", "GET", "h:*:h->f", "GET", "#", "GET", "none") == pairs, seed
            assert store("SORT", key, "BY", "w:*", "GET", "h:*:h->f", "GET", "x*", "STORE", "to") == 2 * len(elements)
            stored = [part for one in by_weight for part in (b"<" + one + b">", b"")]
            assert store("LRANGE", "to", 0, -1) == stored, seed
        store.check()


def table(a: bytes, b: bytes) -> list[list[int]]:
    """The lengths for all beginnings of two texts."""
    rows = [[0] * (len(b) + 1)]
    for i, one in enumerate(a):
        rows.append([0])
        for j, other in enumerate(b):
            rows[-1].append(rows[i][j] + 1 if one == other else max(rows[i][j + 1], rows[i + 1][j]))
    return rows


def way_back(a: bytes, b: bytes) -> tuple[bytes, list[tuple[int, int, int]]]:
    """The subsequence that Redis finds, and its ranges: their beginnings in both, their lengths."""
    rows, i, j, found, ranges = table(a, b), len(a), len(b), [], []
    while i and j:
        if a[i - 1] == b[j - 1]:
            i, j = i - 1, j - 1
            found.append(a[i])
            if ranges and ranges[-1][:2] == (i + 1, j + 1):
                ranges[-1] = i, j, ranges[-1][2] + 1
            else:
                ranges.append((i, j, 1))
        elif rows[i - 1][j] > rows[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return bytes(reversed(found)), ranges


@pytest.mark.parametrize("seed", seeds(6))
def test_lcs_is_what_the_table_says(seed: int) -> None:
    generator = random.Random(seed)
    with Bare(seed=seed) as store:
        for _ in range(25):
            a, b = (bytes(generator.choices(b"abcd", k=generator.choice([0, 1, 63, 64, 65, 130]))) for _ in range(2))
            store("MSET", "a", a, "b", b)
            found, ranges = way_back(a, b)
            assert store("LCS", "a", "b") == found, seed
            assert store("LCS", "a", "b", "LEN") == len(found)
            least = generator.choice([0, 2, 3])
            told = [[[i, i + n - 1], [j, j + n - 1], n] for i, j, n in ranges if n >= least]
            answer = store("LCS", "a", "b", "IDX", "WITHMATCHLEN", "MINMATCHLEN", least)
            assert answer == [b"matches", told, b"len", len(found)], seed


def test_long_values_are_neither_copied_nor_mistaken() -> None:
    """Elements of several pages, and values of several pages that BY names again and again."""
    with Bare() as store:
        long = [b"x" * 9000 + b"%d" % i for i in (3, 1, 2)]
        store("RPUSH", "list", *long)
        assert store("SORT", "list", "ALPHA") == sorted(long)
        assert store("SORT", "list") == ReplyError("ERR One or more scores can't be converted into double")
        store("RPUSH", "same", *["1", "2"] * 20)
        store("MSET", "v1", b"0" * 9000 + b"2", "v2", b"0" * 9000 + b"1")
        assert store("SORT", "same", "BY", "v*") == [b"2"] * 20 + [b"1"] * 20
        assert store("SORT", "same", "BY", "v*", "ALPHA", "DESC") == [b"1"] * 20 + [b"2"] * 20
        assert store("SORT", "same", "BY", "v*", "GET", "v*", "LIMIT", 0, 1) == [b"0" * 9000 + b"1"]
        store.check()


def test_a_result_without_frames_is_refused_and_leaves_nothing_behind() -> None:
    with Bare(8 << 20, spare=1 << 20) as store:
        store("RPUSH", "list", *range(20))
        store("SET", "v", b"y" * 300_000)
        store("SET", "to", "old")
        store("MSET", *(part for i in range(20) for part in (f"v{i}", b"z" * 100_000)))
        before = store("DBSIZE")
        for _ in range(20):
            reply = store("SORT", "list", *["GET", "v*"] * 9, "STORE", "to")
            assert isinstance(reply, ReplyError) and reply.startswith("OOM"), reply
        assert store("GET", "to") == b"old"
        assert store("DBSIZE") == before
        assert store("SORT", "list", "LIMIT", 0, 3, "STORE", "to") == 3
        store.check()


def looks(store: Bare, count: int) -> int:
    """How often a page is looked at to sort texts of which each goes on a page longer like the one before it."""
    store("DEL", "list")
    for i in range(count, 0, -1):
        store("RPUSH", "list", b"x" * (4096 * i) + b"y")
    counters = store.shard.processor.counters
    before = counters["tlb_hits"] + counters["tlb_misses"]
    assert store("SORT", "list", "ALPHA", "LIMIT", 0, 1) == [b"x" * (4096 * count) + b"y"]
    counters = store.shard.processor.counters
    return counters["tlb_hits"] + counters["tlb_misses"] - before


def test_the_work_grows_as_the_texts_do_not_faster() -> None:
    """Twice as many texts that are twice as long are four times as many bytes; comparing them anew is eight."""
    with Bare() as store:
        few, many = looks(store, 40), looks(store, 80)
    assert many < 5 * few, (few, many)
