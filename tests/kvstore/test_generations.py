"""Generations of branches: what BRANCH INFO says of each store's memory, against a naive walk of all page tables.

Stores are made of each other, to any depth, and change.  After each command a model of its own says who pays for which
frame: a frame belongs to the store whose command took it.  A command that replaces contents begins a new account.
"""

import ctypes
import random
from collections import Counter
from typing import Any

import pytest

from kvstore.branches.known import context_over
from kvstore.lifetimes.named import BASE, IS_DUE, NAMED_WORDS
from kvstore.lifetimes.store import ACCOUNT, COPY_ROOT
from kvstore.store.reserve import own_frames
from mmcore.holdings import held
from mmcore.jit import int64, over
from mmcore.paging import ADDRESS, ENTRY_COUNT, HUGE, PAGE_SHIFT, PAGE_SIZE, ROOT_LEVEL, RUN_FRAMES, P
from mmcore.state import CR3
from tests.kvstore.branches import Stores
from tests.mmcore.support import seeds, some

STEPS, STORES = some(120, 40), 6
Paths = Counter[int]


class Walk:
    """The frames below a root, each by the number of ways that lead to it: one by one, and nothing is remembered."""

    def __init__(self, stores: Stores, root: int) -> None:
        self._entries = stores.memory.state.arrays.entries
        self.tables, self.pages = Counter[int](), Counter[int]()
        self._table(root, ROOT_LEVEL)

    def _table(self, table: int, level: int) -> None:
        self.tables[table] += 1
        row = self._entries[table * ENTRY_COUNT : (table + 1) * ENTRY_COUNT]
        for index in row.nonzero()[0]:
            entry = int(row[index])
            frame = (entry & int(ADDRESS)) >> PAGE_SHIFT
            if entry & int(P) == 0:
                continue
            if level == 1:
                self.pages[frame] += 1
            elif entry & int(HUGE) == int(HUGE):
                self.pages.update(frame + i for i in range(RUN_FRAMES))
            else:
                self._table(frame, level - 1)


class Generations:
    """Stores, the frames in use by the account that took them, and the check of both."""

    def __init__(self, stores: Stores) -> None:
        self.stores = stores
        self.payers, self._due = self._charged(), set[int]()

    def _charged(self) -> dict[int, int]:
        arrays = self.stores.memory.state.arrays
        return {int(frame): int(arrays.payer[frame]) for frame in arrays.refcount.nonzero()[0]}

    def _row(self, address: int) -> Any:
        return over((ctypes.c_int64 * NAMED_WORDS).from_address(address), int64)

    def _roots(self) -> dict[str, tuple[int, list[int]]]:
        """By store, its root, and the others that it holds."""
        found = {}
        for name, one in self.stores.known().items():
            context = context_over(self.stores.context, one.context)
            beside = [int(self._row(one.address)[BASE]), int(context.store[COPY_ROOT])]
            found[name] = int(context.space.cpu[CR3]), [root for root in beside if root >= 0]
        return found

    def charge(self, *accounts: int) -> None:
        """A command ran: each frame is charged as before, or to one of these accounts, or its store had work left."""
        now, may = self._charged(), {*accounts, *self._due}
        for frame, payer in now.items():
            assert payer == self.payers.get(frame) or payer in may, (frame, payer, may)
        known = self.stores.known()
        self.payers, self._due = now, {self.account(name) for name in known if self._row(known[name].address)[IS_DUE]}

    def account(self, name: str) -> int:
        """The account of a store."""
        return int(self.stores.context_of(name).store[ACCOUNT])

    def check(self) -> None:
        """Each store has the figures of a naive walk."""
        stores, roots = self.stores, self._roots()
        walks = {name: Walk(stores, root) for name, (root, _) in roots.items()}
        others = [root for _, beside in roots.values() for root in beside] + stores.pool.waiting
        everybody = Paths()
        for walk in [*walks.values(), *(Walk(stores, root) for root in others)]:
            everybody += walk.tables + walk.pages
        assert set(everybody) == set(self.payers), "a frame in use that no root reaches"
        paid = Counter(self.payers.values())
        for name, walk in walks.items():
            private = [sum(everybody[frame] == 1 for frame in part) for part in (walk.pages, walk.tables)]
            said = held(stores.memory.state, roots[name][0])
            pages, tables = walk.pages.total(), walk.tables.total()
            assert said.rss == PAGE_SIZE * pages
            assert (said.private, said.tables_private) == (PAGE_SIZE * private[0], private[1]), name
            assert (said.shared, said.tables_shared) == (PAGE_SIZE * (pages - private[0]), tables - private[1]), name
            assert own_frames(stores.context_of(name)) == paid[self.account(name)], name
        assert paid.total() == stores.used


def write(stores: Stores, who: int, choose: random.Random) -> None:
    """A connection changes a few keys of its store."""
    for _ in range(choose.randrange(1, 6)):
        key, kind = f"key:{choose.randrange(400)}", choose.randrange(7)
        if kind == 0:
            stores.say(who, "DEL", key)
        elif kind == 1:
            stores.say(who, "SET", key, "v" * choose.choice((10, 3000, 20_000)))
        elif kind == 2:
            stores.say(who, "RPUSH", f"list:{choose.randrange(4)}", *range(choose.randrange(1, 200)))
        elif kind == 3:
            stores.say(who, "HSET", "hash", *range(2 * choose.randrange(1, 100)))
        elif kind == 4:
            stores.say(who, "SET", "long", "v" * 300_000)
        elif kind == 5:
            stores.say(who, "COPY", "long", "same pages", "REPLACE")
        else:
            stores.say(who, "APPEND", key, "more" * 20)


def test_three_generations_and_a_snapshot_between_pay_for_what_each_wrote_whichever_goes_first() -> None:
    for gone in ("main's", "s", "x", "y"):
        with Stores(8 << 20, connections=4) as stores:
            stores.pipeline(0, *(("SET", f"key:{i}", "v" * 500) for i in range(400)))
            of, choose = Generations(stores), random.Random(gone)
            for maker, name in enumerate("xyz"):
                before = own_frames(stores.context_of("main"))
                assert stores.say(0, "SNAPSHOT", "CREATE", "s" + name, "FROM", ("main", "x", "y")[maker]) == "OK"
                assert stores.say(0, "BRANCH", "CREATE", name, "FROM", "s" + name) == "OK"
                assert own_frames(stores.context_of("main")) == before, "a maker pays for no branch"
                assert own_frames(stores.context_of(name)) == 2
                assert stores.say(maker + 1, "BRANCH", "USE", name) == "OK"
                of.charge(of.account(name), of.account("s" + name))
                for who in range(maker + 2):
                    write(stores, who, choose)
                    of.charge(of.account("main"), *(of.account(one) for one in "xyz"[: maker + 1]))
                of.check()
            paid = {name: own_frames(stores.context_of(name)) for name in "xyz"}
            drops = {"main's": ["sx"], "s": ["sy"], "x": ["x", "sx"], "y": ["y", "sy", "sz"]}[gone]
            for name in drops:
                kind = "SNAPSHOT" if name[0] == "s" else "BRANCH"
                assert stores.say(0, kind, "DROP", name, "FORCE") == "OK"
                stores.settle()
                of.charge()
                of.check()
            for name in set("xyz") - set(drops):
                assert own_frames(stores.context_of(name)) <= paid[name]
            stores.check()


@pytest.mark.parametrize("seed", seeds(8))
def test_the_figures_of_stores_made_of_each_other_are_those_of_a_naive_walk(seed: int) -> None:
    choose = random.Random(seed)
    with Stores(16 << 20, connections=STORES + 1) as stores:
        stores.pipeline(0, *(("SET", f"key:{i}", "v" * 200) for i in range(400)))
        of, users, made = Generations(stores), {"main": 0}, 0  # users: the connections, by their branch
        try:
            for _ in range(STEPS):
                names = list(stores.known())
                branches = [name for name in names if name in users and name != "main"]
                target = choose.choice(names)
                kind = choose.choice(("write", "write", "write", "branch", "snapshot", "drop", "reset", "restore",
                                      "swap", "settle"))  # fmt: skip
                if kind == "write":
                    target = choose.choice(list(users))
                    write(stores, users[target], choose)
                elif kind in ("branch", "snapshot") and len(names) < STORES:
                    made += 1
                    name = f"{kind[0]}{made}"
                    assert stores.say(0, kind, "CREATE", name, "FROM", target) == "OK"
                    if kind == "branch":
                        users[name] = min(set(range(1, STORES + 1)) - set(users.values()))
                        assert stores.say(users[name], "BRANCH", "USE", name) == "OK"
                elif kind == "drop" and target != "main":
                    what = "BRANCH" if target in users else "SNAPSHOT"
                    assert stores.say(0, what, "DROP", target, "FORCE") == "OK"
                    if target in users:
                        assert stores.say(users.pop(target), "BRANCH", "USE", "main") == "OK"
                elif kind == "reset" and branches:
                    assert stores.say(0, "BRANCH", "RESET", choose.choice(branches)) == "OK"
                elif kind == "restore" and target not in users:
                    into = choose.choice(list(users))
                    assert stores.say(0, "SNAPSHOT", "RESTORE", target, "INTO", into) == "OK"
                elif kind == "swap" and branches:
                    stores.swap(choose.choice(branches), choose.choice(list(users)))
                elif kind == "settle":
                    stores.settle()
                alone = {of.account(target)} if kind == "write" else {of.account(name) for name in stores.known()}
                of.charge(*alone)
                of.check()
            stores.check()
        except BaseException:
            print(f"{seed=}")
            raise


def test_swap_exchanges_what_two_stores_pay_for_and_each_keeps_its_base() -> None:
    with Stores(8 << 20, connections=2) as stores:
        stores.pipeline(0, *(("SET", f"key:{i}", "v" * 500) for i in range(100)))
        assert stores.say(0, "BRANCH", "CREATE", "x") == "OK"
        assert stores.say(1, "BRANCH", "USE", "x") == "OK"
        assert stores.say(1, "SET", "more", "v" * 100_000) == "OK"
        of = Generations(stores)
        before = {name: own_frames(stores.context_of(name)) for name in ("main", "x")}
        stores.swap("main", "x")
        assert own_frames(stores.context_of("main")) == before["x"] - 1
        assert own_frames(stores.context_of("x")) == before["main"] + 1
        of.charge(of.account("x"))  # its base
        of.check()
        stores.check()
