"""GRPO on puzzles: TRL's GRPOTrainer, told what a puzzle is.

In: a puzzle set, rewards and a configuration. Out: the model, trained in place. What is added to TRL: metrics that are
watched beside the rewards, media that are counted on their way to the model, prompts that are paid for once per group
instead of once per completion (`jigsaw.models.shared_prefix`), groups that are replaced where they teach nothing
(`groups`), and a choice of what comes next (`curriculum`).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback
from trl import GRPOTrainer
from trl.models import unwrap_model_for_generation
from trl.trainer.utils import split_tensor_dict

from jigsaw.config.schema import RolloutSection, SamplingSection
from jigsaw.errors import JigsawError
from jigsaw.models.prompt_batch import PromptBatch
from jigsaw.models.shared_prefix import log_probabilities
from jigsaw.rewards import Composition
from jigsaw.training.agreement import Agreement, warn_of_truncation
from jigsaw.training.curriculum import Curriculum
from jigsaw.training.groups import DynamicSampling, Group
from jigsaw.training.sampling import sample, shaping
from jigsaw.training.serving import Address
from jigsaw.training.stability import StabilityWatch
from jigsaw.training.vllm_engine import VllmEngine, check_room
from jigsaw.training.vllm_server import VllmServer
from jigsaw.training.world import told_by_all

MEDIA = ("images", "videos")
STATE_FILE = "jigsaw.json"


class PuzzleTrainer(GRPOTrainer):  # type: ignore[misc]  # TRL comes without types
    """TRL's GRPO trainer for puzzle sets.

    TRL renders, tokenizes, encodes and runs a prompt once per completion. Here the distinct prompts of a generation
    batch are encoded and rolled out once, as groups, before TRL sees them; TRL's own steps are then answered from
    those groups, and the prompts are found again by `prompt_index`, the number of each row's prompt.

    Args:
        composition: the rewards that are optimised (their weights stand in the configuration) and the watched metrics.
        rollout: who samples completions.
        server: where the server is, in server mode.
        sampling: how groups are made.
        curriculum: where fresh puzzles come from, for dynamic sampling.
        choosing: whether the curriculum chooses every puzzle; else `train_dataset` gives them in its order.
        remember: told what was scored, `RecordedComposition.remember`.
        **kwargs: of `trl.GRPOTrainer`, less `reward_funcs`.

    Raises:
        JigsawError: dynamic sampling without a curriculum to draw from.
    """

    def __init__(
        self,
        *,
        composition: Composition,
        rollout: RolloutSection,
        server: Address | None = None,
        sampling: SamplingSection | None = None,
        curriculum: Curriculum | None = None,
        choosing: bool = False,
        remember: Callable[..., None] | None = None,
        **kwargs: Any,
    ) -> None:
        self._composition, self._remember = composition, remember
        functions, _ = composition.trl_functions()
        if choosing:  # what TRL reads is not looked at, and must not decode anything
            kwargs["train_dataset"] = _numbers(len(kwargs["train_dataset"]))
        super().__init__(reward_funcs=functions, **kwargs)
        self.remove_callback(PrinterCallback)
        self._sampling = sampling or SamplingSection()
        self._curriculum, self._choosing = curriculum, choosing
        if curriculum is None and (self._sampling.dynamic or choosing):
            raise JigsawError("sampling.dynamic: there is nothing to draw fresh puzzles from")
        self._dynamic = DynamicSampling(self._sampling.max_resamples) if self._sampling.dynamic else None
        self._groups: list[Group] = []
        self._encoded: list[PromptBatch] = []
        self._prompts: PromptBatch | None = None
        self._prompt_of_row: Any = None
        self._logps: Any = None
        self._agreement = Agreement(rollout.max_logp_difference)
        self._forbidden = list(self.args.generation_kwargs["suppress_tokens"])
        self._engine: VllmEngine | VllmServer | None = None
        if rollout.engine == "vllm":
            self._engine = self._vllm(rollout, server)
            self._synced, self._sleeps, self._room = -1, rollout.sleep, rollout.max_model_len
            self.use_vllm = True  # from here on TRL corrects for the difference of the two engines, if it is told to

    def _vllm(self, rollout: RolloutSection, server: Address | None) -> VllmEngine | VllmServer:
        warn_of_truncation(top_p=self.args.top_p, top_k=self.args.top_k, min_p=self.args.min_p)
        dtype = "bfloat16" if self.args.bf16 else "float32"  # of the passes; weights may be kept in float32
        if rollout.served:
            assert server is not None  # the stage knows it
            return VllmServer(server, self._forbidden, dtype=dtype, folder=Path(self.args.output_dir) / "weights")
        model = self.accelerator.unwrap_model(self.model)
        return VllmEngine(model, self.processing_class, rollout, self._forbidden, dtype=dtype, seed=self.args.seed)

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """As TRL, but completions are dealt to micro-batches by whole groups, so that they can share their prompt."""
        steps = self.args.steps_per_generation
        self._buffered_inputs: list[Any] | None
        if self._step % (steps * self.num_iterations) == 0 or self._buffered_inputs is None:
            batch = self._generate_and_score_completions(generation_batch)
            self._buffered_inputs = split_tensor_dict(batch, steps)
        return self._buffered_inputs[self._step % steps]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Any:
        """Roll out groups, replace those that teach nothing, and have TRL make advantages of the rest."""
        generations = self.num_generations
        count = len(inputs) // generations
        rows = self._drawn(count) if self._choosing else inputs[::generations]
        self._encoded = []
        groups = self._roll_out(rows)
        if self._dynamic is not None:
            groups = self._without_dead(groups)
        elif self._choosing:
            self._learn(groups)
        self._groups = groups
        numbers = [group.prompt for group in groups]
        self._prompts = PromptBatch.join(self._encoded).select(numbers)
        self._encoded = []
        self._prompt_of_row = torch.arange(count, device=self.accelerator.device).repeat_interleave(generations)
        names = dict.fromkeys(name for group in groups for name in _light(group.row))
        output = super()._generate_and_score_completions(
            [{name: group.row.get(name) for name in names} for group in groups for _ in range(generations)]
        )
        output["prompt_index"] = self._prompt_of_row
        sampled = [logps for group in groups for logps in group.log_probabilities or ()]
        if sampled:
            width = output["completion_ids"].shape[1]
            padded = [logps + [0.0] * (width - len(logps)) for logps in sampled]
            output["sampled_logps"] = torch.tensor(padded, device=self.accelerator.device)
        return output

    def _without_dead(self, groups: list[Group]) -> list[Group]:
        """The batch with its dead groups replaced as far as attempts allow; what happened is logged."""
        assert self._dynamic is not None

        def fresh(count: int) -> list[Group]:
            return self._roll_out(self._drawn(count, avoid=[group.row["id"] for group in groups]))

        outcome = self._dynamic.replace(groups, fresh, self._over_processes)
        self._learn(outcome.drawn)
        for name in ("dead", "replaced", "left"):
            self._log_metric(f"groups/{name}", getattr(outcome, name))
        self._log_metric("groups/drawn", len(outcome.drawn) / len(groups))
        first = [total for group in groups for total in group.totals if total is not None]
        if first:
            self._log_metric("groups/first_reward", sum(first) / len(first))
        return outcome.groups

    def _drawn(self, count: int, avoid: Sequence[str] = ()) -> list[dict[str, Any]]:
        """This process's part of fresh rows, of which all processes draw the same. Collective."""
        assert self._curriculum is not None
        told = told_by_all((count, list(avoid)))
        counts, unwanted = [number for number, _ in told], [name for _, names in told for name in names]
        rank = self.accelerator.process_index
        progress = self.state.global_step / self.state.max_steps
        chosen = self._curriculum.choose(sum(counts), progress=progress, avoid=unwanted)
        start = sum(counts[:rank])
        if self._choosing and not avoid and len(chosen) < sum(counts):
            raise JigsawError(
                f"grpo.prompts_per_step: the {sum(counts)} puzzles of a step are more than the curriculum has just now"
            )
        return [puzzles[row] for puzzles, row in chosen[start : start + count]]

    def _learn(self, groups: Sequence[Group]) -> None:
        """Tell the curriculum which groups were live, the same on every process. Collective."""
        assert self._curriculum is not None
        seen = [((group.row["task"], group.row["num_pieces"]), not group.dead) for group in groups]
        self._curriculum.learn(one for share in told_by_all(seen) for one in share)
        if self._choosing:
            for name, value in self._curriculum.live.items():
                self._log_metric(f"curriculum/{name}", value)

    def _over_processes(self, count: int) -> int:
        """A count summed over all processes. Collective."""
        total = torch.tensor([count], device=self.accelerator.device)
        return int(self.accelerator.reduce(total, reduction="sum").item())

    def _roll_out(self, rows: Sequence[dict[str, Any]]) -> list[Group]:
        """Groups of completions of the rows' prompts, scored where something depends on it before TRL scores them.

        Collective, also where this process has no rows.
        """
        seeds = self._seeds(rows)
        prompts = None
        if rows:
            model = self.accelerator.unwrap_model(self.model)
            prompts = PromptBatch.encode(model, self.processing_class, rows, self.accelerator.device)
        completions, logps = self._sample(rows, prompts, seeds)
        offset = sum(map(len, self._encoded))
        if prompts is not None:
            self._encoded.append(prompts)
        size = self.num_generations
        groups = []
        for number, row in enumerate(rows):
            own = slice(number * size, (number + 1) * size)
            group = Group(row, offset + number, completions[own], None if logps is None else logps[own])
            if self._dynamic is not None or self._choosing:
                scores = self._scores(row, group.completions)
                group = replace(group, scores=scores, totals=self._composition.total(scores))
            groups.append(group)
        return groups

    def _scores(self, row: dict[str, Any], completions: list[list[int]]) -> dict[str, list[float | None]]:
        size = len(completions)
        texts = self.processing_class.batch_decode(completions, skip_special_tokens=True)
        columns: dict[str, Any] = {key: [value] * size for key, value in _light(row).items() if key != "prompt"}
        columns |= {"prompts": [row["prompt"]] * size, "completion_ids": completions, "trainer_state": self.state}
        columns |= {"log_metric": self._log_metric, "log_extra": lambda *_: None}
        return self._composition.score([[{"role": "assistant", "content": text}] for text in texts], columns)

    def _sample(
        self, rows: Sequence[dict[str, Any]], prompts: PromptBatch | None, seeds: Sequence[int]
    ) -> tuple[list[list[int]], list[list[float]] | None]:
        """G completions of each row, those of a row together, and vLLM's log-probabilities of them. Collective."""
        args = self.args
        if self._engine is None:
            with unwrap_model_for_generation(self.model_wrapped, self.accelerator) as model:
                if prompts is None:
                    return [], None
                completions = sample(
                    model,
                    prompts,
                    self.num_generations,
                    logits_processors=shaping(args, self._forbidden, self.accelerator.device),
                    max_new_tokens=self.max_completion_length,
                    eos_token_ids=self.eos_token_ids,
                    seeds=seeds,
                    shared=self._sampling.shared_prefix,
                )
            return completions, None
        if self._sleeps or self._synced != self.state.global_step:  # asleep, the engine forgets its weights
            self._engine.sync(self.accelerator.unwrap_model(self.model))
            self._synced = self.state.global_step
        prompt_ids = [] if prompts is None else prompts.token_lists()
        check_room(rows, prompt_ids, self.max_completion_length, self._room)
        return self._engine.generate(
            rows,
            prompt_ids,
            self.num_generations,
            seeds=seeds,
            max_tokens=self.max_completion_length,
            end_tokens=self.eos_token_ids,  # of the generation settings, which the engine's folder has none of
            temperature=args.temperature,
            top_p=args.top_p,
            top_k=args.top_k,
            min_p=args.min_p or 0.0,
        )

    def _tokenize_prompts(self, prompts: list[Any]) -> Any:
        assert self._prompts is not None
        tokens = self._prompts.token_lists()
        return [tokens[number] for number in self._prompt_of_row.tolist()], None, {}

    def _generate_single_turn(self, prompt_ids: Any, *_: Any, **__: Any) -> Any:
        logps = [logps for group in self._groups for logps in group.log_probabilities or ()]
        return [tokens for group in self._groups for tokens in group.completions], logps or None

    def _seeds(self, rows: Sequence[dict[str, Any]]) -> list[int]:
        """Of each row; one that is drawn twice, here or on another process, gets another each time. Collective."""
        names = [row["id"] for row in rows]
        before = told_by_all(names)[: self.accelerator.process_index]
        seen = Counter(name for share in before for name in share)
        seeds = []
        for name in names:
            seeds.append(self._seed(name, seen[name]))
            seen[name] += 1
        return seeds

    def _seed(self, row_id: str, again: int = 0) -> int:
        """Of the completions of a row: it depends on the run's seed, the step and the row, on no batch and no rank."""
        key = f"{self.args.seed} {self.state.global_step} {row_id}" + (f" {again}" if again else "")
        return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")

    def _compute_loss(self, model: Any, inputs: Any) -> Any:
        self._prompt_of_row = inputs["prompt_index"]
        loss = super()._compute_loss(model, inputs)
        fresh = (
            self._step % (self.args.steps_per_generation * self.num_iterations) < self.args.gradient_accumulation_steps
        )
        if "sampled_logps" in inputs and fresh:
            apart = ((self._logps - inputs["sampled_logps"]).abs() * inputs["completion_mask"]).sum()
            sums = self.accelerator.reduce(torch.stack([apart, inputs["completion_mask"].sum().to(apart.dtype)]))
            difference = float(sums[0] / sums[1].clamp(min=1))
            self._metrics["train"]["logp_difference"].append(difference)  # `_log_metric` would tell it a step later
            self._agreement.check(difference, self.state.global_step + 1)
        return loss

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Any,
        attention_mask: Any,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **_: Any,
    ) -> Any:
        assert self._prompts is not None
        ids, mask = input_ids[:, -logits_to_keep:], attention_mask[:, -logits_to_keep:]
        parts = []
        for rows in torch.arange(len(ids), device=ids.device).split(batch_size or len(ids)):
            with self.accelerator.autocast():
                part = log_probabilities(
                    model,
                    self._prompts,
                    self._prompt_of_row[rows].tolist(),
                    ids[rows],
                    mask[rows],
                    temperature=self.temperature,
                    forbidden_tokens=self._forbidden,
                    shared=self._sampling.shared_prefix,
                )
            parts.append(part)
        logps, entropies = (torch.cat(one) for one in zip(*parts, strict=True))
        self._logps = logps.detach()
        return logps, entropies if compute_entropy else None, None

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Any:
        columns = {key: [row[key] for row in inputs] for key in inputs[0] if key != "prompt"}
        columns["completion_ids"] = completion_ids_list
        metrics = self._composition.measure(completions, columns)
        for name, values in metrics.items():
            known = [value for value in values if value is not None]
            if known:
                self._log_metric(name, sum(known) / len(known))
        if self._groups[0].scores:
            rows = [
                [torch.nan if value is None else value for value in row]
                for group in self._groups
                for row in zip(*(group.scores[name] for name in self._composition.names), strict=True)
            ]
            scored = torch.tensor(rows, dtype=torch.float32, device=self.accelerator.device)
            rewards = self.accelerator.gather(scored)
        else:
            rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        if self._remember is not None:
            count = len(completions)
            first = self.accelerator.process_index * count
            own = rewards[first : first + count].T.tolist()
            scores = {
                name: [None if value != value else value for value in values]
                for name, values in zip(self._composition.names, own, strict=True)
            }
            self._remember(completions, columns, self._composition.total(scores), metrics)
        return rewards

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self.is_world_process_zero():
            file = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}" / STATE_FILE
            states = {name: part.state() for name, part in self._with_state().items()}
            file.write_text(json.dumps(states), encoding="utf-8")

    def _with_state(self) -> dict[str, Any]:
        """What changes as a run goes on, beside what the trainer saves itself."""
        watches = (callback for callback in self.callback_handler.callbacks if isinstance(callback, StabilityWatch))
        parts = {"curriculum": self._curriculum, "sampling": self._dynamic, "stability": next(watches, None)}
        return {name: part for name, part in parts.items() if part is not None}

    def train(self, resume_from_checkpoint: Any = None, **kwargs: Any) -> Any:
        """As TRL; a checkpoint also tells where curriculum, dynamic sampling and stability watch stood."""
        if resume_from_checkpoint:
            states = json.loads((Path(resume_from_checkpoint) / STATE_FILE).read_text(encoding="utf-8"))
            for name, part in self._with_state().items():
                part.load_state(states[name])
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)


def _numbers(count: int) -> Any:
    import datasets

    return datasets.Dataset.from_dict({"number": list(range(count))})


def _light(row: dict[str, Any]) -> dict[str, Any]:
    """A row without its media: it costs TRL nothing to copy, and none of its passes can run on half of them."""
    return {key: value for key, value in row.items() if key not in MEDIA}
