"""The command table in the form that kernels use, made from the declarations."""

from collections.abc import Iterable
from functools import cached_property

from kvstore.commands import rows
from kvstore.commands.declaration import Command
from kvstore.commands.table import COMMANDS, ROWS, kernel_of, row_number_of
from kvstore.lifetimes import shard as words
from kvstore.lifetimes.wiring import Shard
from kvstore.wire.refusals import NAME_WIDTH
from mmcore.jit import Table, address_of

# Imported here, with everything else, so that one `build` makes all kernels.
_KERNELS = {command.name: kernel_of(command) for command in COMMANDS}
_BITS_OF_FLAGS = {
    "write": rows.WRITE,
    "readonly": rows.READS,
    "denyoom": rows.DENY_OOM,
    "no_auth": rows.NO_AUTH_NEEDED,
    "no_multi": rows.NO_MULTI_ALLOWED,
    "may_replicate": rows.MAY_REPLICATE,
    "skip_slowlog": rows.SKIP_SLOWLOG,
    "fast": rows.FAST,
    "admin": rows.UNMONITORED,
    "skip_monitor": rows.UNMONITORED,
}


class CommandTable:
    """Rows, names and statistics of all commands, and the hash tables that find a command by its name."""

    def __init__(self) -> None:
        self.rows = Table(len(ROWS), rows.ROW_WIDTH)
        self.counters = Table(len(ROWS), rows.STATISTICS_WIDTH)
        names = [row.name.encode() for row in ROWS]
        assert max(map(len, names)) < NAME_WIDTH, "a command's name is longer than the table of names is wide"
        self._names = b"".join(name.ljust(NAME_WIDTH, b"\0") for name in names)
        for index, command in enumerate(ROWS):
            kernel = _KERNELS.get(command.name)
            self.rows[index, rows.ROW_HANDLER] = kernel.address if kernel is not None else 0
            self.rows[index, rows.ROW_ARITY] = command.arity
            self.rows[index, rows.ROW_FLAGS] = _loop_flags(command)
            self.rows[index, rows.ROW_HOLDS] = command.keeps
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

    def install_places(self, shard: Shard) -> None:
        """Let the kernels of a shard find the keys of commands here, likewise."""
        shard.registers[words.KEY_PLACES_ADDRESS] = self._places.address

    @cached_property
    def _places(self) -> Table:
        from kvstore.wire.keyspecs import places_table  # here, because most servers do not need it

        return places_table([row.key_specs for row in ROWS])


def _loop_flags(command: Command) -> int:
    # The loop's flags for a command: those that it declares, and those derived from its other fields.
    bits = command.loop | rows.CONTAINER * bool(command.subcommands) | rows.HAS_SECRETS * bool(command.secrets)
    bits |= rows.OF_CLIENT * (command.name.partition("|")[0] == "client")
    bits |= rows.WITHOUT_STORE * (command.group == "connection")
    for flag in command.flags:
        bits |= _BITS_OF_FLAGS.get(flag, 0)
    return bits


def _int64(value: int) -> int:
    value &= 0xFFFF_FFFF_FFFF_FFFF
    return value - (1 << 64) if value >> 63 else value


def _name_hash(name: str) -> int:
    # The same as rows.py's name_hash.
    hash_ = rows.FNV_OFFSET
    for byte in name.upper().encode():
        hash_ = _int64((hash_ ^ byte) * rows.FNV_PRIME)
    return hash_


def _subcommand_hash(name: str, container: int) -> int:
    # The same as rows.py's subcommand_hash, for a name.
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
