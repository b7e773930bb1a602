"""The benchmark of messages, in its smoke size; and what makes a run fail."""

import threading
from pathlib import Path

import pytest

from bench.rig.redisbenchmark import ClientFailed
from bench.rig.servers import DEFAULT, RIVALS, installed, server
from bench.serving import pubsub
from bench.serving.pubsub import Subscribers, run_once
from tests.bench.support import needs_redis_benchmark
from tests.bench.test_cli import rows, run

HERE = [subject for subject in (DEFAULT, *RIVALS) if installed(subject)]


@needs_redis_benchmark
def test_each_server_delivers_to_one_and_to_a_hundred(tmp_path: Path) -> None:
    report = run(tmp_path, "pubsub")
    found = rows(report)
    assert [row["subscribers"] for row in found] == [1, 100]
    assert all(
        row[f"{subject}{what}"] > 0 for row in found for subject in HERE for what in ("", ", processor", ", core")
    )
    bars = [figure["at_least"] for figure in report["figures"]]
    assert bars == [bar for rival in HERE[1:] for bar in (1.5 if rival == "redis" else None, None)] * 2


@needs_redis_benchmark
def test_all_messages_are_counted() -> None:
    with server(DEFAULT) as one:
        run_once(one, subscribers=3, messages=160, clients=2, text="text")
        assert "calls=160," in one.info()["cmdstat_publish"]
        assert one.info()["pubsub_channels"] == "0"


def test_more_messages_than_were_expected_are_an_error() -> None:
    with server(DEFAULT) as one, Subscribers(one, 2, "text") as listening, one.client() as client:
        for _ in range(3):
            client.command("PUBLISH", pubsub.CHANNEL, "text")
        with pytest.raises(ClientFailed, match="more messages"):
            listening.receive(2)


def test_a_subscriber_that_is_closed_is_an_error() -> None:
    with server(DEFAULT) as one, Subscribers(one, 1, "text") as listening, one.client() as client:
        closer = threading.Thread(target=client.command, args=("CLIENT", "KILL", "SKIPME", "yes"))
        closer.start()
        with pytest.raises((ClientFailed, ConnectionResetError)):
            listening.receive(1)
        closer.join()


def test_without_redis_benchmark_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pubsub.shutil, "which", lambda name: None)
    report = pubsub.run()
    assert report.notes == ["redis-benchmark is not installed; nothing was measured"]
    assert not report.tables
