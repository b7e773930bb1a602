"""The server, in which it is fatal that Python calls a leaf kernel.

Python calls linked kernels, whose machine code is there when the server is ready.  A leaf has none of its own until it
is called: for the first one numba loads its compiler, and every client waits a third of a second for that.  No other
test would notice, so the servers of all tests are started like this.
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
