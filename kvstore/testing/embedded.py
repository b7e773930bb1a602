"""A server as a child of this process, for as long as a `with` block lasts.

    with embedded(maxmemory="1gb") as server:
        client = server.client()            # a redis.Redis
        run_my_program(server.url)

It listens on a Unix socket in a directory of its own, so it needs no free port, and nobody else finds it.  It saves
nothing, and its directory is deleted at the end.

It also ends when this process is killed.  Its standard input is a pipe whose other end this process holds and nobody
writes to.  The kernel sends SIGTERM to the server when that end is closed.  Signals of the terminal do not reach the
server, so that a test that Ctrl-C interrupts can still tidy up.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kvstore.testing.server import Server
from kvstore.wire.reply import CommandError
from kvstore.wire.respclient import ProtocolError

START_TIMEOUT_S = 600.0  # a checkout's first start compiles
STOP_TIMEOUT_S = 10.0
POLL_S = 0.005
SOCKET_PATH_MAX = 100  # [bytes]; the system's limit is 107
_HOME = Path(__file__).resolve().parent.parent.parent  # of the package that this process has imported

Option = str | int | float | bool


class StartFailed(Exception):
    """The server did not come up; the message has its log."""


class Embedded(Server):
    """A server that `embedded` has started."""

    def __init__(self, process: "subprocess.Popen[bytes]", **known: Any) -> None:
        super().__init__(**known, pid=process.pid)
        self._process = process

    def kill(self) -> None:
        """Send SIGKILL, and wait until the process has ended."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End it: by SHUTDOWN NOSAVE, or by SIGKILL if it does not follow."""
        if self._process.poll() is None and self._follows():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_TIMEOUT_S)
        self.kill()

    def _follows(self) -> bool:
        try:
            with self.connect(timeout_s=STOP_TIMEOUT_S) as connection:
                connection.command("SHUTDOWN", "NOSAVE")
        except ConnectionRefusedError:
            return False
        except ConnectionError:  # it ends without an answer
            return True
        except (OSError, CommandError, ProtocolError):
            pass
        return False

    def wait_ready(self, timeout_s: float) -> None:
        """Wait until it serves.  Raises StartFailed."""
        deadline = time.monotonic() + timeout_s
        while not self._serves():
            if self._process.poll() is not None:
                raise StartFailed(f"the server ended with status {self._process.returncode}:\n{self.log()}")
            if time.monotonic() > deadline:
                raise StartFailed(f"the server is not ready after {timeout_s:g} s:\n{self.log()}")
            time.sleep(POLL_S)

    def _serves(self) -> bool:
        try:
            with self.connect() as connection:
                connection.command("PING")
        except OSError:  # it does not listen yet
            return False
        except CommandError as error:
            return not str(error).startswith("LOADING")
        return True


@contextlib.contextmanager
def embedded(
    options: Mapping[str, Option] | None = None, /, *, timeout_s: float = START_TIMEOUT_S, **more: Option
) -> Iterator[Embedded]:
    """Run a server for as long as the block lasts; yields it as soon as it serves.

    The options are the parameters of redis.conf.  `options` has them by their names; in keywords an underscore stands
    for a dash, as in `maxmemory_clients="10%"`.  True and False are yes and no.  The server has no TCP port, unless
    `port` is a number, or "auto" for a free one.  With `dir` it keeps its files there.

    Raises StartFailed when the server has not come up within timeout_s [s].
    """
    given = {name.replace("_", "-"): value for name, value in more.items()} | dict(options or {})
    with contextlib.ExitStack() as stack:
        directory = short_directory()
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        if given.get("port") == "auto":
            given["port"] = stack.enter_context(_free_port())
        parameters = {"port": 0, "save": "", "dir": directory, "unixsocket": f"{directory}/socket", **given}
        server = Embedded(
            _start(parameters, directory, stack),
            unix_socket=str(parameters["unixsocket"]),
            port=int(parameters["port"]),
            password=str(parameters.get("requirepass", "")),
            log_file=f"{directory}/log",
        )
        stack.callback(server.stop)
        server.wait_ready(timeout_s)
        yield server


def short_directory() -> str:
    """A new directory for files and sockets; the path of a socket must be short."""
    parent = tempfile.gettempdir()
    prefix = "kvstore-"
    if len(os.fsencode(f"{parent}/{prefix}12345678/socket")) > SOCKET_PATH_MAX:
        parent = "/tmp"
    return tempfile.mkdtemp(prefix=prefix, dir=parent)


@contextlib.contextmanager
def _free_port() -> Iterator[int]:
    # A port that is bound but not listened on: nobody gets it by chance, and the server may share it.
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def _start(parameters: Mapping[str, Option], directory: str, stack: contextlib.ExitStack) -> "subprocess.Popen[bytes]":
    words = [sys.executable, "-m", "kvstore", "serve"]
    for name, value in parameters.items():
        words += [f"--{name}", ("no", "yes")[value] if isinstance(value, bool) else str(value)]
    end, lifeline = os.pipe()
    stack.callback(os.close, lifeline)
    try:
        with open(f"{directory}/log", "wb") as log:
            process = subprocess.Popen(
                words, stdin=end, stdout=log, stderr=log, cwd=directory, env=_environment(), process_group=0
            )
        fcntl.fcntl(end, fcntl.F_SETOWN, process.pid)
        fcntl.fcntl(end, fcntl.F_SETSIG, signal.SIGTERM)
        fcntl.fcntl(end, fcntl.F_SETFL, fcntl.fcntl(end, fcntl.F_GETFL) | os.O_ASYNC)
    finally:
        os.close(end)
    return process


def _environment() -> dict[str, str]:
    # The child must find the package that this process has imported, even if it was found by the current directory.
    if str(_HOME) in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        return dict(os.environ)
    paths = [str(_HOME), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
