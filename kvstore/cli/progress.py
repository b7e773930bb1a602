"""Progress bars of the command line, on stderr."""

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


class Bar:
    """A bar named `label`; with `shown` false it draws nothing."""

    def __init__(self, label: str, shown: bool) -> None:
        columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%")
        self._progress = Progress(
            *columns,
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
            disable=not shown,
            transient=True,
        )
        self._task = self._progress.add_task(label, total=None, note="")
        self._progress.start()

    def show(self, done: float, total: float, note: str = "") -> None:
        """Show that `done` of `total` is done, with `note` behind the bar."""
        self._progress.update(self._task, completed=done, total=total, note=note)

    def close(self) -> None:
        """Remove the bar."""
        self._progress.stop()
