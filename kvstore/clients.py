"""A connection as Python sees it: a view of its row in the table, and what only rare commands ask for."""

import os
import socket
from collections.abc import Callable
from typing import Any

import numpy as np

from kvstore import connections as rows
from kvstore.connections import FIELDS, keep_name


class Details:
    """What a connection says about itself, and what is looked up once: kept by id, outside the table."""

    def __init__(self, fd: int, unix_path: str) -> None:
        self.name = self.lib_name = self.lib_ver = ""
        self.reply_mode = "on"
        with socket.socket(fileno=os.dup(fd)) as peer:
            self.addr, self.laddr = (_text(ask, unix_path) for ask in (peer.getpeername, peer.getsockname))


def _text(ask: Callable[[], Any], unix_path: str) -> str:
    try:
        name = ask()
    except OSError:  # the peer has gone
        return "?:0"
    if isinstance(name, tuple):
        host, port = name[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"{unix_path}:0"


def _field(index: int) -> Any:
    return property(lambda self: int(self.row[index]), lambda self, value: self.row.__setitem__(index, value))


def _flag(bit: int) -> Any:
    def get(self: Any) -> bool:
        return bool(self.row[rows.FLAGS] & bit)

    def put(self: Any, value: bool) -> None:
        self.row[rows.FLAGS] = (int(self.row[rows.FLAGS]) & ~bit) | (bit if value else 0)

    return property(get, put)


class Client:
    """One connection; `row` is its row of the table, so reads and writes are what the loop sees."""

    fd = _field(rows.FD)
    id = _field(rows.ID)
    db = _field(rows.DATABASE)
    protocol = _field(rows.SPEAKS)
    watch = _field(rows.WATCH_COUNT)
    commands = _field(rows.COMMANDS)
    net_in = _field(rows.BYTES_IN)
    net_out = _field(rows.BYTES_OUT)
    authenticated = _flag(rows.AUTHENTICATED)
    in_multi = _flag(rows.MULTI)
    dirty_exec = _flag(rows.DIRTY_EXEC)
    close_after_reply = _flag(rows.CLOSE_AFTER_REPLY)
    reply_off = _flag(rows.REPLY_OFF)
    reply_skip_next = _flag(rows.REPLY_SKIP_NEXT)
    no_touch = _flag(rows.NO_TOUCH_MODE)
    no_evict = _flag(rows.NO_EVICT)
    unix = _flag(rows.UNIX_SOCKET)
    user = "default"

    def __init__(self, row: np.ndarray, slot: int, details: Details, now_ms: int, command_name: Callable[[int], str]):
        assert row.size == FIELDS
        self.row, self.slot, self.details, self._now_ms = row, slot, details, now_ms
        self._command_name = command_name

    def __getattr__(self, name: str) -> Any:
        if name in ("name", "lib_name", "lib_ver", "addr", "laddr", "reply_mode"):
            return getattr(self.details, name)
        raise AttributeError(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("name", "lib_name", "lib_ver", "reply_mode"):
            setattr(self.details, name, value)
            if name == "name":
                text = np.frombuffer(value.encode() or b"\0", np.uint8)
                keep_name(self.row, text.ctypes.data, len(value))
            if name == "reply_mode":
                self.reply_off = value == "off"
                self.reply_skip_next = value == "skip"
        else:
            super().__setattr__(name, value)

    @property
    def age_s(self) -> int:
        """Since the connection was opened [s]."""
        return max(0, self._now_ms - int(self.row[rows.CREATED_MS])) // 1000

    @property
    def idle_s(self) -> int:
        """Since something was last received from it [s]."""
        return max(0, self._now_ms - int(self.row[rows.ACTIVE_MS])) // 1000

    @property
    def multi(self) -> int:
        """Commands queued since MULTI, -1 outside of one."""
        return int(self.row[rows.QUEUE_COUNT]) if self.in_multi else -1

    @property
    def qbuf(self) -> int:
        """Bytes received and not executed yet."""
        return int(self.row[rows.INPUT_LENGTH])

    @property
    def qbuf_free(self) -> int:
        """Room left in its input buffer [bytes]."""
        return int(self.row[rows.INPUT_CAPACITY]) - self.qbuf

    @property
    def obl(self) -> int:
        """Bytes of replies that the socket has not taken."""
        return int(self.row[rows.OUTPUT_LENGTH] - self.row[rows.OUTPUT_START])

    @property
    def omem(self) -> int:
        """Size of its output buffer [bytes]."""
        return int(self.row[rows.OUTPUT_CAPACITY])

    @property
    def multi_mem(self) -> int:
        """Size of its transaction queue [bytes]."""
        return int(self.row[rows.QUEUE_CAPACITY])

    @property
    def total_memory(self) -> int:
        """All that the connection holds [bytes]."""
        return FIELDS * 8 + int(self.row[rows.INPUT_CAPACITY]) + self.omem + self.multi_mem

    @property
    def last_command(self) -> str:
        """Name of the last command, 'NULL' before the first."""
        last = int(self.row[rows.LAST_COMMAND])
        return self._command_name(last) if last >= 0 else "NULL"

    @property
    def flags(self) -> str:
        """The flags as CLIENT LIST spells them."""
        letters = (
            ("x", self.in_multi),
            ("d", bool(self.row[rows.FLAGS] & rows.DIRTY_CAS)),
            ("c", self.close_after_reply),
            ("A", bool(self.row[rows.FLAGS] & rows.KILLED)),
            ("b", bool(self.row[rows.FLAGS] & (rows.POSTPONED | rows.BLOCKED))),
            ("U", self.unix),
            ("e", self.no_evict),
            ("T", self.no_touch),
        )
        return "".join(letter for letter, is_set in letters if is_set) or "N"

    def reset(self) -> None:
        """What RESET resets of the row: protocol, database, modes, authentication is the caller's."""
        self.protocol, self.db = 2, 0
        self.no_touch = self.no_evict = False
        self.name, self.reply_mode = "", "on"
