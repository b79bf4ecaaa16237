"""The reference model: a small random NEO in the official layout, with values of the official implementation."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).parent / "data"
NAMES = ("text", "one_image", "two_images", "image_first", "nine_tiles")


@dataclass(frozen=True)
class Case:
    """The inputs of one row and the values that the official implementation computed."""

    name: str
    input_ids: Any
    pixel_values: Any
    image_grid_thw: Any
    thw: Any
    image_embeds: Any
    logits: Any
    loss_last3: float
    grad_norms: dict[str, float]
    greedy_tokens: list[int]
    greedy_logprobs: list[float]

    @property
    def media(self) -> dict[str, Any]:
        if not len(self.image_grid_thw):
            return {}
        return {"pixel_values": self.pixel_values, "image_grid_thw": self.image_grid_thw}


@pytest.fixture(scope="session")
def cases() -> dict[str, Case]:
    import torch
    from safetensors.torch import load_file

    tensors = load_file(DATA / "cases.safetensors")
    figures = json.loads((DATA / "cases.json").read_text())["cases"]
    cases = {}
    for name in NAMES:
        grid = tensors[f"{name}.grid_hw"]
        cases[name] = Case(
            name=name,
            input_ids=tensors[f"{name}.input_ids"],
            pixel_values=tensors[f"{name}.pixel_values"],
            image_grid_thw=torch.cat([torch.ones_like(grid[:, :1]), grid], dim=1),
            thw=tensors[f"{name}.thw"],
            image_embeds=tensors.get(f"{name}.image_embeds"),
            logits=tensors[f"{name}.logits"],
            **figures[name],
        )
    return cases


@pytest.fixture(scope="session")
def open_reference_model():
    """A function that opens the reference model with the image tokens of its small vocabulary."""

    def opened(attention: str = "sdpa", path: Path = DATA) -> Any:
        from transformers import AutoModelForImageTextToText

        import jigsaw.models.neo  # noqa: F401

        tokens = json.loads((DATA / "cases.json").read_text())
        model = AutoModelForImageTextToText.from_pretrained(
            path,
            attn_implementation=attention,
            image_token_id=tokens["image_context_token_id"],
            image_start_token_id=tokens["image_start_token_id"],
            image_end_token_id=tokens["image_end_token_id"],
        ).eval()
        model.generation_config.max_length = None
        return model

    return opened


@pytest.fixture(scope="session", params=["eager", "sdpa", "flex_attention"])
def reference_model(request, open_reference_model):
    return open_reference_model(request.param)


@pytest.fixture(scope="session")
def make_batch():
    """A function that makes a batch of several cases, padded on either side."""

    def batch(cases: list[Case], side: str = "left", pad: int = 0) -> dict[str, Any]:
        import torch

        length = max(len(case.input_ids) for case in cases) + 2
        ids = torch.full((len(cases), length), pad)
        mask = torch.zeros_like(ids)
        for row, case in enumerate(cases):
            count = len(case.input_ids)
            where = slice(length - count, length) if side == "left" else slice(0, count)
            ids[row, where], mask[row, where] = case.input_ids, 1
        inputs = {"input_ids": ids, "attention_mask": mask}
        if any(case.media for case in cases):
            inputs["pixel_values"] = torch.cat([case.pixel_values for case in cases])
            inputs["image_grid_thw"] = torch.cat([case.image_grid_thw for case in cases])
        return inputs

    return batch
