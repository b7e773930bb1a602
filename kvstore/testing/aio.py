"""An asyncio client for a fixture that is no coroutine, and knows neither the test's loop nor its plugin.

The client connects in the loop of the test, when it is first used.  Its connections must be closed in the same loop,
but the fixture ends outside of it: before the loop is closed or after that, as the test's plugin likes.  Both are
provided for:

    the loop ends first     every loop ends the asynchronous generators that were begun in it
                            (loop.shutdown_asyncgens).  The pool begins one, whose end closes the connections
    the fixture ends first  `finish` runs the end of the generator in the loop
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from redis.asyncio import Connection, ConnectionPool, Redis, UnixDomainSocketConnection

FINISH_TIMEOUT_S = 10.0


class _Pool(ConnectionPool):  # type: ignore[misc]
    """A pool that closes its connections at the end of each loop that uses them."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        self._ends: dict[asyncio.AbstractEventLoop, AsyncGenerator[None, None]] = {}

    async def get_connection(self, *arguments: Any, **keywords: Any) -> Any:
        loop = asyncio.get_running_loop()
        if loop not in self._ends:
            self._ends[loop] = self._close_at_end()
            await anext(self._ends[loop])
        return await super().get_connection(*arguments, **keywords)

    async def _close_at_end(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self.disconnect()

    def finish(self) -> None:
        """Close the connections in the loops that have not done it themselves."""
        for loop, end in self._ends.items():
            if loop.is_closed():
                continue
            if not loop.is_running():
                loop.run_until_complete(end.aclose())
            elif loop is not _running():  # in another thread
                asyncio.run_coroutine_threadsafe(_end(end), loop).result(FINISH_TIMEOUT_S)


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


async def _end(generator: AsyncGenerator[None, None]) -> None:
    await generator.aclose()


def client(**options: Any) -> Redis:
    """A client with such a pool; the options are those of its connections."""
    kind = UnixDomainSocketConnection if "path" in options else Connection
    return Redis.from_pool(_Pool(connection_class=kind, **options))
