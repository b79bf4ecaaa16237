"""Steps of GRPO and of the supervised stage with a tiny model: every parameter changes, and metrics are logged."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from synthetic_rows import ROWS

from jigsaw.config.loading import Recipe
from jigsaw.config.schema import CurriculumSection, SamplingSection, StabilitySection
from jigsaw.config.stages import GrpoSection
from jigsaw.models.load import load_model, vision_token_ids
from jigsaw.rewards import Composition
from jigsaw.stop_request import StopRequest
from jigsaw.training.checkpoints import CheckpointCallback
from jigsaw.training.collate import PuzzleCollator
from jigsaw.training.curriculum import Curriculum
from jigsaw.training.groups import ConstantRewardsWarning
from jigsaw.training.grpo import grpo_trainer
from jigsaw.training.mixture import mix
from jigsaw.training.sft import train_sft, with_answer
from jigsaw.training.stability import StabilityWatch
from jigsaw.training.trainer import STATE_FILE, PuzzleTrainer
from jigsaw.training.trl_config import grpo_config, sft_config

PLUG_IN = '''
"""Third-party rewards."""


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


def make_trainer(
    model, processor, puzzles, composition, folder: Path, callbacks=(), sampling=None, curriculum=None, **grpo
) -> PuzzleTrainer:
    base = recipe()
    section = GrpoSection.model_validate(base.grpo.model_dump() | grpo)
    sets = puzzles if isinstance(puzzles, list) else [puzzles]
    weights = [1.0] * len(sets)
    config = grpo_config(
        base.model_copy(update={"grpo": section}), folder, vision_token_ids(processor), list(composition.weights)
    )
    return grpo_trainer(
        model=model,
        processor=processor,
        puzzles=mix(sets, weights),
        config=config,
        composition=composition,
        rollout=base.rollout,
        sampling=sampling,
        curriculum=Curriculum(sets, weights, curriculum or CurriculumSection()),
        use_curriculum=curriculum is not None,
        tokens_per_micro_batch=section.tokens_per_micro_batch,
        callbacks=callbacks,
    )


@pytest.fixture
def plug_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "third_party_rewards.py"
    file.write_text(PLUG_IN, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield file
    sys.modules.pop("third_party_rewards", None)


def test_every_parameter_changes_and_all_rewards_and_metrics_are_logged(model, processor, puzzles, plug_ins, tmp_path):
    """The rewards are named by name, by module and by file, and one of them is async."""
    composition = Composition(
        [
            {"use": "visual_jigsaw", "weight": 1.0},
            {"use": f"{plug_ins}:length_under", "args": {"limit": 9}, "weight": 0.5},
            {"use": "third_party_rewards:first_is_digit", "weight": 0.25},
            # The completions of a random model all score 0 in `visual_jigsaw`; this reward gives nonzero advantages.
            {"use": f"{plug_ins}:length_under", "args": {"limit": 6}, "weight": 0.7},
        ],
        ["exact", "place_accuracy", "valid", "neighbor_accuracy"],
    )
    trainer = make_trainer(model, processor, puzzles, composition, tmp_path)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    trainer.train()
    unchanged = [name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])]
    assert unchanged == []
    logged = next(entry for entry in trainer.state.log_history if "reward" in entry)
    assert {"exact", "place_accuracy", "valid", "neighbor_accuracy", "entropy", "frac_reward_zero_std"} <= logged.keys()
    names = [key for key in logged if key.startswith("rewards/") and key.endswith("/mean")]
    assert len(names) == 4


def test_micro_batches_give_the_weights_of_one_batch(model, processor, puzzles, checkpoint, tmp_path):
    """The weights are the same with two prompts of four completions at once and with a group at a time."""
    from jigsaw.models.load import load_model

    composition = Composition([_reward_file(tmp_path)])
    make_trainer(model, processor, puzzles, composition, tmp_path / "a").train()
    other = load_model(checkpoint)
    make_trainer(other, processor, puzzles, composition, tmp_path / "b", per_device_train_batch_size=4).train()
    for (name, first), second in zip(model.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(first, second, atol=2e-5, rtol=0, msg=name)


def test_the_same_seed_gives_the_same_weights(model, processor, puzzles, checkpoint, tmp_path):
    from jigsaw.models.load import load_model

    composition = Composition([_reward_file(tmp_path)])
    first = make_trainer(model, processor, puzzles, composition, tmp_path / "a", max_steps=2)
    first.train()
    other = load_model(checkpoint)
    second = make_trainer(other, processor, puzzles, composition, tmp_path / "b", max_steps=2)
    second.train()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def dataset_of(rows):
    """Returns rows as a puzzle set."""
    import datasets

    index = {key: [row[key] for row in rows] for key in ("id", "task", "num_pieces")}

    def look_up(batch):
        selected = [next(row for row in rows if row["id"] == name) for name in batch["id"]]
        return {key: [row[key] for row in selected] for key in rows[0]}

    return datasets.Dataset.from_dict(index).with_transform(look_up)


def test_videos_and_images_train_in_one_run(model, processor, puzzles, tmp_path):
    """One step on clips, on tiles and on prompts with both changes every parameter."""
    composition = Composition([_reward_file(tmp_path)], ["valid"])
    sets = [dataset_of(ROWS["video"]), puzzles.select(range(2)), dataset_of(ROWS["mixed"])]
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    seen: list[int] = []
    model.model.visual.register_forward_hook(lambda _, args, out: seen.append(len(args[0])))
    unchecked = SamplingSection(self_check=False)  # the self-check would run the tower too
    trainer = make_trainer(model, processor, sets, composition, tmp_path, sampling=unchecked, prompts_per_step=6)
    trainer.train()
    assert [name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])] == []
    # Sampling and the loss pass both run the tower once over the images and once over the clips of the step.
    assert len(seen) == 4
    assert seen[:2] == seen[2:]


def test_unshared_prompts_give_the_weights_of_shared_prompts(model, processor, puzzles, checkpoint, tmp_path):
    from jigsaw.models.load import load_model

    composition = Composition([_reward_file(tmp_path)])
    sets = [dataset_of(ROWS["mixed"])]
    step = {"prompts_per_step": 3, "optim": "sgd", "learning_rate": 0.1}  # Adam's first step is the gradient's sign
    make_trainer(model, processor, sets, composition, tmp_path / "a", **step).train()
    other = load_model(checkpoint)
    unshared = SamplingSection(shared_prefix=False)
    make_trainer(other, processor, sets, composition, tmp_path / "b", sampling=unshared, **step).train()
    for (name, first), second in zip(model.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(first, second, atol=1e-6, rtol=0, msg=name)


def test_zero_variance_groups_are_replaced_and_counted(model, processor, puzzles, tmp_path):
    """Given a reward that is constant for some puzzles, most of the trained groups are of other puzzles."""
    file = tmp_path / "some.py"
    file.write_text(
        "def some(completions, id, **columns):\n"
        "    return [(sum(map(str.isalpha, c[0]['content'] if isinstance(c, list) else c)) / 9) * (name[0] < '8')\n"
        "            for c, name in zip(completions, id)]\n",
        encoding="utf-8",
    )
    dynamic = SamplingSection(dynamic=True, max_resamples=8)
    composition = Composition([{"use": f"{file}:some"}], ["valid"])
    trainer = make_trainer(
        model, processor, puzzles, composition, tmp_path, sampling=dynamic, max_steps=3, prompts_per_step=4
    )
    trained: list[str] = []
    builder = trainer.rollouts._builder
    build = builder.build
    builder.build = lambda groups: (trained.extend(group.row["id"] for group in groups), build(groups))[1]
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "groups/zero_variance" in entry]
    assert len(logs) == 3
    assert sum(entry["groups/zero_variance"] for entry in logs) > 0
    for entry in logs:
        assert entry["groups/zero_variance"] == pytest.approx(entry["groups/replaced"] + entry["groups/remaining"])
        assert entry["frac_reward_zero_std"] == pytest.approx(entry["groups/remaining"])
    assert sum(name[0] < "8" for name in trained) > len(trained) / 2


def test_constant_rewards_do_not_hang(model, processor, puzzles, tmp_path):
    dynamic = SamplingSection(dynamic=True, max_resamples=2)
    composition = Composition(["exact"])  # a random model earns none
    trainer = make_trainer(model, processor, puzzles, composition, tmp_path, sampling=dynamic, max_steps=4)
    with pytest.warns(ConstantRewardsWarning, match="equal in every group"):
        trainer.train()
    drawn = [entry["groups/drawn"] for entry in trainer.state.log_history if "groups/drawn" in entry]
    assert drawn == [3, 3, 3, 1]


def test_a_checkpoint_keeps_the_state_of_the_stability_watch_and_of_dynamic_sampling(
    model, processor, puzzles, tmp_path
):
    """Given constant rewards, a resumed run makes no new attempts and keeps the reference values of its first steps."""
    dynamic = SamplingSection(dynamic=True, max_resamples=1)
    composition = Composition(["exact"])  # a random model earns none
    watches = [StabilityWatch(StabilitySection(patience=2, truncated=1.0)) for _ in range(2)]
    keeper = CheckpointCallback(tmp_path / "saved", every=3, keep=1, boundary=1, stop=StopRequest(tmp_path / "stop"))
    options = {"sampling": dynamic, "max_steps": 4}
    uninterrupted = make_trainer(
        model, processor, puzzles, composition, tmp_path / "a", callbacks=[watches[0], keeper], **options
    )
    with pytest.warns(ConstantRewardsWarning):
        uninterrupted.train()
    other = load_model(str(tmp_path / "saved/checkpoint-3"))
    resumed = make_trainer(other, processor, puzzles, composition, tmp_path / "b", callbacks=[watches[1]], **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "saved/checkpoint-3"))
    assert [entry["groups/drawn"] for entry in resumed.state.log_history if "groups/drawn" in entry] == [2, 2, 2, 1]
    assert watches[1].state() == watches[0].state()


def test_a_resumed_run_with_a_curriculum_ends_with_the_weights_of_an_uninterrupted_one(
    model, processor, puzzles, tmp_path
):
    from jigsaw.models.load import load_model

    composition = Composition([_reward_file(tmp_path)])
    options = {
        "sampling": SamplingSection(dynamic=True, max_resamples=1),
        "curriculum": CurriculumSection(mode="adaptive", memory=0.5),
        "max_steps": 3,
    }
    sets = [dataset_of(ROWS["mixed"]), puzzles]
    saved = tmp_path / "saved"
    stop = StopRequest(tmp_path / "stop")
    keeper = CheckpointCallback(saved, every=2, keep=1, boundary=1, stop=stop)
    uninterrupted = make_trainer(model, processor, sets, composition, tmp_path / "a", callbacks=[keeper], **options)
    uninterrupted.train()
    assert any(key.startswith("curriculum/image/4") for entry in uninterrupted.state.log_history for key in entry)
    assert (saved / "checkpoint-2" / STATE_FILE).is_file()
    other = load_model(str(saved / "checkpoint-2"))  # as a stage opens it, because the trainer skips renamed weights
    resumed = make_trainer(other, processor, sets, composition, tmp_path / "b", **options)
    resumed.train(resume_from_checkpoint=str(saved / "checkpoint-2"))
    for (name, first), second in zip(model.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(first, second, atol=1e-6, rtol=0, msg=name)


def test_the_supervised_stage_lowers_the_loss_and_changes_every_parameter(model, processor, puzzles, tmp_path):
    sft = {"max_steps": 8, "per_device_train_batch_size": 8, "learning_rate": 3e-3, "gradient_checkpointing": False}
    losses: list[float] = []

    from transformers import TrainerCallback

    class Losses(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            losses.extend(value for key, value in (logs or {}).items() if key == "loss")

    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    config = sft_config(recipe(sft=sft, grpo=None), tmp_path)
    train_sft(model, processor, mix([puzzles], [1.0]), config, [Losses()])
    assert losses[-1] < losses[0] / 2
    assert not [name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])]


def test_the_supervised_stage_trains_on_videos_and_images(model, processor, puzzles, tmp_path):
    sft = {"max_steps": 1, "per_device_train_batch_size": 8, "learning_rate": 3e-3, "gradient_checkpointing": False}
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    seen: list[int] = []
    model.model.visual.register_forward_hook(lambda _, args, out: seen.append(len(args[0])))
    sets = mix([dataset_of(ROWS["video"]), puzzles, dataset_of(ROWS["mixed"])], [1.0, 1.0, 1.0])
    train_sft(model, processor, sets, sft_config(recipe(sft=sft, grpo=None), tmp_path), [])
    assert [name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])] == []
    assert len(seen) == 2


def test_a_supervised_step_does_not_depend_on_the_micro_batch_size_and_on_packing(checkpoint, processor, tmp_path):
    """The answers differ in length, so that a mean of the means of micro-batches would be a different step."""
    long = {"answer": [3, 1, 2, 5, 4, 6, 9, 8, 7], "num_pieces": 9, "answer_style": "think"}
    rows = [ROWS["image"][0], ROWS["image"][1] | long, ROWS["mixed"][0], ROWS["mixed"][2] | long]
    sets, models = mix([dataset_of(rows)], [1.0]), []
    for at_once, packing in ((4, False), (1, False), (4, True), (2, True)):
        sft = {"max_steps": 1, "prompts_per_step": 4, "per_device_train_batch_size": at_once, "optim": "sgd"}
        sft |= {"learning_rate": 1.0, "max_grad_norm": 0.0, "gradient_checkpointing": False, "packing": packing}
        models.append(load_model(checkpoint))
        train_sft(models[-1], processor, sets, sft_config(recipe(sft=sft, grpo=None), tmp_path), [], packing=packing)
    for other in models[1:]:
        for (name, first), second in zip(models[0].named_parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(first, second, atol=1e-6, rtol=1e-5, msg=name)


def test_a_supervised_batch_has_labels_only_on_the_completion(model, processor):
    """The loss also depends on the pixels of a clip."""
    row = with_answer(ROWS["video"][0])
    batch = PuzzleCollator(processor)([row, with_answer(ROWS["mixed"][1])])
    learned = [ids[labels >= 0] for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True)]
    assert processor.batch_decode(learned, skip_special_tokens=True)[0].strip() == "1, 2"
    clip = row["videos"][0]
    other = row | {"videos": [replace(clip, frames=255 - clip.frames), *row["videos"][1:]]}
    losses = [model(**PuzzleCollator(processor)([one])).loss.item() for one in (row, other)]
    assert abs(losses[0] - losses[1]) > 1e-5


def _reward_file(folder: Path) -> dict[str, str]:
    """Writes a reward that differs between random completions."""
    file = folder / "letters.py"
    file.write_text(
        "def letters(completions, **columns):\n"
        "    return [sum(map(str.isalpha, c[0]['content'] if isinstance(c, list) else c)) / 9 for c in completions]\n",
        encoding="utf-8",
    )
    return {"use": f"{file}:letters"}
