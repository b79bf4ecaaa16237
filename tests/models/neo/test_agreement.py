"""NEO agrees with the official implementation in embeddings, indices, logits, losses, gradients and greedy decoding.

The tests cover every case and attention back end, with single rows, padded batches in any order, packed rows, and with
and without a cache. Flex attention has no backward pass on a CPU, so its gradients are compared only on a GPU.
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


def difference(actual, expected) -> float:
    return (actual - expected).abs().max().item()


@each_case
def test_image_embeddings_equal_the_official_ones(open_reference_model, cases, name):
    case = cases[name]
    if case.media:
        with torch.no_grad():
            assert difference(open_reference_model().get_image_features(**case.media), case.image_embeds) < 1e-5


@each_case
def test_indices_equal_the_official_ones(open_reference_model, cases, name):
    case = cases[name]
    position_ids, following = open_reference_model().get_rope_index(case.input_ids[None], case.image_grid_thw)
    assert torch.equal(position_ids[:, 0], case.thw)
    assert following.tolist() == [case.thw[0].max() + 1]


@each_case
def test_logits_of_a_single_row_equal_the_official_ones(reference_model, cases, name):
    case = cases[name]
    with torch.no_grad():
        logits = reference_model(input_ids=case.input_ids[None], **case.media).logits[0]
    assert difference(logits, case.logits) < 1e-4


@each_side
@pytest.mark.parametrize("seed", [0, 1])
def test_logits_of_padded_rows_in_any_order_equal_the_official_ones(reference_model, cases, make_batch, side, seed):
    chosen = random.Random(seed).sample(list(cases.values()), len(cases))
    with torch.no_grad():
        logits = reference_model(**(inputs := make_batch(chosen, side))).logits
    for case, row, mask in zip(chosen, logits, inputs["attention_mask"], strict=True):
        assert difference(row[mask.bool()], case.logits) < 1e-4, case.name


@pytest.mark.parametrize("form", ["counters", "indices"])
def test_packed_rows_do_not_attend_to_each_other(reference_model, cases, form):
    order = [cases[name] for name in ("two_images", "text", "image_first", "one_image")]
    row = torch.cat([case.input_ids for case in order])[None]
    if form == "counters":
        position_ids = torch.cat([torch.arange(len(case.input_ids)) for case in order])[None]
    else:
        position_ids = torch.cat([case.thw for case in order], dim=1)[:, None]
    with torch.no_grad():
        logits = reference_model(
            input_ids=row,
            position_ids=position_ids,
            pixel_values=torch.cat([case.pixel_values for case in order]),
            image_grid_thw=torch.cat([case.image_grid_thw for case in order]),
        ).logits[0]
    for case, part in zip(order, logits.split([len(case.input_ids) for case in order]), strict=True):
        assert difference(part, case.logits) < 1e-4, case.name


def gradients(model, case, **inputs):
    """Returns the loss of the labelled tokens and the gradient norms of the parameters that the case has."""
    model.zero_grad()
    loss = model(**inputs).loss
    loss.backward()
    named = dict(model.named_parameters())
    return loss.item(), {key: named[key].grad.norm().item() for key in case.grad_norms}


def labelled(inputs, row=0):
    """Returns inputs padded on the left with labels on the last three tokens of a row."""
    labels = torch.full_like(inputs["input_ids"], -100)
    labels[row, -3:] = inputs["input_ids"][row, -3:]
    return inputs | {"labels": labels}


@each_case
@pytest.mark.parametrize(
    "kind, device",
    [("eager", "cpu"), ("sdpa", "cpu"), pytest.param("flex_attention", "cuda", marks=pytest.mark.gpu)],
)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_losses_and_gradients_equal_the_official_ones(
    open_reference_model, cases, make_batch, name, kind, device, checkpointing
):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    case, model = cases[name], open_reference_model(kind).to(device)
    inputs = labelled({key: value.to(device) for key, value in make_batch([case]).items()})
    if checkpointing:
        model.train()
        model.gradient_checkpointing_enable({"use_reentrant": False})
    loss, norms = gradients(model, case, **inputs)
    assert abs(loss - case.loss_last3) < 1e-4
    assert norms == pytest.approx(case.grad_norms, rel=1e-3)


@each_case
@pytest.mark.parametrize("kind", ["eager", "sdpa"])
def test_losses_and_gradients_do_not_depend_on_the_other_rows(open_reference_model, cases, make_batch, name, kind):
    """The other rows have other lengths and images, and no labels."""
    chosen = random.Random(name).sample(list(cases.values()), len(cases))
    inputs = labelled(make_batch(chosen), row=[case.name for case in chosen].index(name))
    loss, norms = gradients(open_reference_model(kind), cases[name], **inputs)
    assert abs(loss - cases[name].loss_last3) < 1e-4
    assert norms == pytest.approx(cases[name].grad_norms, rel=1e-3)


def generated(model, inputs, **options):
    """Returns six greedy tokens of every row and their log-probabilities."""
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
def test_greedy_tokens_of_rows_in_any_order_equal_the_official_ones(
    reference_model, cases, make_batch, use_cache, seed
):
    chosen = random.Random(seed).sample(list(cases.values()), len(cases))
    tokens, logprobs = generated(reference_model, make_batch(chosen), use_cache=use_cache)
    for case, row, scores in zip(chosen, tokens, logprobs, strict=True):
        assert row == case.greedy_tokens, case.name
        assert scores == pytest.approx(case.greedy_logprobs, abs=1e-4), case.name


@each_case
@pytest.mark.parametrize("use_cache", [True, False])
def test_greedy_tokens_of_a_single_row_equal_the_official_ones(reference_model, cases, make_batch, name, use_cache):
    tokens, logprobs = generated(reference_model, make_batch([cases[name]]), use_cache=use_cache)
    assert tokens == [cases[name].greedy_tokens]
    assert logprobs[0] == pytest.approx(cases[name].greedy_logprobs, abs=1e-4)


@pytest.mark.slow
def test_long_rows_use_the_compiled_flex_attention(open_reference_model, cases, make_batch):
    """On a CPU, flex attention is compiled only for long rows; the other tests use it without compilation."""
    text = torch.randint(10, 50, (attention.COMPILED_FROM,), generator=torch.Generator().manual_seed(0))
    chosen = [cases["two_images"], cases["text"]]
    longer = [replace(case, input_ids=torch.cat([case.input_ids, text[9 * row :]])) for row, case in enumerate(chosen)]
    inputs = make_batch(longer)
    with torch.no_grad():
        actual, expected = (open_reference_model(kind)(**inputs).logits for kind in ("flex_attention", "sdpa"))
    seen = inputs["attention_mask"].bool()
    assert seen.sum(-1).min() >= attention.COMPILED_FROM and not seen.all()
    assert difference(actual[seen], expected[seen]) < 1e-4


def test_decoding_continues_from_a_cache_without_indices(reference_model, cases, make_batch):
    """The rows have different last T indices, and each row continues from its own."""
    chosen = [cases["nine_tiles"], cases["text"], cases["one_image"]]
    inputs = make_batch(chosen)
    mask = inputs["attention_mask"]
    with torch.no_grad():
        output = reference_model(**inputs, use_cache=True)
        for step in range(3):
            token = output.logits[:, -1:].argmax(-1)
            assert token[:, 0].tolist() == [case.greedy_tokens[step] for case in chosen]
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
            output = reference_model(input_ids=token, attention_mask=mask, past_key_values=output.past_key_values)


def test_several_completions_of_a_prompt_use_the_pixels_of_the_prompt(open_reference_model, cases, make_batch):
    chosen = [cases["two_images"], cases["text"], cases["one_image"]]
    tokens, _ = generated(open_reference_model(), make_batch(chosen), num_beams=1, num_return_sequences=1)
    repeated = open_reference_model().generate(
        **make_batch(chosen), max_new_tokens=1, do_sample=True, top_k=1, num_return_sequences=2, pad_token_id=0
    )
    assert repeated[:, -1].tolist() == [row[0] for row in tokens for _ in range(2)]


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_explicit_indices_and_masks_give_the_same_logits(reference_model, cases, dtype):
    case = cases["two_images"]
    time = case.thw[0]
    order = torch.arange(len(time))
    attends = (order[None] <= order[:, None]) | (time[None] == time[:, None])
    mask = attends[None, None]
    if dtype != torch.bool:
        mask = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
    with torch.no_grad():
        logits = reference_model(
            input_ids=case.input_ids[None], position_ids=case.thw[:, None], attention_mask=mask, **case.media
        ).logits[0]
    assert difference(logits, case.logits) < 1e-4


# Mutations. Each of these is a mistake that an implementation of the paper could have. It must change the logits by
# more than a hundred times the tolerance of the tests above.


def logit_error(model, case) -> float:
    with torch.no_grad():
        logits = model(input_ids=case.input_ids[None], **case.media).logits[0]
    return difference(logits, case.logits)


def test_a_wrong_scale_of_the_attention_changes_the_logits(open_reference_model, cases):
    model = open_reference_model()
    assert logit_error(model, cases["one_image"]) < 1e-4
    for layer in model.language_model.model.layers:
        layer.self_attn.scaling = (2 * layer.self_attn.head_dim) ** -0.5
    assert min(logit_error(model, case) for case in cases.values()) > 1e-2


def test_interleaved_rotary_pairs_change_the_logits(open_reference_model, cases, monkeypatch):
    def interleaved(states):
        even, odd = states[..., 0::2], states[..., 1::2]
        return torch.stack([-odd, even], dim=-1).flatten(-2)

    monkeypatch.setattr(attention, "rotate_half", interleaved)
    model = open_reference_model()
    assert min(logit_error(model, case) for case in cases.values()) > 1e-2


def test_causal_attention_within_images_changes_the_logits(open_reference_model, cases, monkeypatch):
    plan = attention.attention_plan
    monkeypatch.setattr("jigsaw.models.neo.model.attention_plan", lambda *args: plan(*args[:4], None, args[5]))
    model = open_reference_model()
    assert logit_error(model, cases["text"]) < 1e-4
    assert min(logit_error(model, cases[name]) for name in NAMES if name != "text") > 1e-2
