"""A server whose main thread blocks in C forever when it should make the store.

Python runs a signal's handler in the main thread, between two Python instructions.  So the handler never runs if a
kernel or a compiler does not return.  The C function used here is a lock that is taken twice.
"""

import ctypes

from kvstore.__main__ import main


def hold(*_arguments: object) -> None:
    """Write a line to the log, and never return."""
    import logging

    logging.getLogger("kvstore").info("Held")
    lock = ctypes.create_string_buffer(64)  # zeros are an open mutex
    libc = ctypes.CDLL(None)
    libc.pthread_mutex_lock(lock)
    libc.pthread_mutex_lock(lock)


if __name__ == "__main__":
    import kvstore.server.server

    kvstore.server.server.Server.__init__ = hold  # type: ignore[method-assign]
    main()
