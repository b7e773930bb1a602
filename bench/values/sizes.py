"""How much the parts of the benchmark of collections measure, in full and in a size of seconds."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    rounds: int = 5
    elements: int = 100_000  # of a collection of the part throughput
    requests: int = 500_000  # of a run of it
    clients: int = 50
    scale: float = 1.0  # of the collections of the part memory
    indexed: int = 10_000_000  # elements of the list of the part index
    lookups: int = 20_000
    large: int = 1_000_000  # elements of a collection of the parts turns and snapshot
    value_bytes: int = (512 << 20) - 4096  # of the part turns; APPEND and SETRANGE need room below the limit
    settle_s: float = 0.5  # for what goes on after a command of it
    rate: int = 20_000  # requests a second of the part snapshot
    quiet_s: float = 2.0
    mixed_bytes: int = 1_000_000_000  # of the part remainder
    idle_s: float = 60.0


SMOKE = Sizes(
    rounds=1,
    elements=1000,
    requests=2000,
    scale=0.01,
    indexed=20_000,
    lookups=400,
    large=3000,
    value_bytes=1 << 20,
    settle_s=0.05,
    rate=2000,
    quiet_s=0.3,
    mixed_bytes=20_000_000,
    idle_s=1.0,
)
