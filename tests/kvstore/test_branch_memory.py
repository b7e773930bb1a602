"""Memory beside the frames: branches that come and go leave nothing in it; without any, a command changes nothing."""

import gc
import os
import random
from collections.abc import Callable

import pytest

from kvstore.store.digest import store_digest
from mmcore.jit import DISABLED
from tests.kvstore.bare import ReplyError
from tests.kvstore.branches import Stores
from tests.kvstore.mallocs import bytes_in_use, failing
from tests.mmcore.support import some

pytestmark = pytest.mark.skipif(DISABLED, reason="it is the library of kernels that calls malloc")
MANY, AT_ONCE = some(10_000, 1000), 50
NOISE = 64 << 10  # [bytes] that Python takes meanwhile: less than seven for each branch


def come_and_go(stores: Stores, choose: random.Random, turn: int) -> None:
    """AT_ONCE branches are made of each other, written to and dropped in some order: in use, or by their time."""
    names, by_time = [f"{turn}:{i}" for i in range(AT_ONCE)], turn % 4 == 0
    for i, name in enumerate(names):
        origin = choose.choice(["main", *names[:i]])
        more = ("TTL", choose.randrange(1, 10)) if by_time else ()
        assert stores.say(0, "BRANCH", "CREATE", name, "FROM", origin, *more) == "OK"
        if choose.random() < 0.5:
            who = 1 + i % 3
            assert stores.say(who, "BRANCH", "USE", name) == "OK"
            stores.pipeline(
                who, ("SET", f"key:{i}", "v" * choose.choice((1, 5000))), ("RPUSH", "list", i), ("DEL", "b")
            )
            if choose.random() < 0.3:
                assert stores.say(who, "BRANCH", "RESET") == "OK"
            if choose.random() < 0.2:
                assert stores.say(0, "SNAPSHOT", "CREATE", "s", "FROM", name) == "OK"
                assert stores.say(0, "SNAPSHOT", "DROP", "s") == "OK"
    stores.say(0, "SET", "a", turn)
    if by_time:
        stores.clock_ms += 20_000
        stores.tick()
    else:
        order = [names, names[::-1], choose.sample(names, AT_ONCE)][turn % 3]
        for name in order:
            assert stores.say(0, "BRANCH", "DROP", name, "FORCE") == "OK"
    for who in range(1, 4):
        assert stores.say(who, "BRANCH", "USE", "main") == "OK"
    stores.settle()


def test_branches_that_come_and_go_leave_no_frame_no_descriptor_and_no_byte() -> None:
    with Stores(32 << 20, connections=4) as stores:
        stores.pipeline(0, ("SET", "a", "1"), ("SET", "b", "2"), ("RPUSH", "list", "x"))
        choose, taken = random.Random("come and go"), []
        for turn in range(8 + MANY // AT_ONCE):
            come_and_go(stores, choose, turn)
            if turn == 7 or turn == 7 + MANY // AT_ONCE:
                gc.collect()
                taken.append((stores.used, len(os.listdir("/proc/self/fd")), bytes_in_use()))
        assert set(stores.known()) == {"main"} and stores.registers.CHANGES_BYTES == 0
        stores.check()
    before, after = taken
    assert after[:2] == before[:2]
    assert after[2] - before[2] < NOISE


COMMANDS: dict[str, Callable[[Stores], object]] = {
    "BRANCH CREATE": lambda stores: stores.say(0, "BRANCH", "CREATE", "y", "FROM", "x", "TTL", "100"),
    "BRANCH CREATE from main": lambda stores: stores.say(0, "BRANCH", "CREATE", "y"),
    "SNAPSHOT CREATE": lambda stores: stores.say(0, "SNAPSHOT", "CREATE", "y", "FROM", "x"),
    "BRANCH USE": lambda stores: stores.say(2, "BRANCH", "USE", "x"),
    "BRANCH USE, the first": lambda stores: stores.say(2, "BRANCH", "USE", "s"),
    "BRANCH RENAME": lambda stores: stores.rename("x", "renamed"),
    "BRANCH RENAME, to a long name": lambda stores: stores.rename("s", "n" * 128),
    "BRANCH SWAP": lambda stores: stores.swap("x", "again"),
    "BRANCH SWAP with main": lambda stores: stores.swap("main", "x"),
    "BRANCH RESET": lambda stores: stores.say(0, "BRANCH", "RESET", "x"),
    "SNAPSHOT RESTORE": lambda stores: stores.say(0, "SNAPSHOT", "RESTORE", "s", "INTO", "main"),
    "BRANCH DROP": lambda stores: stores.say(0, "BRANCH", "DROP", "x", "FORCE"),
    "SNAPSHOT DROP": lambda stores: stores.say(0, "SNAPSHOT", "DROP", "s"),
    "BRANCH DIFF": lambda stores: stores.say(0, "BRANCH", "DIFF", "main", "x"),
    "SET": lambda stores: stores.say(1, "SET", "other", "v" * 100),
}


def prepared() -> Stores:
    """A branch x, which connection 1 uses and has changed, a snapshot s of it as it was, and another branch."""
    stores = Stores(connections=3)
    stores.pipeline(0, *(("SET", f"key:{i}", "v") for i in range(20)))
    assert stores.say(0, "BRANCH", "CREATE", "x") == "OK"
    assert stores.say(0, "SNAPSHOT", "CREATE", "s", "FROM", "x") == "OK"
    assert stores.say(0, "BRANCH", "CREATE", "again") == "OK"
    assert stores.say(1, "BRANCH", "USE", "x") == "OK"
    stores.pipeline(1, *(("SET", f"key:{i}", "w") for i in range(16)))  # the ring is full
    return stores


def state(stores: Stores) -> dict[str, tuple[str, int]]:
    """The contents of all stores, and how many connections use them."""
    return {name: (store_digest(stores.context_of(name)), one.users) for name, one in stores.known().items()}


def changes(stores: Stores, one: str, other: str) -> dict[str, str]:
    """The answer of BRANCH DIFF."""
    reply = stores.say(0, "BRANCH", "DIFF", one, other, "COUNT", 1000)
    assert isinstance(reply, list)
    return {key.decode(): what.decode() for _, key, what in reply[5]}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_a_command_without_memory_is_refused_and_changes_nothing_or_does_all_it_should(
    command: Callable[[Stores], object],
) -> None:
    """Each of its mallocs fails in turn.  Without memory for the record of changes, DIFF is slower and as true."""
    with prepared() as stores:
        with failing(0) as asked:
            reply, mallocs = command(stores), asked()
        assert not isinstance(reply, ReplyError), reply
        stores.settle()
        wanted, told = state(stores), {name: changes(stores, "main", name) for name in stores.known() if name != "main"}
    for number in range(1, mallocs + 1):
        with prepared() as stores:
            before = state(stores)
            with failing(number):
                reply = command(stores)
            if isinstance(reply, ReplyError):
                assert "memory" in reply or "OOM" in reply, reply
                assert state(stores) == before
                reply = command(stores)
                assert not isinstance(reply, ReplyError), reply
            stores.settle()
            assert state(stores) == wanted
            assert {name: changes(stores, "main", name) for name in stores.known() if name != "main"} == told
            stores.check()
