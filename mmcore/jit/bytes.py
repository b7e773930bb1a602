"""Bytes: what numba has no fast word for.

Indices are int64; words are little-endian and need no alignment.  Each has a plain Python twin for runs without the
compiler.
"""

from typing import Any

from mmcore.jit.arrays import Array
from mmcore.jit.leaves import intrinsic, kernel
from mmcore.jit.settings import BOUNDSCHECK, DISABLED
from mmcore.jit.toolchain import cgutils, ir, types

if DISABLED:
    import numpy as np

    def _within(array: Array, start: int, count: int) -> slice:
        assert start >= 0 and count >= 0 and start + count <= array.size
        return slice(start, start + count)

    def copy_bytes(target: Array, start: int, source: Array, offset: int, count: int) -> None:
        """Move `count` bytes from `source[offset:]` to `target[start:]`; the two may overlap."""
        target[_within(target, start, count)] = source[_within(source, offset, count)].copy()

    def fill_bytes(target: Array, start: int, value: int, count: int) -> None:
        """Set `count` bytes of `target[start:]` to `value`."""
        target[_within(target, start, count)] = value

    def equal_bytes(first: Array, start: int, second: Array, offset: int, count: int) -> bool:
        """Whether `count` bytes of `first[start:]` and of `second[offset:]` are the same."""
        return bool((first[_within(first, start, count)] == second[_within(second, offset, count)]).all())

    def bytes32(array: Array, start: int) -> Any:
        """The unsigned 32-bit word at `array[start:]`, as int64."""
        return np.int64(int.from_bytes(array[_within(array, start, 4)].tobytes(), "little"))

    def bytes64(array: Array, start: int) -> Any:
        """The 64-bit word at `array[start:]`, as int64."""
        return np.int64(int.from_bytes(array[_within(array, start, 8)].tobytes(), "little", signed=True))

    def ones(word: int) -> Any:
        """How many bits of a 64-bit word are set."""
        return np.int64((int(word) & 0xFFFF_FFFF_FFFF_FFFF).bit_count())

    def prefetch(array: Array, start: int) -> None:
        """Ask for the cache line of `array[start]`, which may lie outside: a hint."""

    def put32(array: Array, start: int, value: int) -> None:
        """Store the low 32 bits of `value` at `array[start:]`."""
        array[_within(array, start, 4)] = list((int(value) & 0xFFFF_FFFF).to_bytes(4, "little"))

    def put64(array: Array, start: int, value: int) -> None:
        """Store the 64 bits of `value` at `array[start:]`."""
        array[_within(array, start, 8)] = list((int(value) & 0xFFFF_FFFF_FFFF_FFFF).to_bytes(8, "little"))

else:
    _CHECKED = BOUNDSCHECK

    def _pointer(context: Any, builder: Any, kind: Any, array: Any, start: Any) -> Any:
        return builder.gep(context.make_array(kind)(context, builder, array).data, [start])

    @intrinsic
    def _memmove(typingctx, target, start, source, offset, count):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
            to = _pointer(context, builder, signature.args[0], values[0], values[1])
            of = _pointer(context, builder, signature.args[2], values[2], values[3])
            cgutils.raw_memmove(builder, to, of, values[4], 1)
            return context.get_dummy_value()

        return types.void(target, types.int64, source, types.int64, types.int64), codegen

    @intrinsic
    def _memset(typingctx, target, start, value, count):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
            to = _pointer(context, builder, signature.args[0], values[0], values[1])
            cgutils.memset(builder, to, values[3], builder.trunc(values[2], ir.IntType(8)))
            return context.get_dummy_value()

        return types.void(target, types.int64, types.int64, types.int64), codegen

    @intrinsic
    def _memcmp(typingctx, first, start, second, offset, count):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
            one = _pointer(context, builder, signature.args[0], values[0], values[1])
            other = _pointer(context, builder, signature.args[2], values[2], values[3])
            kind = ir.FunctionType(ir.IntType(32), [one.type, other.type, values[4].type])
            function = cgutils.get_or_insert_function(builder.module, kind, "memcmp")
            return builder.call(function, [one, other, values[4]])

        return types.int32(first, types.int64, second, types.int64, types.int64), codegen

    @intrinsic
    def ones(typingctx, word):  # type: ignore[no-untyped-def]
        """How many bits of a 64-bit word are set."""

        def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
            return builder.ctpop(values[0])

        return types.int64(types.int64), codegen

    @intrinsic
    def prefetch(typingctx, array, start):  # type: ignore[no-untyped-def]
        """Ask for the cache line of `array[start]`, which may lie outside: a hint."""

        def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
            pointer, word = _pointer(context, builder, signature.args[0], *values), ir.IntType(32)
            pointer = builder.bitcast(pointer, cgutils.voidptr_t)
            kind = ir.FunctionType(ir.VoidType(), [pointer.type, word, word, word])
            function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
            builder.call(function, [pointer, word(0), word(3), word(1)])  # to read, in all levels, data
            return context.get_dummy_value()

        return types.void(array, types.int64), codegen

    def _word(bits: int) -> tuple[Any, Any]:
        # Loads and stores of one unaligned word, as one instruction each.
        @intrinsic
        def load(typingctx, array, start):  # type: ignore[no-untyped-def]
            def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
                pointer = _pointer(context, builder, signature.args[0], *values)
                word = builder.load(builder.bitcast(pointer, ir.IntType(bits).as_pointer()), align=1)
                return word if bits == 64 else builder.zext(word, ir.IntType(64))

            return types.int64(array, types.int64), codegen

        @intrinsic
        def store(typingctx, array, start, value):  # type: ignore[no-untyped-def]
            def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
                pointer = _pointer(context, builder, signature.args[0], *values[:2])
                word = values[2] if bits == 64 else builder.trunc(values[2], ir.IntType(bits))
                builder.store(word, builder.bitcast(pointer, ir.IntType(bits).as_pointer()), align=1)
                return context.get_dummy_value()

            return types.void(array, types.int64, types.int64), codegen

        return load, store

    _load32, _store32 = _word(32)
    _load64, _store64 = _word(64)

    @kernel
    def copy_bytes(target, start, source, offset, count):  # type: ignore[no-untyped-def]
        """Move `count` bytes from `source[offset:]` to `target[start:]`; the two may overlap."""
        assert start >= 0 and start + count <= target.size and offset >= 0 and offset + count <= source.size
        _memmove(target, start, source, offset, count)

    @kernel
    def fill_bytes(target, start, value, count):  # type: ignore[no-untyped-def]
        """Set `count` bytes of `target[start:]` to `value`."""
        assert start >= 0 and start + count <= target.size
        _memset(target, start, value, count)

    @kernel
    def equal_bytes(first, start, second, offset, count):  # type: ignore[no-untyped-def]
        """Whether `count` bytes of `first[start:]` and of `second[offset:]` are the same."""
        assert start >= 0 and start + count <= first.size and offset >= 0 and offset + count <= second.size
        return _memcmp(first, start, second, offset, count) == 0

    @kernel
    def bytes32(array, start):  # type: ignore[no-untyped-def]
        """The unsigned 32-bit word at `array[start:]`, as int64."""
        if _CHECKED:
            assert start >= 0 and start + 4 <= array.size
        return _load32(array, start)

    @kernel
    def bytes64(array, start):  # type: ignore[no-untyped-def]
        """The 64-bit word at `array[start:]`, as int64."""
        if _CHECKED:
            assert start >= 0 and start + 8 <= array.size
        return _load64(array, start)

    @kernel
    def put32(array, start, value):  # type: ignore[no-untyped-def]
        """Store the low 32 bits of `value` at `array[start:]`."""
        if _CHECKED:
            assert start >= 0 and start + 4 <= array.size
        _store32(array, start, value)

    @kernel
    def put64(array, start, value):  # type: ignore[no-untyped-def]
        """Store the 64 bits of `value` at `array[start:]`."""
        if _CHECKED:
            assert start >= 0 and start + 8 <= array.size
        _store64(array, start, value)
