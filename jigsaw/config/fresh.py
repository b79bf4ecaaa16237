"""`${fresh:runs/x}` in a recipe: `runs/x`, or the first of `runs/x-2`, `runs/x-3`, ... that does not exist yet.

In: a stem. Out: a folder. A launch creates the folder, so that two runs that start at the same time get two folders. A
created folder that is still empty at the end, because the recipe was refused, is removed.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType

RECIPE = "recipe.yaml"
"""Name of the resolved recipe in a run folder."""


class FreshFolders:
    """Resolves `${fresh:...}`, each stem always to the same folder. A context manager that removes empty folders.

    Args:
        resume: resolve to the latest run that exists instead of a new folder.
        create: create the folder.

    Attributes:
        folders: stem -> folder, for each stem that was resolved.
    """

    def __init__(self, *, resume: bool = False, create: bool = False) -> None:
        self._resume, self._create = resume, create
        self._created: list[Path] = []
        self.folders: dict[str, str] = {}

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
            OSError: the folder is to be created and cannot be.
        """
        stem = os.path.expanduser(stem)  # noqa: PTH111  # both are strings, not paths
        if stem not in self.folders:
            self.folders[stem] = self._latest(stem) if self._resume else self._new(stem)
        return self.folders[stem]

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
        if not self._create:
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
            except FileNotFoundError:  # another launch was refused meanwhile and removed the parent that it had created
                if last:
                    raise
        self._created.append(folder)
        return True
