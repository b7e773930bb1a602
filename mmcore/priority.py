"""How the system schedules a thread in the background: it steps back for the one that serves.

A request that the system does not support or permit has no effect.
"""

import contextlib
import os
import threading

from mmcore.jit import boolean, external, int32, int64, linked

_SCHED_IDLE = 5
_sched_setscheduler = external("sched_setscheduler", int32(int32, int32, int64))


def step_back(nice: int, *, batch: bool = True) -> None:
    """Lower the calling thread's priority to `nice`; with `batch`, it does not preempt other threads when it wakes."""
    thread = threading.get_native_id()
    with contextlib.suppress(PermissionError):  # a higher priority than allowed: keep the current one
        os.setpriority(os.PRIO_PROCESS, thread, nice)
    if batch and hasattr(os, "SCHED_BATCH"):
        os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))


@linked(boolean(int64))
def step_aside(parameters):  # type: ignore[no-untyped-def]
    """Let the calling thread run only where a processor has nothing else to do.  Returns whether the system does so.

    For other threads, a processor that runs only such threads is idle.  Without privileges a thread can never undo
    this, and on busy processors it may wait for long.  It must therefore not hold the GIL from here on, so this is a
    kernel, for threads that spend their life in one.  `parameters` is the address of a word that is 0, which is a
    struct sched_param.
    """
    return _sched_setscheduler(0, _SCHED_IDLE, parameters) == 0
