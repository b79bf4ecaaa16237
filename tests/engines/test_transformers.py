"""The transformers engine: completions equal those of `generate` and are the same in any batch."""

from __future__ import annotations

import pytest
import torch

from jigsaw.engines import Sampling
from jigsaw.engines.transformers import TransformersEngine, sample
from jigsaw.engines.weights import Policy
from jigsaw.errors import JigsawError
from jigsaw.models.load import end_token_ids, load_model, load_processor, vision_token_ids
from jigsaw.models.prompt_batch import PromptBatch
from jigsaw.models.prompts import processor_inputs
from jigsaw.models.shared_prefix import log_probabilities


def generated(model, processor, rows, tokens: int) -> list[list[int]]:
    """Returns the greedy completions of `generate` of transformers, including their end tokens."""
    ends, completions = end_token_ids(model, processor), []
    for row in rows:
        inputs = processor_inputs(processor, [row])
        output = model.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=tokens,
            suppress_tokens=vision_token_ids(processor),
            repetition_penalty=1.0,
            eos_token_id=ends,
        )
        completions.append(output[0, inputs["input_ids"].shape[1] :].tolist())
    return completions


def greedy(processor, model, tokens: int) -> Sampling:
    return Sampling(
        max_tokens=tokens,
        temperature=0.0,
        forbidden_tokens=tuple(vision_token_ids(processor)),
        end_tokens=tuple(end_token_ids(model, processor)),
    )


@pytest.mark.parametrize("shared", [True, False])
def test_greedy_completions_equal_those_of_generate(model, processor, rows, shared):
    """A batch is compared with `generate`, which runs every prompt separately."""
    engine = TransformersEngine(model, processor, shared=shared)
    expected = generated(model, processor, rows, 12)
    assert engine.generate(rows, greedy(processor, model, 12)).tokens == expected
    prompts = PromptBatch.encode(model, processor, rows, "cpu")
    assert engine.generate(rows, greedy(processor, model, 12), prompts).tokens == expected


def test_greedy_completions_of_neo_equal_those_of_generate(neo_checkpoint, rows):
    model, processor = load_model(neo_checkpoint), load_processor(neo_checkpoint)
    engine = TransformersEngine(model, processor)
    assert engine.generate(rows, greedy(processor, model, 8)).tokens == generated(model, processor, rows, 8)


def test_completions_with_a_shared_prompt_equal_those_with_separate_prompts(model, processor, rows):
    """A repeated cache is compared with a prompt for each completion, with the same random numbers."""
    settings = Sampling(
        count=3, max_tokens=8, seeds=tuple(range(len(rows))), end_tokens=tuple(end_token_ids(model, processor))
    )
    shared, separate = (
        TransformersEngine(model, processor, shared=one).generate(rows, settings) for one in (True, False)
    )
    assert shared == separate


def test_a_policy_is_sampled_in_evaluation_mode_and_its_mode_is_restored(model, processor, puzzles):
    """Given a policy in training mode, dropout is off during sampling and on again afterwards."""
    engine = TransformersEngine(None, processor)
    model.train()
    engine.sync(Policy(model))
    settings = greedy(processor, model, 4)
    modes = []
    hook = model.lm_head.register_forward_hook(lambda *_: modes.append(model.training))
    assert engine.generate([puzzles[0]], settings).tokens == engine.generate([puzzles[0]], settings).tokens
    engine.sleep()
    hook.remove()
    assert model.training and modes and not any(modes)


def test_an_empty_batch_has_no_completions(processor):
    """A process may have no rows of a batch and no model yet."""
    assert TransformersEngine(None, processor).generate([], Sampling()).tokens == []


def test_vision_tokens_are_never_sampled(model, processor, puzzles):
    """The model has the highest logits for vision tokens."""
    forbidden = vision_token_ids(processor)
    with torch.no_grad():
        model.lm_head.weight[forbidden] = model.lm_head.weight[forbidden] * 0 + 50 * torch.sign(
            model.lm_head.weight[forbidden]
        )
    settings = Sampling(count=64, max_tokens=8, seeds=(0,), forbidden_tokens=tuple(forbidden))
    sampled = TransformersEngine(model, processor).generate([puzzles[0]], settings).tokens
    assert not {token for row in sampled for token in row} & set(forbidden)


def test_a_prompt_gets_the_same_completions_in_any_batch(model, processor, puzzles):
    """Two processes and a resumed run therefore sample the same completions as one uninterrupted process."""
    engine, ends = TransformersEngine(model, processor), tuple(end_token_ids(model, processor))

    def sample_rows(numbers: list[int]) -> list[list[int]]:
        settings = Sampling(count=3, max_tokens=8, seeds=tuple(100 + i for i in numbers), end_tokens=ends)
        return engine.generate([puzzles[i] for i in numbers], settings).tokens

    batch = sample_rows([0, 1, 2])
    assert sample_rows([2]) == batch[6:]
    assert sample_rows([1, 0]) == batch[3:6] + batch[:3]
    assert len({tuple(tokens) for tokens in batch}) > 3


@pytest.mark.parametrize(
    "truncation, kept",
    [
        ({}, lambda p: p > 0),
        ({"top_k": 3}, lambda p: p >= p.topk(3).values[-1]),
        ({"top_p": 0.5}, lambda p: p.sort(descending=True).values.cumsum(0)[(p > p[:, None]).sum(1)] - p < 0.5),
        ({"min_p": 0.2}, lambda p: p >= 0.2 * p.max()),
    ],
    ids=["complete", "top_k", "top_p", "min_p"],
)
def test_sampling_follows_the_distribution(model, processor, puzzles, truncation, kept):
    """The first tokens of 4,000 completions are compared with the probabilities of the loss pass."""
    batch = PromptBatch.encode(model, processor, [puzzles[0]], "cpu")
    forbidden = vision_token_ids(processor)
    with torch.no_grad():
        model.lm_head.weight.mul_(20)  # a random model has nearly uniform probabilities
    settings = Sampling(
        count=4000, max_tokens=1, temperature=1.3, seeds=(5,), forbidden_tokens=tuple(forbidden), **truncation
    )
    sampled = sample(model, batch, settings)
    every = torch.tensor([token for token in range(len(processor.tokenizer)) if token not in forbidden])[:, None]
    logps, _ = log_probabilities(
        model, batch, [0] * len(every), every, torch.ones_like(every), temperature=1.3, forbidden_tokens=forbidden
    )
    expected = logps[:, 0].detach().exp()
    assert expected.sum() == pytest.approx(1, abs=1e-4)
    expected = torch.where(kept(expected), expected, 0)
    expected = torch.zeros(len(processor.tokenizer)).index_put_((every[:, 0],), expected / expected.sum())
    share = torch.bincount(torch.tensor(sampled).flatten(), minlength=len(expected)) / 4000
    assert expected.max() > 0.02 and not share[expected == 0].any()
    deviation = (share - expected).abs() / (expected * (1 - expected) / 4000).sqrt().clamp(min=1e-9)
    assert deviation[expected > 0.002].max() < 5


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"temperature": 0.0, "count": 2}, "2 greedy completions of a prompt would be equal"),
    ],
)
def test_invalid_sampling_settings_are_refused(settings, message):
    with pytest.raises(JigsawError, match=f"^sampling: {message}"):
        Sampling(**settings)


def test_a_row_without_a_seed_is_refused(model, processor, puzzles):
    with pytest.raises(JigsawError, match="2 rows and 1 seeds"):
        TransformersEngine(model, processor).generate([puzzles[0], puzzles[1]], Sampling(seeds=(1,)))
