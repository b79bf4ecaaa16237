"""Open a checkpoint: model and processor, with the pixel limits and the token ids that the rest of the framework needs.

In: a local folder or a hub id. Out: the real `transformers` classes, ready for generation and training.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jigsaw.errors import JigsawError

VISION_TOKENS = (
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
"""Tokens that stand for media in a prompt. One in a completion would promise pixels that are not there."""


def load_processor(path: str, *, min_pixels: int | None = None, max_pixels: int | None = None) -> Any:
    """Open the processor of a checkpoint, padding on the left.

    Args:
        path: local folder or hub id.
        min_pixels: least pixels of an image after resizing; the checkpoint's own where None.
        max_pixels: most pixels likewise.

    Raises:
        JigsawError: there is no processor, or it is one of text alone.
    """
    from transformers import AutoProcessor, ProcessorMixin

    _require_checkpoint(path)
    try:
        processor = AutoProcessor.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise JigsawError(f"{path}: no processor can be opened there ({_reason(error)})") from error
    if not isinstance(processor, ProcessorMixin):
        raise JigsawError(f"{path}: holds a tokenizer but no image processor; a vision-language checkpoint is needed")
    size = processor.image_processor.size
    for key, value in (("shortest_edge", min_pixels), ("longest_edge", max_pixels)):
        if value is not None:
            size[key] = value
    if size["shortest_edge"] > size["longest_edge"]:
        low, high = size["shortest_edge"], size["longest_edge"]
        raise JigsawError(f"model.image: min_pixels {low} is over max_pixels {high}")
    processor.tokenizer.padding_side = "left"
    return processor


def load_model(path: str, dtype: str = "float32") -> Any:
    """Open a vision-language model in the given dtype, in evaluation mode, on the CPU.

    Args:
        path: local folder or hub id.
        dtype: `float32` or `bfloat16`.

    Raises:
        JigsawError: no such checkpoint, or one of another kind.
    """
    import torch
    from transformers import AutoModelForImageTextToText

    _require_checkpoint(path)
    try:
        return AutoModelForImageTextToText.from_pretrained(path, dtype=getattr(torch, dtype)).eval()
    except (OSError, ValueError) as error:
        raise JigsawError(f"{path}: no vision-language model can be opened there ({_reason(error)})") from error


def vision_token_ids(processor: Any) -> list[int]:
    """Ids of the tokens that stand for media, in ascending order; they must never be sampled.

    Args:
        processor: of a Qwen-style checkpoint.
    """
    vocabulary = processor.tokenizer.get_vocab()
    named = [vocabulary[token] for token in VISION_TOKENS if token in vocabulary]
    own = [getattr(processor, name, None) for name in ("image_token_id", "video_token_id")]
    return sorted({*named, *(token for token in own if token is not None)})


def _require_checkpoint(path: str) -> None:
    """A path that looks like a folder must be one; anything else is left to the hub."""
    looks_local = path.startswith((".", "/", "~")) or path.count("/") != 1
    if Path(path).is_dir():
        if not (Path(path) / "config.json").is_file():
            raise JigsawError(f"{path}: no checkpoint, config.json is missing")
    elif looks_local or Path(path).parent.is_dir():
        raise JigsawError(f"{path}: no such checkpoint folder")


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else error.__class__.__name__
