"""Experiment trackers: Weights & Biases, TensorBoard and trackio, through accelerate's adapters.

In: the same figures and steps as in `metrics.jsonl`. Out: the logs of the trackers that the recipe names. Keys begin
with the stage, as in `grpo/reward`, since both stages count steps from 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jigsaw.config.schema import Recipe


class Trackers:
    """The trackers of one stage of a run.

    Args:
        recipe: the recipe, which names the trackers, the project and the run.
        folder: the run folder; TensorBoard writes below it.
        stage: name of the stage.
    """

    def __init__(self, recipe: Recipe, folder: Path, stage: str) -> None:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        self._stage = stage
        run = f"{recipe.name}-{stage}"
        settings: dict[str, dict[str, Any]] = {
            # A resumed run continues the tracker's run of the same name.
            "wandb": {"name": run, "id": f"{folder.name}-{stage}", "resume": "allow", "dir": str(folder)},
            "tensorboard": {"logging_dir": str(folder)},
            "trackio": {"name": run, "resume": "allow"},
        }
        self._trackers = []
        for name in recipe.logging.report_to:
            title = f"tensorboard/{stage}" if name == "tensorboard" else recipe.logging.project
            tracker = LOGGER_TYPE_TO_CLASS[name](title, **settings[name])
            tracker.start()
            self._trackers.append(tracker)

    def log(self, values: Mapping[str, float | None], step: int) -> None:
        """Log the figures of a step, without those that have no value."""
        known = {f"{self._stage}/{name}": value for name, value in values.items() if value is not None}
        for tracker in self._trackers:
            tracker.log(known, step=step)

    def table(self, title: str, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        """Log rows with the same columns, as a table if the tracker has tables, otherwise as text."""
        columns = list(rows[0])
        cells = [[str(row[column]) for column in columns] for row in rows]
        name = f"{self._stage}/{title}"
        for tracker in self._trackers:
            if tracker.name == "wandb":
                tracker.log_table(name, columns=columns, data=cells, step=step)
            elif tracker.name == "trackio":
                import trackio

                frame = [dict(zip(columns, row, strict=True)) for row in cells]
                tracker.log({name: trackio.Table(data=frame)}, step=step)
            else:
                lines = ["|".join(row).replace("\n", " ") for row in [columns, ["---"] * len(columns), *cells]]
                tracker.writer.add_text(name, "\n".join(lines), global_step=step)

    def finish(self) -> None:
        """Close the trackers."""
        for tracker in self._trackers:
            tracker.finish()
