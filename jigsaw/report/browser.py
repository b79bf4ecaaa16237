"""Browser of completions: a list of completions of training and evaluation, with filters.

In: a `Run`. Out: `Entry` objects and four filters: task, outcome, reward and step. Filters work with CSS only: each
entry has one class per filter, such as `t0 o1 q2 s3`. So the report needs no script.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from jigsaw.evaluation.log import Sample
from jigsaw.report.gallery import MARKS, WORDS, outcome, outcome_of
from jigsaw.report.runs import Run, number
from jigsaw.rewards.answers import written
from jigsaw.run_folder import RunFolder

MOST = 5000
"""Maximum number of completions on a page. If there are more, evenly spaced ones are kept."""
CHARACTERS = 4_000_000
"""Maximum number of characters of all completions of a run. Long completions are cut in the middle."""
SLOTS = 12
"""Choices of a filter, besides "all". The style sheet has a rule for each."""
BANDS = 6
"""Up to this number of different rewards each has its own choice; more are divided into ranges of equal width."""

UNSCORED = "unscored"
"""Outcome of a completion without scores."""
LABELS = {name: f"{MARKS[name]} {words}" for name, words in WORDS.items()} | {UNSCORED: "not scored"}

T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """One completion.

    Attributes:
        step: the training step, or for example `held-out, after GRPO`.
        outcome: one of `LABELS`.
        reward: weighted sum; None without a reward.
        completion: its text; of a long text the beginning and the end.
        classes: CSS classes, one per filter.
    """

    id: str
    task: str
    step: str
    outcome: str
    reward: float | None
    answer: str
    completion: str
    classes: str = ""

    @property
    def when(self) -> str:
        """The step in words."""
        return f"step {self.step}" if self.step.isdecimal() else self.step

    @property
    def label(self) -> str:
        """The outcome in words."""
        return LABELS[self.outcome]


@dataclass(frozen=True)
class Filter:
    """A filter: the letter of its classes, its name, and its choices, each with its number of entries."""

    letter: str
    name: str
    choices: Sequence[tuple[str, int]]


@dataclass(frozen=True)
class Browser:
    """The completions of a run. `total` also counts those that were left out."""

    entries: Sequence[Entry]
    filters: Sequence[Filter]
    total: int


def build_browser(run: Run, most: int = MOST) -> Browser:
    """Collect the completions of a run, finished or not.

    Args:
        run: with its `completions.jsonl` and its predictions on held-out puzzles.
        most: maximum number of completions; half of them are from training if there are enough of both.
    """
    training = list(_training(RunFolder(run.folder).completions)) if run.trained else []
    after = "held-out, now" if run.position else "held-out, after GRPO" if run.before else "held-out"
    heldout = [_heldout(item, "held-out, before GRPO") for item in run.before.values()]
    heldout += [_heldout(item, after) for item in run.samples]
    trained = _thinned(training, max(most // 2, most - len(heldout)))
    kept = [*trained, *_thinned(heldout, most - len(trained))]
    longest = max(200, CHARACTERS // max(1, len(kept)))
    labels = [
        ("t", "Task", _tasks([entry.task for entry in kept])),
        ("o", "Outcome", [entry.label for entry in kept]),
        ("q", "Reward", _rewards([entry.reward for entry in kept])),
        ("s", "Step", _steps([entry.step for entry in kept])),
    ]
    filters, classes = [], []
    for letter, name, choices in labels:
        counts = Counter(choices)
        names = [label for label in LABELS.values() if label in counts] if letter == "o" else list(counts)
        if letter == "q":
            names.sort(key=_band_start)
        filters.append(Filter(letter, name, [(label, counts[label]) for label in names]))
        classes.append([f"{letter}{names.index(label)}" for label in choices])
    entries = [
        replace(entry, completion=_cut(entry.completion, longest), classes=" ".join(own))
        for entry, *own in zip(kept, *classes, strict=True)
    ]
    return Browser(entries, filters, len(training) + len(heldout))


def _training(path: Path) -> Iterator[Entry]:
    """The lines of `completions.jsonl`. Incomplete lines, which a killed run leaves, are skipped."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            row: Any = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int) and isinstance(row.get("completion"), str):
            exact = number(row.get("exact"))
            others = number(row.get("valid")), number(row.get("place_accuracy"))
            yield Entry(
                id=str(row.get("id")),
                task=str(row.get("task") or "-"),
                step=str(row["step"]),
                outcome=UNSCORED if exact is None else outcome(exact, *others),
                reward=number(row.get("total")),
                answer=str(row.get("answer")),
                completion=row["completion"],
            )


def _heldout(item: Sample, step: str) -> Entry:
    return Entry(item.id, item.task, step, outcome_of(item), item.reward, written(item.answer), item.completion)


def _cut(text: str, longest: int) -> str:
    """The beginning and the end of a long text. The answer is usually at the end."""
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]}\n… {len(text) - 2 * half:,} more characters …\n{text[-half:]}"


def _thinned(entries: list[T], most: int) -> list[T]:
    """At most `most` entries, evenly spaced."""
    if len(entries) <= most:
        return entries
    return [entries[at * len(entries) // most] for at in range(most)]


def _tasks(names: Sequence[str]) -> list[str]:
    """The names of the most frequent tasks; `other tasks` for the rest if there are too many."""
    common = [name for name, _ in Counter(names).most_common()]
    kept = set(common if len(common) <= SLOTS else common[: SLOTS - 1])
    return [name if name in kept else "other tasks" for name in names]


def _rewards(values: Sequence[float | None]) -> list[str]:
    """Each reward if there are few different ones, else the range that it is in."""
    different = sorted({round(value, 3) for value in values if value is not None})
    if len(different) <= BANDS:
        return ["none" if value is None else f"{round(value, 3) + 0.0:g}" for value in values]
    low, width = different[0], (different[-1] - different[0]) / (BANDS - 1)
    bounds = [low + width * at for at in range(BANDS)]

    def band(value: float) -> str:
        at = min(int((value - low) / width), BANDS - 2)
        return f"{bounds[at]:.3g} to {bounds[at + 1]:.3g}"

    return ["none" if value is None else band(round(value, 3)) for value in values]


def _band_start(label: str) -> float:
    """The first number of a reward's label, for sorting."""
    return float("-inf") if label == "none" else float(label.split(" to ")[0])


def _steps(names: Sequence[str]) -> list[str]:
    """Each training step if there are few, else ranges of steps; held-out evaluations by name."""
    steps = sorted({int(name) for name in names if name.isdecimal()})
    slots = SLOTS - len({name for name in names if not name.isdecimal()})
    size = -(-len(steps) // slots)
    labels: dict[str, str] = {}
    for start in range(0, len(steps), max(1, size)):
        part = steps[start : start + size]
        labels |= dict.fromkeys(map(str, part), f"{part[0]}" if len(part) == 1 else f"{part[0]} to {part[-1]}")
    return [labels.get(name, name) for name in names]
