"""numba and LLVM as lazy modules, which are imported at the first access to an attribute.

The generators of intrinsics use these libraries, but run only when a kernel is compiled.  A module that defines an
intrinsic imports them from here, and so costs nothing if nothing is compiled.
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
        """Only its version matters, and every digest includes that already."""
        return (f"library {self._name}",)


ir = Library("llvmlite.ir")
cgutils = Library("numba.core.cgutils")
types = Library("numba.core.types")
arrays = Library("numba.np.arrayobj")
