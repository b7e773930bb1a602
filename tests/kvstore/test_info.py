"""INFO: Redis's sections and fields, with consistent figures."""

import os
from pathlib import Path

import pytest

from kvstore.commands.info import ALL, DEFAULT, SECTIONS, chosen_sections, info_text
from kvstore.commands.usage import human
from kvstore.connections.interests import INTEREST_MEMORY
from kvstore.lifetimes.connection import FIELDS
from kvstore.wire.reply import Verbatim
from tests.kvstore.cold import FakeClient, FakeServer, ask

HUMAN = [
    (0, "0B"),
    (1023, "1023B"),
    (1024, "1.00K"),
    (1536, "1.50K"),
    (1 << 20, "1.00M"),
    (3 << 30, "3.00G"),
    (2 << 60, "2048.00P"),
]


@pytest.mark.parametrize(("count", "expected"), HUMAN)
def test_bytes_are_written_for_people(count: int, expected: str) -> None:
    assert human(count) == expected


def sections(text: str) -> dict[str, dict[str, str]]:
    """The sections of a reply to INFO, and their fields."""
    found: dict[str, dict[str, str]] = {}
    for part in text.split("\r\n\r\n"):
        title, *lines = part.strip("\r\n").split("\r\n")
        found[title.removeprefix("# ")] = dict(line.split(":", 1) for line in lines)
    return found


CHOICES = [
    (["server"], ["server"]),
    (["KEYSPACE", "Server", "server"], ["server", "keyspace"]),
    (["nosuch"], []),
    (["default"], [name for name in SECTIONS if name in DEFAULT]),
    (["all"], [name for name in SECTIONS if name in ALL]),
    (["everything"], list(SECTIONS)),
    (["default", "commandstats"], [name for name in SECTIONS if name in DEFAULT or name == "commandstats"]),
]


@pytest.mark.parametrize(("names", "expected"), CHOICES)
def test_sections_are_chosen_by_name(names: list[str], expected: list[str]) -> None:
    assert chosen_sections(names) == expected


def test_without_arguments_the_default_sections_are_shown() -> None:
    client = FakeClient(1)
    reply = ask(FakeServer(client), client, "INFO")
    assert isinstance(reply, Verbatim)
    assert list(sections(reply)) == [title for name, (title, _) in SECTIONS.items() if name in DEFAULT]
    assert ask(FakeServer(client), client, "INFO", "nosuch") == ""


# Fields that the dashboards of redis_exporter, RedisInsight and redis-cli --stat read.
READ_ELSEWHERE = {
    "Server": "redis_version redis_mode os process_id run_id tcp_port uptime_in_seconds hz executable config_file",
    "Clients": "connected_clients maxclients blocked_clients client_recent_max_input_buffer tracking_clients",
    "Memory": "used_memory used_memory_human used_memory_rss used_memory_peak used_memory_lua maxmemory "
    "maxmemory_policy mem_fragmentation_ratio mem_allocator allocator_active allocator_resident total_system_memory "
    "used_memory_overhead used_memory_startup used_memory_dataset mem_clients_normal lazyfree_pending_objects",
    "Persistence": "loading rdb_changes_since_last_save rdb_bgsave_in_progress rdb_last_save_time "
    "rdb_last_bgsave_status rdb_last_bgsave_time_sec rdb_current_bgsave_time_sec rdb_last_cow_size aof_enabled",
    "Stats": "total_connections_received total_commands_processed instantaneous_ops_per_sec total_net_input_bytes "
    "rejected_connections expired_keys evicted_keys keyspace_hits keyspace_misses latest_fork_usec total_forks "
    "pubsub_channels instantaneous_input_kbps total_error_replies",
    "Replication": "role connected_slaves master_replid master_repl_offset repl_backlog_size",
    "CPU": "used_cpu_sys used_cpu_user used_cpu_sys_children used_cpu_user_children",
    "Cluster": "cluster_enabled",
    "Branches": "branches snapshots branches_own_bytes branches_changes_bytes pages_copied tables_copied",
    "Machine": "frames_total frames_free frames_in_use write_faults pages_copied tlb_misses last_fork_nsec",
}


def test_the_fields_that_others_read_are_there() -> None:
    found = sections(info_text(FakeServer(FakeClient(1)), ["everything"]))
    for title, names in READ_ELSEWHERE.items():
        assert set(names.split()) <= set(found[title]), title


def test_figures_are_those_of_the_server(tmp_path: Path) -> None:
    server = FakeServer(FakeClient(1, watch=2), FakeClient(2))
    server.registers.DIRTY = 17
    server.config_file = tmp_path / "kvstore.conf"
    found = sections(info_text(server, ["everything"]))
    assert found["Server"]["process_id"] == str(os.getpid())
    assert found["Server"]["config_file"] == str(tmp_path / "kvstore.conf")
    assert found["Clients"]["connected_clients"] == "2"
    assert found["Clients"]["total_watched_keys"] == "2"
    memory = found["Memory"]
    assert int(memory["used_memory"]) == 100_000 + 8192 + 16 * FIELDS + 2 * INTEREST_MEMORY
    assert int(memory["used_memory_overhead"]) + int(memory["used_memory_dataset"]) == int(memory["used_memory"])
    assert int(memory["used_memory_rss"]) > 1 << 20
    process = int(memory["used_memory_process"])
    assert process == 50 << 20
    ratio = int(memory["used_memory_rss"]) / (int(memory["used_memory"]) + process)
    assert abs(float(memory["mem_fragmentation_ratio"]) - ratio) < 0.01
    assert int(memory["allocator_allocated"]) == 100_000 + 8192 + 5 * 4096
    assert memory["allocator_frag_ratio"] == f"{100 * 4096 / (100_000 + 8192 + 5 * 4096):.2f}"
    assert memory["allocator_rss_ratio"] == "1.50" and memory["allocator_rss_bytes"] == str(50 * 4096)
    ratio = int(memory["used_memory_rss"]) / (150 * 4096 + process)
    assert abs(float(memory["rss_overhead_ratio"]) - ratio) < 0.01
    assert found["Persistence"]["rdb_changes_since_last_save"] == "17"
    assert found["Persistence"]["rdb_last_save_time"] == "1700000000"
    assert found["Persistence"]["rdb_last_bgsave_time_sec"] == "-1"
    assert found["Persistence"]["rdb_last_cow_size"] == "16384"
    assert found["Stats"]["latest_fork_usec"] == "2"
    assert found["Stats"]["total_commands_processed"] == "42"
    assert found["Stats"]["instantaneous_input_kbps"] == "1.50"
    assert found["Stats"]["instantaneous_output_kbps"] == "0.00"
    assert found["Keyspace"] == {
        "db0": "keys=10,expires=2,avg_ttl=500,subexpiry=3",
        "db2": "keys=1,expires=0,avg_ttl=0,subexpiry=0",
    }
    get = "calls=4,usec=10,usec_per_call=2.50,rejected_calls=1,failed_calls=2"
    assert found["Commandstats"]["cmdstat_get"] == get
    assert found["Errorstats"] == {"errorstat_ERR": "count=3", "errorstat_WRONGTYPE": "count=1"}
    assert found["Machine"]["frames_in_use"] == "100"
    assert found["Machine"]["frames_free"] == "900" and found["Machine"]["frames_reserved"] == "1200"
    assert found["Machine"]["frames_kept"] == "30" and found["Machine"]["frames_given_back"] == "7"
    assert found["Machine"]["last_fork_nsec"] == "2500"
    assert found["Machine"]["fork_mode"] == "constant"


def test_a_snapshot_under_way_and_one_that_failed_are_shown() -> None:
    server = FakeServer()
    snapshots = server.snapshots
    snapshots.running, snapshots.progress, snapshots.elapsed_s = True, 0.255, 3.9
    snapshots.last_ok, snapshots.last_error, snapshots.last_duration_s = False, "no space\r\nleft", 2.7
    found = sections(info_text(server, ["persistence"]))["Persistence"]
    assert found["rdb_bgsave_in_progress"] == "1"
    assert found["current_fork_perc"] == "25.50"
    assert found["rdb_current_bgsave_time_sec"] == "3"
    assert found["rdb_last_bgsave_status"] == "err"
    assert found["rdb_last_bgsave_time_sec"] == "2"
    assert found["snapshot_last_error"] == "no space left"


def test_no_field_can_be_forged_by_a_line_break() -> None:
    text = info_text(FakeServer(FakeClient(1)), ["everything"])
    assert all("\r" not in line and "\n" not in line for line in text.split("\r\n"))


@pytest.mark.parametrize(
    ("settings", "listeners"),
    [
        ({"port": "7000", "bind": "10.0.0.1 -::1"}, ["name=tcp,bind=10.0.0.1,bind=-::1,port=7000"]),
        ({"port": "0", "unixsocket": "/run/s"}, ["name=unix,bind=/run/s"]),
        ({"bind": "*", "unixsocket": "/run/s"}, ["name=tcp,bind=*,port=6379", "name=unix,bind=/run/s"]),
    ],
)
def test_listeners_are_those_that_are_configured(settings: dict[str, str], listeners: list[str]) -> None:
    found = sections(info_text(FakeServer(**settings), ["server"]))["Server"]
    assert [text for name, text in found.items() if name.startswith("listener")] == listeners
