"""The parts of a NEO by name: what a training stage moves and what it leaves alone.

    patch-embedding    the two convolutions
    pre-buffer         the first k layers
    hw-projections     q_proj_hw, k_proj_hw and their norms, in every layer
    post-llm           the rest: embeddings, later layers without their hw projections, final norm, head

A parameter may be in two groups (hw projections of pre-Buffer layers). The paper's pre-training moves what is new:
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
