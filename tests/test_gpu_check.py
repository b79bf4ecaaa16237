"""`make gpu-check`: its blocks run on a CPU with small shapes, and every verdict is written to one file."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "benchmarks"))  # as in `benchmarks/gpu.py`

SPEC = importlib.util.spec_from_file_location("gpu_check_runner", ROOT / "benchmarks/gpu.py")
gpu = importlib.util.module_from_spec(SPEC)
sys.modules[SPEC.name] = gpu
SPEC.loader.exec_module(gpu)

TRAINER = ("machine:facts", "attention:run", "loss:packed", "loss:autocast_step", "vision:tower", "scores:precision")
"""The blocks that need only torch and transformers."""


# The blocks


@pytest.mark.parametrize("where", TRAINER)
def test_a_block_of_the_trainer_passes_on_a_cpu(where):
    from gpu_check.check import Check

    figures = {}
    module, _, function = where.partition(":")
    check = Check.here(cpu=True, tell=figures.update)
    verdict = getattr(importlib.import_module(f"gpu_check.{module}"), function)(check)
    assert verdict.kind == "pass", verdict.reason
    assert figures and figures == check.figures
    assert json.loads(json.dumps(figures)) == figures


def test_every_block_has_a_function_and_blocks_of_the_trainer_need_no_other_package():
    for block in gpu.BLOCKS:
        module, _, function = block.where.partition(":")
        source = (ROOT / f"benchmarks/gpu_check/{module}.py").read_text(encoding="utf-8")
        assert f"def {function}(check: Check) -> Verdict:" in source, block.name
        assert (block.where in TRAINER) == (not block.needs)


def test_wrong_attention_fails(monkeypatch):
    from gpu_check import attention
    from gpu_check.check import Check

    causal = attention.Packing.sees
    monkeypatch.setattr(attention, "SMALL_LENGTHS", (150, 150))
    monkeypatch.setattr(attention, "SMALL_HEADS", {"qwen": (2, 2, 16, 16)})
    monkeypatch.setattr(attention, "dense_mask", lambda packing: causal_mask(packing))

    def causal_mask(packing):  # completions that attend to each other
        import torch

        size = packing.part.shape[1]
        return torch.ones(1, 1, size, size, dtype=torch.bool).tril()

    assert causal is attention.Packing.sees
    verdict = attention.run(Check.here(cpu=True, tell=lambda figures: None))
    assert verdict.kind == "fail" and "differ by" in verdict.reason


def test_log_probabilities_of_low_precision_fail(monkeypatch):
    from gpu_check import scores
    from gpu_check.check import Check

    monkeypatch.setattr(scores, "SPREAD", 100.0)
    assert scores.precision(Check.here(cpu=True, tell=lambda figures: None)).kind == "fail"


# The runner


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Runs the script with synthetic blocks: name -> program of its process, packages, seconds."""

    def run(blocks, *arguments):
        fake = [gpu.Block(name, seconds, "machine:facts", "?", needs) for name, (_, needs, seconds) in blocks.items()]
        monkeypatch.setattr(gpu, "BLOCKS", (gpu.Block("machine", 30, "machine:facts", "?"), *fake))
        programs = {"machine": 'print(\'gpu-check {"figures": {"gpu": "Some GPU"}, "verdict": ["pass", ""]}\')'}
        programs |= {name: program for name, (program, _, _) in blocks.items()}
        real = subprocess.Popen

        def start(command, **options):
            return real([sys.executable, "-c", programs[command[command.index("--run-block") + 1]]], **options)

        monkeypatch.setattr(gpu.subprocess, "Popen", start)
        out = tmp_path / "report.json"
        monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(out), *arguments])
        code = gpu.main()
        return code, capsys.readouterr().out, json.loads(out.read_text(encoding="utf-8"))

    return run


FIGURES = 'print(\'gpu-check {"figures": {"seconds_a_step": 1.5}}\', flush=True);'
GOOD = f'{FIGURES} print(\'gpu-check {{"verdict": ["pass", "fine"]}}\')'


def test_each_block_prints_one_line_with_its_verdict_and_is_in_the_file(run):
    code, printed, file = run(
        {
            "good": (GOOD, (), 30),
            "lame": ('print(\'gpu-check {"verdict": ["slow", "3 s, where 1 was computed"]}\')', (), 30),
            "bare": (GOOD, ("no_such_package",), 30),
        }
    )
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert [(line["block"], line["verdict"]) for line in lines] == [
        ("machine", "pass"),
        ("good", "pass"),
        ("lame", "slow"),
        ("bare", "not run"),
    ]
    assert lines[1]["figures"] == {"seconds_a_step": 1.5}
    assert "bare" in printed.splitlines()[-3] and "not installed: no_such_package" in printed
    assert code == 0, "nothing is wrong"
    assert file["machine"] == {"gpu": "Some GPU"} and [one["block"] for one in file["blocks"]] == [
        "good",
        "lame",
        "bare",
    ]


@pytest.mark.parametrize(
    "program, reason",
    [
        ("raise SystemExit('no memory')", "exit code 1 and no verdict"),
        ("import os; os.kill(os.getpid(), 9)", "exit code -9 and no verdict"),
        (f"{FIGURES} import time; time.sleep(60)", "not finished after 5 s"),
    ],
)
def test_a_block_that_crashes_or_hangs_fails_with_its_last_output(run, program, reason):
    code, printed, file = run({"bad": (program, (), 5), "good": (GOOD, (), 30)})
    bad, good = file["blocks"]
    assert (code, bad["verdict"], good["verdict"]) == (1, "fail", "pass")
    assert reason in bad["reason"] and reason in printed
    assert bad["figures"] == ({"seconds_a_step": 1.5} if "sleep" in program else {})
    assert ("no memory" in "".join(bad["tail"])) == ("no memory" in program)


def test_blocks_beyond_the_time_limit_are_not_run(run):
    code, _, file = run({"good": (GOOD, (), 30)}, "--minutes", "0.05")
    assert (code, file["blocks"][0]["verdict"]) == (0, "not run")
    assert "the time was up" in file["blocks"][0]["reason"]


def test_single_blocks_can_be_selected_by_name(run):
    _, _, file = run({"good": (GOOD, (), 30), "other": (GOOD, (), 30)}, "other")
    assert [one["block"] for one in file["blocks"]] == ["other"]


# A machine with only torch and transformers


def required(*names: str) -> dict[str, importlib.metadata.Distribution]:
    """Returns the given packages and all installed packages that they require."""
    packages, waiting = {}, list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in packages:
            continue
        try:
            packages[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        needs = [need for need in packages[name].requires or () if "extra ==" not in need]
        waiting += [re.match(r"[A-Za-z0-9._-]+", need)[0] for need in needs]
    return packages


@pytest.mark.slow
def test_a_checkout_runs_on_a_machine_with_only_torch_and_transformers(tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    for package in required("torch", "transformers").values():
        for top in {file.parts[0] for file in package.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(package.locate_file(top))
    program = f"import runpy, sys; sys.executable = {sys.executable!r}; "
    program += "sys.argv = ['gpu.py', '--cpu', '--out', sys.argv[1]]; "
    program += f"runpy.run_path({str(ROOT / 'benchmarks/gpu.py')!r}, run_name='__main__')"
    bare = tmp_path / "python"  # a Python interpreter without the packages of this environment
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    done = subprocess.run(
        [bare, "-c", program.replace(repr(sys.executable), repr(str(bare)), 1), str(tmp_path / "report.json")],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert "trl" not in report["machine"]["versions"]
    verdicts = {one["block"]: (one["verdict"], one["reason"]) for one in report["blocks"]}
    for block in gpu.BLOCKS[1:]:
        verdict, reason = verdicts[block.name]
        assert (verdict == "pass") == (not block.needs), (block.name, reason)
        assert not block.needs or (verdict == "not run" and reason.startswith("not installed: "))


@pytest.mark.slow
@pytest.mark.parametrize("block", gpu.BLOCKS, ids=lambda block: block.name)
def test_every_block_passes_or_names_a_missing_package(block, tmp_path):
    out = tmp_path / "report.json"
    command = [sys.executable, str(ROOT / "benchmarks/gpu.py"), "--cpu", "--out", str(out), block.name]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    blocks = json.loads(out.read_text(encoding="utf-8"))["blocks"]
    assert all(one["verdict"] in ("pass", "not run") for one in blocks)
    if block.name != "machine" and all(importlib.util.find_spec(name) for name in block.needs):
        reason = blocks[0]["reason"]
        assert blocks[0]["verdict"] == "pass" or "skipped themselves" in reason or "--model" in reason
