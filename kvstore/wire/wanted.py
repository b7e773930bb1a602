"""Whether the reply at hand is still wanted.

A long read that another thread runs (store/aside.py) may outlive its client, or its reply the client's limit.  Then it
is *given up*: the loops of such commands end early, and nobody sees what they have replied.  The thread that owns the
connection sets the word at GIVEN_UP_AT, so a loop reads it anew each time.  For a command that the owner runs itself
there is no such word.
"""

from kvstore.lifetimes.call import GIVEN_UP_AT
from kvstore.lifetimes.context import CONTEXT
from kvstore.system.libc import words_at
from mmcore.jit import int64, kernel, linked, void

WANTED, UNWANTED, TOO_LONG = range(3)  # values of the word


@kernel
def is_given_up(context):  # type: ignore[no-untyped-def]
    """Whether nobody wants the reply at hand any more."""
    word = context.call[GIVEN_UP_AT]
    return word != 0 and words_at(word, 1)[0] != WANTED


@linked(void(CONTEXT, int64))
def give_up(context, why):  # type: ignore[no-untyped-def]
    """Let the command at hand, which another thread runs, end soon."""
    words_at(context.call[GIVEN_UP_AT], 1)[0] = why
