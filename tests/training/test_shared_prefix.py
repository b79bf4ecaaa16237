"""Prompts paid for once give what prompts paid for G times give: tokens, log-probabilities, gradients."""

from __future__ import annotations

import pytest
import torch
from made_rows import ROWS, completions
from peft import LoraConfig, get_peft_model
from torch.nn.attention.flex_attention import create_block_mask
from torch.utils._python_dispatch import TorchDispatchMode

from jigsaw.models.load import load_model, load_processor
from jigsaw.models.prompts import processor_inputs
from jigsaw.training.prompts import PromptBatch
from jigsaw.training.shared_prefix import block_mask, log_probabilities, packed_mask


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
