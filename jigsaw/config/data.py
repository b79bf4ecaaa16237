"""The `data` section of a recipe: training and held-out sets, built or given by path.

In: the content of the section. Out: frozen, typed sections. The keys of a task below `build` are checked by
`jigsaw.config.loading`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from jigsaw.config.section import PathText, Section


class BuildSection(BaseModel):
    """A puzzle set that is built before the run, unless it is there already. Keys beyond these configure the task.

    Attributes:
        task: name of the task, or a plug-in.
        source: folder of photos, videos or RGB-D frames; or `samples`, `film`, `scenes`, `rooms` or `landscapes`,
            which the framework brings along.
        split: which side of the train/held-out split of the source is used; None takes all of it.
        heldout: share of the sources that is held out, unless the folder has `train/` and `heldout/` of its own.
        per_source: puzzles from each source.
        limit: most sources to use, a sample that is the same on every machine.
        seed: of geometry and order; another seed gives other puzzles.
        materialize: keep rendered media in the data set; for small pieces and many epochs.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    task: str
    source: PathText
    split: Literal["train", "heldout"] | None = None
    heldout: float = Field(0.2, gt=0, lt=1)
    per_source: int = Field(1, ge=1)
    limit: int | None = Field(None, ge=1)
    seed: int = 0
    materialize: bool = False

    @property
    def config(self) -> dict[str, Any]:
        """The keys that configure the task."""
        return dict(self.model_extra or {})


SET_NAME = r"^[A-Za-z0-9][A-Za-z0-9 _-]{0,39}$"
"""Names of held-out sets: they are also names of folders."""


class DataEntry(Section):
    """One set of a mixture: a puzzle set by `path`, one that is built first, or conversations for the supervised stage.

    Attributes:
        path: folder of a built puzzle set.
        task: the plug-in task that built the set at `path`, named again before its code is run.
        build: how to build it.
        conversations: a file or folder of conversations about images, or `samples`.
        images: folder that the image paths of `conversations` are relative to; that of the set where not given.
        weight: its share of the training rows, relative to the other entries.
        stage: the only stage that trains on it, `sft` or `grpo`; None for both.
        limit: most rows to use, spread over the set.
        name: of a held-out set that is reported on its own; those without a name are one set, which is the one that is
            evaluated during training.
    """

    path: PathText | None = None
    task: str | None = None
    build: BuildSection | None = None
    conversations: PathText | None = None
    images: PathText | None = None
    weight: float = Field(1.0, gt=0)
    stage: Literal["sft", "grpo"] | None = None
    limit: int | None = Field(None, ge=1)
    name: str | None = Field(None, pattern=SET_NAME)

    @model_validator(mode="after")
    def _one_origin(self) -> DataEntry:
        if sum(origin is not None for origin in (self.path, self.build, self.conversations)) != 1:
            raise ValueError("give either path, build or conversations")
        if self.task is not None and self.path is None:
            raise ValueError("task belongs to path; a build names its own")
        if self.images is not None and self.conversations is None:
            raise ValueError("images belongs to conversations")
        if self.conversations is not None and self.stage == "grpo":
            raise ValueError("conversations have no answer to reward: only sft trains on them")
        return self

    @property
    def task_spec(self) -> str | None:
        """The spec of the task whose code the user names; None where the set's own name has to do."""
        return self.task if self.build is None else self.build.task

    def trains(self, stage: str) -> bool:
        """Whether a stage trains on it."""
        return self.stage in (None, stage) and (self.conversations is None or stage == "sft")


class DataSection(Section):
    """What is trained on and what is held out.

    Attributes:
        photos: a folder of photos, or `samples` or `landscapes`; recipes refer to it as `${data.photos}`.
        folder: where puzzle sets and samples are built; the next run reuses them.
        train: the mixture that the supervised stage and GRPO train on.
        eval: held-out puzzles, of which the run reports.
    """

    photos: PathText = "samples"
    folder: PathText = "data"
    train: tuple[DataEntry, ...] = Field(min_length=1)
    eval: tuple[DataEntry, ...] = ()

    @property
    def heldout_tasks(self) -> tuple[str, ...]:
        """The specs of the tasks that the held-out sets name."""
        return tuple(entry.task_spec for entry in self.eval if entry.task_spec is not None)

    @model_validator(mode="after")
    def _held_out_are_puzzles(self) -> DataSection:
        if any(entry.conversations is not None for entry in self.eval):
            raise ValueError("eval holds puzzles: conversations have no answer to compare with")
        if any(entry.name is not None for entry in self.train):
            raise ValueError("name belongs to an entry of eval; training sets have none")
        if self.eval and all(entry.name is not None for entry in self.eval):
            raise ValueError("eval: leave one entry without a name, it is the set that the run is judged by")
        return self
