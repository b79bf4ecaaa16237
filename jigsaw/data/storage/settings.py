"""Settings of a build, from the recipe or the command line to the manifest.

In: a task, its configuration and a few numbers. Out: a validated, frozen `BuildConfig`; `Settings` adds what depends on
the sources. Equal settings give equal rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from jigsaw.data.storage.identity import Split, digest_of
from jigsaw.errors import JigsawError
from jigsaw.tasks import Task, TaskError, absolute_spec, config_values, get_task
from jigsaw.text import named

MOST_PARTS = 99_999
"""Largest number of parts; their numbers have five digits."""

MOST = 2**53
"""Largest integer that JSON represents exactly."""


@dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """The settings that determine the puzzles of a source.

    Attributes:
        spec: name of the task, or `module:Name` or `file.py:Name` of a plug-in.
        config: the complete configuration of the task, as JSON values.
        per_source: puzzles from each source, all different.
        limit: largest number of sources, a sample that is the same on every machine.
        seed: seed of the puzzles.
        split: `train`, `heldout`, or None for all sources.
        heldout: fraction of the contents that is held out; None if folders define the split.
        materialize: also store the rendered media.
    """

    spec: str
    config: dict[str, Any]
    per_source: int = 1
    limit: int | None = None
    seed: int = 0
    split: Split | None = None
    heldout: float | None = 0.2
    materialize: bool = False

    def __post_init__(self) -> None:
        require_positive(per_source=self.per_source, limit=self.limit)
        if self.heldout is not None and not 0 < self.heldout < 1:
            raise JigsawError(f"heldout must be a fraction between 0 and 1, not {self.heldout}")

    @classmethod
    def of(cls, task: str, config: Mapping[str, Any] | None = None, **values: Any) -> BuildConfig:
        """The configuration of a build.

        Args:
            task: name or spec of the task.
            config: keys of its configuration that differ from the default, as strings or typed values.
            values: the other fields.

        Raises:
            JigsawError: there is no such task, or a value is not valid.
        """
        try:
            made = get_task(task, **(config or {}))
        except TaskError as error:
            raise JigsawError(str(error)) from error
        return cls(spec=absolute_spec(task), config=config_values(made), **values)

    def make_task(self) -> Task:
        """The task with its configuration."""
        return get_task(self.spec, **self.config)


@dataclass(frozen=True, kw_only=True)
class Settings(BuildConfig):
    """The settings that determine all rows of a set.

    Attributes:
        task: registered name of the task.
        parts: number of Parquet files.
        num_sources: number of sources.
        listing: hash of the names and sizes of the source files, by which a changed folder is noticed.
        imported: format of an import; None for a built set.
    """

    task: str
    parts: int
    num_sources: int
    listing: str
    imported: str | None = None

    @classmethod
    def of_build(cls, build: BuildConfig, **values: Any) -> Settings:
        """The settings of a build; `values` are the further fields, or replace those of the `BuildConfig`."""
        return cls(**({item.name: getattr(build, item.name) for item in fields(BuildConfig)} | values))

    def digest(self) -> str:
        """Hash of all settings, which is stored in each part."""
        return digest_of("settings", json.dumps(asdict(self), sort_keys=True))


def require_positive(**numbers: int | None) -> None:
    """Check that numbers are at least 1 and not larger than JSON or the names of parts allow; None is valid.

    Raises:
        JigsawError: names the number.
    """
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise JigsawError(f"{name} must be at least 1, not {value}")
        most = MOST_PARTS if name == "parts" else MOST
        if value is not None and value > most:
            raise JigsawError(f"{name} must be at most {most}, not {named(value)}")
