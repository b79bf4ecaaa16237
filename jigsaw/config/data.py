"""The `data` section of a recipe: training and held-out sets, built or given by path.

In: the content of the section. Out: frozen, typed sections. The keys of a task below `build` are checked by
`jigsaw.config.loading`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from jigsaw.config.section import PathText, Section


class BuildSection(BaseModel):
    """A puzzle set that is built before the run, unless it exists already. All other keys configure the task.

    Attributes:
        task: name of the task, or a plug-in.
        source: folder of photos, videos or RGB-D frames; or a built-in source: `samples`, `big-buck-bunny`,
            `scenes`, `rooms` or `landscapes`.
        split: the side of the source's train/held-out split to use; None uses all sources.
        heldout: share of the sources that is held out, unless the folder has `train/` and `heldout/` subfolders.
        per_source: puzzles from each source.
        limit: maximum number of sources; the selection is the same on every machine.
        seed: random seed of the puzzles' geometry and order.
        materialize: store the rendered media in the data set; useful for small pieces and many epochs.
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
"""Pattern for the names of held-out sets, which are also folder names."""


class DataEntry(Section):
    """One set of a mixture: an existing puzzle set, a set to build, or conversations for the supervised stage.

    Attributes:
        path: folder of an existing puzzle set.
        task: the plug-in task that built the set at `path`; it must be named, since its code is run.
        build: how to build the set.
        conversations: a file or folder of conversations about images, or `samples`.
        images: folder that the image paths of `conversations` are relative to; the set's folder by default.
        weight: share of the training rows, relative to the other entries.
        stage: the only stage that trains on the set, `sft` or `grpo`; None for both.
        limit: maximum rows, spread over the set.
        name: name of a held-out set that is reported separately. The sets without a name form the main held-out set,
            which is also evaluated during training.
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
            raise ValueError("task belongs to path; a build section names its own task")
        if self.images is not None and self.conversations is None:
            raise ValueError("images belongs to conversations")
        if self.conversations is not None and self.stage == "grpo":
            raise ValueError("conversations have no answer to reward, so only sft can train on them")
        return self

    @property
    def task_spec(self) -> str | None:
        """The task that the entry names; None if only the set itself names it."""
        return self.task if self.build is None else self.build.task

    def trains(self, stage: str) -> bool:
        """Whether a stage trains on the set."""
        return self.stage in (None, stage) and (self.conversations is None or stage == "sft")


class DataSection(Section):
    """Training sets and held-out sets.

    Attributes:
        photos: a folder of photos, or `samples` or `landscapes`; recipes refer to it as `${data.photos}`.
        folder: folder for built puzzle sets and samples, which later runs reuse.
        train: the mixture that the supervised stage and GRPO train on.
        eval: held-out puzzle sets, on which the run is evaluated.
    """

    photos: PathText = "samples"
    folder: PathText = "data"
    train: tuple[DataEntry, ...] = Field(min_length=1)
    eval: tuple[DataEntry, ...] = ()

    @property
    def heldout_tasks(self) -> tuple[str, ...]:
        """The tasks that the held-out sets name."""
        return tuple(entry.task_spec for entry in self.eval if entry.task_spec is not None)

    @model_validator(mode="after")
    def _held_out_are_puzzles(self) -> DataSection:
        if any(entry.conversations is not None for entry in self.eval):
            raise ValueError("eval takes puzzle sets only: conversations have no answer to compare with")
        if any(entry.name is not None for entry in self.train):
            raise ValueError("name belongs to an entry of eval; training sets have no name")
        if self.eval and all(entry.name is not None for entry in self.eval):
            raise ValueError("eval: leave one entry without a name; it is the main held-out set")
        return self
