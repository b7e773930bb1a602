"""What machine code is made of, as one digest a kernel: code is compiled again when its digest is new, and only then.

The digest of a kernel covers

    its own source              as a syntax tree, so comments, docstrings and line numbers do not count
    the leaves it inlines       by their digests
    the constants it names      by their values; those of another module too, named as `module.NAME`
    the linked kernels it calls by their symbols and signatures: a caller does not contain them
    its signature               with the names, order and types of every record's fields
    intrinsics, C functions     by their sources, by their symbols and types
    the tool chain              the sources in this folder that shape object code, the versions of Python, numba,
                                llvmlite and numpy, and the settings that change code

A value that is none of these has no digest, and a kernel that names one is refused: stale code is never served.
"""

import ast
import inspect
import sys
import textwrap
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
    files = [
        FOLDER / f"{name}.py"
        for name in ("arrays", "bytes", "compiler", "digests", "leaves", "records", "settings", "types")
    ]
    return digest_of(*(file.read_bytes() for file in files))


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

    def _parts(self, function: Callable[..., Any]) -> Iterator[str]:
        tree = _tree(function)
        yield ast.dump(tree)
        scope = _Scope(function)
        for name in _names(tree):
            found, value = scope.resolve(name)
            if found:
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


# --------------------------------------------------------------------------------------------------- names in sources


@lru_cache(maxsize=256)
def _functions(file: str) -> dict[int, ast.FunctionDef]:
    """The functions of a source file, by the line that the first of their decorators is on, or they themselves."""
    try:
        tree = ast.parse(Path(file).read_bytes())
    except (OSError, SyntaxError):
        return {}
    found = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return {min([node.lineno, *(one.lineno for one in node.decorator_list)]): node for node in found}


@lru_cache(maxsize=4096)
def _tree(function: Callable[..., Any]) -> ast.AST:
    """The syntax tree of a function without decorators, docstrings and positions."""
    code = function.__code__
    tree: Any = _functions(code.co_filename).get(code.co_firstlineno)
    if tree is None:  # a lambda, or what a document or an interpreter defines
        tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    if isinstance(tree, ast.Assign | ast.Expr | ast.Return):  # a lambda: the line that makes it
        return tree
    tree.decorator_list = []
    tree.returns = None
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return tree  # type: ignore[no-any-return]


def _names(tree: ast.AST) -> list[tuple[str, ...]]:
    """Every name that is read, with the attributes read of it: ("K",), ("module", "K")."""
    found = set()
    for node in ast.walk(tree):
        attributes: list[str] = []
        here: ast.AST = node
        while isinstance(here, ast.Attribute):
            attributes.insert(0, here.attr)
            here = here.value
        if isinstance(here, ast.Name) and isinstance(here.ctx, ast.Load):
            found.add((here.id, *attributes))
    return sorted(found)


class _Scope:
    """What the free names of a function stand for."""

    def __init__(self, function: Callable[..., Any]) -> None:
        code = function.__code__
        cells = function.__closure__ or ()
        self._closure = dict(zip(code.co_freevars, cells, strict=True))
        self._locals = {*code.co_varnames, *code.co_cellvars}
        self._globals = function.__globals__

    def resolve(self, name: tuple[str, ...]) -> tuple[bool, Any]:
        """(whether it is free, its value): attributes are followed through modules only."""
        first, *attributes = name
        if first in self._closure:
            value = self._closure[first].cell_contents
        elif first in self._locals:
            return False, None
        elif first in self._globals:
            value = self._globals[first]
        else:
            return False, None  # a builtin, or a local of a nested function
        for attribute in attributes:
            if not isinstance(value, types.ModuleType):
                return True, value
            if value.__name__.split(".")[0] in ("numba", "llvmlite", "numpy"):
                return True, f"{value.__name__}.{attribute}"
            value = getattr(value, attribute)
        return True, value
