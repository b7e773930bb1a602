"""Showing the progress of compiling kernels: a bar on a terminal, lines elsewhere."""

import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any


def progress_bar(label: str, shown: bool) -> Any:
    """A Bar of progress.py, imported here because its library takes a tenth of a second to import."""
    return import_module("kvstore.cli.progress").Bar(label, shown)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Compiling:
    """Shows the progress of compiling."""

    def __init__(self) -> None:
        self._began, self._total = time.monotonic(), 0
        self._bar: Any = None

    def __call__(self, done: int, total: int, symbol: str) -> None:
        if total == 0:
            _say("Another process is compiling these kernels; waiting for it ...")
            return
        if self._bar is None:
            label, self._total = f"Compiling {total} kernels; this happens once", total
            if not sys.stderr.isatty():
                _say(f"{label} ...")
            self._bar = progress_bar(label, sys.stderr.isatty())
        self._bar.show(done, total, symbol)

    def close(self) -> None:
        """Print the time that compiling took, if anything was compiled."""
        if self._bar is not None:
            self._bar.close()
            _say(f"Compiled {self._total} kernels in {time.monotonic() - self._began:.0f} s")


def bring_kernels() -> None:
    """Load or compile the machine code of all imported kernels.  Raises CannotCompile, Unsupported."""
    said = Compiling()
    import_module("mmcore.jit").build(said)
    said.close()


def build_library(output: Path | None, level: str) -> Path:
    """Build the library of all kernels, reusing valid cached code; returns its path.

    `level` of x86-64; "" for this machine's.  Raises CannotCompile, Unsupported, OSError.
    """
    library, kept = import_module("mmcore.jit.library"), import_module("mmcore.jit.kept")
    said = Compiling()
    content = library.build_main(said, of_level=level)
    said.close()
    if output is None:
        return Path(library.main_file())
    output.write_bytes(kept.whole(content))
    return output
