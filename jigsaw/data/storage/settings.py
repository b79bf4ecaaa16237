"""What a build is asked for, from the recipe or the command line to the manifest.

In: a task, its configuration and a few numbers. Out: a frozen `BuildConfig`, which checks itself; `Settings` adds what
the sources decide. Equal settings give equal rows.
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
"""Parts have numbers of five digits."""

MOST = 2**53
"""The largest number of anything, as JSON has it."""


@dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """What decides which puzzles a source gives.

    Attributes:
        spec: where the task is found: its name, or a plug-in's `module:Name` or `file.py:Name`.
        config: the task's whole configuration, as JSON values.
        per_source: puzzles from each source, all different.
        limit: most sources to use, a sample that is the same on every machine.
        seed: another seed gives other puzzles.
        split: `train`, `heldout`, or None for all sources.
        heldout: fraction of the contents that is held out; None where folders decide.
        materialize: store rendered media too.
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
        """The configuration of a build by that task.

        Args:
            task: a task's name or spec.
            config: the keys of its configuration that are not at their default, strings or typed values.
            values: the other fields.

        Raises:
            JigsawError: there is no such task, or a value that cannot be.
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
    """All that decides which rows a data set has.

    Attributes:
        task: the task's registered name.
        parts: number of Parquet files.
        num_sources: how many sources there are.
        listing: hash of the names and sizes of the source files, so that a changed folder is noticed.
        imported: the foreign format that the puzzles were read from; None when they were planned here.
    """

    task: str
    parts: int
    num_sources: int
    listing: str
    imported: str | None = None

    @classmethod
    def of_build(cls, build: BuildConfig, **values: Any) -> Settings:
        """The settings of a build; `values` are the fields beyond its configuration's, or in their place."""
        return cls(**({item.name: getattr(build, item.name) for item in fields(BuildConfig)} | values))

    def digest(self) -> str:
        """One hash of all settings, kept in every part."""
        return digest_of("settings", json.dumps(asdict(self), sort_keys=True))


def require_positive(**numbers: int | None) -> None:
    """Refuse a number below 1 or beyond what JSON and the names of parts hold; None is not asked for.

    Raises:
        JigsawError: naming it.
    """
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise JigsawError(f"{name} must be at least 1, not {value}")
        most = MOST_PARTS if name == "parts" else MOST
        if value is not None and value > most:
            raise JigsawError(f"{name} must be at most {most}, not {named(value)}")
