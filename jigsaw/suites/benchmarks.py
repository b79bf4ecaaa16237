"""The suites: which benchmarks a table of the papers has, where their data are, and which figure of lmms-eval is meant.

In: the name of a suite. Out: `Benchmark`s, and what was published of them.
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
        task: the id of our own definition, or the file of one below lmms-eval's `tasks/`; several are averaged by rows.
        metric: lmms-eval's name of the figure.
        scale: what brings it to percent.
        repo: the hub's data set, for lmms-eval's definitions.
        media: a folder of unpacked videos below the data root, if they need one.
        part: which entry, where the figure is a tuple.
        note: where lmms-eval's protocol is not the paper's.
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
        """Whether the definition is ours."""
        return not self.repo

    @property
    def tasks(self) -> list[str]:
        """The definitions behind it."""
        return self.task.split()


SUITES: Mapping[str, Sequence[Benchmark]] = {
    name: [Benchmark(**entry) for entry in entries]
    for name, entries in yaml.safe_load((PAPERS / "benchmarks.yaml").read_text(encoding="utf-8")).items()
}
"""Suite -> its benchmarks, in the order of the paper's table (`papers/benchmarks.yaml`)."""

FRAMES = (16, 32, 64)
"""Most frames of a clip in the paper's video table; other suites take 32."""

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
        raise JigsawError(f"suite {name!r} is none of {', '.join(SUITES)}")
    return SUITES[name]


@dataclass(frozen=True)
class Published:
    """A figure that somebody printed, in percent."""

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
