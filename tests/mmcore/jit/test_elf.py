"""The linker: objects as LLVM makes them, joined, opened and run."""

import ctypes
from collections.abc import Callable
from typing import Any

import pytest

from mmcore import jit
from mmcore.jit import elf
from mmcore.jit.library import open_bytes

pytestmark = pytest.mark.skipif(jit.DISABLED, reason="there is no compiler to make objects")

CALLER = """
declare i64 @"other.kernel"(i64)
define i64 @f(i64 %x) {
  %y = call i64 @"other.kernel"(i64 %x)
  %z = add i64 %y, 1
  ret i64 %z
}
"""
CALLEE = """
@counter = internal global i64 40
@zeros = internal global [1000 x i64] zeroinitializer
@table = internal constant [2 x ptr] [ptr @counter, ptr @zeros]
define i64 @g(i64 %x) {
  %slot = getelementptr [2 x ptr], ptr @table, i64 0, i64 %x
  %where = load volatile ptr, ptr %slot
  %before = load i64, ptr %where
  %after = add i64 %before, 1
  store i64 %after, ptr %where
  ret i64 %after
}
"""
OF_THE_C_LIBRARY = """
declare i64 @labs(i64)
declare double @cos(double)
@environ = external global ptr
define i64 @h(i64 %x) {
  %a = call i64 @labs(i64 %x)
  %b = load ptr, ptr @environ
  %there = icmp ne ptr %b, null
  %c = zext i1 %there to i64
  %d = call double @cos(double 0.0)
  %e = fptosi double %d to i64
  %f = add i64 %a, %c
  %g = add i64 %f, %e
  ret i64 %g
}
"""
SHARED_NAMES = """
@common = common global i64 0
define linkonce_odr i64 @leaf(i64 %x) {
  ret i64 VALUE
}
define i64 @NAME(i64 %x) {
  %y = call i64 @leaf(i64 %x)
  ret i64 %y
}
"""


def compiled(text: str, relocation: str = "pic") -> bytes:
    """An object of this LLVM code."""
    from llvmlite import binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_triple("x86_64-unknown-linux-gnu")
    machine = target.create_target_machine(reloc=relocation, codemodel="small")
    return bytes(machine.emit_object(llvm.parse_assembly(text)))


def opened(shared: bytes) -> Callable[[str], Any]:
    """The functions int64(int64) of a shared object, by name."""
    library = open_bytes(shared)

    def function(name: str) -> Any:
        found = library[name]
        found.argtypes, found.restype = [ctypes.c_int64], ctypes.c_int64
        return found

    return function


def test_kernels_call_each_other_by_symbol_whatever_their_order():
    caller, callee = elf.Code("a.caller", "f", compiled(CALLER)), elf.Code("other.kernel", "g", compiled(CALLEE))
    for kernels in ([caller, callee], [callee, caller]):
        function = opened(elf.link(kernels, "x.so"))
        assert [function("a.caller")(0), function("a.caller")(0), function("other.kernel")(0)] == [42, 43, 43]


def test_data_zeros_and_tables_of_addresses_are_each_library_s_own():
    function = opened(elf.link([elf.Code("other.kernel", "g", compiled(CALLEE))], "x.so"))
    again = opened(elf.link([elf.Code("other.kernel", "g", compiled(CALLEE))], "x.so"))
    assert [function("other.kernel")(1), function("other.kernel")(1), again("other.kernel")(1)] == [1, 2, 1]


def test_functions_and_data_of_the_c_library_are_bound_when_it_is_opened():
    function = opened(elf.link([elf.Code("h", "h", compiled(OF_THE_C_LIBRARY))], "x.so"))
    assert function("h")(-40) == 42


def test_what_two_objects_define_under_one_name_is_each_one_s_own():
    texts = [SHARED_NAMES.replace("VALUE", value).replace("NAME", name) for name, value in (("a", "1"), ("b", "2"))]
    kernels = [elf.Code(name, name, compiled(text)) for name, text in zip("ab", texts, strict=True)]
    function = opened(elf.link(kernels, "x.so"))
    assert (function("a")(0), function("b")(0)) == (1, 2)


def test_a_symbol_that_nobody_has_is_told_when_it_is_opened():
    shared = elf.link([elf.Code("a.caller", "f", compiled(CALLER.replace("other", "no")))], "x.so")
    with pytest.raises(OSError, match=r"undefined symbol: no\.kernel"):
        opened(shared)


REFUSED = {
    "code that is not position-independent": (CALLEE, "g", "static", "a relocation of type"),
    "thread-local data": (
        "@t = thread_local global i64 1\ndefine i64 @f() {\n ret i64 0\n}",
        "f",
        "pic",
        "thread-local",
    ),
    "a function that is not there": (CALLER, "nobody", "pic", "its object does not define nobody"),
}


@pytest.mark.parametrize(("text", "name", "relocation", "why"), REFUSED.values(), ids=REFUSED)
def test_what_it_does_not_join_is_refused_by_name(text, name, relocation, why):
    with pytest.raises(elf.LinkError, match=why):
        elf.link([elf.Code("k", name, compiled(text, relocation))], "x.so")


def test_no_object_and_one_that_is_there_twice_are_refused():
    with pytest.raises(elf.LinkError, match="no relocatable object"):
        elf.link([elf.Code("k", "f", b"\x7fELF")], "x.so")
    code = elf.Code("k", "g", compiled(CALLEE))
    with pytest.raises(elf.LinkError, match="there twice: \\['k'\\]"):
        elf.link([code, code], "x.so")


def test_nothing_that_is_written_is_executable_and_nothing_executable_is_written():
    shared = elf.link([elf.Code("other.kernel", "g", compiled(CALLEE))], "x.so")
    header = elf.HEADER.unpack_from(shared)
    flags = [
        elf.PROGRAM_HEADER.unpack_from(shared, header[5] + i * elf.PROGRAM_HEADER.size)[:2] for i in range(header[10])
    ]
    assert [flag for kind, flag in flags if kind == elf.PT_LOAD] == [elf.PF_R, elf.PF_R | elf.PF_X, elf.PF_R | elf.PF_W]
    assert (elf.PT_GNU_STACK, elf.PF_R | elf.PF_W) in flags
