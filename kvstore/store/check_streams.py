"""The proof that a stream is sound, by its own reading of the layout: see stream.py, stream_layout.py, groups.py."""

import struct
from itertools import pairwise
from typing import Any

from kvstore.store.check_reader import PAGE, Reader, class_size, read_element, tree_bytes, tree_items
from kvstore.structures.record import OWNS_BELOW, OWNS_ITEMS
from kvstore.structures.tree import check_tree

Identifier = tuple[int, int]
_HALF = 1 << 63


def _plain(word: int) -> int:
    # An ordered half of an identifier as Redis prints it.
    return word + _HALF


def owned_bytes(reader: Reader, record: int) -> int:
    """Bytes of a record with a tree, which may be buried, and of all that it owns."""
    flags, *_ = reader.words(record, 1)
    (tree,) = reader.words(record + 32, 1)
    taken = class_size(72)
    if tree:
        taken += tree_bytes(reader, tree)
        for _, item in tree_items(reader, tree) if flags & OWNS_ITEMS else ():
            _, payload, size = read_element(reader, item)
            taken += class_size(size)
            for below in struct.unpack_from("<2q", payload) if flags & OWNS_BELOW else ():
                taken += owned_bytes(reader, below) if below else 0
    return taken


def _text(data: bytes, at: int) -> tuple[bytes, int]:
    size, at = (data[at] >> 1, at + 1) if data[at] & 1 == 0 else (struct.unpack_from("<I", data, at)[0] >> 1, at + 4)
    return data[at : at + size], at + size


def _number(data: bytes, at: int, code: int) -> tuple[int, int]:
    size = 8 if code == 7 else code
    return int.from_bytes(data[at : at + size], "little"), at + size


def _node(reader: Reader, va: int) -> tuple[list[tuple[Identifier, list[bytes]]], Identifier, int]:
    """The entries of a node, its base, and the bytes that it takes."""
    key, _, size = read_element(reader, va)
    data = reader.bytes(va, size)
    ms, seq, entries, added, stop, start, fields, capacity = struct.unpack_from("<2q6H", data, 13)
    base = _plain(ms), _plain(seq)
    assert key == base[1].to_bytes(8, "big") and 0 < entries <= added, "the header of a node"
    assert capacity == (size if size <= PAGE else 0), "the capacity of a node"
    names, at = list[bytes](), 41
    for _ in range(fields):
        name, at = _text(data, at)
        names.append(name)
    assert at == start, "the first entry is not behind the master fields"
    found = []
    for i in range(entries):
        form, at = data[at], at + 1
        distance, at = _number(data, at, form >> 1 & 7)
        told, at = _number(data, at, form >> 4 & 7)
        identifier = base[0] + distance, (base[1] + told if distance == 0 else told)
        texts, count = list[bytes](), fields
        if form & 1 == 0:
            count, at = (
                (data[at] >> 1, at + 1)
                if data[at] & 1 == 0
                else (
                    struct.unpack_from("<I", data, at)[0] >> 1,
                    at + 4,
                )
            )
        for j in range(count):
            name, at = (names[j], at) if form & 1 else _text(data, at)
            value, at = _text(data, at)
            texts += name, value
        found.append((identifier, texts))
        if capacity:
            (end,) = struct.unpack_from("<H", data, capacity - 6 - 2 * (i + 1))
            assert end == at, "the end of an entry"
    assert not capacity or (at == stop and at + 2 * entries + 6 <= capacity), "the bytes of a node"
    return found, base, class_size(size)


def _pendings(reader: Reader, record: int) -> dict[Identifier, tuple[int, int, int, int]]:
    """Time, times, consumer and address of each pending entry in the tree of a record."""
    found = {}
    for word, address in check_tree(reader.context.space, record, 0):
        key, payload, _ = read_element(reader, address)
        found[_plain(word), int.from_bytes(key, "big")] = (*struct.unpack("<3q", payload), address)
    assert reader.words(record + 8, 1)[0] == len(found), "a record does not count its pending entries"
    return found


def _group(reader: Reader, payload: bytes) -> Any:
    """A group in words, with its consumers and pending entries."""
    pending, consumers, ms, seq, read = struct.unpack("<5q", payload)
    whole, named, met = _pendings(reader, pending), {}, 0
    for _, address in check_tree(reader.context.space, consumers, 0):
        name, its, _ = read_element(reader, address)
        own, none, seen, active = struct.unpack("<4q", its)
        mine = _pendings(reader, own)
        assert none == 0, "a consumer has no consumers"
        assert mine == {key: value for key, value in whole.items() if value[2] == address}, "another's pending entries"
        met += len(mine)
        named[name] = seen, active, {key: value[:2] for key, value in mine.items()}
    assert met == len(whole), "a pending entry that no consumer has"
    assert reader.words(consumers + 8, 1)[0] == len(named), "a record does not count its consumers"
    return (_plain(ms), _plain(seq)), read, named


def _groups(reader: Reader, record: int) -> dict[bytes, Any]:
    found = {}
    for _, address in check_tree(reader.context.space, record, 0) if record else ():
        name, payload, _ = read_element(reader, address)
        found[name] = _group(reader, payload)
    assert not record or reader.words(record + 8, 1)[0] == len(found), "a record does not count its groups"
    return found


def read_stream(reader: Reader, root: int) -> tuple[list[Any], int]:
    """The entries, and then what else a stream is; and the bytes that it takes.  AssertionError if it is unsound."""
    _, count, *halves, added, nodes, tail, groups = reader.words(root, 10)
    last, deleted = zip(*[iter(map(_plain, halves))] * 2, strict=True)
    taken, addresses = class_size(80), list[int]()
    if nodes:
        items = check_tree(reader.context.space, nodes, 0)
        assert reader.words(nodes + 8, 1)[0] == len(items), "a record does not count its nodes"
        taken += class_size(72) + (tree_bytes(reader, reader.words(nodes + 32, 1)[0]) if items else 0)
        addresses = [address for _, address in items]
    assert tail or not addresses, "1: no last node"
    found: list[Any] = []
    for address in addresses + [tail] * bool(tail):
        entries, base, size = _node(reader, address)
        assert base <= entries[0][0] and (not found or found[-1][0] < base), "2: the base of a node"
        found += entries
        taken += size
    assert all(a[0] < b[0] for a, b in pairwise(found)), "2: entries do not ascend"
    assert count == len(found), "3: the count"
    assert not found or found[-1][0] <= last, "4: an entry behind the last identifier"
    if groups:
        taken += owned_bytes(reader, groups)
    return [*found, ("last", last), ("deleted", deleted), ("added", added), ("groups", _groups(reader, groups))], taken
