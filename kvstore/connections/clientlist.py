"""CLIENT LIST and CLIENT INFO: connections as lines of text, made from the table of connections.

A kernel writes the lines into the reply buffer, in a few hundred nanoseconds each, so that listing thousands of
connections does not stop other clients for long.  The connection's row holds everything that a line shows: the
addresses from the time when it was accepted, and texts such as the name since the client set them.
"""

from itertools import accumulate
from typing import NamedTuple

from kvstore.connections.addresses import ADDRESS_ROOM, write_address
from kvstore.connections.interests import interest_count, topic_count
from kvstore.connections.memory import connection_memory, names_of_topics, next_used, store_of
from kvstore.connections.pieces import may_send_output, output_waiting
from kvstore.connections.table import connection, text_length
from kvstore.lifetimes.call import PROTOCOL, REPLY_LENGTH
from kvstore.lifetimes.connection import (
    ACTIVE_MS,
    BLOCKED,
    BLOCKED_UNTIL_MS,
    BODY_DONE,
    BODY_PAGES,
    CHANNELS_COUNT,
    CLOSE_AFTER_REPLY,
    CONTEXT_OF,
    CREATED_MS,
    DATABASE,
    DIRTY_CAS,
    FD,
    FLAGS,
    HELD,
    ID,
    IN_USE,
    INPUT_CAPACITY,
    INPUT_LENGTH,
    INPUT_START,
    KILLED,
    LAST_COMMAND,
    LIB_NAME,
    LIB_VER,
    MONITOR_MODE,
    MULTI,
    NAME,
    NEVER,
    NO_EVICT,
    NO_TOUCH_MODE,
    OUTPUT_CAPACITY,
    OUTPUT_LENGTH,
    OUTPUT_START,
    OWN,
    PATTERNS_COUNT,
    PEER,
    POSTPONED,
    QUEUE_CAPACITY,
    QUEUE_COUNT,
    REDIRECT,
    SHARD_CHANNELS_COUNT,
    SPEAKS,
    SUBSCRIBER,
    TRACKING,
    TRACKING_BCAST,
    TRACKING_BROKEN,
    UNIX_SOCKET,
    WATCH_COUNT,
)
from kvstore.lifetimes.context import CONTEXT, context_at
from kvstore.lifetimes.named import NAME as NAMED
from kvstore.lifetimes.named import NAME_SIZE, NAMED_WORDS
from kvstore.lifetimes.shard import CONNECTION_SLOTS, MAIN_CONTEXT, SCRATCH_ADDRESS, TIMER_MS
from kvstore.lifetimes.store import NAMED_ADDRESS, PREFIXES, TRACKED_KEYS, WAITED_KEYS, WATCHED_KEYS
from kvstore.system.libc import bytes_at, words_at
from kvstore.wire.numerals import put_decimal
from kvstore.wire.refusals import command_name, name_length
from kvstore.wire.request import BODY_HEAD
from kvstore.wire.resp import reply_digits, reply_raw, reply_room
from mmcore.jit import constant, copy_bytes, equal_bytes, int64, kernel, linked, uint8, void
from mmcore.paging import PAGE_SHIFT

_HEADER_ROOM = 32  # [bytes] for the header of a text whose length is known only at its end
_MULTI_NONE = -1  # commands queued outside of MULTI
_REDIR_NONE = -1  # who is told in the place of a connection without tracking

_PARTS = (
    "id=",
    " addr=",
    " laddr=",
    " fd=",
    " name=",
    " age=",
    " idle=",
    " flags=",
    " db=",
    " sub=",
    " psub=",
    " ssub=",
    " multi=",
    " qbuf=",
    " qbuf-free=",
    " argv-mem=",
    " multi-mem=",
    " rbs=0 rbp=0 obl=",
    " oll=",
    " omem=",
    " tot-mem=",
    " events=r",
    " cmd=",
    " user=default redir=",
    " resp=",
    " lib-name=",
    " lib-ver=",
    " store=",
    "\n",
    "w",
    "NULL",
)
(
    _ID,
    _ADDR,
    _LADDR,
    _FD,
    _NAME,
    _AGE,
    _IDLE,
    _FLAGS,
    _DB,
    _SUB,
    _PSUB,
    _SSUB,
    _MULTI,
    _QBUF,
    _QBUF_FREE,
    _ARGV_MEM,
    _MULTI_MEM,
    _OBL,
    _OLL,
    _OMEM,
    _TOT_MEM,
    _EVENTS,
    _CMD,
    _REDIR,
    _RESP,
    _LIB_NAME,
    _LIB_VER,
    _STORE,
    _END,
    _WRITABLE,
    _NO_COMMAND,
) = range(len(_PARTS))
_TEXT = constant("".join(_PARTS).encode())
_START = constant([0, *accumulate(map(len, _PARTS))], int64)


@kernel
def _put(context, part):  # type: ignore[no-untyped-def]
    reply_raw(context, _TEXT, _START[part], _START[part + 1] - _START[part])


@kernel
def _put_number(context, part, value):  # type: ignore[no-untyped-def]
    _put(context, part)
    reply_digits(context, value)


@kernel
def _put_text(context, part, address):  # type: ignore[no-untyped-def]
    # Append a text that ends with a zero byte; nothing for address 0.
    _put(context, part)
    length = text_length(address)
    reply_raw(context, bytes_at(address, length), 0, length)


@linked(void(CONTEXT, int64, uint8[::1], int64, uint8[::1]))
def find_address(context, field, text, count, found):  # type: ignore[no-untyped-def]
    """Set found[slot] for every connection whose address at PEER or OWN is these `count` bytes of `text`."""
    room = bytes_at(context.shard[SCRATCH_ADDRESS] + 1024, ADDRESS_ROOM)
    for slot in range(context.shard[CONNECTION_SLOTS]):
        row = connection(context, slot)
        if row[FLAGS] & IN_USE:
            length = write_address(context, row, field, room, 0)
            found[slot] = length == count and equal_bytes(room, 0, text, 0, count)


@kernel
def _put_address(context, part, row, field):  # type: ignore[no-untyped-def]
    _put(context, part)
    out = reply_room(context, ADDRESS_ROOM)
    context.call[REPLY_LENGTH] = write_address(context, row, field, out, context.call[REPLY_LENGTH])


@kernel
def _put_flag(context, letter, is_set):  # type: ignore[no-untyped-def]
    if is_set:
        reply_room(context, 1)[context.call[REPLY_LENGTH]] = letter
        context.call[REPLY_LENGTH] += 1


@kernel
def _put_flags(context, flags):  # type: ignore[no-untyped-def]
    _put(context, _FLAGS)
    start = context.call[REPLY_LENGTH]
    _put_flag(context, 79, flags & MONITOR_MODE)  # O
    _put_flag(context, 80, flags & SUBSCRIBER)  # P
    _put_flag(context, 120, flags & MULTI)  # x
    _put_flag(context, 98, flags & (POSTPONED | BLOCKED | HELD))  # b
    _put_flag(context, 116, flags & TRACKING)  # t
    _put_flag(context, 82, flags & TRACKING_BROKEN)  # R
    _put_flag(context, 66, flags & TRACKING_BCAST)  # B
    _put_flag(context, 100, flags & DIRTY_CAS)  # d
    _put_flag(context, 99, flags & CLOSE_AFTER_REPLY)  # c
    _put_flag(context, 65, flags & KILLED)  # A
    _put_flag(context, 85, flags & UNIX_SOCKET)  # U
    _put_flag(context, 101, flags & NO_EVICT)  # e
    _put_flag(context, 84, flags & NO_TOUCH_MODE)  # T
    _put_flag(context, 78, context.call[REPLY_LENGTH] == start)  # N


@kernel
def _put_buffers(context, row):  # type: ignore[no-untyped-def]
    pending = output_waiting(row)
    unread = row[INPUT_LENGTH] - row[INPUT_START]
    free = row[INPUT_CAPACITY] - unread
    if row[BODY_PAGES] > 0:
        unread += row[BODY_DONE] - BODY_HEAD  # the query buffer has the head of a long value only
        free += (row[BODY_PAGES] << PAGE_SHIFT) - row[BODY_DONE]
    _put_number(context, _MULTI, row[QUEUE_COUNT] if row[FLAGS] & MULTI else _MULTI_NONE)
    _put_number(context, _QBUF, unread)
    _put_number(context, _QBUF_FREE, free)
    waits = row[FLAGS] & BLOCKED != 0  # its queue buffer holds the command that it waits in
    _put_number(context, _ARGV_MEM, row[QUEUE_CAPACITY] if waits else 0)
    _put_number(context, _MULTI_MEM, 0 if waits else row[QUEUE_CAPACITY])
    _put_number(context, _OBL, pending)
    _put_number(context, _OLL, 1 if pending > 0 else 0)
    _put_number(context, _OMEM, row[OUTPUT_CAPACITY] + pending - (row[OUTPUT_LENGTH] - row[OUTPUT_START]))
    _put_number(context, _TOT_MEM, connection_memory(row))


@kernel
def _put_store(context, row):  # type: ignore[no-untyped-def]
    # The name of the branch or snapshot that the connection uses; not of the main store, as no Redis has this field.
    address = context_at(row[CONTEXT_OF]).store[NAMED_ADDRESS]
    if row[CONTEXT_OF] != context.shard[MAIN_CONTEXT]:
        _put(context, _STORE)
        own = words_at(address, NAMED_WORDS)
        reply_raw(context, bytes_at(own[NAMED], own[NAME_SIZE]), 0, own[NAME_SIZE])


@linked(void(CONTEXT, int64))
def put_connection(context, slot):  # type: ignore[no-untyped-def]
    """Append the line of one connection to the reply."""
    now, row = context.shard[TIMER_MS], connection(context, slot)
    _put_number(context, _ID, row[ID])
    _put_address(context, _ADDR, row, PEER)
    _put_address(context, _LADDR, row, OWN)
    _put_number(context, _FD, row[FD])
    _put_text(context, _NAME, row[NAME])
    _put_number(context, _AGE, max(0, now - row[CREATED_MS]) // 1000)
    _put_number(context, _IDLE, max(0, now - row[ACTIVE_MS]) // 1000)
    _put_flags(context, row[FLAGS])
    _put_number(context, _DB, row[DATABASE])
    _put_number(context, _SUB, row[CHANNELS_COUNT])
    _put_number(context, _PSUB, row[PATTERNS_COUNT])
    _put_number(context, _SSUB, row[SHARD_CHANNELS_COUNT])
    _put_buffers(context, row)
    _put(context, _EVENTS)
    if may_send_output(row):
        _put(context, _WRITABLE)
    _put(context, _CMD)
    if row[LAST_COMMAND] < 0:
        _put(context, _NO_COMMAND)
    else:
        name = command_name(context, row[LAST_COMMAND])
        reply_raw(context, name, 0, name_length(name))
    _put_number(context, _REDIR, row[REDIRECT] if row[FLAGS] & TRACKING else _REDIR_NONE)
    _put_number(context, _RESP, row[SPEAKS])
    _put_text(context, _LIB_NAME, row[LIB_NAME])
    _put_text(context, _LIB_VER, row[LIB_VER])
    _put_store(context, row)
    _put(context, _END)


@linked(void(CONTEXT, int64[::1]))
def reply_connections(context, slots):  # type: ignore[no-untyped-def]
    """Reply with the lines of the connections in these slots: a verbatim text in RESP3, a bulk in RESP2."""
    call = context.call
    verbatim = call[PROTOCOL] == 3
    reply_room(context, _HEADER_ROOM)
    header = call[REPLY_LENGTH]
    start = call[REPLY_LENGTH] = header + _HEADER_ROOM
    for i in range(len(slots)):
        put_connection(context, slots[i])
    out = reply_room(context, 2)
    length = call[REPLY_LENGTH] - start
    out[header] = 61 if verbatim else 36
    at = header + 1
    at += put_decimal(out, at, length + 4 if verbatim else length)
    out[at] = 13
    out[at + 1] = 10
    at += 2
    if verbatim:
        for byte in (116, 120, 116, 58):  # txt:
            out[at] = byte
            at += 1
    copy_bytes(out, at, out, start, length)
    out[at + length] = 13
    out[at + length + 1] = 10
    call[REPLY_LENGTH] = at + length + 2


class ClientTotals(NamedTuple):
    """Sums over all connections."""

    clients: int
    memory: int  # [bytes]
    input_max: int  # largest input buffer [bytes]
    output_max: int
    watching: int  # connections
    watched: int  # keys
    timed: int  # connections that wait in a command with a time-out
    awaited: int  # keys that connections wait for


@linked(void(CONTEXT, int64[::1]))
def add_connections(context, totals):  # type: ignore[no-untyped-def]
    """Sum up the table of connections, in the order of ClientTotals; `totals` begins as zeros."""
    totals[1] = names_of_topics(context)
    store, address = context_at(context.shard[MAIN_CONTEXT]).store, next_used(context, 0)
    while True:
        totals[5] += topic_count(store[WATCHED_KEYS])
        totals[7] += topic_count(store[WAITED_KEYS])
        if address == 0:
            break
        store = store_of(address)
        address = next_used(context, address)
    for slot in range(context.shard[CONNECTION_SLOTS]):
        row = connection(context, slot)
        if row[FLAGS] & IN_USE == 0:
            continue
        totals[0] += 1
        totals[1] += connection_memory(row)
        totals[2] = max(totals[2], row[INPUT_CAPACITY])
        totals[3] = max(totals[3], row[OUTPUT_CAPACITY])
        totals[4] += 1 if row[WATCH_COUNT] != 0 else 0
        totals[6] += 1 if row[FLAGS] & BLOCKED != 0 and row[BLOCKED_UNTIL_MS] < NEVER else 0


class TrackedTotals(NamedTuple):
    """Of the tables of tracking."""

    keys: int
    items: int  # pairs of a key and a connection
    prefixes: int


@linked(void(CONTEXT, int64[::1]))
def count_tracked(context, totals):  # type: ignore[no-untyped-def]
    """Count in all stores, in the order of TrackedTotals; `totals` begins as zeros."""
    store, address = context_at(context.shard[MAIN_CONTEXT]).store, next_used(context, 0)
    while True:
        totals[0] += topic_count(store[TRACKED_KEYS])
        totals[1] += interest_count(store[TRACKED_KEYS])
        totals[2] += topic_count(store[PREFIXES])
        if address == 0:
            return
        store = store_of(address)
        address = next_used(context, address)
