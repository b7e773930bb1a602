"""Agendas against a dictionary of times: in streams, beside forks, in both forms, and with just enough frames.

Texts of one time are in no order in a chain, and in the order of their bytes in a record.
"""

import random

import pytest

from kvstore.structures.agenda import (
    AGENDA_CHAIN_MAX,
    TIME_MAX,
    agenda_at,
    agenda_due,
    agenda_find,
    agenda_first,
    agenda_frames,
    agenda_has_frames,
    agenda_least,
    agenda_moves,
    agenda_remove,
    agenda_set,
    agenda_time,
)
from kvstore.structures.element import element_key, element_key_length
from kvstore.structures.grave import dig
from kvstore.structures.kinds import CHAIN, RECORD, kind_of
from kvstore.structures.tree import check_tree
from mmcore import AddressSpace, ForkMode, check_memory
from mmcore.check import check_heap
from mmcore.heap import OWNER_BASE
from mmcore.jit import int64, linked
from mmcore.state import SPACE
from tests.kvstore.structures.support import at, heap_bytes, memory_of, space_of_heap
from tests.mmcore.support import contents, only, scaled, seeds

SEED, GRAVE = 0x5EED, OWNER_BASE
STEPS = scaled(3000, 150)
FRAMES = 4000
Times = dict[bytes, int]


@linked(int64(SPACE, int64, int64))
def question(space, which, at):  # type: ignore[no-untyped-def]
    """A leaf of the modules, by number."""
    if which == 0:
        return kind_of(space, at) if at != 0 else -1
    if which == 1:
        return agenda_time(space, at)
    if which == 2:
        return element_key_length(space, at)
    if which == 3:
        return element_key(space, at)
    if which == 4:
        return agenda_frames(space, at)
    if which == 5:
        return agenda_moves(space, at)
    return int64(agenda_has_frames(space, at))


class Agenda:
    """An agenda beside its twin."""

    def __init__(self, frames: int = FRAMES, *, space: AddressSpace | None = None) -> None:
        self.space = space or space_of_heap(frames)
        self.state, self.root, self.times = self.space.state, 0, Times()
        self.empty = heap_bytes(self.space)

    def ask(self, which: int, at_: int) -> int:
        return int(question(self.state, which, at_))

    @property
    def form(self) -> int:
        """CHAIN, RECORD, or -1 for none."""
        return self.ask(0, self.root)

    def set(self, text: bytes, time: int) -> None:
        self.root = int(agenda_set(self.state, self.root, SEED, at(text), len(text), time))
        assert self.root != 0
        self.times[text] = time

    def remove(self, text: bytes) -> None:
        self.root = int(agenda_remove(self.state, GRAVE, self.root, SEED, at(text), len(text)))
        self.times.pop(text, None)
        assert (self.root != 0) == bool(self.times)

    def remove_first(self) -> None:
        """Its text lies in the element that goes, if it does not cross pages."""
        element = int(agenda_first(self.state, self.root))
        k, va = self.ask(2, element), self.ask(3, element)
        text = memory_of(self.space, va, k)
        assert self.times[text] == min(self.times.values())
        self.remove(text)

    def read(self, element: int) -> tuple[bytes, int]:
        """The text and the time of an element."""
        return memory_of(self.space, self.ask(3, element), self.ask(2, element)), self.ask(1, element)

    def look(self, text: bytes, now: int) -> None:
        """The answers about a text and a moment."""
        assert agenda_find(self.state, self.root, SEED, at(text), len(text)) == self.times.get(text, -1)
        assert agenda_due(self.state, self.root, now) == sum(time <= now for time in self.times.values())
        least = min(self.times.values(), default=TIME_MAX + 1)
        assert agenda_least(self.state, self.root) == least
        first = int(agenda_first(self.state, self.root))
        assert self.read(first)[1] == least if self.times else first == 0

    def check(self) -> None:
        """All texts with their times, in their order."""
        found = [self.read(int(agenda_at(self.state, self.root, place))) for place in range(len(self.times))]
        assert dict(found) == self.times and len(found) == len(self.times)
        assert [time for _, time in found] == sorted(self.times.values())
        assert self.ask(5, self.root) == (len(self.times) if self.form == CHAIN else 0)
        if self.form == RECORD:
            assert [(time, text) for text, time in found] == sorted((time, text) for text, time in self.times.items())
            assert [word for word, _ in check_tree(self.state, self.root, 0)] == [time for _, time in found]

    def end(self) -> None:
        """Remove all, and prove that the memory is free again."""
        for text in list(self.times):
            self.remove(text)
        while dig(self.state, GRAVE, 1000, 0) > 0:
            pass
        assert heap_bytes(self.space) == self.empty
        check_heap(self.space)


def texts_of(r: random.Random, count: int, longest: int) -> list[bytes]:
    """Texts of many lengths; the empty one, and such as begin alike."""
    return [b"", b"\0", b"\0\0", *(b"%d" % i + b"." * r.randrange(longest) for i in range(count))]


def moment(r: random.Random) -> int:
    return r.choice([0, 1, 255, 256, r.randrange(20), r.randrange(1 << 32), r.randrange(TIME_MAX), TIME_MAX])


def step(r: random.Random, agenda: Agenda, texts: list[bytes], growth: float) -> None:
    """One change: a text that is new, the same again with the same or another time, or one that goes."""
    text = r.choice(texts)
    if r.random() < growth:
        agenda.set(text, agenda.times.get(text, 7) if r.random() < 0.1 else moment(r))
    elif agenda.times and r.random() < 0.7:
        agenda.remove_first() if r.random() < 0.5 else agenda.remove(r.choice(list(agenda.times)))
    else:
        agenda.remove(text)


@pytest.mark.parametrize("seed", seeds(8))
@pytest.mark.parametrize(("count", "longest"), [(6, 3), (100, 30), (60, 300), (900, 20), (30, 5000)])
def test_a_stream_agrees_with_a_dictionary(count: int, longest: int, seed: int) -> None:
    r = random.Random(seed)
    agenda, texts = Agenda(), texts_of(r, scaled(count, min(count, 200)), longest)
    forms = set()
    for growth in (0.9, 0.5, 0.2, 0.8, 0.1):
        for number in range(STEPS // 5):
            step(r, agenda, texts, growth)
            agenda.look(r.choice(texts), moment(r))
            forms.add(agenda.form)
            if number % scaled(100, 30) == 0:
                agenda.check()
        agenda.check()
    assert (RECORD in forms) == (longest > 30 or scaled(count, 0) > AGENDA_CHAIN_MAX)
    agenda.end()


def test_a_chain_has_so_many_texts_and_becomes_a_record_with_one_more() -> None:
    agenda = Agenda()
    for i in range(AGENDA_CHAIN_MAX):
        agenda.set(b"%d" % i, 1000 - i)
    agenda.set(b"5", 5)
    assert agenda.form == CHAIN
    agenda.set(b"one more", 5)
    assert agenda.form == RECORD
    agenda.check()
    while len(agenda.times) > 1:
        agenda.remove_first()
    assert agenda.form == RECORD, "it never becomes a chain again"
    agenda.remove_first()
    assert agenda.root == 0
    agenda.set(b"new", 1)
    assert agenda.form == CHAIN
    agenda.check()
    agenda.end()


@pytest.mark.parametrize("mode", [ForkMode.ON_DEMAND, ForkMode.CLASSIC])
@pytest.mark.parametrize("count", [20, 400])
def test_what_a_fork_has_stays_as_it_is(mode: ForkMode, count: int) -> None:
    r = random.Random(count)
    agenda, texts = Agenda(), texts_of(r, count, 20)
    for text in texts:
        agenda.set(text, moment(r))
    child = agenda.space.fork(mode)
    other = Agenda(space=child)
    other.root, other.times = agenda.root, dict(agenda.times)
    for _ in range(scaled(600, 60)):
        step(r, agenda, texts, 0.4)
    agenda.check()
    other.check()
    other.empty = agenda.empty
    agenda.end()
    other.check()
    check_memory(agenda.space.memory, [agenda.space, child])
    other.end()
    child.exit()


@pytest.mark.parametrize("seed", seeds(4))
@pytest.mark.parametrize(("count", "longest"), [(6, 3), (140, 12), (40, 250), (900, 20)])
def test_as_many_frames_as_it_asks_for_are_enough_for_any_change(count: int, longest: int, seed: int) -> None:
    """Beside a fork that shares all pages; with one less it says that there are too few."""
    r = random.Random(seed)
    agenda, texts = Agenda(), texts_of(r, scaled(count, min(count, 200)), longest)
    for text in texts[: r.randrange(len(texts))]:
        agenda.set(text, moment(r))
    memory, child, forms = agenda.space.memory, agenda.space.fork(ForkMode.ON_DEMAND), set()
    for growth in (1, 0.9, 0.5, 0.1):
        for number in range(scaled(60, 8)):
            child.exit()
            child = agenda.space.fork(ForkMode.ON_DEMAND)
            kept = contents(memory, child.root) if number % 20 == 0 else None
            enough = agenda.ask(4, agenda.root)
            with only(memory, enough - 1):
                assert not agenda.ask(6, agenda.root)
            with only(memory, enough):
                assert agenda.ask(6, agenda.root)
                step(r, agenda, texts, growth)
            forms.add(agenda.form)
            assert kept is None or contents(memory, child.root) == kept
        agenda.check()
        check_memory(memory, [agenda.space, child])
    child.exit()
    agenda.end()


@pytest.mark.parametrize("shared", [False, True])
def test_as_many_frames_as_it_asks_for_are_enough_to_become_a_record(shared: bool) -> None:
    """With texts of all lengths, so that elements take new pages of many sizes."""
    for longest in (60, 1, 10, 200)[: scaled(4, 1)]:
        for seed in range(scaled(6, 1)):
            r = random.Random(seed)
            agenda = Agenda()
            while agenda.form != RECORD:
                text = b"%d" % len(agenda.times) + b"." * r.randrange(longest)
                child = agenda.space.fork(ForkMode.ON_DEMAND) if shared else None
                with only(agenda.space.memory, agenda.ask(4, agenda.root)):
                    agenda.set(text, moment(r))
                if child is not None:
                    child.exit()
            agenda.check()
            agenda.end()


def test_a_time_may_lie_across_two_pages() -> None:
    """Texts of nearly a page, of each length."""
    agenda = Agenda()
    for k in range(4060, 4110):
        agenda.set(b"%d" % k + b"." * (k - 4), 0x2A_BBCC_DDEE_FF)
        agenda.check()
        agenda.set(b"%d" % k + b"." * (k - 4), 0x11_2233_4455_66 + k)
    agenda.check()
    agenda.end()
