"""DEBUG POPULATE: creates many numbered keys at once, as Redis does.

    <prefix>:<number>  ->  value:<number>       for the numbers from 0 on; an existing key is left alone

SETNX's own kernel sets each key.  So each key reserves its frames, notifies its watchers and counts as a change.  The
kernel runs in a call of its own, whose arguments are those of a SETNX in a separate buffer, the room,

    uint8[VALUE + max(size, 32)]    the key, up to VALUE; then the value, whose zeros pad it to `size`

A key is cut to KEY_MAX bytes and its prefix ends at a zero byte, because Redis prints it into a C buffer.  The command
ends with an error at the first key that finds no memory, or exceeds maxmemory; the keys before it stay.  More keys than
the memory can ever hold are refused before the first is made.

A million keys take 1.2 s with their short values, where redis-server 7.0 takes 1.5 s, and 3 s with values of 1000
bytes.  The server serves no other client meanwhile.
"""

from kvstore.commands.strings.setting import setnx
from kvstore.lifetimes.call import ARGC, ARGS, DB, QUERY_ADDRESS, QUERY_SIZE
from kvstore.lifetimes.context import CONTEXT, Context
from kvstore.lifetimes.pool import FRAMES_IN_FORCE
from kvstore.store.entries import HEADER
from kvstore.store.eviction import has_limit, lacks_memory
from kvstore.system.nesting import call_pop, call_push
from kvstore.wire.errors import ERRORS, OUT_OF_FRAMES, OUT_OF_MEMORY
from kvstore.wire.numerals import put_decimal
from kvstore.wire.reply import CommandError
from kvstore.wire.resp import reply_length, reply_room, reply_truncate
from mmcore.jit import address_of, int64, linked, uint8, zeros
from mmcore.paging import PAGE_SIZE

KEY_MAX = 127  # [bytes]
VALUE = 160  # where the value is in the room; a prefix, a colon and twenty digits fit before it
VALUE_TEXT = b"value:"
_VALUE_TEXT_LENGTH = len(VALUE_TEXT)
_VALUE_ROOM = 32  # [bytes], for the text of a value
assert KEY_MAX + 1 + 20 <= VALUE and _VALUE_TEXT_LENGTH + 20 <= _VALUE_ROOM
_DONE = -1
_MINUS = 45  # the first byte of an error reply


@linked(int64(CONTEXT, uint8[::1], int64, int64, int64))
def populate(context, room, prefix_length, size, count):  # type: ignore[no-untyped-def]
    """Make `count` keys in the selected database, with values of `size` bytes; 0 for the length of their text.

    The room serves as the query buffer.  It holds the prefix, `prefix_length` bytes with its colon, and VALUE_TEXT.
    Returns _DONE, or the error that ended it.
    """
    args, begin, first = context.args, reply_length(context), 2 * context.call[ARGS]
    args[first + 2], args[first + 4] = 0, VALUE
    for number in range(count):
        if has_limit(context) and lacks_memory(context):
            return OUT_OF_MEMORY
        args[first + 3] = min(KEY_MAX, prefix_length + put_decimal(room, prefix_length, number))
        length = _VALUE_TEXT_LENGTH + put_decimal(room, VALUE + _VALUE_TEXT_LENGTH, number)
        args[first + 5] = size if size > 0 else length
        setnx(context)
        refused = reply_room(context, 1)[begin] == _MINUS
        reply_truncate(context, begin)
        if refused:
            return OUT_OF_FRAMES
    return _DONE


def populate_database(context: Context, db: int, count: int, prefix: bytes = b"key", size: int = 0) -> None:
    """DEBUG POPULATE: keys <prefix>:0 .. <prefix>:<count - 1> in a database, with values of `size` bytes.

    Raises CommandError when the memory is full.
    """
    begins = prefix.split(b"\0", 1)[0][:KEY_MAX] + b":"
    least = HEADER + len(begins) + 1 + (size or _VALUE_TEXT_LENGTH + 1)
    if count * least > context.pool[FRAMES_IN_FORCE] * PAGE_SIZE:
        raise CommandError(ERRORS[OUT_OF_FRAMES])
    room = zeros(uint8, VALUE + max(size, _VALUE_ROOM))
    room[: len(begins)] = begins
    room[VALUE : VALUE + _VALUE_TEXT_LENGTH] = VALUE_TEXT
    call_push(context)
    call = context.call
    call[ARGC], call[DB] = 3, db
    call[QUERY_ADDRESS], call[QUERY_SIZE] = address_of(room), len(room)
    error = populate(context, room, len(begins), size, count)
    call_pop(context)
    if error != _DONE:
        raise CommandError(ERRORS[error])
