"""Provides the weights of the trained model to engines: gathered under ZeRO-3, with LoRA adapters merged.

In: the trained model, which may be wrapped and sharded. Out: an iterator of names and tensors for a weight sync, the
model itself ready for generation, or the checkpoint folder that an engine starts from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from jigsaw.compat import outside_steps_of_zero3


@dataclass(frozen=True)
class Policy:
    """The trained model at one version of its weights.

    Attributes:
        model: the model, possibly wrapped by data parallelism or DeepSpeed.
        accelerator: the `Accelerator`; None if the model is not wrapped.
        version: a number that changes with the weights.
    """

    model: Any
    accelerator: Any = None
    version: int = 0

    @property
    def unwrapped(self) -> Any:
        """The model without its wrapper, adapters included."""
        return self.model if self.accelerator is None else self.accelerator.unwrap_model(self.model)

    @contextmanager
    def ready_to_generate(self) -> Iterator[Any]:
        """The unwrapped model. Collective.

        Under ZeRO-3, every process has all weights in the block, and DeepSpeed's hooks, which would gather and release
        them at every token, are removed.
        """
        if self.accelerator is None:
            yield self.model
            return
        from trl.models import unwrap_model_for_generation

        with (
            unwrap_model_for_generation(self.model, self.accelerator) as model,
            outside_steps_of_zero3(self.model),
        ):
            yield model

    def weights(self) -> Iterator[tuple[str, Any]]:
        """See `merged_weights`."""
        return merged_weights(self.unwrapped)

    def shapes(self) -> list[tuple[str, list[int]]]:
        """See `shapes`."""
        return shapes(self.unwrapped)


def merged_weights(model: Any) -> Iterator[tuple[str, Any]]:
    """The weights of a model under their checkpoint names, one at a time, gathered under ZeRO-3 and with LoRA merged.

    The model itself is not changed: merging and unmerging adapters would change bfloat16 weights a little with every
    sync. Collective under ZeRO-3: every rank iterates over all weights.
    """
    for name, parameter, adapter in _named(model):
        parts = [parameter] if adapter is None else [parameter, *adapter.parameters()]
        with _gathered(parts):
            if adapter is None:
                yield name, parameter.data
            else:
                with torch.no_grad():
                    merged = parameter + adapter.get_delta_weight(adapter.active_adapter[0])
                yield name, merged.to(parameter.dtype)


def shapes(model: Any) -> list[tuple[str, list[int]]]:
    """Names and full shapes of the weights of `merged_weights`, in the same order, without gathering them."""
    return [(name, list(getattr(parameter, "ds_shape", parameter.shape))) for name, parameter, _ in _named(model)]


def _named(model: Any) -> Iterator[tuple[str, Any, Any]]:
    """Name, parameter and adapter (or None) of each weight in a checkpoint."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    adapters = {name: module for name, module in base.named_modules() if hasattr(module, "get_delta_weight")}
    for name, parameter in base.named_parameters():
        layer, is_adapted, kind = name.partition(".base_layer.")
        if is_adapted:
            yield f"{layer}.{kind}", parameter, adapters[layer] if kind == "weight" else None
        elif ".lora_" not in name:
            yield name, parameter, None


@contextmanager
def _gathered(parameters: Sequence[Any]) -> Iterator[None]:
    """Gather parameters that ZeRO-3 has sharded; other parameters are not changed."""
    if any(hasattr(parameter, "ds_id") for parameter in parameters):
        from deepspeed import zero

        with zero.GatheredParameters(list(parameters)):
            yield
    else:
        yield


def write_checkpoint(config: Any, processor: Any, folder: Path) -> None:
    """Write a checkpoint folder with the trainer's configuration and processor, and links to the start weights.

    Because it is the trainer's processor, pixel limits are the same. vLLM's dummy weights would save the reading, but
    they also overwrite values that vLLM derives from the processor, such as the normalisation of pixels.

    Args:
        config: configuration of the model, with the path that it was loaded from.
        processor: the trainer's processor.
        folder: the folder to write, which is created.
    """
    config.save_pretrained(folder)
    processor.save_pretrained(folder)
    origin = Path(config._name_or_path)
    if not origin.is_dir():
        from huggingface_hub import snapshot_download

        origin = Path(snapshot_download(str(origin), allow_patterns=["*.safetensors*"]))
    for file in origin.glob("*.safetensors*"):
        link = folder / file.name
        link.unlink(missing_ok=True)
        link.symlink_to(file.resolve())
