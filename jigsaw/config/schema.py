"""The schema of a recipe: frozen, typed sections that forbid unknown keys.

In: the content of a YAML file, resolved by `jigsaw.config.loading`. Out: a `Recipe`, or pydantic's complaint with the
key. What the schema leaves to others: TRL's fields below `sft.extra` and `grpo.extra` (`jigsaw.config.trl_fields`),
rewards and metrics (`jigsaw.rewards`), and whether this machine has what is asked for (`jigsaw.launch.checks`).
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from jigsaw.config.data import DataSection
from jigsaw.config.model import ModelSection
from jigsaw.config.section import PathText, Section
from jigsaw.config.stages import GrpoSection, SftSection


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
        if self.ahead and not self.uses_server:
            raise ValueError("ahead needs engine: vllm and mode: server, which has GPUs of its own")
        if self.mode == "colocate" and self.tensor_parallel_size > 1:
            raise ValueError("tensor_parallel_size above 1 needs mode: server; colocate has one engine on each GPU")
        return self

    @property
    def uses_server(self) -> bool:
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
    output: PathText

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
