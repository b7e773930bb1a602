"""Memory from an operator's view: a saved store starts, deleted data free memory, limits hold."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvstore.store.flush import KEEP_FRAMES
from kvstore.wire.errors import ERRORS, OUT_OF_FRAMES, OUT_OF_MEMORY
from tests.server.test_consistency import images
from tests.server.test_crash import refusal
from tests.server.wire import OK, Failure, Wire, info, wait_until

MIB = 1 << 20
FRAMES = Failure(ERRORS[OUT_OF_FRAMES])
MAXMEMORY = Failure(ERRORS[OUT_OF_MEMORY])

pytestmark = pytest.mark.usefixtures("ours")


def machine(wire: Wire) -> dict[str, int]:
    return {name: int(value) for name, value in info(wire, "machine").items() if value.isdigit()}


def fill(wire: Wire, size: int, most: int = 1 << 20, batch: int = 500) -> int:
    """Set keys until one is refused, or `most` of them; returns how many were accepted."""
    accepted = 0
    value = os.urandom(size)
    for first in range(0, most, batch):
        replies = wire.pipeline([("SET", f"k{i}", value) for i in range(first, first + batch)])
        accepted += replies.count(OK)
        if replies[-1] != OK:
            break
    return accepted


@pytest.mark.parametrize(
    ("options", "size", "kept"),
    [
        (("--machine-memory", "32mb"), 1000, 1),
        (("--machine-memory", "32mb"), 20_000, 1),
        (("--machine-memory", "32mb"), 250, 8),
        (("--maxmemory", "32mb"), 1000, 1),
        (("--maxmemory", "32mb"), 500, 8),
        (("--maxmemory", "32mb"), 2000, 8),
    ],
)
def test_what_was_saved_starts_with_the_same_options(
    start, tmp_path: Path, options: tuple[str, ...], size: int, kept: int
) -> None:
    """Fill until a write is refused, delete some keys, save: do it twice, and start a third time."""
    held = 0
    for _ in range(2):
        with start(tmp_path, options=options) as server, Wire(server.address) as wire:
            assert wire("DBSIZE") == held
            fill(wire, size)
            assert wire("SET", "one more", b"x" * 100_000) in (FRAMES, MAXMEMORY)
            keys = wire("KEYS", "k*")
            assert isinstance(keys, list) and len(keys) * size > 15 * MIB
            gone = [key for i, key in enumerate(sorted(keys)) if i % kept]
            if gone:
                assert wire("DEL", *gone) == len(gone)
            held = wire("DBSIZE")
            assert wire("SAVE") == OK
            server.kill()
    with start(tmp_path, options=options) as server, Wire(server.address) as wire:
        assert wire("DBSIZE") == held
        assert "so many are in force now" not in server.log()
        server.kill()


def test_a_larger_image_than_machine_memory_is_loaded_and_the_log_says_so(start, tmp_path: Path) -> None:
    with start(tmp_path) as server, Wire(server.address) as wire:
        wire.pipeline([("SET", f"k{i}", b"%d" % i * 20_000) for i in range(800)])
        assert wire("SAVE") == OK
        used = machine(wire)["frames_in_use"]
        server.kill()
    assert used > 32 * MIB // 4096
    with start(tmp_path, options=("--machine-memory", "32mb")) as server, Wire(server.address) as wire:
        assert wire("GET", "k799") == b"799" * 20_000
        assert machine(wire)["frames_total"] == machine(wire)["frames_in_use"] <= used
        assert "so many are in force now, instead of 8192" in server.log()
        assert wire("SET", "new", b"x" * 5000) == FRAMES
        assert wire("SET", "k1", b"y" * 20_000) == OK
        assert wire("DEL", *(f"k{i}" for i in range(700))) == 700
        assert wire("SET", "new", b"x" * 5000) == OK
        server.kill()


def test_more_data_than_maxmemory_is_loaded_and_writes_are_refused(start, tmp_path: Path) -> None:
    with start(tmp_path) as server, Wire(server.address) as wire:
        wire.pipeline([("SET", f"k{i}", os.urandom(100_000)) for i in range(800)])
        assert wire("SAVE") == OK
        server.kill()
    with start(tmp_path, options=("--maxmemory", "10mb")) as server, Wire(server.address) as wire:
        assert wire("DBSIZE") == 800 and len(wire("GET", "k7")) == 100_000
        assert wire("SET", "new", "v") == MAXMEMORY
        assert wire("DEL", *(f"k{i}" for i in range(750))) == 750
        assert wire("SET", "new", "v") == OK
        server.kill()


@pytest.mark.parametrize("limit", ["300mb", "0"])
def test_maxmemory_that_is_raised_later_counts_whole(start, tmp_path: Path, limit: str) -> None:
    """It was 10 MB at the start, and must not have determined any size in the machine."""
    with start(tmp_path, options=("--maxmemory", "10mb")) as server, Wire(server.address) as wire:
        value = b"x" * 100_000
        assert fill(wire, len(value), 1000, 50) < 150
        assert wire("CONFIG", "SET", "maxmemory", limit) == OK
        replies = wire.pipeline([("SET", f"v{i}", value) for i in range(2700)])
        assert replies.count(OK) == 2700
        if limit != "0":
            more = wire.pipeline([("SET", f"w{i}", value) for i in range(600)])
            assert more[-1] == MAXMEMORY and more.count(MAXMEMORY) + more.count(OK) == 600
        server.kill()


def test_a_limited_address_space_is_kept_within(start, tmp_path: Path) -> None:
    """The server reserves less, and a store saved then can start again."""
    for keys in (0, 300):
        with start(tmp_path, addresses_kib=3_000_000) as server, Wire(server.address) as wire:
            assert wire("DBSIZE") == keys
            reserved = machine(wire)["frames_reserved"] * 4096
            assert 1_000 * MIB < reserved < 2_000 * MIB
            wire.pipeline([("SET", f"k{i}", b"x" * 100_000) for i in range(300)])
            assert wire("SAVE") == OK
            server.kill()


def test_too_little_address_space_is_a_sentence_with_a_hint(start, tmp_path: Path) -> None:
    said = refusal(start(tmp_path, addresses_kib=800_000))
    assert "cannot start: the address space is limited to 819200000 bytes" in said and "ulimit -v" in said


def test_the_smallest_machine_holds_a_store(start, tmp_path: Path) -> None:
    with start(tmp_path, options=("--machine-memory", "16mb")) as server, Wire(server.address) as wire:
        assert fill(wire, 1000) > 10_000
        assert wire("FLUSHALL") == OK and wire("SET", "k", "v") == OK
        server.kill()


# ------------------------------------------------------------------------------------------------ given back


@pytest.fixture(scope="module")
def large(start, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    """A server of its own."""
    with start(tmp_path_factory.mktemp("memory")) as server, Wire(server.address) as wire:
        yield wire
        server.kill()


def resident(wire: Wire) -> int:
    return int(info(wire, "memory")["used_memory_rss"])


def given_back(wire: Wire, loaded: int, kept: int = int(KEEP_FRAMES * 1.25)) -> None:
    """Wait until at most `kept` free frames are kept, and prove that the process has shrunk."""
    wait_until(lambda: machine(wire)["frames_in_use"] < 2000, "the store's end")
    wait_until(lambda: machine(wire)["frames_kept"] <= kept, "memory given back")
    assert resident(wire) < loaded / 2


@pytest.mark.parametrize("how", ["FLUSHALL", "DEL", "EXPIRE", "PURGE"])
def test_what_was_deleted_is_given_back(large: Wire, how: str) -> None:
    """All ways of deleting free memory, except a reserve for the next writes; MEMORY PURGE frees that too."""
    keys, value = 300_000, b"x" * 1000
    for first in range(0, keys, 5000):
        large.pipeline([("SET", f"k{i}", value) for i in range(first, first + 5000)])
    loaded, before = resident(large), machine(large)
    assert loaded > keys * len(value)
    if how == "DEL":
        for first in range(0, keys, 5000):
            assert large("UNLINK", *(f"k{i}" for i in range(first, first + 5000))) == 5000
    elif how == "EXPIRE":
        for first in range(0, keys, 5000):
            large.pipeline([("PEXPIRE", f"k{i}", 1) for i in range(first, first + 5000)])
        wait_until(lambda: large("DBSIZE") == 0, "expiry", timeout_s=180)
    else:
        assert large("FLUSHALL") == OK
    if how == "PURGE":
        assert large("MEMORY", "PURGE") == OK
        given_back(large, loaded, 0)
    else:
        given_back(large, loaded)
    after = machine(large)
    assert after["frames_given_back"] - before["frames_given_back"] >= 70_000
    assert after["frames_kept"] <= 1.25 * KEEP_FRAMES
    assert large("SET", "k", value) == OK and large("GET", "k") == value
    assert large("FLUSHALL") == OK


def test_the_ratios_of_an_empty_server_are_near_one(start, tmp_path: Path) -> None:
    with start(tmp_path) as server, Wire(server.address) as wire:
        memory = info(wire, "memory")
        assert memory["allocator_frag_ratio"] == "1.00" and memory["allocator_frag_bytes"] == "0"
        assert 0.9 < float(memory["mem_fragmentation_ratio"]) < 1.5
        assert 0.9 < float(memory["rss_overhead_ratio"]) < 1.3
        stats = wire("MEMORY", "STATS")
        assert isinstance(stats, list)
        named = dict(zip(stats[::2], stats[1::2], strict=True))
        assert float(named[b"allocator-fragmentation.ratio"]) == 1.0
        assert 0.9 < float(named[b"fragmentation"]) < 1.5
        wire.pipeline([("SET", f"k{i}", b"x" * 1000) for i in range(50_000)])
        memory = info(wire, "memory")
        assert 1.0 < float(memory["allocator_frag_ratio"]) < 1.1
        assert 0.9 < float(memory["mem_fragmentation_ratio"]) < 1.5
        assert wire("SAVE") == OK and len(images(tmp_path)) == 1
        server.kill()
