"""Open a checkpoint: model and processor, with the pixel limits and the token ids that the rest of the framework needs.

In: a local folder or a hub id. Out: the real `transformers` classes, ready for generation and training.
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
"""Parameters below which a model is calculated on one thread."""


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
        min_pixels: least pixels of an image after resizing; the checkpoint's own where None.
        max_pixels: most pixels likewise.
        min_video_pixels, max_video_pixels: likewise of a video; of Qwen3-VL over all frames, of others of each frame.
        no_think: how the model is asked for no reasoning (`jigsaw.models.thinking`); None leaves the template alone.
        frames: how the frames of a clip are labelled, of NEO; None leaves the checkpoint's own.

    Raises:
        JigsawError: there is no processor, it is one of text alone, or one of an architecture that is not supported.
    """
    from transformers import AutoProcessor, ProcessorMixin

    from jigsaw.models.neo.registration import open_anywhere as open_neo

    open_neo()
    require_checkpoint(path)
    try:
        processor = AutoProcessor.from_pretrained(path, trust_remote_code=False)
    except Exception as error:  # files that somebody else wrote: what the library raises depends on what is wrong
        here = Path(path)
        if here.is_dir() and not any((here / name).is_file() for name in PROCESSOR_FILES):
            missing = " or ".join(PROCESSOR_FILES)
            raise JigsawError(f"{path}: no image processor is there ({missing}); copy the base model's") from error
        raise JigsawError(f"{path}: {_reason('processor', error)}") from error
    if not isinstance(processor, ProcessorMixin):
        raise JigsawError(f"{path}: holds a tokenizer but no image processor; a vision-language checkpoint is needed")
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
    """Refuse a processor that cannot prepare a plain picture: in training its error would name no file.

    Raises:
        JigsawError: it cannot.
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
    """The model, on the GPU where there is one."""
    import torch

    return limit_threads(model.to("cuda" if torch.cuda.is_available() else "cpu"))


def limit_threads(model: Any) -> Any:
    """The model, with one thread for it if it is tiny and computes on the CPU, unless `OMP_NUM_THREADS` says how many.

    The threads of a small operation wait for each other without sleep. On two cores they gain a sixth; but when another
    process takes one of the cores, a step of the quickstart takes twenty times as long on two threads as on one.
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
        JigsawError: no such checkpoint, one of another kind, or an architecture that is not supported.
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
    if missing := sorted(report["missing_keys"]):  # transformers would go on with random weights
        raise JigsawError(f"{path}: {len(missing)} weights are missing, the first is {missing[0]}; fetch it again")
    family_of(model).prepare(model)
    return model.eval()


def _reason(what: str, error: Exception) -> str:
    """Why nothing of a kind could be opened."""
    if "trust_remote_code" in str(error):
        return (
            "this checkpoint needs code that comes with it (auto_map in its configuration), which is never run; "
            "use a model that transformers knows"
        )
    kind = "" if isinstance(error, OSError | ValueError | RuntimeError) else f"{type(error).__name__}: "
    return f"no {what} can be opened there ({kind}{first_line(error)})"


def vision_token_ids(processor: Any) -> list[int]:
    """Ids of the tokens that stand for media, in ascending order; they must never be sampled.

    Args:
        processor: of a supported checkpoint.
    """
    return family_of_processor(processor).vision_token_ids(processor)


def end_token_ids(model: Any, processor: Any) -> list[int]:
    """Ids of the tokens that end a completion: those of the generation settings, and the tokenizer's.

    Args:
        model: an open model, or a checkpoint folder or hub id.
        processor: of the same checkpoint.
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
        raise JigsawError(
            f"generation_config.json: eos_token_id is {ends}, not numbers of tokens; copy the base model's"
        )
    own = processor.tokenizer.eos_token_id
    return ends if own is None or own in ends else [own, *ends]


def _require_family(path: str) -> None:
    """Refuse an architecture that is not supported before its weights are read."""
    from transformers import PreTrainedConfig

    try:
        config, _ = PreTrainedConfig.get_config_dict(path)
    except (OSError, ValueError):  # reported by the reader of the weights
        return
    if "auto_map" not in config:  # a checkpoint with code of its own is refused for that, if the library needs the code
        require_supported(config, path)


def require_checkpoint(path: str) -> None:
    """Refuse a local folder that holds no checkpoint or a damaged one; for a hub id, let the hub be asked from now on.

    Raises:
        JigsawError: no such folder, or one of something else; a file is no JSON, or holds a number that cannot be.
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
    """Fetch everything of a checkpoint on the hub but its weights, and give the folder where it is.

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
            f"model.path: {path} cannot be fetched from the hub ({first_line(error)}); check the name and the "
            f"connection, and for a gated model log in with `hf auth login`"
        ) from error
