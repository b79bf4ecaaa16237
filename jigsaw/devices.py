"""The devices of this machine, found without importing torch: GPUs that a run may use, and how busy the cores are.

In: nothing. Out: numbers. torch takes seconds to import, and a dry run or a refusal must not wait for it; a run itself
asks torch as well before it begins (`jigsaw.launch.machine`).
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
"""Share of the cores that others must use for a machine to be called busy: one of two is enough."""

WATCH_SECONDS = 0.3
"""How long the cores are watched at the least."""


@cache
def gpu_names() -> tuple[str, ...]:
    """The GPUs that processes started from here may use, as NVIDIA's driver names them.

    `CUDA_VISIBLE_DEVICES` is followed. A torch that was built without CUDA can use none.
    """
    if torch_build() == "cpu":
        return ()
    names = driver_gpus()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return tuple(names)
    found = []
    for entry in (part.strip() for part in visible.split(",")):
        if entry.isdecimal() and int(entry) < len(names):
            found.append(names[int(entry)])
        elif entry.startswith(("GPU-", "MIG-")) and names:
            found.append(names[0])  # which one it is changes nothing about the count
        else:
            break  # CUDA stops at the first entry that is no device
    return tuple(found)


def gpu_count() -> int:
    """How many GPUs processes started from here may use; once torch is imported, as torch counts them."""
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "cuda"):
        return int(torch.cuda.device_count()) if torch.cuda.is_available() else 0
    return len(gpu_names())


def driver_gpus() -> list[str]:
    """All NVIDIA GPUs that are visible on this machine, whatever torch and the environment make of them."""
    if (command := shutil.which("nvidia-smi")) is not None:
        try:
            told = subprocess.run([command, "-L"], capture_output=True, text=True, timeout=30, check=False)
        except (OSError, subprocess.TimeoutExpired):
            told = None
        if told is not None and told.returncode == 0:
            return re.findall(r"^GPU \d+: (.+?)(?: \(UUID.*)?$", told.stdout, re.MULTILINE)
    numbered = [path for path in Path("/dev").glob("nvidia*") if path.name.removeprefix("nvidia").isdecimal()]
    return ["NVIDIA GPU"] * len(numbered)


@cache
def torch_build() -> str | None:
    """What the installed torch was built for: `cpu`, or a version of CUDA or ROCm; None where there is no torch."""
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
    """A reading of the clocks that count how long cores worked, in seconds.

    Attributes:
        at: when it was taken, on the monotonic clock.
        busy: work of the cores that this process may use, by whomever.
        own: work of this process.
        whole: whether those cores are all that the machine has, so that its load average is about them.
    """

    at: float
    busy: float
    own: float
    whole: bool

    @classmethod
    def now(cls) -> CoreTimes | None:
        """A reading; None where the system keeps no such clocks (Linux alone does)."""
        try:
            lines = Path("/proc/stat").read_text(encoding="utf-8").splitlines()
            usable = os.sched_getaffinity(0)
        except (OSError, AttributeError):
            return None
        clocks = {int(line[3:].split()[0]): line.split()[1:] for line in lines if re.match(r"cpu\d", line)}
        ticks = 0
        for core in usable & clocks.keys():
            user, nice, system, _idle, _waiting, *rest = map(int, clocks[core])
            ticks += user + nice + system + sum(rest[:3])  # interrupts, and what a hypervisor took away
        own = os.times()
        return cls(time.monotonic(), ticks / os.sysconf("SC_CLK_TCK"), own.user + own.system, usable >= clocks.keys())


def busy_line(since: CoreTimes | None) -> str | None:
    """One line about a machine whose cores others use; None where enough of them is free.

    Args:
        since: a reading from earlier. Since then, or for the last part of a second, the cores are watched.
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
    load = max(others, os.getloadavg()[0]) if now.whole else others
    plural = "s" if cores > 1 else ""
    return f"This machine is busy (load {load:.1f} on {cores} core{plural}): expect the run to take longer."
