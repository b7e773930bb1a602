"""A body: a long value that was received into frames, for a command to adopt.

The frames are pages of a sapling (mmcore/graft.py), which belongs to no store until the value is set: no image and no
transaction contains it, and FLUSHALL does not touch it.  net/bodies.py receives it.  For the command at hand, the call
has the sapling's root, and the address of the argument, of which only the first bytes are there.  A command that sets
a key to this argument makes the pages the entry's LARGE value.  No byte is copied, and no page is needed.
"""

from kvstore.lifetimes.call import BODY_ADDRESS, BODY_ROOT
from kvstore.lifetimes.context import CONTEXT
from kvstore.store.flush import release_root
from mmcore.heap import heap_adopt
from mmcore.jit import int64, kernel, linked


@kernel
def is_body(context, value):  # type: ignore[no-untyped-def]
    """Whether the argument at this address is the call's body."""
    return value != 0 and context.call[BODY_ADDRESS] == value


@kernel
def bytes_to_add(context, value, size):  # type: ignore[no-untyped-def]
    """Bytes that setting a key to this argument allocates, beside the entry."""
    return 0 if is_body(context, value) else size


@linked(int64(CONTEXT, int64))
def adopt_body(context, size):  # type: ignore[no-untyped-def]
    """Make the body an allocation of the store.  Returns its address; 0, with nothing changed, when frames ran out."""
    call = context.call
    va = heap_adopt(context.space, call[BODY_ROOT], size)
    if va != 0:
        release_root(context, call[BODY_ROOT])
        call[BODY_ROOT] = -1
    return va
