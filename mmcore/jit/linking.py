"""Linked kernels: compiled once under a symbol of their own, called by it from other kernels, by address from Python.

Why a linker.  numba copies everything that a function calls, at any depth, into that function's module before it
optimises it, so a hundred commands that each reach the fault handler would compile it a hundred times.  A call of a
linked kernel compiles to a call of an undefined symbol (5 ns), which the JIT resolves when it loads the object code.
`build()` loads every linked kernel registered so far, and first compiles those whose object code is not kept yet.  It
goes by the order of registration, which import order makes an order of dependency.  A linked kernel called from Python
builds what is missing first.

What is kept.  One object file a kernel, named by the kernel's digest (digests.py): what an edit cannot reach stays,
what it can reach is compiled again.  (numba's own cache looks at the time stamp of one source file, so an edit of a
constant in *another* would go on being served stale; and it takes 10 ms to load a kernel, nearly all of it for the
intermediate code that inlining would need, where the object code by itself takes half of one.)  A file holds a
line with the function's name, and the code.

How Python calls.  By ctypes and numba's calling convention, so that a start needs neither numba's compiler nor its
wrappers: a status, the address of the result, the address of what is known about an exception, the arguments' words.

With NUMBA_DISABLE_JIT=1 the decorators leave the function as it is.
"""

import ctypes
import json
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numba
import numpy as np
from llvmlite import binding as llvm
from numba.core import cgutils
from numba.extending import intrinsic

from mmcore.jit.digests import Digests, describe_type
from mmcore.jit.kept import OPTIONS, cache_root, digests, keep, read_kept
from mmcore.jit.leaves import DISABLED
from mmcore.plain import Record, State

PACKAGES = Path(__file__).resolve().parent.parent.parent


def _codegen() -> Any:
    return numba.core.registry.cpu_target.target_context.codegen()


Progress = Callable[[int, int, str], None]
_REGISTERED: list["Linked"] = []
_BUILT = 0
_PR_SET_PDEATHSIG = 1


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
    def package(self) -> str:
        """The package that it belongs to."""
        return str(self.function.__module__).partition(".")[0]

    @cached_property
    def digest(self) -> str:
        """Of all that its machine code is made of."""
        return digests().linked(self.symbol, self.function, self.signature)

    @property
    def object_file(self) -> Path:
        """Where its object code is kept."""
        return cache_root() / "objects" / self.digest[:2] / f"{self.digest}.o"

    def digest_parts(self, _digests: Digests) -> Iterator[str]:
        """What the machine code of a kernel that calls it is made of."""
        yield f"linked {self.symbol} {describe_type(self.signature)}"

    def compile(self) -> bytes:
        """Compile, and keep the object code; returns what the file holds."""
        dispatcher = numba.njit(**OPTIONS, no_cpython_wrapper=True, no_cfunc_wrapper=True)(self.function)
        dispatcher.compile(self.signature)
        result = dispatcher.overloads[self.signature.args]
        content: bytes = result.fndesc.llvm_func_name.encode() + b"\n" + bytes(result.library._get_compiled_object())
        keep(self.object_file, content)
        return content

    def kept(self) -> bytes | None:
        """What its object file holds; None without one that is whole."""
        return read_kept(self.object_file)

    def build(self) -> None:
        """Load the object code, compiled first if it is not kept, and tell its symbol to the kernels built after it."""
        if self.address:
            return
        content = self.kept()
        name, _, code = (self.compile() if content is None else content).partition(b"\n")
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

    call = intrinsic(_typing(signature, (numba.int64, *signature.args), codegen))
    call.digest_parts = lambda _digests: (f"indirect {describe_type(signature)}",)
    return call


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
    _recall_digests(wanted)
    missing = [one for one in wanted if one.kept() is None]
    if len(missing) > 1:
        _compile_ahead(missing, workers or os.cpu_count() or 1, progress)
    elif missing and progress:
        progress(0, 1, missing[0].symbol)
    for one in wanted:
        one.build()
        _BUILT += 1
    if missing and progress:
        progress(len(missing), len(missing), "")
    return len(wanted)


def _recall_digests(wanted: list["Linked"]) -> None:
    """Take the digests of kernels from the file that keeps them, for as long as none of their sources has changed.

    Only for kernels of packages that lie beside this one: their sources name nothing that lies elsewhere.
    """
    folders = {name: _folder(name) for name in {one.package for one in wanted}}
    ours = [one for one in wanted if folders[one.package]]
    if not ours:
        return
    sources = digests().sources(folder for folder in folders.values() if folder)
    file = cache_root() / "digests" / sources
    known = json.loads(read_kept(file) or "{}")
    missing = [one for one in ours if one.symbol not in known]
    for one in ours:
        if one.symbol in known:
            one.digest = known[one.symbol]
    if missing:
        keep(file, json.dumps(known | {one.symbol: one.digest for one in missing}).encode())


def _folder(package: str) -> Path | None:
    # Where a package's sources are, if they lie beside this one.
    file = Path(getattr(sys.modules.get(package), "__file__", None) or "")
    return file.parent if file.name == "__init__.py" and file.parent.parent == PACKAGES else None


def _die_with(parent: int) -> None:
    # Where the system offers that: nobody wants the kernels of a program that has ended.
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(1)  # it has ended in the meantime


def _compile_ahead(wanted: list["Linked"], workers: int, progress: Progress | None) -> None:
    """Fill the cache by processes forked here.

    Each takes the next number from one pipe and writes it to another when that kernel is done.  The symbols of other
    kernels stand for nothing in such a process: it compiles, and never calls.  It ends with the one that forked it.
    """
    take, give = os.pipe()
    hear, tell = os.pipe()
    children, parent = [], os.getpid()
    for _ in range(workers):
        child = os.fork()
        if child == 0:
            os.close(give)
            status = 1
            try:
                _die_with(parent)
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
