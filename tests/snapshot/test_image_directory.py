"""The images of a directory: names, the newest that verifies, pruning, what dead processes left."""

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmcore.jit import Table
from snapshot import errors
from snapshot.directory import ImageDirectory, newest
from snapshot.files import Files
from snapshot.image import PAGE_SIZE, Image, Page, checksum, ending, header_page


def write_image(path: Path, letter: bytes) -> None:
    data = letter * PAGE_SIZE
    end = ending(
        bytes(16), runs=Table.of([[0x1000, 1]], 2), checksums=np.array([checksum(data)], dtype=np.uint64),
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


def test_retaining_keeps_the_newest_and_nothing_else_is_touched(images):
    for sequence in range(1, 6):
        write_image(images.path_of(sequence), b"x")
    (images.directory / "keep.me").write_bytes(b"x")
    assert [images.path_of(sequence) for sequence in (3, 2, 1)] == images.retain(2).removed
    assert sorted(os.listdir(images.directory)) == ["dump-0000000004.kvimg", "dump-0000000005.kvimg", "keep.me"]


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[PAGE_SIZE + 10] ^= 1
    path.write_bytes(data)


def test_a_damaged_image_does_not_count_and_is_set_aside_and_its_number_is_not_used_again(images):
    """With two images and the newest damaged, the next one must not cost the good one."""
    for sequence in (1, 2, 3):
        write_image(images.path_of(sequence), b"x")
    damage(images.path_of(2))
    kept = images.retain(2)
    assert kept.removed == []
    assert [images.path_of(2)] == [one.path for one in kept.set_aside]
    aside = "dump-0000000002.kvimg.damaged"
    assert sorted(os.listdir(images.directory)) == ["dump-0000000001.kvimg", aside, "dump-0000000003.kvimg"]
    write_image(images.path_of(4), b"y")
    assert [images.path_of(1)] == images.retain(2).removed
    for sequence in (3, 4):
        images.path_of(sequence).unlink()
    assert images.next_sequence() == 3


def test_a_damaged_image_older_than_those_kept_is_set_aside_too(images):
    for sequence in (1, 2, 3):
        write_image(images.path_of(sequence), b"x")
    images.path_of(1).write_bytes(b"cut short")
    kept = images.retain(2)
    assert (kept.removed, [one.path for one in kept.set_aside]) == ([], [images.path_of(1)])
    assert (images.directory / "dump-0000000001.kvimg.damaged").read_bytes() == b"cut short"


def of_another_version(path: Path) -> None:
    page = bytearray(header_page(bytes(16)))
    page[8] = 9
    page[-8:] = checksum(bytes(page[:-8])).to_bytes(8, "little")
    path.write_bytes(bytes(page))


def with_a_parent(path: Path) -> None:
    data = b"p" * PAGE_SIZE
    end = ending(
        bytes(16), runs=Table.of([[0x1000, 1]], 2), checksums=np.array([checksum(data)], dtype=np.uint64),
        metadata={}, epoch=1, root=1, forked_unix_us=1, parent=bytes(range(16)),
    )  # fmt: skip
    path.write_bytes(header_page(bytes(16)) + data + end)


def a_socket(path: Path) -> None:
    # A socket's name has room for 107 bytes, and a test's directory can be longer: name the directory by a descriptor.
    directory = os.open(path.parent, os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.close(directory)


NOT_OURS = {
    errors.UnsupportedVersion: of_another_version,
    errors.NeedsParent: with_a_parent,
    errors.ForeignImage: lambda path: write_image(path, b"F"),
    errors.NotAFile: os.mkfifo,
    errors.Unreadable: a_socket,
}


@pytest.mark.parametrize("error", NOT_OURS, ids=lambda error: error.__name__)
def test_what_this_process_cannot_judge_is_refused_by_name_and_never_counted_nor_removed(tmp_path, error):
    """Without waiting for a pipe; the same for a directory and for a link that leads nowhere."""

    def accept(image: Image, page: Page) -> str:
        return "of somebody else" if page(0x1000).startswith(b"F") else ""

    images = ImageDirectory(tmp_path, accept=accept)
    write_image(images.path_of(1), b"x")
    for sequence in (2, 5, 7):
        NOT_OURS[error](images.path_of(sequence))
    images.path_of(6).symlink_to(tmp_path / "nowhere")
    images.path_of(8).mkdir()
    write_image(images.path_of(4), b"x")
    found = images.newest()
    assert found is not None
    assert images.path_of(4) == found.image.path
    assert [errors.NotAFile, error, errors.Unreadable, error] == [type(one) for one in found.refused]
    assert images.retain(1).removed == [images.path_of(1)]
    assert images.make_room() is None
    left = [f"dump-{sequence:010}.kvimg" for sequence in (2, 4, 5, 6, 7, 8)]
    assert sorted(os.listdir(tmp_path)) == left


class Counted(Files):
    """Counts the bytes of pages that are read."""

    def __init__(self) -> None:
        self.read = 0

    def read_cached(self, fd: int, buffer: memoryview, offset: int) -> int:
        self.read += len(buffer)
        return super().read_cached(fd, buffer, offset)


def test_an_image_is_read_whole_once_and_again_only_when_its_file_has_changed(tmp_path):
    files = Counted()
    images = ImageDirectory(tmp_path, files=files)
    for sequence in (1, 2):
        write_image(images.path_of(sequence), b"x")
    images.retain(2)
    assert files.read == 2 * PAGE_SIZE
    images.retain(2)
    assert files.read == 2 * PAGE_SIZE
    damage(images.path_of(1))
    assert [images.path_of(1)] == [one.path for one in images.retain(2).set_aside]
    assert files.read == 3 * PAGE_SIZE


def test_room_is_made_from_the_oldest_down_to_the_last_good_image(images):
    for sequence in (1, 2, 3, 4):
        write_image(images.path_of(sequence), b"x")
    damage(images.path_of(4))
    assert [images.path_of(1), images.path_of(2), None] == [images.make_room() for _ in range(3)]
    assert sorted(os.listdir(images.directory)) == ["dump-0000000003.kvimg", "dump-0000000004.kvimg"]


def test_without_a_good_image_no_room_is_made(images):
    for sequence in (1, 2):
        write_image(images.path_of(sequence), b"x")
        damage(images.path_of(sequence))
    assert images.make_room() is None
    assert len(os.listdir(images.directory)) == 2


# --- the lock ---


def test_images_are_one_process_s_until_it_lets_go(images):
    held = images.lock()
    assert held.held
    with pytest.raises(errors.DirectoryInUse, match=str(images.directory)):
        ImageDirectory(images.directory).lock()
    other = ImageDirectory(images.directory, "other").lock()
    held.release()
    ImageDirectory(images.directory).lock().release()
    other.release()
    assert os.listdir(images.directory) == []
    assert not held.held


def test_the_lock_of_a_process_that_was_killed_is_gone(images):
    code = (
        "import sys; from snapshot.directory import ImageDirectory; lock = ImageDirectory(sys.argv[1]).lock();"
        "print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(images.directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(errors.DirectoryInUse):
            images.lock()
        holder.kill()
    assert images.lock().held


def test_a_lock_whose_file_its_holder_removed_in_between_is_taken_anew(images, monkeypatch):
    """Else two would each hold one: the first the removed file, the second a new one."""
    path = images.directory / ".dump.lock"
    real_open, robbed = os.open, []

    def open_and_lose(name, flags, *mode):
        fd = real_open(name, flags, *mode)
        if name == path and not robbed:
            robbed.append(name)
            os.unlink(name)
        return fd

    monkeypatch.setattr(os, "open", open_and_lose)
    held = images.lock()
    assert [path] == robbed
    assert path.exists()
    with pytest.raises(errors.DirectoryInUse):
        ImageDirectory(images.directory).lock()
    held.release()


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOLCK])
def test_where_nothing_can_be_written_or_locked_it_goes_without_a_lock(tmp_path, code):
    class Bare(Files):
        def lock(self, path: Path) -> int:
            raise OSError(code, os.strerror(code))

    lock = ImageDirectory(tmp_path, files=Bare()).lock()
    assert not lock.held
    lock.release()


def test_no_directory_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        ImageDirectory(tmp_path / "absent").lock()


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


def test_cleaning_does_not_wait_for_a_pipe_and_leaves_what_no_writer_makes(images):
    for number, make in enumerate((os.mkfifo, Path.mkdir, a_socket, lambda path: path.symlink_to("nowhere"))):
        make(images.directory / f".dump-0000000001.kvimg.0{number}.tmp")
    assert images.clean() == []
    assert len(os.listdir(images.directory)) == 4


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
