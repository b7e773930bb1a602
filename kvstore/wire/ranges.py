"""The ends of ranges of sorted sets: by score, and by the order of members.

A score may follow a parenthesis, which excludes it.  The number itself is read leniently, as redis-server 7 does: a
blank before it is skipped, no number is 0, and 1e400 is infinite.

A member follows a bracket, which includes it, or a parenthesis.  A lone minus is before all members, a plus behind
them.  Redis looks at the byte behind the sign as C does, so a zero byte there ends the argument.
"""

from kvstore.wire.arguments import arg_length, arg_offset, query
from kvstore.wire.doubles import NO_DOUBLE, double_of_bits, read_double
from mmcore.jit import kernel

LEX_MEMBER, LEX_FIRST, LEX_LAST = 0, 1, 2
"""Kinds of ends by member: one member, before all, and behind all."""


@kernel
def score_end(context, i):  # type: ignore[no-untyped-def]
    """(whether argument i is the end of a range of scores, the score, whether it is excluded)."""
    text, start, count = query(context), arg_offset(context, i), arg_length(context, i)
    excluded = count > 0 and text[start] == 40
    bits = read_double(text, start + excluded, count - excluded, 1)
    return bits != NO_DOUBLE, double_of_bits(bits), excluded


@kernel
def lex_end(context, i):  # type: ignore[no-untyped-def]
    """(whether argument i is the end of a range of members, its kind, whether it is excluded, and its member).

    The member is given by its offset in the query buffer and its length; it has none unless the kind is LEX_MEMBER.
    """
    text, start, count = query(context), arg_offset(context, i), arg_length(context, i)
    if count == 0:
        return False, LEX_MEMBER, False, start, 0
    sign = text[start]
    if sign == 91 or sign == 40:
        return True, LEX_MEMBER, sign == 40, start + 1, count - 1
    alone = count == 1 or text[start + 1] == 0
    if sign == 45 and alone:
        return True, LEX_FIRST, False, start, 0
    if sign == 43 and alone:
        return True, LEX_LAST, False, start, 0
    return False, LEX_MEMBER, False, start, 0
