"""Fills collections quickly, by commands of many elements whose bytes are made by the thousand.

An element is the same bytes for every number but for its digits, for which a `#` stands each:

    hash    $10 CRLF f######### CRLF $10 CRLF v######### CRLF       a field and a value of 10 bytes
    set     $10 CRLF m######### CRLF                                a member of 10 bytes
    zset    $9 CRLF ######### CRLF $10 CRLF m######### CRLF         a score, with leading zeros, and a member
    list    $10 CRLF v######### CRLF
    intset  $6 CRLF ###### CRLF                                     a set of integers; numbers begin at 100,000

Hashes, sets and sorted sets get theirs in random order, always the same, and lists in sequence.
"""

from collections.abc import Iterator

import numpy as np

from bench.rig.client import Client

ADDS = {"hash": b"HSET", "set": b"SADD", "zset": b"ZADD", "list": b"RPUSH", "intset": b"SADD"}
DIGITS = 9
INTEGER_FIRST = 100_000
PER_COMMAND = 100
BATCH = 200  # commands sent at once
_DIGIT = ord("#")


def numbered(template: bytes, numbers: np.ndarray) -> np.ndarray:
    """uint8[N, bytes]: the template for each number, which stands in every run of `#`."""
    pattern = np.frombuffer(template, np.uint8)
    found = np.tile(pattern, (len(numbers), 1))
    rest, last = numbers.copy(), len(pattern)
    for at in range(len(pattern) - 1, -1, -1):
        if pattern[at] != _DIGIT:
            continue
        if at != last - 1:  # another run
            rest = numbers.copy()
        found[:, at] = 48 + rest % 10
        rest, last = rest // 10, at
    return found


def template(kind: str, digits: int = DIGITS) -> bytes:
    """The bytes of an element, with a # for each digit."""
    if kind == "intset":
        return b"$6\r\n######\r\n"
    number = b"#" * digits
    word = b"$%d\r\n%%c%s\r\n" % (digits + 1, number)
    if kind == "hash":
        return word % b"f" + word % b"v"
    return {"set": b"", "list": b"", "zset": b"$%d\r\n%s\r\n" % (digits, number)}[kind] + word % (
        b"v" if kind == "list" else b"m"
    )


def in_order(kind: str, count: int) -> np.ndarray:
    """int64[count]: the numbers of a collection's elements, in the order in which they are stored."""
    numbers = np.arange(count) if kind == "list" else np.random.default_rng(1).permutation(count)
    return numbers + INTEGER_FIRST if kind == "intset" else numbers


def commands(
    kind: str, key: bytes, numbers: np.ndarray, per_command: int = PER_COMMAND, digits: int = DIGITS
) -> Iterator[tuple[bytes, int]]:
    """(bytes, how many commands they are) that store the elements with these numbers, in batches."""
    element = template(kind, digits)
    words = element.count(b"$")
    whole = len(numbers) // per_command * per_command
    for part, size in ((numbers[:whole], per_command), (numbers[whole:], len(numbers) - whole)):
        if not len(part):
            continue
        header = b"*%d\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (
            2 + words * size, len(ADDS[kind]), ADDS[kind], len(key), key
        )  # fmt: skip
        for first in range(0, len(part), BATCH * size):
            chosen = part[first : first + BATCH * size]
            elements = numbered(element, chosen).reshape(len(chosen) // size, -1)
            headers = np.tile(np.frombuffer(header, np.uint8), (len(elements), 1))
            yield np.hstack((headers, elements)).tobytes(), len(elements)


def store(client: Client, kind: str, key: str | bytes, count: int, digits: int = DIGITS) -> None:
    """Make a collection of `count` elements; there is none at the key."""
    name = key.encode() if isinstance(key, str) else key
    for data, sent in commands(kind, name, in_order(kind, count), digits=digits):
        client.exchange(data, sent)
