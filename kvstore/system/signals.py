"""What signals mean to the process, from its first lines to its last.

SIGTERM, SIGINT   end it.  Before the server is ready they end it at once, for there is nothing to save yet: a
                  thread waits for them, so that neither a compiler nor a kernel delays the end.  Later they are
                  noted in `asked`, and the server ends in an orderly way: it saves first, if it is to
again             a second SIGINT insists, and the process ends without that; a second SIGTERM changes nothing,
                  because a final snapshot can take minutes and a service manager asks more than once
SIGHUP            is ignored, as Redis ignores it, and SIGPIPE, as Python does
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
    """The signals of this process, from the time this is made; the main thread makes it."""

    def __init__(self) -> None:
        self.asked = 0  # the signal that has asked for an end, 0 for none
        self._read, self._write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._write, False)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for number in ENDING:
            signal.signal(number, self._on_signal)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._watcher = threading.Thread(target=self._end_at_once, name="signals", daemon=True)
        self._watcher.start()

    def wake(self, fd: int) -> None:
        """The server is ready: from now on a signal is noted in `asked` and writes to `fd`, which does not block."""
        signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
        os.write(self._write, _READY)
        self._watcher.join()
        os.close(self._read)
        os.close(self._write)

    def wake_nobody(self) -> None:
        """The server ends: its descriptor is written to no longer."""
        signal.set_wakeup_fd(-1)

    def ignore(self) -> None:
        """The process ends: nothing that is sent now changes its status."""
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            log.warning("You insist... exiting now.")
            os._exit(1)
        self.asked = self.asked or number

    def _end_at_once(self) -> None:
        # Runs until the server is ready.  The pipe holds the numbers of the signals that came.
        received = os.read(self._read, 4096).replace(_READY, b"")
        if not received:
            return
        log.warning("Received %s before the server was ready, exiting now.", signal.Signals(received[0]).name)
        if sys.stderr.isatty():
            sys.stderr.write(_SHOW_CURSOR)
            sys.stderr.flush()
        os._exit(0)
