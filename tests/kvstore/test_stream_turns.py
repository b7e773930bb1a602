"""XREADGROUP and XTRIM over several turns: beside one turn, and with others that come between."""

import random

import pytest

from kvstore.store.check import contents
from tests.kvstore.bare import Bare, ReplyError
from tests.kvstore.test_copying import once
from tests.mmcore.support import seeds

STEPS = 3  # of read-aside-threshold: two entries are given in steps
Command = tuple[str | int, ...]
READ: Command = ("XREADGROUP", "GROUP", "g", "one", "STREAMS", "s", ">")
AGAIN: Command = (*READ[:-1], "0")
DELETE: Command = ("XGROUP", "DELCONSUMER", "s", "g", "one")


def fill(store: Bare, entries: int, key: str = "s") -> None:
    for i in range(1, entries + 1):
        store("XADD", key, f"{i}-1", "f", i)
    store("XGROUP", "CREATE", key, "g", 0)


def in_steps(entries: int) -> Bare:
    store = Bare(connections=2)
    store.registers.READ_ASIDE_OVER = STEPS
    fill(store, entries)
    return store


def ids(reply: object) -> list[int]:
    """The first halves of the identifiers that were given of one stream."""
    if reply is None:
        return []
    assert isinstance(reply, list), reply
    return [int(id_.split(b"-")[0]) for id_, _ in reply[0][1]]


def pending_of(store: Bare, consumer: str, count: int = 10**6) -> list[int]:
    found = store("XPENDING", "s", "g", "-", "+", count, consumer)
    assert isinstance(found, list)
    return [int(one[0].split(b"-")[0]) for one in found]


class Twins:
    """Two stores that get the same commands; one serves all in one turn, the other does not."""

    def __init__(self) -> None:
        self.one, self.other = Bare(), Bare()
        self.other.registers.READ_ASIDE_OVER = STEPS
        self.turns = 0

    def __call__(self, *command: str | int) -> None:
        assert self.one.raw(*command) == self.other.raw(*command), command
        self.turns = max(self.turns, self.other.turns)
        assert self.one.turns == 1

    def check(self) -> None:
        assert contents(self.one.context) == contents(self.other.context)
        for store in (self.one, self.other):
            store.check()
            assert store.registers.CLIENT_BUFFERS == 0


@pytest.mark.parametrize("seed", seeds(6))
def test_several_turns_end_as_one(seed: int) -> None:
    draw, twins = random.Random(seed), Twins()
    for key, entries in (("s", 1800), ("t", 40), ("u", 0)):
        for i in range(1, entries + 1):
            twins("XADD", key, f"{i // 3}-{i}", *("f", i) if i % 7 else ("g", "x" * 40, "h", i))
        twins("XGROUP", "CREATE", key, "g", draw.choice(("0", "$", "100-0")), "MKSTREAM")
        twins("XGROUP", "CREATE", key, "h", 0)
    for _ in range(40):
        kind, key = draw.randrange(10), draw.choice("stu")
        if kind < 5:
            keys = draw.choices("stu", k=draw.choice((1, 1, 2, 3, 4)))
            count = ("COUNT", draw.choice((1, 7, 499, 500, 501, 1000))) if draw.random() < 0.6 else ()
            noack = ("NOACK",) if draw.random() < 0.2 else ()
            since = [draw.choice((">", ">", ">", "0", f"{draw.randrange(300)}-0")) for _ in keys]
            group, consumer = draw.choice("gh"), draw.choice(("one", "two"))
            twins("XREADGROUP", "GROUP", group, consumer, *count, *noack, "STREAMS", *keys, *since)
        elif kind < 7:
            twins("XACK", key, "g", *(f"{i // 3}-{i}" for i in draw.sample(range(1, 1800), 300)))
        elif kind == 7:
            twins("XDEL", key, *(f"{i // 3}-{i}" for i in draw.sample(range(1, 1800), 100)))
        elif kind == 8:
            twins("XGROUP", "SETID", key, draw.choice("gh"), draw.choice(("0", "50-0", "$")))
        else:
            twins("XGROUP", "DELCONSUMER", key, "g", draw.choice(("one", "two")))
            twins("XADD", key, "*", "f", "v")
        twins.check()
    assert twins.turns > 2


def test_the_last_identifier_of_all_ends_a_read_in_steps() -> None:
    with in_steps(600) as store:
        store("XADD", "s", f"{2**64 - 1}-{2**64 - 1}", "f", "v")
        for _ in range(2):
            assert len(ids(store(*READ))) in (601, 0)
        assert len(pending_of(store, "one")) == 601
        assert len(ids(store(*AGAIN))) == 601
        store.check()


def test_what_others_are_given_between_two_turns_is_given_once() -> None:
    with in_steps(3000) as store:
        found: list[list[int]] = []
        store.between = lambda: found.append(ids(store("XREADGROUP", "GROUP", "g", "two", "COUNT", 1, *READ[4:])))
        mine = ids(store(*READ))
        store.between = None
        assert mine == list(range(1, mine[-1] + 1)) and 1 <= len(mine) < 3000
        assert found[0] == [mine[-1] + 1]
        assert (pending_of(store, "one"), pending_of(store, "two")) == (mine, [one for some in found for one in some])
        assert ids(store(*READ)) == list(range(found[-1][0] + 1, 3001))
        store.check()


@pytest.mark.parametrize(
    ("between", "left"),
    [
        (("DEL", "s"), 0),
        (("XGROUP", "DESTROY", "s", "g"), 500),
        (("SET", "s", "x"), 0),
        (("XGROUP", "SETID", "s", "g", "$"), 500),
        (("XTRIM", "s", "MAXLEN", 3), 3),
        (("XDEL", "s", "1-1", "2-1", "1399-1"), 1397),
        (("XADD", "s", "9999-1", "f", "v"), 1401),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_anything_may_come_between_two_turns(between: Command, left: int) -> None:
    """The command answers what it has given and is still there.  It comes once, after the first turn."""
    with in_steps(1400) as store:
        store.between = once(lambda: store(*between), 1)
        reply = store(*READ)
        found = ids(reply)
        assert len(found) == left
        store.check()
        assert store.registers.CLIENT_BUFFERS == 0


def test_the_turns_of_a_read_do_not_grow_with_its_streams() -> None:
    """Each turn reads the whole command again."""
    with in_steps(100) as store:
        reply = store(*READ[:-2], *["s"] * 16_000, *[">"] * 16_000)
        assert ids(reply) == list(range(1, 101)) and 2 < store.turns < 20
        store.check()


def test_a_consumer_that_is_deleted_between_two_turns_is_made_again() -> None:
    with in_steps(1400) as store:
        found: list[object] = []
        store.between = once(lambda: found.append(store("XGROUP", "DELCONSUMER", "s", "g", "one")), 1)
        assert len(ids(store(*READ))) == 1400 and found == [500]
        assert pending_of(store, "one") == list(range(501, 1401))
        store.check()


@pytest.mark.parametrize("command", [READ, AGAIN, DELETE])
def test_a_turn_behind_an_image_is_a_change_since_then(command: Command) -> None:
    """Else no save point would ever save it."""
    with in_steps(1400 if command[0] == "XREADGROUP" else 4400) as store:
        if command != READ:
            store(*READ)
        changes: list[int] = []

        def image() -> None:
            changes.append(int(store.registers.DIRTY))
            store.registers.DIRTY = 0

        store.between = image
        store(*command)
        changes.append(int(store.registers.DIRTY))
        assert len(changes) == store.turns > 2 and min(changes) > 0


def test_entries_that_were_acknowledged_between_two_turns_are_not_given_again() -> None:
    with in_steps(1400) as store:
        store(*READ)
        store.between = once(lambda: store("XACK", "s", "g", "1-1", "1000-1"), 1)
        assert ids(store(*AGAIN)) == [i for i in range(1, 1401) if i not in (1, 1000)]
        store.check()


def test_where_frames_end_the_command_answers_what_it_has_given() -> None:
    with Bare(size=24 << 20, spare=0) as store:
        fill(store, 200_000)
        for i in range(10_000):
            if store.memory.frames_free <= 1400:
                break
            store("SET", f"x{i}", b"x" * 65536)
        store.registers.READ_ASIDE_OVER = STEPS
        reply = store(*READ)
        given = ids(reply)
        assert 500 <= len(given) < 200_000 and given == list(range(1, len(given) + 1))
        assert store("XPENDING", "s", "g")[0] == len(given)  # type: ignore[index]
        assert isinstance(store(*READ), ReplyError)
        assert store("XPENDING", "s", "g")[0] == len(given)  # type: ignore[index]
        store.check()
        assert store.registers.CLIENT_BUFFERS == 0


# --- XTRIM -----------------------------------------------------------------------------------------------------------


def of_nodes(nodes: int, entries: int = 1) -> Bare:
    """A stream of so many nodes, each of so many entries."""
    store = Bare(connections=2)
    store.registers.STREAM_NODE_MAX_ENTRIES = entries
    for i in range(1, nodes * entries + 1):
        store("XADD", "s", f"{i}-1", "f", i)
    return store


@pytest.mark.parametrize(
    ("options", "gone", "turns"),
    [
        ("MAXLEN 6000", 6000, 2),
        ("MAXLEN 5999", 6001, 2),
        ("MAXLEN 4001", 7999, 2),
        ("MAXLEN 3990", 8010, 1),  # less than is looked at from the end in one turn
        ("MAXLEN 10", 11990, 1),
        ("MAXLEN 0", 12000, 1),
        ("MAXLEN 11990", 10, 1),
        ("MAXLEN 12000", 0, 1),
        ("MINID 6002", 6001, 2),
        ("MINID 11990", 11989, 1),
        ("MINID 99999", 12000, 1),
        ("MINID 1", 0, 1),
        ("MAXLEN ~ 5999 LIMIT 0", 6000, 2),
        ("MAXLEN ~ 10 LIMIT 9001", 9000, 3),
        ("MINID ~ 9999 LIMIT 4000", 4000, 1),
        ("MINID ~ 9999 LIMIT 4002", 4002, 2),
    ],
)
def test_xtrim_counts_so_many_nodes_a_turn(options: str, gone: int, turns: int) -> None:
    with of_nodes(6000, 2) as store:
        assert store("XTRIM", "s", *options.split()) == gone
        assert store.turns == turns
        assert store("XLEN", "s") == 12000 - gone
        left = store("XRANGE", "s", "-", "+", "COUNT", 1)
        assert left == ([[b"%d-1" % (gone + 1), [b"f", b"%d" % (gone + 1)]]] if gone < 12000 else [])
        store.check()


def test_xtrim_goes_on_with_what_is_there_in_the_next_turn() -> None:
    with of_nodes(9000) as store:
        store.between = once(lambda: store("XADD", "s", "*", "f", "v"), 1)
        assert (store("XTRIM", "s", "MAXLEN", 4500), store("XLEN", "s")) == (4501, 4500)
        store.between = once(lambda: store("DEL", "s"), 1)
        assert (store("XTRIM", "s", "MAXLEN", 2200), store.turns) == (2000, 2)
        store.check()


def test_xadd_trims_at_once() -> None:
    with of_nodes(9000) as store:
        store("XADD", "s", "MAXLEN", 4500, "*", "f", "v")
        assert (store.turns, store("XLEN", "s")) == (1, 4500)
        store.check()
