"""The description of a key for Python: the place of its entry and the form of its value (DEBUG OBJECT)."""

from kvstore.commands.coldplane import Described
from kvstore.commands.keys.introspection import encoding_of, idle_s
from kvstore.commands.strings.getting import slot_entry
from kvstore.lifetimes.context import CONTEXT, Context
from kvstore.store.entries import CLOCK_MASK, entry_flags, entry_length
from kvstore.store.lookup import key_hash, lookup
from mmcore.jit import address_of, int64, linked, zeros

ENCODINGS = ("int", "embstr", "raw")


@linked(int64(CONTEXT, int64, int64, int64, int64[::1]))
def describe(context, db, key, count, out):  # type: ignore[no-untyped-def]
    """Write a key's address, encoding, length, clock and idle time to `out`; returns 0 without the key."""
    slot = lookup(context, db, key, count, key_hash(context, key, count))
    if slot == 0:
        return 0
    entry = slot_entry(context, slot)
    out[0] = entry
    out[1] = encoding_of(context, entry)
    out[2] = entry_length(context, entry)
    out[3] = entry_flags(context, entry) & CLOCK_MASK
    out[4] = idle_s(context, entry)
    return 1


def describe_key(context: Context, db: int, key: bytes) -> Described | None:
    """How the value of a key is kept, or None without the key."""
    text, out = key or b"\0", zeros(int64, 5)
    if not describe(context, db, address_of(text), len(key), out):
        return None
    address, encoding, length, clock, idle = (int(word) for word in out)
    return Described(address, ENCODINGS[encoding], length, clock, idle)
