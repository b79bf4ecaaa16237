"""Complete runs of Qwen3-VL on images and videos with vLLM in colocate mode and two ZeRO-3 processes."""

from __future__ import annotations

import pytest

from jigsaw.testing.family_runs import mixed_run


@pytest.mark.slow
@pytest.mark.timeout(1800)  # four processes that each import torch, TRL and vLLM
def test_two_zero3_processes_with_vllm_train_on_images_and_videos(tmp_path):
    """The weights are gathered for vLLM at every step, so its log-probabilities equal the trainer's."""
    pytest.importorskip("vllm")
    pytest.importorskip("deepspeed")
    rollout = "rollout={engine: vllm, max_model_len: 1024, max_logp_difference: 1.0e-5}"
    overrides = ("distributed.cpu_processes=2", "distributed.zero=3", rollout)
    lines = [line for line in mixed_run("qwen3_vl", tmp_path, *overrides) if "reward" in line]
    assert [line["step"] for line in lines] == [1, 2]
    assert max(line["logp_difference"] for line in lines) < 1e-5
    assert all(line["grad_norm"] > 0 for line in lines)
