"""Reading a folder for its report: whatever is there, and a note for what is broken.

In: a folder that `jigsaw launch` made, finished or not, or one of `jigsaw eval --out`. Out: a `Run`. Only `recipe.yaml`
must be there (or an evaluation's own log); another file that is missing or broken leaves its part of the page empty,
since the page of a run that failed is the one most needed. A log of another version is refused.
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
    """A run folder, as far as it could be read.

    Attributes:
        folder: as it was given.
        label: distinguishes it from the other runs of the page.
        recipe: the resolved recipe; its parts may be of another version of the schema.
        recipe_text: the same, as it is in the file.
        metrics: lines of `metrics.jsonl`.
        log: of the evaluation; None where there is none yet.
        samples: of the last model that was evaluated, or of the latest periodic evaluation.
        before: samples before GRPO by puzzle id, if there was GRPO after them.
        eval_folders: puzzle sets that were held out.
        notes: what was found broken, one line each.
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
        """Whether it is a training run; a lone evaluation has no curves and no recipe."""
        return bool(self.recipe_text)

    @property
    def command(self) -> str:
        """What computes the figures again."""
        return self.log.command if self.log else shlex.join(["jigsaw", "launch", str(RunFolder(self.folder).recipe)])

    def rows(self, stage: str) -> list[Mapping[str, Any]]:
        """Lines of the log of one stage, `sft` or `grpo`."""
        return [row for row in self.metrics if row["stage"] == stage]

    @property
    def position(self) -> str:
        """How far an unfinished run has come: `GRPO step 120 of 200`; empty once its model is written or evaluated."""
        if not self.trained or self.log is not None or RunFolder(self.folder).model("model").exists():
            return ""
        if not self.metrics:
            return "no step is logged yet"
        last = self.metrics[-1]
        of = number(self.section(last["stage"]).get("max_steps"))
        name = {"sft": "supervised step", "grpo": "GRPO step"}.get(last["stage"], last["stage"])
        return f"{name} {last['step']:,}" + (f" of {of:,.0f}" if of is not None and of > 0 else "")

    def section(self, *keys: str) -> Mapping[str, Any]:
        """A section of the recipe; empty where it is absent or null."""
        found: Any = self.recipe
        for key in keys:
            found = found.get(key) if isinstance(found, Mapping) else None
        return found if isinstance(found, Mapping) else {}


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read run folders, each under a label of its own: the recipe's name, the folder's name or its path.

    Raises:
        JigsawError: no folder given, one that is no run, or one with a log of another version.
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
        what = "is no run folder (it has no recipe.yaml)" if folder.is_dir() else "is no folder"
        raise JigsawError(f"{folder} {what}: name a folder that `jigsaw launch` or `jigsaw eval --out` made")
    try:
        text = path.read_text(encoding="utf-8")
        require_moderate(text, yaml.SafeLoader)
        recipe = yaml.safe_load(text)
    except JigsawError as error:
        raise JigsawError(f"{path}: {error}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise JigsawError(f"{path} cannot be read ({type(error).__name__}): is {folder} a run folder?") from error
    if not isinstance(recipe, Mapping):
        raise JigsawError(f"{path} is no recipe: name a folder that `jigsaw launch` made")
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
    """The folders of the held-out puzzles."""
    folders: Any = log.settings.get("data") if log is not None else None
    try:
        if folders is None and files.data.is_file():
            folders = files.read_sets()["eval"]
        return [Path(str(folder)) for folder in folders or ()]
    except (JigsawError, OSError, ValueError, KeyError, TypeError) as error:
        notes.append(f"{files.data.name} cannot be read ({type(error).__name__}) and is left out.")
        return []


def _metrics(path: Path, notes: list[str]) -> Iterator[Mapping[str, Any]]:
    """The lines of `metrics.jsonl`. A killed run may leave half a last line behind, which is no fault."""
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
        notes.append(f"{path.name}: {broken} lines are no log entries and are left out.")


def number(stored: Any) -> float | None:
    """A finite number as it came out of JSON; None for anything else."""
    known = isinstance(stored, int | float) and not isinstance(stored, bool) and math.isfinite(stored)
    return float(stored) if known else None
