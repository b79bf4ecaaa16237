"""Packed supervised rows: the loss and the gradients are those of rows that are padded."""

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
    """Images, videos, and text alone; answers of unequal lengths, one of them within a conversation."""
    words = ("2, 1", "1", "Piece 2: 2, 1", "2", "1, 2", "2, 1")
    said = [{"role": "assistant", "content": [{"type": "text", "text": word}]} for word in words]
    made = [row | {"completion": [answer]} for row, answer in zip(case.every_row, said, strict=True)]
    asked = {"role": "user", "content": [{"type": "text", "text": "Which piece is which?"}]}
    talk = {"id": "talk", "images": [], "videos": [], "prompt": [asked, said[2], asked], "completion": [said[0]]}
    return [with_answer(row) for row in [*made, talk]]


def trained(model, inputs):
    """The sum of the losses of all answer tokens, and its gradients."""
    model.zero_grad()
    logits = model(**{name: value for name, value in inputs.items() if name != "labels"}).logits
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), inputs["labels"][:, 1:].flatten(), reduction="sum"
    )
    losses.backward()
    gradients = {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}
    return losses.item(), gradients


def added(gradients):
    names = {name for one in gradients for name in one}
    return {name: sum(one[name] for one in gradients if name in one) for name in names}


def test_loss_and_gradients_are_those_of_rows_by_themselves(case, rows):
    collate, model = PuzzleCollator(case.processor), case.model
    losses, gradients = zip(*(trained(model, collate([row])) for row in rows), strict=True)
    batch = collate(rows)
    inputs = add_blank_media(model, pack_rows(model, batch))
    with separate_rows(model, inputs):
        loss, found = trained(model, inputs)
    assert inputs["input_ids"].shape == (1, int(batch["attention_mask"].sum()))
    assert torch.equal(inputs["attention_mask"], torch.ones_like(inputs["input_ids"]))
    assert abs(loss - sum(losses)) < LIMIT * abs(loss)
    assert relative(found, added(gradients)) < LIMIT


def test_without_the_mask_rows_would_see_each_other(case, rows):
    inputs = pack_rows(case.model, PuzzleCollator(case.processor)(rows[:2]))
    with separate_rows(case.model, dict(inputs)), torch.no_grad():
        apart = case.model(**{name: value for name, value in inputs.items() if name != "labels"}).logits
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    with torch.no_grad():
        together = case.model(**{name: value for name, value in inputs.items() if name != "labels"}).logits
    assert float((apart - together).abs().max()) > 1e-3
