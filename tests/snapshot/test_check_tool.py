"""`python -m snapshot FILE`: good and bad images from the command line."""

import json

import numpy as np
import pytest

from mmcore.jit import Table
from snapshot.__main__ import main
from snapshot.image import PAGE_SIZE, checksum, ending, header_page


@pytest.fixture
def good(tmp_path):
    data = b"z" * 3 * PAGE_SIZE
    path = tmp_path / "good.kvimg"
    end = ending(
        bytes(16), runs=Table.of([[0x1000, 3]], 2), checksums=np.array([checksum(data)], dtype=np.uint64),
        metadata={"keys": 12, "raw": b"\xff"}, epoch=1, root=1, forked_unix_us=1_700_000_000_123_000,
    )  # fmt: skip
    path.write_bytes(header_page(bytes(16)) + data + end)
    return path


@pytest.fixture
def bad(good, tmp_path):
    data = bytearray(good.read_bytes())
    data[PAGE_SIZE + 100] ^= 1
    path = tmp_path / "bad.kvimg"
    path.write_bytes(data)
    return path


def test_a_good_image_is_described(good, capsys):
    assert main([str(good)]) == 0
    out = capsys.readouterr().out
    for fact in ("good", "3 in 1 runs", "2023-11-14 22:13:20.123", "metadata keys", "every checksum right"):
        assert fact in out


def test_a_bad_image_is_named_with_its_first_bad_chunk_and_offset_and_the_others_are_still_checked(good, bad, capsys):
    assert main([str(bad), str(good)]) == 1
    seen = capsys.readouterr()
    assert "chunk 0 (12288 bytes at offset 4096) fails its checksum" in seen.err
    assert str(bad) in seen.err
    assert f"{good}: good" in seen.out


def test_json_is_one_object_a_file(good, bad, capsys):
    assert main(["--json", str(good), str(bad)]) == 1
    first, second = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (first["good"], first["pages"], first["metadata"]) == (True, 3, {"keys": 12, "raw": "ff"})
    assert (second["good"], second["error"]) == (False, "ChecksumMismatch")
