"""Errors: the codes that kernels return, and the exceptions that the Python interface raises for them.

    MachineError
    ├── AddressError            .address: the address concerned
    │   ├── NotMapped           no page is mapped there
    │   ├── AlreadyMapped       a page is mapped there
    │   ├── Misaligned          not a multiple of the page size, 4 KiB or 2 MiB
    │   ├── NonCanonical        outside the lower canonical half
    │   ├── EmptyRange          a length of zero or less
    │   └── Overlap             source and target of a move have pages in common
    ├── OutOfFrames             .address too, if one is known; nothing was changed
    ├── MemoryTooSmall          .size: too few bytes for one page and its tables
    ├── DeadSpace               the space has exited
    ├── ClosedMemory            the physical memory was closed
    └── CorruptMemory           check_memory or check_heap found a broken invariant

Codes are negative, so that a kernel can return one instead of an address or a frame number.  Any other exception from
a kernel is a bug.
"""

NO_FRAME = -1
NOT_PRESENT = -2
ALREADY_MAPPED = -3
NON_CANONICAL = -4
NO_SPACE = -6  # the processor has no room for the registers of another space
HUGE_PAGE = -5  # a huge page takes the place of the wanted PT; internal, never becomes an exception


class MachineError(Exception):
    """The base of every exception that mmcore raises on purpose."""


class AddressError(MachineError):
    """The address space refused a request; nothing was changed."""

    reason = "bad address"

    def __init__(self, address: int) -> None:
        super().__init__(f"{self.reason}: {address:#x}")
        self.address = address


class NotMapped(AddressError):
    """No page is mapped at `address`, the first missing page of the request."""

    reason = "no page is mapped at"


class AlreadyMapped(AddressError):
    """A page is already mapped at `address`, the first such page of the request."""

    reason = "a page is mapped already at"


class Misaligned(AddressError):
    """`address`, the begin or end of a range, is not a multiple of 4 KiB, or of 2 MiB for huge pages."""

    reason = "not a multiple of the size of its pages"


class NonCanonical(AddressError):
    """`address` is not in the lower canonical half, below 1 << 47."""

    reason = "outside the lower canonical half"


class EmptyRange(AddressError):
    """The length of a range at `address` is zero or negative."""

    reason = "empty range at"


class Overlap(AddressError):
    """Source and target of a move have pages in common; `address` is the begin of the higher range."""

    reason = "ranges overlap at"


class OutOfFrames(MachineError):
    """No frame is free; nothing was changed.  `address` is the one that needed a frame, or None."""

    def __init__(self, address: int | None = None) -> None:
        super().__init__("out of frames" if address is None else f"out of frames: {address:#x}")
        self.address = address


class MemoryTooSmall(MachineError):
    """A physical memory of `size` bytes cannot hold one page and the tables above it."""

    def __init__(self, size: int, least: int) -> None:
        super().__init__(f"{size} bytes are too few: a page and its tables take {least}")
        self.size = size


class TooManySpaces(MachineError):
    """The processor has no registers left for another address space; it works on `spaces` of them."""

    def __init__(self, spaces: int) -> None:
        super().__init__(f"the processor works on {spaces} address spaces already")
        self.spaces = spaces


class DeadSpace(MachineError):
    """The address space has exited."""


class ClosedMemory(MachineError):
    """The physical memory was closed."""


class CorruptMemory(MachineError):
    """A data structure violates one of its invariants; the message names the first violation."""


def error_of(code: int, address: int | None = None) -> MachineError:
    """The exception for a code that a kernel returned."""
    if code == NO_FRAME:
        return OutOfFrames(address)
    return {NOT_PRESENT: NotMapped, ALREADY_MAPPED: AlreadyMapped, NON_CANONICAL: NonCanonical}[code](address or 0)
