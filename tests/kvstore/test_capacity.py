"""The reserved memory and the memory in force, for various limits of the system."""

from pathlib import Path

import pytest

from kvstore.system.capacity import (
    BESIDE,
    BESIDE_ADDRESSES,
    HUGE_SIZE,
    RESERVED_LEAST,
    group_limit,
    in_force,
    memory_to_reserve,
    reservation,
    system_memory,
)

MIB, GIB = 1 << 20, 1 << 30


def test_all_of_the_memory_is_reserved_but_what_the_process_itself_takes() -> None:
    assert reservation(0, 24 * GIB, None, None) == 24 * GIB - BESIDE
    assert reservation(0, 24 * GIB, 2 * GIB, None) == 2 * GIB - BESIDE
    assert reservation(0, 24 * GIB, 1 << 62, None) == 24 * GIB - BESIDE
    assert reservation(0, 100 * MIB, None, None) == RESERVED_LEAST
    assert memory_to_reserve(0) <= system_memory()


def test_an_eighth_is_never_in_force() -> None:
    assert in_force(0, 8 * GIB) == 7 * GIB
    assert in_force(64 * MIB, 8 * GIB) == 64 * MIB
    assert in_force(9 * GIB, 8 * GIB) == 7 * GIB
    for configured in (16 * MIB, 64 * MIB + 5, 40 * GIB, 1 << 60):
        reserved = reservation(configured, 24 * GIB, None, None)
        assert reserved % HUGE_SIZE == 0
        assert in_force(configured, reserved) == configured, "what was asked for can be had"


def test_a_limited_address_space_leaves_room_for_the_rest() -> None:
    limit = 8_000_000 << 10
    reserved = reservation(0, 24 * GIB, None, limit)
    assert 5 * GIB < reserved <= limit - BESIDE_ADDRESSES
    assert reservation(20 * GIB, 24 * GIB, None, limit) == reserved
    assert reservation(64 * MIB, 24 * GIB, None, limit) == reserved
    least = BESIDE_ADDRESSES + RESERVED_LEAST
    assert reservation(0, 24 * GIB, None, least) == RESERVED_LEAST
    with pytest.raises(MemoryError, match=f"ulimit -v {least >> 10}"):
        reservation(0, 24 * GIB, None, least - 1)


def files(root: Path, **content: str) -> Path:
    """A file system with these files; `__` in a name stands for a slash, `_dot_` for a dot."""
    for name, text in content.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_the_least_limit_of_all_groups_counts(tmp_path: Path) -> None:
    root = files(
        tmp_path,
        proc__self__cgroup="0::/user/app\n",
        sys__fs__cgroup__user__app__memory_dot_max="max\n",
        sys__fs__cgroup__user__memory_dot_max="3000000\n",
    )
    assert group_limit(root) == 3_000_000
    files(root, sys__fs__cgroup__user__app__memory_dot_max="2000000\n")
    assert group_limit(root) == 2_000_000


def test_groups_of_the_first_version_have_their_memory_apart(tmp_path: Path) -> None:
    root = files(
        tmp_path,
        proc__self__cgroup="9:name=systemd:/\n5:cpu,cpuacct:/x\n4:memory:/app/one\n",
        sys__fs__cgroup__memory__app__one__memory_dot_limit_in_bytes="9223372036854771712\n",
        sys__fs__cgroup__memory__app__memory_dot_limit_in_bytes="5000000\n",
    )
    assert group_limit(root) == 5_000_000


def test_in_a_container_the_group_is_mounted_where_the_root_would_be(tmp_path: Path) -> None:
    root = files(tmp_path, proc__self__cgroup="0::/docker/0123\n", sys__fs__cgroup__memory_dot_max="700000000\n")
    assert group_limit(root) == 700_000_000


def test_no_groups_are_no_limit(tmp_path: Path) -> None:
    assert group_limit(tmp_path) is None
    assert group_limit(files(tmp_path, proc__self__cgroup="0::/\n")) is None
