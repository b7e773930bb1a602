"""Finding the keys of the command at hand, in a kernel, by the key specifications of its row (keyspecs.py).

The table has SPECS rows for each command, and a row for each run of keys, int64[commands * SPECS, SPEC_WIDTH]:

    KIND            NONE, or how the run is found: as a RANGE, or COUNTED by an argument
    START           the argument at which it begins, or from which on its keyword is looked for
    KEYWORD_SIZE    length of the keyword, 0 for none, and its bytes as two words (arguments.py)
    LAST, STEP, LIMIT       of a RANGE
    COUNT_AT, STEP, FIRST   if COUNTED, in the same places

A run is an arithmetic sequence of arguments, so a command with a million keys takes no memory to describe.
`keyspecs.places_table` makes the table when somebody first needs it, because that takes some milliseconds.
"""

from kvstore.lifetimes.call import ARGC
from kvstore.lifetimes.context import CONTEXT
from kvstore.lifetimes.shard import KEY_PLACES_ADDRESS
from kvstore.system.libc import words_at
from kvstore.wire.arguments import arg_length, arg_offset, integer_argument, query, word_at
from mmcore.jit import int64, kernel, linked, view

SPECS = 3  # runs of keys that a command has at most
(KIND, START, KEYWORD_SIZE, KEYWORD, KEYWORD_REST, LAST, STEP, LIMIT, SPEC_WIDTH) = range(9)
COUNT_AT, FIRST = LAST, LIMIT
NONE, RANGE, COUNTED = range(3)
COUNT_MAX = 999_999_999  # keys
# A run of keys: its first argument, the one behind its end, and the distance between two
RUN_FIRST, RUN_END, RUN_STEP, RUN_WORDS = range(4)
NO_RUN, UNKNOWN = 0, -1  # answers of key_run beside 1


@view
def _spec(context, command, number):  # type: ignore[no-untyped-def]
    return words_at(context.shard[KEY_PLACES_ADDRESS] + (SPECS * command + number) * SPEC_WIDTH * 8, SPEC_WIDTH)


@kernel
def _is_keyword(context, spec, i):  # type: ignore[no-untyped-def]
    size = arg_length(context, i)
    if size != spec[KEYWORD_SIZE]:
        return False
    text, start = query(context), arg_offset(context, i)
    if word_at(text, start, min(size, 8)) != spec[KEYWORD]:
        return False
    return size <= 8 or word_at(text, start + 8, size - 8) == spec[KEYWORD_REST]


@kernel
def _behind_keyword(context, spec):  # type: ignore[no-untyped-def]
    # The argument behind the keyword; 0 without it.
    count = context.call[ARGC]
    at, step = spec[START], 1
    if at <= 0:
        at, step = count + at, -1
    while 0 < at < count:
        if _is_keyword(context, spec, at):
            return at + 1
        at += step
    return 0


@linked(int64(CONTEXT, int64, int64, int64[::1]))
def key_run(context, command, number, run):  # type: ignore[no-untyped-def]
    """Find run `number` of the keys of the command at hand, which is in row `command` of the table.

    run: int64[RUN_WORDS], which becomes the run; it may be empty.  Returns 1, NO_RUN if the command has no more runs,
    or UNKNOWN if the arguments do not say where the keys are.
    """
    if number >= SPECS:
        return NO_RUN
    spec, count = _spec(context, command, number), context.call[ARGC]
    if spec[KIND] == NONE:
        return NO_RUN
    run[RUN_FIRST], run[RUN_END], run[RUN_STEP] = 0, 0, spec[STEP]
    first = spec[START]
    if spec[KEYWORD_SIZE] > 0:
        first = _behind_keyword(context, spec)
        if first == 0:
            return 1
    if spec[KIND] == COUNTED:
        at = first + spec[COUNT_AT]
        if at >= count:
            return UNKNOWN
        valid, keys = integer_argument(context, at)
        if not valid or keys < 1 or keys > COUNT_MAX:
            return UNKNOWN
        first += spec[FIRST]
        end = first + keys * spec[STEP]
        if end > count:
            return UNKNOWN
    else:
        last = first + spec[LAST]
        if spec[LAST] < 0:
            last += (count - first) // spec[LIMIT] if spec[LIMIT] > 0 else count - first
        if last < first or last >= count:
            return UNKNOWN
        end = last + 1
    run[RUN_FIRST], run[RUN_END] = first, end
    return 1


@linked(int64(CONTEXT, int64, int64[::1]))
def keys_known(context, command, run):  # type: ignore[no-untyped-def]
    """Whether the arguments say where all keys of the command at hand are (0 or 1); `run` is room for key_run."""
    number, found = 0, key_run(context, command, 0, run)
    while found == 1:
        number += 1
        found = key_run(context, command, number, run)
    return 1 if found == NO_RUN else 0
