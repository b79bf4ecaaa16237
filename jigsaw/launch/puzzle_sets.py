"""Builds the puzzle sets of a run or reuses existing ones, records them in `data.json`, and opens them.

In: the `data` section of a recipe. Out: the training sets and the held-out puzzles. A resumed run opens the recorded
folders and compares the ids in them, so that a source that has changed since cannot change the training or held-out
puzzles.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jigsaw.config.data import BuildSection, DataEntry
from jigsaw.config.schema import Recipe
from jigsaw.data import BuildConfig, build_set
from jigsaw.data.building.listing import source_digest
from jigsaw.data.loading.conversations import write_sample_conversations
from jigsaw.data.sources.recognition import skipped_line
from jigsaw.errors import JigsawError, first_line
from jigsaw.recipe_sets import HeldOut, open_set
from jigsaw.run_folder import RunFolder
from jigsaw.samples.builtin import SAMPLES, source_folder

Say = Callable[[str], None]

BUILD_KEYS = {"per_source", "limit", "seed", "split", "heldout", "materialize"}
"""Keys of a recipe's `build` section that `BuildConfig` has too."""


def prepare_sets(recipe: Recipe, folder: RunFolder, say: Say) -> tuple[list[Any], HeldOut]:
    """Build the puzzle sets of a recipe unless they exist, record them, and open them.

    Args:
        recipe: the recipe of the run.
        folder: the run folder; if it has a `data.json`, the sets in it are opened.
        say: prints a line about a set.

    Returns:
        The training sets, one per entry of `data.train`, and the held-out puzzles of all entries of `data.eval`.

    Raises:
        JigsawError: a set cannot be built or opened, or has changed since the run began.
    """
    sides = {"train": recipe.data.train, "eval": recipe.data.eval}
    if folder.data.exists():
        opened = {side: _reopen(folder, side, entries, say) for side, entries in sides.items()}
        return opened["train"], HeldOut(opened["eval"], recipe.data.eval)
    paths = {side: [_set_of(recipe, entry, say).resolve() for entry in entries] for side, entries in sides.items()}
    opened = {
        side: [open_set(path, entry) for path, entry in zip(paths[side], entries, strict=True)]
        for side, entries in sides.items()
    }
    record = {side: [str(path) for path in found] for side, found in paths.items()}
    digests = {side: [_digest(puzzles) for puzzles in sets] for side, sets in opened.items()}
    folder.write_text_once(folder.data, json.dumps(record | {"ids": digests}, indent=2))
    return opened["train"], HeldOut(opened["eval"], recipe.data.eval)


def _reopen(folder: RunFolder, side: str, entries: tuple[DataEntry, ...], say: Say) -> list[Any]:
    """The recorded sets of one side of a run."""
    record = folder.read_sets()
    sets = []
    remedy = "restore it, or start anew with output=FOLDER"
    if not len(record[side]) == len(record["ids"][side]) == len(entries):
        found = f"{len(record[side])} sets and {len(record['ids'][side])} digests"
        raise JigsawError(f"{folder.data}: {side} has {found}, but the recipe has {len(entries)} sets; {remedy}")
    for number, (path, digest, entry) in enumerate(zip(record[side], record["ids"][side], entries, strict=True)):
        try:
            puzzles = open_set(Path(path), entry)
        except JigsawError as error:
            raise JigsawError(
                f"data.{side}.{number}: the set {path} of this run cannot be opened: {first_line(error)}; {remedy}"
            ) from error
        if _digest(puzzles) != digest:
            raise JigsawError(
                f"data.{side}.{number}: {path} has other puzzles than when this run began "
                f"({digest.partition(' ')[0]} then, {len(puzzles)} now); {remedy}"
            )
        say(f"{len(puzzles):,} rows in {path} (as before)")
        sets.append(puzzles)
    return sets


def _digest(puzzles: Any) -> str:
    """The number of rows, and a hash of the puzzles' ids or of the conversations' text, in order."""
    stored = puzzles.with_format(None)
    column = next(name for name in ("json", "id", "messages", "conversations") if name in stored.column_names)
    digest = hashlib.sha256()
    for value in stored[column]:
        digest.update(f"{value}\x1f".encode("utf-8", "surrogateescape"))
    return f"{len(stored)} {digest.hexdigest()[:32]}"


def _set_of(recipe: Recipe, entry: DataEntry, say: Say) -> Path:
    folder = Path(recipe.data.folder)
    if entry.build is not None:
        return _build(entry.build, folder, say)
    if entry.conversations == SAMPLES:
        photos = source_folder(SAMPLES, "image", folder) / "train"
        return write_sample_conversations(photos, folder / "sample-conversations.jsonl")
    place = entry.path if entry.conversations is None else entry.conversations
    assert place is not None  # the schema ensures it
    return Path(place)


def build_config(build: BuildSection) -> BuildConfig:
    """The settings of a build, as the data package takes them.

    Raises:
        JigsawError: the task or one of its keys is unknown.
    """
    return BuildConfig.of(build.task, build.config, **build.model_dump(include=BUILD_KEYS))


def _build(build: BuildSection, folder: Path, say: Say) -> Path:
    """Build a set in a folder whose name is derived from its settings and from the names and sizes of its sources."""
    config = build_config(build)
    task = config.make_task()
    source = source_folder(build.source, task.source_kind, folder)
    listing = source_digest(source, task.source_kind, task.pairing)
    settings = json.dumps([build.model_dump(mode="json"), str(source.resolve()), listing])
    digest = hashlib.sha256(settings.encode()).hexdigest()[:12]
    target = folder / f"{Path(build.task).stem}-{build.split or 'all'}-{digest}"
    summary = build_set(config, source, target)
    how = "built" if summary.parts_built else "reused"
    rejects = sum(summary.counts.rejects.values())
    more = f"; {rejects:,} rejected, see {target / 'rejects.jsonl'}" if rejects else ""
    more += f"; {skipped_line(summary.skipped)}" if summary.skipped else ""
    say(f"{summary.counts.puzzles:,} {build.task} puzzles in {target} ({how}){more}")
    return target
