"""Leaves as numba sees them: a leaf is compiled for the types of a call's arguments, and linked into the caller.

A process compiles each leaf once for the same types.  The LLVM code is kept (kept.py), so the other workers of a build,
and the next compilation after an edit, link it without typing the leaf again.  The digest that names the file covers
the leaf, what it names itself, and the types of its arguments.
"""

import contextlib
import pickle
from functools import cache
from typing import Any

from numba.core import types
from numba.core.datamodel import models, register_default
from numba.core.errors import TypingError
from numba.core.typing.templates import fold_arguments
from numba.core.utils import pysignature

from mmcore.jit import kept
from mmcore.jit.checksums import digest_of
from mmcore.jit.pipeline import compiled, target


class _LeafType(types.Callable, types.Opaque):  # type: ignore[misc]
    """numba's type for a leaf."""

    def __init__(self, leaf: Any) -> None:
        self.leaf, self.parameters = leaf, pysignature(leaf.py_func)
        self.signatures: dict[Any, Any] = {}  # by types of arguments
        self.at_work: set[Any] = set()  # the types of arguments that it is being compiled for
        super().__init__(repr(leaf))

    @property
    def key(self) -> Any:
        return self.leaf

    def get_call_type(self, _context: Any, args: Any, kws: Any) -> Any:
        kinds = tuple(fold_arguments(self.parameters, args, kws, _given, _omitted, _rest))
        if kinds in self.at_work:
            raise TypingError(f"{self.leaf!r} calls itself, so it cannot be inlined")
        if kinds not in self.signatures:
            self.at_work.add(kinds)
            try:
                self.signatures[kinds] = self._made_for(kinds)
            finally:
                self.at_work.remove(kinds)
        return self.signatures[kinds]

    def _made_for(self, kinds: tuple[Any, ...]) -> Any:
        parts = kept.digests().base, *self.leaf.digest_parts(kept.digests()), *map(str, kinds)
        digest = digest_of(*parts)
        found = _read(digest)
        if found is None:
            made = compiled(self.leaf.py_func, kinds, None, digest, **self.leaf.targetoptions)
            found = made.fndesc, made.library
            _keep(digest, *found)
        function, library = found
        function.argtypes = kinds
        target().insert_user_function((self.leaf, kinds), function, [library])
        return function.restype(*kinds).replace(pysig=self.parameters)

    def get_call_signatures(self) -> Any:
        return list(self.signatures.values()), True

    def get_impl_key(self, signature: Any) -> Any:
        return self.leaf, signature.args


def _given(_index: int, _parameter: Any, kind: Any) -> Any:
    # One leaf for all constants: LLVM sees their values where it inlines.
    return types.unliteral(kind)  # type: ignore[attr-defined]


def _omitted(_index: int, _parameter: Any, default: Any) -> Any:
    return types.Omitted(default)  # type: ignore[attr-defined]


def _rest(_index: int, _parameter: Any, kinds: Any) -> Any:
    return types.StarArgTuple(kinds)  # type: ignore[attr-defined]


register_default(_LeafType)(models.OpaqueModel)


@cache
def leaf_type(leaf: Any) -> Any:
    """numba's type for a leaf that a kernel names."""
    return _LeafType(leaf)


def _read(digest: str) -> tuple[Any, Any] | None:
    content = kept.read_kept(kept.leaf_file(digest))
    if content is None:
        return None
    size = int.from_bytes(content[:8], "little")
    try:
        function = pickle.loads(content[8 : 8 + size])
    except (AttributeError, ImportError):  # its result is of a class of the program that kept it
        return None
    return function, target().codegen().unserialize_library((digest, "bitcode", content[8 + size :]))


def _keep(digest: str, function: Any, library: Any) -> None:
    function.typemap = function.calltypes = None  # only its compilation needed them
    # A reader knows the types of the arguments.  A class among them may be another one there: a module that runs as the
    # program is `__main__` in one process and has its own name in others.
    function.argtypes = None
    # A type of a local class, for one, cannot be kept, nor can anything in a directory that cannot be written.
    with contextlib.suppress(pickle.PicklingError, AttributeError, TypeError, OSError):
        described = pickle.dumps(function)
        code = library.serialize_using_bitcode()[2]
        kept.keep(kept.leaf_file(digest), len(described).to_bytes(8, "little") + described + code, durable=False)
