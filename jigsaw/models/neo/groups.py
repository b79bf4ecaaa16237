"""The parts of a NEO by name: what a training stage moves and what it leaves alone.

    patch-embedding    the two convolutions
    pre-buffer         the first k layers
    hw-projections     q_proj_hw, k_proj_hw and their norms, in every layer
    post-llm           the rest: embeddings, later layers without their hw projections, final norm, head

A parameter may be in two groups (hw projections of pre-Buffer layers). The paper's pre-training moves what is new:
`freeze(model, ["post-llm"], pre_buffer=12)`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from jigsaw.errors import JigsawError

GROUPS = ("patch-embedding", "pre-buffer", "hw-projections", "post-llm")

LAYER = re.compile(r"language_model\.model\.layers\.(\d+)\.")
NEW_IN_LAYER = re.compile(r"\.[qk]_(proj_hw|norm_h|norm_w)\.weight$")


def groups_of(name: str, pre_buffer: int) -> set[str]:
    """The groups of a parameter.

    Args:
        name: its key in the official layout.
        pre_buffer: how many layers are the pre-Buffer.

    >>> groups_of("language_model.model.layers.3.self_attn.q_proj_hw.weight", 12) == {"pre-buffer", "hw-projections"}
    True
    """
    if name.startswith("vision_model."):
        return {"patch-embedding"}
    found = set()
    layer = LAYER.match(name)
    if layer and int(layer[1]) < pre_buffer:
        found.add("pre-buffer")
    if NEW_IN_LAYER.search(name):
        found.add("hw-projections")
    return found or {"post-llm"}


def freeze(model: Any, groups: Iterable[str], pre_buffer: int) -> int:
    """Let the parameters of some groups rest, and all others learn. A parameter of two groups rests if either does.

    Args:
        model: a NEO.
        groups: names out of `GROUPS`.
        pre_buffer: how many layers are the pre-Buffer: 12 of the 2B model, 6 of the 9B.

    Returns:
        How many numbers still learn.

    Raises:
        JigsawError: an unknown group, or nothing left to learn.
    """
    chosen = set(groups)
    for name in sorted(chosen - set(GROUPS)):
        close = get_close_matches(name, GROUPS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(GROUPS)}"
        raise JigsawError(f"no group {name!r} to freeze: {hint}")
    learning = 0
    for name, parameter in model.named_parameters():
        parameter.requires_grad = not groups_of(name, pre_buffer) & chosen
        learning += parameter.numel() if parameter.requires_grad else 0
    if not learning:
        raise JigsawError(f"freezing {', '.join(sorted(chosen))} leaves nothing to learn")
    return learning
