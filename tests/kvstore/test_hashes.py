"""Hashes without sockets: beside a dictionary, by their encodings, by chance, and where memory is short.

tests/server/test_hashes.py compares the same commands with redis-server and valkey-server.
"""

import random
from collections import Counter
from collections.abc import Iterator
from itertools import combinations

import pytest

from kvstore.store.flush import background_step
from kvstore.wire.errors import ERRORS, OUT_OF_FRAMES, VALUE_RANGE
from tests.kvstore.bare import Bare, ReplyError
from tests.mmcore.support import seeds

OOM = ERRORS[OUT_OF_FRAMES]
FORMS = {  # the limits of entries and of bytes; fields of a hash
    "chain": (512, 64, 7),
    "table": (3, 64, 7),
    "compact in a table": (100_000, 64, 700),
    "large table": (512, 64, 700),
}
Pairs = dict[bytes, bytes]


@pytest.fixture
def store() -> Iterator[Bare]:
    with Bare() as made:
        yield made
        made.check()


def limit(store: Bare, entries: int, value: int = 64) -> None:
    """Set the limits of listpacks."""
    store.registers.HASH_MAX_LISTPACK_ENTRIES, store.registers.HASH_MAX_LISTPACK_VALUE = entries, value


def pairs(store: Bare, *command: str | bytes | int) -> Pairs:
    """Fields and values in a reply that names each field once."""
    found = store(*command)
    assert isinstance(found, list) and len(set(found[::2])) == len(found) // 2
    return dict(zip(found[::2], found[1::2], strict=True))


def encoding(store: Bare, key: str = "h") -> object:
    return store("OBJECT", "ENCODING", key)


def filled(store: Bare, form: str) -> list[bytes]:
    """Make the hash "h" of a form; its fields."""
    entries, value, count = FORMS[form]
    limit(store, entries, value)
    fields = [b"f%d" % i for i in range(count)]
    assert store("HSET", "h", *(word for field in fields for word in (field, b"v" + field))) == count
    assert encoding(store) == (b"listpack" if count <= entries else b"hashtable")
    return fields


# ------------------------------------------------------------------------------------------------ beside a dictionary


def some(r: random.Random) -> Pairs:
    """Fields with values: many short ones, or a few long ones."""
    if r.random() < 0.15:
        sizes = [0, 1, 64, 65, 127, 128, 2000, 4070, 4096, 9000]
        return {b"k" * r.choice(sizes): b"v" * r.choice(sizes) for _ in range(r.randrange(1, 3))}
    return {b"f%d" % r.randrange(200): b"%d" % r.randrange(10 ** r.randrange(1, 15)) for _ in range(r.randrange(1, 40))}


def write(store: Bare, twin: Pairs, r: random.Random) -> None:
    """One command that writes, to both."""
    given, kind = some(r), r.randrange(6)
    first = next(iter(given))
    if kind < 2:
        new = len(given.keys() - twin.keys())
        words = [word for pair in given.items() for word in pair]
        assert store("HSET", "h", *words) == new
        twin.update(given)
    elif kind == 2:
        assert store("HSETNX", "h", first, given[first]) == (first not in twin)
        twin.setdefault(first, given[first])
    elif kind == 3:
        by, old = r.randrange(-1000, 1000), twin.get(first, b"0")
        if old.isdigit() and str(int(old)) == old.decode():
            assert store("HINCRBY", "h", first, by) == int(old) + by
            twin[first] = b"%d" % (int(old) + by)
        else:
            assert isinstance(store("HINCRBY", "h", first, by), ReplyError | int)
            twin.update(pairs(store, "HGETALL", "h"))
    else:
        gone = list(given) if kind == 4 else r.sample(sorted(twin), len(twin) * r.randrange(4) // 3)
        gone = (gone or [b"none"]) * r.choice([1, 1, 2])
        assert store("HDEL", "h", *gone) == len(set(gone) & twin.keys())
        for field in gone:
            twin.pop(field, None)


def read(store: Bare, twin: Pairs, r: random.Random) -> None:
    """The replies of all reading commands."""
    asked = [*some(r), *r.sample(sorted(twin), min(len(twin), 5))]
    assert pairs(store, "HGETALL", "h") == twin
    assert store("HLEN", "h") == len(twin)
    assert store("EXISTS", "h") == (len(twin) > 0)
    assert store("HMGET", "h", *asked) == [twin.get(field) for field in asked]
    for field in asked[-3:]:
        assert store("HGET", "h", field) == twin.get(field)
        assert store("HEXISTS", "h", field) == (field in twin)
        assert store("HSTRLEN", "h", field) == len(twin.get(field, b""))
    fields, values = store("HKEYS", "h"), store("HVALS", "h")
    assert isinstance(fields, list) and isinstance(values, list)
    assert dict(zip(fields, values, strict=True)) == twin
    drawn = pairs(store, "HRANDFIELD", "h", r.choice([1, 5, len(twin), 1000]), "WITHVALUES")
    assert drawn.items() <= twin.items()


@pytest.mark.parametrize("seed", seeds(3))
@pytest.mark.parametrize("limits", [(512, 64), (10, 64), (0, 0), (100_000, 100_000)], ids=str)
def test_a_hash_is_what_a_dictionary_is(store: Bare, limits: tuple[int, int], seed: int) -> None:
    r, twin = random.Random(seed), Pairs()
    limit(store, *limits)
    wide = False
    for number in range(150):
        write(store, twin, r)
        read(store, twin, r)
        if number % 30 == 0:
            store.check()
        # An encoding is left for good, until the key goes.
        widest = max((len(text) for pair in twin.items() for text in pair), default=0)
        found = encoding(store)
        assert found in ((b"hashtable",) if wide else (b"listpack", b"hashtable")) if twin else found is None
        if twin and (len(twin) > limits[0] or widest > limits[1]):
            assert found == b"hashtable", f"seed {seed}, command {number}"
        wide = found == b"hashtable"


# ---------------------------------------------------------------------------------------------------------- encodings


@pytest.mark.parametrize("entries", [0, 1, 5, 128, 600])
def test_one_field_above_the_limit_makes_a_hashtable(store: Bare, entries: int) -> None:
    limit(store, entries)
    for i in range(entries):
        store("HSET", "h", i, "")
        assert encoding(store) == b"listpack"
    store("HSET", "h", 0, "x") if entries else None
    assert encoding(store) in (b"listpack", None)
    store("HSET", "h", "one more", "")
    assert encoding(store) == b"hashtable"
    store("HDEL", "h", "one more", *range(1, entries))
    assert encoding(store) == (b"hashtable" if entries else None)


@pytest.mark.parametrize("long", [(b"k" * 65, b"v"), (b"k", b"v" * 65)], ids=["field", "value"])
@pytest.mark.parametrize("count", [0, 3, 400])
def test_one_byte_above_the_limit_makes_a_hashtable(store: Bare, count: int, long: tuple[bytes, bytes]) -> None:
    for i in range(count):
        store("HSET", "h", b"%064d" % i, b"v" * 64)
    assert encoding(store) == (b"listpack" if count else None)  # 400 of these do not fit a chain
    store("HSET", "h", *long)
    assert encoding(store) == b"hashtable"
    assert store("HGET", "h", long[0]) == long[1]
    assert store("HLEN", "h") == count + 1


def test_a_value_grows_and_shrinks_over_all_sizes(store: Bare) -> None:
    limit(store, 512, 1 << 20)
    sizes = [*range(140), *range(2040, 2060), *range(3980, 4100), 8191, 8192, 70_000]
    for size in [*sizes, *reversed(sizes)]:
        value = bytes(i & 255 for i in range(size))
        assert store("HSET", "h", "f", value, "other", size) in (0, 2)
        assert pairs(store, "HGETALL", "h") == {b"f": value, b"other": b"%d" % size}


# ------------------------------------------------------------------------------------------------------------- chance


def agree(drawn: Counter[object], outcomes: int) -> None:
    """Draws are spread evenly over so many outcomes, by chi squared."""
    expected = drawn.total() / outcomes
    assert len(drawn) == outcomes
    chi = sum((count - expected) ** 2 / expected for count in drawn.values())
    assert chi < outcomes + 5 * (2 * outcomes) ** 0.5


@pytest.mark.parametrize("form", FORMS)
def test_every_field_is_drawn_as_often(store: Bare, form: str) -> None:
    fields = filled(store, form)
    drawn = store("HRANDFIELD", "h", -40 * len(fields))
    assert isinstance(drawn, list)
    agree(Counter(drawn), len(fields))
    agree(Counter(store("HRANDFIELD", "h") for _ in range(2000)) if len(fields) == 7 else Counter(fields), len(fields))


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("form", ["chain", "table"])
def test_every_choice_of_fields_is_drawn_as_often(store: Bare, form: str, count: int) -> None:
    fields = filled(store, form)
    drawn: Counter[object] = Counter()
    for _ in range(2000):
        chosen = pairs(store, "HRANDFIELD", "h", count, "WITHVALUES")
        assert all(value == b"v" + field for field, value in chosen.items())
        drawn[frozenset(chosen)] += 1
    agree(drawn, len(list(combinations(fields, count))))


def test_counts_that_cannot_be_replied(store: Bare) -> None:
    filled(store, "table")
    most = (1 << 63) - 1
    assert store("HRANDFIELD", "h", most // 2 + 1, "WITHVALUES") == ERRORS[VALUE_RANGE]
    assert len(pairs(store, "HRANDFIELD", "h", most // 2, "WITHVALUES")) == 7
    drawn = store("HRANDFIELD", "h", most)
    assert isinstance(drawn, list) and len(drawn) == 7


# -------------------------------------------------------------------------------------------------------------- scans


@pytest.mark.parametrize("seed", seeds(4))
def test_a_scan_meets_what_stays_while_others_come_and_go(store: Bare, seed: int) -> None:
    r = random.Random(seed)
    staying = set(filled(store, "large table"))
    met: set[bytes] = set()
    cursor, steps, others = b"0", 0, 0
    while cursor != b"0" or steps == 0:
        reply = store("HSCAN", "h", cursor, "COUNT", r.choice([1, 10, 50]))
        assert isinstance(reply, list)
        cursor, found = reply
        assert found[1::2] == [b"v" + field for field in found[::2]]
        met.update(found[::2])
        steps += 1
        if r.random() < 0.6:
            more = [word for i in range(others, others + 60) for word in (b"o%d" % i, b"vo%d" % i)]
            others += 60
            store("HSET", "h", *more)
        elif others:
            store("HDEL", "h", *(b"o%d" % i for i in range(max(others - 200, 0), others)))
        assert steps < 5000
    assert staying <= met


@pytest.mark.parametrize("form", FORMS)
def test_patterns_and_names_alone(store: Bare, form: str) -> None:
    fields = filled(store, form)
    for options in ((), ("NOVALUES",)):
        cursor, met = b"0", []
        while True:
            reply = store("HSCAN", "h", cursor, "MATCH", "f*[13]", *options)
            assert isinstance(reply, list)
            cursor, found = reply
            met += found if options else found[::2]
            if cursor == b"0":
                break
        assert sorted(met) == sorted(field for field in fields if field[-1:] in b"13")


# ------------------------------------------------------------------------------------------------------------- memory


def test_a_full_store_can_be_emptied_field_by_field() -> None:
    with Bare(4 << 20) as store:
        count, reply = 0, store("HSET", "h", "0", b"x" * 500)
        while reply == 1:
            count += 1
            reply = store("HSET", "h", count, b"x" * 500)
        assert reply == OOM and count > 1000
        assert store("HLEN", "h") == count
        store.check()
        frozen = store.fork()
        for i in range(0, count, 50):
            assert store("HDEL", "h", *range(i, i + 50)) == min(50, count - i)
        assert store("EXISTS", "h") == 0
        store.release(frozen)
        store.check()


def test_a_field_and_a_value_of_many_megabytes_are_kept_copied_and_freed() -> None:
    with Bare(512 << 20) as store:
        field, value = b"f" * (20 << 20), b"v" * (100 << 20)
        assert store("HSET", "h", field, value, "short", "v") == 2
        assert store("HSTRLEN", "h", field) == len(value)
        assert store("HGET", "h", field) == value
        assert store("COPY", "h", "copy") == 1
        assert store("HDEL", "h", field) == 1
        assert store("HGETALL", "h") == [b"short", b"v"]
        assert store("HEXISTS", "copy", field) == 1
        assert store("DEL", "copy") == 1
        while background_step(store.context, 1 << 16) > 0:
            pass
        store.check()


def test_a_hash_of_a_million_fields_grows_is_read_and_is_freed_in_steps() -> None:
    count, batch = 1_000_000, 10_000
    with Bare(256 << 20) as store:
        for first in range(0, count, batch):
            pairs = [part for i in range(first, first + batch) for part in (b"field:%d" % i, b"%d" % i)]
            assert store("HSET", "h", *pairs) == batch
        assert store("HLEN", "h") == count
        assert store("OBJECT", "ENCODING", "h") == b"hashtable"
        for i in range(0, count, 99_991):
            assert store("HGET", "h", b"field:%d" % i) == b"%d" % i
        assert store("UNLINK", "h") == 1
        steps = 0
        while background_step(store.context, 64) > 0:
            steps += 1
        assert steps > count // 200
        assert store("DBSIZE") == 0
        store.check()


def test_hset_of_more_fields_than_are_small_makes_a_hashtable_though_they_be_equal() -> None:
    with Bare() as store:
        limit(store, 2)
        assert store("HSET", "h", "a", 1, "a", 2) == 1
        assert encoding(store) == b"listpack"
        assert store("HSET", "h", "a", 3, "a", 4, "a", 5) == 0
        assert encoding(store) == b"hashtable"
        assert store("HGETALL", "h") == [b"a", b"5"]
        assert store("HMSET", "other", "a", 1, "a", 2, "a", 3) == "OK"
        assert encoding(store, "other") == b"hashtable"
        store.check()
