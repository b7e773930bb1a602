"""DEBUG DIGEST on the thread of long reads (store/aside.py): it looks at all that a store holds, for seconds."""

from kvstore.lifetimes.call import GIVEN_UP_AT
from kvstore.lifetimes.context import HANDLER, SERVED
from kvstore.store.digest import ROOM, STORE, digest_store
from kvstore.structures.sha1 import HASH_WORDS
from kvstore.system.libc import bytes_at, free, malloc, words_at
from kvstore.wire.resp import reply_status
from mmcore.jit import int64, kernel, linked

_TO_PYTHON = 1
_DIGITS = 8  # of a word


@kernel
def _put_hexadecimal(text, at, value):  # type: ignore[no-untyped-def]
    for i in range(_DIGITS):
        digit = (value >> (4 * (_DIGITS - 1 - i))) & 15
        text[at + i] = 48 + digit if digit < 10 else 87 + digit


@linked(HANDLER)
def debug(context):  # type: ignore[no-untyped-def]
    """DEBUG DIGEST, which has gone aside; all else, and DIGEST before that, is left to Python (debug.py)."""
    if context.call[GIVEN_UP_AT] == 0:
        return _TO_PYTHON
    address = malloc(8 * ROOM + _DIGITS * HASH_WORDS)
    assert address != 0, "out of memory for a digest"
    room, text = words_at(address, ROOM), bytes_at(address + 8 * ROOM, _DIGITS * HASH_WORDS)
    digest_store(context, room)
    for i in range(HASH_WORDS):
        _put_hexadecimal(text, _DIGITS * i, int64(room[STORE + i]))
    reply_status(context, text, 0, _DIGITS * HASH_WORDS)
    free(address)
    return SERVED
