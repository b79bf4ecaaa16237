"""Shared prompts: log-probabilities, entropies and gradients equal those of separate sequences."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from reference_pass import compare_with_reference, reference_log_probabilities
from synthetic_rows import ROWS, completions
from torch.nn.attention.flex_attention import create_block_mask
from torch.nn.functional import pad
from torch.utils._python_dispatch import TorchDispatchMode

from jigsaw.models.load import load_model, load_processor
from jigsaw.models.packed_attention import PADDING, PROMPT, Packing, block_mask, dense_mask
from jigsaw.models.prompt_batch import PromptBatch
from jigsaw.models.shared_prefix import completion_log_probabilities, log_probabilities


def packing(prompts, completions):
    """Returns the packing of prompts and completions of the given lengths."""
    start, space = max(prompts), max(map(sum, completions))
    part = torch.full((len(prompts), start + space), PADDING)
    for row, (prompt, group) in enumerate(zip(prompts, completions, strict=True)):
        part[row, start - prompt : start] = PROMPT
        numbers = [number for number, length in enumerate(group, 1) for _ in range(length)]
        part[row, start : start + len(numbers)] = torch.tensor(numbers, dtype=torch.long)
    return Packing(part)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("group", [2, 5, 8, 16])
def test_log_probabilities_and_gradients_equal_the_reference(model, processor, rows, group, attention):
    model.set_attn_implementation(attention)
    compare_with_reference(model, processor, rows, group)


def test_tied_embeddings_equal_the_reference(make_checkpoint, processor):
    compare_with_reference(load_model(make_checkpoint(tie_word_embeddings=True)), processor, ROWS["mixed"], 3)


def test_unshared_prompts_equal_the_reference(model, processor, rows):
    compare_with_reference(model, processor, rows, 3, shared=False)


def test_log_probabilities_in_chunks_equal_the_reference(model, processor):
    compare_with_reference(model, processor, ROWS["mixed"], 3, chunk=4 * 512)


def test_gradient_checkpointing_equals_the_reference(model, processor):
    model.train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    compare_with_reference(model, processor, ROWS["mixed"], 3)


def test_adapters_equal_the_reference(model, processor):
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    compare_with_reference(adapted, processor, ROWS["mixed"], 3)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_bfloat16_is_as_accurate_as_the_reference_in_bfloat16(model, processor, attention):
    """In bfloat16, the error of the packed pass against float32 is not larger than that of the reference."""
    model.set_attn_implementation(attention)
    rows, owner = ROWS["mixed"], torch.arange(len(ROWS["mixed"])).repeat_interleave(4)
    ids, mask = completions(len(owner))
    copies = [rows[number] for number in owner]
    batch = PromptBatch.encode(model, processor, rows, "cpu")
    kept = mask.bool()
    with torch.no_grad():
        exact, _ = reference_log_probabilities(model, processor, copies, ids, mask)
        with torch.autocast("cpu", torch.bfloat16):
            reference, _ = reference_log_probabilities(model, processor, copies, ids, mask)
    with torch.autocast("cpu", torch.bfloat16):
        logps, _ = log_probabilities(model, batch, owner.tolist(), ids, mask)
        logps.sum().backward()
    assert (logps - exact)[kept].abs().mean() < 1.5 * (reference - exact)[kept].abs().mean() + 1e-3
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_block_masks_equal_the_reference(model, processor, rows):
    model.requires_grad_(False)
    compare_with_reference(model, processor, rows, 3, blocks=True)


@pytest.mark.parametrize("attention", ["sdpa", "eager", "flex_attention"])
def test_neo_equals_the_reference(neo_checkpoint, rows, attention):
    model, processor = load_model(neo_checkpoint), load_processor(neo_checkpoint)
    model.set_attn_implementation(attention)
    if attention == "flex_attention":
        model.requires_grad_(False)
    compare_with_reference(model, processor, rows, 3, blocks=attention == "flex_attention")


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["qwen", "neo"])
def test_block_masks_have_the_gradients_of_dense_masks(checkpoint, neo_checkpoint, kind):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    path = checkpoint if kind == "qwen" else neo_checkpoint
    model, processor = load_model(path).cuda(), load_processor(path)
    batch = PromptBatch.encode(model, processor, ROWS["mixed"], "cuda")
    owner = torch.arange(3, device="cuda").repeat_interleave(4)
    ids, mask = (part.cuda() for part in completions(12))
    results = []
    for blocks in (False, True):
        logps, _ = log_probabilities(model, batch, owner.tolist(), ids, mask, blocks=blocks)
        logps.sum().backward()
        results.append((logps.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}))
        model.zero_grad()
    torch.testing.assert_close(results[0][0], results[1][0], atol=1e-4, rtol=0)
    for name, gradient in results[0][1].items():
        torch.testing.assert_close(results[1][1][name], gradient, atol=1e-3, rtol=1e-3, msg=name)


@pytest.mark.gpu
def test_the_block_mask_of_a_very_long_group_fits_in_memory():
    """The group has a prompt of 8192 tokens and 16 completions of 2048 tokens; no dense mask is created."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    part = packing([8192], [[2048] * 16]).part.cuda()
    torch.cuda.reset_peak_memory_stats()
    mask = block_mask(Packing(part))
    assert mask.shape[-1] == 8192 + 16 * 2048
    assert torch.cuda.max_memory_allocated() < 2**30


@pytest.mark.parametrize("of_images", [False, True])
def test_a_block_mask_equals_the_dense_mask(of_images):
    """Compares all entries and the kinds of the blocks, with padding and lengths that are no multiple of a block."""
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


class LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest tensor that is created."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **kwargs or {})
        for value in output if isinstance(output, tuple | list) else [output]:
            if isinstance(value, torch.Tensor):
                self.elements = max(self.elements, value.numel())
        return output


def test_building_a_block_mask_creates_no_dense_mask():
    packed = packing([2048], [[512] * 4])
    with LargestTensor() as largest:
        mask = block_mask(packed)
    assert mask.shape[-1] == 4096
    assert largest.elements <= 128 * 4096


def test_the_vision_tower_runs_once_per_group(model, processor):
    """The tower computes the patches of the prompts once, independent of the number of completions."""
    seen: list[int] = []
    model.model.visual.register_forward_hook(lambda _, args, out: seen.append(len(args[0])))
    batch = PromptBatch.encode(model, processor, ROWS["video"], "cpu")
    owner = torch.arange(2).repeat_interleave(16)
    log_probabilities(model, batch, owner.tolist(), *completions(32))
    assert seen == [len(batch.media["pixel_values_videos"])]
    seen.clear()
    log_probabilities(model, batch, owner.tolist(), *completions(32), shared=False)
    assert seen == [16 * len(batch.media["pixel_values_videos"])]


def test_completions_may_be_in_any_order_and_groups_may_be_incomplete(model, processor, puzzles):
    rows = [puzzles[0], puzzles[7], puzzles[13]]
    batch = PromptBatch.encode(model, processor, rows, "cpu")
    owner = torch.tensor([2, 0, 2, 2, 0])  # prompt 1 has no row, prompt 2 has three
    ids, mask = completions(len(owner))
    logps, _ = log_probabilities(model, batch, owner.tolist(), ids, mask)
    expected, _ = reference_log_probabilities(model, processor, [rows[n] for n in owner], ids, mask)
    torch.testing.assert_close(logps[mask.bool()], expected[mask.bool()], atol=1e-5, rtol=0)


def test_prompts_of_different_lengths_share_a_batch(model, processor, puzzles):
    longer = {**puzzles[3], "prompt": [{"role": "system", "content": [{"type": "text", "text": "Look well."}]}]}
    longer["prompt"] = longer["prompt"] + puzzles[3]["prompt"] + longer["prompt"]
    rows = [puzzles[0], longer]
    batch = PromptBatch.encode(model, processor, rows, "cpu")
    owner = torch.tensor([0, 0, 1, 1])
    ids, mask = completions(4)
    logps, _ = log_probabilities(model, batch, owner.tolist(), ids, mask)
    expected, _ = reference_log_probabilities(model, processor, [rows[n] for n in owner], ids, mask)
    torch.testing.assert_close(logps[mask.bool()], expected[mask.bool()], atol=1e-5, rtol=0)


def test_a_completely_masked_completion_gives_finite_values_and_gradients(model, processor, puzzles):
    batch = PromptBatch.encode(model, processor, [puzzles[0]], "cpu")
    ids, mask = completions(3)
    mask[1] = 0
    logps, entropies = log_probabilities(model, batch, [0, 0, 0], ids, mask)
    logps.sum().backward()
    assert logps.isfinite().all()
    assert entropies.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_completions_do_not_attend_to_each_other():
    mask = dense_mask(packing([2, 3], [[2, 1], [1, 3]]))[0, 0]
    assert mask.int().tolist() == [
        # prompt    first  second, padding
        [1, 0, 0, 0, 0, 0, 0],  # padding attends to itself
        [0, 1, 0, 0, 0, 0, 0],
        [0, 1, 1, 0, 0, 0, 0],
        [0, 1, 1, 1, 0, 0, 0],
        [0, 1, 1, 1, 1, 0, 0],
        [0, 1, 1, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 0, 1],
    ]


def record_widths(model):
    """Returns a list to which every forward pass of the decoder adds its number of tokens."""
    widths = []
    model.model.language_model.register_forward_pre_hook(
        lambda _, args, kwargs: widths.append(kwargs["inputs_embeds"].shape[:2].numel()), with_kwargs=True
    )
    return widths


def test_padding_is_not_computed(model, processor):
    """Given one long completion among short ones, the pass has as many tokens as prompt and completions."""
    batch = PromptBatch.encode(model, processor, ROWS["image"][:1], "cpu")
    lengths = torch.tensor([40, 2, 3, 4, 0])
    mask = (torch.arange(40) < lengths[:, None]).long()
    widths = record_widths(model)
    log_probabilities(model, batch, [0] * 5, torch.full((5, 40), 5), mask)
    assert widths == [batch.lengths[0] + 49]


def test_a_short_prompt_is_not_padded_to_a_prompt_without_completions(model, processor):
    batch = PromptBatch.encode(model, processor, ROWS["image"], "cpu")
    short = batch.lengths.index(min(batch.lengths))
    widths = record_widths(model)
    log_probabilities(model, batch, [short], torch.tensor([[5, 6]]), torch.ones(1, 2, dtype=torch.long))
    assert widths == [min(batch.lengths) + 2]


@pytest.mark.parametrize("shared", [True, False])
def test_the_public_function_returns_one_tensor_per_completion(model, processor, shared):
    """Rows have different numbers of completions, some of them empty or none; the values equal the reference."""
    rows = ROWS["mixed"]
    tokens_of_rows = [[[5, 6, 7], [], [8]], [], [[9, 10]]]
    log_probs = completion_log_probabilities(model, processor, rows, tokens_of_rows, shared=shared)
    assert [[len(scores) for scores in group] for group in log_probs] == [[3, 0, 1], [], [2]]
    for row, completions_of_row, scores_of_row in zip(rows, tokens_of_rows, log_probs, strict=True):
        for tokens, scores in zip(completions_of_row, scores_of_row, strict=True):
            ids = torch.tensor([tokens], dtype=torch.long)
            expected, _ = reference_log_probabilities(model, processor, [row], ids, torch.ones_like(ids))
            assert scores.dtype == torch.float32
            torch.testing.assert_close(scores, expected[0], atol=1e-5, rtol=0)
