"""The configuration: the values of all parameters.

Values come from a configuration file, from the command line, and later from CONFIG SET.  All three go through the same
kinds, so a value that is refused in one place is refused in the others, for the same reason, in Redis's words.

    config = Config.load(Path("kvstore.conf"), [("port", "7000")])
    config["maxmemory"]                                     a value: int, bool, str, ... as the kind has it
    config.text("maxmemory")                                as CONFIG GET answers it
    config.update([("hz", "20"), ("timeout", "60")])        all or none
"""

import errno
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from kvstore.config import file as configfile
from kvstore.config.file import ConfigError, quote
from kvstore.config.kinds import EventClasses, Memory, memory_text
from kvstore.config.parameters import (
    ALIASES,
    MANY_WORDS,
    PARAMETERS,
    REFUSED,
    REPEATED,
    Parameter,
    parameter,
    unknown,
)
from kvstore.wire.patterns import matching_names


class Refused(Exception):
    """A change of the configuration that is not made: because of which parameter, and why."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name}: {why}")
        self.name, self.why = name, why


class Config:
    """The values in effect, by parameter."""

    def __init__(self, file: Path | None = None) -> None:
        self.values: dict[str, Any] = {row.name: row.default for row in PARAMETERS.values()}
        self.file = file  # where CONFIG REWRITE writes to
        self.notices: list[str] = []  # what was set and has no effect, for the log

    @classmethod
    def load(cls, file: Path | None = None, options: Iterable[tuple[str, str]] = ()) -> "Config":
        """The configuration of a file, if one is given, and of options from the command line, which go before it.

        Raises ConfigError.
        """
        config = cls(file=file.absolute() if file else None)
        if file:
            config._read(configfile.read(file))
        for name, text in options:
            config._set(f"--{name}", name, [text])
        return config

    def _read(self, directives: Iterable[configfile.Directive]) -> None:
        repeated: set[str] = set()
        for directive in directives:
            self._set(directive.where, directive.name, directive.arguments, repeated)

    def _set(self, where: str, name: str, arguments: Sequence[str], repeated: set[str] | None = None) -> None:
        row = parameter(name)
        if row is None:
            raise ConfigError(f"{where}: {REFUSED.get(name) or unknown(name)}")
        if not arguments or (len(arguments) > 1 and row.name not in MANY_WORDS):
            raise ConfigError(f"{where}: {name}: wrong number of arguments")
        text = " ".join(arguments)
        if repeated is not None and row.name in REPEATED and text:
            if row.name in repeated:
                text = f"{self.text(row.name)} {text}"
            repeated.add(row.name)
        try:
            self.values[row.name] = row.kind.parse(text)
        except ValueError as error:
            raise ConfigError(f"{where}: {name} {quote(text)}: {error}") from error
        self._note(row)

    def _note(self, row: Parameter) -> None:
        if row.ignored and self.values[row.name] != row.default:
            self.notices.append(f"{row.name} has no effect: {row.ignored}")

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def text(self, name: str) -> str:
        """A value as text, as CONFIG GET answers it."""
        return PARAMETERS[name].kind.text(self.values[name])

    def matching(self, patterns: Iterable[str]) -> dict[str, str]:
        """The parameters whose names match one of these patterns, with their values as text."""
        found: dict[str, str] = {}
        names = {name: name for name in PARAMETERS} | ALIASES
        for pattern in dict.fromkeys(patterns):
            if any(special in pattern for special in "[*?"):
                matching = matching_names(pattern, names)
            else:  # a name, backslashes and all, as in Redis
                matching = [pattern.lower()] if pattern.lower() in names else []
            found.update({name: self.text(names[name]) for name in matching})
        return found

    def update(self, pairs: Iterable[tuple[str, str]], protected: bool = False) -> dict[str, Any]:
        """Change parameters, all of them or none; returns the values they had, by name, of those that changed.

        `protected` parameters are changed only when that is set.  Raises Refused; a name that no parameter has is
        refused without a reason.
        """
        new: dict[str, Any] = {}
        for name, text in pairs:
            row = parameter(name)
            if row is None:
                raise Refused(name, "")
            if not row.mutable:
                raise Refused(name, "can't set immutable config")
            if row.protected and not protected:
                raise Refused(name, "can't set protected config")
            if row.name in new:
                raise Refused(name, "duplicate parameter")
            try:
                new[row.name] = row.kind.parse(text)
            except ValueError as error:
                raise Refused(name, str(error)) from error
        old = {name: self.values[name] for name, value in new.items() if value != self.values[name]}
        self.values.update(new)
        for name in old:
            self._note(PARAMETERS[name])
        return old

    def rewrite(self) -> None:
        """Bring the file up to date, so that a server that starts from it has the values in effect.

        There must be a file.  Raises OSError, or ConfigError when no server could start from it: an included file is
        missing, or there is an error in one.
        """
        assert self.file is not None
        old = self._old_lines()
        current = {name: self._lines(name) for name in PARAMETERS}
        if configfile.has_line(old, "save", [""]):
            current["save"] = self._fresh_save()
        at_end: dict[str, list[str]] = {}
        while True:
            new = configfile.rewritten(old, current, lambda name: ALIASES.get(name, name), self._holds, at_end)
            found = Config()
            found._read(configfile.read_lines(self.file, new))
            wrong = [name for name in PARAMETERS if found.values[name] != self.values[name]]
            if not wrong:
                break
            for name in wrong:
                if name not in at_end:
                    at_end[name] = current[name]
                elif name == "save" and at_end[name] != self._fresh_save():
                    at_end[name] = self._fresh_save()
                else:
                    raise ConfigError(f"{name} {quote(self.text(name))} cannot be stated in a file")
        configfile.replace_file(self.file, "".join(f"{line}\n" for line in new))

    def _fresh_save(self) -> list[str]:
        # Lines that do not add to those before them.
        return ['save ""', *(self._lines("save") if self.values["save"].points else [])]

    def _old_lines(self) -> list[str]:
        # A pipe is not waited for.
        assert self.file is not None
        try:
            mode = self.file.stat().st_mode
        except FileNotFoundError:
            return []
        if stat.S_ISDIR(mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "not a regular file")
        return configfile.lines_of(self.file)

    def _holds(self, name: str, arguments: list[str]) -> bool:
        try:
            return bool(PARAMETERS[name].kind.parse(" ".join(arguments)) == self.values[name])
        except ValueError:
            return False

    def _lines(self, name: str) -> list[str]:
        value, text = self.values[name], self.text(name)
        if name == "save" and value.points:
            return [f"save {point.seconds} {point.changes}" for point in value.points]
        if name == "client-output-buffer-limit":
            words = text.split()
            return [" ".join([name, *words[at : at + 4]]) for at in range(0, len(words), 4)]
        if name in MANY_WORDS and text:
            return [f"{name} {text}"]
        kind = PARAMETERS[name].kind
        if isinstance(kind, Memory) and value >= 0:
            return [f"{name} {memory_text(value)}"]
        if isinstance(kind, EventClasses):
            return [f"{name} {quote(kind.line(value))}"]
        return [f"{name} {quote(text)}"]
