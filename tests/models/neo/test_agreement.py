"""NEO against the official implementation: image embeddings, indices, logits, losses, gradients, greedy decoding.

Every case and attention back end; alone, batched with padding on either side in any order, packed, cached and not. Flex
attention has no backward on a CPU: its gradients are compared where there is a GPU.
"""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from jigsaw.models.neo import attention

NAMES = ("text", "one_image", "two_images", "image_first", "nine_tiles")
each_case = pytest.mark.parametrize("name", NAMES)
each_side = pytest.mark.parametrize("side", ["left", "right"])


def difference(ours, theirs) -> float:
    return (ours - theirs).abs().max().item()


@each_case
def test_images_become_the_official_tokens(open_judge, cases, name):
    case = cases[name]
    if case.media:
        with torch.no_grad():
            assert difference(open_judge().get_image_features(**case.media), case.image_embeds) < 1e-5


@each_case
def test_indices_are_the_official_ones(open_judge, cases, name):
    case = cases[name]
    position_ids, following = open_judge().get_rope_index(case.input_ids[None], case.image_grid_thw)
    assert torch.equal(position_ids[:, 0], case.thw)
    assert following.tolist() == [case.thw[0].max() + 1]


@each_case
def test_logits_of_a_row_alone(judge, cases, name):
    case = cases[name]
    with torch.no_grad():
        logits = judge(input_ids=case.input_ids[None], **case.media).logits[0]
    assert difference(logits, case.logits) < 1e-4


@each_side
@pytest.mark.parametrize("seed", [0, 1])
def test_logits_of_padded_rows_in_any_order(judge, cases, together, side, seed):
    chosen = random.Random(seed).sample(list(cases.values()), len(cases))
    with torch.no_grad():
        logits = judge(**(inputs := together(chosen, side))).logits
    for case, row, mask in zip(chosen, logits, inputs["attention_mask"], strict=True):
        assert difference(row[mask.bool()], case.logits) < 1e-4, case.name


@pytest.mark.parametrize("given", ["counters", "indices"])
def test_packed_rows_see_nothing_of_each_other(judge, cases, given):
    order = [cases[name] for name in ("two_images", "text", "image_first", "one_image")]
    row = torch.cat([case.input_ids for case in order])[None]
    if given == "counters":
        position_ids = torch.cat([torch.arange(len(case.input_ids)) for case in order])[None]
    else:
        position_ids = torch.cat([case.thw for case in order], dim=1)[:, None]
    with torch.no_grad():
        logits = judge(
            input_ids=row,
            position_ids=position_ids,
            pixel_values=torch.cat([case.pixel_values for case in order]),
            image_grid_thw=torch.cat([case.image_grid_thw for case in order]),
        ).logits[0]
    for case, part in zip(order, logits.split([len(case.input_ids) for case in order]), strict=True):
        assert difference(part, case.logits) < 1e-4, case.name


def gradients(model, case, **inputs):
    """Loss of the labelled tokens, and the gradient norms that the official implementation gives for it."""
    model.zero_grad()
    loss = model(**inputs).loss
    loss.backward()
    named = dict(model.named_parameters())
    return loss.item(), {key: named[key].grad.norm().item() for key in case.grad_norms}


def labelled(inputs, row=0):
    """The inputs with labels on the last three tokens of a row, padded on the left."""
    labels = torch.full_like(inputs["input_ids"], -100)
    labels[row, -3:] = inputs["input_ids"][row, -3:]
    return inputs | {"labels": labels}


@each_case
@pytest.mark.parametrize(
    "kind, device",
    [("eager", "cpu"), ("sdpa", "cpu"), pytest.param("flex_attention", "cuda", marks=pytest.mark.gpu)],
)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_losses_and_gradients(open_judge, cases, together, name, kind, device, checkpointing):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    case, model = cases[name], open_judge(kind).to(device)
    inputs = labelled({key: value.to(device) for key, value in together([case]).items()})
    if checkpointing:
        model.train()
        model.gradient_checkpointing_enable({"use_reentrant": False})
    loss, norms = gradients(model, case, **inputs)
    assert abs(loss - case.loss_last3) < 1e-4
    assert norms == pytest.approx(case.grad_norms, rel=1e-3)


@each_case
@pytest.mark.parametrize("kind", ["eager", "sdpa"])
def test_losses_and_gradients_among_other_rows(open_judge, cases, together, name, kind):
    """The other rows, of other lengths and with other images, have no labels: nothing of them may be seen."""
    chosen = random.Random(name).sample(list(cases.values()), len(cases))
    inputs = labelled(together(chosen), row=[case.name for case in chosen].index(name))
    loss, norms = gradients(open_judge(kind), cases[name], **inputs)
    assert abs(loss - cases[name].loss_last3) < 1e-4
    assert norms == pytest.approx(cases[name].grad_norms, rel=1e-3)


def generated(model, inputs, **options):
    """Six greedy tokens of every row and their log-probabilities."""
    output = model.generate(
        **inputs,
        max_new_tokens=6,
        eos_token_id=-1,
        pad_token_id=0,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
        **options,
    )
    new = output.sequences[:, inputs["input_ids"].shape[1] :]
    scores = torch.stack(output.logits, dim=1).log_softmax(-1)
    return new.tolist(), scores.gather(-1, new[..., None])[..., 0].tolist()


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_greedy_tokens_of_rows_in_any_order(judge, cases, together, use_cache, seed):
    chosen = random.Random(seed).sample(list(cases.values()), len(cases))
    tokens, logprobs = generated(judge, together(chosen), use_cache=use_cache)
    for case, row, scores in zip(chosen, tokens, logprobs, strict=True):
        assert row == case.greedy_tokens, case.name
        assert scores == pytest.approx(case.greedy_logprobs, abs=1e-4), case.name


@each_case
@pytest.mark.parametrize("use_cache", [True, False])
def test_greedy_tokens_of_a_row_alone(judge, cases, together, name, use_cache):
    tokens, logprobs = generated(judge, together([cases[name]]), use_cache=use_cache)
    assert tokens == [cases[name].greedy_tokens]
    assert logprobs[0] == pytest.approx(cases[name].greedy_logprobs, abs=1e-4)


@pytest.mark.slow
def test_long_rows_take_the_compiled_flex_attention(open_judge, cases, together):
    """On a CPU it is compiled from so many tokens on; below, every other test of it runs the plain way."""
    text = torch.randint(10, 50, (attention.COMPILED_FROM,), generator=torch.Generator().manual_seed(0))
    chosen = [cases["two_images"], cases["text"]]
    longer = [replace(case, input_ids=torch.cat([case.input_ids, text[9 * row :]])) for row, case in enumerate(chosen)]
    inputs = together(longer)
    with torch.no_grad():
        ours, theirs = (open_judge(kind)(**inputs).logits for kind in ("flex_attention", "sdpa"))
    seen = inputs["attention_mask"].bool()
    assert seen.sum(-1).min() >= attention.COMPILED_FROM and not seen.all()
    assert difference(ours[seen], theirs[seen]) < 1e-4


def test_a_cache_is_gone_on_from_without_indices(judge, cases, together):
    """Rows that stand at different T: each goes on from its own."""
    chosen = [cases["nine_tiles"], cases["text"], cases["one_image"]]
    inputs = together(chosen)
    mask = inputs["attention_mask"]
    with torch.no_grad():
        output = judge(**inputs, use_cache=True)
        for step in range(3):
            token = output.logits[:, -1:].argmax(-1)
            assert token[:, 0].tolist() == [case.greedy_tokens[step] for case in chosen]
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
            output = judge(input_ids=token, attention_mask=mask, past_key_values=output.past_key_values)


def test_several_completions_of_a_prompt_keep_their_own_pixels(open_judge, cases, together):
    chosen = [cases["two_images"], cases["text"], cases["one_image"]]
    tokens, _ = generated(open_judge(), together(chosen), num_beams=1, num_return_sequences=1)
    repeated = open_judge().generate(
        **together(chosen), max_new_tokens=1, do_sample=True, top_k=1, num_return_sequences=2, pad_token_id=0
    )
    assert repeated[:, -1].tolist() == [row[0] for row in tokens for _ in range(2)]


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_explicit_indices_and_mask_do_what_the_model_would(judge, cases, dtype):
    case = cases["two_images"]
    time = case.thw[0]
    order = torch.arange(len(time))
    sees = (order[None] <= order[:, None]) | (time[None] == time[:, None])
    mask = sees[None, None]
    if dtype != torch.bool:
        mask = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
    with torch.no_grad():
        logits = judge(
            input_ids=case.input_ids[None], position_ids=case.thw[:, None], attention_mask=mask, **case.media
        ).logits[0]
    assert difference(logits, case.logits) < 1e-4


# Mutations: what must not go unnoticed. Each of these is a mistake that an implementation of the paper could make; it
# must move the logits by more than a hundred times what agreement allows.


def off(model, case) -> float:
    with torch.no_grad():
        logits = model(input_ids=case.input_ids[None], **case.media).logits[0]
    return difference(logits, case.logits)


def test_the_scale_of_the_wide_head_would_be_noticed(open_judge, cases):
    model = open_judge()
    assert off(model, cases["one_image"]) < 1e-4
    for layer in model.language_model.model.layers:
        layer.self_attn.scaling = (2 * layer.self_attn.head_dim) ** -0.5
    assert min(off(model, case) for case in cases.values()) > 1e-2


def test_the_other_rotary_pairing_would_be_noticed(open_judge, cases, monkeypatch):
    def interleaved(states):
        even, odd = states[..., 0::2], states[..., 1::2]
        return torch.stack([-odd, even], dim=-1).flatten(-2)

    monkeypatch.setattr(attention, "rotate_half", interleaved)
    model = open_judge()
    assert min(off(model, case) for case in cases.values()) > 1e-2


def test_a_causal_image_would_be_noticed(open_judge, cases, monkeypatch):
    plan = attention.attention_plan
    monkeypatch.setattr("jigsaw.models.neo.model.attention_plan", lambda *args: plan(*args[:4], None, args[5]))
    model = open_judge()
    assert off(model, cases["text"]) < 1e-4
    assert min(off(model, cases[name]) for name in NAMES if name != "text") > 1e-2
