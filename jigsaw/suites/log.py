"""The log of a suite, `suite.json`, and the table of its results next to other models and published figures.

In: folders with a `SuiteLog`. Out: one table in percent, with a row per model and number of frames.
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
        key: start of its file names.
        names: of the definitions that lmms-eval runs, one for each of `benchmark.tasks`.
        folder: of the data set of the hub; None for a built-in definition.
        rows: of a built-in definition, from `loading`.
        frames: maximum numbers of frames of a clip, with one run for each; None for a benchmark without clips.
    """

    benchmark: Benchmark
    key: str
    names: list[str]
    folder: str | None
    rows: list[dict[str, Any]]
    frames: list[int | None]

    def runs(self) -> dict[str, int | None]:
        """The file name of each run, with its maximum number of frames."""
        return {self.key if frames is None else f"{self.key}-{frames}": frames for frames in self.frames}


@dataclass(frozen=True, kw_only=True)
class Plan(Stored):
    """The content of `plan.json`: the jobs of the harness and all settings.

    Attributes:
        model: arguments of `suites.model.Checkpoint`; `pretrained` is the name that the user gave.
        model_stamp: hash of the state of the checkpoint's files.
        boxes: unit of the coordinates that the model writes.
        limit: maximum number of rows of each benchmark; None for all.
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
        note: how the protocol differs from the paper's.
        frames: maximum number of frames of a clip, for benchmarks with clips.
        value, low, high: the figure by the paper's rule, and its 95% interval if it is known; None if the benchmark
            failed.
        flexible: the figure with flexible answer extraction, for built-in definitions.
        rows: number of rows.
        categories: percentage of right rows per category, for built-in definitions.
        failed: why there is no figure.
    """

    benchmark: str
    metric: str
    note: str = ""
    frames: int | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    flexible: float | None = None
    rows: int | None = None
    categories: dict[str, float] = field(default_factory=dict)
    seconds: float | None = None
    failed: str | None = None


@dataclass(frozen=True, kw_only=True)
class SuiteLog(Log):
    """The content of `suite.json`.

    Attributes:
        model: checkpoint folder or hub id.
        settings: what the results depend on.
        benchmarks: key of the run -> result.
        missing: benchmark -> why it cannot run.
    """

    suite: str
    model: str
    settings: dict[str, Any]
    benchmarks: dict[str, Result]
    missing: dict[str, str]

    def __post_init__(self) -> None:
        if self.suite not in SUITES:
            raise ValueError(f"suite {self.suite!r} is not one of {', '.join(SUITES)}")


def read_suite(folder: Path) -> SuiteLog:
    """The log of a folder.

    Raises:
        JigsawError: the log is missing, broken, or of another version.
    """
    return from_json(SuiteLog, folder / SUITE_FILE, "name a folder that `jigsaw bench` wrote, or run it again")


def suite_table(suite: str, folders: Sequence[Path]) -> PaperTable:
    """A table of the runs of a suite, in the order of the folders, and of the published figures."""
    names = [benchmark.name for benchmark in SUITES[suite]]
    rows = [row for folder in folders for row in _rows(folder)]
    rows += published_rows(PUBLISHED[suite])
    return PaperTable(f"Suite {suite}, percent, 95% intervals", names, rows, digits=2)


def _rows(folder: Path) -> list[Row]:
    log = read_suite(folder)
    results = log.benchmarks.values()
    all_frames: list[int | None] = [*sorted({result.frames for result in results if result.frames})] or [None]
    rows = []
    for frames in all_frames:
        cells = {
            result.benchmark: Cell(result.value, result.low, result.high)
            for result in results
            if result.frames in (None, frames) and result.value is not None
        }
        name = log.model if len(all_frames) == 1 else f"{log.model}, {frames} frames"
        rows.append(Row(name, cells, str(folder / SUITE_FILE), log.command))
    return rows


def published_rows(tables: Sequence[str]) -> list[Row]:
    """The published figures, a row per model and number of frames."""
    rows: dict[str, dict[str, Cell]] = {}
    for figure in published(tables):
        frames = f", {figure.frames} frames" if figure.frames else ""
        label = f"{figure.model}{frames} ({figure.table.removeprefix('visual-jigsaw-')}, published)"
        rows.setdefault(label, {})[figure.benchmark] = Cell(figure.score)
    return [Row(label, cells, PUBLISHED_FILE.name) for label, cells in rows.items()]
