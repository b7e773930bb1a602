"""kill -9 while clients write, snapshots run and the store is emptied: the server comes back with a saved state.

Every write sets all keys to the same number at once, so that the number identifies a state; FLUSHALL is a state too.
After a kill the newest image holds one number in all keys.  That state is no older than the last one whose save was
acknowledged.  After an acknowledged save the store is never empty, unless it was emptied since.
"""

import contextlib
import random
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests import harness
from tests.attack.images import load
from tests.attack.seeds import seeds, told
from tests.server.wire import OK, Closed, Failure, Status, Wire, encode, info, wait_until

KEYS = 40
SIZES = (1, 100, 3000)
EMPTY = -1


@dataclass
class History:
    """The states requested so far, by number; EMPTY is the store without keys."""

    states: list[int] = field(default_factory=lambda: [EMPTY])
    durable: int = 0  # index of a state that is known to be saved

    @property
    def last(self) -> int:
        """Index of the newest requested state."""
        return len(self.states) - 1

    def found(self, directory: Path) -> int:
        """The index of the state in the newest image; AssertionError for an impossible state."""
        contents, refused = load(directory)
        assert refused == []
        if contents is None:
            assert self.durable == 0, "there is no image, and a save was acknowledged"
            return 0
        number = self._number(contents)
        assert number in self.states, f"state {number} was never asked for"
        saved = self.states[self.durable]
        assert number in self.states[self.durable :], f"state {number} is older than {saved}, which was saved"
        return self.states.index(number, self.durable)

    @staticmethod
    def _number(contents: dict[int, dict[bytes, tuple[bytes, int | None]]]) -> int:
        if not contents:
            return EMPTY
        assert set(contents) == {0} and len(contents[0]) == KEYS, f"{[len(one) for one in contents.values()]} keys"
        numbers = {int(value.split()[0]) for value, _ in contents[0].values()}
        assert len(numbers) == 1, f"halves of {numbers}"
        return numbers.pop()


def writes(history: History, generator: random.Random, flushes: bool) -> bytes:
    """The next state on the wire."""
    if flushes and generator.random() < 0.05:
        history.states.append(EMPTY)
        return encode("FLUSHALL")
    number = max(history.states) + 1
    history.states.append(number)
    filler = "x" * generator.choice(SIZES)
    parts = [encode("SET", f"k{i}", f"{number} {filler}") for i in range(KEYS)]
    return encode("MULTI") + b"".join(parts) + encode("EXEC")


class Load:
    """A thread that writes until the server is gone."""

    def __init__(self, address: tuple[str, int], history: History, generator: random.Random, flushes: bool) -> None:
        self.answered = history.last
        self._thread = threading.Thread(target=self._run, args=(address, history, generator, flushes))
        self._thread.start()

    def _run(self, address: tuple[str, int], history: History, generator: random.Random, flushes: bool) -> None:
        with contextlib.suppress(OSError, Closed), Wire(address) as wire:
            while True:
                data = writes(history, generator, flushes)
                index = history.last
                wire.send(data)
                for _ in range(1 if history.states[index] == EMPTY else KEYS + 2):
                    assert not isinstance(wire.reply(), Failure)
                self.answered = index

    def join(self) -> None:
        """Wait for the thread's end, which comes with the server's."""
        self._thread.join()


def save(wire: Wire, load: Load, history: History) -> None:
    """Take a snapshot to its end; it holds the last state answered before it, or a later one."""
    before = load.answered
    saves = int(info(wire, "persistence")["rdb_saves"])
    reply = wire("BGSAVE")
    assert isinstance(reply, Status | Failure), reply
    wait_until(lambda: info(wire, "persistence")["rdb_bgsave_in_progress"] == "0", "the snapshot")
    told = info(wire, "persistence")
    if isinstance(reply, Status) and told["rdb_last_bgsave_status"] == "ok" and int(told["rdb_saves"]) > saves:
        history.durable = max(history.durable, before)


def attack(directory: Path, generator: random.Random, rounds: int) -> None:
    """Kill a server again and again, on the same directory."""
    directory.mkdir()
    history = History()
    flushes = generator.random() < 0.5
    points = generator.choice(("", "1 1", "3600 1")) if not flushes else ""
    for _ in range(rounds):
        with harness.start(directory, save=points) as server, Wire(server.address) as wire:
            load_ = Load(server.address, history, generator, flushes)
            for _ in range(generator.randrange(3)):
                save(wire, load_, history)
            count = load_.answered + generator.randrange(1, 200)
            wire.send(encode("BGSAVE"))
            wait_until(lambda load_=load_, count=count: load_.answered >= count, "the load to go on", interval_s=0.001)
            server.kill()
            load_.join()
        history.durable = history.found(directory)
        history.states = history.states[: history.durable + 1]  # the later ones were lost


def test_killed_at_any_moment_it_comes_back_with_a_state_that_was_saved(tmp_path: Path) -> None:
    """Kills it some times."""
    for number, seed in enumerate(seeds("killed", 2)):
        with told(seed) as generator:
            attack(tmp_path / str(number), generator, 3)


@pytest.mark.slow
def test_killed_at_any_moment_for_long(tmp_path: Path) -> None:
    """Kills it two hundred and fifty times."""
    for number, seed in enumerate(seeds("killed", 50)):
        with told(seed) as generator:
            attack(tmp_path / str(number), generator, 5)


def test_an_emptied_store_stays_empty(tmp_path: Path) -> None:
    """With save points, FLUSHALL is answered when an empty image is durable: no kill brings the keys back."""
    with harness.start(tmp_path, save="3600 1000000") as server, Wire(server.address) as wire:
        wire.pipeline([("SET", f"k{i}", "v") for i in range(1000)])
        assert wire("SAVE") == OK
        assert wire("FLUSHALL") == OK
        server.kill()
    assert load(tmp_path)[0] == {}


def test_the_history_would_notice(tmp_path: Path) -> None:
    """Canaries: half a state, missing keys, a state that was not requested."""
    whole = {0: {b"k%d" % i: (b"7 x", None) for i in range(KEYS)}}
    assert History._number(whole) == 7
    for bad in (
        {0: {**whole[0], b"k1": (b"8 x", None)}},
        {0: dict(list(whole[0].items())[1:])},
        {**whole, 1: whole[0]},
    ):
        with pytest.raises(AssertionError):
            History._number(bad)  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="a save was acknowledged"):
        History([EMPTY, 0], 1).found(tmp_path)
