"""NEO in the trainers of TRL: one step of each changes every parameter."""

from __future__ import annotations

import pytest
import torch

from jigsaw.models.load import load_model, load_processor


@pytest.fixture(scope="module")
def checkpoint(puzzles, tmp_path_factory):
    from jigsaw.models.tiny import TinySizes, write_tiny

    sizes = TinySizes(hidden_size=64, num_layers=1, vision_hidden_size=64, initializer_range=0.1)
    folder = tmp_path_factory.mktemp("neo") / "tiny"
    texts = [part["text"] for part in puzzles[0]["prompt"][0]["content"] if part["type"] == "text"]
    write_tiny("neo", sizes, [*texts, "2, 1, 4, 3", "system\nuser\nassistant\n"], folder)
    return str(folder)


@pytest.fixture
def model(checkpoint):
    return load_model(checkpoint)


@pytest.fixture(scope="module")
def processor(checkpoint):
    return load_processor(checkpoint)


def unchanged(model, before):
    return [name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])]


def copied(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


OPTIONS = {
    "per_device_train_batch_size": 4,
    "max_steps": 1,
    "learning_rate": 1e-2,
    "use_cpu": True,
    "report_to": "none",
    "save_strategy": "no",
    "disable_tqdm": True,
    "dataloader_pin_memory": False,
    "remove_unused_columns": False,
}


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_step_of_the_sft_trainer_changes_every_parameter(model, processor, puzzles, tmp_path, checkpointing):
    from trl import SFTConfig, SFTTrainer

    from jigsaw.training.mixture import map_rows
    from jigsaw.training.sft import with_answer

    before = copied(model)
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(tmp_path, max_length=None, gradient_checkpointing=checkpointing, bf16=False, **OPTIONS),
        train_dataset=map_rows(puzzles, with_answer),
        processing_class=processor,
    )
    trainer.train()
    assert unchanged(model, before) == []


def test_a_step_of_the_grpo_trainer_changes_every_parameter(model, processor, puzzles, tmp_path):
    from trl import GRPOConfig, GRPOTrainer

    def distinct_characters(completions, **_):
        return [float(len(set(turns[0]["content"]))) for turns in completions]

    before = copied(model)
    config = GRPOConfig(
        tmp_path, num_generations=4, max_completion_length=6, bf16=False, gradient_checkpointing=False, **OPTIONS
    )
    trainer = GRPOTrainer(
        model=model, reward_funcs=distinct_characters, args=config, train_dataset=puzzles, processing_class=processor
    )
    trainer.train()
    assert unchanged(model, before) == []


def test_the_base_model_is_the_model_without_its_head(model, processor):
    ids = processor.tokenizer("Tile 1", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        hidden = model.base_model(input_ids=ids).last_hidden_state
        torch.testing.assert_close(model.get_output_embeddings()(hidden), model(input_ids=ids).logits)
    assert "_model" not in dict(model.base_model.named_modules())


def test_a_tiny_neo_answers_puzzles(model, processor, puzzles):
    from jigsaw.answering.answers import answer_all
    from jigsaw.answering.generation import Generation, with_model

    ask = with_model(model, processor, Generation(max_new_tokens=4))
    rows = [puzzles[index] for index in range(3)]
    answered = answer_all(ask, rows, batch_size=2)
    assert [one.puzzle["id"] for one in answered] == [row["id"] for row in rows]
    assert all(isinstance(one.completions[0], str) for one in answered)
