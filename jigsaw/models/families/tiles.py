"""The base of families that cut images into square tiles of a fixed number of tokens, with positions as in text."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from jigsaw.errors import JigsawError
from jigsaw.models.families.base import Blank, BoxUnit, Extent, Family, Medium

if TYPE_CHECKING:
    from jigsaw.models.tiny import TinySizes

TILES = Medium("image", "pixel_values")


class TiledFamily(Family):
    """A family whose positions count tokens, whose pixels are tiles of one size, and whose clips are images."""

    media: ClassVar[tuple[Medium, ...]] = (TILES,)
    box_unit: ClassVar[BoxUnit] = "thousandths"

    def positions(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, fields: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """See `Family`."""
        positions = (attention_mask.cumsum(1) - 1).clamp(min=0)
        return positions[None], attention_mask.sum(1)

    def completion_positions(self, numbers: Tensor) -> Tensor:
        """See `Family`."""
        return numbers[None]

    def position_ids(self, positions: Tensor) -> Tensor:
        """See `Family`."""
        return positions[0]

    def take_block_masks(self, model: Any) -> None:
        """See `Family`. The setting is permanent, since checkpointed layers run again after the forward pass."""
        from jigsaw.models.packed_attention import BY_MASK

        model.config.get_text_config()._attn_implementation = BY_MASK

    @abstractmethod
    def tile(self, processor: Any) -> tuple[int, int]:
        """Side of a tile in pixels, and its number of tokens."""

    def tiles_of(self, processor: Any, image: Any) -> int:
        """The number of tiles of an image."""
        return 1

    def extents(
        self, processor: Any, medium: Medium, media: Sequence[Sequence[Any]], fields: Mapping[str, Any]
    ) -> list[Extent]:
        """See `Family`: by the size of each image."""
        tokens = self.tile(processor)[1]
        tiles = [sum(self.tiles_of(processor, image) for image in of_prompt) for of_prompt in media]
        return [Extent(count * tokens, dict.fromkeys(medium.inputs, count)) for count in tiles]

    def pixel_unit(self, processor: Any) -> int:
        """See `Family`."""
        side, tokens = self.tile(processor)
        return int(side // tokens**0.5)

    def largest_image(self, processor: Any) -> int:
        """See `Family`."""
        return self.tile(processor)[1]

    def limit_pixels(self, processor: Any, kind: Literal["image", "video"], low: int | None, high: int | None) -> None:
        """See `Family`: every image becomes one tile, whatever its size.

        Raises:
            JigsawError: there is a limit.
        """
        if low is not None or high is not None:
            side = self.tile(processor)[0]
            raise JigsawError(
                f"model.{kind}: {self.model_type} resizes every image and frame to {side}x{side} pixels; "
                "leave min_pixels and max_pixels out"
            )

    def blank_medium(self, medium: Medium, config: Any, device: Any) -> Blank:
        """See `Family`: a tile."""
        vision = config.vision_config
        side = vision.image_size if isinstance(vision.image_size, int) else vision.image_size[0]
        patch = vision.patch_size if isinstance(vision.patch_size, int) else vision.patch_size[0]
        inputs = self._blank_tile(getattr(vision, "num_channels", 3), side, device)
        return Blank(inputs, tokens=self._tokens_of_patches((side // patch) ** 2, config))

    def _blank_tile(self, channels: int, side: int, device: Any) -> dict[str, Tensor]:
        return {TILES.pixels: torch.zeros(1, channels, side, side, device=device)}

    @abstractmethod
    def _tokens_of_patches(self, patches: int, config: Any) -> int:
        """The number of tokens of a tile with this number of patches."""


def tiny_siglip(sizes: TinySizes, side: int, patch: int) -> dict[str, Any]:
    """The configuration of a SigLIP tower in a tiny model.

    Args:
        sizes: sizes of the model.
        side, patch: side of a tile and of a patch in pixels.
    """
    return {
        "model_type": "siglip_vision_model",
        **sizes.vision_config(),
        "image_size": side,
        "patch_size": patch,
        "vision_use_head": False,
    }
