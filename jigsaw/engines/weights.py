"""The weights of the model that is trained, as engines take them: gathered under ZeRO-3, LoRA adapters added.

In: the model that is trained, wrapped and spread over processes as it may be. Out: an iterator of names and tensors for
a weight sync, the model itself ready to generate, or the checkpoint folder that an engine starts from.
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
    """The model that is trained, at one version of its weights.

    Attributes:
        model: as it is trained, wrapped by data parallelism or DeepSpeed.
        accelerator: accelerate's; None where the model is not wrapped.
        version: changes whenever the weights do.
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
        """The unwrapped model. Under ZeRO-3 with all weights on every process, and without DeepSpeed's hooks, which
        would gather and release them again at every token. Collective.
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
    """The weights of a model under their checkpoint names, one at a time: ZeRO-3 gathered, LoRA added.

    The model itself stays as it is: merging adapters and taking them out again would let bfloat16 weights drift a
    little with every sync. Collective under ZeRO-3: every rank walks through all of them.
    """
    for name, parameter, adapter in _named(model):
        parts = [parameter] if adapter is None else [parameter, *adapter.parameters()]
        with _gathered(parts):
            if adapter is None:
                yield name, parameter.data
            else:
                with torch.no_grad():
                    whole = parameter + adapter.get_delta_weight(adapter.active_adapter[0])
                yield name, whole.to(parameter.dtype)


def shapes(model: Any) -> list[tuple[str, list[int]]]:
    """Names and whole shapes of what `merged_weights` gives, in its order, without gathering anything."""
    return [(name, list(getattr(parameter, "ds_shape", parameter.shape))) for name, parameter, _ in _named(model)]


def _named(model: Any) -> Iterator[tuple[str, Any, Any]]:
    """Name, parameter and the adapter on it, if any, of each weight that a checkpoint has."""
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
    """The whole of parameters that ZeRO-3 has spread over ranks; others are whole already."""
    if any(hasattr(parameter, "ds_id") for parameter in parameters):
        from deepspeed import zero

        with zero.GatheredParameters(list(parameters)):
            yield
    else:
        yield


def write_checkpoint(config: Any, processor: Any, folder: Path) -> None:
    """A checkpoint folder with the trainer's configuration and processor, and links to the weights it started from.

    Pixel limits agree with the trainer's because it is the trainer's processor. Dummy weights would save the reading,
    but they also overwrite what vLLM derives from the processor, such as the normalisation of pixels.

    Args:
        config: of the model, with the path that it was loaded from.
        processor: the trainer's.
        folder: where to; made if need be.
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
