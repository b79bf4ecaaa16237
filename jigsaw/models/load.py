"""Opens a checkpoint: model and processor, with pixel limits, and the token ids that the framework needs.

In: a local folder or a hub id. Out: `transformers` objects, ready for generation and training.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jigsaw.environment import allow_hub
from jigsaw.errors import JigsawError, first_line
from jigsaw.models.checkpoint_files import PROCESSOR_FILES, is_local, read_config, require_json, require_weights
from jigsaw.models.families import family_of, family_of_processor, require_supported
from jigsaw.models.thinking import without_thinking

if TYPE_CHECKING:
    from jigsaw.models.neo.video import Labels

TINY_PARAMETERS = 20_000_000
"""Number of parameters below which a model is computed on one thread."""


def load_processor(
    path: str,
    *,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    min_video_pixels: int | None = None,
    max_video_pixels: int | None = None,
    no_think: str | None = None,
    frames: Labels | None = None,
) -> Any:
    """Open the processor of a checkpoint, padding on the left.

    Args:
        path: local folder or hub id.
        min_pixels: minimum pixels of an image after resizing; None for the checkpoint's limit.
        max_pixels: maximum pixels of an image after resizing; None for the checkpoint's limit.
        min_video_pixels, max_video_pixels: limits of a video: for Qwen3-VL of all frames, for others of each frame.
        no_think: how to ask the model for no reasoning (`jigsaw.models.thinking`); None does not change the template.
        frames: labels of video frames, for NEO; None for those of the checkpoint.

    Raises:
        JigsawError: there is no processor, it only handles text, or its architecture is not supported.
    """
    from transformers import AutoProcessor, ProcessorMixin

    from jigsaw.models.neo.registration import open_anywhere as open_neo

    open_neo()
    require_checkpoint(path)
    try:
        processor = AutoProcessor.from_pretrained(path, trust_remote_code=False)
    except Exception as error:  # third-party files: the library's error depends on what is wrong
        here = Path(path)
        if here.is_dir() and not any((here / name).is_file() for name in PROCESSOR_FILES):
            missing = " or ".join(PROCESSOR_FILES)
            raise JigsawError(f"{path}: the image processor is missing ({missing}); copy the base model's") from error
        raise JigsawError(f"{path}: {_reason('processor', error)}") from error
    if not isinstance(processor, ProcessorMixin):
        raise JigsawError(f"{path}: has a tokenizer but no image processor; a vision-language checkpoint is needed")
    family = family_of_processor(processor)
    family.prepare_processor(processor)
    family.limit_pixels(processor, "image", min_pixels, max_pixels)
    family.limit_pixels(processor, "video", min_video_pixels, max_video_pixels)
    if frames is not None:
        family.label_frames(processor, frames)
    processor.tokenizer.padding_side = "left"
    if no_think is not None:
        processor.chat_template = without_thinking(str(processor.chat_template), no_think)
    _try_out(path, processor)
    return processor


def _try_out(path: str, processor: Any) -> None:
    """Check that a processor can process a plain picture, since its errors in training do not name a file.

    Raises:
        JigsawError: it fails.
    """
    from PIL import Image

    try:
        processor.image_processor(images=[Image.new("RGB", (56, 56))], return_tensors="pt")
    except Exception as error:
        files = " or ".join(PROCESSOR_FILES)
        raise JigsawError(
            f"{path}: its image processor fails on a plain picture ({type(error).__name__}: {first_line(error)}); "
            f"copy the base model's {files}"
        ) from error


def on_device(model: Any) -> Any:
    """The model, moved to the GPU if there is one."""
    import torch

    return limit_threads(model.to("cuda" if torch.cuda.is_available() else "cpu"))


def limit_threads(model: Any) -> Any:
    """Use one thread for a tiny model on the CPU, unless `OMP_NUM_THREADS` is set; returns the model.

    The threads of a small operation wait for each other actively. Two threads are a sixth faster on two free cores, but
    if another process uses one of the cores, a step of the quickstart takes twenty times as long as with one thread.
    """
    import torch

    tiny = sum(map(torch.Tensor.numel, model.parameters())) < TINY_PARAMETERS
    if tiny and "OMP_NUM_THREADS" not in os.environ and not torch.cuda.is_available():
        torch.set_num_threads(1)
    return model


def load_model(path: str, dtype: str = "float32") -> Any:
    """Open a vision-language model in the given dtype, in evaluation mode, on the CPU.

    Args:
        path: local folder or hub id.
        dtype: `float32` or `bfloat16`.

    Raises:
        JigsawError: there is no such checkpoint, it is of another kind, or its architecture is not supported.
    """
    import torch
    from transformers import AutoModelForImageTextToText

    from jigsaw.compat import compare_full_shapes
    from jigsaw.models.neo.registration import open_anywhere as open_neo

    open_neo()
    compare_full_shapes()
    require_checkpoint(path)
    _require_family(path)
    try:
        model, report = AutoModelForImageTextToText.from_pretrained(
            path, dtype=getattr(torch, dtype), output_loading_info=True, trust_remote_code=False
        )
    except Exception as error:  # as above
        raise JigsawError(f"{path}: {_reason('vision-language model', error)}") from error
    if missing := sorted(report["missing_keys"]):  # transformers would use random weights instead
        raise JigsawError(f"{path}: {len(missing)} weights are missing, the first is {missing[0]}; download it again")
    family_of(model).prepare(model)
    return model.eval()


def _reason(what: str, error: Exception) -> str:
    """The reason why an object could not be opened."""
    if "trust_remote_code" in str(error):
        return (
            "this checkpoint needs its own code (auto_map in its configuration), which is never run; "
            "use a model that transformers supports"
        )
    kind = "" if isinstance(error, OSError | ValueError | RuntimeError) else f"{type(error).__name__}: "
    return f"the {what} cannot be opened ({kind}{first_line(error)})"


def vision_token_ids(processor: Any) -> list[int]:
    """Ids of the tokens that represent media, in ascending order; they must never be sampled.

    Args:
        processor: the processor of a supported checkpoint.
    """
    return family_of_processor(processor).vision_token_ids(processor)


def end_token_ids(model: Any, processor: Any) -> list[int]:
    """Ids of the tokens that end a completion: those of the generation settings and of the tokenizer.

    Args:
        model: a model, a checkpoint folder or a hub id.
        processor: the processor of the same checkpoint.
    """
    from transformers import GenerationConfig

    if isinstance(model, str):
        try:
            settings = GenerationConfig.from_pretrained(model, trust_remote_code=False)
        except OSError:  # a checkpoint may have none
            settings = GenerationConfig()
        except Exception as error:  # as for the processor
            raise JigsawError(f"{model}: {_reason('generation settings', error)}") from error
    else:
        settings = model.generation_config
    ends = settings.eos_token_id
    ends = [] if ends is None else ends if isinstance(ends, list) else [ends]
    if not all(type(end) is int for end in ends):
        raise JigsawError(f"generation_config.json: eos_token_id is {ends}, not token ids; copy the base model's")
    own = processor.tokenizer.eos_token_id
    return ends if own is None or own in ends else [own, *ends]


def _require_family(path: str) -> None:
    """Check that an architecture is supported, before its weights are read."""
    from transformers import PreTrainedConfig

    try:
        config, _ = PreTrainedConfig.get_config_dict(path)
    except (OSError, ValueError):  # reported when the weights are read
        return
    if "auto_map" not in config:  # otherwise the error about code in the checkpoint is reported, if it needs the code
        require_supported(config, path)


def require_checkpoint(path: str) -> None:
    """Check that a local folder is an intact checkpoint; for a hub id, allow access to the hub.

    Raises:
        JigsawError: the folder does not exist, is not a checkpoint or has a damaged file.
    """
    if not is_local(path):
        allow_hub()
    elif not Path(path).is_dir():
        raise JigsawError(f"{path}: no such checkpoint folder")
    else:
        read_config(Path(path))
        require_json(Path(path))
        require_weights(Path(path))


def fetch_configuration(path: str) -> Path:
    """Download all files of a checkpoint on the hub except its weights, and return their folder.

    Args:
        path: a hub id.

    Raises:
        JigsawError: the hub has no such checkpoint, refuses it, or cannot be reached.
    """
    allow_hub()
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(path, allow_patterns=["*.json", "*.txt", "*.jinja", "*.model"]))
    except (OSError, ValueError) as error:
        raise JigsawError(
            f"model.path: {path} cannot be downloaded from the hub ({first_line(error)}); check the name and the "
            f"connection, and log in with `hf auth login` for a gated model"
        ) from error
