"""Packed supervised rows have the loss and the gradients of separate rows."""

from __future__ import annotations

import pytest
import torch

from jigsaw.models.prompt_batch import add_blank_media
from jigsaw.testing.family_case import LIMIT, Case, relative
from jigsaw.training.collate import PuzzleCollator
from jigsaw.training.packing import pack_rows, separate_rows
from jigsaw.training.sft import with_answer

ARCHITECTURES = ("neo", "qwen2_5_vl", "qwen3_vl", "gemma3", "llava_onevision")


@pytest.fixture(scope="module", params=ARCHITECTURES)
def case(request, tmp_path_factory):
    return Case(request.param, tmp_path_factory.mktemp("family") / "model")


@pytest.fixture(scope="module")
def rows(case):
    """Rows with images, with videos and without media; their answers differ in length, and one is in a conversation."""
    words = ("2, 1", "1", "Piece 2: 2, 1", "2", "1, 2", "2, 1")
    answers = [{"role": "assistant", "content": [{"type": "text", "text": word}]} for word in words]
    rows = [row | {"completion": [answer]} for row, answer in zip(case.every_row, answers, strict=True)]
    question = {"role": "user", "content": [{"type": "text", "text": "Which piece is which?"}]}
    talk = {"id": "talk", "images": [], "videos": [], "prompt": [question, answers[2], question]}
    talk["completion"] = [answers[0]]
    return [with_answer(row) for row in [*rows, talk]]


def loss_and_gradients(model, inputs):
    """Returns the sum of the losses of all answer tokens and its gradients."""
    model.zero_grad()
    logits = model(**{name: value for name, value in inputs.items() if name != "labels"}).logits
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), inputs["labels"][:, 1:].flatten(), reduction="sum"
    )
    losses.backward()
    gradients = {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}
    return losses.item(), gradients


def summed(gradients):
    names = {name for one in gradients for name in one}
    return {name: sum(one[name] for one in gradients if name in one) for name in names}


def test_loss_and_gradients_equal_those_of_separate_rows(case, rows):
    collate, model = PuzzleCollator(case.processor), case.model
    losses, gradients = zip(*(loss_and_gradients(model, collate([row])) for row in rows), strict=True)
    batch = collate(rows)
    inputs = add_blank_media(model, pack_rows(model, batch))
    with separate_rows(model, inputs):
        loss, packed = loss_and_gradients(model, inputs)
    assert inputs["input_ids"].shape == (1, int(batch["attention_mask"].sum()))
    assert torch.equal(inputs["attention_mask"], torch.ones_like(inputs["input_ids"]))
    assert abs(loss - sum(losses)) < LIMIT * abs(loss)
    assert relative(packed, summed(gradients)) < LIMIT


def test_without_the_mask_rows_attend_to_each_other(case, rows):
    inputs = pack_rows(case.model, PuzzleCollator(case.processor)(rows[:2]))
    with separate_rows(case.model, dict(inputs)), torch.no_grad():
        separate = case.model(**{name: value for name, value in inputs.items() if name != "labels"}).logits
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    with torch.no_grad():
        unmasked = case.model(**{name: value for name, value in inputs.items() if name != "labels"}).logits
    assert float((separate - unmasked).abs().max()) > 1e-3
