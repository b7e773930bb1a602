"""Building an address space from pages whose contents come from elsewhere, such as an image.

The first two kernels fill a space that maps nothing, in ascending order of addresses:

    adopt_runs     the contents are already in consecutive frames: only the page tables are created.  These frames lie
                   above all frames that were ever used.  A thread that knows nothing of the machine can therefore fill
                   them even before the machine is built.
    place_pages    the contents are in a buffer: they are copied to any free frames

adopt_repeats then maps one of these pages at further addresses, as share.py does.

Nothing is changed if there are too few frames: adopt_runs counts first, and the callers of the others do.
"""

from mmcore.charges import charge
from mmcore.errors import NO_FRAME
from mmcore.fault import own_path
from mmcore.frames import frame_alloc, has_frames, pass_over
from mmcore.jit import copy_bytes, int64, kernel, linked, uint8, void
from mmcore.paging import MAPPING, PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, ROOT_LEVEL, VA_LIMIT, entry_for, slot_of, span
from mmcore.share import share_repeated
from mmcore.state import EPOCH, FREE_COUNT, FRESH, MEMORY, PAGES_MAPPED, SPACE, TOTAL
from mmcore.tables import set_entry

RUNS = int64[:, ::1]  # [R, 2]: address of the first page, number of pages; ascending, apart
NO_PAGE, NO_LENGTH, NOT_APART = 1, 2, 3  # a run is not page-aligned, has an impossible length, overlaps another


@linked(int64(RUNS))
def check_runs(runs):  # type: ignore[no-untyped-def]
    """Check whether a space can have these runs.  Returns 0, NO_PAGE, NO_LENGTH or NOT_APART."""
    for run in range(runs.shape[0]):
        if runs[run, 0] < 0 or runs[run, 0] >= VA_LIMIT or runs[run, 0] & PAGE_MASK != 0:
            return NO_PAGE
        if runs[run, 1] < 1 or runs[run, 1] > VA_LIMIT >> PAGE_SHIFT:
            return NO_LENGTH
    end = 0
    for run in range(runs.shape[0]):
        if runs[run, 0] < end:
            return NOT_APART
        end = runs[run, 0] + (runs[run, 1] << PAGE_SHIFT)
    return 0 if end <= VA_LIMIT else NOT_APART


@linked(int64(RUNS))
def tables_for_runs(runs):  # type: ignore[no-untyped-def]
    """The number of tables below the root in a tree of exactly these runs."""
    tables = 0
    for level in range(ROOT_LEVEL, 1, -1):
        size = span(level)  # bytes that a table of the level below maps
        last = -1  # the last such table counted
        for run in range(runs.shape[0]):
            first = runs[run, 0] // size
            end = (runs[run, 0] + (runs[run, 1] << PAGE_SHIFT) - 1) // size
            tables += end - max(first, last + 1) + 1
            last = end
    return tables


@linked(int64(RUNS))
def frames_to_repeat(runs):  # type: ignore[no-untyped-def]
    """The number of free frames that adopt_repeats asks for beyond tables_for_runs of everything mapped; often < 0.

    The whole tables within a run are one, which is shared.  While it maps a run, it makes sure of twice its tables.
    """
    saved = most = 0
    for run in range(runs.shape[0]):
        end = runs[run, 0] + (runs[run, 1] << PAGE_SHIFT)
        covering = 0
        for level in range(ROOT_LEVEL, 1, -1):
            covering += (end - 1) // span(level) - runs[run, 0] // span(level) + 1
        most = max(most, 2 * covering)
        whole = end // span(2) - (runs[run, 0] + span(2) - 1) // span(2)
        saved += max(0, whole - 1)
    return most - saved


@linked(void(MEMORY, int64, int64))
def claim_fresh(mem, first, count):  # type: ignore[no-untyped-def]
    """Allocate the `count` never used frames from `first` on; never used frames below it become ordinary free ones."""
    registers = mem.frames
    assert registers[FRESH] <= first and first + count <= registers[TOTAL], "the frames are in use"
    pass_over(mem, first)
    registers[FRESH] = first + count
    registers[FREE_COUNT] -= count


@kernel
def _map_frame(space, table, va, frame):  # type: ignore[no-untyped-def]
    set_entry(space.mem, slot_of(table, va, 1), entry_for(frame, MAPPING))
    space.processor[PAGES_MAPPED] += 1


@linked(int64(SPACE, RUNS, int64))
def adopt_runs(space, runs, first):  # type: ignore[no-untyped-def]
    """Map the runs onto the frames from `first` on.  Returns 0, or NO_FRAME if these or frames for tables are short."""
    mem = space.mem
    pages = 0
    for run in range(runs.shape[0]):
        pages += runs[run, 1]
    if first < mem.frames[FRESH] or first + pages > mem.frames[TOTAL]:
        return NO_FRAME
    if not has_frames(space, pages + tables_for_runs(runs)):
        return NO_FRAME
    claim_fresh(mem, first, pages)
    stamp = space.cpu[EPOCH]
    frame = first
    for run in range(runs.shape[0]):
        va = runs[run, 0]
        end = va + (runs[run, 1] << PAGE_SHIFT)
        while va < end:
            table = own_path(space, va, 1)
            stop = min(end, (va | (span(2) - 1)) + 1)  # the end of the table
            while va < stop:
                mem.refcount[frame] = 1
                mem.epoch[frame] = stamp
                charge(mem, frame)
                _map_frame(space, table, va, frame)
                frame += 1
                va += PAGE_SIZE
    return 0


@linked(void(SPACE, RUNS, int64[::1], uint8[::1], int64))
def place_pages(space, runs, cursor, buffer, pages):  # type: ignore[no-untyped-def]
    """Map the next `pages` pages of the runs and fill them from `buffer`; the frames must be free.

    `cursor` is [run, page in the run] of the next page; this kernel advances it.
    """
    mem = space.mem
    table, end_of_table = 0, 0
    for page in range(pages):
        run = cursor[0]
        va = runs[run, 0] + (cursor[1] << PAGE_SHIFT)
        if va >= end_of_table:
            table = own_path(space, va, 1)
            end_of_table = (va | (span(2) - 1)) + 1
        frame = frame_alloc(mem, space.cpu[EPOCH])
        assert frame >= 0, "frames for the pages were not reserved"
        copy_bytes(mem.bytes, frame << PAGE_SHIFT, buffer, page << PAGE_SHIFT, PAGE_SIZE)
        _map_frame(space, table, va, frame)
        cursor[1] += 1
        if cursor[1] == runs[run, 1]:
            cursor[0] = run + 1
            cursor[1] = 0


@linked(void(SPACE, int64, RUNS))
def adopt_repeats(space, page, runs):  # type: ignore[no-untyped-def]
    """Map the page at `page` again at all pages of `runs`, where none is; the caller has counted the frames."""
    for run in range(runs.shape[0]):
        share_repeated(space, page, runs[run, 0], runs[run, 1])
