"""How the system schedules a thread in the background: it steps back for the one that serves.

A request that the system does not support or permit has no effect.
"""

import contextlib
import os
import threading


def step_back(nice: int, *, batch: bool = True) -> None:
    """Lower the calling thread's priority to `nice`; with `batch`, it does not preempt other threads when it wakes."""
    thread = threading.get_native_id()
    with contextlib.suppress(PermissionError):  # a higher priority than allowed: keep the current one
        os.setpriority(os.PRIO_PROCESS, thread, nice)
    if batch and hasattr(os, "SCHED_BATCH"):
        os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))
