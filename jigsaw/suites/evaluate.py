"""`jigsaw bench MODEL SUITE`: runs the benchmarks of a paper's table with lmms-eval.

In: a checkpoint, and a folder of benchmarks that the user downloaded. Out: a folder::

    plan.json            the jobs and all settings
    results/NAME.json    one figure, written when its benchmark ends; a second call repeats missing and failed ones
    samples/NAME.jsonl   all answers
    suite.json           all results, the missing and failed benchmarks, and the command

lmms-eval runs in a separate process (`harness`). `JIGSAW_SUITE_PYTHON` names the interpreter of another environment
that has lmms-eval and this package.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jigsaw.answering.generation import GREEDY, Generation, require_greedy
from jigsaw.answering.store import file_stamp, make_folder
from jigsaw.errors import JigsawError
from jigsaw.extras import install_command
from jigsaw.files import write_atomically
from jigsaw.models.families import family_named, require_supported
from jigsaw.models.load import require_checkpoint
from jigsaw.progress import progress_bar
from jigsaw.results.log_file import command_line, from_json, to_json, versions
from jigsaw.results.tables import printed
from jigsaw.suites.benchmarks import FRAMES, suite_of
from jigsaw.suites.loading import find_benchmarks
from jigsaw.suites.log import PLAN_FILE, SUITE_FILE, Job, Plan, Result, SuiteLog, read_suite, suite_table

BOXES = ("pixels", "thousandths")


def evaluate_suite(
    model: str,
    suite: str,
    data_root: Path,
    *,
    out: Path,
    frames: Sequence[int] = (),
    generation: Generation = GREEDY,
    limit: int | None = None,
    boxes: str | None = None,
    against: Path | None = None,
    note: Callable[[str], object] = lambda _: None,
) -> SuiteLog:
    """Run a suite.

    Args:
        model: checkpoint folder, or hub id of one that is in the cache.
        suite: one of `suites.SUITES`.
        data_root: folder of the benchmarks.
        out: folder for the files above.
        frames: maximum numbers of frames of a clip, with one run for each; by default those of the paper for the suite
            `video`, and 32 for others.
        generation: engine, precision, batch size and completion limit; decoding must be greedy.
        limit: maximum number of rows of each benchmark.
        boxes: unit of the coordinates that the model writes: `pixels` as it sees them, or `thousandths`; None for the
            unit of its family.
        against: folder of the same suite with the base model, for another row in the table.
        note: called with a line for each missing benchmark before the first one runs.

    Raises:
        JigsawError: no benchmark can run, or lmms-eval or the model cannot be opened.
    """
    benchmarks = suite_of(suite)
    checkpoint = _local(model)
    if boxes not in (None, *BOXES):
        raise JigsawError(f"--boxes: {boxes!r} is not one of {', '.join(BOXES)}")
    require_greedy(generation)
    options = {name: getattr(generation, name) for name in ("engine", "dtype", "batch_size", "max_new_tokens")}
    settings: dict[str, Any] = {
        "model": {"pretrained": model, **options},
        "model_stamp": file_stamp(checkpoint),
        "boxes": boxes or _box_unit(checkpoint),
        "limit": limit,
    }
    if against is not None and read_suite(against).suite != suite:
        raise JigsawError(f"--against: {against} is of another suite than {suite}")
    _start(out, settings)
    all_frames = sorted(frames or (FRAMES if suite == "video" else (32,)))
    jobs, missing = find_benchmarks(benchmarks, data_root, all_frames)
    for name, why in missing.items():
        note(f"missing: {name}: {why}")
    if not jobs:
        raise JigsawError(f"--data-root: {data_root} has none of the {len(benchmarks)} benchmarks of suite {suite}")
    note(f"running: {', '.join(job.benchmark.name for job in jobs)}")
    write_atomically(out / PLAN_FILE, to_json(Plan(**settings, checkpoint=str(checkpoint), jobs=jobs)))
    try:
        runs = sum(len(job.frames) for job in jobs)
        if sum(result.failed is None for result in _results(out, jobs).values()) < runs:
            _run_harness(out, data_root, runs)
    finally:
        log = SuiteLog(
            argv=command_line(),
            versions=versions(),
            suite=suite,
            model=model,
            settings=settings,
            benchmarks=_results(out, jobs),
            missing=missing,
        )
        write_atomically(out / SUITE_FILE, to_json(log))
    return log


def suite_text(log: SuiteLog, folders: Sequence[Path]) -> str:
    """The results of a suite in Markdown: the table of `folders`, then missing and failed benchmarks and protocols."""
    lines = [printed([suite_table(log.suite, folders)], "markdown")]
    lines += [f"missing: {name}: {why}" for name, why in log.missing.items()]
    lines += [f"failed: {key}: {result.failed}" for key, result in log.benchmarks.items() if result.failed]
    lines += [
        f"not the paper's protocol: {key}: {result.note}" for key, result in log.benchmarks.items() if result.note
    ]
    return "\n".join(lines)


def _local(model: str) -> Path:
    """The folder of a checkpoint; for a hub id its folder in the user's cache, which the harness does not use.

    Raises:
        JigsawError: the model is not a checkpoint, or not in the cache.
    """
    require_checkpoint(model)
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(model, local_files_only=True)
    except (OSError, ValueError) as error:
        raise JigsawError(
            f"{model} is not in the cache, and benchmarks run offline; run `hf download {model}`, or name a folder"
        ) from error
    require_checkpoint(folder)
    return Path(folder)


def _box_unit(checkpoint: Path) -> str:
    """The unit in which a checkpoint writes coordinates of boxes."""
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    return family_named(require_supported(config, str(checkpoint))).box_unit


def _start(out: Path, settings: Mapping[str, Any]) -> None:
    """Create the folder, or check that it was started with the same settings."""
    make_folder(out)
    if (out / PLAN_FILE).is_file():
        stored = from_json(Plan, out / PLAN_FILE, "name another folder")
        for key, value in settings.items():
            if (before := getattr(stored, key)) != value:
                raise JigsawError(f"--out: {out} was started with {key} {before}, not {value}; name another folder")
    elif any(not entry.name.startswith(".") for entry in out.iterdir()):
        raise JigsawError(f"--out: {out} has other files; name another folder")


def _run_harness(out: Path, data_root: Path, runs: int) -> None:
    """Run the plan. The output goes to `harness.log`.

    Raises:
        JigsawError: the process failed; with the last line of its output.
    """
    python = os.environ.get("JIGSAW_SUITE_PYTHON", sys.executable)
    if shutil.which(python) is None:
        raise JigsawError(f"JIGSAW_SUITE_PYTHON: {python} is not an interpreter")
    probe = subprocess.run([python, "-c", "import lmms_eval"], capture_output=True, check=False)
    if probe.returncode:
        raise JigsawError(
            f"lmms-eval is not installed; {install_command('suite')}, or set JIGSAW_SUITE_PYTHON to the interpreter "
            "of an environment that has it"
        )
    root = str(data_root.resolve())
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    environment = {**os.environ, **offline, "HF_HOME": root, "HF_HUB_CACHE": f"{root}/hub"}
    environment["LMMS_EVAL_DATASETS_CACHE"] = str((out / "cache").resolve())
    environment["PYTHONSAFEPATH"] = "1"
    # Some definitions send answers that they cannot parse to a judge on the network. This port refuses them.
    environment.setdefault("OPENAI_API_URL", "http://127.0.0.1:9/")
    command = [python, "-m", "jigsaw.suites.harness", str(out / PLAN_FILE)]
    log = out / "harness.log"
    with log.open("w", encoding="utf-8") as file, progress_bar("running", runs) as bar:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=file, text=True)
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("done "):
                    bar.advance(line.split()[1])
            process.wait()
        finally:
            process.kill()
    if process.returncode:
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        reason = lines[-1].removeprefix("jigsaw.errors.JigsawError: ") if lines else f"exit code {process.returncode}"
        raise JigsawError(f"{reason} (the results so far are in {out}, the complete output in {log})")


def _results(out: Path, jobs: Sequence[Job]) -> dict[str, Result]:
    """The results that exist, by run."""
    paths = {name: out / "results" / f"{name}.json" for job in jobs for name in job.runs()}
    remedy = "delete it and run the command again"
    return {name: from_json(Result, path, remedy) for name, path in paths.items() if path.is_file()}
