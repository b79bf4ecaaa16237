"""`jigsaw report`: one self-contained HTML page about one or several run folders.

In: folders of runs or evaluations. Out: a page that begins with the result in one sentence, three puzzles before and
after GRPO and one curve. Tables, other curves, galleries and the recipe are folded below. It loads nothing (its content
policy forbids it), so it can be mailed, archived and opened without a network. The template escapes all text from data;
charts and pictures are images.
"""

from __future__ import annotations

import functools
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment

from jigsaw.evaluation.log import SetLog
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
"""Number of puzzles in the gallery of a run. A page of many runs shows fewer of each."""

RELOAD_SECONDS = 30
"""Interval at which the page of a run in training reloads itself."""

LARGEST_MAP = 16
"""Maximum number of pieces for a map of places; the cells of a larger map are too small to read."""

FIGURE_WORDS = {
    "exact": ("Solved puzzles", "right answers; for orders, every piece in the right place"),
    "place_accuracy": ("Pieces in place", "pieces put where they belong"),
    "neighbor_accuracy": ("Neighbor accuracy", "neighbouring places with true neighbours"),
    "kendall_tau": ("Kendall tau", "pairs in the right sequence"),
    "valid": ("Valid answer", "answers of the required kind; for orders, every piece once"),
    "format": ("Format", "answers in the required form"),
    "reward": ("Reward", "what GRPO optimises"),
}
"""Figure -> its title and meaning on the page."""

WIDEST_TABLE = 7
"""Maximum number of columns of a paper's table on a page."""

COMPARED = ("exact", "place_accuracy", "valid", "reward")
"""Figures of the table with one row per run."""


@dataclass(frozen=True)
class Results:
    """The figures on one set of held-out puzzles.

    Attributes:
        log: of the set.
        top: right end of the scale in its table.
    """

    log: SetLog
    headline: Headline
    top: float


@dataclass(frozen=True)
class Section:
    """The section of one run. `results` has one entry per evaluated held-out set."""

    run: Run
    key: str
    headline: Headline
    progress: Chart | None
    facts: Sequence[tuple[str, Sequence[str]]]
    results: Sequence[Results]
    charts: Sequence[Chart]
    gallery: Gallery
    browser: Browser


def write_report(runs: Sequence[Path], out: Path, *, training: bool = False, tasks: Sequence[str] = ()) -> None:
    """Write a page about one or several runs, finished or not, with the tables of suites and generalisations.

    Args:
        runs: folders of runs and evaluations, of suites and of generalisations.
        out: the page; written atomically.
        training: whether the run is in training. The page then reloads itself, and has no gallery and no note about a
            missing evaluation.
        tasks: specs of the plug-ins that built the held-out puzzles. Code that a puzzle set names by file or module
            is run only if it is named here too; otherwise the page has no pictures of these puzzles.

    Raises:
        JigsawError: a folder is not a run, another version evaluated it, or a task does not exist.
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
            figures_of_runs=COMPARED,
            figure_words=FIGURE_WORDS,
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
    evaluations = [evaluation for evaluation in (one.model, one.warmup) if evaluation is not None]
    highest = [figure.high for evaluation in evaluations for figure in evaluation.estimates.values()]
    return Results(one, headline(one), max([1.0, *highest]))


def _same_puzzles(runs: Sequence[Run]) -> bool:
    """Whether the runs were evaluated on the same puzzles. Runs without samples are ignored."""
    return len({frozenset(item.id for item in run.samples) for run in runs if run.samples}) <= 1


@functools.cache  # compiling the template is slower than rendering it
def _environment() -> Environment:
    environment = page_environment(Path(__file__).with_name("templates"))
    environment.filters.update(number=_number, signed=_signed, short=_short)
    environment.filters.update(heading=heading, cell_text=cell_text, percent=percent)
    return environment


def _number(value: float) -> str:
    """Three decimals and a typographic minus sign, so that columns are aligned."""
    return f"{round(value, 3) + 0.0:.3f}".replace("-", "\N{MINUS SIGN}")


def _signed(value: float) -> str:
    return f"{round(value, 3) + 0.0:+.3f}".replace("-", "\N{MINUS SIGN}")


def _short(value: float) -> str:
    """A number of any size for a legend."""
    return _number(value) if 0.01 <= abs(value) < 10 else f"{value:.3g}".replace("-", "\N{MINUS SIGN}")
