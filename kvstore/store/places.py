"""Places that were found while looking ahead, for the commands that ask for them.

LINDEX of a long list searches a tree, which is most of its work.  Looking ahead (net/ahead.py) searches it to prefetch
the element, and notes the packed in which it is.  The command takes that place instead of searching again.

A place is valid as long as nothing changes the store, so all places are forgotten

    when a pipeline is entered                     between two turns, anything may have moved
    before a command that does not merely read     it may change the list
    when other commands are looked at

A reading command may delete a key that is due, and a refused one may evict keys.  No list takes the root of a deleted
one before a command has written.

Commands take places in the order in which they were noted.  Those before one that is taken are passed over.
"""

from kvstore.lifetimes.shard import PLACES_ADDRESS, PLACES_END, PLACES_NEXT
from kvstore.lifetimes.sizes import PLACES_MAX, PLACES_WORDS
from kvstore.system.libc import words_at
from mmcore.jit import int64, kernel, view

STORE, ROOT, RANK, PACKED, REST = range(PLACES_WORDS)  # address of the store's registers; then the search, its result


@view
def _place(context, number):  # type: ignore[no-untyped-def]
    return words_at(context.shard[PLACES_ADDRESS] + 8 * PLACES_WORDS * number, PLACES_WORDS)


@kernel
def forget_places(context):  # type: ignore[no-untyped-def]
    """The store changes, or may have changed."""
    context.shard[PLACES_NEXT] = context.shard[PLACES_END] = 0


@kernel
def note_place(context, root, rank, packed, rest):  # type: ignore[no-untyped-def]
    """The element of this rank is item `rest` of a packed."""
    number = context.shard[PLACES_END]
    if number < PLACES_MAX:
        place = _place(context, number)
        place[STORE], place[ROOT], place[RANK] = context.store.ctypes.data, root, rank
        place[PACKED], place[REST] = packed, rest
        context.shard[PLACES_END] = number + 1


@kernel
def take_place(context, root, rank):  # type: ignore[no-untyped-def]
    """The packed of an element and its place there, as noted; packed 0 if it was not."""
    shard = context.shard
    for number in range(shard[PLACES_NEXT], shard[PLACES_END]):
        place = _place(context, number)
        if place[ROOT] == root and place[RANK] == rank and place[STORE] == context.store.ctypes.data:
            shard[PLACES_NEXT] = number + 1
            return place[PACKED], place[REST]
    return int64(0), int64(0)
