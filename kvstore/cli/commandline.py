"""The command line: serve, snapshot, inspect, info, top, fuzz, bench.

`serve` is here only for its help; serving.py runs it, without this file.  The bench group lives in a package that may
import this one, and not the reverse, so it is looked up by name when a user calls it.
"""

import sys
import time
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from kvstore.cli import serving
from kvstore.cli.building import build_library, progress_bar
from kvstore.wire.reply import CommandError
from kvstore.wire.respclient import Connection

POLL_S = 0.01


class _Late(click.Group):
    """A group that finds `bench` only when it is called."""

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted([*super().list_commands(context), "bench"])

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] in ("bench", "kvstore", "mmcore", "snapshot"):
                raise
            raise click.ClickException(f"{error.name} is not installed: pip install 'kvstore[bench]'") from error

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name == "bench":
            command: click.Command = import_module("bench.cli").bench
            return command
        return super().get_command(context, name)


def _version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from importlib.metadata import PackageNotFoundError, version

        try:
            known = version("kvstore")
        except PackageNotFoundError:
            known = "0 (not installed)"
        click.echo(f"kvstore, version {known}")
        context.exit()


@click.group(cls=_Late, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Show the version.")
def main() -> None:
    """A Redis-protocol server whose snapshots pause it for microseconds."""


class _Serve(click.Command):
    """Parameters are parsed by the server itself; the options declared here are those that its help names."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        if serving.wants_help(args):
            return super().parse_args(context, ["--help"])
        context.args = args
        return args


@main.command(
    cls=_Serve,
    epilog="Example: kvstore serve --port 7000 --dir ./data --maxmemory 1gb --save '60 1000'",
)
@click.option("--config", metavar="PATH", help="A file like redis.conf.")
@click.option("--port", metavar="N", help="TCP port; 0 for none.  [6379]")
@click.option("--bind", metavar="ADDRESSES", help="Addresses to listen on.  [127.0.0.1 -::1]")
@click.option("--unixsocket", metavar="PATH", help="Listen on a Unix socket too.")
@click.option("--dir", metavar="PATH", help="Where images are kept.  [.]")
@click.option("--maxmemory", metavar="BYTES", help="Above that evict or refuse writes; 100mb, 2gb ...  [0: no limit]")
@click.option("--save", metavar="POINTS", help="Save points: pairs of seconds and changes; '' for none.")
@click.option("--fork-mode", metavar="MODE", help="constant, on-demand or classic.  [constant]")
@click.option("--requirepass", metavar="PASSWORD", help="What clients must AUTH with.")
@click.pass_context
def serve(context: click.Context, /, **_named: object) -> None:
    """Serve until SHUTDOWN or a signal.

    Every parameter of redis.conf that the server knows can be given as --name value.
    """
    context.exit(serving.serve(context.args))


@main.command(epilog="Example: kvstore build --output kernels.so")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the library there too.")
@click.option("--level", type=click.Choice(["x86-64-v2", "x86-64-v3"]), default=None, help="[this machine's]")
def build(output: Path | None, level: str | None) -> None:
    """Compile all kernels, as far as they are not kept, and join them into one library.

    A server of the same sources opens it and needs no compiler.
    """
    if level and not output:
        raise click.UsageError("--level needs --output: what is kept is of this machine's level")
    try:
        where = build_library(output, level or "")
    except (RuntimeError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(where)


@main.command(epilog="Example: kvstore fuzz --seconds 600 --directory found")
@click.option("--seconds", type=click.FloatRange(0), default=60.0, show_default=True, help="0: a single batch.")
@click.option("--seed", type=int, help="Of the inputs; by default another one each time.")
@click.option("--keys", type=click.IntRange(1), default=1000, show_default=True, help="Strings in the store.")
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("fuzz-found"),
    show_default=True,
    help="Where inputs that fail are kept.",
)
@click.option("--unchecked", is_flag=True, help="Kernels as a server has them, that do not check bounds.")
@click.option(
    "--replay", "kept", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Play a kept file again."
)
@click.pass_context
def fuzz(
    context: click.Context,
    seconds: float,
    seed: int | None,
    keys: int,
    directory: Path,
    unchecked: bool,
    kept: Path | None,
) -> None:
    """Attack the commands with mutated input, each in a fork of a loaded store, without a server.

    An input that crashes a kernel or breaks an invariant is kept.  The status is 1 if there was any.
    """
    fuzzing = import_module("kvstore.cli.fuzzing")
    context.exit(fuzzing.replay(kept, unchecked) if kept else fuzzing.fuzz(seconds, seed, keys, directory, unchecked))


# ------------------------------------------------------------------------------------------------- talking to a server


def _address(command: Any) -> Any:
    for option in (
        click.option("--unixsocket", "--socket", type=click.Path(), help="Connect to a Unix socket instead."),
        click.option("--password", envvar="REDISCLI_AUTH", help="What to AUTH with; also from $REDISCLI_AUTH."),
        click.option("--port", default=6379, show_default=True),
        click.option("--host", default="127.0.0.1", show_default=True),
    ):
        command = option(command)
    return command


def _connect(host: str, port: int, password: str | None, unixsocket: str | None) -> Connection:
    try:
        return Connection(host, port, unixsocket=unixsocket, password=password)
    except (OSError, CommandError) as error:
        raise click.ClickException(f"cannot reach {unixsocket or f'{host}:{port}'}: {error}") from error


def _info(connection: Connection, *sections: str) -> dict[str, str]:
    text = connection.command("INFO", *sections)
    text = text.decode() if isinstance(text, bytes) else str(text)
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


@main.command(epilog="Example: kvstore snapshot --port 7000 --json")
@_address
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def snapshot(host: str, port: int, password: str | None, unixsocket: str | None, as_json: bool) -> None:
    """Ask a running server for a snapshot, and wait until it is durable."""
    with _connect(host, port, password, unixsocket) as connection:
        try:
            figures = _take(connection, show=not as_json and sys.stderr.isatty())
        except (CommandError, OSError) as error:
            raise click.ClickException(f"no snapshot: {error}") from error
    if as_json:
        click.echo(import_module("json").dumps(figures))
        return
    click.echo(
        f"pause {figures['pause_us']:.1f} us, duration {figures['duration_s']:.3f} s, {figures['pages']} pages, "
        f"{figures['bytes']} bytes, {figures['pages_copied']} pages copied meanwhile\n{figures['path']}"
    )


def _take(connection: Connection, show: bool) -> dict[str, Any]:
    while True:  # a snapshot that is already being written holds an older state: wait for its end
        before = _info(connection, "persistence")
        if before["rdb_bgsave_in_progress"] == "0":
            try:
                connection.command("BGSAVE")
                break
            except CommandError as error:
                if "already in progress" not in str(error):
                    raise
        time.sleep(POLL_S)
    with closing(progress_bar("Writing", show)) as bar:
        while (now := _info(connection, "persistence"))["rdb_bgsave_in_progress"] == "1":
            bar.show(float(now["current_fork_perc"]), 100)
            time.sleep(POLL_S)
    if now["rdb_last_bgsave_status"] != "ok":
        raise CommandError(now["snapshot_last_error"] or "the server's log says why")
    return {
        "pause_us": float(now["snapshot_last_pause_usec"]),
        "duration_s": float(now["snapshot_last_duration_sec"]),
        "pages": int(now["snapshot_last_pages"]),
        "bytes": int(now["snapshot_last_bytes"]),
        "pages_copied": int(now["snapshot_last_pages_copied"]),
        "path": now["snapshot_last_path"],
    }


@main.command(epilog="Example: kvstore info persistence --port 7000")
@click.argument("sections", nargs=-1)
@_address
def info(sections: tuple[str, ...], host: str, port: int, password: str | None, unixsocket: str | None) -> None:
    """Print a running server's INFO."""
    with _connect(host, port, password, unixsocket) as connection:
        text = connection.command("INFO", *sections)
    click.echo(text.decode().strip() if isinstance(text, bytes) else str(text).strip())


@main.command(epilog="Example: kvstore top --port 7000; kvstore top --once --json --url redis://default:secret@host")
@_address
@click.option("--url", metavar="URL", help="redis://user:password@host:port, or unix://user:password@/path.")
@click.option("--interval", type=click.FloatRange(0.05), default=1.0, show_default=True, help="Seconds between looks.")
@click.option("--once", is_flag=True, help="Print one frame and end; so does output that is no terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print one frame as JSON.")
def top(
    host: str,
    port: int,
    password: str | None,
    unixsocket: str | None,
    url: str | None,
    interval: float,
    once: bool,
    as_json: bool,
) -> None:
    """Watch a running server: requests, latency, memory, copies, branches, images, slow commands.

    It works with Redis and Valkey, too; what they do not tell is a dash.  Keys: q quits, p pauses, s changes the order.
    """
    places, screen = import_module("kvstore.top.place"), import_module("kvstore.top.screen")
    try:
        place = places.place_of_url(url) if url else places.Place(host, port, unixsocket, None, password)
    except places.BadUrl as error:
        raise click.BadParameter(str(error), param_hint="--url") from error
    try:
        if once or as_json or not sys.stdout.isatty():
            screen.once(place, interval, as_json)
        else:
            screen.watch(place, interval)
    except screen.GONE as error:
        raise click.ClickException(f"cannot reach {place}: {error}") from error


@main.command(epilog="Example: kvstore inspect data/dump-0000000042.kvimg")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def inspect(file: Path, as_json: bool) -> None:
    """Verify an image and print what it holds."""
    from snapshot.describe import describe, moment, text
    from snapshot.errors import ImageError
    from snapshot.reader import verify

    try:
        image = verify(file)
    except ImageError as error:
        raise click.ClickException(str(error)) from error
    held = describe(image)
    if as_json:
        click.echo(import_module("json").dumps(held))
        return
    metadata = held.pop("metadata")
    databases = _databases(metadata)
    held["forked_unix_us"] = f"{image.forked_unix_us}  ({moment(image.forked_unix_us)})"
    for name, value in [*held.items(), *metadata.items()]:
        click.echo(f"{text(name):>16}  {text(value) if value is not None else '-'}")
    for number, (keys, expires) in enumerate(databases):
        if keys:
            click.echo(f"{f'db{number}':>16}  keys={keys},expires={expires}")
    if databases and not any(keys for keys, _ in databases):
        click.echo(f"{'keys':>16}  none")


def _databases(metadata: dict[str, Any]) -> list[tuple[int, int]]:
    """Keys, and those with a deadline, by database: taken out of the metadata, unless that is no such list."""
    found = metadata.get("databases")
    pairs = found if isinstance(found, list) else []
    if not all(isinstance(pair, list) and [type(count) for count in pair] == [int, int] for pair in pairs):
        return []
    metadata.pop("databases", None)
    return [(keys, expires) for keys, expires in pairs]
