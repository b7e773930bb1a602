"""The fuzzer: it restores the store after every input, and it finds, keeps and replays bugs that are planted."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvstore.commands import rows
from kvstore.commands.table import find, row_number_of
from kvstore.fuzz.campaign import ALIKE_MAX, Campaign, Failure, Kept, attempt, replay
from kvstore.fuzz.inputs import Inputs
from kvstore.fuzz.target import PLAYED, Target
from kvstore.store.digest import store_digest
from kvstore.wire.respclient import encode_command
from mmcore.fork import CLASSIC, CONSTANT, ON_DEMAND
from tests.kvstore.planted import asserts, crashes, hangs, miscounts

KEYS, BATCH, EXAMINE = 20, 400, 40


@pytest.fixture
def target() -> Iterator[Target]:
    with Target(KEYS) as made:
        yield made


def plant(target: Target, kernel: Any) -> None:
    """Let a kernel serve GETRANGE."""
    command = find(b"getrange")
    assert command is not None
    target.table.rows[row_number_of(command), rows.ROW_HANDLER] = kernel.address


def campaign(target: Target, directory: Path) -> Campaign:
    return Campaign(target, Inputs(random.Random(1), KEYS), directory, BATCH, EXAMINE)


@pytest.mark.parametrize("mode", [CLASSIC, ON_DEMAND, CONSTANT])
def test_after_every_input_the_store_is_what_it_was(target: Target, mode: int) -> None:
    inputs = Inputs(random.Random(7), KEYS)
    before, free = store_digest(target.context), target.memory.frames_free
    changes = target.registers.DIRTY
    target.run([inputs.draw() for _ in range(BATCH)], mode)
    target.run([encode_command("FLUSHALL"), encode_command("SWAPDB", "0", "1")], mode)
    assert changes + BATCH // 4 < target.registers.DIRTY  # they have changed much
    assert (store_digest(target.context), target.memory.frames_free) == (before, free)
    target.examine(inputs.draw(), mode)


def test_inputs_are_drawn_again_by_the_same_seed_and_reach_most_commands(target: Target) -> None:
    one, other = Inputs(random.Random(3), KEYS), Inputs(random.Random(3), KEYS)
    drawn = [one.draw() for _ in range(1500)]
    assert drawn == [other.draw() for _ in range(1500)]
    target.run(drawn)
    counted = {row.name for row in PLAYED if target.table.counters[row_number_of(row), rows.STAT_CALLS]}
    commands = {row.name for row in PLAYED if not row.subcommands}
    assert len(counted & commands) > 0.9 * len(commands), sorted(commands - counted)


def test_a_campaign_against_a_sound_store_keeps_nothing(target: Target, tmp_path: Path) -> None:
    attack = campaign(target, tmp_path)
    attack.run(0)
    assert (attack.executions, attack.failures, list(tmp_path.iterdir())) == (BATCH, 0, [])


@pytest.mark.parametrize(
    ("bug", "error"),
    [
        (asserts, "AssertionError: the number is long"),
        (crashes, "dies by SIGSEGV"),
        (miscounts, "AssertionError: db 0 has"),
    ],
    ids=["assertion", "signal", "invariant"],
)
def test_a_planted_bug_is_found_kept_and_replayed(target: Target, tmp_path: Path, bug: Any, error: str) -> None:
    plant(target, bug)
    attack = campaign(target, tmp_path)
    while not attack.found:
        attack.play_batch()
        assert attack.executions < 100 * BATCH, "it is not found"
    content = json.loads(attack.found[0].read_text())
    assert content["error"].startswith(error) and content["again"]
    kept = Kept.read(attack.found[0])
    assert len(kept.inputs) == 1 and b"getrange" in kept.inputs[0].lower()
    failure = replay(target, kept)
    assert failure is not None and failure.error == content["error"]
    with Target(kept.keys, seed=kept.seed) as mended:
        assert replay(mended, kept) is None


def test_an_input_that_hangs_is_ended(target: Target) -> None:
    plant(target, hangs)
    bad = encode_command("GETRANGE", "key:1", "0", "1")
    failure = attempt(target, [bad], hang_s=0.5)
    assert failure == Failure([bad], "hangs for more than 0.5 s")


def test_a_failure_that_does_not_come_again_is_kept_with_all_before_it(target: Target, tmp_path: Path) -> None:
    attack = campaign(target, tmp_path)
    for i in range(ALIKE_MAX + 2):
        attack.keep(Failure([b"PING\r\n", b"PING %d\r\n" % i], "once"))
    assert len(attack.found) == ALIKE_MAX and attack.failures == ALIKE_MAX + 2
    content = json.loads(attack.found[0].read_text())
    assert content == {
        "keys": KEYS, "seed": 1, "inputs": ["PING\r\n", "PING 0\r\n"], "error": "once", "again": False,
    }  # fmt: skip
