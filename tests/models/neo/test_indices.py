"""Indices, image numbers and masks for any mixture of text and images: what the paper's rules say, said another way."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jigsaw.models.neo import indices
from jigsaw.models.neo.attention import attention_plan

IMAGE, TEXT = 9, 1
sizes = st.tuples(st.integers(1, 3), st.integers(1, 3))
"""Rows and columns of an image on the merged grid."""
rows = st.lists(st.one_of(st.integers(1, 4), sizes), min_size=1, max_size=5)
"""A row of the batch: so many text tokens, or an image."""


def slow_indices(row):
    """The paper's rules, token by token."""
    found, time = [], 0
    for piece in row:
        if isinstance(piece, int):
            found += [(time + number, 0, 0) for number in range(piece)]
            time += piece
        else:
            found += [(time, y, x) for y in range(piece[0]) for x in range(piece[1])]
            time += 1
    return found


def batch(table, side="right", extra=0):
    """Ids, mask and grids of rows."""
    ids = [[token for piece in row for token in tokens(piece)] for row in table]
    length = max(map(len, ids)) + extra
    grids = [(1, 2 * piece[0], 2 * piece[1]) for row in table for piece in row if not isinstance(piece, int)]
    pad = (
        (lambda row: [0] * (length - len(row)) + row)
        if side == "left"
        else (lambda row: row + [0] * (length - len(row)))
    )
    input_ids = torch.tensor([pad(row) for row in ids])
    mask = torch.tensor([pad([1] * len(row)) for row in ids])
    return input_ids, mask, torch.tensor(grids, dtype=torch.long).view(-1, 3)


def tokens(piece):
    return [TEXT] * piece if isinstance(piece, int) else [IMAGE] * (piece[0] * piece[1])


def numbered(input_ids, grids):
    return indices.image_numbers(input_ids, grids, image_token_id=IMAGE, merge_size=2)


@settings(deadline=None, max_examples=60)
@given(st.lists(rows, min_size=1, max_size=3), st.sampled_from(["left", "right"]), st.integers(0, 2))
def test_batched_indices_are_those_of_every_row_alone(table, side, extra):
    input_ids, mask, grids = batch(table, side, extra)
    found = indices.position_indices(numbered(input_ids, grids), grids, merge_size=2, attention_mask=mask)
    for number, row in enumerate(table):
        assert found[:, number, mask[number].bool()].T.tolist() == [list(place) for place in slow_indices(row)]
    assert not found[:, mask == 0].any()


@settings(deadline=None, max_examples=60)
@given(st.lists(rows, min_size=1, max_size=3))
def test_images_are_counted_by_row(table):
    input_ids, _, grids = batch(table)
    counted = indices.images_per_row(input_ids, grids, image_token_id=IMAGE, merge_size=2)
    assert counted.tolist() == [sum(not isinstance(piece, int) for piece in row) for row in table]


@settings(deadline=None, max_examples=60)
@given(st.lists(rows, min_size=1, max_size=4))
def test_packed_sequences_are_found_from_their_indices(table):
    places = torch.tensor([place for row in table for place in slow_indices(row)]).T[:, None]
    counters = torch.tensor([number for row in table for number in range(len(slow_indices(row)))])[None]
    wanted = [number for number, row in enumerate(table) for _ in slow_indices(row)]
    for given_ids in (places, counters):
        found = indices.packed_sequences(given_ids)
        assert (found is None) if len(table) == 1 else (found[0].tolist() == wanted)


@settings(deadline=None, max_examples=30)
@given(st.lists(rows, min_size=1, max_size=3), st.sampled_from(["left", "right"]))
def test_every_back_end_shows_the_past_and_the_own_image(table, side):
    input_ids, mask, grids = batch(table, side)
    numbers = numbered(input_ids, grids)
    embeds = torch.zeros(*input_ids.shape, 4)
    order = torch.arange(input_ids.shape[1])
    own = (numbers[:, :, None] == numbers[:, None, :]) & (numbers >= 0)[:, :, None]
    wanted = ((order[None] <= order[:, None])[None] | own) & mask[:, None, :].bool()
    rows_that_matter = mask.bool()
    for kind in ("sdpa", "eager", "flex_attention"):
        used, made = attention_plan(kind, embeds, mask, None, numbers, None)
        if used == "eager":
            made = made == 0
        elif used == "flex_attention":
            at = torch.meshgrid(torch.arange(len(table)), order, order, indexing="ij")
            made = made.mask_mod(at[0], None, at[1], at[2])[:, None]
        if made is None:
            assert used == "sdpa" and mask.all() and not own.any()
            continue
        made = made.expand(len(table), 1, -1, -1)[:, 0]
        assert torch.equal(made[rows_that_matter], wanted[rows_that_matter]), kind


@settings(deadline=None, max_examples=30)
@given(st.lists(sizes, min_size=1, max_size=4))
def test_patches_are_gathered_by_token_and_none_is_lost(images):
    grids = torch.tensor([(1, 2 * y, 2 * x) for y, x in images])
    order = indices.patch_order(grids, 2)
    row, column = indices.patch_places(grids)
    assert sorted(order.flatten().tolist()) == list(range(int(grids.prod(-1).sum())))
    assert torch.equal(row[order] - row[order][:, :1], torch.tensor([[0, 0, 1, 1]]).expand(len(order), -1))
    assert torch.equal(column[order] - column[order][:, :1], torch.tensor([[0, 1, 0, 1]]).expand(len(order), -1))


def test_the_example_of_the_paper():
    input_ids, _, grids = batch([[3, (2, 3), 3, (1, 2), 3]])
    found = indices.position_indices(numbered(input_ids, grids), grids, merge_size=2)
    assert found[0, 0].tolist() == [0, 1, 2, *[3] * 6, 4, 5, 6, 7, 7, 8, 9, 10]


@pytest.mark.parametrize(
    "ids, grid, told",
    [
        ([[9, 9]], [[1, 2, 2]], "2 image tokens in the batch, 1 in image_grid_thw"),
        ([[9, 1]], [[1, 4, 2]], "1 image tokens in the batch, 2 in image_grid_thw"),
        ([[9], [9]], [[1, 2, 4]], "would be in two rows"),
        ([[9, 9]], [[2, 2, 2]], "t must be 1"),
        ([[9, 9]], [[1, 3, 2]], "multiples of 2 patches"),
    ],
)
def test_tokens_and_grids_that_do_not_go_together_are_refused(ids, grid, told):
    with pytest.raises(ValueError, match=told):
        numbered(torch.tensor(ids), torch.tensor(grid))
