"""Which parameters a run trains: freezing by pattern, and low-rank adapters.

In: a loaded model and a recipe's `model` section. Out: the model, its parameters marked, in the dtype that they are
trained in. Names of parts stand for patterns of parameter names, so that a recipe need not know an architecture's; any
other entry of `freeze` is such a pattern itself.
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
    """How much of a model is trained, in parameters."""

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
        family: of the model.
        names: of all parameters.
        freeze: parts of the family, or patterns of names.
        pre_buffer: layers of a NEO's pre-Buffer, which some of its parts go by.

    Raises:
        JigsawError: an entry matches no parameter, or a part of a NEO without the size of its pre-Buffer.
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
    """Freeze, add adapters, and keep what is trained in float32.

    An update of 1e-6 is lost in a bfloat16 weight. DeepSpeed keeps float32 copies of its own.

    Args:
        model: as loaded, in the recipe's dtype.
        section: what to freeze and adapt.
        sharded: DeepSpeed will hold the weights.

    Returns:
        The model (a `PeftModel` around it with adapters), and how much of it is trained.

    Raises:
        JigsawError: a pattern that matches nothing, or nothing left to train.
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
        raise JigsawError("model.freeze: it matches every linear layer, and model.lora has none to adapt")
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=sorted(layers),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def _size(parameter: Any) -> int:
    return int(getattr(parameter, "ds_numel", parameter.numel()))  # ZeRO-3 leaves an empty tensor in place of a shard
