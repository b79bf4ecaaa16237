"""Reading a folder for its report: whatever is there, and a note for what is not.

In: a folder that `jigsaw launch` made, finished or not, or one of `jigsaw eval --out`. Out: a `Run`. Only `recipe.yaml`
must be there (or an evaluation's own `evaluation.json`); a file that is missing or broken leaves its part of the page
empty, since the page of a run that failed is the one most needed.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from jigsaw.config.scalars import require_moderate
from jigsaw.errors import JigsawError
from jigsaw.evaluation.intervals import Estimate
from jigsaw.evaluation.predictions import FIRST, LATEST, json_lines, number, scored_of
from jigsaw.evaluation.summary import FIGURES, Scored
from jigsaw.run_folder import RunFolder

STAGES = ("heldout", "warmup")
"""Parts of `evaluation.json`: the checkpoint at the end, and the one before GRPO."""


@dataclass(frozen=True)
class Figure:
    """One figure of one checkpoint. `chance` is None where guessing has no level."""

    estimate: Estimate
    chance: float | None


@dataclass(frozen=True)
class Evaluation:
    """`evaluation.json`.

    Attributes:
        figures: stage -> name of the figure -> figure; a stage or a figure may be absent.
        gain: name -> paired difference, after GRPO less before.
        num_puzzles: held-out puzzles.
        num_sources: what they were made from.
        others: the same on further sets of held-out puzzles, by name.
    """

    figures: Mapping[str, Mapping[str, Figure]]
    gain: Mapping[str, Estimate]
    num_puzzles: int
    num_sources: int
    others: Mapping[str, Evaluation] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """A run folder, as far as it could be read.

    Attributes:
        folder: as it was given.
        label: what tells it from the other runs of the page.
        recipe: the resolved recipe; its parts may be of another version of the schema.
        recipe_text: the same, as it stands in the file.
        metrics: lines of `metrics.jsonl`.
        evaluation: None where there is none yet.
        stored: `evaluation.json` as it is; empty where there is none yet.
        predictions: of the last checkpoint that was evaluated, or of the latest periodic evaluation.
        before: predictions before GRPO by puzzle id, if there was GRPO after them.
        eval_folders: puzzle sets that were held out.
        command: what makes the figures again.
        notes: what was found broken, one line each.
    """

    folder: Path
    label: str
    recipe: Mapping[str, Any]
    recipe_text: str
    metrics: Sequence[Mapping[str, Any]]
    evaluation: Evaluation | None
    stored: Mapping[str, Any]
    predictions: Sequence[Scored]
    before: Mapping[str, Scored]
    eval_folders: Sequence[Path]
    command: str
    notes: Sequence[str]

    @property
    def trained(self) -> bool:
        """Whether it is a training run; a lone evaluation has no curves and no recipe."""
        return RunFolder(self.folder).recipe.is_file()

    def rows(self, stage: str) -> list[Mapping[str, Any]]:
        """Lines of the log of one stage, `sft` or `grpo`."""
        return [row for row in self.metrics if row["stage"] == stage]

    @property
    def position(self) -> str:
        """How far an unfinished run has come: `GRPO step 120 of 200`; empty once its model is written or evaluated."""
        if not self.trained or self.evaluation is not None or RunFolder(self.folder).model("model").exists():
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
        JigsawError: no folder given, or one that is no run.
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
        if (stored := _own_evaluation(folder)) is not None:
            return {"name": folder.resolve().name, "model": {"path": stored["settings"].get("model")}}, ""
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


def _own_evaluation(folder: Path) -> Mapping[str, Any] | None:
    """The figures that `jigsaw eval --out` left in a folder, or None where it was not that."""
    stored = _json(RunFolder(folder).evaluation, [])
    known = isinstance(stored, Mapping) and isinstance(stored.get("settings"), Mapping)
    return stored if known and isinstance(stored.get("command"), str) else None


def _read_run(folder: Path, label: str, recipe: Mapping[str, Any], recipe_text: str) -> Run:
    notes: list[str] = []
    own = None if recipe_text else _own_evaluation(folder)
    files = RunFolder(folder)
    names = {"model": "model", "warmup": "warmup", "first": FIRST, "latest": LATEST}
    places = {name: files.predictions(stored) for name, stored in names.items()}
    if own is not None:
        places["model"] = folder / "predictions.jsonl"
    predictions = {name: _predictions(path, notes) for name, path in places.items()}
    last = predictions["model"] or predictions["latest"]
    sets = _json(files.data, notes) if own is None else {"eval": [own["settings"].get("data")]}
    heldout = sets.get("eval") if isinstance(sets, Mapping) else None
    return Run(
        folder=folder,
        label=label,
        recipe=recipe,
        recipe_text=recipe_text,
        metrics=[
            row
            for row in _lines(files.metrics, notes)
            if isinstance(row.get("stage"), str) and isinstance(row.get("step"), int)
        ],
        evaluation=_evaluation(files.evaluation, notes),
        stored=_mapping(_json(files.evaluation, [])),
        predictions=last or predictions["warmup"] or predictions["first"],
        before={item.id: item for item in predictions["warmup"] or predictions["first"]} if last else {},
        eval_folders=[Path(str(path)) for path in heldout] if isinstance(heldout, list) else [],
        command=own["command"] if own else shlex.join(["jigsaw", "launch", str(files.recipe)]),
        notes=notes,
    )


def _json(path: Path, notes: list[str]) -> Any:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        notes.append(f"{path.name} cannot be read ({type(error).__name__}) and is left out.")
        return None


def _lines(path: Path, notes: list[str]) -> Iterator[Mapping[str, Any]]:
    """Objects of a file of JSON lines. A killed run may leave half a last line behind: that is no fault to tell of."""
    if not path.is_file():
        return
    try:
        rows = list(json_lines(path.read_text(encoding="utf-8", errors="replace")))
    except OSError as error:
        notes.append(f"{path.name} cannot be read ({type(error).__name__}) and is left out.")
        return
    yield from (row for row in rows if row is not None)
    broken = rows.count(None)
    if broken > 1:
        notes.append(f"{path.name}: {broken} lines are no JSON objects and are left out.")


def _predictions(path: Path, notes: list[str]) -> list[Scored]:
    kept, broken = [], 0
    for row in _lines(path, notes):
        item = scored_of(row)
        if item is None:
            broken += 1
        else:
            kept.append(item)
    if broken:
        notes.append(f"predictions/{path.name}: {broken} lines are no predictions and are left out.")
    return kept


def _evaluation(path: Path, notes: list[str]) -> Evaluation | None:
    stored = _json(path, notes)
    if not isinstance(stored, Mapping):
        return None
    found = _evaluation_of(stored)
    if found is None:
        notes.append(f"{path.name} holds no figures that this version knows, and is left out.")
    return found


def _evaluation_of(stored: Mapping[str, Any]) -> Evaluation | None:
    """The figures of one set of held-out puzzles, or None where there are none."""
    stages = {stage: stored[stage] for stage in STAGES if isinstance(stored.get(stage), Mapping)}
    if not stages and isinstance(stored.get("settings"), Mapping):
        stages = {"heldout": stored}
    figures = {
        stage: {name: figure for name in FIGURES if (figure := _figure(values.get(name))) is not None}
        for stage, values in stages.items()
    }
    if not any(figures.values()):
        return None
    gains = _mapping(stored.get("gain")).items()
    others = {str(name): _evaluation_of(_mapping(own)) for name, own in _mapping(stored.get("others")).items()}
    counts = next(iter(stages.values()))
    return Evaluation(
        figures=figures,
        gain={str(name): estimate for name, value in gains if (estimate := _estimate(value)) is not None},
        num_puzzles=int(number(counts.get("num_puzzles")) or 0),
        num_sources=int(number(counts.get("num_sources")) or 0),
        others={name: own for name, own in others.items() if own is not None},
    )


def _mapping(stored: Any) -> Mapping[str, Any]:
    return stored if isinstance(stored, Mapping) else {}


def _figure(stored: Any) -> Figure | None:
    estimate = _estimate(stored)
    return None if estimate is None else Figure(estimate, number(stored.get("chance")))


def _estimate(stored: Any) -> Estimate | None:
    if not isinstance(stored, Mapping):
        return None
    value, low, high = (number(stored.get(name)) for name in ("value", "low", "high"))
    return None if value is None or low is None or high is None else Estimate(value, low, high)
