"""The named groups of NEO's parameters, which `model.freeze` can freeze.

    patch-embedding    the two convolutions
    pre-buffer         the first k layers
    hw-projections     q_proj_hw, k_proj_hw and their norms, in every layer
    post-llm           the rest: embeddings, later layers without their hw projections, final norm, head

A parameter may be in two groups (hw projections of pre-Buffer layers). The paper's pre-training trains the new parts:
`model: {freeze: [post-llm], pre_buffer: 12}`.
"""

from __future__ import annotations

import re

GROUPS = ("patch-embedding", "pre-buffer", "hw-projections", "post-llm")

LAYER = re.compile(r"language_model\.model\.layers\.(\d+)\.")
NEW_IN_LAYER = re.compile(r"\.[qk]_(proj_hw|norm_h|norm_w)\.weight$")


def groups_of(name: str, pre_buffer: int) -> set[str]:
    """The groups of a parameter.

    Args:
        name: its name in the official layout.
        pre_buffer: number of pre-Buffer layers.

    >>> groups_of("language_model.model.layers.3.self_attn.q_proj_hw.weight", 12) == {"pre-buffer", "hw-projections"}
    True
    """
    if name.startswith("vision_model."):
        return {"patch-embedding"}
    groups = set()
    layer = LAYER.match(name)
    if layer and int(layer[1]) < pre_buffer:
        groups.add("pre-buffer")
    if NEW_IN_LAYER.search(name):
        groups.add("hw-projections")
    return groups or {"post-llm"}
