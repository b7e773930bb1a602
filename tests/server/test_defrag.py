"""Active defragmentation in a running server: nothing changes but the number of pages, and an image gets smaller."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import Process
from tests.server.wire import OK, Failure, Wire, info, wait_until

DEFAULTS = {
    "activedefrag": "no",
    "active-defrag-ignore-bytes": "104857600",
    "active-defrag-threshold-lower": "10",
    "active-defrag-threshold-upper": "100",
    "active-defrag-cycle-min": "1",
    "active-defrag-cycle-max": "25",
    "active-defrag-max-scan-fields": "1000",
}


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    with Process("kvstore", tmp_path) as process:
        yield process


@pytest.fixture
def wire(process: Process) -> Iterator[Wire]:
    with Wire(process.address) as connection:
        yield connection


def image_bytes(wire: Wire, directory: Path) -> int:
    assert wire("SAVE") == OK
    return max(directory.glob("*.kvimg"), key=lambda path: path.stat().st_mtime_ns).stat().st_size


def test_the_parameters_are_those_of_redis(wire: Wire) -> None:
    for name, default in DEFAULTS.items():
        assert wire("CONFIG", "GET", name) == [name.encode(), default.encode()]
    for name, wrong in (
        ("active-defrag-ignore-bytes", "0"),
        ("active-defrag-threshold-lower", "1001"),
        ("active-defrag-threshold-upper", "-1"),
        ("active-defrag-cycle-min", "0"),
        ("active-defrag-cycle-max", "100"),
        ("active-defrag-max-scan-fields", "0"),
    ):
        said = wire("CONFIG", "SET", name, wrong)
        assert isinstance(said, Failure)
        assert said.text.startswith(f"ERR CONFIG SET failed (possibly related to argument '{name}')")
    assert wire("CONFIG", "SET", "active-defrag-ignore-bytes", "1mb", "active-defrag-cycle-max", "99") == OK


def test_pages_go_down_while_clients_are_served(wire: Wire, tmp_path: Path) -> None:
    draw, count = random.Random(1), 40_000
    for first in range(0, count, 5000):
        commands: list[tuple[str | int, ...]] = []
        for i in range(first, first + 5000):
            commands.append(("SET", f"s:{i}", "v" * (i % 200), *(("PX", 10**9) if i % 3 else ())))
            commands.append(("HSET", f"h:{i}", *(part for j in range(i % 20 + 1) for part in (f"f{j}", "v" * 20))))
            commands.append(("HSET", "great", f"field:{i}", "v" * (i % 100)))
            commands.append(("ZADD", "sorted", i * 7919 % count, f"member:{i}"))
        wire.pipeline(commands)
    gone = [i for i in range(count) if draw.random() < 0.95]
    for first in range(0, len(gone), 2000):
        some = gone[first : first + 2000]
        wire("UNLINK", *(f"{kind}:{i}" for i in some for kind in "sh"))
        wire("HDEL", "great", *(f"field:{i}" for i in some))
        wire("ZREM", "sorted", *(f"member:{i}" for i in some))
    assert wire("CONFIG", "RESETSTAT") == OK
    digest, before, size = wire("DEBUG", "DIGEST"), int(info(wire)["frames_in_use"]), image_bytes(wire, tmp_path)
    assert info(wire)["active_defrag_running"] == "0" and info(wire)["active_defrag_hits"] == "0"
    assert wire("CONFIG", "SET", "active-defrag-ignore-bytes", 1, "activedefrag", "yes") == OK
    wait_until(lambda: int(info(wire)["active_defrag_key_hits"]) > 0, "a key to be moved")
    wait_until(lambda: info(wire)["active_defrag_running"] == "0", "the end of the cycle")
    after = int(info(wire)["frames_in_use"])
    stats = {name: int(value) for name, value in info(wire).items() if name.startswith("active_defrag_")}
    assert wire("DEBUG", "DIGEST") == digest
    assert after < before / 3, (before, after)
    assert image_bytes(wire, tmp_path) < size / 2
    assert stats["active_defrag_hits"] > 0 and stats["active_defrag_misses"] > 0
    assert 0 < stats["active_defrag_key_hits"] <= 4002
    print(before, after, size, image_bytes(wire, tmp_path), stats)
    assert wire("CONFIG", "SET", "activedefrag", "no") == OK
