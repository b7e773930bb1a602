"""C's malloc as the kernels call it, which can be made to fail, and the bytes that all of it has in use.

    with failing(3) as asked:       the third call from here on has no memory; asked() is the number of calls

The packages' library reads the address of each function that it imports from a slot (mmcore/jit/elf.py).  The slots of
`malloc` and `realloc` get the address of a Python function.  Python itself does not go through them.
"""

import contextlib
import ctypes
from collections.abc import Callable, Iterator

from mmcore.jit import library

_STRTAB, _SYMTAB, _RELA, _RELA_SIZE = 5, 6, 7, 8  # tags of a dynamic section
_GLOB_DAT = 6
_RELA_WORDS, _SYMBOL_WORDS = 3, 3
_libc = ctypes.CDLL(None)
_Malloc = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)
_Realloc = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)


class _Mallinfo(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks")),
        *((name, ctypes.c_size_t) for name in ("uordblks", "fordblks", "keepcost")),
    ]


_libc.mallinfo2.restype = _Mallinfo


def bytes_in_use() -> int:
    """The bytes that malloc has given out and not got back, to kernels and to everybody else in the process."""
    told = _libc.mallinfo2()
    return int(told.uordblks) + int(told.hblkhd)


def _word(address: int) -> ctypes.c_int64:
    return ctypes.c_int64.from_address(address)


def _slots(names: tuple[str, ...]) -> dict[str, ctypes.c_int64]:
    """The slots of imported functions, by their names."""
    opened, _ = library._KERNELS.main or (None, None)
    assert opened is not None, "no kernel has been called yet"
    base, dynamic = _word(opened._handle).value, _word(opened._handle + 16).value  # struct link_map
    tags: dict[int, int] = {}
    while _word(dynamic).value:
        tags[_word(dynamic).value] = _word(dynamic + 8).value
        dynamic += 16
    rela, symbols, strings = (tags[tag] + (base if tags[tag] < base else 0) for tag in (_RELA, _SYMTAB, _STRTAB))
    found = {}
    for at in range(rela, rela + tags[_RELA_SIZE], 8 * _RELA_WORDS):
        info = _word(at + 8).value
        if info & 0xFFFFFFFF == _GLOB_DAT:
            name = _word(symbols + 8 * _SYMBOL_WORDS * (info >> 32)).value & 0xFFFFFFFF
            text = ctypes.string_at(strings + name).decode()
            if text in names:
                found[text] = _word(base + _word(at).value)
    return found


@contextlib.contextmanager
def failing(number: int) -> Iterator[Callable[[], int]]:
    """Let the call of this number have no memory, counted from 1; all others have it."""
    slots = _slots(("malloc", "realloc"))
    assert set(slots) == {"malloc", "realloc"}
    kept = {name: slot.value for name, slot in slots.items()}
    malloc, realloc, asked = _Malloc(kept["malloc"]), _Realloc(kept["realloc"]), 0

    def fails() -> bool:
        nonlocal asked
        asked += 1
        return asked == number

    ours = _Malloc(lambda size: 0 if fails() else malloc(size))
    again = _Realloc(lambda address, size: 0 if fails() else realloc(address, size))
    slots["malloc"].value = ctypes.cast(ours, ctypes.c_void_p).value or 0
    slots["realloc"].value = ctypes.cast(again, ctypes.c_void_p).value or 0
    try:
        yield lambda: asked
    finally:
        for name, slot in slots.items():
            slot.value = kept[name]
