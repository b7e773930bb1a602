"""The configuration: every parameter, as data, and the values in effect.

A parameter is a name, as in redis.conf, a kind that turns text into a value and back, and a default.  Values come from
a configuration file, from the command line, and later from CONFIG SET.  All three use the same kinds, so a value that
one refuses is refused by the others, for the same reason, in Redis's words.

Parameters of Redis that do not apply to this server are of two sorts:

    ignored     clients and their data could not notice it: accepted, kept for CONFIG GET, and mentioned in the log.
                IGNORED lists them with the reasons
    refused     its user relies on a feature that does not exist here, such as an append-only file, replicas or access
                control: only the value that means "without" is accepted, and the error gives the reason

    config = Config.load(Path("kvstore.conf"), [("port", "7000")])
    config["maxmemory"]                                     a value: int, bool, str, ... as the kind has it
    config.text("maxmemory")                                as CONFIG GET answers it
    config.update([("hz", "20"), ("timeout", "60")])        all or none
"""

import errno
import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from kvstore.config import file as configfile
from kvstore.config.file import ConfigError, quote, split
from kvstore.wire.patterns import matching_names
from snapshot.errors import BadSavePoints
from snapshot.schedule import SavePoint, SavePoints

INT_MAX, UINT_MAX, LONG_MAX = 2**31 - 1, 2**32 - 1, 2**63 - 1
MEGABYTE = 1 << 20
KEEPALIVE_MAX = 32767  # [s] TCP_KEEPIDLE takes no more

# ------------------------------------------------------------------------------------------------------- kinds of value


class Kind(Protocol):
    """The textual form of a parameter's values."""

    def parse(self, text: str) -> Any:
        """The value; raises ValueError with the error in the text."""

    def text(self, value: Any) -> str:
        """The text that `parse` reads."""


class Text:
    """Any text."""

    def parse(self, text: str) -> str:
        return text

    def text(self, value: str) -> str:
        return value


class FilePath(Text):
    """The path of a file; it must not have a zero byte."""

    def parse(self, text: str) -> str:
        if "\0" in text:
            raise ValueError("argument must be a path, without zero bytes")
        return text


class Integer:
    """A whole number from `low` to `high`; one outside of `clamp` counts as the nearer end of that."""

    def __init__(self, low: int = 0, high: int = INT_MAX, clamp: tuple[int, int] | None = None) -> None:
        self.low, self.high, self.clamp = low, high, clamp

    def parse(self, text: str) -> int:
        if not re.fullmatch(r"0|-?[1-9][0-9]{0,18}", text, re.ASCII):
            raise ValueError("argument couldn't be parsed into an integer")
        return self.within(int(text))

    def within(self, value: int) -> int:
        if not self.low <= value <= self.high:
            raise ValueError(f"argument must be between {self.low} and {self.high} inclusive")
        return min(max(value, self.clamp[0]), self.clamp[1]) if self.clamp else value

    def text(self, value: int) -> str:
        return str(value)


class Memory(Integer):
    """A number of bytes, with or without a unit: 1k is 1000 bytes, 1kb is 1024."""

    def __init__(self, low: int = 0, high: int = LONG_MAX, clamp: tuple[int, int] | None = None) -> None:
        super().__init__(low, high, clamp)

    def parse(self, text: str) -> int:
        return self.within(parse_memory(text))


class MachineSize(Memory):
    """A number of bytes for the physical memory; with 0 the server chooses."""

    def __init__(self) -> None:
        super().__init__(16 * MEGABYTE, 1 << 46)

    def within(self, value: int) -> int:
        if value and not self.low <= value <= self.high:
            raise ValueError(f"argument must be 0, or between {self.low} and {self.high} inclusive")
        return value


_UNITS = {"": 1, "b": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30}


def parse_memory(text: str) -> int:
    """The number of bytes that "100", "1kb" or "2gb" says; raises ValueError."""
    match = re.fullmatch(r"([0-9]{1,19})([a-z]*)", text, re.ASCII | re.IGNORECASE)
    unit = _UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None or int(match[1]) * unit > LONG_MAX:
        raise ValueError("argument must be a memory value")
    return int(match[1]) * unit


def memory_text(count: int) -> str:
    """A number of bytes in the largest unit that divides it: the inverse of `parse_memory`."""
    for unit in ("gb", "mb", "kb"):
        if count and count % _UNITS[unit] == 0:
            return f"{count // _UNITS[unit]}{unit}"
    return str(count)


class Flag:
    """yes or no."""

    def parse(self, text: str) -> bool:
        if text.lower() not in ("yes", "no"):
            raise ValueError("argument must be 'yes' or 'no'")
        return text.lower() == "yes"

    def text(self, value: bool) -> str:
        return "yes" if value else "no"


class Choice(NamedTuple):
    """One of several words."""

    words: tuple[str, ...]

    def parse(self, text: str) -> str:
        if text.lower() not in self.words:
            raise ValueError(f"argument(s) must be one of the following: {', '.join(self.words)}")
        return text.lower()

    def text(self, value: str) -> str:
        return value


class Octal:
    """File permissions."""

    def parse(self, text: str) -> int:
        if not re.fullmatch("[0-7]{1,4}", text, re.ASCII) or int(text, 8) > 0o777:
            raise ValueError("argument couldn't be parsed into an octal number between 0 and 777")
        return int(text, 8)

    def text(self, value: int) -> str:
        return f"{value:o}"


class Words:
    """Any number of words."""

    def parse(self, text: str) -> tuple[str, ...]:
        return tuple(text.split())

    def text(self, value: tuple[str, ...]) -> str:
        return " ".join(value)


class Points:
    """Save points: pairs of seconds and changes."""

    def parse(self, text: str) -> SavePoints:
        try:
            return SavePoints.parse(text)
        except BadSavePoints as error:
            raise ValueError("Invalid save parameters") from error

    def text(self, value: SavePoints) -> str:
        return str(value)


class Percentiles:
    """Any number of percentages."""

    def parse(self, text: str) -> tuple[float, ...]:
        try:
            values = tuple(float(word) for word in text.split())
        except ValueError:
            raise ValueError("Invalid latency-tracking-info-percentiles parameters") from None
        if not all(0 <= value <= 100 for value in values):
            raise ValueError("latency-tracking-info-percentiles parameters should sit between [0.0,100.0]")
        return values

    def text(self, value: tuple[float, ...]) -> str:
        return " ".join(map(percentage_text, value))


def percentage_text(value: float) -> str:
    """A percentage in as few digits as it needs."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


class Directory(FilePath):
    """A directory, made absolute when it is read."""

    def parse(self, text: str) -> str:
        if not text:
            raise ValueError(os.strerror(errno.ENOENT))
        return os.path.abspath(super().parse(text))


class FileName:
    """The name of a file, without a directory."""

    def parse(self, text: str) -> str:
        if not text or "/" in text or "\0" in text or text.startswith("."):
            raise ValueError("dbfilename can't be a path, just a filename")
        return text

    def text(self, value: str) -> str:
        return value


class OutputLimit(NamedTuple):
    """The limit of a client's unsent replies [bytes]; 0 is no limit."""

    hard: int
    soft: int
    soft_seconds: int  # for which the soft limit may be exceeded


class OutputLimits:
    """Output limits by class of client; a class not named keeps its default."""

    def parse(self, text: str) -> dict[str, OutputLimit]:
        words = text.split()
        if not words or len(words) % 4:
            raise ValueError("Wrong number of arguments in buffer limit configuration.")
        limits = dict(_OUTPUT_LIMITS)
        for name, hard, soft, seconds in zip(*[iter(words)] * 4, strict=True):
            name = {"slave": "replica"}.get(name.lower(), name.lower())
            if name not in limits:
                raise ValueError("Invalid client class specified in buffer limit configuration.")
            try:
                limits[name] = OutputLimit(parse_memory(hard), parse_memory(soft), Integer().parse(seconds))
            except ValueError as error:
                message = "Error in hard, soft or soft_seconds setting in buffer limit configuration."
                raise ValueError(message) from error
        return limits

    def text(self, value: Mapping[str, OutputLimit]) -> str:
        # Redis still answers the class's old name here.
        return " ".join(
            f"{'slave' if name == 'replica' else name} {limit.hard} {limit.soft} {limit.soft_seconds}"
            for name, limit in value.items()
        )


_OUTPUT_LIMITS = {
    "normal": OutputLimit(0, 0, 0),
    "replica": OutputLimit(256 * MEGABYTE, 64 * MEGABYTE, 60),
    "pubsub": OutputLimit(32 * MEGABYTE, 8 * MEGABYTE, 60),
}


class Only(NamedTuple):
    """A kind with a single accepted value; others are refused with the reason."""

    kind: Kind
    served: Any
    why: str

    def parse(self, text: str) -> Any:
        value = self.kind.parse(text)
        if value != self.served:
            raise ValueError(self.why)
        return value

    def text(self, value: Any) -> str:
        return self.kind.text(value)


# ---------------------------------------------------------------------------------------------------- the parameters


class Parameter(NamedTuple):
    """A row: one parameter."""

    name: str
    kind: Kind
    default: Any
    mutable: bool = True  # CONFIG SET may change it
    protected: bool = False  # CONFIG SET needs the permission of enable-protected-configs
    ignored: str = ""  # why it has no effect


_POLICIES: tuple[str, ...] = ("volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl")
_POLICIES += ("allkeys-lru", "allkeys-lfu", "allkeys-random", "noeviction")
_WHO = Choice(("no", "yes", "local"))

_NO_FILE = "there is no append-only file; data are made durable by snapshots"
_NO_REPLICATION = "replication is not supported"
_NO_ACL = "access control lists are not supported; requirepass is"

SERVED = (
    # network
    Parameter("bind", Words(), ("127.0.0.1", "-::1"), mutable=False),
    Parameter("port", Integer(0, 65535), 6379, mutable=False),
    Parameter("unixsocket", FilePath(), "", mutable=False),
    Parameter("unixsocketperm", Octal(), 0, mutable=False),
    Parameter("tcp-backlog", Integer(), 511, mutable=False),
    Parameter("tcp-keepalive", Integer(clamp=(0, KEEPALIVE_MAX)), 300),
    Parameter("timeout", Integer(), 0),
    Parameter("maxclients", Integer(1, UINT_MAX), 10000),
    Parameter("protected-mode", Flag(), True),
    Parameter("requirepass", Text(), ""),
    Parameter("proto-max-bulk-len", Memory(MEGABYTE, UINT_MAX), 512 * MEGABYTE),
    Parameter("client-query-buffer-limit", Memory(MEGABYTE), 1024 * MEGABYTE),
    Parameter("client-output-buffer-limit", OutputLimits(), _OUTPUT_LIMITS),
    # memory
    Parameter("maxmemory", Memory(), 0),
    Parameter("maxmemory-policy", Only(Choice(_POLICIES), "noeviction", "only noeviction is supported"), "noeviction"),
    Parameter("machine-memory", MachineSize(), 0, mutable=False),  # size of the physical memory; 0: derived
    Parameter("databases", Only(Integer(1), 16, "there are always 16 databases"), 16, mutable=False),
    # snapshots
    Parameter("dir", Directory(), os.path.abspath("."), protected=True),
    Parameter("dbfilename", FileName(), "dump", protected=True),  # prefix of the names of images
    Parameter("save", Points(), SavePoints((SavePoint(3600, 1), SavePoint(300, 100), SavePoint(60, 10000)))),
    Parameter("fork-mode", Choice(("constant", "on-demand", "classic")), "constant"),
    Parameter("stop-writes-on-bgsave-error", Flag(), True),
    # the server
    Parameter("loglevel", Choice(("debug", "verbose", "notice", "warning", "nothing")), "notice"),
    Parameter("logfile", FilePath(), "", mutable=False),
    Parameter("hz", Integer(clamp=(1, 500)), 10),
    Parameter("busy-poll-usec", Integer(0, 1000), 20),  # for which the loop looks for requests before it sleeps
    Parameter("turn-budget-us", Integer(), 1000),  # of pipelines, before others are served
    Parameter("active-expire-enabled", Flag(), True),
    # reports on commands
    Parameter("acllog-max-len", Integer(0, LONG_MAX), 128),
    Parameter("slowlog-log-slower-than", Integer(-1, LONG_MAX), 10000),
    Parameter("slowlog-max-len", Integer(0, LONG_MAX), 128),
    Parameter("latency-monitor-threshold", Integer(0, LONG_MAX), 0),
    Parameter("latency-tracking", Flag(), True),
    Parameter("latency-tracking-info-percentiles", Percentiles(), (50.0, 99.0, 99.9)),
    Parameter("enable-debug-command", _WHO, "no", mutable=False),
    Parameter("enable-protected-configs", _WHO, "no", mutable=False),
    # features that do not exist here
    Parameter("appendonly", Only(Flag(), False, _NO_FILE), False),
    Parameter("aclfile", Only(Text(), "", _NO_ACL), "", mutable=False),
    Parameter("replicaof", Only(Text(), "", _NO_REPLICATION), "", mutable=False),
    Parameter("min-replicas-to-write", Only(Integer(), 0, _NO_REPLICATION), 0),
    Parameter("cluster-enabled", Only(Flag(), False, "cluster mode is not supported"), False, mutable=False),
    Parameter("daemonize", Only(Flag(), False, "the server stays in the foreground"), False, mutable=False),
    Parameter("maxmemory-clients", Only(Text(), "0", "eviction of clients is not supported"), "0"),
    Parameter("tls-port", Only(Integer(0, 65535), 0, "TLS is not supported"), 0),
)

# Parameters without effect, with Redis's defaults, by the reason.
IGNORED = {
    "there is no append-only file": """
        aof-disable-auto-gc no  aof-load-truncated yes  aof-rewrite-incremental-fsync yes  aof-timestamp-enabled no
        aof-use-rdb-preamble yes  aof_rewrite_cpulist ""  appenddirname appendonlydir  appendfilename appendonly.aof
        appendfsync everysec  auto-aof-rewrite-min-size 67108864  auto-aof-rewrite-percentage 100
        no-appendfsync-on-rewrite no""",
    "replication is not supported": """
        masterauth ""  masteruser ""  min-replicas-max-lag 10  rdb-del-sync-files no  repl-backlog-size 1048576
        repl-backlog-ttl 3600  repl-disable-tcp-nodelay no  repl-diskless-load disabled  repl-diskless-sync yes
        repl-diskless-sync-delay 5  repl-diskless-sync-max-replicas 0  repl-ping-replica-period 10  repl-timeout 60
        replica-announce-ip ""  replica-announce-port 0  replica-announced yes  replica-ignore-disk-write-errors no
        replica-ignore-maxmemory yes  replica-lazy-flush no  replica-priority 100  replica-read-only yes
        replica-serve-stale-data yes  propagation-error-behavior ignore""",
    "cluster mode is not supported": """
        cluster-allow-pubsubshard-when-down yes  cluster-allow-reads-when-down no
        cluster-allow-replica-migration yes  cluster-announce-bus-port 0  cluster-announce-hostname ""
        cluster-announce-human-nodename ""  cluster-announce-ip ""  cluster-announce-port 0
        cluster-announce-tls-port 0  cluster-config-file nodes.conf  cluster-link-sendbuf-limit 0
        cluster-migration-barrier 1  cluster-node-timeout 15000  cluster-port 0
        cluster-preferred-endpoint-type ip  cluster-replica-no-failover no  cluster-replica-validity-factor 10
        cluster-require-full-coverage yes""",
    "TLS is not supported": """
        tls-auth-clients yes  tls-ca-cert-dir ""  tls-ca-cert-file ""  tls-cert-file ""  tls-ciphers ""
        tls-ciphersuites ""  tls-client-cert-file ""  tls-client-key-file ""  tls-client-key-file-pass ""
        tls-cluster no  tls-dh-params-file ""  tls-key-file ""  tls-key-file-pass ""  tls-prefer-server-ciphers no
        tls-protocols ""  tls-replication no  tls-session-cache-size 20480  tls-session-cache-timeout 300
        tls-session-caching yes""",
    "keys are not evicted": """
        lfu-decay-time 1  lfu-log-factor 10  maxmemory-eviction-tenacity 10  maxmemory-samples 5""",
    "memory is given back in bounded steps in any case": """
        lazyfree-lazy-eviction no  lazyfree-lazy-expire no  lazyfree-lazy-server-del no  lazyfree-lazy-user-del no
        lazyfree-lazy-user-flush no""",
    "images have a checksum for each chunk, and are not compressed": """
        rdbchecksum yes  rdbcompression yes  rdb-save-incremental-fsync yes  sanitize-dump-payload no""",
    "no other process is forked, and there is no other allocator": """
        active-defrag-cycle-max 25  active-defrag-cycle-min 1  active-defrag-ignore-bytes 104857600
        active-defrag-max-scan-fields 1000  active-defrag-threshold-lower 10  active-defrag-threshold-upper 100
        activedefrag no  activerehashing yes  bgsave_cpulist ""  disable-thp yes  jemalloc-bg-thread yes
        oom-score-adj no  oom-score-adj-values "0 200 800" """,
    "only strings are stored": """
        hash-max-listpack-entries 512  hash-max-listpack-value 64  hll-sparse-max-bytes 3000  list-compress-depth 0
        list-max-listpack-size -2  set-max-intset-entries 512  set-max-listpack-entries 128
        set-max-listpack-value 64  stream-node-max-bytes 4096  stream-node-max-entries 100
        zset-max-listpack-entries 128  zset-max-listpack-value 64""",
    "there is no such feature": """
        acl-pubsub-default resetchannels  busy-reply-threshold 5000  enable-module-command no
        locale-collate ""  notify-keyspace-events ""  tracking-table-max-keys 1000000  bind-source-addr ""
        socket-mark-id 0
        crash-log-enabled no  crash-memcheck-enabled no  syslog-enabled no  syslog-facility local0
        syslog-ident redis  always-show-logo no  set-proc-title no  supervised no
        proc-title-template "{title} {listen-addr} {server-mode}"  pidfile ""  ignore-warnings ""
        shutdown-on-sigint default  shutdown-on-sigterm default  shutdown-timeout 10""",
    "one thread serves all connections": """
        bio_cpulist ""  server_cpulist ""  dynamic-hz no  active-expire-effort 1  io-threads 1
        io-threads-do-reads no""",
}

# Directives of Redis that are not parameters.
REFUSED = {
    "user": _NO_ACL,
    "loadmodule": "modules are not supported",
    "rename-command": "commands cannot be renamed",
}

_FORMER_NAMES = """
    cluster-slave-no-failover cluster-slave-validity-factor hash-max-ziplist-entries hash-max-ziplist-value
    list-max-ziplist-size min-slaves-max-lag min-slaves-to-write repl-ping-slave-period slave-announce-ip
    slave-announce-port slave-ignore-maxmemory slave-lazy-flush slave-priority slave-read-only slave-serve-stale-data
    slaveof zset-max-ziplist-entries zset-max-ziplist-value
"""
ALIASES = {name: name.replace("slave", "replica").replace("ziplist", "listpack") for name in _FORMER_NAMES.split()}
ALIASES["lua-time-limit"] = "busy-reply-threshold"


def _ignored() -> Iterable[Parameter]:
    for why, listed in IGNORED.items():
        words = split(" ".join(listed.split("\n")))
        for name, default in zip(words[::2], words[1::2], strict=True):
            kind: Kind = Text()
            if default in ("yes", "no") and name not in ("supervised", "oom-score-adj"):
                kind = Flag()
            elif re.fullmatch("-?[0-9]+", default) and not name.endswith(("size", "limit", "len", "bytes")):
                kind = Integer(-LONG_MAX, LONG_MAX)
            yield Parameter(name, kind, kind.parse(default), ignored=why)


PARAMETERS: dict[str, Parameter] = {parameter.name: parameter for parameter in (*SERVED, *_ignored())}

_REPEATED = ("save", "client-output-buffer-limit")  # each line of a file adds to those before it
_MANY_WORDS = (*_REPEATED, "bind", "latency-tracking-info-percentiles", "oom-score-adj-values", "replicaof")


def parameter(name: str) -> Parameter | None:
    """The parameter of this name or of its old name in Redis, in upper or lower case."""
    name = name.lower()
    return PARAMETERS.get(ALIASES.get(name, name))


def nearest(name: str) -> str:
    """The parameter that `name` most likely misspells, or nothing."""
    import difflib  # here, because names are seldom misspelt

    return next(iter(difflib.get_close_matches(name.lower(), [*PARAMETERS, *ALIASES], 1, 0.5)), "")


def unknown(name: str) -> str:
    """The error for a name that no parameter has."""
    near = nearest(name)
    return f"unknown option {name!r}" + (f"; did you mean {near!r}?" if near else "")


class Refused(Exception):
    """A refused change of the configuration: the parameter, and the reason."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name}: {why}")
        self.name, self.why = name, why


class Config:
    """The values in effect, by parameter."""

    def __init__(self, file: Path | None = None) -> None:
        self.values: dict[str, Any] = {row.name: row.default for row in PARAMETERS.values()}
        self.file = file  # where CONFIG REWRITE writes to
        self.notices: list[str] = []  # settings without effect, for the log

    @classmethod
    def load(cls, file: Path | None = None, options: Iterable[tuple[str, str]] = ()) -> "Config":
        """The configuration of a file, if one is given, and of options from the command line, which override it.

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
        if not arguments or (len(arguments) > 1 and row.name not in _MANY_WORDS):
            raise ConfigError(f"{where}: {name}: wrong number of arguments")
        text = " ".join(arguments)
        if repeated is not None and row.name in _REPEATED and text:
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
            else:  # a plain name, in which a backslash is not special, as in Redis
                matching = [pattern.lower()] if pattern.lower() in names else []
            found.update({name: self.text(names[name]) for name in matching})
        return found

    def update(self, pairs: Iterable[tuple[str, str]], protected: bool = False) -> dict[str, Any]:
        """Change parameters, all of them or none; returns the old values, by name, of those that changed.

        Protected parameters are changed only if `protected` is set.  Raises Refused; a name that no parameter has is
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

        There must be a file.  Raises OSError; or ConfigError when no server could start from it, because an included
        file is missing or has an error.
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
        # Lines that replace the settings of earlier lines instead of adding to them.
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
        if name in _MANY_WORDS and text:
            return [f"{name} {text}"]
        if isinstance(PARAMETERS[name].kind, Memory):
            return [f"{name} {memory_text(value)}"]
        return [f"{name} {quote(text)}"]
