"""The server, whose snapshots wait before they become durable for as long as a file is there.

    KVSTORE_TEST_GATE=/path/to/gate python -m tests.server.gated serve ...

While the gate exists, the writer stops where it would make an image durable, and makes a file beside the gate,
"/path/to/gate.reached", for the test to see.  So a test sends signals during a snapshot, not near one.
"""

import os
import time
from pathlib import Path

from numba.core.dispatcher import Dispatcher

from kvstore.cli import main
from snapshot.files import Files
from tests.strict import refuse


def _waiting(sync):  # type: ignore[no-untyped-def]
    gate = Path(os.environ["KVSTORE_TEST_GATE"])

    def wait_and_sync(self: Files, fd: int) -> None:
        while gate.exists():
            gate.with_name(f"{gate.name}.reached").touch()
            time.sleep(0.005)
        sync(self, fd)

    return wait_and_sync


if __name__ == "__main__":
    Dispatcher._compile_for_args = refuse
    Files.sync = _waiting(Files.sync)  # type: ignore[method-assign]
    main()
