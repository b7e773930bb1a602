"""The library: the machine code of all linked kernels, in one shared object that every program maps.

    registered   @linked has run; there is no machine code yet
    found        the library of exactly these sources exists: beside this file, if a wheel carries it, otherwise in the
                 directory of kept.py.  The program opens it in some milliseconds, and needs no numba
    built        otherwise a separate process (builder.py) builds it once.  If two programs start at the same time, the
                 second waits for the first to build it
    opened       dlopen has bound the C library's symbols.  The address of a kernel is looked up when it is needed

The file `linked_kernels.txt` of a package lists, one per line, the modules whose kernels belong to the library.  This
module knows no package by name.  Kernels of other modules, such as tests and scripts, are compiled in this process, and
each gets its own library; they call the symbols of the others, which the main library exports.
"""

import ctypes
import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mmcore.jit import kept
from mmcore.jit.checksums import digest_of
from mmcore.jit.errors import CannotCompile
from mmcore.jit.settings import BOUNDSCHECK, level

if TYPE_CHECKING:
    from mmcore.jit.linking import Linked

FOLDER = Path(__file__).resolve().parent
PACKAGES = FOLDER.parent.parent
DECLARATION = "linked_kernels.txt"
_KERNEL = "kernel"
FORMAT = 2  # format of the description behind the shared object in a library's file

Progress = Callable[[int, int, str], None]  # (done, total, symbol at work or ""); total 0: another process builds


class _Kernels:
    """The kernels that this process has registered and opened."""

    def __init__(self) -> None:
        self.registered: dict[str, Linked] = {}
        self.opened: dict[str, ctypes.CDLL] = {}  # by kernel
        self.missing: list[str] = []  # registered and not opened, in order
        self.main: tuple[ctypes.CDLL, set[str]] | None = None  # the packages' library, and the kernels in it


_KERNELS = _Kernels()


def register(kernel: "Linked") -> None:
    """Register a linked kernel.  Callees register before their callers."""
    _KERNELS.registered[kernel.symbol] = kernel
    _KERNELS.missing.append(kernel.symbol)


def registered() -> dict[str, "Linked"]:
    """The linked kernels of this process, by symbol, in order of registration."""
    return dict(_KERNELS.registered)


def address_of(kernel: "Linked") -> int:
    """The address of a kernel's machine code, which is loaded if necessary."""
    if kernel.symbol not in _KERNELS.opened:
        build()
    return _address(_KERNELS.opened[kernel.symbol], kernel.symbol)


def _address(opened: ctypes.CDLL, symbol: str) -> int:
    address = ctypes.cast(opened[symbol], ctypes.c_void_p).value
    assert address, symbol
    return address


def build(progress: Progress | None = None, workers: int = 0) -> int:
    """Load the machine code of every kernel registered so far, compiling the kernels not kept yet.  Returns how many.

    `progress` is called for each compiled kernel.  `workers` processes compile (0: one per processor).  Raises
    CannotCompile, Unsupported.
    """
    if not _KERNELS.missing:
        return 0
    wanted, _KERNELS.missing = _KERNELS.missing, []
    packages = declared()
    if any(symbol.partition(".")[0] in packages for symbol in wanted):
        _KERNELS.main = _KERNELS.main or _open_main(progress, workers)
        opened, symbols = _KERNELS.main
        for symbol in wanted:
            if symbol in symbols and _is_ours(_KERNELS.registered[symbol].function.__module__):
                _KERNELS.opened[symbol] = opened
    own = [symbol for symbol in wanted if symbol not in _KERNELS.opened]
    for number, symbol in enumerate(own):
        _KERNELS.opened[symbol] = _open_own(_KERNELS.registered[symbol], number, len(own), progress)
    return len(wanted)


# ------------------------------------------------------------------------------------------------------ the packages


@cache
def declared() -> dict[str, list[str]]:
    """The modules with linked kernels that each package declares, by package."""
    files = sorted(PACKAGES.glob(f"*/{DECLARATION}"))
    return {file.parent.name: file.read_text().split() for file in files}


@cache
def _is_ours(module: str) -> bool:
    # Whether it is really a module of these packages, and not another one of the same name.
    file = Path(getattr(sys.modules.get(module), "__file__", None) or "")
    return file.is_relative_to(PACKAGES)


@cache
def sources() -> str:
    """The digest of all sources of the packages and of the settings; it identifies the matching library."""
    files = {}
    for package in declared():
        for folder, _, names in os.walk(PACKAGES / package):
            for name in names:
                if name.endswith(".py"):
                    file = f"{folder}/{name}"
                    with open(file, "rb") as source:
                        files[os.path.relpath(file, PACKAGES)] = source.read()
    order = sorted(files)
    return digest_of(f"{FORMAT} {level()} bounds {BOUNDSCHECK}", *order, *(files[name] for name in order))


# ----------------------------------------------------------------------------------------------------- the main one


def pack(shared: bytes, info: dict[str, Any]) -> bytes:
    """A library's file without the checksum: the shared object, then its description in lines of `name words`."""
    text = "".join(f"{name} {info[name]}\n" for name in ("sources", "level", "made_with"))
    text += "".join(f"{_KERNEL} {symbol} {digest}\n" for symbol, digest in info["kernels"].items())
    return shared + text.encode() + len(text).to_bytes(8, "little")


def unpack(content: bytes) -> dict[str, Any]:
    """The description of a library: `sources`, `kernels`, and the tools that made it."""
    size = int.from_bytes(content[-8:], "little")
    info: dict[str, Any] = {"kernels": {}}
    for line in content[-8 - size : -8].decode("ascii").splitlines():
        name, _, words = line.partition(" ")
        if name == _KERNEL:
            symbol, _, digest = words.partition(" ")
            info["kernels"][symbol] = digest
        else:
            info[name] = words
    return info


def carried_file(name: str) -> Path:
    """The file in a wheel with the library for a level of x86-64."""
    return FOLDER / f"kernels.{name}.so"


def main_file() -> Path:
    """The file of the library of these sources, if it is built on this machine."""
    return kept.library_file(digest_of(sources(), kept.tools(), kept.settings(assertions=True)))  # see build_main


def _find() -> tuple[Path, bytes] | None:
    carried = carried_file(level())
    if carried.is_file():
        content = kept.read_kept(carried)
        if content and unpack(content)["sources"] == sources():
            return carried, content
    file = main_file()
    content = kept.read_kept(file)
    return (file, content) if content else None


def _open_main(progress: Progress | None, workers: int) -> tuple[ctypes.CDLL, set[str]]:
    found = _find()
    if found is None:
        with _alone(main_file(), progress):
            found = _find()  # another process may have built it meanwhile
            if found is None:
                content = build_main(progress, workers)
                return open_bytes(content), set(unpack(content)["kernels"])
    file, content = found
    return _open(str(file)), set(unpack(content)["kernels"])


def _open(path: str) -> ctypes.CDLL:
    # Open it globally, because the kernels of other modules call its symbols.
    return ctypes.CDLL(path, ctypes.RTLD_GLOBAL)


def open_bytes(content: bytes) -> ctypes.CDLL:
    """Open a library that is in no file: this process can use it even if it could not be kept."""
    fd = os.memfd_create("kernels", os.MFD_CLOEXEC)
    with open(fd, "wb", closefd=False) as out:
        out.write(content)
    # The descriptor stays open: ld.so identifies a library by its path, and would confuse it with another on that path.
    return _open(f"/proc/self/fd/{fd}")


@contextmanager
def _alone(file: Path, progress: Progress | None) -> Iterator[None]:
    # One process at a time builds a library.  If nothing can be kept, each builds its own.
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = file.with_suffix(".lock").open("wb")
    except OSError:
        yield
        return
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if progress:
                progress(0, 0, "")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build_main(progress: Progress | None = None, workers: int = 0, of_level: str = "") -> bytes:
    """Compile and join all kernels of the packages, in a separate process.  Returns the library's content.

    Raises CannotCompile.
    """
    if find_spec("numba") is None:
        raise CannotCompile(
            "these kernels have to be compiled, and numba is not installed: pip install 'kvstore[build]', or install "
            "a wheel, which carries them"
        )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    # Kernels keep their assertions, even if the program that runs them disables its own.
    environment.pop("PYTHONOPTIMIZE", None)
    environment |= {"NUMBA_CPU_NAME": of_level or level(), "NUMBA_CPU_FEATURES": ""}
    command = [sys.executable, "-m", "mmcore.jit.builder", str(workers), str(os.getpid())]
    import subprocess  # imported here, because most programs find a library and build none

    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, cwd=PACKAGES) as process:
        assert process.stdout is not None
        content = _follow(process.stdout, progress)
    if process.returncode or content is None:
        raise CannotCompile(f"compiling the kernels ended with status {process.returncode}; its messages are above")
    kept.remove_unused(time.time())
    return content


def _follow(out: IO[bytes], progress: Progress | None) -> bytes | None:
    # The builder's output: lines of progress, then the length of the library, then the library.
    for line in out:
        word, *rest = line.decode().split()
        if word == "library":
            content = out.read(int(rest[0]))
            return content if len(content) == int(rest[0]) else None
        if progress:
            progress(int(word), int(rest[0]), rest[1] if len(rest) > 1 else "")
    return None


# ------------------------------------------------------------------------------------------------------- other ones


def _open_own(kernel: "Linked", number: int, total: int, progress: Progress | None) -> ctypes.CDLL:
    """The separate library of one kernel that does not belong to a package's library."""
    file = kept.library_file(kernel.digest)
    if kept.read_kept(file) is not None:
        return _open(str(file))
    if find_spec("numba") is None:
        raise CannotCompile(f"{kernel.symbol} has to be compiled, and numba is not installed: pip install numba")
    if progress:
        progress(number, total, kernel.symbol)
    compiler, elf = import_module("mmcore.jit.compiler"), import_module("mmcore.jit.elf")
    for symbol, opened in _KERNELS.opened.items():
        compiler.tell_symbol(symbol, _address(opened, symbol))
    name, code = kernel.compile()
    content = elf.link([elf.Code(kernel.symbol, name, code)], kernel.symbol)
    try:
        kept.keep(file, content)
    except OSError:
        return open_bytes(content)
    return _open(str(file))
