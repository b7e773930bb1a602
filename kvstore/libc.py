"""The C library as kernels see it: system calls and raw memory.

Functions are reached by symbol, so that compiled kernels can be cached.  Pointers cross as int64 addresses.  Buffers
whose size follows what clients send (queries, replies, transaction queues) are malloc's: they belong to connections,
not to the store, whose bytes all live in the address space.
"""

import numba
from numba import carray, int32, int64, types
from numba.core import cgutils
from numba.extending import intrinsic

from mmcore.jit import kernel

accept4 = types.ExternalFunction("accept4", int32(int32, int64, int64, int32))
close = types.ExternalFunction("close", int32(int32))
epoll_ctl = types.ExternalFunction("epoll_ctl", int32(int32, int32, int32, int64))
epoll_wait = types.ExternalFunction("epoll_wait", int32(int32, int64, int32, int32))
recv = types.ExternalFunction("recv", int64(int32, int64, int64, int32))
send = types.ExternalFunction("send", int64(int32, int64, int64, int32))
setsockopt = types.ExternalFunction("setsockopt", int32(int32, int32, int32, int64, int32))
clock_gettime = types.ExternalFunction("clock_gettime", int32(int32, int64))
malloc = types.ExternalFunction("malloc", int64(int64))
realloc = types.ExternalFunction("realloc", int64(int64, int64))
free = types.ExternalFunction("free", types.void(int64))
memchr = types.ExternalFunction("memchr", int64(int64, int32, int64))
_errno_location = types.ExternalFunction("__errno_location", int64())

EINTR, EAGAIN = 4, 11
EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP = 0x001, 0x004, 0x008, 0x010
EPOLL_CTL_ADD, EPOLL_CTL_MOD = 1, 3
EPOLL_EVENT_SIZE = 12  # struct epoll_event is packed on x86-64: uint32 events, uint64 data
MSG_NOSIGNAL = 0x4000
SOCK_NONBLOCK, SOCK_CLOEXEC = 0o4000, 0o2000000
SOL_SOCKET, SO_KEEPALIVE = 1, 9
IPPROTO_TCP, TCP_NODELAY, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT = 6, 1, 4, 5, 6
CLOCK_REALTIME, CLOCK_MONOTONIC = 0, 1


@intrinsic
def _byte_pointer(typingctx, address):  # type: ignore[no-untyped-def]
    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        return builder.inttoptr(values[0], cgutils.voidptr_t)

    return types.CPointer(numba.uint8)(int64), codegen


@intrinsic
def _word_pointer(typingctx, address):  # type: ignore[no-untyped-def]
    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        return builder.inttoptr(values[0], context.get_value_type(types.CPointer(int64)))

    return types.CPointer(int64)(int64), codegen


@intrinsic
def _int_pointer(typingctx, address):  # type: ignore[no-untyped-def]
    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        return builder.inttoptr(values[0], context.get_value_type(types.CPointer(int32)))

    return types.CPointer(int32)(int64), codegen


@intrinsic
def cycles(typingctx):  # type: ignore[no-untyped-def]
    """The processor's time stamp counter; the server calibrates it against the clock."""

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        counter = cgutils.get_or_insert_function(
            builder.module, cgutils.ir.FunctionType(cgutils.int64_t, []), "llvm.readcyclecounter"
        )
        return builder.call(counter, [])

    return int64(), codegen


@kernel
def bytes_at(address, size):  # type: ignore[no-untyped-def]
    """The `size` bytes of memory at `address`, as uint8[size]."""
    return carray(_byte_pointer(address), (size,))


@kernel
def words_at(address, count):  # type: ignore[no-untyped-def]
    """The `count` words of memory at `address`, as int64[count]."""
    return carray(_word_pointer(address), (count,))


@kernel
def ints_at(address, count):  # type: ignore[no-untyped-def]
    """The `count` 32-bit integers at `address`, as int32[count]."""
    return carray(_int_pointer(address), (count,))


@kernel
def errno():  # type: ignore[no-untyped-def]
    """The calling thread's errno."""
    return int64(ints_at(_errno_location(), 1)[0])
