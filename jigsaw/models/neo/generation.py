"""Generation with NEO: indices of prompts and of new tokens, and several completions per prompt.

In: the model arguments of transformers' `generate`. Out: the same arguments with (T, H, W) indices, and pixels repeated
per prompt. All state is in these arguments; the model has none.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import GenerationMixin


class NEOGenerationMixin(GenerationMixin):  # type: ignore[misc]  # transformers comes without types
    """The generation methods of `NEOChatModel`."""

    def _prepare_position_ids_for_generation(self, inputs_tensor: Tensor, model_kwargs: dict[str, Any]) -> Tensor:
        """(T, H, W) indices of the prompt, `[3, B, L]`; continuing from a cache is not supported."""
        cache = model_kwargs.get("past_key_values")
        if cache is not None and cache.get_seq_length():
            raise NotImplementedError("generate() starts from whole prompts; call forward() to continue from a cache")
        input_ids: Any = model_kwargs.get("input_ids", inputs_tensor)
        if input_ids.ndim == 3:  # embeddings, which are only text
            input_ids = torch.full(input_ids.shape[:2], -1, device=input_ids.device)
        mask = model_kwargs.get("attention_mask")
        return self.get_rope_index(input_ids, model_kwargs.get("image_grid_thw"), mask)[0]

    def _update_model_kwargs_for_generation(
        self, outputs: Any, model_kwargs: dict[str, Any], num_new_tokens: int = 1, **kwargs: Any
    ) -> dict[str, Any]:
        """As in transformers; new tokens are text, so T continues, and row and column are 0."""
        before = model_kwargs["position_ids"]
        updated: dict[str, Any] = super()._update_model_kwargs_for_generation(
            outputs, model_kwargs, num_new_tokens=num_new_tokens, **kwargs
        )
        steps = torch.arange(1, num_new_tokens + 1, device=before.device)
        new = before.new_zeros(3, before.shape[1], num_new_tokens)
        new[0] = before[0].amax(-1, keepdim=True) + steps
        updated["position_ids"] = torch.cat([before, new], dim=-1)
        return updated

    def _expand_inputs_for_generation(
        self, expand_size: int = 1, input_ids: Any = None, **model_kwargs: Any
    ) -> tuple[Any, dict[str, Any]]:
        """As in transformers, also for tensors whose first axis is patches or images of the complete batch."""
        if expand_size == 1:
            return input_ids, model_kwargs
        own = {key: model_kwargs.pop(key, None) for key in ("pixel_values", "image_grid_thw", "position_ids")}
        input_ids_of_rows, grid = input_ids, own["image_grid_thw"]
        input_ids, model_kwargs = super()._expand_inputs_for_generation(
            expand_size=expand_size, input_ids=input_ids, **model_kwargs
        )
        if grid is not None:
            images = self.images_per_row(input_ids_of_rows, grid).tolist()
            patches = [int(part.prod(-1).sum()) for part in grid.split(images)]
            for key, sizes in (("pixel_values", patches), ("image_grid_thw", images)):
                model_kwargs[key] = torch.cat([part for part in own[key].split(sizes) for _ in range(expand_size)])
        if own["position_ids"] is not None:
            model_kwargs["position_ids"] = own["position_ids"].repeat_interleave(expand_size, dim=1)
        return input_ids, model_kwargs
