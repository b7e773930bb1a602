"""The slow log: the last commands that took slowlog-log-slower-than microseconds or more.

The log is a ring of slowlog-max-len slots; entry number n is in slot n modulo that.  A slot holds the entry in the form
of SLOWLOG GET's reply, RESP that is the same in both protocols.  Each slot has its own buffer, which the next entry
reuses.

    LOG         int64[4]    address of the slots, how many, number of the next entry, how many entries there are
    slot        int64[3]    address, capacity and length of an entry

The size of an entry is bounded for every command: it shows at most 32 arguments, 128 bytes of an argument, and 256
bytes of a client's name, 7 KiB in all.  The log lies outside the address space, so logging copies no page that a
snapshot shares.
"""

from kvstore.connections.addresses import ADDRESS_ROOM, write_address
from kvstore.connections.table import text_length
from kvstore.lifetimes.call import ARGC
from kvstore.lifetimes.connection import NAME, PEER
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import NOW_MS, SCRATCH_ADDRESS, SLOWLOG_ADDRESS
from kvstore.system.libc import bytes_at, free, realloc, words_at
from kvstore.wire.arguments import arg_length, arg_offset, query
from kvstore.wire.numerals import put_decimal
from mmcore.jit import Table, constant, copy_bytes, int64, kernel, linked, void, zeros

ARGUMENTS_SHOWN, BYTES_SHOWN = 32, 128  # Redis's SLOWLOG_ENTRY_MAX_ARGC and SLOWLOG_ENTRY_MAX_STRING
NAME_SHOWN = 256
SLOTS_MAX = 1 << 20  # even if slowlog-max-len is larger
SLOTS_ADDRESS, SLOTS, NEXT_ENTRY, ENTRIES, LOG_WORDS = 0, 1, 2, 3, 4
SLOT_ADDRESS, SLOT_CAPACITY, SLOT_LENGTH, SLOT_WORDS = 0, 1, 2, 3
_AROUND_ARGUMENT = 64  # a bulk's header and end, and the remark on bytes that are not shown
_AROUND_ENTRY = 512  # the headers, three numbers, and the client's address, a Unix socket's path at most
_STEP = 256  # [bytes] that capacities are multiples of

_MORE, _BYTES, _ARGUMENTS, _SECRET = (
    constant(text) for text in (b"... (", b" more bytes)", b" more arguments)", b"(redacted)")
)


# -------------------------------------------------------------------------------------------------- an entry as RESP


@kernel
def _put_bytes(out, at, text, start, count):  # type: ignore[no-untyped-def]
    # These functions return the place behind the bytes that they wrote.
    copy_bytes(out, at, text, start, count)
    return at + count


@kernel
def _put_number(out, at, value):  # type: ignore[no-untyped-def]
    return at + put_decimal(out, at, value)


@kernel
def _put_line(out, at, kind, value):  # type: ignore[no-untyped-def]
    out[at] = kind
    at = _put_number(out, at + 1, value)
    out[at] = 13
    out[at + 1] = 10
    return at + 2


@kernel
def _put_bulk(out, at, text, start, count):  # type: ignore[no-untyped-def]
    at = _put_bytes(out, _put_line(out, at, 36, count), text, start, count)
    out[at] = 13
    out[at + 1] = 10
    return at + 2


@kernel
def _put_remark(out, at, text, start, count, number, what):  # type: ignore[no-untyped-def]
    # A bulk of some bytes, and a remark on the number of bytes that are not shown.
    digits = put_decimal(out, at, number)  # only to measure it; overwritten at once
    at = _put_line(out, at, 36, count + len(_MORE) + digits + len(what))
    at = _put_bytes(out, at, text, start, count)
    at = _put_bytes(out, at, _MORE, 0, len(_MORE))
    at = _put_bytes(out, _put_number(out, at, number), what, 0, len(what))
    out[at] = 13
    out[at + 1] = 10
    return at + 2


@linked(void(CONTEXT, int64[::1], int64, int64))
def slowlog_push(context, row, duration_us, redacted):  # type: ignore[no-untyped-def]
    """Record the command at hand, which took `duration_us`; bit i of `redacted`: argument i is secret.

    Nothing is recorded when memory ran out, or the log has no slots.
    """
    call, shard = context.call, context.shard
    log = words_at(shard[SLOWLOG_ADDRESS], LOG_WORDS)
    if log[SLOTS] == 0:
        return
    count = call[ARGC]
    shown = min(count, ARGUMENTS_SHOWN)
    name_length = min(text_length(row[NAME]), NAME_SHOWN)
    needed = _AROUND_ENTRY + name_length
    for i in range(shown):
        needed += min(arg_length(context, i), BYTES_SHOWN) + _AROUND_ARGUMENT
    slot = words_at(log[SLOTS_ADDRESS] + log[NEXT_ENTRY] % log[SLOTS] * SLOT_WORDS * 8, SLOT_WORDS)
    if slot[SLOT_CAPACITY] < needed:
        needed = (needed + _STEP - 1) // _STEP * _STEP
        moved = realloc(slot[SLOT_ADDRESS], needed)
        if moved == 0:
            return
        slot[SLOT_ADDRESS], slot[SLOT_CAPACITY] = moved, needed
    out, text = bytes_at(slot[SLOT_ADDRESS], slot[SLOT_CAPACITY]), query(context)
    at = _put_line(out, 0, 42, 6)
    at = _put_line(out, at, 58, log[NEXT_ENTRY])
    at = _put_line(out, at, 58, shard[NOW_MS] // 1000)
    at = _put_line(out, at, 58, duration_us)
    at = _put_line(out, at, 42, shown)
    for i in range(shown):
        start, length = arg_offset(context, i), arg_length(context, i)
        if i == shown - 1 and shown < count:
            at = _put_remark(out, at, text, 0, 0, count - shown + 1, _ARGUMENTS)
        elif redacted >> i & 1:
            at = _put_bulk(out, at, _SECRET, 0, len(_SECRET))
        elif length > BYTES_SHOWN:
            at = _put_remark(out, at, text, start, BYTES_SHOWN, length - BYTES_SHOWN, _BYTES)
        else:
            at = _put_bulk(out, at, text, start, length)
    peer = bytes_at(shard[SCRATCH_ADDRESS] + 512, ADDRESS_ROOM)
    at = _put_bulk(out, at, peer, 0, write_address(context, row, PEER, peer, 0))
    at = _put_bulk(out, at, bytes_at(row[NAME], name_length), 0, name_length)
    slot[SLOT_LENGTH] = at
    log[NEXT_ENTRY] += 1
    log[ENTRIES] = min(log[ENTRIES] + 1, log[SLOTS])


@linked(void(int64[::1]))
def slowlog_drop(slots):  # type: ignore[no-untyped-def]
    """Free the buffers of these slots; int64[SLOT_WORDS * n]."""
    for at in range(0, len(slots), SLOT_WORDS):
        free(slots[at + SLOT_ADDRESS])
        slots[at + SLOT_ADDRESS] = slots[at + SLOT_CAPACITY] = slots[at + SLOT_LENGTH] = 0


class SlowLog:
    """The log's memory.  The owner closes it."""

    def __init__(self) -> None:
        self.log = zeros(int64, LOG_WORDS)  # its address is the kernels' register
        self._slots = Table(0, SLOT_WORDS)

    def __len__(self) -> int:
        return int(self.log[ENTRIES])

    def resize(self, entries: int) -> None:
        """Keep at most `entries` entries from now on; the newest of the present ones stay."""
        count = min(entries, SLOTS_MAX)
        if count == len(self._slots):
            return
        slots = Table(count, SLOT_WORDS)
        following, kept = int(self.log[NEXT_ENTRY]), min(count, len(self))
        if kept:
            for number in range(following - kept, following):
                old = self._slots.row(number % len(self._slots))
                slots.row(number % count)[:] = old
                for word in range(SLOT_WORDS):
                    old[word] = 0
        slowlog_drop(self._slots.words)
        self._slots = slots
        self.log[SLOTS_ADDRESS], self.log[SLOTS], self.log[ENTRIES] = slots.address, count, kept

    def reset(self) -> None:
        """Forget all entries; their numbers go on."""
        slowlog_drop(self._slots.words)
        self.log[ENTRIES] = 0

    def close(self) -> None:
        """Free the memory."""
        self.resize(0)
