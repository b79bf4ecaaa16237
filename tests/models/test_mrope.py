"""Positions of Qwen2.5-VL: the released rule for videos of any rate, transformers' own for images."""

from __future__ import annotations

import pytest
import torch
from transformers import Qwen2_5_VLModel

from jigsaw.models.mrope import rope_index


def prompt(*runs: tuple[int, int]) -> torch.Tensor:
    """Token kinds of one row: (kind, length) each."""
    return torch.tensor([[kind for kind, length in runs for _ in range(length)]])


def positions(model, kinds, **grids):
    return rope_index(model.model, torch.zeros_like(kinds), kinds, **grids)


def test_images_stand_where_transformers_puts_them(model):
    kinds = prompt((0, 3), (1, 6), (0, 2), (1, 2), (0, 4))
    grid = torch.tensor([[1, 4, 6], [1, 2, 4]])
    ours, deltas = positions(model, kinds, image_grid_thw=grid)
    theirs, their_deltas = Qwen2_5_VLModel.get_rope_index(
        model.model, torch.zeros_like(kinds), kinds, image_grid_thw=grid
    )
    assert torch.equal(ours, theirs)
    assert torch.equal(deltas, their_deltas)


@pytest.mark.parametrize(
    ("seconds", "moments"),
    [
        (1.0, [0, 4, 8]),  # two frames a second, four positions a second
        (0.4, [0, 1, 3]),  # five frames a second: not all at one moment
        (1.3, [0, 5, 10]),
    ],
)
def test_a_clip_moves_on_in_time_and_text_begins_behind_it(model, seconds, moments):
    model.config.vision_config.tokens_per_second = 4
    kinds = prompt((0, 2), (2, 6), (0, 2))
    grid = torch.tensor([[3, 2, 4]])
    found, deltas = positions(model, kinds, video_grid_thw=grid, second_per_grid_ts=torch.tensor([seconds]))
    time, row, column = found[:, 0].tolist()
    assert time[2:8] == [2 + moment for moment in moments for _ in range(2)]
    assert row[2:8] == [2] * 6
    assert column[2:8] == [2, 3] * 3
    end = max(2 + moments[-1], 3) + 1
    assert time[8:] == row[8:] == column[8:] == [end, end + 1]
    assert int(deltas) == end + 2 - 10


def test_padding_is_left_out(model):
    kinds = prompt((0, 2), (1, 1), (0, 2))
    padded = torch.nn.functional.pad(kinds, (3, 0))
    mask = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1]])
    grid = torch.tensor([[1, 2, 2]])
    alone, _ = positions(model, kinds, image_grid_thw=grid)
    found, _ = positions(model, padded, image_grid_thw=grid, attention_mask=mask)
    assert torch.equal(found[:, :, 3:], alone)


def test_a_clip_of_qwen2_vl_moves_on_by_one_and_text_begins_behind_it():
    """transformers 5.17 begins the text at 4, within the clip."""
    from jigsaw.models.families import family_of
    from jigsaw.models.tiny import TinySizes, tiny_model

    sizes = TinySizes(hidden_size=32, num_layers=1, vision_hidden_size=32, vocab_size=330)
    qwen2_vl, _ = tiny_model("qwen2_vl", sizes, ["Order?"])
    family_of(qwen2_vl).prepare(qwen2_vl)
    kinds = prompt((0, 2), (2, 8), (0, 2))
    found, _ = qwen2_vl.model.get_rope_index(
        torch.zeros_like(kinds), mm_token_type_ids=kinds, video_grid_thw=torch.tensor([[4, 2, 4]])
    )
    assert found[0, 0].tolist() == [0, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 7]


def test_every_pass_of_a_loaded_model_uses_the_rule(model):
    assert model.model.get_rope_index.__func__ is rope_index
