"""Qwen3-VL with experts for vLLM, with the expert weights in either layout.

vLLM 0.31 reads the layout of the released checkpoints. In the trained model, and in checkpoints that transformers 5 has
saved, the experts are transposed. vLLM uses this class instead of its own after `jigsaw.models.neo_plugin` has
registered it. Remove it when vLLM reads both layouts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from vllm.model_executor.models.qwen3_vl_moe import Qwen3VLMoeForConditionalGeneration
from vllm.platforms import current_platform

from jigsaw.errors import JigsawError

Weights = Iterable[tuple[str, Any]]


class Qwen3VLMoe(Qwen3VLMoeForConditionalGeneration):  # type: ignore[misc]  # vLLM comes without types
    """vLLM's model, which loads experts of either layout."""

    _loaded = False

    def load_weights(self, weights: Weights) -> Any:
        """As in vLLM.

        Raises:
            JigsawError: weights are loaded a second time on a CPU, where vLLM 0.31 then packs experts wrongly.
        """
        if self._loaded and current_platform.is_cpu():
            raise JigsawError(
                "rollout.engine: vLLM's CPU build cannot take new weights of experts (0.31); use engine: transformers"
            )
        self._loaded = True
        text = self.config.text_config
        return super().load_weights(released_experts(weights, text.hidden_size, text.moe_intermediate_size))


def released_experts(weights: Weights, hidden: int, inner: int) -> Iterator[tuple[str, Any]]:
    """Weights with the experts in the layout of the released checkpoints.

    Args:
        weights: names and tensors; the projections of all experts of a layer are `[experts, input, output]` in the
            released layout, and `[experts, output, input]` in that of transformers 5.
        hidden: width of the language model.
        inner: width within an expert.

    Raises:
        JigsawError: input and output have the same width, so that the layouts cannot be distinguished.
    """
    released = {"experts.gate_up_proj": (hidden, 2 * inner), "experts.down_proj": (inner, hidden)}
    for name, tensor in weights:
        sides = next((sides for end, sides in released.items() if name.endswith(end)), None)
        if sides is not None and sides[0] == sides[1]:
            raise JigsawError(f"{name}: inputs and outputs are both {sides[0]}, so the layout of experts is ambiguous")
        if sides is not None and tuple(tensor.shape[1:]) != sides:
            tensor = tensor.transpose(1, 2).contiguous()
        yield name, tensor
