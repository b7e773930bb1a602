"""The C library as kernels see it: system calls and raw memory.

Functions are called by symbol, so that compiled kernels can be cached.  Pointers are passed as int64 addresses.
Buffers whose size depends on clients' input (queries, replies, transaction queues) come from malloc.  They belong to
connections, and not to the store, whose bytes all lie in the address space.

Without the compiler, the views of memory, malloc and free have plain Python twins; data structures are tested so.
"""

from typing import Any

from mmcore.jit import DISABLED, external, int32, int64, intrinsic, kernel, uint8, void
from mmcore.jit.toolchain import arrays, cgutils, ir, types

accept4 = external("accept4", int32(int32, int64, int64, int32))
close = external("close", int32(int32))
epoll_ctl = external("epoll_ctl", int32(int32, int32, int32, int64))
epoll_wait = external("epoll_wait", int32(int32, int64, int32, int32))
recv = external("recv", int64(int32, int64, int64, int32))
send = external("send", int64(int32, int64, int64, int32))
sendmsg = external("sendmsg", int64(int32, int64, int32))
setsockopt = external("setsockopt", int32(int32, int32, int32, int64, int32))
getsockname = external("getsockname", int32(int32, int64, int64))
inet_ntop = external("inet_ntop", int64(int32, int64, int64, int32))
sched_getcpu = external("sched_getcpu", int32())
sched_getaffinity = external("sched_getaffinity", int32(int32, int64, int64))
sched_setaffinity = external("sched_setaffinity", int32(int32, int64, int64))
getrusage = external("getrusage", int32(int32, int64))
clock_gettime = external("clock_gettime", int32(int32, int64))
malloc = external("malloc", int64(int64))
realloc = external("realloc", int64(int64, int64))
free = external("free", void(int64))
read = external("read", int64(int32, int64, int64))
write = external("write", int64(int32, int64, int64))
mmap = external("mmap", int64(int64, int64, int32, int32, int32, int64))
munmap = external("munmap", int32(int64, int64))
memchr = external("memchr", int64(int64, int32, int64))
_errno_location = external("__errno_location", int64())

EINTR, EAGAIN = 4, 11
PROT_READ, PROT_WRITE = 1, 2
MAP_PRIVATE, MAP_ANONYMOUS, MAP_POPULATE = 0x02, 0x20, 0x8000
MAP_FAILED = -1
EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP = 0x001, 0x004, 0x008, 0x010
EPOLLET = 1 << 31
EPOLL_CTL_ADD, EPOLL_CTL_MOD = 1, 3
EPOLL_EVENT_SIZE = 12  # struct epoll_event is packed on x86-64: uint32 events, uint64 data
MSG_NOSIGNAL = 0x4000
SOCK_NONBLOCK, SOCK_CLOEXEC = 0o4000, 0o2000000
AF_INET, AF_INET6 = 2, 10
SOL_SOCKET, SO_KEEPALIVE = 1, 9
IPPROTO_TCP, TCP_NODELAY, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT = 6, 1, 4, 5, 6
CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_THREAD_CPUTIME_ID = 0, 1, 3
_RUSAGE_THREAD, _NIVCSW = 1, 17  # and the word of struct rusage: involuntary context switches


if DISABLED:
    import ctypes

    import numpy as np

    def _window(kind: Any) -> Any:
        def window(address: int, count: int) -> Any:
            size = int(count) * np.dtype(kind).itemsize
            return np.frombuffer((ctypes.c_char * size).from_address(int(address)), kind) if size else np.empty(0, kind)

        return window

    bytes_at, words_at, ints_at = _window(np.uint8), _window(np.int64), _window(np.int32)
    _library = ctypes.CDLL(None)
    _library.malloc.restype, _library.malloc.argtypes = ctypes.c_int64, [ctypes.c_int64]
    _library.free.restype, _library.free.argtypes = None, [ctypes.c_int64]

    def malloc(size: int) -> int:  # type: ignore[misc]
        """C's malloc."""
        return int(_library.malloc(int(size)))

    def free(address: int) -> None:  # type: ignore[misc]
        """C's free."""
        _library.free(int(address))

else:

    def _view(kind: Any) -> Any:
        # An intrinsic (address, count) -> array: a view of that memory.  A kernel cannot return an array that it has
        # made, because there are no reference counts.  This intrinsic can, because its array owns nothing.
        def view(typingctx, address, count):  # type: ignore[no-untyped-def]
            def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
                array = signature.return_type
                made = arrays.make_array(array)(context, builder)
                word = context.get_data_type(array.dtype)
                item = context.get_constant(types.intp, context.get_abi_sizeof(word))
                pointer = builder.inttoptr(values[0], word.as_pointer())
                arrays.populate_array(
                    made, data=pointer, shape=[values[1]], strides=[item], itemsize=item, meminfo=None
                )
                return made._getvalue()

            return kind[::1](int64, int64), codegen

        return intrinsic(view)

    bytes_at = _view(uint8)  # (address, size) -> uint8[size]
    words_at = _view(int64)  # (address, count) -> int64[count]
    ints_at = _view(int32)  # (address, count) -> int32[count]


@intrinsic
def cycles(typingctx):  # type: ignore[no-untyped-def]
    """The processor's time stamp counter, which the server calibrates against the clock."""

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        counter = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.IntType(64), []), "llvm.readcyclecounter"
        )
        return builder.call(counter, [])

    return int64(), codegen


@kernel
def errno():  # type: ignore[no-untyped-def]
    """The calling thread's errno."""
    return int64(ints_at(_errno_location(), 1)[0])


@kernel
def set_errno(value):  # type: ignore[no-untyped-def]
    """Set the calling thread's errno."""
    ints_at(_errno_location(), 1)[0] = value


@kernel
def switches(scratch):  # type: ignore[no-untyped-def]
    """How often the system has taken the processor away from the calling thread; overwrites _NIVCSW + 1 words."""
    getrusage(int32(_RUSAGE_THREAD), scratch)
    return words_at(scratch, _NIVCSW + 1)[_NIVCSW]
