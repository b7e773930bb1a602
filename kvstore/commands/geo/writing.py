"""GEOADD: ZADD whose scores are positions (cells.py)."""

from kvstore.commands.geo.cells import STEPS, cell_of
from kvstore.commands.geo.options import check_position
from kvstore.commands.sortedsets.writing import CH, NX, XX, add_members
from kvstore.lifetimes.call import ARGC
from kvstore.lifetimes.context import CONTEXT, HANDLER
from kvstore.system.libc import free, malloc, words_at
from kvstore.wire.arguments import pack, word
from kvstore.wire.doubles import bits_of_double, double_argument
from kvstore.wire.errors import OUT_OF_RESULT, SYNTAX
from kvstore.wire.resp import reply_error
from mmcore.jit import int64, linked

_NX_WORD, _XX_WORD, _CH_WORD = pack(b"NX"), pack(b"XX"), pack(b"CH")


@linked(int64(CONTEXT, int64, int64))
def _scores(context, first, count):  # type: ignore[no-untyped-def]
    """The address of the bits of so many scores, whose positions begin at argument `first`; 0 with an error replied."""
    address = malloc(8 * count)
    if address == 0:
        reply_error(context, OUT_OF_RESULT)
        return 0
    for number in range(count):
        i = first + 3 * number
        if not check_position(context, i):
            free(address)
            return 0
        _, longitude = double_argument(context, i)
        _, latitude = double_argument(context, i + 1)
        words_at(address, count)[number] = bits_of_double(float(cell_of(longitude, latitude, STEPS)))
    return address


@linked(HANDLER)
def geoadd(context):  # type: ignore[no-untyped-def]
    """GEOADD key [NX | XX] [CH] longitude latitude member [longitude latitude member ...]"""
    options, first, argc = 0, 2, context.call[ARGC]
    while first < argc:
        name = word(context, first)
        option = NX if name == _NX_WORD else XX if name == _XX_WORD else CH if name == _CH_WORD else 0
        if option == 0:
            break
        options |= option
        first += 1
    if first == argc or (argc - first) % 3 != 0 or (options & NX and options & XX):
        reply_error(context, SYNTAX)
        return 0
    scores = _scores(context, first, (argc - first) // 3)
    if scores != 0:
        add_members(context, options, first + 2, 3, scores)
        free(scores)
    return 0
