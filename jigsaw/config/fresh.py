"""`${fresh:runs/x}` in a recipe: `runs/x`, or the first of `runs/x-2`, `runs/x-3`, ... that does not exist yet.

In: a stem. Out: a folder. Launching a run claims the folder by creating it, so that two runs that are started at once
get two folders; a claimed folder that is still empty at the end, because the recipe was refused, is removed.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from jigsaw.run_folder import RECIPE


class FreshFolders:
    """Resolves `${fresh:...}`: the same stem always to the same folder. A context manager that removes empty folders.

    Args:
        resume: take the latest run that exists instead of a new folder.
        claim: create the folder.

    Attributes:
        found: stem -> folder of each stem that was resolved.
    """

    def __init__(self, *, resume: bool = False, claim: bool = False) -> None:
        self._resume, self._claim = resume, claim
        self._created: list[Path] = []
        self.found: dict[str, str] = {}

    def __enter__(self) -> FreshFolders:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for folder in reversed(self._created):
            with suppress(OSError):  # it is not empty, or another process has removed it
                folder.rmdir()

    def resolve(self, stem: str) -> str:
        """The folder for a stem.

        Raises:
            OSError: it is to be claimed and cannot be created.
        """
        stem = os.path.expanduser(stem)  # noqa: PTH111  # a text in, a text out
        if stem not in self.found:
            self.found[stem] = self._latest(stem) if self._resume else self._new(stem)
        return self.found[stem]

    @staticmethod
    def _latest(stem: str) -> str:
        latest, candidate, number = stem, stem, 2
        while Path(candidate).exists():
            if (Path(candidate) / RECIPE).is_file():
                latest = candidate
            candidate, number = f"{stem}-{number}", number + 1
        return latest

    def _new(self, stem: str) -> str:
        candidate, number = stem, 2
        while not self._take(Path(candidate)):
            candidate, number = f"{stem}-{number}", number + 1
        return candidate

    def _take(self, folder: Path) -> bool:
        if not self._claim:
            return not folder.exists()
        for last in (False, False, True):
            missing = [parent for parent in reversed(folder.parents) if not parent.exists()]
            folder.parent.mkdir(parents=True, exist_ok=True)
            self._created += missing
            try:
                folder.mkdir()
                break
            except FileExistsError:
                return False
            except FileNotFoundError:  # a launch that was refused in this moment has removed the parent that it made
                if last:
                    raise
        self._created.append(folder)
        return True
