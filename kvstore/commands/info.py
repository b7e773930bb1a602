"""INFO: the server's report on itself, by section.

Names are Redis's, so that monitoring tools for Redis can read them.  A field whose subject does not exist here, such as
the append-only file, has the value that Redis reports when that feature is off.  Only the section Machine is our own.

    used_memory             bytes of all keys, values and indices, and of the buffers of connections; maxmemory limits
                            this number without the buffers
    used_memory_rss         resident bytes of the process, with Python and the compiled kernels
    used_memory_process     resident bytes that the process held beside its data when it began to serve: Python and the
                            kernels.  used_memory does not include them, because maxmemory limits data.
    latest_fork_usec        the last fork of the store's address space
    rdb_last_cow_size       bytes of frames that writes copied while the last snapshot was written

Both terms of a ratio measure the same kind of memory, so each ratio is near 1 in an empty server.  It shows how much
larger the memory is than its contents:

    allocator_frag_ratio    frames in use, over their contents: entries, indices, the tables of an empty store.  The
                            excess over 1 is partly free pages, tables, and copies for a snapshot.
    allocator_rss_ratio     frames that the system has provided, over frames in use; the excess is free frames
    rss_overhead_ratio      used_memory_rss over those frames and used_memory_process
    mem_fragmentation_ratio used_memory_rss over used_memory and used_memory_process
"""

import os
import resource
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from kvstore.commands.branches.information import branches_fields
from kvstore.commands.usage import PAGE_SIZE, human, memory_figures, memory_ratios, ratio_of
from kvstore.config.kinds import percentage_text
from kvstore.system.capacity import system_memory
from kvstore.system.clock import wall_us

if TYPE_CHECKING:
    from kvstore.commands.coldplane import Server

REDIS_VERSION = "7.2.5"  # the Redis whose behaviour this server follows

Fields = Mapping[str, object]


def _percentage(part: float, whole: float) -> str:
    return f"{100 * ratio_of(part, whole):.2f}%"


# ----------------------------------------------------------------------------------------------------------- sections


def server_fields(server: "Server") -> Fields:
    """The process and its configuration."""
    now_us = wall_us(server.registers)
    uptime_s = (server.registers.TIMER_MS - server.started_ms) // 1000
    hz, system = server.config["hz"], os.uname()
    return {
        "redis_version": REDIS_VERSION,
        "redis_git_sha1": "00000000",
        "redis_git_dirty": 0,
        "redis_build_id": "0",
        "redis_mode": "standalone",
        "os": f"{system.sysname} {system.release} {system.machine}",
        "arch_bits": 64,
        "monotonic_clock": "POSIX clock_gettime",
        "multiplexing_api": "epoll",
        "process_id": os.getpid(),
        "process_supervised": "no",
        "run_id": server.run_id,
        "tcp_port": server.config["port"],
        "server_time_usec": now_us,
        "uptime_in_seconds": uptime_s,
        "uptime_in_days": uptime_s // 86400,
        "hz": hz,
        "configured_hz": hz,
        "lru_clock": server.registers.LRU_CLOCK & 0xFFFFFF,
        "executable": sys.executable,
        "config_file": server.config_file or "",
        "io_threads_active": 0,
        **_listeners(server),
        "python_version": sys.version.split()[0],
    }


def _listeners(server: "Server") -> Fields:
    config, listeners = server.config, []
    if config["port"]:
        binds = "".join(f",bind={address}" for address in config["bind"])
        listeners.append(f"name=tcp{binds},port={config['port']}")
    if config["unixsocket"]:
        listeners.append(f"name=unix,bind={config['unixsocket']}")
    return {f"listener{number}": listener for number, listener in enumerate(listeners)}


def clients_fields(server: "Server") -> Fields:
    """Connections."""
    of, registers = server.client_totals(), server.registers
    return {
        "connected_clients": of.clients,
        "cluster_connections": 0,
        "maxclients": server.config["maxclients"],
        "client_recent_max_input_buffer": of.input_max,
        "client_recent_max_output_buffer": of.output_max,
        "blocked_clients": registers.BLOCKED_CLIENTS,
        "tracking_clients": registers.TRACKING_CLIENTS,
        "pubsub_clients": registers.PUBSUB_CLIENTS,
        "watching_clients": of.watching,
        "clients_in_timeout_table": of.timed,
        "total_watched_keys": of.watched,
        "total_blocking_keys": of.awaited,
        "total_blocking_keys_on_nokey": 0,
    }


def memory_fields(server: "Server") -> Fields:
    """Memory."""
    of = memory_figures(server)
    used, peak, rss, ratios = of["used"], of["peak"], of["rss"], memory_ratios(of)
    total, limit = system_memory(), server.config["maxmemory"]
    return {
        "used_memory": used,
        "used_memory_human": human(used),
        "used_memory_rss": rss,
        "used_memory_rss_human": human(rss),
        "used_memory_peak": peak,
        "used_memory_peak_human": human(peak),
        "used_memory_peak_perc": _percentage(used, peak),
        "used_memory_overhead": of["overhead"],
        "used_memory_startup": 0,
        "used_memory_process": of["process"],
        "used_memory_dataset": of["dataset"],
        "used_memory_dataset_perc": _percentage(of["dataset"], used),
        "allocator_allocated": of["allocated"],
        "allocator_active": of["active"],
        "allocator_resident": of["resident"],
        "total_system_memory": total,
        "total_system_memory_human": human(total),
        "used_memory_lua": 0,
        "used_memory_vm_eval": 0,
        "used_memory_lua_human": "0B",
        "used_memory_scripts_eval": 0,
        "number_of_cached_scripts": 0,
        "number_of_functions": 0,
        "number_of_libraries": 0,
        "used_memory_vm_functions": 0,
        "used_memory_vm_total": 0,
        "used_memory_vm_total_human": "0B",
        "used_memory_functions": 0,
        "used_memory_scripts": 0,
        "used_memory_scripts_human": "0B",
        "maxmemory": limit,
        "maxmemory_human": human(limit),
        "maxmemory_policy": server.config["maxmemory-policy"],
        "allocator_frag_ratio": f"{ratios.fragmentation.ratio:.2f}",
        "allocator_frag_bytes": ratios.fragmentation.bytes,
        "allocator_rss_ratio": f"{ratios.kept.ratio:.2f}",
        "allocator_rss_bytes": ratios.kept.bytes,
        "rss_overhead_ratio": f"{ratios.overhead.ratio:.2f}",
        "rss_overhead_bytes": ratios.overhead.bytes,
        "mem_fragmentation_ratio": f"{ratios.whole.ratio:.2f}",
        "mem_fragmentation_bytes": ratios.whole.bytes,
        "mem_not_counted_for_evict": of["clients"],
        "mem_replication_backlog": 0,
        "mem_total_replication_buffers": 0,
        "mem_clients_slaves": 0,
        "mem_clients_normal": of["clients"],
        "mem_cluster_links": 0,
        "mem_aof_buffer": 0,
        "mem_allocator": "mmcore",
        "active_defrag_running": server.registers.DEFRAG_RUNNING,
        "lazyfree_pending_objects": server.registers.LAZYFREE_PENDING,
        "lazyfreed_objects": server.registers.LAZYFREED_OBJECTS,
    }


def persistence_fields(server: "Server") -> Fields:
    """Snapshots."""
    snapshots = server.snapshots
    running = snapshots.running
    return {
        "loading": int(server.loading is not None),
        "async_loading": 0,
        "current_cow_peak": snapshots.last_cow_size if running else 0,
        "current_cow_size": snapshots.last_cow_size if running else 0,
        "current_cow_size_age": 0,
        "current_fork_perc": f"{100 * snapshots.progress if running else 0:.2f}",
        "current_save_keys_processed": 0,
        "current_save_keys_total": 0,
        "rdb_changes_since_last_save": server.registers.DIRTY,
        "rdb_bgsave_in_progress": int(running),
        "rdb_last_save_time": int(snapshots.last_save_unix_s),
        "rdb_last_bgsave_status": "ok" if snapshots.last_ok else "err",
        "rdb_last_bgsave_time_sec": int(snapshots.last_duration_s) if snapshots.last_duration_s >= 0 else -1,
        "rdb_current_bgsave_time_sec": int(snapshots.elapsed_s) if running else -1,
        "rdb_saves": snapshots.taken,
        "rdb_last_cow_size": snapshots.last_cow_size,
        "rdb_last_load_keys_expired": 0,
        "rdb_last_load_keys_loaded": snapshots.keys_loaded,
        "aof_enabled": 0,
        "aof_rewrite_in_progress": 0,
        "aof_rewrite_scheduled": 0,
        "aof_last_rewrite_time_sec": -1,
        "aof_current_rewrite_time_sec": -1,
        "aof_last_bgrewrite_status": "ok",
        "aof_rewrites": 0,
        "aof_rewrites_consecutive_failures": 0,
        "aof_last_write_status": "ok",
        "aof_last_cow_size": 0,
        "module_fork_in_progress": 0,
        "module_fork_last_cow_size": 0,
        **(server.loading.fields() if server.loading else {}),
        "snapshot_last_error": _one_line(snapshots.last_error),
        "snapshot_last_pause_usec": f"{snapshots.last_pause_us:.1f}",
        "snapshot_last_duration_sec": f"{max(snapshots.last_duration_s, 0):.3f}",
        "snapshot_last_pages": snapshots.last_pages,
        "snapshot_last_pages_copied": snapshots.last_pages_copied,
        "snapshot_last_bytes": snapshots.last_bytes,
        "snapshot_last_path": snapshots.last_path or "",
    }


def _one_line(text: str) -> str:
    return " ".join(text.split())


_STATS = """
    total_connections_received total_commands_processed instantaneous_ops_per_sec total_net_input_bytes
    total_net_output_bytes total_net_repl_input_bytes total_net_repl_output_bytes instantaneous_input_kbps
    instantaneous_output_kbps instantaneous_input_repl_kbps instantaneous_output_repl_kbps rejected_connections
    sync_full sync_partial_ok sync_partial_err expired_subkeys expired_keys expired_stale_perc
    expired_time_cap_reached_count expire_cycle_cpu_milliseconds evicted_keys evicted_clients
    total_eviction_exceeded_time current_eviction_exceeded_time keyspace_hits keyspace_misses pubsub_channels
    pubsub_patterns pubsubshard_channels latest_fork_usec total_forks migrate_cached_sockets slave_expires_tracked_keys
    active_defrag_hits active_defrag_misses active_defrag_key_hits active_defrag_key_misses total_active_defrag_time
    current_active_defrag_time tracking_total_keys tracking_total_items tracking_total_prefixes unexpected_error_replies
    total_error_replies dump_payload_sanitizations total_reads_processed total_writes_processed
    io_threaded_reads_processed io_threaded_writes_processed client_query_buffer_limit_disconnections
    client_output_buffer_limit_disconnections reply_buffer_shrinks reply_buffer_expands eventloop_cycles
    eventloop_duration_sum eventloop_duration_cmd_sum instantaneous_eventloop_cycles_per_sec
    instantaneous_eventloop_duration_usec acl_access_denied_auth acl_access_denied_cmd acl_access_denied_key
    acl_access_denied_channel
"""


def stats_fields(server: "Server") -> Fields:
    """Counters since the start, or since CONFIG RESETSTAT."""
    fields: dict[str, object] = dict.fromkeys(_STATS.split(), 0)
    fields["expired_stale_perc"] = server.registers.EXPIRED_STALE_PERC / 1000
    fields["latest_fork_usec"] = round(server.snapshots.last_fork_ns / 1000)
    fields["total_forks"] = server.snapshots.forks
    tracked = server.tracked_totals()
    fields["tracking_total_keys"], fields["tracking_total_items"] = tracked.keys, tracked.items
    fields["tracking_total_prefixes"] = tracked.prefixes
    for name in fields:
        if name.endswith("_kbps"):
            fields[name] = 0.0
    topics = ("pubsub_channels", "pubsub_patterns", "pubsubshard_channels")
    fields.update(zip(topics, server.subscribed_topics(), strict=True))
    fields.update(server.statistics())
    return {name: f"{value:.2f}" if isinstance(value, float) else value for name, value in fields.items()}


def replication_fields(server: "Server") -> Fields:
    """Replication; this server has none."""
    return {
        "role": "master",
        "connected_slaves": 0,
        "master_failover_state": "no-failover",
        "master_replid": server.run_id,
        "master_replid2": "0" * 40,
        "master_repl_offset": 0,
        "second_repl_offset": -1,
        "repl_backlog_active": 0,
        "repl_backlog_size": server.config.text("repl-backlog-size"),
        "repl_backlog_first_byte_offset": 0,
        "repl_backlog_histlen": 0,
    }


def cpu_fields(_server: "Server") -> Fields:
    """Processor time [s]: of the process, of children (there are none), and of the thread that serves."""
    process = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    thread = resource.getrusage(resource.RUSAGE_THREAD)
    return {
        "used_cpu_sys": f"{process.ru_stime:.6f}",
        "used_cpu_user": f"{process.ru_utime:.6f}",
        "used_cpu_sys_children": f"{children.ru_stime:.6f}",
        "used_cpu_user_children": f"{children.ru_utime:.6f}",
        "used_cpu_sys_main_thread": f"{thread.ru_stime:.6f}",
        "used_cpu_user_main_thread": f"{thread.ru_utime:.6f}",
    }


def commandstats_fields(server: "Server") -> Fields:
    """Calls of each command."""
    return {
        f"cmdstat_{name}": f"calls={calls},usec={usec},usec_per_call={ratio_of(usec, calls):.2f},"
        f"rejected_calls={rejected},failed_calls={failed}"
        for name, (calls, usec, rejected, failed) in server.command_statistics().items()
    }


def errorstats_fields(server: "Server") -> Fields:
    """Error replies, by the code that they begin with."""
    return {f"errorstat_{code}": f"count={count}" for code, count in sorted(server.error_statistics().items())}


def latencystats_fields(server: "Server") -> Fields:
    """How long calls of each command took."""
    if not server.config["latency-tracking"]:
        return {}
    wanted = server.config["latency-tracking-info-percentiles"]
    return {
        f"latency_percentiles_usec_{name}": ",".join(
            f"p{percentage_text(share)}={histogram.percentile(share):.3f}" for share in wanted
        )
        for name, histogram in server.histograms().items()
    }


def keyspace_fields(server: "Server") -> Fields:
    """Keys by database, without empty databases."""
    return {
        f"db{number}": f"keys={one.keys},expires={one.deadlines},avg_ttl={one.average_ttl_ms},subexpiry={one.dated}"
        for number, one in enumerate(server.db_sizes())
        if one.keys
    }


def machine_fields(server: "Server") -> Fields:
    """The emulated machine: frames, faults, copies, forks."""
    frames, snapshots = server.frames(), server.snapshots
    return {
        "frame_size": PAGE_SIZE,
        "frames_total": frames.in_force,
        "frames_free": frames.free,
        "frames_in_use": frames.in_use,
        "frames_reserved": frames.reserved,
        "frames_resident": frames.resident,
        "frames_kept": frames.kept,
        "frames_given_back": frames.returned,
        "fork_mode": server.config["fork-mode"],
        "epoch": server.space.epoch,
        **server.space.counters,
        "last_fork_nsec": snapshots.last_fork_ns,
        "last_pause_usec": f"{snapshots.last_pause_us:.1f}",
        "last_snapshot_pages_copied": snapshots.last_pages_copied,
        "last_snapshot_bytes": snapshots.last_bytes,
        "loop_turns": server.registers.LOOP_TURNS,
        "loop_longest_turn_usec": f"{server.registers.LOOP_LONGEST_NS / 1000:.1f}",
        "loop_moves": server.registers.PLACE_MOVES,
        "timer_ticks": server.registers.TIMER_TICKS,
        "timer_rows_swept": server.registers.ROWS_SWEPT,
        "busy_poll_looks": server.registers.BUSY_LOOKS,
        "busy_poll_found": server.registers.BUSY_FOUND,
        "transactions_undone": server.registers.TRANSACTIONS_UNDONE,
    }


def _nothing(_server: "Server") -> Fields:
    return {}


SECTIONS: dict[str, tuple[str, Callable[["Server"], Fields]]] = {
    "server": ("Server", server_fields),
    "clients": ("Clients", clients_fields),
    "memory": ("Memory", memory_fields),
    "persistence": ("Persistence", persistence_fields),
    "stats": ("Stats", stats_fields),
    "replication": ("Replication", replication_fields),
    "cpu": ("CPU", cpu_fields),
    "modules": ("Modules", _nothing),
    "commandstats": ("Commandstats", commandstats_fields),
    "errorstats": ("Errorstats", errorstats_fields),
    "latencystats": ("Latencystats", latencystats_fields),
    "cluster": ("Cluster", lambda _server: {"cluster_enabled": 0}),
    "keyspace": ("Keyspace", keyspace_fields),
    "branches": ("Branches", branches_fields),
    "machine": ("Machine", machine_fields),
}
DEFAULT = frozenset(SECTIONS) - {"commandstats", "latencystats"}
ALL = frozenset(SECTIONS) - {"modules"}


def chosen_sections(names: Iterable[str]) -> list[str]:
    """The sections that INFO's arguments ask for, in the order of the output."""
    wanted: set[str] = set()
    for name in (name.lower() for name in names):
        wanted |= {"default": DEFAULT, "all": ALL, "everything": frozenset(SECTIONS)}.get(name, {name})
    return [name for name in SECTIONS if name in wanted]


def info_text(server: "Server", names: Iterable[str]) -> str:
    """The reply to INFO with these sections; with none, the default ones."""
    parts = []
    for name in chosen_sections(names or ["default"]):
        title, fields = SECTIONS[name]
        lines = [f"# {title}", *(f"{field}:{value}" for field, value in fields(server).items())]
        parts.append("".join(f"{line}\r\n" for line in lines))
    return "\r\n".join(parts)
