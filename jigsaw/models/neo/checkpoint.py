"""What a checkpoint's keys say before its weights are read: which NEO it is.

Two primitives share the name. Ours has `q_proj_hw` beside `q_proj`; the newer one ("NEO-unify", SenseNova-U1) has
`q_norm_hw` and no such projection, and would load here with random weights in its place.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

NEWER = "q_norm_hw"
HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")


def checkpoint_keys(path: Any, options: Mapping[str, Any]) -> Iterable[str]:
    """Keys of a safetensors checkpoint, local or on the hub; none where there is none.

    Args:
        path: folder or hub id.
        options: of `from_pretrained`.
    """
    from safetensors import safe_open
    from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file

    hub = {key: options[key] for key in HUB_OPTIONS if key in options}
    hub |= {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_gated_repo": False}
    if index := cached_file(path, SAFE_WEIGHTS_INDEX_NAME, **hub):
        return list(json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"])
    if weights := cached_file(path, SAFE_WEIGHTS_NAME, **hub):
        with safe_open(weights, "pt") as opened:
            return list(opened.keys())
    return ()


def refuse_other_primitives(path: Any, options: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of the newer primitive.

    Raises:
        ValueError: it is one.
    """
    keys = options.get("state_dict") or (() if path is None else checkpoint_keys(path, options))
    for key in keys:
        if NEWER in key:
            raise ValueError(
                f"{path}: a NEO-unify checkpoint ({key}); this model is NEO 1.0, whose layers have q_proj_hw. "
                "Open it with the library that it came with"
            )
