"""Sets without sockets: beside a naive twin, by their encodings, by chance, and where memory is short.

tests/server/test_sets.py compares the same commands with redis-server and valkey-server.
"""

import random
from collections import Counter
from collections.abc import Iterator
from itertools import combinations

import pytest

from kvstore.store.digest import store_digest
from kvstore.store.flush import background_step
from kvstore.wire.errors import ERRORS, OUT_OF_FRAMES
from tests.kvstore.bare import Bare
from tests.mmcore.support import seeds

OOM = ERRORS[OUT_OF_FRAMES]
LONG = [b"x" * 65, b"y" * 4090, b"z" * 9000]


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


def limit(store: Bare, integers: int, entries: int, value: int = 64) -> None:
    """Set the limits of intsets and listpacks."""
    r = store.registers
    r.SET_MAX_INTSET_ENTRIES, r.SET_MAX_LISTPACK_ENTRIES, r.SET_MAX_LISTPACK_VALUE = integers, entries, value


def members(store: Bare, key: str) -> set[bytes]:
    """The members of a set, each of which is replied once."""
    found = store("SMEMBERS", key)
    assert isinstance(found, list) and len(set(found)) == len(found)
    return set(found)


def encoding(store: Bare, key: str) -> bytes:
    found = store("OBJECT", "ENCODING", key)
    assert isinstance(found, bytes)
    return found


# ------------------------------------------------------------------------------------------------------ beside a twin


class Twin:
    """Sets as Python has them."""

    def __init__(self) -> None:
        self.sets: dict[str, set[bytes]] = {}

    def get(self, key: str) -> set[bytes]:
        return self.sets.get(key, set())

    def put(self, key: str, value: set[bytes]) -> int:
        self.sets[key] = value
        if not value:
            del self.sets[key]
        return len(value)


def some(r: random.Random) -> list[bytes]:
    """Members to add or to remove: integers of all sizes, short texts, long ones."""
    kind = r.randrange(6)
    if kind == 0:
        return [b"%d" % (r.randrange(-50, 50) << r.choice([0, 0, 12, 30, 56])) for _ in range(r.randrange(1, 40))]
    if kind == 1:
        return [b"%d" % r.randrange(100) for _ in range(r.randrange(1, 5))]
    if kind == 2:
        return [*r.sample(LONG, 1), b"", b"007"]
    return [b"m%d" % r.randrange(300) for _ in range(r.randrange(1, 60))]


def step(store: Bare, twin: Twin, r: random.Random) -> str:
    """Do the same to both."""
    key, other, third = (r.choice("abcd") for _ in range(3))
    mine, kind, given = set(twin.get(key)), r.randrange(10), some(r)
    if kind < 3:
        assert store("SADD", key, *given) == len(set(given) - mine)
        twin.put(key, mine | set(given))
        return "SADD"
    if kind < 5:
        gone = given if r.random() < 0.5 else r.sample(sorted(mine), len(mine) * r.randrange(4) // 3)
        assert store("SREM", key, *(gone or [b"none"])) == len(set(gone) & mine)
        twin.put(key, mine - set(gone))
        return "SREM"
    if kind == 5:
        count = r.choice([0, 1, 3, len(mine) // 2, 9 * len(mine) // 10, 1000])
        popped = store("SPOP", key, count)
        assert isinstance(popped, list) and len(set(popped)) == len(popped) == min(count, len(mine))
        assert set(popped) <= mine
        twin.put(key, mine - set(popped))
        return "SPOP"
    if kind == 6:
        member = r.choice(sorted(mine) or [b"none"])
        assert store("SMOVE", key, other, member) == (member in mine)
        if member in mine:
            twin.put(key, mine - {member})
            twin.put(other, twin.get(other) | {member})
        return "SMOVE"
    results = {
        "SUNION": twin.get(other) | twin.get(third),
        "SINTER": twin.get(other) & twin.get(third),
        "SDIFF": twin.get(other) - twin.get(third),
    }
    name = r.choice(sorted(results))
    found = store(name, other, third)
    assert isinstance(found, list) and len(found) == len(results[name]) and set(found) == results[name]
    assert store("SINTERCARD", 2, other, third) == len(results["SINTER"])
    assert store(f"{name}STORE", key, other, third) == twin.put(key, results[name])
    return name


@pytest.mark.parametrize("seed", seeds(4))
def test_a_set_is_what_a_naive_one_is(store: Bare, seed: int) -> None:
    r, twin = random.Random(seed), Twin()
    for number in range(400):
        if number % 100 == 0:
            limit(store, *r.choice([(512, 128, 64), (3, 4, 8), (0, 0, 0), (100000, 100000, 100000)]))
        name = step(store, twin, r)
        for key in "abcd":
            assert members(store, key) == twin.get(key), f"seed {seed}, step {number}: {name}"
        if number % 50 == 0:
            store.check()
            key, probe = r.choice("abcd"), [*some(r), *sorted(twin.get("a"))[:5]]
            assert store("SMISMEMBER", key, *probe) == [int(member in twin.get(key)) for member in probe]
            assert [store("SISMEMBER", key, member) for member in probe] == store("SMISMEMBER", key, *probe)
            assert store("SCARD", key) == len(twin.get(key))


def test_many_sets_are_combined(store: Bare) -> None:
    """So many that members are noted in a table, with duplicates in every pair of forms."""
    r = random.Random(5)
    limit(store, 512, 128)
    sets = []
    for i in range(40):
        kind = (lambda n: b"%d" % n) if i % 3 == 0 else (lambda n: b"m%d" % n)
        one = {kind(r.randrange(400)) for _ in range(r.choice([5, 60, 300]))}
        if i % 3 == 1:
            one |= {b"%d" % n for n in range(i)} | {LONG[2]}
        store("SADD", f"k{i}", *sorted(one))
        sets.append(one)
    names = [f"k{i}" for i in range(40)]
    union = store("SUNION", *names, "none", "k3")
    assert isinstance(union, list) and sorted(union) == sorted(set().union(*sets))
    assert store("SUNIONSTORE", "all", *names) == len(set().union(*sets)) and members(store, "all") == set(union)
    for first, others in (("all", names[:3]), ("all", names), ("k0", names[3:]), ("k1", ["all"])):
        subtrahends = [set(store("SMEMBERS", name)) for name in others]  # type: ignore[call-overload]
        left = members(store, first) - set().union(*subtrahends)
        found = store("SDIFF", first, "none", *others)
        assert isinstance(found, list) and sorted(found) == sorted(left)
        assert store("SDIFFSTORE", "left", first, *others) == len(left) and members(store, "left") == left
    assert store("SDIFF", "all", "k1", "all") == [] and store("SINTER", "all", *names) == []


# ---------------------------------------------------------------------------------------------------------- encodings


def test_integers_are_an_intset_up_to_a_limit(store: Bare) -> None:
    for i in range(512):
        store("SADD", "a", (i - 256) << 50)  # more bytes than INTS hold
    assert encoding(store, "a") == b"intset" and len(members(store, "a")) == 512
    store("SADD", "a", 1)
    assert encoding(store, "a") == b"hashtable"
    for i in range(100):
        store("SADD", "b", i)
    assert encoding(store, "b") == b"intset"
    store("SADD", "b", "x")
    assert encoding(store, "b") == b"listpack" and members(store, "b") == {b"x"} | {b"%d" % i for i in range(100)}
    store("SADD", "b", "x" * 65)
    assert encoding(store, "b") == b"hashtable"
    store("SREM", "b", "x" * 65)
    assert encoding(store, "b") == b"hashtable"
    store("SADD", "c", *range(128))
    store("SADD", "c", "x")
    assert encoding(store, "c") == b"hashtable"
    store("SADD", "d", *range(129), "x")
    assert encoding(store, "d") == b"hashtable"
    store("SADD", "e", *[b"%060d" % i for i in range(128)])  # more bytes than a chain holds
    assert encoding(store, "e") == b"listpack" and store("SCARD", "e") == 128
    store("SADD", "e", "y")
    assert encoding(store, "e") == b"hashtable"


@pytest.mark.parametrize(
    ("before", "popped", "after"),
    [(b"hashtable", 250, b"listpack"), (b"hashtable", 240, b"hashtable"), (b"intset", 250, b"intset")],
)
def test_few_members_that_are_left_make_a_new_set(store: Bare, before: bytes, popped: int, after: bytes) -> None:
    limit(store, 512, 128)
    store("SADD", "a", *(range(300) if before == b"intset" else [f"m{i}" for i in range(300)]))
    assert encoding(store, "a") == before
    store("SPOP", "a", popped)
    assert (store("SCARD", "a"), encoding(store, "a")) == (300 - popped, after)


def test_a_result_has_the_encoding_that_redis_gives_it(store: Bare) -> None:
    store("SADD", "ints", *range(300))
    store("SADD", "wide", *range(600))
    store("SADD", "words", *[f"m{i}" for i in range(100)])
    store("SADD", "more", *[f"m{i}" for i in range(200)])
    for result, command in (
        (b"intset", ("SINTERSTORE", "to", "ints", "wide")),
        (b"hashtable", ("SUNIONSTORE", "to", "ints", "wide")),
        (b"hashtable", ("SUNIONSTORE", "to", "wide")),
        (b"listpack", ("SINTERSTORE", "to", "more", "words")),
        (b"listpack", ("SUNIONSTORE", "to", "words")),
        (b"listpack", ("SDIFFSTORE", "to", "more", "words")),
        (b"hashtable", ("SDIFFSTORE", "to", "more", *["ints"] * 20)),
        (b"hashtable", ("SUNIONSTORE", "to", "words", "ints")),
    ):
        assert store(*command) != 0
        assert encoding(store, "to") == result, command
    # Where Redis goes through the sets to subtract, all members of the first decide, even those that do not stay.
    store("SADD", "few", *[f"m{i}" for i in range(150)])
    assert store("SDIFFSTORE", "to", "more", "few", "x", "few") == 50 and encoding(store, "to") == b"listpack"
    for i in range(10):
        store("SADD", f"one{i}", f"m{i}")
    assert store("SDIFFSTORE", "to", "words", *[f"one{i}" for i in range(10)]) == 90
    assert encoding(store, "to") == b"listpack"
    assert store("SDIFFSTORE", "to", "more", *[f"one{i}" for i in range(10)], "one0") == 190
    assert encoding(store, "to") == b"hashtable"


# ------------------------------------------------------------------------------------------------------------- chance


def is_even(counts: Counter[object], kinds: int) -> bool:
    """Whether so many kinds came up equally often, by chi-square, within six standard deviations."""
    expected = sum(counts.values()) / kinds
    missing = kinds - len(counts)
    chi_square = sum((count - expected) ** 2 / expected for count in counts.values()) + missing * expected
    return chi_square < kinds - 1 + 6 * (2 * (kinds - 1)) ** 0.5


def grown(store: Bare, form: str) -> set[bytes]:
    """A set "s" of this form, grown or shrunken to what it is."""
    limit(store, 512, 128)
    texts = [b"m%d" % i for i in range(3000)]
    if form.startswith("ints"):
        store("SADD", "s", *range(400))
        store("SREM", "s", *(range(30, 400) if form == "ints, shrunken" else range(370, 400)))
    elif form == "chain":
        store("SADD", "s", *texts[:90])
    elif form == "chain, shrunken":
        store("SADD", "s", *texts[:120])
        store("SREM", "s", *texts[10:110])
    elif form == "record":
        for text in texts[:400]:
            store("SADD", "s", text)
    else:
        store("SADD", "s", *texts)
        store("SREM", "s", *(texts[200:] if form == "record, shrunken" else texts[7:]))
    return members(store, "s")


FORMS = pytest.mark.parametrize(
    "form", ["ints", "ints, shrunken", "chain", "chain, shrunken", "record", "record, shrunken", "record, sparse"]
)


@FORMS
def test_every_member_has_the_same_chance(store: Bare, form: str) -> None:
    every = grown(store, form)
    drawn = store("SRANDMEMBER", "s", -100 * len(every))
    assert isinstance(drawn, list) and is_even(Counter(drawn), len(every)) and set(drawn) == every
    assert is_even(Counter(store("SRANDMEMBER", "s") for _ in range(20 * len(every))), len(every))
    for count in (len(every) // 5 + 1, len(every) - 2):
        found: Counter[object] = Counter()
        for _ in range(max(400, 20 * len(every) // count)):
            some_ = store("SRANDMEMBER", "s", count)
            assert isinstance(some_, list) and len(set(some_)) == len(some_) == count
            found.update(some_)
        assert is_even(found, len(every))
    whole = store("SRANDMEMBER", "s", len(every))
    assert isinstance(whole, list) and set(whole) == every and len(whole) == len(every)


@FORMS
def test_every_member_is_popped_with_the_same_chance(store: Bare, form: str) -> None:
    every = grown(store, form)
    for words in ((), (1,), (2,), (len(every) - 1,)):
        found: Counter[object] = Counter()
        for _ in range(max(200, 10 * len(every) // sum(words, 1))):
            popped = store("SPOP", "s", *words)
            popped = popped if isinstance(popped, list) else [popped]
            found.update(popped)
            assert store("SADD", "s", *popped) == len(popped)
        assert is_even(found, len(every)), words


@pytest.mark.parametrize("entries", [128, 0])
@pytest.mark.parametrize("member", [b"%d", b"m%d"])
def test_every_pair_has_the_same_chance(store: Bare, entries: int, member: bytes) -> None:
    limit(store, 512 if entries else 0, entries)
    every = [member % i for i in range(6)]
    store("SADD", "s", *every)
    drawn: Counter[object] = Counter()
    popped: Counter[object] = Counter()
    for _ in range(3000):
        drawn[frozenset(store("SRANDMEMBER", "s", 2))] += 1  # type: ignore[call-overload]
        popped[frozenset(store("SPOP", "s", 2))] += 1  # type: ignore[call-overload]
        store("SADD", "s", *every)
    pairs = {frozenset(pair) for pair in combinations(every, 2)}
    assert set(drawn) == set(popped) == pairs
    assert is_even(drawn, len(pairs)) and is_even(popped, len(pairs))


# -------------------------------------------------------------------------------------------------------------- scans


@pytest.mark.parametrize("change", ["grows", "shrinks", "changes its form"])
def test_a_scan_meets_what_is_there_throughout(store: Bare, change: str) -> None:
    limit(store, 512, 128)
    stays = [b"stays:%d" % i for i in range(100 if change == "changes its form" else 500)]
    goes = [b"goes:%d" % i for i in range(3000)]
    store("SADD", "s", *stays)
    if change == "shrinks":
        store("SADD", "s", *goes)
    cursor, found, at = b"0", set(), 0
    while True:
        reply = store("SSCAN", "s", cursor, "COUNT", 20)
        assert isinstance(reply, list)
        cursor = reply[0]
        found.update(reply[1])
        if cursor == b"0":
            break
        if at < len(goes):
            store("SREM" if change == "shrinks" else "SADD", "s", *goes[at : at + 90])
        at += 90
    assert set(stays) <= found


# ----------------------------------------------------------------------------------------------------- want of memory


@pytest.mark.parametrize("name", ["SUNIONSTORE", "SINTERSTORE", "SDIFFSTORE"])
def test_a_result_that_does_not_fit_is_dropped_wherever_memory_ends(name: str) -> None:
    with Bare(48 << 20) as store:
        for at in range(0, 6000, 1000):
            store("SADD", "a", *[f"member:{i}" for i in range(at, at + 1000)])
        store("SADD", "to", "before")
        if name == "SINTERSTORE":
            store("COPY", "a", "b")
        settle(store)
        in_force, before = store.registers.FRAMES_IN_FORCE, store_digest(store.context)
        used = store.memory.frames_total - store.memory.frames_free
        done = 0
        for more in (0, 700, *range(766, 1200, 48)):
            store.registers.FRAMES_IN_FORCE = used + more
            reply = store(name, "to", "a", "b")
            store.check()
            settle(store)
            if reply == OOM:
                assert store_digest(store.context) == before
                assert (
                    store.memory.frames_total - store.memory.frames_free <= used + 40
                )  # a page of each size, and tables, stay
                continue
            assert reply == 6000 and members(store, "to") == members(store, "a")
            done += 1
            store.registers.FRAMES_IN_FORCE = in_force
            store("DEL", "to")
            store("SADD", "to", "before")
            settle(store)
        assert 0 < done < 16
        store.check()


@pytest.mark.parametrize("shared", [False, True])
def test_a_full_store_can_be_popped_empty(shared: bool) -> None:
    with Bare(8 << 20) as store:
        at = 0
        while store("SADD", "s", *[f"member:{i}" for i in range(at, at + 100)]) == 100:
            at += 100
        root = store.fork() if shared else -1
        size = store("SCARD", "s")
        assert isinstance(size, int) and size > 20_000
        popped = store("SPOP", "s", 2 * size // 3)
        assert isinstance(popped, list) and len(set(popped)) == 2 * size // 3
        store.check()
        left = members(store, "s")
        assert left.isdisjoint(popped) and len(left) == size - len(popped)
        if shared:
            store.release(root)
        assert store("SREM", "s", *sorted(left)[:5000]) == 5000
        rest = store("SPOP", "s", size)
        assert isinstance(rest, list) and len(rest) == len(left) - 5000 and store("EXISTS", "s") == 0
        store.check()
