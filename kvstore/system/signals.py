"""Signals: their effect on the process, from its first lines to its last.

SIGTERM, SIGINT   end the process.  Before the server is ready they end it at once, because there is nothing to save: a
                  thread waits for them, so that neither a compiler nor a kernel delays the end.  Later they are
                  noted in `asked`, and the server shuts down in order: it saves first, if so configured
again             a second SIGINT ends the process without saving.  A second SIGTERM changes nothing, because a final
                  snapshot can take minutes and a service manager may ask more than once
SIGHUP            is ignored, as in Redis; SIGPIPE too, as in Python
"""

import logging
import os
import signal
import sys
import threading
from types import FrameType

log = logging.getLogger("kvstore")

ENDING = (signal.SIGTERM, signal.SIGINT)
_READY = b"\0"  # no signal has this number
_SHOW_CURSOR = "\x1b[?25h"  # a progress bar hides it


class Signals:
    """Handles the signals of this process from its creation on; the main thread must create it."""

    def __init__(self) -> None:
        self.asked = 0  # the signal that asked the process to end, 0 for none
        self._read, self._write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._write, False)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for number in ENDING:
            signal.signal(number, self._on_signal)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._watcher = threading.Thread(target=self._end_at_once, name="signals", daemon=True)
        self._watcher.start()

    def wake(self, fd: int) -> None:
        """The server is ready: from now on a signal is noted in `asked` and writes to `fd`, which must not block."""
        signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
        os.write(self._write, _READY)
        self._watcher.join()
        os.close(self._read)
        os.close(self._write)

    def wake_nobody(self) -> None:
        """The server ends: stop writing to its descriptor."""
        signal.set_wakeup_fd(-1)

    def ignore(self) -> None:
        """The process ends: signals no longer change its status."""
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            log.warning("You insist... exiting now.")
            os._exit(1)
        self.asked = self.asked or number

    def _end_at_once(self) -> None:
        # Runs until the server is ready.  The pipe holds the numbers of the received signals.
        received = os.read(self._read, 4096).replace(_READY, b"")
        if not received:
            return
        log.warning("Received %s before the server was ready, exiting now.", signal.Signals(received[0]).name)
        if sys.stderr.isatty():
            sys.stderr.write(_SHOW_CURSOR)
            sys.stderr.flush()
        os._exit(0)
