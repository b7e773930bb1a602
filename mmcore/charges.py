"""Charges: each frame in use is charged to the account that took it, as Linux's memory cgroups charge pages.

Several spaces on one memory may belong to different owners, each of which is told, and perhaps limited in, what it has
taken.  An account is a number.  The register CHARGED has the one that pays for the frames taken now.  A frame stays
charged to its account until it is freed, whoever frees it, and whatever still needs it meanwhile.

    open      charges[a] = the number of frames in use that a pays for
    closed    the same less CLOSED: a takes no more, and its number becomes free with its last frame
    free      ~(the next free number, or the number of all given so far)

(14) charges[a] is exact: the sum over all accounts is the number of frames in use.

Account 0 is open from the beginning, so a memory with one owner needs none of this.  Nothing here can fail: an open
account without a frame is opened just before it takes its first one, so there are never more accounts than frames,
and one.
"""

from mmcore.jit import int64, kernel, linked, void
from mmcore.state import ACCOUNTS, CHARGED, FREE_ACCOUNT, MEMORY

CLOSED = 1 << 62


@kernel
def charge(mem, frame):  # type: ignore[no-untyped-def]
    """Charge a frame that is being taken."""
    account = mem.frames[CHARGED]
    mem.payer[frame] = account
    mem.charges[account] += 1


@linked(void(MEMORY, int64))
def _give_number(mem, account):  # type: ignore[no-untyped-def]
    """The number of a closed account without frames is free."""
    mem.charges[account] = ~mem.frames[FREE_ACCOUNT]
    mem.frames[FREE_ACCOUNT] = account


@kernel
def uncharge(mem, frame, count):  # type: ignore[no-untyped-def]
    """Take `count` frames that are being freed, of which this is one, off the account that pays for them."""
    account = mem.payer[frame]
    left = mem.charges[account] - count
    mem.charges[account] = left
    if left == -CLOSED:
        _give_number(mem, account)


@linked(int64(MEMORY))
def account_open(mem):  # type: ignore[no-untyped-def]
    """Open an account; returns its number."""
    registers = mem.frames
    account = registers[FREE_ACCOUNT]
    if account == registers[ACCOUNTS]:
        assert account < mem.charges.size, "more accounts than frames"
        registers[ACCOUNTS] = registers[FREE_ACCOUNT] = account + 1
    else:
        registers[FREE_ACCOUNT] = ~mem.charges[account]
    mem.charges[account] = 0
    return account


@linked(void(MEMORY, int64))
def account_close(mem, account):  # type: ignore[no-untyped-def]
    """Close an account that is not CHARGED: it pays on for the frames that it has."""
    assert mem.charges[account] >= 0, "an account is closed twice"
    mem.charges[account] -= CLOSED
    if mem.charges[account] == -CLOSED:
        _give_number(mem, account)


@linked(void(MEMORY, int64, int64))
def recharge(mem, frame, account):  # type: ignore[no-untyped-def]
    """Let another open account pay for a frame in use."""
    mem.charges[account] += 1
    uncharge(mem, frame, 1)
    mem.payer[frame] = account
