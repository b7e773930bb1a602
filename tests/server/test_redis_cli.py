"""redis-cli, unchanged, in each of its modes; skipped if it is not installed, unless KVSTORE_REQUIRE_REDIS=1."""

import fcntl
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import termios
import time
from collections.abc import Callable

import pytest

from tests.harness import need_redis
from tests.server.wire import Wire, encode

REDIS_CLI = shutil.which("redis-cli")
Cli = Callable[..., str]


@pytest.fixture
def cli(server) -> Cli:
    """Runs redis-cli with these arguments to its end; returns what it printed."""
    need_redis(REDIS_CLI, "redis-cli")

    def run(*arguments: str, stdin: bytes = b"", status: int = 0) -> str:
        done = subprocess.run(
            [str(REDIS_CLI), "-p", str(server.port), *arguments],
            input=stdin,
            capture_output=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == status, done.stderr
        return done.stdout.decode() + done.stderr.decode()

    return run


@pytest.fixture
def filled(server) -> None:
    """A thousand keys, one of them big."""
    with Wire(server.address) as wire:
        wire.pipeline([("SET", f"user:{i:03}", "x" * i) for i in range(1000)])
        wire("SET", "the biggest", "x" * 100_000)


def for_a_while(server, *arguments: str, until: str) -> str:
    """Run a mode of redis-cli that does not end by itself until it has printed `until`."""
    return on_a_terminal(server, arguments, b"", until.encode()).decode()


def on_a_terminal(server, arguments: tuple[str, ...], typed: bytes, until: bytes) -> bytes:
    """Run redis-cli on a terminal, type something, and read until it has printed `until`."""
    child, terminal = pty.fork()
    if child == 0:
        os.environ["TERM"] = "xterm"
        os.execv(str(REDIS_CLI), [str(REDIS_CLI), "-p", str(server.port), *arguments])
    output, deadline = b"", time.monotonic() + 180
    try:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
        while until not in output:
            if typed and b"> " in output:  # input before the prompt is lost
                os.write(terminal, typed)
                typed = b""
            assert time.monotonic() < deadline, output
            if select.select([terminal], [], [], 1)[0]:
                output += os.read(terminal, 65536)
    finally:
        os.close(terminal)
        os.kill(child, 9)
        os.waitpid(child, 0)
    return output


def test_single_commands_print_as_with_redis(cli: Cli) -> None:
    """Each type of reply, in both protocols."""
    assert cli("SET", "k", "v") == "OK\n"
    assert cli("GET", "k") == "v\n"
    assert cli("--no-raw", "GET", "missing") == "(nil)\n"
    assert cli("--no-raw", "INCR", "n") == "(integer) 1\n"
    assert cli("--no-raw", "MGET", "k", "missing") == '1) "v"\n2) (nil)\n'
    assert cli("--no-raw", "INCR", "k") == "(error) ERR value is not an integer or out of range\n"
    assert cli("-e", "INCR", "k", status=1) == "ERR value is not an integer or out of range\n"
    assert cli("-3", "--no-raw", "CONFIG", "GET", "appendonly") == '1# "appendonly" => "no"\n'
    assert cli("-3", "--no-raw", "GET", "missing") == "(nil)\n"
    assert "role:master" in cli("-3", "INFO", "replication")
    assert cli("-n", "3", "SET", "k", "three") == "OK\n"
    assert cli("-n", "3", "GET", "k") == "three\n"
    assert cli("-x", "SET", "from stdin", stdin=b"a\x00b") == "OK\n"
    assert cli("STRLEN", "from stdin") == "3\n"
    assert cli("-r", "3", "INCR", "r") == "1\n2\n3\n"


def test_commands_from_standard_input(cli: Cli) -> None:
    """One a line, with quotes; errors do not end it."""
    output = cli(stdin=b'SET "a b" \'c d\'\nGET "a b"\nMULTI\nINCR n\nEXEC\nNOPE\nPING\n')
    assert output.split("\n")[:4] == ["OK", "c d", "OK", "QUEUED"]
    assert "ERR unknown command 'NOPE'" in output
    assert output.rstrip().endswith("PONG")


def test_scan_mode(cli: Cli, filled: None) -> None:
    """--scan, with and without a pattern."""
    assert len(cli("--scan").split("\n")) == 1002
    assert sorted(cli("--scan", "--pattern", "user:00?").split()) == [f"user:00{i}" for i in range(10)]
    assert cli("--scan", "--pattern", "nobody:*") == ""


def test_bigkeys_mode(cli: Cli, filled: None) -> None:
    """--bigkeys uses SCAN, TYPE and STRLEN."""
    output = cli("--bigkeys")
    assert "Sampled 1001 keys in the keyspace!" in output
    assert re.search(r"Biggest string found .*the biggest.* has 100000 bytes", output)
    assert "1001 strings with 599500 bytes" in output


def test_memkeys_mode(cli: Cli, filled: None) -> None:
    """--memkeys uses MEMORY USAGE."""
    output = cli("--memkeys")
    assert "Sampled 1001 keys in the keyspace!" in output
    assert re.search(r"Biggest string found .*the biggest.* has 1\d{5} bytes", output)
    assert "1001 strings with " in output


def test_monitor_mode(cli: Cli, server) -> None:
    """MONITOR prints lines until it is stopped."""
    with subprocess.Popen([str(REDIS_CLI), "-p", str(server.port), "MONITOR"], stdout=subprocess.PIPE) as monitor:
        assert monitor.stdout
        assert monitor.stdout.readline() == b"OK\n"
        with Wire(server.address) as wire:
            wire("SET", "key", 'a "b"\n')
        line = monitor.stdout.readline()
        monitor.kill()
    assert re.fullmatch(rb'\d+\.\d{6} \[0 127\.0\.0\.1:\d+\] "SET" "key" "a \\"b\\"\\n"\n', line), line


def test_stat_mode(cli: Cli, server, filled: None) -> None:
    """--stat polls INFO."""
    output = for_a_while(server, "--stat", "-i", "0.1", until="1001 ")
    assert "keys       mem      clients" in output


def test_latency_mode(cli: Cli, server) -> None:
    """--latency pings; to no terminal it ends by itself."""
    output = cli("--latency", "-i", "1", "--raw")
    fields = output.split()
    assert int(fields[3]) > 10
    assert float(fields[0]) <= float(fields[2]) <= float(fields[1])


def test_latency_history_mode(cli: Cli, server) -> None:
    """--latency-history."""
    for_a_while(server, "--latency-history", "-i", "1", until="avg")


def test_pipe_mode(cli: Cli, server) -> None:
    """--pipe sends a stream of commands and waits for an ECHO of its own."""
    output = cli("--pipe", stdin=b"".join(encode("SET", f"k{i}", b"x" * (i % 300)) for i in range(20_000)))
    assert "errors: 0, replies: 20000" in output
    with Wire(server.address) as wire:
        assert wire("DBSIZE") == 20_000
    output = cli("--pipe", stdin=b"SET a 1\r\nINCR a\r\nINCR\r\nGET a\r\n", status=1)
    assert "errors: 1, replies: 4" in output


def test_hints_come_from_command_docs(cli: Cli, server) -> None:
    """On a terminal redis-cli asks for COMMAND DOCS and shows a command's syntax as it is typed."""
    on_a_terminal(server, (), b"EXPIREAT ", b"unix-time-seconds")


def test_help_of_a_command(cli: Cli) -> None:
    """`help set`, from COMMAND DOCS or from redis-cli's own table."""
    output = cli("help", "getex")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", output)
    assert "GETEX key [EX seconds" in plain
    assert "group: string" in plain


def test_modes_for_what_this_server_does_not_have_end_with_an_error(cli: Cli, server) -> None:
    """The server goes on serving."""
    for mode in ("--hotkeys", "--intrinsic-latency 1"):
        command = [str(REDIS_CLI), "-p", str(server.port), *mode.split()]
        subprocess.run(command, capture_output=True, timeout=300, check=False)
    assert cli("PING") == "PONG\n"
