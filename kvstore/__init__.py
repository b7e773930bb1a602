"""A server that speaks the Redis protocol.  `kvstore.embedded` starts one for as long as a program needs it.

A client imports next to nothing: what it asks for is imported when it asks.
"""

TYPE_CHECKING = False  # as in typing, which this spares
if TYPE_CHECKING:
    from kvstore.testing.embedded import Embedded as Embedded
    from kvstore.testing.embedded import StartFailed as StartFailed
    from kvstore.testing.embedded import embedded as embedded


def __getattr__(name: str) -> object:
    if name in ("Embedded", "StartFailed", "embedded"):
        from kvstore.testing import embedded as module

        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
