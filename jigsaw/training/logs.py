"""Logs of a training stage: `metrics.jsonl`, trackers, the console, and periodic evaluations on held-out puzzles.

In: the trainer's events. Out: one JSON object per line, `{"stage": "grpo", "step": 40, "reward": 0.31, ...}`, appended
at once, so that a killed run keeps its log. Only `seconds` differs between two runs with the same seed.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from jigsaw.files import write_atomically
from jigsaw.results.formatting import percent
from jigsaw.step_progress import StepProgress
from jigsaw.training.trackers import Trackers

NAMES = {
    "frac_reward_zero_std": "equal_reward_groups",
    "completions/mean_length": "completion_length",
    "completions/clipped_ratio": "truncated",
    "mean_token_accuracy": "token_accuracy",
    "reward": "reward",
    "reward_std": "reward_std",
    "loss": "loss",
    "entropy": "entropy",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "kl": "kl",
    "logp_difference": "logp_difference",
    "staleness": "staleness",
}
"""Names of the trainer's figures -> their names in `metrics.jsonl`; other figures are not logged."""

FAMILIES = ("groups/", "curriculum/", "task/")
"""Prefixes of names that are logged unchanged."""


class MetricsLog:
    """An append-only file of JSON lines.

    Args:
        path: the file, which is created if it does not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._start = time.monotonic()

    def write(self, stage: str, step: int, values: Mapping[str, float | None]) -> None:
        """Append one line. A value that is not a finite number is written as null."""
        finite = {key: value if value is not None and math.isfinite(value) else None for key, value in values.items()}
        row = {"stage": stage, "step": step, **finite, "seconds": round(time.monotonic() - self._start, 2)}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def truncate(self, stage: str, after: int = 0) -> None:
        """Remove the lines of a stage after the step from which it continues (0: all), and an incomplete last line."""
        drop_lines(self._path, lambda row: row["stage"] == stage and (row["step"] > after or not after))


def drop_lines(path: Path, which: Callable[[dict[str, Any]], bool]) -> None:
    """Remove some lines of a file of JSON lines, and an incomplete last line of a killed process.

    Args:
        path: the file; it need not exist.
        which: whether to remove a line.
    """
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").split("\n"):
        try:
            if not which(json.loads(line)):
                kept.append(line + "\n")
        except ValueError:
            continue
    write_atomically(path, "".join(kept))


@dataclass(frozen=True)
class PeriodicEvaluation:
    """The result of a periodic evaluation on held-out puzzles.

    Attributes:
        figures: mean figures by name, as in `jigsaw.evaluation.log.FIGURES`.
        chance: figures of random guessing on the same puzzles, if they are known.
        puzzles: number of evaluated puzzles.
        total: number of held-out puzzles, all of which the final evaluation uses.
    """

    figures: Mapping[str, float]
    chance: Mapping[str, float] = field(default_factory=dict)
    puzzles: int = 0
    total: int = 0

    @property
    def row(self) -> dict[str, float]:
        """The evaluation as fields of `metrics.jsonl`."""
        return {
            **{f"heldout/{name}": value for name, value in self.figures.items()},
            **{f"heldout_chance/{name}": value for name, value in self.chance.items()},
            "heldout_puzzles": self.puzzles,
            "heldout_total": self.total,
        }

    def sentence(self, step: int) -> str:
        """The share of solved puzzles: `held-out 52% solved at step 100 (96 of 1,344 puzzles)`."""
        part = f"all {self.total:,}" if self.puzzles == self.total else f"{self.puzzles:,} of {self.total:,}"
        return f"held-out {percent(self.figures['exact'])} solved at step {step:,} ({part} puzzles)"


class StageCallback(TrainerCallback):  # type: ignore[misc]  # transformers comes without types
    """Logs one training stage, shows its progress and runs periodic evaluations.

    All processes evaluate, but only the first one writes.

    Args:
        stage: name of the stage in the log.
        log: the log of metrics.
        progress: the progress of the stage on the console.
        detail: text on the console at the start of the stage.
        metrics: names of metrics that are logged under these names.
        chance: figures of random guessing on the training puzzles, for the console.
        evaluate: evaluates on held-out puzzles after a step; None for no periodic evaluation.
        every: steps between periodic evaluations; 0 for none.
        on_evaluation: called by the first process after each periodic evaluation is logged.
        trackers: trackers that also get the metrics, or None.
        completions: writes some completions of a step and returns them as table rows.
    """

    def __init__(
        self,
        stage: str,
        log: MetricsLog,
        progress: StepProgress,
        *,
        detail: str = "",
        metrics: tuple[str, ...] = (),
        chance: Mapping[str, float] | None = None,
        evaluate: Callable[[int], PeriodicEvaluation] | None = None,
        every: int = 0,
        on_evaluation: Callable[[], None] = lambda: None,
        trackers: Trackers | None = None,
        completions: Callable[[int], list[dict[str, Any]]] = lambda _: [],
    ) -> None:
        self._stage, self._log, self._progress, self._detail = stage, log, progress, detail
        self._metrics, self._chance = metrics, chance or {}
        self._evaluate, self._every, self._on_evaluation = evaluate, every, on_evaluation
        self._trackers, self._completions = trackers, completions
        self._latest: dict[str, float] = {}
        self._heldout = ""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the progress, and evaluate once before the first step."""
        self._progress.start(state.max_steps, state.global_step, self._detail)
        self._evaluate_if(state, self._every > 0 and state.global_step == 0)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Update the progress; run a periodic evaluation if one is due."""
        step = state.global_step
        self._progress.update(step)
        self._evaluate_if(state, self._every > 0 and step % self._every == 0 and step < state.max_steps)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Write the figures that the trainer reports for a step, under the names of `metrics.jsonl`."""
        if not logs or "train_runtime" in logs or not state.is_world_process_zero:
            return
        values = {name: logs[original] for original, name in NAMES.items() if original in logs}
        values |= {name: logs[name] for name in self._metrics if name in logs}
        values |= {name: value for name, value in logs.items() if name.startswith(FAMILIES)}
        for key, value in logs.items():
            if key.startswith("rewards/") and key.endswith("/mean"):
                values["reward/" + key.removeprefix("rewards/").removesuffix("/mean")] = value
        self._latest = {key: float(value) for key, value in values.items() if value is not None}
        self._write(state.global_step, values)
        rows = self._completions(state.global_step)
        if self._trackers and rows:
            self._trackers.table("completions", rows, state.global_step)
        self._show()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the progress and the trackers."""
        self.close()
        if self._trackers:
            self._trackers.finish()

    def close(self) -> None:
        """Close the progress, which shows the terminal's cursor again."""
        self._progress.stop()

    def _evaluate_if(self, state: Any, due: bool) -> None:
        if not due or self._evaluate is None:
            return
        found = self._evaluate(state.global_step)
        if not state.is_world_process_zero:
            return
        self._write(state.global_step, found.row)
        self._heldout = found.sentence(state.global_step)
        self._show()
        self._on_evaluation()

    def _show(self) -> None:
        """Show the main figures on the console: those of this step with chance, and those of held-out puzzles."""
        figures = [f"{name} {show(self._latest[key])}{self._guessing(key, show)}" for key, name, show in self._shown()]
        self._progress.figures([", ".join(figures), self._heldout])

    def _shown(self) -> list[tuple[str, str, Callable[[float], str]]]:
        """Key, name and format of the figures of this step."""
        wanted: list[tuple[str, str, Callable[[float], str]]] = [
            ("reward", "reward", "{:.2f}".format),
            ("exact", "solved", percent),
            ("token_accuracy", "answer tokens right", percent),
        ]
        if "exact" not in self._latest:
            wanted.append(("place_accuracy", "pieces in place", percent))
        return [entry for entry in wanted if entry[0] in self._latest]

    def _guessing(self, key: str, show: Callable[[float], str]) -> str:
        return f" (guessing {show(self._chance[key])})" if key in self._chance else ""

    def _write(self, step: int, values: Mapping[str, float | None]) -> None:
        self._log.write(self._stage, step, values)
        if self._trackers:
            self._trackers.log(values, step)
