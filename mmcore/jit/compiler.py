"""The bridge to numba: what it must know of our types and linked kernels, and the compilation of one kernel.

This module, pipeline.py and inlining.py alone import numba and LLVM.  They are imported when a kernel has to be
compiled, never by a program whose kernels are all in a library.  numba asks a value that a kernel names for its
`_numba_type_`; those properties lead here.  Object code is position-independent and for a named level of x86-64, not
for the processor at hand, so that a library of it can be carried to another machine.
"""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

import numba
import numpy as np
from llvmlite import binding as llvm
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.compiler_lock import global_compiler_lock
from numba.core.datamodel import models, register_default
from numba.core.imputils import lower_cast, lower_constant, lower_getattr_generic
from numba.core.registry import cpu_target
from numba.core.typing.templates import AttributeTemplate
from numba.extending import NativeValue, infer_getattr, typeof_impl, unbox
from numba.extending import intrinsic as numba_intrinsic

from mmcore.jit.arrays import Constant
from mmcore.jit.checksums import digest_of
from mmcore.jit.inlining import leaf_type as leaf_type  # what leaves.py asks for
from mmcore.jit.kept import digests
from mmcore.jit.pipeline import compiled
from mmcore.jit.records import Plain, State
from mmcore.jit.settings import OPTIONS, cache_root
from mmcore.jit.types import Array, Boolean, External, NamedTuple, Scalar, Signature, Type, Void, Word

_WORD = ir.IntType(64)

# ---------------------------------------------------------------------------------------------------------------- types


class _PlainType(types.Array):  # type: ignore[misc]
    """numba's type for Plain."""

    def __init__(self, kind: Plain) -> None:
        super().__init__(numba_type(kind.item), 1, "C", name=kind.name)


@register_default(_PlainType)
class _PlainModel(models.ArrayModel):  # type: ignore[misc]
    """numba's array as a value; as an argument, its data pointer and its length."""

    def get_argument_type(self) -> Any:
        return (self._models[self._fields.index("data")].get_argument_type(), _WORD)

    def as_argument(self, builder: Any, value: Any) -> Any:
        return (self.get(builder, value, "data"), self.get(builder, value, "nitems"))

    def from_argument(self, builder: Any, value: Any) -> Any:
        data, count = value
        size = ir.Constant(_WORD, self.fe_type.dtype.bitwidth // 8)
        array = ir.Constant(self.get_value_type(), ir.Undefined)
        fields = dict(zip(self._fields, self._models, strict=True))
        for name in ("meminfo", "parent"):
            array = self.set(builder, array, ir.Constant(fields[name].get_value_type(), None), name)
        for name, content in (("nitems", count), ("itemsize", size), ("data", data)):
            array = self.set(builder, array, content, name)
        for name, content in (("shape", count), ("strides", size)):
            one = builder.insert_value(ir.Constant(fields[name].get_value_type(), ir.Undefined), content, 0)
            array = self.set(builder, array, one, name)
        return array


@lower_cast(_PlainType, types.Array)
@lower_cast(types.Array, _PlainType)
def _same_value(context, builder, source, target, value):  # type: ignore[no-untyped-def]
    return value


import_module("numba.np.arrayobj")  # it registers its own, which this one follows


@lower_constant(types.Array)
def _constant_array(context, builder, kind, value):  # type: ignore[no-untyped-def]
    if isinstance(value, Constant):
        value = np.array(value.values, value.kind.name)
    return context.make_constant_array(builder, kind, value)


@typeof_impl.register(Word)
def _type_of_word(word, _context):  # type: ignore[no-untyped-def]
    return numba_type(word.kind)


class _StateType(types.Type):  # type: ignore[misc]
    """numba's type for State."""

    def __init__(self, kind: State) -> None:
        self.kind = kind
        super().__init__(name=kind.name)


@register_default(_StateType)
class _StateModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: _StateType) -> None:
        super().__init__(manager, kind, _WORD.as_pointer())


@infer_getattr
class _StateAttribute(AttributeTemplate):  # type: ignore[misc]
    key = _StateType

    def generic_resolve(self, kind: _StateType, name: str) -> Any:
        field = kind.kind.fields.get(name)
        return numba_type(field) if field else None


def _address(builder: Any, record: Any, offset: int) -> Any:
    return builder.gep(record, [ir.Constant(_WORD, offset)], inbounds=True)


@lower_getattr_generic(_StateType)
def _field(context, builder, kind, record, name):  # type: ignore[no-untyped-def]
    field, offset = kind.kind.fields[name], kind.kind.offset(name)
    if isinstance(field, State):
        return _address(builder, record, offset)
    words = []
    for i in range(2):
        word = builder.load(_address(builder, record, offset + i))
        word.set_metadata("invariant.load", builder.module.add_metadata([]))
        words.append(word)
    model = context.data_model_manager[numba_type(field)]
    return model.from_argument(builder, (builder.inttoptr(words[0], model.get_argument_type()[0]), words[1]))


@unbox(_StateType)
def _unbox(kind, value, c):  # type: ignore[no-untyped-def]
    number = c.pyapi.object_getattr_string(value, "address")
    record = c.builder.inttoptr(c.pyapi.long_as_longlong(number), _WORD.as_pointer())
    c.pyapi.decref(number)
    return NativeValue(record, is_error=c.pyapi.c_api_error())


@cache
def numba_type(kind: Type) -> Any:
    """numba's type for one of ours; for numba's own, itself."""
    match kind:
        case State():
            return _StateType(kind)
        case Plain():
            return _PlainType(kind)
        case Array():
            return types.Array(numba_type(kind.item), kind.ndim, "C")
        case NamedTuple():
            return types.containers.NamedTuple([numba_type(one) for one in kind.kinds], kind.made_by)
        case Scalar() | Boolean() | Void():
            return getattr(types, kind.name)
    if isinstance(kind, types.Type):
        return kind
    raise TypeError(f"{kind!r} is no type")


def numba_signature(signature: Signature) -> Any:
    """numba's signature for one of ours."""
    if not isinstance(signature, Signature):
        return signature
    return numba_type(signature.return_type)(*map(numba_type, signature.args))


def type_of_type(kind: Type) -> Any:
    """numba's type of a type that a kernel names: it converts to it."""
    return types.NumberClass(numba_type(kind))


@cache
def external_type(function: External) -> Any:
    """The numba type of a function of the C library."""
    return types.ExternalFunction(function.symbol, numba_signature(function.signature))


# ------------------------------------------------------------------------------------------------ leaves and intrinsics


def leaf_dispatcher(leaf: Any) -> Any:
    """A leaf as Python calls it."""
    # numba reads the directory when the decorator runs.  It asks for more than the digest, so what it keeps there is
    # never stale.
    before = numba.config.CACHE_DIR
    made_of = digest_of(digests().base, *leaf.digest_parts(digests()))
    numba.config.CACHE_DIR = str(cache_root() / "leaves" / made_of)
    try:
        return numba.njit(cache=True, **OPTIONS, no_cfunc_wrapper=True, **leaf.targetoptions)(leaf.py_func)
    finally:
        numba.config.CACHE_DIR = before


def _spelled_out(arity: int, answer: Callable[..., Any]) -> Callable[..., Any]:
    # numba matches an intrinsic's parameters by position and wants them spelled out: one text per arity.
    names = ", ".join(f"_{i}" for i in range(arity))
    scope: dict[str, Any] = {"answer": answer}
    exec(f"def typing(context, {names}):\n    return answer(context, {names})", scope)
    return scope["typing"]  # type: ignore[no-any-return]


def intrinsic_type(function: Callable[..., Any], arity: int) -> Any:
    """The numba type of an intrinsic, whose function returns (signature, code generator) for types of arguments."""

    def answer(context: Any, *kinds: Any) -> Any:
        found = function(context, *kinds)
        return None if found is None else (numba_signature(found[0]), found[1])

    made = numba_intrinsic(_spelled_out(arity, answer))
    cpu_target.typing_context.refresh()  # which takes note of it
    return cpu_target.typing_context.resolve_value_type(made)


# ------------------------------------------------------------------------------------------------------ linked kernels


def linked_type(symbol: str, signature: Signature) -> Any:
    """The numba type of a linked kernel: a call of its symbol by numba's calling convention, exceptions included."""
    known = numba_signature(signature)

    def codegen(context, builder, _signature, values):  # type: ignore[no-untyped-def]
        kind = context.call_conv.get_function_type(known.return_type, known.args)
        return _call(context, builder, cgutils.get_or_insert_function(builder.module, kind, symbol), known, values)

    return intrinsic_type(lambda context, *kinds: (known, codegen), len(known.args))


def indirect_type(signature: Signature) -> Any:
    """The numba type of `call(address, *arguments)`, which calls the linked kernel at `address` (int64)."""
    known = numba_signature(signature)

    def codegen(context, builder, _signature, values):  # type: ignore[no-untyped-def]
        kind = context.call_conv.get_function_type(known.return_type, known.args)
        return _call(context, builder, builder.inttoptr(values[0], kind.as_pointer()), known, values[1:])

    typed = known.return_type(types.int64, *known.args)
    return intrinsic_type(lambda context, *kinds: (typed, codegen), len(typed.args))


def _call(context: Any, builder: Any, callee: Any, signature: Any, values: Any) -> Any:
    status, result = context.call_conv.call_function(builder, callee, signature.return_type, signature.args, values)
    with cgutils.if_unlikely(builder, status.is_error):
        context.call_conv.return_status_propagate(builder, status)
    return result


def tell_symbol(symbol: str, address: int) -> None:
    """Let leaves that Python calls find a linked kernel."""
    llvm.add_symbol(symbol, address)


@global_compiler_lock  # type: ignore[untyped-decorator]
def compile_kernel(function: Callable[..., Any], signature: Signature, digest: str) -> tuple[str, bytes]:
    """(the name of the function in it, object code)."""
    known = numba_signature(signature)
    made = compiled(function, known.args, known.return_type, digest)
    return made.fndesc.llvm_func_name, bytes(made.library.emit_native_object())
