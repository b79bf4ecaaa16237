"""Selects the parameters that a run trains: frozen parts, and low-rank adapters.

In: a loaded model and a recipe's `model` section. Out: the model with `requires_grad` set, in the dtype of training. An
entry of `freeze` is the name of a part, which each architecture maps to parameter names, or a pattern of such names.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from jigsaw.config.model import LoraSection, ModelSection
from jigsaw.errors import JigsawError
from jigsaw.models.families import Family, family_of


@dataclass(frozen=True)
class Trainable:
    """The numbers of trained and of all parameters of a model."""

    trained: int
    total: int

    def __str__(self) -> str:
        share = 100 * self.trained / self.total
        return f"{self.trained:,} of {self.total:,} parameters are trained ({share:.3g}%)"


def frozen_names(
    family: Family, names: Iterable[str], freeze: Sequence[str], pre_buffer: int | None = None
) -> set[str]:
    """The parameters that the entries of `freeze` match.

    Args:
        family: family of the model.
        names: names of all parameters.
        freeze: parts of the family, or patterns of names.
        pre_buffer: number of NEO's pre-Buffer layers, which some of its parts need.

    Raises:
        JigsawError: an entry matches no parameter, or a part of NEO needs `pre_buffer`.
    """
    known = list(names)
    frozen: set[str] = set()
    for entry in freeze:
        matched = family.parameters_of(entry, known, pre_buffer)
        if matched is None:
            matched = {name for name in known if fnmatchcase(name, entry)}
        if not matched:
            raise JigsawError(
                f"model.freeze: {entry!r} matches no parameter of this model; name a part ({', '.join(family.parts)}) "
                f"or a pattern of names such as {known[0]}"
            )
        frozen |= matched
    return frozen


def prepare(model: Any, section: ModelSection, *, sharded: bool) -> tuple[Any, Trainable]:
    """Freeze parts, add adapters, and keep trained parameters in float32.

    An update of 1e-6 is lost in a bfloat16 weight. DeepSpeed keeps its own float32 copies.

    Args:
        model: the loaded model, in the recipe's dtype.
        section: the recipe's `model` section.
        sharded: whether DeepSpeed will manage the weights.

    Returns:
        The model (a `PeftModel` around it with adapters), and how much of it is trained.

    Raises:
        JigsawError: a pattern matches nothing, or every parameter is frozen.
    """
    import torch

    frozen = frozen_names(
        family_of(model), [name for name, _ in model.named_parameters()], section.freeze, section.pre_buffer
    )
    if section.lora is not None:
        model = _with_adapters(model, section.lora, frozen)
    else:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name not in frozen)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise JigsawError("model.freeze: every parameter is frozen, there is nothing to train")
    if not sharded:
        dtype = getattr(torch, section.dtype)
        for parameter in model.parameters():
            parameter.data = parameter.data.to(torch.float32 if parameter.requires_grad else dtype)
    return model, Trainable(sum(map(_size, trained)), sum(map(_size, model.parameters())))


def _with_adapters(model: Any, lora: LoraSection, frozen: set[str]) -> Any:
    from peft import LoraConfig, get_peft_model
    from torch import nn

    head = model.get_output_embeddings()
    layers = {
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not head and f"{name}.weight" not in frozen
    }
    if lora.targets != "all-linear":
        kinds = {name.rpartition(".")[2] for name in layers}
        for target in lora.targets:
            if target not in kinds:
                raise JigsawError(
                    f"model.lora.targets: no linear layer {target!r}; there are {', '.join(sorted(kinds))}"
                )
        layers = {name for name in layers if name.rpartition(".")[2] in lora.targets}
    if not layers:
        raise JigsawError("model.freeze: it matches every linear layer, so model.lora has none to adapt")
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=sorted(layers),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def _size(parameter: Any) -> int:
    return int(getattr(parameter, "ds_numel", parameter.numel()))  # under ZeRO-3 the tensor itself is empty
