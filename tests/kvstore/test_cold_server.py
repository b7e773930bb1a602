"""COMMAND, CONFIG, MEMORY, DEBUG, snapshots and SHUTDOWN, with Redis's words."""

import time
from pathlib import Path
from typing import Any

import pytest

from kvstore.commands.coldplane import Described
from kvstore.commands.introspection.command import document
from kvstore.commands.table import COMMANDS, ROWS, find
from kvstore.config.parameters import PARAMETERS
from kvstore.lifetimes.connection import FIELDS
from kvstore.wire.reply import NO_REPLY, OK, CommandError, Set, Simple, Verbatim, encode
from kvstore.wire.respclient import Decoder
from snapshot.errors import SnapshotError
from tests.kvstore.cold import FakeClient, FakeServer, ask

FAILED = "ERR CONFIG SET failed (possibly related to argument "
REFUSED = [
    ("COMMAND foo", "ERR unknown subcommand 'foo'. Try COMMAND HELP."),
    ("COMMAND COUNT x", "ERR wrong number of arguments for 'command|count' command"),
    ("COMMAND LIST foo", "ERR syntax error"),
    ("COMMAND LIST FILTERBY", "ERR syntax error"),
    ("COMMAND LIST FILTERBY foo bar", "ERR syntax error"),
    ("COMMAND GETKEYS", "ERR wrong number of arguments for 'command|getkeys' command"),
    ("COMMAND GETKEYS nosuch a", "ERR Invalid command specified"),
    ("COMMAND GETKEYS object nosuch a", "ERR Invalid command specified"),
    ("COMMAND GETKEYS ping", "ERR The command has no key arguments"),
    ("COMMAND GETKEYS get", "ERR Invalid number of arguments specified for command"),
    ("COMMAND GETKEYS get a b", "ERR Invalid number of arguments specified for command"),
    ("CONFIG", "ERR wrong number of arguments for 'config' command"),
    ("CONFIG GET", "ERR wrong number of arguments for 'config|get' command"),
    ("CONFIG SET hz", "ERR wrong number of arguments for 'config|set' command"),
    ("CONFIG SET hz 1 timeout", "ERR syntax error"),
    ("CONFIG SET nosuch 1", "ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'"),
    ("CONFIG SET hz 20 nosuch 1", "ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'"),
    ("CONFIG SET hz x", f"{FAILED}'hz') - argument couldn't be parsed into an integer"),
    ("CONFIG SET hz 20 maxmemory x", f"{FAILED}'maxmemory') - argument must be a memory value"),
    ("CONFIG SET hz 20 hz 30", f"{FAILED}'hz') - duplicate parameter"),
    ("CONFIG SET port 1", f"{FAILED}'port') - can't set immutable config"),
    ("CONFIG SET dir /", f"{FAILED}'dir') - can't set protected config"),
    ("CONFIG REWRITE", "ERR The server is running without a config file"),
    ("MEMORY foo", "ERR unknown subcommand 'foo'. Try MEMORY HELP."),
    ("MEMORY USAGE", "ERR wrong number of arguments for 'memory|usage' command"),
    ("OBJECT ENCODING", "ERR wrong number of arguments for 'object|encoding' command"),
    ("BGSAVE foo", "ERR syntax error"),
    ("BGSAVE SCHEDULE x", "ERR syntax error"),
    ("SHUTDOWN foo", "ERR syntax error"),
    ("SHUTDOWN SAVE NOSAVE", "ERR syntax error"),
    ("SHUTDOWN ABORT NOW", "ERR syntax error"),
    ("SHUTDOWN ABORT", "ERR No shutdown in progress."),
    ("DEBUG", "ERR wrong number of arguments for 'debug' command"),
    ("DEBUG foo", "ERR unknown subcommand or wrong number of arguments for 'foo'. Try DEBUG HELP."),
    ("DEBUG SLEEP", "ERR unknown subcommand or wrong number of arguments for 'SLEEP'. Try DEBUG HELP."),
    ("DEBUG OBJECT nosuch", "ERR no such key"),
    ("DEBUG RELOAD foo", "ERR DEBUG RELOAD only supports the NOSAVE option."),
    ("DEBUG SHIFT-CLOCK WALL x", "ERR value is not an integer or out of range"),
    ("DEBUG SHIFT-CLOCK SUN 1", "ERR syntax error"),
    ("DEBUG SHIFT-CLOCK TIMER -1", "ERR the clock cannot be moved so far"),
    ("DEBUG SHIFT-CLOCK WALL 1000000000001", "ERR the clock cannot be moved so far"),
    ("DEBUG SET-ACTIVE-EXPIRE x", "ERR value is not an integer or out of range"),
    ("DEBUG POPULATE -1", "ERR value is out of range, must be positive"),
    ("DEBUG POPULATE 1 p x", "ERR value is out of range, must be positive"),
    ("DEBUG POPULATE 1 p 536870913", "ERR string exceeds maximum allowed size (proto-max-bulk-len)"),
]


@pytest.fixture
def client() -> FakeClient:
    return FakeClient(1)


@pytest.fixture
def server(client: FakeClient) -> FakeServer:
    return FakeServer(client)


@pytest.mark.parametrize(("line", "error"), REFUSED)
def test_a_bad_command_is_refused_in_redis_words_and_changes_nothing(
    server: FakeServer, client: FakeClient, line: str, error: str
) -> None:
    before = dict(server.config.values)
    with pytest.raises(CommandError) as refused:
        ask(server, client, *line.split())
    assert str(refused.value) == error
    assert server.config.values == before
    assert server.done == []
    assert server.snapshots.done == []


# ------------------------------------------------------------------------------------------------------------- COMMAND


def test_command_describes_every_command(server: FakeServer, client: FakeClient) -> None:
    for client.protocol in (2, 3):
        rows: Any = ask(server, client, "COMMAND")
        assert rows == ask(server, client, "COMMAND", "INFO")
        (decoded,) = Decoder().feed(rows)
        assert [row[0].decode() for row in decoded] == [command.name for command in COMMANDS]
        assert ask(server, client, "COMMAND", "COUNT") == len(COMMANDS)


def test_command_info_is_redis_own_for_get(server: FakeServer, client: FakeClient) -> None:
    """The reply has the bytes of redis-server 7 in RESP2, except for the order within sets."""
    reply = encode(ask(server, client, "COMMAND", "INFO", "GET", "nosuch"))
    assert reply == (
        b"*2\r\n*10\r\n$3\r\nget\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n"
        b"*3\r\n+@read\r\n+@string\r\n+@fast\r\n*0\r\n"
        b"*1\r\n*6\r\n$5\r\nflags\r\n*2\r\n+RO\r\n+access\r\n"
        b"$12\r\nbegin_search\r\n*4\r\n$4\r\ntype\r\n$5\r\nindex\r\n$4\r\nspec\r\n*2\r\n$5\r\nindex\r\n:1\r\n"
        b"$9\r\nfind_keys\r\n*4\r\n$4\r\ntype\r\n$5\r\nrange\r\n$4\r\nspec\r\n"
        b"*6\r\n$7\r\nlastkey\r\n:0\r\n$7\r\nkeystep\r\n:1\r\n$5\r\nlimit\r\n:0\r\n"
        b"*0\r\n$-1\r\n"
    )


def test_command_info_finds_subcommands(server: FakeServer, client: FakeClient) -> None:
    for client.protocol in (2, 3):
        reply = ask(server, client, "COMMAND", "INFO", "Memory|Usage", "memory|nosuch")
        ((row, missing),) = Decoder().feed(encode(reply, client.protocol))
        assert (row[0], row[3:6], missing) == (b"memory|usage", [2, 2, 1], None)


def described(name: str) -> Any:
    """The document of a command in COMMAND DOCS."""
    command = find(name.encode())
    assert command is not None
    return document(command)


def test_command_docs_explain_arguments(server: FakeServer, client: FakeClient) -> None:
    docs: Any = ask(server, client, "COMMAND", "DOCS", "set", "nosuch", "config")
    assert docs == {name: encode(described(name), 2) for name in ("set", "config")}
    key, _, condition, get, expiration = described("set")["arguments"]
    assert key == {"name": "key", "type": "key", "key_spec_index": 0}
    assert (condition["type"], condition["flags"]) == ("oneof", Set(["optional"]))
    assert get == {
        "name": "get",
        "type": "pure-token",
        "since": "6.2.0",
        "token": "GET",
        "flags": Set(["optional"]),
    }
    assert [one["token"] for one in expiration["arguments"]] == ["EX", "PX", "EXAT", "PXAT", "KEEPTTL"]
    assert described("config")["subcommands"]["config|set"]["arguments"][0]["type"] == "block"
    assert [argument.get("key_spec_index") for argument in described("copy")["arguments"]] == [0, 1, None, None]
    assert described("getset")["doc_flags"] == Set(["deprecated"])
    client.protocol = 3
    everything: Any = ask(server, client, "COMMAND", "DOCS")
    (decoded,) = Decoder().feed(everything)
    assert [name.decode() for name in decoded] == [command.name for command in COMMANDS]


def test_command_list_filters(server: FakeServer, client: FakeClient) -> None:
    assert ask(server, client, "COMMAND", "LIST") == [row.name for row in ROWS]
    listed: Any = ask(server, client, "COMMAND", "LIST", "FILTERBY", "ACLCAT", "Transaction")
    assert set(listed) == {"multi", "exec", "discard", "watch", "unwatch"}
    assert ask(server, client, "COMMAND", "LIST", "FILTERBY", "ACLCAT", "nosuch") == []
    assert ask(server, client, "COMMAND", "LIST", "filterby", "pattern", "MGE*") == ["mget"]
    assert ask(server, client, "COMMAND", "LIST", "FILTERBY", "MODULE", "json") == []


def test_command_getkeys(server: FakeServer, client: FakeClient) -> None:
    assert ask(server, client, "COMMAND", "GETKEYS", "MSET", "a", "1", "b", "2") == [b"a", b"b"]
    assert ask(server, client, "COMMAND", "GETKEYS", "memory", "usage", "x") == [b"x"]
    reply = ask(server, client, "COMMAND", "GETKEYSANDFLAGS", "copy", "a", "b")
    assert reply == [[b"a", Set(["RO", "access"])], [b"b", Set(["OW", "update"])]]


# -------------------------------------------------------------------------------------------------------------- CONFIG


def test_config_set_applies_what_changed(server: FakeServer, client: FakeClient) -> None:
    assert ask(server, client, "CONFIG", "SET", "hz", "20", "timeout", "0", "maxmemory", "1kb") == OK
    assert server.done == [("apply", "hz", "20"), ("apply", "maxmemory", "1024")]
    assert ask(server, client, "CONFIG", "GET", "hz", "MAXMEMORY") == {"hz": "20", "maxmemory": "1024"}


def test_config_set_takes_all_back_when_one_cannot_be_had(server: FakeServer, client: FakeClient) -> None:
    server.refuses["maxclients"] = "5"
    with pytest.raises(CommandError, match=r"argument 'maxclients'\) - maxclients cannot be had"):
        ask(server, client, "CONFIG", "SET", "hz", "20", "maxclients", "5")
    assert (server.config["hz"], server.config["maxclients"]) == (10, 10000)
    assert server.done[-2:] == [("apply", "hz", "10"), ("apply", "maxclients", "10000")]


def test_config_set_takes_all_back_after_a_bug(
    server: FakeServer, client: FakeClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    apply = server.apply

    def fail(name: str) -> None:
        apply(name)
        if name == "timeout":
            raise OverflowError("a bug")

    monkeypatch.setattr(server, "apply", fail)
    before = dict(server.config.values)
    with pytest.raises(OverflowError):
        ask(server, client, "CONFIG", "SET", "hz", "20", "io-threads", "4", "timeout", "5", "maxmemory", "1kb")
    assert server.config.values == before
    applied = [entry[1:] for entry in server.done if entry[0] == "apply"]
    back = [("hz", "10"), ("io-threads", "1"), ("timeout", "0"), ("maxmemory", "0")]
    assert applied == [("hz", "20"), ("io-threads", "4"), ("timeout", "5"), *back]
    assert server.config.notices == []
    assert "has no effect" not in caplog.text


def test_config_set_says_in_the_log_what_has_no_effect(
    server: FakeServer, client: FakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    assert ask(server, client, "CONFIG", "SET", "io-threads", "4") == OK
    assert "io-threads has no effect" in caplog.text


@pytest.mark.parametrize(
    ("setting", "addr", "allowed"),
    [
        ("no", "127.0.0.1:1", False),
        ("local", "127.0.0.1:1", True),
        ("local", "[::1]:1", True),
        ("local", "127.1.2.3:1", True),
        ("local", "[::ffff:127.0.0.1]:1", True),
        ("local", "[::ffff:10.0.0.1]:1", False),
        ("local", "12.7.0.1:1", False),
        ("local", "10.0.0.1:1", False),
        ("yes", "10.0.0.1:1", True),
    ],
)
def test_protected_parameters_and_debug_are_for_whom_the_configuration_says(
    setting: str, addr: str, allowed: bool
) -> None:
    client = FakeClient(1, addr=addr)
    server = FakeServer(client, enable_protected_configs=setting, enable_debug_command=setting)
    for words, refusal in (
        (["CONFIG", "SET", "dir", "/"], "can't set protected config"),
        (["DEBUG", "SLEEP", "0"], "DEBUG command not allowed"),
    ):
        if allowed:
            assert ask(server, client, *words) == OK
        else:
            with pytest.raises(CommandError, match=refusal):
                ask(server, client, *words)


def test_config_rewrite_writes_the_file(server: FakeServer, client: FakeClient, tmp_path: Path) -> None:
    server.config.file = tmp_path / "kvstore.conf"
    ask(server, client, "CONFIG", "SET", "hz", "20")
    assert ask(server, client, "CONFIG", "REWRITE") == OK
    assert server.config.file.read_text().endswith("hz 20\nenable-debug-command yes\n")
    (tmp_path / "including.conf").write_text("include /nonexistent/file\n")
    for file, why in [
        (tmp_path / "nosuch" / "kvstore.conf", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (tmp_path / "including.conf", "can't read the configuration file /nonexistent/file: No such file or directory"),
    ]:
        server.config.file = file
        with pytest.raises(CommandError, match=f"^ERR Rewriting config file: {why}$"):
            ask(server, client, "CONFIG", "REWRITE")


def test_config_resetstat(server: FakeServer, client: FakeClient) -> None:
    assert ask(server, client, "CONFIG", "RESETSTAT") == OK
    assert server.done == [("reset_statistics",)]


def test_config_get_answers_every_parameter(server: FakeServer, client: FakeClient) -> None:
    found: Any = ask(server, client, "CONFIG", "GET", "*")
    assert set(PARAMETERS) <= set(found)


# ------------------------------------------------------------------------------------------------ TIME, MEMORY, HELP


def test_time_is_now(server: FakeServer, client: FakeClient) -> None:
    before = time.time()
    seconds, microseconds = ask(server, client, "TIME")  # type: ignore[misc]
    assert before - 0.001 <= int(seconds) + int(microseconds) / 1e6 <= time.time() + 0.001


def test_memory_stats_add_up(server: FakeServer, client: FakeClient) -> None:
    stats: Any = ask(server, client, "MEMORY", "STATS")
    assert stats["total.allocated"] == 100_000 + 8192 + 8 * FIELDS
    assert stats["overhead.total"] + stats["dataset.bytes"] == stats["total.allocated"]
    assert stats["peak.allocated"] == 120_000 + 8 * FIELDS
    assert stats["keys.count"] == 11
    assert {"db.0", "db.2"} <= set(stats)
    assert [stats[f"store.{name}"] for name in ("rss", "shared", "private")] == [20_480, 12_288, 8192]


def test_memory_doctor_names_what_is_wrong(server: FakeServer, client: FakeClient) -> None:
    assert ask(server, client, "MEMORY", "DOCTOR") == Verbatim("No problems with memory were found.\n")
    server.physical = server.physical._replace(in_use=990)
    ask(server, client, "CONFIG", "SET", "maxmemory", "100kb")
    report = ask(server, client, "MEMORY", "DOCTOR")
    assert isinstance(report, Verbatim)
    assert "1.0% of the frames are free" in report
    assert "90% of maxmemory" in report


def test_memory_purge_and_malloc_stats(server: FakeServer, client: FakeClient) -> None:
    assert ask(server, client, "MEMORY", "PURGE") == OK
    assert server.done[-1] == ("purge",)
    assert "heap: 100000 bytes" in str(ask(server, client, "MEMORY", "MALLOC-STATS"))


@pytest.mark.parametrize("container", ["COMMAND", "CONFIG", "MEMORY", "OBJECT", "DEBUG"])
def test_help_lists_every_subcommand(server: FakeServer, client: FakeClient, container: str) -> None:
    lines: Any = ask(server, client, container, "HELP")
    assert lines[0] == f"{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    assert "HELP" in lines
    assert len(lines) % 2
    assert all(isinstance(line, Simple) for line in lines)


# ----------------------------------------------------------------------------------------------------------- snapshots


def test_a_background_save_is_started(server: FakeServer, client: FakeClient) -> None:
    assert ask(server, client, "BGSAVE") == Simple("Background saving started")
    assert ask(server, client, "BGSAVE", "schedule") == Simple("Background saving started")
    assert server.snapshots.done == ["start", "start"]


@pytest.mark.parametrize("line", ["BGSAVE", "BGSAVE SCHEDULE", "SAVE"])
def test_only_one_snapshot_is_taken_at_a_time(server: FakeServer, client: FakeClient, line: str) -> None:
    server.snapshots.running = True
    with pytest.raises(CommandError, match="ERR Background save already in progress"):
        ask(server, client, *line.split())


def test_save_and_lastsave(server: FakeServer, client: FakeClient) -> None:
    assert ask(server, client, "SAVE") == OK
    assert server.snapshots.done == ["run_and_wait"]
    assert ask(server, client, "LASTSAVE") == 1700000000


@pytest.mark.parametrize("line", ["BGSAVE", "SAVE", "DEBUG RELOAD"])
def test_a_snapshot_that_fails_says_why(server: FakeServer, client: FakeClient, line: str) -> None:
    server.snapshots.failure = SnapshotError("the disk is full")
    with pytest.raises(CommandError, match=r"^ERR the disk is full$"):
        ask(server, client, *line.split())


SHUTDOWNS = [
    ("SHUTDOWN", None, False),
    ("SHUTDOWN NOSAVE", False, False),
    ("SHUTDOWN save", True, False),
    ("SHUTDOWN NOW FORCE", None, True),
    ("SHUTDOWN FORCE NOSAVE NOW", False, True),
]


@pytest.mark.parametrize(("line", "save", "force"), SHUTDOWNS)
def test_shutdown_stops_without_a_reply(
    server: FakeServer, client: FakeClient, line: str, save: bool | None, force: bool
) -> None:
    assert ask(server, client, *line.split()) is NO_REPLY
    assert server.done == [("shutdown", save, force)]


# --------------------------------------------------------------------------------------------------------------- DEBUG


def test_debug_object_describes_a_value(server: FakeServer, client: FakeClient) -> None:
    server.keys[b"k"] = Described(0x10000040, "embstr", 5, 1234, 9)
    assert ask(server, client, "DEBUG", "OBJECT", "k") == Simple(
        "Value at:0x10000040 refcount:1 encoding:embstr serializedlength:5 lru:1234 lru_seconds_idle:9"
    )


def test_debug_reload_saves_unless_told_not_to(server: FakeServer, client: FakeClient) -> None:
    assert ask(server, client, "DEBUG", "RELOAD") == OK
    assert ask(server, client, "DEBUG", "RELOAD", "nosave") == OK
    assert server.done == [("reload", True), ("reload", False)]


def test_debug_sleep_sleeps(server: FakeServer, client: FakeClient) -> None:
    began = time.monotonic()
    assert ask(server, client, "DEBUG", "SLEEP", "0.02") == OK
    assert time.monotonic() - began >= 0.02
    for seconds in ("x", "-1", "nan", "inf"):
        assert ask(server, client, "DEBUG", "SLEEP", seconds) == OK


def test_debug_shift_clock_moves_either(server: FakeServer, client: FakeClient) -> None:
    assert ask(server, client, "DEBUG", "SHIFT-CLOCK", "WALL", "-3600000") == OK
    assert ask(server, client, "DEBUG", "shift-clock", "timer", "500") == OK
    assert server.done == [("shift", -3_600_000, 0), ("shift", 0, 500)]


def test_debug_set_active_expire(server: FakeServer, client: FakeClient) -> None:
    assert ask(server, client, "DEBUG", "SET-ACTIVE-EXPIRE", "0") == OK
    assert server.done == [("apply", "active-expire-enabled", "no")]
    assert ask(server, client, "DEBUG", "SET-ACTIVE-EXPIRE", "1") == OK
    assert server.config["active-expire-enabled"] is True


def test_debug_populate_takes_a_count_a_prefix_and_a_size(server: FakeServer, client: FakeClient) -> None:
    client.db = 4
    for words in (["7"], ["7", "p"], ["7", "p", "100"]):
        assert ask(server, client, "DEBUG", "POPULATE", *words) == OK
    assert server.done == [("populate", 4, 7, b"key", 0), ("populate", 4, 7, b"p", 0), ("populate", 4, 7, b"p", 100)]


def test_debug_digests_are_statuses(server: FakeServer, client: FakeClient) -> None:
    server.keys[b"k"], client.db = Described(0x10000040, "embstr", 5, 1234, 9), 3
    assert ask(server, client, "DEBUG", "DIGEST") == Simple("0123456789" * 4)
    assert ask(server, client, "DEBUG", "DIGEST-VALUE") == []
    assert ask(server, client, "DEBUG", "DIGEST-VALUE", "k", "no") == [Simple("3:k"), Simple("0" * 40)]
