"""Reads a folder for its report, with a note for each broken file.

In: a folder of `jigsaw launch`, finished or not, or one of `jigsaw eval --out`. Out: a `Run`. Only `recipe.yaml` (or
the log of an evaluation) is required. Without another file its part of the page is empty, because the report of a
failed run is needed most. A log of another version is refused.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from jigsaw.config.scalars import require_moderate
from jigsaw.errors import JigsawError
from jigsaw.evaluation.log import FIRST, LATEST, EvalLog, Sample, read_log, read_samples
from jigsaw.results.log_file import OlderLogError
from jigsaw.run_folder import RunFolder


@dataclass(frozen=True)
class Run:
    """The readable part of a run folder.

    Attributes:
        folder: the path that the user named.
        label: distinguishes the run from others on the page.
        recipe: the resolved recipe; it may have another version of the schema.
        recipe_text: the text of its file; empty for the folder of an evaluation.
        metrics: lines of `metrics.jsonl`.
        log: of the evaluation; None if there is none yet.
        samples: of the last evaluated model, or of the latest periodic evaluation.
        before: samples before GRPO by puzzle id, if there was GRPO.
        eval_folders: the held-out puzzle sets.
        notes: one line per broken file.
    """

    folder: Path
    label: str
    recipe: Mapping[str, Any]
    recipe_text: str
    metrics: Sequence[Mapping[str, Any]]
    log: EvalLog | None
    samples: Sequence[Sample]
    before: Mapping[str, Sample]
    eval_folders: Sequence[Path]
    notes: Sequence[str]

    @property
    def trained(self) -> bool:
        """Whether it is a training run. The folder of an evaluation has no recipe and no curves."""
        return bool(self.recipe_text)

    @property
    def command(self) -> str:
        """The command that computes the figures again."""
        return self.log.command if self.log else shlex.join(["jigsaw", "launch", str(RunFolder(self.folder).recipe)])

    def rows(self, stage: str) -> list[Mapping[str, Any]]:
        """The lines of `metrics.jsonl` of one stage, `sft` or `grpo`."""
        return [row for row in self.metrics if row["stage"] == stage]

    @property
    def position(self) -> str:
        """The step of an unfinished run: `GRPO step 120 of 200`; empty if its model is written or evaluated."""
        if not self.trained or self.log is not None or RunFolder(self.folder).model("model").exists():
            return ""
        if not self.metrics:
            return "no step is logged yet"
        last = self.metrics[-1]
        steps = number(self.section(last["stage"]).get("max_steps"))
        name = {"sft": "supervised step", "grpo": "GRPO step"}.get(last["stage"], last["stage"])
        return f"{name} {last['step']:,}" + (f" of {steps:,.0f}" if steps is not None and steps > 0 else "")

    def section(self, *keys: str) -> Mapping[str, Any]:
        """A section of the recipe; empty where it is absent or null."""
        section: Any = self.recipe
        for key in keys:
            section = section.get(key) if isinstance(section, Mapping) else None
        return section if isinstance(section, Mapping) else {}


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read run folders. The label of each is the recipe's name, the folder's name or the path, whichever is unique.

    Raises:
        JigsawError: there is no folder, a folder is not a run, or its log has another version.
    """
    if not folders:
        raise JigsawError("report: name at least one run folder")
    recipes = [_read_recipe(Path(folder)) for folder in folders]
    names = [str(recipe.get("name") or Path(folder).name) for folder, (recipe, _) in zip(folders, recipes, strict=True)]
    choices = (names, [Path(folder).resolve().name for folder in folders], [str(folder) for folder in folders])
    labels = next((labels for labels in choices if len(set(labels)) == len(labels)), choices[-1])
    return [
        _read_run(Path(folder), label, *recipe) for folder, label, recipe in zip(folders, labels, recipes, strict=True)
    ]


def _read_recipe(folder: Path) -> tuple[Mapping[str, Any], str]:
    path = RunFolder(folder).recipe
    if not path.is_file():
        if RunFolder(folder).evaluation.is_file():
            model = read_log(folder).settings.get("model")
            return {"name": folder.resolve().name, "model": {"path": model}}, ""
        fault = "is not a run folder (it has no recipe.yaml)" if folder.is_dir() else "is not a folder"
        raise JigsawError(f"{folder} {fault}: name a folder of `jigsaw launch` or `jigsaw eval --out`")
    try:
        text = path.read_text(encoding="utf-8")
        require_moderate(text, yaml.SafeLoader)
        recipe = yaml.safe_load(text)
    except JigsawError as error:
        raise JigsawError(f"{path}: {error}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise JigsawError(f"{path} cannot be read ({type(error).__name__}): is {folder} a run folder?") from error
    if not isinstance(recipe, Mapping):
        raise JigsawError(f"{path} is not a recipe: name a folder of `jigsaw launch`")
    return recipe, text


def _read_run(folder: Path, label: str, recipe: Mapping[str, Any], recipe_text: str) -> Run:
    notes: list[str] = []
    files = RunFolder(folder)
    log, last, before = None, list[Sample](), list[Sample]()
    try:
        if files.evaluation.is_file():
            log = read_log(folder)
            last, before = log.main.model.samples, log.main.warmup.samples if log.main.warmup else []
        else:
            first, latest = (files.predictions(name) for name in (FIRST, LATEST))
            last = read_samples(latest) if latest.is_file() else []
            before = read_samples(first) if first.is_file() else []
    except OlderLogError:
        raise
    except (JigsawError, OSError) as error:
        notes.append(f"{error}.")
    return Run(
        folder=folder,
        label=label,
        recipe=recipe,
        recipe_text=recipe_text,
        metrics=list(_metrics(files.metrics, notes)),
        log=log,
        samples=last or before,
        before={item.id: item for item in before if item.sample == 0} if last else {},
        eval_folders=_heldout(log, files, notes),
        notes=notes,
    )


def _heldout(log: EvalLog | None, files: RunFolder, notes: list[str]) -> list[Path]:
    """The folders of the held-out puzzle sets."""
    folders: Any = log.settings.get("data") if log is not None else None
    try:
        if folders is None and files.data.is_file():
            folders = files.read_sets()["eval"]
        return [Path(str(folder)) for folder in folders or ()]
    except (JigsawError, OSError, ValueError, KeyError, TypeError) as error:
        notes.append(f"{files.data.name} cannot be read ({type(error).__name__}) and is left out.")
        return []


def _metrics(path: Path, notes: list[str]) -> Iterator[Mapping[str, Any]]:
    """The lines of `metrics.jsonl`. An incomplete last line, which a killed run leaves, is not reported."""
    if not path.is_file():
        return
    broken = 0
    for line in path.read_text(encoding="utf-8", errors="replace").removesuffix("\n").split("\n"):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, Mapping) and isinstance(row.get("stage"), str) and isinstance(row.get("step"), int):
            yield row
        else:
            broken += 1
    if broken > 1:
        notes.append(f"{path.name}: {broken} lines cannot be read and are left out.")


def number(stored: Any) -> float | None:
    """A finite number from JSON; None for any other value."""
    finite = isinstance(stored, int | float) and not isinstance(stored, bool) and math.isfinite(stored)
    return float(stored) if finite else None
