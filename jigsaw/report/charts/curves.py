"""Curves of a report: from the lines of `metrics.jsonl` to charts.

In: one run for its own section, or several runs for charts with one line per run. Out: charts in the order of the page.
A metric that was not logged has no chart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jigsaw.evaluation.log import Figure
from jigsaw.report.charts.drawing import GREY, WIDE, Chart, Point, Series, chart
from jigsaw.report.runs import Run, number
from jigsaw.results.formatting import heading

WATCHED = {
    "place_accuracy": "pieces in place",
    "exact": "solved",
    "valid": "valid answers",
    "format": "right format",
}
"""Metrics of rollouts, in the order of drawing, which decides their colours."""

REWARD_STYLE = 4

HELDOUT = (
    ("place_accuracy", "pieces in place", 0),
    ("exact", "solved", 1),
    ("valid", "valid answers", 2),
    ("reward", "reward", REWARD_STYLE),
)
"""Figures of held-out puzzles: key, label, style."""

DYNAMICS = (
    # key, stage, title, whether it is a share
    ("loss", "sft", "Supervised loss", False),
    ("entropy", "grpo", "Entropy of the policy", False),
    ("equal_reward_groups", "grpo", "Zero-variance groups", True),
    ("kl", "grpo", "KL divergence from the start of GRPO", False),
)
RARELY = (
    ("loss", "grpo", "GRPO loss", False),
    ("completion_length", "grpo", "Completion length in tokens", False),
)
"""Charts that are only in the files, not on the page. The GRPO loss is close to zero by construction."""

_NOTES = {
    ("loss", "grpo"): "Advantages have mean zero, so this loss starts near zero. Use the reward to judge a run.",
    ("equal_reward_groups", "grpo"): "Share of groups whose rewards are all equal: they have no advantage.",
}

TOO_FEW_SOLVED = 0.02
"""Share of solved puzzles below which the large chart shows place accuracy instead."""


def progress_chart(run: Run) -> Chart | None:
    """The large chart: solved held-out puzzles during GRPO, with the levels of guessing and the warm-up.

    If hardly any puzzle is solved, it shows the pieces in the right place instead. None without periodic evaluations.
    """
    solved = [value for _, value in points(run, "grpo", "heldout/exact")] + [
        mark.value for _, mark in _marks(run, "exact")
    ]
    key, title = ("exact", "Solved held-out puzzles")
    if solved and max(solved) < TOO_FEW_SOLVED:
        key, title = ("place_accuracy", "Pieces in the right place, held-out puzzles")
    line = points(run, "grpo", f"heldout/{key}")
    if not line:
        return None
    marks = _marks(run, key)
    final, first = [mark for mark in marks if mark[0] > 0], [mark for mark in marks if mark[0] == 0]
    count, total = (number(_latest(run, name)) for name in ("heldout_puzzles", "heldout_total"))
    part = "" if count is None or total is None else f" ({count:,.0f} of {total:,.0f} puzzles)"
    if count is not None and count == total:
        part = f" (all {count:,.0f} puzzles)"
        line += [(step, mark.value) for step, mark in final]
    series = [Series(f"during GRPO{part}", line, 0)]
    if final:
        evaluated = run.log.main.model.num_puzzles if run.log else 0
        series.append(Series(f"after GRPO (all {evaluated:,} puzzles, 95% interval)", (), 2, marks=final))
    warmup = first[0][1].value if first else line[0][1] if line[0][0] == 0 else None
    if warmup is not None:
        series.append(Series("before GRPO" + ("" if first else part), (), 1, level=warmup))
    if (chance := _chance(run, key)) is not None:
        series.append(Series("guessing", (), GREY, level=chance))
    return chart(title, series, axis="GRPO step", share=True, percent=True, size=WIDE)


def _latest(run: Run, key: str) -> Any:
    """The latest value of a key in the GRPO lines of the log."""
    return next((row[key] for row in reversed(run.rows("grpo")) if key in row), None)


def run_charts(run: Run, *, everything: bool = False) -> list[Chart]:
    """The other charts of one run; with `everything` also those that are not on the page."""
    charts = [_heldout(run), _reward(run), _rollouts(run)]
    charts += [
        chart(
            title,
            [Series(title, points(run, stage, key))],
            axis=f"{_STAGES[stage]} step",
            share=share,
            note=_NOTES.get((key, stage), ""),
        )
        for key, stage, title, share in (*DYNAMICS, *(RARELY if everything else ()))
    ]
    return [drawn for drawn in charts if drawn is not None]


def compared_charts(runs: Sequence[Run]) -> list[Chart]:
    """Charts with one line per run."""
    rows = [
        ("heldout/exact", "grpo", "Solved held-out puzzles", True),
        ("heldout/place_accuracy", "grpo", "Held-out pieces in place", True),
        ("heldout/reward", "grpo", "Held-out reward", False),
        ("reward", "grpo", "Reward of rollouts", False),
        ("place_accuracy", "grpo", "Pieces in place, rollouts", True),
        *DYNAMICS,
    ]
    levels = {f"heldout/{figure}": _levels(runs, figure) for figure in ("exact", "place_accuracy")}
    charts = []
    for key, stage, title, share in rows:
        series = [
            Series(
                run.label,
                points(run, stage, key),
                style,
                marks=_marks(run, key.removeprefix("heldout/")) if key.startswith("heldout/") else (),
                level=levels[key][style] if key in levels else None,
            )
            for style, run in enumerate(runs)
        ]
        note = "Dotted: guessing. Diamonds: all held-out puzzles, 95% interval." if key in levels else ""
        charts.append(chart(title, series, axis=f"{_STAGES[stage]} step", share=share, note=note))
    return [drawn for drawn in charts if drawn is not None]


def _levels(runs: Sequence[Run], figure: str) -> list[float | None]:
    """The chance level of each run. If all are equal, only the first run has one."""
    levels = [_chance(run, figure) for run in runs]
    return levels if len(set(levels)) > 1 else [*levels[:1], *[None] * (len(levels) - 1)]


_STAGES: Mapping[str, str] = {"sft": "supervised", "grpo": "GRPO"}


def points(run: Run, stage: str, key: str) -> list[Point]:
    """Steps and values of one key of the log. Nulls and lines without the key are left out."""
    values = ((row["step"], number(row.get(key))) for row in run.rows(stage))
    return [(float(step), value) for step, value in values if value is not None]


def _heldout(run: Run) -> Chart | None:
    series = [
        Series(label, points(run, "grpo", f"heldout/{key}"), style, level=_chance(run, key), marks=_marks(run, key))
        for key, label, style in HELDOUT
    ]
    note = "Lines: periodic evaluations during GRPO. Dotted: guessing, in the colour of its figure."
    if any(line.marks for line in series):
        note += " Diamonds: all held-out puzzles, with 95% intervals."
    return chart("Held-out puzzles", series, axis="GRPO step", share=True, note=note)


def _figures(run: Run, key: str) -> list[tuple[float, Figure]]:
    """A figure on all held-out puzzles, with its step: 0 before GRPO, the last step after it."""
    steps = [row["step"] for row in run.rows("grpo")]
    if run.log is None:
        return []
    one = run.log.main
    stages = ((one.warmup, 0.0), (one.model, float(max(steps, default=0))))
    return [(step, stage.estimates[key]) for stage, step in stages if stage is not None and key in stage.estimates]


def _chance(run: Run, key: str) -> float | None:
    figures = _figures(run, key)
    return figures[-1][1].chance if figures else number(_latest(run, f"heldout_chance/{key}"))


def _marks(run: Run, key: str) -> list[tuple[float, Figure]]:
    """The figures before and after GRPO. A run without GRPO has none."""
    return _figures(run, key) if run.rows("grpo") else []


def _reward(run: Run) -> Chart | None:
    rows = run.rows("grpo")
    parts = sorted({key for row in rows for key in row if key.startswith("reward/")})
    series = [Series("reward", points(run, "grpo", "reward"), REWARD_STYLE)]
    lines = [
        Series(part.removeprefix("reward/"), points(run, "grpo", part), at + (at >= REWARD_STYLE))
        for at, part in enumerate(parts)
    ]
    # A single reward of weight 1 equals the sum.
    series += [line for line in lines if line.points and line.points != series[0].points]
    note = "Mean over a step's completions: the weighted sum, and its parts before weighting." if series[1:] else ""
    return chart("Reward of rollouts", series, axis="GRPO step", note=note)


def _rollouts(run: Run) -> Chart | None:
    logged = run.recipe.get("metrics")
    others = [str(key) for key in logged if key not in WATCHED] if isinstance(logged, list) else []
    labels = WATCHED | {key: heading(key) for key in others}
    series = [Series(label, points(run, "grpo", key), style) for style, (key, label) in enumerate(labels.items())]
    note = "Sampled completions on training puzzles; held-out figures above are greedy."
    return chart("Rollouts", series, axis="GRPO step", share=True, note=note)
