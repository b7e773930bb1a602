"""PFDEBUG and PFSELFTEST: a look into sketches.

PFDEBUG GETREG makes a sparse sketch dense, as in Redis.  PFSELFTEST adds a hundredth of the elements that Redis adds,
because everybody waits for it: some ten milliseconds.
"""

import math

from kvstore.commands.hyperloglog.elements import REGISTERS, VALUE_SHIFT, register_of
from kvstore.commands.hyperloglog.estimate import HISTOGRAMS, VALUES, count_sketch
from kvstore.commands.hyperloglog.sketch import (
    CORRUPT,
    HEADER,
    VAL,
    XZERO,
    dense_get,
    dense_set,
    run_at,
    sketch_new,
    sketch_set,
    to_dense,
)
from kvstore.commands.hyperloglog.value import (
    WORK_SIZE,
    is_dense,
    is_sketch,
    load_sketch,
    room_in,
    sketch_in,
    store_sketch,
    work_begin,
)
from kvstore.commands.strings.getting import slot_entry
from kvstore.effects.door import changed
from kvstore.effects.events import PFCOUNT
from kvstore.lifetimes.call import DB
from kvstore.lifetimes.context import CONTEXT, HANDLER
from kvstore.lifetimes.shard import HLL_SPARSE_MAX_BYTES, SCRATCH_ADDRESS
from kvstore.store.lookup import key_hash, lookup_write
from kvstore.system.libc import bytes_at, free, malloc, words_at
from kvstore.wire.arguments import arg_length, argument, pack, word
from kvstore.wire.errors import (
    CORRUPT_SKETCH,
    OUT_OF_RESULT,
    SKETCH_NO_KEY,
    SKETCH_NOT_SPARSE,
    SKETCH_TEST_FAILED,
    UNKNOWN_PFDEBUG,
)
from kvstore.wire.numerals import put_decimal
from kvstore.wire.resp import (
    end_error,
    put_argument,
    reply_array,
    reply_bulk,
    reply_error,
    reply_integer,
    reply_length,
    reply_ok,
    reply_raw,
    reply_status,
    reply_truncate,
)
from mmcore.jit import constant, fill_bytes, int64, kernel, linked, put64

_GETREG, _DECODE, _TODENSE, _ENCODING = pack(b"GETREG"), pack(b"DECODE"), pack(b"TODENSE"), pack(b"ENCODING")
_DENSE_TEXT, _SPARSE_TEXT, _QUOTE = constant(b"dense"), constant(b"sparse"), constant(b"'")
_RUN_TEXT = 12  # characters of a run at most: "Z:16384 "
_ELEMENTS = 100_000  # of the self-test
_SEED = 0x9E37_79B9_7F4A_7C15


@linked(int64(CONTEXT, int64, int64, int64))
def _make_dense(context, slot, hash_, work):  # type: ignore[no-untyped-def]
    """Make the sketch of the key's slot dense, and leave it in the memory: 1; 0 if it was; -1 with an error reply."""
    key, key_size = argument(context, 2)
    entry, sketch = slot_entry(context, slot), sketch_in(work)
    length = load_sketch(context, entry, sketch)
    if is_dense(context, entry):
        return 0
    if length != CORRUPT:
        length = to_dense(sketch, length, room_in(work))
    if length == CORRUPT:
        reply_error(context, CORRUPT_SKETCH)
        return -1
    if not store_sketch(context, key, key_size, slot, hash_, sketch, length):
        return -1
    changed(context, context.call[DB], key, key_size, hash_, PFCOUNT, 1)
    return 1


@linked(int64(CONTEXT, int64, int64))
def _decode(context, slot, work):  # type: ignore[no-untyped-def]
    """Reply with the runs of a sparse sketch, in words."""
    entry, sketch = slot_entry(context, slot), sketch_in(work)
    if is_dense(context, entry):
        reply_error(context, SKETCH_NOT_SPARSE)
        return 0
    length = load_sketch(context, entry, sketch)
    size = _RUN_TEXT * max(length, 1)
    address = malloc(size)
    if address == 0:
        reply_error(context, OUT_OF_RESULT)
        return 0
    text, end, at = bytes_at(address, size), 0, HEADER
    while 0 <= at < length:
        kind, count, value, taken = run_at(sketch, at, length)
        at = at + taken if taken > 0 else CORRUPT
        text[end] = 118 if kind == VAL else 90 if kind == XZERO else 122
        text[end + 1] = 58
        end += 2
        if kind == VAL:
            end += put_decimal(text, end, value)
            text[end] = 44
            end += 1
        end += put_decimal(text, end, count)
        text[end] = 32
        end += 1
    if at == CORRUPT or length == CORRUPT:
        reply_error(context, CORRUPT_SKETCH)
    else:
        reply_bulk(context, text, 0, max(end - 1, 0))
    free(address)
    return 0


@linked(int64(CONTEXT, int64, int64, int64))
def _debug(context, slot, hash_, work):  # type: ignore[no-untyped-def]
    """PFDEBUG of the sketch of a slot."""
    name = word(context, 1)
    if name == _DECODE:
        return _decode(context, slot, work)
    if name == _ENCODING:
        if is_dense(context, slot_entry(context, slot)):
            reply_status(context, _DENSE_TEXT, 0, len(_DENSE_TEXT))
        else:
            reply_status(context, _SPARSE_TEXT, 0, len(_SPARSE_TEXT))
    elif name == _TODENSE or name == _GETREG:
        made = _make_dense(context, slot, hash_, work)
        if made >= 0 and name == _TODENSE:
            reply_integer(context, made)
        elif made >= 0:
            reply_array(context, REGISTERS)
            for index in range(REGISTERS):
                reply_integer(context, dense_get(sketch_in(work), index))
    else:
        start = reply_length(context)
        reply_error(context, UNKNOWN_PFDEBUG)
        reply_truncate(context, reply_length(context) - 2)
        put_argument(context, 1, arg_length(context, 1))
        reply_raw(context, _QUOTE, 0, 1)
        end_error(context, start)
    return 0


@linked(HANDLER)
def pfdebug(context):  # type: ignore[no-untyped-def]
    """PFDEBUG GETREG | DECODE | ENCODING | TODENSE key"""
    key, key_size = argument(context, 2)
    hash_ = key_hash(context, key, key_size)
    slot = lookup_write(context, key, key_size, hash_)
    if slot == 0:
        reply_error(context, SKETCH_NO_KEY)
        return 0
    if not is_sketch(context, slot_entry(context, slot)):
        return 0
    work = work_begin(context)
    if work != 0:
        _debug(context, slot, hash_, work)
        free(work)
    return 0


@linked(int64(int64, int64))
def _test_registers(dense, seed):  # type: ignore[no-untyped-def]
    """Whether registers of a dense sketch keep their values (0 or 1)."""
    sketch = sketch_in(dense)
    fill_bytes(sketch, 0, 0, len(sketch))
    for index in range(REGISTERS):
        value = (seed * (2 * index + 1) >> 40 & 63) | 1
        dense_set(sketch, index, value)
    for index in range(REGISTERS):
        if dense_get(sketch, index) != (seed * (2 * index + 1) >> 40 & 63) | 1:
            return 0
    return 1


@kernel
def _close(found, elements):  # type: ignore[no-untyped-def]
    # Whether an estimate is within six times the standard error; of few elements collisions decide.
    error = max(found - elements, elements - found)
    return error <= (1 if elements <= 10 else math.ceil(6 * 1.04 / math.sqrt(REGISTERS) * elements))


@linked(int64(CONTEXT, int64, int64))
def _test_estimates(context, dense, sparse):  # type: ignore[no-untyped-def]
    """Whether a sketch that begins dense and one that begins sparse agree, and their estimates are good (0 or 1)."""
    counts = words_at(context.shard[SCRATCH_ADDRESS], HISTOGRAMS * VALUES)
    one, other, limit = sketch_in(dense), sketch_in(sparse), min(context.shard[HLL_SPARSE_MAX_BYTES], 3000)
    length = to_dense(one, sketch_new(one), room_in(dense))
    other_length, checked = sketch_new(other), 1
    element = bytes_at(dense + WORK_SIZE, 8)
    found, other_found = words_at(dense + WORK_SIZE + 8, 1), words_at(dense + WORK_SIZE + 16, 1)
    for i in range(1, _ELEMENTS + 1):
        put64(element, 0, i ^ int64(_SEED))
        register = register_of(element, 0, 8)
        index, value = register & 0xFFFF, register >> VALUE_SHIFT
        dense_set(one, index, value)
        other_length = sketch_set(other, other_length, index, value, limit, room_in(sparse)) >> 1
        if other_length < 0:
            return 0
        if i == checked:
            code = count_sketch(one, length, counts, found)
            other_code = count_sketch(other, other_length, counts, other_found)
            if code != 0 or other_code != 0 or found[0] != other_found[0] or not _close(found[0], i):
                return 0
            checked *= 10
    return 1


@linked(HANDLER)
def pfselftest(context):  # type: ignore[no-untyped-def]
    """PFSELFTEST"""
    address = malloc(2 * (WORK_SIZE + 32))
    if address == 0:
        reply_error(context, OUT_OF_RESULT)
        return 0
    first, second = address, address + WORK_SIZE + 32
    if _test_registers(first, int64(_SEED)) and _test_estimates(context, first, second):
        reply_ok(context)
    else:
        reply_error(context, SKETCH_TEST_FAILED)
    free(address)
    return 0
