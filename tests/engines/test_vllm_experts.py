"""The experts of Qwen3-VL in vLLM: both layouts of their weights are converted to the released one."""

from __future__ import annotations

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed")


@pytest.mark.slow  # importing vLLM is slow
def test_both_layouts_of_experts_are_converted_to_the_released_one():
    import torch

    from jigsaw.engines.vllm_experts import released_experts
    from jigsaw.errors import JigsawError

    released = {
        "layers.0.mlp.experts.gate_up_proj": torch.rand(2, 8, 6),
        "layers.0.mlp.experts.down_proj": torch.rand(2, 3, 8),
        "layers.0.mlp.gate.weight": torch.rand(2, 8),
    }
    transposed = {name: tensor.transpose(1, 2) if tensor.ndim == 3 else tensor for name, tensor in released.items()}
    for weights in (released, transposed):
        converted = dict(released_experts(weights.items(), hidden=8, inner=3))
        assert all(torch.equal(converted[name], tensor) for name, tensor in released.items())
    with pytest.raises(JigsawError, match="the layout of experts is ambiguous"):
        list(released_experts({"a.experts.gate_up_proj": torch.rand(2, 8, 8)}.items(), hidden=8, inner=4))
