"""`jigsaw report`: one or several run folders as one HTML page that needs nothing else.

In: folders of runs or evaluations. Out: a page that opens with the result in one sentence, three puzzles before and
after GRPO and one curve; tables, other curves, galleries, the recipe and the origin of every figure are folded below.
It loads nothing (its own content policy forbids it), so it can be mailed, archived and opened without a network.
Whatever comes from data is escaped by the template; only the SVG of `charts`, which holds no data text, goes in as it
is.
"""

from __future__ import annotations

import functools
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
from jigsaw.evaluation.tables import percent
from jigsaw.files import write_whole
from jigsaw.pages import page_environment
from jigsaw.report.charts import Chart
from jigsaw.report.curves import compared_charts, progress_chart, run_charts
from jigsaw.report.details import Details, details_of
from jigsaw.report.facts import facts_of
from jigsaw.report.gallery import Gallery, build_gallery
from jigsaw.report.headline import Headline, headline, headline_so_far, other_headlines
from jigsaw.report.pairs import Pairs, build_pairs
from jigsaw.report.results import other_tables, run_folders
from jigsaw.report.runs import STAGES, Evaluation, Run, read_runs

CARDS = 24
"""Puzzles in the gallery of a run; a page of many runs shows fewer of each."""

GALLERY_BYTES = 2_000_000
"""What the pictures of a whole page may take."""

RELOAD_SECONDS = 30
"""How often the page of a run that is training reloads itself."""

VERSIONS = ("visual-jigsaw", "torch", "transformers", "trl", "datasets")

TITLES = {
    "exact": "Solved puzzles",
    "place_accuracy": "Pieces in place",
    "neighbor_accuracy": "Neighbor accuracy",
    "kendall_tau": "Kendall tau",
    "valid": "Valid permutation",
    "format": "Format",
    "reward": "Reward",
}
MEANINGS = {
    "exact": "puzzles with every piece in the right place",
    "place_accuracy": "pieces put where they belong",
    "neighbor_accuracy": "neighbouring places with true neighbours",
    "kendall_tau": "pairs in the right sequence",
    "valid": "answers that use every piece once",
    "format": "answers in the form asked for",
    "reward": "what GRPO optimises",
}
COMPARED = ("exact", "place_accuracy", "valid", "reward")
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
class Results:
    """The table of figures on one set of held-out puzzles.

    Attributes:
        name: of a further set; "" for the one that the run is judged by.
        headline: of a further set; None for the first, whose headline is at the top of the page.
        top: right end of the scale of its plots.
    """

    name: str
    headline: Headline | None
    evaluation: Evaluation
    lines: Sequence[Line]
    top: float


@dataclass(frozen=True)
class Section:
    """What the page says about one run."""

    run: Run
    key: str
    headline: Headline
    pairs: Pairs
    progress: Chart | None
    facts: Sequence[tuple[str, Sequence[str]]]
    results: Results | None
    others: Sequence[Results]
    stage: str
    details: Details
    charts: Sequence[Chart]
    gallery: Gallery
    traces: Sequence[Trace]

    @property
    def fields(self) -> list[str]:
        """Fields of `metrics.jsonl` that the curves are drawn from."""
        charts = [*([self.progress] if self.progress else []), *self.charts]
        return list(dict.fromkeys(entry.field for chart in charts for entry in chart.legend if entry.field))


@dataclass(frozen=True)
class Trace:
    """One figure of a run's JSON file and its field there; `words` where it has no interval."""

    field: str
    estimate: Estimate | None
    chance: float | None
    words: str = ""


def write_report(runs: Sequence[Path], out: Path, *, training: bool = False) -> None:
    """Write a page about one or several runs, finished or not, with the tables of suites and generalisations.

    Args:
        runs: folders of runs and evaluations, of suites and of generalisations.
        out: the page; written atomically.
        training: the page is that of a run that is training right now: it reloads itself, and shows neither galleries
            nor what only a final evaluation has.

    Raises:
        JigsawError: a folder that is no run.
    """
    own, tables = run_folders(runs), other_tables(runs)
    loaded = read_runs(own) if own or not tables else []
    count = max(1, len(loaded))
    share = min(CARDS, max(6, 2 * CARDS // count))
    budget = GALLERY_BYTES // count
    sections = [_section(run, number, share, budget, training) for number, run in enumerate(loaded)]
    compared = compared_charts(loaded) if len(loaded) > 1 else []
    template = _environment().get_template("page.html.j2")
    page = template.render(
        title=_title(loaded, tables),
        reload=RELOAD_SECONDS if training else 0,
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


def _section(run: Run, number: int, cards: int, budget: int, training: bool) -> Section:
    key = f"r{number}"
    stored = run.stored if run.evaluation is not None else {}
    stage = next((name for name in STAGES if isinstance(stored.get(name), Mapping)), "")
    details = details_of(stored.get(stage) or {} if stage else stored, stage)
    return Section(
        run=run,
        key=key,
        headline=headline(stored) if stored else headline_so_far(run.rows("grpo")),
        pairs=build_pairs(run),
        progress=progress_chart(run, key),
        facts=facts_of(run),
        results=None if run.evaluation is None else _results(run.evaluation),
        others=[
            _results(own, name, other_headlines(stored).get(name))
            for name, own in (run.evaluation.others if run.evaluation else {}).items()
        ],
        stage=stage,
        details=details,
        charts=run_charts(run, key),
        gallery=Gallery((), (), (), {}, {}, "") if training else build_gallery(run, cards, budget),
        traces=[*_traces(stored), *_counts(details)],
    )


def _traces(stored: Mapping[str, Any]) -> list[Trace]:
    """Every figure with an interval of `evaluation.json`: kinds of puzzles, cells, samples and comparisons too."""
    return [
        Trace(field, Estimate(*(float(entry[name]) for name in ("value", "low", "high"))), number(entry.get("chance")))
        for field, entry in walk(stored)
    ]


def _counts(details: Details) -> list[Trace]:
    """What has no interval: how often answers were refused, and which piece went where."""
    counts = [Trace(field, None, None, f"{count:,}") for _, count, field in details.reasons]
    return counts + [Trace(map.field, None, None, f"shares of {map.valid:,} answers") for map in details.maps]


def _results(evaluation: Evaluation, name: str = "", found: Headline | None = None) -> Results:
    lines = _lines(evaluation)
    highest = [estimate.high for line in lines for estimate in (line.after, line.before) if estimate is not None]
    return Results(name, found, evaluation, lines, max([1.0, *highest]))


def _lines(evaluation: Evaluation) -> list[Line]:
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
    return {line.title: line for line in section.results.lines} if section.results else {}


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


@functools.cache  # compiling the template takes longer than filling it
def _environment() -> Environment:
    environment = page_environment(Path(__file__).parent)
    environment.filters.update(number=_number, signed=_signed, short=_short, svg=Markup)
    environment.filters.update(heading=heading, rounded=rounded, percent=percent)
    return environment


def _number(value: float) -> str:
    """Three decimals and a true minus sign, so that columns align and read well."""
    return f"{round(value, 3) + 0.0:.3f}".replace("-", "\N{MINUS SIGN}")


def _signed(value: float) -> str:
    return f"{round(value, 3) + 0.0:+.3f}".replace("-", "\N{MINUS SIGN}")


def _short(value: float) -> str:
    """A figure of any size for a legend."""
    return _number(value) if 0.01 <= abs(value) < 10 else f"{value:.3g}".replace("-", "\N{MINUS SIGN}")
