"""A reference implementation of the log-probabilities of completions, and a comparison with the shared-prompt pass."""

from __future__ import annotations

import torch
from synthetic_rows import completions

from jigsaw.models.prompt_batch import PromptBatch
from jigsaw.models.prompts import processor_inputs
from jigsaw.models.shared_prefix import log_probabilities


def reference_log_probabilities(model, processor, rows, ids, mask, temperature=1.0):
    """Returns log-probabilities and entropies, computed for one sequence of prompt and completion at a time."""
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


def compare_with_reference(model, processor, rows, group, **options):
    """Asserts that log-probabilities, entropies and the gradients of a weighted sum equal those of the reference."""
    owner = torch.arange(len(rows)).repeat_interleave(group)
    ids, mask = completions(len(owner))
    mask[1] = 0  # a truncated completion whose tokens are all masked
    weights = torch.rand(ids.shape, generator=torch.Generator().manual_seed(1)) * mask

    batch = PromptBatch.encode(model, processor, rows, "cpu")
    logps, entropies = log_probabilities(model, batch, owner.tolist(), ids, mask, temperature=0.7, **options)
    copies = [rows[n] for n in owner]
    expected, expected_entropies = reference_log_probabilities(model, processor, copies, ids, mask, 0.7)
    kept = mask.bool()
    torch.testing.assert_close(logps[kept], expected[kept], atol=1e-5, rtol=0)
    torch.testing.assert_close(entropies[kept], expected_entropies[kept], atol=1e-5, rtol=0)
    if options.get("blocks"):
        return  # flex attention has no backward on a CPU
    (logps * weights).sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    (expected * weights).sum().backward()
    expected_gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert gradients.keys() == expected_gradients.keys()
    for name, gradient in expected_gradients.items():
        scale = gradient.norm().clamp(min=1e-3)
        assert float((gradients[name] - gradient).norm() / scale) < 1e-5, name
