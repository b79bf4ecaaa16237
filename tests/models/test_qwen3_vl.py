"""Qwen3-VL: prompts with videos, pixel limits, and chat templates that open the reasoning."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "training"))

from synthetic_rows import synthetic_clip, synthetic_image, synthetic_row

from jigsaw.errors import JigsawError
from jigsaw.models.families import family_of_processor
from jigsaw.models.load import load_processor
from jigsaw.models.prompts import completion_texts, processor_inputs, prompt_text
from jigsaw.models.tiny import build_tiny
from jigsaw.rewards import get_metric
from jigsaw.training.collate import PuzzleCollator

THINKING = "{{- '<|im_start|>user\\n' }}{%- for part in messages[0].content %}{{ part.text or '' }}{%- endfor %}"
THINKING += "{{- '<|im_end|>\\n' }}{%- if messages|length > 1 %}{{- '<|im_start|>assistant\\n<think>\\n' }}"
THINKING += "{{- messages[1].content[0].text.split('<think>')[1] + '<|im_end|>\\n' }}{%- endif %}"
THINKING += "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n' }}{%- endif %}"
"""A ChatML template whose assistant turns start with `<think>`, as in Qwen3-VL-Thinking."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    sizes = {"hidden_size": 32, "num_layers": 1, "vision_hidden_size": 32}
    return str(build_tiny("qwen3_vl", tmp_path_factory.mktemp("qwen3") / "tiny", **sizes))


@pytest.fixture
def processor(folder):
    return load_processor(folder)


def test_the_prompt_has_a_time_and_a_block_for_each_pair_of_frames(processor):
    """Given five frames at 2 fps, the times are those of the middle of a pair; the last frame is a pair by itself."""
    row = synthetic_row("v", synthetic_clip(0, frames=5, size=(32, 32)))
    block = "<|vision_start|><|video_pad|><|vision_end|>"
    text = processor.decode(processor_inputs(processor, [row])["input_ids"][0])
    assert f"Piece 1:<0.2 seconds>{block}<1.2 seconds>{block}<2.0 seconds>{block}List" in text


def test_the_budget_of_video_pixels_is_for_all_frames_of_a_clip(folder):
    """Given a budget of 8 tokens, a clip of 4 frames has 2 tokens per pair, and an image is not limited."""
    processor = load_processor(folder, max_video_pixels=8 * 32 * 32)
    row = synthetic_row("v", synthetic_clip(0, frames=4, size=(128, 64)), synthetic_image(1, (128, 64)))
    inputs = processor_inputs(processor, [row])
    assert inputs["video_grid_thw"].prod().item() // 4 == 4
    assert inputs["image_grid_thw"].prod().item() // 4 == 8


def test_contradictory_or_unsupported_video_limits_are_refused(folder, checkpoint, neo_processor):
    with pytest.raises(JigsawError, match=r"^model\.video: min_pixels 9000 is over max_pixels 5000$"):
        load_processor(folder, min_video_pixels=9000, max_video_pixels=5000)
    with pytest.raises(JigsawError, match=r"^model\.video: neo_chat takes the frames of a clip as images; limit "):
        family_of_processor(neo_processor).limit_pixels(neo_processor, "video", None, 5000)
    limited = load_processor(checkpoint, max_video_pixels=3136)
    inputs = processor_inputs(limited, [synthetic_row("v", synthetic_clip(0, frames=4, size=(112, 112)))])
    assert inputs["video_grid_thw"].tolist() == [[2, 4, 4]]  # Qwen2.5-VL limits each frame


@pytest.fixture
def neo_processor(tmp_path):
    return load_processor(str(build_tiny("neo", tmp_path / "neo", hidden_size=32, num_layers=1, vision_hidden_size=32)))


def test_the_pixel_unit_depends_on_the_family(processor, checkpoint):
    other = load_processor(checkpoint)
    assert family_of_processor(processor).pixel_unit(processor) == 32
    assert family_of_processor(other).pixel_unit(other) == 28


def test_the_tag_that_a_template_opens_counts_for_the_format_reward(processor):
    """Given a template that opens the reasoning, `<think>` is added to the completion; otherwise it is not changed."""
    row = synthetic_row("t") | {"answer_style": "think"}
    tokens = processor.tokenizer(["left is first</think><answer>1, 2</answer>"])["input_ids"]
    columns = {"answer": [[1, 2]], "answer_style": ["think"]}
    score = get_metric("format")
    assert list(score(completion_texts(processor, [row], tokens), **columns)) == [0.0]
    processor.chat_template = THINKING
    assert prompt_text(processor, row).endswith("<think>\n")
    assert completion_texts(processor, [row], tokens) == ["<think>left is first</think><answer>1, 2</answer>"]
    assert list(score(completion_texts(processor, [row], tokens), **columns)) == [1.0]


def test_supervised_labels_follow_the_tag_that_a_template_opens(processor):
    processor.chat_template = THINKING
    answer = {"role": "assistant", "content": [{"type": "text", "text": "<think>left</think><answer>1, 2</answer>"}]}
    batch = PuzzleCollator(processor)([synthetic_row("t") | {"completion": [answer]}])
    learned = batch["input_ids"][0][batch["labels"][0] != -100]
    assert processor.decode(learned) == "left</think><answer>1, 2</answer><|im_end|>\n"


def test_a_template_that_rewrites_the_prompt_is_refused_in_supervised_training(processor):
    processor.chat_template = THINKING.replace("split('<think>')[1]", "replace('<think>', '')").replace(
        "assistant\\n<think>\\n' }}{{- messages", "assistant\\n' }}{{- messages"
    )
    answer = {"role": "assistant", "content": [{"type": "text", "text": "1, 2"}]}
    with pytest.raises(JigsawError, match=r"^row t: the chat template changes the prompt when an answer"):
        PuzzleCollator(processor)([synthetic_row("t") | {"completion": [answer]}])
