"""A campaign: mutated inputs against a loaded store, until the time is over; what fails is kept.

    target = Target(keys=1000)
    campaign = Campaign(target, Inputs(random.Random(1), 1000), Path("found"))
    campaign.run(seconds=60)
    campaign.found          files, each of which `replay` plays again

The process that owns the store plays nothing.  It forks a child for each batch, which plays each input in a fork of the
store, and after every EXAMINE-th input proves the fork and the store sound (`Target.examine`).  An input has failed if

    a kernel raises     an assertion, or an index outside its array where kernels check bounds
    a proof fails       an invariant of the machine, the heap or the keyspace does not hold
    the child dies      by a signal
    the child hangs     the same input is at hand for HANG_S seconds

The child counts the inputs in shared memory, so the parent knows which one failed.  It plays that input alone, in a new
child, and keeps it if it fails again; otherwise it keeps all inputs of the batch up to it.  A kept file is JSON:

    keys, seed     the store: Target(keys, seed=seed)
    inputs         one string each; a character is a byte
    error          why the last one failed
    again          whether it failed again when it was kept
"""

import faulthandler
import json
import mmap
import os
import resource
import select
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from kvstore.fuzz.inputs import Inputs
from kvstore.fuzz.target import Target
from mmcore.jit import int64, over

BATCH, EXAMINE, HANG_S = 2000, 500, 60.0
ALIKE_MAX = 5  # files kept of one error
_MESSAGE_MAX = 4000
Say = Callable[[str], None]


@dataclass
class Failure:
    """The inputs up to one that failed, and why it did."""

    inputs: list[bytes]
    error: str


def attempt(target: Target, inputs: Sequence[bytes], examine: int = EXAMINE, hang_s: float = HANG_S) -> Failure | None:
    """Play inputs in a child, and examine every `examine`-th and the last one; None if none of them failed."""
    with mmap.mmap(-1, mmap.PAGESIZE) as shared:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            _play_all(target, inputs, examine, shared, writer)
        os.close(writer)
        with over(shared, int64) as done:
            error, hung = _listen(reader, pid, done, hang_s)
            _, status = os.waitpid(pid, 0)
            count = int(done[0])
    if hung:
        error = f"hangs for more than {hang_s:g} s"
    elif os.WIFSIGNALED(status):
        error = f"dies by {signal.Signals(os.WTERMSIG(status)).name}"
    return Failure(list(inputs[: max(count, 1)]), error) if error or status else None


def _play_all(target: Target, inputs: Sequence[bytes], examine: int, shared: mmap.mmap, writer: int) -> None:
    # The child: it never returns.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.disable()  # the parent tells how it died
    target.note_progress(shared)
    code = 0
    try:
        for start in range(0, len(inputs), examine):
            *most, last = inputs[start : start + examine]
            target.run(most)
            target.examine(last)
    except BaseException as error:
        message = f"{type(error).__name__}: {error}"
        os.write(writer, message.encode(errors="replace")[:_MESSAGE_MAX])
        code = 1
    os._exit(code)


def _listen(reader: int, pid: int, done: memoryview, hang_s: float) -> tuple[str, bool]:
    # The child's output, and whether it had to be killed.
    said, seen, hung = b"", -1, False
    while True:
        ready, _, _ = select.select([reader], [], [], hang_s)
        if ready:
            more = os.read(reader, _MESSAGE_MAX)
            if not more:
                break
            said += more
        elif int(done[0]) == seen:
            os.kill(pid, signal.SIGKILL)
            hung = True
            break
        seen = int(done[0])
    os.close(reader)
    return said.decode(errors="replace"), hung


@dataclass
class Campaign:
    """An attack on a target, and what it has found."""

    target: Target
    inputs: Inputs
    directory: Path
    batch: int = BATCH
    examine: int = EXAMINE
    hang_s: float = HANG_S
    executions: int = 0
    found: list[Path] = field(default_factory=list)
    alike: dict[str, int] = field(default_factory=dict)  # failures by their error

    def run(self, seconds: float, say: Say = lambda _: None) -> None:
        """Attack for so long, at least with one batch."""
        began = time.monotonic()
        while True:
            self.play_batch()
            elapsed = time.monotonic() - began
            say(f"{self.executions:,} inputs, {self.executions / elapsed:,.0f} a second, {self.failures} failed")
            if elapsed >= seconds:
                return

    @property
    def failures(self) -> int:
        """The number of inputs that failed."""
        return sum(self.alike.values())

    def play_batch(self) -> None:
        """Play one batch, and keep what fails."""
        drawn = [self.inputs.draw() for _ in range(self.batch)]
        failure = attempt(self.target, drawn, self.examine, self.hang_s)
        self.executions += len(failure.inputs) if failure else len(drawn)
        if failure is not None:
            self.keep(failure)

    def keep(self, failure: Failure) -> None:
        """Write the shortest list of inputs that fails again to a file, unless there are enough of this error."""
        count = self.alike[failure.error] = self.alike.get(failure.error, 0) + 1
        if count > ALIKE_MAX:
            return
        again: Failure | None = None
        for inputs in (failure.inputs[-1:], failure.inputs):
            again = attempt(self.target, inputs, self.examine, self.hang_s)
            if again is not None:
                break
        kept = again or failure
        content = {
            "keys": self.target.keys,
            "seed": self.target.seed,
            "inputs": [one.decode("latin-1") for one in kept.inputs],
            "error": kept.error,
            "again": again is not None,
        }
        text = json.dumps(content, indent=1) + "\n"
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / f"failed-{sha256(text.encode()).hexdigest()[:12]}.json"
        path.write_text(text)
        self.found.append(path)


@dataclass(frozen=True)
class Kept:
    """A kept file."""

    keys: int
    seed: int
    inputs: list[bytes]

    @classmethod
    def read(cls, path: Path) -> "Kept":
        """Raises ValueError for a file of another kind, OSError when it cannot be read."""
        content = json.loads(path.read_text())
        try:
            inputs = [str(one).encode("latin-1") for one in content["inputs"]]
            return cls(int(content["keys"]), int(content["seed"]), inputs)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path} is not a file that a campaign kept") from error


def replay(target: Target, kept: Kept, hang_s: float = HANG_S) -> Failure | None:
    """Play what a file holds again; None if nothing fails any more."""
    return attempt(target, kept.inputs, len(kept.inputs), hang_s)
