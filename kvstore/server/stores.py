"""Named stores, branches and snapshots, for commands that Python serves: found, used, exchanged, saved."""

from collections.abc import Iterator

from kvstore.branches.costs import Costs, costs
from kvstore.branches.known import Known, context_over, known, known_stores
from kvstore.branches.lineage import swap
from kvstore.branches.registry import find_named, is_name, registry_begin, registry_rename
from kvstore.branches.using import use
from kvstore.commands.rows import UNCOUNTED
from kvstore.config.config import Config
from kvstore.durable.exports import Exports
from kvstore.effects.changes import recorded
from kvstore.lifetimes import connection
from kvstore.lifetimes.context import Context, Registers
from kvstore.lifetimes.store import LINE
from kvstore.lifetimes.wiring import Shard
from kvstore.net.waiting import begin_wait, unblock_connection
from kvstore.store.reserve import own_frames
from kvstore.store.sampling import database_sizes
from kvstore.wire.errors import BRANCH_MEMORY, ERRORS, NO_BRANCH, SAVE_FAILED
from kvstore.wire.reply import NO_REPLY, CommandError, Sentinel
from mmcore.holdings import Held, held
from mmcore.jit import address_of
from mmcore.paging import PAGE_SIZE
from mmcore.state import CR3

MAIN_NAME = b"main"


class Stores:
    """See the module's note.  A part of the server, whose attributes it names."""

    main: Context
    context: Context
    registers: Registers
    shard: Shard
    config: Config
    exports: Exports

    def _begin_names(self) -> None:
        # The main store has a name, too.
        if not registry_begin(self.main, address_of(MAIN_NAME), len(MAIN_NAME)):
            raise MemoryError("for the name of the main store")

    def _context_of(self, one: Known) -> Context:
        return context_over(self.main, one.context)

    def stores(self) -> Iterator[Context]:
        """The contexts of all stores, the main one first."""
        return (self._context_of(one) for one in known_stores(self.main))

    def named(self, name: bytes) -> Known | None:
        """The store of this name."""
        address = find_named(self.main, address_of(name), len(name)) if name else 0
        return known(address) if address else None

    def is_store_name(self, name: bytes) -> bool:
        """Whether a store may be called that."""
        return bool(name) and bool(is_name(address_of(name), len(name)))

    def rename_store(self, one: Known, name: bytes) -> None:
        """Give a store another name, which must be free."""
        if not registry_rename(self.main, one.address, address_of(name), len(name)):
            raise CommandError(ERRORS[BRANCH_MEMORY])

    def swap_stores(self, first: Known, second: Known) -> None:
        """Exchange the contents of two stores."""
        swap(self._context_of(first), self._context_of(second))

    def use_store(self, slot: int, name: bytes) -> None:
        """Let the connection in `slot` use the store of this name.  Raises CommandError."""
        one = self.named(name)
        error = NO_BRANCH if one is None else int(use(self._context_of(one), slot))
        if error:
            raise CommandError(ERRORS[error])

    def costs(self) -> Costs:
        """The cost of branches and snapshots."""
        return costs(self.main)

    def keys_of(self, one: Known) -> int:
        """Keys in all databases of a store."""
        return sum(size.keys for size in database_sizes(self._context_of(one)))

    def users_of(self, one: Known) -> int:
        """Connections that use a store."""
        if one.kind != "main":
            return one.users
        return self.registers.CONNECTED_CLIENTS - sum(other.users for other in known_stores(self.main))

    def own_bytes(self, one: Known) -> int:
        """Memory of the frames that a store has taken for itself [bytes]."""
        return int(own_frames(self._context_of(one))) * PAGE_SIZE

    def recorded_of(self, one: Known) -> dict[str, int]:
        """The changes that are recorded of a store: how many, and the memory for them [bytes]."""
        changes, taken = recorded(int(self._context_of(one).store[LINE]))
        return {"changes": changes, "changes_bytes": taken}

    def held_by(self, one: Known) -> Held:
        """The memory that a store holds, shared and private."""
        return _held(self._context_of(one))

    def held(self) -> Held:
        """The memory that the store at hand holds, shared and private."""
        return _held(self.context)

    def save_store(self, slot: int, one: Known, file: bytes) -> Sentinel:
        """Write an image of a store; the connection in `slot`, whose command is at hand, waits for its end."""
        row, r = self.shard.connections.row(slot), self.registers
        identity = row[connection.ID]

        def ended(ok: bool) -> None:
            # It is still there, and waits for this: CLIENT UNBLOCK, or the end of its branch, may have ended the wait.
            if row[connection.ID] == identity and row[connection.BLOCKED_ANSWER] == connection.ANSWER_OK:
                unblock_connection(self.main, slot, 0 if ok else SAVE_FAILED)

        name = file.decode(errors="surrogateescape")
        self.exports.start(self._context_of(one), one.name, str(self.config["dir"]), name, ended)
        row[connection.BLOCKED_KIND], row[connection.BLOCKED_UNTIL_MS] = 0, 0
        row[connection.BLOCKED_ANSWER] = connection.ANSWER_OK
        if begin_wait(self.context, row):
            r.COMMAND = UNCOUNTED  # it is accounted for when it is answered
        return NO_REPLY


def _held(context: Context) -> Held:
    return held(context.space.mem, int(context.space.cpu[CR3]))
