"""The error replies, in Redis's words, by number.

A kernel cannot hold text, so it names an error by its place in ERRORS; `reply_error` copies the text from one constant
array.  Python code uses the texts themselves: `ERRORS[SYNTAX]`.
"""

import numpy as np

ERRORS = (
    "ERR syntax error",
    "ERR value is not an integer or out of range",
    "ERR value is not a valid float",
    "WRONGTYPE Operation against a key holding the wrong kind of value",
    "ERR no such key",
    "ERR index out of range",
    "ERR offset is out of range",
    "ERR string exceeds maximum allowed size (proto-max-bulk-len)",
    "ERR increment or decrement would overflow",
    "ERR increment would produce NaN or Infinity",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "ERR DB index is out of range",
    "ERR source and destination objects are the same",
    "ERR invalid cursor",
    "ERR NX and XX, GT or LT options at the same time are not compatible",
    "ERR GT and LT options at the same time are not compatible",
    "ERR invalid first DB index",
    "ERR invalid second DB index",
    "ERR invalid expire time in 'set' command",
    "ERR invalid expire time in 'setex' command",
    "ERR invalid expire time in 'psetex' command",
    "ERR invalid expire time in 'getex' command",
    "ERR invalid expire time in 'expire' command",
    "ERR invalid expire time in 'pexpire' command",
    "ERR invalid expire time in 'expireat' command",
    "ERR invalid expire time in 'pexpireat' command",
    "ERR decrement would overflow",
    "ERR wrong number of arguments for 'mset' command",
    "ERR wrong number of arguments for 'msetnx' command",
)

(
    SYNTAX,
    NOT_INTEGER,
    NOT_FLOAT,
    WRONG_TYPE,
    NO_KEY,
    OUT_OF_RANGE,
    OFFSET_RANGE,
    TOO_LONG,
    OVERFLOW,
    NAN_OR_INFINITY,
    OUT_OF_MEMORY,
    DB_INDEX,
    SAME_OBJECT,
    INVALID_CURSOR,
    NX_AND_OTHERS,
    GT_AND_LT,
    FIRST_DB,
    SECOND_DB,
    EXPIRE_SET,
    EXPIRE_SETEX,
    EXPIRE_PSETEX,
    EXPIRE_GETEX,
    EXPIRE_EXPIRE,
    EXPIRE_PEXPIRE,
    EXPIRE_EXPIREAT,
    EXPIRE_PEXPIREAT,
    DECR_MIN,
    MSET_ARITY,
    MSETNX_ARITY,
) = range(len(ERRORS))

_ENCODED = [b"-" + text.encode() + b"\r\n" for text in ERRORS]
ERROR_BYTES = np.frombuffer(b"".join(_ENCODED), np.uint8).copy()  # the replies, end to end
ERROR_START = np.cumsum([0, *map(len, _ENCODED)])  # where each begins; int64[len(ERRORS) + 1]
