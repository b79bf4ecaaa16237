"""`jigsaw report`: one or several run folders as one HTML page that needs nothing else.

In: folders of runs or evaluations. Out: a page with the figures, curves, galleries of held-out puzzles and the recipe.
It loads nothing (its own content policy forbids it), so it can be mailed, archived and opened without a network.
Whatever comes from data is escaped by the template; only the SVG of `charts`, which holds no data text, goes in as it
is.
"""

from __future__ import annotations

import json
import platform
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from jigsaw.evaluation.intervals import Estimate
from jigsaw.evaluation.paper import PaperTable, origins, rounded, walk
from jigsaw.evaluation.predictions import number
from jigsaw.evaluation.summary import heading
from jigsaw.files import write_whole
from jigsaw.pages import page_environment
from jigsaw.report.charts import Chart
from jigsaw.report.curves import compared_charts, run_charts
from jigsaw.report.details import Details, details_of
from jigsaw.report.facts import facts_of, verdict_of
from jigsaw.report.gallery import Gallery, build_gallery
from jigsaw.report.results import other_tables, run_folders
from jigsaw.report.runs import STAGES, Run, read_runs

CARDS = 24
"""Puzzles in the gallery of a run; a page of many runs shows fewer of each."""

GALLERY_BYTES = 2_000_000
"""What the pictures of a whole page may take."""

VERSIONS = ("visual-jigsaw", "torch", "transformers", "trl", "datasets")

TITLES = {
    "place_accuracy": "Place accuracy",
    "exact": "Exact",
    "neighbor_accuracy": "Neighbor accuracy",
    "kendall_tau": "Kendall tau",
    "valid": "Valid permutation",
    "format": "Format",
    "reward": "Reward",
}
MEANINGS = {
    "place_accuracy": "pieces put where they belong",
    "exact": "puzzles with every piece right",
    "neighbor_accuracy": "neighbouring places with true neighbours",
    "kendall_tau": "pairs in the right sequence",
    "valid": "answers that use every piece once",
    "format": "answers in the form asked for",
    "reward": "what GRPO optimises",
}
COMPARED = ("place_accuracy", "exact", "valid", "reward")
"""Figures of the table in which runs are the lines."""


@dataclass(frozen=True)
class Line:
    """One figure of a run, or of one run among several: a line of a table."""

    name: str
    title: str
    meaning: str
    after: Estimate | None
    before: Estimate | None
    chance: float | None
    gain: Estimate | None


@dataclass(frozen=True)
class Section:
    """What the page says about one run."""

    run: Run
    key: str
    verdict: str
    facts: Sequence[tuple[str, str]]
    lines: Sequence[Line]
    top: float
    stage: str
    details: Details
    charts: Sequence[Chart]
    gallery: Gallery
    traces: Sequence[Trace]


@dataclass(frozen=True)
class Trace:
    """One figure of a run's JSON file and where in it it stands."""

    field: str
    estimate: Estimate
    chance: float | None


def write_report(runs: Sequence[Path], out: Path, *, training: bool = False) -> None:
    """Write a page about one or several runs, finished or not, with the tables of suites and generalisations.

    Args:
        runs: folders of runs and evaluations, of suites and of generalisations.
        out: the page; written under another name and renamed when whole.

    Raises:
        JigsawError: a folder that is no run.
    """
    own, tables = run_folders(runs), other_tables(runs)
    loaded = read_runs(own) if own or not tables else []
    count = max(1, len(loaded))
    share = min(CARDS, max(6, 2 * CARDS // count))
    sections = [_section(run, number, share, GALLERY_BYTES // count) for number, run in enumerate(loaded)]
    compared = compared_charts(loaded) if len(loaded) > 1 else []
    template = _environment().get_template("page.html.j2")
    page = template.render(
        title=_title(loaded, tables),
        tables=[(table, list(origins(table, "{}"))) for table in tables],
        sections=sections,
        compared=compared,
        titles={name: TITLES[name] for name in COMPARED},
        comparison=[_comparison_line(section) for section in sections],
        same_puzzles=_same_puzzles(loaded),
        command=shlex.join(["jigsaw", "report", *(str(folder) for folder in runs)]),
        versions=_versions(),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, page.lstrip())


def _title(runs: Sequence[Run], tables: Sequence[PaperTable]) -> str:
    if not runs:
        return tables[0].caption if len(tables) == 1 else f"{len(tables)} tables"
    return runs[0].label if len(runs) == 1 else f"{len(runs)} runs compared"


def _section(run: Run, number: int, cards: int, budget: int) -> Section:
    lines = _lines(run)
    highest = [estimate.high for line in lines for estimate in (line.after, line.before) if estimate is not None]
    key = f"r{number}"
    stored = _stored(run)
    stage = next((name for name in STAGES if isinstance(stored.get(name), Mapping)), "")
    return Section(
        run=run,
        key=key,
        verdict=verdict_of(run),
        facts=facts_of(run),
        lines=lines,
        top=max([1.0, *highest]),
        stage=stage,
        details=details_of(stored.get(stage) or {} if stage else stored, stage),
        charts=run_charts(run, key),
        gallery=build_gallery(run, cards, budget),
        traces=_traces(stored),
    )


def _stored(run: Run) -> Mapping[str, Any]:
    """`evaluation.json`, where it holds figures."""
    if run.evaluation is None:
        return {}
    stored: Mapping[str, Any] = json.loads((run.folder / "evaluation.json").read_text(encoding="utf-8"))
    return stored


def _traces(stored: Mapping[str, Any]) -> list[Trace]:
    """Every figure with an interval of `evaluation.json`: kinds of puzzles, cells, samples and comparisons too."""
    return [
        Trace(field, Estimate(*(float(entry[name]) for name in ("value", "low", "high"))), number(entry.get("chance")))
        for field, entry in walk(stored)
    ]


def _lines(run: Run) -> list[Line]:
    evaluation = run.evaluation
    if evaluation is None:
        return []
    after, before = evaluation.figures.get("heldout", {}), evaluation.figures.get("warmup", {})
    lines = []
    for name, title in TITLES.items():
        last, first = after.get(name), before.get(name)
        known = last or first
        if known is not None:
            lines.append(
                Line(
                    name=name,
                    title=title,
                    meaning=MEANINGS[name],
                    after=last.estimate if last else None,
                    before=first.estimate if first else None,
                    chance=known.chance,
                    gain=evaluation.gain.get(name),
                )
            )
    return lines


def _comparison_line(section: Section) -> Mapping[str, Line]:
    """A run's figures by title, for the table in which runs are the lines."""
    return {line.title: line for line in section.lines}


def _same_puzzles(runs: Sequence[Run]) -> bool:
    """Whether the runs were evaluated on the same puzzles, as far as their predictions tell."""
    sets = [frozenset(item.id for item in run.predictions) for run in runs if run.predictions]
    return len(set(sets)) <= 1


def _versions() -> list[str]:
    found = []
    for name in VERSIONS:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return [*found, f"Python {platform.python_version()}"]


def _environment() -> Environment:
    environment = page_environment(Path(__file__).parent)
    environment.filters.update(number=_number, signed=_signed, short=_short, svg=Markup)
    environment.filters.update(heading=heading, rounded=rounded)
    return environment


def _number(value: float) -> str:
    """Three decimals and a true minus sign, so that columns align and read well."""
    return f"{round(value, 3) + 0.0:.3f}".replace("-", "\N{MINUS SIGN}")


def _signed(value: float) -> str:
    return f"{round(value, 3) + 0.0:+.3f}".replace("-", "\N{MINUS SIGN}")


def _short(value: float) -> str:
    """A figure of any size for a legend."""
    return _number(value) if 0.01 <= abs(value) < 10 else f"{value:.3g}".replace("-", "\N{MINUS SIGN}")
