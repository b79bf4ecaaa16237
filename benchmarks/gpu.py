"""`make gpu-check`: tests on one GPU, in ten minutes, what a CPU cannot test, and writes a file for a report.

    python benchmarks/gpu.py [BLOCK ...] [--out gpu-check.json] [--minutes 10] [--model FOLDER] [--cpu]

It needs torch and transformers, but neither an installation of this package nor the network. Each block runs in its own
process with its own time limit and ends with one JSON line; a block with missing packages names them. Without a GPU,
all blocks run with small shapes, which tests their code and measures nothing. `--model` is a folder with a Qwen2.5-VL
checkpoint, for the blocks that need real weights.

Verdicts: `pass`; `fail`, wrong or too much memory; `slow`, right but slower than computed (docs/gpu.md); `not run`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
MARK = "gpu-check "
"""Prefix of the lines with which a block reports to this script."""

WITHOUT_GPU = 4.0
"""Factor of the time limits without a GPU, where cores may be few and busy and nothing is measured."""

FAIL, SLOW, NOT_RUN, PASS = "fail", "slow", "not run", "pass"


@dataclass(frozen=True)
class Block:
    """One check.

    Attributes:
        name: name on the command line and in the report.
        seconds: time limit.
        where: module below `gpu_check` and function.
        question: question that it answers.
        needs: packages in addition to torch and transformers.
    """

    name: str
    seconds: int
    where: str
    question: str
    needs: tuple[str, ...] = ()


ENGINE = ("vllm", "trl", "accelerate", "PIL")
"""Packages of the blocks that sample with vLLM."""

TESTS = ("pytest", "hypothesis", "PIL")
"""Packages of the blocks that run tests."""

BLOCKS = (
    Block("machine", 40, "machine:facts", "which machine and versions is this?"),
    Block("attention", 110, "attention:run", "does flex attention with our masks equal dense attention?"),
    Block("loss", 150, "loss:packed", "how fast is the loss pass of a 7B model, and how much memory does it take?"),
    Block("vllm", 120, "engines:graphs_and_sleep", "does vLLM follow new weights, with graphs and sleep?", ENGINE),
    Block("vllm-neo", 120, "engines:neo", "does vLLM attend to NEO's images in both directions?", ENGINE),
    Block("deepspeed", 120, "sharded:steps", "do ZeRO-2 and ZeRO-3 train and evaluate?", ("deepspeed",)),
    Block("run", 150, "engines:tiny_run", "does a run with ZeRO-2, vLLM and sleep work?", (*ENGINE, "deepspeed")),
    Block("tests", 90, "suite:gpu_tests", "do the tests that need a GPU pass?", TESTS),
    Block("autocast", 90, "loss:autocast_step", "does a step with float32 weights under autocast work?"),
    Block("vision", 45, "vision:tower", "how fast is the vision tower on six clips?"),
    Block("scores", 30, "scores:precision", "how far are bfloat16 log-probabilities from those of a float32 head?"),
    Block("vllm-awake", 120, "engines:graphs", "does vLLM follow new weights without sleep?", ENGINE),
    Block("vllm-eager", 120, "engines:eager_and_sleep", "does vLLM follow new weights without graphs?", ENGINE),
    Block("doctor", 40, "suite:doctor", "what does `jigsaw doctor` report?", ("typer", "omegaconf")),
    Block("engine-tests", 120, "suite:engine_tests", "do the tests of the engines pass?", (*TESTS, "vllm")),
    Block("checkpoint", 300, "engines:checkpoint", "does vLLM agree with the trainer on a real model?", ENGINE),
)
"""All blocks, the most informative first."""


@dataclass(frozen=True)
class Result:
    """Result of a block.

    Attributes:
        block: name of the block.
        verdict: `pass`, `fail`, `slow` or `not run`.
        reason: a sentence; may be empty for `pass`.
        seconds: duration.
        figures: measurements.
        tail: last lines of the output, if it failed.
    """

    block: str
    verdict: str
    reason: str
    seconds: float
    figures: dict[str, Any]
    tail: tuple[str, ...] = ()

    def line(self) -> str:
        """The one JSON line of the block."""
        content = {key: value for key, value in vars(self).items() if key != "tail" or value}
        return json.dumps(content | {"seconds": round(self.seconds, 1)})


def run_block(block: Block, options: argparse.Namespace, left: float, slack: float) -> Result:
    """Run a block in its own process, which is killed with its children after the time limit times `slack`."""
    missing = [name for name in block.needs if find_spec(name) is None]
    if missing:
        return Result(block.name, NOT_RUN, f"not installed: {', '.join(missing)}", 0, {})
    limit = min(block.seconds * slack, left)
    if limit < 5:
        return Result(block.name, NOT_RUN, "the time was up; name it on the command line to run it alone", 0, {})
    command = [sys.executable, str(HERE / "gpu.py"), "--run-block", block.name]
    command += ["--cpu"] if options.cpu else []
    command += ["--model", options.model] if options.model else []
    start = time.monotonic()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT, env=_environment(), start_new_session=True
        )
        try:
            process.wait(timeout=limit)
            late = False
        except subprocess.TimeoutExpired:
            late = True
        finally:
            _end(process)
        output.seek(0)
        lines = output.read().splitlines()
    return _result(block, lines, process.returncode, time.monotonic() - start, limit if late else None)


def _environment() -> dict[str, str]:
    """Environment variables: no network, and this checkout before installed packages."""
    added = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONSAFEPATH": "1"}
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return os.environ | added | {"PYTHONPATH": path}


def _end(process: subprocess.Popen[Any]) -> None:
    """Kill the processes that a block left behind; they have their own process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _result(block: Block, lines: Sequence[str], code: int, seconds: float, late: float | None) -> Result:
    figures: dict[str, Any] = {}
    verdict = None
    for line in lines:
        if line.startswith(MARK):
            entry = json.loads(line.removeprefix(MARK))
            figures |= entry.get("figures", {})
            verdict = entry.get("verdict", verdict)
    tail = tuple(line for line in lines if not line.startswith(MARK))[-15:]
    if late is not None:
        return Result(block.name, FAIL, f"not finished after {late:.0f} s", seconds, figures, tail)
    if verdict is None:
        return Result(block.name, FAIL, f"ended with exit code {code} and no verdict", seconds, figures, tail)
    kind, reason = verdict
    return Result(block.name, kind, reason, seconds, figures, tail if kind == FAIL else ())


def work(name: str, options: argparse.Namespace) -> None:
    """Main function of the process of a block: run it and print its verdict."""
    sys.path.insert(0, str(HERE))
    from gpu_check.check import Check, NotRun, Verdict

    block = next(block for block in BLOCKS if block.name == name)
    module, _, function = block.where.partition(":")

    def tell(content: dict[str, Any]) -> None:
        print(f"\n{MARK}{json.dumps(content)}", flush=True)

    try:
        check = Check.here(cpu=options.cpu, model=options.model, tell=lambda figures: tell({"figures": figures}))
        verdict = getattr(import_module(f"gpu_check.{module}"), function)(check)
    except NotRun as error:
        verdict = Verdict(NOT_RUN, str(error))
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "jigsaw":
            raise
        verdict = Verdict(NOT_RUN, f"not installed: {error.name}")
    tell({"verdict": [verdict.kind, verdict.reason]})


def report(results: Sequence[Result], options: argparse.Namespace) -> dict[str, Any]:
    """All results in one object, for the file."""
    machine = next((result.figures for result in results if result.block == "machine"), {})
    return {
        "what": "gpu-check of Visual Jigsaw",
        "arguments": {"cpu": options.cpu, "model": Path(options.model).name if options.model else None},
        "machine": machine,
        "blocks": [vars(result) for result in results if result.block != "machine"],
    }


def verdicts(results: Sequence[Result]) -> Iterator[str]:
    """The end of the output, with a line per block."""
    width = max(len(result.block) for result in results)
    for result in results:
        if result.block != "machine":
            yield f"{result.block:{width}}  {result.verdict:8}  {result.reason}".rstrip()


def main() -> int:
    """Run the blocks; returns 1 if one failed."""
    names = [block.name for block in BLOCKS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="BLOCK", help=", ".join(names))
    parser.add_argument("--out", type=Path, default=Path("gpu-check.json"), help="the file to attach")
    parser.add_argument("--minutes", type=float, default=10, help="time for all blocks together")
    parser.add_argument("--model", help="folder of a Qwen2.5-VL checkpoint")
    parser.add_argument("--cpu", action="store_true", help="use no GPU")
    parser.add_argument("--run-block", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run_block:
        work(options.run_block, options)
        return 0
    if unknown := [name for name in options.names if name not in names]:
        parser.error(f"no block {unknown[0]}; there are {', '.join(names)}")
    if missing := [name for name in ("torch", "transformers") if find_spec(name) is None]:
        print(f"{sys.executable} has no {' and no '.join(missing)}; name another: make gpu-check PYTHON=...")
        return 1
    results, start, slack = [], time.monotonic(), 1.0
    for block in BLOCKS:
        if not options.names or block.name in ("machine", *options.names):
            left = 60 * options.minutes * slack - (time.monotonic() - start)
            results.append(run_block(block, options, left, slack))
            print(results[-1].line(), flush=True)
            if block.name == "machine" and results[-1].figures.get("gpu", "unknown") is None:
                slack = WITHOUT_GPU
    print("\n" + "\n".join(verdicts(results)))
    options.out.write_text(json.dumps(report(results, options), indent=1) + "\n", encoding="utf-8")
    print(f"\n{options.out} has all of it; please attach it to a report")
    return int(any(result.verdict == FAIL for result in results))


if __name__ == "__main__":
    sys.exit(main())
