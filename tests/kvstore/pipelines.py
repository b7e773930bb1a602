"""A bare store whose connections send pipelines, which are admitted, queued and executed as in the loop."""

import ctypes

from kvstore.commands.compiled import CommandTable
from kvstore.connections.table import open_connection
from kvstore.lifetimes import connection
from kvstore.net.pipeline import run_pipeline
from kvstore.store.flush import background_step
from mmcore.state import FREE_COUNT, TOTAL
from tests.kvstore.bare import Bare, parse
from tests.server.wire import encode

Command = tuple[str | bytes | int, ...]


class Pipelines(Bare):
    """A store with a command table and one connection; it runs pipelines as the loop does."""

    def __init__(self, size: int = 8 << 20) -> None:
        super().__init__(size, connections=2)
        self.table = CommandTable()
        self.table.install(self.shard)
        self.registers.TURN_SHARE = 1 << 60
        self.registers.QUERY_BUFFER_LIMIT = 1 << 40
        self.slot, self.other = (int(open_connection(self.context, -1, i, connection.AUTHENTICATED, 0)) for i in (1, 2))

    def run(self, *commands: Command, slot: int | None = None) -> list[object]:
        """The replies to a pipeline."""
        slot = self.slot if slot is None else slot
        data = ctypes.create_string_buffer(b"".join(encode(*command) for command in commands))
        r, row = self.registers, self.shard.connections.row(slot)
        r.CONNECTION, r.DB, r.PROTOCOL = slot, row[connection.DATABASE], row[connection.SPEAKS]
        r.QUERY_ADDRESS, r.QUERY_SIZE = ctypes.addressof(data), len(data) - 1
        r.INPUT_POSITION = r.AHEAD = r.REPLY_LENGTH = r.COMMAND_CYCLES = 0
        assert run_pipeline(self.context, slot, row) == 0
        reply, at, found = ctypes.string_at(r.REPLY_ADDRESS, r.REPLY_LENGTH), 0, []
        while at < len(reply):
            value, at = parse(reply, at)
            found.append(value)
        return found

    def transaction(self, *commands: Command) -> object:
        """EXEC's reply for these commands."""
        *queued, answer = self.run(("MULTI",), *commands, ("EXEC",))
        assert queued == ["OK", *["QUEUED"] * len(commands)]
        return answer

    @property
    def used(self) -> int:
        """Frames in use."""
        frames = self.memory.state.frames
        return int(frames[TOTAL] - frames[FREE_COUNT])

    def settle(self) -> None:
        """Release all memory that waits for it."""
        while background_step(self.context, 1 << 16):
            pass
