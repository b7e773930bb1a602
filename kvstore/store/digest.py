"""Digests of what a store holds, Redis's bit for bit (DEBUG DIGEST): two stores with the same data have the same.

    mix(data)           digest = SHA-1(digest xor SHA-1(data))
    value               from zeros: mix(type), its contents, and xor SHA-1("!!expire!!") where the key has a deadline
    contents            string: mix(bytes); list: mix(element) in order; set: xor SHA-1(member) for each;
                        stream: mix("ms.seq"), mix(field) and mix(value) for each in order;
                        hash, sorted set: xor SHA-1(element) for each, where an element is, from zeros, mix(field or
                        member) and mix(value or score); a score is printed as by "%.17g"; a field with a deadline
                        has xor SHA-1("!!hexpire!!") behind its value
    key                 from zeros: mix(key), then as its value
    store               from zeros: for each database that has keys mix(number), and xor SHA-1(digest of a key) for each

Numbers are four bytes, big-endian.  Keys are xor-ed, so their order does not matter.  The digest covers whether a key
has a deadline, and not the deadline's value.

The digest only observes the store: it counts no use and no hit.  As in Redis, it includes a key whose deadline has
passed until that key is deleted.  So any context will do, even one whose store must not be written.

One key costs seven blocks of SHA-1 when it and its value are short: a million keys take 3 s, where redis-server 7.0
takes 4.8 s.  Another thread makes the digest of a store that is not small (store/aside.py).
"""

from kvstore.lifetimes.context import CONTEXT, Context
from kvstore.lifetimes.shard import SCRATCH_ADDRESS
from kvstore.store.databases import db_load, key_base
from kvstore.store.dated import agenda_of
from kvstore.store.entries import (
    EXPIRY,
    LIST,
    SET,
    STREAM,
    STRING,
    ZSET,
    entry_flags,
    entry_key,
    entry_key_length,
    entry_length,
    entry_root,
    entry_type,
    entry_value,
)
from kvstore.store.fields import NO_TIME, element_deadline
from kvstore.store.index import entry_of
from kvstore.store.layout import DATABASES, DB_KEY_BUCKETS, DB_KEYS
from kvstore.store.lookup import find_slot, key_hash
from kvstore.store.scores import element_score
from kvstore.structures.buckets import BUCKET_SIZE, SLOTS, bucket_element, next_overflow
from kvstore.structures.element import element_key, element_key_length, element_payload, element_payload_length
from kvstore.structures.ints import ints_at, ints_count
from kvstore.structures.kinds import INTS, kind_of
from kvstore.structures.packed import packed_count, packed_item, packed_item_size
from kvstore.structures.sequence import NOWHERE, packed_where, where_first, where_next
from kvstore.structures.sha1 import HASH_WORDS, STATE, sha1_begin, sha1_end, sha1_update, sha1_words
from kvstore.structures.stream import NOWHERE as NO_NODE
from kvstore.structures.stream import entry_identifier, node_entries, node_where
from kvstore.structures.stream import where_first as first_node
from kvstore.structures.stream import where_next as next_node
from kvstore.structures.stream_entry import entry_begin, entry_pair
from kvstore.structures.stream_layout import ORDERED
from kvstore.structures.walk import WALK_WORDS, walk_begin, walk_next
from kvstore.system.libc import bytes_at, words_at
from kvstore.wire.doubles import double_of, put_double17
from kvstore.wire.numerals import put_decimal, put_unsigned
from kvstore.wire.wanted import is_given_up
from mmcore.jit import Array, address_of, constant, int64, kernel, linked, void, zeros
from mmcore.mmu import load64, read_address
from mmcore.paging import PAGE_MASK, PAGE_SIZE

# The room that digests are made in, int64[ROOM]: a state of SHA-1; the digests of a key, of the store and of an
# element; a number.
KEY, STORE, ELEMENT, NUMBER = (STATE + i * HASH_WORDS for i in range(4))
ROOM = NUMBER + 1
_TEXT = 64  # [bytes] of a number; the words of a walk lie behind it
_EXPIRE_TEXT = b"!!expire!!"
_EXPIRE, _EXPIRE_LENGTH = constant(_EXPIRE_TEXT), len(_EXPIRE_TEXT)
_FIELD_EXPIRE_TEXT = b"!!hexpire!!"
_FIELD_EXPIRE, _FIELD_EXPIRE_LENGTH = constant(_FIELD_EXPIRE_TEXT), len(_FIELD_EXPIRE_TEXT)


@kernel
def _clear(room, at):  # type: ignore[no-untyped-def]
    for i in range(HASH_WORDS):
        room[at + i] = 0


@kernel
def _xor_hash(room, at):  # type: ignore[no-untyped-def]
    # The digest at `at`, xor-ed with the hash that was made last.
    for i in range(HASH_WORDS):
        room[at + i] ^= room[i]


@kernel
def _mix_hash(room, at):  # type: ignore[no-untyped-def]
    # The digest at `at`, mixed with the data whose hash was made last.
    _xor_hash(room, at)
    sha1_words(room, room, at, HASH_WORDS)
    for i in range(HASH_WORDS):
        room[at + i] = room[i]


@kernel
def _mix_number(room, at, number):  # type: ignore[no-untyped-def]
    room[NUMBER] = number
    sha1_words(room, room, NUMBER, 1)
    _mix_hash(room, at)


@linked(void(CONTEXT, int64[::1], int64, int64))
def _hash_bytes(context, room, va, count):  # type: ignore[no-untyped-def]
    """room[:HASH_WORDS] becomes the hash of the `count` bytes at `va`, across pages."""
    sha1_begin(room)
    while count > 0:
        piece = min(count, PAGE_SIZE - (va & PAGE_MASK))
        sha1_update(room, context.space.mem.bytes, read_address(context.space, va), piece)
        va += piece
        count -= piece
    sha1_end(room)


@kernel
def _mix_bytes(context, room, at, va, count):  # type: ignore[no-untyped-def]
    _hash_bytes(context, room, va, count)
    _mix_hash(room, at)


@kernel
def _mix_key_of(context, room, at, element):  # type: ignore[no-untyped-def]
    space = context.space
    _mix_bytes(context, room, at, element_key(space, element), element_key_length(space, element))


@linked(void(CONTEXT, int64[::1], int64, int64))
def _mix_pair(context, room, root, element):  # type: ignore[no-untyped-def]
    """Mix a field and its value, and whether it has a deadline, into the digest of the key."""
    space = context.space
    _clear(room, ELEMENT)
    _mix_key_of(context, room, ELEMENT, element)
    _mix_bytes(context, room, ELEMENT, element_payload(space, element), element_payload_length(space, element))
    if agenda_of(context, root) != 0 and element_deadline(context, root, element) != NO_TIME:
        sha1_begin(room)
        sha1_update(room, _FIELD_EXPIRE, 0, _FIELD_EXPIRE_LENGTH)
        sha1_end(room)
        _xor_hash(room, ELEMENT)
    sha1_words(room, room, ELEMENT, HASH_WORDS)
    _xor_hash(room, KEY)


@linked(void(CONTEXT, int64[::1], int64))
def _mix_scored(context, room, element):  # type: ignore[no-untyped-def]
    """Mix a member and its score into the digest of the key."""
    _clear(room, ELEMENT)
    _mix_key_of(context, room, ELEMENT, element)
    text = bytes_at(context.shard[SCRATCH_ADDRESS], _TEXT)
    count = put_double17(text, 0, double_of(element_score(context.space, element)))
    sha1_begin(room)
    sha1_update(room, text, 0, count)
    sha1_end(room)
    _mix_hash(room, ELEMENT)
    sha1_words(room, room, ELEMENT, HASH_WORDS)
    _xor_hash(room, KEY)


@linked(void(CONTEXT, int64[::1], int64))
def _mix_integers(context, room, root):  # type: ignore[no-untyped-def]
    """Mix the members of a set of integers into the digest of the key."""
    text = bytes_at(context.shard[SCRATCH_ADDRESS], _TEXT)
    for i in range(ints_count(context.space, root)):
        count = put_decimal(text, 0, ints_at(context.space, root, i))
        sha1_begin(room)
        sha1_update(room, text, 0, count)
        sha1_end(room)
        _xor_hash(room, KEY)


@linked(void(CONTEXT, int64[::1], int64))
def _mix_list(context, room, root):  # type: ignore[no-untyped-def]
    """Mix the elements of a list into the digest of the key."""
    space, where = context.space, where_first(context.space, root)
    while where != NOWHERE:
        packed = packed_where(space, root, where)
        for i in range(packed_count(space, packed)):
            _mix_bytes(context, room, KEY, packed_item(space, packed, i), packed_item_size(space, packed, i))
        where = NOWHERE if is_given_up(context) else where_next(space, root, where)


@linked(void(CONTEXT, int64[::1], int64))
def _mix_stream(context, room, root):  # type: ignore[no-untyped-def]
    """Mix the entries of a stream into the digest of the key."""
    space, where = context.space, first_node(context.space, root)
    text = bytes_at(context.shard[SCRATCH_ADDRESS], _TEXT)
    while where != NO_NODE:
        node = node_where(space, root, where)
        for i in range(node_entries(space, node)):
            ms, seq = entry_identifier(space, node, i)
            count = put_unsigned(text, 0, ms ^ ORDERED)
            text[count] = 46
            count += 1 + put_unsigned(text, count + 1, seq ^ ORDERED)
            sha1_begin(room)
            sha1_update(room, text, 0, count)
            sha1_end(room)
            _mix_hash(room, KEY)
            fields, master, at = entry_begin(space, node, i)
            for _ in range(fields):
                name, k, value, v, master, at = entry_pair(space, master, at)
                _mix_bytes(context, room, KEY, name, k)
                _mix_bytes(context, room, KEY, value, v)
        where = NO_NODE if is_given_up(context) else next_node(space, where)


@linked(void(CONTEXT, int64[::1], int64, int64))
def _mix_elements(context, room, type_, root):  # type: ignore[no-untyped-def]
    """Mix the elements of a set, a sorted set or a hash into the digest of the key."""
    space, walk = context.space, words_at(context.shard[SCRATCH_ADDRESS] + _TEXT, WALK_WORDS)
    walk_begin(space, root, walk)
    element = walk_next(space, walk)
    while element != 0:
        if type_ == SET:
            _hash_bytes(context, room, element_key(space, element), element_key_length(space, element))
            _xor_hash(room, KEY)
        elif type_ == ZSET:
            _mix_scored(context, room, element)
        else:
            _mix_pair(context, room, root, element)
        element = 0 if is_given_up(context) else walk_next(space, walk)


@linked(void(CONTEXT, int64[::1], int64))
def _mix_value(context, room, entry):  # type: ignore[no-untyped-def]
    """Mix an entry's value, and whether it has a deadline, into the digest of the key."""
    type_ = entry_type(context, entry)
    _mix_number(room, KEY, type_)
    if type_ == STRING:
        _mix_bytes(context, room, KEY, entry_value(context, entry), entry_length(context, entry))
    elif type_ == LIST:
        _mix_list(context, room, entry_root(context, entry))
    elif type_ == STREAM:
        _mix_stream(context, room, entry_root(context, entry))
    elif kind_of(context.space, entry_root(context, entry)) == INTS:
        _mix_integers(context, room, entry_root(context, entry))
    else:
        _mix_elements(context, room, type_, entry_root(context, entry))
    if entry_flags(context, entry) & EXPIRY:
        sha1_begin(room)
        sha1_update(room, _EXPIRE, 0, _EXPIRE_LENGTH)
        sha1_end(room)
        _xor_hash(room, KEY)


@linked(void(CONTEXT, int64[::1], int64))
def _mix_database(context, room, db):  # type: ignore[no-untyped-def]
    """Mix a database that has keys into the digest of the store."""
    _mix_number(room, STORE, db)
    for number in range(db_load(context, db, DB_KEY_BUCKETS)):
        if is_given_up(context):
            break
        bucket = key_base(context, db) + BUCKET_SIZE * number
        while bucket != 0:
            for i in range(SLOTS):
                entry = bucket_element(context.space, bucket, i)
                if entry != 0:
                    _clear(room, KEY)
                    _mix_bytes(context, room, KEY, entry_key(context, entry), entry_key_length(context, entry))
                    _mix_value(context, room, entry)
                    sha1_words(room, room, KEY, HASH_WORDS)
                    _xor_hash(room, STORE)
            bucket = next_overflow(context.space, bucket)


@linked(void(CONTEXT, int64[::1]))
def digest_store(context, room):  # type: ignore[no-untyped-def]
    """room[STORE:] becomes the digest of the whole store; zeros for an empty one."""
    _clear(room, STORE)
    for db in range(DATABASES):
        if db_load(context, db, DB_KEYS) > 0:
            _mix_database(context, room, db)


@linked(void(CONTEXT, int64[::1], int64, int64, int64))
def digest_value(context, room, db, key, count):  # type: ignore[no-untyped-def]
    """room[KEY:] becomes the digest of the value of the key that is `count` bytes at `key`; zeros without the key."""
    _clear(room, KEY)
    slot = find_slot(context, db, key, count, key_hash(context, key, count))
    if slot != 0:
        _mix_value(context, room, entry_of(load64(context.space, slot)))


def _hexadecimal(room: Array, at: int) -> str:
    return "".join(f"{word:08x}" for word in room[at : at + HASH_WORDS])


def store_digest(context: Context) -> str:
    """The digest of all that a store holds, in 40 hexadecimal digits; 40 zeros for an empty one."""
    room = zeros(int64, ROOM)
    digest_store(context, room)
    return _hexadecimal(room, STORE)


def value_digest(context: Context, db: int, key: bytes) -> str:
    """The digest of a key's value, in 40 hexadecimal digits; 40 zeros without the key."""
    room, text = zeros(int64, ROOM), key or b"\0"
    digest_value(context, room, db, address_of(text), len(key))
    return _hexadecimal(room, KEY)
