"""How kernels are compiled, linked, kept and called.

A *kernel* is a function that numba compiles without the interpreter, without the GIL and without numba's reference
counts: it never allocates a Python or NumPy object, so nothing it does can wait for another thread.  Three kinds:

    @kernel                 a leaf: typed where it is used, and inlined there by LLVM
    @view                   a leaf that returns an array made on the spot: inlined by numba, before it types anything,
                            for compiled kernels without reference counts cannot return one
    @linked(signature)      compiled once by itself under a symbol of its own; other kernels call it by that symbol,
                            Python by its address

Why a linker.  numba copies everything that a function calls, at any depth, into that function's module before it
optimises it, so a hundred commands that each reach the fault handler would compile it a hundred times.  A call of a
linked kernel compiles to a call of an undefined symbol (5 ns), which the JIT resolves when it loads the object code.
`build()` loads every linked kernel registered so far, and first compiles those whose object code is not kept yet.  It
goes by the order of registration, which import order makes an order of dependency.  A linked kernel called from Python
builds what is missing first.

What is kept.  One object file a kernel, in a directory named by a digest of the module's source and of all sources it
imports, at any depth, but for installed libraries: what an edit cannot reach stays, what it can reach is compiled
again.  (numba's own cache looks at the time stamp of one source file, so an edit of a constant in *another* would go on
being served stale; and it takes 10 ms to load a kernel, nearly all of it for the intermediate code that inlining would
need, where the object code by itself takes half of one.  It serves the leaves here, which are inlined.)

How Python calls.  By ctypes and numba's calling convention, so that a start needs neither numba's compiler nor its
wrappers: a status, the address of the result, the address of what is known about an exception, the arguments' words.

With NUMBA_DISABLE_JIT=1 the decorators leave the function as it is.
"""

import ctypes
import hashlib
import os
import pickle
import re
import sys
import sysconfig
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
from llvmlite import binding as llvm
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from mmcore.plain import Record, State

DISABLED = bool(numba.config.DISABLE_JIT)
PACKAGES = Path(__file__).resolve().parent.parent
_OURS = ("mmcore", "snapshot", "kvstore", "bench", "tests")
_LIBRARIES = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
_OPTIONS = {"nogil": True, "_nrt": False, "error_model": "numpy"}
_IMPORT = re.compile(r"^\s*(?:from\s+([\w.]+)\s+import\s+\(?([\w, \t]*)|import\s+([\w.]+))", re.MULTILINE)


def cache_root() -> Path:
    """The directory below which compiled kernels are kept: $KVSTORE_CACHE_DIR, else the user's cache directory."""
    chosen = os.environ.get("KVSTORE_CACHE_DIR")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kvstore"


def _file(module: str) -> Path | None:
    # Where a module's source is; None for what is installed, which no edit reaches, but for the packages beside this.
    if module.split(".")[0] in _OURS:
        path = PACKAGES.joinpath(*module.split("."))
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        return file if file.is_file() else None
    file = Path(getattr(sys.modules.get(module), "__file__", None) or "")
    installed = any(file.is_relative_to(library) for library in _LIBRARIES)
    return file if file.suffix == ".py" and file.is_file() and not installed else None


@cache
def _source(module: str) -> tuple[bytes, tuple[str, ...]]:
    """A module's source and the modules that it imports; (b"", ()) for one that no edit reaches."""
    file = _file(module)
    if file is None:
        return b"", ()
    text = file.read_text()
    imported = []
    for origin, names, plain in _IMPORT.findall(text):
        imported.append(origin or plain)
        imported += [f"{origin}.{name.split()[0]}" for name in names.split(",") if name.strip()]
    return text.encode(), tuple(imported)


@cache
def source_digest(module: str) -> str:
    """Hexadecimal digest of a module's source and of every source that it imports, at any depth; not of libraries."""
    seen: dict[str, bytes] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen[name], imported = _source(name)
            waiting += imported
    digest = hashlib.blake2b(f"{numba.__version__} {numba.config.BOUNDSCHECK}".encode(), digest_size=12)
    for name in sorted(seen):
        digest.update(name.encode() + b"\0" + seen[name] + b"\0")
    return digest.hexdigest()


def _leaf(function: Callable[..., Any], **options: Any) -> Any:
    # The cache directory is read when the decorator runs, so it can differ from module to module.
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(cache_root() / source_digest(function.__module__))
    try:
        return numba.njit(cache=True, **_OPTIONS, **options)(function)
    finally:
        numba.config.CACHE_DIR = before


def kernel(function: Callable[..., Any]) -> Any:
    """A leaf kernel: compiled for each use, inlined into its callers."""
    return function if DISABLED else _leaf(function)


def view(function: Callable[..., Any]) -> Any:
    """A leaf kernel that returns an array it has made: inlined where it is called."""
    return function if DISABLED else _leaf(function, inline="always")


Progress = Callable[[int, int, str], None]
_REGISTERED: list["Linked"] = []
_BUILT = 0


class Linked(type(intrinsic(lambda typingctx: None))):  # type: ignore[misc]
    """A separately compiled kernel; see the module's note.  Made by `linked`."""

    def __init__(self, function: Callable[..., Any], signature: Any) -> None:
        self.symbol = f"{function.__module__}.{function.__qualname__}"
        self.signature = signature
        self.function = function
        self.address = 0  # of the machine code, once loaded
        self._native: Any = None  # it, as Python calls it
        super().__init__(function.__name__, _caller(self.symbol, signature))
        self._register()
        self.__doc__, self.__module__, self.__name__ = function.__doc__, function.__module__, function.__name__
        _REGISTERED.append(self)

    @property
    def object_file(self) -> Path:
        """Where its object code is kept: a line with the function's name, then the code."""
        return cache_root() / source_digest(self.function.__module__) / f"{self.__name__}.{_processor()}.o"

    def compile(self) -> None:
        """Compile, and keep the object code."""
        dispatcher = numba.njit(**_OPTIONS, no_cpython_wrapper=True, no_cfunc_wrapper=True)(self.function)
        dispatcher.compile(self.signature)
        result = dispatcher.overloads[self.signature.args]
        code = result.library._get_compiled_object()
        file = self.object_file
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(f".{os.getpid()}")
        partial.write_bytes(result.fndesc.llvm_func_name.encode() + b"\n" + code)
        partial.replace(file)

    def build(self) -> None:
        """Load the object code, compiled first if it is not kept, and tell its symbol to the kernels built after it."""
        if self.address:
            return
        if not self.object_file.is_file():
            self.compile()
        name, _, code = self.object_file.read_bytes().partition(b"\n")
        engine = _codegen()._engine._ee
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        engine.finalize_object()
        self.address = engine.get_function_address(name.decode())
        llvm.add_symbol(self.symbol, self.address)

    def __call__(self, *arguments: Any) -> Any:
        kinds = self.signature.args
        if len(arguments) != len(kinds):
            raise TypeError(f"{self.symbol} takes {len(kinds)} arguments, not {len(arguments)}")
        words: list[int] = []
        for kind, value in zip(kinds, arguments, strict=True):
            _put_words(kind, value, words)
        if self._native is None:
            self._native = self._bind(len(words))
        result, failure = ctypes.c_int64(), ctypes.POINTER(_Failure)()
        status = self._native(ctypes.byref(result), ctypes.byref(failure), *words)
        if status not in _RETURNED:
            raise _exception(status, failure)
        if self.signature.return_type is numba.void:
            return None
        return bool(result.value & 1) if self.signature.return_type is numba.boolean else result.value

    def _bind(self, words: int) -> Any:
        if not self.address:
            build()
        kinds = [ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * words]
        return ctypes.CFUNCTYPE(ctypes.c_int32, *kinds)(self.address)

    def __repr__(self) -> str:
        return f"<linked kernel {self.symbol}>"


def _codegen() -> Any:
    return numba.core.registry.cpu_target.target_context.codegen()


@cache
def _processor() -> str:
    # Object code is for one processor.
    return hashlib.blake2b(repr(_codegen().magic_tuple()).encode(), digest_size=6).hexdigest()


_RETURNED = (0, -2)  # numba's codes of success: with a value, and with None


class _Failure(ctypes.Structure):
    # What numba's calling convention says of an exception: (class, arguments, place), pickled.
    _fields_ = (("pickled", ctypes.c_void_p), ("size", ctypes.c_int32))


def _exception(status: int, failure: Any) -> BaseException:
    if status < 0 or not failure:
        return SystemError(f"a kernel returned status {status}")
    kind, arguments, _place = pickle.loads(ctypes.string_at(failure.contents.pickled, failure.contents.size))
    error: BaseException = kind(*(arguments or ()))
    return error


def _put_words(kind: Any, value: Any, words: list[int]) -> None:
    """Append an argument's words, in numba's order."""
    if isinstance(kind, State):
        if not isinstance(value, Record) or value.kind is not kind:
            raise TypeError(f"{type(value).__name__} for a {kind}")
        words.append(value.address)
    elif isinstance(kind, numba.types.Integer):
        word = int(value)
        if word >> (63 if kind.signed else 64) not in (0, -1):
            raise OverflowError(f"{word} for {kind}")
        words.append(word)
    elif isinstance(kind, numba.types.Array):
        if value.dtype != np.dtype(kind.dtype.name) or value.ndim != kind.ndim or not value.flags.c_contiguous:
            raise TypeError(f"{value.dtype}{list(value.shape)} for {kind}")
        words += (0, 0, value.size, value.itemsize, value.ctypes.data, *value.shape, *value.strides)
    elif isinstance(kind, numba.types.BaseNamedTuple):
        for inner, field in zip(kind.types, value, strict=True):
            _put_words(inner, field, words)
    else:
        raise TypeError(f"kernels called from Python take no {kind}")


def _caller(symbol: str, signature: Any) -> Callable[..., Any]:
    """The typing function of an intrinsic that calls `symbol` by numba's calling convention, exceptions included."""

    def codegen(context, builder, _signature, values):  # type: ignore[no-untyped-def]
        kind = context.call_conv.get_function_type(signature.return_type, signature.args)
        callee = cgutils.get_or_insert_function(builder.module, kind, symbol)
        return _call(context, builder, callee, signature, values)

    return _typing(signature, signature.args, codegen)


def indirect(signature: Any) -> Any:
    """An intrinsic `call(address, *arguments)`: calls the linked kernel of that signature at `address` (int64)."""
    if DISABLED:
        raise RuntimeError("calls by address need the compiler")

    def codegen(context, builder, _signature, values):  # type: ignore[no-untyped-def]
        kind = context.call_conv.get_function_type(signature.return_type, signature.args)
        callee = builder.inttoptr(values[0], kind.as_pointer())
        return _call(context, builder, callee, signature, values[1:])

    return intrinsic(_typing(signature, (numba.int64, *signature.args), codegen))


def _call(context: Any, builder: Any, callee: Any, signature: Any, values: Any) -> Any:
    status, result = context.call_conv.call_function(builder, callee, signature.return_type, signature.args, values)
    with cgutils.if_unlikely(builder, status.is_error):
        context.call_conv.return_status_propagate(builder, status)
    return result


def _typing(signature: Any, parameters: tuple[Any, ...], codegen: Callable[..., Any]) -> Callable[..., Any]:
    # numba matches an intrinsic's parameters by position and wants them spelled out: one text per arity.
    names = ", ".join(f"_{i}" for i in range(len(parameters)))
    scope: dict[str, Any] = {"answer": (signature.return_type(*parameters), codegen)}
    exec(f"def typing(context, {names}):\n    return answer", scope)
    return scope["typing"]  # type: ignore[no-any-return]


def linked(signature: Any) -> Callable[[Callable[..., Any]], Any]:
    """Decorator: compile the kernel once, for `signature`, and let other kernels call it by symbol."""
    return lambda function: function if DISABLED else Linked(function, signature)


def build(progress: Progress | None = None, workers: int = 0) -> int:
    """Load every linked kernel not loaded yet, and compile those whose object code is not kept.

    `progress(done, total, symbol)` hears of those compiled, by `workers` processes (0: one a processor).  Returns how
    many were loaded.
    """
    global _BUILT
    wanted = _REGISTERED[_BUILT:]
    missing = [one for one in wanted if not one.object_file.is_file()]
    if len(missing) > 1:
        _compile_ahead(missing, workers or os.cpu_count() or 1, progress)
    for one in wanted:
        one.build()
        _BUILT += 1
    if missing and progress:
        progress(len(missing), len(missing), "")
    return len(wanted)


def _compile_ahead(wanted: list["Linked"], workers: int, progress: Progress | None) -> None:
    """Fill the cache by processes forked here.

    Each takes the next number from one pipe and writes it to another when that kernel is done.  The symbols of other
    kernels stand for nothing in such a process: it compiles, and never calls.
    """
    take, give = os.pipe()
    hear, tell = os.pipe()
    children = []
    for _ in range(workers):
        child = os.fork()
        if child == 0:
            os.close(give)
            status = 1
            try:
                for one in _REGISTERED:
                    if not one.address:
                        llvm.add_symbol(one.symbol, id(one))
                while number := os.read(take, 2):
                    wanted[int.from_bytes(number, "little")].compile()
                    os.write(tell, number)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    os.close(take)
    os.close(tell)
    for index in range(len(wanted)):
        os.write(give, index.to_bytes(2, "little"))
    os.close(give)
    done = 0
    while number := os.read(hear, 2):
        if progress:
            progress(done, len(wanted), wanted[int.from_bytes(number, "little")].symbol)
        done += 1
    os.close(hear)
    for child in children:
        os.waitpid(child, 0)  # whatever one failed to compile is compiled, and fails, below


# Bytes: what numba has no fast word for.  Indices are int64; words are little-endian and need no alignment.

if DISABLED:

    def _within(array: np.ndarray, start: int, count: int) -> slice:
        assert start >= 0 and count >= 0 and start + count <= array.size
        return slice(start, start + count)

    def copy_bytes(target: np.ndarray, start: int, source: np.ndarray, offset: int, count: int) -> None:
        """Move `count` bytes from `source[offset:]` to `target[start:]`; the two may overlap."""
        target[_within(target, start, count)] = source[_within(source, offset, count)].copy()

    def fill_bytes(target: np.ndarray, start: int, value: int, count: int) -> None:
        """Set `count` bytes of `target[start:]` to `value`."""
        target[_within(target, start, count)] = value

    def equal_bytes(first: np.ndarray, start: int, second: np.ndarray, offset: int, count: int) -> bool:
        """Whether `count` bytes of `first[start:]` and of `second[offset:]` are the same."""
        return bool((first[_within(first, start, count)] == second[_within(second, offset, count)]).all())

    def bytes32(array: np.ndarray, start: int) -> Any:
        """The unsigned 32-bit word at `array[start:]`, as int64."""
        return np.int64(int.from_bytes(array[_within(array, start, 4)].tobytes(), "little"))

    def bytes64(array: np.ndarray, start: int) -> Any:
        """The 64-bit word at `array[start:]`, as int64."""
        return np.int64(int.from_bytes(array[_within(array, start, 8)].tobytes(), "little", signed=True))

    def prefetch(array: np.ndarray, start: int) -> None:
        """Ask for the cache line of `array[start]`, which may lie outside: a hint."""

    def put32(array: np.ndarray, start: int, value: int) -> None:
        """Store the low 32 bits of `value` at `array[start:]`."""
        array[_within(array, start, 4)] = list((int(value) & 0xFFFF_FFFF).to_bytes(4, "little"))

    def put64(array: np.ndarray, start: int, value: int) -> None:
        """Store the 64 bits of `value` at `array[start:]`."""
        array[_within(array, start, 8)] = list((int(value) & 0xFFFF_FFFF_FFFF_FFFF).to_bytes(8, "little"))

else:
    _CHECKED = bool(numba.config.BOUNDSCHECK)

    def _pointer(context: Any, builder: Any, kind: Any, array: Any, start: Any) -> Any:
        return builder.gep(context.make_array(kind)(context, builder, array).data, [start])

    @intrinsic
    def _memmove(typingctx, target, start, source, offset, count):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
            to = _pointer(context, builder, signature.args[0], values[0], values[1])
            of = _pointer(context, builder, signature.args[2], values[2], values[3])
            cgutils.raw_memmove(builder, to, of, values[4], 1)
            return context.get_dummy_value()

        return numba.void(target, numba.int64, source, numba.int64, numba.int64), codegen

    @intrinsic
    def _memset(typingctx, target, start, value, count):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
            to = _pointer(context, builder, signature.args[0], values[0], values[1])
            cgutils.memset(builder, to, values[3], builder.trunc(values[2], ir.IntType(8)))
            return context.get_dummy_value()

        return numba.void(target, numba.int64, numba.int64, numba.int64), codegen

    @intrinsic
    def _memcmp(typingctx, first, start, second, offset, count):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
            one = _pointer(context, builder, signature.args[0], values[0], values[1])
            other = _pointer(context, builder, signature.args[2], values[2], values[3])
            kind = ir.FunctionType(ir.IntType(32), [one.type, other.type, values[4].type])
            function = cgutils.get_or_insert_function(builder.module, kind, "memcmp")
            return builder.call(function, [one, other, values[4]])

        return numba.int32(first, numba.int64, second, numba.int64, numba.int64), codegen

    @intrinsic
    def prefetch(typingctx, array, start):  # type: ignore[no-untyped-def]
        """Ask for the cache line of `array[start]`, which may lie outside: a hint."""

        def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
            pointer, word = _pointer(context, builder, signature.args[0], *values), ir.IntType(32)
            pointer = builder.bitcast(pointer, cgutils.voidptr_t)
            kind = ir.FunctionType(ir.VoidType(), [pointer.type, word, word, word])
            function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
            builder.call(function, [pointer, word(0), word(3), word(1)])  # to read, in all levels, data
            return context.get_dummy_value()

        return numba.void(array, numba.int64), codegen

    def _word(bits: int) -> tuple[Any, Any]:
        # Loads and stores of one unaligned word, as one instruction each.
        kind = ir.IntType(bits)

        @intrinsic
        def load(typingctx, array, start):  # type: ignore[no-untyped-def]
            def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
                pointer = _pointer(context, builder, signature.args[0], *values)
                word = builder.load(builder.bitcast(pointer, kind.as_pointer()), align=1)
                return word if bits == 64 else builder.zext(word, ir.IntType(64))

            return numba.int64(array, numba.int64), codegen

        @intrinsic
        def store(typingctx, array, start, value):  # type: ignore[no-untyped-def]
            def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
                pointer = _pointer(context, builder, signature.args[0], *values[:2])
                word = values[2] if bits == 64 else builder.trunc(values[2], kind)
                builder.store(word, builder.bitcast(pointer, kind.as_pointer()), align=1)
                return context.get_dummy_value()

            return numba.void(array, numba.int64, numba.int64), codegen

        return load, store

    _load32, _store32 = _word(32)
    _load64, _store64 = _word(64)

    @kernel
    def copy_bytes(target, start, source, offset, count):  # type: ignore[no-untyped-def]
        """Move `count` bytes from `source[offset:]` to `target[start:]`; the two may overlap."""
        assert start >= 0 and start + count <= target.size and offset >= 0 and offset + count <= source.size
        _memmove(target, start, source, offset, count)

    @kernel
    def fill_bytes(target, start, value, count):  # type: ignore[no-untyped-def]
        """Set `count` bytes of `target[start:]` to `value`."""
        assert start >= 0 and start + count <= target.size
        _memset(target, start, value, count)

    @kernel
    def equal_bytes(first, start, second, offset, count):  # type: ignore[no-untyped-def]
        """Whether `count` bytes of `first[start:]` and of `second[offset:]` are the same."""
        assert start >= 0 and start + count <= first.size and offset >= 0 and offset + count <= second.size
        return _memcmp(first, start, second, offset, count) == 0

    @kernel
    def bytes32(array, start):  # type: ignore[no-untyped-def]
        """The unsigned 32-bit word at `array[start:]`, as int64."""
        if _CHECKED:
            assert start >= 0 and start + 4 <= array.size
        return _load32(array, start)

    @kernel
    def bytes64(array, start):  # type: ignore[no-untyped-def]
        """The 64-bit word at `array[start:]`, as int64."""
        if _CHECKED:
            assert start >= 0 and start + 8 <= array.size
        return _load64(array, start)

    @kernel
    def put32(array, start, value):  # type: ignore[no-untyped-def]
        """Store the low 32 bits of `value` at `array[start:]`."""
        if _CHECKED:
            assert start >= 0 and start + 4 <= array.size
        _store32(array, start, value)

    @kernel
    def put64(array, start, value):  # type: ignore[no-untyped-def]
        """Store the 64 bits of `value` at `array[start:]`."""
        if _CHECKED:
            assert start >= 0 and start + 8 <= array.size
        _store64(array, start, value)
