"""The command table as kernels take it, made of the declarations."""

from collections.abc import Iterable

from kvstore.commands import rows
from kvstore.commands.refcounts import HOLDS, KEEPS_NONE
from kvstore.commands.table import COMMANDS, ROWS, Command, hot_handlers, row_number_of
from kvstore.lifetimes import shard as words
from kvstore.lifetimes.wiring import Shard
from kvstore.wire.refusals import NAME_WIDTH
from mmcore.jit import Table, address_of

GROWING = frozenset({"append", "setrange", "copy"})  # commands that add to, or copy, a value of any size
_HOT = hot_handlers()  # imported here, with everything else, so that one `build` makes all kernels


class CommandTable:
    """Rows, names and statistics of all commands, and where a command is found by its name."""

    def __init__(self) -> None:
        self.rows = Table(len(ROWS), rows.ROW_WIDTH)
        self.counters = Table(len(ROWS), rows.STATISTICS_WIDTH)
        names = [row.name.encode() for row in ROWS]
        assert max(map(len, names)) < NAME_WIDTH, "a command's name is longer than the table of names is wide"
        self._names = b"".join(name.ljust(NAME_WIDTH, b"\0") for name in names)
        for index, command in enumerate(ROWS):
            kernel = _HOT.get(command.name)
            self.rows[index, rows.ROW_HANDLER] = kernel.address if kernel is not None else 0
            self.rows[index, rows.ROW_ARITY] = command.arity
            self.rows[index, rows.ROW_FLAGS] = _loop_flags(command)
            self.rows[index, rows.ROW_HOLDS] = HOLDS.get(command.name, KEEPS_NONE)
        self._slots = _hashed((_name_hash(row.name), index) for index, row in enumerate(COMMANDS))
        self._sub_slots = _hashed(
            (_subcommand_hash(sub.own_name, container), row_number_of(sub))
            for container, row in enumerate(COMMANDS)
            for sub in row.subcommands
        )

    def install(self, shard: Shard) -> None:
        """Let the kernels of a shard find commands here.  The table has to live as long as the shard."""
        registers = shard.registers
        registers[words.COMMAND_NAMES_ADDRESS] = address_of(self._names)
        registers[words.COMMAND_TABLE_ADDRESS], registers[words.COMMAND_COUNT] = self.rows.address, len(COMMANDS)
        registers[words.COMMAND_SLOTS_ADDRESS], registers[words.COMMAND_SLOTS] = self._slots.address, len(self._slots)
        registers[words.SUBCOMMAND_SLOTS_ADDRESS] = self._sub_slots.address
        registers[words.SUBCOMMAND_SLOTS] = len(self._sub_slots)
        registers[words.COMMAND_STATISTICS_ADDRESS] = self.counters.address


def _loop_flags(command: Command) -> int:
    # What the loop must know of a command, from the flags that Redis gives it.
    flags = set(command.flags)
    return (
        rows.WRITE * ("write" in flags)
        | rows.DENY_OOM * ("denyoom" in flags)
        | rows.NO_AUTH_NEEDED * ("no_auth" in flags)
        | rows.NO_MULTI_ALLOWED * ("no_multi" in flags)
        | rows.NOT_QUEUED * command.unqueued
        | rows.MAY_REPLICATE * ("may_replicate" in flags)
        | rows.IS_EXEC * (command.name == "exec")
        | rows.CONTAINER * bool(command.subcommands)
        | rows.TELLS_HEALTH * (command.name == "ping")
        | rows.SKIP_SLOWLOG * ("skip_slowlog" in flags)
        | rows.FAST * ("fast" in flags)
        | rows.HAS_SECRETS * command.has_secrets
        | rows.GROWS * (command.name in GROWING)
    )


def _int64(value: int) -> int:
    value &= 0xFFFF_FFFF_FFFF_FFFF
    return value - (1 << 64) if value >> 63 else value


def _name_hash(name: str) -> int:
    # As rows.py's name_hash.
    hash_ = rows.FNV_OFFSET
    for byte in name.upper().encode():
        hash_ = _int64((hash_ ^ byte) * rows.FNV_PRIME)
    return hash_


def _subcommand_hash(name: str, container: int) -> int:
    # As rows.py's subcommand_hash, of a name.
    return _int64((_name_hash(name) ^ (container + 1)) * rows.FNV_PRIME)


def _hashed(pairs: Iterable[tuple[int, int]]) -> Table:
    # A table of (hash, row) with room for twice as many, open addressing, -1 for no row.
    rows_by_hash: dict[int, int] = {}
    for hash_, row in pairs:
        assert hash_ not in rows_by_hash, f"two rows hash alike: {rows_by_hash[hash_]} and {row}"
        rows_by_hash[hash_] = row
    slots = 1 << (2 * len(rows_by_hash)).bit_length()
    table = Table(slots, 2)
    for at in range(slots):
        table[at, 0] = table[at, 1] = -1
    for hash_, row in rows_by_hash.items():
        at = hash_ & (slots - 1)
        while table[at, 1] >= 0:
            at = (at + 1) & (slots - 1)
        table[at, 0], table[at, 1] = hash_, row
    return table
