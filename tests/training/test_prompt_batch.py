"""Encoded prompts: every medium changes the log-probabilities in every pass, and a missing medium is an error."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from PIL import ImageOps
from synthetic_rows import ROWS, completions

from jigsaw.engines import Sampling
from jigsaw.engines.transformers import sample
from jigsaw.errors import JigsawError
from jigsaw.models.load import load_model, load_processor
from jigsaw.models.prompt_batch import PromptBatch
from jigsaw.models.prompts import processor_inputs
from jigsaw.models.shared_prefix import log_probabilities

PATHS = {"shared": {"shared": True}, "unshared": {"shared": False}, "blocks": {"blocks": True}}
"""Options of the log-probability pass."""


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["qwen", "neo"])
def test_log_probabilities_change_with_the_pixels(checkpoint, neo_checkpoint, rows, kind, path):
    """The pixels of a prompt change only its own log-probabilities."""
    name = checkpoint if kind == "qwen" else neo_checkpoint
    model, processor = load_model(name).requires_grad_(False), load_processor(name)
    if kind == "neo" and path == "blocks":
        model.set_attn_implementation("flex_attention")
    ids, mask = completions(len(rows))
    owner = range(len(rows))

    def score(batch):
        return log_probabilities(
            model, PromptBatch.encode(model, processor, batch, "cpu"), owner, ids, mask, **PATHS[path]
        )[0]

    first = score(rows)
    for number, row in enumerate(rows):
        changed = [other if other is not row else negative(row) for other in rows]
        differs = (score(changed) - first).abs().amax(1) > 1e-4
        assert differs.tolist() == [place == number for place in range(len(rows))]


def negative(row):
    """Returns the row with the negative of its last medium."""
    kind = "videos" if row["videos"] else "images"
    *others, last = row[kind]
    if kind == "videos":
        return row | {kind: [*others, replace(last, frames=255 - last.frames)]}
    return row | {kind: [*others, ImageOps.invert(last)]}


def test_a_placeholder_without_an_image_is_an_error(model, processor, puzzles):
    row = dict(puzzles[0])
    with pytest.raises(JigsawError, match="1 placeholders without an image"):
        PromptBatch.encode(model, processor, [row | {"images": row["images"][:3]}], "cpu")


def test_a_clip_without_a_placeholder_is_an_error(model, processor):
    row = ROWS["video"][0]
    with pytest.raises(JigsawError, match="0 placeholders without a video, 1 videos without one"):
        PromptBatch.encode(model, processor, [row | {"videos": [*row["videos"], row["videos"][0]]}], "cpu")


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("pixel_values_videos", "video patches are missing"),
        ("video_grid_thw", "there are 5 videos and 4 reached the model"),
        ("input_ids", "puzzle v1: the prompt has .* video tokens and its videos need"),
    ],
)
def test_a_medium_that_a_processor_drops_is_an_error(model, processor, monkeypatch, field, message):
    """Grids, patches and tokens of all media are counted."""

    def dropping(*args, **kwargs):
        inputs = processor_inputs(*args, **kwargs)
        if field == "input_ids":
            place = (inputs[field][1] == processor.video_token_id).nonzero()[-1]
            inputs[field][1, place] = processor.tokenizer.eos_token_id
        else:
            inputs[field] = inputs[field][:-1]
        return inputs

    monkeypatch.setattr("jigsaw.models.prompt_batch.processor_inputs", dropping)
    with pytest.raises(JigsawError, match=message):
        PromptBatch.encode(model, processor, ROWS["video"], "cpu")


@pytest.mark.parametrize("path", [*PATHS, "sampling"])
def test_a_medium_that_the_model_does_not_get_is_an_error(model, processor, rows, path):
    """The model itself compares features and tokens in every forward pass."""
    batch = PromptBatch.encode(model, processor, rows, "cpu")
    pixels = next(name for name in batch.media if name.startswith("pixel_values"))
    grid = {"pixel_values": "image_grid_thw", "pixel_values_videos": "video_grid_thw"}[pixels]
    media = dict(batch.media)
    media[pixels], media[grid] = media[pixels][: -int(media[grid][-1].prod())], media[grid][:-1]
    incomplete, (ids, mask) = replace(batch, media=media), completions(len(rows))
    with pytest.raises(ValueError, match=r"features and (image|video) tokens do not match"):
        if path == "sampling":
            sample(model, incomplete, Sampling(count=2, max_tokens=2, seeds=(0,) * len(rows)))
        else:
            log_probabilities(model, incomplete, range(len(rows)), ids, mask, **PATHS[path])


def test_joined_batches_equal_one_batch(model, processor):
    every = [row for rows in ROWS.values() for row in rows]
    parts = [PromptBatch.encode(model, processor, rows, "cpu") for rows in ROWS.values()]
    owner = range(len(every))
    ids, mask = completions(len(every))
    joined, _ = log_probabilities(model, PromptBatch.join(parts), owner, ids, mask)
    expected, _ = log_probabilities(model, PromptBatch.encode(model, processor, every, "cpu"), owner, ids, mask)
    torch.testing.assert_close(joined, expected, atol=1e-5, rtol=0)
