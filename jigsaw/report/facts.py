"""Facts about a run as text: its model, training, rewards and puzzle sets.

In: a `Run`. Out: pairs of a name and one or several lines. The recipe of another version may lack any key, so each fact
is left out if its keys are missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from jigsaw.report.runs import Run, number


def facts_of(run: Run) -> list[tuple[str, list[str]]]:
    """Model, training, data and rewards, each with a name and its lines. Facts that the recipe lacks are left out."""
    facts = [
        ("Model", [_model(run)]),
        ("Supervised stage", [_stage(run, "sft") if run.trained else ""]),
        ("GRPO", [_stage(run, "grpo") if run.trained else ""]),
        ("Rewards", [_rewards(run)]),
        ("Training puzzles", _data(run, "train")),
        ("Held-out puzzles", _data(run, "eval")),
        ("Time in training", [_duration(run)]),
    ]
    return [(name, lines) for name, texts in facts if (lines := [line for line in texts if line])]


def _model(run: Run) -> str:
    model = run.section("model")
    if model.get("path"):
        origin = str(model["path"])
    elif model.get("tiny"):
        origin = f"tiny {model['tiny']}, from random weights"
    else:
        return ""
    return ", ".join([origin, *([str(model["dtype"])] if model.get("dtype") else [])])


def _stage(run: Run, name: str) -> str:
    """Steps, size of a step and learning rate of a stage, `sft` or `grpo`; `none` if the run has no such stage."""
    section = run.section(name)
    if not section:
        return "none"
    steps, prompts = section.get("max_steps"), section.get("prompts_per_step")
    if name == "grpo":
        generations = section.get("num_generations")
        size = prompts and generations and f"{prompts} puzzles × {generations} completions a step"
    else:
        batch = prompts or section.get("per_device_train_batch_size")
        size = batch and f"{batch} puzzles a step"
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


def _data(run: Run, which: str) -> list[str]:
    """The puzzle sets, one line each. Before the held-out sets is the number of evaluated puzzles."""
    entries = run.section("data").get(which)
    lines = [_entry(entry) for entry in entries if isinstance(entry, Mapping)] if isinstance(entries, list) else []
    if which == "eval" and run.log is not None:
        model = run.log.main.model
        lines.insert(0, f"{model.num_puzzles:,} from {model.num_sources:,} sources")
    return list(dict.fromkeys(lines))


def _entry(entry: Mapping[str, Any]) -> str:
    """One puzzle set: `image, 2x2, held-out part of samples, 16 per source (real photos)`."""
    build = entry.get("build")
    uses = {"sft": "supervised stage", "grpo": "GRPO"}.get(str(entry.get("stage")), "")
    weight = number(entry.get("weight"))
    how = _joined(entry.get("name"), uses, f"weight {weight:g}" if weight is not None and weight != 1 else "")
    if isinstance(build, Mapping):
        part = {"train": "training part of ", "heldout": "held-out part of "}.get(str(build.get("split")), "")
        per_source = f"{build['per_source']} per source" if build.get("per_source") else ""
        size = build.get("grid") or (f"{build['pieces']} pieces" if build.get("pieces") else "")
        text = _joined(build.get("task"), size, f"{part}{build.get('source', '')}", per_source)
    else:
        text = str(entry.get("path") or entry.get("conversations") or "")
    return f"{text} ({how})" if text and how else text


def _duration(run: Run) -> str:
    """The training time. A resumed run counts its seconds from zero again, so the last value of each part is added."""
    seconds = [value for row in run.metrics if (value := number(row.get("seconds"))) is not None]
    total = sum(now for now, then in pairwise([*seconds, 0.0]) if then < now)
    if total <= 0:
        return ""
    return f"{total:.0f} seconds" if total < 120 else f"{total / 60:.0f} minutes"
