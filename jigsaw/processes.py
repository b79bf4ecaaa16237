"""Operating system functions: the usable CPU cores, and ending a process together with its parent."""

from __future__ import annotations

import os
import signal
import sys


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
