r"""An image is exactly the store at one instant, even while clients write as fast as they can.

Several connections write operations from a list, each to databases of its own.  BGSAVEs run meanwhile, and a second
server loads each image.  There each connection's databases must be the result of a prefix of its list.  The prefix must
not be shorter than the operations answered before BGSAVE was sent, nor longer than those sent before BGSAVE was
answered.  A MULTI/EXEC group is one operation: it is there as a whole or not at all.
"""

import itertools
import os
import random
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.model.keyspace import Entry, Keyspace
from tests.server.load import FAR_MS, Kinds, Writer, contents_of, describe, single
from tests.server.wire import OK, Failure, Status, Wire, info, wait_until

LOADS = {
    "counters and groups": Kinds(),
    "large values": Kinds(large=True),
    "renames, moves, swaps": Kinds(renames=True),
    "expiries and flushes": Kinds(expiries=True, flushes=True),
    "everything": Kinds(large=True, renames=True, flushes=True, expiries=True),
}
FORK_MODES = ("constant", "on-demand", "classic")


def images(directory: Path) -> list[Path]:
    """The complete images in a directory, oldest first."""
    return sorted([*directory.glob("dump-*.kvimg"), *directory.glob("dump.rdb")])


@dataclass
class Taken:
    """An image, and the progress of each writer when it was taken."""

    directory: Path
    least: list[int]
    most: list[int]


def take(wire: Wire, writers: list[Writer], source: Path, target: Path, mode: str | None) -> Taken:
    """Run BGSAVE with this kind of fork, if there are several, and copy the image."""
    if mode:
        assert wire("CONFIG", "SET", "fork-mode", mode) == OK
    least = [writer.answered for writer in writers]
    assert wire("BGSAVE") == Status("Background saving started")
    most = [writer.sent for writer in writers]
    wait_until(lambda: info(wire, "persistence")["rdb_bgsave_in_progress"] == "0", "the snapshot")
    assert info(wire, "persistence")["rdb_last_bgsave_status"] == "ok"
    target.mkdir()
    shutil.copy(images(source)[-1], target)
    return Taken(target, least, most)


def check(start, taken: Taken, writers: list[Writer]) -> list[int]:
    """Load the image in a second server; returns the prefix found for each writer."""
    with start(taken.directory) as second, Wire(second.address) as wire:
        now_ms = int(time.time() * 1000)
        contents = contents_of(wire)
        now_ms = max(now_ms, int(time.time() * 1000))
    # A key that expires during the reading may be there or not: leave out keys that are due at its end on both sides.
    contents = {
        db: kept
        for db, entries in contents.items()
        if (kept := {k: e for k, e in entries.items() if e.deadline_ms is None or e.deadline_ms > now_ms})
    }
    return [
        writer.prefix(contents, least, most, now_ms)
        for writer, least, most in zip(writers, taken.least, taken.most, strict=True)
    ]


def run(
    start, directory: Path, kinds: Kinds, seed: int, writers_count: int = 3, count: int = 12_000, shots: int = 4
) -> None:
    """Run a load, take `shots` images meanwhile and one at its end, and check each."""
    print(f"seed {seed}")
    writers = [Writer(number, seed, kinds, count) for number in range(writers_count)]
    generator = random.Random(seed)
    (directory / "data").mkdir()
    with start(directory / "data") as server, Wire(server.address) as wire:
        modes = itertools.cycle([None] if server.is_redis else FORK_MODES)
        # Data beside the load, which must be the same in every image.
        wire("SELECT", 15)
        wire.pipeline([("SET", f"still:{i}", b"%d" % i * 50, "PXAT", FAR_MS) for i in range(20_000)])
        for writer in writers:
            writer.start(server.address)
        shots_taken = []
        try:
            for shot in range(shots):
                target = sum(writer.answered for writer in writers) + generator.randrange(200, 2000)
                wait_until(
                    lambda target=target: (
                        sum(writer.answered for writer in writers) >= target
                        or not all(writer.writing for writer in writers)
                    ),
                    "the load to go on",
                )
                assert any(writer.writing for writer in writers), "the load has ended too early to say anything"
                shots_taken.append(take(wire, writers, server.directory, directory / f"shot{shot}", next(modes)))
        finally:
            for writer in writers:
                writer.stop()
        shots_taken.append(take(wire, writers, server.directory, directory / "end", next(modes)))
    prefixes = [check(start, taken, writers) for taken in shots_taken]
    print(f"prefixes {prefixes}")
    assert prefixes[-1] == [writer.answered for writer in writers]


def seed_of_today() -> int:
    """KVSTORE_SEED, or a new one."""
    return int(os.environ.get("KVSTORE_SEED", random.randrange(1 << 30)))


@pytest.mark.parametrize("load", LOADS)
def test_an_image_is_a_prefix_of_every_connection(start, tmp_path: Path, load: str) -> None:
    """Every group is whole, too."""
    shots = 3 if load == "everything" else 2
    run(start, tmp_path, LOADS[load], seed_of_today(), count=12_000, shots=shots)


@pytest.mark.slow
@pytest.mark.parametrize("load", LOADS)
def test_an_image_is_a_prefix_of_every_connection_for_long(start, tmp_path: Path, load: str) -> None:
    """The same with a larger load."""
    run(start, tmp_path, LOADS[load], seed_of_today(), writers_count=6, count=150_000, shots=30)


def test_flushdb_under_a_snapshot_does_not_reach_into_it(start, tmp_path: Path, ours: None) -> None:
    """The image has all keys of the moment of the fork, the store has none, and the frames are freed."""
    (tmp_path / "data").mkdir()
    with start(tmp_path / "data") as server, Wire(server.address) as wire:
        wire.pipeline([("SET", f"k{i}", b"%d" % i * 100) for i in range(30_000)])
        replies = wire.pipeline([("BGSAVE",), ("FLUSHDB",), ("SET", "after", "1"), ("DBSIZE",)])
        assert replies == [Status("Background saving started"), OK, OK, 1]
        for i in range(3):  # the emptied store fills again, in frames that the snapshot no longer holds or still does
            wire.pipeline([("SET", f"new{i}:{j}", b"x" * 200) for j in range(10_000)])
            wire("FLUSHDB")
        wait_until(lambda: info(wire, "persistence")["rdb_bgsave_in_progress"] == "0", "the snapshot")
        target = tmp_path / "copy"
        target.mkdir()
        shutil.copy(images(server.directory)[-1], target)
    with start(target) as second, Wire(second.address) as wire:
        assert wire("DBSIZE") == 30_000
        values = wire.pipeline([("GET", f"k{i}") for i in range(30_000)])
        assert values == [b"%d" % i * 100 for i in range(30_000)]


SEEDS = [11, 12, 13]


@pytest.mark.parametrize("seed", SEEDS)
def test_random_operations_and_reloads_keep_the_whole_store_equal_to_the_model(server, seed: int) -> None:
    """Uses all sixteen databases, with SAVE, BGSAVE and DEBUG RELOAD at random."""
    generator = random.Random(seed)
    print(f"seed {seed}")
    model = Keyspace()
    kinds = Kinds(large=True, renames=True, flushes=True)
    with Wire(server.address) as wire:
        for _ in range(25):
            db = generator.randrange(15)
            wire("SELECT", db)
            commands = []
            for _ in range(generator.choice((1, 20, 300))):
                command, effect = single(generator, db, kinds)
                commands.append(command)
                try:
                    effect(model)
                except Exception as error:  # Refused: the server must refuse it too
                    assert type(error).__name__ == "Refused"
            for reply in wire.pipeline(commands):
                assert not isinstance(reply, Failure) or reply.text == "ERR no such key", reply
            event = generator.choice(("reload", "save", "bgsave", "nothing", "nothing"))
            if event == "bgsave":
                wire("BGSAVE")
            else:
                wait_until(lambda: info(wire, "persistence")["rdb_bgsave_in_progress"] == "0", "the snapshot")
                if event == "reload":
                    assert wire("DEBUG", "RELOAD") == OK
                    expected, got = model.contents(), contents_of(wire)
                    assert expected == got, describe(expected, got)
                elif event == "save":
                    assert wire("SAVE") == OK
        wait_until(lambda: info(wire, "persistence")["rdb_bgsave_in_progress"] == "0", "the snapshot")
        assert wire("DEBUG", "RELOAD") == OK
        expected, got = model.contents(), contents_of(wire)
        assert expected == got, describe(expected, got)


def test_the_check_would_notice() -> None:
    """Canaries: half a group, a lost operation and a stray key are not a prefix."""
    writer = Writer(0, 5, Kinds(), 300)
    model = Keyspace()
    for operation in writer.list[:100]:
        operation.apply(model)
    assert Writer(0, 5, Kinds(), 300).prefix(model.contents(), 50, 150, 0) >= 50
    group = next(number for number in range(100, 300) if len(writer.list[number].effects) > 2)
    half = Keyspace()
    for number, operation in enumerate(writer.list[: group + 1]):
        for effect in operation.effects[: 1 if number == group else None]:
            effect(half)
    half.set(0, b"counter", b"half")
    with pytest.raises(AssertionError, match="no prefix"):
        Writer(0, 5, Kinds(), 300).prefix(half.contents(), group - 20, group + 20, 0)
    stray = model.copy()
    stray.databases[0][b"stray"] = Entry(b"v")
    with pytest.raises(AssertionError, match="no prefix"):
        Writer(0, 5, Kinds(), 300).prefix(stray.contents(), 50, 150, 0)
