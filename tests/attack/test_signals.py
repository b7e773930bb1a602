"""Signals in any order at any time: acknowledged saves survive, and an orderly end saves all acknowledged writes.

A server writes and saves.  It receives signals while it serves, while a snapshot is stopped before it becomes durable,
and while the final one is.  After a second SIGINT only the last completed snapshot is left.  Every other end keeps all
acknowledged writes, and SIGHUP does not end the server.
"""

import random
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests import harness
from tests.attack.images import load
from tests.attack.seeds import seeds, told
from tests.gated import gate, gated
from tests.server.test_signals import pending
from tests.server.wire import OK, Status, Wire, info, wait_until

KEYS = 50
ENDING = (signal.SIGTERM, signal.SIGINT)


def write(wire: Wire, generation: int) -> None:
    """Set every key to this value at once."""
    replies = wire.pipeline([("MULTI",), *(("SET", f"k{i}", generation) for i in range(KEYS)), ("EXEC",)])
    assert replies[-1] == [OK] * KEYS


def generation_in(directory: Path) -> int:
    """The value of all keys in the newest image; 0 without an image."""
    found, refused = load(directory)
    assert refused == []
    if found is None:
        return 0
    values = {value for value, _ in found[0].values()}
    assert len(found) == 1 and len(found[0]) == KEYS and len(values) == 1, found
    return int(values.pop())


def send(server: harness.Process, number: signal.Signals) -> None:
    """Send a signal, and wait until it has been taken."""
    server.process.send_signal(number)
    wait_until(
        lambda: server.process.poll() is not None or not pending(server.process.pid), f"{number.name} to be taken"
    )


def saved(wire: Wire) -> bool:
    return info(wire, "persistence")["rdb_bgsave_in_progress"] == "0"


def attack(directory: Path, generator: random.Random) -> str:
    """Run one server's life; returns a record of it for the message of a failure."""
    data = directory / "data"
    data.mkdir(parents=True)
    gates = directory / "gates"
    generation = durable = 0
    with (
        ExitStack() as stack,
        harness.start(data, save="3600 1000000", **gated(gates)) as server,
        Wire(server.address) as wire,
    ):
        for _ in range(generator.randrange(3)):
            generation += 1
            write(wire, generation)
            assert wire("SAVE") == OK
            durable = generation
            if generator.random() < 0.5:
                send(server, signal.SIGHUP)
        generation += 1
        write(wire, generation)
        story = generator.choice(("serving", "in a snapshot", "in the final one"))
        if story != "serving":
            durable_next = stack.enter_context(gate(gates, "sync"))
        if story == "in a snapshot":
            assert wire("BGSAVE") == Status("Background saving started")
            durable_next.reached()
            generation += 1
            write(wire, generation)
        first, insists = generator.choice(ENDING), False
        server.process.send_signal(first)
        if story != "serving":
            wait_until(lambda: "Saving the final" in server.log(), "the final snapshot")
            if story == "in the final one":
                durable_next.reached()
            for number in generator.choices((signal.SIGTERM, signal.SIGHUP, signal.SIGTERM, signal.SIGINT), k=3):
                if insists:
                    break
                insists = number == signal.SIGINT
                send(server, number)
            if not insists:
                durable_next.open()
        status = server.ended()
        told_story = f"{story}, {first.name}, insists {insists}: status {status}\n{server.log()}"
    assert status == int(insists), told_story
    found = generation_in(data)
    assert found == (durable if insists else generation), f"generation {found} of {durable}..{generation}, {told_story}"
    return told_story


def test_signals_at_any_time_leave_what_was_promised(tmp_path: Path) -> None:
    """Runs some lives."""
    for number, seed in enumerate(seeds("signals", 5)):
        with told(seed) as generator:
            attack(tmp_path / str(number), generator)


@pytest.mark.slow
def test_signals_at_any_time_for_long(tmp_path: Path) -> None:
    """Runs two hundred lives."""
    for number, seed in enumerate(seeds("signals", 200)):
        with told(seed) as generator:
            attack(tmp_path / str(number), generator)
