"""`jigsaw eval`: one checkpoint, one puzzle set, figures and predictions.

In: a checkpoint and a built set. Out: figures, and with a folder given::

    completions.jsonl    the settings, then every puzzle as it was answered, written batch by batch
    predictions.jsonl    one scored completion a line
    evaluation.json      all figures, with the command and the settings that made them

An evaluation that was cut off goes on where it was when the same command is given again: what is lost is the batch that
was being generated.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jigsaw.data import load_puzzles
from jigsaw.data.load import spread
from jigsaw.data.progress import progress_bar
from jigsaw.errors import JigsawError
from jigsaw.evaluation.breakdown import figures_of
from jigsaw.evaluation.commands import option_words
from jigsaw.evaluation.completions import Completions, claim, file_stamp
from jigsaw.evaluation.generation import GREEDY, Generation, open_engine
from jigsaw.evaluation.own_run import unreadable_note
from jigsaw.evaluation.predictions import read_predictions_of
from jigsaw.evaluation.solve import complete_left
from jigsaw.evaluation.summary import FIGURES, Scored, gain, score
from jigsaw.evaluation.wordings import reworded
from jigsaw.files import write_whole
from jigsaw.models.load import load_processor
from jigsaw.models.prompts import completion_tokens
from jigsaw.rewards import Composition
from jigsaw.run_folder import RunFolder


def evaluate_checkpoint(
    model: str,
    data: Path,
    *,
    generation: Generation = GREEDY,
    out: Path | None = None,
    rewards: Sequence[str | Mapping[str, Any]] = ("visual_jigsaw",),
    limit: int | None = None,
    wording: int = 0,
    against: Path | None = None,
    source_root: Path | None = None,
    task: str | None = None,
    command: str | None = None,
) -> dict[str, Any]:
    """Solve the puzzles of a set and summarise.

    Args:
        model: checkpoint folder or hub id.
        data: folder of a puzzle set.
        generation: engine, precision, batches, and how completions are drawn.
        out: folder for what is listed above; None writes nothing, and what was cut off is lost.
        rewards: what `reward` is the sum of, names or entries as in a recipe.
        limit: only so many puzzles, evenly spread.
        wording: 0 for the set's own prompts, 1 and up for another wording of the same question.
        against: folder of another evaluation of the same puzzles, to compare with.
        source_root: where the sources of the set are now, if they moved.
        task: spec of the plug-in task that built the set, if one did.
        command: the command that makes these figures, where it is not `jigsaw eval MODEL DATA` with these arguments.

    Returns:
        What `evaluation.json` holds; `note` says why, where no answer could be read.

    Raises:
        JigsawError: the checkpoint, the set or a folder cannot be used.
    """
    composition = Composition(list(rewards))
    composition.require_columns()
    if "completion_ids" in composition.columns:
        composition.tokenize = completion_tokens(load_processor(model))
    if out is not None:
        _claim(out)
    other = None if against is None else read_predictions_of(against)
    puzzles = load_puzzles(data, source_root, task=task)
    chosen = spread(len(puzzles), limit)
    if not chosen:
        raise JigsawError(f"{data} holds no puzzles; build it again")
    settings = {
        "model": str(model),
        "model_stamp": file_stamp(Path(model)),
        "data": str(data),
        "data_stamp": file_stamp(Path(data)),
        **generation.settings(),
        "wording": wording,
    }
    ids = puzzles.with_format(None)["id"]
    with Completions(out, settings) as completions, progress_bar("solving", len(chosen)) as bar:

        def advance(count: int) -> None:
            for _ in range(count):
                bar.advance()

        solved = complete_left(
            lambda: open_engine(model, generation),
            [ids[number] for number in chosen],
            lambda number: reworded([puzzles[chosen[number]]], wording)[0],
            completions,
            batch_size=generation.batch_size,
            on_batch=advance,
        )
    scored = score([row for rows in solved for row in rows], composition)
    figures = figures_of([rows[0] for rows in solved], scored, composition)
    if other is not None:
        figures["compared"] = {"with": str(against), **compared(other, scored)}
    if (note := unreadable_note(model, data, figures["reasons"])) is not None:
        figures["note"] = note
    words = ["jigsaw", "eval", str(model), str(data), *option_words(asdict(generation), asdict(GREEDY))]
    others = {"wording": wording, "limit": limit, "source_root": source_root, "task": task, "against": against}
    words += option_words(others | {"out": out}, {"wording": 0})
    if list(rewards) != ["visual_jigsaw"]:
        words += [word for name in rewards for word in ("--reward", str(name))]
    figures |= {"settings": settings, "rewards": list(rewards), "command": command or shlex.join(words)}
    if out is not None:
        write_whole(out / "predictions.jsonl", "".join(json.dumps(asdict(item)) + "\n" for item in scored))
        write_whole(out / "evaluation.json", json.dumps(figures, indent=2))
    return figures


def compared(theirs: Sequence[Scored], ours: Sequence[Scored]) -> dict[str, Any]:
    """Paired differences on the puzzles that two evaluations share, ours less theirs, with intervals and p-values.

    Raises:
        JigsawError: they share no puzzle, or did not draw as many completions.
    """
    known = {(item.id, item.sample): item for item in theirs}
    shared = [item for item in ours if (item.id, item.sample) in known]
    if not shared:
        raise JigsawError("--against: the two evaluations share no puzzle; evaluate both models on the same set")
    differences = gain([known[item.id, item.sample] for item in shared], shared, FIGURES)
    return {"num_puzzles": len({item.id for item in shared}), "difference": differences}


def _claim(out: Path) -> None:
    """Make the folder, and leave the figures of a training run alone."""
    if RunFolder(out).recipe.exists():
        raise JigsawError(f"--out: {out} holds a training run with figures of its own; name another folder")
    claim(out)
