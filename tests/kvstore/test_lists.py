"""Lists without a server: encodings at their limits, lists of every form, memory that runs out, copies, branches."""

import random

import pytest

from kvstore.store.digest import store_digest
from kvstore.store.flush import background_step
from tests.kvstore.bare import Bare, ReplyError
from tests.kvstore.test_read_only import frozen_of
from tests.mmcore.support import only

Command = tuple[str | bytes | int, ...]


def lines(store: Bare, key: str = "list") -> list[bytes]:
    found = store("LRANGE", key, 0, -1)
    assert isinstance(found, list)
    return found


def encoding(store: Bare, key: str = "list") -> object:
    return store("OBJECT", "ENCODING", key)


@pytest.mark.parametrize(("limit", "most"), [(1, 1), (3, 3), (128, 128), (0, 1)])
def test_a_limit_of_elements(limit: int, most: int) -> None:
    with Bare() as store:
        store.registers.LIST_MAX_LISTPACK_SIZE = limit
        for i in range(most):
            store("RPUSH", "list", i)
            assert encoding(store) == b"listpack"
        store("RPUSH", "list", "x")
        assert encoding(store) == b"quicklist"
        for left in range(most, max(most // 2, 1) - 1, -1):
            store("LPOP", "list")
            assert store("LLEN", "list") == left
            assert encoding(store) == (b"listpack" if left <= most // 2 else b"quicklist")


@pytest.mark.parametrize(("limit", "most"), [(-1, 4096), (-2, 8192), (-5, 65536), (-9, 65536)])
@pytest.mark.parametrize("element", [b"x" * 10, b"12345", b"y" * 100, b"z" * 3000], ids=len)
def test_a_limit_of_bytes(limit: int, most: int, element: bytes) -> None:
    size = {10: 12, 5: 4, 100: 103, 3000: 3004}[len(element)]  # in a listpack
    with Bare() as store:
        store.registers.LIST_MAX_LISTPACK_SIZE = limit
        count = 0
        while 7 + size * count + len(element) <= most:
            assert encoding(store) in (None, b"listpack"), count
            store("RPUSH", "list", element)
            count += 1
        assert encoding(store) == b"listpack"
        store("RPUSH", "list", element)
        assert encoding(store) == b"quicklist"
        store.check()
        count += 1
        while count > 1:
            store("RPOP", "list")
            count -= 1
            assert encoding(store) == (b"listpack" if 7 + size * count <= most // 2 else b"quicklist"), count
        store.check()


def test_an_insertion_without_its_pivot_may_change_the_encoding_as_in_redis() -> None:
    with Bare() as store:
        store("RPUSH", "list", "a")
        assert store("LINSERT", "list", "BEFORE", "none", "x" * 9000) == -1
        assert encoding(store) == b"quicklist"
        assert lines(store) == [b"a"]


def test_elements_of_all_lengths_go_everywhere() -> None:
    lengths = [0, 1, 63, 64, 127, 128, 129, 4084, 4085, 4086, 4087, 4096, 5000, 20_000]
    with Bare() as store:
        expected: list[bytes] = []
        for number, length in enumerate(lengths * 2):
            element = b"%d" % number * (length + 1)
            element = element[:length]
            store("RPUSH" if number % 2 else "LPUSH", "list", element)
            expected = [*expected, element] if number % 2 else [element, *expected]
            assert lines(store) == expected
        store.check()
        for rank in range(len(expected)):
            expected[rank] = b"w" * lengths[rank % len(lengths) - 5]
            assert store("LSET", "list", rank, expected[rank]) == "OK"
            assert store("LINDEX", "list", rank - len(expected)) == expected[rank]
        assert lines(store) == expected
        store.check()
        for rank in range(0, len(expected), 3):
            assert store("RPOPLPUSH", "list", "other") == expected[-1 - rank // 3]
        assert store("LMOVE", "list", "list", "LEFT", "RIGHT") == expected[0]
        store.check()


def test_a_middle_that_is_filled_and_emptied() -> None:
    r = random.Random(3)
    with Bare() as store:
        expected = [b"%d" % i for i in range(2000)]
        store("RPUSH", "list", *expected)
        for i in range(1500):
            pivot = r.choice(expected)
            rank, element = expected.index(pivot), b"new:%d" % i + b"-" * r.choice([0, 0, 0, 500])
            after = r.randrange(2)
            assert store("LINSERT", "list", "AFTER" if after else "BEFORE", pivot, element) == len(expected) + 1
            expected.insert(rank + after, element)
        assert lines(store) == expected
        store.check()
        for i in range(3000):
            element = r.choice(expected)
            assert store("LREM", "list", 1 if i % 2 else -1, element) == 1
            expected.remove(element)
        assert lines(store) == expected
        store.check()
        assert memory(store) < 2 * sum(len(one) + 5 for one in expected)


def memory(store: Bare) -> int:
    found = store("MEMORY", "USAGE", "list", "SAMPLES", 0)
    assert isinstance(found, int)
    return found


def test_what_is_equal_is_removed_from_either_end() -> None:
    with Bare() as store:
        expected = [b"a" if i % 3 else b"b" for i in range(3000)]
        store("RPUSH", "list", *expected)
        assert store("LREM", "list", -10, "a") == 10
        assert store("LREM", "list", 500, "b") == 500
        left, gone = [one for one in expected if one == b"a"], 10
        assert store("LREM", "list", 0, "a") == len(left) - gone
        assert lines(store) == [b"b"] * 500
        assert store("LREM", "list", 501, "b") == 500
        assert store("EXISTS", "list") == 0
        store.check()


@pytest.mark.parametrize("form", [5, 300, 3000])
def test_memory_that_runs_out_at_every_point_of_every_command(form: int) -> None:
    commands: list[Command] = [
        ("LPUSH", "list", "x" * 100), ("RPUSH", "list", "x" * 5000), ("LSET", "list", 3, "y" * 4500),
        ("LSET", "list", -2, "short"), ("LINSERT", "list", "BEFORE", "element:0002", "z" * 3000), ("LPOP", "list"),
        ("RPOP", "list", 3), ("LREM", "list", 0, "element:0003"), ("LTRIM", "list", 1, -2),
        ("LMOVE", "list", "new", "LEFT", "LEFT"), ("RPOPLPUSH", "list", "list"),
        ("LMPOP", 1, "list", "RIGHT", "COUNT", 2), ("LTRIM", "list", 2, 3),
    ]  # fmt: skip
    for command in commands:
        refused = 0
        with Bare(8 << 20) as store:
            store("RPUSH", "list", *(f"element:{i:04}" for i in range(form)))
            store.fork()
            before, done = store_digest(store.context), False
            for free in range(0, store.memory.frames_free, 70):
                with only(store.memory, free):
                    reply = store(*command)
                if not isinstance(reply, ReplyError):
                    done = True
                    break
                assert reply.startswith("OOM")
                assert store_digest(store.context) == before
                refused += 1
            store.check()
        assert done and refused > 0, command


@pytest.mark.parametrize(
    ("command", "left"),
    [
        (("LREM", "list", 0, "a"), 50_000 - 334),
        (("LTRIM", "list", 7, 9), 3),
        (("LPOP", "list", 49_000), 1000),
    ],
    ids=lambda part: part[0] if isinstance(part, tuple) else "",
)
def test_a_change_of_every_page_of_a_great_list_beside_a_fork(command: Command, left: int) -> None:
    with Bare(8 << 20) as store:
        elements = [b"a" if i % 150 == 0 else b"element:%06d" % i for i in range(50_000)]
        assert store("RPUSH", "list", *elements) == len(elements)
        store.fork()
        before, refused = store_digest(store.context), 0
        for free in range(0, store.memory.frames_free, 40):
            with only(store.memory, free):
                reply = store(*command)
            if not isinstance(reply, ReplyError):
                break
            assert store_digest(store.context) == before
            refused += 1
        assert refused > 0 and store("LLEN", "list") == left
        store.check()


def test_a_frozen_list_stays_as_it_was() -> None:
    with Bare() as owner:
        owner("RPUSH", "list", "x" * 9000, *(b"%d" % i for i in range(3000)))
        frozen = frozen_of(owner)
        expected = lines(owner)
        for i in range(500):
            owner("LPOP", "list")
            owner("RPUSH", "list", i)
            owner("LSET", "list", 700 + i, "changed")
            owner("LREM", "list", 1, b"%d" % (2000 + i))
        assert lines(frozen) == expected
        owner("DEL", "list")
        while background_step(owner.context, 64) > 0:
            pass
        assert lines(frozen) == expected
        assert frozen("LPOS", "list", "2999") == 3000
        owner.check()


def test_a_copy_and_a_renamed_list() -> None:
    with Bare() as store:
        store("RPUSH", "list", *(b"%d" % i for i in range(3000)))
        assert store("COPY", "list", "copy") == 1
        store("LTRIM", "list", 10, 20)
        assert lines(store, "copy") == [b"%d" % i for i in range(3000)]
        assert encoding(store, "copy") == b"quicklist" and encoding(store) == b"listpack"
        store("RENAME", "list", "copy")
        assert lines(store, "copy") == [b"%d" % i for i in range(10, 21)]
        while background_step(store.context, 64) > 0:
            pass
        store.check()


def test_ends_that_no_list_has() -> None:
    with Bare() as store:
        store("RPUSH", "list", "a", "b", "c")
        least, most = -(1 << 63), (1 << 63) - 1
        assert store("LRANGE", "list", least, most) == [b"a", b"b", b"c"]
        assert store("LRANGE", "list", most, least) == []
        assert store("LINDEX", "list", least) is None and store("LINDEX", "list", most) is None
        assert store("LPOP", "list", 0) == []
        assert store("LTRIM", "list", least, most) == "OK"
        assert lines(store) == [b"a", b"b", b"c"]
        assert store("LTRIM", "list", most, least) == "OK"
        assert store("EXISTS", "list") == 0
        store.check()


def test_the_root_is_found_behind_a_key_of_any_length() -> None:
    """Up to a page, across its end, and beyond it; with a deadline and without."""
    with Bare() as store:
        for length in (0, 1, 100, *range(4060, 4100), 8180, 9000):
            key = "k" * length
            assert store("RPUSH", key, "a", "b") == 2
            assert store("EXPIRE", key, 100) == 1
            assert store("RPUSH", key, *("c" * 100 for _ in range(100))) == 102  # another root
            assert store("LRANGE", key, 0, 1) == [b"a", b"b"]
            assert store("PERSIST", key) == 1
            assert store("LPOP", key, 101) == [b"a", b"b"] + [b"c" * 100] * 99
            assert store("LRANGE", key, 0, -1) == [b"c" * 100]
        store.check()
