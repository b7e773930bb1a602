r"""CONFIG GET, SET, RESETSTAT, REWRITE; options on the command line and in a file."""

import pytest

from tests.server.wire import OK, Failure, Status, Wire, info, run_transcript

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
    """CONFIG GET in either protocol."""
    if isinstance(reply, dict):
        return reply
    assert isinstance(reply, list)
    return dict(zip(reply[0::2], reply[1::2], strict=True))


def test_get_takes_patterns_and_several_names(wire: Wire) -> None:
    """Each setting once, whatever of them matches it."""
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


def test_resetstat_clears_the_counters(wire: Wire) -> None:
    """Hits, misses, commands, errors."""
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
    """A redis.conf: comments, quotes, units, repeated lines; the command line wins."""
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
    """Loopback only, and protected."""
    assert settings(wire2("CONFIG", "GET", "protected-mode")) == {b"protected-mode": b"yes"}
    assert wire2("CONFIG", "SET", "protected-mode", "no") == OK
    assert wire2("CONFIG", "SET", "protected-mode", "yes") == OK
    assert wire2("PING") == Status("PONG")
