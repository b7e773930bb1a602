"""redis-benchmark as a client: one run of it, and the rates that it prints.

It comes with redis-server, so both servers are driven by the same foreign program.
"""

import csv
import subprocess
from collections.abc import Sequence


class ClientFailed(Exception):
    """redis-benchmark ended in an error; the message is its own."""


def redis_benchmark(
    port: int,
    tests: Sequence[str],
    requests: int,
    pipeline: int,
    clients: int,
    keys: int,
    value_size: int,
    timeout_s: float = 600.0,
) -> dict[str, float]:
    """One run: requests per second by test, under redis-benchmark's names of the tests."""
    options = {"-p": port, "-n": requests, "-P": pipeline, "-c": clients, "-r": keys, "-d": value_size}
    command = ["redis-benchmark", "-t", ",".join(tests), "--csv"]
    for name, value in options.items():
        command += [name, str(value)]
    try:
        # redis-benchmark tries forever to connect to a missing server.
        run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise ClientFailed(f"redis-benchmark did not end within {timeout_s:g} s") from error
    return rates_of(run)


def rates_of(run: "subprocess.CompletedProcess[str]") -> dict[str, float]:
    """Requests per second by test, from the output of redis-benchmark --csv."""
    rows = [row for row in csv.reader(run.stdout.splitlines()) if len(row) > 1 and row[0] != "test"]
    if run.returncode != 0 or not rows:
        raise ClientFailed((run.stderr or run.stdout)[-1000:])
    return {row[0]: float(row[1]) for row in rows}
