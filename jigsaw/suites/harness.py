"""The process that runs lmms-eval: one benchmark after the other with the same model.

In: a plan, the JSON file that `evaluate` writes. Out: for each benchmark and number of frames `results/NAME.json` with
its figure or the error, `samples/NAME.jsonl` with all answers, and a line on standard output. `evaluate` runs this
module in a separate process, because lmms-eval changes the behaviour of other libraries and may be installed in another
environment.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from jigsaw.errors import JigsawError, first_line
from jigsaw.files import write_atomically
from jigsaw.results.intervals import rate_interval
from jigsaw.results.log_file import from_json, to_json
from jigsaw.suites.benchmarks import Benchmark
from jigsaw.suites.log import Job, Plan, Result
from jigsaw.suites.scoring import by_category, right_groups

GREEDY = {"max_new_tokens": 1024, "temperature": 0, "do_sample": False}
DEFINITIONS = Path(__file__).with_name("definitions")


def main(plan_file: Path) -> None:
    """Run the jobs of a plan."""
    plan = from_json(Plan, plan_file, "run `jigsaw bench` again")
    out = plan_file.parent
    output = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        from loguru import logger

        logger.remove()
        from jigsaw.suites.model import Checkpoint

        model = Checkpoint(**plan.model | {"pretrained": plan.checkpoint})
        shutil.copytree(DEFINITIONS, out / "tasks", dirs_exist_ok=True)
        for job in plan.jobs:
            _define(job, out / "tasks", plan)
        for job in plan.jobs:
            for name, frames in job.runs().items():
                path = out / "results" / f"{name}.json"
                if not _finished(path):
                    model.max_frames = frames or model.max_frames
                    path.parent.mkdir(exist_ok=True)
                    write_atomically(path, to_json(_run(model, job, out, name, plan.limit, frames)))
                print(f"done {name}", file=output, flush=True)  # read by `evaluate`


def _finished(path: Path) -> bool:
    """Whether a benchmark has a figure. A failed benchmark runs again."""
    try:
        return from_json(Result, path).failed is None
    except JigsawError:
        return False


def _define(job: Job, folder: Path, plan: Plan) -> None:
    """Write the definitions of a benchmark, or the rows of a built-in definition."""
    if job.folder is None:
        rows = list(_with_scale(job.rows, plan.checkpoint, plan.boxes))
        lines = [json.dumps({"id": row["id"], "row": json.dumps(row)}) for row in rows]
        (folder / f"{job.names[0]}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return
    spec = find_spec("lmms_eval")
    assert spec is not None and spec.origin is not None
    tasks = Path(spec.origin).parent / "tasks"
    for task, name in zip(job.benchmark.tasks, job.names, strict=True):
        original = _stored_keys(tasks / task)
        options = {key: value for key, value in (original.get("dataset_kwargs") or {}).items() if key != "token"}
        if not options.get("video"):
            options.pop("cache_dir", None)  # it is relative to the current folder
        definition = {
            "include": str(tasks / task),
            "task": name,
            "dataset_path": job.folder,
            "dataset_kwargs": options,
            "generation_kwargs": {**GREEDY, "until": (original.get("generation_kwargs") or {}).get("until", [])},
        }
        if "data_files" in options:  # a single file, named by its address
            local = sorted(Path(job.folder).glob(f"**/{Path(str(options['data_files']['test'])).name}"))
            definition |= {
                "dataset_path": original["dataset_path"],
                "dataset_kwargs": {"data_files": {"test": str(local[0])}},
            }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(definition), encoding="utf-8")


class _Keys(yaml.SafeLoader):
    """Reads the plain values of a definition. Functions are None."""


_Keys.add_multi_constructor("!function", lambda *_: None)


def _stored_keys(path: Path) -> dict[str, Any]:
    """The plain values of a definition, including those of the files that it includes."""
    stored: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), _Keys)  # a safe loader
    included = stored.pop("include", [])
    values: dict[str, Any] = {}
    for name in [included] if isinstance(included, str) else reversed(included):
        values |= _stored_keys(path.parent / name)
    return values | stored


def _with_scale(rows: Sequence[Mapping[str, Any]], model: str, boxes: str) -> Iterator[dict[str, Any]]:
    """Rows; those with boxes get `scale`, the ratio of original to shown pixels in x and y.

    A model answers in pixels of the picture that its processor resized (`pixels`), or in thousandths of its sides.
    """
    if not rows or rows[0]["kind"] not in ("box", "boxes"):
        yield from (dict(row) for row in rows)
        return
    from PIL import Image

    from jigsaw.models.load import load_processor

    processor = load_processor(model)
    for row in rows:
        with Image.open(row["media"][0]["path"]) as image:
            width, height = image.size
            shown = (1000, 1000) if boxes == "thousandths" else _shown(processor, image.convert("RGB"))
        yield dict(row) | {"scale": [width / shown[0], height / shown[1]]}


def _shown(processor: Any, image: Any) -> tuple[int, int]:
    """Width and height of a picture after the processor resized it."""
    sizes = processor.image_processor(images=[image], return_tensors="pt")
    _, rows, columns = sizes["image_grid_thw"][0].tolist()
    return columns * processor.image_processor.patch_size, rows * processor.image_processor.patch_size


def _run(model: Any, job: Job, out: Path, name: str, limit: int | None, frames: int | None) -> Result:
    """The result of a benchmark, or its error. A failure does not stop the other benchmarks."""
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager

    start, benchmark = time.monotonic(), job.benchmark
    shared: dict[str, Any] = {"benchmark": benchmark.name, "metric": benchmark.metric}
    shared |= {"note": benchmark.note, "frames": frames}
    try:
        evaluated = simple_evaluate(
            model=model,
            tasks=job.names,
            task_manager=TaskManager("ERROR", include_path=str(out / "tasks"), include_defaults=False),
            limit=limit,
            bootstrap_iters=0,
            cli_args=argparse.Namespace(output_path=str(out / "lmms-eval"), process_with_media=False),
            verbosity="ERROR",
        )
        _write_samples(out / "samples" / f"{name}.jsonl", evaluated["samples"])
        figures = _figures(job, evaluated)
    except Exception as error:  # the code of a benchmark may raise any error
        return Result(**shared, failed=f"{type(error).__name__}: {first_line(error)}")
    return Result(**shared, **figures, seconds=round(time.monotonic() - start, 1))


def _figures(job: Job, evaluated: Mapping[str, Any]) -> dict[str, Any]:
    """The figure in percent, its 95% interval if it is known, and the number of rows."""
    benchmark = job.benchmark
    counts = {name: len(evaluated["samples"][name]) for name in job.names}
    total = sum(counts.values())
    values = {name: _number(evaluated["results"][name], benchmark) for name in job.names}
    figures: dict[str, Any] = {"value": sum(values[name] * counts[name] for name in counts) / total, "rows": total}
    if benchmark.own:
        (name,) = job.names
        records = [sample["right"] for sample in evaluated["samples"][name]]
        figures |= {"flexible": evaluated["results"][name]["flexible,none"] * benchmark.scale}
        figures |= {"categories": {key: share * 100 for key, share in by_category(records).items()}}
        if "right" in records[0]:
            shares = [float(right) for right in right_groups(records)]
            estimate = rate_interval(shares, [str(number) for number in range(len(shares))])
            figures |= {"low": estimate.low * 100, "high": estimate.high * 100}
    elif len(job.names) == 1:
        error = evaluated["results"][job.names[0]].get(f"{benchmark.metric}_stderr,none")
        if isinstance(error, int | float):
            half = 1.96 * error * benchmark.scale
            figures |= {"low": max(0.0, figures["value"] - half), "high": min(100.0, figures["value"] + half)}
    return figures


def _number(results: Mapping[str, Any], benchmark: Benchmark) -> float:
    """lmms-eval's figure in percent, for any filter name."""
    stored = [value for key, value in results.items() if key.split(",")[0] == benchmark.metric]
    if not stored:
        raise ValueError(f"lmms-eval reports no {benchmark.metric}")
    value = stored[0] if benchmark.part is None else stored[0][benchmark.part]
    return float(value) * benchmark.scale


def _write_samples(path: Path, samples: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    path.parent.mkdir(exist_ok=True)
    kept = ("doc_id", "target", "resps", "filtered_resps")
    with path.open("w", encoding="utf-8") as file:
        for task, rows in samples.items():
            for row in rows:
                line = {"task": task} | {key: row.get(key) for key in kept}
                file.write(json.dumps(line, default=str) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
