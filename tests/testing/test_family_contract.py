"""The contract of model families: every family fulfils it, and broken properties are detected and named."""

from __future__ import annotations

from typing import get_args

import pytest

from jigsaw.errors import JigsawError
from jigsaw.models.families import MODEL_TYPES
from jigsaw.models.families.gemma3 import Gemma3
from jigsaw.models.families.internvl import InternVL
from jigsaw.models.families.qwen import Qwen2VL
from jigsaw.models.tiny import ALIASES, TinyArchitecture
from jigsaw.testing import FAMILY_PROPERTIES, assert_family, check_family

ARCHITECTURES = get_args(TinyArchitecture)
RUNS = ("ZeRO-3", "vLLM colocate agreement", "tiny preset")
"""Properties that need a separate process or half a minute."""


def test_every_family_has_a_tiny_model():
    assert {ALIASES.get(name, name) for name in ARCHITECTURES} == set(MODEL_TYPES)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_built_in_families_fulfil_the_contract(architecture):
    assert_family(architecture, only=[name for name in FAMILY_PROPERTIES if name not in RUNS])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ZeRO-3", "tiny preset"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_complete_runs_with_tiny_models_of_built_in_families(architecture, name):
    assert_family(architecture, only=[name])


def failure(architecture: str, name: str) -> str:
    [finding] = check_family(architecture, only=[name])
    assert finding.ok is False
    return finding.detail


def test_a_missing_mask_within_images_is_detected(monkeypatch):
    monkeypatch.setattr(Gemma3, "sees_both_ways", lambda *_: None)
    assert "nats; rounding is at most 0.0001" in failure("gemma3", "one image")


def test_a_missing_window_is_detected(monkeypatch):
    monkeypatch.setattr(Gemma3, "masks", lambda _, model, packing, build: dict.fromkeys(KINDS, build(packing)))
    assert "nats; rounding is at most 0.0001" in failure("gemma3", "left padding")


KINDS = ("full_attention", "sliding_attention")


def test_positions_of_completions_that_are_off_by_one_are_detected(monkeypatch):
    monkeypatch.setattr(InternVL, "completion_positions", lambda _, numbers: (numbers + 1)[None])
    assert "nats; rounding is at most 0.0001" in failure("internvl", "shared prompt")
    assert "tokens differ from those of `generate`" in failure("internvl", "transformers sampling")


def test_pixels_without_effect_are_detected(monkeypatch):
    encode = InternVL.encode

    def without_pixels(self, *arguments):
        inputs = encode(self, *arguments)
        return inputs | {"pixel_values": inputs["pixel_values"] * 0}

    monkeypatch.setattr(InternVL, "encode", lambda *arguments: Inputs(without_pixels(*arguments)))
    assert failure("internvl", "one image") == "prompt one: other pixels change no log-probability"


class Inputs(dict):
    """Inputs with a method `to`, as those of transformers have."""

    def to(self, _):
        return self


def test_a_parameter_without_a_part_is_detected(monkeypatch):
    monkeypatch.setattr(Qwen2VL, "parts", {"language_model": ("*language_model.*", "lm_head.*")})
    assert "parameters belong to no part, such as model.visual." in failure("qwen2_vl", "freezing by part")


def test_an_unknown_property_is_refused():
    with pytest.raises(
        JigsawError, match=r"^zero3 is not a property of a family; choose from one image, several images, "
    ):
        check_family("internvl", only=["zero3"])
