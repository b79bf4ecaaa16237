"""Other places where a run is followed: Weights & Biases, TensorBoard, trackio, as the recipe names them.

In: the same named figures and steps that `metrics.jsonl` gets. Out: whatever the tracker makes of them; accelerate's
adapters speak to each. Keys begin with the stage, `grpo/reward`, since both stages count steps from 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jigsaw.config.schema import Recipe


class Trackers:
    """The trackers of one stage of a run.

    Args:
        recipe: names them, the project and the run.
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
        """Hand on the figures of a step; those without a value are left out."""
        known = {f"{self._stage}/{name}": value for name, value in values.items() if value is not None}
        for tracker in self._trackers:
            tracker.log(known, step=step)

    def table(self, title: str, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        """Hand on rows with the same columns, as a table where the tracker has one, else as text."""
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
        """Close them."""
        for tracker in self._trackers:
            tracker.finish()
