"""The front door of `kvstore` and `python -m kvstore`: `serve` goes straight to the server, the rest through click."""

import sys
from importlib import import_module


def main() -> None:
    """Run the command that the process was started with."""
    if sys.argv[1:2] == ["serve"]:
        serving = import_module("kvstore.cli.serving")
        if not serving.wants_help(sys.argv[2:]):
            sys.exit(serving.serve(sys.argv[2:]))
    import_module("kvstore.cli.commandline").main()


if __name__ == "__main__":
    main()
