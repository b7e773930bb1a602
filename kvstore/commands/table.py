"""Every command, as a row of one table.

A row says what a command is called, how many arguments it takes, what it does to which keys, and who serves it.  The
loop admits commands by it, COMMAND and HELP are printed from it, INFO counts by it.

    arity       number of arguments with the name, as Redis counts; negative: at least so many
    flags       Redis's names for what the command may do, and when it may run
    keys        where the keys stand among the arguments, and what happens to them
    hot         a kernel serves it: HANDLERS of a module of kernels has it: see `hot_handlers`
    cold        "module:function" below kvstore.commands, for a command that Python serves; without a function it is the
                one of the command's name.  A hot command has one too when its kernel leaves some of its forms to
                Python, which it says by returning 1

What the arguments are called and what the command is for is in docs.py, under the same names.

A command with subcommands is a container: its row admits it, its subcommand's row says the rest.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

from kvstore.commands.docs import Doc, docs
from kvstore.commands.secrets import SECRETS
from kvstore.wire.errors import SHOWN_MAX, shown
from kvstore.wire.reply import CommandError, Reply

if TYPE_CHECKING:
    from kvstore.commands.coldplane import Client, Server

    ColdHandler = Callable[[Server, Client, list[bytes]], Reply]

_CATEGORY_OF_GROUP = {
    "string": "string",
    "generic": "keyspace",
    "transactions": "transaction",
    "connection": "connection",
}
_CATEGORIES_OF_FLAG = {
    "write": ("write",),
    "readonly": ("read",),
    "admin": ("admin", "dangerous"),
    "fast": ("fast",),
}
_CATEGORIES = """
    keyspace read write set sortedset list hash string bitmap hyperloglog geo stream pubsub admin fast slow blocking
    dangerous connection transaction scripting
"""
CATEGORIES = tuple(_CATEGORIES.split())  # of Redis's ACLs; those of types that are not served have no commands


@dataclass(frozen=True)
class Keys:
    """A run of keys among the arguments: each `step`th from `first` to `last`; below 0 that counts from the end."""

    first: int
    last: int
    step: int
    flags: tuple[str, ...]  # RO, RW, OW or RM, and what is done with the value: access, update, insert, delete
    notes: str = ""

    def positions(self, count: int) -> range:
        """Indices of the keys in a command of `count` arguments."""
        last = count + self.last if self.last < 0 else self.last
        return range(self.first, last + 1, self.step)


@dataclass(frozen=True)
class Command:
    """A row: a command, or a subcommand named "container|subcommand"."""

    name: str
    arity: int
    flags: tuple[str, ...]
    group: str
    keys: tuple[Keys, ...] = ()
    tips: tuple[str, ...] = ()
    more_categories: tuple[str, ...] = ()
    category_of_group: bool = True  # whether it belongs to the category that its group stands for
    hot: bool = False
    cold: str = ""
    subcommands: tuple["Command", ...] = ()

    @property
    def doc(self) -> Doc:
        """What the command is for, and how it is written."""
        return docs()[self.name]

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """The ACL categories the command belongs to, without their @."""
        found = set(self.more_categories)
        for flag in self.flags:
            found.update(_CATEGORIES_OF_FLAG.get(flag, ()))
        if "fast" not in found:
            found.add("slow")
        if not self.subcommands and self.category_of_group and self.group in _CATEGORY_OF_GROUP:
            found.add(_CATEGORY_OF_GROUP[self.group])
        return tuple(category for category in CATEGORIES if category in found)

    @cached_property
    def first_key_last_key_step(self) -> tuple[int, int, int]:
        """The keys as one run, as COMMAND had it before key specifications; zeros without keys."""
        if not self.keys:
            return 0, 0, 0
        if len(self.keys) == 1:
            return self.keys[0].first, self.keys[0].last, self.keys[0].step
        return self.keys[0].first, self.keys[-1].last, 1

    @property
    def own_name(self) -> str:
        """The name without the container's."""
        return self.name.rpartition("|")[2]

    @property
    def has_secrets(self) -> bool:
        """Whether some of its arguments may be secret: see secrets.py."""
        return self.name in SECRETS

    @cached_property
    def unqueued(self) -> bool:
        """Whether it is executed even between MULTI and EXEC."""
        return self.name in ("exec", "discard", "multi", "watch", "quit", "reset")

    def takes(self, count: int) -> bool:
        """Whether it may be called with `count` arguments, its name among them."""
        return count == self.arity if self.arity > 0 else count >= -self.arity

    def subcommand(self, name: bytes) -> "Command | None":
        """The subcommand of this name, in any case."""
        return self._subcommands.get(name.lower())

    @cached_property
    def _subcommands(self) -> dict[bytes, "Command"]:
        return {sub.own_name.encode(): sub for sub in self.subcommands}


def key(flags: str, first: int = 1, last: int = 0, step: int = 1, notes: str = "") -> tuple[Keys, ...]:
    return (Keys(first, last or first, step, tuple(flags.split()), notes),)


def _family(group: str, **of_all: Any) -> Callable[..., Command]:
    """A maker of rows that have the group and what else is in `of_all` in common."""

    def row(name: str, arity: int, flags: str, **more: Any) -> Command:
        for field in ("tips", "more_categories"):
            if field in more:
                more[field] = tuple(more[field].split())
        return Command(name, arity, tuple(flags.split()), group, **{**of_all, **more})

    return row


_VARIABLE = "what happens to the value depends on the options"
_MULTI_SHARD = "request_policy:multi_shard"
_MULTI_SUCCEED = f"{_MULTI_SHARD} response_policy:all_succeeded"
_LEAST = f"{_MULTI_SHARD} response_policy:agg_min"
_SUMMED = f"{_MULTI_SHARD} response_policy:agg_sum"

_string = _family("string", hot=True)
_STRINGS = (
    _string("append", 3, "write denyoom fast", keys=key("RW insert")),
    _string("decr", 2, "write denyoom fast", keys=key("RW access update")),
    _string("decrby", 3, "write denyoom fast", keys=key("RW access update")),
    _string("get", 2, "readonly fast", keys=key("RO access")),
    _string("getdel", 2, "write fast", keys=key("RW access delete")),
    _string("getex", -2, "write fast", keys=key("RW access update", notes=_VARIABLE)),
    _string("getrange", 4, "readonly", keys=key("RO access")),
    _string("getset", 3, "write denyoom fast", keys=key("RW access update")),
    _string("incr", 2, "write denyoom fast", keys=key("RW access update")),
    _string("incrby", 3, "write denyoom fast", keys=key("RW access update")),
    _string("incrbyfloat", 3, "write denyoom fast", keys=key("RW access update")),
    _string("mget", -2, "readonly fast", keys=key("RO access", 1, -1), tips=_MULTI_SHARD),
    _string("mset", -3, "write denyoom", keys=key("OW update", 1, -1, 2), tips=_MULTI_SUCCEED),
    _string("msetnx", -3, "write denyoom", keys=key("OW insert", 1, -1, 2), tips=_LEAST),
    _string("psetex", 4, "write denyoom", keys=key("OW update")),
    _string("set", -3, "write denyoom", keys=key("RW access update variable_flags", notes=_VARIABLE)),
    _string("setex", 4, "write denyoom", keys=key("OW update")),
    _string("setnx", 3, "write denyoom fast", keys=key("OW insert")),
    _string("setrange", 4, "write denyoom", keys=key("RW update")),
    _string("strlen", 2, "readonly fast", keys=key("RO")),
    _string("substr", 4, "readonly", keys=key("RO access")),
)  # fmt: skip

_generic = _family("generic", hot=True)
_keyspace = _family("server", hot=True)
_ALL_SHARDS = "request_policy:all_shards"
_ALL_SUCCEED = f"{_ALL_SHARDS} response_policy:all_succeeded"
_CHANGING = "nondeterministic_output"
_object = _family("generic", keys=key("RO", 2), tips=("nondeterministic_output",))
_KEYS = (
    _generic("copy", -3, "write denyoom", keys=(*key("RO access"), *key("OW update", 2))),
    _keyspace("dbsize", 1, "readonly fast", more_categories="keyspace", tips=f"{_ALL_SHARDS} response_policy:agg_sum"),
    _generic("del", -2, "write", keys=key("RM delete", 1, -1), tips=_SUMMED),
    _generic("exists", -2, "readonly fast", keys=key("RO", 1, -1), tips=_SUMMED),
    _generic("expire", -3, "write fast", keys=key("RW update")),
    _generic("expireat", -3, "write fast", keys=key("RW update")),
    _generic("expiretime", 2, "readonly fast", keys=key("RO access")),
    _keyspace("flushall", -1, "write", more_categories="keyspace dangerous", tips=_ALL_SUCCEED),
    _keyspace("flushdb", -1, "write", more_categories="keyspace dangerous", tips=_ALL_SUCCEED),
    _generic("keys", 2, "readonly", more_categories="dangerous", tips=f"{_ALL_SHARDS} nondeterministic_output_order"),
    _generic("move", 3, "write fast", keys=key("RW access update")),
    _generic("object", -2, "", subcommands=(
        _object("object|encoding", 3, "readonly"),
        _object("object|freq", 3, "readonly"),
        _object("object|help", 2, "loading stale", keys=(), tips="", cold="server:help_"),
        _object("object|idletime", 3, "readonly"),
        _object("object|refcount", 3, "readonly"),
    )),
    _generic("persist", 2, "write fast", keys=key("RW update")),
    _generic("pexpire", -3, "write fast", keys=key("RW update")),
    _generic("pexpireat", -3, "write fast", keys=key("RW update")),
    _generic("pexpiretime", 2, "readonly fast", keys=key("RO access")),
    _generic("pttl", 2, "readonly fast", keys=key("RO access"), tips=_CHANGING),
    _generic("randomkey", 1, "readonly", tips=f"{_ALL_SHARDS} nondeterministic_output"),
    _generic("rename", 3, "write", keys=(*key("RW access delete"), *key("OW update", 2))),
    _generic("renamenx", 3, "write fast", keys=(*key("RW access delete"), *key("OW insert", 2))),
    _generic("scan", -2, "readonly", tips="nondeterministic_output request_policy:special"),
    _keyspace("swapdb", 3, "write fast", more_categories="keyspace dangerous"),
    _generic("touch", -2, "readonly fast", keys=key("RO", 1, -1), tips=_SUMMED),
    _generic("ttl", 2, "readonly fast", keys=key("RO access"), tips=_CHANGING),
    _generic("type", 2, "readonly fast", keys=key("RO")),
    _generic("unlink", -2, "write fast", keys=key("RM delete", 1, -1), tips=_SUMMED),
)  # fmt: skip

_transaction = _family("transactions", hot=True)
_TRANSACTIONS = (
    _transaction("discard", 1, "noscript loading stale fast allow_busy"),
    _transaction("exec", 1, "noscript loading stale skip_slowlog"),
    _transaction("multi", 1, "noscript loading stale fast allow_busy"),
    _transaction("unwatch", 1, "noscript loading stale fast allow_busy"),
    _transaction("watch", -2, "noscript loading stale fast allow_busy", keys=key("RO", 1, -1)),
)  # fmt: skip

_connection = _family("connection")
_client = _family("connection", cold="connection:")
_ANY_TIME = "noscript loading stale"
_ADMIN = f"admin {_ANY_TIME}"
_CONNECTION = (
    _connection("auth", -2, f"{_ANY_TIME} fast no_auth allow_busy", cold="connection:"),
    _connection("client", -2, "", subcommands=(
        _client("client|caching", 3, _ANY_TIME),
        _client("client|getname", 2, _ANY_TIME),
        _client("client|getredir", 2, _ANY_TIME),
        _client("client|help", 2, "loading stale", cold="server:help_"),
        _client("client|id", 2, _ANY_TIME),
        _client("client|info", 2, _ANY_TIME, tips=_CHANGING),
        _client("client|kill", -3, _ADMIN),
        _client("client|list", -2, _ADMIN, tips=_CHANGING),
        _client("client|no-evict", 3, _ADMIN),
        _client("client|no-touch", 3, _ANY_TIME),
        _client("client|pause", -3, _ADMIN),
        _client("client|reply", 3, _ANY_TIME),
        _client("client|setinfo", 4, _ANY_TIME),
        _client("client|setname", 3, _ANY_TIME),
        _client("client|tracking", -3, _ANY_TIME),
        _client("client|trackinginfo", 2, _ANY_TIME),
        _client("client|unblock", -3, _ADMIN),
        _client("client|unpause", 2, _ADMIN),
    )),
    _connection("echo", 2, "loading stale fast", hot=True),
    _connection("hello", -1, f"{_ANY_TIME} fast no_auth allow_busy", cold="connection:"),
    _connection("ping", -1, "fast", hot=True, tips=_ALL_SUCCEED),
    _connection("quit", -1, f"{_ANY_TIME} fast no_auth allow_busy", cold="connection:quit_"),
    _connection("reset", 1, f"{_ANY_TIME} fast no_auth allow_busy", cold="connection:"),
    _connection("select", 2, "loading stale fast", hot=True),
)  # fmt: skip

_server = _family("server")
_command = _family("server", cold="server:", more_categories=("connection",))
_config = _family("server", cold="server:")
_memory = _family("server", cold="server:")
_ANY_ORDER = "nondeterministic_output_order"
_SPECIAL = f"nondeterministic_output {_ALL_SHARDS} response_policy:special"
_SERVER = (
    _server("bgsave", -1, "admin noscript no_async_loading", hot=True, cold="server:"),
    _command("command", -1, "loading stale", tips=_ANY_ORDER, subcommands=(
        _command("command|count", 2, "loading stale"),
        _command("command|docs", -2, "loading stale", tips=_ANY_ORDER),
        _command("command|getkeys", -3, "loading stale"),
        _command("command|getkeysandflags", -3, "loading stale"),
        _command("command|help", 2, "loading stale", cold="server:help_"),
        _command("command|info", -2, "loading stale", tips=_ANY_ORDER),
        _command("command|list", -2, "loading stale", tips=_ANY_ORDER),
    )),
    _server("config", -2, "", subcommands=(
        _config("config|get", -3, _ADMIN),
        _config("config|help", 2, "loading stale", cold="server:help_"),
        _config("config|resetstat", 2, _ADMIN),
        _config("config|rewrite", 2, _ADMIN),
        _config("config|set", -4, _ADMIN, tips="request_policy:all_nodes response_policy:all_succeeded"),
    )),
    _server("debug", -2, _ADMIN, cold="server:"),
    _server("info", -1, "loading stale", cold="server:", more_categories="dangerous", tips=_SPECIAL),
    _server("lastsave", 1, "loading stale fast", cold="server:", more_categories="admin dangerous", tips=_CHANGING),
    _server("memory", -2, "", hot=True, subcommands=(
        _memory("memory|doctor", 2, "", tips=_SPECIAL),
        _memory("memory|help", 2, "loading stale", cold="server:help_"),
        _memory("memory|malloc-stats", 2, "", tips=_SPECIAL),
        _memory("memory|purge", 2, "", tips=_ALL_SUCCEED),
        _memory("memory|stats", 2, "", tips=_SPECIAL),
        _memory("memory|usage", -3, "readonly", cold="", keys=key("RO", 2)),
    )),
    _server("save", 1, "admin noscript no_async_loading no_multi", cold="server:"),
    _server("shutdown", -1, f"admin {_ANY_TIME} no_multi allow_busy", cold="server:"),
    _server("time", 1, "loading stale fast", cold="server:", tips=_CHANGING),
)  # fmt: skip

_slowlog = _family("server", cold="slowlog:")
_latency = _family("server", cold="latency:")
_ALL_NODES = "request_policy:all_nodes"
_ALL_NODES_SUCCEED = f"{_ALL_NODES} response_policy:all_succeeded"
_SPECIAL_OF_NODES = f"nondeterministic_output {_ALL_NODES} response_policy:special"
_OBSERVATION = (
    _server("slowlog", -2, "", hot=True, subcommands=(
        _slowlog("slowlog|get", -2, "admin loading stale", tips=f"{_ALL_NODES} nondeterministic_output"),
        _slowlog("slowlog|help", 2, "loading stale", cold="server:help_"),
        _slowlog("slowlog|len", 2, "admin loading stale", cold="",
                 tips=f"{_ALL_NODES} response_policy:agg_sum nondeterministic_output"),
        _slowlog("slowlog|reset", 2, "admin loading stale", tips=_ALL_NODES_SUCCEED),
    )),
    _server("latency", -2, "", subcommands=(
        _latency("latency|doctor", 2, _ADMIN, tips=_SPECIAL_OF_NODES),
        _latency("latency|graph", 3, _ADMIN, tips=_SPECIAL_OF_NODES),
        _latency("latency|help", 2, "loading stale", cold="server:help_"),
        _latency("latency|histogram", -2, _ADMIN, tips=_SPECIAL_OF_NODES),
        _latency("latency|history", 3, _ADMIN, tips=_SPECIAL_OF_NODES),
        _latency("latency|latest", 2, _ADMIN, tips=_SPECIAL_OF_NODES),
        _latency("latency|reset", -2, _ADMIN, tips=_ALL_NODES_SUCCEED),
    )),
)  # fmt: skip

_acl = _family("server", cold="acl:")
_cluster = _family("cluster")
_refused = _family("cluster", cold="cluster:refused")
_CLUSTER_ADMIN = "admin stale no_async_loading"
_ALONE = (  # what a server answers that has no replicas, no cluster, no modules and one user
    _server("acl", -2, "", subcommands=(
        _acl("acl|cat", -2, _ANY_TIME),
        _acl("acl|getuser", 3, _ADMIN),
        _acl("acl|help", 2, "loading stale", cold="server:help_"),
        _acl("acl|list", 2, _ADMIN),
        _acl("acl|log", -2, _ADMIN),
        _acl("acl|users", 2, _ADMIN),
        _acl("acl|whoami", 2, _ANY_TIME),
    )),
    _server("module", -2, "", subcommands=(
        _server("module|help", 2, "loading stale", cold="server:help_"),
        _server("module|list", 2, "admin noscript", cold="server:", tips=_ANY_ORDER),
    )),
    _server("role", 1, f"{_ANY_TIME} fast", cold="replication:", more_categories="admin dangerous"),
    _generic("wait", 3, "noscript", more_categories="connection", category_of_group=False,
             tips=f"{_ALL_SHARDS} response_policy:agg_min"),
    _refused("asking", 1, "fast", more_categories="connection"),
    _refused("readonly", 1, "loading stale fast", more_categories="connection"),
    _refused("readwrite", 1, "loading stale fast", more_categories="connection"),
    _cluster("cluster", -2, "", subcommands=(
        _refused("cluster|addslots", -3, _CLUSTER_ADMIN),
        _refused("cluster|addslotsrange", -4, _CLUSTER_ADMIN),
        _refused("cluster|bumpepoch", 2, _CLUSTER_ADMIN, tips=_CHANGING),
        _refused("cluster|count-failure-reports", 3, "admin stale", tips=_CHANGING),
        _refused("cluster|countkeysinslot", 3, "stale"),
        _refused("cluster|delslots", -3, _CLUSTER_ADMIN),
        _refused("cluster|delslotsrange", -4, _CLUSTER_ADMIN),
        _refused("cluster|failover", -2, _CLUSTER_ADMIN),
        _refused("cluster|flushslots", 2, _CLUSTER_ADMIN),
        _refused("cluster|forget", 3, _CLUSTER_ADMIN),
        _refused("cluster|getkeysinslot", 4, "stale", tips=_CHANGING),
        _refused("cluster|help", 2, "loading stale"),
        _refused("cluster|info", 2, "stale", tips=_CHANGING),
        _refused("cluster|keyslot", 3, "stale"),
        _refused("cluster|links", 2, "stale", tips=_CHANGING),
        _refused("cluster|meet", -4, _CLUSTER_ADMIN),
        _refused("cluster|myid", 2, "stale"),
        _refused("cluster|nodes", 2, "stale", tips=_CHANGING),
        _refused("cluster|replicas", 3, "admin stale", tips=_CHANGING),
        _refused("cluster|replicate", 3, _CLUSTER_ADMIN),
        _refused("cluster|reset", -2, "admin noscript stale"),
        _refused("cluster|saveconfig", 2, _CLUSTER_ADMIN),
        _refused("cluster|set-config-epoch", 3, _CLUSTER_ADMIN),
        _refused("cluster|setslot", -4, _CLUSTER_ADMIN),
        _refused("cluster|shards", 2, "stale", tips=_CHANGING),
        _refused("cluster|slaves", 3, "admin stale", tips=_CHANGING),
        _refused("cluster|slots", 2, "stale", tips=_CHANGING),
    )),
)  # fmt: skip

COMMANDS: tuple[Command, ...] = tuple(
    sorted(
        _STRINGS + _KEYS + _TRANSACTIONS + _CONNECTION + _SERVER + _OBSERVATION + _ALONE,
        key=lambda command: command.name,
    )
)
ROWS: tuple[Command, ...] = COMMANDS + tuple(sub for command in COMMANDS for sub in command.subcommands)
_NUMBERS = {row.name: number for number, row in enumerate(ROWS)}
_BY_NAME = {command.name.encode(): command for command in COMMANDS}


def find(name: bytes) -> Command | None:
    """The command of this name, in any case; a subcommand is called "container|subcommand"."""
    container, bar, sub = name.lower().partition(b"|")
    command = _BY_NAME.get(container)
    return command.subcommand(sub) if command and bar else command


def resolve(args: list[bytes]) -> Command | None:
    """What a whole command is: the subcommand's row, for a container called with one."""
    command = _BY_NAME.get(args[0].lower())
    if command and command.subcommands and len(args) > 1:
        return command.subcommand(args[1])
    return command


def row_number_of(command: Command) -> int:
    """The place of a command or subcommand in ROWS."""
    return _NUMBERS[command.name]


def row_number(args: list[bytes]) -> int:
    """The place in ROWS of a whole command whose name is in the table: its subcommand's, where it has a good one."""
    row = resolve(args) or _BY_NAME[args[0].lower()]
    return _NUMBERS[row.name]


# ------------------------------------------------------------------------------------------------------- refusals


def unknown_subcommand(container: str, name: bytes) -> CommandError:
    """The refusal of a subcommand that its container does not have."""
    return CommandError(f"ERR unknown subcommand '{shown(name, SHOWN_MAX)}'. Try {container.upper()} HELP.")


def unknown_subcommand_or_arity(container: str, name: bytes) -> CommandError:
    """The refusal of a container that does not tell the two apart."""
    problem = f"unknown subcommand or wrong number of arguments for '{shown(name, SHOWN_MAX)}'"
    return CommandError(f"ERR {problem}. Try {container.upper()} HELP.")


def wrong_arity(command: Command) -> CommandError:
    """The refusal of a command called with too many or too few arguments."""
    return CommandError(f"ERR wrong number of arguments for '{command.name}' command")


# ------------------------------------------------------------------------------------------------------- handlers


def hot_handlers() -> dict[str, Any]:
    """The kernels that serve hot commands, by the command's name."""
    handlers: dict[str, Any] = {}
    for module in ("strings.handlers", "keys.handlers", "transactions", "hot", "slowlog", "replication"):
        for name, handler in import_module(f"kvstore.commands.{module}").HANDLERS.items():
            handlers[name.decode().lower()] = handler
    return handlers


@cache
def cold_handler(command: Command) -> "ColdHandler":
    """The Python function that serves a command, or those of its forms that its kernel leaves to Python."""
    own = _function(command) if command.cold else None
    if not command.subcommands:
        return own or _refuse(command)

    def serve(server: "Server", client: "Client", args: list[bytes]) -> Reply:
        if len(args) == 1:
            return own(server, client, args) if own and command.takes(1) else _refuse(command)(server, client, args)
        sub = command.subcommand(args[1])
        if sub is None:
            raise unknown_subcommand(command.name, args[1])
        if not sub.takes(len(args)):
            raise wrong_arity(sub)
        return cold_handler(sub)(server, client, args)

    return serve


def prepare_cold() -> None:
    """Load what cold commands need, and make ahead of time what the first use of one would wait for."""
    import_module("kvstore.commands.server").prepare()


def _function(command: Command) -> "ColdHandler":
    module, _, name = command.cold.partition(":")
    name = name or command.name.replace("|", "_").replace("-", "_")
    handler: ColdHandler = getattr(import_module(f"kvstore.commands.{module}"), name)
    return handler


def _refuse(command: Command) -> "ColdHandler":
    # For a command all of whose good forms are the kernel's: what it leaves can only be the wrong number of arguments.
    def serve(_server: "Server", _client: "Client", _args: list[bytes]) -> Reply:
        raise wrong_arity(command)

    return serve


def _flags_at_hand(flags: tuple[str, ...], args: list[bytes]) -> tuple[str, ...]:
    # SET's are the only ones that vary: the old value is read where it is asked for.
    if "variable_flags" not in flags:
        return flags
    return ("RW", "access", "update") if b"get" in [arg.lower() for arg in args[3:]] else ("OW", "update")


def keys_of(command: Command, args: list[bytes]) -> Iterator[tuple[bytes, tuple[str, ...]]]:
    """The keys of a whole command, each with its flags."""
    for run in command.keys:
        for position in run.positions(len(args)):
            if position < len(args):
                yield args[position], _flags_at_hand(run.flags, args)
