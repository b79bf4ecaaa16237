"""`model.no_think`: turning off the reasoning of a model by a word in the prompt or a switch of its template."""

from __future__ import annotations

from pathlib import Path

import pytest

from jigsaw.errors import JigsawError
from jigsaw.models.load import load_processor
from jigsaw.models.prompts import completion_texts, prompt_text
from jigsaw.models.tiny import CHAT_TEMPLATE
from jigsaw.training.collate import PuzzleCollator

SYSTEM = "You are MiMo, an AI assistant developed by Xiaomi."
MIMO = CHAT_TEMPLATE.replace("You are a helpful assistant.", SYSTEM)
"""The template of MiMo-VL: that of Qwen2.5-VL with another system prompt."""

SWITCHED = CHAT_TEMPLATE + (
    "{%- if add_generation_prompt and enable_thinking is defined and not enable_thinking %}"
    "{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
)
"""A template with the switch of Qwen3, which writes an empty reasoning."""

ROW = {
    "id": "t",
    "images": [],
    "videos": [],
    "prompt": [{"role": "user", "content": [{"type": "text", "text": "Order?"}]}],
}


@pytest.fixture
def folder(checkpoint, tmp_path):
    """Returns a function that writes the processor of a checkpoint with another chat template."""

    def write(template: str) -> str:
        processor = load_processor(checkpoint)
        processor.chat_template = template
        processor.save_pretrained(tmp_path)
        (tmp_path / "config.json").write_bytes(Path(checkpoint, "config.json").read_bytes())
        return str(tmp_path)

    return write


def test_a_reasoning_model_reasons_by_default(folder):
    assert prompt_text(load_processor(folder(MIMO)), ROW).endswith("Order?<|im_end|>\n<|im_start|>assistant\n")
    assert SYSTEM in prompt_text(load_processor(folder(MIMO)), ROW)


def test_the_word_is_added_to_every_turn_of_the_user(folder):
    processor = load_processor(folder(MIMO), no_think="/no_think")
    answer = {"role": "assistant", "content": [{"type": "text", "text": "2, 1"}]}
    question = {"role": "user", "content": [{"type": "text", "text": "Sure?"}]}
    talk = ROW | {"prompt": [*ROW["prompt"], answer, question]}
    text = prompt_text(processor, talk)
    assert SYSTEM in text
    assert text.count("Order? /no_think<|im_end|>") == text.count("Sure? /no_think<|im_end|>") == 1
    assert "2, 1<|im_end|>" in text
    assert ROW["prompt"][0]["content"] == [{"type": "text", "text": "Order?"}]


def test_supervised_rows_have_the_word_only_in_the_prompt(folder):
    processor = load_processor(folder(MIMO), no_think="/no_think")
    answer = {"role": "assistant", "content": [{"type": "text", "text": "2, 1"}]}
    batch = PuzzleCollator(processor)([ROW | {"completion": [answer]}])
    assert processor.decode(batch["input_ids"][0][batch["labels"][0] != -100]) == "2, 1<|im_end|>\n"


def test_the_switch_of_a_template_turns_the_reasoning_off(folder):
    path = folder(SWITCHED)
    assert "<think>" not in prompt_text(load_processor(path), ROW)
    processor = load_processor(path, no_think="template")
    assert prompt_text(processor, ROW).endswith("<think>\n\n</think>\n\n")
    tokens = processor.tokenizer(["2, 1"])["input_ids"]
    assert completion_texts(processor, [ROW], tokens) == ["2, 1"]


def test_a_template_without_a_switch_is_refused(folder):
    with pytest.raises(
        JigsawError, match=r"^model\.no_think: the chat template of this checkpoint has no switch enable_"
    ):
        load_processor(folder(MIMO), no_think="template")


def test_a_saved_processor_keeps_the_changed_template_and_is_not_changed_again(folder, tmp_path):
    processor = load_processor(folder(MIMO), no_think="/no_think")
    processor.save_pretrained(tmp_path)
    for again in (load_processor(str(tmp_path)), load_processor(str(tmp_path), no_think="/no_think")):
        assert prompt_text(again, ROW) == prompt_text(processor, ROW)
