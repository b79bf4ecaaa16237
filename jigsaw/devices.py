"""The devices of this machine, detected without importing torch: usable GPUs, and the load of the CPU cores.

In: nothing. Out: numbers. Importing torch takes seconds, and a dry run or an error should not wait for it; a run also
asks torch before it begins (`jigsaw.launch.machine`).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from jigsaw.processes import usable_cores

BUSY_SHARE = 0.4
"""Share of the cores in use by other processes from which a machine counts as busy: one of two cores is enough."""

WATCH_SECONDS = 0.3
"""Minimum time over which the load is measured."""


@cache
def gpu_names() -> tuple[str, ...]:
    """The names of the GPUs that processes started from here may use, from NVIDIA's driver.

    They depend on `CUDA_VISIBLE_DEVICES`. The result is empty if torch was built without CUDA.
    """
    if torch_build() == "cpu":
        return ()
    names = driver_gpus()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return tuple(names)
    usable = []
    for entry in (part.strip() for part in visible.split(",")):
        if entry.isdecimal() and int(entry) < len(names):
            usable.append(names[int(entry)])
        elif entry.startswith(("GPU-", "MIG-")) and names:
            usable.append(names[0])  # only the count matters
        else:
            break  # CUDA stops at the first entry that is not a device
    return tuple(usable)


def gpu_count() -> int:
    """The number of GPUs that processes started from here may use; torch's count if torch is imported."""
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "cuda"):
        return int(torch.cuda.device_count()) if torch.cuda.is_available() else 0
    return len(gpu_names())


def driver_gpus() -> list[str]:
    """All NVIDIA GPUs of this machine, whether or not torch and the environment allow their use."""
    if (command := shutil.which("nvidia-smi")) is not None:
        try:
            listing = subprocess.run([command, "-L"], capture_output=True, text=True, timeout=30, check=False)
        except (OSError, subprocess.TimeoutExpired):
            listing = None
        if listing is not None and listing.returncode == 0:
            return re.findall(r"^GPU \d+: (.+?)(?: \(UUID.*)?$", listing.stdout, re.MULTILINE)
    numbered = [path for path in Path("/dev").glob("nvidia*") if path.name.removeprefix("nvidia").isdecimal()]
    return ["NVIDIA GPU"] * len(numbered)


@cache
def torch_build() -> str | None:
    """The platform of the installed torch: `cpu`, or a version of CUDA or ROCm; None if torch is not installed."""
    spec = find_spec("torch")
    for folder in () if spec is None else spec.submodule_search_locations or ():
        file = Path(folder) / "version.py"
        if file.is_file():
            text = file.read_text(encoding="utf-8")
            for name in ("cuda", "hip"):
                if match := re.search(rf"^{name}\b[^=\n]*= *['\"]([^'\"]+)", text, re.MULTILINE):
                    return match[1]
            return "cpu"
    return None


@dataclass(frozen=True)
class CoreTimes:
    """A reading of the processor time used so far, in seconds.

    Attributes:
        at: time of the reading, on the monotonic clock.
        busy: processor time of all processes on the cores that this process may use.
        own: processor time of this process.
        all_cores: whether these are all cores of the machine, so that its load average applies to them.
    """

    at: float
    busy: float
    own: float
    all_cores: bool

    @classmethod
    def now(cls) -> CoreTimes | None:
        """The present reading; None on systems other than Linux, which have no such counters."""
        try:
            lines = Path("/proc/stat").read_text(encoding="utf-8").splitlines()
            usable = os.sched_getaffinity(0)
        except (OSError, AttributeError):
            return None
        clocks = {int(line[3:].split()[0]): line.split()[1:] for line in lines if re.match(r"cpu\d", line)}
        ticks = 0
        for core in usable & clocks.keys():
            user, nice, system, _idle, _waiting, *rest = map(int, clocks[core])
            ticks += user + nice + system + sum(rest[:3])  # interrupts, and time that a hypervisor took
        own = os.times()
        return cls(time.monotonic(), ticks / os.sysconf("SC_CLK_TCK"), own.user + own.system, usable >= clocks.keys())


def busy_line(since: CoreTimes | None) -> str | None:
    """One line about a machine whose cores other processes use; None if enough cores are free.

    Args:
        since: an earlier reading. The load is measured from then on, for at least `WATCH_SECONDS`.
    """
    if since is None:
        return None
    time.sleep(max(0.0, WATCH_SECONDS - (time.monotonic() - since.at)))
    now = CoreTimes.now()
    if now is None:
        return None
    cores = usable_cores()
    others = (now.busy - since.busy - (now.own - since.own)) / (now.at - since.at)
    if others < BUSY_SHARE * cores:
        return None
    load = max(others, os.getloadavg()[0]) if now.all_cores else others
    plural = "s" if cores > 1 else ""
    return f"This machine is busy (load {load:.1f} on {cores} core{plural}): expect the run to take longer."
