r"""Random commands: every row of the table, with hostile arguments.

A `Stream` is a list of well-formed requests with the number of replies that they must bring.  It accounts for the
effect of MULTI, CLIENT REPLY, RESET, QUIT and the like on that number.  It ends with a token that is echoed: if the
token comes at its place, every command has sent exactly one reply.

Commands that would legitimately stop the server, or delay or close other clients, are sent in a harmless form:

    SHUTDOWN            with ABORT
    DEBUG SLEEP         for no time
    DEBUG POPULATE      a few keys, or more than there can be
    CLIENT PAUSE        for some milliseconds
    CLIENT KILL         nobody, or oneself at the end of a stream
    CONFIG SET          of parameters that no client notices
    WAIT, BLPOP ...     for some milliseconds
    MONITOR             with one argument too many: a monitor gets more than replies
    CLIENT TRACKING     off, or with a wrong option, for the same reason
    BRANCH, SNAPSHOT    of few names, so that stores meet; no image of one is written but into its own directory
    SUBSCRIBE ...       without a name, UNSUBSCRIBE ... not at all: how much they answer, and what is allowed behind
                        them, depends on what came before (tests/server/test_pubsub_streams.py)
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from kvstore.commands.declaration import Command
from kvstore.commands.observation.debug import DEBUG
from kvstore.commands.table import COMMANDS
from tests.server.wire import encode

Words = list[bytes]

KEYS = [b"a", b"b", b"c", b"d", b"", b"\x00\xff\r\n", b"long" * 1200, b"counter", b"float", b"due"]
NUMBERS = [
    b"0", b"1", b"-1", b"2", b"7", b"15", b"16", b"100", b"-100", b"9223372036854775807", b"9223372036854775806",
    b"-9223372036854775808", b"9223372036854775808", b"-9223372036854775809", b"18446744073709551615", b"4294967296",
    b"2147483648", b"-2147483649", b"01", b"+1", b" 1", b"1 ", b"1.5", b"-0", b"0x10", b"1e3", b"1e400", b"1e-400",
    b"inf", b"-inf", b"nan", b"infinity", b"5.", b".5", b"3.14159265358979", b"9" * 400, b"1" + b"0" * 40,
]  # fmt: skip
ODD = [
    b"", b"\x00", b"x\r\n+FORGED", b"\r\n", b"\n", b"\xff\xfe", b"%s%n%n", b"$5\r\n", b"*1\r\n", b"'", b'"', b"\\",
    b"a\x00b", b"*", b"?", b"[", b"[a-", b"[^", b"\\", b"a*" * 20 + b"b", b"[[[*?", b"{a}", b"x" * 70_000, b"y" * 300,
]  # fmt: skip
OPTIONS = [
    b"NX", b"XX", b"GT", b"LT", b"GET", b"KEEPTTL", b"PERSIST", b"EX", b"PX", b"EXAT", b"PXAT", b"MATCH", b"COUNT",
    b"TYPE", b"string", b"REPLACE", b"DB", b"ASYNC", b"SYNC", b"SCHEDULE", b"HELP", b"nx", b"get", b"on", b"OFF",
    b"yes", b"AND", b"NOT", b"SET", b"INCRBY", b"OVERFLOW", b"FAIL", b"u8", b"i64", b"#1", b"BIT",
]  # fmt: skip
QUIET_PARAMETERS = [b"hz", b"tcp-keepalive", b"lfu-log-factor", b"maxmemory-samples", b"nosuch", b"", b"x\r\ny"]

Special = Callable[[random.Random], Words]


def _pause(generator: random.Random) -> Words:
    limit = generator.choice([b"0", b"1", b"20", b"-1", b"x", b"1.5", b"9223372036854775808", b""])
    return [b"CLIENT", b"PAUSE", limit, *generator.choice(([], [b"ALL"], [b"WRITE"], [b"x"], [b"WRITE", b"ALL"]))]


def _kill(generator: random.Random) -> Words:
    nobody: list[Words] = [
        [b"ID", b"-1"], [b"ID", b"9223372036854775807"], [b"ID", b"x"], [b"ADDR", b"127.0.0.1:1"], [b"ADDR", b"\r\n"],
        [b"LADDR", b"nowhere"], [b"USER", b"nobody\r\n+FORGED"], [b"TYPE", b"x"], [b"127.0.0.1:1"], [b"ID"],
        [b"MAXAGE", b"999999999"], [b"SKIPME"], [b"SKIPME", b"x"], [b"ID", b"-1", b"SKIPME", b"no"],
    ]  # fmt: skip
    return [b"CLIENT", b"KILL", *generator.choice(nobody)]


def _config_set(generator: random.Random) -> Words:
    pairs = generator.randrange(1, 4)
    words = [b"CONFIG", b"SET"]
    for _ in range(pairs):
        words += [generator.choice(QUIET_PARAMETERS), generator.choice(NUMBERS + ODD)]
    return words + generator.choice(([], [], [b"hz"]))


def _config_get(generator: random.Random) -> Words:
    return [b"CONFIG", b"GET", *generator.choices(QUIET_PARAMETERS + ODD, k=generator.randrange(1, 4))]


def _debug(generator: random.Random) -> Words:
    name = generator.choice([*DEBUG, b"nosuch", b"SEGFAULT", b"\r\n"])
    if name.lower() == b"sleep":
        return [b"DEBUG", name, generator.choice([b"0", b"-1", b"x", b"nan", b"inf", b"1e400", b""])]
    if name.lower() == b"set-active-expire":
        return [b"DEBUG", name, generator.choice([b"1", b"1", b"x"])]
    if name.lower() == b"shift-clock":
        return [b"DEBUG", name, generator.choice([b"WALL", b"TIMER", b"x"]), generator.choice([b"0", b"x", b""])]
    if name.lower() == b"populate":
        counts, sizes = [b"0", b"1", b"9", b"-1", b"x", b"9223372036854775807"], [b"0", b"3", b"5000", b"-1", b"1kb"]
        return [b"DEBUG", name, generator.choice(counts), generator.choice(KEYS), generator.choice(sizes)]
    return [b"DEBUG", name, *generator.choices(KEYS + NUMBERS, k=generator.randrange(3))]


def _wait(generator: random.Random) -> Words:
    return [b"WAIT", generator.choice(NUMBERS), generator.choice([b"1", b"5", b"-1", b"x", b""])]


STORES = [
    *[b"x", b"y", b"s"] * 10, *[b"main"] * 4,
    b"nosuch", b"", b"a b", b"n" * 128, b"n" * 129, b"x\x00",
]  # fmt: skip
OFTEN = {"branch|create": 5, "branch|use": 8, "snapshot|create": 3, "snapshot|restore": 3, "branch|reset": 3}


def _store(kind: bytes, name: bytes) -> Special:
    # A subcommand of BRANCH or SNAPSHOT with names of stores, and options that are often right.
    def words(generator: random.Random) -> Words:
        made = [kind, name, generator.choice(STORES)]
        if name == b"CREATE":
            made += generator.choice(([], [], [b"IFNX"], [b"FROM", generator.choice(STORES)], [b"FROM"]))
            made += generator.choice(([], [], [b"TTL", generator.choice([b"1", b"2", b"0", b"x"])], [b"x"]))
            made += generator.choice(([], [], [b"MAXMEMORY", generator.choice([b"50000", b"3000000", b"-1"])]))
        elif name in (b"SWAP", b"RENAME"):
            made.append(generator.choice(STORES))
        elif name == b"DIFF":
            made.append(generator.choice(STORES))
            made += generator.choice(
                ([], [b"COUNT", generator.choice([b"1", b"100", b"x"])], [b"CURSOR", b"0"], [b"x"])
            )
        elif name == b"DROP":
            made += generator.choice(([], [b"FORCE"], [b"FORCE"], [b"x"]))
        elif name == b"RESTORE":
            made += generator.choice(([], [b"INTO", generator.choice(STORES)], [b"INTO"], [b"x", b"y"]))
        elif name == b"RESET":
            made = made[: generator.choice((2, 3, 3))]
        elif name == b"SAVE":
            made.append(generator.choice([b"", b"../x", b"/x", b".", b"dump", b"x\x00y"]))
        return made

    return words


def _auth(generator: random.Random) -> Words:
    return [b"AUTH", b"default@" + generator.choice(STORES), b""]


SPECIAL: dict[str, Special] = {
    **{
        f"{kind}|{name}": _store(kind.upper().encode(), name.upper().encode())
        for kind, names in (
            ("branch", ("create", "use", "reset", "drop", "swap", "rename", "info", "save", "diff")),
            ("snapshot", ("create", "restore", "drop", "info")),
        )
        for name in names
    },
    "client|pause": _pause,
    "client|kill": _kill,
    "client|reply": lambda generator: [b"CLIENT", b"REPLY", generator.choice([b"x", b"", b"\r\n"])],
    "config|set": _config_set,
    "config|get": _config_get,
    "debug": _debug,
    "shutdown": lambda generator: [b"SHUTDOWN", b"ABORT"],
    "wait": _wait,
    "quit": lambda generator: [b"PING"],
    "monitor": lambda _: [b"MONITOR", b"x"],
    "client|tracking": lambda generator: [b"CLIENT", b"TRACKING", generator.choice([b"off", b"x", b""])],
    "multi": lambda generator: [b"MULTI", b"x"],  # the stream itself sends these: they change the replies
    "exec": lambda generator: [b"EXEC", b"x"],
    "discard": lambda generator: [b"DISCARD", b"x"],
    "reset": lambda generator: [b"RESET", b"x"],
    "subscribe": lambda _: [b"SUBSCRIBE"],
    "psubscribe": lambda _: [b"PSUBSCRIBE"],
    "ssubscribe": lambda _: [b"SSUBSCRIBE"],
    **{name: lambda _: [b"PUBSUB", b"NUMPAT"] for name in ("unsubscribe", "punsubscribe", "sunsubscribe")},
}
RARE = {"save", "bgsave", "debug", "command", "info", "flushall", "client|pause"}
"""Commands that make other clients wait, or whose replies are long: one in RARE_SHARE."""

RARE_SHARE = 20
TIMEOUTS = (b"0.001", b"0.005", b"-1", b"x", b"", b"1e400", b"nan")  # none of them is for ever


@dataclass(frozen=True)
class Row:
    """A command with the words of its syntax."""

    command: Command
    options: tuple[bytes, ...]

    def words(self, generator: random.Random) -> Words:
        """The command with arguments."""
        name = self.command.name
        if name in SPECIAL:
            return SPECIAL[name](generator)
        words = [word.encode() for word in name.split("|")]
        if generator.random() < 0.5:
            words = [word.upper() for word in words]
        least = abs(self.command.arity) - len(words)
        more = generator.choice((0, 0, 0, 1, 2, 3)) if self.command.arity < 0 else generator.choice((0,) * 9 + (1,))
        count = max(0, least + more - (generator.random() < 0.05))
        words += [self._argument(generator, i) for i in range(count)]
        if "blocking" in self.command.flags and len(words) > 1:
            words[1 if " timeout num" in self.command.usage else -1] = generator.choice(TIMEOUTS)
        return words

    def _argument(self, generator: random.Random, place: int) -> bytes:
        chance = generator.random()
        if place == 0 and chance < 0.7 and self.command.key_specs:
            return generator.choice(KEYS)
        if self.options and chance < 0.4:
            return generator.choice(self.options)
        return generator.choice(generator.choice((KEYS, NUMBERS, NUMBERS, ODD, OPTIONS)))


def _row(command: Command) -> Row:
    tokens = re.findall(r"[A-Z][A-Z-]+", command.usage)
    return Row(command, tuple(token.encode() for token in dict.fromkeys(tokens)))


ROWS = [_row(row) for command in COMMANDS for row in (command.subcommands or (command,))]
ROWS_OF_STORES = [row for row in ROWS if row.command.name.startswith(("branch|", "snapshot|"))]
CONTAINERS = [command.name.encode() for command in COMMANDS if command.subcommands]


def command(generator: random.Random) -> Words:
    """One command of the table, or one that is not in it."""
    chance = generator.random()
    if chance < 0.02:
        return [generator.choice([b"NOSUCH", b"", b"\x00", b"GET\x00", b"x\r\n-FORGED", b"z" * 400]), *_some(generator)]
    if chance < 0.04:
        return [generator.choice(CONTAINERS), *_some(generator)]
    while True:
        row = generator.choice(ROWS)
        if row.command.name not in RARE or generator.randrange(RARE_SHARE) == 0:
            return row.words(generator)


def store_command(generator: random.Random) -> Words:
    """A command about branches and snapshots, or one that chooses a store."""
    if generator.random() < 0.1:
        return _auth(generator)
    (row,) = generator.choices(ROWS_OF_STORES, [OFTEN.get(row.command.name, 1) for row in ROWS_OF_STORES])
    return row.words(generator)


def _some(generator: random.Random) -> Words:
    return generator.choices([word for word in ODD if len(word) < 1000] + NUMBERS, k=generator.randrange(4))


@dataclass
class Stream:
    """Requests, and the number of their replies; `closes`: the last of them ends the connection."""

    requests: list[Words] = field(default_factory=list)
    replies: int = 0
    closes: bool = False
    stores: float = 0.0  # share of commands about branches and snapshots
    _in_multi: bool = False
    _off: bool = False

    @property
    def data(self) -> bytes:
        """The bytes of all requests."""
        return b"".join(encode(*words) for words in self.requests)

    def say(self, *words: bytes, replies: int = 1) -> None:
        """Append a request that brings `replies` replies, unless the connection has turned them off."""
        self.requests.append(list(words))
        self.replies += 0 if self._off else replies

    def step(self, generator: random.Random) -> None:
        """Append something."""
        chance = generator.random()
        if self.stores > 0 and generator.random() < self.stores:
            self.say(*store_command(generator))
        elif chance < 0.04:
            self.say(b"MULTI")
            self._in_multi = True
        elif chance < 0.08:
            self.say(generator.choice((b"EXEC", b"exec", b"DISCARD")))
            self._in_multi = False
        elif chance < 0.09:
            self._off = False  # RESET is always answered
            self.say(b"RESET")
            self._in_multi = False
        elif chance < 0.10 and not self._in_multi:
            self.say(b"CLIENT", b"REPLY", b"SKIP", replies=0)
            self.say(*command(generator), replies=0)
        elif chance < 0.11 and not self._in_multi:
            self.say(b"CLIENT", b"REPLY", b"OFF", replies=0)
            self._off = True
        elif chance < 0.14 and self._off and not self._in_multi:
            self.on()
        else:
            self.say(*command(generator))

    def on(self) -> None:
        """Turn replies on."""
        self._off = False
        self.say(b"CLIENT", b"REPLY", b"ON")

    def end(self, generator: random.Random, token: bytes) -> None:
        """End transactions, turn replies on, and have the token echoed; sometimes close the connection."""
        if self._in_multi:
            self.say(b"DISCARD")
            self._in_multi = False
        if self._off:
            self.on()
        self.say(b"ECHO", token)
        if generator.random() < 0.05:
            self.say(b"QUIT")
            self.closes = True


def stream(generator: random.Random, steps: int, token: bytes, stores: float = 0.0) -> Stream:
    """A stream of `steps` steps, of which `stores` are commands about branches and snapshots."""
    made = Stream(stores=stores)
    for _ in range(steps):
        made.step(generator)
    made.end(generator, token)
    return made
