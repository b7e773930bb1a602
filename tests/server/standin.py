import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.server.wire import Wire

TARGET = os.environ.get("KVSTORE_TEST_TARGET", "kvstore")


class Process:
    def __init__(self, kind, directory, options=(), config=None, password=None, save=""):
        self.is_redis = kind == "redis"
        self.directory = Path(directory)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.host, self.address = "127.0.0.1", ("127.0.0.1", self.port)
        self.unix_socket = f"/tmp/kvstore-test-{self.port}.sock"
        self.password = password
        base = [str(config)] if config and self.is_redis else ["--config", str(config)] if config else []
        if not config:
            base += ["--dir", str(directory)]
            base += ["--save", save] if save is not None else []
        command = ["/usr/bin/redis-server"] if self.is_redis else [sys.executable, "-m", "kvstore", "serve"]
        if self.is_redis:
            options = (*options, "--enable-debug-command", "yes")
        self.log_path = Path(f"/tmp/kvstore-test-{self.port}.log")
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [*command, *base, "--port", str(self.port), "--unixsocket", self.unix_socket, *options],
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def log(self):
        return self.log_path.read_text(errors="replace")

    def wait_ready(self, timeout_s=900):
        deadline = time.monotonic() + timeout_s
        while True:
            assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.log()}"
            assert time.monotonic() < deadline, self.log()
            try:
                with Wire(self.address, timeout_s=60) as connection:
                    if self.password:
                        connection("AUTH", self.password)
                    if getattr(connection("PING"), "text", "") == "PONG":
                        return self
            except (OSError, Exception):
                time.sleep(0.02)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def __enter__(self):
        return self.wait_ready()

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.kill()
        with contextlib.suppress(OSError):
            os.unlink(self.unix_socket)
        with contextlib.suppress(OSError):
            self.log_path.unlink()


def start(directory, **more):
    return Process(TARGET, directory, **more)


def start_redis(directory, **more):
    return Process("redis", directory, **more)
