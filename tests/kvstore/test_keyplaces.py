"""The kernel that finds a command's keys, beside the key specifications in Python, for all commands and forms."""

import ctypes
import random
from array import array
from collections.abc import Sequence

import numpy as np
import pytest

from kvstore.commands.compiled import CommandTable
from kvstore.commands.table import ROWS
from kvstore.lifetimes.wiring import OpenStore, Pool, Shard
from kvstore.wire.keyplaces import RUN_END, RUN_FIRST, RUN_STEP, RUN_WORDS, SPECS, key_run, keys_known
from kvstore.wire.keyspecs import Count, Index, KeySpec, Keyword, NoKeys, Range, places_table
from mmcore.memory import PhysicalMemory

FORMS = (
    KeySpec(Keyword("STORE", 2), Range(0), ()),
    KeySpec(Keyword("STREAMS", 1), Range(-1, 1, 2), ()),
    KeySpec(Keyword("STOREDISTS", 3), Range(-1), ()),  # longer than a word
    KeySpec(Keyword("KEYS", -2), Range(-1), ()),  # looked for from the end
    KeySpec(Keyword("KEYS", 1), Count(), ()),
    KeySpec(Index(1), Range(-1, 2, 0), ()),
    KeySpec(Index(1), Range(-1, 1, 3), ()),
    KeySpec(Index(2), Range(4, 2), ()),
    KeySpec(Index(3), Range(-3), ()),
    KeySpec(Index(1), Count(1, 2, 2), ()),
)
"""Forms of specifications that the commands themselves need not have."""

WORDS = (b"k", b"key:1", b"", b"2", b"1", b"3", b"0", b"-1", b"02", b"x", b"1000000000", b"999999999",
         b"store", b"STORE", b"Streams", b"StoreDists", b"STOREDISTX", b"keys", b"KEYS", b"STREAMS\0")  # fmt: skip


class Places:
    """The kernel, over a command that a test writes down."""

    def __init__(self) -> None:
        self.memory = PhysicalMemory(1 << 22)
        self.shard = Shard(arguments=64)
        self.opened = OpenStore(Pool(self.memory), self.shard)
        self.registers = self.opened.context.registers
        self.run = np.zeros(RUN_WORDS, np.int64)

    def positions(self, command: int, args: Sequence[bytes]) -> list[list[int]] | None:
        """The positions of each run of keys; None if they cannot be told."""
        text, at, places = ctypes.create_string_buffer(b"".join(args) + b"\0"), 0, array("q")
        for arg in args:
            places.extend((at, len(arg)))
            at += len(arg)
        self.opened.context.args[: len(places)] = memoryview(places)
        r = self.registers
        r.QUERY_ADDRESS, r.QUERY_SIZE, r.ARGC = ctypes.addressof(text), at, len(args)
        context, found, code = self.opened.context, [], 1
        while code == 1 and len(found) < SPECS:
            code = key_run(context, command, len(found), self.run)
            if code == 1:
                found.append(list(range(self.run[RUN_FIRST], self.run[RUN_END], self.run[RUN_STEP])))
        assert keys_known(context, command, self.run) == (code >= 0)
        return None if code < 0 else found


@pytest.fixture
def places():
    made = Places()
    yield made
    made.memory.close()


def expected(specs: Sequence[KeySpec], args: Sequence[bytes]) -> list[list[int]] | None:
    try:
        return [list(spec.positions(args)) for spec in specs if spec.begin is not None]
    except NoKeys:
        return None


def test_every_command(places: Places) -> None:
    """With any arguments, as long as there are as many as the command takes."""
    table = CommandTable()
    table.install_places(places.shard)
    chance = random.Random(7)
    known = set()
    for number, command in enumerate(ROWS):
        for _ in range(60):
            args = [b"name"] * command.named + [chance.choice(WORDS) for _ in range(chance.randrange(9))]
            if command.takes(len(args)):
                wanted = expected(command.key_specs, args)
                assert places.positions(number, args) == wanted, (command.name, args)
                if wanted:
                    known.add(command.name)
    assert known >= {command.name for command in ROWS if command.key_specs}


def test_every_form_of_a_specification(places: Places) -> None:
    commands = [(spec,) for spec in FORMS] + [FORMS[:3], ()]
    table = places_table(commands)
    places.registers.KEY_PLACES_ADDRESS = table.address
    chance = random.Random(8)
    seen: dict[int, set[bool]] = {number: set() for number in range(len(commands))}
    for _ in range(4000):
        args = [b"name"] + [chance.choice(WORDS) for _ in range(chance.randrange(5, 12))]
        for number, specs in enumerate(commands):
            wanted = expected(specs, args)
            assert places.positions(number, args) == wanted, (specs, args)
            seen[number].add(wanted is None or any(map(len, wanted)))
    assert all(True in found for number, found in seen.items() if commands[number])


def test_a_long_run_takes_no_memory(places: Places) -> None:
    table = places_table([(KeySpec(Index(1), Range(-1, 2), ()),)])
    places.registers.KEY_PLACES_ADDRESS = table.address
    places.registers.ARGC = 1 << 40
    assert key_run(places.opened.context, 0, 0, places.run) == 1
    assert places.run.tolist() == [1, 1 << 40, 2]
