"""The losses of TRL in `PuzzleTrainer` equal those of TRL's own trainer on the same completions."""

from __future__ import annotations

import copy

import pytest
import torch
from trl import GRPOTrainer
from trl.trainer import grpo_trainer as trl_module

from jigsaw.config.schema import Recipe
from jigsaw.engines import Completions
from jigsaw.models.load import load_model
from jigsaw.rewards import Composition
from jigsaw.training.grpo import grpo_trainer
from jigsaw.training.mixture import mix
from jigsaw.training.trl_config import grpo_config

PROMPTS, GENERATIONS = 2, 4
REWARD = """
def by_tokens(completions, completion_ids, **columns):
    return [sum(tokens) % 7 / 7 for tokens in completion_ids]
"""
TWICE = {"num_iterations": 2}
SETTINGS = {
    "dapo": {"loss_type": "dapo"},
    "dapo, twice a batch": {"loss_type": "dapo", **TWICE},
    "dapo, two steps a batch": {"loss_type": "dapo", "steps_per_generation": 4},
    "gspo": {"loss_type": "grpo", "importance_sampling_level": "sequence", **TWICE},
    "cispo": {"loss_type": "cispo", "epsilon_high": 1.05, **TWICE},
    "sapo": {"loss_type": "sapo", **TWICE},
    "dr. grpo": {"loss_type": "dr_grpo", "scale_rewards": "none", **TWICE},
    "bnpo": {"loss_type": "bnpo", "scale_rewards": "batch"},
    "kl": {"loss_type": "grpo", "beta": 0.5, **TWICE},
    "truncated masked": {"loss_type": "dapo", "mask_truncated_completions": True},
    "normalised first": {"loss_type": "dapo", "extra": {"multi_objective_aggregation": "normalize_then_sum"}},
    "token correction": {"extra": {"vllm_importance_sampling_mode": "token_truncate"}},
    "sequence correction": {"extra": {"vllm_importance_sampling_mode": "sequence_mask"}},
}


def sampled(generation: int, end: int) -> Completions:
    """Returns random completions of different lengths with log-probabilities; some of them have an end token."""
    generator = torch.Generator().manual_seed(generation)
    tokens, logps = [], []
    for number in range(2 * PROMPTS * GENERATIONS):
        length = (5, 1, 3, 7, 2, 7, 4, 6)[number % 8]
        row = torch.randint(0, 200, (length,), generator=generator).tolist()
        tokens.append([*row, end] if number % 3 else row)
        logps.append((-6.0 + torch.rand(len(tokens[-1]), generator=generator)).tolist())
    return Completions(tokens, logps)


class FixedCompletionsTrainer(GRPOTrainer):
    """TRL's trainer with the completions of `sampled`."""

    def _generate_single_turn(self, prompt_ids, *_, **__):
        self.rounds = getattr(self, "rounds", -1) + 1
        fixed = sampled(self.rounds, self.eos_token_ids[0])
        count = len(prompt_ids)
        return fixed.tokens[:count], fixed.log_probabilities[:count] if self.use_vllm else None


def train_three_steps(side, checkpoint, processor, puzzles, folder, settings):
    """Returns the model after three steps and the logged metrics of the steps."""
    (folder / "reward.py").write_text(REWARD, encoding="utf-8")
    corrects = "vllm_importance_sampling_mode" in settings.get("extra", {})
    recipe = Recipe.model_validate(
        {
            "name": "losses",
            "model": {"tiny": "qwen2_5_vl"},
            "data": {"train": [{"path": "unused"}]},
            "output": "unused",
            "grpo": {
                "prompts_per_step": PROMPTS,
                "num_generations": GENERATIONS,
                "per_device_train_batch_size": GENERATIONS,
                "max_steps": 3,
                "max_completion_length": 8,
                "learning_rate": 0.05,
                "optim": "sgd",
                "max_grad_norm": 0.0,
                "gradient_checkpointing": False,
                "vllm_importance_sampling_correction": corrects,
                **settings,
            },
        }
    )
    composition = Composition([f"{folder}/reward.py:by_tokens"])
    config = grpo_config(recipe, folder / side, [], list(composition.weights))
    model = load_model(checkpoint)
    before = copy.deepcopy(model.state_dict())
    if side == "trl":
        functions, _ = composition.trl_functions()
        rows = mix([puzzles], [1.0])
        trainer = FixedCompletionsTrainer(
            model=model, reward_funcs=functions, args=config, train_dataset=rows, processing_class=processor
        )
    else:
        trainer = grpo_trainer(
            model=model,
            processor=processor,
            puzzles=mix([puzzles], [1.0]),
            config=config,
            composition=composition,
            rollout=recipe.rollout,
        )
        rounds = iter(range(9))

        def generate(rows, *_):
            fixed, count = sampled(next(rounds), trainer.eos_token_ids[0]), len(rows) * GENERATIONS
            return Completions(fixed.tokens[:count], fixed.log_probabilities[:count] if corrects else None)

        trainer.rollouts.engine.generate = generate
        trainer._agreement.check = lambda *_: None  # the completions are random
    trainer.use_vllm = corrects
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "reward" in entry or "loss" in entry]
    figures = [[entry.get(name) for name in ("loss", "kl", "grad_norm", "entropy", "reward")] for entry in logs]
    assert any(not torch.equal(before[name], value) for name, value in model.state_dict().items())
    return model, figures


@pytest.mark.parametrize("name", SETTINGS)
def test_a_loss_equals_that_of_the_trainer_of_trl(checkpoint, processor, puzzles, tmp_path, monkeypatch, name):
    """Given the same completions in the same order, the losses and the weights after three steps are equal."""
    monkeypatch.setattr(trl_module, "shuffle_sequence_dict", lambda batch: batch)
    trl_model, trl_figures = train_three_steps("trl", checkpoint, processor, puzzles, tmp_path, SETTINGS[name])
    model, figures = train_three_steps("jigsaw", checkpoint, processor, puzzles, tmp_path, SETTINGS[name])
    for step, trl_step in zip(figures, trl_figures, strict=True):
        assert step == [None if value is None else pytest.approx(value, rel=1e-4, abs=1e-5) for value in trl_step]
    for (parameter, expected), value in zip(trl_model.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(value, expected, atol=1e-5, rtol=1e-4, msg=parameter)
