"""What can go wrong with machine code.

CannotCompile       it has to be compiled, and what compiles it is missing or failed
Undigestible        a kernel names a value that no digest tells from another
Unsupported         this machine cannot run it
"""


class CannotCompile(RuntimeError):
    """Kernels have to be compiled, and what compiles them is not installed, or ended."""


class Undigestible(TypeError):
    """A kernel names a value that its machine code may depend on, and no digest tells two such values apart."""


class Unsupported(OSError):
    """This machine cannot run the kernels."""
