"""COMMAND: the contents of the table of commands."""

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain, repeat
from typing import TYPE_CHECKING

from kvstore.commands.declaration import CATEGORIES, Command
from kvstore.commands.table import COMMANDS, ROWS, find, options, resolve
from kvstore.wire.keyspecs import Index, KeySpec, NoKeys, Range
from kvstore.wire.patterns import matching_names
from kvstore.wire.reply import CommandError, Raw, Reply, Set, Simple, encode
from kvstore.wire.syntax import Argument
from kvstore.wire.words import text

if TYPE_CHECKING:
    from kvstore.commands.coldplane import Client, Server


def _names(words: Iterable[str]) -> Set:
    return Set(Simple(one) for one in words)


def _key_specification(spec: KeySpec) -> dict[str, Reply]:
    told: dict[str, Reply] = {"notes": spec.notes} if spec.notes else {}
    told["flags"] = _names(spec.flags)
    if not spec.told or spec.begin is None:
        return told | {place: {"type": "unknown", "spec": {}} for place in ("begin_search", "find_keys")}
    if isinstance(spec.begin, Index):
        told["begin_search"] = {"type": "index", "spec": {"index": spec.begin.at}}
    else:
        keyword, start = spec.begin
        told["begin_search"] = {"type": "keyword", "spec": {"keyword": keyword, "startfrom": start}}
    if isinstance(spec.find, Range):
        last, step, limit = spec.find
        told["find_keys"] = {"type": "range", "spec": {"lastkey": last, "keystep": step, "limit": limit}}
    else:
        at, first, step = spec.find
        told["find_keys"] = {"type": "keynum", "spec": {"keynumidx": at, "firstkey": first, "keystep": step}}
    return told


def command_row(command: Command) -> Reply:
    """A command in the form of COMMAND and COMMAND INFO."""
    return [
        command.name,
        command.arity,
        _names(command.told_flags),
        *command.first_key_last_key_step,
        _names(f"@{category}" for category in command.categories),
        Set(command.tips),
        Set(_key_specification(spec) for spec in command.key_specs),
        [command_row(sub) for sub in command.subcommands] or Set(),  # as in Redis: an empty set, or an array
    ]


def _document_arguments(arguments: tuple[Argument, ...], keys: Iterator[int], patterns: int | None) -> Reply:
    described: list[Reply] = []
    for argument in arguments:
        fields: dict[str, Reply] = {"name": argument.name, "type": argument.type}
        if argument.type == "key":
            fields["key_spec_index"] = next(keys)
        if argument.type == "pattern" and patterns is not None:
            fields["key_spec_index"] = patterns
        if argument.token:
            fields["token"] = argument.token
        if argument.since:
            fields["since"] = argument.since
        if argument.deprecated_since:
            fields["deprecated_since"] = argument.deprecated_since
        flags = [flag for flag in ("optional", "multiple", "multiple_token") if getattr(argument, flag)]
        if flags:
            fields["flags"] = _names(flags)
        if argument.arguments:
            fields["arguments"] = _document_arguments(argument.arguments, keys, patterns)
        described.append(fields)
    return described


def _specifications(command: Command) -> tuple[Iterator[int], int | None]:
    # The numbers of the specifications of keys, in the order of the arguments that are keys, and that of patterns.
    specs = command.key_specs
    numbers = [number for number, spec in enumerate(specs) if spec.begin is not None]
    patterns = next((number for number, spec in enumerate(specs) if spec.begin is None), None)
    return chain(numbers, repeat(numbers[-1] if numbers else 0)), patterns


def document(command: Command) -> dict[str, Reply]:
    """A command in the form of COMMAND DOCS."""
    fields: dict[str, Reply] = {
        "summary": command.summary,
        "since": command.since,
        "group": command.group,
        "complexity": command.cost,
    }
    flags = [*(["deprecated"] if command.deprecated else []), *command.doc_flags]
    if flags:
        fields["doc_flags"] = _names(flags)
    if command.deprecated:
        fields["deprecated_since"], fields["replaced_by"] = command.deprecated
    if command.history:
        fields["history"] = Set([version, change] for version, change in command.history)
    if command.arguments:
        fields["arguments"] = _document_arguments(command.arguments, *_specifications(command))
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
    given = options(args)
    by = given["filterby"]
    if by == "module-name":
        return []
    if by == "category":
        category = text(given[by]).lower()
        return [row.name for row in ROWS if category in CATEGORIES and category in row.categories]
    return list(matching_names(text(given[by]), [row.name for row in ROWS]))


def _keys_of_command(args: list[bytes]) -> list[tuple[bytes, tuple[str, ...]]]:
    whole = args[2:]
    found = resolve(whole)
    if found is None:
        raise CommandError("ERR Invalid command specified")
    if not found.has_keys:
        raise CommandError("ERR The command has no key arguments")
    if not found.takes(len(whole)):
        raise CommandError("ERR Invalid number of arguments specified for command")
    try:
        return found.keys_in(whole)
    except NoKeys as error:
        raise CommandError("ERR Invalid arguments specified for command") from error


def command_getkeys(_server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    """COMMAND GETKEYS command [arg ...]"""
    return [key for key, _ in _keys_of_command(args)]


def command_getkeysandflags(_server: "Server", _client: "Client", args: list[bytes]) -> Reply:
    """COMMAND GETKEYSANDFLAGS command [arg ...]"""
    return [[key, _names(flags)] for key, flags in _keys_of_command(args)]


def prepare() -> None:
    """Encode the table ahead of time, so that the first COMMAND need not wait for that."""
    for protocol in (2, 3):
        all_rows(protocol)
        all_documents(protocol)
