"""One server for the processes of one session of tests.

The process that distributes the tests owns the server, because it outlives all others.  It does not know whether any
test will need a server.  So it listens on a Unix socket, with a thread that sleeps until the first test that needs one
connects.  The thread then starts the server.  Every connection gets the answer as JSON, and is closed: the fields of
Server, or {"error": text}.
"""

import contextlib
import json
import shutil
import socket
import threading
from collections.abc import Mapping
from dataclasses import asdict

from kvstore.testing.embedded import Option, StartFailed, embedded, short_directory
from kvstore.testing.server import Server

_SOCKET = "ask"


class Shared:
    """The owner's side.  `directory` is for whatever the processes share; it is deleted at the end."""

    def __init__(self, options: Mapping[str, Option]) -> None:
        self.directory = short_directory()
        self._options = options
        self._stack = contextlib.ExitStack()
        self._stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
        self._listener = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        self._listener.bind(f"{self.directory}/{_SOCKET}")
        self._listener.listen(128)
        self._thread = threading.Thread(target=self._serve, name="kvstore-shared", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the server, if there is one."""
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._thread.join()
        self._stack.close()

    def _serve(self) -> None:
        answer = b""
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            answer = answer or json.dumps(self._start()).encode()
            with connection, contextlib.suppress(OSError):
                connection.sendall(answer)

    def _start(self) -> dict[str, object]:
        try:
            return asdict(self._stack.enter_context(embedded(self._options)))
        except (StartFailed, OSError, ValueError) as error:
            return {"error": str(error)}


def ask(directory: str) -> Server:
    """The server of the session; the first process that asks waits until it is started.  Raises StartFailed."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(f"{directory}/{_SOCKET}")
        with connection.makefile("rb") as answers:
            answer = json.loads(answers.read() or b'{"error": "the session has ended"}')
    if "error" in answer:
        raise StartFailed(answer["error"])
    return Server(**answer)
