"""Branches and images, long values, quotas of memory, expiry; and nothing of a thousand branches stays."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.gated import gate, gated
from tests.harness import Process
from tests.server.branching import DROPPED, NOBRANCH, each, fields_of, play, settled_frames
from tests.server.wire import (
    OK,
    QUEUED,
    Argument,
    Failure,
    Status,
    Wire,
    encode,
    info,
    wait_until,
)

pytestmark = pytest.mark.usefixtures("stores")

# ------------------------------------------------------------------------------------------------------ saving, memory


def test_flushall_in_a_branch_concerns_it_alone(wire: Wire) -> None:
    assert wire("SET", "a", "1") == OK
    assert wire("BRANCH", "CREATE", "x") == OK
    assert wire("BRANCH", "USE", "x") == OK
    assert wire("FLUSHALL") == OK
    assert wire("DBSIZE") == 0
    assert wire("SWAPDB", "0", "1") == OK
    assert play(wire, "BRANCH USE main; DBSIZE; GET a") == [OK, 1, b"1"]
    assert play(wire, "BRANCH RESET x; BRANCH USE x; GET a") == [OK, OK, b"1"]


def test_what_a_branch_saves_is_the_main_store(start, data: Path) -> None:
    with start(data, save="") as server, Wire(server.address) as wire:
        assert wire("SET", "a", "main") == OK
        assert play(wire, "BRANCH CREATE x; BRANCH USE x; SET a x; SET b x") == [OK] * 4
        assert wire("SAVE") == OK
        assert wire("FLUSHALL") == OK
        assert wire("BGSAVE") == Status("Background saving started")
        wait_until(lambda: info(wire)["rdb_bgsave_in_progress"] == "0", "the image")
        digest = wire("DEBUG", "DIGEST")
        assert wire("MULTI") == OK
        assert wire("BGSAVE") == QUEUED
        assert isinstance(wire("EXEC"), list)
        wait_until(
            lambda: info(wire)["rdb_bgsave_in_progress"] == "0" and info(wire)["rdb_last_bgsave_status"] == "ok",
            "the image",
        )
        assert wire("DEBUG", "DIGEST") == digest
        assert wire("DBSIZE") == 0
        wire.send(encode("SHUTDOWN", "SAVE"))
        assert server.ended() == 0
    with start(data, save="") as server, Wire(server.address) as wire:
        assert wire("DBSIZE") == 1
        assert wire("GET", "a") == b"main"
        assert len(wire("BRANCH", "LIST")) == 1
        assert wire("BRANCH", "USE", "x") == Failure(NOBRANCH)


def test_flushall_in_a_branch_leaves_the_image_alone_though_there_are_save_points(start, data: Path) -> None:
    with start(data, save="3600 1") as server, Wire(server.address) as wire:
        assert wire("SET", "a", "main") == OK
        assert wire("SAVE") == OK
        assert play(wire, "BRANCH CREATE x; BRANCH USE x; SET b x; FLUSHALL; FLUSHDB") == [OK] * 5
        server.kill()
    with start(data, save="3600 1") as server, Wire(server.address) as wire:
        assert wire("GET", "a") == b"main"
        assert wire("DBSIZE") == 1
        assert wire("BRANCH", "CREATE", "x") == OK
        assert wire("BRANCH", "USE", "x") == OK
        assert wire("SET", "c", "x" * 1_000_000) == OK
        assert server.terminate() == 0
    with start(data) as server, Wire(server.address) as wire:
        assert wire("DBSIZE") == 1


def test_changes_in_a_branch_are_no_unsaved_changes(wire2: Wire) -> None:
    assert wire2("BRANCH", "CREATE", "x") == OK
    before = info(wire2, "persistence")["rdb_changes_since_last_save"]
    assert play(wire2, "BRANCH USE x; SET a 1; SET b 1; BRANCH USE main") == [OK] * 4
    assert info(wire2, "persistence")["rdb_changes_since_last_save"] == before


def test_long_values_arrive_in_a_branch(wire: Wire) -> None:
    value = bytes(range(256)) * 8192 + b"end"
    assert wire("SET", "a", value) == OK
    assert play(wire, "BRANCH CREATE x; BRANCH USE x") == [OK] * 2
    assert wire("GET", "a") == value
    assert wire("SET", "b", value + b"x") == OK
    assert wire("APPEND", "a", value) == 2 * len(value)
    assert wire("COPY", "a", "c") == 1
    assert wire("SETRANGE", "c", 5, "changed") == 2 * len(value)
    assert wire("BRANCH", "USE", "main") == OK
    assert wire("EXISTS", "b", "c") == 0
    assert wire("GET", "a") == value
    commands: list[tuple[Argument, ...]] = [("BRANCH", "USE", "x"), ("SET", "d", value), ("BRANCH", "USE", "main")]
    commands += [("EXISTS", "d"), ("BRANCH", "USE", "x"), ("GET", "d"), ("GET", "a")]
    assert wire.pipeline(commands) == [OK, OK, OK, 0, OK, value, value * 2]


def test_a_long_value_is_on_its_way_when_its_branch_is_dropped(server: Process, wire2: Wire) -> None:
    value = b"v" * 3_000_000
    with Wire(server.address) as sender:
        before = settled_frames(wire2)
        assert wire2("BRANCH", "CREATE", "x") == OK
        assert sender("BRANCH", "USE", "x") == OK
        data = encode("SET", "a", value)
        sender.send(data[:2_000_000])
        wait_until(lambda: settled_frames(wire2) > before + 400, "its first half")
        assert wire2("BRANCH", "DROP", "x", "FORCE") == OK
        sender.send(data[2_000_000:])
        assert sender.reply() == Failure(DROPPED)
        assert play(sender, "BRANCH USE main; EXISTS a") == [OK, 0]
        wait_until(lambda: settled_frames(wire2) <= before, "all frames to come back")


def test_a_copy_in_steps_is_under_way_when_contents_are_replaced_or_the_branch_is_dropped(
    server: Process, wire2: Wire
) -> None:
    for name in ("x", "y"):
        assert wire2("BRANCH", "CREATE", name) == OK
    with Wire(server.address) as copier:
        assert copier("BRANCH", "USE", "x") == OK
        for start in range(0, 100_000, 1000):
            assert copier("SADD", "big", *range(start, start + 1000), "text") >= 1000
        assert wire2("SNAPSHOT", "CREATE", "s", "FROM", "x") == OK
        for command in each("SNAPSHOT RESTORE s INTO x; BRANCH SWAP x y; BRANCH SWAP x y; BRANCH DROP x FORCE"):
            copier.send(encode("COPY", "big", "copy", "REPLACE") + encode("SCARD", "copy"))
            assert wire2(*command) == OK
            outcome = copier.reply(), copier.reply()
            assert outcome in (
                (1, 100_001),
                (0, 0),
                (Failure(DROPPED), Failure(DROPPED)),
                (1, Failure(DROPPED)),
                (0, 100_001),
            ), outcome
        assert copier("BRANCH", "USE", "main") == OK
        assert wire2("BRANCH", "USE", "y") == OK
        assert wire2("DBSIZE") in (0, 1, 2)


def test_a_branch_beyond_its_quota_is_refused_by_name_and_main_goes_on(server: Process, wire2: Wire) -> None:
    assert wire2("SET", "a", "1") == OK
    with Wire(server.address) as user:
        assert wire2("BRANCH", "CREATE", "x", "MAXMEMORY", "4000000") == OK
        assert user("BRANCH", "USE", "x") == OK
        reply: object = OK
        written = 0
        while reply == OK and written < 100:
            reply = user("SET", f"key:{written}", b"v" * 100_000)
            written += 1
        assert isinstance(reply, Failure) and reply.text.startswith("OOM this branch may take no more memory"), reply
        assert 15 <= written <= 41
        assert int(fields_of(wire2, "x")["own_bytes"]) <= 4_000_000 + (2 << 20)
        assert wire2("SET", "b", b"v" * 1_000_000) == OK
        assert user("GET", "key:0") == b"v" * 100_000
        for way in (("FLUSHALL",), ("BRANCH", "RESET")):
            assert user(*way) == OK
            written = 0
            reply = OK
            while reply == OK and written < 100:
                reply = user("SET", f"key:{written}", b"v" * 100_000)
                written += 1
            assert 15 <= written <= 41, (way, written)
        for number in range(written):
            user("DEL", f"key:{number}")
        assert user("SET", "again", b"v" * 100_000) == OK
        replies = user.pipeline([("MULTI",), *[("APPEND", f"k{i}", b"v" * 500_000) for i in range(20)], ("EXEC",)])
        assert isinstance(replies[-1], Failure) and replies[-1].text.startswith("EXECABORT"), replies[-1]
        assert user("EXISTS", "k0") == 0


def test_a_quota_is_charged_for_the_work_of_its_own_connections_alone(server: Process, wire2: Wire) -> None:
    assert wire2("DEBUG", "POPULATE", "20000", "key", "100") == OK
    with Wire(server.address) as user:
        assert wire2("BRANCH", "CREATE", "x", "MAXMEMORY", "8000000") == OK
        assert user("BRANCH", "USE", "x") == OK
        for turn in range(300):
            assert user("BRANCH", "CREATE", f"b{turn}") == OK
            assert user("BRANCH", "DROP", f"b{turn}") == OK
            assert user("SNAPSHOT", "CREATE", "s", "FROM", "main") == OK
            assert user("SNAPSHOT", "DROP", "s") == OK
        assert int(fields_of(wire2, "x")["own_bytes"]) < 100_000
        assert wire2("FLUSHALL") == OK  # what others release is not given to it
        assert user("SET", "a", b"v" * 2_000_000) == OK
        settled_frames(wire2)
        assert int(fields_of(wire2, "x")["own_bytes"]) >= 2_000_000
        assert user("DEBUG", "RELOAD").text.startswith("ERR")
        assert int(fields_of(wire2, "x")["own_bytes"]) >= 2_000_000


@pytest.mark.parametrize("user", ["main", "x"])
def test_a_thousand_branches_come_and_go_and_leave_nothing(server: Process, wire2: Wire, user: str) -> None:
    def resources() -> tuple[int, int]:
        descriptors = len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))
        return settled_frames(wire2), descriptors

    assert wire2("DEBUG", "POPULATE", "1000") == OK
    assert wire2("BRANCH", "CREATE", "x") == OK
    with Wire(server.address) as other:
        assert other("BRANCH", "USE", user) == OK

        def rounds(count: int) -> None:
            for turn in range(count):
                replies = play(
                    other,
                    "BRANCH CREATE t FROM main; SNAPSHOT CREATE s FROM t; BRANCH USE t;"
                    f"SET key:1 {turn}; DEL key:2; RPUSH l a; BRANCH RESET; SET key:3 {turn}; SNAPSHOT RESTORE s;"
                    f"BRANCH USE {user}; BRANCH DROP t; SNAPSHOT DROP s",
                )
                assert [reply for reply in replies if isinstance(reply, Failure)] == [], replies

        rounds(20)
        before = resources()
        memory = int(info(wire2)["used_memory_rss"])
        rounds(1000)
        assert resources() == before
        assert int(info(wire2)["used_memory_rss"]) < memory + (4 << 20)
        assert len(wire2("BRANCH", "LIST")) == 2


# ------------------------------------------------------------------------------------------------------------ expiry


def test_restored_keys_whose_time_has_passed_are_gone_and_a_snapshot_hides_them(server: Process, wire2: Wire) -> None:
    once = "SET a 1 PX 100000; SET b 1; SNAPSHOT CREATE s; BRANCH CREATE x; PERSIST a"
    assert play(wire2, once) == [OK, OK, OK, OK, 1]
    with Wire(server.address) as there:
        assert there("BRANCH", "USE", "s") == OK
        assert play(there, "GET a; DBSIZE") == [b"1", 2]
        assert wire2("DEBUG", "SHIFT-CLOCK", "WALL", "200000") == OK
        try:
            assert wire2("GET", "a") == b"1"
            hidden = [None, 0, -2, [b"b"], b"b", b"1"]
            assert play(there, "GET a; EXISTS a; TTL a; KEYS *; RANDOMKEY; GET b") == hidden
            assert play(there, "BRANCH USE x; GET a; DBSIZE") == [OK, None, 1]
            assert wire2("SNAPSHOT", "RESTORE", "s") == OK
            assert wire2("GET", "a") is None
        finally:
            assert wire2("DEBUG", "SHIFT-CLOCK", "WALL", "-200000") == OK
        assert play(there, "BRANCH USE s; GET a") == [OK, b"1"]


# ------------------------------------------------------------------------------------- reads and saves in other threads


@pytest.fixture
def reads_aside(wire2: Wire) -> Iterator[None]:
    """Every read of two elements goes aside."""
    kept = wire2("CONFIG", "GET", "read-aside-threshold")[1]
    assert wire2("CONFIG", "SET", "read-aside-threshold", "1") == OK
    yield
    assert wire2("CONFIG", "SET", "read-aside-threshold", kept) == OK


def test_long_reads_cost_a_branch_nothing(server: Process, wire2: Wire, reads_aside: None) -> None:
    assert play(wire2, "SADD a b c d; BRANCH CREATE x MAXMEMORY 8000000; BRANCH USE x; SET k v") == [3, OK, OK, OK]
    assert sorted(wire2("SMEMBERS", "a")) == [b"b", b"c", b"d"]
    settled_frames(wire2)
    before = fields_of(wire2, "x")["own_bytes"]
    for turn in range(200):
        wire2.send(encode("SMEMBERS", "a") + encode("SET", "k", turn))
        assert (sorted(wire2.reply()), wire2.reply()) == ([b"b", b"c", b"d"], OK)
    settled_frames(wire2)
    assert fields_of(wire2, "x")["own_bytes"] == before


def own_alone(wire: Wire, name: str) -> tuple[int, int]:
    """(what a branch has taken for itself; its pages and tables that no other store has, and the root of its base)."""
    settled_frames(wire)
    found = fields_of(wire, name)
    return int(found["own_bytes"]), int(found["private"]) + 4096 * (int(found["tables_private"]) + 1)


def overwrite(wire: Wire, value: str) -> None:
    """Write so much that pages are copied which a frozen root may still need."""
    for start in range(0, 20_000, 1000):
        for i in range(start, start + 1000, 100):
            assert wire("SET", f"key:{i}", value * 2000) == OK


@pytest.mark.parametrize("how", ["read", "close", "kill"])
def test_a_branch_pays_for_what_it_has_after_a_long_read_however_that_ends(
    server: Process, wire2: Wire, reads_aside: None, how: str
) -> None:
    for start in range(0, 100_000, 1000):
        assert wire2("SADD", "great", *range(start, start + 1000)) == 1000
    assert play(wire2, "SUNIONSTORE greater great; BRANCH CREATE x MAXMEMORY 80000000; BRANCH USE x") == [
        100_000, OK, OK]  # fmt: skip
    overwrite(wire2, "a")
    with Wire(server.address) as reader, Wire(server.address) as busy:
        busy.send(encode("SINTERCARD", 2, "great", "greater") * 4)  # the reader's thread has work for a while
        assert reader("BRANCH", "USE", "x") == OK
        identity = reader("CLIENT", "ID")
        reader.send(encode("SINTERCARD", 2, "great", "greater"))
        wait_until(lambda: int(info(wire2)["reads_aside_pending"]) > 1, "the read")
        overwrite(wire2, "b")
        if how == "read":
            assert reader.reply() == 100_000
        elif how == "kill":
            assert wire2("CLIENT", "KILL", "ID", identity) == 1
    wait_until(lambda: info(wire2)["reads_aside_pending"] == "0", "the reads")
    own, alone = own_alone(wire2, "x")
    assert own == alone > 4096 * 100


def test_a_branch_pays_for_what_it_has_after_a_comparison_that_was_given_up(server: Process, wire2: Wire) -> None:
    for start in range(0, 100_000, 1000):
        assert wire2("SADD", "great", *range(start, start + 1000)) == 1000
    assert play(wire2, "BRANCH CREATE x MAXMEMORY 80000000; BRANCH USE x; COPY great copy; RENAME great old; "
                "RENAME copy great; DEL old") == [OK, OK, 1, OK, OK, 1]  # fmt: skip
    for how in ("read", "close"):
        with Wire(server.address) as asking:
            assert asking("BRANCH", "USE", "x") == OK
            asking.send(encode("BRANCH", "DIFF", "main", "x"))
            overwrite(wire2, how)
            if how == "read":
                assert asking.reply()[5] == []
    own, alone = own_alone(wire2, "x")
    assert own == alone


def test_a_branch_pays_for_what_its_snapshots_keep_until_they_are_dropped(wire2: Wire) -> None:
    assert play(wire2, "BRANCH CREATE x MAXMEMORY 80000000; BRANCH USE x") == [OK, OK]
    overwrite(wire2, "a")
    assert wire2("SNAPSHOT", "CREATE", "s", "FROM", "x") == OK
    before = own_alone(wire2, "x")[0]
    overwrite(wire2, "b")
    kept, alone = own_alone(wire2, "x")
    assert kept - before > 4096 * 100 and kept - alone > 4096 * 100
    assert wire2("SNAPSHOT", "DROP", "s") == OK
    own, alone = own_alone(wire2, "x")
    assert own == alone
    # Frames taken before a RESET are nobody's, even if a snapshot keeps it.
    assert play(wire2, "SNAPSHOT CREATE s FROM x; BRANCH RESET x") == [OK, OK]
    assert own_alone(wire2, "x") == (2 * 4096, 2 * 4096)
    assert play(wire2, "SNAPSHOT RESTORE s INTO x; SNAPSHOT DROP s") == [OK, OK]
    assert own_alone(wire2, "x")[0] == 2 * 4096


def test_accounts_follow_contents_through_an_exchange(wire2: Wire) -> None:
    assert (
        play(wire2, "BRANCH CREATE x MAXMEMORY 80000000; BRANCH CREATE y MAXMEMORY 40000000; BRANCH USE x") == [OK] * 3
    )
    overwrite(wire2, "a")
    before = own_alone(wire2, "x"), own_alone(wire2, "y")
    assert before[0][0] > 4096 * 100
    assert wire2("BRANCH", "SWAP", "x", "y") == OK
    assert (own_alone(wire2, "y"), own_alone(wire2, "x")) == before
    assert wire2("SET", "k", "v") == OK
    own, alone = own_alone(wire2, "x")
    assert own == alone > before[1][0]


def test_stores_change_and_end_under_long_reads(server: Process, wire2: Wire, reads_aside: None) -> None:
    """A read gets what was there when it was asked, or learns that its branch was dropped; all frames come back."""
    for start in range(0, 100_000, 1000):
        assert wire2("SADD", "great", *range(start, start + 1000)) == 1000
    assert play(wire2, "SUNIONSTORE greater great; SADD greater text") == [100_000, 1]
    before = settled_frames(wire2)
    for _ in range(3):
        assert play(wire2, "BRANCH CREATE x; BRANCH CREATE y; SNAPSHOT CREATE s") == [OK] * 3
        with ExitStack() as stack:
            readers = [stack.enter_context(Wire(server.address)) for _ in range(6)]
            for one in readers:
                assert one("BRANCH", "USE", "x") == OK
                one.send(encode("SINTERCARD", "2", "great", "greater") + encode("SCARD", "great"))
            assert play(wire2, "BRANCH RESET x; BRANCH USE y; FLUSHALL; BRANCH SWAP x y; BRANCH USE main") == [OK] * 5
            assert readers[0].pipeline([]) == []
            readers[0].close()
            assert wire2("SNAPSHOT", "RESTORE", "s", "INTO", "y") == OK
            assert wire2("BRANCH", "DROP", "x", "FORCE") == OK
            for one in readers[1:]:
                first, second = one.reply(), one.reply()
                assert first in (100_000, 0, Failure(DROPPED)), first
                assert second in (100_000, 0, Failure(DROPPED)), second
        assert play(wire2, "BRANCH DROP y; SNAPSHOT DROP s; SCARD great") == [OK, OK, 100_000]
    wait_until(lambda: settled_frames(wire2) <= before + 1, "all frames to come back")


@pytest.mark.parametrize("way", ["unblocked", "dropped", "closed", "answered"])
def test_a_save_that_ends_answers_the_one_who_waits_for_it_and_nobody_else(start, data: Path, way: str) -> None:
    gates = data.parent / "gates"
    with (
        start(data, **gated(gates)) as server,
        Wire(server.address) as wire,
        Wire(server.address) as saver,
        gate(gates, "sync") as sync,
    ):
        assert play(wire, "SET a 1; BRANCH CREATE x") == [OK, OK]
        identity = saver("CLIENT", "ID")
        assert saver("BRANCH", "USE", "x") == OK
        saver.send(encode("BRANCH", "SAVE", "x", "kept"))
        sync.reached()
        assert info(wire)["blocked_clients"] == "1"
        if way == "unblocked":
            assert wire("CLIENT", "UNBLOCK", identity) == 1
            saver.reply()
        elif way == "dropped":
            assert wire("BRANCH", "DROP", "x", "FORCE") == OK
            assert saver.reply() == Failure(DROPPED)
            assert saver("BRANCH", "USE", "main") == OK
        elif way == "closed":
            saver.close()
            wait_until(lambda: info(wire)["blocked_clients"] == "0", "its end")
        if way in ("unblocked", "dropped"):
            saver.send(encode("BLPOP", "nothing", "0"))
            wait_until(lambda: info(wire)["blocked_clients"] == "1", "the wait")
        sync.open()
        wait_until(lambda: "is durable" in server.log(), "the image")
        assert wire("PING") == Status("PONG")
        assert info(wire)["blocked_clients"] == ("1" if way in ("unblocked", "dropped") else "0")
        if way == "answered":
            assert saver.reply() == OK
        elif way != "closed":
            assert wire("CLIENT", "UNBLOCK", identity, "ERROR") == 1
            assert saver.reply() == Failure("UNBLOCKED client unblocked via CLIENT UNBLOCK")
        assert list(data.glob("kept*"))
        assert server.terminate() == 0
