"""The settings of vLLM engines and the requests for rows, tested without vLLM."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic_rows import ROWS, synthetic_clip, synthetic_row

from jigsaw.engines.vllm_requests import MEDIA_PER_PROMPT, VllmSettings, check_room, largest_image, vllm_request
from jigsaw.errors import JigsawError
from jigsaw.models.load import load_model, load_processor
from jigsaw.models.prompt_batch import PromptBatch

ROLLOUT = VllmSettings(dtype="bfloat16", max_model_len=10240, completions=8192, tensor_parallel_size=2, sleep=True)


def test_an_engine_on_a_gpu_is_compiled_can_sleep_and_does_not_cache_media():
    assert ROLLOUT.arguments(on_cpu=False) == {
        "dtype": "bfloat16",
        "seed": 0,
        "limit_mm_per_prompt": MEDIA_PER_PROMPT,
        "logprobs_mode": "processed_logprobs",
        "mm_processor_cache_gb": 0,
        "max_model_len": 10240,
        "max_num_seqs": 512,
        "enforce_eager": False,
        "enable_chunked_prefill": True,
        "enable_sleep_mode": True,
        "max_num_batched_tokens": 10240,
        "tensor_parallel_size": 2,
    }


def test_an_engine_on_a_cpu_has_no_chunked_prefill():
    arguments = ROLLOUT.arguments(on_cpu=True)
    assert arguments["enforce_eager"] and not arguments["enable_chunked_prefill"]
    assert arguments["max_num_batched_tokens"] >= arguments["max_model_len"]
    assert "enable_sleep_mode" not in arguments


def test_the_largest_image_fits_into_one_pass_without_a_maximum_length(processor):
    largest = largest_image(processor)
    assert largest == processor.image_processor.size["longest_edge"] // 28**2
    assert VllmSettings().arguments(on_cpu=False, largest_image=20_000)["max_num_batched_tokens"] == 20_000
    assert VllmSettings().arguments(on_cpu=False, largest_image=10)["max_num_batched_tokens"] == 8192


def test_a_clip_of_neo_is_requested_as_frames_with_the_text_of_the_trainer(neo_checkpoint):
    """There is one placeholder per frame; without placeholders, the prompt equals the trainer's."""
    processor = load_processor(neo_checkpoint)
    prompts = PromptBatch.encode(load_model(neo_checkpoint), processor, ROWS["video"], "cpu").token_lists()
    for row, prompt in zip(ROWS["video"], prompts, strict=True):
        request = vllm_request(processor, row)
        frames = [frame for clip in row["videos"] for frame in clip.frames]
        assert request["multi_modal_data"].keys() == {"image"}
        for frame, image in zip(frames, request["multi_modal_data"]["image"], strict=True):
            assert np.array_equal(frame, image)
        token = processor.image_token_id
        assert request["prompt_token_ids"].count(token) == len(frames)
        assert [one for one in request["prompt_token_ids"] if one != token] == [one for one in prompt if one != token]


def test_the_frames_of_the_longest_video_puzzle_are_within_the_limit_of_media(neo_checkpoint):
    row = synthetic_row("long", *[synthetic_clip(number, frames=16) for number in range(12)])
    request = vllm_request(load_processor(neo_checkpoint), row)
    assert len(request["multi_modal_data"]["image"]) <= MEDIA_PER_PROMPT["image"]


def test_a_prompt_without_room_for_its_completion_is_refused():
    check_room({"id": "a"}, 3, 5, 8)
    with pytest.raises(JigsawError, match=r"row b: its prompt of 4 .* rollout\.max_model_len=8; set it to 9 or more"):
        check_room({"id": "b"}, 4, 5, 8)
