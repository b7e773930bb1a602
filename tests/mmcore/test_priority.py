"""Threads step back, each for itself."""

import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from mmcore.jit import DISABLED, address_of, int64, zeros
from mmcore.priority import step_aside, step_back


def in_thread(work: Callable[[], Any]) -> Any:
    """The result of `work` in a thread of its own, whose priority it may change."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


def told() -> tuple[int, int]:
    """(policy, nice value) of the calling thread."""
    return os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.parametrize("batch", [True, False])
def test_a_thread_steps_back_alone(batch: bool) -> None:
    policy, nice = before = told()
    after = in_thread(lambda: (step_back(nice + 3, batch=batch), told())[1])
    assert after == (os.SCHED_BATCH if batch else policy, nice + 3)
    assert told() == before


def test_a_priority_that_is_not_permitted_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", refuse)
    assert in_thread(lambda: (step_back(-20), told())[1]) == (os.SCHED_BATCH, told()[1])


@pytest.mark.skipif(DISABLED, reason="no kernel calls the system without the compiler")
def test_a_thread_steps_aside_alone() -> None:
    before, parameters = told(), zeros(int64, 1)
    assert in_thread(lambda: (step_aside(address_of(parameters)), told()[0])) == (True, os.SCHED_IDLE)
    assert told() == before
