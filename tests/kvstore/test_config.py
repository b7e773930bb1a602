"""The configuration: values, files, the command line, CONFIG REWRITE."""

import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.config.config import Config, Refused
from kvstore.config.file import GENERATED, ConfigError, quote, split
from kvstore.config.kinds import EventClasses, OutputLimit, memory_text, parse_memory
from kvstore.config.parameters import ALIASES, IGNORED, PARAMETERS, nearest
from kvstore.lifetimes import shard
from kvstore.lifetimes.wiring import LIMITS, Shard
from kvstore.server.settings import APPLIED, Settings
from kvstore.wire.patterns import matching_names
from snapshot.schedule import SavePoints
from tests.mmcore.support import seeds

SPLIT = [
    ("", []),
    ("  a   b\t c ", ["a", "b", "c"]),
    ('a "b c" d', ["a", "b c", "d"]),
    (r'"\x41\n\t\"\\"', ['A\n\t"\\']),
    (r"'it\'s \n'", ["it's \\n"]),
    ('""', [""]),
    ("a''", ["a"]),
]


@pytest.mark.parametrize(("line", "expected"), SPLIT)
def test_a_line_is_split_into_words(line: str, expected: list[str]) -> None:
    assert split(line) == expected


@pytest.mark.parametrize("line", ['"a', "'a", '"a"b', "'a'b", '"\\"'])
def test_unbalanced_quotes_are_refused(line: str) -> None:
    with pytest.raises(ValueError, match="Unbalanced quotes"):
        split(line)


@given(st.lists(st.binary(max_size=12)))
def test_what_is_quoted_is_split_into_the_same(words: list[bytes]) -> None:
    texts = [word.decode(errors="surrogateescape") for word in words]
    assert split(" ".join(map(quote, texts))) == texts


MEMORY = [
    ("0", 0),
    ("100", 100),
    ("1k", 1000),
    ("1kb", 1024),
    ("2MB", 2 << 20),
    ("1g", 10**9),
    ("1Gb", 1 << 30),
    ("7b", 7),
]


@pytest.mark.parametrize(("text", "expected"), MEMORY)
def test_memory_has_units(text: str, expected: int) -> None:
    assert parse_memory(text) == expected


@pytest.mark.parametrize(
    "text", ["", "x", "-1", "1.5gb", "1tb", "5%", "9223372036854775808", "9999999999gb", " 1", "1 kb"]
)
def test_what_is_no_amount_of_memory_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="argument must be a memory value"):
        parse_memory(text)


EVENT_CLASSES = [
    ("", "", ""),
    ("KEA", "AKE", "AKE"),
    ("xE", "xE", "xE"),
    ("mEKzhslg$", "g$lshzKEm", "g$lshzKEm"),
    ("g$lshzxetdKE", "AKE", "AKE"),
    ("nmKE", "nKEm", "nKEm"),
    ("KEAmn", "AKEm", "AnKEm"),
    ("AAggK", "AK", "AK"),
]


@pytest.mark.parametrize(("text", "shown", "written"), EVENT_CLASSES)
def test_classes_of_events_are_shown_as_in_redis_and_written_in_full(text: str, shown: str, written: str) -> None:
    kind = EventClasses()
    value = kind.parse(text)
    assert (kind.text(value), kind.line(value)) == (shown, written)
    assert kind.parse(kind.line(value)) == value


@pytest.mark.parametrize("text", ["a", "K E", "KEAq", "\xff", "KE\0"])
def test_what_is_no_class_of_events_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"Invalid event class character\. Use 'Ag\$lshzxeKEtmdn'\."):
        EventClasses().parse(text)


def test_the_file_says_which_classes_are_published_though_redis_does_not_show_all(tmp_path: Path) -> None:
    file = tmp_path / "kvstore.conf"
    file.write_text("notify-keyspace-events KEA\n")
    config = Config.load(file)
    config.update([("notify-keyspace-events", "nAmK")])
    assert config.text("notify-keyspace-events") == "AKm"
    config.rewrite()
    assert file.read_text() == "notify-keyspace-events AnKm\n"
    assert Config.load(file)["notify-keyspace-events"] == config["notify-keyspace-events"]


@given(st.integers(0, 2**62))
def test_memory_is_written_in_the_unit_that_divides_it(count: int) -> None:
    assert parse_memory(memory_text(count)) == count


def test_every_default_is_a_value_of_its_kind() -> None:
    for name, row in PARAMETERS.items():
        assert row.kind.parse(row.kind.text(row.default)) == row.default, name
    assert set(ALIASES.values()) <= set(PARAMETERS)
    assert not set(ALIASES) & set(PARAMETERS)
    assert all(IGNORED)


ACCEPTED = [
    ("maxmemory", "2gb", 2 << 30, "2147483648"),
    ("maxmemory-policy", "NoEviction", "noeviction", "noeviction"),
    ("hz", "1000", 500, "500"),
    ("hz", "0", 1, "1"),
    ("tcp-keepalive", "32768", 32767, "32767"),
    ("save", f"{(2**63 - 1) // 1000} {2**63 - 1}", SavePoints.parse("9223372036854775 9223372036854775807"), None),
    ("maxmemory", str(2**63 - 1), 2**63 - 1, None),
    ("machine-memory", "0", 0, "0"),
    ("bind", "10.0.0.1 ::1", ("10.0.0.1", "::1"), "10.0.0.1 ::1"),
    ("unixsocketperm", "770", 0o770, "770"),
    ("protected-mode", "No", False, "no"),
    ("save", "900 1 300 10", SavePoints.parse("900 1 300 10"), "900 1 300 10"),
    ("save", "", SavePoints(), ""),
    ("dir", "/tmp/../tmp", "/tmp", "/tmp"),
    ("fork-mode", "CLASSIC", "classic", "classic"),
    ("appendonly", "no", False, "no"),
    ("slave-read-only", "no", False, "no"),
]


@pytest.mark.parametrize(("name", "text", "value", "shown"), ACCEPTED)
def test_a_value_is_read_and_shown(name: str, text: str, value: object, shown: str | None) -> None:
    config = Config.load(None, [(name, text)])
    name = ALIASES.get(name, name)
    assert config[name] == value
    assert config.text(name) == (text if shown is None else shown)


REFUSED = [
    ("timeout", "1.5", "argument couldn't be parsed into an integer"),
    ("timeout", "01", "argument couldn't be parsed into an integer"),
    ("timeout", "", "argument couldn't be parsed into an integer"),
    ("timeout", "-1", "argument must be between 0 and 2147483647 inclusive"),
    ("port", "65536", "argument must be between 0 and 65535 inclusive"),
    ("maxclients", "0", "argument must be between 1 and 4294967295 inclusive"),
    ("proto-max-bulk-len", "1", "argument must be between 1048576 and 4294967295 inclusive"),
    ("protected-mode", "1", "argument must be 'yes' or 'no'"),
    ("loglevel", "foo", "argument(s) must be one of the following: debug, verbose, notice, warning, nothing"),
    ("save", "10", "Invalid save parameters"),
    ("save", "0 1", "Invalid save parameters"),
    ("save", f"{10**20} 1", "Invalid save parameters"),
    ("save", f"{2**63 - 1} 1", "Invalid save parameters"),  # does not fit as milliseconds
    ("save", f"1 {2**63}", "Invalid save parameters"),
    ("save", "1" * 5000 + " 1", "Invalid save parameters"),
    ("timeout", "1" * 5000, "argument couldn't be parsed into an integer"),
    ("timeout", "-0", "argument couldn't be parsed into an integer"),
    ("maxmemory", str(2**64), "argument must be a memory value"),
    ("machine-memory", "4096", "argument must be 0, or between 16777216 and 70368744177664 inclusive"),
    ("machine-memory", str(2**63 - 1), "argument must be 0, or between 16777216 and 70368744177664 inclusive"),
    ("dir", "a\0b", "argument must be a path, without zero bytes"),
    ("logfile", "a\0b", "argument must be a path, without zero bytes"),
    ("unixsocket", "\0abstract", "argument must be a path, without zero bytes"),
    ("dbfilename", "a/b", "dbfilename can't be a path, just a filename"),
    ("unixsocketperm", "999", "argument couldn't be parsed into an octal number between 0 and 777"),
    ("appendonly", "maybe", "argument must be 'yes' or 'no'"),
    ("appendonly", "yes", "there is no append-only file; data are made durable by snapshots"),
    (
        "maxmemory-policy",
        "allkeys",
        "argument(s) must be one of the following: volatile-lru, volatile-lfu, volatile-random, "
        "volatile-ttl, allkeys-lru, allkeys-lfu, allkeys-random, noeviction",
    ),
    ("maxmemory-samples", "0", "argument must be between 1 and 2147483647 inclusive"),
    ("maxmemory-eviction-tenacity", "101", "argument must be between 0 and 100 inclusive"),
    ("replicaof", "host 1", "replication is not supported"),
    ("min-slaves-to-write", "1", "replication is not supported"),
    ("databases", "32", "there are always 16 databases"),
    ("tls-port", "6380", "TLS is not supported"),
    ("client-output-buffer-limit", "normal 0 0", "Wrong number of arguments in buffer limit configuration."),
    ("client-output-buffer-limit", "foo 0 0 0", "Invalid client class specified in buffer limit configuration."),
    (
        "client-output-buffer-limit",
        "normal 0 0 -1",
        "Error in hard, soft or soft_seconds setting in buffer limit configuration.",
    ),
]


@pytest.mark.parametrize(("name", "text", "why"), REFUSED)
def test_a_bad_value_is_refused_at_the_start_and_later(name: str, text: str, why: str) -> None:
    with pytest.raises(ConfigError) as at_start:
        Config.load(None, [(name, text)])
    assert str(at_start.value).endswith(f": {why}")
    assert name in str(at_start.value)
    if PARAMETERS[ALIASES.get(name, name)].mutable:
        config = Config()
        before = dict(config.values)
        with pytest.raises(Refused) as later:
            config.update([("hz", "20"), (name, text)], protected=True)
        assert (later.value.name, later.value.why) == (name, why)
        assert config.values == before


@pytest.mark.parametrize(
    ("name", "near"), [("prt", "port"), ("maxmemroy", "maxmemory"), ("max-clients", "maxclients"), ("zzzzz", "")]
)
def test_an_unknown_option_names_the_nearest_known_one(name: str, near: str) -> None:
    assert nearest(name) == near
    with pytest.raises(ConfigError, match=f"unknown option '{name}'" + (f"; did you mean '{near}'" if near else "$")):
        Config.load(None, [(name, "1")])


def test_output_limits_keep_the_classes_that_are_not_named() -> None:
    config = Config()
    config.update([("client-output-buffer-limit", "normal 1mb 512kb 60 slave 1 2 3")])
    limits = config["client-output-buffer-limit"]
    assert limits["normal"] == OutputLimit(1 << 20, 512 << 10, 60)
    assert limits["replica"] == OutputLimit(1, 2, 3)
    text = "normal 1048576 524288 60 slave 1 2 3 pubsub 33554432 8388608 60"
    assert config.text("client-output-buffer-limit") == text


def test_a_change_is_all_or_nothing_and_tells_what_was_before() -> None:
    config = Config()
    assert config.update([("timeout", "7"), ("HZ", "10"), ("maxmemory", "1kb")]) == {"timeout": 0, "maxmemory": 0}
    assert (config["timeout"], config["maxmemory"]) == (7, 1024)
    for pairs, name, why in [
        ([("timeout", "1"), ("timeout", "2")], "timeout", "duplicate parameter"),
        ([("timeout", "1"), ("port", "1")], "port", "can't set immutable config"),
        ([("timeout", "1"), ("dir", "/")], "dir", "can't set protected config"),
        ([("timeout", "1"), ("nosuch", "1")], "nosuch", ""),
    ]:
        with pytest.raises(Refused) as refused:
            config.update(pairs)
        assert (refused.value.name, refused.value.why) == (name, why)
        assert config["timeout"] == 7
    assert config.update([("dir", "/")], protected=True)


def test_parameters_without_effect_are_kept_and_noticed() -> None:
    config = Config.load(None, [("io-threads", "4"), ("slave-priority", "5"), ("activerehashing", "yes")])
    assert config.text("io-threads") == "4"
    assert config.notices == [
        "io-threads has no effect: one thread serves all connections",
        "replica-priority has no effect: replication is not supported",
    ]
    config.update([("list-compress-depth", "1")])
    assert config.notices[-1] == "list-compress-depth has no effect: the elements of lists are not compressed"


def test_limits_are_the_same_with_and_without_a_configuration() -> None:
    """Kernels that a test calls without a server have the registers that a server begins with."""
    words, server = Shard().registers, SimpleNamespace(config=Config(), registers=SimpleNamespace())
    limits = [
        name
        for name in PARAMETERS
        if any(
            part in name
            for part in (
                "-max-listpack-",
                "intset",
                "active-defrag-",
                "lfu-",
                "max-bulk-len",
                "stream-node",
                "hll-sparse",
            )
        )
        or name in ("maxmemory-samples", "maxmemory-eviction-tenacity")
    ]
    assert len(limits) == len(LIMITS) and set(limits) <= set(APPLIED)
    for name in limits:
        Settings.apply(server, name)  # type: ignore[arg-type]
    assert vars(server.registers) == {
        name: words[number] for name, number in vars(shard).items() if isinstance(number, int) and number in LIMITS
    }


def test_the_encodings_limits_reach_the_registers() -> None:
    server = SimpleNamespace(config=Config(), registers=SimpleNamespace())
    server.config.update([("hash-max-ziplist-value", "1kb"), ("list-max-ziplist-size", "-5")])
    for name in ("hash-max-listpack-value", "list-max-listpack-size"):
        Settings.apply(server, name)  # type: ignore[arg-type]
    assert vars(server.registers) == {"HASH_MAX_LISTPACK_VALUE": 1024, "LIST_MAX_LISTPACK_SIZE": -5}


def test_patterns_select_parameters() -> None:
    config = Config()
    assert config.matching(["port", "PROTO-max*", "nosuch"]) == {"port": "6379", "proto-max-bulk-len": "536870912"}
    assert config.matching(["slaveof"]) == {"slaveof": ""}
    everything = config.matching(["*"])
    assert set(PARAMETERS) | set(ALIASES) == set(everything)


GLOBS = [
    ("a*c", "abc", True),
    ("a*c", "abd", False),
    ("h?llo", "HELLO", True),
    ("h?llo", "hllo", False),
    ("h[ae]llo", "hello", True),
    ("h[^e]llo", "hello", False),
    ("h[a-c]llo", "hbllo", True),
    ("h[c-a]llo", "hbllo", True),
    (r"a\*", "a*", True),
    (r"a\*", "ab", False),
    ("[", "x", False),
    ("a.b", "axb", False),
    ("*" * 50 + "b", "a" * 50, False),
    ("*a" * 40 + "*[b]", "a" * 200, False),  # a regular expression would go on for ever
]


@pytest.mark.parametrize(("pattern", "text", "matches"), GLOBS)
def test_globs_are_redis_globs(pattern: str, text: str, matches: bool) -> None:
    assert matching_names(pattern, [text, text]) == [text, text] * matches


# -------------------------------------------------------------------------------------------------------------- files


def _file(directory: Path, text: str) -> Path:
    file = directory / "kvstore.conf"
    file.write_text(text)
    return file


def test_a_file_has_comments_quotes_repeated_lines_and_includes(tmp_path: Path) -> None:
    (tmp_path / "one.conf").write_text("timeout 5\nhz 20\n")
    file = _file(
        tmp_path,
        f"""# comment
  MaxMemory 64mb

requirepass 'se same'
save 900 1
save 300 10
bind 127.0.0.1 10.0.0.1
client-output-buffer-limit normal 1 2 3
client-output-buffer-limit pubsub 4 5 6
include {tmp_path}/*.conf.d {tmp_path}/one.conf
timeout 6
""",
    )
    config = Config.load(file, [("hz", "30")])
    assert config["maxmemory"] == 64 << 20
    assert config["requirepass"] == "se same"
    assert config.text("save") == "900 1 300 10"
    assert config["bind"] == ("127.0.0.1", "10.0.0.1")
    assert config["client-output-buffer-limit"]["normal"] == OutputLimit(1, 2, 3)
    assert config["client-output-buffer-limit"]["pubsub"] == OutputLimit(4, 5, 6)
    assert (config["timeout"], config["hz"]) == (6, 30)
    assert config.file == file


def test_an_empty_save_line_means_no_save_points(tmp_path: Path) -> None:
    assert Config.load(_file(tmp_path, 'save ""\n')).text("save") == ""
    assert Config.load(_file(tmp_path, 'save 900 1\nsave ""\nsave 60 2\n')).text("save") == "60 2"
    assert Config.load(_file(tmp_path, "")).text("save") == "3600 1 300 100 60 10000"


BAD_FILES = [
    ("timeout x\n", "line 1: timeout x: argument couldn't be parsed into an integer"),
    ("\n\nmaxmemroy 1\n", "line 3: unknown option 'maxmemroy'; did you mean 'maxmemory'"),
    ("timeout\n", "line 1: timeout: wrong number of arguments"),
    ("timeout 1 2\n", "line 1: timeout: wrong number of arguments"),
    ('requirepass "a\n', "line 1: Unbalanced quotes"),
    ("user alice on\n", "line 1: access control lists are not supported"),
    ("rename-command FLUSHALL x\n", "line 1: commands cannot be renamed"),
    ("include /nonexistent/file\n", "can't read the configuration file /nonexistent/file: No such file"),
]


@pytest.mark.parametrize(("text", "message"), BAD_FILES)
def test_a_bad_file_says_where_and_why(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        Config.load(_file(tmp_path, text))
    assert message in str(error.value)


def test_files_that_include_each_other_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "kvstore.conf"
    file.write_text(f"include {file}\n")
    with pytest.raises(ConfigError, match="include each other"):
        Config.load(file)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        Config.load(tmp_path / "nothing")


def test_rewriting_keeps_what_still_holds_and_changes_the_rest(tmp_path: Path) -> None:
    file = _file(
        tmp_path,
        """# the memory
maxmemory 1gb
  timeout 5
# snapshots
save 900 1

# more of them
save 300 10
io-threads 4
slave-priority 7
""",
    )
    config = Config.load(file, [("tcp-keepalive", "60")])
    config.update([("timeout", "9"), ("save", "60 1"), ("requirepass", 'a "b"\n')])
    config.rewrite()
    assert (
        file.read_text()
        == f"""# the memory
maxmemory 1gb
timeout 9
# snapshots
save 60 1

# more of them
io-threads 4
slave-priority 7
{GENERATED}
tcp-keepalive 60
requirepass "a \\"b\\"\\n"
"""
    )
    again = Config.load(file)
    assert again.values == config.values
    before = file.read_text()
    again.rewrite()
    assert file.read_text() == before
    again.update([("maxmemory", "100"), ("save", "1 2 3 4 5 6"), ("timeout", "0"), ("hz", "99")])
    again.rewrite()
    lines = file.read_text().splitlines()
    assert lines[1] == "maxmemory 100"
    assert lines[2] == "timeout 0"
    assert [line for line in lines if line.startswith("save")] == ["save 1 2", "save 3 4", "save 5 6"]
    assert lines.count(GENERATED) == 1
    assert lines[-1] == "hz 99"
    assert Config.load(file).values == again.values


# The place of an include among the lines, its contents, the change, and the values that must then be in effect.
INCLUDED = [
    ("include {at}/one.conf\ntimeout 3\n", "timeout 5\n"),
    ("timeout 3\ninclude {at}/one.conf\n", "timeout 5\n"),
    ("timeout 3\ninclude {at}/one.conf\ntimeout 4\n", "timeout 5\n"),
    ("include {at}/one.conf\n", "timeout 5\n"),
    ("include {at}/*.conf.d/*\ninclude {at}/one.conf\n", "TIMEOUT 5\ninclude {at}/two.conf\n"),
    ("save 900 1\ninclude {at}/one.conf\n", "save 300 10\n"),
    ("include {at}/one.conf\nsave 900 1\n", "save 300 10\nsave 60 5\n"),
    ("include {at}/one.conf\n", "save 300 10\n"),
    ("client-output-buffer-limit normal 1 2 3\ninclude {at}/one.conf\n", "client-output-buffer-limit normal 4 5 6\n"),
    ("slave-priority 5\ninclude {at}/one.conf\n", "replica-priority 6\n"),
]
SETTINGS = [
    {},
    {"timeout": "0"},
    {"timeout": "9", "save": "", "replica-priority": "100"},
    {"timeout": "5", "save": "300 10", "client-output-buffer-limit": "normal 0 0 0"},
    {"save": "1 2 3 4", "client-output-buffer-limit": "normal 7 8 9 pubsub 1 2 3", "slave-priority": "7"},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize(("main", "one"), INCLUDED)
def test_what_is_set_outlives_what_is_included(tmp_path: Path, main: str, one: str, settings: dict[str, str]) -> None:
    (tmp_path / "two.conf").write_text("hz 33\nreplica-priority 3\n")
    (tmp_path / "one.conf").write_text(one.format(at=tmp_path))
    file = _file(tmp_path, main.format(at=tmp_path))
    config = Config.load(file)
    config.update(settings.items())
    config.rewrite()
    assert Config.load(file).values == config.values
    assert [line for line in main.format(at=tmp_path).splitlines() if line.startswith("include")] == [
        line for line in file.read_text().splitlines() if line.startswith("include")
    ]
    before = file.read_text()
    config.rewrite()
    assert file.read_text() == before
    assert (tmp_path / "one.conf").read_text() == one.format(at=tmp_path)


def test_a_line_that_holds_stays_where_it_is_and_what_is_included_is_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "one.conf").write_text("hz 33\n")
    text = f"# first\n  MaxMemory 1gb\ninclude {tmp_path}/one.conf\n# last\nTimeout 7\n"
    file = _file(tmp_path, text)
    config = Config.load(file)
    config.rewrite()
    assert file.read_text() == text
    config.update([("hz", "20"), ("maxmemory", "2gb")])
    config.rewrite()
    assert file.read_text() == (
        f"# first\nmaxmemory 2gb\ninclude {tmp_path}/one.conf\n# last\nTimeout 7\n{GENERATED}\nhz 20\n"
    )


@pytest.mark.parametrize("seed", seeds(200))
def test_any_configuration_survives_being_rewritten(tmp_path: Path, seed: int) -> None:
    """Takes random files and includes, makes random changes, rewrites the file, and starts from it."""
    random = Random(seed)
    names = [f"{name}.conf" for name in "abc"]
    for depth, name in enumerate(names):
        (tmp_path / name).write_text(_random_lines(random, [f"{tmp_path}/{other}" for other in names[depth + 1 :]]))
    file = _file(tmp_path, _random_lines(random, [f"{tmp_path}/{name}" for name in names]))
    options = [_random_setting(random) for _ in range(random.randrange(3))]
    config = Config.load(file, options)
    for _ in range(3):
        config.update(dict(_random_setting(random) for _ in range(random.randrange(6))).items())
        config.rewrite()
        text = file.read_text()
        again = Config.load(file)
        assert again.values == config.values, f"seed {seed}:\n{text}"
        again.rewrite()
        assert file.read_text() == text, f"seed {seed}"
    assert all((tmp_path / name).exists() for name in names)


_RANDOM: dict[str, list[str]] = {
    "timeout": ["0", "5", "7"],
    "maxmemory": ["0", "1gb", "1000", "2mb"],
    "save": ["", "900 1", "300 10", "60 10000"],
    "client-output-buffer-limit": ["normal 0 0 0", "normal 1mb 2 3", "pubsub 4 5 6", "slave 7 8 9"],
    "requirepass": ["", "a b", 'q"uote', "\\back", "n\new", "\udcff", "#x"],
    "loglevel": ["debug", "notice", "nothing"],
    "hz": ["1", "10", "1000"],
    "slave-priority": ["100", "5"],
    "replica-priority": ["100", "6"],
    "oom-score-adj-values": ["0 200 800", "1 2 3"],
}


def _random_setting(random: Random) -> tuple[str, str]:
    name = random.choice([name for name in _RANDOM if name != "slave-priority"])
    return name, random.choice(_RANDOM[name])


def _random_lines(random: Random, includes: list[str]) -> str:
    lines = []
    for _ in range(random.randrange(9)):
        name = random.choice([*_RANDOM, "#", "", "include", "include"])
        if name == "include":
            if includes:
                lines.append(f"{random.choice(['include', 'INCLUDE'])} {random.choice(includes)}")
        elif name in _RANDOM:
            text = random.choice(_RANDOM[name])
            words = text if name.endswith(("limit", "values")) or (name == "save" and text) else quote(text)
            lines.append(f"{random.choice(['', '  '])}{random.choice([name, name.upper()])} {words}")
        else:
            lines.append(random.choice(["# a 'comment", "", '#requirepass "']))
    return "".join(f"{line}\n" for line in lines)


def test_a_rewrite_that_no_server_could_start_from_is_refused(tmp_path: Path) -> None:
    one = tmp_path / "one.conf"
    one.write_text("timeout 5\n")
    file = _file(tmp_path, f"include {one}\n")
    config = Config.load(file)
    one.unlink()
    with pytest.raises(ConfigError, match=f"can't read the configuration file {one}: No such file or directory"):
        config.rewrite()
    assert file.read_text() == f"include {one}\n"


def test_a_line_that_cannot_be_read_becomes_a_comment(tmp_path: Path) -> None:
    """Redis does the same."""
    file = _file(tmp_path, "timeout 5\n")
    config = Config.load(file)
    file.write_text('timeout 5\nrequirepass "a\n# "b\n')
    config.rewrite()
    assert file.read_text() == 'timeout 5\n# requirepass "a\n# "b\n'


def _no_rewrite(path: Path, make: Callable[[Path], object]) -> str:
    config = Config(file=path / "kvstore.conf")
    make(path / "kvstore.conf")
    config.update([("timeout", "5")])
    with pytest.raises(OSError) as error:
        config.rewrite()
    return str(error.value.strerror)


def test_a_file_that_cannot_be_rewritten_is_an_error_of_the_system(tmp_path: Path) -> None:
    """CONFIG REWRITE answers with the system's error message."""
    for name in "abcd":
        (tmp_path / name).mkdir()
    assert _no_rewrite(tmp_path / "a", Path.mkdir) == "Is a directory"
    assert _no_rewrite(tmp_path / "b", os.mkfifo) == "not a regular file"
    assert _no_rewrite(tmp_path / "c", lambda file: file.parent.rmdir()) == "No such file or directory"
    assert _no_rewrite(tmp_path / "d", lambda file: (file.parent.rmdir(), file.parent.touch())) == "Not a directory"


def test_rewriting_without_save_points_says_so(tmp_path: Path) -> None:
    file = _file(tmp_path, "save 900 1\nsave 300 10\n")
    config = Config.load(file)
    config.update([("save", "")])
    config.rewrite()
    assert file.read_text() == 'save ""\n'
    assert Config.load(file).text("save") == ""


def test_rewriting_keeps_permissions_and_follows_links_and_leaves_nothing_behind(tmp_path: Path) -> None:
    file = _file(tmp_path, "timeout 5\n")
    file.chmod(0o640)
    link = tmp_path / "link.conf"
    link.symlink_to(file)
    config = Config.load(link)
    config.update([("timeout", "6")])
    config.rewrite()
    assert link.is_symlink()
    assert file.read_text() == "timeout 6\n"
    assert file.stat().st_mode & 0o777 == 0o640
    assert sorted(os.listdir(tmp_path)) == ["kvstore.conf", "link.conf"]


def test_a_failed_rewrite_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = _file(tmp_path, "timeout 5\n")
    config = Config.load(file)
    config.update([("timeout", "6")])

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        config.rewrite()
    assert file.read_text() == "timeout 5\n"
    assert os.listdir(tmp_path) == ["kvstore.conf"]
