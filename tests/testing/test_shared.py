"""One server for several processes: it is started when the first one asks, once, and its owner ends it."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from kvstore.testing import shared
from kvstore.testing.embedded import StartFailed
from kvstore.testing.server import Server
from kvstore.testing.shared import Shared, ask


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A record of what happens to servers, none of which is real."""
    seen: list[str] = []

    @contextlib.contextmanager
    def pretend(options: Mapping[str, Any]) -> Iterator[Server]:
        seen.append("start")
        if options:
            raise StartFailed("it ended: nonsense")
        yield Server(unix_socket="/tmp/socket", pid=7, log_file="/tmp/log", password="p@ss")
        seen.append("stop")

    monkeypatch.setattr(shared, "embedded", pretend)
    return seen


def test_it_is_started_when_the_first_one_asks(events: list[str]) -> None:
    owner = Shared({})
    assert events == []
    assert (
        ask(owner.directory)
        == ask(owner.directory)
        == Server("/tmp/socket", pid=7, log_file="/tmp/log", password="p@ss")
    )
    assert events == ["start"]
    owner.close()
    assert events == ["start", "stop"]


def test_if_nobody_asks_none_is_started(events: list[str]) -> None:
    Shared({}).close()
    assert events == []


def test_everyone_is_told_of_a_start_that_failed(events: list[str]) -> None:
    owner = Shared({"nonsense": 1})
    for _ in range(2):
        with pytest.raises(StartFailed, match="it ended: nonsense"):
            ask(owner.directory)
    owner.close()
    assert events == ["start"]
