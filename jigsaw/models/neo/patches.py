"""NEO's patch embedding: two convolutions with a rotary embedding between them, without attention.

In: flattened patches and the grids of their images. Out: one token of the language model's width per 2x2 patches.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from jigsaw.models.neo import indices
from jigsaw.models.neo.attention import rotary_table
from jigsaw.models.neo.configuration import NEOVisionConfig


class PatchConvolution(nn.Conv2d):
    """A convolution over windows of its kernel's size, computed as a matrix product.

    On a CPU, torch's convolution takes about eight times as long, forward and backward.
    """

    def forward(self, windows: Tensor) -> Tensor:
        """`[N, channels, side, side]` to `[N, width]`."""
        return nn.functional.linear(windows.flatten(1), self.weight.flatten(1), self.bias)


class NEOVisionEmbeddings(nn.Module):
    """Patches to tokens of the language model's width; section 3.1, "patch embedding layer"."""

    def __init__(self, config: NEOVisionConfig) -> None:
        super().__init__()
        self.config = config
        patch, merge = config.patch_size, config.merge_size
        width: Any = config.llm_hidden_size  # a number, which the configuration has taken from a list
        self.patch_embedding = PatchConvolution(config.num_channels, config.hidden_size, patch, patch)
        self.dense_embedding = PatchConvolution(config.hidden_size, width, merge, merge)

    def forward(self, pixel_values: Tensor, image_grid_thw: Tensor) -> Tensor:
        """Embed images.

        Args:
            pixel_values: `[patches, channels * patch_size**2]`, row-major over each image, images in prompt order.
            image_grid_thw: `[images, 3]`.

        Returns:
            `[tokens, llm_hidden_size]`.

        Raises:
            ValueError: patches and grids do not match.
        """
        config, merge = self.config, self.config.merge_size
        image_grid_thw = image_grid_thw.to(pixel_values.device)
        if len(pixel_values) != int(image_grid_thw.prod(-1).sum()):
            raise ValueError(f"{len(pixel_values)} patches for grids of {int(image_grid_thw.prod(-1).sum())}")
        patches = pixel_values.to(self.patch_embedding.weight.dtype)
        patches = patches.view(-1, config.num_channels, config.patch_size, config.patch_size)
        embedded = nn.functional.gelu(self.patch_embedding(patches))
        placed = self._rotate(embedded, *indices.patch_places(image_grid_thw))
        cells = placed[indices.patch_order(image_grid_thw, merge)]  # [tokens, merge**2, width]
        return self.dense_embedding(cells.transpose(1, 2).unflatten(-1, (merge, merge)))

    def _rotate(self, embedded: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Rotate pairs of adjacent channels: the first half by column, the second half by row."""
        half = embedded.shape[-1] // 2
        angles = torch.cat(
            [rotary_table(place, half, self.config.rope_theta_vision) for place in (columns, rows)], dim=-1
        )
        even, odd = embedded.float().unflatten(-1, (-1, 2)).unbind(-1)
        cos, sin = angles.cos(), angles.sin()
        turned = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1)
        return turned.flatten(-2).to(embedded.dtype)


class NEOVisionModel(nn.Module):
    """The module above the embeddings, for the official names."""

    def __init__(self, config: NEOVisionConfig) -> None:
        super().__init__()
        self.embeddings = NEOVisionEmbeddings(config)
