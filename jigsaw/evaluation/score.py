"""`jigsaw score DATA PREDICTIONS.jsonl`: figures of completions that another program generated.

In: a folder of puzzle parts, and JSON lines with one `{"id": .., "text": ..}` per completion. Out: the log that `jigsaw
eval` writes for the same completions. Puzzles without a completion, completions of unknown puzzles and duplicate
completions are reported and not scored. Of puzzles with equal ids the first counts, as when the set is loaded.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jigsaw.answering.answers import PROMPT_COLUMNS, AnsweredPuzzle, contrast
from jigsaw.data.storage.parts import answer_args_of, answer_of_row
from jigsaw.errors import JigsawError, first_line
from jigsaw.evaluation.evaluate import default_rewards
from jigsaw.evaluation.figures import set_log
from jigsaw.evaluation.log import Coverage, EvalLog, write_log
from jigsaw.results.log_file import command_line, versions
from jigsaw.rewards import Composition, RewardError
from jigsaw.rewards.answers import ORDER, check_answer_of, pieces_of_answer
from jigsaw.text import encoding_of

NEEDED = ("id", "task", "answer")
BATCH_ROWS = 2048
"""Rows of a part that are in memory at a time."""


def score_predictions(
    data: str | Path,
    predictions: str | Path,
    rewards: Sequence[str | Mapping[str, Any]] | None = None,
    *,
    think_prefilled: bool = False,
    source_root: Path | None = None,
    task: str | None = None,
    out: Path | None = None,
) -> EvalLog:
    """Score a file of completions against a puzzle set.

    Args:
        data: folder of parquet parts with the columns id, task and answer; answer_style, classes, geometry and source
            are optional.
        predictions: JSON lines, each an object with `id` and `text` (or `completion`, as in evaluations), and with
            `sample` if puzzles have several completions; other keys are ignored.
        rewards: what `reward` is the weighted sum of, names or entries as in a recipe; None for `visual_jigsaw`, or
            for `answer` if the set has answers that are not orders.
        think_prefilled: whether the chat template wrote `<think>`, so that the completions begin after it.
        source_root: where the sources of the set are now, if they moved. The difficulty of a puzzle is computed from
            its media, except if an evaluation wrote the lines.
        task: spec of the task that built the set, if it is a plug-in.
        out: folder for the log.

    Raises:
        JigsawError: a file is missing or broken (with its line), a reward is wrong, or no id matches.
    """
    entries = read_predictions(Path(predictions))
    counts = Counter((entry["id"], entry["sample"]) for entry in entries)
    duplicate = list(dict.fromkeys(name for (name, _), count in counts.items() if count > 1))
    texts: dict[str, dict[int, str]] = defaultdict(dict)
    for entry in entries:
        if counts[entry["id"], entry["sample"]] == 1:
            texts[entry["id"]][entry["sample"]] = entry["text"]
    puzzles: dict[str, dict[str, Any]] = {}
    copies = 0
    for row in read_puzzles(Path(data)):
        copies += row["id"] in puzzles
        puzzles.setdefault(row["id"], row | ({"think_prefilled": True} if think_prefilled else {}))
    kinds = {(row["task"], row["answer_kind"] or ORDER): name for name, row in puzzles.items()}
    rewards = default_rewards([kinds]) if rewards is None else rewards
    try:
        composition = Composition(rewards)
        composition.check_kinds(kinds)
    except RewardError as error:
        raise JigsawError(str(error)) from error
    scored = [name for name in puzzles if name in texts]
    if not scored and texts:
        raise JigsawError(
            f"none of the {len(texts)} ids in {predictions} is in {data} (the first is "
            f"{next(iter(texts))!r}); name the set that the predictions are for"
        )
    stored = {entry["id"]: entry["contrast"] for entry in entries if "contrast" in entry}
    contrasts, note = _contrasts(Path(data), scored, stored, source_root, task)
    answers = [
        AnsweredPuzzle(puzzles[name], [text for _, text in sorted(texts[name].items())], contrasts.get(name))
        for name in scored
    ]
    log = EvalLog(
        argv=command_line(),
        versions=versions(),
        settings={"predictions": str(predictions), "data": [str(data)], "think_prefilled": think_prefilled},
        rewards=list(rewards),
        sets=[set_log("", answers, composition)],
        note=note,
        coverage=Coverage(
            missing=[name for name in puzzles if name not in texts and name not in duplicate],
            duplicate=duplicate,
            unknown=[name for name in dict.fromkeys([*texts, *duplicate]) if name not in puzzles],
            copies=copies,
        ),
    )
    if out is not None:
        write_log(log, out)
    return log


def _contrasts(
    data: Path, ids: Sequence[str], stored: Mapping[str, float | None], source_root: Path | None, task: str | None
) -> tuple[Mapping[str, float | None], str | None]:
    """The contrast of each puzzle, stored or computed from its media, and a note if it cannot be computed."""
    if stored.keys() >= set(ids):
        return stored, None
    from jigsaw.data import load_puzzles
    from jigsaw.progress import progress_bar

    wanted = set(ids)
    try:
        puzzles = load_puzzles(data, source_root, task=task)
        numbers = [number for number, name in enumerate(puzzles.with_format(None)["id"]) if name in wanted]
        computed = {}
        with progress_bar("reading media", len(numbers)) as bar:
            for number in numbers:
                row = puzzles[number]
                computed[row["id"]] = contrast(row)
                bar.advance()
    except JigsawError as error:
        return {}, f"There are no figures by difficulty, because the media cannot be read: {first_line(error)}"
    return computed, None


def read_predictions(path: Path) -> list[dict[str, Any]]:
    """The completions of a file: `id`, `sample` and `text`, and `contrast` in lines that an evaluation wrote.

    Raises:
        JigsawError: the file cannot be read, or a line is not an object with `id` and `text`; names the line.
    """
    try:
        with path.open("rb") as file:
            encoding = encoding_of(file.read(4096), path)
        with path.open(encoding=encoding, newline="\n") as lines:
            entries = [_entry(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"it is not {error.encoding.upper()} text"
        raise JigsawError(
            f"cannot read the predictions {path}: {reason}; one JSON object per line is needed"
        ) from error
    if not entries:
        raise JigsawError(f'{path} has no predictions; write one {{"id": .., "text": ..}} per line')
    return entries


def _entry(line: str, where: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise JigsawError(
            f"{where}: not JSON ({str(error)[:80]}); each line must be an object with id and text"
        ) from error
    if not isinstance(entry, dict):
        raise JigsawError(f"{where}: {type(entry).__name__}, not an object; each line must have id and text")
    text = "completion" if "completion" in entry and "text" not in entry else "text"
    for key in ("id", text):
        if not isinstance(entry.get(key), str):
            fault = f"is {entry[key]!r}"[:60] if key in entry else f"is missing (keys: {', '.join(map(str, entry))})"
            raise JigsawError(f"{where}: {key} {fault}; it must be text")
    if type(entry.get("sample", 0)) is not int:
        raise JigsawError(f"{where}: sample is {entry['sample']!r}; it must be a whole number")
    if not isinstance(entry.get("contrast"), int | float | None):
        raise JigsawError(f"{where}: contrast is {entry['contrast']!r}; it must be a number")
    measured = {"contrast": entry["contrast"]} if "contrast" in entry else {}
    return {"id": entry["id"], "sample": entry.get("sample", 0), "text": entry[text], **measured}


def read_puzzles(folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of all parts, without prompts and media. Missing optional columns get their defaults.

    Raises:
        JigsawError: there are no parts, a part is broken, a column is missing, or a row has no valid answer.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts = sorted(folder.glob("*.parquet"))
    if not parts:
        fault = "has no parquet parts" if folder.is_dir() else "is not a folder"
        raise JigsawError(f"{folder} {fault}; name a folder that `jigsaw build` wrote")
    for part in parts:
        try:
            with pq.ParquetFile(part) as table:
                names = table.schema_arrow.names
                for name in NEEDED:
                    if name not in names:
                        raise JigsawError(f"{part} has no column {name}; its columns are {', '.join(names)}")
                columns = [name for name in names if name not in PROMPT_COLUMNS]
                for batch in table.iter_batches(batch_size=BATCH_ROWS, columns=columns):
                    yield from map(_puzzle, batch.to_pylist())
        except (OSError, pa.ArrowException) as error:
            raise JigsawError(f"cannot read {part}: {first_line(error)}; build the part again") from error


def _puzzle(row: dict[str, Any]) -> dict[str, Any]:
    """A row in the form of a loaded set."""
    geometry = row.get("geometry") or "{}"
    try:
        answer, args = answer_of_row(row), answer_args_of(row)
        check_answer_of({**row, "answer": answer})
    except (RewardError, ValueError) as error:
        raise JigsawError(f"puzzle {row['id']}: {first_line(error)}; build the data set again") from error
    return row | {
        "answer": answer,
        "answer_kind": row.get("answer_kind"),
        "answer_args": args,
        "answer_style": row.get("answer_style") or "think",
        "classes": row.get("classes"),
        "num_pieces": pieces_of_answer(answer, row.get("answer_kind"), args),
        "source": row.get("source") or {"path": row["id"]},
        "geometry": json.loads(geometry) if isinstance(geometry, str) else geometry,
    }
