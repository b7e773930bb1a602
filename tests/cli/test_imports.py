"""A running server has imported and mapped the library of kernels, and neither its compiler nor NumPy."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from bench.rig.ports import Port
from mmcore.jit import DISABLED

pytestmark = pytest.mark.skipif(DISABLED, reason="without the compiler kernels are Python, and reckon with NumPy")
BUILDING = {"numba", "llvmlite", "numpy"}
SHOWING = {"click", "rich", "matplotlib", "hdrh", "PIL"}
COMMANDS = (
    "INFO everything", "CLIENT LIST", "LATENCY HISTOGRAM", "MEMORY STATS", "SLOWLOG GET", "SAVE", "CONFIG GET *max*",
    "MEMORY DOCTOR", "DEBUG OBJECT key", "SCAN 0",
)  # fmt: skip
PROGRAM = """
import atexit, sys
atexit.register(lambda: print("MODULES", *sorted(sys.modules)))
from kvstore.__main__ import main
main()
"""


def test_a_server_that_has_served_has_neither_compiler_nor_numpy(tmp_path: Path) -> None:
    port = Port()
    command = [sys.executable, "-c", PROGRAM, "serve", "--port", str(port.number), "--dir", str(tmp_path)]
    command += ["--enable-debug-command", "local"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if "Ready to accept connections" in line:
                    break
            with redis.Redis(port=port.number) as client:
                client.set("key", "value")
                for words in (
                    "INFO everything",
                    "CLIENT LIST",
                    "LATENCY HISTOGRAM",
                    "MEMORY STATS",
                    "SLOWLOG GET",
                    "SAVE",
                ):
                    assert client.execute_command(*words.split()) is not None
                for words in ("CONFIG GET *max*", "MEMORY DOCTOR", "DEBUG OBJECT key", "SCAN 0"):
                    assert client.execute_command(*words.split())
                maps = Path(f"/proc/{process.pid}/maps").read_text()
            process.send_signal(signal.SIGTERM)
            said = process.stdout.read()
        finally:
            process.kill()
            port.release()
    modules = re.search(r"^MODULES (.*)$", said, re.MULTILINE)
    assert modules, said
    tops = {name.partition(".")[0] for name in modules[1].split()}
    assert "kvstore" in tops and not tops & (BUILDING | SHOWING)
    assert not [name for name in BUILDING if f"/{name}" in maps]
    assert re.search(r"/(libraries/[0-9a-f]{32}|kernels\.x86-64-v[23])\.so$", maps, re.MULTILINE)
