"""MiMo-VL and ThinkLite-VL: checkpoints with their configuration files in the layout of the hub and tiny weights.

The files are in `data/`, whose README names their sources. Only the sizes of the models are changed.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from jigsaw.models.load import end_token_ids, load_model, load_processor
from jigsaw.models.prompts import prompt_text
from jigsaw.testing import assert_family
from jigsaw.training.collate import PuzzleCollator

DATA = Path(__file__).parent / "data"
SYSTEMS = {
    "mimo-vl-7b": "You are MiMo, an AI assistant developed by Xiaomi.",
    "thinklite-vl-7b": "You are a helpful assistant.",
}
IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
VIDEO = "<|vision_start|><|video_pad|><|vision_end|>"


def small(config: dict, tokenizer) -> dict:
    """Returns the released configuration with small sizes, the same ratio of heads and the ids of a tiny tokenizer."""
    token = tokenizer.convert_tokens_to_ids
    heads = config["num_attention_heads"] // config["num_key_value_heads"]
    width = 32 * heads
    vision = {"depth": 2, "hidden_size": 64, "intermediate_size": 128, "num_heads": 2, "out_hidden_size": width}
    vision |= {"fullatt_block_indexes": [1]}
    return config | {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": heads,
        "num_key_value_heads": 1,
        "vocab_size": len(tokenizer),
        "initializer_range": 0.1,
        "rope_scaling": config["rope_scaling"] | {"mrope_section": [4, 6, 6]},
        "vision_config": config["vision_config"] | vision,
        "torch_dtype": "float32",
        "bos_token_id": token("<|endoftext|>"),
        "eos_token_id": token("<|im_end|>"),
        "image_token_id": token("<|image_pad|>"),
        "video_token_id": token("<|video_pad|>"),
        "vision_start_token_id": token("<|vision_start|>"),
        "vision_end_token_id": token("<|vision_end|>"),
    }


@pytest.fixture(scope="module", params=SYSTEMS)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(name, tmp_path_factory) -> Path:
    """A checkpoint with tiny weights and the released files."""
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    from jigsaw.models.tiny import build_tokenizer

    released = {path.name: json.loads(path.read_text()) for path in (DATA / name).glob("*.json")}
    tokenizer = build_tokenizer(["Piece 1:", "Which piece is which?", "Order? /no_think", *SYSTEMS.values()], 512)
    tokenizer.chat_template = released.pop("tokenizer_config.json")["chat_template"]
    ends = [tokenizer.convert_tokens_to_ids(token) for token in ("<|im_end|>", "<|endoftext|>")]
    released["config.json"] = small(released["config.json"], tokenizer)
    released["generation_config.json"] |= {"eos_token_id": ends, "pad_token_id": ends[1], "bos_token_id": ends[1]}
    folder = tmp_path_factory.mktemp(name)
    torch.manual_seed(0)
    Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**released["config.json"])).save_pretrained(folder)
    tokenizer.save_pretrained(folder, save_jinja_files=False)
    for file, content in released.items():
        (folder / file).write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def processor(folder):
    return load_processor(str(folder))


def row(*content: dict[str, str]) -> dict:
    turns = [{"role": "user", "content": [*content, {"type": "text", "text": "Order?"}]}]
    media = {f"{kind}s": [object() for part in content if part["type"] == kind] for kind in ("image", "video")}
    return {"id": "t", "prompt": turns, **media}


MIXED = row({"type": "text", "text": "Piece 1:"}, {"type": "image"}, {"type": "video"})


def test_the_prompt_uses_the_template_for_media_with_the_released_system_prompt(name, processor):
    """The template of the tokenizer supports only text."""
    turns = f"<|im_start|>user\nPiece 1:{IMAGE}{VIDEO}Order?<|im_end|>\n<|im_start|>assistant\n"
    assert prompt_text(processor, MIXED) == f"<|im_start|>system\n{SYSTEMS[name]}<|im_end|>\n{turns}"
    from jinja2 import Template

    released = json.loads((DATA / name / "chat_template.json").read_text())["chat_template"]
    written = Template(released, trim_blocks=True, lstrip_blocks=True)
    assert prompt_text(processor, MIXED) == written.render(messages=MIXED["prompt"], add_generation_prompt=True)


def test_no_think_is_the_last_word_of_a_turn(name, folder):
    """According to the authors of MiMo-VL, nothing may follow `/no_think` in a turn of the user, not even a picture."""
    plain, without_thinking = (
        prompt_text(load_processor(str(folder), no_think=word), MIXED) for word in (None, "/no_think")
    )
    assert without_thinking == plain.replace("Order?<|im_end|>", "Order? /no_think<|im_end|>") != plain
    last = row() | {"prompt": [{"role": "user", "content": [{"type": "text", "text": "Order?"}, {"type": "image"}]}]}
    text = prompt_text(load_processor(str(folder), no_think="/no_think"), last | {"images": [object()]})
    assert f"{IMAGE} /no_think<|im_end|>" in text


def test_a_saved_processor_has_the_template_for_media(folder, processor, tmp_path):
    shutil.copyfile(folder / "config.json", tmp_path / "config.json")
    processor.save_pretrained(tmp_path)
    assert prompt_text(load_processor(str(tmp_path)), MIXED) == prompt_text(processor, MIXED)
    answer = {"role": "assistant", "content": [{"type": "text", "text": "2, 1"}]}
    batch = PuzzleCollator(processor)([row() | {"completion": [answer]}])
    assert processor.decode(batch["input_ids"][0][batch["labels"][0] != -100]) == "2, 1<|im_end|>\n"


def test_pixel_limits_are_those_of_the_checkpoint_unless_a_recipe_sets_them(name, folder, processor):
    released = json.loads((DATA / name / "preprocessor_config.json").read_text())
    for one in (processor.image_processor, processor.video_processor):
        assert (one.size["shortest_edge"], one.size["longest_edge"]) == (released["min_pixels"], released["max_pixels"])
    limited = load_processor(str(folder), max_pixels=28 * 28 * 4)
    assert limited.image_processor.size["longest_edge"] == 28 * 28 * 4
    assert limited.video_processor.size["longest_edge"] == released["max_pixels"]


def test_end_tokens_are_those_of_the_checkpoint_and_sampling_settings_those_of_the_recipe(folder, processor):
    """Temperature, top_p and the repetition penalty of `generation_config.json` are ignored, because the loss needs the
    log-probabilities with which a completion was sampled."""
    from jigsaw.answering.generation import Generation, open_engine

    ends = {processor.tokenizer.convert_tokens_to_ids(token) for token in ("<|im_end|>", "<|endoftext|>")}
    assert set(end_token_ids(str(folder), processor)) == ends
    file = folder / "generation_config.json"
    released = file.read_text()
    texts = []
    for settings in (released, json.dumps({"eos_token_id": sorted(ends), "repetition_penalty": 9.0, "top_k": 1})):
        file.write_text(settings)
        answers = open_engine(str(folder), Generation(max_new_tokens=8, samples=2, temperature=1.0, seed=3))
        texts.append(answers([row()]))
        answers.close()
    file.write_text(released)
    assert texts[0] == texts[1]


def test_the_released_layout_fulfils_the_contract(folder):
    model = load_model(str(folder))
    text, vision = model.config.text_config, model.config.vision_config
    assert text.rope_parameters["mrope_section"] == [4, 6, 6] and text.rope_parameters["rope_theta"] > 1e5
    assert (vision.window_size, vision.tokens_per_second) == (112, 2)
    assert_family(str(folder), only=["several images", "video", "transformers sampling"])
