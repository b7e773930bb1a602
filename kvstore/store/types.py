"""The table of types: the names of each type and of its encodings.

The form of a value depends on its root and not on its type (kvstore/structures/collection.py).  So freeing, copying,
counting and sizing a value need no type.  Its name, its encodings and its digest (digest.py) do.

An encoding is reported by the rules of Redis 7.2, whatever the value is stored as.  COMPACT becomes WIDE when a value
grows beyond what the configuration calls small, and only a list goes back.

A new type is a row here, a line in digest.py, and its own folder of commands.
"""

from itertools import accumulate
from typing import NamedTuple

from kvstore.store.entries import HASH, LIST, SET, STREAM, STRING, ZSET
from kvstore.wire.arguments import pack
from mmcore.jit import constant, int64, kernel

COMPACT, WIDE, INTSET = 0, 1, 2  # the encodings of a value with a root
DATED = 2  # what is reported for a COMPACT hash that has fields with a deadline
_ENCODINGS = 4  # that the bits of an entry can tell


class Type(NamedTuple):
    """A type of value."""

    number: int  # as Redis numbers types, and as an entry has it
    name: str
    encodings: tuple[str, ...]  # by COMPACT, WIDE, INTSET or DATED


TYPES = (
    Type(STRING, "string", ()),  # introspection.py derives its encodings from the value
    Type(LIST, "list", ("listpack", "quicklist")),
    Type(SET, "set", ("listpack", "hashtable", "intset")),
    Type(ZSET, "zset", ("listpack", "skiplist")),
    Type(HASH, "hash", ("listpack", "hashtable", "listpackex")),
    Type(5, "", ()),  # of modules in Redis, which are not served
    Type(STREAM, "stream", ("stream",)),
)
assert [type_.number for type_ in TYPES] == list(range(len(TYPES)))

_NAMES = [type_.name.encode() for type_ in TYPES]
NAME_BYTES = constant(b"".join(_NAMES))
NAME_START = constant([0, *accumulate(map(len, _NAMES))], int64)
_WORDS = constant([pack(name.upper()) if name else -1 for name in _NAMES], int64)
_TYPE_COUNT = len(TYPES)
_ENCODED = [(*type_.encodings, *[""] * _ENCODINGS)[i].encode() for type_ in TYPES for i in range(_ENCODINGS)]
ENCODING_BYTES = constant(b"".join(_ENCODED))
ENCODING_START = constant([0, *accumulate(map(len, _ENCODED))], int64)


@kernel
def type_named(word):  # type: ignore[no-untyped-def]
    """The number of the type with this name, as `word` packs it; -1 for none."""
    for number in range(_TYPE_COUNT):
        if _WORDS[number] == word:
            return number
    return -1


@kernel
def encoding_place(type_, encoding):  # type: ignore[no-untyped-def]
    """Where ENCODING_START has an encoding of a type."""
    return _ENCODINGS * type_ + encoding
