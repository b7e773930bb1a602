"""kill -9 at any moment: the newest image that was complete loads, and what was half-written is never taken for one.

A child process writes images of pages that all hold the number of the image, and says so once each is durable.  It
kills itself at a chosen operation, or is killed at a random moment.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from snapshot.directory import ImageDirectory
from snapshot.image import PAGE_SIZE
from snapshot.reader import PageReader, open_image
from tests.snapshot.faults import STEPS, WAIT_S, listing

PAGES = 60
CHILD = Path(__file__).with_name("crash_child.py")
ROOT = Path(__file__).parents[2]


def child(directory: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, str(CHILD), str(directory), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def newest_number(images: ImageDirectory) -> int:
    """The number that every page of the newest image holds; 0 without an image.  None may be refused."""
    found = images.newest()
    if found is None:
        return 0
    assert found.refused == []
    fd, image = open_image(found.image.path)
    pages = bytearray(image.data_size)
    PageReader(fd, image, memoryview(pages)).start().join()
    number = image.metadata["number"]
    assert pages == number.to_bytes(8, "little") * (PAGES * PAGE_SIZE // 8), "pages of another image"
    return int(number)


def assert_sound(directory: Path, durable: int) -> None:
    """All that was durable is there, and after cleaning nothing else but images."""
    images = ImageDirectory(directory)
    number = newest_number(images)
    assert durable <= number <= durable + 1
    images.clean()
    assert newest_number(images) == number
    assert all(name.endswith(".kvimg") and not name.startswith(".") for name in listing(directory))


# The child's first image makes no calls of `remove`; its third prunes.
MOMENTS = [(step, nth) for step in STEPS for nth in ([0, 5, 14] if step == "write" else [0])]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("step", "nth"), [*MOMENTS, ("remove", 0)])
def test_a_process_killed_at_any_step_leaves_the_last_complete_image(tmp_path, step, nth, when):
    keep = "1" if step == "remove" else "2"
    with child(tmp_path, "--at", step, str(nth), when, "--keep", keep) as process:
        said = process.stdout.read().split()
        assert process.wait(WAIT_S) == -signal.SIGKILL
    assert said == ["1", "2"], "it dies in its third image"
    assert_sound(tmp_path, 2)
    # The next process goes on from there, and leaves nothing of the dead one's.
    with child(tmp_path, "--images", "1") as process:
        assert process.stdout.read().split() == ["1"]
        assert process.wait(WAIT_S) == 0
    assert newest_number(ImageDirectory(tmp_path)) == 1
    assert all(name.endswith(".kvimg") for name in listing(tmp_path))


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("step", "nth"), [("remove", 0), ("remove", 1), ("sync_directory", 0), ("create", 1), ("rename", 0)]
)
def test_a_process_killed_while_it_makes_room_leaves_a_good_image(tmp_path, step, nth, when):
    """A disk for two images: the third one's file goes, the oldest image goes, the third is written again."""
    with child(tmp_path, "--at", step, str(nth), when, "--keep", "9", "--room", "2") as process:
        said = process.stdout.read().split()
        assert process.wait(20) == -signal.SIGKILL
    assert said == ["1", "2"], "it dies in its third image"
    assert_sound(tmp_path, 2)


def test_a_process_killed_at_random_moments_never_loses_what_it_called_durable(tmp_path):
    rng = random.Random(99)
    for _ in range(12):
        for name in listing(tmp_path):
            (tmp_path / name).unlink()
        with child(tmp_path) as process:
            durable = int(process.stdout.readline())
            time.sleep(rng.random() * 0.15)
            process.kill()
            durable = max([durable, *map(int, process.stdout.read().split())])
        assert_sound(tmp_path, durable)
