"""A real GRPO step of a tiny vision-language model: everything moves, plug-in rewards take part, metrics are logged."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from jigsaw.models.load import vision_token_ids
from jigsaw.recipe import Recipe
from jigsaw.training.grpo import PuzzleTrainer
from jigsaw.training.mixture import mix
from jigsaw.training.sft import train_sft
from jigsaw.training.trl_config import grpo_config, sft_config
from rewards import Composition

PLUG_IN = '''
"""Rewards of a stranger."""


def length_under(completions, *, limit=5, **columns):
    """1 for a completion of at most `limit` characters."""
    return [float(len(text[0]["content"] if isinstance(text, list) else text) <= limit) for text in completions]


async def first_is_digit(completions, **columns):
    """1 where the first character is a digit."""
    texts = [text[0]["content"] if isinstance(text, list) else text for text in completions]
    return [float(text[:1].isdigit()) for text in texts]
'''


def recipe(**changes) -> Recipe:
    grpo = {"prompts_per_step": 2, "num_generations": 4, "max_steps": 1, "max_completion_length": 6}
    grpo |= {"learning_rate": 1e-3, "gradient_checkpointing": False}
    sections = {
        "name": "test",
        "model": {"tiny": "qwen2_5_vl"},
        "data": {"train": [{"path": "unused"}]},
        "grpo": grpo,
        "output": "unused",
    }
    return Recipe.model_validate(sections | changes)


def make_trainer(model, processor, puzzles, composition, folder: Path, callbacks=(), **grpo) -> PuzzleTrainer:
    made = recipe()
    section = made.grpo | grpo
    config = grpo_config(
        made.model_copy(update={"grpo": section}), folder, vision_token_ids(processor), list(composition.weights)
    )
    return PuzzleTrainer(
        model=model,
        args=config,
        train_dataset=mix([puzzles], [1.0]),
        processing_class=processor,
        composition=composition,
        rollout=made.rollout,
        callbacks=list(callbacks),
    )


@pytest.fixture
def plug_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "strangers_rewards.py"
    file.write_text(PLUG_IN, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield file
    sys.modules.pop("strangers_rewards", None)


def test_every_parameter_moves_and_all_rewards_and_metrics_are_logged(model, processor, puzzles, plug_ins, tmp_path):
    """By name, by dotted path and by file, one of them async: three plug-in ways in one step."""
    composition = Composition(
        [
            {"use": "visual_jigsaw", "weight": 1.0},
            {"use": f"{plug_ins}:length_under", "args": {"limit": 9}, "weight": 0.5},
            {"use": "strangers_rewards:first_is_digit", "weight": 0.25},
            # A random model's completions all earn nothing; something must tell them apart for anything to move.
            {"use": f"{plug_ins}:length_under", "args": {"limit": 6}, "weight": 0.7},
        ],
        ["exact", "place_accuracy", "valid", "neighbor_accuracy"],
    )
    trainer = make_trainer(model, processor, puzzles, composition, tmp_path)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    trainer.train()
    still = [name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])]
    assert still == []
    logged = next(entry for entry in trainer.state.log_history if "reward" in entry)
    assert {"exact", "place_accuracy", "valid", "neighbor_accuracy", "entropy", "frac_reward_zero_std"} <= logged.keys()
    names = [key for key in logged if key.startswith("rewards/") and key.endswith("/mean")]
    assert len(names) == 4


def test_micro_batches_give_the_step_of_one_batch(model, processor, puzzles, checkpoint, tmp_path):
    """Two prompts x four completions at once, or a group at a time: the same weights after the step."""
    from jigsaw.models.load import load_model

    composition = Composition([_reward_file(tmp_path)])
    whole = make_trainer(model, processor, puzzles, composition, tmp_path / "a")
    whole.train()
    other = load_model(checkpoint)
    parts = make_trainer(other, processor, puzzles, composition, tmp_path / "b", per_device_train_batch_size=4)
    parts.train()
    for (name, first), second in zip(model.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(first, second, atol=2e-5, rtol=0, msg=name)


def test_the_same_seed_gives_the_same_step(model, processor, puzzles, checkpoint, tmp_path):
    from jigsaw.models.load import load_model

    composition = Composition([_reward_file(tmp_path)])
    first = make_trainer(model, processor, puzzles, composition, tmp_path / "a", max_steps=2)
    first.train()
    other = load_model(checkpoint)
    second = make_trainer(other, processor, puzzles, composition, tmp_path / "b", max_steps=2)
    second.train()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_the_supervised_stage_lowers_the_loss_and_moves_everything(model, processor, puzzles, tmp_path):
    sft = {"max_steps": 8, "per_device_train_batch_size": 8, "learning_rate": 3e-3, "gradient_checkpointing": False}
    losses: list[float] = []

    from transformers import TrainerCallback

    class Losses(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            losses.extend(value for key, value in (logs or {}).items() if key == "loss")

    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    made = recipe(sft=sft, grpo=None)
    train_sft(model, processor, mix([puzzles], [1.0]), sft_config(made, tmp_path), [Losses()])
    assert losses[-1] < losses[0] / 2
    assert not [name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])]


def _reward_file(folder: Path) -> dict[str, str]:
    """A reward that tells random completions apart."""
    file = folder / "letters.py"
    file.write_text(
        "def letters(completions, **columns):\n"
        "    return [sum(map(str.isalpha, c[0]['content'] if isinstance(c, list) else c)) / 9 for c in completions]\n",
        encoding="utf-8",
    )
    return {"use": f"{file}:letters"}
