"""Waiting for the image that the server loads when it starts.

threads that read (snapshot/reader.py) ─► a thread that waits for them ─► wake ─► the owner: adopt
"""

import threading
import time
from collections.abc import Callable

from kvstore.durable.storeimage import accept_store
from snapshot.image import Image
from snapshot.preload import Preload

LOADING_ERROR = "LOADING Redis is loading the dataset in memory"


class Loading:
    """Waits for an image that is being read, in a thread of its own, and then calls `wake`."""

    def __init__(self, preload: Preload, wake: Callable[[], object]) -> None:
        self.preload = preload
        self.image: Image | None = None
        self.started_unix_s = time.time()
        self._began = time.monotonic()
        self._wake = wake
        self._error: BaseException | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._wait, name="loading", daemon=True)
        self._thread.start()

    def _wait(self) -> None:
        try:
            self.image = self.preload.join(accept=accept_store)
        except BaseException as error:  # the owner handles it
            self._error = error
        self._ended.set()
        self._wake()

    def ended(self, timeout_s: float = 0) -> bool:
        """Whether reading has ended, with or without success; waits at most `timeout_s` for that."""
        return self._ended.wait(timeout_s)

    def result(self) -> Image | None:
        """The image that was read, None when there is none; raises the error that prevented reading."""
        assert self._ended.is_set(), "it is still being read"
        self._thread.join()
        if self._error:
            raise self._error
        return self.image

    def stop(self) -> None:
        """Stop reading, without waiting for the threads: a disk that does not answer must not delay the exit."""
        self.preload.stop()

    @property
    def elapsed_s(self) -> float:
        """Time since reading began."""
        return time.monotonic() - self._began

    def fields(self) -> dict[str, object]:
        """Its fields in INFO, by Redis's names."""
        done, total = self.preload.done, self.preload.total
        elapsed = self.elapsed_s
        return {
            "loading_start_time": int(self.started_unix_s),
            "loading_total_bytes": total,
            "loading_rdb_used_mem": 0,
            "loading_loaded_bytes": done,
            "loading_loaded_perc": f"{100 * done / total if total else 0:.2f}",
            "loading_eta_seconds": round(elapsed * (total - done) / done) if done else 1,
        }
