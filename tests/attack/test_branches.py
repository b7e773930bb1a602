"""Many connections over many branches and snapshots, with odd commands: each brings its replies, and nothing is lost.

The streams of test_bystander.py, a third of whose commands make, use, reset, restore, swap, rename and drop stores,
while other connections use them.  The bystander has a branch of its own that no stream names, so it finds there what it
has left.  At the end all stores are dropped, and the frames come back.
"""

import random
from contextlib import ExitStack

import pytest

from tests.attack.commands import stream
from tests.attack.seeds import seeds, told
from tests.attack.test_bystander import TOKEN, Bystander, check_replies, pieces
from tests.harness import Process
from tests.server.branching import drop_all, settled_frames
from tests.server.wire import OK, Status, Wire, info, wait_until

CONNECTIONS, AT_ONCE = 8, 3


def prepare(wire: Wire) -> None:
    """A server without branches, an empty main store."""
    assert wire("RESET") == Status("RESET")
    drop_all(wire)
    assert wire("FLUSHALL") == OK


def play_stores(server: Process, generator: random.Random, rounds: int, steps: int) -> None:
    """Play streams over some lasting connections in turn, with a bystander in a branch in between."""
    with Wire(server.address) as own:
        prepare(own)
        kept = own("CONFIG", "GET", "read-aside-threshold")[1]
        # Every read goes to another thread, or none.
        assert own("CONFIG", "SET", "read-aside-threshold", generator.choice((0, 1_000_000))) == OK
        before = settled_frames(own)
        assert own("BRANCH", "CREATE", "bystander") == OK
        with Bystander(server) as bystander, ExitStack() as stack:
            assert bystander.wire("BRANCH", "USE", "bystander") == OK
            connections = [
                stack.enter_context(Wire(server.address, generator.choice((2, 3)))) for _ in range(CONNECTIONS)
            ]
            for _ in range(rounds):
                places = generator.sample(range(CONNECTIONS), AT_ONCE)
                streams = [stream(generator, generator.randrange(1, steps), TOKEN, stores=0.4) for _ in places]
                data = [pieces(generator, made.data) for made in streams]
                while any(data):
                    which = generator.choice([number for number, left in enumerate(data) if left])
                    connections[places[which]].send(data[which].pop(0))
                for place, made in zip(places, streams, strict=True):
                    check_replies(connections[place], made)
                    if made.closes:
                        connections[place] = stack.enter_context(Wire(server.address, generator.choice((2, 3))))
                bystander.look()
        prepare(own)
        assert own("CONFIG", "SET", "read-aside-threshold", kept) == OK
        wait_until(lambda: info(own, "clients")["blocked_clients"] == "0", "nobody to wait")
        wait_until(lambda: settled_frames(own) <= before + 1, "all frames to come back")
        assert "Traceback" not in server.log()


def test_streams_over_branches_bring_their_replies_and_leave_nothing(attacked: Process) -> None:
    """Some eight thousand commands, three streams at a time."""
    for seed in seeds("stores", 5):
        with told(seed) as generator:
            play_stores(attacked, generator, 20, 60)


@pytest.mark.slow
def test_streams_over_branches_for_long(attacked: Process) -> None:
    """Half a million."""
    for seed in seeds("stores", 200):
        with told(seed) as generator:
            play_stores(attacked, generator, 100, 60)
