"""Address spaces for Python: mapped, read, written, forked, released.

    memory = PhysicalMemory(1 << 30)
    space = AddressSpace(memory)
    space.map(0x10000, 8192)
    space.write(0x10000, b"hello")
    child = space.fork(ForkMode.ON_DEMAND)
    space.write(0x10000, b"world")
    assert child.read(0x10000, 5) == b"hello"
    child.exit()

Methods check their arguments and raise the exceptions of errors.py.  A method that raises has changed nothing.  One
thread owns a memory and all spaces on it (see state.py).
"""

from collections.abc import Iterator
from enum import IntEnum
from importlib import import_module
from operator import index
from typing import TYPE_CHECKING, Any, Self

from mmcore.errors import (
    NO_FRAME,
    AlreadyMapped,
    ClosedMemory,
    DeadSpace,
    EmptyRange,
    Misaligned,
    NonCanonical,
    NotMapped,
    OutOfFrames,
    Overlap,
)
from mmcore.fork import CLASSIC, CONSTANT, ON_DEMAND
from mmcore.fork import fork as fork_root
from mmcore.frames import frame_alloc_zeroed
from mmcore.frozen import next_changed
from mmcore.jit import Array, int64, linked, over, uint8, void, zeros
from mmcore.mapping import map_huge, map_pages, next_mapped, next_unmapped, remap_pages, reset, unmap_pages
from mmcore.memory import PhysicalMemory
from mmcore.mmu import copy_in, copy_out, write_address
from mmcore.paging import HUGE_MASK, HUGE_SIZE, PAGE_MASK, PAGE_SIZE, VA_LIMIT
from mmcore.processor import DEFAULT_CACHES, Caches, Processor
from mmcore.release import Release, release, step_budget
from mmcore.share import share_pages
from mmcore.state import CR3, EPOCH, FROZEN, GENERATION, LAST_EPOCH, MEMORY, SPACE, UNSHARED_TO, Space
from mmcore.tlb import tlb_flush
from mmcore.unshare import unshare_step

if TYPE_CHECKING:
    from mmcore.account import Usage

    Buffer = Any  # an object with a buffer: bytes, a memoryview, an array of NumPy


class ForkMode(IntEnum):
    """The level at which a fork begins to share; the tables above it are copied.  See fork.py.

    ON_DEMAND is the fork of Zhao, Gong, Fonseca, "On-demand-fork", EuroSys 2021.
    """

    CLASSIC = CLASSIC  # pages are shared; all tables are copied
    ON_DEMAND = ON_DEMAND  # page tables are shared; PML4, PDPTs and PDs are copied
    CONSTANT = CONSTANT  # PDPTs are shared; the PML4 is copied


@linked(int64(MEMORY, int64))
def new_root(mem, stamp):  # type: ignore[no-untyped-def]
    """Allocate an empty PML4.  Returns its frame, or NO_FRAME."""
    return frame_alloc_zeroed(mem, stamp)


@linked(int64(SPACE, int64, int64))
def own_pages(space, va, end):  # type: ignore[no-untyped-def]
    """Make the mapped pages of [va, end) writable.  Returns `end`, or the page at which the frames ran out."""
    while va < end:
        if write_address(space, va) < 0:
            return va
        va += PAGE_SIZE
    return end


@linked(void(SPACE))
def new_generation(space):  # type: ignore[no-untyped-def]
    """tlb_flush, for Python."""
    tlb_flush(space)


def frozen_reader(memory: PhysicalMemory, processor: Processor) -> Space:
    """A space for kernels that read frozen roots, one after the other.  They load a root whenever they begin to read.

    The space owns no root: load_cr3 of another one releases nothing.  Raises TooManySpaces.
    """
    cpu = processor.take()
    cpu[CR3], cpu[FROZEN] = NO_FRAME, 1
    space = Space(memory.state, processor.tlb, processor.psc, processor.registers, processor.spaces, cpu)
    new_generation(space)
    return space


class AddressSpace:
    """A 47-bit address space with page tables in `memory`.  Its pages are mapped, read, written and forked.

    Four-level paging as in the Intel SDM, volume 3A, but without permissions: a mapped page may be read and written.
    Addresses and lengths are int [bytes].  All methods raise DeadSpace after exit and ClosedMemory after
    PhysicalMemory.close.  Methods that take a range also raise EmptyRange, NonCanonical, and TypeError for a value that
    is not an integer.  Methods that need frames also raise OutOfFrames.
    """

    def __init__(
        self, memory: PhysicalMemory, *, caches: Caches = DEFAULT_CACHES, processor: Processor | None = None
    ) -> None:
        """processor: the one to use; by default the space gets its own, with these caches.  Raises TooManySpaces."""
        processor = processor or Processor(caches, 1)
        cpu, epoch = processor.take(), memory.state.frames[LAST_EPOCH]
        root = new_root(memory.state, epoch)
        if root < 0:
            raise OutOfFrames
        self._adopt(memory, int(root), int(epoch), processor, cpu)

    def _adopt(self, memory: PhysicalMemory, root: int, epoch: int, processor: Processor, cpu: Array) -> None:
        self.memory, self.processor = memory, processor
        cpu[CR3], cpu[EPOCH] = root, epoch
        self._state: Space | None = Space(
            memory.state, processor.tlb, processor.psc, processor.registers, processor.spaces, cpu
        )
        new_generation(self._state)

    @classmethod
    def of_root(
        cls,
        memory: PhysicalMemory,
        root: int,
        epoch: int,
        *,
        caches: Caches = DEFAULT_CACHES,
        processor: Processor | None = None,
        frozen: bool = False,
    ) -> Self:
        """Make a space of a root that the kernel `fork` returned.  From now on the space owns the root.

        epoch: the one that the fork began, that is, the forked space's `epoch` after the fork.
        frozen: the space will only be read, and reads change no entry of its tables, not even A or D.
        """
        processor, space = processor or Processor(caches, 1), cls.__new__(cls)
        space._adopt(memory, root, epoch, processor, processor.take())
        space.state.cpu[FROZEN] = frozen
        return space

    @property
    def state(self) -> Space:
        """The argument that kernels take; see state.Space.  Raises DeadSpace, ClosedMemory."""
        if self._state is None:
            raise DeadSpace("the address space has exited")
        if self.memory._state is None:
            raise ClosedMemory("the physical memory was closed")
        return self._state

    @property
    def alive(self) -> bool:
        """Whether the space has not exited yet."""
        return self._state is not None

    @property
    def root(self) -> int:
        """The frame of the PML4."""
        return int(self.state.cpu[CR3])

    @property
    def epoch(self) -> int:
        """The current epoch; each fork ends one."""
        return int(self.state.cpu[EPOCH])

    @property
    def counters(self) -> dict[str, int]:
        """The counts of its processor, by the names of state.COUNTERS.

        The processor of the forked space counts the fork.  A child gets a processor of its own, whose counts begin at
        zero, unless another one is given.
        """
        assert self.state is not None
        return self.processor.counters

    def map(self, address: int, length: int, *, huge: bool = False) -> None:
        """Map the pages of [address, address + length), zero-filled; both are multiples of the page size.

        huge: pages of 2 MiB, each in an aligned run of 512 frames.  A write to a shared huge page copies all of it.
        Raises Misaligned, AlreadyMapped, OutOfFrames, with nothing mapped.
        """
        state = self.state
        address, length = self._pages(address, length, HUGE_MASK if huge else PAGE_MASK)
        if huge:
            code = map_huge(state, address, length // HUGE_SIZE)
        else:
            code = map_pages(state, address, length // PAGE_SIZE)
        if code == NO_FRAME:
            raise OutOfFrames(address)
        if code < 0:
            raise AlreadyMapped(int(next_mapped(state, address, address + length)))

    def unmap(self, address: int, length: int) -> None:
        """Unmap the pages of [address, address + length).  All of them must be mapped.

        A huge page that stays in part is split into pages of 4 KiB; a shared one is copied first.
        Raises Misaligned, NotMapped, and OutOfFrames if shared tables must be copied, with nothing unmapped.
        """
        state = self.state
        address, length = self._pages(address, length)
        self._require(address, length)
        if unmap_pages(state, address, length // PAGE_SIZE) < 0:
            raise OutOfFrames(address)

    def remap(self, old: int, length: int, new: int, new_length: int | None = None, *, huge: bool = False) -> None:
        """Move the pages of [old, old + length) to `new`, where none are mapped, without copying them.

        new_length: the size after the move [bytes].  If it is smaller, the last pages are unmapped; if it is larger,
        zero-filled pages are added, of 2 MiB if `huge`.  With it, `new` may equal `old`, to grow or shrink in place.
        A huge page stays huge if all of it moves to a multiple of its size; otherwise it is split, as by `unmap`.
        Raises Misaligned, NotMapped, AlreadyMapped, Overlap, OutOfFrames, with nothing moved, mapped or unmapped.
        """
        state = self.state
        old, length = self._pages(old, length)
        new, size = self._pages(new, length if new_length is None else new_length)
        if huge and size > length:
            self._pages(new + length, size - length, HUGE_MASK)
        if new == old and new_length is not None:
            self._resize(old, length, size, huge)
            return
        if old < new + size and new < old + length:
            raise Overlap(max(old, new))
        self._require(old, length)
        code = remap_pages(state, old, length // PAGE_SIZE, new, size // PAGE_SIZE, int(huge))
        if code == NO_FRAME:
            raise OutOfFrames(new)
        if code < 0:
            raise AlreadyMapped(int(next_mapped(state, new, new + size)))

    def _resize(self, address: int, length: int, new_length: int, huge: bool) -> None:
        """remap in place."""
        self._require(address, length)
        if new_length > length:
            self.map(address + length, new_length - length, huge=huge)
        elif new_length < length:
            self.unmap(address + new_length, length - new_length)

    def share(self, address: int, length: int, new: int) -> None:
        """Let the pages of [address, address + length) appear at `new`, too, where none are mapped.

        Neither range sees later writes to the other: pages are copied when they are written, as after a fork.  Between
        addresses with the same offset in 2 MiB, whole page tables are shared.  A huge page of which only a part is
        shared, or whose new address cannot hold one, is split, as by `unmap`.
        Raises Misaligned, NotMapped, AlreadyMapped, Overlap, OutOfFrames, with nothing changed.
        """
        state = self.state
        address, length = self._pages(address, length)
        new, _ = self._pages(new, length)
        if address < new + length and new < address + length:
            raise Overlap(max(address, new))
        self._require(address, length)
        code = share_pages(state, address, length // PAGE_SIZE, new)
        if code == NO_FRAME:
            raise OutOfFrames(new)
        if code < 0:
            raise AlreadyMapped(int(next_mapped(state, new, new + length)))

    def mapped(self, address: int, length: int) -> bool:
        """Whether every page that [address, address + length) touches is mapped."""
        state = self.state
        address, length = self._range(address, length)
        return bool(next_unmapped(state, address & ~PAGE_MASK, address + length) >= address + length)

    def write(self, address: int, data: "Buffer") -> None:
        """Write `data` at `address`.  Every page that it touches must be mapped.

        Raises NotMapped, or OutOfFrames if shared pages or tables must be copied, with nothing written.
        """
        state = self.state
        content = memoryview(data).tobytes()
        if not content:
            return
        address, length = self._range(address, len(content))
        first, end = address & ~PAGE_MASK, (address + length + PAGE_MASK) & ~PAGE_MASK
        self._require(first, end - first)
        reached = int(own_pages(state, first, end))
        if reached != end:
            raise OutOfFrames(max(reached, address))
        copy_in(state, address, over(content, uint8), 0, length)

    def read(self, address: int, length: int) -> bytes:
        """The `length` bytes at `address`.  Every page that they touch must be mapped.  Raises NotMapped."""
        state = self.state
        if length == 0:
            return b""
        address, length = self._range(address, length)
        self._require(address & ~PAGE_MASK, length + (address & PAGE_MASK))
        array = zeros(uint8, length)
        copy_out(state, address, array, 0, length)
        return bytes(array)

    def fork(self, mode: ForkMode = ForkMode.ON_DEMAND) -> "AddressSpace":
        """Fork this space.  The child may be written, forked and released like any other space.

        Pages are shared until they are written, and so are tables in modes other than CLASSIC.  The fork ends the epoch
        of this space; parent and child continue in the next one.  Raises OutOfFrames, with nothing changed.
        """
        root = int(fork_root(self.state, ForkMode(mode)))
        if root < 0:
            raise OutOfFrames
        return AddressSpace.of_root(self.memory, root, self.epoch, caches=self.processor.caches)

    def reset(self) -> None:
        """Unmap everything."""
        root = int(reset(self.state))
        if root < 0:
            raise OutOfFrames
        release(self.memory, root)

    def unshare_step(self, budget: int) -> int:
        """Make about `budget` shared tables private ahead of a write; see unshare.py.

        Returns the work done, in copies of tables; 0 if nothing is left to do.  Raises OutOfFrames, ValueError.  The
        idea comes from Async-fork, Pang et al., VLDB 2023.
        """
        done = int(unshare_step(self.state, step_budget(budget)))
        if done == NO_FRAME:
            raise OutOfFrames(int(self.state.cpu[UNSHARED_TO]))
        return done

    def changed_since(self, epoch: int) -> Iterator[tuple[int, int]]:
        """(address, length) of each run of pages mapped, moved or written in the epochs after `epoch`, ascending.

        To get the changes since a fork, pass the value of `self.epoch` before that fork.  Unmapped pages are not
        reported.  A huge page counts as changed whole.  Tables in which nothing changed are skipped.
        """
        va, out = 0, zeros(int64, 2)
        while next_changed(self.state.mem, self.root, epoch, va, VA_LIMIT, out) > 0:
            yield int(out[0]), int(out[1]) * PAGE_SIZE
            va = int(out[0] + out[1] * PAGE_SIZE)

    def usage(self) -> "Usage":
        """The memory use of the space, shared and private, in the terms of smaps (Linux, proc(5)); see account.py."""
        return import_module("mmcore.account").usage(self.state.mem, self.root)  # type: ignore[no-any-return]

    def regions(self, address: int = 0, length: int | None = None) -> Any:
        """account.REGION[R], a NumPy array: each 2 MiB from `address` on in which something is mapped, ascending.

        With a length, the array has one row for each 2 MiB that [address, address + length) touches, mapped or not.
        """
        mem = self.state.mem
        address, size = self._range(address, 1 if length is None else length)
        first, end = address & ~HUGE_MASK, (address + size + HUGE_MASK) & ~HUGE_MASK
        account = import_module("mmcore.account")  # it requires NumPy
        if length is None:
            found = account.regions(mem, self.root)
            return found[found["address"] >= first]
        return account.regions_within(mem, self.root, first, end)

    def exit(self) -> None:
        """Release all frames of the space.  The space is dead from now on."""
        self.exit_begin().finish()

    def exit_begin(self) -> "Release":
        """As `exit`, but the caller frees the frames with the `step`s of the returned Release.  Raises DeadSpace."""
        root = self.root
        self.state.cpu[GENERATION] = 0  # another space may have its registers now; no generation is given twice
        self._state = None
        return Release(self.memory, root)

    def _range(self, address: int, length: int) -> tuple[int, int]:
        """Check that a range is canonical and not empty.  Returns Python integers, because NumPy's would wrap."""
        address, length = index(address), index(length)
        if length <= 0:
            raise EmptyRange(address)
        if address < 0 or address >= VA_LIMIT:
            raise NonCanonical(address)
        if address + length > VA_LIMIT:
            raise NonCanonical(VA_LIMIT)
        return address, length

    def _pages(self, address: int, length: int, mask: int = PAGE_MASK) -> tuple[int, int]:
        """As _range, but for whole pages."""
        address, length = self._range(address, length)
        if address & mask:
            raise Misaligned(address)
        if length & mask:
            raise Misaligned(address + length)
        return address, length

    def _require(self, first: int, length: int) -> None:
        hole = int(next_unmapped(self.state, first, first + length))
        if hole < first + length:
            raise NotMapped(hole)

    def __repr__(self) -> str:
        if self._state is None:
            return "<AddressSpace dead>"
        return f"<AddressSpace cr3={self._state.cpu[CR3]} epoch={self._state.cpu[EPOCH]}>"
