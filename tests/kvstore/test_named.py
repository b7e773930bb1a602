"""Branches and snapshots without sockets: frames that run out, accounts of frames, and the ends of stores."""

from collections.abc import Callable

import pytest

from kvstore.config.kinds import EVENT_CLASSES
from kvstore.effects.notifications import set_classes
from kvstore.store.digest import store_digest
from kvstore.store.reserve import KEPT_FOR_MAIN, own_frames
from mmcore.holdings import held
from mmcore.state import CR3
from tests.kvstore.bare import ReplyError
from tests.kvstore.branches import Stores
from tests.mmcore.support import only, some

Operation = Callable[[Stores], object]
OPERATIONS: dict[str, Operation] = {
    "BRANCH CREATE": lambda stores: stores.say(0, "BRANCH", "CREATE", "y", "FROM", "x"),
    "SNAPSHOT CREATE": lambda stores: stores.say(0, "SNAPSHOT", "CREATE", "y", "FROM", "x"),
    "SNAPSHOT CREATE FROM a snapshot": lambda stores: stores.say(0, "SNAPSHOT", "CREATE", "y", "FROM", "s"),
    "BRANCH RESET": lambda stores: stores.say(0, "BRANCH", "RESET", "x"),
    "SNAPSHOT RESTORE": lambda stores: stores.say(0, "SNAPSHOT", "RESTORE", "s", "INTO", "x"),
    "SNAPSHOT RESTORE INTO main": lambda stores: stores.say(0, "SNAPSHOT", "RESTORE", "s", "INTO", "main"),
    "BRANCH DROP": lambda stores: stores.say(0, "SNAPSHOT", "DROP", "s"),
    "SET": lambda stores: stores.say(1, "SET", "k1", "v" * 5000),
    "APPEND in a transaction": lambda stores: stores.pipeline(
        1, ("MULTI",), ("APPEND", "k1", "v" * 5000), ("APPEND", "k2", "v" * 5000), ("EXEC",)
    )[-1],
    "DEL": lambda stores: stores.say(1, "DEL", "k1"),
    "UNLINK of a great value": lambda stores: stores.say(1, "UNLINK", "big"),
    "COPY of a great value": lambda stores: stores.say(1, "COPY", "big", "copy"),
    "FLUSHALL": lambda stores: stores.say(1, "FLUSHALL"),
    "FLUSHDB": lambda stores: stores.say(1, "FLUSHDB"),
    "EXPIRE of a due key": lambda stores: stores.say(1, "PEXPIRE", "k3", "-1"),
}


def prepared() -> Stores:
    """A main store, a branch x that connection 1 uses, and a snapshot s of it."""
    stores = Stores(6 << 20, connections=2)
    for number in range(40):
        assert stores.say(0, "SET", f"k{number}", "v" * 100) == "OK"
    assert stores.say(0, "SADD", "big", *range(600), "text") == 601
    assert stores.pipeline(1, ("SELECT", 1), ("SET", "other", "1"), ("SELECT", 0)) == ["OK", "OK", "OK"]
    assert stores.say(0, "BRANCH", "CREATE", "x") == "OK"
    assert stores.say(1, "BRANCH", "USE", "x") == "OK"
    assert stores.say(1, "SET", "mine", "v" * 3000) == "OK"
    assert stores.say(0, "SNAPSHOT", "CREATE", "s", "FROM", "x") == "OK"
    assert stores.say(1, "SET", "mine", "changed") == "OK"
    stores.settle()
    stores.registers.FRAMES_IN_FORCE = 1 << 40  # it is frames that are short here, not what is in force
    return stores


INTO_MAIN = OPERATIONS["SNAPSHOT RESTORE INTO main"]
FREE = [*range(8), *range(8, 3000, some(40, 200))]  # frames


def digests(stores: Stores) -> dict[str, str]:
    """Of all stores."""
    return {name: store_digest(stores.context_of(name)) for name in stores.known()}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())
def test_what_has_no_frames_is_refused_and_has_changed_nothing(operation: Operation) -> None:
    """With ever more free frames, until it is served."""
    with prepared() as stores:
        before = digests(stores)
        for free in FREE:
            with only(stores.memory, free) as others:
                reply = operation(stores)
                kept, stores.forks = stores.forks, others
                stores.registers.FROZEN_ROOTS += len(others)
                stores.check(keyspaces=free == 0 or not isinstance(reply, ReplyError))
                stores.registers.FROZEN_ROOTS -= len(others)
                stores.forks = kept
            if not isinstance(reply, ReplyError):
                break
            assert "OOM" in reply, reply
            assert before == digests(stores)
        assert not isinstance(reply, ReplyError), "never served"
        changed = "main" if operation is INTO_MAIN else "x"
        assert all(digest == before.get(name, digest) for name, digest in digests(stores).items() if name != changed)
        stores.settle()
        stores.check()


def test_the_account_of_a_branch_is_what_it_holds_alone() -> None:
    with Stores(24 << 20, connections=2) as stores:
        for number in range(500):
            stores.say(0, "SET", f"k{number}", "v" * 500)
        stores.say(0, "BRANCH", "CREATE", "x")
        stores.say(1, "BRANCH", "USE", "x")

        def account() -> tuple[int, int]:
            context = stores.context_of("x")
            holds = held(context.space.mem, int(context.space.cpu[CR3]))
            return int(
                own_frames(context)
            ), holds.private // 4096 + holds.tables_private + 1  # and the root of its base

        assert account() == (2, 2)
        for number in range(0, 500, 7):
            stores.say(1, "SET", f"k{number}", "w" * 500)
            stores.say(0, "SET", f"k{number + 1}", "u" * 500)  # main's frames are not the branch's
        own, holds = account()
        assert own == holds > 20
        stores.say(1, "SET", "long", "v" * 1_000_000)
        own, holds = account()
        assert own == holds > 250
        stores.say(1, "DEL", "long")
        stores.settle()
        assert account()[0] == account()[1] < 200
        replies = stores.pipeline(1, ("MULTI",), *[("APPEND", f"k{i}", "a" * 3000) for i in range(50)], ("EXEC",))
        assert replies[-1] == [3500] * 50
        stores.settle()
        assert account()[0] == account()[1]
        stores.say(1, "FLUSHALL")
        stores.say(0, "FLUSHALL")
        stores.settle()
        assert account()[0] == account()[1] < 30
        stores.say(1, "BRANCH", "RESET")
        assert account()[0] == 2
        stores.settle()
        assert account()[0] == 2


def test_a_transaction_that_is_undone_costs_a_branch_nothing() -> None:
    with Stores(24 << 20, connections=2) as stores:
        for number in range(100):
            stores.say(0, "SET", f"k{number}", "v" * 500)
        stores.say(0, "BRANCH", "CREATE", "x", "MAXMEMORY", 4 << 20)
        stores.say(1, "BRANCH", "USE", "x")
        before = int(own_frames(stores.context_of("x")))
        for _ in range(5):
            replies = stores.pipeline(
                1, ("MULTI",), *[("APPEND", f"k{i}", "a" * 500_000) for i in range(20)], ("EXEC",)
            )
            assert isinstance(replies[-1], ReplyError) and replies[-1].startswith("EXECABORT"), replies[-1]
            stores.settle()
            assert int(own_frames(stores.context_of("x"))) <= before + 1
        assert stores.registers.TRANSACTIONS_UNDONE == 5
        assert stores.say(1, "APPEND", "k1", "a" * 500_000) == 500_500
        stores.check()


def test_branches_leave_a_part_of_the_memory_to_the_main_store() -> None:
    with Stores(8 << 20, connections=2) as stores:
        in_force, made = int(stores.registers.FRAMES_IN_FORCE), 0
        while (reply := stores.say(0, "BRANCH", "CREATE", f"b{made}")) == "OK":
            made += 1
        assert isinstance(reply, ReplyError) and reply.startswith("OOM")
        assert in_force // KEPT_FOR_MAIN <= in_force - stores.used < in_force // KEPT_FOR_MAIN + 5
        assert stores.say(0, "SET", "a", "1") in ("OK", reply) and made > 800
        for number in range(made):
            assert stores.say(0, "BRANCH", "DROP", f"b{number}") == "OK"
        stores.settle()
        assert stores.used < 30 and stores.registers.NAMED_STORES == 0
        assert stores.say(0, "SET", "a", "1") == "OK"


def test_stores_end_with_their_time_in_any_order() -> None:
    with Stores(connections=3) as stores:
        before = stores.used
        for number in range(30):
            kind = ("BRANCH", "SNAPSHOT")[number % 2]
            assert stores.say(0, kind, "CREATE", f"t{number}", "TTL", 1 + number * 7 % 30) == "OK"
        assert stores.say(1, "BRANCH", "USE", "t28") == "OK"
        for second in range(1, 31):
            stores.clock_ms += 1000
            stores.tick()
            stores.check(keyspaces=False)
            left = {f"t{number}" for number in range(30) if 1 + number * 7 % 30 > second}
            assert set(stores.known()) == {"main", *left}
        assert "NOBRANCH" in str(stores.say(1, "GET", "a"))
        assert stores.say(1, "BRANCH", "USE", "main") == "OK"
        stores.settle()
        stores.check()
        assert stores.used <= before + 1


def test_contents_are_replaced_in_stores_that_nobody_uses_while_events_are_published() -> None:
    with Stores(connections=2) as stores:
        set_classes(stores.registers, EVENT_CLASSES)
        stores.say(0, "SET", "a", "1", "PX", 100)
        for name in ("x", "y"):
            assert stores.say(0, "BRANCH", "CREATE", name) == "OK"
        assert stores.say(0, "SNAPSHOT", "CREATE", "s") == "OK"
        for _ in range(3):
            assert stores.say(0, "BRANCH", "RESET", "x") == "OK"
            assert stores.say(0, "SNAPSHOT", "RESTORE", "s", "INTO", "y") == "OK"
            stores.swap("x", "y")
            stores.swap("main", "y")
            stores.settle()
            stores.check()
        stores.clock_ms += 1000
        for name in ("s", "x", "y", "main"):
            assert stores.pipeline(1, ("BRANCH", "USE", name), ("GET", "a")) == ["OK", None]
        stores.check()


def test_nothing_of_the_listeners_of_a_dropped_store_stays_behind() -> None:
    """Watchers, subscribers and those who wait lose their store; the last memory of theirs is freed with it."""
    with Stores(connections=8) as stores:
        before = stores.used
        for _ in range(5):
            assert stores.say(0, "BRANCH", "CREATE", "x") == "OK"
            for who in range(1, 8):
                assert stores.say(who, "BRANCH", "USE", "x") == "OK"
            assert stores.say(1, "WATCH", "a", "b", "c") == "OK"
            assert stores.pipeline(2, ("WATCH", "a"), ("MULTI",), ("SET", "a", "1")) == ["OK", "OK", "QUEUED"]
            assert stores.say(3, "SUBSCRIBE", "c") == [b"subscribe", b"c", 1]
            assert stores.say(4, "PSUBSCRIBE", "c*") == [b"psubscribe", b"c*", 1]
            for who in (5, 6):
                assert stores.pipeline(who, ("BLPOP", "k", "l", "0")) == []
            assert (stores.registers.PUBSUB_CLIENTS, stores.registers.BLOCKED_CLIENTS) == (2, 2)
            stores.check()
            stores.drop("x")
            assert (stores.registers.PUBSUB_CLIENTS, stores.registers.BLOCKED_CLIENTS) == (0, 0)
            for who in (1, 3, 4, 5, 6, 7):
                assert "NOBRANCH" in str(stores.say(who, "GET", "a"))
            assert "EXECABORT" in str(stores.say(2, "EXEC"))
            for who in range(1, 8):
                assert stores.say(who, "BRANCH", "USE", "main") == "OK"
            stores.check()
        stores.settle()
        assert stores.used == before


def test_a_snapshot_with_work_left_is_never_written() -> None:
    """A store to be freed when a branch is made stays there, and is freed in the branch too."""
    with Stores(24 << 20, connections=2) as stores:
        for start in range(0, 4000, 500):
            stores.say(0, "SADD", "big", *(f"member {i}" for i in range(start, start + 500)))
        assert (
            stores.pipeline(0, ("SELECT", 1), *[("SET", f"k{i}", "v") for i in range(600)], ("SELECT", 0))[-1] == "OK"
        )
        assert (
            stores.pipeline(
                0,
                ("UNLINK", "big"),
                ("SET", "a", "1"),
                ("SELECT", 1),
                ("FLUSHDB",),
                ("SELECT", 0),
                ("SNAPSHOT", "CREATE", "s"),
                ("BRANCH", "CREATE", "x", "FROM", "s"),
            )[-1]
            == "OK"
        )
        before = store_digest(stores.context_of("s"))
        assert stores.say(1, "BRANCH", "USE", "s") == "OK"
        for _ in range(50):
            assert stores.say(1, "GET", "a") == b"1"
        stores.settle()
        assert stores.say(0, "BRANCH", "USE", "x") == "OK"
        stores.settle()
        stores.check()
        assert store_digest(stores.context_of("s")) == before == store_digest(stores.context_of("x"))
        assert int(own_frames(stores.context_of("s"))) == 1
