"""A run as `jigsaw eval RUN` uses it: its model, recipe, held-out sets and training sets.

In: a folder of `jigsaw launch`, or a checkpoint inside one. Out: paths and settings, and a note on how a puzzle set
differs from the training sets of a model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jigsaw.errors import JigsawError, first_line
from jigsaw.rewards.answers import ORDER
from jigsaw.run_folder import RunFolder

if TYPE_CHECKING:
    from jigsaw.config.schema import Recipe


@dataclass(frozen=True)
class PuzzleSet:
    """A puzzle set to evaluate on.

    Attributes:
        data: its folder.
        name: its name in the report; empty for the main set, by which the model is judged.
        task: spec of the task that built it, if it is a plug-in; None for a built-in task.
        limit: maximum number of puzzles, evenly spread; None for all.
    """

    data: Path
    name: str = ""
    task: str | None = None
    limit: int | None = None


def named_sets(folders: Sequence[Path], task: str | None = None, limit: int | None = None) -> list[PuzzleSet]:
    """Sets from folders: the first is the main set, the others have the names of their folders.

    Raises:
        JigsawError: two of the others have the same name.
    """
    names = ["", *(folder.resolve().name for folder in folders[1:])]
    for name in names:
        if names.count(name) > 1:
            raise JigsawError(f"two of the sets have the name {name}; evaluate them one after the other")
    return [PuzzleSet(folder, name, task, limit) for folder, name in zip(folders, names, strict=True)]


def is_run(path: str | Path) -> bool:
    """Whether a path is a run folder, which has a recipe, and not a checkpoint."""
    folder = RunFolder(path)
    return folder.recipe.is_file() and not (folder.path / "config.json").exists()


def trained_model(run: Path) -> Path:
    """The checkpoint that a run ended with.

    Raises:
        JigsawError: the run has no trained model yet.
    """
    folder = RunFolder(run)
    if (model := folder.model("model")).is_dir():
        return model
    if (warmup := folder.model("warmup")).is_dir():
        raise JigsawError(
            f"{run} has no trained model yet. Continue the run with --resume, or evaluate its warm-up: "
            f"jigsaw eval {warmup} DATA"
        )
    raise JigsawError(f"{run} has no trained model yet. Continue the run with --resume")


def own_recipe(run: Path) -> Recipe:
    """The resolved recipe of a run.

    Raises:
        JigsawError: it cannot be read.
    """
    from jigsaw.config.loading import load_recipe

    return load_recipe(str(RunFolder(run).recipe))


def own_sets(run: Path) -> list[PuzzleSet]:
    """The held-out puzzle sets of a run, in the order of its recipe.

    Raises:
        JigsawError: the run has none, or has not built them yet.
    """
    entries = own_recipe(run).data.eval
    if not entries:
        raise JigsawError(f"{run} has no held-out puzzles (`data.eval` is empty). Name a set: jigsaw eval {run} DATA")
    folders = _folders(run, "eval")
    if len(folders) != len(entries):
        raise JigsawError(f"{RunFolder(run).data} names {len(folders)} held-out sets and the recipe {len(entries)}")
    sets = [
        PuzzleSet(folder, entry.name or "", entry.task_spec, entry.limit)
        for folder, entry in zip(folders, entries, strict=True)
    ]
    return sorted(sets, key=lambda one: bool(one.name))


def unreadable_note(model: str, data: Path, reasons: Mapping[str, int]) -> str | None:
    """A note of one or two sentences on why none of a model's answers could be read; None if some could.

    `reasons` has the number of completions by reason (`Sample.reason`).
    """
    if not reasons or "ok" in reasons:
        return None
    counts = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    puzzles = _described(data)
    note = f"No answer could be read ({counts})."
    run = run_of(model)
    trained = [] if run is None else list(dict.fromkeys(map(_described, _puzzle_folders(run))))
    if not trained:
        return f"{note} The puzzles are {puzzles}; check that the model was trained to answer in that form."
    if puzzles in trained:
        return f"{note} The model was trained on such puzzles ({puzzles}), but has not learned the form of an answer."
    return f"{note} The model was trained on {'; '.join(trained)}. This set is {puzzles}."


def _described(data: Path) -> str:
    """A puzzle set in words, from its manifest and first part: `image puzzles of 4 pieces, answer style direct`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from jigsaw.data.storage.manifest import read_manifest

    part = next(iter(sorted(data.glob("*.parquet"))), None)
    task = read_manifest(data).settings.task
    if part is None:
        return f"{task} puzzles"
    try:
        columns = [name for name in ("num_pieces", "answer_style", "answer_kind") if name in pq.read_schema(part).names]
        rows = pq.read_table(part, columns=columns).to_pydict()
    except (OSError, pa.ArrowException) as error:
        raise JigsawError(f"cannot read {part}: {first_line(error)}; build the part again") from error
    styles = " or ".join(sorted(set(rows["answer_style"])))
    kinds = sorted({kind or ORDER for kind in rows.get("answer_kind") or [None]})  # older sets have orders only
    if kinds != [ORDER]:
        return f"{task} puzzles with answers of kind {' or '.join(kinds)}, answer style {styles}"
    sizes = " or ".join(map(str, sorted(set(rows["num_pieces"]))))
    return f"{task} puzzles of {sizes} pieces, answer style {styles}"


def run_of(model: str) -> Path | None:
    """The run folder that is the path or its parent; None if neither is a run folder."""
    return next((folder for folder in (Path(model), Path(model).parent) if is_run(folder)), None)


def _puzzle_folders(run: Path) -> list[Path]:
    """The folders of the puzzle sets that a run was trained on, if they still exist."""
    from jigsaw.data.storage.manifest import shard_manifests

    try:
        folders = _folders(run, "train")
    except JigsawError:
        return []
    return [folder for folder in folders if folder.is_dir() and shard_manifests(folder)]


def _folders(run: Path, side: str) -> list[Path]:
    """The folders of a run's puzzle sets, `train` or `eval`."""
    folder = RunFolder(run)
    if not folder.data.is_file():
        raise JigsawError(f"{folder.data} is missing. Continue the run with --resume, which writes it")
    return [Path(path) for path in folder.read_sets()[side]]
