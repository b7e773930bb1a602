"""The errors of machine code.

CannotCompile       kernels must be compiled, but the compiler is missing or failed
Undigestible        a kernel names a value for which there is no unique digest
Unsupported         this machine cannot run the kernels
"""


class CannotCompile(RuntimeError):
    """Kernels must be compiled, but the compiler is not installed, or its process ended."""


class Undigestible(TypeError):
    """The machine code of a kernel may depend on a value for which there is no unique digest."""


class Unsupported(OSError):
    """This machine cannot run the kernels."""
