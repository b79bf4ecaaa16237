"""Changes of other people's code, each a named function: why it is needed, and what would let it go.

Nothing is changed by an import: what needs a change calls its function. vLLM's own are in `jigsaw.models.neo_plugin`.
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
"""By which transformers asks whether these packages are installed."""


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import transformers and TRL in the block without scikit-learn and scipy, which take a quarter of the time.

    transformers imports scikit-learn for assisted generation and scipy for losses of object detection, wherever they
    are installed; neither is used here. Both can be imported as usual after the block. What imports leave behind is
    never garbage, so none is looked for in the block or among it later. It can go once transformers (5.17) imports them
    where they are used.
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
    """Let a module that was not imported yet look as if it were not installed, in the block.

    datasets imports scipy.io (a second of processor time) whenever it opens a file, to be able to stream MATLAB files;
    it does without where there is none. It can go once datasets (5.2) patches only what a format's reader uses.
    """
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # Python's own way to say that there is none
    try:
        yield
    finally:
        del sys.modules[module]


def open_by_architecture(architecture: str, config_class: Any, model_class: Any) -> None:
    """Let transformers and TRL open checkpoints of an architecture of ours, for good; a second call changes nothing.

    `AutoConfig` goes by the model type, and NEO's PT checkpoints carry one of another model; it can go once their
    files are corrected. TRL (1.16) looks for the class of the model that the KL term is measured from in `transformers`
    alone (huggingface/trl#3948); it can go once TRL uses the Auto classes.
    """
    import transformers
    from transformers import AutoConfig, PreTrainedConfig

    setattr(transformers, architecture, model_class)
    original = AutoConfig.from_pretrained
    if architecture in getattr(original, "architectures", ()):
        return

    @functools.wraps(original)
    def from_pretrained(path: Any, **kwargs: Any) -> Any:
        found, rest = PreTrainedConfig.get_config_dict(path, **kwargs)
        named = architecture in (found.get("architectures") or ())
        if not named or found.get("model_type") == config_class.model_type:
            return original(path, **kwargs)
        for name in ("trust_remote_code", "code_revision"):  # of code that comes with a checkpoint
            rest.pop(name, None)
        return config_class.from_dict({**found, "model_type": config_class.model_type}, **rest)

    from_pretrained.architectures = (architecture,)  # type: ignore[attr-defined]
    AutoConfig.from_pretrained = from_pretrained


def use_rope_index(model: Any, rule: Callable[..., Any]) -> None:
    """Have a Qwen2-VL or Qwen2.5-VL compute its positions by another rule, in every pass.

    transformers 5.17 places the text behind a clip too early, and cuts seconds to a whole number
    (`jigsaw.models.mrope`). It can go once the least version has huggingface/transformers#48669, merged after
    5.17, and vLLM's positions of clips (`benchmarks/families.py`) agree with that version's for both.
    """
    model.model.get_rope_index = MethodType(rule, model.model)


def compare_full_shapes() -> None:
    """Let transformers load experts under ZeRO-3 from either layout; a second call changes nothing.

    transformers 5.17 turns the experts of a checkpoint unless they have the shape of the parameter, and under ZeRO-3 a
    parameter has none until it is gathered: experts that transformers 5 has saved would be turned and refused. It can
    go once `Transpose` asks for the whole shape.
    """
    from transformers.core_model_loading import Transpose

    theirs = Transpose.convert
    if getattr(theirs, "whole", False):
        return

    def convert(self: Any, input_dict: Any, source_patterns: Any, target_patterns: Any, **known: Any) -> Any:
        if self.check_dims:
            parameter = known["model"].get_parameter(known["full_layer_name"])
            tensor = next(iter(input_dict.values()))
            tensor = tensor[0] if isinstance(tensor, list) else tensor
            if tuple(tensor.shape) == tuple(getattr(parameter, "ds_shape", ())):
                return {self.get_target_pattern(input_dict, source_patterns, target_patterns): tensor}
        return theirs(self, input_dict, source_patterns, target_patterns, **known)

    convert.whole = True  # type: ignore[attr-defined]
    Transpose.convert = convert


def embed_patches_by_product(convolution: Any) -> None:
    """Have a convolution over patches of just its kernel's size computed as the matrix product that it is.

    torch (2.13) takes as long for Qwen's `Conv3d` as for the whole decoder of a small model on a CPU, and on a GPU
    cuDNN is slow for it in bfloat16. It can go once transformers (5.17) embeds patches by a linear layer.
    """

    def forward(self: Any, patches: Any) -> Any:
        from torch.nn.functional import linear

        return linear(patches.flatten(1), self.weight.flatten(1), self.bias)

    convolution.forward = MethodType(forward, convolution)


def take_clips_of_any_length(model: Any) -> None:
    """Have a LLaVA-OneVision take clips of unequal numbers of frames in one pass; missing frames are no numbers (NaN).

    transformers (5.17) takes `[clips, frames, 3, height, width]` and computes every frame. It can go once it takes the
    number of frames of each clip. What is left of the features of several clips, the line between two of them, is put
    in here; the model adds the last one itself.
    """

    def get_video_features(self: Any, pixel_values: Any, **kwargs: Any) -> Any:
        import torch

        lengths = (~pixel_values[:, :, 0, 0, 0].isnan()).sum(1).tolist()
        if min(lengths) == pixel_values.shape[1]:
            return type(self).get_video_features(self, pixel_values, **kwargs)
        frames = torch.cat([clip[:length] for clip, length in zip(pixel_values, lengths, strict=True)])
        output = type(self).get_video_features(self, frames[:, None], **kwargs)
        line = self.image_newline[None].to(output.pooler_output)
        clips = [clip.flatten(0, 1) for clip in output.pooler_output.split(lengths)]
        between = [part for clip in clips for part in (clip, line)][:-1]
        output.pooler_output = torch.cat(between)[None]
        return output

    model.model.get_video_features = MethodType(get_video_features, model.model)


def weigh_answer_tokens_equally(trainer: Any) -> None:
    """Have TRL's SFT loss divide by the answer tokens of the whole step.

    TRL's loss (1.16) does so outside of the model if transformers counts them, and transformers (5.17) counts them only
    for models that say that they take the count, which Qwen2.5-VL does not. It can go once TRL asks for the count.
    """
    trainer.model_accepts_loss_kwargs = True


def sum_without_shared_memory() -> None:
    """Let DeepSpeed (0.19) sum over CPU processes by gloo.

    Its own sums over shared memory would be compiled first, for minutes and with a compiler. It can go once another
    back end can be chosen (deepspeedai/DeepSpeed#7625).
    """
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


@contextmanager
def outside_steps_of_zero3(model: Any) -> Iterator[None]:
    """Forward passes of a DeepSpeed model in the block do not count as steps of ZeRO-3.

    At the start of a step DeepSpeed compares its order of modules between processes, a collective operation. TRL (1.16)
    takes DeepSpeed's other hooks off while it generates and leaves this one on, so that processes with unequal numbers
    of forward passes wait for each other for ever. It can go once TRL removes `fwd_pre_hook` too.

    Args:
        model: a DeepSpeed engine, or any other model, which is left as it is.
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
