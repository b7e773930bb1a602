r"""INFO: Redis's sections and field names, with true values."""

import os
import time

import pytest

from tests.server.wire import OK, Verbatim, Wire, info, wait_until

FIELDS = {
    "server": "redis_version redis_git_sha1 redis_git_dirty redis_build_id redis_mode os arch_bits multiplexing_api "
    "process_id run_id tcp_port server_time_usec uptime_in_seconds uptime_in_days hz configured_hz lru_clock "
    "executable config_file io_threads_active",
    "clients": "connected_clients cluster_connections maxclients client_recent_max_input_buffer "
    "client_recent_max_output_buffer blocked_clients tracking_clients clients_in_timeout_table",
    "memory": "used_memory used_memory_human used_memory_rss used_memory_rss_human used_memory_peak "
    "used_memory_peak_human used_memory_peak_perc used_memory_overhead used_memory_startup used_memory_dataset "
    "used_memory_dataset_perc total_system_memory total_system_memory_human maxmemory maxmemory_human maxmemory_policy "
    "mem_fragmentation_ratio mem_fragmentation_bytes mem_allocator lazyfree_pending_objects lazyfreed_objects",
    "persistence": "loading async_loading current_cow_size rdb_changes_since_last_save rdb_bgsave_in_progress "
    "rdb_last_save_time rdb_last_bgsave_status rdb_last_bgsave_time_sec rdb_current_bgsave_time_sec rdb_last_cow_size "
    "aof_enabled",
    "stats": "total_connections_received total_commands_processed instantaneous_ops_per_sec total_net_input_bytes "
    "total_net_output_bytes instantaneous_input_kbps instantaneous_output_kbps rejected_connections sync_full "
    "expired_keys expired_stale_perc expired_time_cap_reached_count evicted_keys keyspace_hits keyspace_misses "
    "pubsub_channels pubsub_patterns latest_fork_usec total_forks total_error_replies total_reads_processed "
    "total_writes_processed",
    "replication": "role connected_slaves master_replid master_repl_offset repl_backlog_active",
    "cpu": "used_cpu_sys used_cpu_user used_cpu_sys_children used_cpu_user_children",
    "cluster": "cluster_enabled",
}


def text(reply: object) -> str:
    """INFO's text in either protocol."""
    data = reply.data if isinstance(reply, Verbatim) else reply
    assert isinstance(data, bytes)
    return data.decode()


@pytest.mark.parametrize("section", FIELDS)
def test_a_section_has_redis_fields(wire: Wire, section: str) -> None:
    """Dashboards read the fields by name."""
    reply = text(wire("INFO", section.upper()))
    assert reply.startswith(f"# {'CPU' if section == 'cpu' else section.capitalize()}\r\n")
    assert reply.endswith("\r\n")
    assert reply.count("# ") == 1
    assert set(FIELDS[section].split()) <= set(info(wire, section))


def headings(reply: object) -> list[str]:
    """The sections of an INFO, in order."""
    return [line[2:] for line in text(reply).splitlines() if line.startswith("# ")]


def test_which_sections_come_when(wire: Wire) -> None:
    """INFO without names gives the default sections; tests several names, all, everything, default and unknown ones."""
    wire("SET", "k", "v")
    default = headings(wire("INFO"))
    for name in ("Server", "Clients", "Memory", "Persistence", "Stats", "Replication", "CPU", "Cluster", "Keyspace"):
        assert name in default
    assert "Commandstats" not in default
    assert headings(wire("INFO", "default")) == default
    assert "Commandstats" in headings(wire("INFO", "all"))
    assert "Commandstats" in headings(wire("INFO", "everything"))
    assert headings(wire("INFO", "server", "KEYSPACE")) == ["Server", "Keyspace"]
    assert headings(wire("INFO", "cpu", "cpu")) == ["CPU"]
    assert text(wire("INFO", "nope")) in ("", "\r\n")
    assert isinstance(wire("INFO"), Verbatim if wire.protocol == 3 else bytes)


def test_the_counters_count(server, wire: Wire) -> None:
    """Hits, misses, commands, connections, bytes."""
    before = info(wire, "stats")
    wire("SET", "k", "v")
    wire("GET", "k")
    wire("MGET", "k", "missing", "k")
    wire("GET", "missing")
    wire("NOPE")
    with Wire(server.address) as other:
        other("PING")
    after = info(wire, "stats")

    def gained(name: str) -> int:
        return int(after[name]) - int(before[name])

    assert gained("keyspace_hits") == 3
    assert gained("keyspace_misses") == 2
    assert gained("total_commands_processed") in (6, 7)
    assert gained("total_connections_received") == 1
    assert gained("total_error_replies") == 1
    assert gained("total_net_input_bytes") > 100
    assert gained("total_net_output_bytes") > 1000


def test_keyspace_lists_the_databases_that_hold_keys(wire: Wire) -> None:
    """It shows the number of keys, the number with a deadline, and the average time to live."""
    assert info(wire, "keyspace") == {}
    wire("SET", "a", "1")
    wire("SELECT", 9)
    wire("MSET", "a", "1", "b", "2")
    wire("EXPIRE", "a", 1000)
    keyspace = info(wire, "keyspace")
    assert list(keyspace) == ["db0", "db9"]
    assert keyspace["db0"].startswith("keys=1,expires=0,avg_ttl=0")
    assert keyspace["db9"].startswith("keys=2,expires=1,avg_ttl=")


def test_commandstats_and_errorstats(wire: Wire) -> None:
    """Calls, refusals and failures of each command; errors by their first word."""
    wire("CONFIG", "RESETSTAT")
    for _ in range(5):
        wire("SET", "k", "v")
    wire("GET")
    wire("INCR", "k")
    wire("CLIENT", "GETNAME")
    stats = info(wire, "commandstats")
    fields = dict(pair.split("=") for pair in stats["cmdstat_set"].split(","))
    assert list(fields) == ["calls", "usec", "usec_per_call", "rejected_calls", "failed_calls"]
    assert (fields["calls"], fields["rejected_calls"], fields["failed_calls"]) == ("5", "0", "0")
    assert ",rejected_calls=1,failed_calls=0" in stats["cmdstat_get"]
    assert ",rejected_calls=0,failed_calls=1" in stats["cmdstat_incr"]
    assert "cmdstat_client|getname" in stats
    assert info(wire, "errorstats") == {"errorstat_ERR": "count=2"}


def test_used_memory_follows_the_data(wire2: Wire) -> None:
    """It rises by at least the size of the stored data, and falls again when they are deleted."""
    before = int(info(wire2, "memory")["used_memory"])
    wire2.pipeline([("SET", f"k{i}", b"x" * 10_000) for i in range(1000)])
    full = info(wire2, "memory")
    assert 10_000_000 < int(full["used_memory"]) - before < 20_000_000
    assert int(full["used_memory_peak"]) >= int(full["used_memory"])
    assert int(full["used_memory_rss"]) > 10_000_000
    assert float(full["mem_fragmentation_ratio"]) > 0.5
    wire2("FLUSHALL")
    wait_until(lambda: int(info(wire2, "memory")["used_memory"]) < before + 2_000_000, "the memory to be free again")


def test_human_readable_sizes(wire: Wire) -> None:
    """The form is that of Redis's bytesToHuman."""
    wire("CONFIG", "SET", "maxmemory", str(3 << 30))
    memory = info(wire, "memory")
    wire("CONFIG", "SET", "maxmemory", "0")
    assert memory["maxmemory_human"] == "3.00G"
    assert memory["used_memory_human"][-1] in "BKMG"


def test_the_process_is_who_it_says(server, wire2: Wire) -> None:
    """Port, process, uptime, clock."""
    before = time.time()
    fields = info(wire2, "server")
    assert before - 0.2 <= int(fields["server_time_usec"]) / 1e6 <= time.time() + 0.2
    assert fields["tcp_port"] == str(server.port)
    os.kill(int(fields["process_id"]), 0)
    assert len(fields["run_id"]) == 40
    assert fields["multiplexing_api"] == "epoll"
    assert fields["redis_mode"] == "standalone"


def test_instantaneous_rates_move(wire2: Wire) -> None:
    """instantaneous_ops_per_sec sees a load within a second or two."""

    def busy() -> bool:
        wire2.pipeline([("PING",)] * 500)
        return int(info(wire2, "stats")["instantaneous_ops_per_sec"]) > 100

    wait_until(busy, "the rate to rise")


def test_the_machine_has_a_section(wire: Wire, ours: None) -> None:
    """Frames, tables, faults, copies, TLB misses and the last fork, in nanoseconds."""
    assert "Machine" in headings(wire("INFO"))
    machine = info(wire, "machine")
    wire.pipeline([("SET", f"k{i}", b"x" * 1000) for i in range(2000)])
    assert wire("SAVE") == OK
    wire.pipeline([("SET", f"k{i}", b"y" * 1000) for i in range(2000)])
    after = info(wire, "machine")
    assert set(machine) == set(after)
    words = " ".join(after)
    for part in ("frames", "tables", "faults", "copied", "tlb", "fork", "ns"):
        assert part in words, part
    assert all(float(value) >= 0 for value in after.values() if value.replace(".", "").isdigit())


def test_a_snapshot_shows_what_it_cost(wire2: Wire, ours: None) -> None:
    """latest_fork_usec is the pause of this machine, rdb_last_cow_size the bytes copied while the snapshot ran."""
    wire2.pipeline([("SET", f"k{i}", b"x" * 1000) for i in range(30_000)])
    replies = wire2.pipeline([("BGSAVE",), *(("SET", f"k{i}", b"y" * 1000) for i in range(2000))])
    assert replies[0].text == "Background saving started"
    wait_until(lambda: info(wire2, "persistence")["rdb_bgsave_in_progress"] == "0", "the snapshot")
    persistence = info(wire2, "persistence")
    assert int(persistence["rdb_last_cow_size"]) >= 4096
    assert int(info(wire2, "stats")["latest_fork_usec"]) < 100_000
