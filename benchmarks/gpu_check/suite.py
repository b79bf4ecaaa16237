"""Parts of the test suite, and `jigsaw doctor`, on this machine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from gpu_check.check import Check, Verdict

ROOT = Path(__file__).resolve().parents[2]
OF_ENGINES = ("tests/models/neo/test_vllm.py", "tests/engines/test_vllm.py")
ON_GPUS = "image_spans or one_graph or engine_on_a_gpu"
"""Tests of what vLLM would do on a GPU: image spans, compilation, graphs and sleep."""


def gpu_tests(check: Check) -> Verdict:
    """All tests marked `gpu`; on a CPU they are skipped."""
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if "mark.gpu" in path.read_text(encoding="utf-8")]
    return _pytest(check, ["-m", "gpu and not slow", *map(str, sorted(files))])


def engine_tests(check: Check) -> Verdict:
    """The tests of what vLLM would do on a GPU, including those that take minutes."""
    return _pytest(check, ["-m", "slow or not slow", "-k", ON_GPUS, *OF_ENGINES])


def _pytest(check: Check, arguments: list[str]) -> Verdict:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-header"]
    command += ["-o", "addopts=--import-mode=importlib", *arguments]  # those of the project hide the counts
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()[-300:]]
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|error)", lines[-1])}
    check.add(**counts)
    if done.returncode not in (0, 5):  # 5: none was chosen
        print(done.stdout[-3000:], done.stderr[-1000:], sep="\n")
        failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
        return Verdict("fail", failed[0] if failed else lines[-1])
    if not counts.get("passed"):
        return Verdict("not run", f"{counts.get('skipped', 0)} tests skipped themselves")
    return Verdict("pass", lines[-1])


def doctor(check: Check) -> Verdict:
    """The errors that `jigsaw doctor` reports."""
    done = subprocess.run(
        [sys.executable, "-m", "jigsaw", "doctor", "--json"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if not done.stdout.strip().startswith("["):
        return Verdict("fail", (done.stderr.strip().splitlines() or ["no output"])[-1])
    findings = json.loads(done.stdout)
    broken = [f"{one['what']}: {one['found']}" for one in findings if one["status"] == "broken"]
    check.add(findings={one["what"]: f"{one['status']}, {one['found']}" for one in findings})
    return Verdict("fail", "; ".join(broken)) if broken else Verdict("pass", f"{len(findings)} findings")
