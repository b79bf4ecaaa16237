"""Estimates memory, disk and time of a run from its recipe, before anything is loaded. `docs/gpu.md` has the formula.

In: a recipe, and a machine of `jigsaw.launch.machines`. Out: an `Estimate` for each stage. The figures are computed,
not measured: memory is the peak of a step, and time is operations and bytes divided by the rates of the machine.
Neither torch nor transformers is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jigsaw.config.schema import Recipe
from jigsaw.config.stages import StageSection
from jigsaw.errors import JigsawError
from jigsaw.launch.machines import H100, H200, MACHINES, Machine
from jigsaw.launch.memory import GB, States, activations_of, states_of
from jigsaw.launch.workload import Step, Workload, step_of, workload_of
from jigsaw.models.shapes import Shape, shape_of

PROCESS = 6 * GB
"""Host memory of a process, in bytes: Python, torch, CUDA's context, vLLM."""

ENGINE = 5 * GB
"""GPU memory of vLLM in addition to weights and cache, in bytes: its profile run and CUDA graphs."""

SAMPLING = 25_000 * 7.6e9 / H100.bandwidth
"""Tokens per second that vLLM samples in a full batch, times parameters, divided by the GPU's memory bandwidth."""

LONE_TOKEN = 0.002
"""Seconds per token of the last sequence of a batch, in addition to reading the weights."""

PREPARING = (3.0, 0.14e-3)
"""Seconds to prepare the prompts of a process for trainer and vLLM, and additional seconds per visual token."""

TRANSFER = 5.5e9
"""Bytes of weights that vLLM loads per second in a weight sync."""

DISK = 1e9
"""Bytes per second to a shared file system."""

NETWORK = 50e9
"""Bytes per second of each GPU to other nodes."""

PCIE = 20e9
"""Bytes per second between a GPU and its host."""


@dataclass(frozen=True)
class Estimate:
    """The estimate of a stage on a machine.

    Attributes:
        stage: `sft` or `grpo`.
        machine: the machine of the estimate.
        work: tokens of a puzzle.
        training: bytes on each GPU in the loss pass, by use.
        sampling: bytes on each GPU while vLLM samples, by use.
        cache: bytes of vLLM's cache beyond one sequence; None without vLLM on the training GPUs.
        host: bytes of host memory on each node, by use.
        checkpoint: bytes of a checkpoint.
        kept: number of checkpoints on disk while one is written.
        model: bytes of the model at the end of the stage.
        seconds: seconds of a step, by part.
        steps: steps of the stage; None if the number of puzzles is unknown.
    """

    stage: str
    machine: Machine
    work: Workload
    training: Mapping[str, float]
    sampling: Mapping[str, float]
    cache: float | None
    host: Mapping[str, float]
    checkpoint: float
    kept: int
    model: float
    seconds: Mapping[str, float]
    steps: int | None

    @property
    def peak(self) -> Mapping[str, float]:
        """Bytes on each GPU at the peak, by use."""
        return max(self.training, self.sampling, key=lambda held: sum(held.values()))

    @property
    def fits(self) -> bool:
        """Whether the GPUs have enough memory, and vLLM's cache has room for one sequence."""
        within = sum(self.peak.values()) <= self.machine.gpu.memory * GB
        return within and (self.cache is None or self.cache >= 0)

    @property
    def step(self) -> float:
        """Seconds per step."""
        return sum(self.seconds.values())

    @property
    def hours(self) -> float | None:
        """Hours of the stage, without periodic evaluation; None if the number of steps is unknown."""
        return None if self.steps is None else self.steps * self.step / 3600

    @property
    def saving(self) -> float:
        """Seconds from a request to stop until a checkpoint is written: the step is finished first."""
        return self.step + self.checkpoint / DISK


def estimates(recipe: Recipe, machine: Machine | None = None) -> list[Estimate]:
    """The estimates of a recipe's stages; empty if the sizes of its model are unknown, or for a tiny model.

    Args:
        recipe: the recipe.
        machine: the machine; None for a typical machine with the recipe's number of GPUs.

    Raises:
        JigsawError: the number of processes does not divide a batch.
    """
    if recipe.model.path is None or (shape := shape_of(recipe.model.path)) is None:
        return []
    return _of_stages(recipe, shape, machine or _machine_of(recipe, shape))


def _of_stages(recipe: Recipe, shape: Shape, machine: Machine) -> list[Estimate]:
    stages = [stage for stage in ("sft", "grpo") if getattr(recipe, stage) is not None]
    return [_estimate(recipe, stage, shape, machine) for stage in stages]


def _machine_of(recipe: Recipe, shape: Shape) -> Machine:
    """The default machine of an estimate: one GPU of the smallest kind that fits, or several of a typical kind."""
    gpus, nodes = recipe.distributed.gpus, recipe.distributed.nodes
    count = 8 if gpus == "all" else gpus or 1
    if count == 1 and nodes == 1:
        return next((one for one in MACHINES if one.processes == 1 and _fits(recipe, one)), Machine(H200))
    usual = Machine(H100, count, nodes)
    peaks = [sum(one.peak.values()) for one in _of_stages(recipe, shape, usual)]
    return usual if max(peaks) <= H100.memory * GB else Machine(H200, count, nodes)


def smallest_machine(recipe: Recipe) -> Machine | None:
    """The first of `MACHINES` that a recipe fits on with its other settings unchanged; None if it fits on none."""
    return next((machine for machine in MACHINES if _fits(recipe, machine)), None)


def _fits(recipe: Recipe, machine: Machine) -> bool:
    try:
        found = estimates(recipe, machine)
    except JigsawError:  # the number of processes does not divide the batch
        return False
    return bool(found) and all(one.fits for one in found)


def _estimate(recipe: Recipe, stage: str, shape: Shape, machine: Machine) -> Estimate:
    section: StageSection = getattr(recipe, stage)
    rollout, work = recipe.rollout, workload_of(recipe, stage, shape)
    step, states = step_of(recipe, stage, work, machine.processes), states_of(recipe, shape, machine.processes)
    engine, cache = 0.0, None
    if stage == "grpo" and rollout.engine == "vllm" and not rollout.uses_server:
        engine = rollout.gpu_memory_utilization * machine.gpu.memory * GB
        sequence = 2 * shape.layers * shape.cache_width * rollout.max_model_len
        cache = engine - 2 * shape.parameters - ENGINE - sequence
    asleep = 0.0 if rollout.sleep else engine
    offloaded = states.on_host / machine.nodes
    prompts = step.prompts * machine.processes
    steps = section.max_steps
    if steps is None and work.puzzles is not None:
        steps = max(1, int(section.num_train_epochs * work.puzzles / prompts))
    return Estimate(
        stage=stage,
        machine=machine,
        work=work,
        training=_present({"vLLM": asleep, **states.on_gpu, **activations_of(section, shape, work, step)}),
        sampling=_present({"vLLM": engine, **states.on_gpu}),
        cache=cache,
        host=_present(
            {
                "processes": PROCESS * machine.gpus,
                "offloaded": offloaded,
                "model while it is read": max(0.0, states.read * machine.gpus - offloaded),
                # One byte per value, for this step and the next.
                "decoded media": 2 * step.prompts * machine.gpus * work.visual * shape.unit**2 * 3 * shape.temporal,
            }
        ),
        checkpoint=states.saved,
        kept=recipe.checkpoint.keep + 1,
        model=2 * shape.parameters,
        seconds=_present(_seconds(recipe, stage, shape, machine, work, step, states)),
        steps=steps,
    )


def _seconds(
    recipe: Recipe, stage: str, shape: Shape, machine: Machine, work: Workload, step: Step, states: States
) -> dict[str, float]:
    """Seconds per step of each process, by part."""
    gpu, section = machine.gpu, recipe.distributed
    again = 2 if getattr(recipe, stage).gradient_checkpointing else 0
    adapted = recipe.model.lora is not None
    text, vision = (4 if adapted else 6) + again, 2 if "vision_tower" in recipe.model.freeze else 6 + again
    operations = step.tokens * shape.text * text + 4 * step.visual * shape.vision * vision
    found = {"loss": operations / gpu.compute}
    if recipe.grpo is not None and stage == "grpo" and recipe.grpo.beta:
        found["reference"] = 2 * step.tokens * shape.text / gpu.compute
    weights = 2 * shape.parameters
    if section.zero == 3 and machine.processes > 1:  # gathered three times, half of it while the GPU computes
        traffic = 3 * weights * step.micro_batches
        found["gathering weights"] = traffic / gpu.link / 2
        if machine.nodes > 1 and not section.hpz:
            found["gathering weights"] += traffic / (NETWORK * machine.gpus)
    if section.offload != "none":
        found["offloading"] = (2 * step.micro_batches + 16) * states.trained / machine.processes / PCIE
    found["preparing prompts"] = PREPARING[1] * step.prompts * work.visual
    if stage == "grpo":
        found["preparing prompts"] += PREPARING[0]
        found |= _rollouts(recipe, shape, machine, work, step)
    found["checkpoints"] = states.saved / DISK / recipe.checkpoint.every
    return found


def _rollouts(recipe: Recipe, shape: Shape, machine: Machine, work: Workload, step: Step) -> dict[str, float]:
    """Seconds of sampling with vLLM (a full batch, then one last sequence up to the limit) and of the weight sync."""
    assert recipe.grpo is not None
    gpu, rollout = machine.gpu, recipe.rollout
    share = machine.processes / rollout.tensor_parallel_size if rollout.uses_server else 1
    full = step.rows * work.completion * share * shape.text / (SAMPLING * gpu.bandwidth)
    last = recipe.grpo.max_completion_length * (LONE_TOKEN + 2 * shape.text / gpu.bandwidth)
    prefill = 2 * step.prompts * share * work.prompt * shape.text / gpu.compute
    return {"rollouts": full + last + prefill, "weights to vLLM": 2 * shape.parameters / TRANSFER}


def _present(parts: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in parts.items() if value > 0}
