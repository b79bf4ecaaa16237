"""The table of a paper out of the folders of runs and evaluations, and its plots as files.

In: folders that `jigsaw launch`, `jigsaw eval` and `jigsaw generalize` wrote. Out: `PaperTable`s, one per kind of
folder: figures on puzzles, one row per checkpoint and kind of puzzle, with the levels of chance; figures of benchmark
suites; what carries over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jigsaw.errors import JigsawError
from jigsaw.evaluation.generalization import FILE as GENERALIZATION_FILE
from jigsaw.evaluation.generalization import generalization_table
from jigsaw.evaluation.paper import Cell, Origin, PaperTable, Row, cell_of
from jigsaw.evaluation.predictions import number
from jigsaw.evaluation.summary import FIGURES, heading
from jigsaw.evaluation.tables import kind_of
from jigsaw.files import write_whole
from jigsaw.realunify.evaluate import REALUNIFY_FILE, realunify_table
from jigsaw.report.charts import Chart, Series, as_file, draw_chart
from jigsaw.report.curves import compared_charts, progress_chart, run_charts
from jigsaw.report.runs import Run, read_runs
from jigsaw.run_folder import RunFolder
from jigsaw.suites.tables import SUITE_FILE, read_suite, suite_table

STAGE_NAMES = {"warmup": "warm-up", "heldout": "trained", "": ""}


def paper_tables(folders: Sequence[Path]) -> list[PaperTable]:
    """The tables of folders, in the order of their kinds.

    Raises:
        JigsawError: a folder holds nothing that was evaluated.
    """
    runs = run_folders(folders)
    return [*([puzzle_table(read_runs(runs))] if runs else []), *other_tables(folders)]


def run_folders(folders: Sequence[Path]) -> list[Path]:
    """The folders among these that hold a run, or an evaluation on puzzles."""
    others = (SUITE_FILE, REALUNIFY_FILE, GENERALIZATION_FILE)
    return [folder for folder in folders if not any((folder / name).is_file() for name in others)]


def other_tables(folders: Sequence[Path]) -> list[PaperTable]:
    """The tables of suites, of RealUnify and of generalisations, also of those within a run folder."""
    by_suite: dict[str, list[Path]] = {}
    for folder in folders:
        if (folder / SUITE_FILE).is_file():
            by_suite.setdefault(read_suite(folder)["suite"], []).append(folder)
    tables = [realunify_table(folder) for folder in folders if (folder / REALUNIFY_FILE).is_file()]
    tables += [suite_table(name, own) for name, own in by_suite.items()]
    for folder in folders:
        for path in (folder / GENERALIZATION_FILE, folder / "generalization" / GENERALIZATION_FILE):
            if path.is_file():
                tables.append(generalization_table(read_json(path)))
    return tables


def puzzle_table(runs: Sequence[Run]) -> PaperTable:
    """Figures on held-out puzzles: a row per checkpoint, and per kind of puzzle where there are several."""
    rows: list[Row] = []
    levels: dict[tuple[float | None, ...], Row] = {}
    for run in runs:
        path = RunFolder(run.folder).evaluation
        stored = read_json(path)
        stages = [stage for stage in ("warmup", "heldout") if isinstance(stored.get(stage), Mapping)] or [""]
        for stage in stages:
            figures = stored[stage] if stage else stored
            name = " ".join(filter(None, (run.label, STAGE_NAMES[stage])))
            rows.append(_row(name, figures, path, stage, run.command))
            groups = figures.get("groups") or ()
            if len({(group["task"], group["num_pieces"]) for group in groups}) > 1:
                prefix = f"{stage}." if stage else ""
                rows += [
                    _row(f"{name}: {kind_of(group)}", group, path, f"{prefix}groups[{at}]", run.command)
                    for at, group in enumerate(groups)
                    if group["difficulty"] is None
                ]
            known = (number(figures[figure].get("chance")) for figure in FIGURES if figure in figures)
            level = tuple(None if chance is None else round(chance, 9) for chance in known)  # sums in another order
            if level not in levels:
                levels[level] = _row("chance", figures, path, stage, run.command, chance=True)
    return PaperTable("Held-out puzzles, 95% intervals", FIGURES, [*levels.values(), *rows])


def _row(name: str, figures: Mapping[str, Any], path: Path, field: str, command: str, *, chance: bool = False) -> Row:
    cells: dict[str, Cell] = {}
    for figure in FIGURES:
        at = ".".join(filter(None, (field, figure)))
        stored = figures.get(figure)
        if chance:
            level = number(stored.get("chance")) if isinstance(stored, Mapping) else None
            if level is not None:
                cells[figure] = Cell(level, None, None, Origin(str(path), f"{at}.chance", command))
        elif cell := cell_of(stored, Origin(str(path), at, command)):
            cells[figure] = cell
    return Row(name, cells)


def read_json(path: Path) -> Mapping[str, Any]:
    """The object in a file of figures.

    Raises:
        JigsawError: it cannot be read, or holds something else.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise JigsawError(f"{path} cannot be read ({type(error).__name__}): has this run been evaluated?") from error
    if not isinstance(stored, Mapping):
        raise JigsawError(f"{path} holds no figures: evaluate again")
    return stored


def write_plots(folders: Sequence[Path], out: Path) -> list[Path]:
    """Every chart of the report as an SVG file of its own, light background, legend inside.

    Returns:
        The files; none where no run has curves.

    Raises:
        JigsawError: a folder is no run, or `out` cannot be a folder.
    """
    runs = read_runs(run_folders(folders))
    charts: dict[str, Chart] = {}
    for figure in ("place_accuracy", "exact"):
        if (chart := _by_run(runs, figure)) is not None:
            charts[_slug(chart.title)] = chart
    for at, run in enumerate(runs):
        prefix = f"{_slug(run.label)}-" if len(runs) > 1 else ""
        own = [progress_chart(run, f"r{at}"), *run_charts(run, f"r{at}", everything=True)]
        charts |= {f"{prefix}{_slug(chart.title)}": chart for chart in own if chart is not None}
    if len(runs) > 1:
        charts |= {f"all-{_slug(chart.title)}": chart for chart in compared_charts(runs)}
    if out.exists() and not out.is_dir():
        raise JigsawError(f"--plots: {out} is a file; name a folder")
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, chart in charts.items():
        path = out / f"{name}.svg"
        write_whole(path, as_file(chart))
        written.append(path)
    return written


def _by_run(runs: Sequence[Run], figure: str) -> Chart | None:
    """One figure of every checkpoint that was evaluated, with its interval, beside chance."""
    series: list[Series] = []
    for run in runs:
        for stage, figures in run.evaluation.figures.items() if run.evaluation else ():
            if figure in figures:
                estimate, at = figures[figure].estimate, len(series)
                label = " ".join(filter(None, (run.label, STAGE_NAMES[stage] if run.trained else "")))
                mark = (float(at + 1), estimate.value, estimate.low, estimate.high)
                series.append(Series(label, (), at, level=figures[figure].chance, marks=[mark]))
    return draw_chart(
        f"Held-out {heading(figure)} by checkpoint", series, name=f"by-{figure}", axis="checkpoint", share=True
    )


def _slug(text: str) -> str:
    return "-".join("".join(sign if sign.isalnum() else " " for sign in text.lower()).split()) or "run"
