"""Headline: the result of an evaluation in one sentence, with a badge. It states a change only if it is significant.

In: a `SetLog`. Out: a `Headline`, which the console and the report print.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from jigsaw.evaluation.log import Change, Figure, SetLog
from jigsaw.results.formatting import percent

SIGNIFICANCE = 0.05
"""Largest p-value of a significant change. Its interval must exclude zero too."""

FEW_VALID = 0.5
"""Share of valid answers below which the headline mentions it."""

FEWEST_SOURCES = 6
"""Minimum number of sources with which the randomisation test can reach that p-value: 2 / 2**6 is 0.03."""

Tone = Literal["better", "same", "worse"]


@dataclass(frozen=True)
class Headline:
    """The result of a run.

    Attributes:
        sentence: the result in solved puzzles.
        badge: the result in a few words.
        tone: colour of the badge: `better` is green, `same` grey, `worse` red.
        detail: sentences about pieces in the right place, and about invalid answers if there are many; may be empty.
    """

    sentence: str
    badge: str
    tone: Tone
    detail: str = ""


NOT_EVALUATED = Headline("The model has not been evaluated on held-out puzzles yet.", "not evaluated", "same")


def headline(one: SetLog) -> Headline:
    """The result on a set: the change by GRPO, or without a warm-up the comparison with guessing."""
    if one.warmup is None or one.compared is None:
        return _against_guessing(one)
    after, before, change = one.model.estimates["exact"], one.warmup.estimates["exact"], one.compared.changes["exact"]
    guessing, tone, pair = _guessing(after, "solves"), _tone(change), shares(before.value, after.value)
    detail = _detail(one)
    if tone == "same":
        why = _why_not_significant(change, one.model.num_sources)
        sentence = f"GRPO made no measurable difference: solved puzzles {_moved(*pair)} ({why}){guessing}."
        return Headline(sentence, "no measurable change", tone, detail)
    verb, badge = ("raised", "GRPO helped") if tone == "better" else ("lowered", "GRPO made it worse")
    return Headline(f"GRPO {verb} solved puzzles from {pair[0]} to {pair[1]}{guessing}.", badge, tone, detail)


def headline_so_far(rows: Sequence[Mapping[str, Any]]) -> Headline:
    """The result so far of an unfinished run, from its GRPO lines in `metrics.jsonl`. These have no intervals."""
    evaluated = [
        (row, float(row["heldout/exact"])) for row in rows if isinstance(row.get("heldout/exact"), int | float)
    ]
    if not evaluated:
        return NOT_EVALUATED
    (first, before), (last, after) = evaluated[0], evaluated[-1]
    count, total, chance = (last.get(f"heldout_{name}") for name in ("puzzles", "total", "chance/exact"))
    part = "" if count is None or total is None else f" ({count:,.0f} of {total:,.0f} held-out puzzles)"
    guessing = "" if chance is None else f"; guessing solves {percent(chance)}"
    pair = shares(before, after)
    if first is last:
        sentence = f"At GRPO step {last['step']:,} the model solves {pair[1]} of the puzzles{part}{guessing}."
    else:
        sentence = f"So far, at GRPO step {last['step']:,}, solved puzzles {_moved(*pair)}{part}{guessing}."
    return Headline(sentence, "not finished", "same")


def shares(first: float, second: float) -> tuple[str, str]:
    """Two shares as percentages, with a decimal if different shares would look equal without it.

    >>> shares(0.18, 0.61), shares(0.181, 0.184), shares(0.18, 0.18)
    (('18%', '61%'), ('18.1%', '18.4%'), ('18%', '18%'))
    """
    texts = percent(first), percent(second)
    if texts[0] == texts[1] and first != second:
        return f"{100 * first:.1f}%", f"{100 * second:.1f}%"
    return texts


def _tone(change: Change) -> Tone:
    if change.low <= 0 <= change.high or change.p_value > SIGNIFICANCE:
        return "same"
    return "better" if change.low > 0 else "worse"


def _moved(first: str, second: str) -> str:
    return f"stayed at {first}" if first == second else f"went from {first} to {second}"


def _why_not_significant(change: Change, sources: int) -> str:
    """The interval of a change that is not significant; if it excludes zero, the reason."""
    if change.low <= 0 <= change.high:
        return _interval(change)
    if sources < FEWEST_SOURCES:
        return f"the held-out puzzles come from only {sources} source{'' if sources == 1 else 's'}"
    return f"{_interval(change)}, but p = {change.p_value:.2g}"


def _interval(change: Change) -> str:
    low, high = points(change.low, change.high)
    return f"95% interval of the change: {low} to {high} points"


def points(*values: float) -> tuple[str, ...]:
    """Differences of shares in percentage points with their sign, with a decimal if whole points would hide a change.

    >>> points(-0.02, 0.03), points(-0.003, 0.024), points(0, 0.03)
    (('-2', '+3'), ('-0.3', '+2.4'), ('0', '+3'))
    """
    whole = [round(100 * value) for value in values]
    hidden = any(not shown and abs(value) >= 0.0005 for shown, value in zip(whole, values, strict=True))
    digits = 1 if hidden else 0
    rounded = [round(100 * value, digits) + 0.0 for value in values]
    return tuple(f"{value:+.{digits}f}" if value else "0" for value in rounded)


def _against_guessing(one: SetLog) -> Headline:
    """The result without a warm-up: the comparison with guessing."""
    solved = one.model.estimates["exact"]
    sentence = (
        f"The model solves {percent(solved.value)} of the held-out puzzles (95% interval: {percent(solved.low)} to"
        f" {percent(solved.high)}){_guessing(solved, 'solves')}."
    )
    tone: Tone = "same"
    badge = "no better than guessing"
    if solved.chance is None:
        badge = "evaluated"
    elif solved.low > solved.chance:
        tone, badge = "better", "better than guessing"
    elif solved.high < solved.chance:
        tone, badge = "worse", "worse than guessing"
    return Headline(sentence, badge, tone, _detail(one))


def _detail(one: SetLog) -> str:
    """Pieces in the right place, which change before puzzles are solved, and invalid answers if there are many."""
    valid = one.model.estimates["valid"].value
    few = "" if valid >= FEW_VALID else f"Only {percent(valid)} of the answers are valid."
    if "place_accuracy" not in one.model.estimates:
        return few
    place = one.model.estimates["place_accuracy"]
    guessing = _guessing(place, "places")
    if one.warmup is None or one.compared is None:
        places = f"{percent(place.value)} of the pieces are in the right place{guessing}."
    else:
        change, pair = one.compared.changes["place_accuracy"], one.warmup.estimates["place_accuracy"]
        moved = _moved(*shares(pair.value, place.value))
        places = f"Pieces in the right place {moved} ({_interval(change)}){guessing}."
    return f"{places} {few}".rstrip()


def _guessing(figure: Figure, verb: str) -> str:
    return "" if figure.chance is None else f"; guessing {verb} {percent(figure.chance)}"
