"""A log file that something else renames: lines go to whatever file has the name now.

A module of its own, for a server that logs to stdout does not wait for what this one imports.
"""

import logging
import logging.handlers


class RotatedFile(logging.handlers.WatchedFileHandler):
    """Lines to whatever file has this name now."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, after opening the file again if it is another one."""
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Lose the line."""
