"""MONITOR: the list of monitors, and what nobody pays when there is none."""

import random
from collections.abc import Iterator

import pytest

from kvstore.commands.accounts import measure_slowness
from kvstore.connections.sends import MESSAGES_MAX
from kvstore.effects.monitors import monitor_begin, monitor_end
from kvstore.lifetimes import connection
from kvstore.net.closing import close_connection
from kvstore.net.output import send_all
from tests.kvstore.test_turn import Sockets


@pytest.fixture
def server() -> Iterator[Sockets]:
    with Sockets() as made:
        made.registers.SLOW_US = connection.NEVER
        made.registers.SLOWLOG_US, made.registers.CYCLES_PER_MS = -1, 1_000_000
        yield made
        for client in made.clients:
            client.close()


def begin(server: Sockets, slot: int) -> None:
    monitor_begin(server.context, slot)
    measure_slowness(server.context)


def lines(data: bytes) -> list[bytes]:
    """The parts of lines behind the address."""
    return [line.split(b"] ", 1)[1] for line in data.split(b"\r\n")[:-1]]


def test_a_line_is_written_once_for_all(server: Sockets) -> None:
    monitors = [server.open() for _ in range(3)]
    slot = server.open()
    for monitor in monitors:
        begin(server, monitor)
    server.receive(slot, ("SET", "key", "value"), ("GET", "key"))
    written = server.registers.MESSAGES_LENGTH
    send_all(server.context)
    arrived = [server.arrived(monitor) for monitor in monitors]
    assert arrived[0] == arrived[1] == arrived[2]
    assert len(arrived[0]) == written
    assert lines(arrived[0]) == [b'"SET" "key" "value"', b'"GET" "key"']
    assert server.arrived(slot) == b"+OK\r\n$5\r\nvalue\r\n"


def test_commands_are_looked_at_only_while_there_is_a_monitor(server: Sockets) -> None:
    """SLOW_CYCLES decides, which is compared with each command's time in any case."""
    slot, monitor = server.open(), server.open()
    measure_slowness(server.context)
    assert connection.NEVER == server.registers.SLOW_CYCLES
    begin(server, monitor)
    assert server.registers.SLOW_CYCLES == 0
    monitor_end(server.context, monitor)
    measure_slowness(server.context)
    assert connection.NEVER == server.registers.SLOW_CYCLES
    server.registers.SLOW_CYCLES = 0  # until the tick that follows
    server.receive(slot, ("SET", "key", "value"))
    assert server.registers.MESSAGES_LENGTH == 0


def test_monitors_begin_and_end_in_any_order(server: Sockets) -> None:
    generator = random.Random(5)
    monitoring: set[int] = set()
    slots = [server.open() for _ in range(4)]
    for number in range(300):
        slot = generator.choice(slots)
        if slot in monitoring and generator.random() < 0.3:
            close_connection(server.context, slot)
            server.clients[slot].close()
            assert server.open() == slot
            server.clients[slot] = server.clients.pop()
            monitoring.discard(slot)
        elif generator.random() < 0.5:
            begin(server, slot)
            monitoring.add(slot)
        else:
            monitor_end(server.context, slot)
            monitoring.discard(slot)
        assert len(monitoring) == server.registers.MONITORS
        measure_slowness(server.context)
        speaker = generator.choice(slots)
        server.receive(speaker, ("ECHO", number))
        send_all(server.context)
        for slot in slots:
            shown = b'"ECHO" "%d"\r\n' % number if slot in monitoring else b""
            assert server.arrived(slot).endswith(shown or (b"%d\r\n" % number if slot == speaker else b""))


def test_lines_that_nobody_reads_do_not_pile_up_in_the_buffer_of_all(server: Sockets) -> None:
    """They become the monitor's own output, where its limit holds."""
    slot, monitor = server.open(), server.open()
    begin(server, monitor)
    row = server.shard.connections.row(monitor)
    for _ in range(20):
        server.receive(slot, ("MULTI",))
        for _ in range(100):
            server.receive(slot, ("ECHO", "x" * 60_000))
            while int(server.shard.connections[slot, connection.INPUT_CAPACITY]):
                server.receive(slot)
        server.receive(slot, ("EXEC",))
        assert server.registers.MESSAGES_LENGTH < MESSAGES_MAX
        server.arrived(slot)
    send_all(server.context)
    assert int(row[connection.OUTPUT_LENGTH]) > 100_000_000
    server.registers.OUTPUT_HARD_LIMIT = 1 << 20
    server.receive(slot, ("PING",))
    send_all(server.context)
    assert int(row[connection.FLAGS]) & connection.KILLED
