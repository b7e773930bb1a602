"""Telling people that kernels are being compiled: a bar on a terminal, lines elsewhere."""

import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any


def progress_bar(label: str, shown: bool) -> Any:
    """A Bar of progress.py, whose library takes a tenth of a second to import."""
    return import_module("kvstore.cli.progress").Bar(label, shown)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Compiling:
    """Hears how far compiling is, and says so."""

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
        """Say how long it took, if anything was compiled."""
        if self._bar is not None:
            self._bar.close()
            _say(f"Compiled {self._total} kernels in {time.monotonic() - self._began:.0f} s")


def bring_kernels() -> None:
    """Have the machine code of all kernels that are imported.  Raises CannotCompile, Unsupported."""
    said = Compiling()
    import_module("mmcore.jit").build(said)
    said.close()


def build_library(output: Path | None, level: str) -> Path:
    """Build the library of all kernels, from what is kept where that is good; returns where it is.

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
