"""The images of a directory: names, the newest that verifies, pruning, what dead processes left."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from snapshot import errors
from snapshot.directory import ImageDirectory, newest
from snapshot.files import Files
from snapshot.image import PAGE_SIZE, checksum, ending, header_page


def write_image(path: Path, letter: bytes) -> None:
    data = letter * PAGE_SIZE
    end = ending(
        bytes(16), runs=np.array([[0x1000, 1]]), checksums=np.array([checksum(data)], dtype=np.uint64),
        metadata={"letter": letter.decode()}, epoch=1, root=1, forked_unix_us=1,
    )  # fmt: skip
    path.write_bytes(header_page(bytes(16)) + data + end)


@pytest.fixture
def images(tmp_path: Path) -> ImageDirectory:
    return ImageDirectory(tmp_path)


def test_the_newest_is_that_of_the_highest_number_whatever_the_clock_says(images):
    for sequence in (9, 10, 2):
        write_image(images.path_of(sequence), b"%d" % (sequence % 10))
    found = images.newest()
    assert found is not None
    assert (images.path_of(10), []) == (found.image.path, found.refused)
    assert images.next_sequence() == 11
    assert [entry.sequence for entry in images.entries()] == [10, 9, 2]


def test_a_number_of_more_digits_than_usual_still_orders(images):
    write_image(images.path_of(10**12), b"a")
    write_image(images.path_of(5), b"b")
    assert images.entries()[0].sequence == 10**12


def test_refused_images_are_named_and_the_next_older_one_is_taken(images):
    write_image(images.path_of(1), b"a")
    write_image(images.path_of(2), b"b")
    images.path_of(3).write_bytes(b"something else")
    damaged = bytearray(images.path_of(2).read_bytes())
    damaged[5000] ^= 1
    images.path_of(2).write_bytes(damaged)
    found = newest(images.directory)
    assert found is not None
    assert found.image.path == images.path_of(1)
    assert [errors.NotAnImage, errors.ChecksumMismatch] == [type(one) for one in found.refused]


def test_when_every_image_is_refused_that_is_an_error_and_not_an_empty_directory(images):
    images.path_of(1).write_bytes(b"")
    images.path_of(2).write_bytes(b"x" * 10000)
    with pytest.raises(errors.NoUsableImage) as caught:
        images.newest()
    assert [images.path_of(2), images.path_of(1)] == [one.path for one in caught.value.refused]
    assert str(images.path_of(1)) in str(caught.value)


def test_no_image_and_no_directory_are_no_image(images, tmp_path):
    assert images.newest() is None
    assert newest(tmp_path / "absent") is None
    assert ImageDirectory(tmp_path / "absent").next_sequence() == 1


def test_a_directory_that_cannot_be_read_is_an_error(tmp_path):
    class Unlistable(Files):
        def names(self, directory: Path) -> list[str]:
            raise PermissionError(errno.EACCES, "Permission denied")

    with pytest.raises(errors.Unreadable):
        ImageDirectory(tmp_path, files=Unlistable()).newest()


def test_other_names_are_never_taken_for_images(images):
    for name in ("dump-1.kvimg.tmp", "dump-.kvimg", "dump--1.kvimg", "Xdump-1.kvimg", "dump-1.kvimgX", "other-1.kvimg",
                 ".dump-0000000001.kvimg.0a.tmp", "dump-٣.kvimg", "dump-1\n.kvimg", "dump.rdb"):  # fmt: skip
        write_image(images.directory / name, b"x")
    assert images.entries() == []


@pytest.mark.parametrize("prefix", ["", ".hidden", "a/b", "a\0"])
def test_a_prefix_that_is_no_beginning_of_a_name_is_refused(tmp_path, prefix):
    with pytest.raises(ValueError, match="cannot begin"):
        ImageDirectory(tmp_path, prefix)


def test_a_prefix_is_taken_as_it_is_and_not_as_a_pattern(tmp_path):
    write_image(tmp_path / "aXb-1.kvimg", b"x")
    assert ImageDirectory(tmp_path, "a.b").entries() == []
    assert len(ImageDirectory(tmp_path, "aXb").entries()) == 1


def test_pruning_keeps_the_newest_and_nothing_else_is_touched(images):
    for sequence in range(1, 6):
        write_image(images.path_of(sequence), b"x")
    (images.directory / "keep.me").write_bytes(b"x")
    assert [images.path_of(sequence) for sequence in (3, 2, 1)] == images.prune(2)
    assert sorted(os.listdir(images.directory)) == ["dump-0000000004.kvimg", "dump-0000000005.kvimg", "keep.me"]


def test_a_temporary_file_is_left_alone_while_its_writer_lives_and_removed_once_it_died(images):
    path = images.temporary_path(1)
    code = (
        "import sys, pathlib; from snapshot.files import Files; Files().create(pathlib.Path(sys.argv[1]));"
        "print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"locked\n"
        assert images.clean() == []
        assert path.exists()
        writer.kill()
    assert [path] == images.clean()
    assert os.listdir(images.directory) == []


def test_cleaning_leaves_the_files_of_this_process_and_of_other_prefixes_alone(images):
    files = Files()
    mine, others = images.temporary_path(1), ImageDirectory(images.directory, "other").temporary_path(1)
    fd = files.create(mine)
    others.write_bytes(b"x")
    assert images.clean() == []
    files.close(fd)
    assert [mine] == images.clean()
    assert others.exists()


def test_a_writer_whose_new_file_was_taken_for_an_abandoned_one_makes_another(images, monkeypatch):
    files, path = Files(), images.temporary_path(1)
    real_open, robbed = os.open, []

    def open_and_lose(name, flags, *mode):
        fd = real_open(name, flags, *mode)
        if flags & os.O_CREAT and not robbed:
            robbed.append(name)
            os.unlink(name)
        return fd

    monkeypatch.setattr(os, "open", open_and_lose)
    fd = files.create(path)
    assert [path] == robbed
    assert os.fstat(fd).st_ino == path.stat().st_ino
    files.close(fd)
