"""The process that builds the library: it imports the packages, compiles the kernels not kept yet, and joins them all.

    python -m mmcore.jit.builder WORKERS PARENT     ends when the process PARENT ends

It reports on its standard output, which library.py reads:

    DONE TOTAL [SYMBOL]         number of kernels compiled so far, total number, and a kernel that is done
    library SIZE                followed by the library, SIZE bytes

A separate process has no threads, so it may fork: there is one worker per processor, and each imports numba.  A single
kernel is compiled without a worker.  This process only compiles and never calls a kernel, so the symbols of other
kernels need no addresses here.
"""

import contextlib
import ctypes
import gc
import os
import signal
import sys
from collections.abc import Iterator
from importlib import import_module

from mmcore.jit import elf, kept, library
from mmcore.jit.checksums import digest_of
from mmcore.jit.linking import Linked
from mmcore.jit.settings import level

_PR_SET_PDEATHSIG = 1
# Objects that numba makes between two collections in a worker.  Most of them live as long as the worker: collections
# look at them again and again, take some percent of its time and find little.
_COLLECT_AFTER = 100_000


def _kept(kernel: Linked) -> elf.Code | None:
    content = kept.read_kept(kept.object_file(kernel.digest))
    if content is None:
        return None
    name, _, code = content.partition(b"\n")
    return elf.Code(kernel.symbol, name.decode(), code)


def _say(*words: object) -> None:
    sys.stdout.buffer.write(" ".join(map(str, words)).encode() + b"\n")
    sys.stdout.buffer.flush()


def main(workers: int) -> None:
    """Build the library of all packages that declare kernels."""
    for modules in library.declared().values():
        for module in modules:
            _import(module)
    kernels = [one for symbol, one in library.registered().items() if symbol.partition(".")[0] in library.declared()]
    codes = {one.symbol: _kept(one) for one in kernels}
    missing = [one for one in kernels if codes[one.symbol] is None]
    if missing:
        for code in _compile(missing, min(workers or os.cpu_count() or 1, len(missing))):
            codes[code.symbol] = code
        _say(len(missing), len(missing))
    digest = digest_of(library.sources(), kept.tools(), kept.settings())
    shared = elf.link([code for code in codes.values() if code], f"kernels-{digest}.so")
    info = {
        "sources": library.sources(),
        "level": level(),
        "made_with": kept.tools(),
        "kernels": {one.symbol: one.digest for one in kernels},
    }
    content = library.pack(shared, info)
    try:
        kept.keep(library.main_file(), content)
    except OSError as error:
        print(f"the kernels cannot be kept, and will be compiled anew: {error}", file=sys.stderr)
    _say("library", len(content))
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def _import(module: str) -> None:
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in library.declared():
            raise
        # A program that can use this package has its dependencies, and compiles the kernels itself.
        print(f"the kernels of {module} are left out: {error}", file=sys.stderr)


def _compile(missing: list[Linked], workers: int) -> Iterator[elf.Code]:
    if len(missing) == 1:  # typical after an edit; creating a pool would take longer
        _tell_symbols()
        code = _work(missing[0].symbol)
        _say(1, 1, code.symbol)
        yield code
        return
    # Import these late: they take a tenth of a second.
    futures, multiprocessing = import_module("concurrent.futures"), import_module("multiprocessing")
    gc.freeze()  # what is imported stays
    # Fork all workers before the pool has a thread, so that each inherits the kernels without importing them again.
    with futures.ProcessPoolExecutor(workers, multiprocessing.get_context("fork"), _prepare, (os.getpid(),)) as pool:
        done = [pool.submit(_work, one.symbol) for one in missing]
        try:
            for number, future in enumerate(futures.as_completed(done), 1):
                code = future.result()
                _say(number, len(missing), code.symbol)
                yield code
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _die_with(parent: int) -> None:
    # Nobody needs the kernels of a program that has ended.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(1)  # the parent has already ended


def _prepare(parent: int) -> None:
    _die_with(parent)
    gc.set_threshold(_COLLECT_AFTER)
    _tell_symbols()


def _tell_symbols() -> None:
    compiler = import_module("mmcore.jit.compiler")
    for number, symbol in enumerate(library.registered(), 1):
        compiler.tell_symbol(symbol, number)


def _work(symbol: str) -> elf.Code:
    """Compile a kernel, and keep it if possible."""
    kernel = library.registered()[symbol]
    name, code = kernel.compile()
    with contextlib.suppress(OSError):
        kept.keep(kept.object_file(kernel.digest), name.encode() + b"\n" + code)
    return elf.Code(symbol, name, code)


if __name__ == "__main__":
    _die_with(int(sys.argv[2]))
    main(int(sys.argv[1]))
