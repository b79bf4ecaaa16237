"""Properties of a model family: log-probabilities of completions, gradients, adapters and frozen parts.

Each takes a `Case` and returns a figure, or raises `ContractError` if the property does not hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy

from jigsaw.testing.family_case import Case, Row, gradients, relative, within
from jigsaw.testing.findings import ContractError

PIXELS_COUNT = 1e-3
"""Least change of some log-probability in nats when an image is replaced by its negative."""


def _negative(row: Row) -> Row:
    from dataclasses import replace

    from PIL import ImageOps

    images = [ImageOps.invert(image) for image in row["images"]]
    return row | {"images": images, "videos": [replace(clip, frames=255 - clip.frames) for clip in row["videos"]]}


def media_are_right(kind: str) -> Callable[[Case], str]:
    """The property for prompts with one kind of media, a key of `Case.rows`."""

    def holds(case: Case) -> str:
        import torch

        from jigsaw.models.shared_prefix import completion_log_probabilities

        rows = case.rows[kind]
        figure = within(case.apart(rows))
        groups = case.groups(rows)
        with torch.no_grad():
            original, negative = (
                completion_log_probabilities(case.model, case.processor, those, groups)
                for those in (rows, [_negative(row) for row in rows])
            )
        for row, first, second in zip(rows, original, negative, strict=True):
            if float((torch.cat(first) - torch.cat(second)).abs().max()) < PIXELS_COUNT:
                raise ContractError(f"prompt {row['id']}: other pixels change no log-probability")
        return figure

    holds.__doc__ = f"Log-probabilities of groups of four completions, {kind}; they change with the pixels. In nats."
    return holds


def shared_prompts_are_right(case: Case) -> str:
    """Shared prompts with dense and block masks, in nats, and gradients, relative to the norm of all gradients."""
    rows = case.every_row
    apart = max(case.apart(rows), _with_blocks(case, rows))
    figure = within(apart)
    first, second = (gradients(case, case.model, rows, shared=shared) for shared in (True, False))
    return f"{figure}, gradients {within(relative(first, second), 'of their norm')}"


def _with_blocks(case: Case, rows: Sequence[Row]) -> float:
    """As `Case.apart`, with the block masks that long sequences use on a GPU."""
    import torch

    from jigsaw.models.prompt_batch import PromptBatch
    from jigsaw.models.shared_prefix import log_probabilities

    model = deepcopy(case.model).requires_grad_(False)
    groups = case.groups(rows)
    flat = [torch.tensor(tokens) for group in groups for tokens in group]
    owner = [number for number, group in enumerate(groups) for _ in group]
    ids = torch.nn.utils.rnn.pad_sequence(flat, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(tokens) for tokens in flat], batch_first=True)
    if case.family.model_type == "neo_chat":
        model.set_attn_implementation("flex_attention")
    prompts = PromptBatch.encode(model, case.processor, rows, "cpu")
    with torch.no_grad():
        ours, _ = log_probabilities(model, prompts, owner, ids, mask, blocks=True)
        dense, _ = log_probabilities(case.model, prompts, owner, ids, mask, blocks=False)
    return float((ours - dense).abs().max())


def left_padding_is_right(case: Case) -> str:
    """Prompts of unequal lengths in one batch, each completion after its own copy of the prompt. In nats."""
    return within(case.apart(case.every_row, shared=False))


def gradient_checkpointing_is_right(case: Case) -> str:
    """Gradients with recomputed layers, relative to the norm of all gradients."""
    rows = case.every_row
    plain = gradients(case, case.model, rows)
    model = deepcopy(case.model).train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    passes: list[str] = []
    layers = [name for name, module in model.named_modules() if getattr(module, "gradient_checkpointing", None)]
    layers = [name for name in layers if not any(other.startswith(f"{name}.") for other in layers)]
    for name in layers:
        model.get_submodule(name).register_forward_pre_hook(lambda *_, name=name: passes.append(name))
    found = relative(gradients(case, model, rows), plain)
    if not layers or any(passes.count(name) < 2 for name in layers):
        raise ContractError(f"{sum(passes.count(name) > 1 for name in layers)} of {len(layers)} layers are recomputed")
    return within(found, "of their norm")


def adapters_train(case: Case) -> str:
    """Adapters on all linear layers: no initial change, only they have gradients, and merged names do not change."""
    import torch

    from jigsaw.config.model import LoraSection, ModelSection
    from jigsaw.engines.weights import merged_weights
    from jigsaw.models.shared_prefix import completion_log_probabilities
    from jigsaw.training.trainable import prepare

    rows = case.every_row
    groups = case.groups(rows)
    section = ModelSection(path=str(case.folder), lora=LoraSection(rank=2))
    model, _ = prepare(deepcopy(case.model), section, sharded=False)
    with torch.no_grad():
        first, second = (
            torch.cat([tokens for group in found for tokens in group])
            for found in (
                completion_log_probabilities(one, case.processor, rows, groups) for one in (case.model, model)
            )
        )
    within(float((first - second).abs().max()))
    found = gradients(case, model, rows)
    adapters = [name for name, _ in model.named_parameters() if ".lora_B." in name]
    if idle := [name for name in adapters if name not in found or not float(found[name].abs().max())]:
        raise ContractError(f"{len(idle)} of {len(adapters)} adapters have no gradient, such as {idle[0]}")
    if other := [name for name in found if ".lora_" not in name]:
        raise ContractError(f"a weight that is not trained has a gradient: {other[0]}")
    names, wanted = {name for name, _ in merged_weights(model)}, {name for name, _ in case.model.named_parameters()}
    if names != wanted:
        raise ContractError(f"merged weights have other names: {sorted(names ^ wanted)[:3]}")
    return f"{len(adapters)} adapters"


def parts_freeze(case: Case) -> str:
    """Every parameter belongs to a part, and a frozen part has no gradient while the others do."""
    from jigsaw.config.model import ModelSection
    from jigsaw.training.trainable import prepare

    names = [name for name, _ in case.model.named_parameters()]
    owned = {part: case.family.parameters_of(part, names, None) or set() for part in case.family.parts}
    if left := set(names).difference(*owned.values()):
        raise ContractError(f"{len(left)} parameters belong to no part, such as {min(left)}")
    trained = gradients(case, case.model, case.every_row).keys()
    for part, own in owned.items():
        if not own:
            raise ContractError(f"no parameter belongs to {part}")
        section = ModelSection(path=str(case.folder), freeze=(part,))
        model, _ = prepare(deepcopy(case.model), section, sharded=False)
        if (found := gradients(case, model, case.every_row).keys()) != trained - own:
            raise ContractError(f"with {part} frozen, gradients differ at {sorted(found ^ (trained - own))[:2]}")
    return f"{len(owned)} parts"
