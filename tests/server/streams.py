r"""Random streams of commands on collections, played to this server and to an oracle, one command at a time.

Two oracles answer.  redis-server 7.0 has most commands; valkey-server has what is newer: NOVALUES, WITHSCORE, small
sets and lists as listpacks, the shortest text of a double.  A reply must be the same bytes, except:

    no order        HGETALL, HKEYS, HVALS, SMEMBERS, SINTER, SUNION, SDIFF are compared as multisets
    chance          HRANDFIELD, SRANDMEMBER, ZRANDMEMBER and SPOP by their guarantees: the shape of the reply, and that
                    what it holds was there; after SPOP both servers lose what either has lost
    cursors         HSCAN, SSCAN, ZSCAN are played to the end, and compared as sets
    meant           `newer`, TEXT_OF_DOUBLES and ENCODINGS say how this server is unlike redis-server 7.0,
                    UNLIKE_VALKEY how it is unlike Valkey

Then the contents are compared: types, encodings, deadlines, values, and DEBUG DIGEST.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tests.server.test_differential import command, of, several
from tests.server.wire import OK, Wire

Command = tuple[bytes, ...]
SCANS = (b"HSCAN", b"SSCAN", b"ZSCAN")

Part = tuple[bytes, Any]  # the kind of a reply, and its text or its parts

# ---------------------------------------------------------------------------------------------------- meant differences


def newer(words: Command) -> bool:
    """Whether redis-server 7.0 does not have this form of a command, or takes it where newer servers refuse."""
    name, upper = words[0].upper(), [word.upper() for word in words]
    if name in (b"ZRANK", b"ZREVRANK"):
        return len(words) != 3
    if name in (b"LREM", b"LPOS"):
        return b"-9223372036854775808" in words[2:]  # of which there is no absolute value: refused
    if name in (b"XREAD", b"XREADGROUP") and b"STREAMS" in upper:  # told in other words when their number is odd
        return (len(words) - upper.index(b"STREAMS")) % 2 == 0
    if name == b"XINFO":  # XREADGROUP makes a consumer only when there is something for it; times are of 7.2
        return upper[1:2] != [b"STREAM"] or b"FULL" in upper
    if name == b"XGROUP" and upper[1:2] == [b"CREATECONSUMER"]:
        return True
    return (name == b"HSCAN" and b"NOVALUES" in upper) or (name == b"CONFIG" and words[2].startswith(b"set-max-listp"))


ENCODINGS = {
    (b"hashtable", b"listpack"): "Redis 7.2 has listpacks for small sets, 7.0 has not",
    (b"quicklist", b"listpack"): "Redis 7.2 has listpacks for short lists, 7.0 has not",
    (
        b"listpack",
        b"skiplist",
    ): "ZADD of more members than are small makes the other at once in 7.2, though they be equal",
    (b"listpack", b"hashtable"): "so does HSET of more fields than are small",
    (b"intset", b"listpack"): "SPOP that leaves few integers of a large set makes the one in 7.0, the other in 7.2",
}
"""Encodings in Redis 7.0, and here."""

TEXT_OF_DOUBLES = "7.2 writes a double in as few digits as denote it, 7.0 in seventeen; DEBUG DIGEST is 7.0's"

UNLIKE_VALKEY: tuple[tuple[Callable[[Command], bool], str], ...] = (
    (
        lambda words: words[0].upper() in SCANS and len(words) > 2 and words[2] in (b"", b" 0"),
        "an empty cursor is 0, and spaces before one are refused, as in Redis",
    ),
    (
        lambda words: words[0].upper().startswith(b"Z") and any(word.startswith(b"0x") for word in words),
        "a score may be hexadecimal, as in Redis",
    ),
    (
        lambda words: any(word.upper() == b"LIMIT" and offset.startswith(b"-") for word, offset in pairwise(words)),
        "a range from a negative offset on is empty, as in Redis",
    ),
    (
        lambda words: words[0].upper() == b"LSET" and len(words) == 4 and len(words[2]) > 9,
        "an index that does not fit into 32 bits is out of range; in a listpack of Valkey its lower half counts",
    ),
)
"""Commands that are not played beside Valkey, because this server is like Redis."""

# -------------------------------------------------------------------------------------------------------------- replies


def tree(reply: bytes) -> Part:
    """A reply as its kind and its parts."""
    part, end = _part(reply, 0)
    assert end == len(reply)
    return part


def _part(reply: bytes, at: int) -> tuple[Part, int]:
    end = reply.index(b"\r\n", at)
    kind, line, at = reply[at : at + 1], reply[at + 1 : end], end + 2
    if kind == b"_":
        return (kind, None), at
    if kind in b"+-:,#":
        return (kind, line), at
    count = int(line)
    if kind == b"$":
        return (kind, reply[at : at + count] if count >= 0 else None), at + (count + 2 if count >= 0 else 0)
    assert kind in b"*~%>", kind
    if count < 0:
        return (kind, None), at
    parts = []
    for _ in range(count * (2 if kind == b"%" else 1)):
        part, at = _part(reply, at)
        parts.append(part)
    return (kind, parts), at


_DOUBLE = re.compile(rb"-?(?:[0-9]+(?:\.[0-9]+)?(?:e[-+][0-9]+)?|inf)")


def _with_doubles_as_numbers(part: Part) -> Part:
    kind, value = part
    if isinstance(value, list):
        return kind, [_with_doubles_as_numbers(one) for one in value]
    if kind in b"$," and value and _DOUBLE.fullmatch(value):
        return kind, repr(float(value) + 0.0).encode()  # -0 is 0: see below
    return part


def _shape(part: Part) -> Any:
    kind, value = part
    return (kind, [_shape(one) for one in value]) if isinstance(value, list) else (kind, value is None)


def _flat(part: Part) -> list[bytes]:
    _, value = part
    return [word for one in value for word in _flat(one)] if isinstance(value, list) else [value]


TIMES = (b"idle", b"inactive", b"seen-time", b"active-time", b"radix-tree-nodes")


def without_times(words: Command, part: Part) -> Part:
    """A reply of XPENDING or XINFO without what depends on the clock, or on the nodes of a radix tree."""
    kind, value = part
    if not isinstance(value, list):
        return part
    items, name = value[:], None
    for i, (item_kind, item) in enumerate(items):
        if name in TIMES and item_kind == b":":
            items[i] = item_kind, b""
        name = item if item_kind == b"$" else None
    if words[0].upper() == b"XPENDING" and len(items) == 4 and items[0][0] == b"$":
        items[2] = b":", b""  # for how long it has been idle
    if words[0].upper() == b"XINFO" and 3 <= len(items) <= 4 and items[-2][0] == items[-1][0] == b":":
        items[-2] = b":", b""  # when it was given
    return kind, [without_times(words, item) for item in items]


def _frozen(part: Part) -> Any:
    kind, value = part
    return (kind, tuple(map(_frozen, value))) if isinstance(value, list) else part


# ---------------------------------------------------------------------------------------------------------------- sides

LIMITS: dict[bytes, tuple[bytes, ...]] = {
    b"hash-max-listpack-entries": (b"512", b"0", b"1", b"3"),
    b"hash-max-listpack-value": (b"64", b"0", b"1", b"4"),
    b"set-max-intset-entries": (b"512", b"0", b"1", b"3"),
    b"set-max-listpack-entries": (b"128", b"0", b"1", b"4"),
    b"set-max-listpack-value": (b"64", b"0", b"1", b"4"),
    b"zset-max-listpack-entries": (b"128", b"0", b"1", b"3"),
    b"zset-max-listpack-value": (b"64", b"0", b"1", b"4"),
    b"list-max-listpack-size": (b"-2", b"-1", b"-5", b"0", b"1", b"2", b"3"),
}
"""Limits of encodings: the default, and lower ones."""

WHOLE: dict[bytes, tuple[bytes, ...]] = {
    b"hash": (b"HGETALL",),
    b"set": (b"SMEMBERS",),
    b"zset": (b"ZRANGE", b"0", b"-1", b"WITHSCORES"),
    b"list": (b"LRANGE", b"0", b"-1"),
    b"stream": (b"XRANGE", b"-", b"+"),
    b"string": (b"GET",),
}
"""The command that answers all of a value, by type."""


class Side:
    """One of the two servers, with a connection to it."""

    def __init__(self, address: Any, protocol: int, name: str) -> None:
        self.wire, self.name = Wire(address, protocol), name

    def reset(self, limits: dict[bytes, bytes], before: list[Command]) -> None:
        """Empty it, set the limits, and play what comes before a stream."""
        wire = self.wire
        wire("DISCARD")
        assert wire("FLUSHALL") == OK
        for name, value in limits.items():
            assert wire("CONFIG", "SET", name, value) == OK or (self.name == "redis" and b"set-max-listp" in name)
        for words in before:
            wire(*words)

    def type_of(self, key: bytes) -> bytes:
        """TYPE."""
        return bytes(self.wire("TYPE", key).text.encode())

    def whole(self, key: bytes) -> Part:
        """All of a value, in the order of the reply."""
        first, *others = WHOLE[self.type_of(key)]
        return tree(self.wire.raw(first, key, *others))

    def pairs(self, key: bytes) -> dict[bytes, bytes]:
        """The fields of a hash with their values, the members of a sorted set with their scores, or of a set."""
        words = _flat(self.whole(key))
        return dict.fromkeys(words, b"") if self.type_of(key) == b"set" else dict(
            zip(words[::2], words[1::2], strict=True)
        )  # fmt: skip

    def scanned(self, words: Command) -> Any:
        """All that a scan returns from its beginning to its end; a raw reply when that is not a page."""
        found, cursor, name = Counter[Any](), words[2], words[0].upper()
        paired = name != b"SSCAN" and b"NOVALUES" not in [word.upper() for word in words]
        while True:
            kind, parts = tree(reply := self.wire.raw(*words[:2], cursor, *words[3:]))
            if kind != b"*":
                return reply
            (_, cursor), (_, items) = parts
            items = [item for _, item in items]
            found.update(zip(items[::2], items[1::2], strict=True) if paired else items)
            if words[2] not in (b"0", b"00"):
                return _shape(tree(reply))[0], len(parts)
            if cursor == b"0":
                return set(found)

    def state(self) -> dict[bytes, Any]:
        """All contents."""
        wire, found = self.wire, {}
        for key in sorted(wire("KEYS", "*")):
            value = self.whole(key)
            kind = self.type_of(key)
            if kind == b"hash":
                value = b"hash", sorted(self.pairs(key).items())
            elif kind == b"set":
                value = b"set", sorted(self.pairs(key))
            deadline = -(-wire("PTTL", key) // 10**6)  # rounded up: a millisecond makes no difference
            found[key] = kind, wire("OBJECT", "ENCODING", key), deadline, value
        return found

    def close(self) -> None:
        """Close the connection."""
        self.wire.close()


UNORDERED = (b"HGETALL", b"HKEYS", b"HVALS", b"SMEMBERS", b"SINTER", b"SUNION", b"SDIFF", b"KEYS")
CHANCE = (b"HRANDFIELD", b"SRANDMEMBER", b"ZRANDMEMBER")


@dataclass
class Pair:
    """This server, and the oracle."""

    mine: Side
    theirs: Side

    def step(self, words: Command) -> str:
        """Play a command to both; the difference, or nothing."""
        name = words[0].upper()
        if self.theirs.name == "redis" and newer(words):
            return ""
        if self.theirs.name == "valkey" and any(applies(words) for applies, _ in UNLIKE_VALKEY):
            return ""
        if name in SCANS and len(words) > 2:
            mine, theirs = (side.scanned(words) for side in (self.mine, self.theirs))
            same = mine == theirs or self._same_numbers(name, mine, theirs)
        elif name in (*CHANCE, b"SPOP") and len(words) > 1:
            befores = [self._contents(side, words[1]) for side in (self.mine, self.theirs)]
            mine, theirs = (side.wire.raw(*words) for side in (self.mine, self.theirs))
            same = self._guaranteed(words, mine, theirs, befores)
            if name == b"SPOP":
                self._heal(words[1], tree(mine), tree(theirs))
        else:
            mine, theirs = (side.wire.raw(*words) for side in (self.mine, self.theirs))
            same = mine == theirs or self._alike(words, mine, theirs)
        return "" if same else f"{words}\n  got  {mine!r:.300}\n  {self.theirs.name} {theirs!r:.300}"

    def _alike(self, words: Command, mine: bytes, theirs: bytes) -> bool:
        name, one, other = words[0].upper(), tree(mine), tree(theirs)
        if self.theirs.name == "valkey" and theirs.startswith(b"-ERR member "):
            return mine == b"-ERR could not decode requested zset member\r\n"  # as in Redis
        if name in UNORDERED and isinstance(one[1], list) and isinstance(other[1], list):
            return one[0] == other[0] and self._multiset(one) == self._multiset(other)
        if name == b"OBJECT" and self.theirs.name == "redis" and (other[1], one[1]) in ENCODINGS:
            return True
        if name in (b"XPENDING", b"XINFO"):
            return without_times(words, one) == without_times(words, other)
        if name in (b"PTTL", b"TTL"):
            return one[0] == other[0] == b":" and int(one[1]) > 0 < int(other[1])
        return self._same_numbers(name, one, other)

    def _same_numbers(self, name: bytes, mine: Any, theirs: Any) -> bool:
        # Whether two replies are the same but for the text of scores, in which Redis 7.0 is different.
        if self.theirs.name != "redis" or not name.startswith(b"Z"):
            return False
        if isinstance(mine, set) and isinstance(theirs, set):
            return {(one, float(score)) for one, score in mine} == {(one, float(score)) for one, score in theirs}
        if not isinstance(mine, tuple) or not isinstance(theirs, tuple):
            return False
        return _with_doubles_as_numbers(mine) == _with_doubles_as_numbers(theirs)

    @staticmethod
    def _multiset(part: Part) -> Any:
        kind, parts = part
        if kind == b"%":
            return Counter(zip(map(_frozen, parts[::2]), map(_frozen, parts[1::2]), strict=True))
        return Counter(map(_frozen, parts))

    @staticmethod
    def _contents(side: Side, key: bytes) -> dict[bytes, bytes]:
        return side.pairs(key) if side.type_of(key) in (b"hash", b"set", b"zset") else {}

    @staticmethod
    def _guaranteed(words: Command, mine: bytes, theirs: bytes, befores: list[dict[bytes, bytes]]) -> bool:
        if _shape(tree(mine)) != _shape(tree(theirs)) or mine[:1] == b"-":
            return mine == theirs
        for reply, before in zip((mine, theirs), befores, strict=True):
            found = [word for word in _flat(tree(reply)) if word is not None]
            if len(words) > 3:
                if any(before.get(one) != value for one, value in zip(found[::2], found[1::2], strict=True)):
                    return False
                found = found[::2]
            elif not before.keys() >= set(found):
                return False
            if len(words) > 2 and int(words[2]) > 0 and len(found) != len(set(found)):
                return False
        return True

    def _heal(self, key: bytes, mine: Part, theirs: Part) -> None:
        # After SPOP: each side loses what the other has lost; the key goes where only chance makes an encoding differ.
        for side, lost in ((self.mine, theirs), (self.theirs, mine)):
            if lost[0] != b"-" and (words := [word for word in _flat(lost) if word is not None]):
                side.wire("SREM", key, *words)
        one, other = (side.wire("OBJECT", "ENCODING", key) for side in (self.mine, self.theirs))
        if one != other and (other, one) not in ENCODINGS:
            for side in (self.mine, self.theirs):
                side.wire("DEL", key)

    def play(self, limits: dict[bytes, bytes], before: list[Command], stream: list[Command]) -> None:
        """Play a stream, and compare replies and contents."""
        for side in (self.mine, self.theirs):
            side.reset({name: values[0] for name, values in LIMITS.items()} | limits, before)
        for words in stream:
            difference = self.step(words)
            assert not difference, difference
        mine, theirs = self.mine.state(), self.theirs.state()
        assert mine.keys() == theirs.keys()
        # A quicklist of several nodes stays one when the limit is raised afterwards; here only the size decides.
        raised = any(words[2:3] == (b"list-max-listpack-size",) for words in stream)
        for key, (kind, encoding, deadline, value) in mine.items():
            other_kind, other_encoding, other_deadline, other_value = theirs[key]
            assert (kind, deadline) == (other_kind, other_deadline), key
            assert (
                encoding == other_encoding
                or (raised and kind == b"list")
                or (self.theirs.name == "redis" and (other_encoding, encoding) in ENCODINGS)
            ), (key, encoding, other_encoding)
            assert value == other_value or self._same_numbers(b"Z", value, other_value), key
        # A score is digested as redis-server 7.0 prints it: see TEXT_OF_DOUBLES.  And a -0 is 0 if it was ever in a
        # listpack, which 7.0 makes of members that 7.2 puts into a skiplist at once.
        same_scores = self.theirs.name == "redis" and not any(b"-0" in words for words in stream)
        if same_scores or all(kind != b"zset" for kind, *_ in mine.values()):
            assert self.mine.wire("DEBUG", "DIGEST") == self.theirs.wire("DEBUG", "DIGEST"), ("other digests", mine)


# ---------------------------------------------------------------------------------------------------------- strategies

STRING, OTHER = b"string", b"other"  # keys of another type, in the streams of each family
MEMBERS = [
    *(b"a", b"b", b"c", b"d", b"1", b"2", b"3", b"-5", b"007", b"127", b"128", b"32768", b"-2147483649"),
    *(b"9223372036854775807", b"9223372036854775808", b"-9223372036854775808", b"", b"1.5", b"\x00\xff\r\n", b"abc"),
    *(b"m" * 5, b"m" * 64, b"m" * 65, b"n" * 5000),
]
NUMBERS = [b"0", b"1", b"-1", b"2", b"-2", b"3", b"-3", b"10", b"-10"]
BAD_NUMBERS = [b"x", b"", b"1.5", b"01", b" 1", b"9223372036854775807", b"-9223372036854775808", b"9223372036854775808"]
PATTERNS = [b"*", b"a*", b"?", b"[1-3]", b"nope", b"", b"m*", b"\\1", b"[^a]"]

member = st.sampled_from(MEMBERS[:8] + MEMBERS)
number = st.sampled_from(NUMBERS * 3 + BAD_NUMBERS)
count = st.sampled_from(
    [b"0", b"1", b"2", b"3", b"5", b"-1", b"-3", b"100", b"-100", b"x", b"", b"-9223372036854775808"]
)
positive = st.sampled_from([b"0", b"1", b"2", b"3", b"100", b"-1", b"x", b"", b"9223372036854775807"])
cursor = st.sampled_from([b"0"] * 8 + [b"x", b"", b"5", b"18446744073709551616", b" 0"])
scan_option = st.one_of(
    st.tuples(of(b"MATCH"), st.sampled_from(PATTERNS)),
    st.tuples(of(b"COUNT"), st.sampled_from([b"1", b"2", b"10", b"1000", b"0", b"-1", b"x"])),
)
limits = st.one_of(
    st.just({name: values[0] for name, values in LIMITS.items()}),
    st.fixed_dictionaries({name: st.sampled_from(values) for name, values in LIMITS.items()}),
)


def numkeys(keys: st.SearchStrategy[bytes], most: int = 3) -> st.SearchStrategy[Command]:
    """A number of keys and as many keys; sometimes another number."""
    right = several(keys, 1, most).map(lambda each: (b"%d" % len(each), *each))
    wrong = st.tuples(of(b"0", b"-1", b"x", b"1", b"2", b"4", b"9223372036854775807"), several(keys, 1, most)).map(
        lambda both: (both[0], *both[1])
    )
    return st.one_of(right, right, right, right, wrong)


def generic(key: st.SearchStrategy[bytes]) -> st.SearchStrategy[Command]:
    """Commands on keys of any type, and changes of the limits."""
    return st.one_of(
        command(b"DEL", several(key, 1)),
        command(b"TYPE", key),
        command(b"EXISTS", several(key, 1)),
        command(b"OBJECT", b"ENCODING", key),
        command(b"OBJECT", b"ENCODING", key),
        command(b"EXPIRE", key, of(b"100000000", b"0", b"-1")),
        command(b"PERSIST", key),
        command(b"RENAME", key, key),
        command(b"COPY", key, key, several(of(b"REPLACE"), most=1)),
        command(b"SET", key, of(b"x", b"1")),
        command(b"GET", key),
        st.sampled_from(sorted(LIMITS)).flatmap(
            lambda name: command(b"CONFIG", b"SET", name, st.sampled_from(LIMITS[name]))
        ),
    )


@st.composite
def _mangled(draw: Callable[..., Any], commands: st.SearchStrategy[Command]) -> Command:
    words: Command = draw(commands)
    kind = draw(st.integers(0, 24))
    if kind == 0 and len(words) > 2:
        return words[:-1]
    if kind == 1:
        return (*words, draw(of(b"WITHSCORES", b"COUNT", b"NX", b"1", b"", b"x", words[-1])))
    if kind == 2:
        return (words[0].lower(), *(word.lower() if word.isupper() else word for word in words[1:]))
    return words


def streams(*commands: st.SearchStrategy[Command], most: int = 40) -> st.SearchStrategy[list[Command]]:
    """Lists of these commands, most of them right."""
    return st.lists(_mangled(st.one_of(*commands)), min_size=1, max_size=most)


relaxed = settings(
    deadline=None,
    derandomize=True,  # the same streams in every run; the long variants make new ones
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
