r"""COMMAND, TIME, DEBUG, SAVE, BGSAVE, LASTSAVE and other commands about the server as a whole."""

import select
import time

import pytest

from tests.server.wire import OK, QUEUED, Failure, Status, Wire, encode, info, run_transcript, wait_until

TRANSCRIPTS = {
    "time": r"""
        TIME x -> !ERR wrong number of arguments for 'time' command
        LASTSAVE x -> !ERR wrong number of arguments for 'lastsave' command
    """,
    "command": r"""
        COMMAND COUNT x -> !ERR wrong number of arguments for 'command|count' command
        COMMAND FOO -> !ERR unknown subcommand 'FOO'. Try COMMAND HELP.
        COMMAND INFO nope -> [nil]
        COMMAND LIST FILTERBY -> !ERR syntax error
        COMMAND LIST FILTERBY FOO bar -> !ERR syntax error
        COMMAND LIST FILTERBY ACLCAT nope -> []
        COMMAND LIST FILTERBY MODULE nope -> []
        COMMAND LIST FILTERBY PATTERN xyz* -> []
        COMMAND LIST FILTERBY PATTERN getd* -> ["getdel"]
        COMMAND DOCS nope -> {}
    """,
    "command getkeys": r"""
        COMMAND GETKEYS GET a -> ["a"]
        COMMAND GETKEYS get a -> ["a"]
        COMMAND GETKEYS MSET a 1 b 2 -> ["a", "b"]
        COMMAND GETKEYS MGET a b c -> ["a", "b", "c"]
        COMMAND GETKEYS SET a b EX 10 -> ["a"]
        COMMAND GETKEYS DEL a b -> ["a", "b"]
        COMMAND GETKEYS RENAME a b -> ["a", "b"]
        COMMAND GETKEYS COPY a b REPLACE -> ["a", "b"]
        COMMAND GETKEYS WATCH a b -> ["a", "b"]
        COMMAND GETKEYS OBJECT ENCODING a -> ["a"]
        COMMAND GETKEYS MEMORY USAGE a -> ["a"]
        COMMAND GETKEYS NOPE a -> !ERR Invalid command specified
        COMMAND GETKEYS -> !ERR wrong number of arguments for 'command|getkeys' command
        COMMAND GETKEYSANDFLAGS GETDEL a -> [["a", [RW, access, delete]]]
        COMMAND GETKEYSANDFLAGS MSET a 1 b 2 -> [["a", [OW, update]], ["b", [OW, update]]]
    """,
    "command getkeys, new in 7.2": r"""
        COMMAND GETKEYS PING -> !ERR The command has no key arguments
        COMMAND GETKEYS GET -> !ERR Invalid number of arguments specified for command
    """,
    "debug": r"""
        DEBUG SLEEP 0 -> OK
        DEBUG SLEEP 0.001 -> OK
        DEBUG OBJECT missing -> !ERR no such key
        SET k v -> OK
        DEBUG OBJECT k -> any
        DEBUG FOO -> !ERR unknown subcommand or wrong number of arguments for 'FOO'. Try DEBUG HELP.
        DEBUG -> !ERR wrong number of arguments for 'debug' command
    """,
    "bgsave": r"""
        BGSAVE FOO -> !ERR syntax error
        BGSAVE SCHEDULE FOO -> !ERR syntax error
    """,
    "shutdown refuses": r"""
        SHUTDOWN FOO -> !ERR syntax error
        SHUTDOWN SAVE NOSAVE -> !ERR syntax error
        SHUTDOWN SAVE NOSAVE ABORT -> !ERR syntax error
        SHUTDOWN ABORT -> !ERR No shutdown in progress.
    """,
}


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_transcript(wire: Wire, name: str, request: pytest.FixtureRequest) -> None:
    """The transcript's replies are the server's."""
    if "7.2" in name:
        request.getfixturevalue("at_least_72")
    run_transcript(wire, TRANSCRIPTS[name])


def test_time_is_the_wall_clock(wire: Wire) -> None:
    """The reply is seconds and microseconds, as bulks."""
    before = time.time()
    seconds, microseconds = map(int, wire("TIME"))
    assert before - 0.2 <= seconds + microseconds / 1e6 <= time.time() + 0.2
    assert 0 <= microseconds < 1_000_000


# The commands of this server, some with the facts that COMMAND must report: arity, first key, last key, step.
COMMANDS = {
    "get": (2, 1, 1, 1),
    "set": (-3, 1, 1, 1),
    "mset": (-3, 1, -1, 2),
    "mget": (-2, 1, -1, 1),
    "del": (-2, 1, -1, 1),
    "rename": (3, 1, 2, 1),
    "copy": (-3, 1, 2, 1),
    "watch": (-2, 1, -1, 1),
    "ping": (-1, 0, 0, 0),
    "exec": (1, 0, 0, 0),
    "scan": (-2, 0, 0, 0),
    "expire": (-3, 1, 1, 1),
    "flushall": (-1, 0, 0, 0),
    "config": (-2, 0, 0, 0),
    "client": (-2, 0, 0, 0),
    "hello": (-1, 0, 0, 0),
    "object": (-2, 0, 0, 0),
    "memory": (-2, 0, 0, 0),
    "getrange": (4, 1, 1, 1),
    "swapdb": (3, 0, 0, 0),
}


def test_command_info_of_each(wire: Wire) -> None:
    """There are ten fields; the first six have existed since Redis 2.8."""
    for name, expected in COMMANDS.items():
        (entry,) = wire("COMMAND", "INFO", name.upper())
        assert len(entry) == 10, name
        assert entry[0] == name.encode()
        assert (entry[1], *entry[3:6]) == expected, name
        assert all(isinstance(flag, Status) for flag in entry[2])
        assert all(category.text.startswith("@") for category in entry[6])
    (get,) = wire("COMMAND", "INFO", "get")
    assert {flag.text for flag in get[2]} == {"readonly", "fast"}
    assert {category.text for category in get[6]} == {"@read", "@string", "@fast"}
    (config,) = wire("COMMAND", "INFO", "config")
    assert {sub[0] for sub in config[9]} >= {b"config|get", b"config|set", b"config|rewrite", b"config|resetstat"}
    assert wire("COMMAND", "INFO", "get", "nope", "set")[1] in (None, wire("COMMAND", "INFO", "nope")[0])


def test_command_lists_agree_with_each_other(wire: Wire) -> None:
    """COMMAND, COMMAND COUNT, COMMAND LIST and COMMAND DOCS are made from one table."""
    table = wire("COMMAND")
    names = sorted(entry[0] for entry in table)
    assert wire("COMMAND", "COUNT") == len(names)
    assert sorted(name for name in wire("COMMAND", "LIST") if b"|" not in name) == names
    docs = wire("COMMAND", "DOCS")
    documented = sorted(docs if isinstance(docs, dict) else docs[0::2])
    assert documented == names
    assert {name.encode() for name in COMMANDS} <= set(names)
    assert wire("COMMAND", "INFO", *names)[0][0] == names[0]


def test_command_list_filters(wire: Wire) -> None:
    """Filters by category and by pattern."""
    strings = set(wire("COMMAND", "LIST", "FILTERBY", "ACLCAT", "string"))
    assert {b"get", b"set", b"append", b"incrbyfloat"} <= strings
    assert b"del" not in strings
    assert {b"get", b"getex", b"getdel", b"getrange", b"getset"} <= set(
        wire("COMMAND", "LIST", "FILTERBY", "PATTERN", "get*")
    )
    assert {b"config|get", b"config|set"} <= set(wire("COMMAND", "LIST", "FILTERBY", "PATTERN", "config*"))


def test_command_docs_describe_each_argument(wire: Wire) -> None:
    """redis-cli makes its hints from this map."""

    def as_map(reply: object) -> dict[bytes, object]:
        if isinstance(reply, dict):
            return reply
        assert isinstance(reply, list)
        return dict(zip(reply[0::2], reply[1::2], strict=True))

    docs = as_map(wire("COMMAND", "DOCS", "set", "config", "SET"))
    assert set(docs) == {b"set", b"config"}
    entry = as_map(docs[b"set"])
    assert entry[b"group"] == b"string"
    assert entry[b"since"] == b"1.0.0"
    assert isinstance(entry[b"summary"], bytes)
    assert isinstance(entry[b"complexity"], bytes)
    arguments = [as_map(argument) for argument in entry[b"arguments"]]  # type: ignore[attr-defined]
    assert [argument[b"name"] for argument in arguments][:2] == [b"key", b"value"]
    assert arguments[0][b"type"] == b"key"
    assert arguments[1][b"type"] == b"string"
    expiration = as_map(entry[b"arguments"][-1])  # type: ignore[index]
    assert expiration[b"type"] == b"oneof"
    tokens = {as_map(choice).get(b"token") for choice in expiration[b"arguments"]}  # type: ignore[attr-defined]
    assert tokens == {b"EX", b"PX", b"EXAT", b"PXAT", b"KEEPTTL"}
    subcommands = as_map(as_map(docs[b"config"])[b"subcommands"])
    assert b"config|get" in subcommands


def test_debug_object_tells_encoding_and_length(wire: Wire) -> None:
    """The reply is a status line that begins like Redis's."""
    wire("SET", "k", "x" * 1000)
    line = wire("DEBUG", "OBJECT", "k")
    assert isinstance(line, Status)
    assert line.text.startswith("Value at:0x")
    assert " refcount:1 " in line.text
    assert " encoding:raw " in line.text
    assert " lru_seconds_idle:0" in line.text


def at_us(reply: list[bytes]) -> int:
    """A reply to TIME as microseconds."""
    return int(reply[0]) * 1_000_000 + int(reply[1])


def test_debug_sleep_sleeps_and_then_serves_what_came_meanwhile(server, wire2: Wire) -> None:
    """No client is served during the sleep."""
    with Wire(server.address) as other:
        # A pipeline might wait behind the sleep until other clients have had their turn; a transaction does not.
        commands = encode("TIME") + encode("DEBUG", "SLEEP", "0.3") + encode("TIME")
        wire2.send(encode("MULTI") + commands + encode("EXEC"))
        answered = []
        while not select.select([wire2.socket], [], [], 0)[0]:
            answered.append(at_us(other("TIME")))
        assert [wire2.reply() for _ in range(4)] == [OK, QUEUED, QUEUED, QUEUED]
        fell_asleep, status, woke = wire2.reply()
        assert status == OK
        assert at_us(woke) - at_us(fell_asleep) >= 300_000
        assert [time for time in answered if at_us(fell_asleep) < time < at_us(woke)] == []
        assert other("PING") == Status("PONG")


def test_a_background_save_in_a_transaction_waits_for_its_end(wire: Wire) -> None:
    """An image never holds half of a transaction."""
    wait_until(lambda: info(wire, "persistence")["rdb_bgsave_in_progress"] == "0", "an earlier one")
    before = int(info(wire, "stats")["total_forks"])
    assert wire("MULTI") == OK
    for command in (("SET", "a", "1"), ("BGSAVE",), ("SET", "b", "1")):
        wire(*command)
    assert wire("EXEC") == [OK, Status("Background saving scheduled"), OK]
    wait_until(lambda: info(wire, "persistence")["rdb_changes_since_last_save"] == "0", "the snapshot")
    assert int(info(wire, "stats")["total_forks"]) == before + 1
    wait_until(lambda: info(wire, "persistence")["rdb_bgsave_in_progress"] == "0", "its end")
    assert wire("DEBUG", "RELOAD", "NOSAVE") == OK
    assert wire("MGET", "a", "b") == [b"1", b"1"]


def test_lastsave_moves_with_save_and_bgsave(wire: Wire) -> None:
    """They also reset the count of changes to zero."""
    wire("SET", "k", "v")
    wire("SET", "l", "v")
    assert int(info(wire, "persistence")["rdb_changes_since_last_save"]) >= 2
    before = wire("LASTSAVE")
    assert time.time() - 86_400 < before <= time.time() + 1
    assert wire("SAVE") == OK
    assert wire("LASTSAVE") >= before
    state = info(wire, "persistence")
    assert state["rdb_changes_since_last_save"] == "0"
    assert state["rdb_last_save_time"] == str(wire("LASTSAVE"))
    assert wire("SAVE", "x") == Failure("ERR wrong number of arguments for 'save' command")
    wire("INCR", "n")
    assert wire("BGSAVE") == Status("Background saving started")
    wait_until(lambda: info(wire, "persistence")["rdb_bgsave_in_progress"] == "0", "the snapshot")
    state = info(wire, "persistence")
    assert state["rdb_last_bgsave_status"] == "ok"
    assert state["rdb_changes_since_last_save"] == "0"
    assert int(state["rdb_last_bgsave_time_sec"]) >= 0
    assert int(info(wire, "stats")["latest_fork_usec"]) >= 0


def test_changes_made_while_a_snapshot_is_written_are_still_to_be_saved(wire2: Wire) -> None:
    """rdb_changes_since_last_save counts from the fork, not from the end."""
    wire2.pipeline([("SET", f"k{i}", b"x" * 1000) for i in range(20_000)])
    replies = wire2.pipeline([("BGSAVE",), *(("INCR", "n") for _ in range(7))])
    assert replies[0] == Status("Background saving started")
    wait_until(lambda: info(wire2, "persistence")["rdb_bgsave_in_progress"] == "0", "the snapshot")
    assert info(wire2, "persistence")["rdb_changes_since_last_save"] == "7"


def test_a_second_bgsave_while_one_runs(wire2: Wire) -> None:
    """It is refused, or postponed by SCHEDULE; SAVE is refused as well."""
    wire2.pipeline([("SET", f"k{i}", b"x" * 1000) for i in range(40_000)])
    replies = wire2.pipeline([("BGSAVE",), ("BGSAVE",), ("SAVE",), ("BGSAVE", "SCHEDULE")])
    assert replies[0] == Status("Background saving started")
    assert replies[1] == Failure("ERR Background save already in progress")
    assert replies[2] == Failure("ERR Background save already in progress")
    assert isinstance(replies[3], Failure | Status)
    wait_until(lambda: info(wire2, "persistence")["rdb_bgsave_in_progress"] == "0", "the snapshots")
    assert wire2("BGSAVE", "SCHEDULE") == Status("Background saving started")
    wait_until(lambda: info(wire2, "persistence")["rdb_bgsave_in_progress"] == "0", "the snapshot")


def test_bgsave_in_a_transaction_is_put_off_until_it_ends(wire: Wire) -> None:
    """Redis schedules it, and so does this server."""
    saves = int(info(wire, "persistence").get("rdb_saves", 0))
    replies = wire.pipeline([("MULTI",), ("SET", "k", "v"), ("BGSAVE",), ("SET", "l", "v"), ("EXEC",)])
    assert isinstance(replies[-1], list)
    assert replies[-1][1] in (Status("Background saving scheduled"), Status("Background saving started"))
    wait_until(
        lambda: (
            (state := info(wire, "persistence"))["rdb_bgsave_in_progress"] == "0"
            and int(state.get("rdb_saves", saves + 1)) == saves + 1
        ),
        "the snapshot",
    )


def test_debug_reload_keeps_everything(wire: Wire) -> None:
    """It keeps all databases, values of every size, deadlines and encodings."""
    for db in (0, 5, 15):
        wire("SELECT", db)
        wire.pipeline([("SET", f"k{db}:{i}", b"%d" % i * (i % 700)) for i in range(1500)])
        wire("SET", "big", bytes(range(256)) * 5000)
        wire("SET", "deadline", "v", "PXAT", 99_999_999_999_123)
        wire("SET", "int", 12)
        wire("APPEND", "appended", "1")
        wire("APPEND", "appended", "2")
    wire("SELECT", 5)
    assert wire("DEBUG", "RELOAD") == OK
    for db in (0, 5, 15):
        wire("SELECT", db)
        assert wire("DBSIZE") == 1504
        values = wire("MGET", *(f"k{db}:{i}" for i in range(1500)))
        assert values == [b"%d" % i * (i % 700) for i in range(1500)]
        assert wire("GET", "big") == bytes(range(256)) * 5000
        assert wire("PEXPIRETIME", "deadline") == 99_999_999_999_123
        assert wire("OBJECT", "ENCODING", "int") == b"int"
        assert wire("INCR", "int") == 13
        assert wire("GET", "appended") == b"12"
    assert wire("FLUSHALL") == OK
    assert wire("DEBUG", "RELOAD") == OK
    assert wire("DBSIZE") == 0


def test_debug_reload_without_a_save_goes_back(wire2: Wire) -> None:
    """NOSAVE NOFLUSH are accepted as in Redis; the newest image is loaded."""
    wire2("SET", "k", "saved")
    assert wire2("SAVE") == OK
    wire2("SET", "k", "not saved")
    wire2("SET", "l", "not saved")
    assert wire2("DEBUG", "RELOAD", "NOSAVE") == OK
    assert wire2("GET", "k") == b"saved"
    assert wire2("EXISTS", "l") == 0
