"""The machine and the versions, for a report. Without names of hosts or users."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from gpu_check.check import Check, Verdict

PACKAGES = (
    "visual-jigsaw",
    "torch",
    "triton",
    "transformers",
    "trl",
    "accelerate",
    "peft",
    "datasets",
    "deepspeed",
    "vllm",
    "flash-attn",
    "torchvision",
    "pillow",
    "numpy",
)
"""Packages whose versions matter."""


def facts(check: Check) -> Verdict:
    """Report machine and versions."""
    check.add(
        python=platform.python_version(),
        system=platform.platform(),
        processor=_processor(),
        cores=os.cpu_count(),
        memory_gb=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9,
        versions={name: found for name in PACKAGES if (found := _version(name))},
        commit=_output("git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"),
        cuda=torch.version.cuda,
    )
    if check.small:
        check.add(gpu=None)
        return Verdict("pass", "no GPU: the blocks run in a small shape, and measure nothing")
    properties = torch.cuda.get_device_properties(0)
    check.add(
        gpu=properties.name,
        gpu_memory_gb=properties.total_memory / 1e9,
        capability=f"{properties.major}.{properties.minor}",
        gpus=torch.cuda.device_count(),
        driver=_output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
    )
    return Verdict("pass", properties.name)


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _output(*command: str) -> str | None:
    """The first line that a command prints; None if it is missing or fails."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    return done.stdout.partition("\n")[0] or None
