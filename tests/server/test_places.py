"""A pipeline replies as the same commands one by one do, also where LINDEX is told places that were found ahead."""

import random

import pytest

from tests.mmcore.support import seeds
from tests.server.test_turns import both_at_once, two
from tests.server.wire import OK, Argument, Wire, encode

Command = tuple[Argument, ...]
ELEMENTS = 3000  # of a list that has a tree
KEYS = ("a", "b")


def change(generator: random.Random) -> list[Command]:
    """Commands that change a list, or which list a key is."""
    key, other = generator.sample(KEYS, 2)
    rank = generator.randrange(ELEMENTS)
    return generator.choice(
        [
            [("LPUSH", key, "new")],
            [("LSET", key, rank, "set" * generator.randrange(40))],
            [("LINSERT", key, "BEFORE", f"{key}{rank}", "inserted")],
            [("LREM", key, 1, f"{key}{rank}")],
            [("LTRIM", key, generator.randrange(900), -1 - generator.randrange(900))],
            [("LPOP", key, generator.randrange(1, 700))],
            [("LMOVE", key, other, "LEFT", "RIGHT")],
            [("RENAME", key, "c"), ("RENAME", other, key), ("RENAME", "c", other)],
            [("COPY", key, other, "REPLACE")],
            [("SORT", key, "ALPHA", "STORE", other)],
            [("DEL", key), ("RPUSH", key, *(f"{key}{i}" for i in range(ELEMENTS)))],
            [("MULTI",), ("LINDEX", key, rank), ("LPUSH", key, "queued"), ("LINDEX", key, rank), ("EXEC",)],
            [("MULTI",), ("LPOP", key, 300), ("SET", key, "text"), ("GET", key), ("DISCARD",), ("LINDEX", key, rank)],
            [("SWAPDB", 0, 1), ("LINDEX", key, rank), ("SWAPDB", 0, 1)],
            [("SELECT", 1), ("RPUSH", key, *("other" for _ in range(900))), ("LINDEX", key, 700), ("SELECT", 0)],
            [("PEXPIREAT", key, 1), ("LINDEX", key, rank), ("RPUSH", key, *(f"{key}{i}" for i in range(ELEMENTS)))],
            [("DEBUG", "RELOAD")],
            [("FLUSHALL",), *filled()],
        ]
    )


def filled() -> list[Command]:
    """Commands that store both lists."""
    return [("RPUSH", key, *(f"{key}{i}" for i in range(ELEMENTS))) for key in KEYS]


def stream(generator: random.Random) -> list[Command]:
    """Mostly LINDEX, between changes."""
    commands = filled()
    for _ in range(60):
        key = generator.choice(KEYS)
        for _ in range(generator.randrange(1, 40)):
            other = generator.random() < 0.1
            lowest = -ELEMENTS if other else 400  # most are in the tree
            commands.append(("LINDEX", generator.choice(KEYS) if other else key, generator.randrange(lowest, 1600)))
            if generator.random() < 0.1:
                commands += change(generator)
    return commands


@pytest.mark.parametrize("seed", seeds(8))
def test_a_pipeline_replies_as_its_commands_one_by_one(wire: Wire, seed: int) -> None:
    commands = stream(random.Random(seed))
    alone = [wire(*command) for command in commands]
    wire("FLUSHALL")
    together = wire.pipeline(commands)
    for i, (one, other) in enumerate(zip(alone, together, strict=True)):
        assert one == other, (i, commands[i])


def test_a_change_between_two_turns_of_a_pipeline_is_seen(start, tmp_path) -> None:
    """With budget 0 every command is a turn of its own, and the other client's turn comes between them."""
    rank = ELEMENTS // 2
    with start(tmp_path, options=("--turn-budget-us", "0")) as server, two(server.address) as (hog, other):
        other.pipeline(filled())
        pairs = (encode("LLEN", "a") + encode("LINDEX", "a", rank)) * 100
        both_at_once(server.address, hog, encode("SET", "k", "v") + pairs, other, encode("LPOP", "a", 5))
        assert hog.reply() == OK
        seen = [(hog.reply(), hog.reply()) for _ in range(100)]
        assert {(ELEMENTS, b"a%d" % rank), (ELEMENTS - 5, b"a%d" % (rank + 5))} >= set(seen[1:])
        assert seen[-1][0] == ELEMENTS - 5
