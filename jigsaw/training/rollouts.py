"""Rollouts: the data loader of GRPO. One generation batch after the other, as finished micro-batches.

    prompts.next -> engine.sync(policy) -> engine.generate -> score -> dynamic sampling -> advantages -> MicroBatch

In: puzzles, an engine, rewards. Out: an endless iterable of `MicroBatch`es, which the trainer takes as it takes any
data loader's batches. A generation batch is sampled when its first micro-batch is asked for, with the weights of that
moment.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from jigsaw.engines import Engine, EngineAhead, Sampling
from jigsaw.evaluation.baselines import chance_of_right
from jigsaw.models.prompt_batch import PromptBatch
from jigsaw.models.prompts import completion_texts
from jigsaw.rewards import Composition
from jigsaw.rewards.answers import ORDER
from jigsaw.rewards.scores import exact
from jigsaw.training.advantages import advantages_of, importance_ratio
from jigsaw.training.curriculum import Curriculum
from jigsaw.training.distributed import all_gather_object
from jigsaw.training.groups import DynamicSampling, Group
from jigsaw.training.micro_batch import MicroBatch, Part, Sizes, divided, equal_parts, fill
from jigsaw.training.prompts import Chosen, Drawn, Prompts
from jigsaw.training.step_metrics import StepMetrics

if TYPE_CHECKING:
    from jigsaw.training.trainer import PuzzleTrainer

Row = dict[str, Any]
MEDIA = ("images", "videos")
MEANS_OVER_ROWS = ("grpo", "sapo", "dr_grpo", "luspo")
"""Losses of TRL that are means over the completions of a micro-batch."""
MEANS_OVER_MICRO_BATCHES = ("bnpo",)
"""Losses of TRL that are means over the micro-batches, whatever their size."""


@dataclass(frozen=True, kw_only=True)
class Supply:
    """What rollouts are made from, beside the policy.

    Attributes:
        prompts: where rows come from.
        engine: that samples their completions.
        sampling: how, without the seeds.
        composition: rewards that are optimised, and metrics that are watched.
        curriculum: that learns which groups were informative; None where nothing depends on it.
        fresh: where fresh rows for dynamic sampling come from.
        dynamic: replaces groups without variance; None does without.
        record: gets every generation batch as it was scored: completions, columns, totals and metrics.
        tokens_per_micro_batch: tokens that a micro-batch computes at most; None divides a step evenly by completions.
        inspect: gets the first groups of a run before they are trained on.
        ahead: the engine, where it samples the next batch while this one is trained on; None where it does not.
        last: number of the last generation batch.
    """

    prompts: Prompts
    engine: Engine
    sampling: Sampling
    composition: Composition
    curriculum: Curriculum | None = None
    fresh: Chosen | None = None
    dynamic: DynamicSampling | None = None
    record: Callable[..., None] | None = None
    tokens_per_micro_batch: int | None = None
    inspect: Callable[[Sequence[Group]], None] | None = None
    ahead: EngineAhead | None = None
    last: int = 0


class Rollouts:
    """An iterable of what the trainer's inner loop draws: `{"micro_batch": MicroBatch}`, without end.

    It yields `gradient_accumulation_steps` of them per optimizer step. Where micro-batches are filled by tokens a step
    needs fewer; the first of it are then `{"micro_batch": None}`, which the trainer passes over.

    Args:
        trainer: whose policy, settings and state are used; it holds nothing of a batch.
        supply: of puzzles, completions and rewards.
    """

    def __init__(self, trainer: PuzzleTrainer, supply: Supply) -> None:
        self._trainer, self._supply = trainer, supply
        self._inspect = supply.inspect
        self._begun: tuple[Drawn, int] | None = None
        self._kinds: set[tuple[str, str]] = set()

    @property
    def engine(self) -> Engine:
        """That samples completions."""
        return self._supply.engine

    @property
    def metrics(self) -> StepMetrics:
        """Figures of the step."""
        return self._trainer.step_metrics

    @property
    def boundary(self) -> int:
        """Optimizer steps that are trained on one generation batch."""
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
                batch, micro_batch = [], None  # not kept while the next is made
                generation += 1
        finally:
            self._supply.prompts.close()

    def _generation(self, number: int) -> list[MicroBatch | None]:
        """A generation batch, sampled, scored and divided. Collective."""
        supply, policy = self._supply, self._trainer.policy
        if self._begun is None:
            drawn, sampled_with = supply.prompts.next(number, self._progress), policy.version
            supply.engine.sync(policy)
        else:
            drawn, sampled_with = self._begun
        groups = self._roll_out(drawn, number)
        self._compare_tasks(groups)
        if supply.ahead is not None:
            self._begin(supply.ahead, number + 1)
            self.metrics.add("staleness", policy.version - sampled_with)
        if supply.dynamic is not None:
            groups = self._replaced(supply.dynamic, groups, number)
        elif supply.curriculum is not None:
            self._learn(supply.curriculum, groups)
        supply.engine.sleep()
        if self._inspect is not None:
            self._inspect(groups)
            self._inspect = None
        finished = self._finished(groups)
        self.metrics.share()
        if sampled_with != policy.version:
            finished = [None if one is None else replace(one, on_policy=False) for one in finished]
        return finished

    def _begin(self, engine: EngineAhead, number: int) -> None:
        """Sample a generation batch with the weights of now, while the batch before it is trained on. Collective."""
        self._begun = None
        if number > self._supply.last:
            return
        policy = self._trainer.policy
        engine.sync(policy)
        drawn = self._supply.prompts.next(number, self._progress)
        engine.begin(drawn.rows, self._sampling(drawn.rows, number))
        self._begun = drawn, policy.version

    def _sampling(self, rows: Sequence[Row], number: int) -> Sampling:
        """The settings for the rows of a generation batch. Collective."""
        return replace(self._supply.sampling, seeds=tuple(self._seeds(rows, number * self.boundary)))

    @property
    def _progress(self) -> float:
        state = self._trainer.state
        return float(state.global_step / state.max_steps)

    def _roll_out(self, drawn: Drawn, generation: int) -> list[Group]:
        """Scored groups of completions of the rows' prompts. Collective, also where this process has no rows."""
        trainer, (rows, encoded) = self._trainer, drawn
        settings = self._sampling(rows, generation)
        if rows and encoded is None:
            encoded = PromptBatch.encode(trainer.model, trainer.processing_class, rows, trainer.accelerator.device)
        sampled = self._supply.engine.generate(rows, settings, encoded)
        size, logps = trainer.num_generations, sampled.log_probabilities
        groups = []
        for number, row in enumerate(rows):
            own = slice(number * size, (number + 1) * size)
            groups.append(Group(row, sampled.tokens[own], encoded, number, None if logps is None else logps[own]))
        return self._scored(groups)

    def _scored(self, groups: Sequence[Group]) -> list[Group]:
        if not groups:
            return []
        composition, size = self._supply.composition, self._trainer.num_generations
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
        """Completions as messages, and what rewards read beside them: one value per completion."""
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
        """The batch with its groups without variance replaced as far as attempts allow. Collective."""
        supply = self._supply
        assert supply.fresh is not None and supply.curriculum is not None  # checked when the trainer was made

        def fresh(count: int) -> list[Group]:
            avoid = [group.row["id"] for group in groups]
            rows = supply.fresh.fresh(count, self._progress, avoid)  # type: ignore[union-attr]
            return self._roll_out(Drawn(rows), number)

        outcome = dynamic.replace(groups, fresh, lambda count: sum(all_gather_object(count)))
        self._learn(supply.curriculum, outcome.drawn)
        for name in ("dead", "replaced", "left"):
            self.metrics.pend(f"groups/{name}", getattr(outcome, name))
        self.metrics.pend("groups/drawn", len(outcome.drawn) / len(groups))
        first = [total for group in groups for total in group.totals if total is not None]
        if first:
            self.metrics.pend("groups/first_reward", sum(first) / len(first))
        return outcome.groups

    def _learn(self, curriculum: Curriculum, groups: Sequence[Group]) -> None:
        """Have the curriculum take note of which groups were informative, the same on every process. Collective."""
        seen = [((group.row["task"], group.row["num_pieces"]), not group.dead) for group in groups]
        curriculum.learn(one for share in all_gather_object(seen) for one in share)
        if isinstance(self._supply.prompts, Chosen):
            for name, value in curriculum.live.items():
                self.metrics.add(f"curriculum/{name}", value)

    def _seeds(self, rows: Sequence[Row], step: int) -> list[int]:
        """Of each row, for the completions of a step. Collective.

        A row that is drawn twice, here or on another process, gets another seed each time.
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
        """Of the completions of a row: it depends on the run's seed, the step and the row, on no batch and no rank."""
        key = f"{self._trainer.args.seed} {step} {row_id}" + (f" {again}" if again else "")
        return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")

    def _finished(self, groups: Sequence[Group]) -> list[MicroBatch | None]:
        """Micro-batches of groups, with advantages relative to the whole generation batch. Collective."""
        trainer, device = self._trainer, self._trainer.accelerator.device
        self._measure(groups)
        ends = {*trainer.eos_token_ids, trainer.processing_class.tokenizer.pad_token_id}
        ended = [[tokens[-1] in ends for tokens in group.completions] for group in groups]
        masks = trainer.args.mask_truncated_completions
        counted = [
            [0 if masks and not whole else len(tokens) for tokens, whole in zip(group.completions, own, strict=True)]
            for group, own in zip(groups, ended, strict=True)
        ]
        names = self._supply.composition.names
        gathered = all_gather_object(
            {
                "scores": [
                    row for group in groups for row in zip(*(group.scores[name] for name in names), strict=True)
                ],
                "lengths": [len(tokens) for group in groups for tokens in group.completions],
                "ended": [whole for own in ended for whole in own],
                "counted": sum(map(sum, counted)),
                "prompts": sum(group.encoded.lengths[group.prompt] * len(group.completions) for group in groups),
            }
        )
        advantages = self._advantages(gathered)
        num_items = torch.tensor(sum(share["counted"] for share in gathered), device=device)
        encoded = list({id(group.encoded): group.encoded for group in groups}.values())
        offsets, offset = {}, 0
        for batch in encoded:
            offsets[id(batch)], offset = offset, offset + len(batch)
        prompts = PromptBatch.join(encoded).select([offsets[id(group.encoded)] + group.prompt for group in groups])
        parts = self._parts(Sizes(prompts.lengths, counted))
        share = self._share(parts)
        finished = [
            self._with_other_policies(
                self._micro_batch(groups, prompts, part, counted, advantages, num_items, share(part))
            )
            for part in parts
        ]
        return [None] * (trainer.args.steps_per_generation - len(finished)) + finished

    def _measure(self, groups: Sequence[Group]) -> None:
        """Log the watched metrics, and hand the batch on to what records some of it."""
        composition = self._supply.composition
        completions, columns = self._columns(groups)
        metrics = composition.measure(completions, columns)
        for name, values in metrics.items():
            known = [value for value in values if value is not None]
            if known:
                self.metrics.pend(name, sum(known) / len(known))
        if self._supply.record is not None:
            self._supply.record(completions, columns, [one for group in groups for one in group.totals], metrics)

    def _compare_tasks(self, groups: Sequence[Group]) -> None:
        """Log reward, accuracy next to chance, and share of groups without variance for each task and answer kind.

        They are those of the batch as it was sampled, before dynamic sampling. Nothing is logged until there are
        several kinds. Collective.
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
            self.metrics.pend(f"{name}/zero_variance", group.dead)
            self.metrics.pend(f"{name}/exact", sum(right[number * size : (number + 1) * size]) / size)
            if known:
                self.metrics.pend(f"{name}/reward", sum(known) / len(known))
            chance = chance_of_right(group.row)
            if chance is not None:
                self.metrics.pend(f"{name}/chance", chance)

    def _advantages(self, gathered: Sequence[dict[str, Any]]) -> Tensor:
        """Of this process's completions; logs rewards and lengths of all."""
        trainer, device = self._trainer, self._trainer.accelerator.device
        rows = [
            [torch.nan if value is None else value for value in row] for share in gathered for row in share["scores"]
        ]
        scores = torch.tensor(rows, dtype=torch.float32, device=device)
        found = advantages_of(
            scores,
            trainer.reward_weights.to(device),
            trainer.num_generations,
            scale=trainer.args.scale_rewards,
            aggregation=trainer.args.multi_objective_aggregation,
        )
        for number, name in enumerate(self._supply.composition.names):
            self.metrics.add(f"rewards/{name}/mean", scores[:, number].nanmean().item())
        lengths = [length for share in gathered for length in share["lengths"]]
        ended = [whole for share in gathered for whole in share["ended"]]
        known = found.rewards[~found.rewards.isnan()]
        self.metrics.add("reward", known.mean().item())
        self.metrics.add("reward_std", known.std().item())
        self.metrics.add("frac_reward_zero_std", found.equal)
        self.metrics.add("completions/mean_length", sum(lengths) / len(lengths))
        self.metrics.add("completions/clipped_ratio", 1 - sum(ended) / len(ended))
        trainer.state.num_input_tokens_seen += sum(share["prompts"] for share in gathered) + sum(lengths)
        self.metrics.add("num_tokens", trainer.state.num_input_tokens_seen)
        rank = trainer.accelerator.process_index
        start = sum(len(share["lengths"]) for share in gathered[:rank])
        return found.values[start : start + len(gathered[rank]["lengths"])]

    def _parts(self, sizes: Sizes) -> list[Part]:
        """The completions of each micro-batch; equally many of them on every process. Collective."""
        limit, trainer = self._supply.tokens_per_micro_batch, self._trainer
        if limit is None:
            return equal_parts(len(sizes.prompts), trainer.num_generations, trainer.args.steps_per_generation)
        parts = fill(sizes, limit)
        return divided(parts, max(all_gather_object(len(parts))))

    def _share(self, parts: Sequence[Part]) -> Callable[[Part], float]:
        """The factor on the loss of a micro-batch, where they are of unequal size.

        TRL divides a mean by the number of micro-batches in a step, as if all had equally many completions.
        """
        args = self._trainer.args
        if self._supply.tokens_per_micro_batch is None:
            return lambda _: 1.0
        if args.loss_type in MEANS_OVER_ROWS:
            return lambda part: len(part) / args.per_device_train_batch_size
        if args.loss_type in MEANS_OVER_MICRO_BATCHES:
            return lambda _: args.gradient_accumulation_steps / len(parts)
        return lambda _: 1.0

    def _micro_batch(
        self,
        groups: Sequence[Group],
        prompts: PromptBatch,
        part: Part,
        counted: Sequence[Sequence[int]],
        advantages: Tensor,
        num_items: Tensor,
        share: float,
    ) -> MicroBatch:
        size, device = self._trainer.num_generations, self._trainer.accelerator.device
        used = list(dict.fromkeys(prompt for prompt, _ in part))
        completions = [groups[prompt].completions[number] for prompt, number in part]
        lengths = torch.tensor([counted[prompt][number] for prompt, number in part], device=device)
        width = max(map(len, completions))
        blank = self._trainer.processing_class.tokenizer.pad_token_id
        ids = torch.tensor([tokens + [blank] * (width - len(tokens)) for tokens in completions], device=device)
        sampled = None
        if groups[part[0][0]].log_probabilities is not None:
            logps = [groups[prompt].log_probabilities[number] for prompt, number in part]  # type: ignore[index]
            sampled = torch.tensor([row + [0.0] * (width - len(row)) for row in logps], device=device)
        return MicroBatch(
            prompts=prompts.select(used),
            prompt_of_row=tuple(used.index(prompt) for prompt, _ in part),
            completion_ids=ids,
            completion_mask=(torch.arange(width, device=device) < lengths[:, None]).long(),
            advantages=advantages[[prompt * size + number for prompt, number in part]],
            num_items=num_items,
            share=share,
            sampled_log_probabilities=sampled,
        )

    def _with_other_policies(self, micro_batch: MicroBatch) -> MicroBatch:
        """With the log-probabilities under other weights than those of the loss pass, where TRL's loss needs them."""
        trainer, args = self._trainer, self._trainer.args
        corrects = trainer.use_vllm and args.vllm_importance_sampling_correction
        # Otherwise the first pass on the completions is made with the weights that sampled them.
        stale = args.gradient_accumulation_steps % (args.steps_per_generation * args.num_iterations) != 0
        old = ratio = reference = None
        with torch.no_grad():
            if stale or corrects:
                old, _ = trainer.log_probabilities(trainer.model, micro_batch)
            sampled = micro_batch.sampled_log_probabilities
            if corrects and old is not None and sampled is not None:
                ratio = importance_ratio(old, sampled, micro_batch.completion_mask, args)
            if args.beta != 0.0:
                with trainer.reference_model() as model:
                    reference, _ = trainer.log_probabilities(model, micro_batch)
        return replace(
            micro_batch,
            old_log_probabilities=old,
            reference_log_probabilities=reference,
            importance_ratio=ratio,
        )
