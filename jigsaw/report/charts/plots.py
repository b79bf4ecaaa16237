"""Plots: every chart of a report as an SVG file, for `jigsaw report --plots`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from jigsaw.errors import JigsawError
from jigsaw.evaluation.log import Figure
from jigsaw.files import write_atomically
from jigsaw.report.charts.curves import compared_charts, progress_chart, run_charts
from jigsaw.report.charts.drawing import Chart, Series, chart
from jigsaw.report.runs import Run, read_runs
from jigsaw.report.tables import run_folders
from jigsaw.results.formatting import heading


def write_plots(folders: Sequence[Path], out: Path) -> list[Path]:
    """Write each chart of the report to an SVG file with a light background and a legend.

    Returns:
        The files; empty if no run has curves.

    Raises:
        JigsawError: a folder is not a run, or `out` is a file.
    """
    runs = read_runs(run_folders(folders))
    charts: dict[str, Chart] = {}
    for figure in ("place_accuracy", "exact"):
        if (by_run := _by_run(runs, figure)) is not None:
            charts[_slug(by_run.title)] = by_run
    for run in runs:
        prefix = f"{_slug(run.label)}-" if len(runs) > 1 else ""
        of_run = [progress_chart(run), *run_charts(run, everything=True)]
        charts |= {f"{prefix}{_slug(one.title)}": one for one in of_run if one is not None}
    if len(runs) > 1:
        charts |= {f"all-{_slug(one.title)}": one for one in compared_charts(runs)}
    if out.exists() and not out.is_dir():
        raise JigsawError(f"--plots: {out} is a file; name a folder")
    out.mkdir(parents=True, exist_ok=True)
    files = []
    for name, one in charts.items():
        path = out / f"{name}.svg"
        write_atomically(path, one.file)
        files.append(path)
    return files


def _by_run(runs: Sequence[Run], name: str) -> Chart | None:
    """One figure of each evaluated model, with its interval and chance level."""
    series: list[Series] = []
    for label, figure in (pair for run in runs for pair in _models(run, name)):
        series.append(Series(label, (), len(series), level=figure.chance, marks=[(len(series) + 1.0, figure)]))
    return chart(f"Held-out {heading(name)} by checkpoint", series, axis="checkpoint", share=True)


def _models(run: Run, name: str) -> Iterator[tuple[str, Figure]]:
    """The models of a run by label, with one figure each."""
    if run.log is not None and name in run.log.main.model.estimates:
        if run.log.main.warmup is not None:
            yield f"{run.label} warm-up", run.log.main.warmup.estimates[name]
        yield f"{run.label} trained" if run.trained else run.label, run.log.main.model.estimates[name]


def _slug(text: str) -> str:
    return "-".join("".join(sign if sign.isalnum() else " " for sign in text.lower()).split()) or "run"
