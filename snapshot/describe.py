"""The contents of an image, as text and as JSON.

Metadata can contain anything that msgpack can encode: maps with keys of any type, bytes, dates, numbers of 64 bits, a
thousand levels of nesting, text that would move a terminal's cursor.  The functions here make all of it printable.
"""

import json
from datetime import UTC, datetime
from typing import Any

from snapshot.image import PAGE_SIZE, Image

DEPTH_MAX = 16


def describe(image: Image) -> dict[str, Any]:
    """The contents of an image, as values that JSON can encode."""
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
        "repeated_pages": sum(image.repeats.runs.column(1)) if image.repeats else 0,
        "chunk_size": image.chunk_size,
        "chunks": image.chunk_count,
        "metadata": plain(image.metadata),
    }


def plain(value: Any, depth: int = 0) -> Any:
    """A value that JSON can encode: bytes in hexadecimal, other keys and types as text, "..." where it is too deep."""
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
    """A value as one line of printable characters."""
    value = plain(value)
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value)


def moment(unix_us: int) -> str:
    """A time [us of Unix time] as a date; the number itself if it is outside the calendar's range."""
    try:
        return datetime.fromtimestamp(unix_us / 1e6, UTC).isoformat(sep=" ", timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return f"{unix_us} us"
