"""The result of a run in one sentence, with a badge: no stronger than its intervals allow.

In: the figures of `evaluation.json`, those of one set of held-out puzzles. Out: a `Headline`. The console and the
report print the same one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from jigsaw.evaluation.predictions import number
from jigsaw.evaluation.tables import percent

SIGNIFICANCE = 0.05
"""Largest p-value of a change that is called one, as well as an interval without zero."""

FEW_VALID = 0.5
"""Share of valid answers below which a headline says that it is low."""

FEWEST_SOURCES = 6
"""Sources from which a randomisation test can reach that p-value: 2 / 2**6 is 0.03."""

Tone = Literal["better", "same", "worse"]


@dataclass(frozen=True)
class Headline:
    """What a run achieved.

    Attributes:
        sentence: the result in solved puzzles.
        badge: the same in three words.
        tone: colour of the badge: `better` is green, `same` grey, `worse` red.
        detail: further sentences: about pieces in the right place, and about invalid answers where those are many;
            empty where that was not evaluated.
    """

    sentence: str
    badge: str
    tone: Tone
    detail: str = ""


def headline(figures: Mapping[str, Any]) -> Headline:
    """The result that figures of `evaluation.json` allow.

    Args:
        figures: `heldout`, the figures of the trained model; where there was a warm-up before GRPO also `warmup` and
            the paired difference `gain`. Figures at the top level are those of `jigsaw eval`. Further sets of held-out
            puzzles do not count: see `other_headlines`.

    >>> before, after = {"exact": {"value": 0.12, "chance": 1 / 24}}, {"exact": {"value": 0.61, "chance": 1 / 24}}
    >>> gain = {"exact": {"value": 0.49, "low": 0.42, "high": 0.55}}
    >>> headline({"heldout": after, "warmup": before, "gain": gain}).sentence
    'GRPO raised solved puzzles from 12% to 61%; guessing solves 4%.'
    """
    after = _mapping(figures.get("heldout")) or _mapping(figures)
    before, gain = _mapping(figures.get("warmup")), _mapping(figures.get("gain"))
    solved = _value(after, "exact")
    if solved is None:
        return Headline("The model has not been evaluated on held-out puzzles yet.", "not evaluated", "same")
    change = _change(gain, "exact")
    first = _value(before, "exact")
    if change is None or first is None:
        return _against_guessing(after)
    guessing = _guessing(after, "exact", "solves")
    tone = _tone(change)
    told = shares(first, solved)
    if tone == "same":
        sources = number(after.get("num_sources"))
        sentence = f"GRPO made no measurable difference: {_moved(*told)} ({_interval(change, sources)}){guessing}."
        return Headline(sentence, "no measurable change", tone, _detail(before, after, gain))
    verb, badge = ("raised", "GRPO helped") if tone == "better" else ("lowered", "GRPO made it worse")
    sentence = f"GRPO {verb} solved puzzles from {told[0]} to {told[1]}{guessing}."
    return Headline(sentence, badge, tone, _detail(before, after, gain))


def other_headlines(figures: Mapping[str, Any]) -> dict[str, Headline]:
    """The results on further sets of held-out puzzles, by name: `others` of `evaluation.json`."""
    others = _mapping(figures.get("others"))
    return {str(name): headline(own) for name, own in others.items() if isinstance(own, Mapping)}


def headline_so_far(rows: Sequence[Mapping[str, Any]]) -> Headline:
    """What the periodic evaluations of an unfinished run say, which has no intervals yet.

    Args:
        rows: lines of `metrics.jsonl` of the stage GRPO.
    """
    found = [(row, value) for row in rows if (value := number(row.get("heldout/exact"))) is not None]
    if not found:
        return Headline("The model has not been evaluated on held-out puzzles yet.", "not evaluated", "same")
    (first, before), (last, after) = found[0], found[-1]
    count, total, chance = (number(last.get(f"heldout_{name}")) for name in ("puzzles", "total", "chance/exact"))
    part = "" if count is None or total is None else f" ({count:,.0f} of {total:,.0f} held-out puzzles)"
    guessing = "" if chance is None else f"; guessing solves {percent(chance)}"
    told = shares(before, after)
    if first is last:
        sentence = f"At GRPO step {last['step']:,} the model solves {told[1]} of the puzzles{part}{guessing}."
    else:
        sentence = f"So far, at GRPO step {last['step']:,}, {_moved(*told)}{part}{guessing}."
    return Headline(sentence, "not finished", "same")


def shares(first: float, second: float) -> tuple[str, str]:
    """Two shares to be compared: with a decimal where whole percentages would make different ones look equal.

    >>> shares(0.18, 0.61), shares(0.181, 0.184), shares(0.18, 0.18)
    (('18%', '61%'), ('18.1%', '18.4%'), ('18%', '18%'))
    """
    told = percent(first), percent(second)
    if told[0] == told[1] and first != second:
        return f"{100 * first:.1f}%", f"{100 * second:.1f}%"
    return told


@dataclass(frozen=True)
class _Change:
    """A paired difference of shares, after less before."""

    value: float
    low: float
    high: float
    p: float | None


def _tone(change: _Change) -> Tone:
    if change.low <= 0 <= change.high or (change.p is not None and change.p > SIGNIFICANCE):
        return "same"
    return "better" if change.low > 0 else "worse"


def _moved(first: str, second: str) -> str:
    return f"solved puzzles stayed at {first}" if first == second else f"solved puzzles went from {first} to {second}"


def _interval(change: _Change, sources: float | None) -> str:
    """The interval of a change that is not called one, and why not where it excludes zero."""
    ends = points(change.low, change.high)
    told = f"95% interval of the change: {ends[0]} to {ends[1]} points"
    if change.low <= 0 <= change.high:
        return told
    if sources is not None and sources < FEWEST_SOURCES:
        return f"the held-out puzzles come from only {sources:.0f} source{'' if sources == 1 else 's'}"
    return f"{told}, but p = {change.p:.2g}"


def points(*values: float) -> tuple[str, ...]:
    """Differences of shares in percentage points, with their sign; with a decimal where whole points would hide one.

    >>> points(-0.02, 0.03), points(-0.003, 0.024), points(0, 0.03)
    (('-2', '+3'), ('-0.3', '+2.4'), ('0', '+3'))
    """
    whole = [round(100 * value) for value in values]
    hidden = any(not shown and abs(value) >= 0.0005 for shown, value in zip(whole, values, strict=True))
    digits = 1 if hidden else 0
    rounded = [round(100 * value, digits) + 0.0 for value in values]
    return tuple(f"{value:+.{digits}f}" if value else "0" for value in rounded)


def _against_guessing(after: Mapping[str, Any]) -> Headline:
    """The result of a run without a warm-up before GRPO, or without GRPO: there is only guessing to compare with."""
    entry = _mapping(after.get("exact"))
    value, low, high, chance = (number(entry.get(name)) for name in ("value", "low", "high", "chance"))
    assert value is not None
    interval = "" if low is None or high is None else f" (95% interval: {percent(low)} to {percent(high)})"
    sentence = (
        f"The model solves {percent(value)} of the held-out puzzles{interval}{_guessing(after, 'exact', 'solves')}."
    )
    tone: Tone = "same"
    badge = "no better than guessing"
    if low is None or high is None or chance is None:
        badge = "evaluated"
    elif low > chance:
        tone, badge = "better", "better than guessing"
    elif high < chance:
        tone, badge = "worse", "worse than guessing"
    return Headline(sentence, badge, tone, _detail({}, after, {}))


def _detail(before: Mapping[str, Any], after: Mapping[str, Any], gain: Mapping[str, Any]) -> str:
    """What is to be said beyond solved puzzles."""
    valid = _value(after, "valid")
    few = "" if valid is None or valid >= FEW_VALID else f"Only {percent(valid)} of the answers name every piece once."
    return " ".join(filter(None, (_places(before, after, gain), few)))


def _places(before: Mapping[str, Any], after: Mapping[str, Any], gain: Mapping[str, Any]) -> str:
    """The sentence about pieces in the right place, which moves before whole puzzles are solved."""
    last, first, change = (
        _value(after, "place_accuracy"),
        _value(before, "place_accuracy"),
        _change(gain, "place_accuracy"),
    )
    if last is None:
        return ""
    guessing = _guessing(after, "place_accuracy", "places")
    if first is None or change is None:
        return f"{percent(last)} of the pieces are in the right place{guessing}."
    told, ends = shares(first, last), points(change.low, change.high)
    moved = f"stayed at {told[0]}" if told[0] == told[1] else f"went from {told[0]} to {told[1]}"
    return f"Pieces in the right place {moved} (95% interval of the change: {ends[0]} to {ends[1]} points){guessing}."


def _guessing(figures: Mapping[str, Any], figure: str, verb: str) -> str:
    chance = number(_mapping(figures.get(figure)).get("chance"))
    return "" if chance is None else f"; guessing {verb} {percent(chance)}"


def _value(figures: Mapping[str, Any], figure: str) -> float | None:
    return number(_mapping(figures.get(figure)).get("value"))


def _change(gain: Mapping[str, Any], figure: str) -> _Change | None:
    entry = _mapping(gain.get(figure))
    value, low, high = (number(entry.get(name)) for name in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return None
    return _Change(value, low, high, number(entry.get("p_value")))


def _mapping(stored: Any) -> Mapping[str, Any]:
    return stored if isinstance(stored, Mapping) else {}
