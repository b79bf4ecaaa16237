"""`jigsaw bench MODEL SUITE`: the benchmarks of a paper's table, run through lmms-eval.

In: a checkpoint and a folder of benchmarks that the user fetched. Out: a folder::

    plan.json            what is run, with every setting
    results/NAME.json    one figure each, written as soon as it is known; a second call runs what is not there or failed
    samples/NAME.jsonl   every answer
    suite.json           all of it, with what is missing, what failed and the command

lmms-eval runs in a process of its own: `harness`. `JIGSAW_SUITE_PYTHON` names the interpreter of another environment
that has it and this package.
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
from jigsaw.suites.loading import Ready, look
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
    say: Callable[[str], object] = lambda _: None,
) -> SuiteLog:
    """Run a suite.

    Args:
        model: checkpoint folder, or hub id of one that is in the cache.
        suite: one of `suites.SUITES`.
        data_root: where the benchmarks lie.
        out: folder for what is listed above.
        frames: most frames of a clip, one run each; the paper's for the suite video, 32 for others.
        generation: engine, precision, batches and limit; greedy.
        limit: maximum number of rows of each benchmark.
        boxes: in what the model gives coordinates: `pixels` as it sees them, or `thousandths`; by the model if None.
        against: folder of the same suite with the base model, for the row beside ours.
        say: receives a line for each missing benchmark, before anything runs.

    Raises:
        JigsawError: nothing can be run, or lmms-eval or the model cannot be opened.
    """
    benchmarks = suite_of(suite)
    checkpoint = _local(model)
    if boxes not in (None, *BOXES):
        raise JigsawError(f"--boxes: {boxes!r} is neither {' nor '.join(BOXES)}")
    require_greedy(generation)
    options = {name: getattr(generation, name) for name in ("engine", "dtype", "batch_size", "max_new_tokens")}
    settings: dict[str, Any] = {
        "model": {"pretrained": model, **options},
        "model_stamp": file_stamp(checkpoint),
        "boxes": boxes or _box_unit(checkpoint),
        "limit": limit,
    }
    if against is not None and read_suite(against).suite != suite:
        raise JigsawError(f"--against: {against} holds another suite than {suite}")
    _claim(out, settings)
    ready, missing = look(benchmarks, data_root)
    for name, why in missing.items():
        say(f"missing: {name}: {why}")
    if not ready:
        raise JigsawError(f"--data-root: {data_root} holds none of the {len(benchmarks)} benchmarks of suite {suite}")
    say(f"running: {', '.join(entry.benchmark.name for entry in ready)}")
    widths = sorted(frames or (FRAMES if suite == "video" else (32,)))
    jobs = [_job(each, widths) for each in ready]
    write_atomically(out / PLAN_FILE, to_json(Plan(**settings, checkpoint=str(checkpoint), jobs=jobs)))
    try:
        steps = sum(len(job.frames) for job in jobs)
        if sum(result.failed is None for result in _collected(out, jobs).values()) < steps:
            _in_harness(out, data_root, steps)
    finally:
        log = SuiteLog(
            argv=command_line(),
            versions=versions(),
            suite=suite,
            model=model,
            settings=settings,
            benchmarks=_collected(out, jobs),
            missing=missing,
        )
        write_atomically(out / SUITE_FILE, to_json(log))
    return log


def suite_text(log: SuiteLog, folders: Sequence[Path]) -> str:
    """A suite's results as the table in Markdown, below it what is missing, what failed and where protocols differ.

    Args:
        log: of this suite.
        folders: of the evaluations in the table: of the one to compare with, if any, and of this one.
    """
    lines = [printed([suite_table(log.suite, folders)], "markdown")]
    lines += [f"missing: {name}: {why}" for name, why in log.missing.items()]
    lines += [f"failed: {key}: {result.failed}" for key, result in log.benchmarks.items() if result.failed]
    lines += [
        f"not the paper's protocol: {key}: {result.note}" for key, result in log.benchmarks.items() if result.note
    ]
    return "\n".join(lines)


def _local(model: str) -> Path:
    """A checkpoint's folder; for a hub id its folder in the user's cache, which the harness does not look into.

    Raises:
        JigsawError: it is no checkpoint, or not in the cache.
    """
    require_checkpoint(model)
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(model, local_files_only=True)
    except (OSError, ValueError) as error:
        raise JigsawError(
            f"{model}: not in the cache, and benchmarks run offline; `hf download {model}` fetches it, or name a folder"
        ) from error
    require_checkpoint(folder)
    return Path(folder)


def _box_unit(checkpoint: Path) -> str:
    """The unit in which a checkpoint writes the corners of boxes."""
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    return family_named(require_supported(config, str(checkpoint))).box_unit


def _claim(out: Path, settings: Mapping[str, Any]) -> None:
    """Make the folder, or go on in it if it was begun with the same settings."""
    make_folder(out)
    if (out / PLAN_FILE).is_file():
        stored = from_json(Plan, out / PLAN_FILE, "name another folder")
        for key, value in settings.items():
            if (begun := getattr(stored, key)) != value:
                raise JigsawError(f"--out: {out} was begun with {key} {begun}, not {value}; name another")
    elif any(not entry.name.startswith(".") for entry in out.iterdir()):
        raise JigsawError(f"--out: {out} holds other things; name another folder")


def _job(ready: Ready, frames: Sequence[int]) -> Job:
    """A benchmark as the harness wants it."""
    benchmark = ready.benchmark
    video = benchmark.media or any(part["type"] == "video" for row in ready.rows[:1] for part in row["media"])
    return Job(
        benchmark=benchmark,
        key="".join(sign if sign.isalnum() else "-" for sign in benchmark.name.lower()).strip("-"),
        names=benchmark.tasks if benchmark.own else [f"suite_{Path(task).stem}" for task in benchmark.tasks],
        folder=None if ready.folder is None else str(ready.folder.resolve()),
        rows=[dict(row) for row in ready.rows],
        frames=list(frames) if video else [None],
    )


def _in_harness(out: Path, data_root: Path, steps: int) -> None:
    """Run the plan; what it says goes to `harness.log`.

    Raises:
        JigsawError: the process ended before its time; with the last line of what it said.
    """
    python = os.environ.get("JIGSAW_SUITE_PYTHON", sys.executable)
    if shutil.which(python) is None:
        raise JigsawError(f"JIGSAW_SUITE_PYTHON: {python} is no interpreter")
    probe = subprocess.run([python, "-c", "import lmms_eval"], capture_output=True, check=False)
    if probe.returncode:
        raise JigsawError(
            f"lmms-eval is not installed; {install_command('suite')}, or let JIGSAW_SUITE_PYTHON name the "
            "interpreter of an environment that has it"
        )
    root = str(data_root.resolve())
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    environment = {**os.environ, **offline, "HF_HOME": root, "HF_HUB_CACHE": f"{root}/hub"}
    environment["LMMS_EVAL_DATASETS_CACHE"] = str((out / "cache").resolve())
    environment["PYTHONSAFEPATH"] = "1"
    # Some definitions ask a judge on the network about answers that they cannot read; here nothing listens.
    environment.setdefault("OPENAI_API_URL", "http://127.0.0.1:9/")
    command = [python, "-m", "jigsaw.suites.harness", str(out / PLAN_FILE)]
    log = out / "harness.log"
    with log.open("w", encoding="utf-8") as file, progress_bar("running", steps) as bar:
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
        said = lines[-1].removeprefix("jigsaw.errors.JigsawError: ") if lines else f"code {process.returncode}"
        raise JigsawError(f"{said} (results so far are kept in {out}; all of it in {log})")


def _collected(out: Path, jobs: Sequence[Job]) -> dict[str, Result]:
    """The results there are, by benchmark and, for clips, frames."""
    paths = {name: out / "results" / f"{name}.json" for job in jobs for name in job.runs()}
    remedy = "delete it and run the command again"
    return {name: from_json(Result, path, remedy) for name, path in paths.items() if path.is_file()}
