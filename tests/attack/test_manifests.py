"""Manifests made by hand, with valid checksums: keys missing, of another type, or too large; impossible runs.

Each is an image of a real store with one error.  The loader refuses it by name and loads the older one.  `kvstore
inspect` reports the reason, or shows the image.  Neither ever ends in a traceback.
"""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest
from click.testing import CliRunner

from kvstore.cli.commandline import main
from tests.attack.images import Parts, Sample, Shelf
from tests.attack.test_damaged_images import VALUES, WORDS, good, older, shelf

__all__ = ["good", "older", "shelf"]  # fixtures

KEYS = ("version", "id", "parent", "epoch", "root", "forked_unix_us", "pages", "runs", "chunks", "metadata")
NUMBERS = ("epoch", "root", "forked_unix_us")  # for the record only: any number will do


def inspected(path: Path) -> int:
    """The exit status of `kvstore inspect`, which must be the same for text and JSON."""
    statuses = []
    for options in ([], ["--json"]):
        result = CliRunner().invoke(main, ["inspect", str(path), *options])
        assert result.exception is None or isinstance(result.exception, SystemExit), (options, result.exception)
        assert result.exit_code in (0, 1), result.output
        statuses.append(result.exit_code)
    assert statuses[0] == statuses[1]
    return statuses[0]


def refused(shelf: Shelf, data: bytes, good: Sample, older: Sample) -> bool:
    """Whether the loader refuses the image; runs `inspect`, too."""
    found = shelf.refuses_or_loads(data, good, older)
    path = shelf.directory / "inspected.bin"
    path.write_bytes(data)
    inspected(path)
    return found


@pytest.mark.parametrize("key", KEYS)
def test_a_key_that_is_missing(shelf: Shelf, good: Sample, older: Sample, key: str) -> None:
    """Every key must be there."""
    parts = good.parts
    assert set(parts.manifest) == set(KEYS)
    del parts.manifest[key]
    assert refused(shelf, parts.bytes(), good, older)


@pytest.mark.parametrize("key", ["surplus", "", 1, None, b"pages", True])
def test_a_key_too_many(shelf: Shelf, good: Sample, older: Sample, key: Any) -> None:
    """No other key may be there."""
    parts = good.parts
    parts.manifest[key] = 1
    assert refused(shelf, parts.bytes(), good, older)


@pytest.mark.parametrize("key", KEYS)
def test_a_value_of_every_type_and_size(shelf: Shelf, good: Sample, older: Sample, key: str) -> None:
    """Impossible values are refused; informative numbers may have any value."""
    for value in VALUES:
        parts = good.parts
        if type(parts.manifest[key]) is type(value) and parts.manifest[key] == value:
            continue
        parts.manifest[key] = value
        found = refused(shelf, parts.bytes(), good, older)
        may_be = (key in NUMBERS and type(value) is int) or (key == "metadata" and type(value) is dict)
        assert found or may_be, (key, value)


def _runs(change: Callable[[list[list[int]]], object]) -> Callable[[Parts], object]:
    def apply(parts: Parts) -> None:
        runs = parts.runs
        change(runs)
        parts.runs = runs

    return apply


CASES: dict[str, Callable[[Parts], object]] = {
    "runs that overlap": _runs(lambda runs: runs[1].__setitem__(0, runs[0][0])),
    "runs in another order": _runs(lambda runs: runs.reverse()),
    "a run twice": _runs(lambda runs: runs.append(list(runs[-1]))),
    "a run that is missing": _runs(lambda runs: runs.pop()),
    "an empty run more": _runs(lambda runs: runs.append([runs[-1][0] + (1 << 30), 0])),
    "a negative run": _runs(lambda runs: runs[0].__setitem__(1, -1)),
    "a run of all pages there are": _runs(lambda runs: runs[0].__setitem__(1, 1 << 35)),
    "runs whose lengths overflow": _runs(lambda runs: runs.extend([[1 << 46, 1 << 62], [1 << 46, -(1 << 62)]])),
    "a negative address": _runs(lambda runs: runs[0].__setitem__(0, -4096)),
    "an address within a page": _runs(lambda runs: runs[0].__setitem__(0, runs[0][0] + 8)),
    "an address of the upper half": _runs(lambda runs: runs[-1].__setitem__(0, -(1 << 47))),
    "an address beyond the lower half": _runs(lambda runs: runs[-1].__setitem__(0, 1 << 47)),
    "a run that ends beyond it": _runs(lambda runs: runs[-1].__setitem__(0, (1 << 47) - 4096)),
    "half a run": lambda parts: parts.manifest.update(runs=parts.manifest["runs"][:-8]),
    "a checksum missing": lambda parts: parts.manifest.update(chunks=parts.manifest["chunks"][:-8]),
    "a checksum too many": lambda parts: parts.manifest.update(chunks=parts.manifest["chunks"] + bytes(8)),
    "no checksums": lambda parts: parts.manifest.update(chunks=b""),
    "a page more than there is": lambda parts: parts.manifest.update(pages=parts.manifest["pages"] + 1),
    "a page less": lambda parts: parts.manifest.update(pages=parts.manifest["pages"] - 1),
    "a parent": lambda parts: parts.manifest.update(parent=bytes(16)),
    "itself as its parent": lambda parts: parts.manifest.update(parent=parts.manifest["id"]),
    "another identity": lambda parts: parts.manifest.update(id=bytes(range(16))),
    "another layout": lambda parts: parts.manifest["metadata"].update(layout="0123456789abcdef"),
    "a layout that is no text": lambda parts: parts.manifest["metadata"].update(layout=["x", {"y": b"z"}]),
    "a layout of a megabyte": lambda parts: parts.manifest["metadata"].update(layout="x" * 1_000_000),
    "another version in the header": lambda parts: parts.header.update(version=2),
    "chunks of no bytes": lambda parts: parts.header.update(chunk_size=0),
    "chunks of half a page": lambda parts: parts.header.update(chunk_size=2048),
    "chunks of 2 GiB": lambda parts: parts.header.update(chunk_size=1 << 31),
    "pages of 8 KiB": lambda parts: parts.header.update(page_size=8192),
    "a manifest at the beginning": lambda parts: parts.trailer.update(offset=0),
    "a manifest beyond the end": lambda parts: parts.trailer.update(offset=1 << 62),
    "a manifest of all memory": lambda parts: parts.trailer.update(length=(1 << 64) - 1),
    "another length of the file": lambda parts: parts.trailer.update(size=1),
}


@pytest.mark.parametrize("case", CASES)
def test_a_manifest_that_cannot_be(shelf: Shelf, good: Sample, older: Sample, case: str) -> None:
    """Each is refused."""
    parts = good.parts
    CASES[case](parts)
    assert refused(shelf, parts.bytes(), good, older)


RAW: dict[str, bytes] = {
    "nothing": b"",
    "no msgpack": b"\xc1",
    "an empty map": b"\x80",
    "a list": b"\x93\x01\x02\x03",
    "a map cut short": b"\x81\xa1a",
    "a map of four thousand million": b"\xdf\xff\xff\xff\xff",
    "a list as a key": b"\x81\x91\x01\x02",
    "a map as a key": b"\x81\x81\x01\x02\x03",
    "a text that is no UTF-8": b"\x81\xa2\xff\xfe\x01",
    "lists in lists, a thousand deep": b"\x91" * 1000 + b"\x01",
    "lists in lists, a million deep": b"\x91" * 1_000_000 + b"\x01",
    "an extension type": b"\x81\xa1a" + msgpack.packb(msgpack.ExtType(5, b"x" * 16)),
    "a time as a key": b"\x81" + msgpack.packb(msgpack.Timestamp(1)) + b"\x01",
    "a NaN as a key": b"\x81\xcb" + struct.pack(">d", float("nan")) + b"\x01",
}


@pytest.mark.parametrize("what", RAW)
def test_bytes_that_are_no_manifest(shelf: Shelf, good: Sample, older: Sample, what: str) -> None:
    """Each is refused."""
    assert refused(shelf, good.parts.bytes(RAW[what]), good, older)


ODD_METADATA: dict[str, dict[Any, Any]] = {
    "databases that are no list": {"databases": 7},
    "databases of another shape": {"databases": [[1], [2, 3, 4], "x", None]},
    "databases without end": {"databases": [[1, 1]] * 100_000},
    "texts in place of numbers": {"databases": [["a", "b"]] * 16},
    "numbers that no int64 holds": {"databases": [[(1 << 64) - 1, -(1 << 63)]] * 16},
    "bytes that are no text": {"made_by": b"\xff\xfe", b"\xff": 1},
    "keys of every kind": {1: 2, None: 3, False: 4, b"x": 5, 1.5: 6},
    "control characters": {"made_by": "\x1b[2J\r\n\0"},
    "markup": {"made_by": "[bold]x[/bold]", "[red]": "x"},
    "nested": {"x": {"y": [{"z": [[]]}]}},
    "a NaN": {"x": float("nan"), "y": float("inf")},
}


@pytest.mark.parametrize("what", ODD_METADATA)
def test_odd_metadata_are_shown_or_refused_and_change_nothing(
    shelf: Shelf, good: Sample, older: Sample, what: str
) -> None:
    """For all values, the loaded store is the saved one or the older one."""
    parts = good.parts
    parts.manifest["metadata"].update(ODD_METADATA[what])
    refused(shelf, parts.bytes(), good, older)


@pytest.mark.parametrize("word", WORDS)
def test_a_time_before_and_after_all_times_is_shown(shelf: Shelf, good: Sample, older: Sample, word: int) -> None:
    """The time of an image's fork may be any number, and `inspect` prints it."""
    parts = good.parts
    parts.manifest["forked_unix_us"] = word
    refused(shelf, parts.bytes(), good, older)
