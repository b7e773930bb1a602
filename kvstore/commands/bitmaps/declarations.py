"""Declarations of the bitmap commands, which work on strings.

Those that write reserve frames first; BITOP builds its result aside.  So a command that gets no frames replies -OOM and
leaves the store unchanged.
"""

from kvstore.commands import refcounts, rows
from kvstore.commands.declaration import Command, Family

_bitmaps = Family("bitmap", "kvstore.commands.bitmaps")
_UNIT_ADDED = (("7.0.0", "Added the `BYTE|BIT` option."),)

COMMANDS = (
    Command(
        _bitmaps,
        "BITCOUNT key [start end [BYTE | BIT]]",
        "Counts the bits that are set in a string, or in a part of it.",
        since="2.6.0",
        cost="O(N) with N the bytes looked at",
        flags="readonly",
        keys="RO access",
        groups="index index_unit",
        added="index_unit:7.0.0",
        history=_UNIT_ADDED,
        kernel="ranges:bitcount",
    ),
    Command(
        _bitmaps,
        "BITFIELD key [<GET encoding offset | <[OVERFLOW <WRAP | SAT | FAIL>] "
        "<SET encoding offset value | INCRBY encoding offset increment>>> ...]",
        "Reads and writes integers of any width in a string.",
        since="3.2.0",
        cost="O(1) for each operation",
        flags="write denyoom",
        keys="RW access update variable_flags",
        notes="This command allows both access and modification of the key",
        groups="operation encoding_offset write wrap_sat_fail write_operation encoding_offset_value "
        "encoding_offset_increment",
        types="value:integer",
        loop=rows.GROWS,
        kernel="fields:bitfield",
        keeps=refcounts.MAKES_VALUE,
    ),
    Command(
        _bitmaps,
        "BITFIELD_RO key [GET encoding offset [GET encoding offset ...]]",
        "Reads integers of any width in a string.",
        since="6.0.0",
        cost="O(1) for each operation",
        flags="readonly fast",
        keys="RO access",
        groups="encoding_offset",
        kernel="fields:bitfield_ro",
    ),
    Command(
        _bitmaps,
        "BITOP operation destkey key [key ...]",
        "Combines the bits of strings, and stores the result.",
        since="2.6.0",
        cost="O(N) with N the bytes of all strings",
        flags="write denyoom",
        keys=("OW update", "RO access"),
        types="destkey:key",
        loop=rows.GROWS,
        kernel="operations:bitop",
    ),
    Command(
        _bitmaps,
        "BITPOS key bit [start [end [BYTE | BIT]]]",
        "Finds the first bit of a string that is set, or that is not.",
        since="2.8.7",
        cost="O(N) with N the bytes looked at",
        flags="readonly",
        keys="RO access",
        groups="index end_index index_unit",
        types="bit:integer",
        added="index_unit:7.0.0",
        history=_UNIT_ADDED,
        kernel="ranges:bitpos",
    ),
    Command(
        _bitmaps,
        "GETBIT key offset",
        "Answers a bit of a string.",
        since="2.2.0",
        cost="O(1)",
        flags="readonly fast",
        keys="RO access",
        kernel="bits:getbit",
    ),
    Command(
        _bitmaps,
        "SETBIT key offset value",
        "Sets or clears a bit of a string, and answers what it was.",
        since="2.2.0",
        cost="O(1)",
        flags="write denyoom",
        keys="RW access update",
        types="value:integer",
        loop=rows.GROWS,
        kernel="bits:setbit",
        keeps=refcounts.MAKES_VALUE,
    ),
)
