"""Declarations of SORT and SORT_RO.

A SORT that stores its result needs memory for elements that its arguments do not name, so it is one of those that grow
(kvstore/commands/rows.py).
"""

from kvstore.commands import refcounts, rows
from kvstore.commands.declaration import Command, Family

_sorting = Family("generic", "kvstore.commands.sorting")
_ARGUMENTS = "key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] [ASC | DESC] [ALPHA]"
_COST = "O(N+M) with N the elements and M those answered, and the length of their texts where these are compared"
_CATEGORIES = "set sortedset list dangerous"
_NAMED = (
    "For the optional BY/GET keyword. It is marked 'unknown' because the key names derive from the content of the key "
    "we sort"
)
_STORED = (
    "For the optional STORE keyword. It is marked 'unknown' because the keyword can appear anywhere in the argument "
    "array"
)

COMMANDS = (
    Command(
        _sorting,
        f"SORT {_ARGUMENTS} [STORE destination]",
        "Answers or stores the elements of a list, a set or a sorted set in order.",
        since="1.0.0",
        cost=_COST,
        flags="write denyoom",
        keys=("RO access", "RO access patterns", "OW update untold"),
        notes=("", _NAMED, _STORED),
        categories=_CATEGORIES,
        category_of_group=False,
        groups="offset_count order",
        types="destination:key",
        names="ALPHA:sorting",
        loop=rows.GROWS,
        kernel="sorting:sort",
        keeps=refcounts.MAKES_VALUE,
    ),
    Command(
        _sorting,
        f"SORT_RO {_ARGUMENTS}",
        "Answers the elements of a list, a set or a sorted set in order.",
        since="7.0.0",
        cost=_COST,
        flags="readonly",
        keys=("RO access", "RO access patterns"),
        notes=("", _NAMED),
        categories=_CATEGORIES,
        category_of_group=False,
        groups="offset_count order",
        names="ALPHA:sorting",
        kernel="sorting:sort_ro",
    ),
)
