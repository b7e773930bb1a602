"""Reading a command's arguments by its syntax, for the commands that Python serves.

    read(parse("key [NX | XX] [EX seconds | KEEPTTL]", ("condition", "expiration")), [b"k", b"ex", b"5"])
    == {"key": b"k", "expiration": "seconds", "seconds": b"5"}

Each value is stored under its argument's name, as the bytes received; a token without an argument is stored as True.  A
group of alternatives is stored as the name of the chosen one.  Repeatable arguments become a list, and repeatable
blocks a list of dictionaries.  Optional arguments with tokens may come in any order, as in Redis.  If one comes twice,
the last counts.  Two alternatives of a group are a syntax error, and so are words that do not fit the syntax.
"""

from typing import Any

from kvstore.wire.errors import ERRORS, SYNTAX
from kvstore.wire.reply import CommandError
from kvstore.wire.syntax import Argument, words_of

Options = dict[str, Any]


def read(arguments: tuple[Argument, ...], words: list[bytes]) -> Options:
    """The words by their arguments' names.  Raises CommandError: a syntax error."""
    reader = _Reader(words)
    given: Options = {}
    if not reader.sequence(arguments, given, 0) or reader.left:
        raise CommandError(ERRORS[SYNTAX])
    return given


class _Reader:
    """The words that have not been read yet."""

    def __init__(self, words: list[bytes]) -> None:
        self._words, self._at = words, 0

    @property
    def left(self) -> int:
        """How many there are."""
        return len(self._words) - self._at

    def _token(self, token: str) -> bool:
        # Take the token if it is next.
        if self.left and self._words[self._at].lower() == token.lower().encode():
            self._at += 1
            return True
        return False

    def sequence(self, arguments: tuple[Argument, ...], given: Options, kept: int) -> bool:
        """Take these arguments in order, or in any order those with tokens, and leave at least `kept` words."""
        number = 0
        while number < len(arguments):
            argument = arguments[number]
            end = number + 1
            after = kept + words_of(arguments[end:])[0]
            if not argument.optional:
                if not self._several(argument, given, after):
                    return False
            else:
                while end < len(arguments) and arguments[end].optional:
                    end += 1
                run = arguments[number:end]
                while self.left > kept + words_of(arguments[end:])[0] and any(
                    self._optional(one, given, after) for one in run
                ):
                    pass
            number = end
        return True

    def _optional(self, argument: Argument, given: Options, kept: int) -> bool:
        # Take it if it is next; one without a token is taken once.
        if self.left - kept < argument.words[0] or (argument.name in given and not _has_token(argument)):
            return False
        before, values = self._at, dict(given)
        if self._several(argument, values, kept) and self._at > before:
            given.update(values)
            return True
        self._at = before
        return False

    def _several(self, argument: Argument, given: Options, kept: int) -> bool:
        # Take an argument as often as it comes.
        if not argument.multiple:
            return self._one(argument, given, kept)
        values: list[Any] = []
        while self.left - kept >= argument.words[0] - bool(values and not argument.multiple_token and argument.token):
            before, inner = self._at, Options()
            tokened = bool(values) and not argument.multiple_token
            if not self._one(argument, inner, kept, tokened) or self._at == before:
                self._at = before
                break
            values.append(inner if argument.arguments else inner[argument.name])
        earlier = given.get(argument.name, []) if argument.multiple_token else []
        given[argument.name] = earlier + values
        return bool(values)

    def _one(self, argument: Argument, given: Options, kept: int, tokened: bool = False) -> bool:
        # Take an argument once; `tokened`: its token has been taken.
        if argument.token and not tokened and not self._token(argument.token):
            return False
        if argument.type == "pure-token":
            given[argument.name] = True
        elif argument.type == "oneof":
            return self._alternative(argument, given, kept)
        elif argument.type == "block":
            return self.sequence(argument.arguments, given, kept)
        elif self.left <= kept:
            return False
        else:
            given[argument.name] = self._words[self._at]
            self._at += 1
        return True

    def _alternative(self, argument: Argument, given: Options, kept: int) -> bool:
        # Arguments with tokens go first: a word that is one of their tokens is not a value.
        for one in sorted(argument.arguments, key=lambda one: not _has_token(one)):
            before, values = self._at, Options()
            if self._several(one, values, kept):
                if given.get(argument.name, one.name) != one.name:
                    return False
                given.update(values)
                given[argument.name] = one.name
                return True
            self._at = before
        return False


def _has_token(argument: Argument) -> bool:
    if argument.type == "oneof" and not argument.token:
        return all(map(_has_token, argument.arguments))
    return bool(argument.token)
