"""What our processes ask of the operating system: which cores they may use, and to end with their parent."""

from __future__ import annotations

import os
import signal
import sys


def usable_cores() -> int:
    """How many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux alone knows it
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def die_with_parent(sent: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel signal this process when the one that started it dies, even of SIGKILL; Linux alone can.

    Otherwise a killed launcher would leave processes behind that write to the same run as the resumed one, and a
    killed build a decoder that hangs.
    """
    if sys.platform == "linux":
        import ctypes

        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, sent)
