"""A connection as Python sees it: a view of its row in the table."""

import ctypes
from typing import Any

from kvstore.connections.addresses import ADDRESS_ROOM, write_address
from kvstore.connections.table import set_text
from kvstore.lifetimes import connection
from kvstore.lifetimes.connection import FIELDS
from kvstore.lifetimes.context import Context
from mmcore.jit import Array, uint8, zeros


def _field(index: int) -> Any:
    return property(lambda self: int(self.row[index]), lambda self, value: self.row.__setitem__(index, value))


def _flag(bit: int) -> Any:
    def get(self: Any) -> bool:
        return bool(self.row[connection.FLAGS] & bit)

    def put(self: Any, value: bool) -> None:
        self.row[connection.FLAGS] = (int(self.row[connection.FLAGS]) & ~bit) | (bit if value else 0)

    return property(get, put)


def _text(field: int) -> Any:
    def get(self: Any) -> str:
        address = int(self.row[field])
        return ctypes.string_at(address).decode("ascii") if address else ""

    def put(self: Any, value: str) -> None:
        if not set_text(self.context, self.slot, field, value.encode("ascii"), len(value)):
            raise MemoryError

    return property(get, put)


class Client:
    """One connection; `row` is its row of the table, shared with the loop."""

    id = _field(connection.ID)
    db = _field(connection.DATABASE)
    protocol = _field(connection.SPEAKS)
    authenticated = _flag(connection.AUTHENTICATED)
    in_multi = _flag(connection.MULTI)
    dirty_exec = _flag(connection.DIRTY_EXEC)
    close_after_reply = _flag(connection.CLOSE_AFTER_REPLY)
    no_touch = _flag(connection.NO_TOUCH_MODE)
    no_evict = _flag(connection.NO_EVICT)
    monitors = _flag(connection.MONITOR_MODE)
    store_lost = _flag(connection.STORE_LOST)
    unix = _flag(connection.UNIX_SOCKET)
    redirect = _field(connection.REDIRECT)
    name = _text(connection.NAME)
    lib_name = _text(connection.LIB_NAME)
    lib_ver = _text(connection.LIB_VER)
    user = "default"
    _reply_off = _flag(connection.REPLY_OFF)
    _reply_skip = _flag(connection.REPLY_SKIP)
    _reply_skip_next = _flag(connection.REPLY_SKIP_NEXT)

    def __init__(self, context: Context, row: Array, slot: int) -> None:
        assert len(row) == FIELDS
        self.context, self.row, self.slot = context, row, slot

    @property
    def tracking(self) -> int:
        """Its flags that concern tracking."""
        return int(self.row[connection.FLAGS]) & connection.TRACKING_FLAGS

    @tracking.setter
    def tracking(self, flags: int) -> None:
        self.row[connection.FLAGS] = (int(self.row[connection.FLAGS]) & ~connection.TRACKING_FLAGS) | flags

    @property
    def reply_mode(self) -> str:
        """The mode that CLIENT REPLY has set: on, off, or skip for the next command."""
        if self._reply_off:
            return "off"
        return "skip" if self._reply_skip_next else "on"

    @reply_mode.setter
    def reply_mode(self, mode: str) -> None:
        self._reply_off, self._reply_skip_next = mode == "off", mode == "skip"
        if mode == "on":
            self._reply_skip = False  # the command that asks for this is answered, though it was to be skipped

    @property
    def addr(self) -> str:
        """The client's address, in the form of CLIENT LIST."""
        room = zeros(uint8, ADDRESS_ROOM)
        length = write_address(self.context, self.row, connection.PEER, room, 0)
        return bytes(room[:length]).decode(errors="surrogateescape")

    def reset(self) -> None:
        """Reset the row as RESET does: protocol, database, modes.  The caller resets authentication."""
        self.protocol, self.db = 2, 0
        self.no_touch = self.no_evict = False
        self.name = ""
        self._reply_off = self._reply_skip_next = False
