"""Indices, image numbers and masks of NEO, compared with a slow implementation of the paper's rules."""

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
"""A row of the batch: numbers of text tokens, and images."""


def slow_indices(row):
    """Returns the indices of a row by the paper's rules, token by token."""
    places, time = [], 0
    for piece in row:
        if isinstance(piece, int):
            places += [(time + number, 0, 0) for number in range(piece)]
            time += piece
        else:
            places += [(time, y, x) for y in range(piece[0]) for x in range(piece[1])]
            time += 1
    return places


def batch(table, side="right", extra=0):
    """Returns ids, mask and grids of rows."""
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
def test_indices_of_a_batch_equal_those_of_its_rows(table, side, extra):
    input_ids, mask, grids = batch(table, side, extra)
    batched = indices.position_indices(numbered(input_ids, grids), grids, merge_size=2, attention_mask=mask)
    for number, row in enumerate(table):
        assert batched[:, number, mask[number].bool()].T.tolist() == [list(place) for place in slow_indices(row)]
    assert not batched[:, mask == 0].any()


@settings(deadline=None, max_examples=60)
@given(st.lists(rows, min_size=1, max_size=3))
def test_images_are_counted_per_row(table):
    input_ids, _, grids = batch(table)
    counted = indices.images_per_row(input_ids, grids, image_token_id=IMAGE, merge_size=2)
    assert counted.tolist() == [sum(not isinstance(piece, int) for piece in row) for row in table]


@settings(deadline=None, max_examples=60)
@given(st.lists(rows, min_size=1, max_size=4))
def test_packed_sequences_are_recognised_by_their_indices(table):
    places = torch.tensor([place for row in table for place in slow_indices(row)]).T[:, None]
    counters = torch.tensor([number for row in table for number in range(len(slow_indices(row)))])[None]
    expected = [number for number, row in enumerate(table) for _ in slow_indices(row)]
    for position_ids in (places, counters):
        sequences = indices.packed_sequences(position_ids)
        assert (sequences is None) if len(table) == 1 else (sequences[0].tolist() == expected)


@settings(deadline=None, max_examples=30)
@given(st.lists(rows, min_size=1, max_size=3), st.sampled_from(["left", "right"]))
def test_the_mask_of_every_back_end_has_the_past_and_the_own_image(table, side):
    input_ids, mask, grids = batch(table, side)
    numbers = numbered(input_ids, grids)
    embeds = torch.zeros(*input_ids.shape, 4)
    order = torch.arange(input_ids.shape[1])
    own = (numbers[:, :, None] == numbers[:, None, :]) & (numbers >= 0)[:, :, None]
    expected = ((order[None] <= order[:, None])[None] | own) & mask[:, None, :].bool()
    not_padding = mask.bool()
    for kind in ("sdpa", "eager", "flex_attention"):
        used, plan = attention_plan(kind, embeds, mask, None, numbers, None)
        if used == "eager":
            plan = plan == 0
        elif used == "flex_attention":
            at = torch.meshgrid(torch.arange(len(table)), order, order, indexing="ij")
            plan = plan.mask_mod(at[0], None, at[1], at[2])[:, None]
        if plan is None:
            assert used == "sdpa" and mask.all() and not own.any()
            continue
        plan = plan.expand(len(table), 1, -1, -1)[:, 0]
        assert torch.equal(plan[not_padding], expected[not_padding]), kind


@settings(deadline=None, max_examples=30)
@given(st.lists(sizes, min_size=1, max_size=4))
def test_patches_are_ordered_by_token_and_complete(images):
    grids = torch.tensor([(1, 2 * y, 2 * x) for y, x in images])
    order = indices.patch_order(grids, 2)
    row, column = indices.patch_places(grids)
    assert sorted(order.flatten().tolist()) == list(range(int(grids.prod(-1).sum())))
    assert torch.equal(row[order] - row[order][:, :1], torch.tensor([[0, 0, 1, 1]]).expand(len(order), -1))
    assert torch.equal(column[order] - column[order][:, :1], torch.tensor([[0, 1, 0, 1]]).expand(len(order), -1))


def test_the_example_of_the_paper():
    input_ids, _, grids = batch([[3, (2, 3), 3, (1, 2), 3]])
    position_ids = indices.position_indices(numbered(input_ids, grids), grids, merge_size=2)
    assert position_ids[0, 0].tolist() == [0, 1, 2, *[3] * 6, 4, 5, 6, 7, 7, 8, 9, 10]


@pytest.mark.parametrize(
    "ids, grid, message",
    [
        ([[9, 9]], [[1, 2, 2]], "2 image tokens in the batch, 1 in image_grid_thw"),
        ([[9, 1]], [[1, 4, 2]], "1 image tokens in the batch, 2 in image_grid_thw"),
        ([[9], [9]], [[1, 2, 4]], "would be in two rows"),
        ([[9, 9]], [[2, 2, 2]], "t must be 1"),
        ([[9, 9]], [[1, 3, 2]], "multiples of 2 patches"),
    ],
)
def test_inconsistent_tokens_and_grids_are_refused(ids, grid, message):
    with pytest.raises(ValueError, match=message):
        numbered(torch.tensor(ids), torch.tensor(grid))
