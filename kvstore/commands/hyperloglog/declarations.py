"""Declarations of the HyperLogLog commands, which work on strings."""

from kvstore.commands import refcounts, rows
from kvstore.commands.declaration import Command, Family

_sketches = Family("hyperloglog", "kvstore.commands.hyperloglog")

COMMANDS = (
    Command(
        _sketches,
        "PFADD key [element [element ...]]",
        "Adds elements to a HyperLogLog.",
        since="2.8.9",
        cost="O(1) for each element",
        flags="write denyoom fast",
        keys="RW insert",
        loop=rows.ADDS_SKETCH,
        kernel="adding:pfadd",
        keeps=refcounts.MAKES_VALUE,
    ),
    Command(
        _sketches,
        "PFCOUNT key [key ...]",
        "Estimates how many different elements HyperLogLogs have seen.",
        since="2.8.9",
        cost="O(1) for one key whose count is known; otherwise O(N) with N the number of keys",
        flags="readonly",
        keys="RW access",
        notes="RW because it may change the internal representation of the key, and propagate to replicas",
        kernel="counting:pfcount",
    ),
    Command(
        _sketches,
        "PFDEBUG subcommand key",
        "Shows the registers of a HyperLogLog, or its encoding.",
        since="2.8.9",
        cost="O(1)",
        flags="write denyoom admin",
        keys="RW access",
        doc_flags="syscmd",
        loop=rows.ADDS_SKETCH,
        kernel="debugging:pfdebug",
    ),
    Command(
        _sketches,
        "PFMERGE destkey sourcekey [sourcekey ...]",
        "Unites HyperLogLogs in the first of them.",
        since="2.8.9",
        cost="O(N) with N the number of keys",
        flags="write denyoom",
        keys=("RW access insert", "RO access"),
        types="destkey:key sourcekey:key",
        arity=-2,
        loop=rows.ADDS_SKETCH,
        kernel="merging:pfmerge",
        keeps=refcounts.MAKES_VALUE,
    ),
    Command(
        _sketches,
        "PFSELFTEST",
        "Tests the HyperLogLog functions.",
        since="2.8.9",
        cost="O(1)",
        flags="admin",
        doc_flags="syscmd",
        kernel="debugging:pfselftest",
    ),
)
