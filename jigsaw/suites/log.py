"""The log of a suite, `suite.json`, and its results side by side: this model, the base model, and published figures.

In: folders with a `SuiteLog`. Out: one table in percent; a row per model and number of frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jigsaw.results.log_file import Log, Stored, from_json
from jigsaw.results.tables import Cell, PaperTable, Row
from jigsaw.suites.benchmarks import PUBLISHED, PUBLISHED_FILE, SUITES, Benchmark, published

SUITE_FILE, PLAN_FILE = "suite.json", "plan.json"


@dataclass(frozen=True, kw_only=True)
class Job(Stored):
    """One benchmark of a plan.

    Attributes:
        benchmark: its column of the suite.
        key: beginning of the names of its files.
        names: of the definitions that lmms-eval runs, one for each of `benchmark.tasks`.
        folder: of the hub's data set; None for our own definitions.
        rows: of our own definitions, as `loading` gives them.
        frames: most frames of a clip, one run each; None stands for a run of a benchmark without clips.
    """

    benchmark: Benchmark
    key: str
    names: list[str]
    folder: str | None
    rows: list[dict[str, Any]]
    frames: list[int | None]

    def runs(self) -> dict[str, int | None]:
        """Name of each run's files -> most frames of a clip."""
        return {self.key if frames is None else f"{self.key}-{frames}": frames for frames in self.frames}


@dataclass(frozen=True, kw_only=True)
class Plan(Stored):
    """What `plan.json` holds: what the harness runs, with every setting.

    Attributes:
        model: arguments of `suites.model.Checkpoint`; `pretrained` as the user named it.
        model_stamp: of the checkpoint's files.
        boxes: unit of the coordinates that the model writes.
        limit: most rows of each benchmark; None for all.
        checkpoint: folder of the model.
    """

    model: dict[str, Any]
    model_stamp: str | None
    boxes: str
    limit: int | None
    checkpoint: str
    jobs: list[Job]


@dataclass(frozen=True, kw_only=True)
class Result(Stored):
    """The figure of one benchmark, in percent.

    Attributes:
        benchmark: its name.
        metric: lmms-eval's name of the figure.
        note: where the protocol is not the paper's.
        frames: most frames of a clip, for benchmarks with clips.
        value, low, high: by the paper's rule, with its 95% interval if one is known; None if the benchmark failed.
        careful: read as a person would, for our own definitions.
        rows: that were asked.
        categories: share of right rows of each, for our own definitions.
        failed: why there is no figure.
    """

    benchmark: str
    metric: str
    note: str = ""
    frames: int | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    careful: float | None = None
    rows: int | None = None
    categories: dict[str, float] = field(default_factory=dict)
    seconds: float | None = None
    failed: str | None = None


@dataclass(frozen=True, kw_only=True)
class SuiteLog(Log):
    """What `suite.json` holds.

    Attributes:
        model: checkpoint folder or hub id.
        settings: what the results depend on.
        benchmarks: key, with the number of frames for clips -> result.
        missing: benchmark -> why it could not run.
    """

    suite: str
    model: str
    settings: dict[str, Any]
    benchmarks: dict[str, Result]
    missing: dict[str, str]

    def __post_init__(self) -> None:
        if self.suite not in SUITES:
            raise ValueError(f"suite {self.suite!r} is none of {', '.join(SUITES)}")


def read_suite(folder: Path) -> SuiteLog:
    """The log of a folder.

    Raises:
        JigsawError: it is missing, broken, or of another version.
    """
    return from_json(SuiteLog, folder / SUITE_FILE, "name a folder that `jigsaw bench` wrote, or run it again")


def suite_table(suite: str, folders: Sequence[Path]) -> PaperTable:
    """Runs of a suite in the order given, below them the published figures."""
    names = [benchmark.name for benchmark in SUITES[suite]]
    rows = [row for folder in folders for row in _rows(folder)]
    rows += published_rows(PUBLISHED[suite])
    return PaperTable(f"Suite {suite}, percent, 95% intervals", names, rows, digits=2)


def _rows(folder: Path) -> list[Row]:
    log = read_suite(folder)
    results = log.benchmarks.values()
    widths: list[int | None] = [*sorted({found.frames for found in results if found.frames})] or [None]
    rows = []
    for width in widths:
        cells = {
            found.benchmark: Cell(found.value, found.low, found.high)
            for found in results
            if found.frames in (None, width) and found.value is not None
        }
        name = log.model if len(widths) == 1 else f"{log.model}, {width} frames"
        rows.append(Row(name, cells, str(folder / SUITE_FILE), log.command))
    return rows


def published_rows(tables: Sequence[str]) -> list[Row]:
    """The figures that papers print, a row per model and number of frames."""
    rows: dict[str, dict[str, Cell]] = {}
    for found in published(tables):
        frames = f", {found.frames} frames" if found.frames else ""
        label = f"{found.model}{frames} ({found.table.removeprefix('visual-jigsaw-')}, published)"
        rows.setdefault(label, {})[found.benchmark] = Cell(found.score)
    return [Row(label, cells, PUBLISHED_FILE.name) for label, cells in rows.items()]
