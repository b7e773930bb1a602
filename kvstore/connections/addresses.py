"""Addresses of connections as text: host:port, [host]:port for IPv6, path:0 for a Unix socket.

A connection's row keeps both ends as the sockaddr that the system returned when it was accepted.  So printing them
takes no system call, and works even after the peer has gone.
"""

from kvstore.lifetimes.connection import ADDRESS_WORDS, FLAGS, UNIX_SOCKET
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import SCRATCH_ADDRESS, UNIX_PATH_ADDRESS, UNIX_PATH_LENGTH
from kvstore.system.libc import AF_INET, AF_INET6, bytes_at, inet_ntop, words_at
from kvstore.wire.numerals import put_decimal
from mmcore.jit import copy_bytes, int32, int64, linked, uint8

ADDRESS_ROOM = 128  # [bytes] for an address: the path of a Unix socket has 107 at most
_HOST_ROOM = 46  # INET6_ADDRSTRLEN


@linked(int64(CONTEXT, int64[::1], int64, uint8[::1], int64))
def write_address(context, row, field, out, at):  # type: ignore[no-untyped-def]
    """Write a connection's address at PEER or OWN to out[at:], at most ADDRESS_ROOM bytes; returns its end."""
    shard = context.shard
    if row[FLAGS] & UNIX_SOCKET:
        length = min(shard[UNIX_PATH_LENGTH], ADDRESS_ROOM - 2)
        copy_bytes(out, at, bytes_at(shard[UNIX_PATH_ADDRESS], length), 0, length)
        out[at + length] = 58
        out[at + length + 1] = 48
        return at + length + 2
    address = words_at(shard[SCRATCH_ADDRESS], ADDRESS_WORDS)
    for i in range(ADDRESS_WORDS):
        address[i] = row[field + i]
    raw = bytes_at(shard[SCRATCH_ADDRESS], 8 * ADDRESS_WORDS)
    six = int64(raw[0]) == AF_INET6
    text = shard[SCRATCH_ADDRESS] + 8 * ADDRESS_WORDS
    inet_ntop(int32(AF_INET6 if six else AF_INET), shard[SCRATCH_ADDRESS] + (8 if six else 4), text, int32(_HOST_ROOM))
    host, length = bytes_at(text, _HOST_ROOM), 0
    while length < _HOST_ROOM and host[length] != 0:
        length += 1
    if six:
        out[at] = 91
        at += 1
    copy_bytes(out, at, host, 0, length)
    at += length
    if six:
        out[at] = 93
        at += 1
    out[at] = 58
    return at + 1 + put_decimal(out, at + 1, int64(raw[2]) << 8 | int64(raw[3]))
