"""The fields of INFO, and the figures and rates that are made of two samples."""

import json
from typing import Any

import pytest
from rich.console import Console

from kvstore.top.drawing import Looks, frame
from kvstore.top.fields import Fields, NamedStore, number_of
from kvstore.top.sampling import Event, OfType, Sample, Slow
from kvstore.top.units import clock, count, duration, printable, share, size
from kvstore.top.view import ORDERS, View, in_order, view_of

BEFORE = """# Server
redis_version:7.2.5
run_id:a
uptime_in_seconds:90
total_commands_processed:1000
keyspace_hits:100
keyspace_misses:50
total_net_input_bytes:0
used_cpu_user:1.5
used_cpu_sys:0.5
pages_copied:10
# Commandstats
cmdstat_get:calls=100,usec=200,usec_per_call=2.00,rejected_calls=0,failed_calls=3
cmdstat_info:calls=4,usec=4000,usec_per_call=1000.00,rejected_calls=0,failed_calls=0
"""
AFTER = """# Server
redis_version:7.2.5
run_id:a
uptime_in_seconds:92
total_commands_processed:1404
keyspace_hits:410
keyspace_misses:150
total_net_input_bytes:4096
used_cpu_user:2.0
used_cpu_sys:0.6
pages_copied:30
frame_size:4096
frames_total:1024
frames_in_use:0
maxmemory:0
rdb_bgsave_in_progress:1
current_fork_perc:43.21
# Commandstats
cmdstat_get:calls=300,usec=1200,usec_per_call=4.00,rejected_calls=0,failed_calls=5
cmdstat_info:calls=6,usec=6000,usec_per_call=1000.00,rejected_calls=0,failed_calls=0
cmdstat_branch|info:calls=1,usec=5000,usec_per_call=5000.00,rejected_calls=0,failed_calls=0
cmdstat_slowlog:calls=2,usec=2,usec_per_call=1.00,rejected_calls=0,failed_calls=0
# Latencystats
latency_percentiles_usec_get:p50=1.003,p99=7.007,p99.9=9.023
# Keyspace
db0:keys=600,expires=6,avg_ttl=0
db12:keys=400,expires=0,avg_ttl=0
# Branches
branches:1
store0:name=a,kind=snapshot,own=1,kind=branch,own=8192,connections=2
store1:name=s,kind=snapshot,own=0,connections=0
"""


def sample(text: str, at_s: float, **more: Any) -> Sample:
    return Sample(at_s, Fields(text), **more)


@pytest.fixture
def view() -> View:
    own = {"info": 2, "slowlog|get": 1, "branch|info": 1}
    types = [OfType("hash", 1, 300), OfType("string", 3, 100)]
    pages = {"s": {"rss": 20480, "shared": 16384, "private": 4096}}
    after = sample(AFTER, 12.0, own_calls=own, own_hits=10, types=types, sampled=4, pages=pages)
    return view_of(sample(BEFORE, 10.0), after)


def test_rates_are_between_the_samples_and_without_our_own_commands(view: View) -> None:
    requests = view.figures["requests"]
    assert requests["per_s"] == (404 - 4) / 2
    assert (requests["hits_per_s"], requests["misses_per_s"], requests["hit_rate"]) == (150, 50, 0.75)
    assert requests["processors"] == pytest.approx(0.3)
    assert requests["received_bytes_per_s"] == 2048
    assert requests["errors_per_s"] is None  # this server does not tell
    commands = {one.name: one for one in view.commands}
    assert commands["info"].per_s == commands["branch|info"].per_s == 0
    assert commands["slowlog"].per_s == 0.5  # an old server has no subcommands
    got = commands["get"]
    assert (got.per_s, got.busy, got.now_us, got.ever_us, got.failed_per_s) == (100, 0.0005, 5, 4, 1)
    assert (got.p50_us, got.p99_us, got.p999_us) == (1.003, 7.007, 9.023)


def test_figures_are_those_of_the_last_sample(view: View) -> None:
    assert view.figures["server"]["name"] == "kvstore"
    machine = view.figures["machine"]
    assert (machine["bytes"], machine["bytes_in_use"], machine["pages_copied"]) == (4 << 20, 0, 30)
    assert machine["pages_copied_per_s"] == 10
    assert view.figures["memory"]["limit"] is None  # 0 is none
    assert view.figures["images"]["progress"] == pytest.approx(0.4321)
    assert [(one.number, one.keys, one.expires) for one in view.databases] == [(0, 600, 6), (12, 400, 0)]


def test_stores_have_their_pages_once_they_were_counted(view: View) -> None:
    first, second = view.stores
    assert (first.name, first.kind, first.own, first.connections) == ("a,kind=snapshot,own=1", "branch", 8192, 2)
    assert (first.mapped, first.shared, first.private) == (None, None, None)
    assert (second.mapped, second.shared, second.private) == (20480, 16384, 4096)


def test_types_are_estimated_for_all_keys(view: View) -> None:
    hashes, strings = view.types
    assert (hashes.keys, hashes.bytes, hashes.share, hashes.bytes_per_key) == (250, 75_000, 0.75, 300)
    assert (strings.keys, strings.bytes, strings.share, strings.sampled) == (750, 25_000, 0.25, 3)


RESET = AFTER.replace("keyspace_hits:410", "keyspace_hits:7").replace("calls=300", "calls=1")


def test_a_counter_that_went_back_has_no_rate() -> None:
    view = view_of(sample(AFTER, 1.0), sample(RESET, 2.0))
    assert view.figures["requests"]["hits_per_s"] is None and view.figures["requests"]["misses_per_s"] == 0
    assert {one.name: one.per_s for one in view.commands} == {"get": None, "info": 0, "branch|info": 0, "slowlog": 0}


@pytest.mark.parametrize(
    "before",
    [None, sample(BEFORE.replace("run_id:a", "run_id:b"), 10.0), sample(AFTER, 12.0)],
    ids=["none", "another process", "later"],
)
def test_without_a_sample_of_the_same_process_there_are_no_rates(before: Sample | None) -> None:
    view = view_of(before, sample(AFTER, 12.0))
    rates = [value for group in view.figures.values() for name, value in group.items() if name.endswith("_per_s")]
    assert rates and set(rates) == {None}
    assert {one.per_s for one in view.commands} == {None}


def test_any_field_may_be_missing() -> None:
    view = view_of(sample("", 1.0), sample("", 2.0))
    figures = {name: value for group in view.figures.values() for name, value in group.items()}
    assert figures.pop("name") == "redis"
    assert set(figures.values()) == {None}
    assert "– in all" in drawn(view)


NUMBERS = {
    "12": 12,
    "-1": -1,
    "1.50": 1.5,
    "": None,
    "nan": None,
    "inf": None,
    "1e999": None,
    "x": None,
    "1" + "0" * 50: 1e50,
}


@pytest.mark.parametrize(("text", "value"), NUMBERS.items())
def test_a_number_is_finite_or_none(text: str, value: float | None) -> None:
    assert number_of(text) == (pytest.approx(value) if value else value)


def test_a_line_that_is_no_store_is_none() -> None:
    lines = ["store0:name=a,kind=flushall,own=1,connections=1", "store1:name=b", "store2:name=c,kind=branch,own=x"]
    assert Fields("\r\n".join([*lines, "store3:name==,kind=branch,own=5,connections=0"])).stores() == [
        NamedStore("=", "branch", 5, 0)
    ]


@pytest.mark.parametrize(
    ("order", "first"), [("calls", "get"), ("time", "branch|info"), ("mean", "branch|info"), ("name", "branch|info")]
)
def test_commands_are_ordered_as_the_reader_wants(view: View, order: str, first: str) -> None:
    ordered = in_order(view.commands, order)
    assert ordered[0].name == first
    names = [one.name for one in in_order(view.commands, order, backwards=True)]
    assert sorted(names) == sorted(one.name for one in ordered) and names[-1] == first
    assert order in ORDERS


# ------------------------------------------------------------------------------------------------------- the picture


def drawn(view: View, **looks: Any) -> str:
    console = Console(width=looks.get("width", 120), color_system=None)
    with console.capture() as capture:
        console.print(frame(view, "host:1", Looks(**looks)))
    return capture.get()


def test_a_picture_has_all_parts_and_keeps_to_its_size(view: View) -> None:
    whole = drawn(view)
    for part in ("kvstore 7.2.5  host:1  up 92 s", "200/s   hits 75.0 %", "writing, 43.2 %", "db12", "a,kind=snapshot"):
        assert part in whole, part
    assert all(f"{key} {name}" in drawn(view, keys=True) for name, key in ORDERS.items())
    for width in (20, 60, 80, 200):
        assert max(map(len, drawn(view, width=width, keys=True).splitlines())) <= width
    assert len(drawn(view, width=120, height=24, keys=True).splitlines()) <= 24


@pytest.mark.parametrize(("told", "shown"), [("0.0", None), ("1234.5", "longest turn 1.23 ms")])
def test_the_longest_turn_is_shown_where_turns_are_measured(told: str, shown: str | None) -> None:
    view = view_of(None, sample(f"loop_longest_turn_usec:{told}\n", 1.0))
    if shown is None:
        assert view.figures["requests"]["longest_turn_us"] is None and "longest turn" not in drawn(view)
    else:
        assert shown in drawn(view)


def test_what_a_server_says_moves_no_cursor_and_is_no_markup() -> None:
    evil = "\x1b[2J[bold]x[/bold]\r\n\u202e"
    hostile = sample(
        f"redis_version:{evil[:12]}\ncmdstat_{evil[:5]}:calls=1\nstore0:name=\x1b,kind=branch,own=1,connections=1\n",
        1.0,
        slow=[Slow(1 << 62, 1 << 62, evil, evil)],
        events=[Event(evil, 0, 0, 0)],
        types=[OfType(evil, 1, 1)],
        sampled=1,
    )
    text = drawn(view_of(None, hostile))
    assert all(line.isprintable() for line in text.splitlines())
    assert f"{duration(1 << 62)}  \\x1b[2J[bold]x[/bold]" in text and "\\u202e" in text
    assert json.loads(json.dumps(view_of(None, hostile).as_json()))["slow"][0]["command"] == evil


UNITS = [
    (count(None), "–"), (count(0), "0"), (count(0.4), "0.4"), (count(1234.6), "1,235"),
    (size(0), "0 B"), (size(1023), "1023 B"), (size(4096), "4 KiB"), (size(1023.9 * 1024), "1024 KiB"),
    (size(3 << 30), "3 GiB"), (size(1 << 90), "1099511627776 PiB"),
    (duration(0.5), "0.5 µs"), (duration(1500), "1.5 ms"), (duration(59e6), "59 s"), (duration(7200e6), "2 h 0 min"),
    (duration(90 * 3600e6), "3 d 18 h"), (share(0.5), "50.0 %"), (share(None), "–"), (clock(1e30), "–"),
    (printable("a" * 300, 3), "aaa…"),
]  # fmt: skip


@pytest.mark.parametrize(("shown", "expected"), UNITS)
def test_numbers_have_units(shown: str, expected: str) -> None:
    assert shown == expected
