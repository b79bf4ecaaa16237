"""Qwen2.5-VL models from random weights in the published sizes, and prompts for them without a processor."""

from __future__ import annotations

from typing import Any

import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from gpu_check.check import Check, NotRun
from jigsaw.models.families import family_of
from jigsaw.models.prompt_batch import PromptBatch
from jigsaw.models.shapes import KNOWN, Shape, shape_of_config

IMAGE, START, END = 151655, 151652, 151653
"""Qwen2.5-VL's tokens of a patch, and around an image."""


def config_of(size: str, *, layers: int | None = None) -> Any:
    """The configuration of `7b`, `3b` or `tiny`.

    Args:
        size: size of the model.
        layers: number of layers of its language model; default: all.
    """
    known = KNOWN["*qwen2.5-vl-3b*" if size == "tiny" else f"*qwen2.5-vl-{size}*"]
    text = {key: value for key, value in known.items() if isinstance(value, int) and not isinstance(value, bool)}
    text |= {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}}
    vision = known["vision_config"] | {"num_heads": 16, "out_hidden_size": text["hidden_size"], "tokens_per_second": 2}
    if size == "tiny":
        text |= {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
        text["rope_parameters"]["mrope_section"] = [2, 3, 3]
        vision |= {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 64}
        vision["fullatt_block_indexes"] = [1]
    if layers is not None:
        text["num_hidden_layers"] = layers
    return Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=IMAGE,
        vision_start_token_id=START,
        vision_end_token_id=END,
        tie_word_embeddings=known["tie_word_embeddings"],
        architectures=["Qwen2_5_VLForConditionalGeneration"],
    )


def model_of(check: Check, config: Any, dtype: torch.dtype) -> Any:
    """A model with random weights on the device."""
    with torch.device(check.device):
        model = Qwen2_5_VLForConditionalGeneration._from_config(config, dtype=dtype)
    family_of(model).prepare(model)
    return model


def size_that_fits(check: Check, bytes_of: float) -> tuple[str, int | None]:
    """The largest model that fits with these bytes per parameter plus 15 GB: size, and number of layers if reduced.

    Raises:
        NotRun: not even four layers of the 3B model fit.
    """
    if check.small:
        return "tiny", None
    for size in ("7b", "3b"):
        if bytes_of * shape_for(config_of(size)).parameters + 15e9 < check.memory:
            return size, None
    shape = shape_for(config_of("3b"))
    rest = check.memory - 8e9 - bytes_of * (shape.embedding + shape.vision)
    layers = int(rest / (bytes_of * shape.layer))
    if layers < 4:
        raise NotRun(f"needs more memory than the {check.memory / 1e9:.0f} GB that are free")
    return "3b", min(layers, shape.layers)


def shape_for(config: Any) -> Shape:
    """The sizes of a configuration."""
    return shape_of_config(config.to_dict())


def prompt_of(check: Check, model: Any, images: int, grid: tuple[int, int], tokens: int) -> PromptBatch:
    """One prompt with images of noise.

    Args:
        check: the device.
        model: model that reads it.
        images: number of images.
        grid: rows and columns of patches of each.
        tokens: tokens of the prompt.
    """
    device, rows, columns = check.device, *grid
    of_image = rows * columns // 4
    ids = torch.randint(100, 10_000, (1, tokens), device=device)
    kinds = torch.zeros_like(ids)
    place = 1
    for _ in range(images):
        ids[0, place], ids[0, place + of_image + 1] = START, END
        ids[0, place + 1 : place + 1 + of_image] = IMAGE
        kinds[0, place + 1 : place + 1 + of_image] = 1
        place += of_image + 2
    assert place <= tokens
    fields = {
        "pixel_values": torch.randn(images * rows * columns, 1176, device=device),
        "image_grid_thw": torch.tensor([[1, rows, columns]] * images, device=device),
        "mm_token_type_ids": kinds,
    }
    family, mask = family_of(model), torch.ones_like(ids)
    positions, following = family.positions(model, ids, mask, fields)
    return PromptBatch(
        input_ids=ids,
        attention_mask=mask,
        positions=positions,
        next_position=following,
        lengths=(tokens,),
        media={name: fields[name] for name in ("pixel_values", "image_grid_thw")},
        shares={"pixel_values": (images * rows * columns,), "image_grid_thw": (images,)},
        token_fields={"mm_token_type_ids": kinds},
        family=family,
    )
