"""The simplest model of an address space: a dict of pages; fork is a deep copy."""

from __future__ import annotations

PAGE = 4096
HUGE = 1 << 21


class ModelSpace:
    """A model that an AddressSpace may differ from only in speed."""

    def __init__(self) -> None:
        self.pages: dict[int, bytearray] = {}
        self.huge: set[int] = set()  # addresses of huge pages, whose pages are in `pages` as all others
        self.changed: set[int] = set()  # pages mapped, moved to or written since the last fork

    @staticmethod
    def range(address: int, length: int) -> range:
        return range(address & -PAGE, address + length, PAGE)

    def all_mapped(self, address: int, length: int) -> bool:
        return all(page in self.pages for page in self.range(address, length))

    def none_mapped(self, address: int, length: int) -> bool:
        return not any(page in self.pages for page in self.range(address, length))

    def map(self, address: int, length: int, *, huge: bool = False) -> None:
        for page in self.range(address, length):
            self.pages[page] = bytearray(PAGE)
            self.changed.add(page)
        if huge:
            self.huge.update(range(address, address + length, HUGE))

    def unmap(self, address: int, length: int) -> None:
        for page in self.range(address, length):
            del self.pages[page]
            self.changed.discard(page)
            self.huge.discard(page & -HUGE)

    def remap(self, old: int, length: int, new: int, new_length: int | None = None, *, huge: bool = False) -> None:
        size = length if new_length is None else new_length
        kept = min(length, size)
        self.unmap(old + kept, length - kept)
        self.map(new + kept, size - kept, huge=huge)
        if new != old:
            self.move(old, kept, new)

    def move(self, old: int, length: int, new: int) -> None:
        whole = {block for block in self.huge if old <= block and block + HUGE <= old + length}
        for page in self.range(old, length):
            self.pages[page - old + new] = self.pages.pop(page)
            self.changed.discard(page)
            self.changed.add(page - old + new)
            self.huge.discard(page & -HUGE)
        if (new - old) % HUGE == 0:
            self.huge.update(block - old + new for block in whole)

    def share(self, address: int, length: int, new: int) -> None:
        for page in self.range(address, length):
            self.pages[page - address + new] = bytearray(self.pages[page])
            self.changed.add(page - address + new)
        whole = {block for block in self.huge if address <= block and block + HUGE <= address + length}
        for page in self.range(address, length):
            if page & -HUGE not in whole or (new - address) % HUGE != 0:
                self.huge.discard(page & -HUGE)
        if (new - address) % HUGE == 0:
            self.huge.update(block - address + new for block in whole)

    def write(self, address: int, data: bytes) -> None:
        for i, byte in enumerate(data):
            self.pages[(address + i) & -PAGE][(address + i) % PAGE] = byte
        for page in self.range(address, len(data)):
            if page & -HUGE in self.huge:  # changes whole
                self.changed.update(self.range(page & -HUGE, HUGE))
            self.changed.add(page)

    def read(self, address: int, length: int) -> bytes:
        return bytes(self.pages[a & -PAGE][a % PAGE] for a in range(address, address + length))

    def fork(self) -> ModelSpace:
        child = ModelSpace()
        child.pages = {page: bytearray(content) for page, content in self.pages.items()}
        child.huge = set(self.huge)
        self.changed = set()
        return child
