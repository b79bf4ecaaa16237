"""The process in which lmms-eval runs: benchmarks one by one with one open model, each figure on disk when it is known.

In: a plan, the JSON file that `suite` writes. Out: `results/NAME.json` for each benchmark (and number of frames), with
its figure or why there is none, and `samples/NAME.jsonl` with every answer; a line on standard output for each. Run as
a module, by `suite` alone: lmms-eval changes what other libraries do, which is kept out of our own process, and may
live in an environment of its own.
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
from jigsaw.suites.scoring import by_category

GREEDY = {"max_new_tokens": 1024, "temperature": 0, "do_sample": False}
DEFINITIONS = Path(__file__).with_name("definitions")


def main(plan_file: Path) -> None:
    """Carry out a plan."""
    plan = from_json(Plan, plan_file, "run `jigsaw bench` again")
    out = plan_file.parent
    told = sys.stdout
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
                if not _known(path):
                    model.max_frames = frames or model.max_frames
                    path.parent.mkdir(exist_ok=True)
                    write_atomically(path, to_json(_run(model, job, out, name, plan.limit, frames)))
                print(f"done {name}", file=told, flush=True)  # what `suite` waits for


def _known(path: Path) -> bool:
    """Whether a benchmark has its figure; one that failed is tried again."""
    try:
        return from_json(Result, path).failed is None
    except JigsawError:
        return False


def _define(job: Job, folder: Path, plan: Plan) -> None:
    """Write a definition for every task of a benchmark, and the rows of our own."""
    if job.folder is None:
        rows = list(_with_scale(job.rows, plan.checkpoint, plan.boxes))
        lines = [json.dumps({"id": row["id"], "row": json.dumps(row)}) for row in rows]
        (folder / f"{job.names[0]}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return
    spec = find_spec("lmms_eval")
    assert spec is not None and spec.origin is not None
    theirs = Path(spec.origin).parent / "tasks"
    for task, name in zip(job.benchmark.tasks, job.names, strict=True):
        known = _stored_keys(theirs / task)
        options = {key: value for key, value in (known.get("dataset_kwargs") or {}).items() if key != "token"}
        if not options.get("video"):
            options.pop("cache_dir", None)  # would be a folder below whatever the current one is
        definition = {
            "include": str(theirs / task),
            "task": name,
            "dataset_path": job.folder,
            "dataset_kwargs": options,
            "generation_kwargs": {**GREEDY, "until": (known.get("generation_kwargs") or {}).get("until", [])},
        }
        if "data_files" in options:  # one file by its address
            local = sorted(Path(job.folder).glob(f"**/{Path(str(options['data_files']['test'])).name}"))
            definition |= {
                "dataset_path": known["dataset_path"],
                "dataset_kwargs": {"data_files": {"test": str(local[0])}},
            }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(definition), encoding="utf-8")


class _Keys(yaml.SafeLoader):
    """Reads a definition for its plain values; functions are left out."""


_Keys.add_multi_constructor("!function", lambda *_: None)


def _stored_keys(path: Path) -> dict[str, Any]:
    """A definition's plain values, with those that it includes."""
    stored: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), _Keys)  # a safe loader
    included = stored.pop("include", [])
    found: dict[str, Any] = {}
    for name in [included] if isinstance(included, str) else reversed(included):
        found |= _stored_keys(path.parent / name)
    return found | stored


def _with_scale(rows: Sequence[Mapping[str, Any]], model: str, boxes: str) -> Iterator[dict[str, Any]]:
    """Rows; those with boxes carry original over shown pixels, x and y.

    A model answers in pixels of the picture as its processor resizes it (`pixels`), or in thousandths of its sides.
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
    """Width and height of a picture as the model sees it."""
    sizes = processor.image_processor(images=[image], return_tensors="pt")
    _, rows, columns = sizes["image_grid_thw"][0].tolist()
    return columns * processor.image_processor.patch_size, rows * processor.image_processor.patch_size


def _run(model: Any, job: Job, out: Path, name: str, limit: int | None, frames: int | None) -> Result:
    """A benchmark's result, or why it has none: one that fails must not take the others along."""
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager

    began = time.monotonic()
    asked = job.benchmark
    shared: dict[str, Any] = {"benchmark": asked.name, "metric": asked.metric, "note": asked.note, "frames": frames}
    try:
        found = simple_evaluate(
            model=model,
            tasks=job.names,
            task_manager=TaskManager("ERROR", include_path=str(out / "tasks"), include_defaults=False),
            limit=limit,
            bootstrap_iters=0,
            cli_args=argparse.Namespace(output_path=str(out / "lmms-eval"), process_with_media=False),
            verbosity="ERROR",
        )
        _write_samples(out / "samples" / f"{name}.jsonl", found["samples"])
        figures = _figures(job, found)
    except Exception as error:  # a benchmark's own code raises whatever it likes
        return Result(**shared, failed=f"{type(error).__name__}: {first_line(error)}")
    return Result(**shared, **figures, seconds=round(time.monotonic() - began, 1))


def _figures(job: Job, found: Mapping[str, Any]) -> dict[str, Any]:
    """The figure in percent with its 95% interval, where one is known, and the number of rows."""
    benchmark = job.benchmark
    counts = {name: len(found["samples"][name]) for name in job.names}
    total = sum(counts.values())
    values = {name: _number(found["results"][name], benchmark) for name in job.names}
    figures: dict[str, Any] = {"value": sum(values[name] * counts[name] for name in counts) / total, "rows": total}
    if benchmark.own:
        (name,) = job.names
        records = [sample["right"] for sample in found["samples"][name]]
        figures |= {"careful": found["results"][name]["careful,none"] * benchmark.scale}
        figures |= {"categories": {key: share * 100 for key, share in by_category(records).items()}}
        if "right" in records[0]:
            groups: dict[str, bool] = {}
            for at, record in enumerate(records):
                key = record["group"] or f"row {at}"
                groups[key] = groups.get(key, True) and record["right"]
            spread = rate_interval([float(value) for value in groups.values()], list(groups))
            figures |= {"low": spread.low * 100, "high": spread.high * 100}
    elif len(job.names) == 1:
        error = found["results"][job.names[0]].get(f"{benchmark.metric}_stderr,none")
        if isinstance(error, int | float):
            reach = 1.96 * error * benchmark.scale
            figures |= {"low": max(0.0, figures["value"] - reach), "high": min(100.0, figures["value"] + reach)}
    return figures


def _number(results: Mapping[str, Any], benchmark: Benchmark) -> float:
    """lmms-eval's figure in percent, whatever the name of its filter."""
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
