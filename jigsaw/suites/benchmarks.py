"""The suites: the benchmarks of the papers' tables, their data sets, and their figures in lmms-eval.

In: the name of a suite. Out: its `Benchmark`s, and their published figures.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from jigsaw.errors import JigsawError

PAPERS = Path(__file__).with_name("papers")


@dataclass(frozen=True)
class Benchmark:
    """One column of a table.

    Attributes:
        name: as the papers print it.
        task: the id of a built-in definition, or files of definitions in lmms-eval's `tasks/`. The figures of several
            files are averaged over rows.
        metric: lmms-eval's name of the figure.
        scale: factor from the figure to percent.
        repo: data set on the hub, for lmms-eval's definitions.
        media: folder of unpacked videos in the data root, if the benchmark needs one.
        part: index of the entry, if the figure is a tuple.
        note: how lmms-eval's protocol differs from the paper's.
    """

    name: str
    task: str
    metric: str = "right"
    scale: float = 100.0
    repo: str = ""
    media: str = ""
    part: int | None = None
    note: str = ""

    @property
    def own(self) -> bool:
        """Whether the definition is built-in."""
        return not self.repo

    @property
    def tasks(self) -> list[str]:
        """The ids or files of its definitions."""
        return self.task.split()


SUITES: Mapping[str, Sequence[Benchmark]] = {
    name: [Benchmark(**entry) for entry in entries]
    for name, entries in yaml.safe_load((PAPERS / "benchmarks.yaml").read_text(encoding="utf-8")).items()
}
"""Suite -> its benchmarks, in the order of the paper's table (`papers/benchmarks.yaml`)."""

FRAMES = (16, 32, 64)
"""Maximum numbers of frames of a clip in the paper's video table. Other suites use 32."""

PUBLISHED: Mapping[str, Sequence[str]] = {
    "image": ("visual-jigsaw-image",),
    "video": ("visual-jigsaw-video", "visual-jigsaw-video-mimo"),
    "depth": ("visual-jigsaw-3d",),
    "neo": ("neo-2B", "neo-8B"),
}
"""Suite -> tables of `papers/published.csv`."""


def suite_of(name: str) -> Sequence[Benchmark]:
    """The benchmarks of a suite.

    Raises:
        JigsawError: there is no such suite.
    """
    if name not in SUITES:
        raise JigsawError(f"suite {name!r} is not one of {', '.join(SUITES)}")
    return SUITES[name]


@dataclass(frozen=True)
class Published:
    """A published figure, in percent."""

    table: str
    model: str
    frames: str
    benchmark: str
    score: float


PUBLISHED_FILE = PAPERS / "published.csv"


def published(tables: Sequence[str]) -> list[Published]:
    """The figures of the papers' tables."""
    with PUBLISHED_FILE.open(encoding="utf-8", newline="") as file:
        rows = [Published(**row | {"score": float(row["score"])}) for row in csv.DictReader(file)]  # type: ignore[arg-type]
    return [row for row in rows if row.table in tables]
