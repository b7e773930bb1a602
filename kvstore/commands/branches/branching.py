"""BRANCH and SNAPSHOT: the subcommands that tests, fuzzers and pools of connections send all the time, as kernels.

    BRANCH CREATE name [FROM source] [TTL seconds] [MAXMEMORY bytes] [IFNX]
    BRANCH USE name     BRANCH CURRENT     BRANCH RESET [name]     BRANCH DROP name [FORCE]     BRANCH LIST
    BRANCH DIFF first second [CURSOR cursor] [COUNT count]     (differing.py)
    SNAPSHOT CREATE name [FROM source] [TTL seconds] [IFNX]
    SNAPSHOT RESTORE name [INTO branch]     SNAPSHOT DROP name [FORCE]     SNAPSHOT LIST

The other subcommands are served by Python, and so is every form that these kernels do not take, such as the refusal to
drop a store that connections use.
"""

from kvstore.branches.lineage import NO_MEMORY, make, reset_branch, restore
from kvstore.branches.losing import drop_in_use
from kvstore.branches.named import named
from kvstore.branches.registry import find_named, is_name
from kvstore.branches.using import use
from kvstore.commands.branches.differing import differ
from kvstore.commands.branches.listing import reply_named
from kvstore.connections.table import connection
from kvstore.lifetimes.call import ARGC, CONNECTION
from kvstore.lifetimes.connection import FLAGS, NEVER, STORE_LOST
from kvstore.lifetimes.context import CONTEXT, FOR_PYTHON, HANDLER, SERVED, context_at
from kvstore.lifetimes.named import BRANCH, CONTEXT_OF_NAMED, KIND, NAME, NAME_SIZE, SNAPSHOT, USERS
from kvstore.lifetimes.shard import NOW_MS
from kvstore.lifetimes.store import NAMED_ADDRESS
from kvstore.system.libc import bytes_at
from kvstore.wire.arguments import argument, integer_argument, is_word, pack, word
from kvstore.wire.errors import (
    BRANCH_DROPPED,
    BRANCH_EXISTS,
    BRANCH_MEMORY,
    BRANCH_NAME,
    NO_BRANCH,
    NOT_A_BRANCH,
    NOT_A_SNAPSHOT,
    QUOTA_RANGE,
    SNAPSHOT_READ_ONLY,
    SYNTAX,
    TTL_RANGE,
)
from kvstore.wire.resp import reply_bulk, reply_error, reply_null, reply_ok, reply_out_of_frames
from mmcore.errors import NO_SPACE
from mmcore.jit import constant, int64, kernel, linked

_FROM, _TTL, _IFNX, _INTO, _FORCE = (pack(name) for name in (b"FROM", b"TTL", b"IFNX", b"INTO", b"FORCE"))
_MAXMEMORY = constant(b"MAXMEMORY")
_CREATE, _USE, _CURRENT, _RESET, _DROP, _RESTORE, _LIST, _DIFF = (
    constant(name) for name in (b"CREATE", b"USE", b"CURRENT", b"RESET", b"DROP", b"RESTORE", b"LIST", b"DIFF")
)
TTL_MAX_S = 1 << 40


@kernel
def _lost(context):  # type: ignore[no-untyped-def]
    # Whether the connection at hand has lost its store, so that it has no current one.
    return connection(context, context.call[CONNECTION])[FLAGS] & STORE_LOST != 0


@kernel
def _named_argument(context, i):  # type: ignore[no-untyped-def]
    # Address of the store that argument i names, or 0 with the error replied.
    name, size = argument(context, i)
    address = find_named(context, name, size)
    if address == 0:
        reply_error(context, NO_BRANCH)
    return address


@linked(int64(CONTEXT))
def _current(context):  # type: ignore[no-untyped-def]
    """Address of the store that the connection at hand uses, or 0 with the error replied."""
    if _lost(context):
        reply_error(context, BRANCH_DROPPED)
        return 0
    return context.store[NAMED_ADDRESS]


@kernel
def _options(context, kind):  # type: ignore[no-untyped-def]
    # (whether well-formed, source or 0, Unix time of the end [ms], quota [bytes], IFNX).  If not, the error is replied.
    origin, ends_ms, quota, only_new, i = 0, NEVER, 0, False, 3
    while i < context.call[ARGC]:
        option, more = word(context, i), i + 1 < context.call[ARGC]
        if option == _IFNX:
            only_new = True
            i += 1
            continue
        if option == _FROM and more:
            origin = _named_argument(context, i + 1)
            if origin == 0:
                return False, origin, ends_ms, quota, only_new
        elif option == _TTL and more:
            valid, seconds = integer_argument(context, i + 1)
            if not valid or seconds <= 0 or seconds > TTL_MAX_S:
                reply_error(context, TTL_RANGE)
                return False, origin, ends_ms, quota, only_new
            ends_ms = context.shard[NOW_MS] + 1000 * seconds
        elif kind == BRANCH and more and is_word(context, i, _MAXMEMORY):
            valid, quota = integer_argument(context, i + 1)
            if not valid or quota <= 0:
                reply_error(context, QUOTA_RANGE)
                return False, origin, ends_ms, quota, only_new
        else:
            reply_error(context, SYNTAX)
            return False, origin, ends_ms, quota, only_new
        i += 2
    return True, origin, ends_ms, quota, only_new


@linked(int64(CONTEXT, int64))
def _create(context, kind):  # type: ignore[no-untyped-def]
    well_formed, origin, ends_ms, quota, only_new = _options(context, kind)
    if not well_formed:
        return SERVED
    name, size = argument(context, 2)
    if is_name(name, size) == 0:
        reply_error(context, BRANCH_NAME)
        return SERVED
    if find_named(context, name, size) != 0:
        if only_new:
            reply_null(context)
        else:
            reply_error(context, BRANCH_EXISTS)
        return SERVED
    if origin == 0:
        origin = _current(context)
        if origin == 0:
            return SERVED
    made = make(context_at(named(origin)[CONTEXT_OF_NAMED]), name, size, kind, ends_ms, quota)
    if made > 0:
        reply_ok(context)
    elif made == NO_MEMORY or made == NO_SPACE:
        reply_error(context, BRANCH_MEMORY)
    else:
        reply_out_of_frames(context)
    return SERVED


@linked(int64(CONTEXT))
def _use(context):  # type: ignore[no-untyped-def]
    address = _named_argument(context, 2)
    if address == 0:
        return SERVED
    error = use(context_at(named(address)[CONTEXT_OF_NAMED]), context.call[CONNECTION])
    if error != 0:
        reply_error(context, error)
    else:
        reply_ok(context)
    return SERVED


@linked(int64(CONTEXT))
def _reset(context):  # type: ignore[no-untyped-def]
    address = _named_argument(context, 2) if context.call[ARGC] == 3 else _current(context)
    if address == 0:
        return SERVED
    if named(address)[KIND] != BRANCH:
        reply_error(context, NOT_A_BRANCH)
    elif reset_branch(context_at(named(address)[CONTEXT_OF_NAMED])) == 0:
        reply_out_of_frames(context)
    else:
        reply_ok(context)
    return SERVED


@linked(int64(CONTEXT, int64))
def _drop(context, kind):  # type: ignore[no-untyped-def]
    address = _named_argument(context, 2)
    if address == 0:
        return SERVED
    if named(address)[KIND] != kind:
        reply_error(context, NOT_A_BRANCH if kind == BRANCH else NOT_A_SNAPSHOT)
        return SERVED
    if context.call[ARGC] == 4 and word(context, 3) != _FORCE:
        reply_error(context, SYNTAX)
        return SERVED
    if context.call[ARGC] == 3 and named(address)[USERS] > 0:
        return FOR_PYTHON  # to say how many there are
    drop_in_use(context_at(named(address)[CONTEXT_OF_NAMED]))
    reply_ok(context)
    return SERVED


@linked(int64(CONTEXT))
def _restore(context):  # type: ignore[no-untyped-def]
    address = _named_argument(context, 2)
    if address == 0:
        return SERVED
    if named(address)[KIND] != SNAPSHOT:
        reply_error(context, NOT_A_SNAPSHOT)
        return SERVED
    if context.call[ARGC] == 3:
        into = _current(context)
    elif word(context, 3) == _INTO:
        into = _named_argument(context, 4)
    else:
        reply_error(context, SYNTAX)
        return SERVED
    if into == 0:
        return SERVED
    if named(into)[KIND] == SNAPSHOT:
        reply_error(context, SNAPSHOT_READ_ONLY)
    elif restore(context_at(named(into)[CONTEXT_OF_NAMED]), address) == 0:
        reply_out_of_frames(context)
    else:
        reply_ok(context)
    return SERVED


@linked(HANDLER)
def branch(context):  # type: ignore[no-untyped-def]
    """BRANCH CREATE | USE | CURRENT | RESET | DROP | LIST | DIFF; its other forms are left to Python"""
    count = context.call[ARGC]
    if count == 3 and is_word(context, 1, _USE):
        return _use(context)
    if 2 <= count <= 3 and is_word(context, 1, _RESET):
        return _reset(context)
    if count >= 3 and is_word(context, 1, _CREATE):
        return _create(context, BRANCH)
    if 3 <= count <= 4 and is_word(context, 1, _DROP):
        return _drop(context, BRANCH)
    if count == 2 and is_word(context, 1, _LIST):
        reply_named(context, 0)
        return SERVED
    if count >= 4 and is_word(context, 1, _DIFF):
        return differ(context)
    if count == 2 and is_word(context, 1, _CURRENT):
        address = _current(context)
        if address != 0:
            own = named(address)
            reply_bulk(context, bytes_at(own[NAME], own[NAME_SIZE]), 0, own[NAME_SIZE])
        return SERVED
    return FOR_PYTHON


@linked(HANDLER)
def snapshot(context):  # type: ignore[no-untyped-def]
    """SNAPSHOT CREATE | RESTORE | DROP | LIST; its other forms are left to Python"""
    count = context.call[ARGC]
    if count >= 3 and is_word(context, 1, _CREATE):
        return _create(context, SNAPSHOT)
    if (count == 3 or count == 5) and is_word(context, 1, _RESTORE):
        return _restore(context)
    if 3 <= count <= 4 and is_word(context, 1, _DROP):
        return _drop(context, SNAPSHOT)
    if count == 2 and is_word(context, 1, _LIST):
        reply_named(context, 1)
        return SERVED
    return FOR_PYTHON
