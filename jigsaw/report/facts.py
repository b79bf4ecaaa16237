"""What a report says in words: the verdict in one sentence, and what was trained on what.

In: a `Run`. Out: sentences and pairs of a name and a text. A recipe of another version may lack anything, so each fact
is told only as far as it is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from jigsaw.evaluation.intervals import Estimate
from jigsaw.evaluation.predictions import number
from jigsaw.report.runs import Figure, Run

_BUILD_KEYS = ("task", "source", "split", "heldout", "per_source", "limit", "seed", "materialize")
"""Keys of a `build` entry that are not the task's configuration."""


def verdict_of(run: Run) -> str:
    """The result in one sentence, no stronger than its intervals allow."""
    if run.evaluation is None:
        return "Not evaluated on held-out puzzles yet."
    figures = run.evaluation.figures
    stage = "heldout" if "place_accuracy" in figures.get("heldout", {}) else "warmup"
    place = figures.get(stage, {}).get("place_accuracy")
    parts = []
    if place is not None:
        name = "Held-out place accuracy" + ("" if stage == "heldout" else " of the warm-up")
        parts.append(f"{name} {_interval(place.estimate)}{_beside_chance(place)}")
    paired = run.evaluation.gain.get("reward")
    if paired is not None:
        parts.append(_gain(paired))
    return "; ".join(parts) + "." if parts else "No place accuracy was evaluated."


def _beside_chance(place: Figure) -> str:
    if place.chance is None:
        return ""
    level = f"{place.chance:.2f}"
    if place.estimate.low > place.chance > 0:
        return f", {place.estimate.value / place.chance:.1f} times chance ({level})"
    if place.estimate.high < place.chance:
        return f", below chance ({level})"
    return f", not clear of chance ({level})"


def _gain(paired: Estimate) -> str:
    if paired.low > 0:
        return f"GRPO raised the reward by {_interval(paired, 3)} over the warm-up"
    if paired.high < 0:
        lowered = Estimate(-paired.value, -paired.high, -paired.low)
        return f"GRPO lowered the reward by {_interval(lowered, 3)} below the warm-up"
    return f"GRPO changed the reward by {_interval(paired, 3)} over the warm-up, which is not clear of zero"


def _interval(estimate: Estimate, digits: int = 2) -> str:
    # Adding zero turns a rounded -0.0 into 0.0.
    parts = (estimate.value, estimate.low, estimate.high)
    value, low, high = (f"{round(part, digits) + 0.0:.{digits}f}" for part in parts)
    return f"{value} [{low}, {high}]".replace("-", "\N{MINUS SIGN}")


def facts_of(run: Run) -> list[tuple[str, str]]:
    """Model, training, data and rewards: a name and a text each; what the recipe does not tell is left out."""
    facts = [
        ("Model", _model(run)),
        ("Supervised stage", _supervised(run) if run.trained else ""),
        ("GRPO", _grpo(run) if run.trained else ""),
        ("Rewards", _rewards(run)),
        ("Training puzzles", _data(run, "train")),
        ("Held-out puzzles", _data(run, "eval")),
        ("Time in training", _duration(run)),
    ]
    return [(name, text) for name, text in facts if text]


def _model(run: Run) -> str:
    model = run.section("model")
    if model.get("path"):
        origin = str(model["path"])
    elif model.get("tiny"):
        origin = f"tiny {model['tiny']}, from random weights"
    else:
        return ""
    return ", ".join([origin, *([str(model["dtype"])] if model.get("dtype") else [])])


def _supervised(run: Run) -> str:
    section = run.section("sft")
    if not section:
        return "none"
    steps = section.get("max_steps")
    batch = section.get("prompts_per_step") or section.get("per_device_train_batch_size")
    return _joined(steps and f"{steps} steps", batch and f"{batch} puzzles a step", _rate(section)) or "yes"


def _grpo(run: Run) -> str:
    section = run.section("grpo")
    if not section:
        return "none"
    steps, prompts, generations = (section.get(key) for key in ("max_steps", "prompts_per_step", "num_generations"))
    size = f"{prompts} puzzles × {generations} completions a step" if prompts and generations else None
    return _joined(steps and f"{steps} steps", size, _rate(section)) or "yes"


def _rate(section: Mapping[str, Any]) -> str | None:
    rate = number(section.get("learning_rate"))
    return None if rate is None else f"learning rate {rate:g}"


def _joined(*parts: Any) -> str:
    return ", ".join(str(part) for part in parts if part)


def _rewards(run: Run) -> str:
    rewards = run.recipe.get("rewards")
    if not isinstance(rewards, list):
        return ""
    named = [entry for entry in rewards if isinstance(entry, Mapping) and "use" in entry]
    return _joined(
        *(f"{entry['use']} × {entry['weight']:g}" if number(entry.get("weight")) else entry["use"] for entry in named)
    )


def _data(run: Run, which: str) -> str:
    """The entries of a mixture, `image grid=2x2 from photos`; how many were evaluated, for the held-out ones."""
    entries = run.section("data").get(which)
    told = [_entry(entry) for entry in entries if isinstance(entry, Mapping)] if isinstance(entries, list) else []
    text = "; ".join(dict.fromkeys(filter(None, told)))
    if which == "eval" and run.evaluation is not None and run.evaluation.num_puzzles:
        counts = f"{run.evaluation.num_puzzles} from {run.evaluation.num_sources} sources"
        return f"{counts}: {text}" if text else counts
    return text


def _entry(entry: Mapping[str, Any]) -> str:
    build = entry.get("build")
    if not isinstance(build, Mapping):
        return str(entry.get("path") or "")
    config = " ".join(f"{key}={value}" for key, value in build.items() if key not in _BUILD_KEYS and value is not None)
    split = {"train": "training side of ", "heldout": "held-out side of "}.get(str(build.get("split")), "")
    each = f", {build['per_source']} per source" if build.get("per_source") else ""
    return f"{build.get('task', '')} ({config}) from {split}{build.get('source', '')}{each}"


def _duration(run: Run) -> str:
    """Sum over the processes of the log: a resumed run counts its seconds from zero again."""
    seconds = [value for row in run.metrics if (value := number(row.get("seconds"))) is not None]
    total = sum(now for now, then in pairwise([*seconds, 0.0]) if then < now)
    if total <= 0:
        return ""
    return f"{total:.0f} seconds" if total < 120 else f"{total / 60:.0f} minutes"
