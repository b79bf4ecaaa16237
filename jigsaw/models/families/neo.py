"""NEO: (time, row, column) positions, bidirectional attention within images, videos as time-stamped images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from jigsaw.errors import JigsawError
from jigsaw.models.families.base import IMAGE, Family, Medium, Row, runs
from jigsaw.models.families.frames import with_frames
from jigsaw.models.neo.groups import GROUPS, groups_of
from jigsaw.models.neo.video import Labels, video_parts

if TYPE_CHECKING:
    from jigsaw.models.tiny import TinySizes


class Neo(Family):
    """All tokens of an image have the same time; text has row and column 0."""

    title = "NEO"
    model_type = "neo_chat"
    processor = "NEOProcessor"
    media = (IMAGE,)
    box_unit = "thousandths"
    parts = {  # noqa: RUF012  # of the base class
        "vision_tower": ("*vision_model.*",),
        "language_model": ("*language_model.*",),
    }

    def positions(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, fields: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """See `Family`."""
        positions: tuple[Tensor, Tensor] = model.get_rope_index(input_ids, fields.get("image_grid_thw"), attention_mask)
        return positions

    def completion_positions(self, numbers: Tensor) -> Tensor:
        """See `Family`."""
        return torch.stack([numbers, torch.zeros_like(numbers), torch.zeros_like(numbers)])

    def sees_both_ways(
        self, model: Any, positions: Tensor, attention_mask: Tensor, token_fields: Mapping[str, Tensor]
    ) -> Tensor | None:
        """See `Family`: the consecutive tokens of one image, unless the model is causal as an ablation."""
        if model.config.llm_config.image_attention == "causal":
            return None
        return runs(token_fields["mm_token_type_ids"] == 1)

    def expand_media(self, row: Row, processor: Any) -> Row:
        """See `Family`."""
        return with_frames(row, lambda clip: video_parts({"video": clip}, processor.frame_labels))

    def label_frames(self, processor: Any, labels: Labels) -> None:
        """See `Family`."""
        processor.frame_labels = labels

    def vision_token_ids(self, processor: Any) -> list[int]:
        """See `Family`."""
        names = ("image_token_id", "image_start_token_id", "image_end_token_id")
        return sorted({*super().vision_token_ids(processor), *(getattr(processor, name) for name in names)})

    def blank_medium(self, medium: Medium, config: Any, device: Any) -> None:
        """See `Family`: the model embeds a blank image itself where a batch has none."""
        return

    def tiny(self, sizes: TinySizes, tokenizer: Any) -> tuple[Any, Any]:
        """See `Family`."""
        from jigsaw.models.neo.tiny import tiny_neo

        return tiny_neo(sizes, tokenizer)

    def parameters_of(self, part: str, names: Sequence[str], pre_buffer: int | None) -> set[str] | None:
        """See `Family`; the groups of `jigsaw.models.neo.groups` are parts too.

        Raises:
            JigsawError: `part` is a group and `pre_buffer` is None.
        """
        if part not in GROUPS:
            return super().parameters_of(part, names, pre_buffer)
        if pre_buffer is None:
            raise JigsawError(
                f"model.freeze: {part} depends on the pre-Buffer; set its number of layers in model.pre_buffer "
                "(12 for the 2B model, 6 for the 9B model)"
            )
        return {name for name in names if part in groups_of(name, pre_buffer)}
