"""BITOP of great strings, one step a turn: beside Python's integers, what others do meanwhile, and how it may end."""

import random
from collections.abc import Iterator

import pytest

from kvstore.connections.table import open_connection
from kvstore.lifetimes import call
from kvstore.lifetimes.context import AGAIN
from kvstore.net.closing import close_connection
from kvstore.store.digest import store_digest
from kvstore.wire.errors import ERRORS, OUT_OF_FRAMES
from tests.kvstore.bare import Bare
from tests.kvstore.test_copying import begin, fill, is_over, once
from tests.mmcore.support import only, seeds

MIB = 1 << 20
LENGTHS = (MIB + 5, 3 * MIB, 2 * MIB - 4096, 700, 0, MIB // 2)


@pytest.fixture
def store() -> Iterator[Bare]:
    with Bare(connections=4) as made:
        yield made


def make(store: Bare, lengths: tuple[int, ...] = LENGTHS, seed: int = 0) -> dict[str, bytes]:
    """Strings of random bytes at the keys 0, 1, ...; what they are."""
    r = random.Random(seed)
    made = {str(i): r.randbytes(length) for i, length in enumerate(lengths)}
    for key, value in made.items():
        assert store("SET", key, value) == "OK"
    return made


def expected(name: str, values: list[bytes]) -> bytes:
    """The result of BITOP."""
    length = max(map(len, values), default=0)
    numbers = [int.from_bytes(value.ljust(length, b"\0"), "big") for value in values]
    result = numbers[0]
    for number in numbers[1:]:
        result = result & number if name == "AND" else result | number if name == "OR" else result ^ number
    if name == "NOT":
        result ^= (1 << 8 * length) - 1
    return result.to_bytes(length, "big")


@pytest.mark.parametrize("seed", seeds(4))
def test_the_result_is_that_of_the_strings_as_they_were(store: Bare, seed: int) -> None:
    r = random.Random(seed)
    for name in ("AND", "OR", "XOR", "NOT"):
        made = make(store, seed=seed)
        keys = [r.choice("012"), *([] if name == "NOT" else r.choices(list(made), k=r.randrange(1, 5)))]
        wanted = expected(name, [made[key] for key in keys])

        def others() -> None:
            key = r.choice(list("012"))
            r.choice([lambda: store("SETRANGE", key, 9000, b"other"), lambda: store("DEL", key)])()
            store.check()

        store.between = others
        assert store("BITOP", name, r.choice(["d", "1"]), *keys) == len(wanted)
        store.between = None
        assert store.turns > 1 and wanted in (store("GET", "d"), store("GET", "1"))
        is_over(store)
        store("DEL", "d")


def test_a_short_result_of_many_strings_is_made_in_turns_too(store: Bare) -> None:
    r = random.Random(1)
    values = [r.randbytes(r.randrange(2000)) for _ in range(1500)]
    for i, value in enumerate(values):
        store("SET", i, value)
    for name in ("AND", "OR", "XOR"):
        wanted = expected(name, values)
        assert store("BITOP", name, "d", *range(len(values))) == len(wanted) and store.turns > 1
        assert store("GET", "d") == wanted
        is_over(store)


def test_a_step_has_a_bound(store: Bare) -> None:
    make(store, (8 * MIB, 8 * MIB))
    assert store("BITOP", "AND", "d", "0", "1") == 8 * MIB
    assert store.turns >= 16


def test_within_a_transaction_it_is_done_at_once(store: Bare) -> None:
    made = make(store)
    store.context.call[call.DEPTH] = 1
    try:
        assert store("BITOP", "XOR", "d", "0", "1", "2") == 3 * MIB and store.turns == 1
    finally:
        store.context.call[call.DEPTH] = 0
    assert store("GET", "d") == expected("XOR", [made[key] for key in "012"])
    is_over(store)


def test_what_flushall_deletes_does_not_come_back(store: Bare) -> None:
    make(store)
    store.between = once(lambda: store("FLUSHALL"), 1)
    assert store("BITOP", "OR", "d", "0", "1") == 0 and store("DBSIZE") == 0
    is_over(store)


def test_another_that_is_great_waits_and_a_small_one_does_not(store: Bare) -> None:
    made = make(store)
    fill(store, "hash")
    taken: list[object] = []

    def meanwhile() -> None:
        parts = [b"BITOP", b"AND", b"e", b"0", b"1"]
        taken.append(store._turn(parts) == AGAIN and not store.registers.COMBINED_ROOT_PLUS_1)
        store.context.call[call.REPLY_LENGTH] = 0
        taken.append(store("BITOP", "NOT", "small", "3") == 700 and store.turns == 1)

    store.between = once(meanwhile)
    assert store("COPY", "great", "copy") == 1 and taken == [True, True]
    assert store("BITOP", "AND", "e", "0", "1") == 3 * MIB
    assert store("GET", "e") == expected("AND", [made["0"], made["1"]])
    is_over(store)


def test_a_connection_that_is_closed_leaves_nothing(store: Bare) -> None:
    make(store)
    digest = store_digest(store.context)
    assert open_connection(store.context, -1, 1, 0, 0) == 0
    begin(store, "BITOP", "OR", "d", "0", "1")
    assert store.registers.COMBINED_ROOT_PLUS_1 != 0
    store.check()
    close_connection(store.context, 0)
    is_over(store)
    assert store.registers.COMBINED_ROOT_PLUS_1 == store.registers.COMBINING_ADDRESS == 0
    assert store_digest(store.context) == digest


def test_running_out_of_memory_leaves_nothing() -> None:
    outcomes = set()
    with Bare(24 << 20, connections=4) as store:
        make(store, (3 * MIB, 3 * MIB + 1))
        digest, store.registers.FRAMES_IN_FORCE = store_digest(store.context), 1 << 40
        for free in range(700, 1900, 100):
            with only(store.memory, free):
                reply = store("BITOP", "XOR", "d", "0", "1")
                outcomes.add(reply)
            if reply != 3 * MIB + 1:
                assert store_digest(store.context) == digest, free
            store("DEL", "d")
            is_over(store)
        store.between = once(lambda: setattr(store.registers, "FRAMES_IN_FORCE", 600), 2)
        assert store("BITOP", "XOR", "d", "0", "1") == ERRORS[OUT_OF_FRAMES]
        is_over(store)
    assert outcomes == {3 * MIB + 1, ERRORS[OUT_OF_FRAMES]}
