"""Consumer groups as commands name them: finding one, what it has read, and the errors when there is none."""

from kvstore.commands.streams.value import room_of
from kvstore.effects.door import changed
from kvstore.effects.events import XGROUP_CREATECONSUMER
from kvstore.lifetimes.call import DB
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import NOW_MS
from kvstore.store.lookup import key_hash
from kvstore.structures.groups import CONSUMERS as CONSUMERS_WORD
from kvstore.structures.groups import (
    GIVEN_MS,
    GIVEN_SEQ,
    READ,
    SEEN,
    UNKNOWN,
    consumer_add,
    named_find,
    put_word,
    word_at,
)
from kvstore.structures.stream import (
    ADDED,
    GROUPS,
    LEAST_HALF,
    stream_count,
    stream_deleted,
    stream_edge,
    stream_has,
    stream_last,
)
from kvstore.structures.stream_layout import is_before
from kvstore.wire.arguments import argument
from kvstore.wire.errors import SHOWN_MAX
from kvstore.wire.resp import begin_error, end_error, put_argument, reply_raw
from mmcore.jit import constant, int64, kernel, linked, void
from mmcore.mmu import load64

_NO_KEY_OR_GROUP = constant(b"NOGROUP No such key '")
_OR_GROUP = constant(b"' or consumer group '")
_IN_XREADGROUP = constant(b"' in XREADGROUP with GROUP option")
_NO_GROUP = constant(b"NOGROUP No such consumer group '")
_FOR_KEY = constant(b"' for key name '")
_QUOTE = constant(b"'")
_UNKNOWN = constant(b"ERR unknown subcommand or wrong number of arguments for '")
_TRY_XGROUP, _TRY_XINFO = constant(b"'. Try XGROUP HELP."), constant(b"'. Try XINFO HELP.")
_ALL_OF_IT = 1 << 30  # [bytes] that an error shows of a name


@kernel
def find_group(context, root, i):  # type: ignore[no-untyped-def]
    """The group of a stream whose name is argument i; 0 without one."""
    name, k = argument(context, i)
    return named_find(context.space, load64(context.space, root + GROUPS), name, k)


@kernel
def find_consumer(context, group, i):  # type: ignore[no-untyped-def]
    """The consumer of a group whose name is argument i; 0 without one."""
    name, k = argument(context, i)
    return named_find(context.space, word_at(context.space, group, CONSUMERS_WORD), name, k)


@linked(int64(CONTEXT, int64, int64, int64))
def consumer_at_hand(context, group, i, key_at):  # type: ignore[no-untyped-def]
    """The consumer of a group whose name is argument i, seen now; a new one if need be.  Frames were reserved."""
    consumer = find_consumer(context, group, i)
    if consumer != 0:
        put_word(context.space, consumer, SEEN, context.shard[NOW_MS])
        return consumer
    name, k = argument(context, i)
    consumer = consumer_add(context.space, group, name, k, context.shard[NOW_MS])
    key, key_size = argument(context, key_at)
    changed(context, context.call[DB], key, key_size, key_hash(context, key, key_size), XGROUP_CREATECONSUMER, 1)
    return consumer


# --- errors ----------------------------------------------------------------------------------------------------------


@linked(void(CONTEXT, int64, int64, int64))
def refuse_no_group(context, key_at, group_at, reading):  # type: ignore[no-untyped-def]
    """The error for a key or a group that is not there."""
    start = begin_error(context)
    reply_raw(context, _NO_KEY_OR_GROUP, 0, len(_NO_KEY_OR_GROUP))
    put_argument(context, key_at, _ALL_OF_IT)
    reply_raw(context, _OR_GROUP, 0, len(_OR_GROUP))
    put_argument(context, group_at, _ALL_OF_IT)
    if reading:
        reply_raw(context, _IN_XREADGROUP, 0, len(_IN_XREADGROUP))
    else:
        reply_raw(context, _QUOTE, 0, len(_QUOTE))
    end_error(context, start)


@linked(void(CONTEXT, int64, int64))
def refuse_no_group_of_key(context, group_at, key_at):  # type: ignore[no-untyped-def]
    """The error of XGROUP and XINFO for a group that is not there."""
    start = begin_error(context)
    reply_raw(context, _NO_GROUP, 0, len(_NO_GROUP))
    put_argument(context, group_at, _ALL_OF_IT)
    reply_raw(context, _FOR_KEY, 0, len(_FOR_KEY))
    put_argument(context, key_at, _ALL_OF_IT)
    reply_raw(context, _QUOTE, 0, len(_QUOTE))
    end_error(context, start)


@linked(void(CONTEXT, int64))
def refuse_form(context, of_xgroup):  # type: ignore[no-untyped-def]
    """The error of XGROUP or XINFO for a form that there is not."""
    start = begin_error(context)
    reply_raw(context, _UNKNOWN, 0, len(_UNKNOWN))
    put_argument(context, 1, SHOWN_MAX)
    if of_xgroup:
        reply_raw(context, _TRY_XGROUP, 0, len(_TRY_XGROUP))
    else:
        reply_raw(context, _TRY_XINFO, 0, len(_TRY_XINFO))
    end_error(context, start)


# --- how far a group is ----------------------------------------------------------------------------------------------


@linked(int64(CONTEXT, int64, int64, int64))
def has_gaps_behind(context, root, ms, seq):  # type: ignore[no-untyped-def]
    """Whether an entry at or behind an identifier may have been deleted (0 or 1)."""
    space = context.space
    deleted_ms, deleted_seq = stream_deleted(space, root)
    if stream_count(space, root) == 0 or (deleted_ms == LEAST_HALF and deleted_seq == LEAST_HALF):
        return 0
    first_ms, first_seq = stream_edge(space, root, False)
    if is_before(deleted_ms, deleted_seq, first_ms, first_seq):
        return 0
    return 0 if is_before(deleted_ms, deleted_seq, ms, seq) else 1


@linked(int64(CONTEXT, int64, int64, int64))
def ever_added_until(context, root, ms, seq):  # type: ignore[no-untyped-def]
    """How many entries were ever added up to an identifier; UNKNOWN where nobody can tell.  As Redis guesses it."""
    space = context.space
    added, count = load64(space, root + ADDED), stream_count(space, root)
    last_ms, last_seq = stream_last(space, root)
    if added == 0:
        return 0
    if count == 0 and not is_before(last_ms, last_seq, ms, seq):
        return added
    if ms == last_ms and seq == last_seq:
        return added
    if is_before(last_ms, last_seq, ms, seq):
        return UNKNOWN
    first_ms, first_seq = stream_edge(space, root, False)
    deleted_ms, deleted_seq = stream_deleted(space, root)
    whole = deleted_ms == LEAST_HALF and deleted_seq == LEAST_HALF
    if whole or is_before(deleted_ms, deleted_seq, first_ms, first_seq):
        if is_before(ms, seq, first_ms, first_seq):
            return added - count
        if ms == first_ms and seq == first_seq:
            return added - count + 1
    return UNKNOWN


@linked(int64(CONTEXT, int64, int64))
def lag_of(context, root, group):  # type: ignore[no-untyped-def]
    """How many entries a group has not been given; UNKNOWN where nobody can tell."""
    space = context.space
    added, read = load64(space, root + ADDED), word_at(space, group, READ)
    ms, seq = word_at(space, group, GIVEN_MS), word_at(space, group, GIVEN_SEQ)
    if added == 0:
        return 0
    if read == UNKNOWN or has_gaps_behind(context, root, ms, seq):
        read = ever_added_until(context, root, ms, seq)
    return added - read if read != UNKNOWN else int64(UNKNOWN)


@linked(void(CONTEXT, int64, int64, int64, int64))
def note_given(context, root, group, ms, seq):  # type: ignore[no-untyped-def]
    """The group was given the entry with this identifier, and perhaps none behind it so far."""
    space = context.space
    if not is_before(word_at(space, group, GIVEN_MS), word_at(space, group, GIVEN_SEQ), ms, seq):
        return
    read = word_at(space, group, READ)
    if read != UNKNOWN and not has_gaps_behind(context, root, ms, seq):
        put_word(space, group, READ, read + 1)
    elif load64(space, root + ADDED) > 0:
        put_word(space, group, READ, ever_added_until(context, root, ms, seq))
    put_word(space, group, GIVEN_MS, ms)
    put_word(space, group, GIVEN_SEQ, seq)


@linked(int64(CONTEXT, int64, int64, int64))
def note_last(context, group, ms, seq):  # type: ignore[no-untyped-def]
    """The group was given all entries up to an identifier, if it was not before: whether that is so (0 or 1)."""
    space = context.space
    if not is_before(word_at(space, group, GIVEN_MS), word_at(space, group, GIVEN_SEQ), ms, seq):
        return 0
    put_word(space, group, GIVEN_MS, ms)
    put_word(space, group, GIVEN_SEQ, seq)
    return 1


@kernel
def entry_exists(context, root, ms, seq):  # type: ignore[no-untyped-def]
    """(where, place) of the entry with an identifier; NOWHERE without one."""
    return stream_has(context.space, root, ms, seq, room_of(context))
