"""The arguments of SORT.

    OPTIONS words at `options_at_hand(context)`

    WORD        DESCRIPTION
    DESCENDING  1 with DESC
    ALPHA       1 to compare texts, else numbers
    OFFSET      of LIMIT, 0 without it
    LIMIT       the count of LIMIT, -1 without it
    BY          number of the argument with the pattern of BY; 0 without it
    UNSORTED    1 where a pattern of BY has no asterisk: the elements keep their order
    GETS        how many GETs there are
    STORE_AT    number of the argument with the key that gets the result; 0 if it is replied

The patterns of GET are found again by going through the arguments, which were checked: `next_get`.
"""

from kvstore.commands.sorting.patterns import asterisk_in
from kvstore.lifetimes.call import ARGC
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import SCRATCH_ADDRESS
from kvstore.system.libc import words_at
from kvstore.wire.arguments import integer_argument, pack, word
from kvstore.wire.errors import NOT_INTEGER, SYNTAX
from kvstore.wire.resp import reply_error
from mmcore.jit import int64, kernel, linked, view

DESCENDING, ALPHA, OFFSET, LIMIT, BY, UNSORTED, GETS, STORE_AT = range(8)
OPTIONS = 8
_PLACE = 80  # among the words of the scratch memory
_ASC_WORD, _DESC_WORD, _ALPHA_WORD, _LIMIT_WORD = pack(b"ASC"), pack(b"DESC"), pack(b"ALPHA"), pack(b"LIMIT")
_STORE_WORD, _BY_WORD, _GET_WORD = pack(b"STORE"), pack(b"BY"), pack(b"GET")


@view
def options_at_hand(context):  # type: ignore[no-untyped-def]
    """The options of the SORT at hand, int64[OPTIONS]."""
    return words_at(context.shard[SCRATCH_ADDRESS] + 8 * _PLACE, OPTIONS)


@kernel
def _take_limit(context, i):  # type: ignore[no-untyped-def]
    # Whether arguments i + 1 and i + 2 are a limit; else an error is replied.
    options = options_at_hand(context)
    valid, options[OFFSET] = integer_argument(context, i + 1)
    also_valid, options[LIMIT] = integer_argument(context, i + 2)
    if not (valid and also_valid):
        reply_error(context, NOT_INTEGER)
        return False
    return True


@linked(int64(CONTEXT, int64, int64))
def _take(context, i, may_store):  # type: ignore[no-untyped-def]
    """Read the option at argument i: the arguments behind it, or -1 with an error replied."""
    options, name, left = options_at_hand(context), word(context, i), context.call[ARGC] - i - 1
    if name == _ASC_WORD or name == _DESC_WORD:
        options[DESCENDING] = int64(name == _DESC_WORD)
        return 0
    if name == _ALPHA_WORD:
        options[ALPHA] = 1
        return 0
    if name == _LIMIT_WORD and left >= 2:
        return 2 if _take_limit(context, i) else -1
    if name == _STORE_WORD and left >= 1 and may_store:
        options[STORE_AT] = i + 1
        return 1
    if name == _BY_WORD and left >= 1:
        options[BY] = i + 1
        if asterisk_in(context, i + 1) < 0:
            options[UNSORTED] = 1
        return 1
    if name == _GET_WORD and left >= 1:
        options[GETS] += 1
        return 1
    reply_error(context, SYNTAX)
    return -1


@linked(int64(CONTEXT, int64))
def sort_options(context, may_store):  # type: ignore[no-untyped-def]
    """Read the options of SORT: 1, or 0 with an error replied."""
    options, i = options_at_hand(context), 2
    for option in range(OPTIONS):
        options[option] = 0
    options[LIMIT] = -1
    while i < context.call[ARGC]:
        more = _take(context, i, may_store)
        if more < 0:
            return 0
        i += 1 + more
    return 1


@linked(int64(CONTEXT, int64))
def next_get(context, i):  # type: ignore[no-untyped-def]
    """The number of the argument with the first pattern of GET behind the options up to argument i."""
    i += 1
    while True:
        name = word(context, i)
        if name == _GET_WORD:
            return i + 1
        i += 3 if name == _LIMIT_WORD else 2 if name == _BY_WORD or name == _STORE_WORD else 1
