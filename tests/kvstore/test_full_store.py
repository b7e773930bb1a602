"""A store whose frames are all in use can be read, overwritten and emptied, even if a snapshot shares all of it."""

import random
from collections.abc import Callable

import numpy as np
import pytest

from kvstore.lifetimes.context import Context
from kvstore.lifetimes.wiring import OpenStore
from kvstore.store.check import contents
from kvstore.store.databases import FRAMES_TO_REMOVE
from kvstore.store.expire import expire_step
from kvstore.store.flush import KEEP_FRAMES, background_step, give_back_credit, release_root
from kvstore.wire.errors import ERRORS, OUT_OF_FRAMES
from mmcore.check import check_heap, check_memory
from mmcore.fork import CLASSIC, CONSTANT, ON_DEMAND
from tests.kvstore.bare import Bare
from tests.mmcore.support import only, some

OOM = ERRORS[OUT_OF_FRAMES]
MIB = 1 << 20
NAMES = {CONSTANT: "constant", CLASSIC: "classic", ON_DEMAND: "on-demand"}
MODES = pytest.mark.parametrize("mode", list(NAMES)[: some(3, 1)], ids=NAMES.get)


def in_use(bare: Bare) -> int:
    return bare.memory.frames_total - bare.memory.frames_free


def in_force(bare: Bare) -> int:
    return int(bare.registers.FRAMES_IN_FORCE)


def fill(bare: Bare, size: int) -> int:
    """Set keys to values of this size until one is refused; returns how many were set."""
    count = 0
    while bare("SET", f"k:{count:06}", b"x" * size) == "OK":
        count += 1
    return count


def settle(bare: Bare) -> None:
    while background_step(bare.context, 64):
        pass


@pytest.mark.parametrize("size", [30, 1000])
@pytest.mark.parametrize("mode", [None, *NAMES][: some(4, 2)], ids=lambda mode: NAMES.get(mode, "not shared"))
def test_a_full_store_is_overwritten_and_emptied(mode: int | None, size: int) -> None:
    shared = mode is not None
    with Bare(3 * MIB, mode=mode or 0) as bare:
        count = fill(bare, size)
        root = bare.fork() if shared else -1
        before = contents(bare.context) if shared else {}
        assert all(bare("DEL", f"k:{i:06}") == 1 for i in range(0, count, 3))
        refused = sum(bare("SET", f"k:{i:06}", b"y" * size) == OOM for i in range(count) if i % 3)
        assert refused == 0
        assert sum(bare("SET", f"k:{i:06}", b"z" * (size - 1)) == OOM for i in range(count) if i % 3 == 1) == 0
        bare.check()
        if not shared:
            # The deleted keys left room, so they fit again, except for a few whose room overflow buckets have taken.
            again = sum(bare("SET", f"k:{i:06}", b"w" * size) == "OK" for i in range(0, count, 3))
            assert again > 0.97 * (count / 3)
            assert in_use(bare) <= in_force(bare)
        else:
            assert before == contents(frozen_store(bare, root))
        assert sum(bare("DEL", f"k:{i:06}") for i in range(count) if i % 3) == count - (count + 2) // 3  # type: ignore[misc]
        if shared:
            bare.release(root)
        assert bare("FLUSHALL") == "OK"
        settle(bare)
        bare.check()
        assert in_use(bare) < 12


def frozen_store(bare: Bare, root: int) -> Context:
    from mmcore.space import AddressSpace

    return OpenStore(
        bare.pool,
        bare.shard,
        AddressSpace.of_root(bare.memory, root, bare.space.epoch),
        registers=bare.opened.registers,
    ).context


def test_what_adds_is_refused_and_what_does_not_is_not() -> None:
    with Bare(4 * MIB) as bare:
        bare("SET", "n", "10")
        bare("SET", "long", b"x" * 100_000)
        count = fill(bare, 500)
        used = in_use(bare)
        assert in_force(bare) - 300 < used <= in_force(bare)
        before = contents(bare.context)
        for command in (
            ["SET", "new", b"x" * 5000],
            ["APPEND", "k:000000", b"x" * 5000],
            ["SETRANGE", "k:000000", 9000, "x"],
            ["MSET", "k:000000", b"z" * 500, "another", b"z" * 500],
            ["SET", "long", b"x" * 200_000],
            ["COPY", "long", "longer"],
        ):
            assert bare(*command) == OOM, command
        assert contents(bare.context) == before and in_use(bare) == used
        assert bare("INCR", "n") == 11
        assert bare("GETSET", "k:000001", b"g" * 500) == b"x" * 500
        assert bare("MSET", "k:000002", b"m" * 500, "k:000003", b"m" * 497) == "OK"
        assert bare("SETRANGE", "k:000004", 10, "edited") == 500
        assert bare("SET", "long", b"y" * 100_000) == "OK"
        assert bare("SET", "long", b"y" * 50_000) == "OK"
        for i in range(5, count, 50):
            assert bare("EXPIRE", f"k:{i:06}", 100) == 1 and bare("PERSIST", f"k:{i:06}") == 1
            assert bare("RENAME", f"k:{i:06}", f"renamed:{i}") == "OK"
            assert bare("MOVE", f"renamed:{i}", 1) == 1
        bare.check()
        assert in_use(bare) < in_force(bare) * 1.1


def test_an_emptied_store_takes_writes_at_once() -> None:
    """FLUSHALL releases its tree later; a write that needs the frames releases them first."""
    with Bare(16 * MIB) as bare:
        fill(bare, 1000)
        assert bare("FLUSHALL") == "OK"
        assert in_use(bare) > 0.9 * in_force(bare)
        assert bare("SET", "k", b"x" * 1000) == "OK"
        assert bare("MSET", *(part for i in range(300) for part in (f"m:{i}", b"x" * 5000))) == "OK"
        bare.check()
        long = b"x" * (10 * MIB)
        assert bare("SET", "long", long) == "OK" and bare("DEL", "long") == 1 and bare("SET", "next", long) == "OK"
        bare.check()


def test_deadlines_pass_in_a_full_store() -> None:
    with Bare(8 * MIB) as bare:
        count = fill(bare, 100)
        for i in range(0, count, 2):
            assert bare("PEXPIRE", f"k:{i:06}", 50) == 1
        bare.clock_ms += 100
        for _ in range(2 * count):
            expire_step(bare.context, 64)
        assert bare("DBSIZE") == count // 2
        bare.check()


COMMANDS: dict[str, tuple[str | bytes | int, ...]] = {
    "a new key": ("SET", "new", b"v" * 200),
    "a new key with a deadline": ("SET", "new", b"v" * 200, "EX", 100),
    "a long value": ("SET", "new", b"v" * 50_000),
    "another length": ("SET", "k:7", b"v" * 333),
    "in place": ("SET", "k:7", b"v" * 100),
    "a deadline": ("EXPIRE", "k:7", 100),
    "appended to": ("APPEND", "k:7", b"v" * 5000),
    "a range of a long value": ("SETRANGE", "long", 9000, b"edited"),
    "renamed": ("RENAME", "k:7", "k:8"),
    "copied": ("COPY", "long", "k:9", "REPLACE"),
    "several": ("MSET", "k:1", "1", "m:2", b"2" * 6000, "m:3", "3"),
    "counted": ("INCR", "k:10"),
    "deleted": ("DEL", "k:1", "k:2", "long"),
    "moved": ("MOVE", "k:7", 3),
}


@MODES
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_refused_whole_or_done_whatever_is_free(name: str, mode: int) -> None:
    """Tries every number of free frames around the command's need, beside a snapshot that shares all pages."""
    with Bare(3 * MIB, spare=0, mode=mode) as bare:
        bare.registers.FRAMES_IN_FORCE = 1 << 40  # only the existing frames limit it
        for i in range(300):
            bare("SET", f"k:{i}", b"x" * 100)
        bare("SET", "k:10", "41")
        bare("SET", "long", b"x" * 20_000)
        low, high, root = 0, bare.memory.frames_free - 8, -1

        def served(free: int) -> bool:
            nonlocal root
            root = bare.fork()
            before = contents(bare.context)
            with only(bare.memory, free) as held:
                reply = bare(*COMMANDS[name])
                check_memory(bare.memory, [bare.space], [root, *held])
                check_heap(bare.space)
                after = contents(bare.context)  # which proves the keyspace sound
                assert (reply == OOM) == (after == before), (free, reply)
                assert contents(frozen_store(bare, root)) == before
            if reply != OOM:  # back to what was there
                bare.space.state.cpu[0], root = root, -1
                raise Done
            bare.release(root)
            return False

        class Done(Exception):
            pass

        refused = 0
        for free in (0, 60, 120, *range(180, 440, 13)):
            try:
                served(free)
                refused += 1
            except Done:
                break
        else:
            pytest.fail("never served")
        assert refused > 3 and low <= free <= high


@MODES
@pytest.mark.parametrize("seed", [1, 2])
def test_a_stream_in_a_full_store_beside_snapshots(mode: int, seed: int) -> None:
    """A refused command changes nothing, any other is done; overwriting in place and removal are never refused."""
    choose = random.Random(seed)
    with Bare(4 * MIB, seed=seed, mode=mode, spare=12 * MIB) as bare:
        sizes = (5, 60, 200, 700, 1500, 3900, 6000, 30_000)
        model: dict[bytes, bytes] = {}
        frozen: list[tuple[int, dict[bytes, bytes]]] = []
        refusals = 0

        def apply(expected: Callable[[], None], *command: str | bytes | int) -> bool:
            nonlocal refusals
            reply = bare(*command)
            if reply == OOM:
                refusals += 1
                return False
            assert reply == "OK" or isinstance(reply, int), (command, reply)
            expected()
            return True

        for step in range(4000):
            key = b"key:%d" % choose.randrange(3000)
            action = choose.choices(
                ("set", "again", "delete", "append", "rename", "mset", "fork", "release", "background"),
                (12, 6, 4, 3, 1, 1, 0.02, 0.03, 2),
            )[0]
            if action == "set":
                value = bytes([65 + step % 26]) * (choose.choice(sizes) + choose.randrange(8))
                apply(lambda: model.__setitem__(key, value), "SET", key, value)  # noqa: B023
            elif action == "again" and model:
                key = choose.choice(list(model))
                value = bytes([97 + step % 26]) * len(model[key])
                assert apply(lambda: model.__setitem__(key, value), "SET", key, value), "in place"  # noqa: B023
            elif action == "delete":
                gone = [key, *(choose.sample(list(model), min(3, len(model))))]
                assert bare("DEL", *gone) == len(set(gone) & model.keys())
                for one in gone:
                    model.pop(one, None)
            elif action == "append":
                tail = b"+" * choose.choice(sizes)
                apply(lambda: model.__setitem__(key, model.get(key, b"") + tail), "APPEND", key, tail)  # noqa: B023
            elif action == "rename" and key in model:
                to = b"key:%d" % choose.randrange(3000)
                assert apply(lambda: model.__setitem__(to, model.pop(key)), "RENAME", key, to)  # noqa: B023
            elif action == "mset":
                pairs = {b"key:%d" % choose.randrange(3000): b"m" * choose.choice(sizes) for _ in range(4)}
                apply(lambda: model.update(pairs), "MSET", *(part for pair in pairs.items() for part in pair))  # noqa: B023
            elif action == "fork" and not frozen:
                frozen.append((bare.fork(), dict(model)))
            elif action == "release" and frozen:
                root, expected = frozen.pop()
                held = contents(frozen_store(bare, root)).get(0, {})
                assert {one: value for one, (value, _) in held.items()} == expected
                bare.release(root)
            elif action == "background":
                if choose.random() < 0.3:
                    give_back_credit(bare.context)
                background_step(bare.context, 16)
            if step % 1000 == 999:
                bare.check()
                held = contents(bare.context).get(0, {})
                assert {one: value for one, (value, _) in held.items()} == model
            if not frozen and not bare.registers.RELEASE_COUNT:
                assert in_use(bare) <= in_force(bare) * 1.1
        assert refusals > 100
        for root, _ in frozen:
            bare.release(root)


# ----------------------------------------------------------------------------------------- memory is given back


def test_free_frames_go_back_part_by_part_and_some_are_kept() -> None:
    with Bare(256 * MIB) as bare:
        for i in range(150):
            bare("SET", f"k:{i}", b"x" * MIB)
        assert bare("DEL", *(f"k:{i}" for i in range(150))) == 150
        settle(bare)
        kept = bare.memory.frames_kept
        assert kept > 150 * 256
        ticks, before = 0, kept
        while True:
            give_back_credit(bare.context)
            credit = int(bare.registers.GIVE_CREDIT)
            if credit == 0:
                break
            settle(bare)
            given = before - bare.memory.frames_kept
            assert credit // 2 <= given <= credit + 1024 and credit <= max(before >> 3, 2048)
            before -= given
            ticks += 1
        assert 8 <= ticks <= 40
        assert KEEP_FRAMES - 1024 <= bare.memory.frames_kept <= KEEP_FRAMES * 1.25
        bare.check()


def test_a_store_that_comes_and_goes_keeps_its_frames() -> None:
    """A sixteenth of the used memory is kept: no frame goes back while that much is deleted and written again."""
    with Bare(256 * MIB) as bare:
        for i in range(160):
            bare("SET", f"k:{i}", b"x" * MIB)
        for _ in range(5):
            assert bare("DEL", *(f"k:{i}" for i in range(9))) == 9
            settle(bare)
            give_back_credit(bare.context)
            assert int(bare.registers.GIVE_CREDIT) == 0
            for i in range(9):
                bare("SET", f"k:{i}", b"y" * MIB)


def test_a_purge_gives_all_back_whatever_waits() -> None:
    with Bare(128 * MIB) as bare:
        for i in range(20_000):
            bare("SET", f"k:{i}", b"x" * 1000)
        bare("SET", "long", b"x" * (30 * MIB))
        root = bare.fork()
        bare("DEL", "long")
        bare.release(root)
        bare("FLUSHALL")
        bare.registers.GIVE_ALL = 1
        settle(bare)
        assert bare.memory.frames_kept == 0 == int(bare.registers.GIVE_ALL)
        assert np.count_nonzero(bare.memory.state.bytes[: 8 * MIB : 4096]) < 12
        bare.check()


@pytest.mark.parametrize("words", [("APPEND", "x"), ("SETBIT", 3, 1), ("PFADD", "x"), ("HSET", "f", "v")])
def test_a_due_key_that_cannot_be_deleted_is_not_added_again(words: tuple[str | int, ...]) -> None:
    """The lookup hides it for want of frames; the command must not get those of a tree that is released behind that."""
    with Bare(16 << 20, spare=1 << 20) as store:
        for i in range(40_000):
            store("SET", f"key{i}", b"v" * 40, "PX", 500)
        for size, name in ((1 << 20, "large"), (4000, "small")):
            for i in range(10_000):
                if store("SET", f"{name}{i}", b"x" * size) != "OK":
                    break
        for i in range(3):
            store("DEL", f"large{i}")
        root = store.fork()
        store.clock_ms += 500
        while store.memory.frames_free >= FRAMES_TO_REMOVE and expire_step(store.context, 4):
            pass
        key = next(key for key in contents(store.context)[0] if key.startswith(b"key"))
        store.forks.remove(root)
        store.registers.FROZEN_ROOTS = 0
        release_root(store.context, root)
        assert str(store(words[0], key, *words[1:])) == ERRORS[OUT_OF_FRAMES]
        store.check()
