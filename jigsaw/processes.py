"""Operating system functions: the usable CPU cores, and how a process ends: with its parent, or without teardown."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Callable


def usable_cores() -> int:
    """The number of CPU cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # only on Linux
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def die_with_parent(sent: signal.Signals = signal.SIGKILL) -> None:
    """Make the kernel send a signal to this process when its parent dies, even by SIGKILL; only on Linux.

    Otherwise a killed launcher would leave processes that write to the same run folder as the resumed run, and a killed
    build would leave a decoder that hangs.
    """
    if sys.platform == "linux":
        import ctypes

        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, sent)


def skip_teardown(status: Callable[[], int]) -> None:
    """Make this process end after its exit functions, with the exit status that `status` returns by then.

    The interpreter's teardown would follow. A native thread that asks for the interpreter during it is unwound by
    force, and C++ may abort the process: "terminate called without an active exception", after the work was done. Call
    this first, because exit functions run in reverse order and those that are registered later must run.
    """

    def end() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status())

    atexit.register(end)
