"""Which curves a report shows: from the lines of `metrics.jsonl` to charts.

In: one run, for its own section, or several, to be laid over each other. Out: charts, in the order in which they are
read; what was not logged has none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jigsaw.evaluation.predictions import number
from jigsaw.evaluation.summary import heading
from jigsaw.report.charts import GREY, WIDE, Chart, Point, Series, draw_chart
from jigsaw.report.runs import Run

WATCHED = {
    "place_accuracy": "pieces in place",
    "exact": "solved",
    "valid": "valid answers",
    "format": "format as asked",
}
"""Metrics of rollouts in the order, and therefore the colours, in which they are drawn."""

HELDOUT = {"place_accuracy": "pieces in place", "exact": "solved", "valid": "valid answers", "reward": "reward"}
_HELDOUT_STYLE = {"place_accuracy": 0, "exact": 1, "valid": 2, "reward": 4}

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
"""The same for what a page does not show: the loss of GRPO is close to zero by construction."""

_NOTES = {
    ("loss", "grpo"): "Advantages have mean zero, so this loss starts near zero and says little; watch the reward.",
    ("equal_reward_groups", "grpo"): "Share of groups whose rewards are all equal: they have no advantage.",
}

TOO_FEW_SOLVED = 0.02
"""Share of solved puzzles below which the large chart shows pieces in the right place instead."""


def progress_chart(run: Run, name: str) -> Chart | None:
    """The one large chart: solved held-out puzzles while GRPO trains, beside guessing and the warm-up.

    Puzzles that are hardly ever solved are shown by their pieces in the right place.

    Args:
        run: with periodic evaluations; without, there is no chart.
        name: unique in the page.
    """
    solved = [value for _, value in points(run, "grpo", "heldout/exact")] + [mark[1] for mark in _marks(run, "exact")]
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
        line += [(mark[0], mark[1]) for mark in final]
    series = [Series(f"while GRPO trains{part}", line, 0, field=f"heldout/{key}")]
    if final:
        evaluated = run.evaluation.num_puzzles if run.evaluation else 0
        series.append(Series(f"after GRPO (all {evaluated:,} puzzles, 95% interval)", (), 2, marks=final))
    warmup = first[0][1] if first else line[0][1] if line[0][0] == 0 else None
    if warmup is not None:
        series.append(Series("before GRPO" + ("" if first else part), (), 1, level=warmup))
    if (chance := _chance(run, key)) is not None:
        series.append(Series("guessing", (), GREY, level=chance))
    return draw_chart(title, series, name=f"{name}-progress", axis="GRPO step", share=True, percentages=True, size=WIDE)


def _latest(run: Run, key: str) -> Any:
    """The latest value of a key of the log of GRPO."""
    return next((row[key] for row in reversed(run.rows("grpo")) if key in row), None)


def run_charts(run: Run, name: str, *, everything: bool = False) -> list[Chart]:
    """The other charts of one run.

    Args:
        run: of which.
        name: unique in the page.
        everything: also those that a page does not show.
    """
    charts = [_heldout(run, name), _reward(run, name), _rollouts(run, name)]
    charts += [
        draw_chart(
            title,
            [Series(title, points(run, stage, key), field=key)],
            name=f"{name}-{stage}-{key.replace('_', '-')}",
            axis=f"{_STAGES[stage]} step",
            share=share,
            note=_NOTES.get((key, stage), ""),
        )
        for key, stage, title, share in (*DYNAMICS, *(RARELY if everything else ()))
    ]
    return [chart for chart in charts if chart is not None]


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
                field=key,
            )
            for style, run in enumerate(runs)
        ]
        note = "Dotted: guessing. Diamonds: all held-out puzzles, 95% interval." if key in levels else ""
        chart = draw_chart(
            title,
            series,
            name=f"all-{stage}-{key.replace('_', '-').replace('/', '-')}",
            axis=f"{_STAGES[stage]} step",
            share=share,
            note=note,
        )
        if chart is not None:
            charts.append(chart)
    return charts


def _levels(runs: Sequence[Run], figure: str) -> list[float | None]:
    """The level of guessing of each run; where all are equal the first run's line is enough."""
    levels = [_chance(run, figure) for run in runs]
    return levels if len(set(levels)) > 1 else [*levels[:1], *[None] * (len(levels) - 1)]


_STAGES: Mapping[str, str] = {"sft": "supervised", "grpo": "GRPO"}


def points(run: Run, stage: str, key: str) -> list[Point]:
    """Steps and values of one key of the log; nulls, and lines without it, are left out."""
    found = ((row["step"], number(row.get(key))) for row in run.rows(stage))
    return [(float(step), value) for step, value in found if value is not None]


def _heldout(run: Run, name: str) -> Chart | None:
    series = [
        Series(
            label,
            points(run, "grpo", f"heldout/{key}"),
            _HELDOUT_STYLE[key],
            level=_chance(run, key),
            marks=_marks(run, key),
            field=f"heldout/{key}",
        )
        for key, label in HELDOUT.items()
    ]
    note = "Lines: periodic evaluations while GRPO trains. Dotted: guessing, in the colour of its figure."
    if any(line.marks for line in series):
        note += " Diamonds: all held-out puzzles, with 95% intervals."
    return draw_chart("Held-out puzzles", series, name=f"{name}-heldout", axis="GRPO step", share=True, note=note)


def _chance(run: Run, key: str) -> float | None:
    figures = run.evaluation.figures if run.evaluation else {}
    stored = figures.get("heldout", {}).get(key) or figures.get("warmup", {}).get(key)
    return stored.chance if stored else number(_latest(run, f"heldout_chance/{key}"))


def _marks(run: Run, key: str) -> list[tuple[float, float, float, float]]:
    """The figures on all held-out puzzles, before and after GRPO; none for a run without GRPO, which has no axis."""
    steps = [row["step"] for row in run.rows("grpo")]
    if run.evaluation is None or not steps:
        return []
    marks = []
    for stage, step in (("warmup", 0.0), ("heldout", float(max(steps)))):
        stored = run.evaluation.figures.get(stage, {}).get(key)
        if stored is not None:
            estimate = stored.estimate
            marks.append((step, estimate.value, estimate.low, estimate.high))
    return marks


def _reward(run: Run, name: str) -> Chart | None:
    rows = run.rows("grpo")
    parts = sorted({key for row in rows for key in row if key.startswith("reward/")})
    series = [Series("reward", points(run, "grpo", "reward"), 4, field="reward")]
    lines = [
        Series(part.removeprefix("reward/"), points(run, "grpo", part), style, field=part)
        for part, style in zip(parts, _other_styles(len(parts)), strict=True)
    ]
    # One reward of weight 1 is its own sum.
    series += [line for line in lines if line.points and line.points != series[0].points]
    note = "Mean over a step's completions: the weighted sum, and its parts before weighting." if series[1:] else ""
    return draw_chart("Reward of rollouts", series, name=f"{name}-reward", axis="GRPO step", note=note)


def _other_styles(count: int) -> list[int]:
    """Styles for the parts of the reward: all but that of the reward itself."""
    return [style for style in range(count + 1 + count // 5) if style != 4][:count]


def _rollouts(run: Run, name: str) -> Chart | None:
    logged = run.recipe.get("metrics")
    others = [str(key) for key in logged if key not in WATCHED] if isinstance(logged, list) else []
    labels = WATCHED | {key: heading(key) for key in others}
    series = [
        Series(label, points(run, "grpo", key), style, field=key)
        for (key, label), style in zip(labels.items(), range(len(labels)), strict=True)
    ]
    note = "Sampled completions on training puzzles; held-out figures above are greedy."
    return draw_chart("Rollouts", series, name=f"{name}-rollouts", axis="GRPO step", share=True, note=note)
