r"""The images that remain after actions of a client, a disk, an administrator or another server.

FLUSHALL                    is durable before its client is answered, and no other client waits
loading                     clients are served, or told -LOADING
two servers                 never use the same images
a directory                 is not created because of a typo
an image                    of another layout, half of one, a pipe: refused by name, and the next older one is taken
"""

import contextlib
import os
import select
import shutil
import signal
import struct
import subprocess
from pathlib import Path

import msgpack
import numpy as np
import pytest

from kvstore.store.description import LAYOUT
from mmcore.jit import Table
from snapshot.image import DATA_OFFSET, PAGE_SIZE, checksum, ending, header_page, read_image
from tests.gated import gate, gated
from tests.server.test_consistency import images
from tests.server.test_crash import bgsave, litter, refusal, saved
from tests.server.wire import OK, QUEUED, Closed, Failure, Status, Wire, encode, info, wait_until

LOADING = Failure("LOADING Redis is loading the dataset in memory")
POINTS = "3600 1000000"
STARTED = Status("Background saving started")


def silent(wire: Wire) -> bool:
    """Whether all replies so far have been read."""
    return wire.pending() == b"" and not select.select([wire.socket], [], [], 0)[0]


def fill(wire: Wire, count: int) -> None:
    assert wire.pipeline([("SET", f"k{i}", "v" * 100) for i in range(count)]) == [OK] * count


def keys_after_a_crash(start, server) -> int:
    """Kill the server with SIGKILL; returns how many keys the next server finds."""
    server.kill()
    with start(server.directory) as again, Wire(again.address) as wire:
        return int(wire("DBSIZE"))


# ------------------------------------------------------------------------------------------------------------ FLUSHALL


@pytest.mark.parametrize("command", [("FLUSHALL",), ("flushall", "ASYNC"), ("FLUSHALL", "SYNC")])
def test_what_flushall_has_deleted_does_not_come_back_after_a_crash(start, data: Path, command) -> None:
    """With save points the empty store is saved before the reply, as in Redis."""
    with start(data, save=POINTS) as server, Wire(server.address) as wire:
        fill(wire, 100)
        assert wire("SAVE") == OK
        assert wire(*command) == OK
        assert keys_after_a_crash(start, server) == 0


def test_flushall_of_a_store_in_which_nothing_ever_was_is_saved_too(start, data: Path) -> None:
    with start(data, save=POINTS) as server, Wire(server.address) as wire:
        assert wire("FLUSHALL") == OK
        assert len(images(data)) == 1


@pytest.mark.parametrize(("save", "command"), [("", "FLUSHALL"), (POINTS, "FLUSHDB")])
def test_without_save_points_and_for_flushdb_nothing_is_saved(start, data: Path, save: str, command: str) -> None:
    with start(data, save=save) as server, Wire(server.address) as wire:
        fill(wire, 100)
        assert wire("SAVE") == OK
        assert wire(command) == OK
        assert len(images(data)) == 1
        assert keys_after_a_crash(start, server) == 100


def test_the_client_of_flushall_waits_and_nobody_else(start, data: Path, tmp_path: Path, ours: None) -> None:
    """Its later commands wait too, in order; a crash before the reply may bring all keys back."""
    gates = tmp_path / "gates"
    with (
        start(data, save=POINTS, **gated(gates)) as server,
        Wire(server.address) as wire,
        Wire(server.address) as other,
        gate(gates, "sync") as sync,
    ):
        fill(other, 100)
        wire.send(encode("SET", "a", "1") + encode("FLUSHALL") + encode("SET", "b", "2") + encode("ECHO", "x"))
        sync.reached()
        wire.send(encode("GET", "b"))
        assert other("DBSIZE") == 0
        assert other("SET", "c", "3") == OK
        assert info(other, "clients")["blocked_clients"] == "1"
        assert [" flags=b " in line for line in other("CLIENT", "LIST").decode().splitlines()].count(True) == 1
        assert other("EXISTS", "b") == 0
        assert silent(wire)
        sync.open()
        assert [wire.reply() for _ in range(5)] == [OK, OK, OK, b"x", b"2"]
        assert info(other, "clients")["blocked_clients"] == "0"
        assert other("MGET", "a", "b", "c") == [None, b"2", b"3"]
        assert keys_after_a_crash(start, server) == 0


def test_a_crash_before_flushall_was_answered_loses_nothing(start, data: Path, tmp_path: Path, ours: None) -> None:
    gates = tmp_path / "gates"
    with start(data, save=POINTS, **gated(gates)) as server, Wire(server.address) as wire:
        fill(wire, 100)
        assert wire("SAVE") == OK
        with gate(gates, "rename") as rename:
            wire.send(encode("FLUSHALL"))
            rename.reached()
            assert silent(wire)
            assert keys_after_a_crash(start, server) == 100


@pytest.mark.parametrize("operation", ["create", "sync", "rename"])
@pytest.mark.parametrize("save", [POINTS, ""])
def test_an_image_begun_before_flushall_never_becomes_the_newest(
    start, data: Path, tmp_path: Path, ours: None, operation: str, save: str
) -> None:
    """This holds even when it was about to get its name.  Giving it up is not a failure."""
    gates = tmp_path / "gates"
    with start(data, save=save, **gated(gates)) as server, Wire(server.address) as wire, Wire(server.address) as other:
        fill(wire, 100)
        with gate(gates, operation) as at:
            assert wire("BGSAVE") == STARTED
            at.reached()
            wire.send(encode("FLUSHALL"))
            if not save:
                assert wire.reply() == OK
            wait_until(lambda: other("DBSIZE") == 0, "the store to be empty")
            assert silent(wire)
            at.open()
        if save:
            assert wire.reply() == OK
        wait_until(lambda: saved(other), "the writer")
        assert len(images(data)) == bool(save)
        assert litter(data) == []
        assert info(other, "persistence")["rdb_last_bgsave_status"] == "ok"
        assert other("SET", "k", "v") == OK
        assert keys_after_a_crash(start, server) == 0


def test_two_clients_that_flush_both_wait_for_an_image_of_after_theirs(
    start, data: Path, tmp_path: Path, ours: None
) -> None:
    """The second gives up the first one's image, because a key was set in between; the next image serves both."""
    gates = tmp_path / "gates"
    with (
        start(data, save=POINTS, **gated(gates)) as server,
        Wire(server.address) as one,
        Wire(server.address) as two,
        Wire(server.address) as other,
    ):
        with gate(gates, "sync") as first:
            one.send(encode("FLUSHALL"))
            first.reached()
            assert other("SET", "between", "v") == OK
            two.send(encode("FLUSHALL"))
            wait_until(lambda: other("DBSIZE") == 0, "the second FLUSHALL")
            first.open()
        assert [one.reply(), two.reply()] == [OK, OK]
        assert [path.name for path in images(data)] == ["dump-0000000001.kvimg"]
        assert info(other, "persistence")["rdb_saves"] == "1"
        assert keys_after_a_crash(start, server) == 0


def test_flushall_in_a_transaction_holds_the_whole_answer_back(start, data: Path, tmp_path: Path, ours: None) -> None:
    """The image holds the end of the transaction, not its middle; the transaction has commands in Python, too."""
    gates = tmp_path / "gates"
    with (
        start(data, save=POINTS, **gated(gates)) as server,
        Wire(server.address) as wire,
        Wire(server.address) as other,
    ):
        fill(wire, 10)
        with gate(gates, "sync") as sync:
            commands = [
                ("MULTI",),
                ("SET", "a", "1"),
                ("FLUSHALL",),
                ("TIME",),
                ("SET", "b", "2"),
                ("EXEC",),
                ("PING",),
            ]
            wire.send(b"".join(encode(*command) for command in commands))
            sync.reached()
            assert other("DBSIZE") == 1
            assert silent(wire)
            sync.open()
        answers = [wire.reply() for _ in commands]
        assert answers[:5] == [OK, *[QUEUED] * 4]
        ok, flushed, time, last = answers[5]
        assert (ok, flushed, len(time), last, answers[6]) == (OK, OK, 2, OK, Status("PONG"))
        assert keys_after_a_crash(start, server) == 1


def test_with_replies_off_what_follows_flushall_still_waits(start, data: Path, tmp_path: Path, ours: None) -> None:
    gates = tmp_path / "gates"
    with (
        start(data, save=POINTS, **gated(gates)) as server,
        Wire(server.address) as wire,
        Wire(server.address) as other,
    ):
        with gate(gates, "sync") as sync:
            wire.send(encode("CLIENT", "REPLY", "OFF") + encode("FLUSHALL") + encode("SET", "b", "2"))
            wire.send(encode("CLIENT", "REPLY", "SKIP") + encode("CLIENT", "REPLY", "ON"))
            sync.reached()
            assert other("DBSIZE") == 0
            assert silent(wire)
            sync.open()
        assert wire.reply() == OK
        assert wire("GET", "b") == b"2"


def test_flushall_is_answered_when_its_image_cannot_be_written(start, data: Path, ours: None) -> None:
    """As in Redis, the log has the reason, and the next write is refused with it."""
    with start(data, save=POINTS) as server, Wire(server.address) as wire:
        fill(wire, 10)
        away = data.with_name("away")
        data.rename(away)
        assert wire("FLUSHALL") == OK
        assert wire("DBSIZE") == 0
        reply = wire("SET", "k", "v")
        assert isinstance(reply, Failure) and reply.text.startswith("MISCONF")
        assert "Snapshot failed" in server.log()
        away.rename(data)
        assert bgsave(wire) == "ok"
        assert wire("SET", "k", "v") == OK


def test_a_client_that_leaves_while_it_is_held_is_forgotten(start, data: Path, tmp_path: Path, ours: None) -> None:
    gates = tmp_path / "gates"
    with start(data, save=POINTS, **gated(gates)) as server, Wire(server.address) as other:
        with gate(gates, "sync") as sync:
            with Wire(server.address) as wire:
                wire.send(encode("FLUSHALL"))
                sync.reached()
                assert info(other, "clients")["connected_clients"] == "2"
            wait_until(lambda: info(other, "clients")["connected_clients"] == "1", "the client to be gone")
            assert info(other, "clients")["blocked_clients"] == "0"
            sync.open()
        wait_until(lambda: saved(other), "the image")
        assert len(images(data)) == 1


def test_a_client_that_is_held_is_not_idle(start, data: Path, tmp_path: Path, ours: None) -> None:
    """Another silent client is closed; this one gets its reply, and its idle time starts then."""
    gates = tmp_path / "gates"
    options = ("--timeout", "100", "--hz", "500")
    with (
        start(data, save=POINTS, **gated(gates), options=options) as server,
        Wire(server.address) as wire,
        Wire(server.address) as idle,
        Wire(server.address) as other,
    ):
        assert idle("PING") == Status("PONG")
        with gate(gates, "sync") as sync:
            wire.send(encode("FLUSHALL"))
            sync.reached()
            assert other("DEBUG", "SHIFT-CLOCK", "TIMER", 150_000) == OK
            assert idle.until_closed() == b""
            assert silent(wire)
            sync.open()
        assert wire.reply() == OK
        assert wire("PING") == Status("PONG")


def test_what_a_held_client_goes_on_sending_is_bounded_as_ever(start, data: Path, tmp_path: Path, ours: None) -> None:
    gates = tmp_path / "gates"
    options = ("--client-query-buffer-limit", "1mb")
    with (
        start(data, save=POINTS, **gated(gates), options=options) as server,
        Wire(server.address) as other,
        gate(gates, "sync") as sync,
        Wire(server.address) as wire,
    ):
        wire.send(encode("FLUSHALL"))
        sync.reached()
        with contextlib.suppress(ConnectionError):  # it may be closed while the test still sends
            for _ in range(64):
                wire.send(encode("SET", "k", "v" * 100_000))
            assert wire.until_closed() == b""
        assert other("EXISTS", "k") == 0
        assert info(other, "stats")["client_query_buffer_limit_disconnections"] == "1"


def test_a_save_by_somebody_else_answers_who_is_held(start, data: Path, tmp_path: Path, ours: None) -> None:
    """SAVE, SHUTDOWN and DEBUG RELOAD complete what FLUSHALL waits for, and never bring deleted keys back."""
    gates = tmp_path / "gates"
    with (
        start(data, save=POINTS, **gated(gates)) as server,
        Wire(server.address) as wire,
        Wire(server.address) as other,
    ):
        fill(wire, 50)
        assert wire("SAVE") == OK
        with gate(gates, "sync") as sync:
            assert wire("BGSAVE") == STARTED
            sync.reached()
            wire.send(encode("FLUSHALL"))
            wait_until(lambda: other("DBSIZE") == 0, "the store to be empty")
            other.send(encode("DEBUG", "RELOAD", "NOSAVE") + encode("DBSIZE"))
            sync.open()
        assert wire.reply() == OK
        assert [other.reply(), other.reply()] == [OK, 0]


# ------------------------------------------------------------------------------------------------------------- loading


MIB = 1 << 20


def sparse_frames(wire: Wire) -> int:
    """Frames in use, once nothing waits to be freed; what a sparse value may become is in `frames_reserved`."""
    return int(info(wire, "machine")["frames_in_use"])


def test_a_sparse_bitmap_is_sparse_in_its_image_and_after_a_restart(start, data: Path, ours: None) -> None:
    """Restarted, reloaded and saved again; the copy shares no page with it any more, but that of zeros."""
    size, options = 60 * MIB, ("--machine-memory", "192mb")
    with start(data, options=options) as server, Wire(server.address) as wire:
        for offset in (8 * size - 1, 8 * 20 * MIB, 5):
            assert wire("SETBIT", "sparse", offset, 1) == 0
        assert wire("COPY", "sparse", "copy") == 1
        assert wire("SETBIT", "copy", 8 * 40 * MIB, 1) == 0
        assert wire("SETBIT", "full", 8 * 100 * MIB, 1).text.startswith("OOM"), "the others may become 120 MiB"
        digest, used = wire("DEBUG", "DIGEST"), sparse_frames(wire)
        assert wire("SAVE") == OK
        server.kill()
    (path,) = data.glob("*.kvimg")
    assert path.stat().st_size < MIB and read_image(path).version == 2
    with start(data, options=options) as server, Wire(server.address) as wire:
        for _ in range(2):
            assert wire("DEBUG", "DIGEST") == digest
            assert sparse_frames(wire) < used + 20
            assert [wire("BITCOUNT", key) for key in ("sparse", "copy")] == [3, 4]
            assert wire("SETBIT", "full", 8 * 100 * MIB, 1).text.startswith("OOM")
            assert wire("DEBUG", "RELOAD") == OK
        assert wire("SETBIT", "sparse", 8 * 30 * MIB, 1) == 0 and wire("GETBIT", "copy", 8 * 30 * MIB) == 0
        assert wire("SET", "dense", b"\xff" * 20 * MIB) == OK and wire("APPEND", "copy", b"\x01" * 9000) == size + 9000
        assert wire("DEL", "sparse", "dense") == 2
        wait_until(lambda: wire("SETBIT", "full", 8 * 100 * MIB, 1) == 0, "the frames of the values to be free")
        assert wire("BITCOUNT", "copy") == 9004


@pytest.fixture
def half_loaded(start, data: Path, tmp_path: Path, ours: None):
    """A server stopped before the first page of an image of 300 keys, and the gate that stops it."""
    with start(data) as server, Wire(server.address) as wire:
        fill(wire, 300)
        assert wire("SAVE") == OK
        server.kill()
    gates = tmp_path / "gates"
    with gate(gates, "read_cached") as at:
        server = start(data, save="1 0 3600 1", **gated(gates))
        try:
            server.wait_for(LOADING)
            at.reached()
            yield server, at
        finally:
            server.close()


def test_subscriptions_outlive_the_loading(half_loaded) -> None:
    """The store's seed comes with the image; names of channels are not hashed with it."""
    server, at = half_loaded
    with Wire(server.address) as listener, Wire(server.address) as wire:
        names = [f"news:{number}" for number in range(100)]
        listener.send(encode("SUBSCRIBE", *names))
        assert [listener.reply()[1].decode() for _ in names] == names
        assert wire("PUBLISH", "news:7", "early") == 1
        assert listener.reply() == [b"message", b"news:7", b"early"]
        at.open()
        wait_until(lambda: wire("DBSIZE") == 300, "the image to be loaded")
        for name in names:
            assert wire("PUBLISH", name, "late") == 1
            assert listener.reply() == [b"message", name.encode(), b"late"]
        assert listener("UNSUBSCRIBE", "news:7") == [b"unsubscribe", b"news:7", 99]


def test_clients_are_served_while_the_image_loads(half_loaded) -> None:
    """Commands with the flag `loading` are served, others refused, queued or not; then all keys are there."""
    server, at = half_loaded
    with Wire(server.address) as wire, Wire(server.address, 3) as watcher:
        for command in (
            *(("GET", "k1"), ("SET", "k1", "x"), ("DEL", "k1"), ("PING",), ("DBSIZE",), ("KEYS", "*"), ("SCAN", "0")),
            *(("FLUSHALL",), ("SAVE",), ("BGSAVE",), ("OBJECT", "ENCODING", "k1"), ("MEMORY", "USAGE", "k1")),
            *(
                ("MEMORY", "STATS"),
                ("RANDOMKEY",),
                ("EXPIRE", "k1", "1"),
                ("DEBUG", "RELOAD"),
                ("DEBUG", "RELOAD", "NOSAVE"),
                ("DEBUG", "POPULATE", "1"),
            ),
        ):
            assert wire(*command) == LOADING, command
        assert wire("NONESUCH").text.startswith("ERR unknown command")
        assert wire("GET").text == "ERR wrong number of arguments for 'get' command"
        assert wire("OBJECT", "NONESUCH").text.startswith("ERR unknown subcommand")
        assert wire("OBJECT", "ENCODING").text == "ERR wrong number of arguments for 'object|encoding' command"
        assert wire("ECHO", "x") == b"x"
        assert wire("SELECT", "3") == OK
        assert wire("SELECT", "0") == OK
        assert wire("CLIENT", "SETNAME", "early") == OK
        assert wire("CONFIG", "GET", "maxmemory") == [b"maxmemory", b"0"]
        assert wire("CONFIG", "SET", "save", "1 0") == OK
        assert isinstance(wire("LASTSAVE"), int)
        assert isinstance(wire("OBJECT", "HELP"), list)
        assert wire("MULTI") == OK
        assert wire("ECHO", "x") == QUEUED
        assert wire("EXEC") == [b"x"]
        assert wire("MULTI") == OK
        assert wire("SET", "a", "b") == LOADING
        assert wire("EXEC").text.startswith("EXECABORT")
        said = info(wire, "persistence")
        size = images(server.directory)[-1].stat().st_size
        assert (said["loading"], said["loading_loaded_bytes"], said["loading_loaded_perc"]) == ("1", "0", "0.00")
        assert 0 < int(said["loading_total_bytes"]) < size
        assert int(said["loading_eta_seconds"]) >= 0 and int(said["loading_start_time"]) > 1_700_000_000
        assert info(wire, "keyspace") == {}
        assert "cmdstat_get:calls=0,usec=0,usec_per_call=0.00,rejected_calls=2,failed_calls=0" in str(
            wire("INFO", "commandstats")
        )
        assert watcher("WATCH", "k1") == OK
        at.open()
        wait_until(lambda: wire("PING") == Status("PONG"), "the store")
        assert wire("DBSIZE") == 300
        assert wire("GET", "k1") == b"v" * 100
        assert wire("OBJECT", "ENCODING", "k1") == b"raw"
        assert watcher("MULTI") == OK
        assert watcher("GET", "k1") == QUEUED
        assert watcher("EXEC") is None  # the watched key did not exist yet
        said = info(wire, "persistence")
        assert said["loading"] == "0" and "loading_total_bytes" not in said
        assert said["rdb_last_load_keys_loaded"] == "300"
        assert wire("SET", "k1", "x") == OK
        wait_until(lambda: info(wire, "persistence")["rdb_saves"] != "0", "the save point that was set meanwhile")
        assert b"name=early" in wire("CLIENT", "LIST")


def tree(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != ".dump.lock"}


@pytest.mark.parametrize("end", ["SIGTERM", "SIGINT", "SHUTDOWN", "SHUTDOWN SAVE", "SHUTDOWN NOSAVE"])
def test_the_end_while_an_image_loads_comes_at_once_and_saves_nothing_over_it(half_loaded, end: str) -> None:
    """The server does not wait for a disk that has not answered."""
    server, _ = half_loaded
    before = tree(server.directory)
    if end.startswith("SIG"):
        server.process.send_signal(getattr(signal, end))
    else:
        with Wire(server.address) as wire:
            wire.send(encode(*end.split()))
            assert wire.until_closed() == b""
    assert server.ended(20) == 0
    assert tree(server.directory) == before
    assert litter(server.directory) == []


def test_a_server_that_cannot_load_ends_with_the_reason_after_it_has_listened(half_loaded) -> None:
    server, at = half_loaded
    path = images(server.directory)[-1]
    with path.open("r+b") as file:
        file.seek(DATA_OFFSET + 100)
        file.write(b"damage")
    before = tree(server.directory)
    at.open()
    assert server.ended() == 1
    assert "cannot start: no usable image" in server.log()
    assert path.name in server.log()
    assert tree(server.directory) == before


def test_a_bad_image_is_dropped_for_an_older_one_while_clients_are_told_to_wait(half_loaded) -> None:
    server, at = half_loaded
    newest = images(server.directory)[-1]
    older = newest.with_name("dump-0000000000.kvimg")
    shutil.copy(newest, older)
    at.open()
    with Wire(server.address) as wire:
        wait_until(lambda: wire("PING") == Status("PONG"), "the store")
        assert wire("DBSIZE") == 300


# --------------------------------------------------------------------------------------------------------- directories


def test_a_second_server_on_the_same_images_is_refused_by_name(start, data: Path, ours: None) -> None:
    """Another prefix is separate; a killed server's lock is gone with it; an orderly end leaves no lock."""
    with start(data) as server, Wire(server.address) as wire:
        fill(wire, 3)
        assert wire("SAVE") == OK
        log = refusal(start(data))
        assert "another server" in log and str(data) in log
        with start(data, options=("--dbfilename", "other")) as second, Wire(second.address) as wire2:
            assert wire2("DBSIZE") == 0
            assert wire2("SAVE") == OK
        assert wire("DEBUG", "RELOAD") == OK
        assert keys_after_a_crash(start, server) == 3
    with start(data) as server:
        assert server.terminate() == 0
    assert [name for name in litter(data) if not name.startswith("other-")] == [".other.lock"]
    assert not (data / ".dump.lock").exists()


def test_the_lock_moves_with_the_directory(start, tmp_path: Path, ours: None) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    options = ("--enable-protected-configs", "yes")
    with start(here, options=options) as one, Wire(one.address) as wire:
        assert wire("CONFIG", "SET", "dir", str(there)) == OK
        assert str(there) in refusal(start(there))
        with start(here, options=options) as two, Wire(two.address) as wire2:
            reply = wire2("CONFIG", "SET", "dir", str(there))
            assert isinstance(reply, Failure) and str(there) in reply.text
            assert wire2("CONFIG", "GET", "dir") == [b"dir", str(here).encode()]
            assert wire2("CONFIG", "SET", "dir", str(there), "dbfilename", "two") == OK
            assert wire2("SAVE") == OK
        reply = wire("CONFIG", "SET", "dir", str(tmp_path / "absent"))
        assert reply == Failure(
            "ERR CONFIG SET failed (possibly related to argument 'dir') - No such file or directory"
        )
        assert wire("SAVE") == OK
    assert sorted(path.name for path in there.glob("*.kvimg")) == ["dump-0000000001.kvimg", "two-0000000001.kvimg"]


def test_a_directory_is_made_where_its_parent_is_and_that_is_said(start, tmp_path: Path, ours: None) -> None:
    with start(tmp_path / "new") as server:
        assert f"Created the directory {tmp_path / 'new'}" in server.log()
    with start(tmp_path / "new") as server:
        assert "Created" not in server.log()
    log = refusal(start(tmp_path / "tpyo" / "data"))
    assert f"Can't chdir to '{tmp_path / 'tpyo' / 'data'}': No such file or directory" in log
    assert not (tmp_path / "tpyo").exists()


def test_a_file_of_redis_is_named_and_not_read(start, data: Path, ours: None) -> None:
    (data / "dump.rdb").write_bytes(b"REDIS0011")
    with start(data) as server:
        assert "dump.rdb is Redis's and is not read" in server.log()


# ---------------------------------------------------------------------------------------------------------------- room


def test_three_images_of_three_megabytes_on_a_disk_of_eight(start, tmp_path: Path) -> None:
    """The oldest is deleted before the newest is written, if there is no room for both."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", small], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("this user may not mount a file system; tests/snapshot/test_writer.py has the same without a disk")
    try:
        with start(small, save=POINTS) as server, Wire(server.address) as wire:
            if server.is_redis:
                pytest.skip("of this server only")
            for i in range(5):
                assert wire("SET", "big", os.urandom(3 << 20)) == OK
                assert wire("SET", "which", i) == OK
                assert bgsave(wire) == "ok", server.log()
            assert len(images(small)) == 2
            assert "the disk is full" in server.log()
            server.kill()
        with start(small) as server, Wire(server.address) as wire:
            assert wire("GET", "which") == b"4"
    finally:
        subprocess.run(["umount", "-l", small], check=False)


def test_the_newest_image_damaged_the_next_does_not_cost_the_good_one(start, data: Path, ours: None) -> None:
    """The damaged image is set aside; if the next one is damaged too, the old good one still exists."""
    with start(data) as server, Wire(server.address) as wire:
        for i in range(2):
            assert wire("SET", "which", i) == OK
            assert wire("SAVE") == OK
        server.kill()
    good, bad = images(data)
    bad.write_bytes(bad.read_bytes()[:-1])
    with start(data) as server, Wire(server.address) as wire:
        assert wire("GET", "which") == b"0"
        assert wire("SET", "which", 2) == OK
        assert wire("SAVE") == OK
        wait_until(lambda: "set aside as damaged" in server.log(), "the log")
        server.kill()
    assert [path.name for path in images(data)] == [good.name, "dump-0000000003.kvimg"]
    assert litter(data) == [f"{bad.name}.damaged"]
    images(data)[-1].write_bytes(b"")
    with start(data) as server, Wire(server.address) as wire:
        assert wire("GET", "which") == b"0"


# ---------------------------------------------------------------------------------------------------- what is an image


def rewrite(path: Path, *, pages: bytes | None = None, keep: slice = slice(None), **manifest: object) -> None:
    """Rewrite an image with other pages, runs or manifest words, and with valid checksums."""
    image, whole = read_image(path), path.read_bytes()
    runs = Table.of(image.runs.tolist()[keep], 2)
    data = whole[DATA_OFFSET : DATA_OFFSET + image.data_size] if pages is None else pages
    if keep != slice(None):
        data = b"".join(whole[at : at + count * PAGE_SIZE] for _, count, at in list(image.file_runs())[keep])
    digests = [checksum(data[at : at + image.chunk_size]) for at in range(0, len(data), image.chunk_size)]
    said = {"metadata": image.metadata, "epoch": 1, "root": 1, "forked_unix_us": 1, **manifest}
    end = ending(image.id, runs=runs, checksums=np.array(digests, np.uint64), **said)  # type: ignore[arg-type]
    path.write_bytes(header_page(image.id, image.chunk_size) + data + end)


def patched(path: Path, address: int, value: int) -> bytes:
    """The pages of an image with one word changed."""
    image, whole = read_image(path), bytearray(path.read_bytes())
    at = DATA_OFFSET + image.page_number(address) * PAGE_SIZE + address % PAGE_SIZE
    whole[at : at + 8] = struct.pack("<q", value)
    return bytes(whole[DATA_OFFSET : DATA_OFFSET + image.data_size])


def odd_manifest(path: Path) -> None:
    """Make the manifest have a list as a key, with valid checksums."""
    from tests.snapshot.test_image_format import seal

    path.write_bytes(seal(b"", b"\x81" + msgpack.packb([1]) + b"\x01"))


UNOPENABLE = {
    "another store's magic number": (
        lambda path: rewrite(path, pages=patched(path, 0x1000_0800, 0x7777_0002)),
        "magic number",
    ),
    "a control block of another version": (
        lambda path: rewrite(path, pages=patched(path, 0x1000_0800, 0x6B76_0001)),
        "its control block's layout is version 1, digest",
    ),
    "a control block with another digest": (
        lambda path: rewrite(path, pages=patched(path, 0x1000_0810, 0x1234)),
        f"its control block's layout is {LAYOUT[:-16]}0000000000001234, and this program's is {LAYOUT}",
    ),
    "another heap's magic number": (lambda path: rewrite(path, pages=patched(path, 0x1000_0000, 5)), "magic number"),
    "the name of another layout": (
        lambda path: rewrite(path, metadata={**read_image(path).metadata, "layout": "version 1, digest 0123"}),
        f"its layout is version 1, digest 0123, and this program's is {LAYOUT}",
    ),
    "no name of a layout": (lambda path: rewrite(path, metadata={"made_by": "kvstore"}), "its layout is not named"),
    "odd metadata": (lambda path: rewrite(path, metadata={"layout": {"a": [1]}, b"\xff": 7}), "its layout is"),
    "no control block": (lambda path: rewrite(path, keep=slice(1, None)), "no control block"),
    "no index": (lambda path: rewrite(path, keep=slice(None, -2)), "buckets of database 0 are not in it"),
    "no pages at all": (lambda path: rewrite(path, keep=slice(0, 0)), "no control block"),
    "a parent": (lambda path: rewrite(path, parent=bytes(16)), "it holds only what changed since"),
    "a list as a key of its manifest": (odd_manifest, "the manifest is not msgpack"),
    "a pipe": (lambda path: (path.unlink(), os.mkfifo(path)), "it is no regular file"),
    "a device": (lambda path: (path.unlink(), path.symlink_to("/dev/zero")), "it is no regular file"),
    "a link that leads nowhere": (lambda path: (path.unlink(), path.symlink_to("nowhere")), "No such file"),
}


def test_what_is_no_image_of_this_store_is_refused_by_name_and_kept(start, data: Path, ours: None) -> None:
    """All exist at once, each newer than the last; the older good one is served, and snapshots keep the others."""
    with start(data) as server, Wire(server.address) as wire:
        fill(wire, 100)
        assert wire("SAVE") == OK
        server.kill()
    (good,) = images(data)
    paths = [data / f"dump-{number:010}.kvimg" for number in range(10, 10 + len(UNOPENABLE))]
    for path, (make, _) in zip(paths, UNOPENABLE.values(), strict=True):
        shutil.copy(good, path)
        make(path)
    with start(data) as server, Wire(server.address) as wire:
        assert wire("DBSIZE") == 100
        assert wire("GET", "k7") == b"v" * 100
        log = server.log().splitlines()
        for path, (_, reason) in zip(paths, UNOPENABLE.values(), strict=True):
            assert [line for line in log if path.name in line and reason in line], (path.name, reason)
        assert "Traceback" not in server.log()
        for _ in range(3):
            assert wire("SAVE") == OK
        names = {path.name for path in data.iterdir()}
        damaged = {path.name for path, name in zip(paths, UNOPENABLE, strict=True) if name.startswith("a list")}
        assert {path.name for path in paths} - damaged <= names
        assert {f"{name}.damaged" for name in damaged} <= names
    for path in images(data):
        if path not in paths:
            path.unlink()
    log = refusal(start(data))
    assert "no usable image" in log


def test_a_pipe_alone_is_refused_at_once(start, data: Path, ours: None) -> None:
    os.mkfifo(data / "dump-0000000001.kvimg")
    assert "it is no regular file" in refusal(start(data))


def test_a_held_client_s_connection_ends_with_the_server(start, data: Path, tmp_path: Path, ours: None) -> None:
    """SHUTDOWN NOSAVE gives the image up; the client is never told that it is durable."""
    gates = tmp_path / "gates"
    with (
        start(data, save=POINTS, **gated(gates)) as server,
        Wire(server.address) as wire,
        Wire(server.address) as other,
    ):
        with gate(gates, "sync") as sync:
            wire.send(encode("FLUSHALL"))
            sync.reached()
            other.send(encode("SHUTDOWN", "NOSAVE"))
            wait_until(lambda: "requested shutdown" in server.log(), "the shutdown to begin before the sync ends")
            sync.open()
            assert other.until_closed() == b""
        with pytest.raises((Closed, ConnectionResetError)):
            wire.reply()
        assert server.ended() == 0
    assert images(data) == []
