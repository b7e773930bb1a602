"""The server with two bugs: TIME raises an exception, and LASTSAVE returns an object that is not a reply."""

from kvstore.__main__ import main
from kvstore.commands.observation import information
from kvstore.commands.persistence import images
from mmcore.jit import Leaf
from tests.strict import refuse


def _raise(*_arguments: object) -> None:
    raise ZeroDivisionError("a bug")


if __name__ == "__main__":
    Leaf.__call__ = refuse  # type: ignore[method-assign]
    information.time = _raise  # type: ignore[assignment]
    images.lastsave = lambda *_: object()  # type: ignore[assignment, return-value]
    main()
