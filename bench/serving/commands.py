"""The benchmarks of a server beside its rivals, as commands."""

from pathlib import Path
from typing import Any

import click

from bench.options import against, common, finish, in_rounds, plotted
from bench.rig.servers import DEFAULT, RIVALS, SUBJECTS


@click.command("throughput")
@against(DEFAULT, "redis")
@click.option("--pipeline", "pipelines", type=click.IntRange(1), multiple=True, help="Default 1, 16 and 64.")
@click.option("--tests", default="get,set", show_default=True, help="Of redis-benchmark: get,set,incr,mset ...")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--keys", type=click.IntRange(1), default=1_000_000, show_default=True)
@click.option("--value-size", type=click.IntRange(1), default=64, show_default=True, help="[bytes]")
@click.option("--clients", type=click.IntRange(1), default=50, show_default=True)
@plotted
@common
def throughput_command(
    subjects: tuple[str, ...],
    pipelines: tuple[int, ...],
    tests: str,
    rounds: int,
    keys: int,
    value_size: int,
    clients: int,
    plot: Path | None,
    smoke: bool,
    json_file: Path | None,
) -> None:
    """Requests a second by redis-benchmark, this server and redis-server in turn.

    \b
    Example:
      kvstore bench throughput --pipeline 1 --pipeline 32 --tests get,set,incr
    """
    from bench.serving import throughput

    scale = 1.0
    if smoke:
        rounds, keys, scale = 1, min(keys, 1000), 0.01
    report = throughput.run(
        subjects, pipelines or throughput.PIPELINES, tests.split(","), rounds, keys, value_size, clients, scale, plot
    )
    finish(report, json_file)


@click.command("pause")
@against(*SUBJECTS)
@click.option("--keys", type=click.IntRange(1), default=1_048_576, show_default=True)
@click.option("--repetitions", type=click.IntRange(1), default=20, show_default=True, help="Snapshots of this server.")
@click.option("--rival-repetitions", type=click.IntRange(1), default=5, show_default=True, help="Of redis-server.")
@common
def pause_command(
    subjects: tuple[str, ...], keys: int, repetitions: int, rival_repetitions: int, smoke: bool, json_file: Path | None
) -> None:
    """How long taking a snapshot stops the server.

    \b
    Example:
      kvstore bench pause --repetitions 50
    """
    from bench.serving import pause

    if smoke:
        keys, repetitions, rival_repetitions = min(keys, 2000), 2, 2
    finish(pause.run(subjects, keys, repetitions=repetitions, rival_repetitions=rival_repetitions), json_file)


@click.command("snapshot")
@against(*SUBJECTS)
@click.option("--keys", type=click.IntRange(1), default=1_000_000, show_default=True)
@click.option("--value-size", type=click.IntRange(1), default=1024, show_default=True, help="[bytes]")
@click.option("--rate", type=click.IntRange(1), default=20_000, show_default=True, help="Requests a second.")
@click.option("--connections", type=click.IntRange(1, 900), default=50, show_default=True)
@click.option("--snapshots", type=click.IntRange(1), default=3, show_default=True, help="BGSAVEs of each server.")
@click.option("--quiet", "quiet_s", type=float, default=5.0, show_default=True, help="Seconds before, between, after.")
@click.option("--rival-option", "rival_options", multiple=True, help='For redis-server, as "--rdbcompression no".')
@click.option("--paper", is_flag=True, help="The load of the on-demand-fork paper, its figures beside.")
@plotted
@common
def snapshot_command(
    subjects: tuple[str, ...],
    keys: int,
    value_size: int,
    rate: int,
    connections: int,
    snapshots: int,
    quiet_s: float,
    rival_options: tuple[str, ...],
    paper: bool,
    plot: Path | None,
    smoke: bool,
    json_file: Path | None,
) -> None:
    """Latency under a fixed rate of requests while snapshots are taken.

    \b
    Example:
      kvstore bench snapshot --plot latency.png
      kvstore bench snapshot --paper
    """
    from bench.serving import snapshot

    options = [word for option in rival_options for word in option.split()]
    if paper:
        if plot:
            raise click.UsageError("--paper has no picture")
        size, seconds, requests_max = snapshot.PAPER_BYTES, 20.0, 12_000_000
        if smoke:
            size, seconds, requests_max = 2_000_000, 2.5, 400_000
        finish(snapshot.run_paper(subjects, size, value_size, seconds, requests_max, options), json_file)
        return
    if smoke:
        keys, rate, snapshots, quiet_s = min(keys, 2000), min(rate, 2000), 1, 0.5
    report = snapshot.run(subjects, keys, value_size, rate, connections, snapshots, quiet_s, options, plot)
    finish(report, json_file)


@click.command("restart")
@against(DEFAULT, "redis")
@click.option("--keys", type=click.IntRange(1), default=1_000_000, show_default=True)
@click.option("--value-size", type=click.IntRange(1), default=1024, show_default=True, help="[bytes]")
@click.option("--repetitions", type=click.IntRange(1), default=10, show_default=True)
@common
def restart_command(
    subjects: tuple[str, ...], keys: int, value_size: int, repetitions: int, smoke: bool, json_file: Path | None
) -> None:
    """From a restart to the first answered GET, and from an empty start to the first PONG.

    \b
    Example:
      kvstore bench restart --keys 4000000
    """
    from bench.serving import restart

    if smoke:
        keys, repetitions = min(keys, 2000), 1
    finish(restart.run(subjects, keys, value_size, repetitions), json_file)


@click.command("memory")
@against(DEFAULT, "redis")
@click.option("--keys", type=click.IntRange(1), default=1_000_000, show_default=True)
@click.option("--value-size", "value_sizes", type=click.IntRange(1), multiple=True, help="[bytes]; default 64.")
@common
def memory_command(
    subjects: tuple[str, ...], keys: int, value_sizes: tuple[int, ...], smoke: bool, json_file: Path | None
) -> None:
    """Resident bytes per key.

    \b
    Example:
      kvstore bench memory --value-size 64 --value-size 1024
    """
    from bench.serving import memory

    settle_s = memory.SETTLE_S
    if smoke:
        keys, settle_s = min(keys, 2000), 0.1
    finish(memory.run(subjects, keys, value_sizes or (64,), settle_s), json_file)


@click.command("givenback")
@against(DEFAULT, "redis")
@click.option("--gib", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True, help="Of values.")
@click.option("--way", "ways", multiple=True, type=click.Choice(("FLUSHALL", "UNLINK", "expiry", "7 of 8")))
@common
def givenback_command(
    subjects: tuple[str, ...], gib: float, ways: tuple[str, ...], smoke: bool, json_file: Path | None
) -> None:
    """Resident memory once what was loaded is deleted.

    \b
    Example:
      kvstore bench givenback --way FLUSHALL --way expiry
    """
    from bench.serving import givenback

    wait_s = givenback.WAIT_S
    if smoke:
        gib, wait_s = min(gib, 0.05), 0.5
    finish(givenback.run(subjects, gib, ways or givenback.WAYS, wait_s), json_file)


@click.command("expiry")
@against(DEFAULT, "redis")
@click.option("--keys", type=click.IntRange(1), default=1_000_000, show_default=True, help="That expire at once.")
@click.option("--rate", type=click.IntRange(1), default=35_000, show_default=True, help="New keys a second.")
@click.option(
    "--seconds", type=click.FloatRange(0, min_open=True), default=15.0, show_default=True, help="Of new keys."
)
@in_rounds(3)
@common
def expiry_command(
    subjects: tuple[str, ...],
    keys: int,
    rate: int,
    seconds: float,
    rounds: int,
    smoke: bool,
    json_file: Path | None,
) -> None:
    """Whether active expiry keeps up, and how long others wait for it.

    \b
    Example:
      kvstore bench expiry --keys 4000000 --rounds 5
    """
    from bench.serving import expiry

    idle_s = 4.0
    if smoke:
        keys, rate, seconds, rounds, idle_s = min(keys, 2000), min(rate, 2000), 1.0, 1, 1.0
    finish(expiry.run(subjects, keys, rate, seconds, rounds, idle_s=idle_s), json_file)


@click.command("eviction")
@against(DEFAULT, "redis", "valkey")
@click.option("--keys", type=click.IntRange(100), default=400_000, show_default=True, help="Asked for; a quarter fits.")
@in_rounds(3)
@common
def eviction_command(subjects: tuple[str, ...], keys: int, rounds: int, smoke: bool, json_file: Path | None) -> None:
    """How many requests a cache hits under LRU and LFU, and what a SET costs that evicts.

    \b
    Example:
      kvstore bench eviction --keys 1000000 --rounds 5
    """
    from bench.serving import eviction

    if smoke:
        keys, rounds = min(keys, 40_000), 1
    finish(eviction.run(subjects, keys, rounds), json_file)


@click.command("bystander")
@against(DEFAULT, "redis")
@click.option("--repetitions", type=click.IntRange(1), default=5, show_default=True)
@common
def bystander_command(subjects: tuple[str, ...], repetitions: int, smoke: bool, json_file: Path | None) -> None:
    """How long another client waits while one sends something that takes long.

    \b
    Example:
      kvstore bench bystander
      kvstore bench bystander --subject constant --repetitions 3
    """
    from bench.serving import bystander

    sizes = bystander.SMOKE if smoke else {**bystander.FULL, "repetitions": repetitions}
    finish(bystander.run(subjects, sizes), json_file)


@click.command("aside")
@against(DEFAULT, "redis")
@click.option("--repetitions", type=click.IntRange(1), default=5, show_default=True)
@common
def aside_command(subjects: tuple[str, ...], repetitions: int, smoke: bool, json_file: Path | None) -> None:
    """How long another client waits while one reads very much at once.

    \b
    Example:
      kvstore bench aside
      kvstore bench aside --subject constant --repetitions 3
    """
    from bench.serving import aside

    sizes = aside.SMOKE if smoke else {**aside.FULL, "repetitions": repetitions}
    finish(aside.run(subjects, sizes), json_file)


@click.command("pubsub")
@against(DEFAULT, *RIVALS)
@click.option("--subscribers", type=click.IntRange(1, 900), multiple=True, help="Default 1 and 100.")
@click.option("--size", type=click.IntRange(0), default=32, show_default=True, help="Of a message [bytes].")
@in_rounds(5)
@common
def pubsub_command(
    subjects: tuple[str, ...], subscribers: tuple[int, ...], size: int, rounds: int, smoke: bool, json_file: Path | None
) -> None:
    """Messages delivered a second by PUBLISH, and what each costs the server.

    \b
    Example:
      kvstore bench pubsub --subscribers 100 --subscribers 500
    """
    from bench.serving import pubsub

    sizes = pubsub.SMOKE if smoke else {"rounds": rounds}
    finish(pubsub.run(subjects, subscribers or pubsub.SUBSCRIBERS, size=size, **sizes), json_file)


@click.command("blocking")
@against(DEFAULT, *RIVALS)
@click.option("--connections", type=click.IntRange(1), default=10_000, show_default=True, help="That are in the way.")
@in_rounds(5)
@common
def blocking_command(
    subjects: tuple[str, ...], connections: int, rounds: int, smoke: bool, json_file: Path | None
) -> None:
    """How soon a push answers a client that waits, and what many connections cost the others.

    \b
    Example:
      kvstore bench blocking --connections 5000
    """
    from bench.serving import blocking

    sizes: dict[str, Any] = blocking.SMOKE if smoke else {"rounds": rounds, "connections": connections}
    finish(blocking.run(subjects, **sizes), json_file)


COMMANDS = (
    throughput_command,
    pause_command,
    snapshot_command,
    restart_command,
    memory_command,
    givenback_command,
    expiry_command,
    eviction_command,
    bystander_command,
    aside_command,
    pubsub_command,
    blocking_command,
)
