"""Refused commands and dry runs import no heavy package and write no file.

All commands run one after the other in one process, which lists its heavy imports after each command.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from jigsaw.config.loading import load_recipe, recipe_names

HEAVY = ("torch", "transformers", "trl", "datasets", "peft", "accelerate", "deepspeed", "vllm", "matplotlib", "scipy")
MISSING_FOLDERS = (
    "preview nope",
    "eval nope nope",
    "eval nope",
    "check nope",
    "audit nope",
    "report nope",
    "generalize nope",
)
REFUSED = (
    "launch quickstrat",
    "launch quickstart grpo.num_generation=3",
    "launch quickstart grpo.extra.no_such_field=3",
    "launch quickstart grpo.use_vllm=true",
    "launch quickstart grpo.prompts_per_step=5 grpo.per_device_train_batch_size=7",
    "launch quickstart data.photos=nope --dry-run",
    "launch image-qwen2.5-vl-7b grpo.prompts_per_step=3",
    "launch image-qwen2.5-vl-7b",
    "launch image-qwen2.5-vl-7b model.path=runs/nope",
)
UNKNOWN = "launch image-qwen2.5-vl-7b model.path=llava-hf/llava-1.5-7b-hf --dry-run"
DRY_RUNS = (*(f"launch {name} --dry-run" for name in recipe_names()), UNKNOWN)

PROGRAM = """
import contextlib, io, json, sys
from jigsaw.cli import command

results = {}
for words in json.loads(sys.argv[1]):
    sys.argv = ["jigsaw", *words.split()]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            command.main()
        except SystemExit as ended:
            code = ended.code
    loaded = [name for name in HEAVY if name in sys.modules]
    results[words] = {"code": code, "out": out.getvalue(), "err": err.getvalue(), "loaded": loaded}
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The exit code, the output and the imported heavy packages of every command, run in an empty folder."""
    folder = tmp_path_factory.mktemp("empty")
    environment = {"PYTHONSAFEPATH": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HOME": str(folder / "hub")}
    commands = json.dumps([*MISSING_FOLDERS, *REFUSED, *DRY_RUNS])
    done = subprocess.run(
        [sys.executable, "-c", f"HEAVY = {HEAVY}\n{PROGRAM}", commands],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(folder.rglob("*")) == [], "something was written"
    return json.loads(done.stdout)


def checks(result) -> dict[str, str]:
    """Returns the checklist of a dry run: key -> status."""
    lines = result["out"].partition("# Checks:\n")[2].splitlines()[:-1]
    return {line[17:].split(":")[0]: line[2:15].strip() for line in lines}


@pytest.mark.parametrize("words", MISSING_FOLDERS)
def test_a_missing_folder_is_refused_without_heavy_imports(results, words):
    result = results[words]
    assert (result["code"], result["out"], result["loaded"]) == (1, "", [])
    assert result["err"].startswith("jigsaw: nope") and result["err"].count("\n") == 1


@pytest.mark.parametrize("words", REFUSED)
def test_an_invalid_run_is_refused_in_one_line_without_heavy_imports(results, words):
    result = results[words]
    assert (result["code"], result["loaded"]) == (1, [])
    assert result["err"].startswith("jigsaw: ") and result["err"].count("\n") == 1


@pytest.mark.parametrize("words", DRY_RUNS)
def test_a_dry_run_has_no_heavy_imports(results, words):
    assert results[words]["loaded"] == []


@pytest.mark.parametrize("name", recipe_names())
def test_a_dry_run_lists_the_missing_requirements(results, name):
    result, recipe = results[f"launch {name} --dry-run"], load_recipe(name)
    statuses = checks(result)
    assert statuses["settings"] == "ok"
    missing = {key for key, status in statuses.items() if status == "missing"}
    assert all(status in ("ok", "missing", "will download") for status in statuses.values())
    assert result["code"] == (1 if missing else 0)
    assert ("this run cannot start here" in result["err"]) == bool(missing)
    assert f"name: {name}" in result["out"]
    if recipe.distributed.gpus is None:
        assert not {key for key in missing if not key.startswith("data.")}, "a tiny recipe runs on every machine"
    else:
        assert "distributed.gpus" in missing
    if recipe.model.path is not None and recipe.model.path.count("/") == 1 and "Qwen" in recipe.model.path:
        assert statuses["model.path"] == "will download"


def test_a_dry_run_reports_a_model_that_is_checked_only_after_its_download(results):
    """Given a hub id that is not cached, the architecture is reported as unchecked unless the name is known."""
    unknown, known = results[UNKNOWN]["out"], results["launch image-qwen2.5-vl-7b --dry-run"]["out"]
    (line,) = (line for line in unknown.splitlines() if "model.path:" in line)
    assert line.startswith("# will download  model.path: llava-hf/llava-1.5-7b-hf, at least 14 GB, from the hub; ")
    assert "its architecture is checked after the download" in line and "docs/models.md" in line
    assert "after the download" not in known


def test_a_dry_run_reports_missing_photos(results):
    result = results["launch quickstart data.photos=nope --dry-run"]
    assert any("missing" in line and "source nope does not exist" in line for line in result["out"].splitlines())


def test_the_last_line_of_a_dry_run_counts_the_missing_requirements(results):
    last = results["launch image-qwen2.5-vl-7b --dry-run"]["out"].splitlines()[-1]
    assert last.startswith("# this run cannot start here: ")
    assert "things are missing (" in last and "distributed.gpus" in last
