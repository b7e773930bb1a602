"""The operating system's fork under a fuzzer: a process holds the store, and each input is played in a forked child.

This runs as a separate process, `python -m bench.rig.osfuzz KEYS VALUE_SIZE INPUTS normal|huge`.  It loads the store
and prints the processor time of each execution as JSON, that of the parent and of its child together [us].  The child
plays the input in the store itself, by the same kernels as in fuzz.py, and exits.

`normal` means 4 KiB pages where the system gives huge ones on request only (transparent_hugepage is `madvise`); `huge`
means that they are requested.
"""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence

from bench.rig.attacked import attacked, source
from bench.rig.servers import environment
from kvstore.fuzz.target import Target


def spent() -> float:
    """The processor time of this process and of its children that were waited for [us]."""
    parts = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return 1e6 * sum(part.ru_utime + part.ru_stime for part in parts)


def execute(target: Target, data: bytes) -> float:
    """The time of one execution [us]."""
    before = spent()
    pid = os.fork()
    if pid == 0:
        target.play_here(data)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert status == 0, f"a child ended with status {status}"
    return spent() - before


def measure(keys: int, value_size: int, inputs: int, pages: str) -> list[float]:
    """The times of as many executions in a new process [us]."""
    command = [sys.executable, "-m", "bench.rig.osfuzz", str(keys), str(value_size), str(inputs), pages]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    times: list[float] = json.loads(done.stdout)
    return times


def main(arguments: Sequence[str]) -> None:
    """`python -m bench.rig.osfuzz KEYS VALUE_SIZE INPUTS normal|huge`."""
    keys, value_size, count = map(int, arguments[:3])
    inputs = source(keys)
    with attacked(keys, value_size, huge_pages=arguments[3] == "huge") as target:
        print(json.dumps([execute(target, inputs.draw()) for _ in range(count)]))


if __name__ == "__main__":
    main(sys.argv[1:])
