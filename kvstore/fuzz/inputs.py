"""Inputs to attack a store with: commands made after their declarations, and mutated.

    inputs = Inputs(random.Random(seed), keys=1000)
    data = inputs.draw()

A seed stream is some commands that their syntax allows, mostly on keys of the right type; `streams` of them are made at
the beginning.  An input is one of them, changed a few times.  Usually the change is one of commands:

    replace     an argument, by a number at some limit, by odd bytes, by a key, by an option of another command
    repeat      an argument's bytes, up to a length at which the form of a value changes
    insert, drop, exchange commands; join the head of a stream to the tail of another

One input in eight is changed as bytes as well: a bit, a byte, a number, a cut, a repeated piece.  Most of these break
the protocol, and what follows is lost.
"""

import random
from collections.abc import Sequence

from kvstore.commands.declaration import Command
from kvstore.fuzz.target import COLLECTIONS, CONSUMER, GROUP, PLAYED, SIZES, collection
from kvstore.wire.respclient import encode_command
from kvstore.wire.syntax import Argument

Words = list[bytes]

LIMITS = (
    b"0", b"-0", b"1", b"-1", b"2", b"63", b"64", b"127", b"128", b"255", b"256", b"511", b"512", b"4095", b"4096",
    b"65535", b"65536", b"2147483647", b"-2147483648", b"2147483648", b"4294967295", b"4294967296", b"536870911",
    b"9223372036854775807", b"-9223372036854775808", b"9223372036854775808", b"18446744073709551615", b"1.5", b"-1e308",
    b"1e309", b"5e-324", b"inf", b"-inf", b"nan", b"0x10", b"1e3", b" 1", b"+1", b"(1", b"[a", b"-", b"+",
)  # fmt: skip
ODD = (b"", b"\0", b"\r\n", b"*", b"[", b"\\", b"a*" * 20 + b"b", b"$5\r\n", b"\xff" * 9, b"{a}b", b"%s", b"(inf", b"(")
LENGTHS = (0, 1, 63, 64, 65, 127, 128, 129, 4080, 4096, 5000, 70_000)
_PREFERRED = 0.8  # of the keys of a command are of its type
_FORMS = {"hash": "hash", "list": "list", "set": "set", "sorted-set": "zset", "stream": "stream"}
_IDENTIFIERS = ("id", "start", "end", "last-id", "max_deleted_entry_id")  # arguments of stream commands
_BYTES_TOO = 8  # one input in so many is changed as bytes as well
_CHANGES = (1, 1, 2, 3)


class Inputs:
    """A source of inputs; the same generator and the same arguments give the same ones.

    With another number of keys they differ in the numbers of keys only.
    """

    def __init__(
        self,
        generator: random.Random,
        keys: int,
        commands: Sequence[Command] = PLAYED,
        streams: int = 64,
        length: int = 8,
    ) -> None:
        """keys: the strings key:0 and so on of the store.  length: of a seed stream [commands]."""
        self._random, self._keys = generator, keys
        self._commands = tuple(row for row in commands if not row.subcommands)
        self._tokens = sorted({token for row in self._commands for token in _tokens(row.arguments)})
        self._streams = [[self._command() for _ in range(length)] for _ in range(streams)]

    def draw(self) -> bytes:
        """One input."""
        choose = self._random
        stream = list(choose.choice(self._streams))
        for _ in range(choose.choice(_CHANGES)):
            stream = self._changed(stream)
        data = b"".join(encode_command(*words) for words in stream)
        return self._changed_bytes(data) if choose.randrange(_BYTES_TOO) == 0 else data

    # ---------------------------------------------------------------------------------- commands after their syntax

    def _key(self, form: str = "") -> bytes:
        choose = self._random
        chance = choose.random()
        if form and chance < _PREFERRED:
            return collection(form, choose.choice(SIZES))
        if chance < 0.95:
            return b"key:%d" % int(self._keys * choose.random())
        return choose.choice((b"none", b"", collection(choose.choice(COLLECTIONS), choose.choice(SIZES))))

    def _command(self) -> Words:
        row = self._random.choice(self._commands)
        words = [word.encode() for word in row.name.split("|")]
        for argument in row.arguments:
            words += self._given(argument, row)
        return words

    def _given(self, argument: Argument, row: Command) -> Words:
        choose = self._random
        words: Words = []
        if argument.optional and choose.random() < 0.6:
            return []
        for _ in range(choose.randrange(1, 4) if argument.multiple else 1):
            if argument.token and (not words or argument.multiple_token or argument.type == "pure-token"):
                words.append(argument.token.encode())
            words += self._value(argument, row)
        return words

    def _value(self, argument: Argument, row: Command) -> Words:
        choose = self._random
        if argument.type == "oneof":
            return self._given(choose.choice(argument.arguments)._replace(optional=False), row)
        if argument.type == "block":
            return [word for inner in argument.arguments for word in self._given(inner, row)]
        if argument.type == "pure-token":
            return []
        if argument.type == "key":
            return [self._key(_FORMS.get(row.group, ""))]
        if argument.name == "timeout":
            return [b"0.001"]
        if argument.type in ("integer", "double", "unix-time"):
            return [choose.choice(LIMITS) if choose.random() < 0.1 else b"%d" % choose.randrange(-3, 12)]
        if argument.type == "pattern":
            return [choose.choice((b"*", b"key:1*", b"[ab]?", *ODD))]
        number = choose.randrange(SIZES[-1])
        if row.group == "stream" and argument.name in _IDENTIFIERS:
            return [choose.choice((b"%d-1", b"%d-*", b"%d", b"(%d-1")) % number if choose.random() < 0.9 else b">"]
        if row.group == "stream" and argument.name.startswith(("group", "consumer")):
            return [GROUP if argument.name.startswith("group") else CONSUMER]
        return [choose.choice((b"field:%d", b"item:%d", b"member:%d", b"value:%d", b"%d")) % number]

    # ------------------------------------------------------------------------------------------------------ mutations

    def _changed(self, stream: list[Words]) -> list[Words]:
        choose = self._random
        at, kind = choose.randrange(len(stream)), choose.randrange(8)
        if kind < 4:
            words = list(stream[at])
            place = choose.randrange(min(1, len(words) - 1), len(words))
            words[place] = self._other(words[place])
            return [*stream[:at], words, *stream[at + 1 :]]
        if kind == 4:
            return [*stream[:at], self._command(), *stream[at:]]
        if kind == 5 and len(stream) > 1:
            return [*stream[:at], *stream[at + 1 :]]
        if kind == 6:
            return [*stream[:at], *reversed(stream[at:])]
        other = choose.choice(self._streams)
        return [*stream[: at + 1], *other[choose.randrange(len(other)) :]]

    def _other(self, word: bytes) -> bytes:
        choose = self._random
        kind = choose.randrange(6)
        if kind < 2:
            return choose.choice(LIMITS)
        if kind == 2:
            return choose.choice(ODD)
        if kind == 3:
            return self._key(choose.choice(COLLECTIONS))
        if kind == 4:
            return choose.choice(self._tokens)
        length = choose.choice(LENGTHS)
        return ((word or b"x") * (length // max(1, len(word)) + 1))[:length]

    def _changed_bytes(self, data: bytes) -> bytes:
        choose = self._random
        at, kind = choose.randrange(len(data)), choose.randrange(6)
        if kind == 0:
            return data[:at] + bytes([data[at] ^ 1 << choose.randrange(8)]) + data[at + 1 :]
        if kind == 1:
            return data[:at] + choose.randbytes(1) + data[at + 1 :]
        if kind == 2:  # the number behind a sign, where a count or a length is
            signs = [i for i, byte in enumerate(data) if byte in b"*$"]
            at = choose.choice(signs) + 1 if signs else at
            end = data.find(b"\r", at)
            return data[:at] + choose.choice(LIMITS) + data[max(at, end) :]
        size = choose.randrange(1, 64)
        if kind == 3:
            return data[:at] + data[at + size :]
        if kind == 4:
            return data[: at + size] + data[at:]
        return data[:at] + choose.randbytes(size) + data[at:]


def _tokens(arguments: Sequence[Argument]) -> list[bytes]:
    found = [argument.token.encode() for argument in arguments if argument.token]
    return found + [token for argument in arguments for token in _tokens(argument.arguments)]
