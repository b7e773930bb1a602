"""Errors that prevent a start: one sentence on stderr, status 1, and no traceback."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.rig.ports import Port
from tests.harness import ROOT, Process
from tests.server.wire import OK, Status, Wire, wait_until

Case = tuple[list[str], str]


def _file(directory: Path, name: str, text: str = "") -> str:
    path = directory / name
    path.write_text(text)
    return str(path)


def _listening_at(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    return listener


NO_LOG = "Can't open the log file:"
NO_FILE, A_DIRECTORY, NO_DIRECTORY = "No such file or directory", "Is a directory", "Not a directory"

# For each error a function that makes the options and the sentence, given a directory of the test's own.
CASES: dict[str, Callable[[Path], Case]] = {
    "a machine of one page": lambda at: (["--machine-memory", "4096"], "machine-memory"),
    "a machine beyond all machines": lambda at: (["--machine-memory", str(2**63 - 1)], "machine-memory"),
    "save points beyond int64": lambda at: (["--save", f"{10**20} 1"], "Invalid save parameters"),
    "seconds that overflow in milliseconds": lambda at: (["--save", f"{2**63 - 1} 1"], "Invalid save parameters"),
    "changes beyond int64": lambda at: (["--save", f"1 {2**63}"], "Invalid save parameters"),
    "save points of 5000 digits": lambda at: (["--save", "1" * 5000 + " 1"], "Invalid save parameters"),
    "a number of 5000 digits": lambda at: (["--timeout", "1" * 5000], "couldn't be parsed into an integer"),
    "maxmemory beyond int64": lambda at: (["--maxmemory", str(2**64)], "must be a memory value"),
    "a log file in a missing directory": lambda at: (
        ["--logfile", f"{at}/no/log"],
        f"Can't open the log file: {NO_FILE}",
    ),
    "a log file that is a directory": lambda at: (["--logfile", str(at)], f"Can't open the log file: {A_DIRECTORY}"),
    "a log file with a zero byte": lambda at: (["--config", _file(at, "c", r'logfile "a\x00b"')], "zero bytes"),
    "a directory with a zero byte": lambda at: (["--config", _file(at, "c", r'dir "a\x00b"')], "zero bytes"),
    "a directory that is a file": lambda at: (["--dir", _file(at, "file")], f"{at}/file"),
    "a missing configuration file": lambda at: (["--config", f"{at}/no.conf"], NO_FILE),
    "a configuration file that is a directory": lambda at: (["--config", str(at)], A_DIRECTORY),
    "an included file with a zero byte": lambda at: (["--config", _file(at, "c", r'include "a\x00*"')], "zero byte"),
    "an included file that is a directory": lambda at: (["--config", _file(at, "c", f"include {at}")], A_DIRECTORY),
    "an address of another machine": lambda at: (["--bind", "203.0.113.7"], "Cannot assign requested address"),
    "an address that is none": lambda at: (["--bind", "no.such.invalid"], "no.such.invalid"),
    "an address that cannot be one": lambda at: (["--bind", "a" * 70], "a" * 70),
    "an address with an empty label": lambda at: (["--bind", ".."], "Could not create server TCP listening socket .."),
    "nowhere to listen": lambda at: (["--port", "0"], "Configured to not listen anywhere, exiting."),
    "a Unix socket in a missing directory": lambda at: (
        ["--unixsocket", f"{at}/no/socket"],
        f"Failed opening Unix socket: {at}/no/socket: {NO_FILE}",
    ),
    "a Unix socket below a file": lambda at: (["--unixsocket", f"{_file(at, 'file')}/socket"], NO_DIRECTORY),
    "a Unix socket whose name is too long": lambda at: (
        ["--unixsocket", "/tmp/" + "s" * 103],
        "unix socket path too long (108), must be under 108",
    ),
    "a Unix socket that is a file": lambda at: (["--unixsocket", _file(at, "file")], "Address already in use"),
}


def serve(directory: Path, *options: str, descriptors: int = 0) -> subprocess.CompletedProcess[str]:
    """Start a server that is not expected to start."""
    logs = [(directory / name).open("w+") for name in ("out.log", "err.log")]
    limited = ["sh", "-c", f'ulimit -n {descriptors} && exec "$@"', "sh"] if descriptors else []
    words = [*limited, sys.executable, "-m", "kvstore", "serve", "--save", "", *options]
    with logs[0] as out, logs[1] as error, subprocess.Popen(words, cwd=ROOT, stdout=out, stderr=error) as process:

        def ended() -> bool:
            assert "Ready to accept" not in (directory / "out.log").read_text(), "it has started"
            return process.poll() is not None

        try:
            wait_until(ended, "the server to end", timeout_s=900)  # the first start compiles
        finally:
            process.kill()
    texts = [(directory / name).read_text() for name in ("out.log", "err.log")]
    return subprocess.CompletedProcess(words, process.returncode, *texts)


def assert_refused(done: subprocess.CompletedProcess[str], says: str) -> None:
    assert done.returncode == 1, done
    assert "Traceback" not in done.stdout + done.stderr, done
    sentences = [line for line in done.stderr.splitlines() if not line.startswith("Compil")]
    assert len(sentences) == 1, sentences
    assert says in sentences[0]


@pytest.fixture
def short_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory whose path is short enough for a Unix socket in it."""
    return tmp_path_factory.mktemp("s")


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port that no other process gets meanwhile."""
    port = Port()
    yield port.number
    port.release()


@pytest.mark.parametrize("case", CASES)
def test_what_keeps_a_server_from_starting_is_said_in_a_sentence(
    short_directory: Path, free_port: int, case: str
) -> None:
    options, says = CASES[case](short_directory)
    directory = [] if "--dir" in options else ["--dir", str(short_directory)]
    port = [] if "--port" in options else ["--port", str(free_port)]
    before = {path: path.read_bytes() for path in short_directory.iterdir() if path.is_file()}
    assert_refused(serve(short_directory, *directory, *port, *options), says)
    assert {path: path.read_bytes() for path in before} == before


def test_a_busy_port_is_said_in_a_sentence_even_of_an_optional_address(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = str(busy.getsockname()[1])
        for address in ("127.0.0.1", "-127.0.0.1"):
            done = serve(tmp_path, "--dir", str(tmp_path), "--bind", address, "--port", port)
            assert_refused(done, f"socket 127.0.0.1:{port}: Address already in use")


def test_a_unix_socket_that_is_answered_is_not_taken(short_directory: Path) -> None:
    path = short_directory / "socket"
    with _listening_at(path):
        before = path.lstat().st_ino
        done = serve(short_directory, "--dir", str(short_directory), "--port", "0", "--unixsocket", str(path))
        assert_refused(done, "Address already in use, by a server that answers")
        assert path.lstat().st_ino == before


def test_too_few_descriptors_are_said_in_redis_words(tmp_path: Path, free_port: int) -> None:
    done = serve(tmp_path, "--dir", str(tmp_path), "--port", str(free_port), descriptors=32)
    assert_refused(
        done,
        "Your current 'ulimit -n' of 32 is not enough for the server to start. "
        "Please increase your open file limit to at least 10032. Exiting.",
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
def test_files_that_are_not_for_us_are_said_in_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch(0)
    assert_refused(serve(tmp_path, "--config", str(file)), "Permission denied")
    assert_refused(serve(tmp_path, "--logfile", str(file)), "Can't open the log file: Permission denied")


@pytest.mark.parametrize("maxmemory", ["1000000000000000001", str(2**63 - 1)])
def test_any_maxmemory_starts(tmp_path: Path, maxmemory: str) -> None:
    """maxmemory is the limit for writes, not the size of the memory."""
    with (
        Process("kvstore", tmp_path, options=("--maxmemory", maxmemory)) as server,
        Wire(server.address) as wire,
    ):
        assert wire("CONFIG", "GET", "maxmemory") == [b"maxmemory", maxmemory.encode()]
        assert wire("SET", "k", "v") == OK


def test_a_server_whose_output_nobody_reads_ends_well(tmp_path: Path, free_port: int) -> None:
    """The status is 0, as with a reader; here stdout is a pipe that never has a reader."""
    reader, writer = os.pipe()
    os.close(reader)
    words = ["serve", "--dir", str(tmp_path), "--port", str(free_port), "--save", ""]
    with subprocess.Popen(
        [sys.executable, "-m", "kvstore", *words], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE
    ) as process:
        os.close(writer)

        def ready() -> bool:
            try:
                with Wire(("127.0.0.1", free_port)) as wire:
                    return bool(wire("PING") == Status("PONG"))
            except OSError:
                assert process.poll() is None
                return False

        wait_until(ready, "the server", timeout_s=900)
        process.terminate()
        assert process.wait(120) == 0
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
