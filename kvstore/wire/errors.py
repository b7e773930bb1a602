"""The error replies, in Redis's words, by number.

A kernel cannot hold text, so it names an error by its place in ERRORS; `reply_error` copies the text from one constant
array.  Python code uses the texts themselves: `ERRORS[SYNTAX]`.
"""

from itertools import accumulate

from mmcore.jit import constant, int64

SHOWN_MAX = 128  # [bytes] that an error shows of an unknown name, and of all arguments together

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
    "NOAUTH Authentication required.",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Commands that may modify the data set are disabled, because this instance is configured to report errors during writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). Please check the Redis logs for details about the RDB error.",  # noqa: E501
    "ERR Command not allowed inside a transaction",
    "ERR MULTI calls can not be nested",
    "ERR EXEC without MULTI",
    "ERR DISCARD without MULTI",
    "ERR WATCH inside MULTI is not allowed",
    "EXECABORT Transaction discarded because of previous errors.",
    "ERR Protocol error: too big mbulk count string",
    "ERR Protocol error: invalid multibulk length",
    "ERR Protocol error: unauthenticated multibulk length",
    "ERR Protocol error: too big bulk count string",
    "ERR Protocol error: invalid bulk length",
    "ERR Protocol error: unauthenticated bulk length",
    "ERR Protocol error: too big inline request",
    "ERR Protocol error: unbalanced quotes in request",
    "ERR Protocol error: expected '$', got '?'",
    "OOM no memory left for a transaction's queue",
    "OOM no memory left for the pattern",
    "OOM out of physical memory: all frames that this command may take are in use (see machine-memory).",
    "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",  # noqa: E501
    "ERR Unsupported option ",
    "ERR value is out of range, value must between -2147483648 and 2147483647",
    "ERR timeout is not an integer or out of range",
    "ERR timeout is negative",
    "ERR timeout is out of range",
    "UNBLOCKED client unblocked via CLIENT UNBLOCK",
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
    NO_AUTH,
    MISCONF,
    NO_MULTI,
    NESTED_MULTI,
    EXEC_WITHOUT_MULTI,
    DISCARD_WITHOUT_MULTI,
    WATCH_IN_MULTI,
    EXEC_ABORT,
    PROTOCOL_MULTIBULK_LINE,
    PROTOCOL_MULTIBULK,
    PROTOCOL_MULTIBULK_AUTH,
    PROTOCOL_BULK_LINE,
    PROTOCOL_BULK,
    PROTOCOL_BULK_AUTH,
    PROTOCOL_INLINE,
    PROTOCOL_QUOTES,
    PROTOCOL_DOLLAR,
    OUT_OF_QUEUE,
    OUT_OF_PATTERN,
    OUT_OF_FRAMES,
    NO_LFU,
    UNSUPPORTED_OPTION,
    INT_RANGE,
    TIMEOUT_NOT_INTEGER,
    TIMEOUT_NEGATIVE,
    TIMEOUT_RANGE,
    UNBLOCKED_ERROR,
) = range(len(ERRORS))

_ENCODED = [b"-" + text.encode() + b"\r\n" for text in ERRORS]
ERROR_BYTES = constant(b"".join(_ENCODED))  # the replies, end to end
ERROR_START = constant([0, *accumulate(map(len, _ENCODED))], int64)  # where each begins; int64[len(ERRORS) + 1]

ABORTED = constant(b"-EXECABORT Transaction discarded because of: ")  # and the reason follows


def shown(data: bytes, limit: int | None = None) -> str:
    """A client's bytes in an error, as C prints a string: up to a zero byte, and `limit` bytes at most."""
    return data[:limit].split(b"\0", 1)[0].decode(errors="surrogateescape")
