"""Sizes of the buffers that kernels work in."""

ARGUMENTS_MAX = 1 << 24  # arguments of one command; the array is touched only as far as it is used
ARGUMENTS_AROUND = 2048  # of the calls around such a command: what may nest is short
TEXT_MAX = 5120  # [bytes], of a number read, with a NUL; MAX_LONG_DOUBLE_CHARS
RESULT_MAX = 5120  # of one printed: the largest has 4933 digits before the point
LINE_MAX = 1 << 16  # [bytes] of an inline command, before the line feed
LINE_ROOM = LINE_MAX + 1  # [bytes] with it
INPUT_MAX = 1 << 18  # [bytes] received at once
EVENTS_CAPACITY = 1024  # of epoll, taken at once
SENDS_MAX, SEND_WORDS = 1 << 16, 6  # records of bytes that wait for the end of a turn: connections/sends.py
INTERESTS_WORDS = 23  # of a table of interests: connections/interests.py
BROADCAST_WORDS = 13  # of the keys that are to be told by prefix: effects/broadcasts.py
INVALIDATION_WORDS = 8  # of a message that invalidates keys: effects/invalidations.py
COPYING_WORDS = 11  # of a record that is copied in steps: structures/copying.py
DEADLINE_WORDS = 2  # of a node of the heap in connections/deadlines.py
EVICTION_POOL_WORDS = 1 + 16 * 5  # candidates for eviction: store/evictionpool.py
PLACES_MAX, PLACES_WORDS = 16, 5  # found while looking ahead: store/places.py
SAMPLES = 16  # for INFO's rates; one a tick
SCRATCH_WORDS = 256
NAMES_WORDS = 9  # of the table of named stores: branches/registry.py
CALLS_MAX = 8  # that nest
CLOCK_LINE, CLOCK_LINES_MIN = 64, 64  # of the clocks of use [bytes], and how many there are: store/clocks.py
# Error replies by their first word: int64[ERROR_WORDS, ERROR_WIDTH], its bytes as two words, and how many.
ERROR_WORDS, ERROR_WIDTH = 32, 3
RELEASES_MAX = 4096  # old trees that can wait; int64[RELEASES_MAX, CURSOR_SIZE] at RELEASE_ADDRESS
