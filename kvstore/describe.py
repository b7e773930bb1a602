"""What Python may ask of a key: where its entry is, and how its value is kept (DEBUG OBJECT)."""

from kvstore.coldplane import Described
from kvstore.commands.keys import encoding_of, idle_s
from kvstore.commands.strings import slot_entry
from kvstore.entries import CLOCK_MASK, entry_flags, entry_length
from kvstore.keyspace import key_hash, lookup
from kvstore.state import QUERY_ADDRESS, QUERY_SIZE, STORE, Store
from mmcore.jit import address_of, int64, linked, zeros

ENCODINGS = ("int", "embstr", "raw")


@linked(int64(STORE, int64, int64[::1]))
def describe(store, db, out):  # type: ignore[no-untyped-def]
    """Of the key that argument 0 is: address, encoding, length, clock, idle time to `out`; 0 without the key."""
    slot = lookup(store, db, 0, key_hash(store, 0))
    if slot == 0:
        return 0
    entry = slot_entry(store, slot)
    out[0] = entry
    out[1] = encoding_of(store, entry)
    out[2] = entry_length(store, entry)
    out[3] = entry_flags(store, entry) & CLOCK_MASK
    out[4] = idle_s(store, entry)
    return 1


def describe_key(store: Store, db: int, key: bytes) -> Described | None:
    """How the value of a key is kept, or None without the key."""
    text, out = key or b"\0", zeros(int64, 5)
    registers = store.server
    kept = registers[QUERY_ADDRESS], registers[QUERY_SIZE], store.args[0], store.args[1]
    registers[QUERY_ADDRESS], registers[QUERY_SIZE] = address_of(text), len(key)
    store.args[0], store.args[1] = 0, len(key)
    found = describe(store, db, out)
    registers[QUERY_ADDRESS], registers[QUERY_SIZE], store.args[0], store.args[1] = kept
    if not found:
        return None
    address, encoding, length, clock, idle = (int(word) for word in out)
    return Described(address, ENCODINGS[encoding], length, clock, idle)
