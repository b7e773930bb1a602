"""The pages of a frozen address space, in the order in which the writer needs them: first all runs, then their pages.

These kernels only read, without the GIL.  mmcore/frozen.py explains why another thread may do so.
"""

from mmcore.errors import NOT_PRESENT, NotMapped
from mmcore.frozen import gather, next_run
from mmcore.jit import Array, Table, int64, linked, uint8, zeros
from mmcore.paging import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, VA_LIMIT
from mmcore.state import MEMORY, Memory

_PAGES_LIMIT = VA_LIMIT >> PAGE_SHIFT
_RUNS_FIRST = 1024  # initial capacity of the list of runs


@linked(int64(MEMORY, int64, int64[:, ::1], int64[::1]))
def list_runs(mem, root, runs, scratch):  # type: ignore[no-untyped-def]
    """Fill `runs` with (address, pages) of the tree at `root`.  Returns how many, or -1 if they do not fit."""
    va = 0
    count = 0
    while next_run(mem, root, va, _PAGES_LIMIT, scratch) > 0:
        if count == runs.shape[0]:
            return -1
        runs[count, 0] = scratch[0]
        runs[count, 1] = scratch[1]
        count += 1
        va = scratch[0] + (scratch[1] << PAGE_SHIFT)
    return count


@linked(int64(MEMORY, int64, int64[:, ::1], int64[::1], int64, uint8[::1]))
def gather_next(mem, root, runs, cursor, pages, out):  # type: ignore[no-untyped-def]
    """Copy the next `pages` pages to the front of `out`.  Returns 0, or NOT_PRESENT, which only a bug can cause.

    `cursor` is [run, page in the run] of the next page; this kernel advances it.
    """
    offset = 0
    while pages > 0:
        run, page = cursor[0], cursor[1]
        piece = min(pages, runs[run, 1] - page)
        if gather(mem, root, runs[run, 0] + (page << PAGE_SHIFT), piece, out, offset) < 0:
            return NOT_PRESENT
        offset += piece << PAGE_SHIFT
        pages -= piece
        cursor[1] = page + piece
        if cursor[1] == runs[run, 1]:
            cursor[0] = run + 1
            cursor[1] = 0
    return 0


class FrozenSpace:
    """The tree at `root`, which nobody writes while the root is held."""

    def __init__(self, mem: Memory, root: int = -1) -> None:
        self.root = root  # may be set later
        self._mem = mem

    def runs(self) -> Table:
        """All mapped pages: a row for each run, address of the first page and number of pages, ascending."""
        room = _RUNS_FIRST
        scratch = zeros(int64, 2)
        while True:
            runs = Table(room, 2)
            count = int(list_runs(self._mem, self.root, runs, scratch))
            if count >= 0:
                break
            room *= 8
        self._runs = runs.first(count)
        self._cursor = zeros(int64, 2)
        self._next = 0
        return self._runs

    def read(self, address: int, length: int) -> bytes:
        """The `length` bytes at `address`, which must be mapped."""
        first = address & ~PAGE_MASK
        pages = (address + length - first + PAGE_MASK) >> PAGE_SHIFT
        buffer = zeros(uint8, pages * PAGE_SIZE)
        if gather(self._mem, self.root, first, pages, buffer, 0) < 0:
            raise NotMapped(address)
        return bytes(buffer[address - first : address - first + length])

    def gather(self, first: int, pages: int, buffer: Array) -> None:
        """Copy `pages` pages to the front of `buffer`; `first` must be the page at which the last call ended."""
        assert first == self._next and pages * PAGE_SIZE <= len(buffer), (first, self._next, pages, len(buffer))
        code = gather_next(self._mem, self.root, self._runs, self._cursor, pages, buffer)
        assert code == 0, "a frozen page is not there any more"
        self._next += pages
