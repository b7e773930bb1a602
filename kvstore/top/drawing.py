"""A view as a picture in text, for a terminal of any size and for a file.

    header      server, address, uptime; whether the view is paused, or the server has gone
    figures     one line for each group of single numbers
    commands    as many as there is room for, in the order that the reader chose
    the rest    stores, types and databases; the slow log, latency events

Everything that came from the server is made printable and is never read as markup.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from kvstore.top.units import NONE, clock, count, duration, printable, share, size
from kvstore.top.view import ORDERS, Command, View, in_order

LABEL = 8  # columns of a line's name
GAP = 4  # columns between tables
COMMANDS_MIN = 5
HEAD_ROWS = 12  # header, figures, titles of the commands, the keys
ROWS_MAX = 10  # of each other table
_RULER = Console(width=1000)
KEYS = f"q quits  p pauses  s next order ({' '.join(f'{key} {name}' for name, key in ORDERS.items())})  r reverses"


@dataclass(frozen=True)
class Looks:
    """How a view is to be drawn."""

    width: int = 120
    height: int | None = None  # None: as high as it needs
    order: str = "calls"
    backwards: bool = False
    note: str = ""  # shown in the header: paused, or why there is no answer
    keys: bool = False  # whether to say what the keys do


def frame(view: View, address: str, looks: Looks) -> RenderableType:
    """The whole picture."""
    parts: list[RenderableType] = [_header(view, address, looks), _lines(view)]
    rest, height = _rest(view, looks.width)
    room = len(view.commands) if looks.height is None else max(COMMANDS_MIN, looks.height - HEAD_ROWS - height)
    if view.commands:
        parts += [Text(), _commands(view.commands, looks, room)]
    parts += rest
    if looks.keys:
        parts += [Text(), Text(KEYS, style="dim", no_wrap=True, overflow="ellipsis")]
    return Group(*parts)


def _header(view: View, address: str, looks: Looks) -> RenderableType:
    server = view.figures["server"]
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"{server['name']} {printable(str(server['version'] or ''))}", style="bold")
    line.append(f"  {printable(address)}  up {duration(_scaled(server['uptime_s'], 1e6))}")
    if server["role"] not in (None, "master"):
        line.append(f"  {printable(str(server['role']))}")
    if server["loading"]:
        line.append("  loading", style="yellow")
    if looks.note:
        line.append(f"  {printable(looks.note)}", style="bold yellow")
    return line


def _scaled(value: Any, by: float) -> float | None:
    return None if value is None else value * by


def _lines(view: View) -> RenderableType:
    lines = []
    for name, text in _figures(view).items():
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(f"{name:<{LABEL}}  ", style="bold")
        lines.append(line.append(text))
    return Group(*lines)


def _figures(view: View) -> dict[str, str]:
    of: Any = view.figures  # the groups' fields are what view.py puts there
    requests, clients, memory, machine, branches = (
        of[group] for group in ("requests", "clients", "memory", "machine", "branches")
    )
    rates = {name: f"{count(requests[f'{name}_per_s'])}/s" for name in ("errors", "expired", "evicted")}
    words = {"blocked": "blocked", "pubsub": "subscribed", "tracking": "tracking", "watching": "watching"}
    copied = {
        kind: f"{count(machine[f'{kind}_copied_per_s'])}/s, {count(machine[f'{kind}_copied'])} in all"
        for kind in ("pages", "tables")
    }
    # Others have no turns, and kvstore measures its own only while it is asked to.
    longest = {} if requests["longest_turn_us"] is None else {"longest_turn": duration(requests["longest_turn_us"])}
    return {
        "requests": _spaced(f"{count(requests['per_s'])}/s", hits=share(requests["hit_rate"]), **rates),
        "load": _spaced(
            processor=share(requests["processors"]),
            **longest,
            received=f"{size(requests['received_bytes_per_s'])}/s",
            sent=f"{size(requests['sent_bytes_per_s'])}/s",
        ),
        "clients": _spaced(
            f"{count(clients['connected'])} of {count(clients['most'])}",
            **{word: count(clients[name]) for name, word in words.items()},
        ),
        "memory": _spaced(
            **{name: size(memory[name]) for name in ("used", "resident", "peak", "limit")},
            machine=f"{size(machine['bytes_in_use'])} of {size(machine['bytes'])}",
        ),
        "copies": _spaced(**copied, faults=f"{count(machine['faults_per_s'])}/s"),
        "forks": _forks(machine, branches),
        "image": _image(of["images"]),
    }


def _forks(machine: dict[str, Any], branches: dict[str, Any]) -> str:
    return _spaced(
        count(machine["forks"]),
        last=duration(machine["last_fork_us"]),
        branches=count(branches["branches"]),
        snapshots=count(branches["snapshots"]),
        their_own=size(branches["branches_own_bytes"]),
    )


def _spaced(*texts: str, **named: str) -> str:
    return "   ".join([*texts, *(f"{name.replace('_', ' ')} {text}" for name, text in named.items())])


def _image(image: dict[str, Any]) -> str:
    now = [f"writing, {share(image['progress'])}"] if image["running"] else []
    if image["status"] not in (None, "ok"):
        return _spaced(*now, f"the last one failed: {printable(image['error'] or str(image['status']))}")
    changes = count(image["changes_since"])
    if not image["taken"]:
        return _spaced(*now, "none yet", changes=changes)
    return _spaced(
        *now,
        f"last {clock(image['saved_unix_s'])}",
        changes_since=changes,
        pause=duration(image["pause_us"]),
        took=duration(_scaled(image["seconds"], 1e6)),
        size=size(image["bytes"]),
        copied=size(image["copied_bytes"]),
    )


# ------------------------------------------------------------------------------------------------------------- tables


def _table(title: str, *columns: str) -> Table:
    # The first column is text, the others are numbers.
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold underline")
    table.add_column(title, no_wrap=True, overflow="ellipsis")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


# The columns of the commands, the most important ones first: they are left out from the end where there is no room.
_COLUMNS: dict[str, Callable[[Command], str]] = {
    "calls/s": lambda one: count(one.per_s),
    "busy": lambda one: share(one.busy),
    "p99": lambda one: duration(one.p99_us),
    "mean": lambda one: duration(one.now_us),
    "p50": lambda one: duration(one.p50_us),
    "p99.9": lambda one: duration(one.p999_us),
    "mean ever": lambda one: duration(one.ever_us),
    "failed/s": lambda one: count(one.failed_per_s),
}


def _commands(commands: Sequence[Command], looks: Looks, rows: int) -> Table:
    shown = in_order(commands, looks.order, looks.backwards)[:rows]
    columns = list(_COLUMNS)
    while True:
        table = _table("command", *columns)
        for one in shown:
            cells = (_COLUMNS[column](one) for column in columns)
            table.add_row(Text(printable(one.name)), *cells, style="" if one.per_s else "dim")
        if not columns or _width(table) <= looks.width:
            return table
        columns.pop()


def _width(table: Table) -> int:
    return Measurement.get(_RULER, _RULER.options, table).maximum


def _rest(view: View, width: int) -> tuple[list[RenderableType], int]:
    # The other tables, side by side as far as they fit, and how many rows they take.
    parts: list[RenderableType] = []
    height = 0
    for tables in _side_by_side([_stores(view), _types(view), _databases(view)], width):
        grid = Table.grid(padding=(0, GAP, 0, 0))
        grid.add_row(*tables)
        parts += [Text(), grid]
        height += 2 + max(table.row_count for table in tables)
    for table in (_slow(view), _events(view)):
        if table.row_count:
            parts += [Text(), table]
            height += 2 + table.row_count
    return parts, height


def _side_by_side(tables: Sequence[Table], width: int) -> list[list[Table]]:
    # Tables that have rows, in lines that are no wider than `width`.
    lines: list[list[Table]] = []
    room = 0
    for table in tables:
        if not table.row_count:
            continue
        wide = _width(table) + GAP
        if not lines or wide > room:
            lines.append([])
            room = width + GAP
        lines[-1].append(table)
        room -= wide
    return lines


def _stores(view: View) -> Table:
    table = _table("store", "own", "shared", "private", "clients")
    for one in view.stores[:ROWS_MAX]:
        kind = "" if one.kind == "branch" else f" ({one.kind})"
        sizes = map(size, (one.own, one.shared, one.private))
        table.add_row(Text(printable(one.name, 24) + kind), *sizes, count(one.connections))
    return table


def _types(view: View) -> Table:
    sampled = sum(one.sampled for one in view.types)
    table = _table(f"type, by {count(sampled)} keys", "keys", "memory", "share", "a key")
    for one in view.types[:ROWS_MAX]:
        about = [f"~{text}" if text != NONE else text for text in (count(one.keys), size(one.bytes))]
        table.add_row(Text(printable(one.type, 24)), *about, share(one.share), size(one.bytes_per_key))
    return table


def _databases(view: View) -> Table:
    table = _table("database", "keys", "expire")
    for one in view.databases[:ROWS_MAX]:
        table.add_row(f"db{one.number}", count(one.keys), count(one.expires))
    return table


def _slow(view: View) -> Table:
    # One column, so that a long command is cut, and not the others.
    rows = [(clock(one.unix_s), duration(one.us), printable(one.client), one.command) for one in view.slow[:ROWS_MAX]]
    at, took, client = (max((len(row[i]) for row in rows), default=0) for i in range(3))
    table = _table("slow commands")
    for row in rows:
        start = f"{row[0]:<{at}}  {row[1]:>{took}}  {row[2]:<{client}}  "
        table.add_row(Text(start + printable(row[3])))
    return table


def _events(view: View) -> Table:
    table = _table("latency event", "last at", "last", "worst")
    for one in view.events[:ROWS_MAX]:
        times = duration(one.last_ms * 1000), duration(one.worst_ms * 1000)
        table.add_row(Text(printable(one.name)), clock(one.unix_s), *times)
    return table
