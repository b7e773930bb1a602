"""The result of a set operation: replied, counted, or built aside as a set and then published under a key.

    RESULT_WORDS words at `result_of(context)`, in the shard's scratch memory:

    WORD      DESCRIPTION
    MODE      what becomes of a member: REPLY, COUNT or STORE
    FOUND     members so far
    TALLIED   members that decide the encoding, and about these:
    INTEGERS  integers before the first that is none
    MIXED     whether there is one that is none
    LONGEST   the length of the longest [bytes]
    FROM_INTS whether Redis makes the result an intset first; else it begins with a listpack

A result that is stored is a draft (value.py).  It is INTS as long as all members are integers, then a chain, then a
record, as it grows: each member reserves its own frames.  Its encoding is decided at the end.  When frames run out, the
draft is freed.

The encoding.  Redis 7.2 adds one member after the other to an intset or a listpack, which turns into something larger
on its way.  The outcome is the same for any order of the members, except that an intset with too many integers
becomes a hash table, whatever comes behind them.
"""

from kvstore.commands.sets.members import KEY, SIZE, members_of
from kvstore.commands.sets.reading import reply_member
from kvstore.commands.sets.value import (
    ENCODING,
    ROOT,
    draft_new,
    draft_of,
    put,
    reserve_members,
    reshape,
)
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import (
    SCRATCH_ADDRESS,
    SET_MAX_INTSET_ENTRIES,
    SET_MAX_LISTPACK_ENTRIES,
    SET_MAX_LISTPACK_VALUE,
)
from kvstore.store.collections import collection_publish
from kvstore.store.entries import SET
from kvstore.store.layout import CONTROL_BASE, CONTROL_GRAVE
from kvstore.store.lookup import key_hash
from kvstore.store.reserve import reserve_removal
from kvstore.store.types import COMPACT, INTSET, WIDE
from kvstore.structures.collection import root_free
from kvstore.structures.element import element_size
from kvstore.system.libc import bytes_at, words_at
from kvstore.wire.arguments import argument, parse_integer
from kvstore.wire.resp import reply_integer
from mmcore.jit import int64, kernel, linked, view, void

MODE, FOUND, TALLIED, INTEGERS, MIXED, LONGEST, FROM_INTS = range(7)
RESULT_WORDS = 7
REPLY, COUNT, STORE = range(3)
NO_FRAMES = -1
_RESULT = 64  # in the scratch memory [words]


@view
def result_of(context):  # type: ignore[no-untyped-def]
    """The result at hand."""
    return words_at(context.shard[SCRATCH_ADDRESS] + 8 * _RESULT, RESULT_WORDS)


@linked(void(CONTEXT, int64))
def result_begin(context, mode):  # type: ignore[no-untyped-def]
    """Begin with no members."""
    result = result_of(context)
    for i in range(RESULT_WORDS):
        result[i] = 0
    result[MODE] = mode
    draft_of(context)[ROOT] = 0


@linked(void(CONTEXT))
def tally(context):  # type: ignore[no-untyped-def]
    """Let the member at hand have its say in the encoding."""
    result, members = result_of(context), members_of(context)
    valid, _ = parse_integer(bytes_at(members[KEY], members[SIZE]), 0, members[SIZE])
    if not valid:
        result[MIXED] = 1
    elif result[MIXED] == 0:
        result[INTEGERS] += 1
    result[TALLIED] += 1
    result[LONGEST] = max(result[LONGEST], members[SIZE])


@linked(int64(CONTEXT))
def gather(context):  # type: ignore[no-untyped-def]
    """Add the member at hand to the draft: 1, 0 if it is there, or NO_FRAMES with -OOM replied."""
    draft, members = draft_of(context), members_of(context)
    key, k = members[KEY], members[SIZE]
    if not reserve_members(context, draft[ROOT], 1, element_size(k, 0)):
        return NO_FRAMES
    if draft[ROOT] == 0:
        draft_new(context, INTSET)
    if draft[ENCODING] == INTSET:
        valid, _ = parse_integer(bytes_at(key, k), 0, k)
        if not valid:
            reshape(context, COMPACT)
    return put(context, key, k)


@linked(int64(CONTEXT))
def result_take(context):  # type: ignore[no-untyped-def]
    """Let the member at hand be one of the result: 1, 0 if it is already, or NO_FRAMES with -OOM replied.

    Only a result that is stored knows what it has.
    """
    result, new = result_of(context), 1
    if result[MODE] == STORE:
        new = gather(context)
        if new < 0:
            return NO_FRAMES
    elif result[MODE] == REPLY:
        reply_member(context)
    result[FOUND] += new
    return new


@kernel
def encoding_of(context):  # type: ignore[no-untyped-def]
    """The encoding that follows from the tally."""
    shard, result = context.shard, result_of(context)
    if result[MIXED] == 0 and result[TALLIED] <= shard[SET_MAX_INTSET_ENTRIES]:
        return INTSET
    if result[FROM_INTS] and result[INTEGERS] > shard[SET_MAX_INTSET_ENTRIES]:
        return WIDE
    if result[TALLIED] <= shard[SET_MAX_LISTPACK_ENTRIES] and result[LONGEST] <= shard[SET_MAX_LISTPACK_VALUE]:
        return COMPACT
    return WIDE


@linked(void(CONTEXT))
def result_drop(context):  # type: ignore[no-untyped-def]
    """Free a draft that will not be published."""
    draft = draft_of(context)
    if draft[ROOT] != 0:
        root_free(context.space, CONTROL_BASE + CONTROL_GRAVE, draft[ROOT])
        draft[ROOT] = 0


@linked(void(CONTEXT, int64))
def result_publish(context, event):  # type: ignore[no-untyped-def]
    """Store the result under the key in argument 1, and reply with the number of its members."""
    draft = draft_of(context)
    key, key_size = argument(context, 1)
    if draft[ROOT] == 0:
        if not reserve_removal(context, 1):
            return
    elif not reserve_members(context, draft[ROOT], 1, key_size):
        result_drop(context)
        return
    else:
        reshape(context, encoding_of(context))
    hash_ = key_hash(context, key, key_size)
    collection_publish(context, key, key_size, hash_, SET, draft[ENCODING], draft[ROOT], event)
    reply_integer(context, result_of(context)[FOUND])
