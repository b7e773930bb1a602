"""Branches and snapshots without sockets: connections that speak in turn, each in its store, as the loop serves them.

    with Stores() as stores:
        stores(0, "BRANCH", "CREATE", "x")      connection 0 speaks
        stores(1, "BRANCH", "USE", "x")
        stores.check()                          the machine, and every store in it

The parts of BRANCH and SNAPSHOT that Python serves are methods here.
"""

import ctypes
from typing import Any

import numpy as np

from kvstore.branches.known import Known, context_over, known_stores
from kvstore.branches.lineage import swap
from kvstore.branches.registry import registry_begin, registry_rename
from kvstore.branches.using import enter, enter_main
from kvstore.commands.compiled import CommandTable
from kvstore.connections.interests import check_interests
from kvstore.connections.table import open_connection
from kvstore.lifetimes import connection, named
from kvstore.lifetimes.context import CONTEXT, Context
from kvstore.lifetimes.store import COPY_ROOT, FROZEN_ROOTS, INTEREST_TABLES, READ_ONLY
from kvstore.net.pipeline import run_pipeline
from kvstore.net.stores import drop_store, end_stores, look_after_stores
from kvstore.store.check import check_keyspace
from kvstore.store.flush import background_step
from kvstore.wire.errors import BRANCH_MEMORY, ERRORS
from mmcore.check import check_heap, check_memory
from mmcore.jit import address_of, int64, linked, over, void
from mmcore.space import AddressSpace
from mmcore.state import FREE_COUNT, TOTAL
from tests.kvstore.bare import Bare, ReplyError, parse
from tests.server.wire import Argument, encode


@linked(void(CONTEXT, int64))
def enter_of(context, address):  # type: ignore[no-untyped-def]
    """enter, for Python."""
    enter(context, address)


@linked(void(CONTEXT))
def end_turn(context):  # type: ignore[no-untyped-def]
    """enter_main, for Python."""
    enter_main(context)


class Stores(Bare):
    """A main store with its name, and connections."""

    def __init__(self, size: int = 16 << 20, connections: int = 8, **more: Any) -> None:
        super().__init__(size, connections=connections, **more)
        self.table = CommandTable()
        self.table.install(self.shard)
        r = self.registers
        r.TURN_SHARE, r.QUERY_BUFFER_LIMIT = 1 << 60, 1 << 40
        assert registry_begin(self.context, address_of(b"main"), 4)
        self.slots = [
            int(open_connection(self.context, -1, i + 1, connection.AUTHENTICATED, 0)) for i in range(connections)
        ]
        r.CONNECTION = -1

    # ------------------------------------------------------------------------------------------------------- commands

    def pipeline(self, who: int, *commands: tuple[Argument, ...]) -> list[object]:
        """The reply to connection `who`; its turn ends where it has to."""
        data = ctypes.create_string_buffer(b"".join(encode(*command) for command in commands))
        size, at = len(data) - 1, 0
        r, row = self.registers, self.shard.connections.row(self.slots[who])
        found: list[object] = []
        while at < size:
            address = int(row[connection.CONTEXT_OF])
            enter_of(self.context, address)
            r.CONNECTION, r.DB, r.PROTOCOL = self.slots[who], row[connection.DATABASE], row[connection.SPEAKS]
            r.QUERY_ADDRESS, r.QUERY_SIZE = ctypes.addressof(data) + at, size - at
            r.INPUT_POSITION = r.AHEAD = r.REPLY_LENGTH = r.COMMAND_CYCLES = 0
            event = run_pipeline(context_over(self.context, address), self.slots[who], row)
            assert event == 0, f"left to Python: {commands}"
            row[connection.DATABASE] = r.DB
            at += int(r.INPUT_POSITION)
            reply, position = ctypes.string_at(r.REPLY_ADDRESS, r.REPLY_LENGTH), 0
            while position < len(reply):
                value, position = parse(reply, position)
                found.append(value)
            self.end_turn()
        return found

    def say(self, who: int, *words: Argument) -> object:
        """The reply to a command of connection `who`."""
        (reply,) = self.pipeline(who, words)
        return reply

    def end_turn(self) -> None:
        """The end of a turn: the main store comes to hand, and the others are looked after."""
        self.registers.CONNECTION = -1
        end_turn(self.context)
        look_after_stores(self.context)

    def settle(self) -> None:
        """Let all stores do what they have left."""
        while look_after_stores(self.context) or background_step(self.context, 1 << 12):
            pass

    def tick(self) -> None:
        """The timer: stores whose time is over end."""
        end_stores(self.context)
        self.end_turn()

    # ------------------------------------------------------------------------------------------- what Python serves

    def known(self) -> dict[str, Known]:
        """All named stores."""
        return {one.name: one for one in known_stores(self.context)}

    def context_of(self, name: str) -> Context:
        """The context of a store."""
        return context_over(self.context, self.known()[name].context)

    def swap(self, first: str, second: str) -> None:
        """BRANCH SWAP."""
        swap(self.context_of(first), self.context_of(second))
        self.end_turn()

    def rename(self, old: str, new: str) -> str:
        """BRANCH RENAME."""
        text = new.encode()
        done = registry_rename(self.context, self.known()[old].address, address_of(text), len(text))
        return "OK" if done else ReplyError(ERRORS[BRANCH_MEMORY])

    def drop(self, name: str) -> None:
        """BRANCH or SNAPSHOT DROP ... FORCE."""
        drop_store(self.context_of(name))
        self.end_turn()

    # --------------------------------------------------------------------------------------------------------- checks

    @property
    def used(self) -> int:
        """Frames in use."""
        frames = self.memory.state.frames
        return int(frames[TOTAL] - frames[FREE_COUNT])

    def space_of(self, context: Context) -> AddressSpace:
        """The space of a context that a kernel has made."""
        space = AddressSpace.__new__(AddressSpace)
        space.memory, space.processor, space._state = self.memory, self.shard.processor, context.space
        return space

    def check(self, keyspaces: bool = True) -> None:
        """Prove the machine and every store sound."""
        spaces = [self.space]
        roots = [*self.forks, *self.pool.waiting]
        users = 0
        for one in self.known().values():
            context = context_over(self.context, one.context)
            words = over((ctypes.c_int64 * named.NAMED_WORDS).from_address(one.address), int64)
            if one.kind != "main":
                spaces.append(self.space_of(context))
                users += one.users
            roots.append(int(words[named.BASE]))
            roots.append(int(context.store[COPY_ROOT]))
            assert context.store[FROZEN_ROOTS] == (context.store[COPY_ROOT] >= 0) + (
                len(self.forks) if one.kind == "main" else 0
            )
            if one.kind == "main" or words[named.AREA]:
                seen = np.zeros(len(self.slots), np.int64)
                for table in INTEREST_TABLES:
                    assert check_interests(context.store[table], seen, len(self.slots)) >= 0
            else:
                assert one.users == 0
                assert not any(context.store[table] for table in INTEREST_TABLES)
            if keyspaces:
                check_keyspace(context)
            if context.store[READ_ONLY] == 0 and keyspaces:
                check_heap(self.space_of(context))
        used_by = [int(self.shard.connections[slot, connection.CONTEXT_OF]) for slot in self.slots]
        assert sum(address != self.context.address for address in used_by) == users
        assert len(self.known()) - 1 == int(self.registers.NAMED_STORES), "a dropped store still counts"
        check_memory(self.memory, spaces, roots)
