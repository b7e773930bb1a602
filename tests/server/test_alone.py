"""ROLE, ACL, MODULE, CLUSTER, as a standalone server answers them; and the commands of monitoring agents."""

import re

import pytest
import redis

from tests.harness import ROOT, Process
from tests.server.test_command import NOT_IN_REDIS
from tests.server.wire import Failure, Status, Verbatim, Wire, info

CLUSTER_SUBCOMMANDS = """
    ADDSLOTS ADDSLOTSRANGE BUMPEPOCH COUNT-FAILURE-REPORTS COUNTKEYSINSLOT DELSLOTS DELSLOTSRANGE FAILOVER FLUSHSLOTS
    FORGET GETKEYSINSLOT HELP INFO KEYSLOT LINKS MEET MYID NODES REPLICAS REPLICATE RESET SAVECONFIG SET-CONFIG-EPOCH
    SETSLOT SHARDS SLAVES SLOTS NOSUCH
"""
REPLIES = [
    ("ROLE",),
    ("ROLE", "x"),
    ("ACL",),
    ("ACL", "WHOAMI"),
    ("ACL", "WHOAMI", "x"),
    ("ACL", "USERS"),
    ("ACL", "LIST"),
    ("ACL", "GETUSER", "default"),
    ("ACL", "GETUSER", "nosuch"),
    ("ACL", "GETUSER", "Default"),
    ("ACL", "GETUSER"),
    ("ACL", "CAT"),
    ("ACL", "CAT", "nosuch"),
    ("ACL", "CAT", "string", "x"),
    ("ACL", "LOG"),
    ("ACL", "LOG", "5"),
    ("ACL", "LOG", "-1"),
    ("ACL", "LOG", "x"),
    ("ACL", "LOG", "reset"),
    ("ACL", "LOG", "1", "2"),
    ("ACL", "NOSUCH"),
    ("MODULE",),
    ("MODULE", "LIST"),
    ("MODULE", "LIST", "x"),
    ("MODULE", "NOSUCH"),
    ("CLUSTER",),
    *(("CLUSTER", word, *more) for word in CLUSTER_SUBCOMMANDS.split() for more in ((), ("1",), ("1", "2"))),
    ("READONLY",),
    ("READWRITE",),
    ("ASKING",),
    ("READONLY", "x"),
]


@pytest.mark.parametrize("protocol", [2, 3])
def test_replies_are_those_of_redis(server, redis_server, protocol: int) -> None:
    """The replies are equal to the byte."""
    with Wire(server.address, protocol) as mine, Wire(redis_server.address, protocol) as theirs:
        for one in (mine, theirs):
            one("ACL", "LOG", "RESET")
        answered = {words: (mine.raw(*words), theirs.raw(*words)) for words in REPLIES}
    assert {words: pair for words, pair in answered.items() if pair[0] != pair[1]} == {}


def test_the_rules_show_the_password_s_digest(server, redis_server) -> None:
    """Redis shows the digest too, and never the password."""
    shown = []
    for process in (server, redis_server):
        with Wire(process.address) as wire:
            wire("CONFIG", "SET", "requirepass", "secret")
            wire("AUTH", "secret")
            try:
                shown.append([wire.raw("ACL", "LIST"), wire.raw("ACL", "GETUSER", "default")])
            finally:
                wire("CONFIG", "SET", "requirepass", "")
    assert shown[0] == shown[1]
    assert b"secret" not in b"".join(shown[0])


LATER_FIELDS = [b"entry-id", b"timestamp-created", b"timestamp-last-updated"]  # of Redis 7.2
REFUSALS = [
    ("AUTH", "wrong"),
    ("AUTH", "wrong"),
    ("AUTH", "nobody", "wrong"),
    ("HELLO", "3", "AUTH", "nobody", "wrong"),
    ("AUTH", "right"),
    ("MULTI",),
    ("auth", "nobody", "right"),
    ("EXEC",),
]


def test_who_was_not_let_in_is_logged_as_redis_logs_it(server, redis_server) -> None:
    """Similar refusals are counted in one entry, which describes the client."""
    logs = []
    for process in (server, redis_server):
        with Wire(process.address) as admin, Wire(process.address) as wire:
            admin("ACL", "LOG", "RESET")
            admin("CONFIG", "SET", "requirepass", "right")
            try:
                replies = [wire.raw(*words) for words in REFUSALS]
                entries = [dict(zip(entry[0::2], entry[1::2], strict=True)) for entry in admin("ACL", "LOG")]
                assert admin("ACL", "LOG", "1") != []
                host, port = wire.socket.getsockname()
                for entry in entries:
                    assert f" addr={host}:{port} ".encode() in entry.pop(b"client-info")
                    assert 0 <= float(entry.pop(b"age-seconds")) < 60
                    for later in LATER_FIELDS:
                        entry.pop(later, None)
                logs.append((replies, entries))
            finally:
                admin("CONFIG", "SET", "requirepass", "")
                admin("ACL", "LOG", "RESET")
    assert logs[0] == logs[1]
    assert [entry[b"count"] for entry in logs[0][1]] == [1, 1, 1, 2]


def test_refusals_are_counted_and_the_log_is_as_long_as_configured(server, wire: Wire, ours: None) -> None:
    """INFO shows their number; RESETSTAT resets it."""
    wire("CONFIG", "RESETSTAT")
    wire("ACL", "LOG", "RESET")
    wire("CONFIG", "SET", "acllog-max-len", "2")
    try:
        for number in range(3):
            assert isinstance(wire("AUTH", f"nobody{number}", "wrong"), Failure)
        assert info(wire, "stats")["acl_access_denied_auth"] == "3"
        entries = wire("ACL", "LOG")
        if wire.protocol == 2:
            entries = [dict(zip(entry[0::2], entry[1::2], strict=True)) for entry in entries]
        assert [entry[b"username"] for entry in entries] == [b"nobody2", b"nobody1"]
        assert entries[0][b"entry-id"] == entries[1][b"entry-id"] + 1
        assert list(entries[0])[-3:] == LATER_FIELDS
        wire("CONFIG", "RESETSTAT")
        assert info(wire, "stats")["acl_access_denied_auth"] == "0"
    finally:
        wire("CONFIG", "SET", "acllog-max-len", "128")
        wire("ACL", "LOG", "RESET")


def test_a_category_lists_the_commands_of_the_table(server, redis_server) -> None:
    """A category lists those of Redis's commands that exist here."""
    with Wire(server.address) as mine, Wire(redis_server.address) as theirs:
        for category in mine("ACL", "CAT"):
            listed = set(mine("ACL", "CAT", category))
            known = set(mine("COMMAND", "LIST"))
            later = {b"client|no-touch", b"client|setinfo", *map(str.encode, NOT_IN_REDIS)}
            ours = {name for name in listed if name.partition(b"|")[0] in (b"branch", b"snapshot")}
            assert listed - later - ours == set(theirs("ACL", "CAT", category)) & known, category


# Commands that redis_exporter, Datadog, Telegraf and dashboards send when they start.
ASKED = [
    ("PING",),
    ("CLIENT", "SETNAME", "agent"),
    ("CLIENT", "SETINFO", "LIB-NAME", "agent"),
    ("INFO",),
    ("INFO", "ALL"),
    ("INFO", "EVERYTHING"),
    ("INFO", "COMMANDSTATS"),
    ("INFO", "LATENCYSTATS"),
    ("CONFIG", "GET", "*"),
    ("CONFIG", "GET", "maxmemory"),
    ("SLOWLOG", "GET", "128"),
    ("SLOWLOG", "LEN"),
    ("SLOWLOG", "RESET"),
    ("LATENCY", "LATEST"),
    ("LATENCY", "HISTOGRAM"),
    ("LATENCY", "DOCTOR"),
    ("CLIENT", "LIST"),
    ("CLIENT", "INFO"),
    ("MEMORY", "STATS"),
    ("MEMORY", "DOCTOR"),
    ("ROLE",),
    ("DBSIZE",),
    ("COMMAND",),
    ("COMMAND", "COUNT"),
    ("COMMAND", "DOCS"),
    ("OBJECT", "HELP"),
    ("ACL", "WHOAMI"),
    ("ACL", "LIST"),
    ("MODULE", "LIST"),
    ("LASTSAVE",),
    ("TIME",),
    ("WAIT", "0", "0"),
    ("CONFIG", "RESETSTAT"),
]


def test_monitoring_finds_every_command_it_asks_for(wire: Wire) -> None:
    """No command may fail, because an agent stops at the first error."""
    failed = {words: reply for words in ASKED if isinstance(reply := wire(*words), Failure)}
    assert failed == {}
    assert wire("CLUSTER", "INFO") == Failure("ERR This instance has cluster support disabled")


def test_config_get_shows_what_monitoring_reads(wire2: Wire) -> None:
    """The parameters that agents look up exist."""
    reply = wire2("CONFIG", "GET", "*")
    names = set(reply[0::2])
    assert names >= {b"slowlog-max-len", b"slowlog-log-slower-than", b"latency-monitor-threshold", b"latency-tracking"}
    assert names >= {b"maxmemory", b"maxclients", b"save", b"appendonly", b"databases", b"requirepass"}


def test_redis_py_understands_the_answers(server, ours: None) -> None:
    """Calls each of its methods, in both protocols."""
    for protocol in (2, 3):
        with redis.Redis(port=server.port, protocol=protocol) as client:
            client.config_set("slowlog-log-slower-than", 0)
            client.config_set("latency-monitor-threshold", 10)
            client.slowlog_reset()
            client.latency_reset()
            client.execute_command("DEBUG", "SLEEP", "0.01")
            client.config_set("slowlog-log-slower-than", 10000)
            client.config_set("latency-monitor-threshold", 0)
            found = {entry["command"]: entry for entry in client.slowlog_get()}
            assert found[b"DEBUG SLEEP 0.01"]["duration"] >= 10_000
            assert client.slowlog_len() == len(found)
            latest = {event[0]: event[1:] for event in client.latency_latest()}
            _, last_ms, longest_ms = latest[b"command"]
            assert 10 <= last_ms <= longest_ms
            assert client.latency_history("command")[-1][1] == last_ms
            histogram = client.execute_command("LATENCY", "HISTOGRAM", "debug")
            assert b"debug" in histogram
            assert client.latency_reset() == len(latest)
            assert client.role()[0] in (b"master", "master")
            assert client.wait(0, 0) == 0
            assert client.acl_whoami() in ("default", b"default")
            assert client.acl_users() in (["default"], [b"default"])
            assert client.acl_getuser("default")["categories"] == ["+@all"]
            assert client.module_list() == []
            with pytest.raises(redis.ResponseError, match="cluster support disabled"):
                client.execute_command("CLUSTER INFO")


def test_help_of_every_container_names_every_subcommand(wire2: Wire) -> None:
    """COMMAND INFO and HELP are made from one table; CLUSTER refuses even HELP, as Redis does."""
    for entry in wire2("COMMAND"):
        subcommands = {sub[0].partition(b"|")[2].upper().decode() for sub in entry[9]}
        if not subcommands or entry[0] == b"cluster":
            continue
        lines = [line.text for line in wire2(entry[0], "HELP")]
        named = {line.split()[0] for line in lines[1:] if not line.startswith(("    ", "("))}
        assert named == subcommands, entry[0]


def words_of_help(lines: list[Status]) -> tuple[str, list[str], set[str]]:
    """Of a HELP: its first line, the words with which a form begins, in their order, and how far texts are indented."""
    forms = [line.text.split()[0] for line in lines[1:] if not line.text.startswith(" ")]
    indents = {line.text[:4] for line in lines[1:] if line.text.startswith(" ")}
    return lines[0].text, forms, indents


def test_help_has_redis_form(server: Process, redis_server: Process, ours: None) -> None:
    """The first line, the indents, HELP at the end and the subcommands are Redis's; texts and order are our own."""
    later = {"CLIENT": {"NO-TOUCH", "SETINFO"}}  # since 7.2
    without = {  # subcommands that are not served
        "ACL": {"DELUSER", "DRYRUN", "GENPASS", "LOAD", "SAVE", "SETUSER"},
        "MODULE": {"LOAD", "LOADEX", "UNLOAD"},
    }
    with Wire(server.address) as wire, Wire(redis_server.address) as redis_wire:
        for entry in wire("COMMAND"):
            name = entry[0].decode().upper()
            if not entry[9] or name in ("BRANCH", "SNAPSHOT"):
                continue
            if name == "CLUSTER":
                assert wire(name, "HELP") == redis_wire(name, "HELP")
                continue
            (first, mine, indents), (redis_first, theirs, redis_indents) = (
                words_of_help(one(name, "HELP")) for one in (wire, redis_wire)
            )
            assert (first, mine[-1], indents) == (redis_first, theirs[-1], redis_indents)
            assert set(theirs) - set(mine) == without.get(name, set()), name
            assert set(mine) - set(theirs) == later.get(name, set()), name


def test_the_doctor_is_meant_for_people(wire: Wire) -> None:
    """The reply is verbatim text in RESP3."""
    assert isinstance(wire("LATENCY", "DOCTOR"), Verbatim if wire.protocol == 3 else bytes)


# README's names for groups of Redis's commands that are entirely absent; for other groups it names each command.
LEFT_OUT = {
    "scripting": "scripting and functions",
}


def test_readme_names_what_is_absent(server, redis_server, ours: None) -> None:
    """README names every absent command, and no existing one."""
    text = (ROOT / "README.md").read_text().split("## What it does not do yet")[1].split("\n## ")[0]
    with Wire(server.address, 3) as mine, Wire(redis_server.address, 3) as theirs:
        present = {name.decode() for name in mine("COMMAND", "LIST")}
        groups = {name.decode(): doc[b"group"].decode() for name, doc in theirs("COMMAND", "DOCS").items()}
    absent = {name: group for name, group in groups.items() if name not in present}
    named = set(re.findall(r"[A-Z][A-Z_-]+[A-Z]", text)) - {"TLS", "RDB", "LL", "SETNAME"}
    assert {name.lower() for name in named} & present == set()
    assert {name for name, group in absent.items() if LEFT_OUT.get(group, name.upper()) not in text} == set()
