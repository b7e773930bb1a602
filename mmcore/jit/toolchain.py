"""numba and LLVM by name, imported when something of them is first asked for.

The generators of intrinsics name these libraries and run only when a kernel is compiled, so a module that defines an
intrinsic imports them from here, and costs nothing where nothing is compiled.
"""

from importlib import import_module
from typing import Any


class Library:
    """A module that is imported at its first use."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(import_module(self._name), attribute)

    def digest_parts(self, _known: Any) -> tuple[str]:
        """Of what it holds only its version counts, which every digest has."""
        return (f"library {self._name}",)


ir = Library("llvmlite.ir")
cgutils = Library("numba.core.cgutils")
types = Library("numba.core.types")
arrays = Library("numba.np.arrayobj")
