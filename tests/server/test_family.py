"""A new command needs only its declaration and its function: the server knows nothing else about this family."""

from collections.abc import Iterator
from typing import Any

import pytest

from kvstore.commands.table import COMMANDS
from tests import harness
from tests.server.wire import OK, Failure, Status, Verbatim, Wire


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    """A connection to a server with the family of family.py."""
    if harness.TARGET != "kvstore":
        pytest.skip("of this server only")
    directory = tmp_path_factory.mktemp("family")
    process = harness.Process("kvstore", directory, program="tests.server.with_family")
    with process as server, Wire(server.address, 3) as connection:
        yield connection


def test_its_kernel_is_found_and_executed(wire: Wire) -> None:
    """It runs alone, in a pipeline and in a transaction."""
    assert wire("MSET", "a", "12", "b", "x" * 5000) == OK
    assert wire("tally", "2", "a", "b") == 5002
    assert wire.pipeline([("MULTI",), ("TALLY", "1", "a"), ("EXEC",)])[-1] == [2]
    assert wire("TALLY", "3", "a", "b") == Failure("ERR syntax error")
    assert wire("TALLY", "2") == Failure("ERR wrong number of arguments for 'tally' command")


def test_its_python_function_is_found_and_executed(wire: Wire) -> None:
    """It reads its options by the syntax."""
    assert wire("REPEAT", "ab") == b"abab"
    assert wire("REPEAT", "ab", "upper", "TIMES", "3") == b"ABABAB"
    assert wire("REPEAT", "ab", "TIMES") == Failure("ERR syntax error")
    assert wire("REPEAT") == Failure("ERR wrong number of arguments for 'repeat' command")


def names(*words: str) -> list[Status]:
    """Statuses."""
    return [Status(word) for word in words]


def test_it_is_listed(wire: Wire) -> None:
    """COMMAND LIST has it, by category too, and COUNT counts it."""
    listed = wire("COMMAND", "LIST")
    assert {b"repeat", b"tally"} <= set(listed)
    assert wire("COMMAND", "LIST", "FILTERBY", "PATTERN", "*ally") == [b"tally"]
    assert b"tally" in wire("COMMAND", "LIST", "FILTERBY", "ACLCAT", "string")
    assert wire("COMMAND", "COUNT") == len(COMMANDS) + 2


def test_what_command_info_says_of_it(wire: Wire) -> None:
    """Arity, categories and keys follow from the declaration."""
    spec: dict[bytes, Any] = {
        b"flags": names("RO"),
        b"begin_search": {b"type": b"index", b"spec": {b"index": 1}},
        b"find_keys": {b"type": b"keynum", b"spec": {b"keynumidx": 0, b"firstkey": 1, b"keystep": 1}},
    }
    tips = [b"request_policy:multi_shard", b"response_policy:agg_sum"]
    flags, categories = names("readonly", "fast", "movablekeys"), names("@read", "@string", "@fast")
    assert wire("COMMAND", "INFO", "tally") == [[b"tally", -3, flags, 0, 0, 0, categories, tips, [spec], []]]
    categories = names("@string", "@slow")
    assert wire("COMMAND", "INFO", "repeat") == [
        [b"repeat", -2, names("loading", "stale"), 0, 0, 0, categories, [], [], []],
    ]


def test_what_command_docs_says_of_it(wire: Wire) -> None:
    """Arguments follow from the syntax."""
    assert wire("COMMAND", "DOCS", "tally") == {
        b"tally": {
            b"summary": b"Adds the lengths of strings.",
            b"since": b"0.1.0",
            b"group": b"string",
            b"complexity": b"O(N) with N the number of keys",
            b"history": [[b"0.2.0", b"Became fast."]],
            b"arguments": [
                {b"name": b"numkeys", b"type": b"integer"},
                {b"name": b"key", b"type": b"key", b"key_spec_index": 0, b"flags": names("multiple")},
            ],
        }
    }
    assert wire("COMMAND", "DOCS", "repeat")[b"repeat"][b"arguments"] == [
        {b"name": b"message", b"type": b"string"},
        {b"name": b"count", b"type": b"integer", b"token": b"TIMES", b"flags": names("optional")},
        {
            b"name": b"upper",
            b"type": b"pure-token",
            b"token": b"UPPER",
            b"since": b"0.2.0",
            b"flags": names("optional"),
        },
    ]


def test_its_keys_are_found(wire: Wire) -> None:
    """The count among the arguments determines the keys."""
    assert wire("COMMAND", "GETKEYS", "TALLY", "2", "a", "b") == [b"a", b"b"]
    assert wire("COMMAND", "GETKEYSANDFLAGS", "TALLY", "1", "a") == [[b"a", names("RO")]]
    assert wire("COMMAND", "GETKEYS", "TALLY", "3", "a") == Failure("ERR Invalid arguments specified for command")
    assert wire("COMMAND", "GETKEYS", "REPEAT", "a") == Failure("ERR The command has no key arguments")


def test_its_calls_are_counted(wire: Wire) -> None:
    """INFO commandstats has its name."""
    assert wire("CONFIG", "RESETSTAT") == OK
    assert wire("TALLY", "1", "nosuch") == 0
    told = wire("INFO", "commandstats")
    assert isinstance(told, Verbatim)
    assert b"cmdstat_tally:calls=1," in told.data
