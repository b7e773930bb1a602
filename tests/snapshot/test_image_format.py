"""The image format: what a good file says, and the name of what is wrong with each bad one.

Images are written here from the format's two functions, `header_page` and `ending`, without a machine.
"""

import json
import os
import random
import re
import struct
from pathlib import Path

import msgpack
import numpy as np
import pytest

from mmcore.jit import Table
from snapshot import errors, image
from snapshot.__main__ import lines
from snapshot.describe import DEPTH_MAX, describe, moment, plain, text
from snapshot.image import DATA_OFFSET, PAGE_SIZE, TRAILER_SIZE, Repeats, checksum, ending, header_page, read_image
from snapshot.reader import verify

IDENTITY = bytes(range(16))
CHUNK = 4 * PAGE_SIZE


def pages_of(seed: int, count: int) -> bytes:
    return random.Random(seed).randbytes(count * PAGE_SIZE)


def image_bytes(data: bytes, runs: list[tuple[int, int]], chunk_size: int = CHUNK, **manifest: object) -> bytes:
    digests = [checksum(data[at : at + chunk_size]) for at in range(0, len(data), chunk_size)]
    said: dict = {"metadata": {}, "epoch": 1, "root": 7, "forked_unix_us": 1_700_000_000_000_000, **manifest}
    run_array = Table.of(runs, 2)
    return (
        header_page(IDENTITY, chunk_size, said.get("repeats"))
        + data
        + ending(IDENTITY, runs=run_array, checksums=np.array(digests, dtype=np.uint64), **said)
    )


def seal(data: bytes, manifest: bytes, chunk_size: int = CHUNK, repeats: Repeats | None = None) -> bytes:
    """An image whose manifest is whatever is given, with checksums that fit."""
    offset = DATA_OFFSET + len(data)
    size = offset + len(manifest) + TRAILER_SIZE
    covered = struct.pack("<QQQ16sQ", offset, len(manifest), checksum(manifest), IDENTITY, size)
    end = image.END_MAGIC + covered + struct.pack("<Q", checksum(covered))
    return header_page(IDENTITY, chunk_size, repeats) + data + manifest + end


@pytest.fixture
def good() -> bytes:
    """Eleven pages in three runs and three chunks, the last one short."""
    return image_bytes(pages_of(1, 11), [(0x1000_0000, 5), (0x2000_0000, 1), (0x80_0000_0000, 5)], metadata={"a": 1})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "one.kvimg"


def test_the_worked_example_in_the_docstring_is_byte_for_byte_an_image(path):
    data = b"".join(letter * PAGE_SIZE for letter in (b"A", b"B", b"C"))
    whole = image_bytes(data, [(0x1000_0000, 2), (0x80_0000_0000, 1)], chunk_size=image.CHUNK_SIZE)
    lines = re.findall(r"^    ([0-9a-f]{4})  ((?:[0-9a-f]{2} )+) ", image.__doc__ or "", re.MULTILINE)
    assert len(lines) == 13
    for offset, shown in lines:
        expected = bytes.fromhex(shown)
        assert expected == whole[int(offset, 16) :][: len(expected)], offset
    path.write_bytes(whole)
    assert verify(path).runs.tolist() == [[0x1000_0000, 2], [0x80_0000_0000, 1]]


def test_a_good_image_is_read_back_as_it_was_written(good, path):
    path.write_bytes(good)
    seen = verify(path)
    assert (seen.pages, seen.chunk_count, seen.id, seen.parent, seen.epoch, seen.root) == (11, 3, IDENTITY, None, 1, 7)
    assert seen.metadata == {"a": 1}
    assert list(seen.file_runs()) == [(0x1000_0000, 5, 0x1000), (0x2000_0000, 1, 0x6000), (0x80_0000_0000, 5, 0x7000)]
    assert [seen.chunk_extent(i) for i in range(3)] == [(0, 4 * 4096), (4 * 4096, 4 * 4096), (8 * 4096, 3 * 4096)]
    assert (11, 3, len(good)) == tuple(describe(seen)[key] for key in ("pages", "chunks", "file_bytes"))


def test_an_image_of_no_pages_is_an_image(path):
    path.write_bytes(image_bytes(b"", []))
    assert (verify(path).pages, verify(path).chunk_count) == (0, 0)


def test_progress_ends_with_everything_done(good, path):
    path.write_bytes(good)
    seen: list[tuple[int, int]] = []
    verify(path, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (11 * PAGE_SIZE, 11 * PAGE_SIZE)
    assert seen == sorted(seen)


# --- foreign and damaged files ---


def test_a_file_that_is_something_else_is_not_an_image(path):
    for other in (b"REDIS0011\xfa", b"", b"\x89PNG\r\n\x1a\n" + bytes(9000), bytes(100)):
        path.write_bytes(other)
        with pytest.raises(errors.NotAnImage):
            read_image(path)


def test_a_missing_file_is_unreadable_by_name_and_a_directory_is_no_file(path):
    with pytest.raises(errors.Unreadable) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    path.mkdir()
    with pytest.raises(errors.NotAFile):
        read_image(path)


def test_a_pipe_is_no_file_and_is_not_waited_for(path):
    os.mkfifo(path)
    with pytest.raises(errors.NotAFile):
        verify(path)


def test_another_version_is_refused_as_such_and_named(good, path):
    page = bytearray(good[:PAGE_SIZE])
    page[8:12] = struct.pack("<I", 3)
    page[-8:] = struct.pack("<Q", checksum(bytes(page[:-8])))
    path.write_bytes(bytes(page) + good[PAGE_SIZE:])
    with pytest.raises(errors.UnsupportedVersion) as caught:
        read_image(path)
    assert caught.value.version == 3


@pytest.mark.parametrize(("offset", "value"), [(12, 8192), (16, 0), (16, 100), (16, 1 << 31), (20, 1), (3000, 9)])
def test_a_header_that_contradicts_itself_is_corrupt_even_if_its_checksum_fits(good, path, offset, value):
    page = bytearray(good[:PAGE_SIZE])
    page[offset : offset + 4] = struct.pack("<I", value)
    page[-8:] = struct.pack("<Q", checksum(bytes(page[:-8])))
    path.write_bytes(bytes(page) + good[PAGE_SIZE:])
    with pytest.raises(errors.HeaderCorrupt):
        read_image(path)


def test_every_flipped_byte_of_the_header_is_noticed(good, path):
    for offset in [*range(48), *range(64, PAGE_SIZE - 16, 97), *range(PAGE_SIZE - 16, PAGE_SIZE)]:
        path.write_bytes(flipped(good, offset))
        expected = errors.NotAnImage if offset < 8 else errors.HeaderCorrupt
        with pytest.raises(expected):
            read_image(path)


def test_every_flipped_byte_of_the_manifest_is_noticed(good, path):
    for offset in range(DATA_OFFSET + 11 * PAGE_SIZE, len(good) - TRAILER_SIZE):
        path.write_bytes(flipped(good, offset))
        with pytest.raises(errors.ManifestCorrupt):
            read_image(path)


def test_every_flipped_byte_of_the_trailer_is_noticed(good, path):
    for offset in range(len(good) - TRAILER_SIZE, len(good)):
        path.write_bytes(flipped(good, offset))
        with pytest.raises(errors.TrailerCorrupt):
            read_image(path)


@pytest.mark.parametrize("chunk", [0, 1, 2])
def test_a_flipped_byte_anywhere_in_a_chunk_names_the_chunk_and_its_offset(good, path, chunk):
    extent = range(DATA_OFFSET + chunk * CHUNK, min(DATA_OFFSET + (chunk + 1) * CHUNK, DATA_OFFSET + 11 * PAGE_SIZE))
    for offset in [extent[0], *random.Random(chunk).sample(extent, 40), extent[-1]]:
        path.write_bytes(flipped(good, offset))
        with pytest.raises(errors.ChecksumMismatch) as caught:
            verify(path)
        assert (chunk, DATA_OFFSET + chunk * CHUNK) == (caught.value.chunk, caught.value.offset)
        assert f"chunk {chunk} " in str(caught.value)
        assert str(caught.value.offset) in str(caught.value)


def test_of_several_bad_chunks_the_first_is_named(path):
    whole = bytearray(image_bytes(pages_of(2, 400), [(0, 400)]))
    for chunk in (77, 31, 60, 99):
        whole[DATA_OFFSET + chunk * CHUNK + 5] ^= 1
    path.write_bytes(bytes(whole))
    for threads in (1, 2, 5):
        with pytest.raises(errors.ChecksumMismatch) as caught:
            verify(path, threads=threads)
        assert caught.value.chunk == 31


def test_a_file_cut_short_anywhere_is_refused_as_truncated(good, path):
    ends = {
        *range(1, 60),
        PAGE_SIZE - 1,
        *range(PAGE_SIZE, len(good), PAGE_SIZE // 2),
        *range(len(good) - 300, len(good)),
    }
    for end in sorted(ends):
        path.write_bytes(good[:end])
        with pytest.raises(errors.Truncated):
            verify(path)


def test_a_file_with_something_after_its_end_is_refused(good, path):
    for more in (b"\0", b"x" * 64, bytes(PAGE_SIZE)):
        path.write_bytes(good + more)
        with pytest.raises(errors.Truncated):
            read_image(path)


def test_a_piece_missing_from_the_middle_is_refused(good, path):
    path.write_bytes(good[: 3 * PAGE_SIZE] + good[4 * PAGE_SIZE :])
    with pytest.raises(errors.Truncated):
        read_image(path)


def test_the_end_of_another_image_is_refused(good, path):
    other = good.replace(IDENTITY, bytes(16))
    assert other != good
    path.write_bytes(good[:PAGE_SIZE] + other[PAGE_SIZE:])
    with pytest.raises(errors.ImageError):
        read_image(path)


RUNS = struct.pack("<qq", 0x1000, 2)
BAD_MANIFESTS: dict[str, dict[str, object]] = {
    "a version unlike the header's": {"version": 2},
    "another image's identity": {"id": bytes(16)},
    "a parent's identity too short": {"parent": b"x"},
    "more pages than there are": {"pages": 3},
    "fewer pages than there are": {"pages": 1},
    "negative pages": {"pages": -1},
    "pages as text": {"pages": "2"},
    "pages as a truth value": {"pages": True},
    "half a run": {"runs": RUNS[:8]},
    "no run": {"runs": b""},
    "a run of too many pages": {"runs": struct.pack("<qq", 0x1000, 3)},
    "an unaligned run": {"runs": struct.pack("<qq", 0x1001, 2)},
    "a negative address": {"runs": struct.pack("<qq", -4096, 2)},
    "an address beyond the low half": {"runs": struct.pack("<qq", 1 << 47, 2)},
    "a run that ends beyond the low half": {"runs": struct.pack("<qq", (1 << 47) - 4096, 2)},
    "an empty run": {"runs": struct.pack("<qqqq", 0x1000, 0, 0x2000, 2)},
    "a negative run": {"runs": struct.pack("<qqqq", 0x1000, 3, 0x9000, -1)},
    "a run longer than all addresses": {"runs": struct.pack("<qq", 0, (1 << 62) // 4096)},
    "overlapping runs": {"runs": struct.pack("<qqqq", 0x1000, 1, 0x1000, 1)},
    "runs out of order": {"runs": struct.pack("<qqqq", 0x5000, 1, 0x1000, 1)},
    "a checksum missing": {"chunks": b""},
    "a checksum too many": {"chunks": bytes(16)},
    "metadata that is no map": {"metadata": []},
    "a key that nobody knows": {"surplus": 1},
}


def manifest_of(data: bytes) -> dict[str, object]:
    """The manifest of two pages, in one run and one chunk."""
    return {
        "version": 1, "id": IDENTITY, "parent": None, "epoch": 0, "root": 0, "forked_unix_us": 0, "pages": 2,
        "runs": RUNS, "chunks": struct.pack("<Q", checksum(data)), "metadata": {},
    }  # fmt: skip


@pytest.mark.parametrize("what", BAD_MANIFESTS)
def test_a_manifest_that_does_not_describe_the_file_is_corrupt_even_if_its_checksum_fits(path, what):
    data = pages_of(3, 2)
    manifest = manifest_of(data)
    path.write_bytes(seal(data, msgpack.packb(manifest)))
    verify(path)
    path.write_bytes(seal(data, msgpack.packb({**manifest, **BAD_MANIFESTS[what]})))
    with pytest.raises(errors.ManifestCorrupt):
        read_image(path)


REPEATS = Repeats(0x2000, Table.of([(0x3000, 4), (0x9000, 1)], 2))


def test_repeats_are_read_back_and_older_readers_are_told_by_the_version(path):
    path.write_bytes(image_bytes(pages_of(1, 3), [(0x1000, 2), (0x8000, 1)], repeats=REPEATS))
    seen = verify(path)
    assert (seen.version, seen.pages, seen.repeats.page) == (2, 3, 0x2000)
    assert seen.repeats.runs.tolist() == [[0x3000, 4], [0x9000, 1]]
    assert seen.mapped.tolist() == [[0x1000, 2], [0x3000, 4], [0x8000, 1], [0x9000, 1]]
    assert (seen.page_number(0x3000), seen.maps(0x2000, 2)) == (-1, False)  # these pages have no data of their own
    assert describe(seen)["repeated_pages"] == 5
    assert "the page at 0x2000, 5 times in 2 runs" in "".join(lines(seen))
    path.write_bytes(image_bytes(pages_of(1, 3), [(0x1000, 3)]))
    assert verify(path).version == 1


BAD_REPEATS: dict[str, dict[str, object]] = {
    "a version unlike the header's": {"version": 1},
    "a repeat over a page": {"repeats": struct.pack("<qq", 0x2000, 3)},
    "repeats that overlap": {"repeats": struct.pack("<qqqq", 0x5000, 2, 0x6000, 1)},
    "a run that is none": {"repeats": struct.pack("<qq", 0x5001, 3)},
    "half a run": {"repeats": bytes(8)},
    "fewer than there are": {"repetitions": 2},
    "more than there are": {"repetitions": 4},
    "none of them": {"repeats": b""},
    "a repeated page that is not there": {"repeated": 0x5000},
    "a repeated page that is no page": {"repeated": 0x1001},
    "a repeated page before all": {"repeated": -4096},
    "no repeated page": {"repeated": None},
}


@pytest.mark.parametrize("what", BAD_REPEATS)
def test_repeats_that_cannot_be_are_corrupt_even_if_the_checksum_fits(path, what):
    data = pages_of(3, 2)
    repeats = {"repeated": 0x1000, "repeats": struct.pack("<qq", 0x5000, 3), "repetitions": 3}
    manifest = {**manifest_of(data), "version": 2, **repeats}
    path.write_bytes(seal(data, msgpack.packb(manifest), repeats=REPEATS))
    verify(path)
    path.write_bytes(seal(data, msgpack.packb(manifest)))  # a header of version 1
    with pytest.raises(errors.ManifestCorrupt):
        read_image(path)
    path.write_bytes(seal(data, msgpack.packb({**manifest, **BAD_REPEATS[what]}), repeats=REPEATS))
    with pytest.raises(errors.ManifestCorrupt):
        read_image(path)


@pytest.mark.parametrize(
    "manifest",
    [
        *(b"", b"\xc1", b"\x80", b"\x93\x01\x02\x03", b"\x81\xa1a", b"\xdf\xff\xff\xff\xff"),
        b"\x81\x90\x01",  # a list as a key
        b"\x81\x80\x01",  # a map as a key
        b"\x91" * 100_000,  # nested without an end
        b"\x81\xa1\xff\x01",  # a key that is no text
        b"\xc7\x0c\xff" + b"\xff" * 12,  # a date that is none
    ],
)
def test_a_manifest_that_is_no_map_of_ours_is_corrupt(path, manifest):
    path.write_bytes(seal(pages_of(3, 2), manifest))
    with pytest.raises(errors.ManifestCorrupt):
        read_image(path)


def test_a_manifest_longer_than_any_is_refused_before_it_is_read(path):
    """A file with a hole of gigabytes costs no memory."""
    offset, length = DATA_OFFSET, 8 << 30
    covered = struct.pack("<QQQ16sQ", offset, length, 0, IDENTITY, offset + length + TRAILER_SIZE)
    end = image.END_MAGIC + covered + struct.pack("<Q", checksum(covered))
    with path.open("wb") as file:
        file.write(header_page(IDENTITY, CHUNK))
        file.truncate(offset + length)
        file.seek(0, os.SEEK_END)
        file.write(end)
    with pytest.raises(errors.TrailerCorrupt, match="manifest of 8589934592 bytes for 0 pages"):
        read_image(path)


def test_a_page_is_found_by_its_address(good, path):
    path.write_bytes(good)
    seen = read_image(path)
    held = {0x1000_0000: 0, 0x1000_4000: 4, 0x2000_0000: 5, 0x80_0000_0000: 6, 0x80_0000_4000: 10}
    assert {address: seen.page_number(address) for address in held} == held
    for absent in (0, 0xFFF_F000, 0x1000_5000, 0x2000_1000, 0x80_0000_5000, (1 << 47) - 4096):
        assert seen.page_number(absent) == -1
    assert seen.maps(0x1000_0000, 5) and seen.maps(0x80_0000_1000, 4)
    assert not any((seen.maps(0x1000_0000, 6), seen.maps(0x1000_4000, 2), seen.maps(0x3000_0000, 1), seen.maps(0, 0)))


# --- what is told of one ---


def odd(rng: random.Random, depth: int = 0) -> object:
    """Anything that msgpack can carry."""
    leaf = [
        lambda: None, lambda: rng.random() < 0.5, lambda: rng.choice([-(1 << 63), (1 << 64) - 1, 0, 7]),
        lambda: rng.choice([float("nan"), float("inf"), -0.0, 1e308]), lambda: rng.randbytes(rng.randrange(9)),
        lambda: "".join(chr(rng.choice([0, 10, 13, 27, 65, 0x202E, 0x1F600])) for _ in range(rng.randrange(9))),
        lambda: msgpack.Timestamp(rng.randrange(1 << 34), rng.randrange(10**9)),
        lambda: msgpack.ExtType(rng.randrange(128), rng.randbytes(4)),
    ]  # fmt: skip
    if depth == 4 or rng.random() < 0.6:
        return rng.choice(leaf)()
    if rng.random() < 0.5:
        return [odd(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {rng.choice(leaf)(): odd(rng, depth + 1) for _ in range(rng.randrange(4))}


def test_whatever_metadata_there_are_can_be_told_and_is_json(path):
    """Seeded; odd keys, bytes, dates, infinities, depth, and no character that moves a cursor."""
    for seed in range(400):
        rng = random.Random(seed)
        metadata = {odd(random.Random(seed + 1), 4): odd(rng), "databases": odd(rng), "forked": odd(rng)}
        path.write_bytes(
            image_bytes(b"", [], metadata=metadata, forked_unix_us=rng.choice([-(1 << 63), (1 << 64) - 1]))
        )
        seen = read_image(path)
        told = json.loads(json.dumps(describe(seen)))
        assert told["pages"] == 0, seed
        for line in lines(seen):
            assert line.isprintable(), seed


def test_metadata_nested_deeper_than_anybody_reads_is_cut(path):
    deep: object = "core"
    for _ in range(500):
        deep = [deep]
    path.write_bytes(image_bytes(b"", [], metadata={"deep": deep}))
    told = describe(read_image(path))["metadata"]["deep"]
    for _ in range(DEPTH_MAX - 1):
        told = told[0]
    assert told == "..."


def test_a_time_that_no_calendar_has_is_told_as_a_number():
    assert moment(1_700_000_000_000_000) == "2023-11-14 22:13:20.000+00:00"
    assert moment((1 << 64) - 1) == "18446744073709551615 us"
    assert (plain({1: b"\xab", (2,): None}), text("a\nb"), text("plain")) == (
        {"1": "ab", "[2]": None},
        '"a\\nb"',
        "plain",
    )


def test_random_damage_is_never_taken_for_a_good_image(good, path):
    seed = 20240229
    rng = random.Random(seed)
    for _ in range(300):
        damaged = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            at, count = rng.randrange(len(good)), rng.choice([1, 8, 100, 5000])
            damaged[at : at + count] = rng.choice([bytes, rng.randbytes])(len(damaged[at : at + count]))
        if damaged == good:
            continue
        path.write_bytes(bytes(damaged))
        with pytest.raises(errors.ImageError):
            verify(path)


def flipped(data: bytes, offset: int) -> bytes:
    return data[:offset] + bytes([data[offset] ^ 0x40]) + data[offset + 1 :]
