"""Positions of Qwen2.5-VL: the released rule for videos of any frame rate, and the rule of transformers for images."""

from __future__ import annotations

import pytest
import torch
from transformers import Qwen2_5_VLModel

from jigsaw.models.mrope import rope_index


def prompt(*runs: tuple[int, int]) -> torch.Tensor:
    """Returns the token kinds of one row of (kind, length) pairs."""
    return torch.tensor([[kind for kind, length in runs for _ in range(length)]])


def positions(model, kinds, **grids):
    return rope_index(model.model, torch.zeros_like(kinds), kinds, **grids)


def test_positions_of_images_equal_those_of_transformers(model):
    kinds = prompt((0, 3), (1, 6), (0, 2), (1, 2), (0, 4))
    grid = torch.tensor([[1, 4, 6], [1, 2, 4]])
    actual, deltas = positions(model, kinds, image_grid_thw=grid)
    expected, expected_deltas = Qwen2_5_VLModel.get_rope_index(
        model.model, torch.zeros_like(kinds), kinds, image_grid_thw=grid
    )
    assert torch.equal(actual, expected)
    assert torch.equal(deltas, expected_deltas)


@pytest.mark.parametrize(
    ("seconds", "moments"),
    [
        (1.0, [0, 4, 8]),  # two frames and four positions per second
        (0.4, [0, 1, 3]),  # five frames per second; the frames have different positions
        (1.3, [0, 5, 10]),
    ],
)
def test_the_frames_of_a_clip_advance_in_time_and_the_text_follows_the_clip(model, seconds, moments):
    model.config.vision_config.tokens_per_second = 4
    kinds = prompt((0, 2), (2, 6), (0, 2))
    grid = torch.tensor([[3, 2, 4]])
    indices, deltas = positions(model, kinds, video_grid_thw=grid, second_per_grid_ts=torch.tensor([seconds]))
    time, row, column = indices[:, 0].tolist()
    assert time[2:8] == [2 + moment for moment in moments for _ in range(2)]
    assert row[2:8] == [2] * 6
    assert column[2:8] == [2, 3] * 3
    start = max(2 + moments[-1], 3) + 1
    assert time[8:] == row[8:] == column[8:] == [start, start + 1]
    assert int(deltas) == start + 2 - 10


def test_padding_is_ignored(model):
    kinds = prompt((0, 2), (1, 1), (0, 2))
    padded = torch.nn.functional.pad(kinds, (3, 0))
    mask = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1]])
    grid = torch.tensor([[1, 2, 2]])
    expected, _ = positions(model, kinds, image_grid_thw=grid)
    indices, _ = positions(model, padded, image_grid_thw=grid, attention_mask=mask)
    assert torch.equal(indices[:, :, 3:], expected)


def test_the_frames_of_a_clip_of_qwen2_vl_advance_by_one_and_the_text_follows_the_clip():
    """In transformers 5.17, the text starts at position 4, within the clip."""
    from jigsaw.models.families import family_of
    from jigsaw.models.tiny import TinySizes, tiny_model

    sizes = TinySizes(hidden_size=32, num_layers=1, vision_hidden_size=32, vocab_size=330)
    qwen2_vl, _ = tiny_model("qwen2_vl", sizes, ["Order?"])
    family_of(qwen2_vl).prepare(qwen2_vl)
    kinds = prompt((0, 2), (2, 8), (0, 2))
    indices, _ = qwen2_vl.model.get_rope_index(
        torch.zeros_like(kinds), mm_token_type_ids=kinds, video_grid_thw=torch.tensor([[4, 2, 4]])
    )
    assert indices[0, 0].tolist() == [0, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 7]


def test_a_loaded_model_uses_the_rule(model):
    assert model.model.get_rope_index.__func__ is rope_index
