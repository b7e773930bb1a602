"""COMMAND, CONFIG, INFO, MEMORY, TIME, snapshots and SHUTDOWN: the commands about the server."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from kvstore.commands.allowed import is_allowed
from kvstore.commands.connection import SYNTAX_ERROR, text, word
from kvstore.commands.debug import debug as debug  # the table finds it here
from kvstore.commands.docs import Argument
from kvstore.commands.help import help_lines
from kvstore.commands.info import PAGE_SIZE, info_text, memory_figures, memory_ratios
from kvstore.commands.table import (
    CATEGORIES,
    COMMANDS,
    ROWS,
    Command,
    Keys,
    cold_handler,
    find,
    keys_of,
    resolve,
)
from kvstore.config.file import ConfigError
from kvstore.config.parameters import Refused
from kvstore.system.clock import wall_us
from kvstore.wire.errors import shown
from kvstore.wire.patterns import matching_names
from kvstore.wire.reply import NO_REPLY, OK, CommandError, Raw, Reply, Set, Simple, Verbatim, encode
from snapshot.errors import SnapshotError

if TYPE_CHECKING:
    from kvstore.commands.coldplane import Client, Server

log = logging.getLogger("kvstore")


def help_(_server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    """HELP of any container"""
    container = find(args[0])
    assert container is not None
    forms = [(f"{sub.own_name.upper()} {sub.doc.usage}".rstrip(), sub.doc.summary) for sub in container.subcommands]
    if container.cold:
        forms.insert(0, ("(no subcommand)", container.doc.summary))
    return help_lines(container.name, forms)


def module_list(_server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    """MODULE LIST: none can be loaded"""
    return []


# -------------------------------------------------------------------------------------------------------------- COMMAND


def _names(words: Iterable[str]) -> Set:
    return Set(Simple(one) for one in words)


def _key_specification(run: Keys) -> dict[str, Reply]:
    notes: dict[str, Reply] = {"notes": run.notes} if run.notes else {}
    return {
        **notes,
        "flags": _names(run.flags),
        "begin_search": {"type": "index", "spec": {"index": run.first}},
        "find_keys": {
            "type": "range",
            "spec": {
                "lastkey": run.last if run.last < 0 else run.last - run.first,
                "keystep": run.step,
                "limit": 0,
            },
        },
    }


def command_row(command: Command) -> Reply:
    """A command as COMMAND and COMMAND INFO have it."""
    return [
        command.name,
        command.arity,
        _names(command.flags),
        *command.first_key_last_key_step,
        _names(f"@{category}" for category in command.categories),
        Set(command.tips),
        Set(_key_specification(run) for run in command.keys),
        [command_row(sub) for sub in command.subcommands] or Set(),  # as Redis has it: an empty set, or an array
    ]


def _document_arguments(arguments: tuple[Argument, ...], keys: Iterator[int]) -> Reply:
    described: list[Reply] = []
    for argument in arguments:
        fields: dict[str, Reply] = {"name": argument.name, "type": argument.type}
        if not argument.arguments:
            fields["display_text"] = argument.name
        if argument.type == "key":
            fields["key_spec_index"] = next(keys, 0)
        if argument.token:
            fields["token"] = argument.token
        flags = [flag for flag in ("optional", "multiple") if getattr(argument, flag)]
        if flags:
            fields["flags"] = _names(flags)
        if argument.arguments:
            fields["arguments"] = _document_arguments(argument.arguments, keys)
        described.append(fields)
    return described


def document(command: Command) -> dict[str, Reply]:
    """A command as COMMAND DOCS has it."""
    doc = command.doc
    fields: dict[str, Reply] = {
        "summary": doc.summary,
        "since": doc.since,
        "group": command.group,
        "complexity": doc.complexity,
    }
    if doc.deprecated_since:
        fields["doc_flags"] = _names(["deprecated"])
        fields["deprecated_since"] = doc.deprecated_since
        fields["replaced_by"] = doc.replaced_by
    if doc.arguments:
        fields["arguments"] = _document_arguments(doc.arguments, iter(range(len(command.keys))))
    if command.subcommands:
        fields["subcommands"] = {sub.name: document(sub) for sub in command.subcommands}
    return fields


@cache
def encoded_row(name: str, protocol: int) -> Raw:
    """The row of a command, in RESP."""
    found = find(name.encode())
    assert found is not None
    return Raw(encode(command_row(found), protocol))


@cache
def encoded_document(name: str, protocol: int) -> Raw:
    """The description of a command, in RESP."""
    found = find(name.encode())
    assert found is not None
    return Raw(encode(document(found), protocol))


@cache
def all_rows(protocol: int) -> Raw:
    """The reply to COMMAND."""
    return Raw(encode([encoded_row(one.name, protocol) for one in COMMANDS], protocol))


@cache
def all_documents(protocol: int) -> Raw:
    """The reply to COMMAND DOCS."""
    return Raw(encode({one.name: encoded_document(one.name, protocol) for one in COMMANDS}, protocol))


def command(_server: "Server", client: "Client", _args: list[bytes]) -> Reply:
    """COMMAND"""
    return all_rows(client.protocol)


def command_count(_server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    """COMMAND COUNT"""
    return len(COMMANDS)


def command_info(_server: "Server", client: "Client", args: list[bytes]) -> Reply:
    """COMMAND INFO [command-name ...]"""
    if len(args) == 2:
        return all_rows(client.protocol)
    found = [find(name) for name in args[2:]]
    return [encoded_row(one.name, client.protocol) if one else None for one in found]


def command_docs(_server: "Server", client: "Client", args: list[bytes]) -> Reply:
    """COMMAND DOCS [command-name ...]"""
    if len(args) == 2:
        return all_documents(client.protocol)
    found = [find(name) for name in args[2:]]
    return {one.name: encoded_document(one.name, client.protocol) for one in found if one}


def command_list(_server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    """COMMAND LIST [FILTERBY MODULE module-name | ACLCAT category | PATTERN pattern]"""
    if len(args) == 2:
        return [row.name for row in ROWS]
    if len(args) != 5 or word(args, 2) != b"filterby":
        raise CommandError(SYNTAX_ERROR)
    by, value = word(args, 3), text(args[4])
    if by == b"module":
        return []
    if by == b"aclcat":
        category = value.lower()
        return [row.name for row in ROWS if category in CATEGORIES and category in row.categories]
    if by == b"pattern":
        return list(matching_names(value, [row.name for row in ROWS]))
    raise CommandError(SYNTAX_ERROR)


def _keys_of_command(args: list[bytes]) -> list[tuple[bytes, tuple[str, ...]]]:
    whole = args[2:]
    found = resolve(whole)
    if found is None:
        raise CommandError("ERR Invalid command specified")
    if not found.keys:
        raise CommandError("ERR The command has no key arguments")
    if not found.takes(len(whole)):
        raise CommandError("ERR Invalid number of arguments specified for command")
    return list(keys_of(found, whole))


def command_getkeys(_server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    """COMMAND GETKEYS command [arg ...]"""
    return [key for key, _ in _keys_of_command(args)]


def command_getkeysandflags(_server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    """COMMAND GETKEYSANDFLAGS command [arg ...]"""
    return [[key, _names(flags)] for key, flags in _keys_of_command(args)]


# --------------------------------------------------------------------------------------------------------------- CONFIG


def config_get(server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    """CONFIG GET parameter [parameter ...]"""
    return server.config.matching(text(pattern) for pattern in args[2:])


def config_set(server: "Server", client: "Client", args: list[bytes]) -> Reply:
    """CONFIG SET parameter value [parameter value ...]"""
    if len(args) % 2:
        raise CommandError(SYNTAX_ERROR)
    pairs = list(zip(map(text, args[2::2]), map(text, args[3::2]), strict=True))
    config = server.config
    noticed = len(config.notices)
    try:
        old = config.update(pairs, protected=is_allowed(server, client, "enable-protected-configs"))
    except Refused as refusal:
        if not refusal.why:
            name = shown(refusal.name.encode(errors="surrogateescape"))
            raise CommandError(f"ERR Unknown option or number of arguments for CONFIG SET - '{name}'") from refusal
        raise _not_set(refusal.name, refusal.why) from refusal
    for name in old:
        try:
            server.apply(name)
        except Exception as error:
            _take_back(server, old, name)
            del config.notices[noticed:]
            if isinstance(error, ValueError | OSError | SnapshotError):
                raise _not_set(name, _why(error)) from error
            raise
    for notice in config.notices[noticed:]:
        log.warning("CONFIG SET: %s", notice)
    return OK


def _take_back(server: "Server", old: Mapping[str, Any], refused: str) -> None:
    # Return to the values from before, each by itself: that one cannot be had back must not keep the others.
    server.config.values.update(old)
    for name in old:
        try:
            server.apply(name)
        except Exception:
            if name != refused:  # why that one cannot be set now is told anyway
                log.exception("CONFIG SET: %s is not what it was", name)


def _why(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _not_set(name: str, why: str) -> CommandError:
    return CommandError(f"ERR CONFIG SET failed (possibly related to argument '{name}') - {why}")


def config_resetstat(server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    """CONFIG RESETSTAT"""
    server.reset_statistics()
    return OK


def config_rewrite(server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    """CONFIG REWRITE"""
    if server.config.file is None:
        raise CommandError("ERR The server is running without a config file")
    try:
        server.config.rewrite()
    except (OSError, ConfigError) as error:
        log.warning("CONFIG REWRITE failed: %s", error)
        raise CommandError(f"ERR Rewriting config file: {_why(error)}") from error
    log.info("CONFIG REWRITE executed with success")
    return OK


# --------------------------------------------------------------------------------------------------- INFO, TIME, MEMORY


def info(server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    """INFO [section ...]"""
    return Verbatim(info_text(server, [text(name) for name in args[1:]]))


def time(server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    """TIME"""
    seconds, microseconds = divmod(wall_us(server.registers), 1_000_000)
    return [str(seconds), str(microseconds)]


def _keys(server: "Server") -> int:
    return sum(keys for keys, _, _ in server.db_sizes())


def memory_stats(server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    """MEMORY STATS"""
    of, keys = memory_figures(server), _keys(server)
    used, ratios = of["used"], memory_ratios(of)
    databases: dict[str, Reply] = {
        f"db.{number}": {
            "overhead.hashtable.main": of["index"] * held // keys,
            "overhead.hashtable.expires": 0,
            "overhead.hashtable.slot-to-keys": 0,
        }
        for number, (held, _, _) in enumerate(server.db_sizes())
        if held
    }
    return {
        "peak.allocated": of["peak"],
        "total.allocated": used,
        "startup.allocated": 0,
        "replication.backlog": 0,
        "clients.slaves": 0,
        "clients.normal": of["clients"],
        "cluster.links": 0,
        "aof.buffer": 0,
        "lua.caches": 0,
        "functions.caches": 0,
        **databases,
        "overhead.total": of["overhead"],
        "keys.count": keys,
        "keys.bytes-per-key": (of["heap"] + of["index"]) // keys if keys else 0,
        "dataset.bytes": of["dataset"],
        "dataset.percentage": 100 * of["dataset"] / used if used else 0.0,
        "peak.percentage": 100 * used / of["peak"] if of["peak"] else 0.0,
        "allocator.allocated": of["allocated"],
        "allocator.active": of["active"],
        "allocator.resident": of["resident"],
        "allocator-fragmentation.ratio": ratios.fragmentation.ratio,
        "allocator-fragmentation.bytes": ratios.fragmentation.bytes,
        "allocator-rss.ratio": ratios.kept.ratio,
        "allocator-rss.bytes": ratios.kept.bytes,
        "rss-overhead.ratio": ratios.overhead.ratio,
        "rss-overhead.bytes": ratios.overhead.bytes,
        "fragmentation": ratios.whole.ratio,
        "fragmentation.bytes": ratios.whole.bytes,
    }


def memory_doctor(server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    """MEMORY DOCTOR"""
    of, frames = memory_figures(server), server.frames()
    found = []
    if frames.free < frames.in_force // 10:
        share = 100 * frames.free / frames.in_force
        found.append(f"Only {share:.1f}% of the frames are free: raise machine-memory, or set maxmemory below it.")
    limit = server.config["maxmemory"]
    if limit and of["heap"] + of["index"] > 0.9 * limit:
        found.append("More than 90% of maxmemory is used: writes will soon be refused.")
    if of["clients"] > 100 << 20:
        found.append("Connections hold more than 100 MB of unread replies and unfinished commands: see CLIENT LIST.")
    if of["heap"] > 8 << 20 and of["active"] > 2 * (of["heap"] + of["index"]):
        found.append("Pages take twice what is kept in them: many keys were deleted, or a snapshot is being written.")
    return Verbatim("".join(f"* {line}\n" for line in found) or "No problems with memory were found.\n")


def memory_malloc_stats(server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    """MEMORY MALLOC-STATS"""
    usage, frames = server.usage(), server.frames()
    figures = {
        "frames": f"{frames.in_force} of {PAGE_SIZE} bytes, {frames.free} free, {frames.kept} of them kept",
        "heap": f"{usage.heap} bytes in live allocations",
        "index": f"{usage.indices} bytes",
        **server.space.counters,
    }
    return Verbatim("".join(f"{name}: {figure}\n" for name, figure in figures.items()))


def memory_purge(server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    """MEMORY PURGE"""
    server.purge()
    return OK


# --------------------------------------------------------------------------------------------------- snapshots, the end


def _reason(error: SnapshotError) -> CommandError:
    return CommandError(f"ERR {error}")


def save(server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    """SAVE"""
    if server.snapshots.running:
        raise CommandError("ERR Background save already in progress")
    try:
        server.snapshots.run_and_wait()
    except SnapshotError as error:
        raise _reason(error) from error
    return OK


def bgsave(server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    """BGSAVE [SCHEDULE], where its kernel could not begin one: the reason."""
    if len(args) > 2 or (len(args) == 2 and word(args, 1) != b"schedule"):
        raise CommandError(SYNTAX_ERROR)
    if server.snapshots.running:
        raise CommandError("ERR Background save already in progress")
    try:
        server.snapshots.start()
    except SnapshotError as error:
        raise _reason(error) from error
    return Simple("Background saving started")


def lastsave(server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
    """LASTSAVE"""
    return int(server.snapshots.last_save_unix_s)


def shutdown(server: "Server", client: "Client", args: list[bytes]) -> Reply:
    """SHUTDOWN [NOSAVE | SAVE] [NOW] [FORCE] [ABORT]"""
    flags = {arg.lower() for arg in args[1:]}
    if not flags <= {b"nosave", b"save", b"now", b"force", b"abort"} or {b"nosave", b"save"} <= flags:
        raise CommandError(SYNTAX_ERROR)
    if b"abort" in flags:
        if len(flags) > 1:
            raise CommandError(SYNTAX_ERROR)
        raise CommandError("ERR No shutdown in progress.")
    save_wanted = True if b"save" in flags else False if b"nosave" in flags else None
    log.info("User requested shutdown...")
    server.shutdown(save_wanted, b"force" in flags)
    client.close_after_reply = True  # what follows in the pipeline is not executed
    return NO_REPLY


def prepare() -> None:
    """Do ahead of time what the first use of a command would wait for."""
    for row in ROWS:
        cold_handler(row)
    for protocol in (2, 3):
        all_rows(protocol)
        all_documents(protocol)
