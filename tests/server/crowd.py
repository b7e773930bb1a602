"""Several connections to one server, which act in turn: for tests of commands that wait.

    with Crowd(address, members=4) as crowd:
        crowd.act(0, "BLPOP", "k", "0")        {}: member 0 waits
        crowd.act(1, "RPUSH", "k", "v")        {0: [b"*2..."], 1: [b":1..."]}: all replies that came, by member

A step ends when the server has settled: the member has its reply or waits, and so do all others.  A server sends all
replies of a turn before it reads again, so those that a step caused are there when a witness has been answered once
more.  A member that waits may be given further commands; they are kept, and run when its wait has ended.
"""

import select
from collections.abc import Sequence
from typing import Any

from tests.server.wire import Argument, Wire, encode, wait_until

Replies = dict[int, list[bytes]]


class Crowd:
    """The connections, and a witness."""

    def __init__(self, address: Any, members: int, protocol: int = 2) -> None:
        self.witness = Wire(address)
        self.wires = [Wire(address, protocol) for _ in range(members)]
        self.ids = [int(wire("CLIENT", "ID")) for wire in self.wires]
        self._owed = [0] * members  # replies that each is still to get

    def __enter__(self) -> "Crowd":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        for wire in (*self.wires, self.witness):
            wire.close()

    def waiting(self) -> set[int]:
        """The members that wait in a command, as CLIENT LIST tells."""
        fields = self._fields()
        return {member for member, identity in enumerate(self.ids) if "b" in fields[identity]["flags"]}

    def _fields(self) -> dict[int, dict[str, str]]:
        # CLIENT LIST by id.
        lines = (line.split(" ") for line in self.witness("CLIENT", "LIST").decode().splitlines())
        fields = (dict(word.split("=", 1) for word in words) for words in lines)
        return {int(one["id"]): one for one in fields}

    def act(self, member: int, *words: Argument) -> Replies:
        """Let a member send a command; returns the replies that the members got until the server had settled."""
        return self.send(member, [words])

    def send(self, member: int, commands: Sequence[tuple[Argument, ...]]) -> Replies:
        """The same for several commands at once."""
        data = b"".join(encode(*words) for words in commands)
        before = self._fields()[self.ids[member]]
        self.wires[member].send(data)
        if "b" in before["flags"]:  # the server only keeps it: wait until it has read it
            kept = int(before["qbuf"]) + len(data)
            wait_until(lambda: int(self._fields()[self.ids[member]]["qbuf"]) >= kept, "input to be kept", interval_s=0)
        self._owed[member] += len(commands)
        return self.settle()

    def leave(self, member: int) -> None:
        """Let a member close its connection, whatever it waits for, and come back with a new one."""
        gone, protocol = self.ids[member], self.wires[member].protocol
        address = self.wires[member].socket.getpeername()
        self.wires[member].close()
        wait_until(lambda: gone not in self._fields(), "a connection to be closed", interval_s=0)
        self.wires[member] = Wire(address, protocol)
        self.ids[member], self._owed[member] = int(self.wires[member]("CLIENT", "ID")), 0

    def settle(self) -> Replies:
        """The replies that the members get until each has been answered, or waits."""
        found: Replies = {}

        def has_settled() -> bool:
            waiting = self.waiting()
            self._collect(found)
            return all(owed == 0 or member in waiting for member, owed in enumerate(self._owed))

        wait_until(has_settled, "the server to settle", interval_s=0)
        return found

    def _collect(self, found: Replies) -> None:
        # Read what has come, without waiting.
        for member, wire in enumerate(self.wires):
            while wire.pending() or select.select([wire.socket], [], [], 0)[0]:
                found.setdefault(member, []).append(wire.raw_reply())
                self._owed[member] -= 1
                assert self._owed[member] >= 0, f"member {member} got a reply to nothing: {found[member][-1]!r}"
