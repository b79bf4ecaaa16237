"""`make bench`: every benchmark of this folder in its own process, one table of their figures.

A benchmark is a script that takes `--json` and prints one JSON object; keys that end in `ratio` are ours against the
straightforward way, measured side by side in one run.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path


def main() -> int:
    """Run them all; the exit code is that of the worst."""
    worst = 0
    print(f"{platform.machine()}, Python {platform.python_version()}, visual-jigsaw {version('visual-jigsaw')}")
    for script in sorted(Path(__file__).parent.glob("[!_]*.py")):
        done = subprocess.run([sys.executable, str(script), "--json"], capture_output=True, text=True, check=False)
        worst = max(worst, done.returncode)
        if done.returncode:
            print(f"{script.stem:12} failed: {done.stderr.strip().splitlines()[-1:]}")
            continue
        for key, value in json.loads(done.stdout).items():
            if isinstance(value, int | float):
                print(f"{script.stem:12} {key:28} {value:>12,.2f}")
    return worst


if __name__ == "__main__":
    sys.exit(main())
