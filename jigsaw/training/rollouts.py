"""Rollouts: the data loader of GRPO, which samples and scores generation batches and yields micro-batches.

    prompts.next -> engine.sync(policy) -> engine.generate -> score -> dynamic sampling -> advantages -> MicroBatch

In: puzzles, an engine, rewards. Out: an endless iterable of `MicroBatch`es, which the trainer reads like any data
loader. A generation batch is sampled when its first micro-batch is read, with the weights of that moment.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from jigsaw.engines import AsyncEngine, Engine, Sampling
from jigsaw.models.prompt_batch import PromptBatch
from jigsaw.models.prompts import completion_texts
from jigsaw.results.chance import chance_of_right
from jigsaw.rewards import Composition
from jigsaw.rewards.answers import ORDER
from jigsaw.rewards.scores import exact
from jigsaw.training.curriculum import Curriculum
from jigsaw.training.distributed import all_gather_object
from jigsaw.training.groups import DynamicSampling, Group
from jigsaw.training.micro_batch import MicroBatch
from jigsaw.training.micro_batch_builder import MicroBatchBuilder
from jigsaw.training.prompts import CurriculumPrompts, PromptRows, Prompts
from jigsaw.training.step_metrics import StepMetrics

if TYPE_CHECKING:
    from jigsaw.training.trainer import PuzzleTrainer

Row = dict[str, Any]
MEDIA = ("images", "videos")


@dataclass(frozen=True, kw_only=True)
class RolloutSetup:
    """The parts of rollouts in addition to the trainer.

    Attributes:
        prompts: the source of rows.
        engine: the engine that samples completions.
        sampling: the sampling settings, without the seeds.
        composition: the rewards to optimise and the metrics to log.
        curriculum: the curriculum, updated with the informative groups; None if it is not used.
        fresh: the source of fresh rows for dynamic sampling.
        dynamic: dynamic sampling; None for none.
        record: called with every scored generation batch: completions, columns, totals and metrics.
        tokens_per_micro_batch: maximum tokens of a micro-batch; None divides a step evenly by completions.
        inspect: called with the first groups of a run, before they are trained on.
        ahead: the engine, if it samples the next batch during training on this one; otherwise None.
        last: number of the last generation batch.
    """

    prompts: Prompts
    engine: Engine
    sampling: Sampling
    composition: Composition
    curriculum: Curriculum | None = None
    fresh: CurriculumPrompts | None = None
    dynamic: DynamicSampling | None = None
    record: Callable[..., None] | None = None
    tokens_per_micro_batch: int | None = None
    inspect: Callable[[Sequence[Group]], None] | None = None
    ahead: AsyncEngine | None = None
    last: int = 0


class Rollouts:
    """An endless iterable of the trainer's inputs, `{"micro_batch": MicroBatch}`.

    It yields `gradient_accumulation_steps` of them per optimizer step. If micro-batches are filled by tokens, a step
    needs fewer; it then begins with `{"micro_batch": None}`, which the trainer skips.

    Args:
        trainer: the trainer, for its policy, settings and state.
        setup: puzzles, engine and rewards.
    """

    def __init__(self, trainer: PuzzleTrainer, setup: RolloutSetup) -> None:
        self._trainer, self._setup = trainer, setup
        self._inspect = setup.inspect
        self._begun: tuple[PromptRows, int] | None = None
        self._kinds: set[tuple[str, str]] = set()
        self._builder = MicroBatchBuilder(trainer, setup.composition.names, setup.tokens_per_micro_batch)

    @property
    def engine(self) -> Engine:
        """The engine that samples completions."""
        return self._setup.engine

    @property
    def metrics(self) -> StepMetrics:
        """The figures of the step."""
        return self._trainer.step_metrics

    @property
    def boundary(self) -> int:
        """Optimizer steps per generation batch."""
        args = self._trainer.args
        return int(args.steps_per_generation * args.num_iterations // args.gradient_accumulation_steps)

    def __iter__(self) -> Iterator[dict[str, MicroBatch | None]]:
        args = self._trainer.args
        generation = self._trainer.state.global_step // self.boundary
        try:
            while True:
                batch = self._generation(generation)
                for iteration in range(args.num_iterations):
                    for number, micro_batch in enumerate(batch):
                        first = iteration == 0 and number < args.gradient_accumulation_steps
                        if micro_batch is not None and not first:
                            micro_batch = replace(micro_batch, on_policy=False)
                        yield {"micro_batch": micro_batch}
                batch, micro_batch = [], None  # freed before the next batch is sampled
                generation += 1
        finally:
            self._setup.prompts.close()

    def _generation(self, number: int) -> list[MicroBatch | None]:
        """A generation batch, sampled, scored and divided. Collective."""
        setup, policy = self._setup, self._trainer.policy
        if self._begun is None:
            drawn, sampled_with = setup.prompts.next(number, self._progress), policy.version
            setup.engine.sync(policy)
        else:
            drawn, sampled_with = self._begun
        groups = self._roll_out(drawn, number)
        self._compare_tasks(groups)
        if setup.ahead is not None:
            self._begin(setup.ahead, number + 1)
            self.metrics.add("staleness", policy.version - sampled_with)
        if setup.dynamic is not None:
            groups = self._replaced(setup.dynamic, groups, number)
        elif setup.curriculum is not None:
            self._update_curriculum(setup.curriculum, groups)
        setup.engine.sleep()
        if self._inspect is not None:
            self._inspect(groups)
            self._inspect = None
        self._measure(groups)
        finished = self._builder.build(groups)
        self.metrics.share()
        if sampled_with != policy.version:
            finished = [None if one is None else replace(one, on_policy=False) for one in finished]
        return finished

    def _begin(self, engine: AsyncEngine, number: int) -> None:
        """Start to sample the next generation batch with the present weights. Collective."""
        self._begun = None
        if number > self._setup.last:
            return
        policy = self._trainer.policy
        engine.sync(policy)
        drawn = self._setup.prompts.next(number, self._progress)
        engine.begin(drawn.rows, self._sampling(drawn.rows, number))
        self._begun = drawn, policy.version

    def _sampling(self, rows: Sequence[Row], number: int) -> Sampling:
        """The sampling settings for the rows of a generation batch. Collective."""
        return replace(self._setup.sampling, seeds=tuple(self._seeds(rows, number * self.boundary)))

    @property
    def _progress(self) -> float:
        state = self._trainer.state
        return float(state.global_step / state.max_steps)

    def _roll_out(self, drawn: PromptRows, generation: int) -> list[Group]:
        """Scored groups of completions of the rows. Collective, also if this process has no rows."""
        trainer, (rows, encoded) = self._trainer, drawn
        settings = self._sampling(rows, generation)
        if rows and encoded is None:
            encoded = PromptBatch.encode(trainer.model, trainer.processing_class, rows, trainer.accelerator.device)
        sampled = self._setup.engine.generate(rows, settings, encoded)
        size, logps = trainer.num_generations, sampled.log_probabilities
        groups = []
        for number, row in enumerate(rows):
            own = slice(number * size, (number + 1) * size)
            groups.append(Group(row, sampled.tokens[own], encoded, number, None if logps is None else logps[own]))
        return self._scored(groups)

    def _scored(self, groups: Sequence[Group]) -> list[Group]:
        if not groups:
            return []
        composition, size = self._setup.composition, self._trainer.num_generations
        completions, columns = self._columns(groups)
        scores = composition.score(completions, columns)
        totals = composition.total(scores)

        def own(values: Sequence[Any], number: int) -> list[Any]:
            return list(values[number * size : (number + 1) * size])

        return [
            replace(
                group,
                scores={name: own(values, number) for name, values in scores.items()},
                totals=own(totals, number),
            )
            for number, group in enumerate(groups)
        ]

    def _columns(self, groups: Sequence[Group]) -> tuple[list[Any], dict[str, Any]]:
        """Completions as messages, and the columns that rewards read, with one value per completion."""
        size = self._trainer.num_generations
        tokens = [tokens for group in groups for tokens in group.completions]
        rows = [group.row for group in groups]
        texts = completion_texts(self._trainer.processing_class, rows, tokens, count=size)
        names = dict.fromkeys(name for group in groups for name in group.row if name not in (*MEDIA, "prompt"))
        columns: dict[str, Any] = {
            name: [value for group in groups for value in [group.row.get(name)] * size] for name in names
        }
        columns |= {
            "prompts": [group.row["prompt"] for group in groups for _ in range(size)],
            "completion_ids": tokens,
            "trainer_state": self._trainer.state,
            "log_metric": self.metrics.pend,
            "log_extra": lambda *_: None,
        }
        return [[{"role": "assistant", "content": text}] for text in texts], columns

    def _replaced(self, dynamic: DynamicSampling, groups: list[Group], number: int) -> list[Group]:
        """The batch after dynamic sampling. Collective."""
        setup = self._setup
        assert setup.fresh is not None and setup.curriculum is not None  # checked when the trainer was created

        def fresh(count: int) -> list[Group]:
            avoid = [group.row["id"] for group in groups]
            rows = setup.fresh.fresh(count, self._progress, avoid)  # type: ignore[union-attr]
            return self._roll_out(PromptRows(rows), number)

        outcome = dynamic.replace(groups, fresh, lambda count: sum(all_gather_object(count)))
        self._update_curriculum(setup.curriculum, outcome.drawn)
        for name in ("zero_variance", "replaced", "remaining"):
            self.metrics.pend(f"groups/{name}", getattr(outcome, name))
        self.metrics.pend("groups/drawn", len(outcome.drawn) / len(groups))
        first = [total for group in groups for total in group.totals if total is not None]
        if first:
            self.metrics.pend("groups/first_reward", sum(first) / len(first))
        return outcome.groups

    def _update_curriculum(self, curriculum: Curriculum, groups: Sequence[Group]) -> None:
        """Update the curriculum with the groups of all processes. Collective."""
        seen = [((group.row["task"], group.row["num_pieces"]), not group.zero_variance) for group in groups]
        curriculum.update(one for share in all_gather_object(seen) for one in share)
        if isinstance(self._setup.prompts, CurriculumPrompts):
            for name, value in curriculum.informative.items():
                self.metrics.add(f"curriculum/{name}", value)

    def _seeds(self, rows: Sequence[Row], step: int) -> list[int]:
        """The seed of each row for the completions of a step. Collective.

        If a row occurs several times, here or on another process, each occurrence has another seed.
        """
        names = [row["id"] for row in rows]
        before = all_gather_object(names)[: self._trainer.accelerator.process_index]
        seen = Counter(name for share in before for name in share)
        seeds = []
        for name in names:
            seeds.append(self._seed(name, step, seen[name]))
            seen[name] += 1
        return seeds

    def _seed(self, row_id: str, step: int, again: int) -> int:
        """The seed of a row: it depends on the run's seed, the step and the row, but not on the batch or the rank."""
        key = f"{self._trainer.args.seed} {step} {row_id}" + (f" {again}" if again else "")
        return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")

    def _measure(self, groups: Sequence[Group]) -> None:
        """Log the metrics, and pass the batch to `record`."""
        composition = self._setup.composition
        completions, columns = self._columns(groups)
        metrics = composition.measure(completions, columns)
        for name, values in metrics.items():
            known = [value for value in values if value is not None]
            if known:
                self.metrics.pend(name, sum(known) / len(known))
        if self._setup.record is not None:
            self._setup.record(completions, columns, [one for group in groups for one in group.totals], metrics)

    def _compare_tasks(self, groups: Sequence[Group]) -> None:
        """Log reward, accuracy, chance and share of zero-variance groups for each task and answer kind.

        The figures are those of the batch before dynamic sampling. Nothing is logged until there are several kinds.
        Collective.
        """
        kinds = [(group.row["task"], group.row.get("answer_kind") or ORDER) for group in groups]
        self._kinds.update(kind for share in all_gather_object(kinds) for kind in share)
        if len(self._kinds) < 2 or not groups:
            return
        size = self._trainer.num_generations
        completions, columns = self._columns(groups)
        right = exact(completions, **columns)
        for number, (group, (task, kind)) in enumerate(zip(groups, kinds, strict=True)):
            name, known = f"task/{task}/{kind}", [total for total in group.totals if total is not None]
            self.metrics.pend(f"{name}/zero_variance", group.zero_variance)
            self.metrics.pend(f"{name}/exact", sum(right[number * size : (number + 1) * size]) / size)
            if known:
                self.metrics.pend(f"{name}/reward", sum(known) / len(known))
            chance = chance_of_right(group.row)
            if chance is not None:
                self.metrics.pend(f"{name}/chance", chance)
