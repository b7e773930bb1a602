"""Random commands in up to twenty branches and snapshots, beside models: each store has what its model has.

A model is a dictionary of keys by database; making, resetting, restoring and swapping stores copies or exchanges
dictionaries.  After each step the digest of every store that the step does not concern is what it was, and the store
concerned has what its model has.  From time to time the machine and all stores are proved sound.  At the end all is
dropped, and every frame comes back.
"""

import random
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import pytest

from kvstore.branches.known import context_over
from kvstore.lifetimes import connection
from kvstore.store.check import contents
from kvstore.store.digest import store_digest
from tests.kvstore.bare import START_MS, ReplyError
from tests.kvstore.branches import Stores
from tests.mmcore.support import scaled, seeds

KEYS = [b"k%d" % i for i in range(24)] + [b"", b"L" * 5000]
LENGTHS = 0, 1, 60, 500, 4100, 30_000
FIELDS = [b"f%d" % i for i in range(12)] + [b"F" * 70]
EXPECTED = "WRONGTYPE", "ERR value is not an integer", "ERR no such key", "ERR source and"
USERS, STORES_MAX = 6, 20
Database = dict[bytes, tuple[Any, int | None]]  # value, deadline


@dataclass
class Model:
    """A named store."""

    kind: str
    databases: list[Database] = field(default_factory=lambda: [{}, {}])
    base: list[Database] = field(default_factory=list)
    ends_ms: int | None = None

    def expire(self, now_ms: int) -> None:
        """Forget keys whose time has passed."""
        for database in self.databases:
            for key in [key for key, (_, deadline) in database.items() if deadline is not None and deadline <= now_ms]:
                del database[key]


class Play:
    """One stream."""

    def __init__(self, seed: int, stores: Stores) -> None:
        self.choose, self.stores = random.Random(seed), stores
        self.models = {"main": Model("main")}
        self.at = ["main"] * USERS  # the store of each user, "" when it has lost it
        self.db = [0] * USERS
        self.digests: dict[str, str] = {}
        self.number = 0
        self.trouble = 0  # refusals for want of memory

    # ------------------------------------------------------------------------------------------------------ commands

    def _name(self, *kinds: str) -> str | None:
        names = [name for name, model in self.models.items() if model.kind in kinds]
        return self.choose.choice(names) if names else None

    def step(self) -> None:
        """One thing that happens."""
        chance, who = self.choose.random(), self.choose.randrange(USERS)
        if chance < 0.2:
            self._manage(who)
        elif chance < 0.23:
            self.stores.clock_ms += self.choose.choice((1, 500, 5000))
            self._pass_time()
        elif chance < 0.3:
            self._transaction(who)
        else:
            self._command(who, *self._words())

    def _pass_time(self) -> None:
        self.stores.tick()
        now = self.stores.clock_ms
        for name in [name for name, model in self.models.items() if model.ends_ms is not None and model.ends_ms <= now]:
            self._forget(name)

    def _forget(self, name: str) -> None:
        del self.models[name]
        self.digests.pop(name, None)
        self.at = ["" if store == name else store for store in self.at]

    def _manage(self, who: int) -> None:
        choose, stores = self.choose, self.stores
        kind = choose.choice(("create", "create", "create", "use", "use", "use", "use", "reset", "restore", "swap",
                              "rename", "drop", "snapshot", "snapshot"))  # fmt: skip
        name = f"s{self.number}"
        if kind in ("create", "snapshot"):
            if len(self.models) >= STORES_MAX:
                return self._drop(who)
            origin = choose.choice(list(self.models))
            more: list[Any] = ["FROM", origin]
            ends = None
            if choose.random() < 0.2:
                more += ["TTL", seconds := choose.randrange(1, 30)]
                ends = stores.clock_ms + 1000 * seconds
            if kind == "create" and choose.random() < 0.3:
                more += ["MAXMEMORY", 1 << 21]
            assert stores.say(who, "BRANCH" if kind == "create" else "SNAPSHOT", "CREATE", name, *more) == "OK"
            self.number += 1
            # A due key that nobody has looked up is in the new store, too; to look at it deletes it there, or hides it.
            data = self.models[origin].databases
            self.models[name] = Model("branch" if kind == "create" else "snapshot", deepcopy(data), data, ends)
            self.models[name].base = deepcopy(data)
            self.digests[name] = store_digest(stores.context_of(origin))
        elif kind == "use":
            to = choose.choice(list(self.models))
            assert stores.say(who, "BRANCH", "USE", to) == "OK"
            self.at[who] = to
        elif kind == "reset" and (one := self._name("branch")):
            own = self.at[who] == one and choose.random() < 0.5
            assert stores.say(who, "BRANCH", "RESET", *(() if own else (one,))) == "OK"
            self.models[one].databases = deepcopy(self.models[one].base)
            self.digests.pop(one, None)
        elif kind == "restore" and (source := self._name("snapshot")) and (to := self._name("branch", "main")):
            assert stores.say(who, "SNAPSHOT", "RESTORE", source, "INTO", to) == "OK"
            self.models[to].databases = deepcopy(self.models[source].databases)
            self.digests[to] = self.digests.get(source) or store_digest(stores.context_of(source))
        elif kind == "swap":
            a, b = self._name("branch", "main"), self._name("branch", "main")
            assert a and b
            if a != b:
                stores.swap(a, b)
                one, other = self.models[a], self.models[b]
                one.databases, other.databases = other.databases, one.databases
                self.digests.pop(a, None), self.digests.pop(b, None)
        elif kind == "rename" and (one := self._name("branch", "snapshot")):
            assert stores.rename(one, name) == "OK"
            self.number += 1
            self.models[name] = self.models.pop(one)
            self.digests.pop(one, None)
            self.at = [name if store == one else store for store in self.at]
        elif kind == "drop":
            self._drop(who)
        return None

    def _drop(self, who: int) -> None:
        one = self._name("branch", "snapshot")
        if one is None:
            return
        if one in self.at or self.choose.random() < 0.3:
            self.stores.drop(one)
        else:
            kind = self.models[one].kind.upper()
            assert self.stores.say(who, kind, "DROP", one) == "OK"
        self._forget(one)

    def _words(self) -> list[Any]:
        choose = self.choose
        key, other, value = choose.choice(KEYS), choose.choice(KEYS), self._value()
        some = choose.sample(FIELDS, choose.randrange(1, 5))
        return choose.choice(
            (
                ["SET", key, value], ["SET", key, value], ["SET", key, value, "PX", choose.choice((100, 3000, 60_000))],
                ["GET", key], ["APPEND", key, value], ["INCR", key], ["DEL", key, other], ["PEXPIRE", key, 2000],
                ["PERSIST", key], ["RENAME", key, other], ["COPY", key, other, "DB", choose.randrange(2), "REPLACE"],
                ["HSET", key, *(part for name in some for part in (name, value[:300]))], ["HDEL", key, *some],
                ["SADD", key, *some], ["SREM", key, *some], ["SADD", key, *range(choose.randrange(1, 200))],
                ["RPUSH", key, *some, value], ["LPUSH", key, *some], ["LPOP", key], ["RPOP", key],
                ["ZADD", key, *(part for name in some for part in (choose.randrange(9), name))], ["ZREM", key, *some],
                ["SELECT", choose.randrange(2)],
                *([["FLUSHALL"], ["FLUSHDB"], ["SWAPDB", 0, 1]] if choose.random() < 0.05 else []),
            )
        )  # fmt: skip

    def _value(self) -> bytes:
        return bytes([self.choose.randrange(97, 123)]) * self.choose.choice(LENGTHS)

    def _command(self, who: int, *words: Any) -> None:
        reply = self.stores.say(who, *words)
        if not self._refused(who, words, reply):
            self._apply(who, list(words), reply)

    def _refused(self, who: int, words: Any, reply: object) -> bool:
        # Whether a command was refused for its store; such a one changes nothing.
        if not self.at[who]:
            assert isinstance(reply, ReplyError) and "NOBRANCH" in reply, (words, reply)
            return True
        self.digests.pop(self.at[who], None)
        if isinstance(reply, ReplyError) and reply.startswith(("OOM", "EXECABORT")):
            self.trouble += 1
            assert reply.startswith("EXECABORT") or "branch" in reply, reply
            return True
        if self.models[self.at[who]].kind == "snapshot" and isinstance(reply, ReplyError) and "READONLY" in reply:
            return True
        return False

    def _transaction(self, who: int) -> None:
        length = self.choose.choice((1, 3, 8, 40))
        commands = [
            self.choose.choice((["APPEND", self.choose.choice(KEYS), self._value()], self._words()))
            for _ in range(length)
        ]
        commands = [words for words in commands if words[0] not in ("FLUSHALL", "FLUSHDB", "SWAPDB", "SELECT")]
        replies = self.stores.pipeline(who, ("MULTI",), *(tuple(words) for words in commands), ("EXEC",))
        if self._refused(who, commands, replies[-1]):
            if not self.at[who]:
                self.stores.say(who, "DISCARD")
            return
        assert isinstance(replies[-1], list), replies
        for words, reply in zip(commands, replies[-1], strict=True):
            if not (isinstance(reply, ReplyError) and reply.startswith("OOM")):
                self._apply(who, words, reply)

    def _apply(self, who: int, words: list[Any], reply: object) -> None:
        # Play a command that was served to the model; its reply is checked where the model knows it.
        model, now = self.models[self.at[who]], self.stores.clock_ms
        if words[0] == "SELECT":
            self.db[who] = words[1]
            return
        if model.kind == "snapshot":
            data = deepcopy(model.databases)
            model = Model("snapshot", data)
        model.expire(now)
        database = model.databases[self.db[who]]
        if isinstance(reply, ReplyError):
            assert reply.startswith(EXPECTED), reply
            return
        if words[0] in ("FLUSHALL", "FLUSHDB", "SWAPDB"):
            if words[0] == "FLUSHALL":
                model.databases[0].clear(), model.databases[1].clear()
            elif words[0] == "FLUSHDB":
                database.clear()
            else:
                model.databases.reverse()
            return
        key, rest = words[1], words[2:]
        value, deadline = database.get(key, (None, None))
        expected: object = reply
        if words[0] == "SET":
            database[key] = rest[0], now + rest[2] if len(rest) > 1 else None
        elif words[0] == "GET":
            expected = value
        elif words[0] == "APPEND":
            database[key] = (value or b"") + rest[0], deadline
            expected = len(database[key][0])
            if not rest[0] and value is None:
                database[key] = b"", deadline
        elif words[0] == "INCR":
            expected = int(value or 0) + 1
            database[key] = b"%d" % expected, deadline
        elif words[0] == "DEL":
            expected = sum(database.pop(one, None) is not None for one in words[1:])
        elif words[0] == "PEXPIRE":
            expected = int(value is not None)
            if expected:
                database[key] = value, now + rest[0]
        elif words[0] == "PERSIST":
            expected = int(deadline is not None)
            if expected:
                database[key] = value, None
        elif words[0] == "RENAME":
            database[rest[0]] = database.pop(key)
        elif words[0] == "COPY":
            expected = int(value is not None)
            if expected:
                model.databases[rest[2]][rest[0]] = deepcopy((value, deadline))
        else:
            self._collection(database, words, value, deadline)
        assert reply == expected, (words, reply, expected)

    @staticmethod
    def _collection(database: Database, words: list[Any], value: Any, deadline: int | None) -> None:
        name, key, rest = words[0], words[1], [b"%d" % one if isinstance(one, int) else one for one in words[2:]]
        if name == "HSET":
            value = {**(value or {}), **dict(zip(rest[::2], rest[1::2], strict=True))}
        elif name == "HDEL":
            value = {one: of for one, of in (value or {}).items() if one not in rest}
        elif name == "SADD":
            value = (value or set()) | set(rest)
        elif name == "SREM":
            value = (value or set()) - set(rest)
        elif name in ("RPUSH", "LPUSH"):
            value = [*(value or []), *rest] if name == "RPUSH" else [*rest[::-1], *(value or [])]
        elif name in ("LPOP", "RPOP"):
            value = (value or [])[1:] if name == "LPOP" else (value or [])[:-1]
        elif name == "ZADD":
            scores = {one: int(score) for score, one in zip(rest[::2], rest[1::2], strict=True)}
            value = Scores({**(value or {}), **scores})
        else:
            assert name == "ZREM"
            value = Scores({one: of for one, of in (value or {}).items() if one not in rest})
        database.pop(key, None)
        if value:
            database[key] = value, deadline

    # -------------------------------------------------------------------------------------------------------- checks

    def compare(self, name: str) -> None:
        """A store has what its model has."""
        now = self.stores.clock_ms
        found = contents(self.stores.context_of(name))
        for db, expected in enumerate(self.models[name].databases):
            want = {
                key: (ordered(value), deadline)
                for key, (value, deadline) in expected.items()
                if deadline is None or deadline > now
            }
            got = {
                key: ([member for member, _ in value] if _is_sorted_set(value) else value, deadline)
                for key, (value, deadline) in found.get(db, {}).items()
                if deadline is None or deadline > now
            }
            assert got == want, f"database {db} of {name}"

    def look(self) -> None:
        """No store has changed that was not concerned; the others have what their models have."""
        known = self.stores.known()
        assert set(known) == set(self.models)
        for name in self.models:
            digest = store_digest(context_over(self.stores.context, known[name].context))
            if name in self.digests:
                assert digest == self.digests[name], f"{name} has changed, which nobody has touched"
            else:
                self.compare(name)
                self.digests[name] = digest

    def end(self) -> None:
        """Drop everything."""
        for name, model in list(self.models.items()):
            if model.kind != "main":
                self.stores.drop(name)
        for who in range(USERS):
            assert self.stores.say(who, "BRANCH", "USE", "main") == "OK"


class Scores(dict[bytes, int]):
    """A sorted set."""


def ordered(value: Any) -> Any:
    """A value as `contents` tells it, without scores."""
    if not isinstance(value, Scores):
        return value
    return [one for _, one in sorted((score, one) for one, score in value.items())]


def _is_sorted_set(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], tuple)


@pytest.mark.parametrize("seed", seeds(6))
def test_every_store_has_what_its_model_has(seed: int) -> None:
    with Stores(24 << 20, connections=USERS) as stores:
        assert stores.say(0, "FLUSHALL") == "OK"
        stores.settle()
        before = stores.used
        play = Play(seed, stores)
        for number in range(scaled(200, 40)):
            play.step()
            play.look()
            if number % 40 == 39:
                stores.check()
        play.end()
        assert stores.say(0, "FLUSHALL") == "OK"
        stores.settle()
        stores.check()
        assert stores.used == before
        assert stores.registers.NAMED_STORES == 0
        assert stores.registers.CONNECTED_CLIENTS == USERS
        assert stores.clock_ms >= START_MS
        assert all(
            int(stores.shard.connections[slot, connection.CONTEXT_OF]) == stores.context.address
            for slot in stores.slots
        )


def test_the_rig_would_notice() -> None:
    """Canaries: a change behind the model's back, in a store that it has looked at and in one that it has not."""
    with Stores(8 << 20, connections=USERS) as stores:
        play = Play(1, stores)
        for command in (("SET", b"k1", b"v"), ("SADD", b"k2", b"f1"), ("ZADD", b"k3", 1, b"f1")):
            play._command(0, *command)
        play.look()
        stores.say(1, "DEL", b"k1")
        with pytest.raises(AssertionError, match="main has changed"):
            play.look()
        play.digests.clear()
        with pytest.raises(AssertionError, match="database 0 of main"):
            play.look()
        stores.say(1, "SET", b"k1", b"v")
        play.look()
