"""Shared by the tests of benchmarks."""

import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

REQUIRED = os.environ.get("KVSTORE_REQUIRE_REDIS") == "1"  # then its absence is a failure
needs_redis = pytest.mark.skipif(
    not shutil.which("redis-server") and not REQUIRED, reason="redis-server is not installed"
)
needs_redis_benchmark = pytest.mark.skipif(
    not shutil.which("redis-benchmark") and not REQUIRED, reason="redis-benchmark is not installed"
)


@contextmanager
def replying(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """The port of a server that hands each connection to `answer`, in a thread."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    answer(connection)
                except OSError:
                    return

    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
