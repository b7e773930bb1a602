"""Servers as processes, for tests: this project's, a real redis-server or a real valkey-server, with the same options.

    with start(directory, save="3600 1") as server:         # ready to serve when this is entered, killed at the end
        Wire(server.address)

KVSTORE_TEST_TARGET=redis runs all tests of tests/server against the real redis-server.  Tests of features that only one
of the two has are skipped for the other.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bench.rig.ports import Port
from bench.rig.servers import valkey_binary
from tests.server.wire import Closed, Status, Wire

TARGET = os.environ.get("KVSTORE_TEST_TARGET", "kvstore")
ROOT = Path(__file__).resolve().parent.parent
REDIS_SERVER = shutil.which("redis-server")
READY_S = 900  # the first start compiles


class Process:
    """A server that was started; usable, as a context manager, once it serves."""

    def __init__(
        self,
        kind: str,
        directory: Path,
        options: tuple[str, ...] = (),
        config: Path | None = None,
        password: str | None = None,
        save: str = "",
        program: str = "tests.strict",
        descriptors: int = 0,
        addresses_kib: int = 0,
        environment: Mapping[str, str] | None = None,
        debug: str = "yes",
    ) -> None:
        """`program`: the module that runs this project's server; `debug`: enable-debug-command, "" for its default.

        `descriptors`, `addresses_kib`: its limits of open files and of its address space; 0 for ours.
        """
        self.is_redis = kind != "kvstore"  # Redis or its descendant
        self.directory = Path(directory)
        self.password = password
        self._port = Port()
        self.host, self.port = "127.0.0.1", self._port.number
        self.address = (self.host, self.port)
        self._temporary = tempfile.TemporaryDirectory(prefix="kvstore-test-", ignore_cleanup_errors=True)
        self.unix_socket = f"{self._temporary.name}/socket"  # a socket's name must be short, a test's directory is not
        self._log = Path(self._temporary.name) / "log"
        if self.is_redis:
            binary = valkey_binary() if kind == "valkey" else REDIS_SERVER
            assert binary, f"{kind}-server is not installed"
            command = [binary, *([str(config)] if config else [])]
        else:
            command = [sys.executable, "-m", program, "serve", *(["--config", str(config)] if config else [])]
        if debug:
            command += ["--enable-debug-command", debug]
        if not config:
            command += ["--dir", str(directory), "--save", save]
        limits = [f"ulimit -{what} {limit} &&" for what, limit in (("n", descriptors), ("v", addresses_kib)) if limit]
        limited = ["sh", "-c", f'{" ".join(limits)} exec "$@"', "sh"] if limits else []
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*limited, *command, "--port", str(self.port), "--unixsocket", self.unix_socket, *options],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._temporary.name if self.is_redis else ROOT,
                env=os.environ | dict(environment or {}),
            )

    def log(self) -> str:
        """All output of the server."""
        return self._log.read_text(errors="replace")

    def wait_for(self, reply: object) -> None:
        """Wait until it answers PING with this reply."""
        deadline = time.monotonic() + READY_S
        while not self._answers(reply):
            status = self.process.poll()
            assert status is None, f"it ended with {status}:\n{self.log()}"
            assert time.monotonic() < deadline, f"not ready after {READY_S} s:\n{self.log()}"
            time.sleep(0.01)

    def wait_ready(self) -> None:
        """Wait until it serves."""
        self.wait_for(Status("PONG"))

    def _answers(self, reply: object) -> bool:
        try:
            with Wire(self.address, timeout_s=READY_S) as connection:
                if self.password:
                    connection("AUTH", self.password)
                return bool(connection("PING") == reply)
        except (OSError, Closed):
            return False

    def ended(self, timeout_s: float = 120) -> int:
        """Wait until it ends by itself; returns its exit status."""
        return self.process.wait(timeout_s)

    def terminate(self) -> int:
        """Send SIGTERM; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def kill(self) -> None:
        """Send SIGKILL."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """End the process and delete its files."""
        if self.process.poll() is None:
            self.kill()
        self._temporary.cleanup()
        self._port.release()

    def __enter__(self) -> "Process":
        try:
            self.wait_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def start(directory: Path, **more: Any) -> Process:
    """Start the server under test; the arguments are Process's."""
    return Process(TARGET, directory, **more)


def start_redis(directory: Path, **more: Any) -> Process:
    """Start a real redis-server.  Without one the test is skipped; with KVSTORE_REQUIRE_REDIS=1 that is a failure."""
    need_redis(REDIS_SERVER, "redis-server")
    return Process("redis", directory, **more)


def start_valkey(directory: Path, **more: Any) -> Process:
    """Start a real valkey-server, which pip installs; it claims to be Redis 7.2.4, but is newer."""
    return Process("valkey", directory, **more)


def need_redis(path: str | None, name: str) -> str:
    """The path of one of Redis's programs; skips or fails, with a message, if it is missing."""
    if path is None:
        if os.environ.get("KVSTORE_REQUIRE_REDIS") == "1":
            pytest.fail(f"{name} is not installed, and KVSTORE_REQUIRE_REDIS=1")
        pytest.skip(f"{name} is not installed")
    return path
