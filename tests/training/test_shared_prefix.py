"""Prompts paid for once give what prompts paid for G times give: tokens, log-probabilities, gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from made_rows import ROWS, completions
from peft import LoraConfig, get_peft_model
from plain_way import compare, plain_log_probabilities
from torch.nn.attention.flex_attention import create_block_mask
from torch.nn.functional import pad
from torch.utils._python_dispatch import TorchDispatchMode

from jigsaw.models.load import load_model, load_processor
from jigsaw.models.packed_attention import PADDING, PROMPT, Packing, block_mask, dense_mask
from jigsaw.models.prompt_batch import PromptBatch
from jigsaw.models.shared_prefix import completion_log_probabilities, log_probabilities


def packing(prompts, completions):
    """Prompts and completions of the given lengths."""
    start, space = max(prompts), max(map(sum, completions))
    part = torch.full((len(prompts), start + space), PADDING)
    for row, (prompt, group) in enumerate(zip(prompts, completions, strict=True)):
        part[row, start - prompt : start] = PROMPT
        numbers = [number for number, length in enumerate(group, 1) for _ in range(length)]
        part[row, start : start + len(numbers)] = torch.tensor(numbers, dtype=torch.long)
    return Packing(part)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("group", [2, 5, 8, 16])
def test_log_probabilities_and_gradients_equal_the_plain_way(model, processor, rows, group, attention):
    model.set_attn_implementation(attention)
    compare(model, processor, rows, group)


def test_a_head_that_is_the_embedding_equals_the_plain_way(make_checkpoint, processor):
    compare(load_model(make_checkpoint(tie_word_embeddings=True)), processor, ROWS["mixed"], 3)


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
        ours, _ = log_probabilities(model, batch, owner.tolist(), ids, mask)
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
        logps, _ = log_probabilities(model, batch, owner.tolist(), ids, mask, blocks=blocks)
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
    part = packing([8192], [[2048] * 16]).part.cuda()
    torch.cuda.reset_peak_memory_stats()
    mask = block_mask(Packing(part))
    assert mask.shape[-1] == 8192 + 16 * 2048
    assert torch.cuda.max_memory_allocated() < 2**30


@pytest.mark.parametrize("of_images", [False, True])
def test_a_block_mask_is_the_dense_one(of_images):
    """Place by place, and by what it says of each block: sizes that no block divides, padding, unequal completions."""
    packed = packing([300, 160], [[90, 3, 0], [40, 90, 1]])
    if of_images:
        packed = replace(packed, together=pad(torch.arange(300).expand(2, -1) // 40, (0, 131), value=-1))
    dense, blocks = dense_mask(packed), block_mask(packed)
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
    packed = packing([2048], [[512] * 4])
    with Largest() as largest:
        mask = block_mask(packed)
    assert mask.shape[-1] == 4096
    assert largest.places <= 128 * 4096


def test_the_vision_tower_runs_once_a_group(model, processor):
    """However many completions there are: as many patches pass as the prompts' media have."""
    seen: list[int] = []
    model.model.visual.register_forward_hook(lambda _, args, out: seen.append(len(args[0])))
    batch = PromptBatch.encode(model, processor, ROWS["video"], "cpu")
    owner = torch.arange(2).repeat_interleave(16)
    log_probabilities(model, batch, owner.tolist(), *completions(32))
    assert seen == [len(batch.media["pixel_values_videos"])]
    seen.clear()
    log_probabilities(model, batch, owner.tolist(), *completions(32), shared=False)
    assert seen == [16 * len(batch.media["pixel_values_videos"])]


def test_rows_may_come_in_any_order_and_groups_may_be_cut(model, processor, puzzles):
    rows = [puzzles[0], puzzles[7], puzzles[13]]
    batch = PromptBatch.encode(model, processor, rows, "cpu")
    owner = torch.tensor([2, 0, 2, 2, 0])  # prompt 1 has no row, prompt 2 has three
    ids, mask = completions(len(owner))
    ours, _ = log_probabilities(model, batch, owner.tolist(), ids, mask)
    plain, _ = plain_log_probabilities(model, processor, [rows[n] for n in owner], ids, mask)
    torch.testing.assert_close(ours[mask.bool()], plain[mask.bool()], atol=1e-5, rtol=0)


def test_prompts_of_different_lengths_share_a_batch(model, processor, puzzles):
    longer = {**puzzles[3], "prompt": [{"role": "system", "content": [{"type": "text", "text": "Look well."}]}]}
    longer["prompt"] = longer["prompt"] + puzzles[3]["prompt"] + longer["prompt"]
    rows = [puzzles[0], longer]
    batch = PromptBatch.encode(model, processor, rows, "cpu")
    owner = torch.tensor([0, 0, 1, 1])
    ids, mask = completions(4)
    ours, _ = log_probabilities(model, batch, owner.tolist(), ids, mask)
    plain, _ = plain_log_probabilities(model, processor, [rows[n] for n in owner], ids, mask)
    torch.testing.assert_close(ours[mask.bool()], plain[mask.bool()], atol=1e-5, rtol=0)


def test_a_completion_that_is_masked_whole_leaves_the_others_finite(model, processor, puzzles):
    batch = PromptBatch.encode(model, processor, [puzzles[0]], "cpu")
    ids, mask = completions(3)
    mask[1] = 0
    logps, entropies = log_probabilities(model, batch, [0, 0, 0], ids, mask)
    logps.sum().backward()
    assert logps.isfinite().all()
    assert entropies.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_completions_do_not_see_each_other():
    mask = dense_mask(packing([2, 3], [[2, 1], [1, 3]]))[0, 0]
    assert mask.int().tolist() == [
        # prompt    first  second, padding
        [1, 0, 0, 0, 0, 0, 0],  # padding sees itself
        [0, 1, 0, 0, 0, 0, 0],
        [0, 1, 1, 0, 0, 0, 0],
        [0, 1, 1, 1, 0, 0, 0],
        [0, 1, 1, 1, 1, 0, 0],
        [0, 1, 1, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 0, 1],
    ]


def watched_widths(model):
    """Counts the tokens of every forward pass of the decoder."""
    widths = []
    model.model.language_model.register_forward_pre_hook(
        lambda _, args, kwargs: widths.append(kwargs["inputs_embeds"].shape[:2].numel()), with_kwargs=True
    )
    return widths


def test_padding_is_not_computed(model, processor):
    """Given one long completion among short ones, then as many tokens pass as prompt and completions have."""
    batch = PromptBatch.encode(model, processor, ROWS["image"][:1], "cpu")
    lengths = torch.tensor([40, 2, 3, 4, 0])
    mask = (torch.arange(40) < lengths[:, None]).long()
    widths = watched_widths(model)
    log_probabilities(model, batch, [0] * 5, torch.full((5, 40), 5), mask)
    assert widths == [batch.lengths[0] + 49]


def test_a_shorter_prompt_is_not_padded_to_one_that_is_not_there(model, processor):
    batch = PromptBatch.encode(model, processor, ROWS["image"], "cpu")
    short = batch.lengths.index(min(batch.lengths))
    widths = watched_widths(model)
    log_probabilities(model, batch, [short], torch.tensor([[5, 6]]), torch.ones(1, 2, dtype=torch.long))
    assert widths == [min(batch.lengths) + 2]


@pytest.mark.parametrize("shared", [True, False])
def test_the_public_function_gives_one_tensor_per_completion(model, processor, shared):
    """Of as many completions as each row has, empty ones and none at all included; they equal the plain way."""
    rows = ROWS["mixed"]
    given = [[[5, 6, 7], [], [8]], [], [[9, 10]]]
    found = completion_log_probabilities(model, processor, rows, given, shared=shared)
    assert [[len(scores) for scores in group] for group in found] == [[3, 0, 1], [], [2]]
    for row, completions_of_row, scores_of_row in zip(rows, given, found, strict=True):
        for tokens, scores in zip(completions_of_row, scores_of_row, strict=True):
            ids = torch.tensor([tokens], dtype=torch.long)
            plain, _ = plain_log_probabilities(model, processor, [row], ids, torch.ones_like(ids))
            assert scores.dtype == torch.float32
            torch.testing.assert_close(scores, plain[0], atol=1e-5, rtol=0)
