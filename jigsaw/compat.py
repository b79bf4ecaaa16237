"""Patches of other libraries, one function each, with the reason and the condition under which it can be removed.

Importing this module changes nothing; code that needs a patch calls its function. The patches of vLLM are in
`jigsaw.models.neo_plugin`.
"""

from __future__ import annotations

import functools
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

UNUSED_BY_TRAINING = ("is_sklearn_available", "is_scipy_available")
"""Functions with which transformers checks whether these packages are installed."""


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import transformers and TRL in the block without scikit-learn and scipy, which take a quarter of the time.

    If they are installed, transformers imports scikit-learn for assisted generation and scipy for losses of object
    detection; neither is used here. Both can be imported as usual after the block. Imported objects are never garbage,
    so the collector is off in the block and ignores them later. Remove this once transformers (5.17) imports the two
    packages where it uses them.
    """
    from transformers import utils
    from transformers.utils import import_utils

    before = {name: getattr(import_utils, name) for name in UNUSED_BY_TRAINING}
    collecting = gc.isenabled()
    gc.disable()
    try:
        for name in before:
            for module in (utils, import_utils):
                setattr(module, name, lambda: False)
        yield
    finally:
        for name, value in before.items():
            for module in (utils, import_utils):
                setattr(module, name, value)
        gc.freeze()
        if collecting:
            gc.enable()


@contextmanager
def hidden(module: str) -> Iterator[None]:
    """Make a module that was not imported yet seem not installed inside the block.

    datasets imports scipy.io (a second of processor time) whenever it opens a file, to be able to stream MATLAB files;
    it also works without scipy. Remove this once datasets (5.2) only patches the modules that a format's reader uses.
    """
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # Python then raises ModuleNotFoundError
    try:
        yield
    finally:
        del sys.modules[module]


def open_by_architecture(architecture: str, config_class: Any, model_class: Any) -> None:
    """Make transformers and TRL open checkpoints of an architecture defined here; a second call changes nothing.

    `AutoConfig` uses the model type, and NEO's PT checkpoints have that of another model; remove this part once their
    files are corrected. TRL (1.16) looks up the class of the reference model in `transformers` only
    (huggingface/trl#3948); remove this part once TRL uses the Auto classes.
    """
    import transformers
    from transformers import AutoConfig, PreTrainedConfig

    setattr(transformers, architecture, model_class)
    original = AutoConfig.from_pretrained
    if architecture in getattr(original, "architectures", ()):
        return

    @functools.wraps(original)
    def from_pretrained(path: Any, **kwargs: Any) -> Any:
        config, rest = PreTrainedConfig.get_config_dict(path, **kwargs)
        matches = architecture in (config.get("architectures") or ())
        if not matches or config.get("model_type") == config_class.model_type:
            return original(path, **kwargs)
        for name in ("trust_remote_code", "code_revision"):  # options for code in a checkpoint
            rest.pop(name, None)
        return config_class.from_dict({**config, "model_type": config_class.model_type}, **rest)

    from_pretrained.architectures = (architecture,)  # type: ignore[attr-defined]
    AutoConfig.from_pretrained = from_pretrained


def use_rope_index(model: Any, rule: Callable[..., Any]) -> None:
    """Make a Qwen2-VL or Qwen2.5-VL compute its positions with `rule` in every pass.

    transformers 5.17 places the text after a clip too early, and truncates seconds to an integer
    (`jigsaw.models.mrope`). Remove this once the minimum version has huggingface/transformers#48669, merged after 5.17,
    and vLLM's positions of clips (`benchmarks/families.py`) agree with that version for both models.
    """
    model.model.get_rope_index = MethodType(rule, model.model)


def compare_full_shapes() -> None:
    """Make transformers load experts of either layout under ZeRO-3; a second call changes nothing.

    transformers 5.17 transposes the experts of a checkpoint unless they have the shape of the parameter. Under ZeRO-3 a
    parameter has no shape until it is gathered, so experts that transformers 5 has saved would be transposed and
    refused. Remove this once `Transpose` compares with the full shape.
    """
    from transformers.core_model_loading import Transpose

    original = Transpose.convert
    if getattr(original, "compares_full_shapes", False):
        return

    def convert(self: Any, input_dict: Any, source_patterns: Any, target_patterns: Any, **options: Any) -> Any:
        if self.check_dims:
            parameter = options["model"].get_parameter(options["full_layer_name"])
            tensor = next(iter(input_dict.values()))
            tensor = tensor[0] if isinstance(tensor, list) else tensor
            if tuple(tensor.shape) == tuple(getattr(parameter, "ds_shape", ())):
                return {self.get_target_pattern(input_dict, source_patterns, target_patterns): tensor}
        return original(self, input_dict, source_patterns, target_patterns, **options)

    convert.compares_full_shapes = True  # type: ignore[attr-defined]
    Transpose.convert = convert


def embed_patches_by_product(convolution: Any) -> None:
    """Compute a convolution over patches of its kernel's size as a matrix product.

    On a CPU, torch (2.13) takes as long for Qwen's `Conv3d` as for the complete decoder of a small model; on a GPU,
    cuDNN is slow for it in bfloat16. Remove this once transformers (5.17) embeds patches with a linear layer.
    """

    def forward(self: Any, patches: Any) -> Any:
        from torch.nn.functional import linear

        return linear(patches.flatten(1), self.weight.flatten(1), self.bias)

    convolution.forward = MethodType(forward, convolution)


def take_clips_of_any_length(model: Any) -> None:
    """Make a LLaVA-OneVision accept clips of different lengths in one pass; missing frames are NaN.

    transformers (5.17) takes `[clips, frames, 3, height, width]` and computes every frame. Remove this once it accepts
    the number of frames of each clip. This function also adds the separator (`image_newline`) between two clips; the
    model adds the last one itself.
    """

    def get_video_features(self: Any, pixel_values: Any, **kwargs: Any) -> Any:
        import torch

        lengths = (~pixel_values[:, :, 0, 0, 0].isnan()).sum(1).tolist()
        if min(lengths) == pixel_values.shape[1]:
            return type(self).get_video_features(self, pixel_values, **kwargs)
        frames = torch.cat([clip[:length] for clip, length in zip(pixel_values, lengths, strict=True)])
        output = type(self).get_video_features(self, frames[:, None], **kwargs)
        separator = self.image_newline[None].to(output.pooler_output)
        clips = [clip.flatten(0, 1) for clip in output.pooler_output.split(lengths)]
        separated = [part for clip in clips for part in (clip, separator)][:-1]
        output.pooler_output = torch.cat(separated)[None]
        return output

    model.model.get_video_features = MethodType(get_video_features, model.model)


def weigh_answer_tokens_equally(trainer: Any) -> None:
    """Make TRL's SFT loss divide by the number of answer tokens in the complete step.

    TRL (1.16) does so if transformers counts the tokens, but transformers (5.17) counts them only for models that
    accept the count as an argument, and Qwen2.5-VL does not. Remove this once TRL requests the count.
    """
    trainer.model_accepts_loss_kwargs = True


def sum_without_shared_memory() -> None:
    """Make DeepSpeed (0.19) use gloo for sums over CPU processes.

    Its own sums over shared memory are compiled first, which takes minutes and needs a compiler. Remove this once
    another back end can be chosen (deepspeedai/DeepSpeed#7625).
    """
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


@contextmanager
def outside_steps_of_zero3(model: Any) -> Iterator[None]:
    """Keep forward passes in the block from counting as steps of ZeRO-3.

    At the start of a step, DeepSpeed compares the order of modules between processes, a collective operation. TRL
    (1.16) removes DeepSpeed's other hooks during generation but not this one, so that processes with different numbers
    of forward passes wait for each other forever. Remove this once TRL also removes `fwd_pre_hook`.

    Args:
        model: a DeepSpeed engine; any other model is not changed.
    """
    offload = getattr(getattr(model, "optimizer", None), "parameter_offload", None)
    handle = getattr(offload, "fwd_pre_hook", None)
    if offload is None or handle is None:
        yield
        return
    hooks = offload.module._forward_pre_hooks
    hook = hooks.pop(handle.id)
    try:
        yield
    finally:
        hooks[handle.id] = hook
