"""Eventfds as kernels use them: a count that one thread raises and another takes.

The count is all that two threads need to agree on.  All that the first has written before it raises the count is there
for the second after it has taken it: both are system calls, which neither the compiler nor the processor moves stores
across.
"""

from kvstore.system.libc import EINTR, errno, read, words_at, write
from mmcore.jit import int32, int64, linked, void


@linked(int64(int64, int64))
def count_take(fd, word):  # type: ignore[no-untyped-def]
    """The count of an eventfd, which becomes 0; a blocking one waits until it is not.  0 for none.

    word: the address of eight bytes that nobody else uses.
    """
    while True:
        if read(int32(fd), word, 8) == 8:
            return words_at(word, 1)[0]
        if errno() != EINTR:
            return 0


@linked(void(int64, int64, int64))
def count_raise(fd, word, by):  # type: ignore[no-untyped-def]
    """Raise the count of an eventfd.  word: as above."""
    words_at(word, 1)[0] = by
    while write(int32(fd), word, 8) != 8 and errno() == EINTR:
        pass
