"""Full or failing disks: at each step of a snapshot, and as a small file system that is really full.

steps       a store and one good image; each of the writer's calls to the file system fails once, with ENOSPC or EIO:
            afterwards the old store or the new one can be loaded, and no temporary file stays
volume      a server on a few megabytes, whose store grows and shrinks at random: the result of a save, ok or err, is
            true
"""

import errno
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvstore.durable.storeimage import accept_store, describe_store
from kvstore.store.check import contents
from snapshot import writer as writer_module
from snapshot.errors import SnapshotError
from snapshot.image import PAGE_SIZE
from snapshot.snapshotter import Snapshotter
from tests import harness
from tests.attack.images import CHUNK, Contents, load, sample_store
from tests.attack.seeds import seeds, told
from tests.kvstore.bare import Bare
from tests.server.wire import OK, Failure, Status, Wire, info, wait_until
from tests.snapshot.faults import FaultyFiles, listing, raising

STEPS = ("create", "reserve", "bypass_cache", "write", "flush_begin", "flush_wait", "sync", "rename", "sync_directory")


def snapshot(store: Bare, directory: Path, files: FaultyFiles, keep: int = 2) -> bool:
    """Whether a snapshot succeeded."""
    snapshotter = Snapshotter(
        store.space.state,
        directory,
        metadata=describe_store,
        accept=accept_store,
        files=files,
        chunk_size=CHUNK,
        keep=keep,
    )
    try:
        snapshotter.start()
        outcome = snapshotter.wait()
        while not snapshotter.release(1000):
            pass
        assert outcome.ok or isinstance(outcome.error, SnapshotError)
        return outcome.ok
    finally:
        snapshotter.close()


def complete(directory: Path) -> bool:
    """Whether the directory holds only images."""
    return all(name.startswith("dump-") and name.endswith(".kvimg") for name in listing(directory))


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the writer's flushes small, so that a small store needs many of them."""
    monkeypatch.setattr(writer_module, "FLUSH_SIZE", 8 * PAGE_SIZE)


@pytest.mark.parametrize("cache", [False, True], ids=["past the cache", "through the cache"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO], ids=errno.errorcode.get)
def test_a_step_that_fails_leaves_the_old_store_or_the_new_one(
    tmp_path: Path, small_steps: None, code: int, cache: bool
) -> None:
    """Each call of each step fails in turn; the next snapshot, on a working disk, succeeds."""
    with sample_store(seed=4, keys=20) as store:
        assert snapshot(store, tmp_path, FaultyFiles(cache=cache))
        calls = FaultyFiles(cache=cache)
        assert snapshot(store, tmp_path, calls)
        old = contents(store.context)
        tried = 0
        for step in STEPS:
            for nth in range(calls.calls[step]):
                store("SELECT", 0)
                store("INCR", "tried")
                new = contents(store.context)
                done = snapshot(store, tmp_path, FaultyFiles(step, nth, raising(code), cache))
                assert load(tmp_path) == (new if done else old, []), f"{step}, call {nth}"
                assert complete(tmp_path), f"{step}, call {nth}: {listing(tmp_path)}"
                assert snapshot(store, tmp_path, FaultyFiles(cache=cache)), f"after {step}, call {nth}"
                old = new
                assert load(tmp_path) == (old, [])
                tried += 1
        assert tried > 10


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB."""
    directory = tmp_path / "volume"
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(directory)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a file system")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=False)


def save(wire: Wire) -> bool:
    """Run BGSAVE to its end; returns whether it succeeded."""
    assert isinstance(wire("BGSAVE"), Status)
    wait_until(lambda: info(wire, "persistence")["rdb_bgsave_in_progress"] == "0", "the snapshot")
    return info(wire, "persistence")["rdb_last_bgsave_status"] == "ok"


def test_images_of_three_megabytes_fit_a_volume_of_eight_again_and_again(volume: Path) -> None:
    """Two are kept; the older one is deleted to make room for the third."""
    with harness.start(volume, save="3600 1000000") as server, Wire(server.address) as wire:
        for round_ in range(5):
            replies = wire.pipeline([("SET", f"k{i}", os.urandom(1000)) for i in range(2200)])
            assert replies == [OK] * 2200, f"round {round_}"
            assert save(wire), f"round {round_}: {server.log()}"
        server.kill()
    found, refused = load(volume)
    assert found is not None and refused == [] and len(found[0]) == 2200


def fill_and_empty(wire: Wire, generator: random.Random, model: dict[bytes, bytes]) -> None:
    """Change the store by keys of 100 KB."""
    for _ in range(generator.randrange(1, 20)):
        key = b"k%d" % generator.randrange(60)
        if generator.random() < 0.4 and model:
            key = generator.choice(list(model))
            assert wire("DEL", key) == 1
            del model[key]
        else:
            value = generator.randbytes(100_000)
            assert wire("SET", key, value) == OK
            model[key] = value


def test_a_save_on_a_volume_that_fills_up_says_what_is_so(volume: Path) -> None:
    """After it, and after a kill, the server has the store of the last successful save."""
    for seed in seeds("volume", 1):
        with told(seed) as generator:
            for path in volume.iterdir():
                path.unlink()
            model: dict[bytes, bytes] = {}
            last: Contents | None = None
            with harness.start(volume) as server, Wire(server.address) as wire:
                for _ in range(12):
                    fill_and_empty(wire, generator, model)
                    if save(wire):
                        last = {0: {key: (value, None) for key, value in model.items()}} if model else {}
                    else:
                        assert "No space left on device" in server.log()
                server.kill()
            found, refused = load(volume)
            assert refused == []
            assert found == last


def test_a_disk_that_cannot_be_read_is_no_empty_one(tmp_path: Path) -> None:
    """Reading fails with EIO at each step: the image is refused by name, and the server never starts empty."""
    with sample_store(seed=4, keys=20) as store:
        assert snapshot(store, tmp_path, FaultyFiles())
        before = contents(store.context)
    for step in ("open", "read_into", "read_cached"):
        counted = FaultyFiles(cache=False)
        assert load(tmp_path, counted)[0] == before
        for nth in range(counted.calls[step]):
            with pytest.raises(SnapshotError) as caught:
                load(tmp_path, FaultyFiles(step, nth, raising(errno.EIO), cache=False))
            assert "Input/output error" in str(caught.value), f"{step}, call {nth}"


def test_a_refusal_for_lack_of_space_is_told_to_the_client(volume: Path) -> None:
    """SAVE's error has the reason."""
    with harness.start(volume) as server, Wire(server.address) as wire:
        assert wire("SET", "big", os.urandom(9 << 20)) == OK
        reply = wire("SAVE")
        assert isinstance(reply, Failure) and "No space left on device" in reply.text
        assert wire("DEL", "big") == 1
        # Its memory is freed in steps, and an image has the pages that are not free yet.
        wait_until(lambda: wire("SAVE") == OK, "room for an image")
