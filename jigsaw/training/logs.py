"""What a run tells while it trains: `metrics.jsonl`, trackers, a line of progress, and looks at held-out puzzles.

In: the trainer's events. Out: one JSON object a line, `{"stage": "grpo", "step": 40, "reward": 0.31, ...}`, appended
and flushed, so that a killed run keeps what it had. Times stand under `seconds` alone: all else is the same for the
same seed.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback

from jigsaw.files import write_whole
from jigsaw.training.trackers import Trackers

SHOWN = ("reward", "place_accuracy", "loss")
QUIET_SECONDS = 60.0  # between lines of progress where there is no terminal
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
}
"""Trainer's names -> ours, for what is kept of a trainer's log."""

FAMILIES = ("groups/", "curriculum/")
"""Beginnings of our own names, which are kept as they are."""


class MetricsLog:
    """An append-only file of JSON lines.

    Args:
        path: the file; made if need be.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._start = time.monotonic()

    def write(self, stage: str, step: int, values: Mapping[str, float | None]) -> None:
        """Append one line. A value that is no finite number is written as null."""
        finite = {key: value if value is not None and math.isfinite(value) else None for key, value in values.items()}
        row = {"stage": stage, "step": step, **finite, "seconds": round(time.monotonic() - self._start, 2)}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def forget(self, stage: str, after: int = 0) -> None:
        """Drop the lines of a stage beyond the step that it goes on from (0: all of them), and a cut-off last line."""
        forget_lines(self._path, lambda row: row["stage"] == stage and (row["step"] > after or not after))


def forget_lines(path: Path, which: Callable[[dict[str, Any]], bool]) -> None:
    """Rewrite a file of JSON lines without some of them, and without a last line that was cut off by a kill.

    Args:
        path: the file; none is fine.
        which: whether a line goes.
    """
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if not which(json.loads(line)):
                kept.append(line + "\n")
        except ValueError:
            continue
    write_whole(path, "".join(kept))


class StageCallback(TrainerCallback):  # type: ignore[misc]  # transformers comes without types
    """Logs one training stage, shows its progress and looks at held-out puzzles at intervals.

    Of several processes all look, and the first alone writes.

    Args:
        stage: its name in the log.
        log: where metrics go.
        console: where progress goes; a live line on a terminal, a line a minute elsewhere.
        metrics: names of watched metrics, kept under these names.
        look: given nothing, evaluates held-out puzzles and returns named figures; None for no looks.
        every: steps between looks; 0 for none.
        trackers: other places that get the metrics; None for none.
        completions: given a step, writes down some of its completions and returns them as table rows.
    """

    def __init__(
        self,
        stage: str,
        log: MetricsLog,
        console: Console,
        *,
        metrics: tuple[str, ...] = (),
        look: Callable[[], Mapping[str, float]] | None = None,
        every: int = 0,
        trackers: Trackers | None = None,
        completions: Callable[[int], list[dict[str, Any]]] = lambda _: [],
    ) -> None:
        self._stage, self._log, self._console = stage, log, console
        self._metrics, self._look, self._every = metrics, look, every
        self._trackers, self._completions = trackers, completions
        self._latest: dict[str, float] = {}
        self._begun, self._told, self._first_step = time.monotonic(), time.monotonic(), 0
        self._progress = Progress(
            TextColumn(f"{stage:>7}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._bar = self._progress.add_task("", total=None)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the bar, and look once before the first step."""
        self._begun, self._first_step = time.monotonic(), state.global_step
        self._progress.update(self._bar, total=state.max_steps, completed=state.global_step)
        self._progress.start()
        self._look_if(state, self._every > 0 and state.global_step == 0)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Move the bar; look where the interval says so."""
        step = state.global_step
        self._progress.update(self._bar, completed=step)
        if not self._console.is_terminal and time.monotonic() - self._told > QUIET_SECONDS:
            self._told = time.monotonic()
            left = (self._told - self._begun) / (step - self._first_step) * (state.max_steps - step)
            told = [
                f"{self._stage} {step}/{state.max_steps}",
                self._say(self._latest, SHOWN),
                f"{_duration(left)} left",
            ]
            self._console.print(", ".join(part for part in told if part), highlight=False, soft_wrap=True)
        self._look_if(state, self._every > 0 and step % self._every == 0 and step < state.max_steps)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Write what the trainer reports of a step, under our names."""
        if not logs or "train_runtime" in logs or not state.is_world_process_zero:
            return
        values = {ours: logs[theirs] for theirs, ours in NAMES.items() if theirs in logs}
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
        self._progress.update(self._bar, description=self._say(self._latest, SHOWN))

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the bar and the trackers."""
        self._progress.stop()
        if self._trackers:
            self._trackers.finish()

    def _look_if(self, state: Any, due: bool) -> None:
        if not due or self._look is None:
            return
        figures = self._look()
        if not state.is_world_process_zero:
            return
        self._write(state.global_step, {f"heldout/{name}": value for name, value in figures.items()})
        line = f"{self._stage} step {state.global_step}: held-out {self._say(figures, tuple(figures))}"
        self._console.print(line, highlight=False, soft_wrap=True)

    def _write(self, step: int, values: Mapping[str, float | None]) -> None:
        self._log.write(self._stage, step, values)
        if self._trackers:
            self._trackers.log(values, step)

    @staticmethod
    def _say(values: Mapping[str, float], names: tuple[str, ...]) -> str:
        return ", ".join(f"{name} {values[name]:.3f}" for name in names if name in values)


def _duration(seconds: float) -> str:
    """A time span in the two units that matter: `2 h 5 min`, `3 min 20 s`."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"
