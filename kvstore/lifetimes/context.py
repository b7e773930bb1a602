"""The context: a pointer that every kernel of the server takes, with the data of four lifetimes behind it.

    lifetime   record                          ends
    memory     pool.py, and the space's `mem`  with the process: frames, and roots being released
    store      store.py, and the space         when a store is closed: its data, seed, change counter, mode
    shard      shard.py                        with its loop: clocks, connections, buffers, statistics
    call       call.py, and `args`             when its command has been served

Each is an int64 array; the module named above names its words.  No lifetime keeps data of another.  Another store, such
as a frozen one or a branch, is another Context over the same pool and shard.

`args` holds the arguments of the nested commands: for argument i its offset in the query buffer, at 2*(ARGS+i),
followed by its length.  Argument 0 is the command's name.
"""

from dataclasses import dataclass
from typing import ClassVar

from kvstore.lifetimes import call, pool, shard, store
from mmcore.jit import Array, Plain, Record, int64, intrinsic, state_type
from mmcore.state import SPACE, Space


@dataclass(frozen=True, slots=True, eq=False)
class Context(Record):
    """The first argument of every kernel of the server."""

    space: Space  # the address space that holds the data
    pool: Array  # int64[POOL_REGISTERS]
    store: Array  # int64[STORE_REGISTERS]
    shard: Array  # int64[SHARD_REGISTERS]
    call: Array  # int64[CALL_REGISTERS]
    args: Array  # int64[2 * ARGUMENTS_MAX]

    @property
    def registers(self) -> "Registers":
        """All registers by their names, for Python."""
        return Registers(self)


class Registers:
    """The words of all four lifetimes as attributes: `registers.NOW_MS += 1`."""

    __slots__ = ("_context",)
    _PLACES: ClassVar[dict[str, tuple[str, int]]] = {
        name: (module.__name__.rpartition(".")[2], number)
        for module in (pool, store, shard, call)
        for name, number in vars(module).items()
        if name.isupper() and not name.endswith("_REGISTERS") and isinstance(number, int)
    }
    assert len(set(_PLACES.values())) == len(_PLACES)

    def __init__(self, context: Context) -> None:
        object.__setattr__(self, "_context", context)

    def __getattr__(self, name: str) -> int:
        if name not in self._PLACES:
            raise AttributeError(f"no register is called {name}")
        lifetime, number = self._PLACES[name]
        return int(getattr(self._context, lifetime)[number])

    def __setattr__(self, name: str, value: int) -> None:
        if name not in self._PLACES:
            raise AttributeError(f"no register is called {name}")
        lifetime, number = self._PLACES[name]
        getattr(self._context, lifetime)[number] = value


CONTEXT = state_type(Context, SPACE, *[Plain(int64)] * 5)
CONTEXT_WORDS = CONTEXT.words


@intrinsic
def context_at(typingctx, address):  # type: ignore[no-untyped-def]
    """In kernels, the context whose record lies at an address of the process."""

    def codegen(context, builder, signature, values):  # type: ignore[no-untyped-def]
        return builder.inttoptr(values[0], context.get_value_type(signature.return_type))

    return CONTEXT(int64), codegen


HANDLER = int64(CONTEXT)  # a command's signature
# Its results: it has replied; Python must reply; its connection has to wait; or it has done some of its work, replied
# with nothing or with a part, and must be called again in the next turn.  The last never happens within a transaction.
SERVED, FOR_PYTHON, BLOCKS, AGAIN = 0, 1, 9, 10
