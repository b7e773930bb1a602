"""All that machine code is made of, as one digest a kernel: code is compiled again when its digest is new, only then.

The digest of a kernel covers

    its own bytecode            which is what numba compiles: comments, docstrings and line numbers are not in it
    the leaves it inlines       by their digests
    the constants it names      by their values; those of another module too, named as `module.NAME`
    the linked kernels it calls by their symbols and signatures: a caller does not contain them
    its signature               with the names, order and types of every record's fields
    intrinsics, C functions     by their sources, by their symbols and types
    the tool chain              the sources in this folder that shape object code, the versions of Python, numba,
                                llvmlite and numpy, and the settings that change code

A value that is none of these has no digest, and a kernel that names one is refused: stale code is never served.
"""

import inspect
import opcode
import sys
import types
from collections.abc import Callable, Iterator
from enum import EnumType
from functools import lru_cache
from pathlib import Path
from typing import Any

from mmcore.jit.arrays import Constant
from mmcore.jit.checksums import digest_of
from mmcore.jit.errors import Undigestible
from mmcore.jit.types import External, Signature, Type

FOLDER = Path(__file__).resolve().parent


@lru_cache(maxsize=1)
def tool_chain() -> str:
    """Digest of the sources in this folder that shape object code; the others join, keep and call it."""
    data = "arrays", "bytes", "records", "types"
    code = "compiler", "digests", "inlining", "leaves", "pipeline", "settings"
    return digest_of(*(FOLDER.joinpath(f"{name}.py").read_bytes() for name in (*data, *code)))


class Digests:
    """Digests of kernels, each computed once."""

    def __init__(self, settings: str) -> None:
        self.base = digest_of(tool_chain(), settings)  # of what every kernel's code depends on
        self._known: dict[Any, str] = {}

    def linked(self, symbol: str, function: Callable[..., Any], signature: Any) -> str:
        """Digest of the machine code of a linked kernel."""
        return digest_of(self.base, symbol, self.function(function), repr(signature))

    def function(self, function: Callable[..., Any]) -> str:
        """Digest of a function's source and of all that it names, at any depth."""
        if function not in self._known:
            self._known[function] = ""  # one that calls itself names nothing new by that
            self._known[function] = digest_of(*self._parts(function))
        return self._known[function]

    def _parts(self, function: Callable[..., Any]) -> Iterator[str | bytes]:
        yield from _bytecode(function.__code__, function.__doc__)
        for default in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            yield self._value(default, function, ("a default",))
        for name, value in _named(function):
            yield ".".join(name)
            yield self._value(value, function, name)

    def _value(self, value: Any, function: Callable[..., Any], name: tuple[str, ...]) -> str:
        own = getattr(value, "digest_parts", None)  # leaves, linked kernels, intrinsics say for themselves
        if own is not None:
            return digest_of(*own(self))
        text = describe_value(value)
        if text is not None:
            return text
        value = inspect.unwrap(value)  # of what caches its results
        if isinstance(value, types.FunctionType):
            if value.__module__.split(".")[0] in ("numba", "llvmlite", "numpy"):
                return f"library {value.__module__}.{value.__qualname__}"
            return self.function(value)
        place = f"{function.__module__}.{function.__qualname__}"
        raise Undigestible(f"{place} names {'.'.join(name)}, a {type(value).__name__}, which has no digest")


def describe_value(value: Any) -> str | None:
    """A constant as text; None for what is no constant."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return f"{type(value).__name__} {value!r}"
    numpy = sys.modules.get("numpy")  # without which nobody has a value of its
    if numpy and isinstance(value, numpy.generic | numpy.dtype):
        return f"{type(value).__name__} {value!r}"
    if isinstance(value, Constant):
        return f"constant {value.kind} {value.values}"
    if numpy and isinstance(value, numpy.ndarray):
        return f"array {value.dtype} {value.shape} {digest_of(value.tobytes())}"
    if isinstance(value, tuple):
        inner = [describe_value(one) for one in value]
        return None if None in inner else f"({', '.join(map(str, inner))})"
    if isinstance(value, types.ModuleType):
        return f"module {value.__name__}"
    if isinstance(value, EnumType):
        return f"enum {value.__name__} {list(value)!r}"
    if isinstance(value, type | types.BuiltinFunctionType) or (numpy and isinstance(value, numpy.ufunc)):
        return f"name {getattr(value, '__module__', '')}.{value.__name__}"
    if isinstance(value, Type | Signature | External) or type(value).__module__.startswith("numba."):
        return f"type {value!r}"
    return None


# -------------------------------------------------------------------------------------------------------- bytecode

_GLOBAL, _EXTENDED = opcode.opmap["LOAD_GLOBAL"], opcode.opmap["EXTENDED_ARG"]
# How far the argument of an instruction is shifted to be an index of co_names: flags lie below it.
_ATTRIBUTES = {opcode.opmap["LOAD_ATTR"]: int(sys.version_info >= (3, 12))}
if "LOAD_METHOD" in opcode.opmap:  # Python 3.11
    _ATTRIBUTES[opcode.opmap["LOAD_METHOD"]] = 0


def _bytecode(code: types.CodeType, docstring: str | None) -> Iterator[str | bytes]:
    """All of a function's bytecode that its machine code is made of."""
    yield code.co_code
    yield code.co_exceptiontable
    names = *code.co_names, "|", *code.co_varnames, "|", *code.co_cellvars, "|", *code.co_freevars
    yield f"{code.co_argcount} {code.co_kwonlyargcount} {code.co_flags} {' '.join(names)}"
    for number, value in enumerate(code.co_consts):
        if isinstance(value, types.CodeType):
            yield from _bytecode(value, None)
        elif isinstance(value, frozenset):  # of which there is no order
            yield f"set {sorted(map(repr, value))}"
        elif number or docstring is None or value != docstring:
            yield repr(value)


def _global_names(code: types.CodeType) -> set[tuple[str, ...]]:
    """Every global name that is read, with the attributes read of it: ("K",), ("module", "K")."""
    found: set[tuple[str, ...]] = set()
    name: tuple[str, ...] = ()
    extended = 0
    for operation, argument in zip(code.co_code[::2], code.co_code[1::2], strict=True):
        if operation == _EXTENDED:
            extended = (extended | argument) << 8
            continue
        if operation == _GLOBAL:
            name = (code.co_names[(extended | argument) >> 1],)
        elif operation in _ATTRIBUTES and name:
            name = (*name, code.co_names[(extended | argument) >> _ATTRIBUTES[operation]])
        elif operation:  # 0 is the room for a cache behind an instruction
            name = ()
        if name:
            found.add(name)
        extended = 0
    for value in code.co_consts:
        if isinstance(value, types.CodeType):
            found |= _global_names(value)
    return found


def _named(function: Callable[..., Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The free names of a function and what they stand for: attributes are followed through modules only."""
    cells = function.__closure__ or ()
    for free, cell in zip(function.__code__.co_freevars, cells, strict=True):
        if isinstance(cell.cell_contents, types.ModuleType):
            raise Undigestible(f"{function.__qualname__} names {free}, a module, which has to be a global name")
        yield (free,), cell.cell_contents
    for name in sorted(_global_names(function.__code__)):
        if name[0] in function.__globals__:  # else it is a builtin
            yield name, _follow(function.__globals__[name[0]], name[1:])


def _follow(value: Any, attributes: tuple[str, ...]) -> Any:
    for attribute in attributes:
        if not isinstance(value, types.ModuleType):
            break
        if value.__name__.split(".")[0] in ("numba", "llvmlite", "numpy"):
            return f"{value.__name__}.{attribute}"
        value = getattr(value, attribute)
    return value
