"""Writes `run.json`: the code, packages, machine and seeds of a run.

In: a recipe. Out: a JSON object; each resumption of the run adds one to its list `resumed`.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
from datetime import datetime
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

from jigsaw.config.schema import Recipe
from jigsaw.errors import JigsawError
from jigsaw.files import write_atomically
from jigsaw.processes import usable_cores
from jigsaw.run_folder import RunFolder
from jigsaw.text import named, read_object


def record_start(recipe: Recipe, folder: RunFolder) -> None:
    """Write `run.json`, or add a resumption to it."""
    facts = start_facts(recipe)
    if folder.info.exists():
        remedy = "delete it to continue without the record of the first start"
        record = read_object(folder.info, remedy)
        if not isinstance(resumed := record.setdefault("resumed", []), list):
            raise JigsawError(f"{folder.info}: resumed is {named(resumed)}, not a list; {remedy}")
        resumed.append(facts)
    else:
        record = facts
    write_atomically(folder.info, json.dumps(record, indent=2) + "\n")


def start_facts(recipe: Recipe) -> dict[str, Any]:
    """The record of one start of a run.

    Returns:
        JSON values: `started` (ISO 8601), `version`, `revision` (of git, or None), `argv`, `seeds`, `machine`, and
        `packages`, every installed distribution with its version.
    """
    builds = [entry.build for entry in (*recipe.data.train, *recipe.data.eval) if entry.build is not None]
    packages = {package.metadata["Name"]: package.version for package in distributions()}
    return {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "version": version("visual-jigsaw"),
        "revision": _revision(),
        "argv": sys.argv,
        "seeds": {"run": recipe.seed, "data": [build.seed for build in builds]},
        "machine": _machine(),
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
    }


def _machine() -> dict[str, Any]:
    import torch

    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None
    return {
        "host": socket.gethostname(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "cores": usable_cores(),
        "memory_gib": None if memory is None else round(memory / 2**30, 1),
        "gpus": gpus,
    }


def _revision() -> str | None:
    """The git revision of the sources, with `+changes` if they were modified; None if they are not a clone."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    git = ["git", "-C", str(root)]
    try:
        options = {"capture_output": True, "text": True, "timeout": 10, "check": True}
        head = subprocess.run([*git, "rev-parse", "HEAD"], **options).stdout.strip()  # type: ignore[call-overload]
        changed = subprocess.run([*git, "status", "--porcelain", "--untracked-files=no"], **options).stdout  # type: ignore[call-overload]
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{head}+changes" if changed.strip() else str(head)
