"""Accepting connections, or refusing them with an error message."""

from kvstore.connections.table import connection, open_connection
from kvstore.lifetimes.connection import ADDRESS_WORDS, OWN, PEER, UNIX_SOCKET
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import (
    CONNECTED_CLIENTS,
    KEEPALIVE_S,
    MAXCLIENTS,
    NEXT_ID,
    PROTECTED,
    REJECTED_CONNECTIONS,
    SCRATCH_ADDRESS,
    TIMER_MS,
    TOTAL_CONNECTIONS,
)
from kvstore.net.closing import close_connection
from kvstore.net.epoll import poll_add, socket_accept, socket_name, socket_option, socket_send
from kvstore.system.libc import (
    IPPROTO_TCP,
    SO_KEEPALIVE,
    SOL_SOCKET,
    TCP_KEEPCNT,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    TCP_NODELAY,
    bytes_at,
    close,
    words_at,
)
from kvstore.wire.texts import DENIED, MAX_CLIENTS
from mmcore.jit import copy_bytes, int32, int64, kernel, linked, void

# Kinds of descriptors that are not connections; see epoll.py.
LISTEN_TCP, LISTEN_UNIX, WAKE, READS = range(4)
ACCEPTS_PER_EVENT = 64


@kernel
def _is_loopback(address):  # type: ignore[no-untyped-def]
    # Whether this sockaddr is 127.0.0.1, ::1 or ::ffff:127.0.0.1, the addresses that protected mode lets in.
    family = int64(address[0]) | int64(address[1]) << 8
    if family == 2:
        return address[4] == 127 and address[5] == 0 and address[6] == 0 and address[7] == 1
    if family != 10:
        return True
    for i in range(8, 18):
        if address[i] != 0:
            return False
    if address[18] == 255 and address[19] == 255:
        return address[20] == 127 and address[21] == 0 and address[22] == 0 and address[23] == 1
    for i in range(18, 23):
        if address[i] != 0:
            return False
    return address[23] == 1


@kernel
def _refuse(context, fd, text):  # type: ignore[no-untyped-def]
    room = context.shard[SCRATCH_ADDRESS]
    copy_bytes(bytes_at(room, len(text)), 0, text, 0, len(text))
    socket_send(context, fd, room, len(text))
    close(int32(fd))
    context.shard[REJECTED_CONNECTIONS] += 1


@kernel
def _keep_address(context, row, field):  # type: ignore[no-untyped-def]
    # Copy the sockaddr at word 1 of the scratch room to the row.
    address = words_at(context.shard[SCRATCH_ADDRESS] + 8, ADDRESS_WORDS)
    for i in range(ADDRESS_WORDS):
        row[field + i] = address[i]


@linked(void(CONTEXT, int64, int64))
def accept_connections(context, listener, kind):  # type: ignore[no-untyped-def]
    """Accept up to ACCEPTS_PER_EVENT waiting connections."""
    shard = context.shard
    scratch = shard[SCRATCH_ADDRESS]
    for _ in range(ACCEPTS_PER_EVENT):
        fd = socket_accept(context, listener)
        if fd < 0:
            return
        shard[TOTAL_CONNECTIONS] += 1
        if kind == LISTEN_TCP and shard[PROTECTED] and not _is_loopback(bytes_at(scratch + 8, 128)):
            _refuse(context, fd, DENIED)
            continue
        if shard[CONNECTED_CLIENTS] >= shard[MAXCLIENTS]:
            _refuse(context, fd, MAX_CLIENTS)
            continue
        if kind == LISTEN_TCP:
            socket_option(context, fd, IPPROTO_TCP, TCP_NODELAY, 1)
            if shard[KEEPALIVE_S] > 0:
                socket_option(context, fd, SOL_SOCKET, SO_KEEPALIVE, 1)
                socket_option(context, fd, IPPROTO_TCP, TCP_KEEPIDLE, shard[KEEPALIVE_S])
                socket_option(context, fd, IPPROTO_TCP, TCP_KEEPINTVL, max(1, shard[KEEPALIVE_S] // 3))
                socket_option(context, fd, IPPROTO_TCP, TCP_KEEPCNT, 3)
        identity = shard[NEXT_ID]
        shard[NEXT_ID] += 1
        flags = UNIX_SOCKET if kind == LISTEN_UNIX else 0
        slot = open_connection(context, fd, identity, flags, shard[TIMER_MS])
        if kind == LISTEN_TCP:
            row = connection(context, slot)
            _keep_address(context, row, PEER)
            socket_name(context, fd)
            _keep_address(context, row, OWN)
        if poll_add(context, fd, slot, identity) != 0:
            close_connection(context, slot)
