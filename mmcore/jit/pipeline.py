"""numba's pipeline, without what no kernel needs.  It takes half the time of the whole one, and makes the same code.

Several hundred kernels are compiled from the same leaves and operators.  numba is made for one function and for all of
Python, so it does more:

    analyses        Each pass looks at the whole function.  Kernels have no closures, generators, array expressions or
                    blocks `with`, so _PASSES leaves out the passes for these.
    leaves' code    numba makes machine code of each function that another one calls.  Nobody calls a leaf, so `target`
                    stops before that: a leaf is LLVM's code, to be linked into kernels.
    the run-time    numba links its own into each function.  Kernels count no references and allocate nothing.
    operators       numba tries each `+` on dates, strings and sets before numbers.  _remembered asks once for the same
                    types.

The names in LLVM's code consist of the function's name and of the digest of what it is made of.  So a process can link
what another one has compiled, and two functions of one name never meet.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

from numba.core import itanium_mangler, typed_passes, types, untyped_passes
from numba.core.compiler import CompilerBase, Flags, compile_extra
from numba.core.compiler_machinery import PassManager
from numba.core.registry import cpu_target

from mmcore.jit.settings import OPTIONS, level

_PASSES = (
    untyped_passes.TranslateByteCode,
    untyped_passes.FixupArgs,
    untyped_passes.IRProcessing,
    untyped_passes.RewriteSemanticConstants,
    untyped_passes.DeadBranchPrune,
    untyped_passes.GenericRewrites,
    untyped_passes.RewriteDynamicRaises,
    untyped_passes.InlineInlinables,
    untyped_passes.DeadBranchPrune,
    untyped_passes.ReconstructSSA,
    untyped_passes.DeadBranchPrune,
    typed_passes.NopythonTypeInference,
    typed_passes.PreLowerStripPhis,
    typed_passes.NoPythonSupportedFeatureValidation,
    typed_passes.IRLegalization,
    typed_passes.NativeLowering,
    typed_passes.NoPythonBackend,
)


class _Pipeline(CompilerBase):  # type: ignore[misc]
    def define_pipelines(self) -> list[Any]:
        passes = PassManager("kernels")
        for one in _PASSES:
            passes.add_pass(one, one.__name__)
        passes.finalize()
        return [passes]


@cache
def target() -> Any:
    """numba's target for kernels and leaves: position-independent code for a level of x86-64."""
    cpu_target.target_context.refresh()  # which takes note of what is registered by now
    made = cpu_target.target_context.with_aot_codegen("kernels", cpu_name=level())
    return made.subtarget(post_lowering=lambda _module, _library: None)  # numba's would link its run-time


def compiled(function: Callable[..., Any], args: Any, return_type: Any, digest: str, **options: Any) -> Any:
    """numba's result of compiling a function for these types of arguments; without a return type, the inferred one."""
    flags = Flags()
    for_kernels = {"nopython": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    cpu_target.options.parse_as_flags(flags, OPTIONS | for_kernels | options)
    flags.no_compile = True
    context = target().subtarget(mangler=partial(_name, digest))
    return compile_extra(
        cpu_target.typing_context, context, function, args, return_type, flags, locals={}, pipeline_class=_Pipeline
    )


def _name(digest: str, name: str, _kinds: Any, **_more: Any) -> str:
    return itanium_mangler.mangle(f"{name}.{digest}", ())  # type: ignore[no-any-return]


def _remembered(resolve: Callable[..., Any]) -> Callable[..., Any]:
    known: dict[Any, Any] = {}

    def resolve_once(self: Any, context: Any, args: Any, kws: Any) -> Any:
        key = self, tuple(args), tuple(sorted(kws.items()))
        found = known.get(key)
        if found is None:
            found = known[key] = resolve(self, context, args, kws)
        return found

    return resolve_once


# The result is the same for the same types, so nobody who uses numba beside kernels sees a difference.
types.BaseFunction.get_call_type = _remembered(types.BaseFunction.get_call_type)  # type: ignore[method-assign]
