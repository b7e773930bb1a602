"""An image told to people, and as JSON.

Metadata are whatever somebody has packed: maps with keys of any type, bytes, dates, numbers of 64 bits, nested a
thousand deep, text that would move a terminal's cursor.  Here all of it becomes something that can be printed.
"""

import json
from datetime import UTC, datetime
from typing import Any

from snapshot.image import PAGE_SIZE, Image

DEPTH_MAX = 16


def describe(image: Image) -> dict[str, Any]:
    """What an image holds, as JSON can write it."""
    return {
        "path": str(image.path),
        "version": image.version,
        "id": image.id.hex(),
        "parent": image.parent.hex() if image.parent else None,
        "epoch": image.epoch,
        "forked_unix_us": image.forked_unix_us,
        "page_size": PAGE_SIZE,
        "pages": image.pages,
        "data_bytes": image.data_size,
        "file_bytes": image.file_size,
        "runs": len(image.runs),
        "chunk_size": image.chunk_size,
        "chunks": image.chunk_count,
        "metadata": plain(image.metadata),
    }


def plain(value: Any, depth: int = 0) -> Any:
    """A value that JSON can write: bytes in hexadecimal, other keys and types as text, "..." for what is too deep."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict | list | tuple) and depth == DEPTH_MAX:
        return "..."
    if isinstance(value, dict):
        return {key if isinstance(key, str) else text(key): plain(held, depth + 1) for key, held in value.items()}
    if type(value) in (list, tuple):
        return [plain(held, depth + 1) for held in value]
    return str(value)


def text(value: Any) -> str:
    """A value on one line, with nothing in it that is not to be printed."""
    value = plain(value)
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value)


def moment(unix_us: int) -> str:
    """A time [us of Unix time] as a date; the number itself where no calendar goes so far."""
    try:
        return datetime.fromtimestamp(unix_us / 1e6, UTC).isoformat(sep=" ", timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return f"{unix_us} us"
