"""DEBUG POPULATE: its keys, existing keys that it leaves alone, and its end when the memory is full."""

import pytest

from kvstore.commands.populate import KEY_MAX, populate_database
from kvstore.lifetimes.wiring import OpenStore
from kvstore.store.check import contents
from kvstore.store.digest import store_digest
from kvstore.wire.errors import ERRORS, OUT_OF_FRAMES, OUT_OF_MEMORY
from kvstore.wire.reply import CommandError
from tests.kvstore.bare import Bare


def test_the_values_are_the_numbers_texts() -> None:
    with Bare() as bare:
        populate_database(bare.context, 3, 1200)
        assert contents(bare.context) == {3: {b"key:%d" % i: (b"value:%d" % i, None) for i in range(1200)}}
        assert bare.registers.DIRTY == 1200
        bare.check()


@pytest.mark.parametrize(
    ("size", "value"),
    [(1, b"v"), (6, b"value:"), (7, b"value:1"), (8, b"value:10"), (9, b"value:10\0"), (40, b"value:10" + bytes(32)),
     (5000, b"value:10" + bytes(4992))],
)  # fmt: skip
def test_a_value_is_cut_or_padded_with_zeros_to_a_size(size: int, value: bytes) -> None:
    with Bare() as bare:
        populate_database(bare.context, 0, 11, b"p", size)
        assert bare("GET", "p:10") == value
        assert bare("GET", "p:9") == (b"value:9" + bytes(5000))[:size]
        assert bare("DBSIZE") == 11
        bare.check()


def test_keys_that_are_there_stay_as_they_are_and_expired_ones_are_not_there() -> None:
    with Bare() as bare:
        bare("SET", "key:1", "mine", "PX", 10_000)
        bare("SET", "key:2", "gone", "PX", 10)
        bare.clock_ms += 100
        populate_database(bare.context, 0, 4)
        assert bare("MGET", "key:0", "key:1", "key:2", "key:3") == [b"value:0", b"mine", b"value:2", b"value:3"]
        assert bare("PTTL", "key:1") == 9900
        assert bare("TTL", "key:2") == -1
        before = store_digest(bare.context)
        populate_database(bare.context, 0, 4, b"key", 100)
        assert store_digest(bare.context) == before


def test_a_prefix_ends_at_a_zero_byte_and_a_key_at_its_127th() -> None:
    with Bare() as bare:
        populate_database(bare.context, 0, 2, b"ab\0cd")
        populate_database(bare.context, 0, 2, b"")
        populate_database(bare.context, 0, 12, b"l" * (KEY_MAX - 2))
        populate_database(bare.context, 0, 3, b"m" * 4000)
        assert set(contents(bare.context)[0]) == {
            b"ab:0", b"ab:1", b":0", b":1", b"m" * KEY_MAX, *(b"l" * (KEY_MAX - 2) + b":%d" % i for i in range(10)),
        }  # fmt: skip
        assert bare("GET", b"m" * KEY_MAX) == b"value:0"


def test_the_command_at_hand_finds_its_registers_as_they_were() -> None:
    with Bare() as bare:
        bare("SELECT", 5)
        bare("SET", "some", "arguments")
        words, arguments = bare.context.call.tolist(), bare.context.args[: 2 * bare.registers.ARGC].tolist()
        populate_database(bare.context, 0, 10)
        assert bare.context.call.tolist() == words
        assert bare.context.args[: 2 * bare.registers.ARGC].tolist() == arguments


def test_more_than_ever_fits_is_refused_before_the_first_key() -> None:
    with Bare(8 << 20) as bare:
        for count, size in ((2**63 - 1, 0), (10**6, 0), (2, 8 << 20)):
            with pytest.raises(CommandError) as refused:
                populate_database(bare.context, 0, count, b"key", size)
            assert str(refused.value) == ERRORS[OUT_OF_FRAMES]
        assert bare("DBSIZE") == 0


@pytest.mark.parametrize("beside_a_fork", [False, True])
def test_a_store_that_fills_up_keeps_what_was_made_and_is_sound(beside_a_fork: bool) -> None:
    with Bare(8 << 20) as bare:
        if beside_a_fork:
            populate_database(bare.context, 0, 1000)
            bare.fork()
        with pytest.raises(CommandError) as refused:
            populate_database(bare.context, 0, 19_000, b"key", 400)
        assert str(refused.value) == ERRORS[OUT_OF_FRAMES]
        made = bare("DBSIZE")
        assert isinstance(made, int) and 5_000 < made < 19_000
        held = contents(bare.context)[0]
        assert set(held) == {b"key:%d" % i for i in range(made)}  # without a gap: it ends at the first that is refused
        bare.check()
        assert bare("FLUSHALL") == "OK"


def test_maxmemory_ends_it() -> None:
    with Bare() as bare:
        bare.registers.MAXMEMORY = 1 << 20
        with pytest.raises(CommandError) as refused:
            populate_database(bare.context, 0, 100_000)
        assert str(refused.value) == ERRORS[OUT_OF_MEMORY]
        made = bare("DBSIZE")
        assert isinstance(made, int) and 10_000 < made < 30_000
        bare.check()


def test_a_fork_does_not_see_what_is_made_after_it() -> None:
    with Bare() as bare:
        populate_database(bare.context, 0, 5000)
        frozen = OpenStore(bare.pool, bare.shard, bare.space.fork(bare.mode), registers=bare.opened.registers)
        bare.registers.FROZEN_ROOTS = 1
        was = store_digest(frozen.context)
        populate_database(bare.context, 0, 10_000, b"key", 300)
        assert store_digest(frozen.context) == was != store_digest(bare.context)
        assert bare("DBSIZE") == 10_000
