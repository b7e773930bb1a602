"""A log file that another program may rename: each line goes to the file that has the name now.

This is a module of its own, so that a server that logs to stdout does not wait for its imports.
"""

import logging
import logging.handlers


class RotatedFile(logging.handlers.WatchedFileHandler):
    """Writes each line to the file that has this name now."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; first open the file again if the name leads to another one."""
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Lose the line."""
