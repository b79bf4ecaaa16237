"""Completions on disk while an evaluation goes on: what was answered is not asked again.

`completions.jsonl` holds the settings in its first line, then one line per puzzle: a list with its row, less pixels,
for every completion. Lines are appended batch by batch and reach the disk before the next batch begins. Half a last
line, which a killed process leaves, is cut off.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from jigsaw.errors import JigsawError

NAME = "completions.jsonl"
Rows = list[dict[str, Any]]


class Completions:
    """The completions of an evaluation by puzzle id, kept in a folder, or in memory alone if there is none.

    Args:
        folder: of the evaluation, or None.
        settings: what the completions depend on; a folder with others is refused when it is entered.
    """

    def __init__(self, folder: Path | None, settings: Mapping[str, Any]) -> None:
        self._path = None if folder is None else folder / NAME
        self._settings = dict(settings)
        self._found: dict[str, Rows] = {}
        self._file: TextIO | None = None

    def __enter__(self) -> Completions:
        """Take in what the folder holds, and begin to write.

        Raises:
            JigsawError: the folder holds completions made with other settings, or something else.
        """
        if self._path is not None:
            whole = self._read(self._path) if self._path.exists() else 0
            if whole:
                os.truncate(self._path, whole)
            self._file = self._path.open("a" if whole else "w", encoding="utf-8")
            if not whole:
                self._append([{"settings": self._settings}])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def __contains__(self, identity: object) -> bool:
        return identity in self._found

    def __getitem__(self, identity: str) -> Rows:
        return self._found[identity]

    def add(self, batch: Sequence[Rows]) -> None:
        """Keep the completions of a batch: per puzzle its rows, one for each completion."""
        self._append(batch)
        self._found |= {rows[0]["id"]: rows for rows in batch}

    def _append(self, lines: Sequence[Any]) -> None:
        if self._file is not None:
            self._file.write("".join(json.dumps(line) + "\n" for line in lines))
            self._file.flush()
            os.fsync(self._file.fileno())

    def _read(self, path: Path) -> int:
        """Take in what is there; returns the bytes of whole lines, 0 where nothing was answered yet."""
        whole = 0
        stored: dict[str, Any] = {}
        for number, line in enumerate(path.read_bytes().splitlines(keepends=True)):
            try:
                entry = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                entry = None
            if entry is None:
                break
            if number == 0:
                if not isinstance(entry, dict) or not isinstance(entry.get("settings"), dict):
                    raise JigsawError(f"--out: {self._path} was not written by `jigsaw eval`; name another folder")
                stored = entry["settings"]
            else:
                if not self._found:
                    self._require_same(stored)
                if not _is_answer(entry):
                    raise JigsawError(
                        f"--out: {path}:{number + 1} is no list of answered puzzles with id, answer and completion; "
                        "delete the file to evaluate again"
                    )
                self._found[entry[0]["id"]] = entry
            whole += len(line)
        return whole if self._found else 0

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


def _is_answer(entry: Any) -> bool:
    """Whether a line holds what `Completions.add` writes: the rows of one puzzle, each with its completion."""
    return (
        isinstance(entry, list)
        and len(entry) > 0
        and all(isinstance(row, dict) for row in entry)
        and all(isinstance(row.get(key), str) for row in entry for key in ("id", "completion"))
        and all(isinstance(row.get("answer"), list) and row["id"] == entry[0]["id"] for row in entry)
    )


def claim(out: Path) -> None:
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
