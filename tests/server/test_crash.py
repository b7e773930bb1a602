r"""Failures of a process and its disk, and the data that must survive them.

kill -9 at any moment             the last complete image loads; no partial file stays
SIGTERM, SHUTDOWN                 save when save points are configured, or when told to
a disk that fails                 the snapshot fails with a reason, serving goes on, writes as configured
an image that cannot be read      is refused by name; an older good one is taken; never an empty start
"""

import os
import random
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.server.load import Kinds, Writer, contents_of
from tests.server.test_consistency import images, seed_of_today
from tests.server.wire import OK, Closed, Failure, Status, Wire, encode, info, wait_until

MISCONF = (
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Commands that "
    "may modify the data set are disabled, because this instance is configured to report errors during writes if RDB "
    "snapshotting fails (stop-writes-on-bgsave-error option). Please check the Redis logs for details about the RDB "
    "error."
)


def saved(wire: Wire) -> bool:
    """Whether no snapshot is being written."""
    return info(wire, "persistence")["rdb_bgsave_in_progress"] == "0"


def bgsave(wire: Wire) -> str:
    """Run BGSAVE to its end: returns ok or err."""
    reply = wire("BGSAVE")
    assert isinstance(reply, Status | Failure)
    wait_until(lambda: saved(wire), "the snapshot")
    return info(wire, "persistence")["rdb_last_bgsave_status"]


def litter(directory: Path) -> list[str]:
    """The files of a data directory beside complete images and the lock."""
    return [path.name for path in directory.iterdir() if path not in images(directory) and path.name != ".dump.lock"]


# ------------------------------------------------------------------------------------------------------------- kill -9


def crash_and_recover(start, directory: Path, seed: int, rounds: int) -> None:
    """Kill the server again and again; after each start the store must be a prefix no older than the last image."""
    print(f"seed {seed}")
    generator = random.Random(seed)
    kinds = Kinds(large=True, renames=True)
    writer = Writer(0, seed, kinds, 40_000)
    durable = 0  # operations that a completed snapshot is known to hold
    for _ in range(rounds):
        with start(directory) as server, Wire(server.address) as wire:
            contents = contents_of(wire)
            if server.is_redis:
                assert set(litter(directory)) <= {name for name in litter(directory) if name.startswith("temp-")}
            else:
                assert litter(directory) == []
            recovered = writer.prefix(contents, durable, writer.sent, 0)
            durable = writer.sent = writer.answered = recovered
            writer.start(server.address)
            for _ in range(generator.randrange(3)):
                before = writer.answered
                if bgsave(wire) == "ok":
                    durable = before
            assert isinstance(wire("BGSAVE"), Status)
            time.sleep(generator.random() ** 2 * 0.15)  # a random moment for the crash
            server.kill()
            writer.stop()
            assert writer.sent < len(writer.list), "the load has ended too early"
    with start(directory) as server, Wire(server.address) as wire:
        writer.prefix(contents_of(wire), durable, writer.sent, 0)


def test_killed_at_any_moment_the_server_comes_back_with_its_last_image(start, tmp_path: Path) -> None:
    """Kills it six times in a row, on the same directory, under load and while snapshots are written."""
    crash_and_recover(start, tmp_path, seed_of_today(), 6)


@pytest.mark.slow
def test_killed_at_any_moment_for_long(start, tmp_path: Path) -> None:
    """Kills it sixty times, in ten directories."""
    for i in range(10):
        (tmp_path / str(i)).mkdir()
        crash_and_recover(start, tmp_path / str(i), seed_of_today() + i, 6)


# --------------------------------------------------------------------------------------------------------- orderly ends


@pytest.mark.parametrize(
    ("save", "end", "kept"),
    [
        ("3600 1000", ("SHUTDOWN",), True),
        ("", ("SHUTDOWN",), False),
        ("3600 1000", ("SHUTDOWN", "NOSAVE"), False),
        ("", ("SHUTDOWN", "SAVE"), True),
        ("", ("shutdown", "now", "save", "force"), True),
        ("3600 1000", ("SIGTERM",), True),
        ("", ("SIGTERM",), False),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else repr(value),
)
def test_what_an_orderly_end_saves(start, tmp_path: Path, save: str, end: tuple[str, ...], kept: bool) -> None:
    """As in Redis, it saves if there are save points, or when told to; the exit status is 0."""
    with start(tmp_path, save=save) as server, Wire(server.address) as wire, Wire(server.address) as other:
        wire("SET", "k", "v")
        other("WATCH", "k")
        if end == ("SIGTERM",):
            assert server.terminate() == 0
        else:
            wire.send(encode(*end))
            assert wire.until_closed() == b""
            assert server.ended() == 0
        assert other.until_closed() == b""
    assert bool(images(tmp_path)) == kept
    with start(tmp_path) as server, Wire(server.address) as wire:
        assert wire("GET", "k") == (b"v" if kept else None)


def test_sigint_is_as_sigterm(start, tmp_path: Path) -> None:
    """SIGINT is Ctrl-C."""
    with start(tmp_path, save="3600 1000") as server, Wire(server.address) as wire:
        wire("SET", "k", "v")
        server.process.send_signal(2)
        assert server.ended() == 0
    with start(tmp_path) as server, Wire(server.address) as wire:
        assert wire("GET", "k") == b"v"


def test_shutdown_while_a_snapshot_is_written(start, tmp_path: Path) -> None:
    """The valid image is the one taken at the end."""
    with start(tmp_path, save="3600 1000000") as server, Wire(server.address) as wire:
        wire.pipeline([("SET", f"k{i}", b"x" * 1000) for i in range(40_000)])
        wire.send(encode("BGSAVE") + encode("SET", "last", "word") + encode("SHUTDOWN"))
        assert b"+Background saving started\r\n+OK\r\n".startswith(wire.until_closed())
        assert server.ended() == 0
    if not server.is_redis:
        assert litter(tmp_path) == []
    with start(tmp_path) as server, Wire(server.address) as wire:
        assert wire("GET", "last") == b"word"
        assert wire("DBSIZE") == 40_001


def test_a_save_point_saves_by_itself(start, tmp_path: Path) -> None:
    """save "1 10": ten changes, and a second since the last."""
    with start(tmp_path, save="1 10") as server, Wire(server.address) as wire:
        wire.pipeline([("SET", f"k{i}", "v") for i in range(9)])
        began = int(wire("TIME")[0])
        wait_until(lambda: int(wire("TIME")[0]) >= began + 3, "the second to pass, and one more")
        assert images(tmp_path) == []
        wire("SET", "tenth", "v")
        wait_until(lambda: info(wire, "persistence")["rdb_changes_since_last_save"] == "0", "the save point")
        assert len(images(tmp_path)) == 1
        server.kill()
    with start(tmp_path) as server, Wire(server.address) as wire:
        assert wire("DBSIZE") == 10


# ------------------------------------------------------------------------------------------------------------ bad disks


@contextmanager
def file_size_limit(process: subprocess.Popen[bytes], size: int) -> Iterator[None]:
    """Make the process's writes beyond `size` fail, as a full disk does."""
    before = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, before)


@contextmanager
def vanished(directory: Path) -> Iterator[None]:
    """Move a directory away for a while."""
    away = directory.with_name(directory.name + "-away")
    directory.rename(away)
    try:
        yield
    finally:
        away.rename(directory)


@contextmanager
def replaced_by_a_file(directory: Path) -> Iterator[None]:
    """Put a file where the directory was."""
    with vanished(directory):
        directory.write_text("not a directory")
        try:
            yield
        finally:
            directory.unlink()


FAULTS = {
    "no room": lambda server: file_size_limit(server.process, 1 << 20),
    "hardly any room": lambda server: file_size_limit(server.process, 1 << 16),
    "the directory has vanished": lambda server: vanished(server.directory),
    "the directory is a file": lambda server: replaced_by_a_file(server.directory),
}


def skip_what_redis_does_otherwise(server, fault: str) -> None:
    if server.is_redis:
        pytest.skip("Redis holds its working directory open, and does not live through SIGXFSZ")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failed_snapshot_is_reported_and_harms_nothing(start, data: Path, fault: str) -> None:
    """Status, log, the old image, the data, and writes as stop-writes-on-bgsave-error has it."""
    with start(data, save="3600 1000000") as server, Wire(server.address) as wire:
        skip_what_redis_does_otherwise(server, fault)
        wire.pipeline([("SET", f"k{i}", os.urandom(500) * 2) for i in range(5000)])
        assert bgsave(wire) == "ok"
        good = images(data)[-1]
        first = good.read_bytes()
        wire("SET", "k0", "changed")
        with FAULTS[fault](server):
            assert bgsave(wire) == "err"
            persistence = info(wire, "persistence")
            assert int(persistence["rdb_changes_since_last_save"]) >= 1
            assert wire("SET", "k1", "refused") == Failure(MISCONF)
            assert wire("DEL", "k1") == Failure(MISCONF)
            assert wire("MULTI") == OK
            assert wire("SET", "k1", "refused") == Failure(MISCONF)
            assert wire("DISCARD") == OK
            assert wire("GET", "k0") == b"changed"
            assert wire("PING") == Failure(MISCONF)  # so that monitoring notices
            assert wire("CONFIG", "SET", "stop-writes-on-bgsave-error", "no") == OK
            assert wire("SET", "k1", "accepted") == OK
            assert wire("CONFIG", "SET", "stop-writes-on-bgsave-error", "yes") == OK
            assert wire("SET", "k1", "refused") == Failure(MISCONF)
            assert isinstance(wire("SAVE"), Failure)
            assert wire("GET", "k1") == b"accepted"
        assert images(data)[-1] == good
        assert good.read_bytes() == first
        if not server.is_redis:
            assert litter(data) == []
            assert "napshot failed" in server.log()
        assert bgsave(wire) == "ok"
        assert wire("SET", "k1", "v") == OK
        server.kill()
    with start(data) as server, Wire(server.address) as wire:
        assert wire("MGET", "k0", "k1") == [b"changed", b"accepted"]
        assert wire("DBSIZE") == 5000


@pytest.mark.parametrize("fault", FAULTS)
def test_frames_come_back_after_a_failure(start, data: Path, fault: str, ours: None) -> None:
    """After any number of failed snapshots under load the machine has as many free frames as before."""
    with start(data) as server, Wire(server.address) as wire:
        commands = [("SET", f"k{i}", os.urandom(500) * 2) for i in range(5000)]
        wire.pipeline(commands)
        assert bgsave(wire) == "ok"
        before = settled_frames(wire)
        for _ in range(3):
            with FAULTS[fault](server):
                wire.send(encode("BGSAVE") + b"".join(encode(*command) for command in commands))
                for _ in range(5001):
                    wire.reply()
                wait_until(lambda: saved(wire), "the snapshot")
                assert info(wire, "persistence")["rdb_last_bgsave_status"] == "err"
        wait_until(lambda: settled_frames(wire) == before, f"the frames to be {before} free again")
        assert bgsave(wire) == "ok"
        wait_until(lambda: settled_frames(wire) == before, f"the frames to be {before} free again")


def settled_frames(wire: Wire) -> int:
    """Wait until the number of free frames is stable; each query is a turn of the server, which does waiting work."""
    last, alike = -1, 0
    while alike < 200:
        now = int(info(wire, "machine")["frames_free"])
        last, alike = now, alike + 1 if now == last else 0
    return last


def test_frames_come_back_after_good_snapshots_and_flushes(start, tmp_path: Path, ours: None) -> None:
    """After fork, write, release and flush, all frames are free again."""
    with start(tmp_path) as server, Wire(server.address) as wire:
        wire("SET", "warm", "up")
        wire("FLUSHALL")
        empty = settled_frames(wire)
        for _ in range(3):
            wire.pipeline([("SET", f"k{i}", b"x" * 700) for i in range(20_000)])
            replies = wire.pipeline(
                [("BGSAVE",), *(("SET", f"k{i}", b"y" * 300) for i in range(20_000)), ("FLUSHALL",)]
            )
            assert replies[0] == Status("Background saving started")
            wait_until(lambda: saved(wire), "the snapshot")
        wait_until(lambda: settled_frames(wire) == empty, f"the frames to be {empty} free again")


def test_a_disk_that_is_really_full(start, tmp_path: Path) -> None:
    """On a file system of 4 MB: once there is room, snapshots succeed again."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", small], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("this user may not mount a file system")
    try:
        with start(small, save="3600 1000000") as server, Wire(server.address) as wire:
            wire("SET", "small", "v")
            assert bgsave(wire) == "ok"
            wire("SET", "big", os.urandom(6 << 20))
            assert bgsave(wire) == "err"
            assert wire("SET", "k", "v") == Failure(MISCONF)
            assert len(images(small)) == 1
            if not server.is_redis:
                assert litter(small) == []
                assert "No space left on device" in server.log()
                assert "No space left on device" in info(wire, "persistence").get(
                    "rdb_last_bgsave_error", "No space left on device"
                )
            subprocess.run(["mount", "-o", "remount,size=32m", small], check=True)
            assert bgsave(wire) == "ok"
            assert wire("SET", "k", "v") == OK
            server.kill()
        with start(small) as server, Wire(server.address) as wire:
            assert wire("STRLEN", "big") == 6 << 20
    finally:
        subprocess.run(["umount", "-l", small], check=False)


# ----------------------------------------------------------------------------------------------------------- bad images


def flip(path: Path, offset: int) -> None:
    """Change one byte; a negative offset counts from the end."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x55
    path.write_bytes(data)


def truncate(path: Path, size: int) -> None:
    """Keep `size` bytes; a negative size leaves that many out."""
    data = path.read_bytes()
    path.write_bytes(data[:size])


DAMAGE = {
    "a byte of the first page": lambda path: flip(path, 5000),
    "a byte in the middle": lambda path: flip(path, path.stat().st_size // 2 // 4096 * 4096 + 100),
    "a byte of the header": lambda path: flip(path, 20),
    "a byte of the manifest": lambda path: flip(path, -100),
    "a byte of the trailer": lambda path: flip(path, -10),
    "the last byte is missing": lambda path: truncate(path, -1),
    "half of it is missing": lambda path: truncate(path, path.stat().st_size // 2),
    "only the header is left": lambda path: truncate(path, 4096),
    "it is empty": lambda path: truncate(path, 0),
    "it is longer": lambda path: path.write_bytes(path.read_bytes() + b"more"),
    "it is something else": lambda path: path.write_bytes(b"REDIS0011" + os.urandom(100_000)),
    "it is a directory": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.fixture(scope="module")
def good_image(tmp_path_factory: pytest.TempPathFactory, start) -> Path:
    """An image of two thousand keys."""
    directory = tmp_path_factory.mktemp("images")
    with start(directory) as server, Wire(server.address) as wire:
        if server.is_redis:
            pytest.skip("of this server only")
        wire.pipeline([("SET", f"k{i}", os.urandom(300)) for i in range(2000)])
        assert wire("SAVE") == OK
        server.kill()
    return images(directory)[-1]


def damaged_images(directory: Path, good: Path) -> list[Path]:
    """One image for each kind of damage, each newer than the last."""
    paths = [directory / f"dump-{number:010}.kvimg" for number in range(10, 10 + len(DAMAGE))]
    for path, damage in zip(paths, DAMAGE.values(), strict=True):
        shutil.copy(good, path)
        damage(path)
    return paths


def test_damaged_images_are_refused_by_name_and_an_older_good_one_is_taken(start, good_image: Path, data: Path) -> None:
    """The log says which and why; the files stay; and the next image is newer than all of them."""
    damaged = damaged_images(data, good_image)
    shutil.copy(good_image, data / "dump-0000000007.kvimg")
    with start(data) as server, Wire(server.address) as wire:
        assert wire("DBSIZE") == 2000
        for path in damaged:
            assert path.name in server.log()
            assert path.exists()
        wire("SET", "which", "newer")
        assert wire("SAVE") == OK
        server.kill()
    with start(data) as server, Wire(server.address) as wire:
        assert wire("GET", "which") == b"newer"
        assert wire("DBSIZE") == 2001


def test_with_no_good_image_the_server_refuses_to_start(start, good_image: Path, data: Path) -> None:
    """It names each file and leaves it alone: it never starts empty over data that it could not read."""
    damaged = damaged_images(data, good_image)
    before = sorted(path.name for path in data.iterdir())
    log = refusal(start(data))
    for path in damaged:
        assert path.name in log
    assert sorted(path.name for path in data.iterdir()) == before


def refusal(server) -> str:
    """The output of a server that did not start."""
    try:
        assert server.ended() != 0
        assert "Traceback" not in server.log()
        return str(server.log())
    finally:
        server.close()


def test_a_directory_that_cannot_be_read_is_no_empty_one(start, tmp_path: Path, ours: None) -> None:
    """A file is in its place; a missing directory is made or refused, but never taken for an empty one."""
    (tmp_path / "file").write_text("not a directory")
    assert str(tmp_path / "file") in refusal(start(tmp_path / "file"))


def test_what_a_dead_writer_left_is_removed_and_what_is_not_ours_is_not(start, good_image: Path, data: Path) -> None:
    """The next start deletes temporary files, and leaves other files alone."""
    shutil.copy(good_image, data)
    abandoned = data / ".dump-0000000099.kvimg.0123abcd.tmp"
    abandoned.write_bytes(b"half an image")
    (data / "notes.txt").write_text("mine")
    (data / "dump.rdb").write_bytes(b"REDIS0011")
    with start(data) as server, Wire(server.address) as wire:
        assert wire("DBSIZE") == 2000
        assert not abandoned.exists()
        assert (data / "notes.txt").read_text() == "mine"
        assert (data / "dump.rdb").exists()
        server.kill()


def test_out_of_frames_is_an_error_to_the_client_and_nothing_else(start, tmp_path: Path, ours: None) -> None:
    """With a machine of 64 MB and no maxmemory, writes are refused with OOM, and all accepted data are kept."""
    with start(tmp_path, options=("--machine-memory", "64mb")) as server, Wire(server.address) as wire:
        value = os.urandom(1000)
        accepted = 0
        for start_at in range(0, 200_000, 1000):
            replies = wire.pipeline([("SET", f"k{i}", value) for i in range(start_at, start_at + 1000)])
            accepted += replies.count(OK)
            for reply in replies:
                assert reply == OK or (isinstance(reply, Failure) and reply.text.startswith("OOM ")), reply
            if OK not in replies:
                break
        assert accepted * 1000 > 20 << 20
        assert wire("DBSIZE") == accepted
        assert wire.pipeline([("GET", f"k{i}") for i in range(1000)]) == [value] * 1000
        status = wire("BGSAVE")
        assert isinstance(status, Status | Failure)
        wait_until(lambda: saved(wire), "the snapshot")
        assert wire("SET", "huge", b"x" * (60 << 20)) != OK
        assert wire("DEL", *(f"k{i}" for i in range(0, accepted, 2))) > accepted // 3
        assert wire("SET", "again", value) == OK
        assert bgsave(wire) == "ok"
        assert wire("GET", "again") == value
        try:
            assert wire("FLUSHALL") == OK
        except Closed:
            pytest.fail(server.log())
        assert wire("SET", "again", value) == OK
