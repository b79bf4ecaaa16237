"""The contract of a model family, checked on a small model; the table of families is made from it.

In: the name of a tiny architecture, or a checkpoint folder. Out: one finding per property, with its figure. The
reference is the model's own forward pass on one sequence without padding, in float32; for runs it is that they finish.

    from jigsaw.testing import assert_family

    def test_my_family_keeps_the_contract():
        assert_family("my_model_type")
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from jigsaw.errors import JigsawError
from jigsaw.testing.family_case import Case, within
from jigsaw.testing.family_engines import evaluation_answers, transformers_samples_the_same, vllm_agrees
from jigsaw.testing.family_runs import trains_on_two_processes, trains_to_the_end
from jigsaw.testing.family_scores import (
    adapters_train,
    gradient_checkpointing_is_right,
    left_padding_is_right,
    media_are_right,
    parts_freeze,
    shared_prompts_are_right,
)
from jigsaw.testing.findings import Finding, NotChecked, findings_of, require_all


def assert_family(model: str, *, only: Sequence[str] = ()) -> None:
    """Raise if a family breaks its contract; the arguments are those of `check_family`. Unchecked properties pass.

    Raises:
        ContractError: has one line per property that does not hold.
    """
    require_all(model, [finding for finding in check_family(model, only=only) if finding.checked])


def check_family(model: str, *, only: Sequence[str] = ()) -> list[Finding]:
    """Check the properties of a model family.

    Args:
        model: the name of a tiny architecture (`jigsaw.models.tiny.TinyArchitecture`), or a checkpoint folder. Training
            runs are checked only with tiny architectures.
        only: names of properties in `PROPERTIES`; empty: all.

    Returns:
        A finding per property; the detail of one that holds is its figure.

    Raises:
        JigsawError: there is no property of that name, or the model cannot be opened.
    """
    if unknown := [name for name in only if name not in PROPERTIES]:
        raise JigsawError(f"{unknown[0]} is not a property of a family; choose from {', '.join(PROPERTIES)}")
    chosen = {name: holds for name, holds in PROPERTIES.items() if not only or name in only}
    figures: dict[str, str] = {}

    def with_figure(name: str, holds: Callable[[Case], str]) -> Callable[[Case], None]:
        def run(case: Case) -> None:
            figures[name] = holds(case)

        return run

    with tempfile.TemporaryDirectory(prefix="jigsaw-family-") as folder:
        case = Case(model, Path(folder) / "model")
        found = findings_of(case, {name: with_figure(name, holds) for name, holds in chosen.items()}, type(case))
    return [
        Finding(one.name, one.ok, figures.get(one.name, one.detail) if one.ok else one.detail, one.checked)
        for one in found
    ]


def _zero3_trains(case: Case) -> str:
    """Losses and rewards on a mixture of images and videos, with ZeRO-3 on two processes against one process."""
    if find_spec("deepspeed") is None:
        raise NotChecked("DeepSpeed is not installed")
    return within(trains_on_two_processes(_only_tiny(case)), "of a loss or reward")


def _tiny_preset_trains(case: Case) -> str:
    """The recipe `quickstart` with a tiny model and few steps, up to its report."""
    return trains_to_the_end(_only_tiny(case))


def _only_tiny(case: Case) -> str:
    if not case.tiny:
        raise NotChecked("training runs are checked only with tiny architectures")
    return case.name


PROPERTIES: Mapping[str, Callable[[Case], str]] = {
    "one image": media_are_right("one image"),
    "several images": media_are_right("several images"),
    "video": media_are_right("video"),
    "shared prompt": shared_prompts_are_right,
    "left padding": left_padding_is_right,
    "gradient checkpointing": gradient_checkpointing_is_right,
    "LoRA": adapters_train,
    "freezing by part": parts_freeze,
    "ZeRO-3": _zero3_trains,
    "transformers sampling": transformers_samples_the_same,
    "vLLM colocate agreement": vllm_agrees,
    "evaluation": evaluation_answers,
    "tiny preset": _tiny_preset_trains,
}
"""Name -> a function that returns a figure, or raises if the property does not hold."""
