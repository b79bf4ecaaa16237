"""Qwen3-VL with experts in vLLM, whose weights may be laid out as transformers 5 does.

vLLM 0.31 knows the layout of the released checkpoints. In the model that is being trained, and in checkpoints that
transformers 5 has made, the experts are transposed. vLLM opens this class in place of its own once
`jigsaw.models.neo_plugin` has listed it; it goes when vLLM reads both layouts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from vllm.model_executor.models.qwen3_vl_moe import Qwen3VLMoeForConditionalGeneration
from vllm.platforms import current_platform

from jigsaw.errors import JigsawError

Weights = Iterable[tuple[str, Any]]


class Qwen3VLMoe(Qwen3VLMoeForConditionalGeneration):  # type: ignore[misc]  # vLLM comes without types
    """vLLM's model, with the experts in either layout."""

    _loaded = False

    def load_weights(self, weights: Weights) -> Any:
        """As vLLM.

        Raises:
            JigsawError: new weights on a CPU, where vLLM 0.31 packs experts wrongly unless they are the first.
        """
        if self._loaded and current_platform.is_cpu():
            raise JigsawError(
                "rollout.engine: vLLM's CPU build cannot take new weights of experts (0.31); use engine: transformers"
            )
        self._loaded = True
        text = self.config.text_config
        return super().load_weights(released_experts(weights, text.hidden_size, text.moe_intermediate_size))


def released_experts(weights: Weights, hidden: int, inner: int) -> Iterator[tuple[str, Any]]:
    """Weights with the experts as in the released checkpoints: the input's width before the output's.

    Args:
        weights: names and tensors; the projections of all experts of a layer are `[experts, input, output]` in the
            released layout, and `[experts, output, input]` in that of transformers 5.
        hidden: width of the language model.
        inner: width within an expert.

    Raises:
        JigsawError: input and output are equally wide, so that the layouts cannot be distinguished.
    """
    released = {"experts.gate_up_proj": (hidden, 2 * inner), "experts.down_proj": (inner, hidden)}
    for name, tensor in weights:
        sides = next((sides for end, sides in released.items() if name.endswith(end)), None)
        if sides is not None and sides[0] == sides[1]:
            raise JigsawError(f"{name}: {sides[0]} inputs and as many outputs; vLLM cannot tell the layout of experts")
        if sides is not None and tuple(tensor.shape[1:]) != sides:
            tensor = tensor.transpose(1, 2).contiguous()
        yield name, tensor
