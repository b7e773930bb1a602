"""The pages of a frozen address space, in the order in which the writer needs them: first all runs, then their pages.

One page may be mapped at many addresses, as the page of zeros of sparse allocations is.  Its other addresses are listed
apart: an image holds the page once.

These kernels only read, without the GIL.  mmcore/frozen.py explains why another thread may do so.
"""

from mmcore.errors import NOT_PRESENT, NotMapped
from mmcore.frozen import copy_frames, gather, list_frames, next_mapping, next_run
from mmcore.jit import Array, Table, address_of, int64, kernel, linked, uint8, void, zeros
from mmcore.paging import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, VA_LIMIT
from mmcore.state import MEMORY, Memory
from mmcore.walk import walk
from snapshot.image import Repeats

_PAGES_LIMIT = VA_LIMIT >> PAGE_SHIFT
_RUNS_FIRST = 1024  # initial capacity of the lists of runs
NOWHERE = -1  # the address of no page


@kernel
def _end_of_piece(mem, root, va, end, frame, repeated):  # type: ignore[no-untyped-def]
    # (whether the page at `va` repeats the one at `repeated`, the end of the pages for which this is the same)
    if frame < 0:
        return False, end
    if va == repeated:
        return False, va + PAGE_SIZE
    repeats = next_mapping(mem, root, va, va + PAGE_SIZE, frame, 1) == va
    stop = next_mapping(mem, root, va, end, frame, 0 if repeats else 1)
    return repeats, repeated if va < repeated < stop else stop


@linked(int64(MEMORY, int64, int64, int64[:, ::1], int64[:, ::1], int64[::1]))
def list_runs(mem, root, repeated, runs, repeats, scratch):  # type: ignore[no-untyped-def]
    """Fill `runs` and `repeats` with (address, pages) of the tree at `root`, ascending.

    The runs in `repeats` map the page at `repeated` again.  scratch[2] and scratch[3] are how many runs each list got.
    Returns 0, or -1 if they do not fit.
    """
    frame = walk(mem, root, repeated, 0) if repeated >= 0 else NOT_PRESENT
    scratch[2] = scratch[3] = 0
    va = 0
    while next_run(mem, root, va, _PAGES_LIMIT, scratch) > 0:
        va = scratch[0]
        end = va + (scratch[1] << PAGE_SHIFT)
        joined = False  # whether the piece before ended where this one begins, and had pages of its own
        while va < end:
            again, stop = _end_of_piece(mem, root, va, end, frame, repeated)
            pages = (stop - va) >> PAGE_SHIFT
            if joined and not again:
                runs[scratch[2] - 1, 1] += pages
            else:
                into, place = (repeats, 3) if again else (runs, 2)
                if scratch[place] == into.shape[0]:
                    return -1
                into[scratch[place], 0] = va
                into[scratch[place], 1] = pages
                scratch[place] += 1
            joined = not again
            va = stop
    return 0


@linked(int64(MEMORY, int64, int64[:, ::1], int64[::1], int64, int64[::1]))
def list_next(mem, root, runs, cursor, pages, out):  # type: ignore[no-untyped-def]
    """Put the frames of the next `pages` pages into `out`.  Returns 0, or NOT_PRESENT, which only a bug can cause.

    `cursor` is [run, page in the run] of the next page; this kernel advances it.
    """
    at = 0
    while pages > 0:
        run, page = cursor[0], cursor[1]
        piece = min(pages, runs[run, 1] - page)
        if list_frames(mem, root, runs[run, 0] + (page << PAGE_SHIFT), piece, out, at) < 0:
            return NOT_PRESENT
        at += piece
        pages -= piece
        cursor[1] = page + piece
        if cursor[1] == runs[run, 1]:
            cursor[0] = run + 1
            cursor[1] = 0
    return 0


@linked(void(int64[:, ::1], int64[::1], int64))
def seek(runs, cursor, page):  # type: ignore[no-untyped-def]
    """Let `cursor` stand at page number `page` in the order of the runs, or behind the last one."""
    run = 0
    while run < runs.shape[0] and page >= runs[run, 1]:
        page -= runs[run, 1]
        run += 1
    cursor[0] = run
    cursor[1] = page


class FrozenSpace:
    """The tree at `root`, which nobody writes while the root is held.

    repeated: the address of a page that may be mapped at other addresses too.
    """

    def __init__(self, mem: Memory, root: int = -1, repeated: int = NOWHERE) -> None:
        self.root = root  # may be set later
        self._mem = mem
        self._repeated = repeated

    def runs(self) -> Table:
        """All pages but repeats: a row for each run, address of the first page and number of pages, ascending."""
        room = _RUNS_FIRST
        scratch = zeros(int64, 4)
        while True:
            runs, repeats = Table(room, 2), Table(room, 2)
            if list_runs(self._mem, self.root, self._repeated, runs, repeats, scratch) == 0:
                break
            room *= 8
        self._runs = runs.first(int(scratch[2]))
        self._repeats = repeats.first(int(scratch[3]))
        self._cursor = zeros(int64, 2)
        self._next = 0
        return self._runs

    def repeats(self) -> Repeats | None:
        """The pages that `runs` left out, as it found them."""
        return Repeats(self._repeated, self._repeats) if len(self._repeats) else None

    def lies_in(self, memory: Memory) -> bool:
        """Whether its frames are those of this memory."""
        return address_of(self._mem.bytes) == address_of(memory.bytes)

    def read(self, address: int, length: int) -> bytes:
        """The `length` bytes at `address`, which must be mapped."""
        first = address & ~PAGE_MASK
        pages = (address + length - first + PAGE_MASK) >> PAGE_SHIFT
        buffer = zeros(uint8, pages * PAGE_SIZE)
        if gather(self._mem, self.root, first, pages, buffer, 0) < 0:
            raise NotMapped(address)
        return bytes(buffer[address - first : address - first + length])

    def frames(self, first: int, pages: int, out: Array) -> None:
        """Put the frames of `pages` pages, from page number `first` in the order of the runs on, into `out`.

        They keep their contents as long as the root is held.
        """
        assert pages <= len(out), (pages, len(out))
        if first != self._next:
            seek(self._runs, self._cursor, first)
        code = list_next(self._mem, self.root, self._runs, self._cursor, pages, out)
        assert code == 0, "a frozen page is not there any more"
        self._next = first + pages

    def gather(self, first: int, pages: int, buffer: Array) -> None:
        """Copy these pages to the front of `buffer`."""
        assert pages * PAGE_SIZE <= len(buffer), (pages, len(buffer))
        frames = zeros(int64, pages)
        self.frames(first, pages, frames)
        copy_frames(self._mem, frames, 0, pages, buffer, 0)
