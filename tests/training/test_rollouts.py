"""Rollouts: media are read and encoded once per step and in advance, and micro-batches contain complete groups."""

from __future__ import annotations

import copy
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from synthetic_rows import synthetic_image, synthetic_row

from jigsaw.config.schema import Recipe, RolloutSection, SamplingSection
from jigsaw.config.stages import GrpoSection
from jigsaw.engines import Sampling
from jigsaw.engines.transformers import TransformersEngine
from jigsaw.errors import JigsawError
from jigsaw.models.families.qwen import Qwen2VL
from jigsaw.models.load import load_model, vision_token_ids
from jigsaw.models.prompt_batch import PromptBatch
from jigsaw.rewards import Composition
from jigsaw.tasks.media import photos as photos_module
from jigsaw.tasks.media.caching import BoundedCache
from jigsaw.training.grpo import grpo_trainer
from jigsaw.training.micro_batch import Sizes, fill, split_into, tokens_computed
from jigsaw.training.mixture import mix
from jigsaw.training.order import Order
from jigsaw.training.prompts import OrderedPrompts, PromptRows
from jigsaw.training.trl_config import grpo_config

REWARD = """
def by_text(completions, **columns):
    return [sum(map(ord, text[0]["content"])) % 7 / 7 for text in completions]
"""


class CountedRows:
    """Eight rows with two images each; `readers` lists the row and the thread of every access."""

    def __init__(self) -> None:
        self.readers: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return 8

    def __getitem__(self, number: int):
        self.readers.append((number, threading.current_thread().name))
        return synthetic_row(
            f"r{number}", synthetic_image(2 * number), synthetic_image(2 * number + 1, (28 * (1 + number % 3), 28))
        )


def trainer_of(model, processor, rows, folder, sampling=None, **grpo):
    (folder / "reward.py").write_text(REWARD, encoding="utf-8")
    section = {"prompts_per_step": 4, "num_generations": 4, "max_steps": 2, "max_completion_length": 6}
    section |= {"optim": "sgd", "learning_rate": 0.1, "max_grad_norm": 0.0, "gradient_checkpointing": False, **grpo}
    recipe = Recipe.model_validate(
        {
            "name": "rollouts",
            "model": {"tiny": "qwen2_5_vl"},
            "data": {"train": [{"path": "unused"}]},
            "output": "unused",
            "grpo": section,
        }
    )
    composition = Composition([f"{folder}/reward.py:by_text"])
    config = grpo_config(recipe, folder / "run", vision_token_ids(processor), list(composition.weights))
    return grpo_trainer(
        model=model,
        processor=processor,
        puzzles=mix([rows], [1.0]),
        config=config,
        composition=composition,
        rollout=RolloutSection(),
        sampling=sampling or SamplingSection(self_check=False),
        tokens_per_micro_batch=recipe.grpo.tokens_per_micro_batch,
    )


@pytest.mark.parametrize("settings", [{}, {"per_device_train_batch_size": 2}, {"num_iterations": 2, "max_steps": 4}])
def test_media_are_read_and_preprocessed_once_per_step(model, processor, tmp_path, monkeypatch, settings):
    """Given 2 generation batches of 4 prompts, in micro-batches or used twice, 8 rows are read."""
    encoded: list[int] = []
    encode = PromptBatch.encode

    def counted(network, processor, rows, device):
        encoded.append(len(rows))
        return encode(network, processor, rows, device)

    monkeypatch.setattr(PromptBatch, "encode", counted)
    rows = CountedRows()
    trainer_of(model, processor, rows, tmp_path, **settings).train()
    assert sorted(number for number, _ in rows.readers) == list(range(8))
    assert encoded == [4, 4]


def test_the_first_batch_is_encoded_by_the_main_thread_and_later_ones_by_other_threads(
    model, processor, tmp_path, monkeypatch
):
    """Given three batches, a thread encodes the second and the third; the losses equal those without threads."""
    encode, threads = PromptBatch.encode, []

    def recording(*arguments):
        threads.append(threading.current_thread())
        return encode(*arguments)

    monkeypatch.setattr(PromptBatch, "encode", recording)
    before = copy.deepcopy(model.state_dict())
    losses = []
    for ahead in (True, False):
        if not ahead:
            monkeypatch.setattr(
                OrderedPrompts, "_encoded", lambda self, reading: PromptRows([row.result() for row in reading])
            )
        model.load_state_dict(before)
        trainer = trainer_of(model, processor, CountedRows(), tmp_path, max_steps=3)
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    main = threading.main_thread()
    assert [thread is main for thread in threads[:3]].count(True) == 1
    assert all(thread is main for thread in threads[3:]) and len(threads) == 6
    assert len(losses[0]) == 3 and losses[0] == losses[1]


def test_the_next_rows_are_read_by_threads_while_this_step_trains(model, processor, tmp_path):
    """Given a first step that waits for the rows of the second step before it trains, the run does not hang."""
    rows, ahead = CountedRows(), threading.Event()
    read = CountedRows.__getitem__

    class SignallingRows(CountedRows):
        def __getitem__(self, number):
            row = read(self, number)
            if len(self.readers) == 8:
                ahead.set()
            return row

    rows = SignallingRows()
    trainer = trainer_of(model, processor, rows, tmp_path)
    compute = trainer.compute_loss
    waited = []
    trainer.compute_loss = lambda *args, **kwargs: (waited.append(ahead.wait(60)), compute(*args, **kwargs))[1]
    trainer.train()
    assert waited == [True, True]
    assert all(name.startswith("jigsaw-decode") for _, name in rows.readers)


def test_a_cache_counts_a_value_that_two_threads_compute_only_once():
    """Given a value that another thread stores while this one computes it, two values of four bytes fit in eight."""
    cache = BoundedCache(8, len)
    assert cache.get("a", lambda: [cache.get("a", lambda: "fast"), "slow"][1]) == "fast"
    cache.get("b", lambda: "next")
    assert len(cache) == 2


def test_reading_pictures_in_threads_does_not_change_the_warning_filters(photos, monkeypatch):
    """Given a picture that is opened in a thread, no warning of the main thread is suppressed meanwhile."""
    during, refuse = [], photos_module._refuse_preview
    monkeypatch.setattr(
        photos_module, "_refuse_preview", lambda image: (during.append(list(warnings.filters)), refuse(image))
    )
    before = list(warnings.filters)
    with ThreadPoolExecutor(1) as threads:
        threads.submit(photos_module.read_photo, next(photos.glob("*.png"))).result()
    assert during == [before]


def test_no_rows_are_read_after_the_last_step(model, processor, tmp_path):
    rows = CountedRows()
    trainer_of(model, processor, rows, tmp_path, max_steps=1).train()
    assert len(rows.readers) == 4


class SamplesAhead(TransformersEngine):
    """An engine that samples in `begin`, and records the version of the weights."""

    def __init__(self, processor) -> None:
        super().__init__(None, processor)
        self.version, self.begun, self.events = -1, {}, []

    def sync(self, policy) -> None:
        super().sync(policy)
        self.version = policy.version

    def begin(self, rows, sampling) -> None:
        self.begun[sampling] = super().generate(rows, sampling)
        self.events.append(("begin", self.version, [row["id"] for row in rows]))

    def generate(self, rows, sampling, prompts=None):
        completions = self.begun.pop(sampling, None)
        self.events.append(("sampled" if completions is None else "waited", self.version, [row["id"] for row in rows]))
        return completions or super().generate(rows, sampling, prompts)


def test_the_next_batch_is_sampled_while_the_current_one_is_trained_on(model, processor, tmp_path):
    """All batches except the first are sampled with weights that are one update older, and rows keep their order."""
    synchronous = trainer_of(load_model(model.config._name_or_path), processor, CountedRows(), tmp_path, max_steps=3)
    synchronous.train()
    trainer = trainer_of(model, processor, CountedRows(), tmp_path, max_steps=3)
    engine, setup = SamplesAhead(processor), trainer.rollouts._setup
    trainer.rollouts._setup = replace(setup, engine=engine, ahead=engine)
    trainer.train()
    assert [event[:2] for event in engine.events] == [
        ("sampled", 0), ("begin", 0), ("waited", 0), ("begin", 1), ("waited", 1)
    ]  # fmt: skip
    batches = [rows for event, _, rows in engine.events if event != "begin"]
    assert batches == [rows for event, _, rows in [engine.events[0], *engine.events[1::2]]]
    logged = [entry["staleness"] for entry in trainer.state.log_history if "staleness" in entry]
    assert logged == [0, 1, 1]
    first, other = (next(entry for entry in one.state.log_history if "loss" in entry) for one in (synchronous, trainer))
    assert first["loss"] == other["loss"]


def test_other_forward_passes_during_a_step_do_not_change_its_weights(model, processor, checkpoint, tmp_path):
    """Given other prompts that are sampled and scored in the middle of every loss, the weights are the same."""
    trainer_of(model, processor, CountedRows(), tmp_path, per_device_train_batch_size=8).train()
    other = load_model(checkpoint)
    trainer = trainer_of(other, processor, CountedRows(), tmp_path, per_device_train_batch_size=8)
    other_rows = [synthetic_row("stranger", synthetic_image(77, (84, 56)))]
    score = trainer._get_per_token_logps_and_entropies
    settings = Sampling(count=4, max_tokens=6, seeds=(3,))

    def interrupted(network, *args, **kwargs):
        prompts = PromptBatch.encode(network, processor, other_rows, "cpu")
        trainer.rollouts.engine.generate(other_rows, settings, prompts)
        with torch.no_grad():
            network(**processor(text="words", return_tensors="pt"))
        scores = score(network, *args, **kwargs)
        trainer.rollouts.engine.generate(other_rows, settings, prompts)
        return scores

    trainer._get_per_token_logps_and_entropies = interrupted
    trainer.train()
    for (name, first), second in zip(model.named_parameters(), other.named_parameters(), strict=True):
        assert torch.equal(first, second[1]), name


@pytest.mark.parametrize("loss", ["dapo", "grpo", "dr_grpo", "sapo", "cispo"])
def test_micro_batches_filled_by_tokens_give_the_weights_of_one_batch(model, processor, checkpoint, tmp_path, loss):
    """Given a limit at which groups are split unevenly, the weights are the same."""
    rows = CountedRows()
    limit = 18 + max(PromptBatch.encode(model, processor, [rows[0], rows[1], rows[2]], "cpu").lengths)
    trainer_of(model, processor, rows, tmp_path, loss_type=loss).train()
    other = load_model(checkpoint)
    trainer = trainer_of(other, processor, rows, tmp_path, loss_type=loss, tokens_per_micro_batch=limit)
    builder = trainer.rollouts._builder
    build, batches = builder.build, []
    builder.build = lambda groups: (batches.append(build(groups)), batches[-1])[1]
    trainer.train()
    sizes = [len(one.prompt_of_row) for one in batches[0] if one is not None]
    assert sum(sizes) == 16
    assert len(batches[0]) == 16
    assert len(set(sizes)) > 1
    for (name, first), second in zip(model.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(second, first, atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize(
    "other", [{"per_device_train_batch_size": 4}, {"steps_per_generation": 2}, {"extra": {"entropy_coef": 0.1}}]
)
def test_settings_that_exclude_tokens_per_micro_batch_are_refused(other):
    with pytest.raises(
        ValidationError, match=r"tokens_per_micro_batch cannot be combined with \w+, which .*; set one of"
    ):
        GrpoSection.model_validate({"tokens_per_micro_batch": 100, **other})


lengths = st.lists(st.lists(st.integers(0, 50), min_size=3, max_size=3), min_size=1, max_size=6)


@given(lengths, st.lists(st.integers(1, 80), min_size=6, max_size=6), st.integers(1, 300), st.integers(0, 4))
def test_filled_micro_batches_have_every_completion_once_within_the_limit(completions, prompts, limit, more):
    sizes = Sizes(prompts[: len(completions)], completions)
    parts = fill(sizes, limit)
    rows = sorted((prompt, number) for prompt in range(len(completions)) for number in range(3))
    assert sorted(row for part in parts for row in part) == rows
    for part in parts:
        assert tokens_computed(part, sizes) <= limit or len(part) == 1
    # a group is split only if it does not fit by itself
    for prompt in range(len(completions)):
        holders = [part for part in parts if any(row[0] == prompt for row in part)]
        group = [(prompt, number) for number in range(3)]
        assert len(holders) == 1 or tokens_computed(group, sizes) > limit
    count = min(len(parts) + more, len(rows))
    again = split_into(parts, count)
    assert len(again) == count
    assert all(again)
    assert sorted(row for part in again for row in part) == rows


def test_every_epoch_has_its_own_order_which_is_reproducible():
    order = Order(10, 3, seed=5)
    batches = [order.batch(number) for number in range(7)]
    assert [Order(10, 3, seed=5).batch(number) for number in (6, 2, 0, 4)] == [batches[n] for n in (6, 2, 0, 4)]
    first, second = (sorted(row for batch in batches[start : start + 3] for row in batch) for start in (0, 3))
    assert len(set(first)) == len(set(second)) == 9
    assert batches[:3] != batches[3:6]
    assert [Order(10, 3, shuffle=False).batch(number) for number in (0, 3)] == [[0, 1, 2]] * 2


class OffByFive(Qwen2VL):
    """A family with wrong positions of completions."""

    def completion_positions(self, numbers):
        return super().completion_positions(numbers + 5)


def test_the_self_check_stops_a_run_with_a_wrong_family_before_it_trains(model, processor, tmp_path, monkeypatch):
    monkeypatch.setattr("jigsaw.models.prompt_batch.family_of", lambda _: OffByFive())
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    message = r"puzzle r0: with a shared prompt .* token is -\d+\.\d+, of the single sequence -\d+\.\d+; .*self_check"
    with pytest.raises(JigsawError, match=message):
        trainer_of(model, processor, CountedRows(), tmp_path, sampling=SamplingSection()).train()
    assert all(parameter.equal(before[name]) for name, parameter in model.named_parameters())
