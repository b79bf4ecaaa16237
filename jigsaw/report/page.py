"""`jigsaw report`: one or several run folders as one HTML page that needs nothing else.

In: folders of runs or evaluations. Out: a page that opens with the result in one sentence, three puzzles before and
after GRPO and one curve; tables, other curves, galleries and the recipe are folded below. It loads nothing (its own
content policy forbids it), so it can be mailed, archived and opened without a network. Whatever comes from data is
escaped by the template; charts and pictures are images.
"""

from __future__ import annotations

import functools
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment

from jigsaw.evaluation.log import Change, Figure, SetLog
from jigsaw.files import write_atomically
from jigsaw.pages import page_environment
from jigsaw.report.browser import MOST, SLOTS, Browser, build_browser
from jigsaw.report.charts.curves import compared_charts, progress_chart, run_charts
from jigsaw.report.charts.drawing import Chart
from jigsaw.report.facts import facts_of
from jigsaw.report.gallery import MARKS, REASONS, WORDS, Gallery, build_gallery
from jigsaw.report.headline import Headline, headline, headline_so_far
from jigsaw.report.runs import Run, read_runs
from jigsaw.report.tables import other_tables, run_folders
from jigsaw.results.formatting import heading, percent
from jigsaw.results.log_file import versions
from jigsaw.results.tables import PaperTable, cell_text

CARDS = 24
"""Puzzles in the gallery of a run; a page of many runs shows fewer of each."""

RELOAD_SECONDS = 30
"""How often the page of a run that is training reloads itself."""

LARGEST_MAP = 16
"""Pieces up to which a confusion of places is shown; beyond, its cells are too small to be read."""

TITLES = {
    "exact": "Solved puzzles",
    "place_accuracy": "Pieces in place",
    "neighbor_accuracy": "Neighbor accuracy",
    "kendall_tau": "Kendall tau",
    "valid": "Valid answer",
    "format": "Format",
    "reward": "Reward",
}
MEANINGS = {
    "exact": "right answers; of orders, every piece in the right place",
    "place_accuracy": "pieces put where they belong",
    "neighbor_accuracy": "neighbouring places with true neighbours",
    "kendall_tau": "pairs in the right sequence",
    "valid": "answers of the kind asked for; of orders, every piece once",
    "format": "answers in the form asked for",
    "reward": "what GRPO optimises",
}
WIDEST_TABLE = 7
"""Columns of a paper's table that fit on a page."""

COMPARED = ("exact", "place_accuracy", "valid", "reward")
"""Figures of the table in which runs are the lines."""


@dataclass(frozen=True)
class Line:
    """One figure of a run: a line of a table."""

    title: str
    meaning: str
    after: Figure
    before: Figure | None
    change: Change | None


@dataclass(frozen=True)
class Results:
    """The figures on one set of held-out puzzles.

    Attributes:
        log: of the set.
        top: right end of the scale of its plots.
    """

    log: SetLog
    headline: Headline
    lines: Sequence[Line]
    top: float


@dataclass(frozen=True)
class Section:
    """What the page says about one run; `results` has one entry per held-out set that was evaluated."""

    run: Run
    key: str
    headline: Headline
    progress: Chart | None
    facts: Sequence[tuple[str, Sequence[str]]]
    results: Sequence[Results]
    charts: Sequence[Chart]
    gallery: Gallery
    browser: Browser

    @property
    def line_of(self) -> Mapping[str, Line]:
        """The main figures by title, for the table in which runs are the lines."""
        return {line.title: line for line in self.results[0].lines} if self.results else {}


def write_report(runs: Sequence[Path], out: Path, *, training: bool = False, tasks: Sequence[str] = ()) -> None:
    """Write a page about one or several runs, finished or not, with the tables of suites and generalisations.

    Args:
        runs: folders of runs and evaluations, of suites and of generalisations.
        out: the page; written atomically.
        training: the page is that of a run that is training right now: it reloads itself, and shows neither galleries
            nor what only a final evaluation has.
        tasks: specs of the plug-ins that built the held-out puzzles. Code that a puzzle set names by file or module
            is run only when it is named here too; without it the page has no pictures of those puzzles.

    Raises:
        JigsawError: a folder that is no run, one that another version evaluated, or a task that is not found.
    """
    own, tables = run_folders(runs), other_tables(runs)
    loaded = read_runs(own) if own or not tables else []
    cards = 0 if training else min(CARDS, max(6, 2 * CARDS // max(1, len(loaded))))
    completions = MOST // max(1, len(loaded))
    sections = [_section(run, number, cards, completions, tasks) for number, run in enumerate(loaded)]
    page = (
        _environment()
        .get_template("page.html.j2")
        .render(
            title=_title(loaded, tables),
            reload=RELOAD_SECONDS if training else 0,
            tables=tables,
            sections=sections,
            compared=compared_charts(loaded) if len(loaded) > 1 else [],
            titles=[TITLES[name] for name in COMPARED],
            solved=TITLES["exact"],
            same_puzzles=_same_puzzles(loaded),
            reasons=REASONS,
            marks=MARKS,
            words=WORDS,
            largest=LARGEST_MAP,
            widest=WIDEST_TABLE,
            slots=list(range(SLOTS)),
            command=shlex.join(["jigsaw", "report", *(str(folder) for folder in runs)]),
            versions=[f"{name} {version}" for name, version in versions().items()],
        )
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, page.lstrip())


def _title(runs: Sequence[Run], tables: Sequence[PaperTable]) -> str:
    if not runs:
        return tables[0].caption if len(tables) == 1 else f"{len(tables)} tables"
    return runs[0].label if len(runs) == 1 else f"{len(runs)} runs compared"


def _section(run: Run, number: int, cards: int, completions: int, tasks: Sequence[str]) -> Section:
    results = [_results(one) for one in run.log.sets] if run.log else []
    return Section(
        run=run,
        key=f"r{number}",
        headline=results[0].headline if results else headline_so_far(run.rows("grpo")),
        progress=progress_chart(run),
        facts=facts_of(run),
        results=results,
        charts=run_charts(run),
        gallery=build_gallery(run, cards, tasks),
        browser=build_browser(run, completions),
    )


def _results(one: SetLog) -> Results:
    before = one.warmup.estimates if one.warmup else {}
    changes = one.compared.changes if one.warmup and one.compared else {}
    lines = [
        Line(
            title=TITLES.get(name, heading(name)),
            meaning=MEANINGS.get(name, "mean of this reward, before its weight"),
            after=figure,
            before=before.get(name),
            change=changes.get(name),
        )
        for name, figure in one.model.estimates.items()
    ]
    highest = [figure.high for line in lines for figure in (line.after, line.before) if figure is not None]
    return Results(one, headline(one), lines, max([1.0, *highest]))


def _same_puzzles(runs: Sequence[Run]) -> bool:
    """Whether the runs were evaluated on the same puzzles, as far as their samples show."""
    return len({frozenset(item.id for item in run.samples) for run in runs if run.samples}) <= 1


@functools.cache  # compiling the template takes longer than filling it
def _environment() -> Environment:
    environment = page_environment(Path(__file__).with_name("templates"))
    environment.filters.update(number=_number, signed=_signed, short=_short)
    environment.filters.update(heading=heading, cell_text=cell_text, percent=percent)
    return environment


def _number(value: float) -> str:
    """Three decimals and a true minus sign, so that columns align and read well."""
    return f"{round(value, 3) + 0.0:.3f}".replace("-", "\N{MINUS SIGN}")


def _signed(value: float) -> str:
    return f"{round(value, 3) + 0.0:+.3f}".replace("-", "\N{MINUS SIGN}")


def _short(value: float) -> str:
    """A figure of any size for a legend."""
    return _number(value) if 0.01 <= abs(value) < 10 else f"{value:.3g}".replace("-", "\N{MINUS SIGN}")
