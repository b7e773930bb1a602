"""The description of a key for Python: the place of its entry and the form of its value (DEBUG OBJECT)."""

from kvstore.commands.coldplane import Described
from kvstore.commands.keys.introspection import encoding_of
from kvstore.commands.strings.getting import slot_entry
from kvstore.lifetimes.context import CONTEXT, Context
from kvstore.store.clocks import clock_of, idle_s
from kvstore.store.entries import (
    STRING,
    entry_encoding,
    entry_length,
    entry_memory,
    entry_type,
)
from kvstore.store.lookup import key_hash, lookup
from kvstore.store.types import TYPES
from mmcore.jit import address_of, int64, linked, zeros

ENCODINGS = ("int", "embstr", "raw")  # of strings


@linked(int64(CONTEXT, int64, int64, int64, int64[::1]))
def describe(context, db, key, count, out):  # type: ignore[no-untyped-def]
    """Write a key's address, type, encoding, size, clock and idle time to `out`; returns 0 without the key."""
    hash_ = key_hash(context, key, count)
    slot = lookup(context, db, key, count, hash_)
    if slot == 0:
        return 0
    entry = slot_entry(context, slot)
    out[0] = entry
    out[1] = entry_type(context, entry)
    if out[1] == STRING:
        out[2], out[3] = encoding_of(context, entry), entry_length(context, entry)
    else:
        out[2], out[3] = entry_encoding(context, entry), entry_memory(context, entry, 0)
    out[4] = clock_of(context, db, hash_)
    out[5] = idle_s(context, out[4])
    return 1


def describe_key(context: Context, db: int, key: bytes) -> Described | None:
    """How the value of a key is kept, or None without the key."""
    text, out = key or b"\0", zeros(int64, 6)
    if not describe(context, db, address_of(text), len(key), out):
        return None
    address, type_, encoding, length, clock, idle = (int(word) for word in out)
    names = ENCODINGS if type_ == STRING else TYPES[type_].encodings
    return Described(address, names[encoding], length, clock, idle)
