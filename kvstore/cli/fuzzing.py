"""`kvstore fuzz`: a campaign against the kernels of this machine, or what one kept played again.

The kernels check the bounds of arrays, unless they are wanted as a server has them.  A setting decides that before the
first kernel is imported, so everything that has kernels is imported here when the command runs.
"""

import os
import random
import sys
from pathlib import Path

import click

from kvstore.cli.building import bring_kernels

BOUNDSCHECK = "NUMBA_BOUNDSCHECK"


def fuzz(seconds: float, seed: int | None, keys: int, directory: Path, unchecked: bool) -> int:
    """Attack a store for so long; returns the exit status: 1 if anything failed."""
    _choose_kernels(unchecked)
    from kvstore.fuzz.campaign import Campaign
    from kvstore.fuzz.inputs import Inputs
    from kvstore.fuzz.target import Target

    bring_kernels()
    seed = random.SystemRandom().randrange(1 << 32) if seed is None else seed
    click.echo(f"seed {seed}")
    with Target(keys) as target:
        campaign = Campaign(target, Inputs(random.Random(seed), keys), directory)
        campaign.run(seconds, _say)
    click.echo(f"{campaign.executions:,} inputs, {campaign.failures} failed")
    for error, count in campaign.alike.items():
        click.echo(f"{count} x {error}")
    for path in campaign.found:
        click.echo(f"kept {path}; to play it again: kvstore fuzz --replay {path}")
    return 1 if campaign.failures else 0


def replay(path: Path, unchecked: bool) -> int:
    """Play a kept file again; returns the exit status: 1 if it fails again.  Raises ClickException."""
    _choose_kernels(unchecked)
    from kvstore.fuzz.campaign import Kept
    from kvstore.fuzz.campaign import replay as play_again
    from kvstore.fuzz.target import Target

    try:
        kept = Kept.read(path)
    except (OSError, ValueError) as error:
        raise click.ClickException(f"cannot play {path}: {error}") from error
    bring_kernels()
    with Target(kept.keys, seed=kept.seed) as target:
        failure = play_again(target, kept)
    click.echo(f"fails: {failure.error}" if failure else "does not fail")
    return 1 if failure else 0


def _choose_kernels(unchecked: bool) -> None:
    os.environ.setdefault(BOUNDSCHECK, "0" if unchecked else "1")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
