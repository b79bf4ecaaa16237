"""Completions from a repeated cache: those of `generate`, from the right distribution, the same in any batch."""

from __future__ import annotations

import pytest
import torch
from transformers import LogitsProcessorList, SuppressTokensLogitsProcessor

from jigsaw.engines.transformers import sample
from jigsaw.evaluation.solve import solve
from jigsaw.models.load import load_model, load_processor, vision_token_ids
from jigsaw.models.prompt_batch import PromptBatch
from jigsaw.models.shared_prefix import log_probabilities


class Greedy(torch.nn.Module):
    """Leaves the likeliest token alone in the distribution."""

    def __call__(self, ids, scores):
        best = scores.argmax(-1, keepdim=True)
        return torch.full_like(scores, -torch.inf).scatter(1, best, 0.0)


@pytest.mark.parametrize("shared", [True, False])
def test_a_repeated_cache_decodes_what_transformers_decodes(model, processor, rows, shared):
    """Greedy through the repeated cache against `generate`, which runs every prompt by itself."""
    suppress = SuppressTokensLogitsProcessor(vision_token_ids(processor))
    sampled = sample(
        model,
        PromptBatch.encode(model, processor, rows, "cpu"),
        3,
        logits_processors=LogitsProcessorList([suppress, Greedy()]),
        max_new_tokens=12,
        eos_token_ids=[processor.tokenizer.eos_token_id],
        seeds=[0] * len(rows),
        shared=shared,
    )
    texts = processor.batch_decode(sampled, skip_special_tokens=True)
    expected = [row["completion"] for row in solve(model, processor, rows, max_new_tokens=12)]
    assert texts == [text for text in expected for _ in range(3)]


def test_a_neo_decodes_what_transformers_decodes(neo_checkpoint, rows):
    model, processor = load_model(neo_checkpoint), load_processor(neo_checkpoint)
    sampled = sample(
        model,
        PromptBatch.encode(model, processor, rows, "cpu"),
        2,
        logits_processors=LogitsProcessorList([SuppressTokensLogitsProcessor(vision_token_ids(processor)), Greedy()]),
        max_new_tokens=8,
        eos_token_ids=[processor.tokenizer.eos_token_id],
        seeds=[0] * len(rows),
    )
    texts = processor.batch_decode(sampled, skip_special_tokens=True)
    expected = [row["completion"] for row in solve(model, processor, rows, max_new_tokens=8)]
    assert texts == [text for text in expected for _ in range(2)]


def test_vision_tokens_are_never_sampled(model, processor, puzzles):
    """Even where the model wants nothing else."""
    forbidden = vision_token_ids(processor)
    with torch.no_grad():
        model.lm_head.weight[forbidden] = model.lm_head.weight[forbidden] * 0 + 50 * torch.sign(
            model.lm_head.weight[forbidden]
        )
    sampled = sample(
        model,
        PromptBatch.encode(model, processor, [puzzles[0]], "cpu"),
        64,
        logits_processors=LogitsProcessorList([SuppressTokensLogitsProcessor(forbidden)]),
        max_new_tokens=8,
        eos_token_ids=[processor.tokenizer.eos_token_id],
        seeds=[0],
    )
    assert not {token for row in sampled for token in row} & set(forbidden)


def test_a_prompt_gets_the_same_completions_in_any_batch(model, processor, puzzles):
    """What lets a run on two ranks, or a resumed one, sample what a single process samples."""

    def draw(numbers: list[int]) -> list[list[int]]:
        batch = PromptBatch.encode(model, processor, [puzzles[i] for i in numbers], "cpu")
        return sample(
            model,
            batch,
            3,
            logits_processors=LogitsProcessorList(),
            max_new_tokens=8,
            eos_token_ids=[processor.tokenizer.eos_token_id],
            seeds=[100 + i for i in numbers],
        )

    together = draw([0, 1, 2])
    assert draw([2]) == together[6:]
    assert draw([1, 0]) == together[3:6] + together[:3]
    assert len({tuple(tokens) for tokens in together}) > 3


def test_sampling_follows_the_distribution(model, processor, puzzles):
    """First tokens of 4,000 draws against the probabilities that the loss pass gives them."""
    batch = PromptBatch.encode(model, processor, [puzzles[0]], "cpu")
    forbidden = vision_token_ids(processor)
    keep = LogitsProcessorList([SuppressTokensLogitsProcessor(forbidden)])
    with torch.no_grad():
        model.lm_head.weight.mul_(20)  # a random model likes all tokens the same
    drawn = sample(model, batch, 4000, logits_processors=keep, max_new_tokens=1, eos_token_ids=[0], seeds=[5])
    share = torch.bincount(torch.tensor(drawn).flatten(), minlength=len(processor.tokenizer)) / 4000
    every = torch.tensor([token for token in range(len(share)) if token not in forbidden])[:, None]
    logps, _ = log_probabilities(
        model,
        batch,
        [0] * len(every),
        every,
        torch.ones_like(every),
        forbidden_tokens=forbidden,
    )
    expected = torch.zeros(len(share)).index_put_((every[:, 0],), logps[:, 0].detach().exp())
    assert expected.sum() == pytest.approx(1, abs=1e-4)
    assert expected.max() > 0.02
    deviation = (share - expected).abs() / (expected * (1 - expected) / 4000).sqrt().clamp(min=1e-9)
    assert deviation[expected > 0.002].max() < 5
