"""Tiny models: the tokenizer, the chat format of Qwen, and checkpoints that open with plain transformers.

The expected prompts below were written by hand from the chat template of Qwen2.5-VL-7B-Instruct.
"""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jigsaw.models.tiny import SPECIAL_TOKENS, TinySizes, build_tokenizer, tiny_model, write_tiny

TEXTS = ["Put the tiles back in order.", "user\nassistant\n", "2, 3, 1, 4"] * 3
SIZES = TinySizes(hidden_size=32, num_layers=1, vision_hidden_size=32, vocab_size=330)


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(TEXTS, 330)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "model"
    return folder, write_tiny("qwen2_5_vl", SIZES, TEXTS, folder)


# The tokenizer


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8")).filter(lambda text: "<|" not in text))
def test_any_text_is_decoded_to_its_nfc_form(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize("token", SPECIAL_TOKENS)
def test_a_special_token_is_one_token_at_any_position(tokenizer, token):
    number = tokenizer.convert_tokens_to_ids(token)
    assert tokenizer.encode(token) == [number]
    assert tokenizer.encode(f"1, 2{token}tile").count(number) == 1
    assert tokenizer.decode([number], skip_special_tokens=True) == ""


def test_a_training_text_has_fewer_tokens_than_characters(tokenizer):
    assert len(tokenizer.encode(TEXTS[0])) < len(TEXTS[0])
    assert len(tokenizer) <= 330


PROMPT = "user\nPut the tiles back in order, please.\nTile 1: Tile 2:\nassistant\n"


def test_repeated_sentences_are_one_token_and_digits_are_separate_tokens():
    phrasing = build_tokenizer([PROMPT] * 3, 400)
    ids = phrasing.encode(PROMPT)
    tokens = [phrasing.decode([token]) for token in ids]
    assert "".join(tokens) == PROMPT
    assert any("Put the tiles back in order, please." in token for token in tokens)
    assert [token for token in tokens if any(letter.isdigit() for letter in token)] == ["1", "2"]
    assert len(phrasing) <= 400


def test_the_order_of_the_texts_does_not_change_the_files(tmp_path):
    for name, texts in (("one", TEXTS), ("other", sorted(TEXTS, reverse=True)), ("iterator", iter(TEXTS))):
        build_tokenizer(texts, 330).save_pretrained(tmp_path / name)
    files = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert "tokenizer.json" in files
    for name in ("other", "iterator"):
        assert {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} == files


def test_other_texts_give_another_tokenizer(tokenizer):
    other = build_tokenizer(["zebras zigzag"] * 3, 330)
    assert other.get_vocab() != tokenizer.get_vocab()


def test_padding_is_on_the_left_and_the_end_token_is_that_of_a_turn(tokenizer):
    assert tokenizer.padding_side == "left"
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.pad_token == "<|endoftext|>"


# The chat format

SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"


@pytest.mark.parametrize(
    "messages, prompt",
    [
        ([{"role": "user", "content": "hello"}], SYSTEM + "<|im_start|>user\nhello<|im_end|>\n"),
        (
            [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}],
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n",
        ),
        (
            [
                {"role": "user", "content": [{"type": "text", "text": "Tile 1: "}, {"type": "image"}]},
                {"role": "assistant", "content": [{"type": "text", "text": "2, 1"}]},
                {"role": "user", "content": "again"},
            ],
            SYSTEM + "<|im_start|>user\nTile 1: <|vision_start|><|image_pad|><|vision_end|><|im_end|>\n"
            "<|im_start|>assistant\n2, 1<|im_end|>\n"
            "<|im_start|>user\nagain<|im_end|>\n",
        ),
        (
            [{"role": "user", "content": [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "a\n b"}]}],
            SYSTEM + "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>"
            "<|vision_start|><|image_pad|><|vision_end|>a\n b<|im_end|>\n",
        ),
        (
            [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": " Order the clips.\n"}]}],
            SYSTEM + "<|im_start|>user\n<|vision_start|><|video_pad|><|vision_end|> Order the clips.\n<|im_end|>\n",
        ),
        (
            [
                {"role": "system", "content": [{"type": "text", "text": "S"}]},
                {"role": "user", "content": [{"type": "text", "text": "{{ x }}"}]},
            ],
            "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\n{{ x }}<|im_end|>\n",
        ),
    ],
    ids=["text", "system", "turns", "images", "video", "parts-in-system"],
)
def test_turns_have_the_chat_format_of_qwen(tokenizer, messages, prompt):
    assert tokenizer.apply_chat_template(messages, tokenize=False) == prompt
    with_generation_prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert with_generation_prompt == prompt + "<|im_start|>assistant\n"


# The checkpoint


def test_the_checkpoint_opens_with_plain_transformers(checkpoint):
    from transformers import AutoModelForImageTextToText, AutoProcessor, Qwen2_5_VLForConditionalGeneration

    folder, parameters = checkpoint
    model = AutoModelForImageTextToText.from_pretrained(folder)
    processor = AutoProcessor.from_pretrained(folder)
    assert isinstance(model, Qwen2_5_VLForConditionalGeneration)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert type(processor).__name__ == "Qwen2_5_VLProcessor"
    assert processor.chat_template == processor.tokenizer.chat_template
    assert model.config.image_token_id == processor.image_token_id


@pytest.mark.parametrize("chosen, layers", [(None, [0, 1]), ((1,), [1]), ((), [])])
def test_layers_of_the_vision_tower_have_full_attention_by_default(chosen, layers):
    sizes = SIZES.model_copy(update={"vision_layers": 2, "fullatt_block_indexes": chosen})
    model, _ = tiny_model("qwen2_5_vl", sizes, TEXTS)
    assert model.config.vision_config.fullatt_block_indexes == layers
    assert model.config.vision_config.tokens_per_second == 2, "as in the released checkpoints"


@pytest.mark.parametrize("change, equal", [({}, True), ({"seed": 1}, False)])
def test_the_weights_depend_only_on_the_seed(checkpoint, tmp_path, change, equal):
    import torch

    state = torch.get_rng_state()
    write_tiny("qwen2_5_vl", SIZES.model_copy(update=change), TEXTS, tmp_path / "again")
    assert torch.equal(torch.get_rng_state(), state), "the random state of the caller is not changed"
    folder, _ = checkpoint
    weights = [(path / "model.safetensors").read_bytes() for path in (folder, tmp_path / "again")]
    assert (weights[0] == weights[1]) is equal


@pytest.mark.parametrize(
    "sizes, message",
    [
        ({"hidden_size": 80}, "hidden_size 80 is not a multiple of head_size 32"),
        ({"vision_hidden_size": 48}, "vision_hidden_size 48 is not a multiple of head_size 32"),
        ({"fullatt_block_indexes": (1,)}, r"fullatt_block_indexes \[1\]: the vision tower has layers 0 to 0"),
        ({"head_size": 18, "hidden_size": 72, "vision_hidden_size": 72}, "multiple of 4"),
    ],
)
def test_inconsistent_sizes_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        TinySizes(**sizes)


def test_the_public_functions_create_and_open_a_model_and_score_completions(tmp_path):
    """Sizes are keyword arguments, and a tokenizer without texts has one token per byte."""
    import torch
    from PIL import Image

    from jigsaw.models import build_tiny, completion_log_probabilities, load_model, load_processor

    folder = build_tiny("qwen2_5_vl", tmp_path / "tiny", hidden_size=32, num_layers=1, vision_hidden_size=32)
    model, processor = load_model(str(folder)), load_processor(str(folder))
    content = [{"type": "image"}, {"type": "text", "text": "What is it?"}]
    row = {"id": "one", "prompt": [{"role": "user", "content": content}], "images": [Image.new("RGB", (28, 28))]}
    scores = completion_log_probabilities(model, processor, [row], [[[5, 6], [7]]])
    assert [[len(one) for one in group] for group in scores] == [[2, 1]]
    assert all((one < 0).all() and one.dtype == torch.float32 for one in scores[0])
