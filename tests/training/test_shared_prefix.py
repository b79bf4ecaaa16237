"""Prompts paid for once give what prompts paid for G times give: tokens, log-probabilities, gradients."""

from __future__ import annotations

import pytest
import torch
from transformers import LogitsProcessorList, SuppressTokensLogitsProcessor

from jigsaw.errors import JigsawError
from jigsaw.evaluation.solve import solve, with_media
from jigsaw.models.load import vision_token_ids
from jigsaw.training.shared_prefix import PromptBatch, log_probabilities, packed_mask, sample

LENGTHS = (5, 1, 3, 7, 2, 7)


def completions(rows: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Random completion tokens of unequal lengths, padded on the right."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([LENGTHS[row % len(LENGTHS)] for row in range(rows)])
    ids = torch.randint(0, 200, (rows, int(lengths.max())), generator=generator)
    mask = (torch.arange(ids.shape[1])[None] < lengths[:, None]).long()
    return ids * mask, mask


def plain_log_probabilities(model, processor, rows, ids, mask, temperature=1.0):
    """The straightforward way: every completion behind its own copy of the prompt, one at a time."""
    logps, entropies = torch.zeros(ids.shape), torch.zeros(ids.shape)
    for number, row in enumerate(rows):
        prompt = processor.apply_chat_template(
            [with_media(row)], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        length = int(mask[number].sum())
        tokens = ids[number : number + 1, :length]
        inputs = dict(prompt)
        inputs["input_ids"] = torch.cat([prompt["input_ids"], tokens], 1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        inputs["mm_token_type_ids"] = torch.cat([prompt["mm_token_type_ids"], torch.zeros_like(tokens)], 1)
        scores = model(**inputs).logits[0, -length - 1 : -1].float().div(temperature).log_softmax(-1)
        logps[number, :length] = scores.gather(-1, tokens[0][:, None])[:, 0]
        entropies[number, :length] = -(scores.exp() * scores).sum(-1)
    return logps, entropies


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("group", [2, 5])
def test_log_probabilities_and_gradients_equal_the_plain_way(model, processor, puzzles, group, attention):
    model.set_attn_implementation(attention)
    rows = [puzzles[0], puzzles[7], puzzles[13]]
    owner = torch.tensor([number for number in range(3) for _ in range(group)])
    ids, mask = completions(len(owner))
    weights = torch.rand(ids.shape, generator=torch.Generator().manual_seed(1)) * mask

    batch = PromptBatch.encode(model, processor, rows, "cpu")
    ours, our_entropy = log_probabilities(model, batch, owner, ids, mask, temperature=0.7)
    (ours * weights).sum().backward()
    our_gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    plain, plain_entropy = plain_log_probabilities(model, processor, [rows[n] for n in owner], ids, mask, 0.7)
    (plain * weights).sum().backward()

    kept = mask.bool()
    torch.testing.assert_close(ours[kept], plain[kept], atol=1e-5, rtol=0)
    torch.testing.assert_close(our_entropy[kept], plain_entropy[kept], atol=1e-5, rtol=0)
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert our_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        scale = gradient.norm().clamp(min=1e-3)
        assert float((our_gradients[name] - gradient).norm() / scale) < 1e-5, name


def test_rows_may_come_in_any_order_and_groups_may_be_cut(model, processor, puzzles):
    rows = [puzzles[0], puzzles[7], puzzles[13]]
    batch = PromptBatch.encode(model, processor, rows, "cpu")
    owner = torch.tensor([2, 0, 2, 2, 0])  # prompt 1 has no row, prompt 2 has three
    ids, mask = completions(len(owner))
    ours, _ = log_probabilities(model, batch, owner, ids, mask)
    plain, _ = plain_log_probabilities(model, processor, [rows[n] for n in owner], ids, mask)
    torch.testing.assert_close(ours[mask.bool()], plain[mask.bool()], atol=1e-5, rtol=0)


def test_prompts_of_different_lengths_share_a_batch(model, processor, puzzles):
    longer = {**puzzles[3], "prompt": [{"role": "system", "content": [{"type": "text", "text": "Look well."}]}]}
    longer["prompt"] = longer["prompt"] + puzzles[3]["prompt"] + longer["prompt"]
    rows = [puzzles[0], longer]
    batch = PromptBatch.encode(model, processor, rows, "cpu")
    owner = torch.tensor([0, 0, 1, 1])
    ids, mask = completions(4)
    ours, _ = log_probabilities(model, batch, owner, ids, mask)
    plain, _ = plain_log_probabilities(model, processor, [rows[n] for n in owner], ids, mask)
    torch.testing.assert_close(ours[mask.bool()], plain[mask.bool()], atol=1e-5, rtol=0)


def test_a_completion_that_is_masked_whole_leaves_the_others_finite(model, processor, puzzles):
    batch = PromptBatch.encode(model, processor, [puzzles[0]], "cpu")
    ids, mask = completions(3)
    mask[1] = 0
    logps, entropies = log_probabilities(model, batch, torch.tensor([0, 0, 0]), ids, mask)
    logps.sum().backward()
    assert logps.isfinite().all()
    assert entropies.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_completions_do_not_see_each_other():
    mask = packed_mask(torch.tensor([[0, 1, 1]]), torch.tensor([[[1, 1], [1, 0]]]))[0, 0]
    sees = mask.int().tolist()
    assert sees == [
        # prompt    first  second
        [1, 0, 0, 0, 0, 0, 0],  # padding sees itself
        [0, 1, 0, 0, 0, 0, 0],
        [0, 1, 1, 0, 0, 0, 0],
        [0, 1, 1, 1, 0, 0, 0],
        [0, 1, 1, 1, 1, 0, 0],
        [0, 1, 1, 0, 0, 1, 0],
        [0, 1, 1, 0, 0, 1, 1],  # padding sees itself
    ]


def test_log_probabilities_change_with_the_pixels(model, processor, puzzles):
    row = dict(puzzles[0])
    other = row | {"images": [image.transpose(1) for image in row["images"]]}
    ids, mask = completions(2)
    owner = torch.tensor([0, 0])
    first, _ = log_probabilities(model, PromptBatch.encode(model, processor, [row], "cpu"), owner, ids, mask)
    second, _ = log_probabilities(model, PromptBatch.encode(model, processor, [other], "cpu"), owner, ids, mask)
    assert not torch.allclose(first, second, atol=1e-4)


class Greedy(torch.nn.Module):
    """Leaves the likeliest token alone in the distribution."""

    def __call__(self, ids, scores):
        best = scores.argmax(-1, keepdim=True)
        return torch.full_like(scores, -torch.inf).scatter(1, best, 0.0)


def test_a_repeated_cache_decodes_what_transformers_decodes(model, processor, puzzles):
    """Greedy through the repeated cache against `generate`, which runs every prompt by itself."""
    rows = [puzzles[i] for i in range(4)]
    suppress = SuppressTokensLogitsProcessor(vision_token_ids(processor))
    sampled = sample(
        model,
        PromptBatch.encode(model, processor, rows, "cpu"),
        3,
        logits_processors=LogitsProcessorList([suppress, Greedy()]),
        max_new_tokens=12,
        eos_token_ids=[processor.tokenizer.eos_token_id],
        seeds=[0] * 4,
    )
    texts = processor.batch_decode(sampled, skip_special_tokens=True)
    expected = [row["completion"] for row in solve(model, processor, rows, max_new_tokens=12)]
    assert texts == [text for text in expected for _ in range(3)]


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
        torch.zeros(len(every), dtype=torch.long),
        every,
        torch.ones_like(every),
        forbidden_tokens=forbidden,
    )
    expected = torch.zeros(len(share)).index_put_((every[:, 0],), logps[:, 0].detach().exp())
    assert expected.sum() == pytest.approx(1, abs=1e-4)
    assert expected.max() > 0.02
    deviation = (share - expected).abs() / (expected * (1 - expected) / 4000).sqrt().clamp(min=1e-9)
    assert deviation[expected > 0.002].max() < 5


def test_an_image_that_does_not_reach_the_model_is_an_error(model, processor, puzzles):
    row = dict(puzzles[0])
    with pytest.raises(JigsawError, match="1 placeholders without an image"):
        PromptBatch.encode(model, processor, [row | {"images": row["images"][:3]}], "cpu")
