"""Key specifications: the positions of a command's keys, derived from its syntax and shown by COMMAND INFO.

A key specification gives the beginning of a search and the arguments that it finds there:

    begin   Index      at an argument               find   Range    each `step`th from there to `last`
            Keyword    behind a token                      Count    as many as an argument says

    GET key                                     Index(1)            Range(0)
    MSET key value [key value ...]              Index(1)            Range(-1, step=2)
    BLPOP key [key ...] timeout                 Index(1)            Range(-2)
    SINTERCARD numkeys key [key ...]            Index(1)            Count()
    GEORADIUS key ... [STORE key]               Keyword(STORE, 6)   Range(0)
    XREAD ... STREAMS <key [key ...] id ...>    Keyword(STREAMS, 1) Range(-1, limit=2)

SORT's patterns name keys that are not among the arguments: their specification has no beginning, and COMMAND INFO says
that the places are unknown.  So it says of SORT's STORE, which Redis finds by going through the options.

The command's first word is argument 0.  `last` counts from the beginning of the search; a negative one counts from the
end of the command.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kvstore.wire.arguments import pack
from kvstore.wire.keyplaces import (
    COUNT_AT,
    COUNTED,
    FIRST,
    KEYWORD,
    KEYWORD_REST,
    KEYWORD_SIZE,
    KIND,
    LAST,
    LIMIT,
    RANGE,
    SPEC_WIDTH,
    SPECS,
    START,
    STEP,
)
from kvstore.wire.syntax import Argument, walk, words_of
from mmcore.jit import Table


class Index(NamedTuple):
    """The search begins at this argument."""

    at: int


class Keyword(NamedTuple):
    """The search begins behind a token, which is looked for from an argument on; a negative one counts from the end."""

    keyword: str
    start: int


class Range(NamedTuple):
    """Each `step`th argument up to `last`; a limit n restricts this to the first 1/n of the arguments."""

    last: int
    step: int = 1
    limit: int = 0


class Count(NamedTuple):
    """The first argument is the number of keys that follow."""

    count_at: int = 0
    first: int = 1
    step: int = 1


_COUNT = re.compile(rb"[1-9][0-9]{0,8}")  # up to COUNT_MAX

Place = tuple[Index | Keyword, Range | Count]
Sought = Callable[[Argument], bool]


def _is_key(argument: Argument) -> bool:
    return argument.type == "key"


def is_shard_channel(argument: Argument) -> bool:
    """Whether it names a channel that belongs to a slot of a cluster, as a key does."""
    return argument.name == "shardchannel"


class NoKeys(ValueError):
    """The keys among these arguments cannot be determined."""


@dataclass(frozen=True)
class KeySpec:
    """A run of keys, and the command's effect on them."""

    begin: Index | Keyword | None
    find: Range | Count
    flags: tuple[str, ...]  # RO, RW, OW or RM, and the effect on the value: access, update, insert, delete
    notes: str = ""
    told: bool = True  # whether COMMAND INFO says where they are

    @property
    def is_range(self) -> bool:
        """Whether first key, last key and step, COMMAND's form before key specifications, describe the run."""
        return isinstance(self.begin, Index) and isinstance(self.find, Range)

    def positions(self, args: Sequence[bytes]) -> range:
        """Indices of the keys in a whole command.  Raises NoKeys."""
        first = self._begin(args)
        if first is None:
            return range(0)
        if isinstance(self.find, Count):
            return _counted(self.find, first, args)
        last, step, limit = self.find
        if last < 0:
            last += first + (len(args) - first) // limit if limit else len(args)
        else:
            last += first
        if not first <= last < len(args):
            raise NoKeys
        return range(first, last + 1, step)

    def _begin(self, args: Sequence[bytes]) -> int | None:
        if self.begin is None:
            return None
        if isinstance(self.begin, Index):
            return self.begin.at
        word, start = self.begin.keyword.lower().encode(), self.begin.start
        places = range(start, len(args)) if start > 0 else range(len(args) + start, 0, -1)
        return next((at + 1 for at in places if args[at].lower() == word), None)


def _counted(find: Count, begin: int, args: Sequence[bytes]) -> range:
    at = begin + find.count_at
    match = _COUNT.fullmatch(args[at]) if at < len(args) else None
    if match is None:
        raise NoKeys
    first = begin + find.first
    end = first + int(match[0]) * find.step
    if end > len(args):
        raise NoKeys
    return range(first, end, find.step)


def places(arguments: tuple[Argument, ...], named: int, sought: Sought = _is_key) -> list[Place]:
    """The positions of keys in the syntax, or of what is sought, for a command with a name of `named` words.

    Raises ValueError for a position that cannot be expressed, such as one behind optional arguments.
    """
    found: list[Place] = []
    required, fixed = named, True  # words before the argument at hand, and whether there are always so many
    for number, argument in enumerate(arguments):
        if any(map(sought, walk((argument,)))):
            counted = number > 0 and arguments[number - 1].name == "numkeys"
            after = words_of(arguments[number + 1 :])[0]
            found += _places_in(argument, required, fixed, counted, after, sought)
        least, more = argument.words
        required += 0 if argument.optional else least
        fixed &= not (more or argument.optional)
    return found


def _places_in(
    argument: Argument, required: int, fixed: bool, counted: bool, after: int, sought: Sought
) -> Iterator[Place]:
    members = argument.arguments
    if argument.type == "oneof":
        for one in members:
            if any(map(sought, walk((one,)))):
                yield from _places_in(one, required, fixed, counted, after, sought)
    elif argument.token:
        lists = len(members) if members and all(one.multiple for one in members) else 0
        multiple = argument.multiple or any(one.multiple for one in members)
        yield Keyword(argument.token, required), Range(-1 if multiple else 0, 1, lists)
    elif not fixed:
        raise ValueError(f"the syntax does not say where {argument.name} stands")
    elif counted:
        yield Index(required - 1), Count()
    elif argument.optional and not (argument.multiple and after == 0):
        raise ValueError(f"the syntax does not say whether {argument.name} is there")
    elif argument.type == "block" and argument.multiple:
        for place, one in enumerate(members):
            if sought(one):
                yield Index(required + place), Range(-1 - after, len(members))
    elif argument.type == "block":
        yield from places(members, required, sought)
    else:
        yield Index(required), Range(-1 - after if argument.multiple else 0)


def together(found: list[Place]) -> list[Place]:
    """Keys at arguments that follow each other as one run."""
    assert [place[1] for place in found] == [Range(0)] * len(found), found
    begins = [begin.at for begin, _ in found if isinstance(begin, Index)]
    assert begins == list(range(begins[0], begins[0] + len(found))), found
    return [(Index(begins[0]), Range(len(found) - 1))]


def as_one_run(specs: Sequence[KeySpec]) -> tuple[tuple[int, int, int], bool]:
    """First key, last key and step, zeros without keys; and whether some keys are not among these."""
    if len(specs) == 1 and specs[0].is_range:
        return _run(specs[0]), False
    first = last = 0
    movable = False
    for spec in specs:
        begins, ends, step = _run(spec) if spec.is_range else (0, 0, 0)
        if step == 1 and last in (0, begins - 1):
            first, last = first or begins, ends
        else:
            movable = True
    return (first, last, 1 if first else 0), movable


def _run(spec: KeySpec) -> tuple[int, int, int]:
    assert isinstance(spec.begin, Index) and isinstance(spec.find, Range)
    last = spec.find.last
    return spec.begin.at, last if last < 0 else spec.begin.at + last, spec.find.step


def places_table(commands: Sequence[Sequence[KeySpec]]) -> Table:
    """The table by which kernels find the keys of commands with these specifications: see keyplaces.py."""
    table = Table(SPECS * len(commands), SPEC_WIDTH)
    for command, specs in enumerate(commands):
        assert len(specs) <= SPECS
        for number, spec in enumerate(spec for spec in specs if spec.begin is not None):
            for field, value in _words(spec).items():
                table[SPECS * command + number, field] = value
    return table


def _words(spec: KeySpec) -> dict[int, int]:
    begin, find, words = spec.begin, spec.find, {}
    if isinstance(begin, Index):
        words[START] = begin.at
    else:
        assert begin is not None
        keyword = begin.keyword.upper().encode()
        words |= {START: begin.start, KEYWORD_SIZE: len(keyword)}
        words |= {KEYWORD: pack(keyword[:8]), KEYWORD_REST: pack(keyword[8:])}
    if isinstance(find, Range):
        return words | {KIND: RANGE, LAST: find.last, STEP: find.step, LIMIT: find.limit}
    return words | {KIND: COUNTED, COUNT_AT: find.count_at, STEP: find.step, FIRST: find.first}
