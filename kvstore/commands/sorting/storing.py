"""Storing what SORT finds: a list is built aside, and then takes the place of what the key held.

Each element reserves its own frames.  When they run out, what was built is freed, and the command is refused with
nothing changed.  Where a GET finds nothing, an empty element is stored.
"""

from kvstore.commands.lists.value import encoding_grown, reserve_list
from kvstore.commands.sortedsets.gathered import ADDRESS, gathered_row
from kvstore.commands.sortedsets.gathered import LENGTH as ROW_LENGTH
from kvstore.commands.sorting.options import GETS, STORE_AT, next_get, options_at_hand
from kvstore.commands.sorting.patterns import find_by, found_by
from kvstore.commands.sorting.texts import IN_PROCESS, LENGTH, NO_TEXT, REFERENCE
from kvstore.effects.events import SORTSTORE
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import SCRATCH_ADDRESS
from kvstore.store.collections import collection_publish, held
from kvstore.store.entries import LIST
from kvstore.store.layout import CONTROL_BASE, CONTROL_GRAVE
from kvstore.store.lookup import key_hash
from kvstore.store.reserve import reserve_change, reserve_removal
from kvstore.structures.collection import root_free
from kvstore.structures.packed_layout import END_SIZE
from kvstore.structures.pairs import NUMBER, PAIR, pairs_at
from kvstore.structures.sequence_change import sequence_push
from kvstore.system.libc import words_at
from kvstore.wire.arguments import argument
from kvstore.wire.errors import OUT_OF_RESULT
from kvstore.wire.resp import reply_error, reply_integer
from mmcore.jit import int64, linked, view, void

_ROOT, _COUNT, _SIZE, _DRAFT = range(4)  # of the list that is being built: its root, elements, their bytes
_PLACE = 100  # among the words of the scratch memory


@view
def _draft(context):  # type: ignore[no-untyped-def]
    return words_at(context.shard[SCRATCH_ADDRESS] + 8 * _PLACE, _DRAFT)


@linked(int64(CONTEXT, int64, int64))
def _push(context, reference, k):  # type: ignore[no-untyped-def]
    """Append a text to the list: 1, or 0 with -OOM replied."""
    draft = _draft(context)
    if not reserve_list(context, draft[_ROOT], 1, k + END_SIZE, 1):
        return 0
    address = reference ^ IN_PROCESS if reference & IN_PROCESS else held(context, reference, k)
    root = sequence_push(context.space, draft[_ROOT], 0, address, k)
    assert root != 0, "no frame was reserved for a list"
    draft[_ROOT] = root
    draft[_COUNT] += 1
    draft[_SIZE] += k
    return 1


@linked(int64(CONTEXT, int64[::1]))
def _push_row(context, row):  # type: ignore[no-untyped-def]
    """Append what is stored of one row: 1, or 0 with an error replied."""
    options, found, i = options_at_hand(context), found_by(context), 1
    if options[GETS] == 0:
        return _push(context, row[ADDRESS], row[ROW_LENGTH])
    for _ in range(options[GETS]):
        i = next_get(context, i)
        if not find_by(context, i, row[ADDRESS], row[ROW_LENGTH]):
            reply_error(context, OUT_OF_RESULT)
            return 0
        reference, k = found[REFERENCE], found[LENGTH]
        if k == NO_TEXT:
            reference, k = row[ADDRESS], 0
        if not _push(context, reference, k):
            return 0
    return 1


@linked(void(CONTEXT, int64, int64, int64))
def store_sorted(context, order, start, count):  # type: ignore[no-untyped-def]
    """Store `count` rows from a place in the order on; with none, delete the key.  Reply how many elements it has."""
    draft, i = _draft(context), options_at_hand(context)[STORE_AT]
    draft[_ROOT] = draft[_COUNT] = draft[_SIZE] = 0
    key, key_size = argument(context, i)
    stored = 1
    for place in range(start, start + count):
        row = gathered_row(context, pairs_at(order, start + count)[PAIR * place + NUMBER])
        stored = _push_row(context, row)
        if not stored:
            break
    if stored:
        stored = reserve_change(context, 2, key_size) if draft[_ROOT] != 0 else reserve_removal(context, 1)
    if not stored:
        if draft[_ROOT] != 0:
            root_free(context.space, CONTROL_BASE + CONTROL_GRAVE, draft[_ROOT])
        return
    encoding = encoding_grown(context, 0, draft[_SIZE], draft[_COUNT])
    hash_ = key_hash(context, key, key_size)
    collection_publish(context, key, key_size, hash_, LIST, encoding, draft[_ROOT], SORTSTORE)
    reply_integer(context, draft[_COUNT])
