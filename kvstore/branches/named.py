"""A named store: the main store, a branch or a snapshot.  All that is known of it by its name is one allocation.

    words
    0               what is known of it, below
    NAMED_WORDS     its registers, int64[STORE_REGISTERS] (lifetimes/store.py)
    _RECORD         the record of its context, int64[CONTEXT_WORDS] (lifetimes/context.py)

The registers and the record of the main store lie elsewhere, because Python made them.

A store needs some memory only while connections use it: its tables of interests, and what a message or a COPY in steps
is made in (lifetimes/wiring.py, AREAS).  This is an allocation of its own, which its first user makes and its last one
frees.  So a branch that nobody uses takes less than a kilobyte beside its frames.

A branch has two roots: that of its space, and its *base*, a frozen one, which RESET returns to.  A snapshot has only
the first, and its space is frozen.
"""

from kvstore.connections.interests import interests_free
from kvstore.effects.broadcasts import broadcasts_free
from kvstore.lifetimes.context import CONTEXT, CONTEXT_WORDS
from kvstore.lifetimes.listeners import NOTIFYING
from kvstore.lifetimes.named import (
    AREA,
    BASE,
    CONTEXT_OF_NAMED,
    KIND,
    MAIN,
    NAME,
    NAME_SIZE,
    NAMED_WORDS,
    ORIGIN_NAME,
    SNAPSHOT,
)
from kvstore.lifetimes.store import (
    CONTEXT_ADDRESS,
    COPY_NUMBER,
    COPY_READER_ADDRESS,
    COPY_ROOT,
    FRAMES_MAX,
    HASH_SEED,
    INTEREST_TABLES,
    LAST_SAVE_OK,
    LISTENERS,
    NAMED_ADDRESS,
    NOTIFY,
    READ_ONLY,
    STORE_REGISTERS,
    UNDO_ROOT,
)
from kvstore.lifetimes.wiring import AREAS
from kvstore.system.libc import bytes_at, free, malloc, words_at
from mmcore.jit import constant, copy_bytes, int64, kernel, linked, view, void

_RECORD = NAMED_WORDS + STORE_REGISTERS
_ALL = _RECORD + CONTEXT_WORDS
NO_QUOTA = 1 << 50  # in FRAMES_MAX of a store other than the main one
_STORE_PLACE = CONTEXT.offset("store")
_AREA_REGISTERS = constant([register for register, _ in AREAS], int64)
_AREA_WORDS = constant([words for _, words in AREAS], int64)
_AREA_ALL = sum(words for _, words in AREAS)
_TABLES = constant(INTEREST_TABLES, int64)


@kernel
def _clear(words):  # type: ignore[no-untyped-def]
    for i in range(words.size):
        words[i] = 0


@view
def named(address):  # type: ignore[no-untyped-def]
    """The row of a named store, int64[NAMED_WORDS]."""
    return words_at(address, NAMED_WORDS)


@view
def named_of(context):  # type: ignore[no-untyped-def]
    """The same, of the store of a context."""
    return words_at(context.store[NAMED_ADDRESS], NAMED_WORDS)


@kernel
def is_main(context):  # type: ignore[no-untyped-def]
    """Whether it is the context of the main store."""
    return context.store[FRAMES_MAX] == 0


@linked(int64(int64, int64))
def copy_name(name, size):  # type: ignore[no-untyped-def]
    """A copy of the `size` bytes at `name`; 0 when memory ran out."""
    kept = malloc(size)
    if kept != 0:
        copy_bytes(bytes_at(kept, size), 0, bytes_at(name, size), 0, size)
    return kept


@linked(int64(CONTEXT, int64, int64, int64))
def named_alloc(context, name, size, kind):  # type: ignore[no-untyped-def]
    """Memory for a store of this name, beside the store of `context`; 0 when memory ran out.

    Its registers are set, and its context's record; but not its space, nor its place among the others.
    """
    whole = kind != MAIN
    address = malloc(8 * (_ALL if whole else NAMED_WORDS))
    kept = copy_name(name, size)
    if address == 0 or kept == 0:
        free(address)
        free(kept)
        return 0
    words = words_at(address, _ALL if whole else NAMED_WORDS)
    _clear(words)
    words[KIND], words[NAME], words[NAME_SIZE], words[BASE] = kind, kept, size, -1
    if not whole:
        words[CONTEXT_OF_NAMED] = context.store[CONTEXT_ADDRESS]
        return address
    words[CONTEXT_OF_NAMED] = address + 8 * _RECORD
    beside, store = context.store, words_at(address + 8 * NAMED_WORDS, STORE_REGISTERS)
    store[FRAMES_MAX] = NO_QUOTA
    store[CONTEXT_ADDRESS], store[NAMED_ADDRESS] = words[CONTEXT_OF_NAMED], address
    store[HASH_SEED], store[COPY_READER_ADDRESS] = beside[HASH_SEED], beside[COPY_READER_ADDRESS]
    store[NOTIFY], store[LISTENERS] = beside[NOTIFY], beside[LISTENERS] & NOTIFYING
    store[COPY_NUMBER] = beside[COPY_NUMBER] + 1  # no half of a copy that the fork finds is this store's
    store[LAST_SAVE_OK] = 1
    store[UNDO_ROOT] = store[COPY_ROOT] = -1
    store[READ_ONLY] = 1 if kind == SNAPSHOT else 0
    record = words_at(words[CONTEXT_OF_NAMED], CONTEXT_WORDS)
    like = words_at(beside[CONTEXT_ADDRESS], CONTEXT_WORDS)
    for i in range(CONTEXT_WORDS):
        record[i] = like[i]
    record[_STORE_PLACE], record[_STORE_PLACE + 1] = address + 8 * NAMED_WORDS, STORE_REGISTERS
    return address


@linked(void(int64))
def named_free(address):  # type: ignore[no-untyped-def]
    """Free the memory of a named store that nobody uses."""
    free(named(address)[NAME])
    free(named(address)[ORIGIN_NAME])
    free(address)


@linked(int64(CONTEXT))
def area_open(context):  # type: ignore[no-untyped-def]
    """Give the store of this context the memory that its users need: 1, or 0 when memory ran out."""
    own = named_of(context)
    address = malloc(8 * _AREA_ALL)
    if address == 0:
        return 0
    _clear(words_at(address, _AREA_ALL))
    own[AREA] = address
    for i in range(len(_AREA_REGISTERS)):
        context.store[_AREA_REGISTERS[i]] = address
        address += 8 * _AREA_WORDS[i]
    return 1


@linked(void(CONTEXT))
def area_close(context):  # type: ignore[no-untyped-def]
    """Free that memory: its last user has gone."""
    own, store = named_of(context), context.store
    for i in range(len(_TABLES)):
        interests_free(store[_TABLES[i]])
    broadcasts_free(context)
    free(own[AREA])
    own[AREA] = 0
    for i in range(len(_AREA_REGISTERS)):
        store[_AREA_REGISTERS[i]] = 0
