"""InternVL, SmolVLM, Gemma 3 and LLaVA-OneVision: prompts, tiles, videos, and refused settings."""

from __future__ import annotations

import json
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "training"))

from synthetic_rows import completions, synthetic_clip, synthetic_image, synthetic_row

from jigsaw.engines.vllm_requests import largest_image
from jigsaw.errors import JigsawError
from jigsaw.models.checkpoint_files import read_config
from jigsaw.models.families import family_of, family_of_processor
from jigsaw.models.load import load_model, load_processor, vision_token_ids
from jigsaw.models.prompt_batch import PromptBatch
from jigsaw.models.prompts import processor_inputs, prompt_text
from jigsaw.models.shared_prefix import log_probabilities
from jigsaw.models.tiny import build_tiny
from jigsaw.training.collate import PuzzleCollator

SIZES = {"hidden_size": 32, "num_layers": 2, "vision_hidden_size": 32, "initializer_range": 0.1}
NAMES = ("internvl", "smolvlm", "gemma3", "llava_onevision")


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, str]:
    return {name: str(build_tiny(name, tmp_path_factory.mktemp(name) / "tiny", **SIZES)) for name in NAMES}


@pytest.fixture(params=NAMES)
def folder(request, folders) -> str:
    return folders[request.param]


def with_native_video(processor, row):
    """Returns the inputs of a row whose clip the processor itself prepares as a video."""
    [clip] = row["videos"]
    text = prompt_text(processor, row | {"prompt": MARKED, "videos": []}).replace("MARK", processor.video_token)
    metadata = {"fps": clip.fps, "duration": len(clip.frames) / clip.fps, "total_num_frames": len(clip.frames)}
    metadata["frames_indices"] = list(range(len(clip.frames)))
    options = {"do_sample_frames": False, "video_metadata": [metadata], "return_tensors": "pt"}
    videos = [[clip.frames]] if family_of_processor(processor).nested_images else [clip.frames]
    return processor(text=[text], videos=videos, add_special_tokens=False, **options)


MARKED = [{"role": "user", "content": [{"type": "text", "text": "Piece 1:MARKList the pieces."}]}]


def test_the_frames_of_a_clip_equal_those_of_native_videos_of_internvl(folders):
    processor = load_processor(folders["internvl"])
    row = synthetic_row("v", synthetic_clip(0, frames=3, size=(56, 28)))
    inputs, native = processor_inputs(processor, [row]), with_native_video(processor, row)
    # The template writes a line break after every image, but only one after a video.
    text = processor.decode(inputs["input_ids"][0]).replace("\nList", "List")
    assert text == processor.decode(native["input_ids"][0])
    assert torch.equal(inputs["pixel_values"], native["pixel_values"])


def test_the_text_around_the_frames_of_a_clip_equals_that_of_native_videos_of_smolvlm(folders):
    processor = load_processor(folders["smolvlm"])
    row = synthetic_row("v", synthetic_clip(0, frames=5, size=(56, 28), fps=1.7))
    inputs, native = processor_inputs(processor, [row]), with_native_video(processor, row)
    assert processor.decode(inputs["input_ids"][0]) == processor.decode(native["input_ids"][0])
    assert len(inputs["pixel_values"]) == 5


def test_the_prompt_of_gemma_has_the_time_of_every_frame(folders):
    processor = load_processor(folders["gemma3"])
    text = prompt_text(processor, synthetic_row("v", synthetic_clip(0, frames=2)))
    assert "0.0s: <start_of_image>0.5s: <start_of_image>" in text
    assert text.startswith("<bos>")
    ids = processor_inputs(processor, [synthetic_row("v", synthetic_image(0))])["input_ids"][0]
    assert int((ids == processor.tokenizer.bos_token_id).sum()) == 1


def test_a_wide_image_of_internvl_is_split_into_tiles_and_a_thumbnail_within_the_limit(folders):
    row = synthetic_row("w", synthetic_image(0, (128, 32)))
    for limit, tiles in ((None, 5), (2 * 32 * 32, 3), (32 * 32, 1)):
        processor = load_processor(folders["internvl"], max_pixels=limit)
        inputs = processor_inputs(processor, [row])
        assert len(inputs["pixel_values"]) == tiles
        assert int((inputs["input_ids"] == processor.image_token_id).sum()) == 4 * tiles
        assert largest_image(processor) >= 4 * tiles


@pytest.mark.parametrize(
    ("name", "limits", "message"),
    [
        ("internvl", {"max_pixels": 1000}, r"model\.image: max_pixels 1000 is below one tile of 32x32 = 1024"),
        (
            "internvl",
            {"min_pixels": 5000},
            r"model\.image\.min_pixels: internvl enlarges images to 32x32; leave it out",
        ),
        ("internvl", {"max_video_pixels": 5000}, r"model\.video: internvl resizes every frame to 32x32 pixels; leave "),
        (
            "smolvlm",
            {"max_pixels": 5000},
            r"model\.image: smolvlm resizes every image and frame to 32x32 pixels; leave",
        ),
        ("gemma3", {"max_video_pixels": 5}, r"model\.video: gemma3 resizes every image and frame to 32x32 pixels; "),
    ],
)
def test_pixel_limits_that_a_family_does_not_support_are_refused(folders, name, limits, message):
    with pytest.raises(JigsawError, match=f"^{message}"):
        load_processor(folders[name], **limits)


def test_crops_of_gemma_are_refused(folders, tmp_path):
    processor = load_processor(folders["gemma3"])
    processor.image_processor.do_pan_and_scan = True
    processor.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(Path(folders["gemma3"], "config.json").read_text())
    with pytest.raises(JigsawError, match=r"do_pan_and_scan adds crops of images, which is not supported"):
        load_processor(str(tmp_path))


def test_tokens_of_media_are_never_sampled(folder):
    processor = load_processor(folder)
    row = synthetic_row("m", synthetic_image(0, (96, 32)), synthetic_clip(1))
    ids = processor_inputs(processor, [row])["input_ids"][0].tolist()
    media = processor.tokenizer.convert_ids_to_tokens(vision_token_ids(processor))
    family = family_of_processor(processor)
    assert {family.placeholder_id(processor, medium) for medium in family.media} <= set(vision_token_ids(processor))
    special = {token for token in processor.tokenizer.convert_ids_to_tokens(ids) if "im" in token and token[0] == "<"}
    assert {token for token in special if "im_" not in token} <= set(media)


def test_blank_tiles_change_no_log_probability(folder, monkeypatch):
    """Given another process with images that this one lacks, no token attends to the blank tile."""
    model, processor = load_model(folder), load_processor(folder)
    ids, mask = completions(2)
    batch = PromptBatch.encode(model, processor, [synthetic_row("a"), synthetic_row("b") | {"prompt": MARKED}], "cpu")
    expected, _ = log_probabilities(model, batch, range(2), ids, mask)
    media = family_of(model).media
    monkeypatch.setattr("jigsaw.models.prompt_batch._media_elsewhere", lambda *_: list(media))
    assert set(batch.with_blank_media(model).media) == {name for medium in media for name in medium.inputs}
    tower = next(module for name, module in model.named_modules() if name.endswith(("vision_tower", "vision_model")))
    passes = []
    tower.register_forward_hook(lambda *_: passes.append(1))
    with_blank, _ = log_probabilities(model, batch, range(2), ids, mask)
    assert len(passes) == len(media)
    torch.testing.assert_close(with_blank, expected, atol=1e-5, rtol=0)


def test_only_the_answers_of_a_conversation_have_labels(folder):
    """The text that a template writes before an answer has no labels."""
    processor = load_processor(folder)

    def turn(role, text):
        return {"role": role, "content": [{"type": "text", "text": text}]}

    row = synthetic_row("c", synthetic_image(0))
    row["prompt"] = [*row["prompt"], turn("assistant", "one"), turn("user", "and then?")]
    batch = PuzzleCollator(processor)([row | {"completion": [turn("assistant", "two")]}])
    learned = processor.decode(batch["input_ids"][0][batch["labels"][0] != -100])
    end = processor.tokenizer.eos_token
    assert learned.replace(" ", "").replace("\n", "") == f"one{end}two{end}"


def test_sizes_as_height_and_width_are_read(folders, tmp_path):
    """Checkpoints of InternVL have sizes as height and width; invalid ones are refused."""
    content = json.loads(Path(folders["internvl"], "config.json").read_text())
    assert content["vision_config"]["patch_size"] == [8, 8]
    assert read_config(Path(folders["internvl"]))["vision_config"]["image_size"] == [32, 32]
    content["vision_config"]["patch_size"] = [8, 0]
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(JigsawError, match=r"vision_config\.patch_size is a list, not a whole number from 1 to 256"):
        read_config(tmp_path)


def test_features_of_clips_of_different_lengths_equal_those_of_each_clip_by_itself(folders):
    """transformers supports only clips of equal length of LLaVA-OneVision. A copy of the model uses its own weights."""
    model, processor = load_model(folders["llava_onevision"]), load_processor(folders["llava_onevision"])
    clips = [synthetic_clip(seed, frames=frames) for seed, frames in enumerate((2, 5, 1))]
    inputs = processor_inputs(processor, [synthetic_row("v", *clips)])
    assert inputs["pixel_values_videos"].shape[:2] == (3, 5)
    line = model.model.image_newline[None]
    options = {"vision_feature_layer": -1, "vision_feature_select_strategy": "full", "return_dict": True}
    parts = []
    for clip in clips:
        pixels = processor_inputs(processor, [synthetic_row("v", clip)])["pixel_values_videos"]
        parts += [type(model.model).get_video_features(model.model, pixels, **options).pooler_output[0], line]
    batched = model.model.get_video_features(inputs["pixel_values_videos"], **options).pooler_output[0]
    torch.testing.assert_close(batched, torch.cat(parts[:-1]))

    other = deepcopy(model)
    with torch.no_grad():
        other.model.multi_modal_projector.linear_2.weight.zero_()
        other.model.multi_modal_projector.linear_2.bias.zero_()
    with torch.no_grad():
        zeros = other.model.get_video_features(inputs["pixel_values_videos"], **options).pooler_output[0]
    assert float(zeros[: 2 * 4].abs().max()) == 0
    assert float(batched[: 2 * 4].abs().max()) > 0
