r"""String commands: every option, every refusal, in both protocols; the transcripts are Redis's own."""

import random

import pytest

from tests.server.wire import OK, Failure, Wire, run_transcript

TRANSCRIPTS = {
    "get and set": r"""
        GET k -> nil
        SET k v -> OK
        GET k -> "v"
        SET k "" -> OK
        GET k -> ""
        set K "case of commands is ignored, of keys not" -> OK
        GET k -> ""
        GET -> !ERR wrong number of arguments for 'get' command
        GET a b -> !ERR wrong number of arguments for 'get' command
        SET k -> !ERR wrong number of arguments for 'set' command
        SET -> !ERR wrong number of arguments for 'set' command
    """,
    "keys and values are any bytes": r"""
        SET "" "empty key" -> OK
        GET "" -> "empty key"
        SET "a\x00b\r\n\xff" "\x00\r\n$-1\r\n\xfe" -> OK
        GET "a\x00b\r\n\xff" -> "\x00\r\n$-1\r\n\xfe"
        GET "a\x00b\r\n" -> nil
        STRLEN "a\x00b\r\n\xff" -> 9
    """,
    "set with NX and XX": r"""
        SET k v XX -> nil
        EXISTS k -> 0
        SET k v NX -> OK
        SET k w NX -> nil
        SET k w nx -> nil
        GET k -> "v"
        SET k w XX -> OK
        GET k -> "w"
        SET k w NX XX -> !ERR syntax error
        SET k w XX NX -> !ERR syntax error
    """,
    "set with GET": r"""
        SET k v GET -> nil
        SET k w GET -> "v"
        SET k x NX GET -> "w"
        GET k -> "w"
        SET new y NX GET -> nil
        GET new -> "y"
        SET gone z XX GET -> nil
        EXISTS gone -> 0
        SET k x XX GET -> "w"
        GET k -> "x"
        SET k y GET GET -> "x"
    """,
    "set with a time to live": r"""
        SET k v EX 100 -> OK
        TTL k -> 100
        SET k v PX 100000 -> OK
        TTL k -> 100
        SET k v EXAT 99999999999 -> OK
        EXPIRETIME k -> 99999999999
        SET k v PXAT 99999999999123 -> OK
        PEXPIRETIME k -> 99999999999123
        SET k w KEEPTTL -> OK
        PEXPIRETIME k -> 99999999999123
        GET k -> "w"
        SET k w -> OK
        TTL k -> -1
        SET k v ex 100 nx get -> "w"
        TTL k -> -1
        SET k v KEEPTTL GET XX -> "w"
        SET k v EXAT 1 -> OK
        GET k -> nil
        EXISTS k -> 0
        SET k v PXAT 1 GET -> nil
        EXISTS k -> 0
    """,
    "set refuses times": r"""
        SET k v EX 0 -> !ERR invalid expire time in 'set' command
        SET k v EX -1 -> !ERR invalid expire time in 'set' command
        SET k v PX 0 -> !ERR invalid expire time in 'set' command
        SET k v EXAT 0 -> !ERR invalid expire time in 'set' command
        SET k v PXAT -5 -> !ERR invalid expire time in 'set' command
        SET k v EX 9223372036854775807 -> !ERR invalid expire time in 'set' command
        SET k v EX 9223372036854776 -> !ERR invalid expire time in 'set' command
        SET k v PX 9223372036854775807 -> !ERR invalid expire time in 'set' command
        SET k v EXAT 9223372036854775807 -> !ERR invalid expire time in 'set' command
        SET k v EX x -> !ERR value is not an integer or out of range
        SET k v EX 1.5 -> !ERR value is not an integer or out of range
        SET k v EX 9223372036854775808 -> !ERR value is not an integer or out of range
        SET k v EX "" -> !ERR value is not an integer or out of range
        EXISTS k -> 0
    """,
    "set refuses options that do not go together": r"""
        SET k v EX -> !ERR syntax error
        SET k v EX 1 PX 1 -> !ERR syntax error
        SET k v PX 1 EX 1 -> !ERR syntax error
        SET k v EX 1 EXAT 1 -> !ERR syntax error
        SET k v EX 1 KEEPTTL -> !ERR syntax error
        SET k v KEEPTTL EX 1 -> !ERR syntax error
        SET k v PERSIST -> !ERR syntax error
        SET k v FOO -> !ERR syntax error
        SET k v EX 1 FOO -> !ERR syntax error
        EXISTS k -> 0
    """,
    "setnx setex psetex getset": r"""
        SETNX k v -> 1
        SETNX k w -> 0
        GET k -> "v"
        SETNX k -> !ERR wrong number of arguments for 'setnx' command
        SETEX k 100 w -> OK
        TTL k -> 100
        GETSET k x -> "w"
        TTL k -> -1
        GETSET new y -> nil
        GET new -> "y"
        PSETEX k 100000 z -> OK
        TTL k -> 100
        SETEX k 0 v -> !ERR invalid expire time in 'setex' command
        SETEX k -1 v -> !ERR invalid expire time in 'setex' command
        SETEX k 9223372036854775807 v -> !ERR invalid expire time in 'setex' command
        SETEX k x v -> !ERR value is not an integer or out of range
        PSETEX k 0 v -> !ERR invalid expire time in 'psetex' command
        PSETEX k -1 v -> !ERR invalid expire time in 'psetex' command
        PSETEX k 9223372036854775807 v -> !ERR invalid expire time in 'psetex' command
        PSETEX k 1.0 v -> !ERR value is not an integer or out of range
        SETEX k 1 -> !ERR wrong number of arguments for 'setex' command
        PSETEX k 1 -> !ERR wrong number of arguments for 'psetex' command
        GETSET k -> !ERR wrong number of arguments for 'getset' command
        GET k -> "z"
    """,
    "getdel": r"""
        GETDEL k -> nil
        SET k v EX 100 -> OK
        GETDEL k -> "v"
        EXISTS k -> 0
        GETDEL k -> nil
        GETDEL -> !ERR wrong number of arguments for 'getdel' command
        GETDEL a b -> !ERR wrong number of arguments for 'getdel' command
    """,
    "getex": r"""
        GETEX k -> nil
        GETEX k EX 10 -> nil
        SET k v -> OK
        GETEX k -> "v"
        TTL k -> -1
        GETEX k EX 100 -> "v"
        TTL k -> 100
        GETEX k -> "v"
        TTL k -> 100
        GETEX k PERSIST -> "v"
        TTL k -> -1
        GETEX k PX 100000 -> "v"
        TTL k -> 100
        GETEX k EXAT 99999999999 -> "v"
        EXPIRETIME k -> 99999999999
        GETEX k pxat 99999999999123 -> "v"
        PEXPIRETIME k -> 99999999999123
        GETEX k EX 0 -> !ERR invalid expire time in 'getex' command
        GETEX k PX -1 -> !ERR invalid expire time in 'getex' command
        GETEX k EX 9223372036854775807 -> !ERR invalid expire time in 'getex' command
        GETEX k EX x -> !ERR value is not an integer or out of range
        GETEX k EX -> !ERR syntax error
        GETEX k FOO -> !ERR syntax error
        GETEX k NX -> !ERR syntax error
        GETEX k KEEPTTL -> !ERR syntax error
        GETEX k EX 1 PERSIST -> !ERR syntax error
        GETEX k PERSIST EX 1 -> !ERR syntax error
        GETEX k EX 1 PX 1 -> !ERR syntax error
        GETEX -> !ERR wrong number of arguments for 'getex' command
        PEXPIRETIME k -> 99999999999123
        GETEX k PXAT 1 -> "v"
        EXISTS k -> 0
    """,
    "mget mset msetnx": r"""
        MSET a 1 b 2 a 3 -> OK
        MGET a b c a -> ["3", "2", nil, "3"]
        MGET c -> [nil]
        MGET -> !ERR wrong number of arguments for 'mget' command
        MSET a -> !ERR wrong number of arguments for 'mset' command
        MSET a 1 b -> !ERR wrong number of arguments for 'mset' command
        MSET -> !ERR wrong number of arguments for 'mset' command
        MSETNX a 1 -> 0
        MSETNX c 1 a 2 -> 0
        EXISTS c -> 0
        MSETNX c 1 d 2 c 3 -> 1
        MGET c d -> ["3", "2"]
        MSETNX a 1 b -> !ERR wrong number of arguments for 'msetnx' command
        MSETNX a -> !ERR wrong number of arguments for 'msetnx' command
        EXPIRE a 100 -> 1
        MSET a 4 -> OK
        TTL a -> -1
    """,
    "append and strlen": r"""
        STRLEN k -> 0
        APPEND k "" -> 0
        EXISTS k -> 1
        APPEND k ab -> 2
        APPEND k "\x00c" -> 4
        GET k -> "ab\x00c"
        STRLEN k -> 4
        EXPIRE k 100 -> 1
        APPEND k d -> 5
        TTL k -> 100
        SET n 12 -> OK
        STRLEN n -> 2
        APPEND n 3 -> 3
        INCR n -> 124
        STRLEN -> !ERR wrong number of arguments for 'strlen' command
        APPEND k -> !ERR wrong number of arguments for 'append' command
    """,
    "getrange and substr": r"""
        SET k "Hello World" -> OK
        GETRANGE k 0 4 -> "Hello"
        GETRANGE k 0 -1 -> "Hello World"
        GETRANGE k -5 -1 -> "World"
        GETRANGE k -5 -4 -> "Wo"
        GETRANGE k -1 -5 -> ""
        GETRANGE k 5 3 -> ""
        GETRANGE k 5 5 -> " "
        GETRANGE k 11 20 -> ""
        GETRANGE k 6 5000 -> "World"
        GETRANGE k -100 100 -> "Hello World"
        GETRANGE k -100 -50 -> "H"
        GETRANGE k 0 9223372036854775807 -> "Hello World"
        GETRANGE k -9223372036854775808 9223372036854775807 -> "Hello World"
        GETRANGE k 0 9223372036854775808 -> !ERR value is not an integer or out of range
        GETRANGE k x 1 -> !ERR value is not an integer or out of range
        GETRANGE k 0 y -> !ERR value is not an integer or out of range
        GETRANGE missing 0 -1 -> ""
        GETRANGE missing x -1 -> !ERR value is not an integer or out of range
        GETRANGE k 0 -> !ERR wrong number of arguments for 'getrange' command
        SUBSTR k 1 3 -> "ell"
        SUBSTR k 1 -> !ERR wrong number of arguments for 'substr' command
        SET n 1234567 -> OK
        GETRANGE n 2 4 -> "345"
    """,
    "setrange": r"""
        SETRANGE k 0 "" -> 0
        EXISTS k -> 0
        SETRANGE k 5 "" -> 0
        EXISTS k -> 0
        SETRANGE k 3 abc -> 6
        GET k -> "\x00\x00\x00abc"
        SETRANGE k 1 XY -> 6
        GET k -> "\x00XYabc"
        SETRANGE k 5 long -> 9
        GET k -> "\x00XYablong"
        SETRANGE k 0 "" -> 9
        SETRANGE k 100 "" -> 9
        SET n 123 -> OK
        SETRANGE n 1 9 -> 3
        INCR n -> 194
        EXPIRE k 100 -> 1
        SETRANGE k 0 x -> 9
        TTL k -> 100
        SETRANGE k -1 x -> !ERR offset is out of range
        SETRANGE missing -1 "" -> !ERR offset is out of range
        SETRANGE k x y -> !ERR value is not an integer or out of range
        SETRANGE k 536870912 x -> !ERR string exceeds maximum allowed size (proto-max-bulk-len)
        SETRANGE k 536870910 xyz -> !ERR string exceeds maximum allowed size (proto-max-bulk-len)
        SETRANGE k 9223372036854775807 x -> !ERR string exceeds maximum allowed size (proto-max-bulk-len)
        SETRANGE missing 9223372036854775807 "" -> 0
        SETRANGE k 1 -> !ERR wrong number of arguments for 'setrange' command
        STRLEN k -> 9
    """,
    "incr and decr": r"""
        INCR k -> 1
        INCR k -> 2
        DECR k -> 1
        DECR n -> -1
        INCRBY k 10 -> 11
        DECRBY k 20 -> -9
        INCRBY k -1 -> -10
        DECRBY k -5 -> -5
        GET k -> "-5"
        EXPIRE k 100 -> 1
        INCR k -> -4
        TTL k -> 100
        INCRBY new 5 -> 5
        INCR -> !ERR wrong number of arguments for 'incr' command
        DECR -> !ERR wrong number of arguments for 'decr' command
        INCRBY k -> !ERR wrong number of arguments for 'incrby' command
        DECRBY k -> !ERR wrong number of arguments for 'decrby' command
    """,
    "incr at the ends of the range": r"""
        SET k 9223372036854775807 -> OK
        INCR k -> !ERR increment or decrement would overflow
        INCRBY k 1 -> !ERR increment or decrement would overflow
        DECRBY k -1 -> !ERR increment or decrement would overflow
        INCRBY k 0 -> 9223372036854775807
        DECR k -> 9223372036854775806
        SET k -9223372036854775808 -> OK
        DECR k -> !ERR increment or decrement would overflow
        INCRBY k -1 -> !ERR increment or decrement would overflow
        DECRBY k 1 -> !ERR increment or decrement would overflow
        INCR k -> -9223372036854775807
        SET k -1 -> OK
        DECRBY k -9223372036854775808 -> !ERR decrement would overflow
        INCRBY k -9223372036854775808 -> !ERR increment or decrement would overflow
        SET k 0 -> OK
        INCRBY k -9223372036854775808 -> -9223372036854775808
        SET k 9223372036854775808 -> OK
        INCR k -> !ERR value is not an integer or out of range
    """,
    "incr refuses what is not an integer": r"""
        SET k abc -> OK
        INCR k -> !ERR value is not an integer or out of range
        SET k "" -> OK
        INCR k -> !ERR value is not an integer or out of range
        SET k " 1" -> OK
        INCR k -> !ERR value is not an integer or out of range
        SET k "1 " -> OK
        INCR k -> !ERR value is not an integer or out of range
        SET k 1.0 -> OK
        INCR k -> !ERR value is not an integer or out of range
        SET k +1 -> OK
        INCR k -> !ERR value is not an integer or out of range
        SET k 01 -> OK
        INCR k -> !ERR value is not an integer or out of range
        SET k -0 -> OK
        INCR k -> !ERR value is not an integer or out of range
        SET k -  -> OK
        INCR k -> !ERR value is not an integer or out of range
        SET k 10 -> OK
        INCRBY k abc -> !ERR value is not an integer or out of range
        INCRBY k 1.5 -> !ERR value is not an integer or out of range
        INCRBY k "" -> !ERR value is not an integer or out of range
        INCRBY k "1\x00" -> !ERR value is not an integer or out of range
        DECRBY k x -> !ERR value is not an integer or out of range
        GET k -> "10"
    """,
    "incrbyfloat": r"""
        INCRBYFLOAT k 1.5 -> "1.5"
        INCRBYFLOAT k 1.5 -> "3"
        INCRBYFLOAT k -0.5 -> "2.5"
        SET k 10.50 -> OK
        INCRBYFLOAT k 0.1 -> "10.6"
        INCRBYFLOAT k -5 -> "5.6"
        SET k 5.0e3 -> OK
        INCRBYFLOAT k 2.0e2 -> "5200"
        SET k 3.0 -> OK
        INCRBYFLOAT k 1.1 -> "4.1"
        SET k 0.1 -> OK
        INCRBYFLOAT k 0.2 -> "0.3"
        SET k 1e18 -> OK
        INCRBYFLOAT k 1 -> "1000000000000000001"
        SET k 0 -> OK
        INCRBYFLOAT k 0.000000000001 -> "0.000000000001"
        SET k 1 -> OK
        INCRBYFLOAT k -1 -> "0"
        INCRBYFLOAT k 3 -> "3"
        INCR k -> 4
        EXPIRE k 100 -> 1
        INCRBYFLOAT k 1 -> "5"
        TTL k -> 100
        INCRBYFLOAT k abc -> !ERR value is not a valid float
        INCRBYFLOAT k "" -> !ERR value is not a valid float
        INCRBYFLOAT k " 1" -> !ERR value is not a valid float
        INCRBYFLOAT k 1x -> !ERR value is not a valid float
        INCRBYFLOAT k nan -> !ERR value is not a valid float
        INCRBYFLOAT k inf -> !ERR increment would produce NaN or Infinity
        INCRBYFLOAT k +inf -> !ERR increment would produce NaN or Infinity
        INCRBYFLOAT k -inf -> !ERR increment would produce NaN or Infinity
        SET k abc -> OK
        INCRBYFLOAT k 1 -> !ERR value is not a valid float
        SET k " 1" -> OK
        INCRBYFLOAT k 1 -> !ERR value is not a valid float
        SET k "1 " -> OK
        INCRBYFLOAT k 1 -> !ERR value is not a valid float
        GET k -> "1 "
        INCRBYFLOAT k -> !ERR wrong number of arguments for 'incrbyfloat' command
    """,
}


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_transcript(wire: Wire, name: str) -> None:
    """The transcript's replies are the server's."""
    run_transcript(wire, TRANSCRIPTS[name])


@pytest.mark.parametrize(
    "size", [43, 44, 45, 63, 64, 65, 1000, 4040, 4095, 4096, 4097, 8191, 8192, 10_000, 65_536, 1 << 20]
)
def test_values_of_every_size_survive_their_changes(wire: Wire, size: int) -> None:
    """Near the page size and far beyond it, a value equals the bytes set, appended and written into it."""
    data = random.Random(size).randbytes(size)
    assert wire("SET", "k", data) == OK
    assert wire("GET", "k") == data
    assert wire("STRLEN", "k") == size
    assert wire("APPEND", "k", data[: size // 2]) == size + size // 2
    data += data[: size // 2]
    assert wire("SETRANGE", "k", size - 3, b"0123456789") == max(len(data), size + 7)
    data = data[: size - 3] + b"0123456789" + data[size + 7 :]
    assert wire("GET", "k") == data
    assert wire("GETRANGE", "k", size // 3, -5) == data[size // 3 : -4]
    assert wire("SET", "k", b"short", "GET") == data
    assert wire("GETDEL", "k") == b"short"
    assert wire("DBSIZE") == 0


@pytest.mark.parametrize("size", [1, 100, 4000, 4096, 4097, 5000, 70_000, 1 << 20])
def test_keys_of_every_size(wire: Wire, size: int) -> None:
    """A key may be longer than a page."""
    generator = random.Random(size)
    keys = [generator.randbytes(size) for _ in range(4)]
    for i, key in enumerate(keys):
        assert wire("SET", key, i) == OK
    assert wire("MGET", *keys) == [str(i).encode() for i in range(4)] or size == 1
    assert wire("EXISTS", keys[0], keys[0][:-1] + b"?") == 1 or size == 1
    assert wire("RENAME", keys[0], keys[1][:-1] + b"?") == OK
    assert wire("GET", keys[0]) is None or size == 1
    assert wire("DEL", *keys) in (2, 3)


def test_a_value_of_64_megabytes_comes_back(wire2: Wire) -> None:
    """Large values are transferred whole, and their memory is freed when they are deleted."""
    data = random.Random(64).randbytes(1 << 20) * 64
    assert wire2("SET", "big", data) == OK
    assert wire2("STRLEN", "big") == len(data)
    assert wire2("GETRANGE", "big", 33 << 20, (33 << 20) + 999) == data[33 << 20 : (33 << 20) + 1000]
    assert wire2("APPEND", "big", b"tail") == len(data) + 4
    assert wire2("RENAME", "big", "bigger") == OK
    assert wire2("COPY", "bigger", "copy") == 1
    assert wire2("GET", "copy") == data + b"tail"
    assert wire2("DEL", "bigger", "copy") == 2


def test_setrange_far_behind_the_end_fills_with_zeros(wire: Wire) -> None:
    """The gap is filled with zeros, however long it is."""
    assert wire("SET", "k", b"x" * 10_000) == OK
    assert wire("DEL", "k") == 1
    assert wire("SETRANGE", "k", 100_000, b"end") == 100_003
    assert wire("GET", "k") == bytes(100_000) + b"end"
    assert wire("SETRANGE", "k", 300_000, b"end") == 300_003
    assert wire("GET", "k") == bytes(100_000) + b"end" + bytes(199_997) + b"end"


def test_append_in_small_steps_builds_a_long_value(wire: Wire) -> None:
    """Growing through every size class keeps the contents."""
    generator, expected = random.Random(7), b""
    commands: list[tuple[bytes | str, ...]] = []
    for _ in range(400):
        piece = generator.randbytes(generator.randrange(1, 90))
        expected += piece
        commands.append(("APPEND", "k", piece))
    lengths = wire.pipeline(commands)
    assert lengths[-1] == len(expected)
    assert wire("GET", "k") == expected


def test_mset_and_mget_of_ten_thousand_keys(wire: Wire) -> None:
    """A command may have very many keys."""
    names = [b"key:%d" % i for i in range(10_000)]
    assert wire("MSET", *(word for name in names for word in (name, name[::-1]))) == OK
    assert wire("MGET", *names) == [name[::-1] for name in names]
    assert wire("DEL", *names) == 10_000


def test_the_limit_of_a_bulk_is_a_setting(wire: Wire) -> None:
    """APPEND and SETRANGE stop at proto-max-bulk-len."""
    assert wire("CONFIG", "SET", "proto-max-bulk-len", "1mb") == OK
    try:
        too_long = Failure("ERR string exceeds maximum allowed size (proto-max-bulk-len)")
        assert wire("SETRANGE", "k", 1 << 20, "x") == too_long
        assert wire("SET", "k", b"x" * (1 << 20)) == OK
        assert wire("APPEND", "k", "x") == too_long
        assert wire("STRLEN", "k") == 1 << 20
    finally:
        assert wire("CONFIG", "SET", "proto-max-bulk-len", "512mb") == OK
