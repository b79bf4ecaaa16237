"""Prompts paid for once give what prompts paid for G times give: tokens, log-probabilities, gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from made_rows import ROWS
from peft import LoraConfig, get_peft_model
from PIL import ImageOps
from torch.nn.attention.flex_attention import create_block_mask
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LogitsProcessorList, SuppressTokensLogitsProcessor

from jigsaw.errors import JigsawError
from jigsaw.evaluation.prompts import processor_inputs
from jigsaw.evaluation.solve import solve
from jigsaw.models.load import load_model, load_processor, vision_token_ids
from jigsaw.training.shared_prefix import PromptBatch, block_mask, log_probabilities, packed_mask, sample

LENGTHS = (5, 1, 3, 7, 2, 7)


def completions(rows: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Random completion tokens of unequal lengths, padded on the right."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([LENGTHS[row % len(LENGTHS)] for row in range(rows)])
    ids = torch.randint(0, 200, (rows, int(lengths.max())), generator=generator)
    mask = (torch.arange(ids.shape[1])[None] < lengths[:, None]).long()
    return ids * mask, mask


def plain_log_probabilities(model, processor, rows, ids, mask, temperature=1.0):
    """The straightforward way: every completion behind its own copy of the prompt, one at a time, no word of places."""
    logps, entropies = torch.zeros(ids.shape), torch.zeros(ids.shape)
    for number, row in enumerate(rows):
        length = int(mask[number].sum())
        if not length:
            continue
        prompt = processor_inputs(processor, [row])
        tokens = ids[number : number + 1, :length]
        inputs = dict(prompt)
        inputs["input_ids"] = torch.cat([prompt["input_ids"], tokens], 1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        inputs["mm_token_type_ids"] = torch.cat([prompt["mm_token_type_ids"], torch.zeros_like(tokens)], 1)
        scores = model(**inputs).logits[0, -length - 1 : -1].float().div(temperature).log_softmax(-1)
        logps[number, :length] = scores.gather(-1, tokens[0][:, None])[:, 0]
        entropies[number, :length] = -(scores.exp() * scores).sum(-1)
    return logps, entropies


def compare(model, processor, rows, group, **options):
    """Ours against the straightforward way: log-probabilities, entropies and gradients of a weighted sum."""
    owner = torch.arange(len(rows)).repeat_interleave(group)
    ids, mask = completions(len(owner))
    mask[1] = 0  # a truncated completion that is masked whole
    weights = torch.rand(ids.shape, generator=torch.Generator().manual_seed(1)) * mask

    batch = PromptBatch.encode(model, processor, rows, "cpu")
    ours, our_entropy = log_probabilities(model, batch, owner, ids, mask, temperature=0.7, **options)
    plain, plain_entropy = plain_log_probabilities(model, processor, [rows[n] for n in owner], ids, mask, 0.7)
    kept = mask.bool()
    torch.testing.assert_close(ours[kept], plain[kept], atol=1e-5, rtol=0)
    torch.testing.assert_close(our_entropy[kept], plain_entropy[kept], atol=1e-5, rtol=0)
    if options.get("blocks"):
        return  # flex attention has no backward on a CPU
    (ours * weights).sum().backward()
    our_gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    (plain * weights).sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert our_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        scale = gradient.norm().clamp(min=1e-3)
        assert float((our_gradients[name] - gradient).norm() / scale) < 1e-5, name


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("group", [2, 5, 8, 16])
def test_log_probabilities_and_gradients_equal_the_plain_way(model, processor, rows, group, attention):
    model.set_attn_implementation(attention)
    compare(model, processor, rows, group)


def test_unshared_prompts_equal_the_plain_way(model, processor, rows):
    compare(model, processor, rows, 3, shared=False)


def test_scores_in_chunks_equal_the_plain_way(model, processor):
    compare(model, processor, ROWS["mixed"], 3, chunk=4 * 512)


def test_checkpointed_layers_equal_the_plain_way(model, processor):
    model.train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    compare(model, processor, ROWS["mixed"], 3)


def test_adapters_equal_the_plain_way(model, processor):
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    compare(adapted, processor, ROWS["mixed"], 3)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_bfloat16_is_as_close_as_the_plain_way(model, processor, attention):
    """Both computed in bfloat16, the packed pass is no farther from float32 than the straightforward one is."""
    model.set_attn_implementation(attention)
    rows, owner = ROWS["mixed"], torch.arange(len(ROWS["mixed"])).repeat_interleave(4)
    ids, mask = completions(len(owner))
    copies = [rows[number] for number in owner]
    batch = PromptBatch.encode(model, processor, rows, "cpu")
    kept = mask.bool()
    with torch.no_grad():
        exact, _ = plain_log_probabilities(model, processor, copies, ids, mask)
        with torch.autocast("cpu", torch.bfloat16):
            plain, _ = plain_log_probabilities(model, processor, copies, ids, mask)
    with torch.autocast("cpu", torch.bfloat16):
        ours, _ = log_probabilities(model, batch, owner, ids, mask)
        ours.sum().backward()
    assert (ours - exact)[kept].abs().mean() < 1.5 * (plain - exact)[kept].abs().mean() + 1e-3
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_block_masks_equal_the_plain_way(model, processor, rows):
    model.requires_grad_(False)
    compare(model, processor, rows, 3, blocks=True)


@pytest.mark.parametrize("attention", ["sdpa", "eager", "flex_attention"])
def test_neo_equals_the_plain_way(neo_checkpoint, rows, attention):
    model, processor = load_model(neo_checkpoint), load_processor(neo_checkpoint)
    model.set_attn_implementation(attention)
    if attention == "flex_attention":
        model.requires_grad_(False)
    compare(model, processor, rows, 3, blocks=attention == "flex_attention")


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["qwen", "neo"])
def test_block_masks_have_the_gradients_of_dense_ones(checkpoint, neo_checkpoint, kind):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    path = checkpoint if kind == "qwen" else neo_checkpoint
    model, processor = load_model(path).cuda(), load_processor(path)
    batch = PromptBatch.encode(model, processor, ROWS["mixed"], "cuda")
    owner = torch.arange(3, device="cuda").repeat_interleave(4)
    ids, mask = (part.cuda() for part in completions(12))
    found = []
    for blocks in (False, True):
        logps, _ = log_probabilities(model, batch, owner, ids, mask, blocks=blocks)
        logps.sum().backward()
        found.append((logps.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}))
        model.zero_grad()
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-4, rtol=0)
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], gradient, atol=1e-3, rtol=1e-3, msg=name)


@pytest.mark.gpu
def test_very_long_groups_fit():
    """8192 tokens of prompt and 16 completions of 2048: no dense mask, no logits of all tokens at once."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    prompt = torch.ones(1, 8192, dtype=torch.long, device="cuda")
    completion = torch.ones(1, 16, 2048, dtype=torch.long, device="cuda")
    torch.cuda.reset_peak_memory_stats()
    mask = block_mask(prompt, completion)
    assert mask.shape[-1] == 8192 + 16 * 2048
    assert torch.cuda.max_memory_allocated() < 2**30


@pytest.mark.parametrize("of_images", [False, True])
def test_a_block_mask_is_the_dense_one(of_images):
    """Place by place, and by what it says of each block: sizes that no block divides, padding, unequal completions."""
    prompt = (torch.arange(300)[None] >= torch.tensor([[0], [140]])).long()
    completion = (torch.arange(90) < torch.tensor([[[90], [3], [0]], [[40], [90], [1]]])).long()
    together = torch.arange(300).expand(2, -1) // 40 if of_images else None
    dense = packed_mask(prompt, completion, together)
    blocks = block_mask(prompt, completion, together)
    size = dense.shape[-1]
    places = torch.arange(size)
    row = torch.arange(2)[:, None, None]
    assert torch.equal(blocks.mask_mod(row, row, places[:, None], places)[:, None], dense)
    usual = create_block_mask(blocks.mask_mod, 2, None, size, size, device="cpu")
    assert torch.equal(blocks.to_dense(), usual.to_dense())
    assert torch.equal(blocks.full_kv_num_blocks, usual.full_kv_num_blocks)


class Largest(TorchDispatchMode):
    """Watches how many places the largest tensor has that is made."""

    places = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **kwargs or {})
        for value in made if isinstance(made, tuple | list) else [made]:
            if isinstance(value, torch.Tensor):
                self.places = max(self.places, value.numel())
        return made


def test_no_block_mask_is_ever_dense():
    prompt, completion = torch.ones(1, 2048, dtype=torch.long), torch.ones(1, 4, 512, dtype=torch.long)
    with Largest() as largest:
        mask = block_mask(prompt, completion)
    assert mask.shape[-1] == 4096
    assert largest.places <= 128 * 4096


def test_the_vision_tower_runs_once_a_group(model, processor):
    """However many completions there are: as many patches pass as the prompts' media have."""
    seen: list[int] = []
    model.model.visual.register_forward_hook(lambda _, args, out: seen.append(len(args[0])))
    batch = PromptBatch.encode(model, processor, ROWS["video"], "cpu")
    owner = torch.arange(2).repeat_interleave(16)
    log_probabilities(model, batch, owner, *completions(32))
    assert seen == [len(batch.media["pixel_values_videos"])]
    seen.clear()
    log_probabilities(model, batch, owner, *completions(32), shared=False)
    assert seen == [16 * len(batch.media["pixel_values_videos"])]


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


PATHS = {"shared": {"shared": True}, "unshared": {"shared": False}, "blocks": {"blocks": True}}
"""The ways of the log-probability pass."""


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["qwen", "neo"])
def test_log_probabilities_change_with_the_pixels(checkpoint, neo_checkpoint, rows, kind, path):
    """Of every prompt, and of no other's."""
    name = checkpoint if kind == "qwen" else neo_checkpoint
    model, processor = load_model(name).requires_grad_(False), load_processor(name)
    if kind == "neo" and path == "blocks":
        model.set_attn_implementation("flex_attention")
    ids, mask = completions(len(rows))
    owner = torch.arange(len(rows))

    def score(those):
        return log_probabilities(
            model, PromptBatch.encode(model, processor, those, "cpu"), owner, ids, mask, **PATHS[path]
        )[0]

    first = score(rows)
    for number, row in enumerate(rows):
        changed = [other if other is not row else recoloured(row) for other in rows]
        apart = (score(changed) - first).abs().amax(1) > 1e-4
        assert apart.tolist() == [place == number for place in range(len(rows))]


def recoloured(row):
    """The row with its last medium turned into its negative."""
    kind = "videos" if row["videos"] else "images"
    *others, last = row[kind]
    if kind == "videos":
        return row | {kind: [*others, replace(last, frames=255 - last.frames)]}
    return row | {kind: [*others, ImageOps.invert(last)]}


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


def test_a_clip_without_its_place_is_an_error(model, processor):
    row = ROWS["video"][0]
    with pytest.raises(JigsawError, match="0 placeholders without a video, 1 videos without one"):
        PromptBatch.encode(model, processor, [row | {"videos": [*row["videos"], row["videos"][0]]}], "cpu")


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ("pixel_values_videos", "video patches are missing"),
        ("video_grid_thw", "5 videos were given and 4 reached the model"),
        ("input_ids", "puzzle v1: the prompt holds .* video tokens and its videos make"),
    ],
)
def test_a_medium_that_a_processor_drops_is_an_error(model, processor, monkeypatch, field, told):
    """Grid, patches and tokens of every medium are counted, whoever loses one."""

    def careless(*args, **kwargs):
        inputs = processor_inputs(*args, **kwargs)
        if field == "input_ids":
            place = (inputs[field][1] == processor.video_token_id).nonzero()[-1]
            inputs[field][1, place] = processor.tokenizer.eos_token_id
        else:
            inputs[field] = inputs[field][:-1]
        return inputs

    monkeypatch.setattr("jigsaw.training.prompts.processor_inputs", careless)
    with pytest.raises(JigsawError, match=told):
        PromptBatch.encode(model, processor, ROWS["video"], "cpu")


@pytest.mark.parametrize("path", [*PATHS, "sampling"])
def test_a_medium_that_the_model_is_not_given_is_an_error(model, processor, rows, path):
    """The last count is the model's own, on every forward pass."""
    batch = PromptBatch.encode(model, processor, rows, "cpu")
    pixels = next(name for name in batch.media if name.startswith("pixel_values"))
    grid = {"pixel_values": "image_grid_thw", "pixel_values_videos": "video_grid_thw"}[pixels]
    media = dict(batch.media)
    media[pixels], media[grid] = media[pixels][: -int(media[grid][-1].prod())], media[grid][:-1]
    lacking, (ids, mask) = replace(batch, media=media), completions(len(rows))
    with pytest.raises(ValueError, match=r"features and (image|video) tokens do not match"):
        if path == "sampling":
            end = [processor.tokenizer.eos_token_id]
            settings = {"max_new_tokens": 2, "eos_token_ids": end, "seeds": [0] * len(rows)}
            sample(model, lacking, 2, logits_processors=LogitsProcessorList(), **settings)
        else:
            log_probabilities(model, lacking, torch.arange(len(rows)), ids, mask, **PATHS[path])


def test_joined_batches_are_one_batch(model, processor):
    every = [row for rows in ROWS.values() for row in rows]
    parts = [PromptBatch.encode(model, processor, rows, "cpu") for rows in ROWS.values()]
    owner = torch.arange(len(every))
    ids, mask = completions(len(every))
    joined, _ = log_probabilities(model, PromptBatch.join(parts), owner, ids, mask)
    whole, _ = log_probabilities(model, PromptBatch.encode(model, processor, every, "cpu"), owner, ids, mask)
    torch.testing.assert_close(joined, whole, atol=1e-5, rtol=0)
