"""The declaration of a command: its syntax, its effect on keys, its cost, and the functions that serve it.

    Command(
        Family("string", "kvstore.commands.strings"),
        "GETDEL key",
        "Answers the string at a key and deletes the key.",
        since="6.2.0", cost="O(1)", flags="write fast", keys="RW access delete",
        kernel="setting:getdel",
    )

The syntax is written as in Redis's manual (kvstore/wire/syntax.py).  It yields the name, the arity, the arguments of
COMMAND DOCS, the positions of the keys, and the options that Python reads.  The flags and the group yield the ACL
categories.  All fields together yield COMMAND INFO, HELP and the loop's table.  A new command needs no other edit.

A command is served by its kernel, by a Python function, or by both: a kernel returns 1 to leave a form of the command
to Python.  A declaration names the functions as "module:function", within the family's package, or anywhere if the
module has a dot.  They are imported when the table is made, because declarations are data.  A family may name the
Python function that serves its commands unless their declarations say otherwise.

A command with subcommands is a container: its own declaration admits it, and the subcommand's declaration says the
rest.
"""

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kvstore.wire.syntax import Argument, parse, words_of

if TYPE_CHECKING:
    from kvstore.wire.keyspecs import KeySpec
    from kvstore.wire.options import Options

_CATEGORY_OF_GROUP = {
    "string": "string",
    "generic": "keyspace",
    "transactions": "transaction",
    "connection": "connection",
    "list": "list",
    "set": "set",
    "sorted-set": "sortedset",
    "hash": "hash",
    "bitmap": "bitmap",
    "hyperloglog": "hyperloglog",
    "geo": "geo",
    "stream": "stream",
    "scripting": "scripting",
}
_CATEGORIES_OF_FLAG = {
    "write": ("write",),
    "readonly": ("read",),
    "admin": ("admin", "dangerous"),
    "fast": ("fast",),
    "blocking": ("blocking",),
    "pubsub": ("pubsub",),
}
_CATEGORIES = """
    keyspace read write set sortedset list hash string bitmap hyperloglog geo stream pubsub admin fast slow blocking
    dangerous connection transaction scripting
"""
CATEGORIES = tuple(_CATEGORIES.split())  # of Redis's ACLs; those of types that are not served have no commands
CONTAINER_ARITY = -2

Secrets = Callable[[list[bytes]], list[int]]
_NOT_KEY, _PATTERNS, _UNTOLD = "not_key", "patterns", "untold"
_NOTHING: dict[str, str] = {}


class Family:
    """The common properties of commands that are declared together: their group, and the package that serves them."""

    def __init__(self, group: str, package: str, container: str = "", *, python: str = "") -> None:
        """`container`: the command whose subcommands they are; `python`: serves those that name no function."""
        self.group, self.package, self.container, self.python = group, package, container, python

    def subcommands_of(self, container: str) -> "Family":
        """The family of a container's subcommands."""
        return Family(self.group, self.package, container, python=self.python)

    def whole(self, reference: str) -> str:
        """The full name of a function that is named within the package, or somewhere else."""
        return f"{self.package}.{reference}" if reference and "." not in reference else reference


class Command:
    """The declaration of a command, or of a subcommand, which is named "container|subcommand".

    It is not a dataclass, because that would cost every start some milliseconds.
    """

    def __init__(
        self,
        family: Family,
        syntax: str,
        summary: str,
        *,
        since: str,
        cost: str,
        flags: str = "",
        keys: str | tuple[str, ...] = (),
        notes: str | tuple[str, ...] = "",
        plain_keys: tuple[str, str] | None = None,
        tips: str = "",
        categories: str = "",
        category_of_group: bool = True,
        groups: str = "",
        types: str = "",
        names: str = "",
        added: str = "",
        outdated: str = "",
        history: tuple[tuple[str, str], ...] = (),
        doc_flags: str = "",
        deprecated: tuple[str, str] | None = None,
        arity: int = 0,
        kernel: str = "",
        python: str = "",
        loop: int = 0,
        keeps: int = 0,
        secrets: Secrets | None = None,
        subcommands: "tuple[Command, ...]" = (),
    ) -> None:
        """Declare one.

        flags               Redis's names for what it may do, and when it may run
        keys, notes         what is done to the keys, for each run of them: RO, RW, OW or RM, and what is done with the
                            value: access, update, insert, delete; and remarks on the first runs.  not_key: these are
                            shard channels.  patterns: these are keys that patterns name.  untold: COMMAND INFO does
                            not say where they are.  One entry for several keys in a row makes them one run
        plain_keys          a token, and what is done to the keys where it is not given
        tips                for clients and proxies
        categories          of ACLs, that follow neither from the flags nor from the group
        category_of_group   whether it belongs to the category that its group stands for
        groups, types, names, added, outdated
                            what the syntax does not say: see syntax.py; the last four as "label:word"
        history, doc_flags, deprecated
                            what COMMAND DOCS tells besides; the last: since when, and what replaces it
        arity               where Redis describes no arguments, though there are some
        kernel, python      who serves it
        loop                what the loop has to know of it beside its flags: see rows.py
        keeps               what of its arguments a queue holds: see refcounts.py
        secrets             which arguments the slow log must not show
        """
        name, _, self.usage = syntax.removeprefix(f"{family.container} ").partition(" ")
        self.name = f"{family.container}|{name}".lower() if family.container else name.lower()
        self.group, self.summary, self.since, self.cost = family.group, summary, since, cost
        self.flags, self.tips, self.doc_flags = tuple(flags.split()), tuple(tips.split()), tuple(doc_flags.split())
        self.history, self.deprecated = history, deprecated
        served = kernel or python or subcommands
        self.kernel, self.python = family.whole(kernel), family.whole(python if served else family.python)
        self.loop, self.keeps, self.secrets, self.subcommands = loop, keeps, secrets, subcommands
        self._keys, self._plain_keys = (keys,) if isinstance(keys, str) else keys, plain_keys
        self._notes = (notes,) if isinstance(notes, str) else notes
        self._categories, self._category_of_group = categories, category_of_group
        self._annotations = groups, types, names, added, outdated
        self._arity = arity

    @cached_property
    def arguments(self) -> tuple[Argument, ...]:
        """The arguments that the syntax describes."""
        groups, *annotations = self._annotations
        return parse(self.usage, tuple(groups.split()), *map(_pairs, annotations))

    @cached_property
    def arity(self) -> int:
        """Number of words including the name's, as Redis counts them; negative: at least so many."""
        if self._arity or self.subcommands:
            return self._arity or CONTAINER_ARITY
        least, more = words_of(self.arguments)
        return -(self.named + least) if more else self.named + least

    @property
    def named(self) -> int:
        """How many words the name has."""
        return 1 + self.name.count("|")

    @cached_property
    def key_specs(self) -> "tuple[KeySpec, ...]":
        """The positions of the keys, and the effect on them."""
        from kvstore.wire.keyspecs import (  # here: no command needs it to be admitted
            KeySpec,
            Range,
            is_shard_channel,
            places,
            together,
        )

        found: list[Any] = list(places(self.arguments, self.named))
        if self._keys == (_NOT_KEY,):
            found = list(places(self.arguments, self.named, is_shard_channel))
        if len(found) > 1 == len(self._keys):
            found = list(together(found))
        for number, words in enumerate(self._keys):
            if _PATTERNS in words:
                found.insert(number, (None, Range(0)))
        assert len(found) == len(self._keys), f"{self.name}: {len(self._keys)} runs of keys are declared, not {found}"
        specs = []
        for (begin, find), words, note in zip(found, self._keys, (*self._notes, *[""] * len(found)), strict=False):
            flags = tuple(word for word in words.split() if word not in (_PATTERNS, _UNTOLD))
            specs.append(KeySpec(begin, find, flags, note, _UNTOLD not in words and begin is not None))
        return tuple(specs)

    @property
    def has_keys(self) -> bool:
        """Whether keys are at some of the positions that are specified, and not only what goes where keys go."""
        return any(_NOT_KEY not in spec.flags for spec in self.key_specs)

    @cached_property
    def _one_run(self) -> tuple[tuple[int, int, int], bool]:
        from kvstore.wire.keyspecs import as_one_run

        return as_one_run(self.key_specs)

    @cached_property
    def told_flags(self) -> tuple[str, ...]:
        """The flags in COMMAND INFO: the declared ones, and whether some keys are at positions that it cannot give."""
        return (*self.flags, "movablekeys") if self._one_run[1] else self.flags

    @property
    def first_key_last_key_step(self) -> tuple[int, int, int]:
        """The keys as one run, the form of COMMAND before key specifications; zeros without keys."""
        return self._one_run[0]

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """The ACL categories the command belongs to, without their @."""
        found = set(self._categories.split())
        for flag in self.flags:
            found.update(_CATEGORIES_OF_FLAG.get(flag, ()))
        if self.group == "scripting":
            found.discard("read")  # the categories of a script are those of its commands
        if "fast" not in found:
            found.add("slow")
        if not self.subcommands and self._category_of_group and self.group in _CATEGORY_OF_GROUP:
            found.add(_CATEGORY_OF_GROUP[self.group])
        return tuple(category for category in CATEGORIES if category in found)

    @property
    def own_name(self) -> str:
        """The name without the container's."""
        return self.name.rpartition("|")[2]

    def takes(self, count: int) -> bool:
        """Whether it may be called with `count` arguments, its name among them."""
        return count == self.arity if self.arity > 0 else count >= -self.arity

    def options(self, args: list[bytes]) -> "Options":
        """The arguments of a whole command, by name: see options.py.  Raises CommandError."""
        from kvstore.wire.options import read

        return read(self.arguments, args[self.named :])

    def keys_in(self, args: list[bytes]) -> list[tuple[bytes, tuple[str, ...]]]:
        """The keys of a whole command, each with the effect on it.  Raises NoKeys."""
        return [
            (args[position], self._flags_at_hand(spec, args))
            for spec in self.key_specs
            for position in spec.positions(args)
        ]

    def _flags_at_hand(self, spec: "KeySpec", args: list[bytes]) -> tuple[str, ...]:
        if self._plain_keys is None:
            return spec.flags
        token, without = self._plain_keys
        if not any(arg.lower() == token.lower().encode() for arg in args[3:]):
            return tuple(without.split())
        return tuple(flag for flag in spec.flags if flag != "variable_flags")

    def subcommand(self, name: bytes) -> "Command | None":
        """The subcommand of this name, in any case."""
        return self._subcommands.get(name.lower())

    @cached_property
    def _subcommands(self) -> dict[bytes, "Command"]:
        return {sub.own_name.encode(): sub for sub in self.subcommands}


def _pairs(text: str) -> dict[str, str]:
    # "label:word ..." as a dictionary; a label may have a colon itself.
    return dict(word.rpartition(":")[::2] for word in text.split()) if text else _NOTHING
