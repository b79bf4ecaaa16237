"""The schema of a recipe: frozen, typed sections that forbid unknown keys.

In: the content of a YAML file, resolved by `jigsaw.config.loading`. Out: a `Recipe`, or pydantic's complaint with the
key. What the schema leaves to others: TRL's fields below `sft.extra` and `grpo.extra` (`jigsaw.config.trl_fields`),
rewards and metrics (`jigsaw.rewards`), and whether this machine has what is asked for (`jigsaw.launch.checks`).
"""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from jigsaw.config.section import Section
from jigsaw.config.stages import GrpoSection, SftSection
from jigsaw.models.tiny import TinyArchitecture, TinySizes

Place = Annotated[str, AfterValidator(os.path.expanduser)]
"""A file or folder; a `~` in front is the home folder."""


class PixelLimits(Section):
    """Pixel limits of one image or video, as the model's processor applies them.

    Attributes:
        min_pixels: a medium with fewer is enlarged; None for the checkpoint's own limit.
        max_pixels: a medium with more is shrunk; None likewise.
    """

    min_pixels: int | None = Field(None, gt=0)
    max_pixels: int | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _in_order(self) -> PixelLimits:
        if self.min_pixels is not None and self.max_pixels is not None and self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels {self.min_pixels} is over max_pixels {self.max_pixels}")
        return self


class LoraSection(Section):
    """Low-rank adapters instead of all weights; they are merged into the checkpoint that a stage leaves.

    Attributes:
        rank: of the adapters.
        alpha: scale; the update is multiplied by alpha / rank.
        dropout: on the input of the adapters.
        targets: names of the linear layers that get one, or `all-linear`. Layers that `model.freeze` matches get none.
    """

    rank: int = Field(16, ge=1)
    alpha: float = Field(32, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"


class ModelSection(Section):
    """Which model is trained: a checkpoint, or a tiny one made from random weights.

    Attributes:
        path: a local checkpoint folder or a hub id.
        tiny: the architecture of a tiny model, instead of `path`.
        sizes: sizes of a tiny model.
        dtype: of computation and of the checkpoints. Weights that are trained are kept in float32 meanwhile.
        image: pixel limits for the processor; those of the checkpoint where not given.
        video: likewise for videos: of each frame (Qwen2.5-VL), or of all frames of a clip together (Qwen3-VL). A model
            that takes a clip as images has none. InternVL cuts an image into as many tiles as `image.max_pixels`
            allows; SmolVLM and Gemma 3 resize every image to one size and take no limits.
        no_think: ask a reasoning model for the answer alone: `template` turns off the switch `enable_thinking` of its
            chat template, any other text is added to the user's turns, such as `/no_think` for MiMo-VL. The changed
            template is saved with the trained model.
        frames: how NEO's prompts label the frames of a clip, `seconds` for NEO 1.0 and `numbers` for NEO 1.5; null for
            what the checkpoint has.
        freeze: what is not trained: `vision_tower`, `projector`, `language_model`, or patterns of parameter names such
            as `*.visual.blocks.0.*`; of a NEO also `patch-embedding`, `pre-buffer`, `hw-projections`, `post-llm`.
        pre_buffer: how many layers of a NEO are its pre-Buffer, where `freeze` names such a group.
        lora: adapters instead of all weights; None trains the weights.
    """

    path: Place | None = None
    tiny: TinyArchitecture | None = None
    sizes: TinySizes = TinySizes()
    dtype: Literal["float32", "bfloat16"] = "float32"
    image: PixelLimits = PixelLimits()
    video: PixelLimits = PixelLimits()
    no_think: str | None = Field(None, min_length=1)
    frames: Literal["seconds", "numbers"] | None = None
    freeze: tuple[str, ...] = ()
    pre_buffer: int | None = Field(None, ge=0)
    lora: LoraSection | None = None

    @property
    def processing(self) -> dict[str, Any]:
        """Pixel limits and prompts, as arguments of `load_processor`."""
        videos = {"min_video_pixels": self.video.min_pixels, "max_video_pixels": self.video.max_pixels}
        return self.image.model_dump() | videos | {"no_think": self.no_think, "frames": self.frames}

    @model_validator(mode="after")
    def _one_origin(self) -> ModelSection:
        if self.path is not None and self.tiny is not None:
            raise ValueError("give either path or tiny; write tiny: null (tiny=null) to train the model at path")
        if self.path is None and self.tiny is None:
            raise ValueError("give path, a checkpoint folder or hub id, or tiny, an architecture")
        return self


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
    source: Place
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

    path: Place | None = None
    task: str | None = None
    build: BuildSection | None = None
    conversations: Place | None = None
    images: Place | None = None
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

    photos: Place = "samples"
    folder: Place = "data"
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


class EvaluationSection(Section):
    """When a run is evaluated on held-out puzzles.

    Attributes:
        every: GRPO steps between periodic evaluations; 0 for none.
        puzzles: held-out puzzles of a periodic evaluation, spread over the set; the final one uses all of them.
        batch_size: prompts that are generated together.
        max_new_tokens: completion limit; that of GRPO where not given.
    """

    every: int = Field(50, ge=0)
    puzzles: int = Field(64, ge=1)
    batch_size: int = Field(64, ge=1)
    max_new_tokens: int | None = Field(None, ge=1)


class RolloutSection(Section):
    """How completions are sampled.

    Attributes:
        engine: `transformers`, or `vllm`.
        mode: of vLLM: `colocate` runs it in the trainer's process, on the same device; `server` in a process of its own
            on the first node, on the GPUs that follow those of training.
        port: of the server; the one above it is for its weights.
        gpu_memory_utilization: share of the GPU's memory that vLLM takes.
        tensor_parallel_size: GPUs that a server spans.
        max_model_len: tokens of the longest prompt with its completion that vLLM makes room for.
        enforce_eager: no CUDA graphs: a quicker start, slower sampling.
        sleep: of `colocate`: free vLLM's memory while the trainer works.
        ahead: of `server`: 1 samples the next batch while this one is trained on, with weights that are one update
            older; it needs `grpo.vllm_importance_sampling_correction`, which corrects for that. 0 samples with the
            weights of the step.
        max_logp_difference: mean absolute difference of log-probabilities between vLLM and the trainer beyond which
            the run stops; a quarter of it is warned of.
    """

    engine: Literal["transformers", "vllm"] = "transformers"
    mode: Literal["colocate", "server"] = "colocate"
    port: int = Field(8000, ge=1024, le=65534)
    gpu_memory_utilization: float = Field(0.3, gt=0, le=1)
    tensor_parallel_size: int = Field(1, ge=1)
    max_model_len: int = Field(8192, ge=16)
    enforce_eager: bool = False
    sleep: bool = False
    ahead: int = Field(0, ge=0, le=1)
    max_logp_difference: float = Field(0.1, gt=0)

    @model_validator(mode="after")
    def _of_one_mode(self) -> RolloutSection:
        if self.mode == "server" and self.sleep:
            raise ValueError("sleep belongs to mode: colocate; a server has GPUs of its own")
        if self.ahead and not self.served:
            raise ValueError("ahead needs engine: vllm and mode: server, which has GPUs of its own")
        if self.mode == "colocate" and self.tensor_parallel_size > 1:
            raise ValueError("tensor_parallel_size above 1 needs mode: server; colocate has one engine on each GPU")
        return self

    @property
    def served(self) -> bool:
        """Whether a server samples."""
        return self.engine == "vllm" and self.mode == "server"


class SamplingSection(Section):
    """How groups of completions are made.

    Attributes:
        shared_prefix: a prompt is computed once for all of its completions, in sampling and in the loss; `false`
            computes it once for each.
        dynamic: replace groups whose rewards are all equal, which teach nothing, by groups of fresh puzzles.
        max_resamples: rounds of fresh puzzles in a step.
        self_check: compare the first group's log-probabilities with the model's own forward pass on each sequence
            alone, and stop if they differ by more than rounding.
    """

    shared_prefix: bool = True
    dynamic: bool = False
    max_resamples: int = Field(3, ge=1)
    self_check: bool = True


class CurriculumStage(Section):
    """A part of training in which a task is shown in some sizes only.

    Attributes:
        until: share of the steps at which the stage ends.
        pieces: numbers of pieces that are shown.
        task: the task that it is for; None for all.
    """

    until: float = Field(gt=0, le=1)
    pieces: tuple[int, ...] = Field(min_length=1)
    task: str | None = None


class CurriculumSection(Section):
    """The order in which GRPO sees puzzles; puzzles fall into buckets by task and number of pieces.

    Attributes:
        mode: `none` takes them as they come; `static` by `stages`; `adaptive` prefers buckets in which many groups have
            unequal rewards. The mixture's weights hold per task in any case.
        stages: of `static`, in order; after the last all buckets are shown.
        floor: of `adaptive`: least preference of a bucket, which is else the share of its groups with unequal rewards.
        memory: of `adaptive`: how much of what was known of a bucket remains after one more group.
    """

    mode: Literal["none", "static", "adaptive"] = "none"
    stages: tuple[CurriculumStage, ...] = ()
    floor: float = Field(0.1, gt=0, le=1)
    memory: float = Field(0.98, ge=0, lt=1)

    @model_validator(mode="after")
    def _consistent(self) -> CurriculumSection:
        if (self.mode == "static") != bool(self.stages):
            raise ValueError("stages belong to mode: static, and it needs some")
        ends = [stage.until for stage in self.stages]
        if ends != sorted(ends):
            raise ValueError(f"stages end at {', '.join(map(str, ends))}: give them in order")
        return self


class StabilitySection(Section):
    """When a GRPO run is reported as unstable: bounds relative to its own first steps, which must hold for a while.

    Attributes:
        entropy_low, entropy_high: entropy per token over that of the first steps.
        length_low, length_high: mean completion length over that of the first steps.
        truncated: share of completions that were cut off.
        patience: consecutive steps beyond a bound before a warning; also the number of first steps that set the level.
        stop: end the run with an error then, instead of a warning.
    """

    entropy_low: float = Field(0.02, ge=0)
    entropy_high: float = Field(3.0, gt=0)
    length_low: float = Field(0.1, ge=0)
    length_high: float = Field(5.0, gt=0)
    truncated: float = Field(0.5, gt=0, le=1)
    patience: int = Field(10, ge=1)
    stop: bool = False


class CheckpointSection(Section):
    """Checkpoints, from which an interrupted run continues.

    Attributes:
        every: steps between checkpoints of weights, optimizer and randomness.
        keep: how many of the newest are kept: an older one is used if the newest is damaged. All are removed when their
            stage is complete.
    """

    every: int = Field(100, ge=1)
    keep: int = Field(2, ge=1)


class DistributedSection(Section):
    """On how many processes a run trains, and how they share the model.

    Attributes:
        gpus: processes of each node, one per GPU; `all` for those that it has. None: one process, on a GPU where there
            is one.
        cpu_processes: processes of each node without GPUs, instead of `gpus`; for trying a distributed run.
        nodes: machines. They share the run folder and the data.
        zero: DeepSpeed's ZeRO stage. 0 is plain data parallelism without DeepSpeed; 1 shards the optimizer, 2 also the
            gradients, 3 also the weights.
        offload: what is kept in the memory of the host: the `optimizer`, or with ZeRO-3 `all`, the weights too.
        hpz: with ZeRO-3 on several nodes, a second copy of the weights in shards within each node (ZeRO++ hpZ), from
            which they are gathered. It needs more memory, and pays where the network between nodes is slow.
        seconds_to_save: how long before SLURM takes the nodes away a run is asked to save and stop; null: three
            times the computed time of a step and a checkpoint, at least 300.
        slurm: options of sbatch for `--slurm`, by their long names: `{partition: gpu, time: "24:00:00"}`.
    """

    gpus: Literal["all"] | int | None = None
    cpu_processes: int | None = Field(None, ge=1)
    nodes: int = Field(1, ge=1)
    zero: Literal[0, 1, 2, 3] = 0
    offload: Literal["none", "optimizer", "all"] = "none"
    hpz: bool = False
    seconds_to_save: int | None = Field(None, ge=60)
    slurm: dict[str, str | int | bool] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> DistributedSection:
        if isinstance(self.gpus, int) and self.gpus < 1:
            raise ValueError(f"gpus: at least 1 or all, not {self.gpus}; leave it out to train in one process")
        if self.gpus is not None and self.cpu_processes is not None:
            raise ValueError("give either gpus or cpu_processes")
        if self.offload != "none" and self.zero == 0:
            raise ValueError("offload needs DeepSpeed: set zero to 1, 2 or 3")
        if self.offload == "all" and self.zero != 3:
            raise ValueError("offload: all needs zero: 3, the only stage that shards the weights")
        if self.hpz and (self.zero != 3 or self.nodes == 1):
            raise ValueError("hpz needs zero: 3 and several nodes, between which it saves traffic")
        return self


class LoggingSection(Section):
    """Where a run is followed beside `metrics.jsonl`, which is always written.

    Attributes:
        report_to: trackers that also get the metrics; each must be installed.
        project: the trackers' name for a group of runs; a run is named `NAME-sft` and `NAME-grpo` there.
        completions: GRPO completions kept of each logged step, in `completions.jsonl` and on the trackers; 0 for none.
        completions_every: GRPO steps between logged ones.
    """

    report_to: tuple[Literal["wandb", "tensorboard", "trackio"], ...] = ()
    project: str = "jigsaw"
    completions: int = Field(4, ge=0)
    completions_every: int = Field(20, ge=1)


class Recipe(Section):
    """A whole run, resolved.

    Attributes:
        name: of the run; letters, digits, `.`, `_` and `-`. Recipes refer to it as `${name}`.
        description: one line about the run, for its report.
        seed: of sampling, order and every other draw of training.
        model: which model is trained.
        data: what it is trained on, and what is held out.
        rewards: `{use, weight, args, gate, only, on_error}` each; checked by the `rewards` package.
        metrics: names of metrics that are logged, not optimised.
        sft: the supervised stage before GRPO; with `grpo: null` it is the whole run. None for none.
        grpo: the GRPO stage; None for none.
        evaluation: when the run is evaluated on held-out puzzles.
        sampling: how groups of completions are made.
        curriculum: which puzzles GRPO sees when.
        stability: when a GRPO run is said to go wrong.
        rollout: who samples completions.
        checkpoint: checkpoints, from which an interrupted run continues.
        distributed: on how many processes a run trains.
        logging: where a run can be followed.
        output: the run folder; `${fresh:runs/x}` is the first of `runs/x`, `runs/x-2`, ... that does not exist.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    description: str = ""
    seed: int = 0
    model: ModelSection
    data: DataSection
    rewards: tuple[dict[str, Any], ...] = ({"use": "visual_jigsaw"},)
    metrics: tuple[str, ...] = ("exact", "place_accuracy", "valid", "format")
    sft: SftSection | None = None
    grpo: GrpoSection | None = None
    evaluation: EvaluationSection = EvaluationSection()
    sampling: SamplingSection = SamplingSection()
    curriculum: CurriculumSection = CurriculumSection()
    stability: StabilitySection = StabilitySection()
    rollout: RolloutSection = RolloutSection()
    checkpoint: CheckpointSection = CheckpointSection()
    distributed: DistributedSection = DistributedSection()
    logging: LoggingSection = LoggingSection()
    output: Place

    @property
    def completion_limit(self) -> int:
        """Most tokens of an answer to a held-out puzzle: `evaluation.max_new_tokens`, or as in GRPO."""
        return self.evaluation.max_new_tokens or (self.grpo or GrpoSection()).max_completion_length

    @model_validator(mode="after")
    def _some_training(self) -> Recipe:
        if self.sft is None and self.grpo is None:
            raise ValueError("give sft, grpo or both: there is nothing to train")
        for stage in ("sft", "grpo"):
            if getattr(self, stage) is not None and not any(entry.trains(stage) for entry in self.data.train):
                raise ValueError(f"no entry of data.train is for {stage}; give puzzles without `stage`")
        if self.sft is not None and self.sft.optim == "muon" and self.distributed.zero:
            raise ValueError("sft.optim: muon trains without DeepSpeed; take another, or set distributed.zero: 0")
        return self

    @model_validator(mode="after")
    def _ahead(self) -> Recipe:
        if self.grpo is None or not self.rollout.ahead:
            return self
        if not self.grpo.vllm_importance_sampling_correction:
            raise ValueError("rollout.ahead needs grpo.vllm_importance_sampling_correction: true, for older weights")
        if self.sampling.dynamic or self.curriculum.mode != "none":
            raise ValueError(
                "rollout.ahead cannot choose puzzles by a step that is not done: no sampling.dynamic, no curriculum"
            )
        return self
