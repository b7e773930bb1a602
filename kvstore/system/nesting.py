"""Nested calls: EXEC runs each command in a call of its own, and a script or SORT BY will too.

`call_push` saves the current call and begins another, which inherits connection, database, protocol and the reply under
construction.  Its arguments go behind those of the outer call.  `call_pop` restores the outer call, but keeps the
bytes that the inner call has added to the reply.
"""

from kvstore.lifetimes.call import (
    ARGC,
    ARGS,
    CALL_REGISTERS,
    DEPTH,
    REPLY_ADDRESS,
    REPLY_CAPACITY,
    REPLY_LENGTH,
)
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import CALLS_ADDRESS
from kvstore.lifetimes.sizes import CALLS_MAX
from kvstore.system.libc import words_at
from mmcore.jit import linked, void


@linked(void(CONTEXT))
def call_push(context):  # type: ignore[no-untyped-def]
    """Begin a call within the one at hand."""
    call = context.call
    assert call[DEPTH] < CALLS_MAX, "calls nest too deep"
    outer = words_at(context.shard[CALLS_ADDRESS] + call[DEPTH] * CALL_REGISTERS * 8, CALL_REGISTERS)
    for i in range(CALL_REGISTERS):
        outer[i] = call[i]
    call[ARGS] += call[ARGC]
    call[DEPTH] += 1


@linked(void(CONTEXT))
def call_pop(context):  # type: ignore[no-untyped-def]
    """End the call at hand, and continue the outer one."""
    call = context.call
    assert call[DEPTH] > 0, "no call is around this one"
    address, capacity, length = call[REPLY_ADDRESS], call[REPLY_CAPACITY], call[REPLY_LENGTH]
    outer = words_at(context.shard[CALLS_ADDRESS] + (call[DEPTH] - 1) * CALL_REGISTERS * 8, CALL_REGISTERS)
    for i in range(CALL_REGISTERS):
        call[i] = outer[i]
    call[REPLY_ADDRESS], call[REPLY_CAPACITY], call[REPLY_LENGTH] = address, capacity, length
