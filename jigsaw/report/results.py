"""The tables of a paper out of the folders of runs and evaluations, and the charts of a report as files.

In: folders that `jigsaw launch`, `eval`, `bench`, `realunify` and `generalize` wrote. Out: `PaperTable`s, one per kind
of folder; SVG files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from jigsaw.errors import JigsawError
from jigsaw.evaluation.generalization import FILE as GENERALIZATION_FILE
from jigsaw.evaluation.generalization import Generalization, generalization_table
from jigsaw.evaluation.log import Figure, from_json
from jigsaw.evaluation.tables import PaperTable, heading, puzzle_table
from jigsaw.files import write_atomically
from jigsaw.realunify.log import REALUNIFY_FILE, realunify_table
from jigsaw.report.charts.curves import compared_charts, progress_chart, run_charts
from jigsaw.report.charts.drawing import Chart, Series, chart
from jigsaw.report.runs import Run, read_runs
from jigsaw.run_folder import RunFolder
from jigsaw.suites.log import SUITE_FILE, read_suite, suite_table


def paper_tables(folders: Sequence[Path]) -> list[PaperTable]:
    """The tables of folders, in the order of their kinds.

    Raises:
        JigsawError: a folder holds nothing that was evaluated.
    """
    runs = read_runs(own) if (own := run_folders(folders)) else []
    for run in runs:
        if run.log is None:
            raise JigsawError(run.notes[0] if run.notes else f"{run.folder} has not been evaluated yet")
    logs = {run.label: (str(RunFolder(run.folder).evaluation), run.log) for run in runs if run.log is not None}
    return [*([puzzle_table(logs)] if logs else []), *other_tables(folders)]


def run_folders(folders: Sequence[Path]) -> list[Path]:
    """The folders among these that hold a run, or an evaluation on puzzles."""
    others = (SUITE_FILE, REALUNIFY_FILE, GENERALIZATION_FILE)
    return [folder for folder in folders if not any((folder / name).is_file() for name in others)]


def other_tables(folders: Sequence[Path]) -> list[PaperTable]:
    """The tables of suites, of RealUnify and of generalisations, also of those within a run folder."""
    by_suite: dict[str, list[Path]] = {}
    for folder in folders:
        if (folder / SUITE_FILE).is_file():
            by_suite.setdefault(read_suite(folder).suite, []).append(folder)
    tables = [realunify_table(folder) for folder in folders if (folder / REALUNIFY_FILE).is_file()]
    tables += [suite_table(name, own) for name, own in by_suite.items()]
    for folder in folders:
        for path in (folder / GENERALIZATION_FILE, folder / "generalization" / GENERALIZATION_FILE):
            if path.is_file():
                report = from_json(Generalization, path, "run `jigsaw generalize` again")
                tables.append(generalization_table(report, path))
    return tables


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
        if (by_run := _by_run(runs, figure)) is not None:
            charts[_slug(by_run.title)] = by_run
    for run in runs:
        prefix = f"{_slug(run.label)}-" if len(runs) > 1 else ""
        own = [progress_chart(run), *run_charts(run, everything=True)]
        charts |= {f"{prefix}{_slug(one.title)}": one for one in own if one is not None}
    if len(runs) > 1:
        charts |= {f"all-{_slug(one.title)}": one for one in compared_charts(runs)}
    if out.exists() and not out.is_dir():
        raise JigsawError(f"--plots: {out} is a file; name a folder")
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, one in charts.items():
        path = out / f"{name}.svg"
        write_atomically(path, one.file)
        written.append(path)
    return written


def _by_run(runs: Sequence[Run], name: str) -> Chart | None:
    """One figure of every model that was evaluated, with its interval, next to chance."""
    series: list[Series] = []
    for label, figure in (pair for run in runs for pair in _models(run, name)):
        mark = (float(len(series) + 1), figure.value, figure.low, figure.high)
        series.append(Series(label, (), len(series), level=figure.chance, marks=[mark]))
    return chart(f"Held-out {heading(name)} by checkpoint", series, axis="checkpoint", share=True)


def _models(run: Run, name: str) -> Iterator[tuple[str, Figure]]:
    """The models of a run by label, with one figure of each."""
    if run.log is not None and name in run.log.main.model.estimates:
        if run.log.main.warmup is not None:
            yield f"{run.label} warm-up", run.log.main.warmup.estimates[name]
        yield f"{run.label} trained" if run.trained else run.label, run.log.main.model.estimates[name]


def _slug(text: str) -> str:
    return "-".join("".join(sign if sign.isalnum() else " " for sign in text.lower()).split()) or "run"
