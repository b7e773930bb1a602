"""The syntax of a command, in the notation of Redis's manual, and the arguments parsed from it.

    word                  an argument; its type follows from its name
    WORD                  a token, standing alone
    WORD word             a token and its argument
    WORD <a b>            a token and a block of several
    [ ... ]               optional; [WORD a b] is a token and a block
    < ... >               a group; of one argument too, where Redis describes it as a block
    a | b                 within either: one of several
    a b [a b ...]         a b one or more times; [a [a ...]] zero or more times; <...> ... one or more times

Facts that the notation cannot express are given beside it: the names of groups, in the order in which they begin, and
the types that do not follow from names.  The parsed arguments determine the arity (here), the positions of keys
(keyspecs.py), the reading of a command (options.py), and its arguments in COMMAND DOCS.
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_INTEGERS = """
    bits client-id cluster_bus_port config-epoch count cursor db decrement destination-db end end-slot increment index
    index1 index2 maxage milliseconds numkeys numreplicas offset port protover seconds slot start start-slot timeout
"""
_TYPES = {
    "key": "key",
    "pattern": "pattern",
    "unix-time-seconds": "unix-time",
    "unix-time-milliseconds": "unix-time",
    **dict.fromkeys(_INTEGERS.split(), "integer"),
}
_WORDS = re.compile(r"\.\.\.|[][<>|]|[^][<>|\s]+")
_CLOSING = ("]", ">", "|", "...")


class Argument(NamedTuple):
    """One argument of a command, or a group of them."""

    name: str
    type: str  # string, integer, double, key, pattern, unix-time, pure-token, oneof, block
    token: str = ""
    optional: bool = False
    multiple: bool = False
    multiple_token: bool = False  # the token is repeated too
    since: str = ""  # the version that added it, where that is not the command's
    deprecated_since: str = ""
    arguments: tuple["Argument", ...] = ()

    @property
    def words(self) -> tuple[int, bool]:
        """The least number of words when it is given, and whether it may have more."""
        count, more = 1, self.multiple
        if self.type == "block":
            count, inner = words_of(self.arguments)
            more |= inner
        elif self.type == "oneof":
            each = [argument.words for argument in self.arguments]
            count = max(1, min(0 if argument.optional else argument.words[0] for argument in self.arguments))
            more |= any(inner for _, inner in each) or len({least for least, _ in each}) > 1
        return count + bool(self.token and self.type != "pure-token"), more


def words_of(arguments: tuple[Argument, ...]) -> tuple[int, bool]:
    """The least number of words of these arguments, and whether they may have more."""
    count, more = 0, False
    for argument in arguments:
        least, inner = argument.words
        count += 0 if argument.optional else least
        more |= inner or argument.optional
    return count, more


def walk(arguments: tuple[Argument, ...]) -> Iterator[Argument]:
    """These arguments and all within them, a group before its members."""
    for argument in arguments:
        yield argument
        yield from walk(argument.arguments)


def parse(
    syntax: str,
    groups: tuple[str, ...] = (),
    types: Mapping[str, str] | None = None,
    names: Mapping[str, str] | None = None,
    added: Mapping[str, str] | None = None,
    deprecated: Mapping[str, str] | None = None,
) -> tuple[Argument, ...]:
    """The arguments that a line of syntax, without the command's name, describes.

    `groups`: the names of groups, in the order in which they begin; `types`: by name, where they do not follow from it;
    `names`: of tokens that are called otherwise; `added`, `deprecated`: versions, by label.
    """
    reader = _Reader(syntax, types or {}, names or {})
    arguments = reader.sequence()
    assert not reader.words, f"{syntax!r}: {reader.words[-1]!r} is not expected"
    if not groups and not added and not deprecated:
        assert not any(argument.arguments for argument in arguments), f"{syntax!r} has groups without a name"
        return arguments
    left_over = iter(groups)
    described = _described(arguments, left_over, added or {}, deprecated or {})
    left = next(left_over, None)
    assert left is None, f"{syntax!r} has no group {left!r}"
    return described


class _Reader:
    """Reads the notation; its words are taken from the end of the list."""

    def __init__(self, syntax: str, types: Mapping[str, str], names: Mapping[str, str]) -> None:
        self.words: list[str] = _WORDS.findall(syntax)[::-1]
        self._types, self._names = types, names

    def sequence(self) -> tuple[Argument, ...]:
        """The arguments up to a word that closes a group, or repeats it."""
        found: list[Argument] = []
        words = self.words
        while words and words[-1] not in _CLOSING:
            word = words.pop()
            if word == "[":
                self._bracket(found)
            elif word == "<":
                found.append(self._angle())
            elif _is_token(word):
                found.append(self._tokened(word))
            else:
                found.append(self._value(word))
            if words[-1:] == ["..."] and words[-2:-1] != ["]"]:  # the bracket's branch handles a b [a b ...]
                words.pop()
                found[-1] = found[-1]._replace(multiple=True)
        return tuple(found)

    def _value(self, name: str, token: str = "") -> Argument:
        return Argument(name, self._types.get(name) or _TYPES.get(name, "string"), token)

    def _tokened(self, token: str) -> Argument:
        # A token with the arguments that it introduces.
        following = self.words[-1] if self.words else "]"
        if following == "<":
            self.words.pop()
            return self._angle()._replace(token=token)
        if following in (*_CLOSING, "[") or _is_token(following):
            return Argument(self._names.get(token, token.lower()), "pure-token", token)
        return self._value(self.words.pop(), token)

    def _bracket(self, found: list[Argument]) -> None:
        # An optional argument; or a mark that the last arguments found may be repeated.
        group, members, repeats = self._group("]")
        tail = tuple(found[-len(members) :]) if members else ()
        if not repeats:
            found.append(group._replace(optional=True))
        elif tail == members and len(members) > 1:
            found[-len(members) :] = [group._replace(multiple=True, multiple_token=bool(group.token))]
        elif tail == members:
            found[-1] = found[-1]._replace(multiple=True, multiple_token=bool(found[-1].token))
        elif len(tail) == len(members) == 1 and tail[0]._replace(token="") == members[0]:
            found[-1] = found[-1]._replace(multiple=True)
        else:
            assert len(members) == 1, f"{members} is repeated where it has not been said"
            found.append(members[0]._replace(optional=True, multiple=True))

    def _angle(self) -> Argument:
        # A group, which may have only one argument.
        group, members, _ = self._group(">")
        return Argument("", "block", arguments=members) if len(members) == 1 else group

    def _group(self, closing: str) -> tuple[Argument, tuple[Argument, ...], bool]:
        # A group as one argument; its members, none if it has alternatives; and whether it ends with `...`.
        words, alternatives = self.words, [self.sequence()]
        while words[-1] == "|":
            words.pop()
            alternatives.append(self.sequence())
        repeats = words[-1] == "..."
        if repeats:
            words.pop()
        assert words.pop() == closing, f"a group does not end with {closing}"
        if len(alternatives) == 1:
            return _joined(alternatives[0]), alternatives[0], repeats
        return Argument("", "oneof", arguments=tuple(map(_joined, alternatives))), (), repeats


def _is_token(word: str) -> bool:
    return word == word.upper()


def _joined(members: tuple[Argument, ...]) -> Argument:
    # Several arguments as one; a token before them is the token of all, unless tokens or groups are among them.
    first = members[0]
    if len(members) == 1:
        return first
    among = any(member.token or member.arguments for member in members[1:])
    token = "" if first.type == "pure-token" or first.optional or among else first.token
    if token:
        members = (first._replace(token=""), *members[1:])
    return Argument("", "block", token, arguments=members)


def _described(
    arguments: tuple[Argument, ...], groups: Iterator[str], added: Mapping[str, str], deprecated: Mapping[str, str]
) -> tuple[Argument, ...]:
    # The same arguments with the names of groups, and versions.
    described = []
    for argument in arguments:
        name = next(groups, "") if argument.arguments else argument.name
        assert name, f"a group without a name: {argument}"
        label = argument.token or name
        since, until = added.get(label, ""), deprecated.get(label, "")
        if since or until or argument.arguments:
            members = _described(argument.arguments, groups, added, deprecated)
            argument = argument._replace(name=name, since=since, deprecated_since=until, arguments=members)
        described.append(argument)
    return tuple(described)
