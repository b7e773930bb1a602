"""Streams of the commands of all four collections together, and the positions of their keys: see streams.py."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness import Process
from tests.server import streams, test_hashes, test_lists, test_sets, test_sortedsets
from tests.server.streams import Command, Pair, relaxed
from tests.server.test_differential import command
from tests.server.wire import Wire

EVERYTHING = st.one_of(
    test_hashes.HASHES, test_sets.SETS, test_sets.ALGEBRA, test_lists.LISTS, test_sortedsets.SORTED_SETS,
    test_sortedsets.RANGES, test_sortedsets.ALGEBRA, streams.generic(st.sampled_from([b"a", b"b", b"c"])),
    command(b"DEL", st.sampled_from([b"a", b"b", b"c"])),
)  # fmt: skip


@given(limits=streams.limits, stream=streams.streams(EVERYTHING, most=60))
@settings(relaxed, max_examples=100)
def test_keys_that_change_their_types(pair: Pair, limits: dict[bytes, bytes], stream: list[Command]) -> None:
    """Most commands meet a key of another type."""
    pair.play(limits, [], stream)


@pytest.mark.slow
@given(limits=streams.limits, stream=streams.streams(EVERYTHING, most=300))
@settings(relaxed, derandomize=False, max_examples=1000)
def test_keys_that_change_their_types_for_long(pair: Pair, limits: dict[bytes, bytes], stream: list[Command]) -> None:
    """The same with longer and more streams."""
    pair.play(limits, [], stream)


CALLS = [
    *("HSET a f v", "HMGET a f g", "HSCAN a 0", "SADD a x", "SINTER a b", "SINTERSTORE d a b", "SMOVE a b x"),
    *("SINTERCARD 2 a b", "SINTERCARD 2 a b LIMIT 1", "SINTERCARD 3 a b", "SINTERCARD 0 a", "SINTERCARD x a"),
    *("ZADD a 1 x", "ZUNION 2 a b WITHSCORES", "ZUNION 0 a b", "ZUNIONSTORE d 2 a b", "ZUNIONSTORE d 0 a b"),
    *("ZUNIONSTORE d 9 a b", "ZUNIONSTORE d -1 a b", "ZDIFFSTORE d 1 a", "ZMPOP 1 a MIN", "ZMPOP 2 a MIN COUNT 1"),
    *("ZRANGESTORE d a 0 -1", "ZINTERCARD 1 a LIMIT 1", "LPUSH a x", "LMOVE a b LEFT LEFT", "RPOPLPUSH a b"),
    *("LMPOP 2 a b LEFT", "LMPOP 99999999999999999999 a LEFT", "LPOP a 1 2"),
]


@pytest.mark.parametrize("call", CALLS)
def test_keys_of_a_call_are_redis_own(wire: Wire, redis_server: Process, call: str) -> None:
    """Calls GETKEYS and GETKEYSANDFLAGS with right and wrong arguments."""
    with Wire(redis_server.address, wire.protocol) as other:
        for subcommand in ("GETKEYS", "GETKEYSANDFLAGS"):
            mine, theirs = (each.raw("COMMAND", subcommand, *call.split()) for each in (wire, other))
            assert mine == theirs, subcommand
