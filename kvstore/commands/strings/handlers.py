"""The string commands.

Each is a kernel that finds its arguments in the query buffer, and appends one reply.  Those that write reserve frames
first; what cannot be had then leaves the store as it was, with the -OOM reply.
"""

from kvstore.commands.strings.counting import decr, decrby, incr, incrby, incrbyfloat
from kvstore.commands.strings.editing import append, setrange
from kvstore.commands.strings.getting import get, getrange, mget, strlen
from kvstore.commands.strings.setting import getdel, getex, getset, mset, msetnx, psetex, set_, setex, setnx

HANDLERS = {
    b"GET": get,
    b"SET": set_,
    b"SETNX": setnx,
    b"SETEX": setex,
    b"PSETEX": psetex,
    b"GETSET": getset,
    b"GETDEL": getdel,
    b"GETEX": getex,
    b"MGET": mget,
    b"MSET": mset,
    b"MSETNX": msetnx,
    b"APPEND": append,
    b"STRLEN": strlen,
    b"GETRANGE": getrange,
    b"SUBSTR": getrange,
    b"SETRANGE": setrange,
    b"INCR": incr,
    b"DECR": decr,
    b"INCRBY": incrby,
    b"DECRBY": decrby,
    b"INCRBYFLOAT": incrbyfloat,
}
