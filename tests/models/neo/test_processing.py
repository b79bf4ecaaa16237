"""The processor of NEO: image sizes, patches, placeholders, pixel budgets, backgrounds, prompts and videos."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from jigsaw.models.neo.processing import NEOImageProcessor, on_plain_background, pixel_budget
from jigsaw.models.neo.video import video_parts


@pytest.fixture(scope="module")
def processor():
    from jigsaw.models.tiny import TinySizes, tiny_model

    sizes = TinySizes(hidden_size=32, num_layers=1, vision_hidden_size=32, vocab_size=320)
    return tiny_model("neo", sizes, ["Tile 1: "])[1]


def picture(width, height, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def user_turn(*parts):
    return [{"role": "user", "content": list(parts)}]


def text_part(text):
    return {"type": "text", "text": text}


def image_part(image):
    return {"type": "image", "image": image}


def encoded(processor, conversations):
    return processor.apply_chat_template(
        conversations,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True},
    )


# Images


@pytest.mark.parametrize(
    "size, grid",
    [((256, 256), (16, 16)), ((100, 50), (12, 24)), ((4000, 4000), (128, 128)), ((640, 480), (30, 40))],
)
def test_sides_are_multiples_of_32_and_the_area_is_within_limits(size, grid):
    inputs = NEOImageProcessor()(picture(*size), return_tensors="pt")
    assert tuple(inputs["image_grid_thw"][0].tolist()) == (1, *grid)
    area = 256 * grid[0] * grid[1]
    assert 65_536 <= area <= 4_194_304


def test_an_extreme_aspect_ratio_is_refused():
    with pytest.raises(ValueError, match="aspect ratio"):
        NEOImageProcessor()(picture(4020, 20), return_tensors="pt")


def test_patches_are_in_raster_order_with_channels_first():
    pixels = np.arange(64 * 96 * 3, dtype=np.uint32).reshape(64, 96, 3).astype(np.uint8)
    processor = NEOImageProcessor(size={"shortest_edge": 1024, "longest_edge": 10**6})
    inputs = processor(Image.fromarray(pixels), return_tensors="pt")
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = ((torch.tensor(pixels) / 255 - mean) / std).permute(2, 0, 1)
    for number, patch in enumerate(inputs["pixel_values"]):
        row, column = 16 * (number // 6), 16 * (number % 6)
        torch.testing.assert_close(
            patch.view(3, 16, 16), expected[:, row : row + 16, column : column + 16], atol=1e-4, rtol=0
        )


@pytest.mark.parametrize("colour, background", [((20, 20, 20), (255, 255, 255)), ((230, 230, 230), (0, 0, 0))])
def test_a_transparent_picture_gets_a_background_of_high_contrast(colour, background):
    image = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    image.paste((*colour, 255), (10, 10, 30, 30))
    plain = on_plain_background(image)
    assert plain.mode == "RGB"
    assert plain.getpixel((20, 20)) == colour
    assert plain.getpixel((0, 0)) == background


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "LA"])
def test_pictures_of_other_modes_are_converted_to_rgb(mode):
    assert on_plain_background(picture(8, 8).convert("L").convert(mode)).mode == "RGB"


def test_several_images_share_the_pixel_budget_of_their_prompt(processor):
    high = 4 * 128 * 128
    processor.image_processor.size = {"shortest_edge": 1024, "longest_edge": high}
    big = picture(1000, 1000)
    single = encoded(processor, [user_turn(image_part(big))])["image_grid_thw"]
    four = encoded(processor, [user_turn(*[image_part(big)] * 4), user_turn(image_part(big))])["image_grid_thw"]
    assert single.tolist() == [[1, 16, 16]]
    assert four.tolist() == [[1, 10, 10]] * 4 + [[1, 16, 16]]
    assert (256 * four.prod(-1)[:4] <= pixel_budget(1024, high, 4)).all()
    processor.image_processor.size = {"shortest_edge": 1024, "longest_edge": 1280 * 1024}


@pytest.mark.parametrize("images, budget", [(1, 1000), (2, 1000), (3, 666), (8, 250), (100, 64)])
def test_the_pixel_budget_per_image(images, budget):
    assert pixel_budget(64, 1000, images) == budget


# Prompts

HEAD, TAIL = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    "parts, prompt",
    [
        ([text_part("hello")], "hello"),
        ([image_part(None), text_part("what?")], "<img><IMG_CONTEXT></img>\nwhat?"),
        ([image_part(None), text_part("\nwhat?")], "<img><IMG_CONTEXT></img>\nwhat?"),
        (
            [text_part("1: "), image_part(None), text_part("2: "), image_part(None)],
            "1: <img><IMG_CONTEXT></img>\n2: <img><IMG_CONTEXT></img>",
        ),
        ([image_part(None), image_part(None), text_part("a")], "<img><IMG_CONTEXT></img>\n<img><IMG_CONTEXT></img>\na"),
    ],
    ids=["text", "image", "own-break", "interleaved", "two"],
)
def test_turns_are_chatml_with_a_line_break_after_an_image(processor, parts, prompt):
    assert processor.apply_chat_template(user_turn(*parts), add_generation_prompt=True) == HEAD + prompt + TAIL


def test_an_empty_system_turn_is_omitted(processor):
    user = {"role": "user", "content": "hello"}
    empty = processor.apply_chat_template([{"role": "system", "content": ""}, user])
    assert empty == "<|im_start|>user\nhello<|im_end|>\n"
    with_system = processor.apply_chat_template([{"role": "system", "content": "Be brief."}, user])
    assert with_system == "<|im_start|>system\nBe brief.<|im_end|>\n" + empty


def test_a_placeholder_is_repeated_for_every_token_of_an_image(processor):
    inputs = encoded(
        processor,
        [user_turn(text_part("a"), image_part(picture(64, 96)), text_part("b")), user_turn(text_part("no image"))],
    )
    ids = inputs["input_ids"][0].tolist()
    assert inputs["image_grid_thw"].tolist() == [[1, 6, 4]]
    start = ids.index(processor.image_start_token_id)
    assert ids[start + 1 : start + 7] == [processor.image_token_id] * 6
    assert ids[start + 7] == processor.image_end_token_id
    assert not (inputs["input_ids"][1] == processor.image_token_id).any()
    assert inputs["pixel_values"].shape == (24, 768)


@pytest.mark.parametrize("images, message", [([], "have 0 images"), ([picture(32, 32)] * 2, "have 2 images")])
def test_different_numbers_of_placeholders_and_images_are_refused(processor, images, message):
    with pytest.raises(ValueError, match=message):
        processor(text=["<img><IMG_CONTEXT></img>"], images=[images], return_tensors="pt")


# Videos


def test_a_video_is_a_sequence_of_images_with_time_stamps(processor):
    frames = np.stack([np.asarray(picture(64, 32, seed)) for seed in range(3)])
    inputs = encoded(processor, [user_turn({"type": "video", "video": frames, "fps": 2.0}, text_part("what?"))])
    text = processor.decode(inputs["input_ids"][0])
    context = "<img><IMG_CONTEXT><IMG_CONTEXT></img>"
    description = "Video from 0.0s to 1.0s, 3 frames at 2.0 fps.\n"
    assert text == f"{HEAD}{description}0.0s: {context}\n0.5s: {context}\n1.0s: {context}\nwhat?{TAIL}"
    assert len(inputs["image_grid_thw"]) == 3


def test_time_stamps_replace_the_frame_rate():
    parts = video_parts({"type": "video", "video": [picture(8, 8)] * 2, "timestamps": [3.0, 7.0]})
    assert [part["text"] for part in parts if part["type"] == "text"] == [
        "Video from 3.0s to 7.0s, 2 frames at 0.2 fps.\n",
        "3.0s: ",
        "7.0s: ",
    ]


@pytest.mark.parametrize(
    "part, message",
    [
        ({"video": "clip.mp4", "fps": 1.0}, "decoded frames"),
        ({"video": [picture(8, 8)]}, "'fps' or 'timestamps'"),
        ({"video": [picture(8, 8)], "timestamps": [0.0, 1.0]}, "1 frames and 2 timestamps"),
    ],
)
def test_a_video_without_frames_or_times_is_refused(part, message):
    with pytest.raises(ValueError, match=message):
        video_parts({"type": "video", **part})


def test_a_saved_processor_can_be_loaded(processor, tmp_path):
    from transformers import AutoProcessor

    processor.save_pretrained(tmp_path)
    again = AutoProcessor.from_pretrained(tmp_path)
    assert type(again) is type(processor)
    assert type(again.image_processor) is NEOImageProcessor
    one = [user_turn(text_part("a"), image_part(picture(70, 90)))]
    assert encoded(again, one)["input_ids"].tolist() == encoded(processor, one)["input_ids"].tolist()


def test_an_official_folder_without_an_image_processor_can_be_opened(processor, tmp_path):
    import shutil
    from pathlib import Path

    from transformers import AutoProcessor

    processor.tokenizer.save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").unlink(missing_ok=True)
    shutil.copy(Path(__file__).parent / "data" / "config.json", tmp_path)
    opened = AutoProcessor.from_pretrained(tmp_path)
    assert opened.image_processor.size["shortest_edge"] == 65_536
    assert "<IMG_CONTEXT>" in opened.apply_chat_template(user_turn(image_part(None)))


def test_frames_are_numbered_for_neo_1_5_and_a_saved_processor_keeps_this(tmp_path):
    import shutil

    from jigsaw.errors import JigsawError
    from jigsaw.models.load import load_processor
    from jigsaw.models.prompts import prompt_text
    from jigsaw.models.tiny import build_tiny
    from jigsaw.tasks import Clip

    sizes = {"hidden_size": 32, "num_layers": 1, "vision_hidden_size": 32}
    folder = build_tiny("neo", tmp_path / "neo", **sizes)
    clip = Clip(frames=np.zeros((2, 32, 32, 3), dtype=np.uint8), times=np.arange(2.0), fps=1.0)
    content = [{"type": "video"}, {"type": "text", "text": "Order?"}]
    row = {"id": "clip", "images": [], "videos": [clip], "prompt": [{"role": "user", "content": content}]}
    processor = load_processor(str(folder), frames="numbers")
    image = "<img><IMG_CONTEXT></img>\n"
    expected = f"<|im_start|>user\nFrame-1: {image}Frame-2: {image}Order?<|im_end|>\n<|im_start|>assistant\n"
    assert prompt_text(processor, row) == expected
    shutil.copytree(folder, tmp_path / "trained")
    processor.save_pretrained(tmp_path / "trained")
    assert prompt_text(load_processor(str(tmp_path / "trained")), row) == expected
    assert "0.0s: " in prompt_text(load_processor(str(folder)), row)
    other = build_tiny("qwen2_5_vl", tmp_path / "qwen", **sizes)
    with pytest.raises(JigsawError, match=r"^model\.frames: qwen2_5_vl has only one form of videos"):
        load_processor(str(other), frames="numbers")
