"""The parameters, as data.

A parameter is a name as redis.conf spells it, a kind (kinds.py) that turns text into a value and back, and a default.

A parameter of Redis that this server has nothing to apply to is one of two things:

    ignored     it would change nothing that a client or its data could notice: accepted, kept for CONFIG GET, and said
                in the log.  IGNORED lists them with why
    refused     someone who sets it relies on something that is not given here, such as an append-only file, replicas
                or access control: only the value that means "without" is accepted, and the error says why
"""

import os
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from kvstore.config.file import split
from kvstore.config.kinds import (
    INT_MAX,
    INT_MIN,
    KEEPALIVE_MAX,
    LONG_MAX,
    MEGABYTE,
    OUTPUT_LIMITS,
    UINT_MAX,
    Choice,
    Directory,
    EventClasses,
    FileName,
    FilePath,
    Flag,
    Integer,
    Kind,
    MachineSize,
    Memory,
    MemoryOrPercentage,
    Octal,
    Only,
    OutputLimits,
    Percentiles,
    Points,
    Text,
    Words,
)
from snapshot.schedule import SavePoint, SavePoints

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
    Parameter("client-output-buffer-limit", OutputLimits(), OUTPUT_LIMITS),
    # memory
    Parameter("maxmemory", Memory(), 0),
    Parameter("maxmemory-clients", MemoryOrPercentage(), 0),
    Parameter("maxmemory-policy", Choice(_POLICIES), "noeviction"),
    Parameter("maxmemory-samples", Integer(1, INT_MAX), 5),
    Parameter("maxmemory-eviction-tenacity", Integer(0, 100), 10),
    Parameter("lfu-log-factor", Integer(0, INT_MAX), 10),
    Parameter("lfu-decay-time", Integer(0, INT_MAX), 1),  # minutes
    Parameter("machine-memory", MachineSize(), 0, mutable=False),  # size of the physical memory; 0: derived
    Parameter("databases", Only(Integer(1), 16, "there are always 16 databases"), 16, mutable=False),
    # moving data together
    Parameter("activedefrag", Flag(), False),
    Parameter("active-defrag-ignore-bytes", Memory(1), 100 * MEGABYTE),
    Parameter("active-defrag-threshold-lower", Integer(0, 1000), 10),  # percent
    Parameter("active-defrag-threshold-upper", Integer(0, 1000), 100),
    Parameter("active-defrag-cycle-min", Integer(1, 99), 1),  # percent of the time
    Parameter("active-defrag-cycle-max", Integer(1, 99), 25),
    Parameter("active-defrag-max-scan-fields", Integer(1, LONG_MAX), 1000),  # of a value, in one step
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
    Parameter("read-aside-threshold", Integer(0, LONG_MAX), 2500),  # elements that another thread reads; 0: never
    Parameter("active-expire-enabled", Flag(), True),
    # up to which size a collection has its small encoding
    Parameter("hash-max-listpack-entries", Integer(0, LONG_MAX), 512),
    Parameter("hash-max-listpack-value", Memory(), 64),
    Parameter("set-max-intset-entries", Integer(0, LONG_MAX), 512),
    Parameter("set-max-listpack-entries", Integer(0, LONG_MAX), 128),
    Parameter("set-max-listpack-value", Integer(0, LONG_MAX), 64),
    Parameter("zset-max-listpack-entries", Integer(0, LONG_MAX), 128),
    Parameter("zset-max-listpack-value", Memory(), 64),
    Parameter("list-max-listpack-size", Integer(INT_MIN, INT_MAX), -2),
    Parameter("stream-node-max-bytes", Memory(), 4096),  # of which a page is the most
    Parameter("stream-node-max-entries", Integer(0, LONG_MAX), 100),
    Parameter("hll-sparse-max-bytes", Memory(), 3000),  # of a HyperLogLog that stays sparse
    Parameter("list-compress-depth", Integer(0, INT_MAX), 0, ignored="the elements of lists are not compressed"),
    Parameter("tracking-table-max-keys", Integer(0, LONG_MAX), 1_000_000),  # that clients may hold in a cache
    # reports on commands
    Parameter("acllog-max-len", Integer(0, LONG_MAX), 128),
    Parameter("slowlog-log-slower-than", Integer(-1, LONG_MAX), 10000),
    Parameter("slowlog-max-len", Integer(0, LONG_MAX), 128),
    Parameter("latency-monitor-threshold", Integer(0, LONG_MAX), 0),
    Parameter("latency-tracking", Flag(), True),
    Parameter("latency-tracking-info-percentiles", Percentiles(), (50.0, 99.0, 99.9)),
    Parameter("enable-debug-command", _WHO, "no", mutable=False),
    Parameter("enable-protected-configs", _WHO, "no", mutable=False),
    # keyspace events
    Parameter("notify-keyspace-events", EventClasses(), ""),
    # features that do not exist here
    Parameter("appendonly", Only(Flag(), False, _NO_FILE), False),
    Parameter("aclfile", Only(Text(), "", _NO_ACL), "", mutable=False),
    Parameter("replicaof", Only(Text(), "", _NO_REPLICATION), "", mutable=False),
    Parameter("min-replicas-to-write", Only(Integer(), 0, _NO_REPLICATION), 0),
    Parameter("cluster-enabled", Only(Flag(), False, "cluster mode is not supported"), False, mutable=False),
    Parameter("daemonize", Only(Flag(), False, "the server stays in the foreground"), False, mutable=False),
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
    "memory is given back in bounded steps in any case": """
        lazyfree-lazy-eviction no  lazyfree-lazy-expire no  lazyfree-lazy-server-del no  lazyfree-lazy-user-del no
        lazyfree-lazy-user-flush no""",
    "images have a checksum for each chunk, and are not compressed": """
        rdbchecksum yes  rdbcompression yes  rdb-save-incremental-fsync yes  sanitize-dump-payload no""",
    "no other process is forked, and there is no other allocator": """
        activerehashing yes  bgsave_cpulist ""  disable-thp yes  jemalloc-bg-thread yes
        oom-score-adj no  oom-score-adj-values "0 200 800" """,
    "there is no such feature": """
        acl-pubsub-default resetchannels  busy-reply-threshold 5000  enable-module-command no
        locale-collate ""  bind-source-addr ""  socket-mark-id 0
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

REPEATED = ("save", "client-output-buffer-limit")  # each line of a file adds to those before it
MANY_WORDS = (*REPEATED, "bind", "latency-tracking-info-percentiles", "oom-score-adj-values", "replicaof")


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
