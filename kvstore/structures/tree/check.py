"""check_tree: proves the invariants of a tree by walking it."""

from typing import Any

from kvstore.structures.record import TREE
from kvstore.structures.tree.nodes import (
    ADDRESS,
    ADDRESS_BITS,
    ARRAY,
    FULL,
    INNER_SIZE,
    LEAF_SIZE,
    LEAST,
    WEIGHTED,
    WORDS,
)
from mmcore.jit import uint8, zeros
from mmcore.mmu import copy_out
from mmcore.paging import PAGE_SIZE


class _Checker:
    """Walks a tree; `leaves` and `items` collect what is met."""

    def __init__(self, space: Any, weights: int, levels: int) -> None:
        self.space, self.weights, self.levels = space, weights, levels
        self.leaves: list[tuple[int, int, int]] = []  # (leaf, previous, next)
        self.items: list[tuple[int, int]] = []  # (word, address)
        self._pages: dict[int, bytes] = {}  # which many small elements share

    def words(self, va: int, count: int) -> list[int]:
        data = self.read(va, 8 * count)
        return [int.from_bytes(data[i : i + 8], "little", signed=True) for i in range(0, len(data), 8)]

    def read(self, va: int, count: int) -> bytes:
        start = va % PAGE_SIZE
        if start + count > PAGE_SIZE:
            return self._copy(va, count)
        page = self._pages.get(va - start)
        if page is None:
            page = self._pages[va - start] = self._copy(va - start, PAGE_SIZE)
        return page[start : start + count]

    def _copy(self, va: int, count: int) -> bytes:
        data = zeros(uint8, count)
        copy_out(self.space, va, data, 0, count)
        return bytes(data)

    def key(self, element: int) -> bytes:
        """The key of an element, read without its module's kernels."""
        at, lengths = element, []
        for _ in range(2):
            size = 1 if self.read(at, 1)[0] < 0x80 else 4
            lengths.append(int.from_bytes(self.read(at, size), "big") & (0x7F if size == 1 else 0x7FFF_FFFF))
            at += size
        return self.read(at, lengths[0])

    def node(self, va: int, level: int, first: bool, last: bool) -> tuple[int, tuple[int, int]]:
        """Check the subtree of a node.  Returns its weight and its first item."""
        where = f"node {va:#x} of level {level}"
        node = self.words(va, _node_size_of(level) // 8)
        count, said = node[0] >> ADDRESS_BITS, node[1] >> ADDRESS_BITS
        _require(said == level | WEIGHTED * self.weights, f"1: {where} says {said:#x}")
        root, edge = level == self.levels, first or last
        least = (1 if level == 1 else 2) if root else 1 if edge else LEAST
        _require(least <= count <= FULL, f"2: {where} holds {count}")
        # A leaf has no children and weights.
        words, addresses, children, weights = (node[(WORDS + ARRAY * i) // 8 :][:count] for i in range(4))
        if level == 1:
            self.leaves.append((va, node[0] & ADDRESS, node[1] & ADDRESS))
            self.items += zip(words, addresses, strict=True)
            _require(not self.weights or min(words) > 0, f"3: {where} has an item without weight")
            return (sum(words) if self.weights else count), (words[0], addresses[0])
        for i, child in enumerate(children):
            weight, item = self.node(child, level - 1, first and i == 0, last and i == count - 1)
            _require(weight == weights[i], f"3: {where}, child {i}: weight {weights[i]}, and {weight} below")
            if not self.weights:
                _require(item == (words[i], addresses[i]), f"4: {where}, child {i}: not the first item below")
        return sum(weights), (words[0], addresses[0])


def _node_size_of(level: int) -> int:
    return LEAF_SIZE if level == 1 else INNER_SIZE


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise AssertionError(what)


def check_tree(space: Any, record: int, weights: int) -> list[tuple[int, int]]:
    """Prove the invariants of a tree: AssertionError says which one fails.  Returns the items, (word, address)."""
    checker = _Checker(space, weights, 0)
    root, levels = checker.words(record + TREE, 2)
    _require((root == 0) == (levels == 0), f"1: root {root:#x} with {levels} levels")
    if root == 0:
        return []
    checker.levels = levels
    checker.node(root, levels, True, True)
    leaves = [leaf for leaf, _, _ in checker.leaves]
    for (leaf, previous, following), before, behind in zip(
        checker.leaves, [0, *leaves], [*leaves[1:], 0], strict=False
    ):
        _require(
            (previous, following) == (before, behind), f"6: leaf {leaf:#x} is linked to {previous:#x}, {following:#x}"
        )
    if not weights:
        keys: dict[int, bytes] = {}
        for (word, element), (other, behind) in zip(checker.items, checker.items[1:], strict=False):
            if word == other:
                for each in (element, behind):
                    keys.setdefault(each, checker.key(each))
            ascending = word < other or (word == other and keys[element] < keys[behind])
            _require(ascending, f"5: the item of word {word} and the one behind it do not ascend")
    return checker.items
