"""The server with an additional family of commands: see family.py."""

from kvstore.__main__ import main
from kvstore.commands import families
from mmcore.jit import Leaf
from tests.strict import refuse

if __name__ == "__main__":
    Leaf.__call__ = refuse  # type: ignore[method-assign]
    families.FAMILIES += ("tests.server.family",)  # type: ignore[assignment]
    main()
