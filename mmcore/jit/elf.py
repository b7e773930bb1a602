"""A linker for kernels: relocatable objects in, one shared object out.

A machine that runs Python may have no linker, and the linkers that pip installs come with whole compilers of a hundred
megabytes.  LLVM uses only a small part of ELF for kernels: position-independent code, constants, a few words of data,
calls of each other and of the C library.  This module links exactly that, and refuses anything else by name.

The shared object (System V ABI, AMD64 supplement; sizes in bytes)

    read-only     ELF header, program headers, .hash .dynsym .dynstr .rela.dyn, constants
    executable    the kernels' code, then a stub of 8 for each C function:  jmp *slot(%rip)
    writable      a slot of 8 for each address that code loads (GOT), data, .dynamic, zeros

    each part begins on a page, and lies in the file as it does in memory

Symbols.  A kernel is exported under the symbol by which others call it.  Its name in its own object comes from numba
and is used nowhere else.  A symbol that no kernel defines is imported, and ld.so resolves it when the library is
opened.  All other symbols are local to their object: a leaf that was not inlined exists once for each kernel that calls
it.

Unwinding tables are omitted.  A kernel returns a status and never throws, so nothing unwinds through one.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

PAGE = 4096
SECTION_HEADER = struct.Struct("<IIQQQQIIQQ")
SYMBOL = struct.Struct("<IBBHQQ")
RELA = struct.Struct("<QQq")
HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
DYNAMIC = struct.Struct("<QQ")

ET_REL, ET_DYN, EM_X86_64 = 1, 3, 62
SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_RELA, SHT_DYNAMIC, SHT_NOBITS, SHT_DYNSYM = 1, 2, 3, 4, 6, 8, 11
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR, SHF_TLS = 1, 2, 4, 0x400
SHN_UNDEF, SHN_COMMON = 0, 0xFFF2
PT_LOAD, PT_DYNAMIC, PT_GNU_STACK = 1, 2, 0x6474E551
PF_X, PF_W, PF_R = 1, 2, 4
GLOBAL_FUNCTION = 1 << 4 | 2
DT_NEEDED, DT_HASH, DT_STRTAB, DT_SYMTAB, DT_RELA, DT_RELASZ, DT_RELAENT = 1, 4, 5, 6, 7, 8, 9
DT_STRSZ, DT_SYMENT, DT_SONAME, DT_BIND_NOW = 10, 11, 14, 24
R_64, R_PC32, R_GLOB_DAT, R_PLT32, R_RELATIVE, R_GOTPCREL, R_PC64 = 1, 2, 6, 4, 8, 9, 24
R_GOTPCRELX, R_REX_GOTPCRELX = 41, 42
STUB_SIZE = SLOT_SIZE = 8
PROGRAM_HEADERS, DYNAMIC_ENTRIES, CODE_SECTION = 5, 16, 3
LIBRARIES = ("libc.so.6", "libm.so.6")
CONSTANTS, CODE, DATA, ZEROS = range(4)  # kinds of sections, in their order
_THROUGH_SLOT = (R_GOTPCREL, R_GOTPCRELX, R_REX_GOTPCRELX)


class LinkError(Exception):
    """This linker cannot link an object."""


class Code(NamedTuple):
    """A kernel's machine code."""

    symbol: str  # the one by which others call it
    name: str  # of the function in its object
    content: bytes  # the object


@dataclass
class Section:
    """A section of an object that goes into the library."""

    kind: int
    align: int
    size: int
    content: bytes
    address: int = 0  # in the library


class Symbol(NamedTuple):
    """An entry of an object's symbol table."""

    name: str
    section: int
    value: int
    size: int


class Relocation(NamedTuple):
    """A word of a section that holds an address, or a distance from it."""

    section: Section
    offset: int
    kind: int
    symbol: int
    addend: int


class Object:
    """A parsed relocatable object."""

    def __init__(self, code: Code) -> None:
        self.code, data = code, code.content
        if data[:6] != b"\x7fELF\x02\x01" or struct.unpack_from("<HH", data, 16) != (ET_REL, EM_X86_64):
            raise LinkError(f"{code.symbol}: no relocatable object for x86-64")
        (table,) = struct.unpack_from("<Q", data, 0x28)
        _, count, names = struct.unpack_from("<HHH", data, 0x3A)
        headers = [SECTION_HEADER.unpack_from(data, table + i * SECTION_HEADER.size) for i in range(count)]
        self.sections: dict[int, Section] = {}
        self.symbols: list[Symbol] = []
        self.relocations: list[Relocation] = []
        for number, header in enumerate(headers):
            if header[2] & SHF_ALLOC and _text(data, headers[names][4] + header[0]) != ".eh_frame":
                self.sections[number] = self._section(header)
        for _, kind, _, _, offset, size, link, target, _, _ in headers:
            if kind == SHT_SYMTAB:
                for name, _, _, section, value, length in SYMBOL.iter_unpack(data[offset : offset + size]):
                    self.symbols.append(Symbol(_text(data, headers[link][4] + name), section, value, length))
            elif kind == SHT_RELA and target in self.sections:
                for where, what, addend in RELA.iter_unpack(data[offset : offset + size]):
                    section = self.sections[target]
                    self.relocations.append(Relocation(section, where, what & 0xFFFF_FFFF, what >> 32, addend))

    def _section(self, header: tuple[int, ...]) -> Section:
        _, kind, flags, _, offset, size, _, _, align, _ = header
        if flags & SHF_TLS:
            raise LinkError(f"{self.code.symbol}: thread-local data")
        if kind == SHT_NOBITS:
            return Section(ZEROS, max(align, 1), size, b"")
        part = CODE if flags & SHF_EXECINSTR else DATA if flags & SHF_WRITE else CONSTANTS
        return Section(part, max(align, 1), size, self.code.content[offset : offset + size])

    def function(self) -> tuple[int, int]:
        """The address and size of the kernel itself, after its section got an address."""
        for symbol in self.symbols:
            if symbol.name == self.code.name and symbol.section in self.sections:
                return self.sections[symbol.section].address + symbol.value, symbol.size
        raise LinkError(f"{self.code.symbol}: its object does not define {self.code.name}")


def _text(data: bytes, start: int) -> str:
    return data[start : data.index(b"\0", start)].decode()


def _aligned(offset: int, align: int) -> int:
    return (offset + align - 1) // align * align


def link(kernels: Iterable[Code], soname: str) -> bytes:
    """Link these kernels to one shared object.  Raises LinkError."""
    objects = [Object(code) for code in kernels]
    symbols = [one.code.symbol for one in objects]
    if len(set(symbols)) != len(symbols):
        raise LinkError(f"there twice: {sorted({symbol for symbol in symbols if symbols.count(symbol) > 1})}")
    return _Library(objects, soname).write()


class _Library:
    """A shared object under construction.  Addresses in it equal the offsets in its file."""

    def __init__(self, objects: list[Object], soname: str) -> None:
        self.objects = objects
        self.numbers = {one.code.symbol: number for number, one in enumerate(objects)}
        self.imports = self._undefined()
        self.strings = bytearray(b"\0")
        self.symbol_names = [self._string(name) for name in (*self.imports, *self.numbers)]
        self.libraries = [self._string(name) for name in LIBRARIES]
        self.soname = self._string(soname)
        self.slots: dict[tuple[int, int] | str, int] = {}  # (object, symbol) or import: address of its slot
        self.commons: dict[tuple[int, int], int] = {}  # (object, symbol): address
        self.entries: list[tuple[int, int]] = []  # address and size of each kernel
        self.loaded: list[tuple[int, int, int, int]] = []  # relocations for ld.so: address, type, symbol, addend

    def _undefined(self) -> list[str]:
        found: dict[str, None] = {}
        for one, relocation in self._relocations():
            symbol = self.objects[one].symbols[relocation.symbol]
            if symbol.section == SHN_UNDEF and symbol.name not in self.numbers:
                found[symbol.name] = None
        return list(found)

    def _relocations(self) -> Iterator[tuple[int, Relocation]]:
        for number, one in enumerate(self.objects):
            for relocation in one.relocations:
                yield number, relocation

    def _string(self, text: str) -> int:
        at = len(self.strings)
        self.strings += text.encode() + b"\0"
        return at

    def write(self) -> bytes:
        """The contents of the file."""
        self._lay_out()
        self.image = bytearray(self.file_size)
        for one in self.objects:
            for section in one.sections.values():
                self.image[section.address : section.address + len(section.content)] = section.content
        for number, name in enumerate(self.imports):
            distance = self.slots[name] - (self.stubs + STUB_SIZE * number + 6)
            struct.pack_into("<BBiH", self.image, self.stubs + STUB_SIZE * number, 0xFF, 0x25, distance, 0xCCCC)
        for number, relocation in self._relocations():
            self._apply(number, relocation)
        for key, slot in self.slots.items():
            if isinstance(key, str):
                self.loaded.append((slot, R_GLOB_DAT, 1 + self.imports.index(key), 0))
            else:
                self.loaded.append((slot, R_RELATIVE, 0, self._address(*key)))
        self._write_tables()
        return bytes(self.image)

    # ------------------------------------------------------------------------------------------------------ addresses

    def _lay_out(self) -> None:
        count = 1 + len(self.symbol_names)
        self.hash_at = HEADER.size + PROGRAM_HEADERS * PROGRAM_HEADER.size
        self.symbols_at = _aligned(self.hash_at + 4 * (2 + 1 + count), 8)
        self.strings_at = self.symbols_at + count * SYMBOL.size
        self.relocations_at = _aligned(self.strings_at + len(self.strings), 8)
        keys = self._slot_keys()
        words = sum(relocation.kind == R_64 for _, relocation in self._relocations())
        at = self._place(CONSTANTS, self.relocations_at + (len(keys) + words) * RELA.size)
        self.constants_end = at
        self.code_at = at = _aligned(at, PAGE)
        self.stubs = _aligned(self._place(CODE, at), STUB_SIZE)
        self.code_end = self.stubs + STUB_SIZE * len(self.imports)
        self.data_at = at = _aligned(self.code_end, PAGE)
        self.slots = {key: at + SLOT_SIZE * number for number, key in enumerate(keys)}
        at = self._place(DATA, at + SLOT_SIZE * len(keys))
        self.dynamic_at = _aligned(at, 16)
        self.file_size = self.dynamic_at + DYNAMIC.size * DYNAMIC_ENTRIES
        at = self._place(ZEROS, self.file_size)
        for number, one in enumerate(self.objects):
            for index, symbol in enumerate(one.symbols):
                if symbol.section == SHN_COMMON:
                    self.commons[number, index] = at = _aligned(at, max(symbol.value, 1))
                    at += symbol.size
        self.end = at
        self.entries = [one.function() for one in self.objects]

    def _place(self, kind: int, at: int) -> int:
        # Assign addresses to the sections of a kind; returns the first address behind them.
        for one in self.objects:
            for section in one.sections.values():
                if section.kind == kind:
                    section.address = at = _aligned(at, section.align)
                    at += section.size
        return at

    def _slot_keys(self) -> list[tuple[int, int] | str]:
        # A stub reads a slot, so each import needs one.
        keys: dict[tuple[int, int] | str, None] = dict.fromkeys(self.imports)
        for number, relocation in self._relocations():
            if relocation.kind in _THROUGH_SLOT:
                keys[self._key(number, relocation.symbol)] = None
        return list(keys)

    def _key(self, number: int, index: int) -> tuple[int, int] | str:
        symbol = self.objects[number].symbols[index]
        imported = symbol.section == SHN_UNDEF and symbol.name not in self.numbers
        return symbol.name if imported else (number, index)

    def _address(self, number: int, index: int) -> int:
        one = self.objects[number]
        symbol = one.symbols[index]
        if symbol.section in one.sections:
            return one.sections[symbol.section].address + symbol.value
        if symbol.section == SHN_COMMON:
            return self.commons[number, index]
        if symbol.section == SHN_UNDEF:
            if symbol.name in self.numbers:
                return self.entries[self.numbers[symbol.name]][0]
            return self.stubs + STUB_SIZE * self.imports.index(symbol.name)
        raise LinkError(f"{one.code.symbol}: {symbol.name or 'a symbol'} is in a section that is left out")

    def _apply(self, number: int, relocation: Relocation) -> None:
        section, offset, kind, index, addend = relocation
        place = section.address + offset
        key = self._key(number, index)
        if kind in (R_PC32, R_PLT32, R_PC64):
            form, word = "<q" if kind == R_PC64 else "<i", self._address(number, index) + addend - place
        elif kind in _THROUGH_SLOT:
            form, word = "<i", self.slots[key] + addend - place
        elif kind == R_64 and section.kind == DATA:
            if isinstance(key, str):
                self.loaded.append((place, R_64, 1 + self.imports.index(key), addend))
            else:
                self.loaded.append((place, R_RELATIVE, 0, self._address(number, index) + addend))
            return
        else:
            raise LinkError(
                f"{self.objects[number].code.symbol}: a relocation of type {kind} in section {section.kind}"
            )
        struct.pack_into(form, self.image, place, word)

    # --------------------------------------------------------------------------------------------------------- tables

    def _write_tables(self) -> None:
        image, count = self.image, 1 + len(self.symbol_names)
        # One hash chain for all symbols is enough: some hundred symbols are looked up, once.
        chain = [0, *range(2, count), 0]
        struct.pack_into(f"<{3 + count}I", image, self.hash_at, 1, count, min(1, count - 1), *chain)
        at = self.symbols_at + SYMBOL.size
        for number, name in enumerate(self.symbol_names):
            if number < len(self.imports):
                SYMBOL.pack_into(image, at, name, GLOBAL_FUNCTION, 0, SHN_UNDEF, 0, 0)
            else:
                address, size = self.entries[number - len(self.imports)]
                SYMBOL.pack_into(image, at, name, GLOBAL_FUNCTION, 0, CODE_SECTION, address, size)
            at += SYMBOL.size
        image[self.strings_at : self.strings_at + len(self.strings)] = self.strings
        for number, (place, kind, symbol, addend) in enumerate(self.loaded):
            RELA.pack_into(image, self.relocations_at + number * RELA.size, place, symbol << 32 | kind, addend)
        entries = [
            *((DT_NEEDED, name) for name in self.libraries),
            (DT_SONAME, self.soname),
            (DT_HASH, self.hash_at),
            (DT_STRTAB, self.strings_at),
            (DT_STRSZ, len(self.strings)),
            (DT_SYMTAB, self.symbols_at),
            (DT_SYMENT, SYMBOL.size),
            (DT_RELA, self.relocations_at),
            (DT_RELASZ, len(self.loaded) * RELA.size),
            (DT_RELAENT, RELA.size),
            (DT_BIND_NOW, 0),
        ]
        assert len(entries) < DYNAMIC_ENTRIES
        for number, entry in enumerate(entries):
            DYNAMIC.pack_into(image, self.dynamic_at + number * DYNAMIC.size, *entry)
        self._write_headers()

    def _write_headers(self) -> None:
        sections = self._section_headers()
        identification = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
        header = (identification, ET_DYN, EM_X86_64, 1, 0, HEADER.size, len(self.image), 0, HEADER.size)
        HEADER.pack_into(
            self.image,
            0,
            *header,
            PROGRAM_HEADER.size,
            PROGRAM_HEADERS,
            SECTION_HEADER.size,
            len(sections),
            len(sections) - 1,
        )
        data_size, filled = self.end - self.data_at, self.file_size - self.data_at
        programs = [
            (PT_LOAD, PF_R, 0, self.constants_end, self.constants_end, PAGE),
            (PT_LOAD, PF_R | PF_X, self.code_at, self.code_end - self.code_at, self.code_end - self.code_at, PAGE),
            (PT_LOAD, PF_R | PF_W, self.data_at, filled, data_size, PAGE),
            (PT_DYNAMIC, PF_R | PF_W, self.dynamic_at, *[self.file_size - self.dynamic_at] * 2, 8),
            (PT_GNU_STACK, PF_R | PF_W, 0, 0, 0, 16),
        ]
        assert len(programs) == PROGRAM_HEADERS
        for number, (kind, flags, at, in_file, in_memory, align) in enumerate(programs):
            place = HEADER.size + number * PROGRAM_HEADER.size
            PROGRAM_HEADER.pack_into(self.image, place, kind, flags, at, at, at, in_file, in_memory, align)
        for section in sections:
            self.image += SECTION_HEADER.pack(*section)

    def _section_headers(self) -> list[tuple[int, ...]]:
        # ld.so needs no section headers.  Debuggers, profilers and disassemblers need them for the kernels' names.
        names = b"\0.dynsym\0.dynstr\0.text\0.dynamic\0.shstrtab\0"
        names_at = len(self.image)
        self.image += names.ljust(_aligned(len(names), 8), b"\0")

        def header(name: bytes, kind: int, flags: int, at: int, size: int, *rest: int) -> tuple[int, ...]:
            return (names.index(name + b"\0"), kind, flags, at if flags else 0, at, size, *rest)

        symbols = self.strings_at - self.symbols_at
        dynamic = self.file_size - self.dynamic_at
        return [
            (0,) * 10,
            header(b".dynsym", SHT_DYNSYM, SHF_ALLOC, self.symbols_at, symbols, 2, 1, 8, SYMBOL.size),
            header(b".dynstr", SHT_STRTAB, SHF_ALLOC, self.strings_at, len(self.strings), 0, 0, 1, 0),
            header(
                b".text",
                SHT_PROGBITS,
                SHF_ALLOC | SHF_EXECINSTR,
                self.code_at,
                self.code_end - self.code_at,
                0,
                0,
                16,
                0,
            ),
            header(b".dynamic", SHT_DYNAMIC, SHF_ALLOC | SHF_WRITE, self.dynamic_at, dynamic, 2, 0, 8, DYNAMIC.size),
            header(b".shstrtab", SHT_STRTAB, 0, names_at, len(names), 0, 0, 1, 0),
        ]
