"""Answers of a model to puzzles, kept on disk during an evaluation, so that no puzzle is answered twice.

In: rows of a puzzle set with their media. Out: an `Answered` per puzzle, without media. A `Store` is a file of JSON
lines, the settings first; a batch reaches the disk before the next begins, and half a last line, which a killed process
leaves, is cut off.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from jigsaw.answering.generation import Answers, Ask, Generation, with_model
from jigsaw.data.loading.load import pieces_of
from jigsaw.data.storage.parts import puzzle_of
from jigsaw.errors import JigsawError
from jigsaw.rewards import RewardError
from jigsaw.rewards.answers import check_answer_of
from jigsaw.tasks import task_named

LARGE = ("prompt", "images", "videos")
"""Columns that are not kept with an answer."""


@dataclass(frozen=True)
class Answered:
    """A puzzle with a model's completions.

    Attributes:
        puzzle: columns of its row, without prompt and media.
        completions: texts, special tokens left out; one if decoding was greedy.
        contrast: how much its pieces differ (`Task.difficulty`); the less, the harder is the puzzle.
    """

    puzzle: Mapping[str, Any]
    completions: Sequence[str]
    contrast: float | None = None


def contrast(row: Mapping[str, Any]) -> float | None:
    """What tells the pieces of a loaded row apart; None where its task cannot tell."""
    return task_named(row["task"]).difficulty(puzzle_of(row), pieces_of(row))


def answer(ask: Ask, batch: Sequence[Mapping[str, Any]]) -> list[Answered]:
    """The answers to a batch of rows."""
    return [
        Answered({key: value for key, value in row.items() if key not in LARGE}, texts, contrast(row))
        for row, texts in zip(batch, ask(batch), strict=True)
    ]


def answer_all(ask: Ask, rows: Any, batch_size: int) -> list[Answered]:
    """The answers to indexable rows, whose media are read batch by batch."""
    batches = (range(start, min(start + batch_size, len(rows))) for start in range(0, len(rows), batch_size))
    return [one for batch in batches for one in answer(ask, [rows[number] for number in batch])]


def solve(model: Any, processor: Any, rows: Any, *, batch_size: int = 64, max_new_tokens: int = 1024) -> list[Answered]:
    """Greedy answers of a model that is already open.

    Args:
        model: on its device; its mode (training or evaluation) is left as found.
        processor: of the same checkpoint.
        rows: indexable rows with `prompt` and media, as `load_puzzles` gives them.
        batch_size: rows that are generated together.
        max_new_tokens: completion limit.
    """
    ask = with_model(model, processor, Generation(max_new_tokens=max_new_tokens))
    return answer_all(ask, rows, batch_size)


class Store:
    """Records by key in a file of JSON lines, or in memory only.

    Args:
        path: of the file, whose folder is made; or None.
        settings: what the records depend on; a file with others is refused when it is entered.
        key: of a record.
    """

    def __init__(self, path: Path | None, settings: Mapping[str, Any], key: Callable[[Mapping[str, Any]], Any]) -> None:
        self._path, self._settings, self._key = path, json.loads(json.dumps(dict(settings))), key
        self._records: dict[Any, Mapping[str, Any]] = {}
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        """Read what the file holds, and begin to write.

        Raises:
            JigsawError: the file holds records made with other settings, or something else.
        """
        if self._path is not None:
            make_folder(self._path.parent)
            complete = self._read(self._path) if self._path.exists() else 0
            if complete:
                os.truncate(self._path, complete)
            self._file = self._path.open("a" if complete else "w", encoding="utf-8")
            if not complete:
                self._append([{"settings": self._settings}])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def __contains__(self, key: object) -> bool:
        return key in self._records

    def __getitem__(self, key: Any) -> Mapping[str, Any]:
        return self._records[key]

    def add(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Keep the records of a batch."""
        self._append(records)
        self._records |= {self._key(record): record for record in records}

    def _append(self, records: Iterable[Mapping[str, Any]]) -> None:
        if self._file is not None:
            self._file.write("".join(json.dumps(record) + "\n" for record in records))
            self._file.flush()
            os.fsync(self._file.fileno())

    def _read(self, path: Path) -> int:
        """Read the records that are there; returns the bytes of complete lines, 0 where there is no record yet."""
        complete = 0
        stored: Any = None
        for number, line in enumerate(path.read_bytes().splitlines(keepends=True)):
            try:
                record = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                record = None
            if record is None:
                break
            if number == 0:
                stored = record.get("settings") if isinstance(record, dict) else None
                if not isinstance(stored, dict):
                    raise JigsawError(f"--out: {path} was not written by this command; name another folder")
            else:
                self._require_same(stored)
                try:
                    self._records[self._key(record)] = record
                except (KeyError, TypeError, IndexError) as error:
                    raise JigsawError(
                        f"--out: {path}:{number + 1} is no record of an evaluation; delete the file to evaluate again"
                    ) from error
            complete += len(line)
        return complete if self._records else 0

    def _require_same(self, stored: Mapping[str, Any]) -> None:
        # A setting that only one of the two has follows from another that differs.
        alone = stored.keys() ^ self._settings.keys()
        for key in sorted({*stored, *self._settings}, key=lambda key: (key in alone, key)):
            had, wanted = stored.get(key), self._settings.get(key)
            if had != wanted:
                what = f"{key} {had}, not {wanted}"
                if key.endswith("_stamp"):
                    what = f"another state of {self._settings[key.removesuffix('_stamp')]}"
                raise JigsawError(f"--out: {self._path} holds completions with {what}; name another folder")


def answer_rest(
    open_engine: Callable[[], Ask],
    ids: Sequence[str],
    row: Callable[[int], Mapping[str, Any]],
    *,
    path: Path | None,
    settings: Mapping[str, Any],
    batch_size: int,
    on_batch: Callable[[int], object] = lambda _: None,
) -> list[Answered]:
    """The answers to puzzles; only those are asked for that are not stored yet, and each batch is stored.

    Args:
        open_engine: called if something is left to ask; the engine behind it is closed at the end.
        ids: of the puzzles.
        row: gives the puzzle of a place in `ids`, with its media.
        path: file of the store; None keeps nothing.
        settings: what the answers depend on.
        batch_size: puzzles that are asked together.
        on_batch: called with the number of puzzles that were stored before, then with that of each batch.

    Raises:
        JigsawError: the store was made with other settings.
    """
    with Store(path, settings, _id_of) as store:
        left = [number for number, identity in enumerate(ids) if identity not in store]
        on_batch(len(ids) - len(left))
        if left:
            ask = open_engine()
            try:
                for start in range(0, len(left), batch_size):
                    batch = [row(number) for number in left[start : start + batch_size]]
                    store.add([asdict(one) for one in answer(ask, batch)])
                    on_batch(len(batch))
            finally:
                if isinstance(ask, Answers):
                    ask.close()
        return [Answered(**store[identity]) for identity in ids]


def _id_of(record: Mapping[str, Any]) -> str:
    """The id of a stored `Answered`."""
    puzzle, texts = record["puzzle"], record["completions"]
    if not (record.keys() == {"puzzle", "completions", "contrast"} and texts):
        raise KeyError
    try:
        check_answer_of(puzzle)
    except RewardError as error:
        raise KeyError from error
    if not all(isinstance(text, str) for text in (puzzle["id"], *texts)):
        raise TypeError
    return str(puzzle["id"])


def make_folder(out: Path) -> None:
    """Make the folder of an evaluation before the long work.

    Raises:
        JigsawError: it is a file.
    """
    if out.exists() and not out.is_dir():
        raise JigsawError(f"--out: {out} is a file; name a folder")
    out.mkdir(parents=True, exist_ok=True)


def file_stamp(folder: Path) -> str | None:
    """What tells one state of a folder from another: names, sizes and times of its files; None for a hub id."""
    if not folder.is_dir():
        return None
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    stamps = [(str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return sha256(json.dumps(stamps).encode()).hexdigest()[:16]
