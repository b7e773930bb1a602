"""A server that ends when Python calls a leaf kernel.

Python must call linked kernels only, whose machine code exists when the server is ready.  A leaf has no machine code of
its own until it is called.  For the first call numba loads its compiler, and every client waits a third of a second.
No test would notice that otherwise, so all tests start their servers like this.
"""

import os
import sys
import traceback
from typing import Any

from kvstore.__main__ import main
from mmcore.jit import Leaf


def refuse(self: Any, *_arguments: Any, **_keywords: Any) -> None:
    """Stand in for the compilation of a leaf."""
    traceback.print_stack()
    leaf = f"{self.py_func.__module__}.{self.py_func.__qualname__}"
    print(f"Python has called the leaf {leaf}", file=sys.stderr, flush=True)
    os.abort()


if __name__ == "__main__":
    Leaf.__call__ = refuse  # type: ignore[method-assign]
    main()
