"""The key or the payload of an element as a reply.

An element that lies in one page, with lengths of one byte, is read by one translation.  That is the usual case: most of
a long reply is made of it.
"""

from kvstore.lifetimes.context import CONTEXT
from kvstore.structures.element import (
    BARE,
    SHORT_MAX,
    element_key,
    element_key_length,
    element_payload,
    element_payload_length,
)
from kvstore.wire.resp import reply_bulk, reply_bulk_memory
from mmcore.jit import int64, kernel, linked, void
from mmcore.mmu import read_address
from mmcore.paging import PAGE_MASK, PAGE_SIZE


@kernel
def _short_lengths(context, element, pa):  # type: ignore[no-untyped-def]
    # (whether an element at index `pa` of mem.bytes is short and in one page, length of its key, of its payload).
    k, p = int64(context.space.mem.bytes[pa]), int64(context.space.mem.bytes[pa + 1])
    return k <= SHORT_MAX and p <= SHORT_MAX and (element & PAGE_MASK) + 2 + k + p <= PAGE_SIZE, k, p


@linked(void(CONTEXT, int64))
def reply_key(context, element):  # type: ignore[no-untyped-def]
    """The key of an element, as a bulk string."""
    space = context.space
    memory = space.mem.bytes
    if element >= BARE:  # in one page
        reply_bulk(
            context, memory, read_address(space, element_key(space, element)), element_key_length(space, element)
        )
        return
    pa = read_address(space, element)
    short, k, _ = _short_lengths(context, element, pa)
    if short:
        reply_bulk(context, memory, pa + 2, k)
    else:
        reply_bulk_memory(context, element_key(space, element), element_key_length(space, element))


@linked(void(CONTEXT, int64))
def reply_payload(context, element):  # type: ignore[no-untyped-def]
    """The payload of an element, as a bulk string."""
    space = context.space
    memory = space.mem.bytes
    if element >= BARE:
        payload = read_address(space, element_payload(space, element))
        reply_bulk(context, memory, payload, element_payload_length(space, element))
        return
    pa = read_address(space, element)
    short, k, p = _short_lengths(context, element, pa)
    if short:
        reply_bulk(context, memory, pa + 2 + k, p)
    else:
        reply_bulk_memory(context, element_payload(space, element), element_payload_length(space, element))
