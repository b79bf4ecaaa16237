"""What an architecture does with places in a sequence: positions of prompts and completions, who sees whom.

In: a model. Out: its `Layout`, by which prompts are shared without knowing the architecture. Two are known: M-RoPE, as
Qwen2-VL and its successors have it, and NEO, whose image tokens see all of their image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch

from jigsaw.errors import JigsawError

Tensor = Any  # torch comes without types here


class Layout(Protocol):
    """Places in the sequences of one architecture."""

    def positions(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, fields: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Positions of prompts `[3, N, P]`, and the number from which their completions count on, `[N]`.

        Args:
            model: unwrapped.
            input_ids, attention_mask: `[N, P]`.
            fields: what the processor made beside them.
        """

    def continued(self, numbers: Tensor) -> Tensor:
        """Positions `[3, ...]` of completion tokens that were counted on to `numbers`, `[...]`."""

    def blocks(self, positions: Tensor, attention_mask: Tensor) -> Tensor | None:
        """Numbers `[N, P]`: prompt tokens that share one, 0 or above, see each other both ways; None where none do."""


class MRope:
    """Three equal axes for text; a causal mask."""

    def positions(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, fields: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """See `Layout`."""
        names = ("mm_token_type_ids", "image_grid_thw", "video_grid_thw", "second_per_grid_ts")
        known = {name: fields[name] for name in names if name in fields}
        positions = model.model.get_rope_index(input_ids, attention_mask=attention_mask, **known)[0]
        return positions, positions.amax(dim=(0, 2)) + 1

    def continued(self, numbers: Tensor) -> Tensor:
        """See `Layout`."""
        return numbers.expand(3, *numbers.shape)

    def blocks(self, positions: Tensor, attention_mask: Tensor) -> Tensor | None:
        """See `Layout`."""
        return None


class Neo:
    """(T, H, W) indices: an image has one T, text H = W = 0; an image's tokens see each other."""

    def positions(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, fields: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """See `Layout`."""
        found: tuple[Tensor, Tensor] = model.get_rope_index(input_ids, fields.get("image_grid_thw"), attention_mask)
        return found

    def continued(self, numbers: Tensor) -> Tensor:
        """See `Layout`."""
        return torch.stack([numbers, torch.zeros_like(numbers), torch.zeros_like(numbers)])

    def blocks(self, positions: Tensor, attention_mask: Tensor) -> Tensor | None:
        """See `Layout`."""
        return positions[0].masked_fill(attention_mask == 0, -1)


def layout_of(model: Any) -> Layout:
    """The layout of an unwrapped model.

    Raises:
        JigsawError: an architecture whose positions are not known here.
    """
    if hasattr(model, "images_per_row"):
        return Neo()
    if hasattr(getattr(model, "model", None), "get_rope_index"):
        return MRope()
    raise JigsawError(
        f"{type(model).__name__}: GRPO knows the positions of Qwen's vision-language models and of NEO, not this one's"
    )


def unwrapped(model: Any) -> Any:
    """The model within data parallelism, DeepSpeed and adapters."""
    while hasattr(model, "module"):
        model = model.module
    return model.get_base_model() if hasattr(model, "get_base_model") else model
