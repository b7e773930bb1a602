"""Reading a store's memory from Python, for the proof that it is sound (check.py)."""

import struct
from functools import cache

import numpy as np

from kvstore.lifetimes.context import Context
from mmcore.heap import CLASS_SIZES
from mmcore.mmu import copy_out

PAGE = 4096


class Reader:
    """Reads a store that does not change meanwhile; by pages, because it has many small entries."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._pages: dict[int, bytes] = {}

    def _read(self, va: int, count: int) -> bytes:
        out = np.empty(count, np.uint8)
        copy_out(self.context.space, va, out, 0, count)
        return out.tobytes()

    def page(self, va: int) -> bytes:
        """The whole page at `va`."""
        page = self._pages.get(va)
        if page is None:
            page = self._pages[va] = self._read(va, PAGE)
        return page

    def bytes(self, va: int, count: int) -> bytes:
        """Bytes from `va` on."""
        start = va % PAGE
        if not 0 < count <= PAGE - start:
            return self._read(va, count)
        return self.page(va - start)[start : start + count]

    def words(self, va: int, count: int) -> list[int]:
        """Words from `va` on."""
        return list(struct.unpack(f"<{count}q", self.bytes(va, 8 * count)))


def read_words(context: Context, va: int, count: int) -> list[int]:
    """Words of the store's address space."""
    return Reader(context).words(va, count)


@cache  # asked for each element
def class_size(size: int) -> int:
    """Bytes of the heap for an allocation."""
    return next((fit for fit in CLASS_SIZES if fit >= size), -(-size // PAGE) * PAGE)


def read_element(reader: Reader, va: int) -> tuple[bytes, bytes, int]:
    """(key, payload, size) of an element."""
    start = va % PAGE
    if start < PAGE - 2:  # nearly all are short and within a page
        page = reader.page(va - start)
        k, p = page[start], page[start + 1]
        if k < 0x80 and p < 0x80 and start + 2 + k + p <= PAGE:
            middle = start + 2 + k
            return page[start + 2 : middle], page[middle : middle + p], 2 + k + p
    at, lengths = va, []
    for _ in range(2):
        first = reader.bytes(at, 1)[0]
        size = 1 if first < 0x80 else 4
        lengths.append(int.from_bytes(reader.bytes(at, size), "big") & (0x7F if size == 1 else 0x7FFF_FFFF))
        at += size
    k, p = lengths
    return reader.bytes(at, k), reader.bytes(at + k, p), at + k + p - va


def tree_nodes(reader: Reader, node: int) -> list[tuple[int, int, list[int]]]:
    """(node, level, words) of every node below and with this one; the children are read from their array."""
    first, second = reader.words(node, 2)
    count, level = first >> 48, (second >> 48) & 0xFF
    words = reader.words(node, (1024 if level == 1 else 2048) // 8)
    nodes = [(node, level, words)]
    if level > 1:
        for child in words[(16 + 2 * 504) // 8 :][:count]:
            nodes += tree_nodes(reader, child)
    return nodes


def tree_bytes(reader: Reader, node: int) -> int:
    """Bytes of the heap for all nodes of a tree."""
    return sum(class_size(1024 if level == 1 else 2048) for _, level, _ in tree_nodes(reader, node))


def tree_items(reader: Reader, node: int) -> list[tuple[int, int]]:
    """(word, address) of all items, in order."""
    items: list[tuple[int, int]] = []
    for _, level, words in tree_nodes(reader, node):
        if level == 1:
            count = words[0] >> 48
            items += zip(words[2 : 2 + count], words[65 : 65 + count], strict=True)
    return items
