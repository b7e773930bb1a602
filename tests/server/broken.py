"""The server, with two bugs: TIME raises, LASTSAVE answers what is no reply."""

from numba.core.dispatcher import Dispatcher

import kvstore.commands.server as commands
from kvstore.cli import main
from tests.strict import refuse


def _raise(*_arguments: object) -> None:
    raise ZeroDivisionError("a bug")


if __name__ == "__main__":
    Dispatcher._compile_for_args = refuse
    commands.time = _raise  # type: ignore[assignment]
    commands.lastsave = lambda *_: object()  # type: ignore[assignment, return-value]
    main()
