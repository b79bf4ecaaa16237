"""The schema of a recipe: frozen, typed sections that forbid unknown keys.

In: the content of a YAML file, resolved by `jigsaw.config.loading`. Out: a `Recipe`, or pydantic's error with the key.
The schema does not check TRL's fields below `sft.extra` and `grpo.extra` (see `jigsaw.config.trl_fields`), rewards and
metrics (`jigsaw.rewards`), or whether the machine has what the recipe needs (`jigsaw.launch.checks`).
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from jigsaw.config.data import DataSection
from jigsaw.config.model import ModelSection
from jigsaw.config.section import PathText, Section
from jigsaw.config.stages import GrpoSection, SftSection


class EvaluationSection(Section):
    """Evaluation on held-out puzzles.

    Attributes:
        every: GRPO steps between periodic evaluations; 0 for none.
        puzzles: held-out puzzles of a periodic evaluation, spread over the set; the final evaluation uses all of them.
        batch_size: prompts in a generation batch.
        max_new_tokens: maximum tokens of a completion; None for the limit of GRPO.
    """

    every: int = Field(50, ge=0)
    puzzles: int = Field(64, ge=1)
    batch_size: int = Field(64, ge=1)
    max_new_tokens: int | None = Field(None, ge=1)


class RolloutSection(Section):
    """The engine that samples completions.

    Attributes:
        engine: `transformers` or `vllm`.
        mode: for vLLM: `colocate` runs it in the trainer's process, on the same device; `server` runs it in a separate
            process on the first node, on the GPUs after those of training.
        port: port of the server; the next port is used to send it weights.
        gpu_memory_utilization: share of the GPU's memory that vLLM uses.
        tensor_parallel_size: number of GPUs that the server uses.
        max_model_len: maximum tokens of a prompt with its completion in vLLM.
        enforce_eager: disable CUDA graphs, for a faster start and slower sampling.
        sleep: for `colocate`: free vLLM's memory while the trainer works.
        ahead: for `server`: 1 samples the next batch during training on this one, with weights that are one update
            older; it needs `grpo.vllm_importance_sampling_correction`, which corrects for that. 0 samples with the
            weights of the step.
        max_logp_difference: mean absolute difference of log-probabilities between vLLM and the trainer above which the
            run stops; a warning is printed above a quarter of it.
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
            raise ValueError("sleep needs mode: colocate; a server has its own GPUs")
        if self.ahead and not self.uses_server:
            raise ValueError("ahead needs engine: vllm and mode: server, which has its own GPUs")
        if self.mode == "colocate" and self.tensor_parallel_size > 1:
            raise ValueError("tensor_parallel_size above 1 needs mode: server; colocate has one engine on each GPU")
        return self

    @property
    def uses_server(self) -> bool:
        """Whether a vLLM server samples the completions."""
        return self.engine == "vllm" and self.mode == "server"


class SamplingSection(Section):
    """How groups of completions are sampled and computed.

    Attributes:
        shared_prefix: compute a prompt once for all of its completions, in sampling and in the loss; `false` computes
            it once per completion.
        dynamic: replace groups whose rewards are all equal, which teach nothing, with groups of fresh puzzles.
        max_resamples: maximum rounds of fresh puzzles in a step.
        self_check: compare the first group's log-probabilities with the model's own forward pass on each single
            sequence, and stop the run if they differ by more than rounding.
    """

    shared_prefix: bool = True
    dynamic: bool = False
    max_resamples: int = Field(3, ge=1)
    self_check: bool = True


class CurriculumStage(Section):
    """A part of training in which only some sizes of a task are used.

    Attributes:
        until: share of all steps after which the stage ends.
        pieces: numbers of pieces that are used.
        task: the task that the stage restricts; None for all.
    """

    until: float = Field(gt=0, le=1)
    pieces: tuple[int, ...] = Field(min_length=1)
    task: str | None = None


class CurriculumSection(Section):
    """The order of puzzles in GRPO. Puzzles are sorted into buckets by task and number of pieces.

    Attributes:
        mode: `none` keeps the order of the sets; `static` follows `stages`; `adaptive` prefers buckets with many
            informative groups. The weights of the mixture apply per task in every mode.
        stages: for `static`: the stages in order; after the last one all buckets are used.
        floor: for `adaptive`: minimum preference of a bucket; its preference is the share of its informative groups.
        memory: for `adaptive`: weight of the past in that share when one more group is counted.
    """

    mode: Literal["none", "static", "adaptive"] = "none"
    stages: tuple[CurriculumStage, ...] = ()
    floor: float = Field(0.1, gt=0, le=1)
    memory: float = Field(0.98, ge=0, lt=1)

    @model_validator(mode="after")
    def _consistent(self) -> CurriculumSection:
        if (self.mode == "static") != bool(self.stages):
            raise ValueError("mode: static needs stages, and the other modes take none")
        ends = [stage.until for stage in self.stages]
        if ends != sorted(ends):
            raise ValueError(f"stages end at {', '.join(map(str, ends))}: give them in order")
        return self


class StabilitySection(Section):
    """Bounds outside which a GRPO run is reported as unstable, most of them relative to its own first steps.

    Attributes:
        entropy_low, entropy_high: bounds of the entropy per token, as a multiple of that of the first steps.
        length_low, length_high: bounds of the mean completion length, as a multiple of that of the first steps.
        truncated: maximum share of completions that reach the token limit.
        patience: consecutive steps outside a bound before a warning; also the number of first steps.
        stop: stop the run with an error instead of a warning.
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
        every: steps between checkpoints of weights, optimizer and random state.
        keep: number of newest checkpoints to keep; an older one is used if the newest is damaged. All are removed when
            their stage is complete.
    """

    every: int = Field(100, ge=1)
    keep: int = Field(2, ge=1)


class DistributedSection(Section):
    """The processes of a run, and how they share the model.

    Attributes:
        gpus: training processes per node, one per GPU; `all` for all GPUs of the node. None: one process, on a GPU if
            there is one.
        cpu_processes: training processes per node without GPUs, instead of `gpus`; for trying a distributed run.
        nodes: number of machines, which share the run folder and the data.
        zero: DeepSpeed's ZeRO stage. 0 is plain data parallelism without DeepSpeed; 1 shards the optimizer, 2 also the
            gradients, 3 also the weights.
        offload: state that is kept in host memory: the `optimizer`, or, with ZeRO-3, `all` (the weights too).
        hpz: with ZeRO-3 on several nodes, keep a second copy of the weights, sharded within each node (ZeRO++ hpZ), and
            gather the weights from it. It needs more memory and is useful if the network between nodes is slow.
        seconds_to_save: seconds before the end of a SLURM job at which the run saves and stops; null for three times
            the computed time of a step and a checkpoint, at least 300.
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
            raise ValueError("hpz needs zero: 3 and several nodes, since it saves traffic between nodes")
        return self


class LoggingSection(Section):
    """Logging in addition to `metrics.jsonl`, which is always written.

    Attributes:
        report_to: experiment trackers that also get the metrics; each must be installed.
        project: the trackers' project; the runs in it are named `NAME-sft` and `NAME-grpo`.
        completions: GRPO completions per logged step in `completions.jsonl` and on the trackers; 0 for none.
        completions_every: GRPO steps between steps whose completions are logged.
    """

    report_to: tuple[Literal["wandb", "tensorboard", "trackio"], ...] = ()
    project: str = "jigsaw"
    completions: int = Field(4, ge=0)
    completions_every: int = Field(20, ge=1)


class Recipe(Section):
    """A complete, resolved recipe.

    Attributes:
        name: name of the run; letters, digits, `.`, `_` and `-`. Recipes refer to it as `${name}`.
        description: one line about the run, for its report.
        seed: random seed of training, for sampling, the order of puzzles and everything else that is random.
        model: the model to train.
        data: training sets and held-out sets.
        rewards: `{use, weight, args, gate, only, on_error}` each; checked by the `rewards` package.
        metrics: names of metrics that are logged but not optimised.
        sft: the supervised stage before GRPO; with `grpo: null` it is the only stage. None for no such stage.
        grpo: the GRPO stage; None for no such stage.
        evaluation: evaluation on held-out puzzles.
        sampling: how groups of completions are sampled and computed.
        curriculum: the order of puzzles in GRPO.
        stability: bounds outside which a GRPO run is reported as unstable.
        rollout: the engine that samples completions.
        checkpoint: checkpoints, from which an interrupted run continues.
        distributed: the processes of a run.
        logging: completions to log, and experiment trackers.
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
        """Maximum tokens of a completion in an evaluation: `evaluation.max_new_tokens`, or the limit of GRPO."""
        return self.evaluation.max_new_tokens or (self.grpo or GrpoSection()).max_completion_length

    @model_validator(mode="after")
    def _some_training(self) -> Recipe:
        if self.sft is None and self.grpo is None:
            raise ValueError("give sft, grpo or both: there is nothing to train")
        for stage in ("sft", "grpo"):
            if getattr(self, stage) is not None and not any(entry.trains(stage) for entry in self.data.train):
                raise ValueError(f"no entry of data.train is for {stage}; add one, or remove `stage` from an entry")
        if self.sft is not None and self.sft.optim == "muon" and self.distributed.zero:
            raise ValueError("sft.optim: muon does not work with DeepSpeed; set distributed.zero: 0 or change optim")
        return self

    @model_validator(mode="after")
    def _ahead(self) -> Recipe:
        if self.grpo is None or not self.rollout.ahead:
            return self
        if not self.grpo.vllm_importance_sampling_correction:
            raise ValueError(
                "rollout.ahead needs grpo.vllm_importance_sampling_correction: true, because it samples with "
                "older weights"
            )
        if self.sampling.dynamic or self.curriculum.mode != "none":
            raise ValueError(
                "rollout.ahead samples before the current step is complete, so it does not work with sampling.dynamic "
                "or a curriculum"
            )
        return self
