"""The error replies, in Redis's words, by number.

A kernel cannot hold text, so an error is its place in ERRORS; `reply_error` copies the text from one constant array.
Python code uses the texts themselves: `ERRORS[SYNTAX]`.
"""

from itertools import accumulate

from mmcore.jit import constant, int64

SHOWN_MAX = 128  # [bytes] that an error shows of an unknown name, and of all arguments together

_TEXTS: list[str] = []  # grows only while this module is imported


def _error(text: str) -> int:
    # The next error's number.
    _TEXTS.append(text)
    return len(_TEXTS) - 1


SYNTAX = _error("ERR syntax error")
NOT_INTEGER = _error("ERR value is not an integer or out of range")
NOT_FLOAT = _error("ERR value is not a valid float")
WRONG_TYPE = _error("WRONGTYPE Operation against a key holding the wrong kind of value")
NO_KEY = _error("ERR no such key")
OUT_OF_RANGE = _error("ERR index out of range")
OFFSET_RANGE = _error("ERR offset is out of range")
TOO_LONG = _error("ERR string exceeds maximum allowed size (proto-max-bulk-len)")
OVERFLOW = _error("ERR increment or decrement would overflow")
NAN_OR_INFINITY = _error("ERR increment would produce NaN or Infinity")
OUT_OF_MEMORY = _error("OOM command not allowed when used memory > 'maxmemory'.")
DB_INDEX = _error("ERR DB index is out of range")
SAME_OBJECT = _error("ERR source and destination objects are the same")
INVALID_CURSOR = _error("ERR invalid cursor")
NX_AND_OTHERS = _error("ERR NX and XX, GT or LT options at the same time are not compatible")
GT_AND_LT = _error("ERR GT and LT options at the same time are not compatible")
FIRST_DB = _error("ERR invalid first DB index")
SECOND_DB = _error("ERR invalid second DB index")
EXPIRE_SET = _error("ERR invalid expire time in 'set' command")
EXPIRE_SETEX = _error("ERR invalid expire time in 'setex' command")
EXPIRE_PSETEX = _error("ERR invalid expire time in 'psetex' command")
EXPIRE_GETEX = _error("ERR invalid expire time in 'getex' command")
EXPIRE_EXPIRE = _error("ERR invalid expire time in 'expire' command")
EXPIRE_PEXPIRE = _error("ERR invalid expire time in 'pexpire' command")
EXPIRE_EXPIREAT = _error("ERR invalid expire time in 'expireat' command")
EXPIRE_PEXPIREAT = _error("ERR invalid expire time in 'pexpireat' command")
DECR_MIN = _error("ERR decrement would overflow")
MSET_ARITY = _error("ERR wrong number of arguments for 'mset' command")
MSETNX_ARITY = _error("ERR wrong number of arguments for 'msetnx' command")
NO_AUTH = _error("NOAUTH Authentication required.")
MISCONF = _error(
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. "
    "Commands that may modify the data set are disabled, because this instance is configured to report "
    "errors during writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). Please check the "
    "Redis logs for details about the RDB error."
)
READ_ONLY_REPLICA = _error("READONLY You can't write against a read only replica.")
NO_MULTI = _error("ERR Command not allowed inside a transaction")
MONITOR_AND_KEYS = _error("ERR Replica can't interact with the keyspace")  # Redis takes a monitor for one
NESTED_MULTI = _error("ERR MULTI calls can not be nested")
EXEC_WITHOUT_MULTI = _error("ERR EXEC without MULTI")
DISCARD_WITHOUT_MULTI = _error("ERR DISCARD without MULTI")
WATCH_IN_MULTI = _error("ERR WATCH inside MULTI is not allowed")
EXEC_ABORT = _error("EXECABORT Transaction discarded because of previous errors.")
PROTOCOL_MULTIBULK_LINE = _error("ERR Protocol error: too big mbulk count string")
PROTOCOL_MULTIBULK = _error("ERR Protocol error: invalid multibulk length")
PROTOCOL_MULTIBULK_AUTH = _error("ERR Protocol error: unauthenticated multibulk length")
PROTOCOL_BULK_LINE = _error("ERR Protocol error: too big bulk count string")
PROTOCOL_BULK = _error("ERR Protocol error: invalid bulk length")
PROTOCOL_BULK_AUTH = _error("ERR Protocol error: unauthenticated bulk length")
PROTOCOL_INLINE = _error("ERR Protocol error: too big inline request")
PROTOCOL_QUOTES = _error("ERR Protocol error: unbalanced quotes in request")
PROTOCOL_DOLLAR = _error("ERR Protocol error: expected '$', got '?'")
OUT_OF_QUEUE = _error("OOM no memory left for a transaction's queue")
OUT_OF_PATTERN = _error("OOM no memory left for the pattern")
OUT_OF_FRAMES = _error(
    "OOM out of physical memory: all frames that this command may take are in use (see machine-memory)."
)
OUT_OF_BRANCH = _error(
    "OOM this branch may take no more memory: see its MAXMEMORY in BRANCH INFO, and machine-memory. "
    "BRANCH RESET, FLUSHALL and BRANCH DROP need none."
)
BRANCH_DROPPED = _error("NOBRANCH the branch of this connection was dropped: choose another one by BRANCH USE")
NO_BRANCH = _error("NOBRANCH no such branch or snapshot")
BRANCH_EXISTS = _error("ERR a branch or snapshot of that name exists")
BRANCH_NAME = _error("ERR a branch's name has 1 to 128 letters, digits or characters of -_.:/+#=,~")
BRANCH_LEAVE = _error(
    "ERR a connection that watches keys, is subscribed or tracks keys cannot change its branch: end that first"
)
BRANCH_MEMORY = _error("OOM no memory left for a branch")
SAVE_FAILED = _error("ERR the branch could not be saved: the log of the server has the reason")
BRANCH_STRANGE = _error("ERR the two have nothing in common: main was loaded from the image of another server since")
NOT_A_BRANCH = _error("ERR that is no branch that was made by BRANCH CREATE")
NOT_A_SNAPSHOT = _error("ERR that is no snapshot")
SNAPSHOT_READ_ONLY = _error("READONLY a snapshot cannot be written")
TTL_RANGE = _error("ERR TTL is not a positive number of seconds, or too large")
QUOTA_RANGE = _error("ERR MAXMEMORY is not a positive number of bytes, or too large")
NO_LFU = _error(
    "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when "
    "switching between policies at runtime LRU and LFU data will take some time to adjust."
)
NO_IDLE_TIME = _error(
    "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when "
    "switching between policies at runtime LRU and LFU data will take some time to adjust."
)
UNSUPPORTED_OPTION = _error("ERR Unsupported option ")
INT_RANGE = _error("ERR value is out of range, value must between -2147483648 and 2147483647")
TIMEOUT_NOT_INTEGER = _error("ERR timeout is not an integer or out of range")
TIMEOUT_NEGATIVE = _error("ERR timeout is negative")
TIMEOUT_RANGE = _error("ERR timeout is out of range")
UNBLOCKED_ERROR = _error("UNBLOCKED client unblocked via CLIENT UNBLOCK")
ALREADY_SAVING = _error("ERR Background save already in progress")
HASH_NOT_INTEGER = _error("ERR hash value is not an integer")
HASH_NOT_FLOAT = _error("ERR hash value is not a float")
NAN_OR_INFINITY_VALUE = _error("ERR value is NaN or Infinity")
HSET_ARITY = _error("ERR wrong number of arguments for 'hset' command")
ZRANK_ARITY = _error("ERR wrong number of arguments for 'zrank' command")
ZREVRANK_ARITY = _error("ERR wrong number of arguments for 'zrevrank' command")
HMSET_ARITY = _error("ERR wrong number of arguments for 'hmset' command")
LPOP_ARITY = _error("ERR wrong number of arguments for 'lpop' command")
RPOP_ARITY = _error("ERR wrong number of arguments for 'rpop' command")
NOT_POSITIVE = _error("ERR value is out of range, must be positive")
VALUE_RANGE = _error("ERR value is out of range")
LONG_RANGE = _error("ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807")
NUMKEYS = _error("ERR numkeys should be greater than 0")
NUMKEYS_BEYOND = _error("ERR Number of keys can't be greater than number of args")
COUNT_NOT_POSITIVE = _error("ERR count should be greater than 0")
OUT_OF_DRAWS = _error("OOM no memory left for the elements that were drawn")
LIMIT_NEGATIVE = _error("ERR LIMIT can't be negative")
RANK_ZERO = _error(
    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start "
    "from the end of the list"
)
COUNT_NEGATIVE = _error("ERR COUNT can't be negative")
MAXLEN_NEGATIVE = _error("ERR MAXLEN can't be negative")
MIN_MAX_FLOAT = _error("ERR min or max is not a float")
MIN_MAX_LEX = _error("ERR min or max not valid string range item")
WEIGHT_NOT_FLOAT = _error("ERR weight value is not a float")
SCORE_NAN = _error("ERR resulting score is not a number (NaN)")
XX_AND_NX = _error("ERR XX and NX options at the same time are not compatible")
GT_LT_NX = _error("ERR GT, LT, and/or NX options at the same time are not compatible")
INCR_PAIR = _error("ERR INCR option supports a single increment-element pair")
LIMIT_ALONE = _error("ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX")
LEX_WITHSCORES = _error("ERR syntax error, WITHSCORES not supported in combination with BYLEX")
NO_KEYS_ZUNIONSTORE = _error("ERR at least 1 input key is needed for 'zunionstore' command")
NO_KEYS_ZINTERSTORE = _error("ERR at least 1 input key is needed for 'zinterstore' command")
NO_KEYS_ZDIFFSTORE = _error("ERR at least 1 input key is needed for 'zdiffstore' command")
NO_KEYS_ZUNION = _error("ERR at least 1 input key is needed for 'zunion' command")
NO_KEYS_ZINTER = _error("ERR at least 1 input key is needed for 'zinter' command")
NO_KEYS_ZDIFF = _error("ERR at least 1 input key is needed for 'zdiff' command")
OUT_OF_RESULT = _error("OOM no memory left for the result")
NO_KEYS_ZINTERCARD = _error("ERR at least 1 input key is needed for 'zintercard' command")
SSUBSCRIBE_IN_EXEC = _error("ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client")
OUT_OF_SUBSCRIPTIONS = _error("OOM no memory left for the subscription")
TIMEOUT_NOT_FLOAT = _error("ERR timeout is not a float or out of range")
OUT_OF_WAITING = _error("OOM no memory left for a command that waits")
XADD_ARITY = _error("ERR wrong number of arguments for 'xadd' command")
STREAM_ID = _error("ERR Invalid stream ID specified as stream command argument")
STREAM_ID_LEAST = _error("ERR The ID specified in XADD must be greater than 0-0")
STREAM_ID_SMALL = _error("ERR The ID specified in XADD is equal or smaller than the target stream top item")
STREAM_EXHAUSTED = _error("ERR The stream has exhausted the last possible ID, unable to add more items")
STREAM_TOO_LARGE = _error("ERR Elements are too large to be stored")
TRIM_TWICE = _error("ERR syntax error, MAXLEN and MINID options at the same time are not compatible")
TRIM_MAXLEN = _error("ERR The MAXLEN argument must be >= 0.")
TRIM_LIMIT = _error("ERR The LIMIT argument must be >= 0.")
TRIM_LIMIT_ALONE = _error("ERR syntax error, LIMIT cannot be used without specifying a trimming strategy")
TRIM_LIMIT_EXACT = _error("ERR syntax error, LIMIT cannot be used without the special ~ option")
TRIM_NOTHING = _error("ERR syntax error, XTRIM must be called with a trimming strategy")
INTERVAL_START = _error("ERR invalid start ID for the interval")
INTERVAL_END = _error("ERR invalid end ID for the interval")
XSETID_SMALL = _error("ERR The ID specified in XSETID is smaller than the target stream top item")
XSETID_DELETED = _error("ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id")
XSETID_DELETED_NOW = _error("ERR The ID specified in XSETID is smaller than current max_deleted_entry_id")
XSETID_ADDED = _error("ERR The entries_added specified in XSETID is smaller than the target stream length")
XSETID_ADDED_NEGATIVE = _error("ERR entries_added must be positive")
XREAD_UNBALANCED = _error("ERR Unbalanced 'xread' list of streams: for each stream key an ID or '$' must be specified.")
XREADGROUP_UNBALANCED = _error(
    "ERR Unbalanced 'xreadgroup' list of streams: for each stream key an ID or '>' must be specified."
)
XREAD_GROUP = _error("ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.")
XREAD_NOACK = _error("ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead.")
XREAD_NO_GROUP = _error("ERR Missing GROUP option for XREADGROUP")
XREADGROUP_DOLLAR = _error(
    "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by "
    "specifying a proper ID, or use the > ID to get new messages. The $ ID would just return an empty result set."
)
XREADGROUP_PLUS = _error(
    "ERR The + ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by "
    "specifying a proper ID, or use the > ID to get new messages. The + ID would just return an empty result set."
)
XREAD_NEW = _error(
    "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option."
)
XGROUP_NO_KEY = _error(
    "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option "
    "to create an empty stream automatically."
)
XGROUP_BUSY = _error("BUSYGROUP Consumer Group name already exists")
XGROUP_ENTRIES_READ = _error("ERR value for ENTRIESREAD must be positive or -1")
XCLAIM_IDLE = _error("ERR Invalid min-idle-time argument for XCLAIM")
XCLAIM_OPTION_IDLE = _error("ERR Invalid IDLE option argument for XCLAIM")
XCLAIM_OPTION_TIME = _error("ERR Invalid TIME option argument for XCLAIM")
XCLAIM_OPTION_TIMES = _error("ERR Invalid RETRYCOUNT option argument for XCLAIM")
XAUTOCLAIM_IDLE = _error("ERR Invalid min-idle-time argument for XAUTOCLAIM")
XAUTOCLAIM_COUNT = _error("ERR COUNT must be > 0")
GEO_PAIR = _error("ERR invalid longitude,latitude pair ")
GEO_MEMBER = _error("ERR could not decode requested zset member")
GEO_COUNT = _error("ERR COUNT must be > 0")
GEO_ANY = _error("ERR the ANY argument requires COUNT argument")
GEO_CENTRE = _error("ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for ")
GEO_AREA = _error("ERR exactly one of BYRADIUS and BYBOX can be specified for ")
GEO_STORE = _error("ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and WITHCOORD options")
GEO_SEARCH_STORE = _error("ERR GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD options")
RADIUS_NOT_FLOAT = _error("ERR need numeric radius")
RADIUS_NEGATIVE = _error("ERR radius cannot be negative")
WIDTH_NOT_FLOAT = _error("ERR need numeric width")
HEIGHT_NOT_FLOAT = _error("ERR need numeric height")
BOX_NEGATIVE = _error("ERR height or width cannot be negative")
UNIT_UNKNOWN = _error("ERR unsupported unit provided. please use M, KM, FT, MI")
LCS_TYPE = _error("ERR The specified keys must contain string values")
LCS_BOTH = _error("ERR If you want both the length and indexes, please just use IDX.")
LCS_TOO_LARGE = _error("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len")
LCS_NO_MEMORY = _error("ERR Insufficient memory, failed allocating transient memory for LCS")
SCORES_NOT_FLOAT = _error("ERR One or more scores can't be converted into double")
BIT_OFFSET = _error("ERR bit offset is not an integer or out of range")
BIT_VALUE = _error("ERR bit is not an integer or out of range")
BIT_ARGUMENT = _error("ERR The bit argument must be 1 or 0.")
BITOP_NOT_ARITY = _error("ERR BITOP NOT must be called with a single source key.")
FIELD_TYPE = _error("ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.")
OVERFLOW_TYPE = _error("ERR Invalid OVERFLOW type specified")
FIELD_READ_ONLY = _error("ERR BITFIELD_RO only supports the GET subcommand")
NO_SKETCH = _error("WRONGTYPE Key is not a valid HyperLogLog string value.")
CORRUPT_SKETCH = _error("INVALIDOBJ Corrupted HLL object detected")
UNKNOWN_PFDEBUG = _error("ERR Unknown PFDEBUG subcommand '")
SKETCH_NO_KEY = _error("ERR The specified key does not exist")
SKETCH_NOT_SPARSE = _error("ERR HLL encoding is not sparse")
SKETCH_TEST_FAILED = _error("ERR TESTFAILED a register or an estimate is wrong")
NO_FIELDS_WORD = _error("ERR Mandatory argument FIELDS is missing or not at the right position")
FIELDS_ABOVE_ZERO = _error("ERR Parameter `numFields` should be greater than 0")
FIELDS_POSITIVE = _error("ERR Number of fields must be a positive integer")
FIELDS_INVALID = _error("ERR invalid number of fields")
FIELDS_UNLIKE = _error("ERR The `numfields` parameter must match the number of arguments")
EXPIRE_BELOW_ZERO = _error("ERR invalid expire time, must be >= 0")
EXPIRE_MISSING = _error("ERR missing expire time")
EXPIRE_HEXPIRE = _error("ERR invalid expire time in 'hexpire' command")
EXPIRE_HPEXPIRE = _error("ERR invalid expire time in 'hpexpire' command")
EXPIRE_HEXPIREAT = _error("ERR invalid expire time in 'hexpireat' command")
EXPIRE_HPEXPIREAT = _error("ERR invalid expire time in 'hpexpireat' command")
EXPIRE_HGETEX = _error("ERR invalid expire time in 'hgetex' command")
EXPIRE_HSETEX = _error("ERR invalid expire time in 'hsetex' command")
HSETEX_ARITY = _error("ERR wrong number of arguments for 'hsetex' command")
FXX_AND_FNX = _error("ERR Only one of FXX or FNX arguments can be specified")
EXPIRE_TWICE = _error("ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified")
UNKNOWN_ARGUMENT = _error("ERR unknown argument: ")

ERRORS = tuple(_TEXTS)
_ENCODED = [b"-" + text.encode() + b"\r\n" for text in ERRORS]
ERROR_BYTES = constant(b"".join(_ENCODED))  # the replies, end to end
ERROR_START = constant([0, *accumulate(map(len, _ENCODED))], int64)  # where each begins; int64[len(ERRORS) + 1]

ABORTED = constant(b"-EXECABORT Transaction discarded because of: ")  # followed by the reason


def shown(data: bytes, limit: int | None = None) -> str:
    """A client's bytes as an error shows them: like C, up to a zero byte, and `limit` bytes at most."""
    return data[:limit].split(b"\0", 1)[0].decode(errors="surrogateescape")
