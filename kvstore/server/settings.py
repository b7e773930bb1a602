"""How a parameter's new value reaches the registers."""

from collections.abc import Callable

from kvstore.commands import accounts
from kvstore.durable.loading import Loading
from kvstore.durable.persistence import Persistence
from kvstore.effects.notifications import set_classes
from kvstore.lifetimes import connection
from kvstore.observe.slowlog import SlowLog
from kvstore.server.clientele import Clientele
from kvstore.server.logfile import set_level
from kvstore.server.stores import Stores
from kvstore.store.eviction import POLICIES, use_policy
from kvstore.system.descriptors import allow_clients
from mmcore.jit import Table

CLIENTS_LIMIT_MIN = 128 << 10  # [bytes], as in Redis: below it no client could talk to the server

APPLIED = [
    "maxmemory",
    "maxmemory-clients",
    "maxmemory-policy",
    "maxmemory-samples",
    "maxmemory-eviction-tenacity",
    "lfu-log-factor",
    "lfu-decay-time",
    "requirepass",
    "protected-mode",
    "timeout",
    "tcp-keepalive",
    "proto-max-bulk-len",
    "client-query-buffer-limit",
    "client-output-buffer-limit",
    "maxclients",
    "hz",
    "busy-poll-usec",
    "turn-budget-us",
    "read-aside-threshold",
    "active-expire-enabled",
    "active-defrag-ignore-bytes",
    "active-defrag-threshold-lower",
    "active-defrag-threshold-upper",
    "active-defrag-cycle-min",
    "active-defrag-cycle-max",
    "active-defrag-max-scan-fields",
    "activedefrag",
    "slowlog-max-len",
    "slowlog-log-slower-than",
    "latency-tracking",
    "save",
    "stop-writes-on-bgsave-error",
    "loglevel",
    "hash-max-listpack-entries",
    "hash-max-listpack-value",
    "set-max-intset-entries",
    "set-max-listpack-entries",
    "set-max-listpack-value",
    "zset-max-listpack-entries",
    "zset-max-listpack-value",
    "list-max-listpack-size",
    "stream-node-max-bytes",
    "stream-node-max-entries",
    "hll-sparse-max-bytes",
    "notify-keyspace-events",
    "tracking-table-max-keys",
]


class Settings(Clientele, Stores):
    """See the module's note.  A part of the server, whose attributes it names."""

    snapshots: Persistence
    slowlog: SlowLog
    loading: Loading | None
    _save_points: Table

    def apply(self, name: str) -> None:
        """Let the hot plane know of a parameter's new value.  Raises ValueError with the reason why not."""
        value = self.config[name]
        if name in _REGISTERS:
            register, unit = _REGISTERS[name]
            setattr(self.registers, register, unit * value)
        elif name in _ACTIONS:
            _ACTIONS[name](self)

    def _set_access(self) -> None:
        r, password = self.registers, self.config["requirepass"]
        if password and not r.REQUIRE_AUTH:  # a client that came before there was a password stays in
            for slot in self._slots_with(connection.IN_USE):
                self.shard.connections[slot, connection.FLAGS] |= connection.AUTHENTICATED
        r.REQUIRE_AUTH = bool(password)
        r.PROTECTED = bool(self.config["protected-mode"]) and not password

    def _set_output_limit(self) -> None:
        r, limits = self.registers, self.config["client-output-buffer-limit"]
        normal, pubsub = limits["normal"], limits["pubsub"]
        r.OUTPUT_HARD_LIMIT, r.OUTPUT_SOFT_LIMIT = normal.hard, normal.soft
        r.OUTPUT_SOFT_MS = 1000 * normal.soft_seconds
        r.PUBSUB_HARD_LIMIT, r.PUBSUB_SOFT_LIMIT = pubsub.hard, pubsub.soft
        r.PUBSUB_SOFT_MS = 1000 * pubsub.soft_seconds

    def _set_memory(self) -> None:
        r, of_clients = self.registers, self.config["maxmemory-clients"]
        r.MAXMEMORY = self.config["maxmemory"]
        if of_clients < 0:
            of_clients = r.MAXMEMORY * -of_clients // 100
        r.MAXMEMORY_CLIENTS = max(of_clients, CLIENTS_LIMIT_MIN) if of_clients else 0
        r.EVICTION_REST_MS = 0

    def _set_policy(self) -> None:
        use_policy(self.main, POLICIES[self.config["maxmemory-policy"]])

    def _set_save_points(self) -> None:
        points = Table.of(self.config["save"].points, 2)
        self._save_points = points  # the register holds its address only
        self.registers.SAVE_POINTS_ADDRESS = points.address
        self.registers.SAVE_POINTS = 0 if self.loading else len(points)  # nothing is saved over what is not there yet
        self.snapshots.refuse_writes()

    def _set_notifications(self) -> None:
        for context in self.stores():
            set_classes(context.registers, self.config["notify-keyspace-events"])

    def _set_tick(self) -> None:
        self.registers.TICK_MS = max(1, 1000 // self.config["hz"])

    def _set_reads_aside(self) -> None:
        self.registers.READ_ASIDE_OVER = self.config["read-aside-threshold"] or connection.NEVER

    def _set_maxclients(self) -> None:
        maxclients = self.config["maxclients"]
        most = min(allow_clients(maxclients), len(self.shard.connections))
        if most < maxclients:
            raise ValueError(
                f"The operating system is not able to handle the specified number of clients, try with {most}"
            )
        self.registers.MAXCLIENTS = maxclients

    def _set_slowness(self) -> None:
        # From how many microseconds on a command is of interest to the slow log or to the latency monitor.
        r, slow_us, slow_ms = (
            self.registers,
            self.config["slowlog-log-slower-than"],
            self.config["latency-monitor-threshold"],
        )
        r.SLOWLOG_US, r.LATENCY_MS = slow_us, slow_ms
        limits_us = [slow_us] * (slow_us >= 0) + [1000 * slow_ms] * (slow_ms > 0)
        r.SLOW_US = min(limits_us, default=connection.NEVER)
        accounts.measure_slowness(self.context)


# Parameters that are a register, and by how much a value is multiplied for it.
_REGISTERS = {
    "timeout": ("TIMEOUT_MS", 1000),
    "tcp-keepalive": ("KEEPALIVE_S", 1),
    "proto-max-bulk-len": ("PROTO_MAX_BULK_LEN", 1),
    "client-query-buffer-limit": ("QUERY_BUFFER_LIMIT", 1),
    "busy-poll-usec": ("BUSY_POLL_US", 1),
    "turn-budget-us": ("TURN_US", 1),
    "active-expire-enabled": ("ACTIVE_EXPIRE_ENABLED", 1),
    "active-defrag-ignore-bytes": ("DEFRAG_IGNORE_BYTES", 1),
    "active-defrag-threshold-lower": ("DEFRAG_THRESHOLD_LOWER", 1),
    "active-defrag-threshold-upper": ("DEFRAG_THRESHOLD_UPPER", 1),
    "active-defrag-cycle-min": ("DEFRAG_CYCLE_MIN", 1),
    "active-defrag-cycle-max": ("DEFRAG_CYCLE_MAX", 1),
    "active-defrag-max-scan-fields": ("DEFRAG_MAX_SCAN_FIELDS", 1),
    "activedefrag": ("ACTIVE_DEFRAG", 1),
    "latency-tracking": ("LATENCY_TRACKING", 1),
    "hash-max-listpack-entries": ("HASH_MAX_LISTPACK_ENTRIES", 1),
    "hash-max-listpack-value": ("HASH_MAX_LISTPACK_VALUE", 1),
    "set-max-intset-entries": ("SET_MAX_INTSET_ENTRIES", 1),
    "set-max-listpack-entries": ("SET_MAX_LISTPACK_ENTRIES", 1),
    "set-max-listpack-value": ("SET_MAX_LISTPACK_VALUE", 1),
    "zset-max-listpack-entries": ("ZSET_MAX_LISTPACK_ENTRIES", 1),
    "zset-max-listpack-value": ("ZSET_MAX_LISTPACK_VALUE", 1),
    "list-max-listpack-size": ("LIST_MAX_LISTPACK_SIZE", 1),
    "stream-node-max-bytes": ("STREAM_NODE_MAX_BYTES", 1),
    "stream-node-max-entries": ("STREAM_NODE_MAX_ENTRIES", 1),
    "hll-sparse-max-bytes": ("HLL_SPARSE_MAX_BYTES", 1),
    "tracking-table-max-keys": ("TRACKING_KEYS_MAX", 1),
    "maxmemory-samples": ("MAXMEMORY_SAMPLES", 1),
    "maxmemory-eviction-tenacity": ("EVICTION_TENACITY", 1),
    "lfu-log-factor": ("LFU_LOG_FACTOR", 1),
    "lfu-decay-time": ("LFU_DECAY_TIME", 1),
}
_ACTIONS: dict[str, Callable[[Settings], None]] = {
    "maxmemory": Settings._set_memory,
    "maxmemory-clients": Settings._set_memory,
    "maxmemory-policy": Settings._set_policy,
    "requirepass": Settings._set_access,
    "protected-mode": Settings._set_access,
    "bind": Settings._set_access,
    "client-output-buffer-limit": Settings._set_output_limit,
    "maxclients": Settings._set_maxclients,
    "hz": Settings._set_tick,
    "read-aside-threshold": Settings._set_reads_aside,
    "slowlog-max-len": lambda server: server.slowlog.resize(server.config["slowlog-max-len"]),
    "slowlog-log-slower-than": Settings._set_slowness,
    "latency-monitor-threshold": Settings._set_slowness,
    "notify-keyspace-events": Settings._set_notifications,
    "save": Settings._set_save_points,
    "stop-writes-on-bgsave-error": lambda server: server.snapshots.refuse_writes(),
    "dir": lambda server: server.snapshots.reconfigure(),
    "dbfilename": lambda server: server.snapshots.reconfigure(),
    "fork-mode": lambda server: server.snapshots.reconfigure(),
    "loglevel": lambda server: set_level(server.config["loglevel"]),
}
