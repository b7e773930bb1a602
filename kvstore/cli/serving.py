"""`kvstore serve`: from the words of its command line to the exit status.

The words are redis-server's: `--name value` for every parameter of redis.conf.  So the configuration knows all of them,
and the command line has nothing to declare.  click, which the other commands use, would take an eighth of a start; only
`serve --help` uses it.

A start loads the kernels' library, begins to read the newest image, and imports the server while that goes on.  The
garbage collector is off meanwhile, because an import makes thousands of objects that stay.
"""

import gc
import logging
import sys
from importlib import import_module
from pathlib import Path

from kvstore.cli.building import bring_kernels
from kvstore.config.config import Config
from kvstore.config.file import ConfigError
from kvstore.net.listeners import CannotListen
from kvstore.server.logfile import open_log
from kvstore.system.descriptors import TooFewDescriptors, clients_at_start
from kvstore.system.signals import Signals

USAGE = "Usage: kvstore serve [--config FILE] [--NAME VALUE]...\nTry 'kvstore serve --help' for help.\n\nError: "


class Misused(Exception):
    """Words that are not parameters."""


def wants_help(words: list[str]) -> bool:
    """Whether --help is in the place of a parameter's name."""
    try:
        return any(name in ("h", "help") for name, _ in _parameters(words))
    except Misused:
        return False


def serve(words: list[str]) -> int:
    """Serve until SHUTDOWN or a signal; returns the exit status."""
    gc.disable()
    try:
        options = _parameters(words)
        files = [Path(value) for name, value in options if name == "config"]
        config = Config.load(files[-1] if files else None, [one for one in options if one[0] != "config"])
        open_log(config["logfile"], config["loglevel"])
    except Misused as error:
        return _say(f"{USAGE}{error}", 2)
    except ConfigError as error:
        return _say(f"Error: {error}", 1)
    except OSError as error:
        return _say(f"Error: Can't open the log file: {error.strerror}", 1)
    return _run(config)


def _run(config: Config) -> int:
    log = logging.getLogger("kvstore")
    for notice in config.notices:
        log.warning("%s", notice)
    signals = Signals()
    from kvstore.durable.startup import open_images  # see there

    try:
        config.values["maxclients"] = clients_at_start(config["maxclients"])
        bring_kernels()  # before any thread reads, because compiling forks processes
        opened = open_images(config)
        server = import_module("kvstore.server.server")
        bring_kernels()  # and the kernels of modules imported since
        made = server.Server(config, opened)
        gc.freeze()
        gc.enable()
        status = int(made.run(signals))
    except Exception as error:
        if isinstance(error, _expected()):
            log.error("Cannot start: %s", _reason(error))
            return _say(f"kvstore: cannot start: {_reason(error)}", 1)
        raise
    signals.ignore()
    return status


def _parameters(words: list[str]) -> list[tuple[str, str]]:
    """The parameters among the words: --name value, or --name=value.  Raises Misused."""
    options, i = [], 0
    while i < len(words):
        word = words[i]
        if word in ("-h", "--help"):
            return [(word.lstrip("-"), "")]
        if not word.startswith("--") or word == "--":
            raise Misused(f"unexpected argument {word!r}; parameters are written --name value")
        name, equals, value = word[2:].partition("=")
        if not equals:
            i += 1
            if i == len(words):
                raise Misused(f"--{name} needs a value")
            value = words[i]
        options.append((name, value))
        i += 1
    return options


def _expected() -> tuple[type[Exception], ...]:
    """Errors that prevent a start and are not bugs."""
    machine, snapshots = import_module("mmcore.errors"), import_module("snapshot.errors")
    cannot_compile = import_module("mmcore.jit").CannotCompile
    ours = (cannot_compile, machine.MachineError, snapshots.SnapshotError, CannotListen, TooFewDescriptors)
    return OSError, MemoryError, *ours


def _reason(error: Exception) -> str:
    """The reason, in one line."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(text.split()) or "out of memory"


def _say(text: str, status: int) -> int:
    print(text, file=sys.stderr)
    return status
