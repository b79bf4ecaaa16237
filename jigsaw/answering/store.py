"""Store: records in a file of JSON lines, so that an interrupted command continues where it stopped.

The first line has the settings. A batch is on disk before the next one begins. An incomplete last line, which a killed
process leaves, is cut off.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from jigsaw.errors import JigsawError


class Store:
    """Records by key in a file of JSON lines, or in memory only.

    Args:
        path: of the file, whose folder is created; None keeps records in memory only.
        settings: what the records depend on. Entering the store fails if the file has other settings.
        key: returns the key of a record.
    """

    def __init__(self, path: Path | None, settings: Mapping[str, Any], key: Callable[[Mapping[str, Any]], Any]) -> None:
        self._path, self._settings, self._key = path, json.loads(json.dumps(dict(settings))), key
        self._records: dict[Any, Mapping[str, Any]] = {}
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        """Read the file, and open it for writing.

        Raises:
            JigsawError: the file has other settings, or is not a store.
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
        """Store the records of a batch."""
        self._append(records)
        self._records |= {self._key(record): record for record in records}

    def _append(self, records: Iterable[Mapping[str, Any]]) -> None:
        if self._file is not None:
            self._file.write("".join(json.dumps(record) + "\n" for record in records))
            self._file.flush()
            os.fsync(self._file.fileno())

    def _read(self, path: Path) -> int:
        """Read the stored records. Returns the number of bytes of complete lines, or 0 if there is no record."""
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
                        f"--out: {path}:{number + 1} is not a record of an evaluation; delete it and evaluate again"
                    ) from error
            complete += len(line)
        return complete if self._records else 0

    def _require_same(self, stored: Mapping[str, Any]) -> None:
        # A setting that only one side has is a consequence of another setting that differs.
        one_sided = stored.keys() ^ self._settings.keys()
        for key in sorted({*stored, *self._settings}, key=lambda key: (key in one_sided, key)):
            before, now = stored.get(key), self._settings.get(key)
            if before != now:
                difference = f"{key} {before}, not {now}"
                if key.endswith("_stamp"):
                    difference = f"another state of {self._settings[key.removesuffix('_stamp')]}"
                raise JigsawError(f"--out: {self._path} has completions with {difference}; name another folder")


def make_folder(out: Path) -> None:
    """Create the folder of an evaluation before the model is loaded.

    Raises:
        JigsawError: the path is a file.
    """
    if out.exists() and not out.is_dir():
        raise JigsawError(f"--out: {out} is a file; name a folder")
    out.mkdir(parents=True, exist_ok=True)


def file_stamp(folder: Path) -> str | None:
    """A hash of the names, sizes and times of a folder's files; None for a hub id."""
    if not folder.is_dir():
        return None
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    stamps = [(str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return sha256(json.dumps(stamps).encode()).hexdigest()[:16]
