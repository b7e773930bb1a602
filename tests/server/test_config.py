r"""CONFIG GET, SET, RESETSTAT, REWRITE; options on the command line and in a file."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kvstore.config.config import Config
from kvstore.config.kinds import Choice, Directory, FileName, Flag, Integer, Only, OutputLimits, Points
from kvstore.config.parameters import PARAMETERS, Parameter
from tests import harness
from tests.harness import Process
from tests.server.wire import OK, Closed, Failure, Status, Wire, info, run_transcript

TRANSCRIPTS = {
    "get": r"""
        CONFIG GET appendonly -> {"appendonly": "no"}
        CONFIG GET nope -> {}
        CONFIG GET databases -> {"databases": "16"}
        CONFIG GET proto-max-bulk-len -> {"proto-max-bulk-len": "536870912"}
        CONFIG GET -> !ERR wrong number of arguments for 'config|get' command
        CONFIG -> !ERR wrong number of arguments for 'config' command
        CONFIG FOO -> !ERR unknown subcommand 'FOO'. Try CONFIG HELP.
    """,
    "set and get back": r"""
        CONFIG SET maxmemory 100mb -> OK
        CONFIG GET maxmemory -> {"maxmemory": "104857600"}
        CONFIG SET maxmemory 1GB -> OK
        CONFIG GET maxmemory -> {"maxmemory": "1073741824"}
        CONFIG SET maxmemory 1g -> OK
        CONFIG GET maxmemory -> {"maxmemory": "1000000000"}
        CONFIG SET maxmemory 0 -> OK
        CONFIG GET maxmemory -> {"maxmemory": "0"}
        CONFIG SET timeout 100 tcp-keepalive 200 -> OK
        CONFIG GET timeout tcp-keepalive -> any
        CONFIG SET timeout 0 tcp-keepalive 300 -> OK
        CONFIG SET save "100 10 60 10000" -> OK
        CONFIG GET save -> {"save": "100 10 60 10000"}
        CONFIG SET save "" -> OK
        CONFIG GET save -> {"save": ""}
        CONFIG SET stop-writes-on-bgsave-error no -> OK
        CONFIG GET stop-writes-on-bgsave-error -> {"stop-writes-on-bgsave-error": "no"}
        CONFIG SET stop-writes-on-bgsave-error YES -> OK
        CONFIG GET stop-writes-on-bgsave-error -> {"stop-writes-on-bgsave-error": "yes"}
        CONFIG SET TIMEOUT 0 -> OK
        CONFIG SET maxmemory-policy noeviction -> OK
        CONFIG GET maxmemory-policy -> {"maxmemory-policy": "noeviction"}
        CONFIG SET client-output-buffer-limit "normal 1mb 512kb 60" -> OK
        CONFIG SET client-output-buffer-limit "normal 0 0 0" -> OK
    """,
    "classes of events": r"""
        CONFIG SET notify-keyspace-events KEA -> OK
        CONFIG GET notify-keyspace-events -> {"notify-keyspace-events": "AKE"}
        CONFIG SET notify-keyspace-events mnEKzhslg$ -> OK
        CONFIG GET notify-keyspace-events -> {"notify-keyspace-events": "g$lshznKEm"}
        CONFIG SET notify-keyspace-events g$lshzxetdmnKE -> OK
        CONFIG GET notify-keyspace-events -> {"notify-keyspace-events": "AKEm"}
        CONFIG SET notify-keyspace-events "K E" -> !ERR CONFIG SET failed (possibly related to argument \
            'notify-keyspace-events') - Invalid event class character. Use 'Ag$lshzxeKEtmdn'.
        CONFIG GET notify-keyspace-events -> {"notify-keyspace-events": "AKEm"}
        CONFIG SET notify-keyspace-events "" -> OK
        CONFIG GET notify-keyspace-events -> {"notify-keyspace-events": ""}
    """,
    "set refuses": r"""
        CONFIG SET nope 1 -> !ERR Unknown option or number of arguments for CONFIG SET - 'nope'
        CONFIG SET timeout -> !ERR wrong number of arguments for 'config|set' command
        CONFIG SET timeout 1 nope -> !ERR syntax error
        CONFIG SET timeout x -> !ERR CONFIG SET failed (possibly related to argument 'timeout') - argument \
            couldn't be parsed into an integer
        CONFIG SET timeout -1 -> !ERR CONFIG SET failed (possibly related to argument 'timeout') - argument \
            must be between 0 and 2147483647 inclusive
        CONFIG SET maxmemory x -> !ERR CONFIG SET failed (possibly related to argument 'maxmemory') - argument \
            must be a memory value
        CONFIG SET stop-writes-on-bgsave-error maybe -> !ERR CONFIG SET failed (possibly related to argument \
            'stop-writes-on-bgsave-error') - argument must be 'yes' or 'no'
        CONFIG SET save x -> !ERR CONFIG SET failed (possibly related to argument 'save') - Invalid save parameters
        CONFIG SET save "1" -> !ERR CONFIG SET failed (possibly related to argument 'save') - Invalid save parameters
        CONFIG SET databases 20 -> !ERR CONFIG SET failed (possibly related to argument 'databases') - can't \
            set immutable config
        CONFIG SET timeout 1 timeout 2 -> !ERR CONFIG SET failed (possibly related to argument 'timeout') - \
            duplicate parameter
        CONFIG SET maxmemory-policy nope -> !ERR CONFIG SET failed (possibly related to argument \
            'maxmemory-policy') - argument(s) must be one of the following: ...
        CONFIG SET timeout 5 maxmemory x -> !ERR CONFIG SET failed (possibly related to argument 'maxmemory') - \
            argument must be a memory value
        CONFIG GET timeout -> {"timeout": "0"}
        CONFIG RESETSTAT x -> !ERR wrong number of arguments for 'config|resetstat' command
        CONFIG REWRITE x -> !ERR wrong number of arguments for 'config|rewrite' command
        CONFIG REWRITE -> !ERR The server is running without a config file
    """,
}


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_transcript(wire: Wire, name: str) -> None:
    """The transcript's replies are the server's."""
    save = settings(wire("CONFIG", "GET", "save"))[b"save"]
    try:
        run_transcript(wire, TRANSCRIPTS[name])
    finally:
        wire("CONFIG", "SET", "save", save)


def settings(reply: object) -> dict[bytes, bytes]:
    """The reply to CONFIG GET in either protocol."""
    if isinstance(reply, dict):
        return reply
    assert isinstance(reply, list)
    return dict(zip(reply[0::2], reply[1::2], strict=True))


def test_get_takes_patterns_and_several_names(wire: Wire) -> None:
    """Each setting comes once, even if several patterns match it."""
    found = settings(wire("CONFIG", "GET", "maxmem*", "timeout", "timeo*", "nope"))
    assert {b"maxmemory", b"maxmemory-policy", b"timeout"} <= set(found)
    everything = settings(wire("CONFIG", "GET", "*"))
    for name in (
        b"port bind dir maxmemory save requirepass timeout tcp-keepalive maxclients hz dbfilename appendonly "
        b"unixsocket logfile loglevel protected-mode stop-writes-on-bgsave-error client-output-buffer-limit "
        b"client-query-buffer-limit proto-max-bulk-len databases maxmemory-policy tcp-backlog"
    ).split():
        assert name in everything, name
    assert everything[b"port"].decode() == str(wire.socket.getpeername()[1])


ENCODINGS = [
    *("hash-max-listpack-entries", "hash-max-listpack-value", "set-max-intset-entries", "set-max-listpack-entries"),
    *("set-max-listpack-value", "zset-max-listpack-entries", "zset-max-listpack-value", "list-max-listpack-size"),
    *("list-compress-depth", "hash-max-ziplist-entries", "hash-max-ziplist-value", "zset-max-ziplist-entries"),
    *("zset-max-ziplist-value", "list-max-ziplist-size", "stream-node-max-bytes", "stream-node-max-entries"),
]
OF_VALKEY = {"set-max-listpack-entries", "set-max-listpack-value"}  # and of Redis 7.2


@pytest.mark.parametrize("name", ENCODINGS)
def test_limits_of_encodings_are_redis_own(
    wire: Wire, redis_server: Process, valkey_server: Process, name: str, ours: None
) -> None:
    """Sets right and wrong values by the new and the old name, and gets all names that there are."""
    theirs = (valkey_server if name in OF_VALKEY else redis_server).address
    with Wire(theirs, wire.protocol) as other:
        default = settings(wire("CONFIG", "GET", name))[name.encode()]
        for value in (default, b"0", b"7", b"-1", b"-6", b"1kb", b"x", b"1.5", b"2147483647", b"2147483648",
                      b"-2147483648", b"9223372036854775807", default):  # fmt: skip
            assert wire.raw("CONFIG", "SET", name, value) == other.raw("CONFIG", "SET", name, value), value
            one, two = (
                settings(each("CONFIG", "GET", "*list-*", "*-max-*list*", "set-max-*", "stream-*"))
                for each in (wire, other)
            )
            both = one.keys() & two.keys()
            assert {name.encode() for name in ENCODINGS} - both <= {name.encode() for name in OF_VALKEY}
            assert name.encode() in both
            assert {each: one[each] for each in both} == {each: two[each] for each in both}, value


def test_resetstat_clears_the_counters(wire: Wire) -> None:
    """It clears hits, misses, commands and errors."""
    wire("GET", "missing")
    wire("FOO")
    assert int(info(wire, "stats")["keyspace_misses"]) >= 1
    assert wire("CONFIG", "RESETSTAT") == OK
    stats = info(wire, "stats")
    assert stats["keyspace_misses"] == stats["keyspace_hits"] == stats["expired_keys"] == "0"
    assert int(stats["total_commands_processed"]) <= 2
    assert stats["total_error_replies"] == "0"
    assert "cmdstat_get" not in info(wire, "commandstats")
    assert "errorstat_ERR" not in info(wire, "errorstats")


def test_the_command_line_and_the_file_set_the_same_options(start, tmp_path) -> None:
    """The file is a redis.conf with comments, quotes, units and repeated lines; the command line wins."""
    directory = tmp_path / "data with a space"
    directory.mkdir()
    file = tmp_path / "redis.conf"
    file.write_text(
        f'# a comment\n\n  timeout 17\ndir "{directory}"\nmaxmemory 64mb\nsave 900 1\nsave 300 10\n'
        "client-output-buffer-limit normal 1mb 512kb 30\nmaxmemory-policy noeviction\nrequirepass 'se same'\n"
    )
    with (
        start(tmp_path, config=file, options=("--timeout", "18"), password="se same") as server,
        Wire(server.address) as wire,
    ):
        assert wire("PING") == Failure("NOAUTH Authentication required.")
        assert wire("AUTH", "se same") == OK
        found = settings(wire("CONFIG", "GET", "*"))
        assert found[b"timeout"] == b"18"
        assert found[b"dir"] == str(directory).encode()
        assert found[b"maxmemory"] == b"67108864"
        assert found[b"save"] == b"900 1 300 10"
        assert b"normal 1048576 524288 30" in found[b"client-output-buffer-limit"]
        assert wire("CONFIG", "SET", "timeout", 19, "maxmemory", "32mb", "save", "60 5") == OK
        assert wire("CONFIG", "REWRITE") == OK
    lines = file.read_text().splitlines()
    assert "# a comment" in lines
    assert "timeout 19" in [line.strip() for line in lines]
    assert "maxmemory 32mb" in lines
    assert "save 60 5" in lines
    assert not any(line.startswith("save 900") for line in lines)
    with start(tmp_path, config=file, password="se same") as server, Wire(server.address) as wire:
        assert wire("AUTH", "se same") == OK
        assert settings(wire("CONFIG", "GET", "timeout", "save")) == {b"timeout": b"19", b"save": b"60 5"}


def test_protected_mode_and_bind_have_redis_defaults(wire2: Wire) -> None:
    """The server listens on loopback only, and is protected."""
    assert settings(wire2("CONFIG", "GET", "protected-mode")) == {b"protected-mode": b"yes"}
    assert wire2("CONFIG", "SET", "protected-mode", "no") == OK
    assert wire2("CONFIG", "SET", "protected-mode", "yes") == OK
    assert wire2("PING") == Status("PONG")


# ----------------------------------------------------------------------------------- what is shown is what is in force

INT64_MAX = 2**63 - 1


def extremes(row: Parameter) -> list[str]:
    """Texts at the borders of a parameter's kind, legal ones and others."""
    kind = row.kind.kind if isinstance(row.kind, Only) else row.kind
    match kind:
        case Integer():
            ends = {kind.low, kind.high, *(kind.clamp or ()), INT64_MAX, 0, row.default}
            return [str(end + step) for end in sorted(ends) for step in (-1, 0, 1)] + [str(10**20), "1" * 5000, "x", ""]
        case Flag():
            return ["yes", "no", "maybe"]
        case Choice():
            return [*kind.words, kind.words[0].upper(), "nosuch", ""]
        case Points():
            most = f"{INT64_MAX // 1000} {INT64_MAX}"
            return [
                "",
                "1 0",
                most,
                f"{most} {most}",
                f"{INT64_MAX} 1",
                f"1 {INT64_MAX + 1}",
                f"{10**20} 1",
                "0 1",
                "1",
            ]
        case OutputLimits():
            return [f"{name} {INT64_MAX} {INT64_MAX} {2**31 - 1}" for name in ("normal", "slave", "pubsub")] + [
                f"normal {INT64_MAX + 1} 0 0",
                f"normal 0 0 {2**31}",
                "normal 1 1 0",
                "",
            ]
        case Directory():
            return ["/nonexistent/directory", "/dev/null", "a\0b", "", "."]
        case FileName():
            return ["x" * 300, "a/b", "", ".", "ok"]
    return ["", "x", "9" * 5000, "\0\r\n", "0 0 0", "-1", "0", "100", "50 99.9"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[harness.Process]:
    """A server of this project that allows changes of all mutable parameters."""
    if harness.TARGET != "kvstore":
        pytest.skip("of this server only")
    directory = tmp_path_factory.mktemp("plain")
    with harness.start(directory, options=("--enable-protected-configs", "yes")) as process:
        yield process


def internal_errors(replies: list[object]) -> list[object]:
    return [reply for reply in replies if isinstance(reply, Failure) and "internal error" in reply.text]


@pytest.mark.parametrize("name", [name for name, row in PARAMETERS.items() if row.mutable])
def test_any_value_is_in_force_or_refused(plain: harness.Process, name: str) -> None:
    """CONFIG GET shows the accepted value, commands are still served, and there is no internal error."""
    model, told = Config(), len(plain.log())
    with Wire(plain.address, timeout_s=120) as wire:
        before = settings(wire("CONFIG", "GET", name))[name.encode()]
        shown = before
        for text in extremes(PARAMETERS[name]):
            data = text.encode()
            reply = wire("CONFIG", "SET", name, data)
            if reply == OK:
                model.update([(name, text)], protected=True)
                shown = model.text(name).encode()
            else:
                assert isinstance(reply, Failure)
                assert reply.text.startswith(f"ERR CONFIG SET failed (possibly related to argument '{name}') - ")
            replies = wire.pipeline(
                [
                    ("CONFIG", "GET", name),
                    ("SET", "key", "value"),
                    ("SET", "other", "value", "PX", "1"),
                    ("GET", "key"),
                    ("INFO", "everything"),
                    ("CLIENT", "LIST"),
                    ("MEMORY", "STATS"),
                    ("MEMORY", "DOCTOR"),
                    ("COMMAND", "COUNT"),
                ]
            )
            assert internal_errors([reply, *replies]) == []
            assert settings(replies[0]) == {name.encode(): shown}, text[:80]
        assert wire("CONFIG", "SET", name, before) == OK
        assert wire("SET", "key", "value") == OK
    assert plain.process.poll() is None
    assert "Traceback" not in plain.log()[told:]


def test_what_is_refused_leaves_every_parameter_as_it_was(plain: harness.Process) -> None:
    """This includes a value that the system refuses after others were applied."""
    with Wire(plain.address) as wire:
        before = settings(wire("CONFIG", "GET", "*"))
        reply = wire("CONFIG", "SET", "hz", 20, "save", "1 1", "loglevel", "debug", "maxclients", 2**32 - 1)
        assert isinstance(reply, Failure)
        assert "argument 'maxclients') - The operating system is not able to handle" in reply.text
        assert settings(wire("CONFIG", "GET", "*")) == before
        wire("SET", "key", "value")
        assert info(wire, "server")["hz"] == before[b"hz"].decode()


def connect(address, stack: ExitStack) -> Wire | None:  # type: ignore[no-untyped-def]
    """A connection that is served, or None if there are too many."""
    wire = stack.enter_context(Wire(address))
    try:
        reply = wire("PING")
    except (Closed, ConnectionError):
        return None
    return wire if reply == Status("PONG") else None


def test_maxclients_can_be_raised_above_what_it_was_at_the_start(start, tmp_path: Path) -> None:
    """Exactly maxclients connections are served."""
    with ExitStack() as stack, start(tmp_path, options=("--maxclients", "3")) as server:
        wires = [connect(server.address, stack) for _ in range(4)]
        assert [wire is not None for wire in wires] == [True, True, True, False]
        first = wires[0]
        assert first is not None
        assert first("CONFIG", "SET", "maxclients", 8) == OK
        more = [connect(server.address, stack) for _ in range(6)]
        assert [wire is not None for wire in more] == [True] * 5 + [False]
        assert first("CONFIG", "SET", "maxclients", 2) == OK
        assert info(first, "clients")["maxclients"] == "2"
        assert connect(server.address, stack) is None
        assert [wire("PING") for wire in more[:5] if wire] == [Status("PONG")] * 5


def test_maxclients_is_what_the_limit_of_open_files_allows(start, tmp_path: Path) -> None:
    """As in Redis, the log and all displays of maxclients show the lower value."""
    with ExitStack() as stack, start(tmp_path, descriptors=60) as server:
        assert "Current maximum open files is 60. maxclients has been reduced to 28" in server.log()
        wires = [connect(server.address, stack) for _ in range(28)]
        assert all(wires)
        assert connect(server.address, stack) is None
        wire = wires[0]
        assert wire is not None
        assert settings(wire("CONFIG", "GET", "maxclients")) == {b"maxclients": b"28"}
        assert info(wire, "clients")["maxclients"] == "28"
        assert wire("CONFIG", "SET", "maxclients", 29) == Failure(
            "ERR CONFIG SET failed (possibly related to argument 'maxclients') - The operating system is not able to "
            "handle the specified number of clients, try with 28"
        )
        assert wire("CONFIG", "SET", "maxclients", 27) == OK
        assert wire("CONFIG", "SET", "maxclients", 28) == OK
        assert wire("SET", "k", "v") == OK
        assert wire("SAVE") == OK  # with the files that a snapshot needs
        assert wire("CONFIG", "GET", "port") is not None


def test_without_save_points_a_failed_snapshot_refuses_no_writes(start, tmp_path: Path) -> None:
    """As in Redis, this also holds if the save points are removed after the failure."""
    data = tmp_path / "data"
    data.mkdir()
    with start(data, save="3600 1") as server, Wire(server.address) as wire:
        if server.is_redis:
            pytest.skip("Redis holds its working directory open")
        assert wire("SET", "k", "v") == OK
        data.rename(tmp_path / "away")
        assert isinstance(wire("SAVE"), Failure)
        refused = wire("SET", "k", "v")
        assert isinstance(refused, Failure)
        assert refused.text.startswith("MISCONF ")
        assert wire("CONFIG", "SET", "save", "") == OK
        assert wire("SET", "k", "v") == OK
        assert wire("CONFIG", "SET", "save", "3600 1") == OK
        assert wire("SET", "k", "v") == refused


def test_an_internal_error_is_answered_logged_and_counted(ours: None, tmp_path: Path) -> None:
    """A command raises an exception, and another returns an object that is not a reply."""
    with harness.Process("kvstore", tmp_path, program="tests.server.broken") as server, Wire(server.address) as wire:
        assert wire("TIME") == Failure("ERR internal error: ZeroDivisionError")
        assert wire("LASTSAVE") == Failure("ERR internal error: TypeError")
        assert wire("PING") == Status("PONG")
        assert info(wire, "errorstats")["errorstat_ERR"] == "count=2"
        calls = info(wire, "commandstats")
        for name in ("time", "lastsave"):
            assert "calls=1," in calls[f"cmdstat_{name}"]
            assert calls[f"cmdstat_{name}"].endswith("rejected_calls=0,failed_calls=1")
        log = server.log()
        assert "# b'TIME' failed" in log
        assert "ZeroDivisionError: a bug" in log
        assert "# b'LASTSAVE' failed" in log


def test_a_rewrite_with_includes_is_in_force_at_the_next_start(start, tmp_path: Path) -> None:
    """Changed values override included ones, both above and below the include."""
    above, below, file = (tmp_path / name for name in ("above.conf", "below.conf", "server.conf"))
    above.write_text("hz 20\nsave 900 1\n")
    below.write_text("timeout 5\n")
    file.write_text(f"dir {tmp_path}\ninclude {above}\ntimeout 7\nsave 300 10\ninclude {below}\n")
    names = (b"timeout", b"hz", b"save")
    with start(tmp_path, config=file) as server, Wire(server.address) as wire:
        if server.is_redis:
            pytest.skip("Redis loses what is set here")
        assert settings(wire("CONFIG", "GET", *names)) == dict(zip(names, (b"5", b"20", b"900 1 300 10"), strict=True))
        assert wire("CONFIG", "SET", "timeout", 9, "hz", 10, "save", "60 5") == OK
        assert wire("CONFIG", "REWRITE") == OK
    with start(tmp_path, config=file) as server, Wire(server.address) as wire:
        assert settings(wire("CONFIG", "GET", *names)) == dict(zip(names, (b"9", b"10", b"60 5"), strict=True))
