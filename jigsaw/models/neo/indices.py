"""Positions of NEO's tokens: (T, H, W) indices, the image of each token, and the packed sequence of each token.

Pure tensor functions over a batch of token ids; shapes below are [B, L] for ids, [images, 3] for grids (t = 1, height
and width in 16-pixel patches). The rules are section 3.1 of "From Pixels to Words" (arXiv 2510.14979):

    a  b <img> x x x x x x </img>  c            a 2x3 image after two text tokens
    0  1   2   3 3 3 3 3 3    4    5    T       one step per text token, one for a whole image
    0  0   0   0 0 0 1 1 1    0    0    H       row on the merged grid, 0 for text
    0  0   0   0 1 2 0 1 2    0    0    W       column likewise

All indices are per row of the batch; padding does not advance T.
"""

from __future__ import annotations

import torch
from torch import Tensor


def tokens_per_image(image_grid_thw: Tensor, merge_size: int) -> Tensor:
    """The number of tokens of each image, `[images]`.

    Raises:
        ValueError: a grid is not an image, or does not divide into tokens.
    """
    if (image_grid_thw[:, 0] != 1).any():
        raise ValueError("image_grid_thw: t must be 1; pass a video as a sequence of images")
    if (image_grid_thw[:, 1:] % merge_size).any():
        raise ValueError(f"image_grid_thw: height and width must be multiples of {merge_size} patches")
    return image_grid_thw[:, 1:].prod(-1) // merge_size**2


def image_numbers(input_ids: Tensor, image_grid_thw: Tensor | None, *, image_token_id: int, merge_size: int) -> Tensor:
    """The image number of each token, -1 for text, `[B, L]`; images are numbered through the batch.

    Raises:
        ValueError: the image tokens do not match the grids, in number or in their division among the rows.
    """
    is_image = input_ids == image_token_id
    numbers = torch.full_like(input_ids, -1)
    if image_grid_thw is None or len(image_grid_thw) == 0:
        return numbers
    counts = tokens_per_image(image_grid_thw, merge_size)
    actual, expected = int(is_image.sum()), int(counts.sum())
    if actual != expected:
        raise ValueError(
            f"{actual} image tokens in the batch, {expected} in image_grid_thw: a prompt was truncated or repeated"
        )
    owner = torch.repeat_interleave(torch.arange(len(counts), device=input_ids.device), counts.to(input_ids.device))
    numbers[is_image] = owner
    rows = torch.nonzero(is_image)[:, 0]
    if ((owner[1:] == owner[:-1]) & (rows[1:] != rows[:-1])).any():
        raise ValueError("an image of image_grid_thw would be in two rows: the images are not in prompt order")
    return numbers


def images_per_row(input_ids: Tensor, image_grid_thw: Tensor, *, image_token_id: int, merge_size: int) -> Tensor:
    """The number of images in each row, `[B]`."""
    numbers = image_numbers(input_ids, image_grid_thw, image_token_id=image_token_id, merge_size=merge_size)
    starts = _first_of_image(numbers)
    return starts.sum(-1)


def position_indices(
    numbers: Tensor,
    image_grid_thw: Tensor | None,
    *,
    merge_size: int,
    attention_mask: Tensor | None = None,
    sequences: Tensor | None = None,
    variant: str = "native",
) -> Tensor:
    """The (T, H, W) indices, `[3, B, L]`.

    Args:
        numbers: the result of `image_numbers`.
        image_grid_thw: the grids.
        merge_size: patches per token along a side.
        attention_mask: `[B, L]`, 0 on padding, which does not advance T and has the indices 0.
        sequences: the result of `packed_sequences`; T restarts at 0 in each sequence.
        variant: `rope_variant` of the configuration; with `1d` every token advances T, and H = W = 0.
    """
    flat = variant == "1d"
    steps = ((numbers < 0) | _first_of_image(numbers) | flat).long()
    if attention_mask is not None:
        steps = steps * attention_mask.to(steps)
    time = steps.cumsum(-1) - 1
    if sequences is not None:
        first = sequences != torch.nn.functional.pad(sequences[:, :-1], (1, 0), value=-1)
        time = time - torch.where(first, time, -1).cummax(-1).values
    rows, columns = torch.zeros_like(time), torch.zeros_like(time)
    if image_grid_thw is not None and len(image_grid_thw) and not flat:
        is_image = numbers >= 0
        owner = numbers[is_image]
        counts = tokens_per_image(image_grid_thw, merge_size).to(numbers.device)
        within = torch.arange(len(owner), device=numbers.device) - (counts.cumsum(0) - counts)[owner]
        width = (image_grid_thw[:, 2].to(numbers.device) // merge_size)[owner]
        rows[is_image], columns[is_image] = within // width, within % width
    indices = torch.stack([time, rows, columns])
    return indices if attention_mask is None else indices * attention_mask.bool()


def packed_sequences(position_ids: Tensor) -> Tensor | None:
    """The packed sequence of each token, `[B, L]`, or None if no row has several sequences.

    Args:
        position_ids: `[3, B, L]` indices, or `[B, L]` token counters; both restart at 0 with every sequence.
    """
    # Only the first token of a sequence can have T = H = W = 0: later tokens have a later T, or are inside an image.
    first = (position_ids == 0).all(0) if position_ids.ndim == 3 else position_ids == 0
    sequences = first.long().cumsum(-1) - 1
    return None if (sequences <= 0).all() else sequences.clamp(min=0)


def patch_order(image_grid_thw: Tensor, merge_size: int) -> Tensor:
    """The patches of each token, `[tokens, merge_size**2]`, numbered row-major in each image."""
    device = image_grid_thw.device
    counts = tokens_per_image(image_grid_thw, merge_size)
    owner = torch.repeat_interleave(torch.arange(len(counts), device=device), counts)
    within = torch.arange(len(owner), device=device) - (counts.cumsum(0) - counts)[owner]
    patches = image_grid_thw.prod(-1)
    width = image_grid_thw[owner, 2]
    row, column = within // (width // merge_size), within % (width // merge_size)
    corner = (patches.cumsum(0) - patches)[owner] + merge_size * (row * width + column)
    side = torch.arange(merge_size, device=device)
    inside = side[None, :, None] * width[:, None, None] + side[None, None, :]
    return (corner[:, None, None] + inside).flatten(1)


def patch_places(image_grid_thw: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column of every patch in the grid of its image, `[patches]` each."""
    device = image_grid_thw.device
    patches = image_grid_thw.prod(-1)
    owner = torch.repeat_interleave(torch.arange(len(patches), device=device), patches)
    within = torch.arange(len(owner), device=device) - (patches.cumsum(0) - patches)[owner]
    width = image_grid_thw[owner, 2]
    return within // width, within % width


def _first_of_image(numbers: Tensor) -> Tensor:
    before = torch.nn.functional.pad(numbers[:, :-1], (1, 0), value=-1)
    return (numbers >= 0) & (numbers != before)
