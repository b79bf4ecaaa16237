"""InternVL, SmolVLM, Gemma 3 and LLaVA-OneVision: what their prompts hold, and which settings are refused."""

from __future__ import annotations

import json
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "training"))

from made_rows import completions, made_clip, made_image, made_row

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


def natively(processor, row):
    """A row of clips as the processor itself prepares videos."""
    [clip] = row["videos"]
    text = prompt_text(processor, row | {"prompt": MARKED, "videos": []}).replace("MARK", processor.video_token)
    metadata = {"fps": clip.fps, "duration": len(clip.frames) / clip.fps, "total_num_frames": len(clip.frames)}
    metadata["frames_indices"] = list(range(len(clip.frames)))
    options = {"do_sample_frames": False, "video_metadata": [metadata], "return_tensors": "pt"}
    videos = [[clip.frames]] if family_of_processor(processor).nested_images else [clip.frames]
    return processor(text=[text], videos=videos, add_special_tokens=False, **options)


MARKED = [{"role": "user", "content": [{"type": "text", "text": "Piece 1:MARKList the pieces."}]}]


def test_the_frames_of_a_clip_are_those_of_internvls_own_videos(folders):
    processor = load_processor(folders["internvl"])
    row = made_row("v", made_clip(0, frames=3, size=(56, 28)))
    ours, theirs = processor_inputs(processor, [row]), natively(processor, row)
    # The template ends every image with a line, and a video only once.
    text = processor.decode(ours["input_ids"][0]).replace("\nList", "List")
    assert text == processor.decode(theirs["input_ids"][0])
    assert torch.equal(ours["pixel_values"], theirs["pixel_values"])


def test_the_words_around_the_frames_of_a_clip_are_those_of_smolvlms_own_videos(folders):
    processor = load_processor(folders["smolvlm"])
    row = made_row("v", made_clip(0, frames=5, size=(56, 28), fps=1.7))
    ours, theirs = processor_inputs(processor, [row]), natively(processor, row)
    assert processor.decode(ours["input_ids"][0]) == processor.decode(theirs["input_ids"][0])
    assert len(ours["pixel_values"]) == 5


def test_gemma_reads_the_time_of_every_frame(folders):
    processor = load_processor(folders["gemma3"])
    text = prompt_text(processor, made_row("v", made_clip(0, frames=2)))
    assert "0.0s: <start_of_image>0.5s: <start_of_image>" in text
    assert text.startswith("<bos>")
    ids = processor_inputs(processor, [made_row("v", made_image(0))])["input_ids"][0]
    assert int((ids == processor.tokenizer.bos_token_id).sum()) == 1


def test_a_wide_image_of_internvl_is_tiles_and_a_thumbnail_within_its_limit(folders):
    row = made_row("w", made_image(0, (128, 32)))
    for limit, tiles in ((None, 5), (2 * 32 * 32, 3), (32 * 32, 1)):
        processor = load_processor(folders["internvl"], max_pixels=limit)
        inputs = processor_inputs(processor, [row])
        assert len(inputs["pixel_values"]) == tiles
        assert int((inputs["input_ids"] == processor.image_token_id).sum()) == 4 * tiles
        assert largest_image(processor) >= 4 * tiles


@pytest.mark.parametrize(
    ("name", "limits", "told"),
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
def test_limits_that_a_family_cannot_keep_are_refused(folders, name, limits, told):
    with pytest.raises(JigsawError, match=f"^{told}"):
        load_processor(folders[name], **limits)


def test_crops_of_gemma_are_refused(folders, tmp_path):
    processor = load_processor(folders["gemma3"])
    processor.image_processor.do_pan_and_scan = True
    processor.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(Path(folders["gemma3"], "config.json").read_text())
    with pytest.raises(JigsawError, match=r"do_pan_and_scan adds crops of images, which is not supported"):
        load_processor(str(tmp_path))


def test_tokens_that_stand_for_media_are_never_sampled(folder):
    processor = load_processor(folder)
    row = made_row("m", made_image(0, (96, 32)), made_clip(1))
    ids = processor_inputs(processor, [row])["input_ids"][0].tolist()
    media = processor.tokenizer.convert_ids_to_tokens(vision_token_ids(processor))
    family = family_of_processor(processor)
    assert {family.placeholder_id(processor, medium) for medium in family.media} <= set(vision_token_ids(processor))
    special = {token for token in processor.tokenizer.convert_ids_to_tokens(ids) if "im" in token and token[0] == "<"}
    assert {token for token in special if "im_" not in token} <= set(media)


def test_blank_tiles_change_no_log_probability(folder, monkeypatch):
    """Given another process with images that this one lacks, then its blank is computed and seen by no token."""
    model, processor = load_model(folder), load_processor(folder)
    ids, mask = completions(2)
    batch = PromptBatch.encode(model, processor, [made_row("a"), made_row("b") | {"prompt": MARKED}], "cpu")
    alone, _ = log_probabilities(model, batch, range(2), ids, mask)
    media = family_of(model).media
    monkeypatch.setattr("jigsaw.models.prompt_batch._media_elsewhere", lambda *_: list(media))
    assert set(batch.with_blank_media(model).media) == {name for medium in media for name in medium.inputs}
    tower = next(module for name, module in model.named_modules() if name.endswith(("vision_tower", "vision_model")))
    seen = []
    tower.register_forward_hook(lambda *_: seen.append(1))
    beside, _ = log_probabilities(model, batch, range(2), ids, mask)
    assert len(seen) == len(media)
    torch.testing.assert_close(beside, alone, atol=1e-5, rtol=0)


def test_all_answers_of_a_conversation_are_learned(folder):
    """Whatever the template writes between a turn's opening and the answer."""
    processor = load_processor(folder)

    def said(role, text):
        return {"role": role, "content": [{"type": "text", "text": text}]}

    row = made_row("c", made_image(0))
    row["prompt"] = [*row["prompt"], said("assistant", "one"), said("user", "and then?")]
    batch = PuzzleCollator(processor)([row | {"completion": [said("assistant", "two")]}])
    learned = processor.decode(batch["input_ids"][0][batch["labels"][0] != -100])
    end = processor.tokenizer.eos_token
    assert learned.replace(" ", "").replace("\n", "") == f"one{end}two{end}"


def test_sizes_in_both_directions_are_read(folders, tmp_path):
    """InternVL's checkpoints give heights and widths; a size that cannot be is still refused."""
    content = json.loads(Path(folders["internvl"], "config.json").read_text())
    assert content["vision_config"]["patch_size"] == [8, 8]
    assert read_config(Path(folders["internvl"]))["vision_config"]["image_size"] == [32, 32]
    content["vision_config"]["patch_size"] = [8, 0]
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(JigsawError, match=r"vision_config\.patch_size is a list, not a whole number from 1 to 256"):
        read_config(tmp_path)


def test_clips_of_unequal_lengths_have_the_features_that_each_has_alone(folders):
    """Of LLaVA-OneVision, which transformers computes for clips of one length; a copy computes with its own weights."""
    model, processor = load_model(folders["llava_onevision"]), load_processor(folders["llava_onevision"])
    clips = [made_clip(seed, frames=frames) for seed, frames in enumerate((2, 5, 1))]
    inputs = processor_inputs(processor, [made_row("v", *clips)])
    assert inputs["pixel_values_videos"].shape[:2] == (3, 5)
    line = model.model.image_newline[None]
    options = {"vision_feature_layer": -1, "vision_feature_select_strategy": "full", "return_dict": True}
    parts = []
    for clip in clips:
        pixels = processor_inputs(processor, [made_row("v", clip)])["pixel_values_videos"]
        parts += [type(model.model).get_video_features(model.model, pixels, **options).pooler_output[0], line]
    together = model.model.get_video_features(inputs["pixel_values_videos"], **options).pooler_output[0]
    torch.testing.assert_close(together, torch.cat(parts[:-1]))

    other = deepcopy(model)
    with torch.no_grad():
        other.model.multi_modal_projector.linear_2.weight.zero_()
        other.model.multi_modal_projector.linear_2.bias.zero_()
    with torch.no_grad():
        nothing = other.model.get_video_features(inputs["pixel_values_videos"], **options).pooler_output[0]
    assert float(nothing[: 2 * 4].abs().max()) == 0
    assert float(together[: 2 * 4].abs().max()) > 0
