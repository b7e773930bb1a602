"""Names of dated hashes that go while frames are short: they are counted, and dropped when there are frames again.

`contents` proves after each step that the agenda of a database has its dated hashes and as many other names.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from kvstore.lifetimes.context import Context
from kvstore.store.check import contents
from kvstore.store.check_reader import Reader
from kvstore.store.expire import expire_step
from kvstore.store.expiring import expire_fields, fields_wait
from kvstore.store.flush import background_step
from kvstore.store.layout import DB_LEFT, DESCRIPTOR_SIZE, DESCRIPTORS
from kvstore.store.sampling import database_sizes
from kvstore.wire.errors import ERRORS, OUT_OF_FRAMES
from tests.kvstore.bare import Bare
from tests.mmcore.support import only, some

OTHERS = 200  # hashes whose names make an agenda a record


def left_of(context: Context, db: int = 0) -> int:
    """How many names were left in a database."""
    return int(Reader(context).words(DESCRIPTORS + db * DESCRIPTOR_SIZE + DB_LEFT, 1)[0])


def left(store: Bare, db: int = 0) -> int:
    """The same of a store."""
    return left_of(store.context, db)


def date(store: Bare, *names: str, ttl_ms: int = 10**6) -> None:
    """Give each of these hashes a field with a deadline."""
    for name in names:
        assert store("HSETEX", name, "PX", ttl_ms, "FIELDS", 1, "f", "v") == 1


@contextmanager
def short(store: Bare, free: int) -> Iterator[None]:
    """A frozen root shares all pages, and so many frames are free."""
    frozen = store.fork()
    with only(store.memory, free):
        yield
    store.release(frozen)


def leave(store: Bare, *names: str) -> None:
    """Delete hashes, each while there are frames for its removal, and not for that of its name."""
    for name in names:
        with short(store, 215):
            assert store("DEL", name) == 1


def settle(store: Bare, budget: int = 7) -> None:
    while background_step(store.context, budget):
        pass


def expire_key(store: Bare) -> None:
    store.clock_ms += 100
    assert store("EXISTS", "h") == 0


def expire_actively(store: Bare) -> None:
    store.clock_ms += 100
    expire_step(store.context, 64)


WAYS: dict[str, Callable[[Bare], object]] = {
    "DEL": lambda store: store("DEL", "h"),
    "HDEL of its last field": lambda store: store("HDEL", "h", "f"),
    "HPERSIST of its last deadline": lambda store: store("HPERSIST", "h", "FIELDS", 1, "f"),
    "SET": lambda store: store("SET", "h", "v"),
    "RENAME": lambda store: store("RENAME", "h", "g"),
    "MOVE": lambda store: store("MOVE", "h", 1),
    "its deadline": expire_key,
    "active expiry": expire_actively,
}
RESERVE = ("HDEL of its last field", "HPERSIST of its last deadline", "RENAME", "MOVE")  # frames for the name, too


@pytest.mark.parametrize("others", [0, OTHERS])
@pytest.mark.parametrize("way", WAYS)
def test_a_name_that_was_left_is_dropped_when_there_are_frames(way: str, others: int) -> None:
    """With each number of free frames: the store is sound then and later, and no name outlives the shortage."""
    outcomes, step = set(), some(1, 3) if others == 0 else some(7, 11)
    with Bare(8 << 20) as store:
        date(store, *(f"other:{i}" for i in range(others)))
        for free in range(90, 900 if way in RESERVE else 560, step):
            date(store, "h")
            if way in ("its deadline", "active expiry"):
                assert store("PEXPIRE", "h", 100) == 1
            with short(store, free):
                WAYS[way](store)
                outcomes.add(left(store))
                assert len(contents(store.context).get(0, {})) >= others
            settle(store)
            assert left(store) == 0
            store.check()
            store("DEL", "h", "g")
            store("SELECT", 1)
            store("DEL", "h")
            store("SELECT", 0)
            settle(store)
            assert left(store) == left(store, 1) == 0
    enough = way in RESERVE or (way == "SET" and others == 0)
    assert outcomes == ({0} if enough else {0, 1})


@pytest.mark.parametrize("comes", ["dated", "without deadlines", "as a string", "by RENAME", "by COPY"])
def test_a_name_that_was_left_is_used_again(comes: str) -> None:
    """Its key comes back before it was dropped."""
    with Bare(8 << 20) as store:
        date(store, "h", "other")
        leave(store, "h")
        assert left(store) == 1
        if comes == "dated":
            date(store, "h")
        elif comes == "without deadlines":
            store("HSET", "h", "f", "v")
        elif comes == "as a string":
            store("SET", "h", "v")
        else:
            store(comes[3:], "other", "h")
        store.check()
        assert left(store) == (comes in ("without deadlines", "as a string"))
        if comes == "without deadlines":
            assert store("HEXPIRE", "h", 100, "FIELDS", 1, "f") == [1]
            assert left(store) == 0
        settle(store)
        assert left(store) == 0
        store.check()


@pytest.mark.parametrize("budget", [1, 7, 1000])
def test_many_names_are_dropped_in_steps_and_others_go_on(budget: int) -> None:
    """Hashes come and go between the steps; INFO counts those that are there."""
    with Bare(32 << 20) as store:
        for db in range(2):
            store("SELECT", db)
            date(store, *(f"h{i}" for i in range(300)))
        for db in range(2):
            store("SELECT", db)
            leave(store, *(f"h{i}" for i in range(0, 300, 2)))
        assert [left(store, db) for db in range(2)] == [150, 150]
        assert [size.dated for size in database_sizes(store.context)][:3] == [150, 150, 0]
        steps = 0
        while left(store) or left(store, 1):
            assert background_step(store.context, budget) > 0
            steps += 1
            if steps % 20 == 1:
                date(store, f"h{steps % 300}", f"new{steps}")
                store("DEL", f"h{299 - steps % 300}")
                store.check()
        assert steps >= 150 // budget
        store.check()


def leave_due(store: Bare) -> None:
    """A name is left, and its time has come."""
    date(store, "h", ttl_ms=100)
    leave(store, "h")
    store.clock_ms += 100
    assert fields_wait(store.context) == 1


def test_a_name_that_was_left_goes_when_its_time_comes() -> None:
    with Bare(8 << 20) as store:
        leave_due(store)
        assert expire_fields(store.context, 10) == 1
        assert (left(store), fields_wait(store.context)) == (0, 0)
        store.check()


@pytest.mark.parametrize("way", ["FLUSHDB", "FLUSHALL", "SWAPDB"])
def test_the_count_goes_with_the_names(way: str) -> None:
    with Bare(8 << 20) as store:
        date(store, "h", "stays")
        store("SELECT", 1)
        date(store, "h")
        store("SELECT", 0)
        leave(store, "h")
        assert store(way, *((0, 1) if way == "SWAPDB" else ())) == "OK"
        assert (left(store), left(store, 1)) == (0, int(way == "SWAPDB"))
        store.check()
        settle(store)
        store.check()


def test_an_empty_database_is_flushed_of_names_that_were_left() -> None:
    with Bare(8 << 20) as store:
        leave_due(store)
        assert store("FLUSHDB") == "OK"
        assert (left(store), fields_wait(store.context)) == (0, 0)
        settle(store)
        store.check()


def test_many_dated_hashes_are_deleted_at_once_while_frames_are_short() -> None:
    """With each number of free frames DEL is refused, or does not run out."""
    names = [f"h{i}" for i in range(30)]
    replies = set()
    with Bare(16 << 20) as store:
        date(store, *(f"other:{i}" for i in range(OTHERS)))
        for free in range(100, 3000, some(40, 120)):
            for i, name in enumerate(names):
                for j in range(i % 3 * 60):  # chains and records, on many pages
                    store("HSET", name, f"g{j}", "v" * 40)
            date(store, *names)
            with short(store, free):
                replies.add(store("DEL", *names))
                assert len(contents(store.context)[0]) >= OTHERS
            store("DEL", *names)
            settle(store)
            assert left(store) == 0
    assert replies == {30, ERRORS[OUT_OF_FRAMES]}
