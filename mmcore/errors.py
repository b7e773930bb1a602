"""What can go wrong: codes that kernels return, and the exceptions that the Python face makes of them.

    MachineError
    ├── AddressError            .address: the address it is about
    │   ├── NotMapped           no page there
    │   ├── AlreadyMapped       a page is there
    │   ├── Misaligned          not a multiple of the size of its pages, 4 KiB or 2 MiB
    │   ├── NonCanonical        outside the lower canonical half
    │   ├── EmptyRange          a length of zero or less
    │   └── Overlap             source and target of a move have pages in common
    ├── OutOfFrames             .address too, where one is known; nothing was changed
    ├── MemoryTooSmall          .size: too few bytes for one page and its tables
    ├── DeadSpace               the space has exited
    ├── ClosedMemory            the physical memory was closed
    └── CorruptMemory           check_memory or check_heap found what must never be

Codes are negative, so that they can stand in for an address or a frame number.  Anything else that a kernel raises
is a bug.
"""

NO_FRAME = -1
NOT_PRESENT = -2
ALREADY_MAPPED = -3
NON_CANONICAL = -4
HUGE_PAGE = -5  # a huge page, where a PT was looked for; never leaves the machine


class MachineError(Exception):
    """Whatever mmcore raises on purpose."""


class AddressError(MachineError):
    """A request that the address space refuses; nothing was changed."""

    reason = "bad address"

    def __init__(self, address: int) -> None:
        super().__init__(f"{self.reason}: {address:#x}")
        self.address = address


class NotMapped(AddressError):
    """No page is mapped at `address`, the first of those asked for that is missing."""

    reason = "no page is mapped at"


class AlreadyMapped(AddressError):
    """A page is mapped at `address`, the first of those asked for that is."""

    reason = "a page is mapped already at"


class Misaligned(AddressError):
    """`address`, where a range begins or ends, is not a multiple of 4 KiB, or of 2 MiB for huge pages."""

    reason = "not a multiple of the size of its pages"


class NonCanonical(AddressError):
    """`address` is not in the lower canonical half, below 1 << 47."""

    reason = "outside the lower canonical half"


class EmptyRange(AddressError):
    """A range at `address` of no bytes, or fewer."""

    reason = "empty range at"


class Overlap(AddressError):
    """Source and target of a move have pages in common; `address` is where the higher one begins."""

    reason = "ranges overlap at"


class OutOfFrames(MachineError):
    """Physical memory is used up; nothing was changed.  `address`: what it was wanted for, or None."""

    def __init__(self, address: int | None = None) -> None:
        super().__init__("out of frames" if address is None else f"out of frames: {address:#x}")
        self.address = address


class MemoryTooSmall(MachineError):
    """A physical memory that could not hold one page and the tables above it.  `size`: what was asked for [bytes]."""

    def __init__(self, size: int, least: int) -> None:
        super().__init__(f"{size} bytes are too few: a page and its tables take {least}")
        self.size = size


class TooManySpaces(MachineError):
    """A processor works on as many address spaces as it has registers for: `spaces`."""

    def __init__(self, spaces: int) -> None:
        super().__init__(f"the processor works on {spaces} address spaces already")
        self.spaces = spaces


class DeadSpace(MachineError):
    """The address space has exited."""


class ClosedMemory(MachineError):
    """The physical memory was closed."""


class CorruptMemory(MachineError):
    """A structure breaks one of its invariants; the message names the first thing wrong."""


def error_of(code: int, address: int | None = None) -> MachineError:
    """The exception for a kernel's code."""
    if code == NO_FRAME:
        return OutOfFrames(address)
    return {NOT_PRESENT: NotMapped, ALREADY_MAPPED: AlreadyMapped, NON_CANONICAL: NonCanonical}[code](address or 0)
