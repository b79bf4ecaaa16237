"""Open a checkpoint: model and processor, with the pixel limits and the token ids that the rest of the framework needs.

In: a local folder or a hub id. Out: the real `transformers` classes, ready for generation and training.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jigsaw.errors import JigsawError, first_line
from jigsaw.surroundings import allow_hub

VISION_TOKENS = (
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
"""Tokens that stand for media in a prompt. One in a completion would promise pixels that are not there."""

PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")
"""Where a checkpoint says how its images are prepared, in one of the two; NEO can do without."""


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

    import jigsaw.models.neo  # noqa: F401  # makes NEO known to transformers

    require_checkpoint(path)
    try:
        processor = AutoProcessor.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError) as error:
        here = Path(path)
        if here.is_dir() and not any((here / name).is_file() for name in PROCESSOR_FILES):
            missing = " or ".join(PROCESSOR_FILES)
            raise JigsawError(f"{path}: no image processor is there ({missing}); copy the base model's") from error
        raise JigsawError(f"{path}: {_reason('processor', error)}") from error
    if not isinstance(processor, ProcessorMixin):
        raise JigsawError(f"{path}: holds a tokenizer but no image processor; a vision-language checkpoint is needed")
    _limit_pixels(path, processor.image_processor.size, min_pixels, max_pixels)
    processor.tokenizer.padding_side = "left"
    return processor


def _limit_pixels(path: str, size: Any, min_pixels: int | None, max_pixels: int | None) -> None:
    """Set the limits in the sizes of an image processor; Qwen's keep an image's area between two numbers of pixels."""
    if min_pixels is None and max_pixels is None:
        return
    low, high = (size.get(key) for key in ("shortest_edge", "longest_edge"))
    if low is None or high is None:
        raise JigsawError(f"model.image: the image processor of {path} takes no min_pixels and max_pixels")
    low, high = min_pixels or low, max_pixels or high
    if low > high:
        raise JigsawError(f"model.image: min_pixels {low} is over max_pixels {high}")
    size["shortest_edge"], size["longest_edge"] = low, high


def on_device(model: Any) -> Any:
    """The model, on the GPU where there is one."""
    import torch

    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def load_model(path: str, dtype: str = "float32") -> Any:
    """Open a vision-language model in the given dtype, in evaluation mode, on the CPU.

    Args:
        path: local folder or hub id.
        dtype: `float32` or `bfloat16`.

    Raises:
        JigsawError: no such checkpoint, or one of another kind.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForImageTextToText

    import jigsaw.models.neo  # noqa: F401  # makes NEO known to transformers
    from jigsaw.models.mrope import mend_positions

    require_checkpoint(path)
    try:
        model, report = AutoModelForImageTextToText.from_pretrained(
            path, dtype=getattr(torch, dtype), output_loading_info=True, trust_remote_code=False
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise JigsawError(f"{path}: {_reason('vision-language model', error)}") from error
    if missing := sorted(report["missing_keys"]):  # transformers would go on with random weights
        raise JigsawError(f"{path}: {len(missing)} weights are missing, the first is {missing[0]}; fetch it again")
    mend_positions(model)
    return model.eval()


def _reason(what: str, error: Exception) -> str:
    """Why nothing of a kind could be opened."""
    if "trust_remote_code" in str(error):
        return (
            "this checkpoint needs code that comes with it (auto_map in its configuration), which is never run; "
            "use a model that transformers knows"
        )
    return f"no {what} can be opened there ({first_line(error)})"


def vision_token_ids(processor: Any) -> list[int]:
    """Ids of the tokens that stand for media, in ascending order; they must never be sampled.

    Args:
        processor: of a Qwen-style checkpoint, or of a NEO.
    """
    vocabulary = processor.tokenizer.get_vocab()
    named = [vocabulary[token] for token in VISION_TOKENS if token in vocabulary]
    names = ("image_token_id", "video_token_id", "image_start_token_id", "image_end_token_id")
    own = [getattr(processor, name, None) for name in names]
    return sorted({*named, *(token for token in own if token is not None)})


def require_checkpoint(path: str) -> None:
    """Refuse a path that looks like a folder and is no checkpoint; anything else is left to the hub.

    Raises:
        JigsawError: no such folder, or one of something else.
    """
    looks_local = path.startswith((".", "/", "~")) or path.count("/") != 1
    if Path(path).is_dir():
        if not (Path(path) / "config.json").is_file():
            raise JigsawError(f"{path}: no checkpoint, config.json is missing")
    elif looks_local or Path(path).parent.is_dir():
        raise JigsawError(f"{path}: no such checkpoint folder")
    else:
        allow_hub()
